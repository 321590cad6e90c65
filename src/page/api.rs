//! The pages as JSON.

use super::{Scene, Sources, overview};
use crate::board::view::as_json;
use crate::board::{Card, Key};
use crate::http::Query;
use crate::logs::statements;
use serde_json::{Value, json};

/// All checks; `check=NAME`, repeatable, for some of them.
pub(super) fn checks(sources: &Sources, query: &Query) -> String {
    let wanted: Vec<&str> = query.all("check").collect();
    let scene = sources.scene();
    let cards = scene.cards.iter();
    let shown = cards.filter(|(key, _)| wanted.is_empty() || wanted.contains(&key.check.as_str()));
    let checks: Vec<Value> = shown.map(|(key, card)| check(key, card, &scene)).collect();
    json!({ "checks": checks }).to_string()
}

fn check(key: &Key, card: &Card, scene: &Scene) -> Value {
    let mut value = as_json(key, card, scene.now);
    let alerts: Vec<Value> = scene
        .open()
        .unwrap_or_default()
        .iter()
        .filter(|incident| overview::key(incident).as_ref() == Some(key))
        .map(|incident| {
            json!({
                "alertname": incident.name,
                "severity": incident.severity.as_str(),
                "state": if incident.unknown { "unknown" } else { "firing" },
                "since": incident.began.to_string(),
                "summary": incident.summary,
                "runbook_url": incident.runbook,
            })
        })
        .collect();
    let questions: Vec<Value> = card
        .questions()
        .map(|(endpoint, text)| json!({ "endpoint": endpoint.as_str(), "text": **text }))
        .collect();
    if let Some(object) = value.as_object_mut() {
        let headline = overview::first(card, scene);
        let headline =
            headline.map(|((name, words), value)| json!({ "name": name, "words": words, "value": value }));
        object.insert("headline".to_owned(), json!(headline));
        object.insert("questions".to_owned(), json!(questions));
        // With neither Alertmanager nor Prometheus nobody knows what fires.
        object.insert("alerts".to_owned(), scene.open().map_or(Value::Null, |_| json!(alerts)));
    }
    value
}

/// The statements that have series of their own, with their masked texts; `fingerprint=`, repeatable, for some of them.
pub(super) fn statements(sources: &Sources, query: &Query) -> Option<String> {
    let intake = sources.intake.as_ref()?;
    let wanted: Vec<&str> = query.all("fingerprint").collect();
    let mut statements = statements::list(intake.scribe());
    statements.retain(|one| wanted.is_empty() || wanted.contains(&one.fingerprint.as_str()));
    Some(json!({ "rules": digest::RULES, "statements": statements }).to_string())
}
