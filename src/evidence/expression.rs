//! From an alert to the series behind it: the first series that its expression names, with the alert's labels.

use crate::alerts::Alert;
use crate::board::view::samples;
use crate::board::{Card, Key};
use tokio::time::Instant;

/// Labels that rules add: the series do not have them.
const ADDED: [&str; 3] = ["alertname", "severity", "source"];
/// Words of the language that look like a name.
const WORDS: [&str; 16] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "and",
    "or",
    "unless",
    "offset",
    "bool",
    "atan2",
    "inf",
    "nan",
    "start",
    "end",
];

/// The name of the series that an alert is about: the annotation `metric`, or the first in the expression of its `generatorURL`.
pub fn metric(alert: &Alert) -> Option<String> {
    let told = alert.annotation("metric").filter(|name| name.chars().all(is_letter));
    if let Some(name) = told {
        return Some(name.to_owned());
    }
    first_series(&expression(alert.generator_url.as_deref()?)?)
}

/// A selector of the series of an alert.
pub fn selector(name: &str, alert: &Alert) -> String {
    let labels =
        alert.labels.iter().filter(|(name, value)| !ADDED.contains(&name.as_str()) && !value.is_empty());
    let matchers: Vec<String> = labels.map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    format!("{name}{{{}}}", matchers.join(","))
}

/// The series of an alert, and the value that it has on our own board now. With several, the highest.
pub fn value(cards: &[(Key, Card)], alert: &Alert) -> Option<(String, f64)> {
    let name = metric(alert)?;
    let now = Instant::now();
    let mut highest: Option<f64> = None;
    for (key, card) in cards {
        let ours = alert.label("check") == Some(&key.check)
            && (key.target.is_none() || alert.label("target") == key.target.as_deref());
        if !ours {
            continue;
        }
        for part in card.samples(now) {
            let named = samples(part).into_iter().filter(|sample| sample.name == name);
            let fits = named.filter(|one| one.labels.iter().all(|(label, value)| same(alert, label, value)));
            highest = fits
                .map(|sample| sample.value)
                .chain(highest)
                .filter(|value| value.is_finite())
                .reduce(f64::max);
        }
    }
    highest.map(|highest| (name, highest))
}

/// What a sum over a label has lost is no difference.
fn same(alert: &Alert, label: &str, value: &str) -> bool {
    alert.label(label).is_none_or(|own| own == value)
}

/// `g0.expr` of a link to Prometheus' page.
fn expression(url: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(name, _)| *name == "g0.expr")?;
    decoded(value)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let pair = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn is_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':')
}

/// The first name of a series in an expression: no function, no word of the language, nothing inside quotes or braces.
pub fn first_series(expression: &str) -> Option<String> {
    let mut rest = expression;
    while let Some(letter) = rest.chars().next() {
        match letter {
            '"' | '\'' | '`' => rest = rest.get(1..)?.split_once(letter)?.1,
            '{' => rest = rest.split_once('}')?.1,
            '[' => rest = rest.split_once(']')?.1,
            letter if letter.is_ascii_alphabetic() || matches!(letter, '_' | ':') => {
                let end = rest.find(|letter| !is_letter(letter)).unwrap_or(rest.len());
                let (name, after) = rest.split_at_checked(end)?;
                let next = after.trim_start().chars().next();
                let word = WORDS.contains(&name.to_ascii_lowercase().as_str());
                if word && next == Some('(') {
                    rest = after.split_once(')')?.1;
                    continue;
                }
                let aggregates = ["by", "without"].iter().any(|word| after.trim_start().starts_with(word));
                if !word && next != Some('(') && !aggregates {
                    return Some(name.to_owned());
                }
                rest = after;
            }
            letter if letter.is_ascii_digit() => {
                let end = rest
                    .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.')
                    .unwrap_or(rest.len());
                rest = rest.get(end..)?;
            }
            letter => rest = rest.get(letter.len_utf8()..)?,
        }
    }
    None
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::tests::alert;

    #[test]
    fn the_first_series_of_an_expression_is_found() {
        for (expression, name) in [
            ("up == 0 or absent(up)", Some("up")),
            (
                "pg_stat_subscription_last_msg_receipt_age_seconds{check=\"a\"} > 300",
                Some("pg_stat_subscription_last_msg_receipt_age_seconds"),
            ),
            ("sum by (check, target) (rate(a_total[5m])) > 3", Some("a_total")),
            ("sum(rate(b_total[5m])) by (check)", Some("b_total")),
            ("300 < on (check) c:d", Some("c:d")),
            ("time() - e_seconds > 5", Some("e_seconds")),
            ("label_replace(f, \"x\", \"$1\", \"y\", \"z\")", Some("f")),
            ("1e9 < 2", None),
            ("{__name__=\"x\"}", None),
            ("\"", None),
        ] {
            assert_eq!(first_series(expression).as_deref(), name, "{expression}");
        }
        let mut one = alert(
            "f",
            &[("alertname", "A"), ("severity", "critical"), ("check", "a\"b"), ("job", "datapulse")],
        );
        one.generator_url =
            Some("http://h/graph?g0.expr=time%28%29+-+g_seconds%7Bx%3D%22y%22%7D+%3E+5&g0.tab=1".into());
        assert_eq!(metric(&one).as_deref(), Some("g_seconds"));
        assert_eq!(selector("g", &one), "g{check=\"a\\\"b\",job=\"datapulse\"}");
        one.annotations.insert("metric".into(), "h_total".into());
        assert_eq!(metric(&one).as_deref(), Some("h_total"));
        one.annotations.insert("metric".into(), "x} or vector(1)".into());
        assert_eq!(metric(&one).as_deref(), Some("g_seconds"));
    }
}
