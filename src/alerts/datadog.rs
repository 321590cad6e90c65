//! The webhook of a Datadog monitor, with the payload that docs/alerts-in-slack.md gives.
//! <https://docs.datadoghq.com/integrations/webhooks/#variables>

use super::{Alert, LONGEST_ANNOTATION, LONGEST_LABEL, Notice, Source, address, group_key, text, words};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The payload to write into the webhook's settings; a variable that has no value is sent as an empty text.
pub const TEMPLATE: &str = r#"{
  "key": "$ALERT_CYCLE_KEY",
  "id": "$ALERT_ID",
  "scope": "$ALERT_SCOPE",
  "transition": "$ALERT_TRANSITION",
  "type": "$ALERT_TYPE",
  "priority": "$ALERT_PRIORITY",
  "title": "$ALERT_TITLE",
  "message": "$TEXT_ONLY_MSG",
  "metric": "$ALERT_METRIC",
  "query": "$ALERT_QUERY",
  "tags": "$TAGS",
  "link": "$LINK",
  "date": "$DATE"
}"#;

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Delivery {
    key: String,
    id: String,
    scope: String,
    transition: String,
    #[serde(rename = "type")]
    kind: String,
    priority: String,
    title: String,
    message: String,
    metric: String,
    query: String,
    tags: String,
    link: String,
    date: String,
}

/// Reads a delivery: one alert, which is a group of its own.
///
/// # Errors
/// In words, for the sender's log: what is missing from the payload.
pub fn read(body: &[u8], now: Timestamp) -> Result<Notice, String> {
    let text = String::from_utf8_lossy(body);
    let delivery: Delivery = serde_json::from_str(&text).map_err(|error| {
        format!(
            "not the payload of docs/alerts-in-slack.md (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    let given = |text: &str| !text.is_empty() && !text.starts_with('$');
    let key = match (given(&delivery.key), given(&delivery.id)) {
        (true, _) => delivery.key.clone(),
        (false, true) => format!("{}:{}", delivery.id, delivery.scope),
        (false, false) => {
            return Err("the payload has neither key ($ALERT_CYCLE_KEY) nor id ($ALERT_ID)".to_owned());
        }
    };
    let transition = delivery.transition.to_ascii_lowercase();
    if !given(&transition) {
        return Err("the payload has no transition ($ALERT_TRANSITION)".to_owned());
    }
    // Milliseconds since 1970.
    let date = delivery.date.parse().ok().and_then(|date| Timestamp::from_millisecond(date).ok());
    let at = date.unwrap_or(now).min(now);
    let mut labels = tags(&delivery.tags);
    labels.insert(
        "alertname".to_owned(),
        if given(&delivery.title) { delivery.title.clone() } else { key.clone() },
    );
    if given(&delivery.id) {
        labels.insert("monitor".to_owned(), delivery.id.clone());
    }
    labels.insert("severity".to_owned(), severity(&transition, &delivery).to_owned());
    let texts = [
        ("summary", delivery.title),
        ("description", delivery.message),
        ("metric", delivery.metric),
        ("query", delivery.query),
        ("dashboard_url", delivery.link.clone()),
    ];
    let annotations =
        texts.into_iter().filter(|(_, text)| given(text)).map(|(name, text)| (name.to_owned(), text));
    let alert = Alert {
        fingerprint: format!("{:016x}", text::hash(key.as_bytes())),
        labels: words(labels, LONGEST_LABEL),
        annotations: words(annotations.collect(), LONGEST_ANNOTATION),
        starts_at: at,
        ends_at: transition.contains("recover").then_some(at),
        generator_url: address(&delivery.link),
    };
    Ok(Notice { source: Source::Datadog, key: group_key(&key), alerts: vec![alert], complete: true })
}

/// A warning is told in the transition, `Warn` or `Re-Warn`; a priority beats it.
fn severity(transition: &str, delivery: &Delivery) -> &'static str {
    match delivery.priority.as_str() {
        "P1" | "P2" => return "critical",
        "P3" => return "warning",
        "P4" | "P5" => return "info",
        _ => {}
    }
    let warns = transition.contains("warn") || delivery.kind == "warning";
    if warns || transition.contains("no data") { "warning" } else { "critical" }
}

/// `check:orders,team:core` as labels; a tag without a value is one with the value `true`.
fn tags(list: &str) -> BTreeMap<String, String> {
    let tags = list.split(',').map(str::trim).filter(|tag| !tag.is_empty());
    tags.map(|tag| tag.split_once(':').unwrap_or((tag, "true")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T10:05:00Z".parse().unwrap()
    }

    /// The template with its variables replaced, as Datadog does.
    fn filled(values: &[(&str, &str)]) -> String {
        let mut text = TEMPLATE.to_owned();
        for (name, value) in values {
            text = text.replace(&format!("\"${name}\""), &format!("\"{value}\""));
        }
        text
    }

    #[test]
    fn the_documented_payload_becomes_an_alert_and_its_end() {
        let values = [
            ("ALERT_CYCLE_KEY", "123"),
            ("ALERT_ID", "77"),
            ("ALERT_TRANSITION", "Triggered"),
            ("ALERT_TITLE", "devices of PH fell"),
            ("TEXT_ONLY_MSG", "look at it"),
            ("TAGS", "check:devices,country:ph,lonely"),
            ("LINK", "https://app.datadoghq.com/monitors/77"),
            ("DATE", "1795168800000"),
        ];
        let fired = read(filled(&values).as_bytes(), now()).unwrap();
        let [alert] = fired.alerts.as_slice() else { panic!("{fired:?}") };
        assert_eq!((fired.key.as_str(), alert.severity(), alert.fires()), ("123", Severity::Critical, true));
        assert_eq!(
            (alert.label("check"), alert.label("country"), alert.label("lonely")),
            (Some("devices"), Some("ph"), Some("true"))
        );
        assert_eq!(alert.annotation("summary"), Some("devices of PH fell"));
        assert_eq!(alert.annotation("query"), None, "a variable without a value is no text");
        assert_eq!(alert.starts_at.as_second(), 1_795_168_800);
        let mut over = values;
        over[2].1 = "Recovered";
        let ended = read(filled(&over).as_bytes(), now()).unwrap();
        assert_eq!(ended.alerts[0].fingerprint, alert.fingerprint);
        assert!(!ended.alerts[0].fires());
        over[2].1 = "Re-Warn";
        assert_eq!(read(filled(&over).as_bytes(), now()).unwrap().alerts[0].severity(), Severity::Warning);
    }

    #[test]
    fn a_payload_without_its_key_or_transition_is_refused() {
        for (body, words) in [
            ("{", "not the payload"),
            ("{}", "neither key"),
            ("{\"key\": \"$ALERT_CYCLE_KEY\"}", "neither key"),
            ("{\"key\": \"1\"}", "no transition"),
            ("{\"key\": 1}", "not the payload"),
        ] {
            let refused = read(body.as_bytes(), now()).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
