//! Cards for people and programs: their samples one by one, and a whole card as JSON.

use super::{Card, Key};
use crate::check::Listing;
use metrics::{Part, Values};
use serde_json::{Value, json};
use tokio::time::Instant;

/// A sample for people and programs.
pub(crate) struct Sample<'a> {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, &'a str)>,
    pub(crate) value: f64,
}

/// The samples of a part with their own labels; a histogram is shown by its count.
pub(crate) fn samples(part: &Part) -> Vec<Sample<'_>> {
    let mut all = Vec::new();
    for column in part.answer.columns() {
        let names: Vec<String> = column.family().labels.iter().map(str::to_owned).collect();
        for row in 0..column.len() {
            let labels = names.iter().cloned().zip(column.labels(row)).collect();
            let (name, value) = match column.values() {
                Values::Numbers(numbers) => (column.family().prometheus(), numbers.get(row).copied()),
                Values::Histograms(_, rows) => (
                    format!("{}_count", column.family().prometheus()),
                    rows.get(row).map(|buckets| buckets.count() as f64),
                ),
            };
            if let Some(value) = value {
                all.push(Sample { name, labels, value });
            }
        }
    }
    all
}

/// The rows for people as JSON objects.
fn objects(listing: &Listing) -> Vec<Value> {
    let object = |row: &Vec<Value>| -> serde_json::Map<String, Value> {
        listing.columns.iter().map(|name| (*name).to_owned()).zip(row.iter().cloned()).collect()
    };
    listing.rows.iter().map(|row| Value::Object(object(row))).collect()
}

/// A card as JSON: for `once --output json` and `/api/v1/checks`.
pub(crate) fn as_json(key: &Key, card: &Card, now: Instant) -> Value {
    let last = card.last();
    let (runs, failures) = card.totals();
    let samples: Vec<Value> = card
        .facts()
        .chain(card.samples(now))
        .flat_map(|part| {
            samples(part)
                .into_iter()
                .map(|sample| {
                    let labels: serde_json::Map<String, Value> =
                        sample.labels.into_iter().map(|(name, value)| (name, json!(value))).collect();
                    json!({ "name": sample.name, "labels": labels, "value": sample.value })
                })
                .collect::<Vec<_>>()
        })
        .collect();
    json!({
        "check": key.check,
        "target": key.target,
        "check_type": card.check_type(),
        "state": card.state(now).as_str(),
        "labels": card.spec().labels,
        "interval_seconds": card.spec().every.as_secs_f64(),
        "timeout_seconds": card.spec().timeout.as_secs_f64(),
        "runs": runs,
        "failures": failures,
        "last_success": card.last_success().map(|moment| moment.to_string()),
        "next_run_seconds": card.next().map(|next| next.saturating_duration_since(now).as_secs_f64()),
        "last_run": last.map(|last| json!({
            "ended": last.ended.to_string(),
            "duration_seconds": last.took.as_secs_f64(),
            "samples": last.samples,
            "problems": last.problems.iter().map(|(endpoint, reason, text)| json!({
                "endpoint": endpoint.as_str(), "reason": reason.as_str(), "text": text
            })).collect::<Vec<_>>(),
        })),
        "samples": samples,
        "rows": card.rows(now).flat_map(|listing| objects(listing)).collect::<Vec<_>>(),
    })
}
