//! `datapulse catalogue`: every metric with its three spellings.

use super::{CatalogueOutput, print};
use crate::logs::report;
use crate::{board, checks, discovery, vitals};
use metrics::{Handle, Kind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Prints the catalogue.
pub fn run(output: CatalogueOutput) -> ExitCode {
    print(&match output {
        CatalogueOutput::Markdown => markdown(),
        CatalogueOutput::Json => format!("{:#}\n", json(&entries())),
    })
}

/// A family with the labels that samples have beside its own.
pub struct Entry {
    /// The family.
    pub family: Handle,
    /// Labels put before its own.
    pub common: &'static [&'static str],
    /// The words of the checks that give it; empty for datapulse itself.
    pub checks: Vec<&'static str>,
}

/// All built-in families by their Prometheus name.
pub fn entries() -> Vec<Entry> {
    let common: &[&str] = &["check", "target"];
    let mut all = BTreeMap::new();
    for family in vitals::families().into_iter().chain(report::families()) {
        all.insert(family.prometheus(), Entry { family, common: &[], checks: Vec::new() });
    }
    for family in board::families().into_iter().chain(discovery::families()) {
        all.insert(family.prometheus(), Entry { family, common, checks: Vec::new() });
    }
    for kind in checks::ALL {
        for family in (kind.families)() {
            let entry = Entry { family, common, checks: Vec::new() };
            all.entry(entry.family.prometheus()).or_insert(entry).checks.push(kind.word);
        }
    }
    all.into_values().collect()
}

/// The catalogue as the table of docs/metrics.md.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nMade by `datapulse catalogue`. Samples of a check carry `check`, and `target` when it has a named target, \
         before the labels listed here.\n\n\
         | Prometheus | OpenTelemetry and DogStatsD | unit | kind | labels | check | says |\n|---|---|---|---|---|---|---|\n",
    );
    for entry in entries() {
        let labels: Vec<String> = entry.family.labels.iter().map(|label| format!("`{label}`")).collect();
        let dotted =
            if entry.family.pushed { format!("`{}`", entry.family.name) } else { "not pushed".to_owned() };
        text.push_str(&format!(
            "| `{}` | {dotted} | {} | {} | {} | {} | {} |\n",
            entry.family.prometheus(),
            entry.family.unit.ucum(),
            kind(entry.family.kind),
            labels.join(" "),
            entry.checks.join(", "),
            entry.family.help.replace('|', "\\|"),
        ));
    }
    text
}

fn json(entries: &[Entry]) -> Value {
    let all = entries.iter().map(|entry| {
        let family = &entry.family;
        let labels: Vec<&str> = entry.common.iter().copied().chain(family.labels.iter()).collect();
        json!({
            "prometheus": family.prometheus(),
            "opentelemetry": family.pushed.then_some(&family.name),
            "dogstatsd": family.pushed.then(|| family.datadog_name.clone().unwrap_or_else(|| family.name.to_string())),
            "unit": family.unit.ucum(),
            "kind": kind(family.kind),
            "labels": labels,
            "check": entry.checks.join(", "),
            "help": family.help,
        })
    });
    Value::Array(all.collect())
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Gauge => "gauge",
        Kind::Counter(_) => "counter",
        Kind::Histogram => "histogram",
    }
}
