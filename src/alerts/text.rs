//! Texts for people in Slack's markup: escaped, cut, linked; times and durations in words.

use jiff::{SignedDuration, Timestamp};

/// As many characters as fit, with an ellipsis as mark of a cut.
pub fn cut(text: &str, longest: usize) -> String {
    if text.chars().nth(longest).is_none() {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}

/// A text in which Slack sees neither links nor mentions. <https://docs.slack.dev/messaging/formatting-message-text>
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            letter => safe.push(letter),
        }
    }
    safe
}

/// An escaped text of at most so many characters. Cut before it is escaped, so that no entity is torn.
pub fn escape_within(text: &str, longest: usize) -> String {
    let mut fitting = longest;
    loop {
        let safe = escape(&cut(text, fitting));
        let length = safe.chars().count();
        if length <= longest || fitting == 0 {
            return safe;
        }
        fitting = fitting.saturating_sub((length - longest).div_ceil(4).max(1));
    }
}

/// A text between back quotes: what is code must not end in the middle of it.
pub fn code(text: &str) -> String {
    format!("`{}`", escape(&text.replace('`', "'").replace('\n', " ")))
}

/// A link with a name; `None` when the address is none that a browser opens.
pub fn link(address: &str, name: &str) -> Option<String> {
    let opens = address.starts_with("https://") || address.starts_with("http://");
    let plain = |letter: char| letter.is_control() || letter.is_whitespace();
    if !opens || address.contains(plain) || address.len() > 2000 {
        return None;
    }
    let address = address.replace('|', "%7C").replace('<', "%3C").replace('>', "%3E").replace('&', "&amp;");
    Some(format!("<{address}|{}>", escape(&name.replace('|', "/"))))
}

/// A moment that Slack shows in the reader's own zone; in UTC where it cannot.
pub fn moment(at: Timestamp) -> String {
    format!(
        "<!date^{}^{{date_short_pretty}} {{time_secs}}|{}>",
        at.as_second(),
        at.strftime("%Y-%m-%d %H:%M:%S UTC")
    )
}

/// A length of time in words: `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`.
pub fn duration(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    let two = |large: i64, unit: &str, small: i64, less: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {less}"),
    };
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// A value as people read it: never more digits than they need.
pub fn number(value: f64) -> String {
    let (size, whole) = (value.abs(), value.fract() == 0.0);
    match () {
        () if !value.is_finite() => value.to_string(),
        () if whole && size < 1e15 => format!("{value:.0}"),
        () if size >= 100.0 => format!("{value:.1}"),
        () if size >= 0.01 => format!("{value:.3}").trim_end_matches('0').to_owned(),
        () => format!("{value:.2e}"),
    }
}

/// A value with the unit that the name of its series tells, as people read it.
pub fn measured(value: f64, series: &str) -> String {
    let stem = series.strip_suffix("_total").unwrap_or(series);
    if stem.ends_with("_seconds") && !stem.ends_with("_timestamp_seconds") {
        let whole = SignedDuration::try_from_secs_f64(value.round()).unwrap_or_default();
        return if value != 0.0 && value.abs() < 1e-3 {
            format!("{:.0} µs", value * 1e6)
        } else if value != 0.0 && value.abs() < 1.0 {
            format!("{} ms", number((value * 1e4).round() / 10.0))
        } else if value.abs() < 120.0 {
            format!("{} s", number((value * 100.0).round() / 100.0))
        } else {
            duration(whole)
        };
    }
    if stem.ends_with("_bytes") {
        for (size, unit) in [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")] {
            if value.abs() >= size {
                return format!("{} {unit}", number((value / size * 10.0).round() / 10.0));
            }
        }
        return format!("{} B", number(value));
    }
    number(value)
}

/// FNV-1a: the same for the same bytes, also in the next process.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_a_mention_or_a_link() {
        assert_eq!(
            escape("<!channel> <@U1> <http://a|b> &"),
            "&lt;!channel&gt; &lt;@U1&gt; &lt;http://a|b&gt; &amp;"
        );
        assert_eq!(code("a`b\nc<"), "`a'b c&lt;`");
        assert_eq!(
            link("https://a/?x=1&y=|<b>", "a|b>").as_deref(),
            Some("<https://a/?x=1&amp;y=%7C%3Cb%3E|a/b&gt;>")
        );
        for address in ["javascript:alert(1)", "docs/runbooks/A.md", "http://a b", "https://a\n", ""] {
            assert_eq!(link(address, "x"), None, "{address}");
        }
    }

    #[test]
    fn an_escaped_text_fits_and_tears_no_entity() {
        for longest in [0, 1, 5, 10, 100] {
            let safe = escape_within(&"<&>ü".repeat(50), longest);
            assert!(safe.chars().count() <= longest.max(1), "{longest}: {safe}");
            assert!(safe.matches('&').count() == safe.matches(';').count(), "{safe}");
        }
        assert_eq!(escape_within("short", 5), "short");
    }

    #[test]
    fn times_and_numbers_are_read_by_people() {
        for (seconds, words) in [
            (-5, "0 s"),
            (45, "45 s"),
            (120, "2 min"),
            (7199, "119 min"),
            (11_100, "3 h 5 min"),
            (7200, "2 h"),
            (187_200, "2 d 4 h"),
        ] {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), words);
        }
        for (value, words) in [
            (3.0, "3"),
            (123.456, "123.5"),
            (0.5, "0.5"),
            (1.234_56, "1.235"),
            (1e-5, "1.00e-5"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), words);
        }
        for (value, series, words) in [
            (9.4712, "a_seconds", "9.47 s"),
            (7261.1, "a_seconds", "2 h 1 min"),
            (-0.000_646, "a_seconds", "-646 µs"),
            (0.2, "a_seconds", "200 ms"),
            (1.55e7, "a_bytes", "15.5 MB"),
            (12.0, "a_total", "12"),
        ] {
            assert_eq!(measured(value, series), words);
        }
        let at: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        assert_eq!(moment(at), "<!date^1795168800^{date_short_pretty} {time_secs}|2026-11-20 10:00:00 UTC>");
    }
}
