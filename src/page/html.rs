//! What all pages have in common: the frame around them, escaping, values and times as people read them.

use crate::board::{Card, Key, State};
use crate::check::Listing;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::Instant;

/// Rows of a table; the JSON has all.
pub(super) const MOST_ROWS: usize = 120;
/// Characters of a statement.
const LONGEST_TEXT: usize = 600;
/// A time of today needs no date.
const A_DAY: SignedDuration = SignedDuration::from_hours(20);

/// A whole page. `state` is the worst of what it shows: it colours the icon of the tab.
pub(super) fn document(title: &str, state: &str, metrics: &str, logs: bool, body: &str) -> String {
    let mark = match state {
        "down" | "stale" => "✖",
        "partly" => "▲",
        _ => "●",
    };
    let colour = match state {
        "down" | "stale" => "%23cf222e",
        "partly" => "%23bf8700",
        "waiting" => "%23888",
        _ => "%231a7f37",
    };
    let logs = if logs { " <a href=\"/logs\">logs</a>" } else { "" };
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{mark} {title}</title><link rel=\"stylesheet\" href=\"/page.css\">\
         <link rel=\"icon\" href=\"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'><circle cx='4' cy='4' r='3.5' fill='{colour}'/></svg>\">\
         <script src=\"/page.js\" defer></script></head><body>\n<a class=\"skip\" href=\"#main\">to the content</a>\n\
         <header><a class=\"name\" href=\"/\">datapulse</a><nav aria-label=\"pages\"><a href=\"/\">checks</a>{logs} \
         <a href=\"{}\">metrics</a> <a href=\"/api/v1/checks\">JSON</a></nav>\
         <p id=\"live\" role=\"status\"></p></header>\n<main id=\"main\">\n{body}</main>\n\
         <footer>version {} · times are UTC</footer>\n</body></html>\n",
        escape(metrics),
        env!("CARGO_PKG_VERSION"),
    )
}

/// How a check stands: the word, and the class of the style sheet.
pub(super) fn state(card: &Card, now: Instant) -> (&'static str, &'static str) {
    match card.state(now) {
        State::Stale => (State::Stale.as_str(), State::Down.as_str()),
        state => (state.as_str(), state.as_str()),
    }
}

/// The address of a check's page.
pub(super) fn address(key: &Key) -> String {
    let mut address = "/checks/".to_owned();
    for byte in key.to_string().bytes() {
        match byte {
            // What may stand in a path as it is, RFC 3986 section 3.3.
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b':' => {
                address.push(char::from(byte));
            }
            byte => address.push_str(&format!("%{byte:02X}")),
        }
    }
    address
}

/// A moment; the script makes "12 s ago" of it.
pub(super) fn moment(at: Timestamp, time: Timestamp) -> String {
    let far = time.duration_since(at).abs() > A_DAY;
    let format = if far { "%Y-%m-%d %H:%M:%S" } else { "%H:%M:%S" };
    format!("<time>{}</time>", at.strftime(format))
}

/// When a check runs next.
pub(super) fn next(card: &Card, now: Instant, time: Timestamp) -> String {
    let Some(next) = card.next() else { return "soon".to_owned() };
    let rest = SignedDuration::try_from(next.saturating_duration_since(now)).unwrap_or_default();
    // The two clocks are read one after the other: half a second makes the same moment of them each time.
    let at = time.saturating_add(rest).ok().and_then(|at| at.round(jiff::Unit::Second).ok());
    at.map_or_else(String::new, |at| moment(at, time))
}

/// An interval as a configuration writes it.
pub(super) fn interval(every: std::time::Duration) -> String {
    match every.as_secs() {
        seconds if seconds > 0 && seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        seconds if seconds > 0 && seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// Rows for people: statements in flight, the longest first.
pub(super) fn table(listing: &Listing) -> String {
    let mut html = String::from(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"rows\"><table class=\"rows\"><thead><tr>",
    );
    for name in listing.columns {
        html.push_str(&format!("<th scope=\"col\">{}</th>", escape(&name.replace('_', " "))));
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in listing.rows.iter().take(MOST_ROWS) {
        html.push_str("<tr>");
        for (name, value) in listing.columns.iter().zip(row) {
            html.push_str(&cell(name, value));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

fn cell(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "<td></td>".to_owned(),
        Value::Number(number) if name.ends_with("_minutes") => {
            format!("<td class=\"number\">{:.1}</td>", number.as_f64().unwrap_or_default())
        }
        Value::Number(number) => format!("<td class=\"number\">{number}</td>"),
        Value::String(text) if name == "text" => {
            format!("<td><code>{}</code></td>", escape(&beginning(text)))
        }
        Value::String(text) => format!("<td>{}</td>", escape(text)),
        value => format!("<td>{}</td>", escape(&value.to_string())),
    }
}

/// As much of a text as a page should hold.
pub(super) fn beginning(text: &str) -> String {
    cut(text, LONGEST_TEXT)
}

/// The first letters of a text.
pub(super) fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A value as people read it: the unit from the name, large numbers shortened, never more digits than they carry.
pub(super) fn readable(name: &str, value: f64) -> String {
    if name.ends_with("_timestamp_seconds") {
        let moment = SignedDuration::try_from_secs_f64(value.round()).and_then(Timestamp::from_duration);
        return moment.map_or_else(|_| value.to_string(), |moment| moment.to_string());
    }
    if name.ends_with("_seconds") {
        return match value.abs() {
            0.0 => "0 s".to_owned(),
            less if less < 1e-3 => format!("{:.0} µs", value * 1e6),
            less if less < 1.0 => format!("{:.1} ms", value * 1e3),
            less if less < 120.0 => format!("{value:.1} s"),
            less if less < 7200.0 => format!("{:.1} min", value / 60.0),
            _ => format!("{:.1} h", value / 3600.0),
        };
    }
    if name.ends_with("_bytes") {
        let (mut value, mut unit) = (value, "B");
        for next in ["kB", "MB", "GB", "TB"] {
            if value.abs() < 1000.0 {
                break;
            }
            (value, unit) = (value / 1000.0, next);
        }
        return if unit == "B" { format!("{value} B") } else { format!("{value:.1} {unit}") };
    }
    value.to_string()
}

/// Text that cannot become markup.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        assert_eq!(escape("<b onclick='x'>&\""), "&lt;b onclick=&#39;x&#39;&gt;&amp;&quot;");
    }

    #[test]
    fn values_are_read_with_their_unit() {
        for (name, value, expected) in [
            ("a_seconds", 0.0, "0 s"),
            ("a_seconds", -0.000_021, "-21 µs"),
            ("a_seconds", 0.0042, "4.2 ms"),
            ("a_seconds", 61.25, "61.2 s"),
            ("a_seconds", 3674.07, "61.2 min"),
            ("a_bytes", 72.0, "72 B"),
            ("a_bytes", 65_000_000.0, "65.0 MB"),
            ("a_timestamp_seconds", 0.0, "1970-01-01T00:00:00Z"),
            ("a", 3.5, "3.5"),
        ] {
            assert_eq!(readable(name, value), expected);
        }
    }

    #[test]
    fn a_time_of_another_day_has_its_date() {
        let time: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let shown = |at: &str| moment(at.parse().unwrap(), time);
        assert_eq!(shown("2026-11-24T11:59:30Z"), "<time>11:59:30</time>");
        assert_eq!(shown("2026-11-22T11:59:30Z"), "<time>2026-11-22 11:59:30</time>");
    }
}
