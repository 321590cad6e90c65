//! The status page and its JSON: every check, its state, last values, last error with its cure, next run. Made from the board alone.

use super::{POLICY, Page};
use crate::alerts::counters::{Counters, View};
use crate::board::view::{as_json, samples};
use crate::board::{Board, Card, Key, State};
use crate::check::Listing;
use crate::logs::intake::Intake;
use crate::logs::statements;
use hyper::body::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::Instant;

/// Rows of samples that the page shows of one check; /api/v1/checks has all.
const MOST_ROWS: usize = 120;

/// Characters of a statement that the page shows.
const LONGEST_TEXT: usize = 600;

const STYLE: &str = include_str!("../web/page.css");

/// The pages that show the board.
pub fn pages(board: &Arc<Board>, notify: &Arc<Counters>, telemetry_path: &str) -> Vec<Page> {
    let (html, api, metrics) = (Arc::clone(board), Arc::clone(board), telemetry_path.to_owned());
    let notify = Arc::clone(notify);
    vec![
        Page {
            path: "/",
            content_type: "text/html; charset=utf-8",
            policy: POLICY,
            body: Arc::new(move |_| {
                let time = Timestamp::now();
                Bytes::from(page(&html.view(), notify.view(time), &metrics, Instant::now(), time))
            }),
        },
        Page {
            path: "/api/v1/checks",
            content_type: "application/json",
            policy: POLICY,
            body: Arc::new(move |query| {
                let wanted: Vec<&str> = query.all("check").collect();
                let now = Instant::now();
                let cards = api.view();
                let shown =
                    cards.iter().filter(|(key, _)| wanted.is_empty() || wanted.contains(&key.check.as_str()));
                let checks: Vec<_> = shown.map(|(key, card)| as_json(key, card, now)).collect();
                Bytes::from(json!({ "checks": checks }).to_string())
            }),
        },
    ]
}

/// The statements of slow query logs that have series of their own, with their texts, masked.
pub fn statements(intake: &Arc<Intake>) -> Page {
    let intake = Arc::clone(intake);
    Page {
        path: "/api/v1/statements",
        content_type: "application/json",
        policy: POLICY,
        body: Arc::new(move |query| {
            let wanted: Vec<&str> = query.all("fingerprint").collect();
            let mut statements = statements::list(intake.scribe());
            statements.retain(|one| wanted.is_empty() || wanted.contains(&one.fingerprint.as_str()));
            Bytes::from(json!({ "rules": digest::RULES, "statements": statements }).to_string())
        }),
    }
}

/// How a check stands, in a word and a class of the style sheet.
fn state(card: &Card, now: Instant) -> (&'static str, &'static str) {
    match card.state(now) {
        State::Stale => (State::Stale.as_str(), State::Down.as_str()),
        state => (state.as_str(), state.as_str()),
    }
}

fn page(cards: &[(Key, Card)], notify: Option<View>, metrics: &str, now: Instant, time: Timestamp) -> String {
    let count = |word: &str| cards.iter().filter(|(_, card)| state(card, now).1 == word).count();
    let (up, partly, down, waiting) = (count("up"), count("partly"), count("down"), count("waiting"));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta http-equiv=\"refresh\" content=\"5\">\
         <title>{} datapulse</title><style>{STYLE}</style></head><body>\n<header><h1>datapulse</h1>\
         <p><span class=\"pill up\">{up} up</span> <span class=\"pill partly\">{partly} partly</span> \
         <span class=\"pill down\">{down} down</span> <span class=\"pill waiting\">{waiting} waiting</span></p>\
         <nav><a href=\"{}\">metrics</a> <a href=\"/api/v1/checks\">JSON</a> <span>version {}</span> \
         <time>{}</time></nav></header>\n<main>\n",
        if down > 0 {
            "✖"
        } else if partly > 0 {
            "▲"
        } else {
            "●"
        },
        escape(metrics),
        env!("CARGO_PKG_VERSION"),
        time.strftime("%Y-%m-%d %H:%M:%S UTC"),
    );
    if let Some(view) = notify {
        notifications(&mut html, &view, time);
    }
    if cards.is_empty() {
        html.push_str("<p>No check is configured. Add one under <code>checks:</code> and reload.</p>\n");
    }
    for (key, card) in cards {
        section(&mut html, key, card, now, time);
    }
    html.push_str("</main></body></html>\n");
    html
}

/// What was told to Slack, and what keeps the rest away.
fn notifications(html: &mut String, view: &View, time: Timestamp) {
    let (class, word) = match (&view.problem, view.pending) {
        (Some(_), Some(_)) => ("down", "waiting"),
        (Some(_), None) => ("partly", "trouble"),
        (None, _) => ("up", "up"),
    };
    html.push_str(&format!(
        "<section id=\"alerts\" class=\"{class}\"><h2><span class=\"pill {class}\">{word}</span> alerts in Slack</h2>\n<dl>\
         <div><dt>firing</dt><dd>{}</dd></div><div><dt>unknown</dt><dd>{}</dd></div><div><dt>sent</dt><dd>{}, {} failures</dd></div>",
        view.firing, view.unknown, view.sent, view.failures
    ));
    if let Some(pending) = view.pending {
        html.push_str(&format!("<div><dt>oldest waits</dt><dd>{} s</dd></div>", pending.as_secs()));
    }
    html.push_str("</dl>\n");
    if let Some((at, what)) = &view.problem {
        html.push_str(&format!("<p class=\"problem\"><b>{} ago</b> {}</p>\n", ago(time, *at), escape(what)));
    }
    html.push_str("</section>\n");
}

