//! The check's own answer: its state, the samples with the alert's labels, and the rows for people. They are masked already.

use super::{Case, Found};
use crate::alerts::Alert;
use crate::alerts::slack::File;
use crate::alerts::text::{code, cut, escape, measured};
use crate::board::view::samples;
use crate::board::{Board, Card, Key, State};
use crate::check::Listing;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

/// The file that takes what is too long for a message.
pub const FILE: &str = "rows.txt";
/// Characters that stand in a message; more becomes a file.
const LONGEST: usize = 2600;
/// Characters of the file.
const LONGEST_FILE: usize = 200_000;
/// Samples of one check.
const MOST_SAMPLES: usize = 40;

/// The keys of `rows`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rows")]
pub struct Config {
    /// How many rows are shown when none has the alert's labels, such as the query's number.
    #[serde(default = "five")]
    pub limit: usize,
}

const fn five() -> usize {
    5
}

/// The answer of the checks behind an alert.
pub fn find(config: &Config, case: &Case, board: &Board) -> Found {
    let now = Instant::now();
    let cards = board.view();
    let mut texts = Vec::new();
    for (key, card) in cards.iter().filter(|(key, _)| is_behind(key, &case.alert)) {
        texts.push(of_card(config, &case.alert, key, card, now));
    }
    let text = texts.join("\n");
    if text.is_empty() {
        return Found::Nothing;
    }
    if text.chars().count() > LONGEST {
        let bytes = cut(&text, LONGEST_FILE).into_bytes();
        let title = format!("What {} says", case.alert.label("check").unwrap_or("the check"));
        return Found::File(File { name: FILE.to_owned(), title, bytes, alt: None });
    }
    let check = code(case.alert.label("check").unwrap_or_default());
    Found::Words(format!("What the check {check} says\n```{}```", escape(&text.replace("```", "'''"))))
}

/// Whether a check is the one that an alert names; without a target, each of its targets.
pub fn is_behind(key: &Key, alert: &Alert) -> bool {
    let target = alert.label("target");
    alert.label("check") == Some(&key.check) && (target.is_none() || key.target.as_deref() == target)
}

fn of_card(config: &Config, alert: &Alert, key: &Key, card: &Card, now: Instant) -> String {
    let mut text = format!("{key}: {}", card.state(now).as_str());
    if let Some(last) = card.last() {
        text.push_str(&format!(", last run {}", last.ended.strftime("%Y-%m-%d %H:%M:%S UTC")));
        for (endpoint, reason, problem) in &last.problems {
            text.push_str(&format!("\n{}: {}: {problem}", endpoint.as_str(), reason.as_str()));
        }
    }
    text.push('\n');
    if card.state(now) == State::Waiting {
        return text;
    }
    let all = card.samples(now).flat_map(|part| samples(part));
    let fits = all.filter(|one| {
        one.labels.iter().all(|(label, value)| alert.label(label).is_none_or(|own| own == *value))
    });
    for sample in fits.take(MOST_SAMPLES) {
        let own = sample.labels.iter().filter(|(label, _)| alert.label(label).is_none());
        let labels: Vec<String> = own.map(|(label, value)| format!("{label}={value}")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!(" {}", labels.join(" ")) };
        text.push_str(&format!("{}{labels} {}\n", sample.name, measured(sample.value, &sample.name)));
    }
    for listing in card.rows(now) {
        of_listing(&mut text, config, alert, listing);
    }
    text
}

/// The rows that the alert is about; the first few when none is.
fn of_listing(text: &mut String, config: &Config, alert: &Alert, listing: &Listing) {
    let about = |row: &&Vec<Value>| {
        let mut named = 0;
        let same = listing.columns.iter().zip(row.iter()).all(|(column, value)| match alert.label(column) {
            None => true,
            Some(own) => {
                named += 1;
                plain(value) == own
            }
        });
        same && named > 0
    };
    let mut rows: Vec<&Vec<Value>> = listing.rows.iter().filter(about).collect();
    if rows.is_empty() {
        rows = listing.rows.iter().take(config.limit).collect();
    }
    for row in rows {
        text.push('\n');
        for (column, value) in listing.columns.iter().zip(row).filter(|(_, value)| !value.is_null()) {
            let value = match value {
                Value::Number(value) if column.ends_with("_minutes") => {
                    format!("{:.1}", value.as_f64().unwrap_or_default())
                }
                value => plain(value),
            };
            let separator = if value.contains('\n') { '\n' } else { ' ' };
            text.push_str(&format!("{}:{separator}{value}\n", column.replace('_', " ")));
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::tests::alert;
    use serde_json::json;

    const COLUMNS: [&str; 4] = ["pid", "user", "elapsed_minutes", "text"];

    fn listing() -> Listing {
        let row = |pid: u64, text: &str| vec![json!(pid), json!("analyst"), json!(121.04), json!(text)];
        Listing { columns: &COLUMNS, rows: vec![row(1, "select ?\nfrom a"), row(2, "select ?"), row(3, "x")] }
    }

    #[test]
    fn the_row_of_the_alert_is_shown_whole_and_else_the_first_few() {
        let mut text = String::new();
        of_listing(&mut text, &Config { limit: 2 }, &alert("f", &[("pid", "2"), ("check", "c")]), &listing());
        assert_eq!(text, "\npid: 2\nuser: analyst\nelapsed minutes: 121.0\ntext: select ?\n");
        let mut text = String::new();
        of_listing(&mut text, &Config { limit: 2 }, &alert("f", &[("check", "c")]), &listing());
        assert!(
            text.contains("text:\nselect ?\nfrom a\n") && text.contains("pid: 2") && !text.contains("pid: 3"),
            "{text}"
        );
    }
}