fn section(html: &mut String, key: &Key, card: &Card, now: Instant, time: Timestamp) {
    let (word, class) = state(card, now);
    let name = escape(&key.to_string());
    html.push_str(&format!(
        "<section id=\"{name}\" class=\"{class}\"><h2><span class=\"pill {class}\">{word}</span> {name} \
         <small>{}</small></h2>\n<dl>",
        escape(card.check_type())
    ));
    let mut fact =
        |label: &str, value: String| html.push_str(&format!("<div><dt>{label}</dt><dd>{value}</dd></div>"));
    if let Some(last) = card.last() {
        fact("last run", format!("{} ago, {} ms", ago(time, last.ended), last.took.as_millis()));
    }
    fact(
        "last success",
        card.last_success().map_or_else(|| "never".to_owned(), |moment| format!("{} ago", ago(time, moment))),
    );
    let next = card.next().map_or_else(
        || "soon".to_owned(),
        |next| match next.saturating_duration_since(now).as_secs() {
            0 => "now".to_owned(),
            seconds => format!("in {seconds} s"),
        },
    );
    fact("next run", format!("{next}, every {:?}", card.spec().every));
    let (runs, failures) = card.totals();
    fact("runs", format!("{runs}, {failures} failures"));
    html.push_str("</dl>\n");
    for (endpoint, reason, text) in card.last().map_or(&[][..], |last| &last.problems) {
        let (endpoint, reason) = (endpoint.as_str(), reason.as_str());
        html.push_str(&format!("<p class=\"problem\"><b>{endpoint}: {reason}</b> {}</p>\n", escape(text)));
    }
    values(html, card, now);
    for listing in card.rows(now).filter(|listing| !listing.rows.is_empty()) {
        table(html, listing);
    }
    html.push_str("</section>\n");
}

fn values(html: &mut String, card: &Card, now: Instant) {
    let parts: Vec<_> = card.facts().chain(card.samples(now)).collect();
    let all: usize = parts.iter().map(|part| part.answer.len()).sum();
    if all == 0 {
        return;
    }
    html.push_str(&format!(
        "<details open><summary>{all} values</summary><table><thead><tr><th scope=\"col\">metric</th>\
         <th scope=\"col\">labels</th><th scope=\"col\" class=\"number\">value</th></tr></thead><tbody>\n"
    ));
    for sample in parts.iter().flat_map(|part| samples(part)).take(MOST_ROWS) {
        let labels: Vec<String> =
            sample.labels.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        html.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td class=\"number\">{}</td></tr>\n",
            escape(&sample.name),
            labels.join(" "),
            readable(&sample.name, sample.value)
        ));
    }
    html.push_str("</tbody></table>");
    if all > MOST_ROWS {
        html.push_str(&format!("<p>{} more in <a href=\"/api/v1/checks\">JSON</a></p>", all - MOST_ROWS));
    }
    html.push_str("</details>\n");
}

/// The rows for people: statements in flight, the longest first.
fn table(html: &mut String, listing: &Listing) {
    html.push_str("<table class=\"rows\"><thead><tr>");
    for name in listing.columns {
        html.push_str(&format!("<th scope=\"col\">{}</th>", escape(&name.replace('_', " "))));
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in listing.rows.iter().take(MOST_ROWS) {
        html.push_str("<tr>");
        for (name, value) in listing.columns.iter().zip(row) {
            html.push_str(&match value {
                Value::Null => "<td></td>".to_owned(),
                Value::Number(number) if name.ends_with("_minutes") => {
                    format!("<td class=\"number\">{:.1}</td>", number.as_f64().unwrap_or_default())
                }
                Value::String(text) if *name == "text" => {
                    format!("<td><code>{}</code></td>", escape(&beginning(text)))
                }
                Value::String(text) => format!("<td>{}</td>", escape(text)),
                value => format!("<td>{}</td>", escape(&value.to_string())),
            });
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table>\n");
    if listing.rows.len() > MOST_ROWS {
        html.push_str(&format!(
            "<p>{} more in <a href=\"/api/v1/checks\">JSON</a></p>\n",
            listing.rows.len() - MOST_ROWS
        ));
    }
}

/// As much of a text as a page should hold; /api/v1/checks has all of it.
fn beginning(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// A value as people read it: the unit from the name, large numbers shortened, never more digits than they carry.
fn readable(name: &str, value: f64) -> String {
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

fn escape(text: &str) -> String {
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
}
