//! Alertmanager's webhook, version 4. <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>

use super::{
    Alert, LONGEST_ANNOTATION, LONGEST_LABEL, MOST_ALERTS, Notice, Source, address, group_key, text, words,
};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The version of the message that is read here.
const VERSION: &str = "4";
/// It always fires and is no incident. A route that brings it here is one that takes everything.
const WATCHDOG: &str = "DatapulseWatchdog";

#[derive(Deserialize)]
struct Delivery {
    version: Option<String>,
    #[serde(rename = "groupKey")]
    group_key: Option<String>,
    #[serde(rename = "truncatedAlerts")]
    truncated: Option<u64>,
    alerts: Option<Vec<Found>>,
}

#[derive(Deserialize)]
struct Found {
    status: Option<String>,
    labels: Option<BTreeMap<String, Option<String>>>,
    annotations: Option<BTreeMap<String, Option<String>>>,
    #[serde(rename = "startsAt")]
    starts_at: Option<Timestamp>,
    #[serde(rename = "endsAt")]
    ends_at: Option<Timestamp>,
    #[serde(rename = "generatorURL")]
    generator_url: Option<String>,
    fingerprint: Option<String>,
}

/// Reads a delivery.
///
/// # Errors
/// In words, for the sender's log: what is not as version 4 has it.
pub fn read(body: &[u8], now: Timestamp) -> Result<Notice, String> {
    // A byte that is no UTF-8 is no reason to lose an alert.
    let text = String::from_utf8_lossy(body);
    let delivery: Delivery = serde_json::from_str(&text).map_err(|error| {
        format!("not a webhook of Alertmanager (line {}, column {})", error.line(), error.column())
    })?;
    match delivery.version.as_deref() {
        Some(VERSION) => {}
        Some(_) => return Err(format!("not version {VERSION} of the webhook of Alertmanager")),
        None => return Err("not a webhook of Alertmanager: it has no version".to_owned()),
    }
    let found = delivery.alerts.unwrap_or_default();
    let key = delivery.group_key.unwrap_or_default();
    if found.is_empty() {
        return Err("the webhook has no alerts".to_owned());
    }
    if key.is_empty() {
        return Err("the webhook has no groupKey".to_owned());
    }
    let complete = delivery.truncated.unwrap_or_default() == 0 && found.len() <= MOST_ALERTS;
    let mut alerts = BTreeMap::new();
    for one in found.into_iter().take(MOST_ALERTS) {
        let alert = alert(one, now);
        if alert.name() != WATCHDOG {
            alerts.insert(alert.fingerprint.clone(), alert);
        }
    }
    Ok(Notice {
        source: Source::Alertmanager,
        key: group_key(&key),
        alerts: alerts.into_values().collect(),
        complete,
    })
}

fn alert(found: Found, now: Timestamp) -> Alert {
    let set = |words: Option<BTreeMap<String, Option<String>>>| {
        words.unwrap_or_default().into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect()
    };
    let labels = words(set(found.labels), LONGEST_LABEL);
    let starts_at = found.starts_at.unwrap_or(now);
    let over = found.status.as_deref() == Some("resolved");
    // While it fires the end is 0001-01-01, or when it would end if nobody spoke of it any more.
    let ends_at = over.then(|| found.ends_at.filter(|ends| *ends > starts_at).unwrap_or(now).min(now));
    let by_labels = || {
        let all: Vec<String> = labels.iter().map(|(name, value)| format!("{name}\u{1}{value}")).collect();
        format!("{:016x}", text::hash(all.join("\u{2}").as_bytes()))
    };
    let fingerprint = found.fingerprint.filter(|one| !one.is_empty()).map(|one| text::cut(&one, 64));
    Alert {
        fingerprint: fingerprint.unwrap_or_else(by_labels),
        annotations: words(set(found.annotations), LONGEST_ANNOTATION),
        labels,
        starts_at,
        ends_at,
        generator_url: found.generator_url.as_deref().and_then(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::desk::Desk;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-11-20T10:05:00Z".parse().unwrap()
    }

    fn body() -> Value {
        json!({
            "version": "4", "groupKey": "{}:{alertname=\"A\"}", "truncatedAlerts": 0, "status": "firing", "receiver": "datapulse",
            "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://127.0.0.1:9093",
            "alerts": [
                {"status": "firing", "labels": {"alertname": "A", "check": "orders", "severity": "critical"},
                 "annotations": {"summary": "it broke"}, "startsAt": "2026-11-20T10:00:00.5Z", "endsAt": "0001-01-01T00:00:00Z",
                 "generatorURL": "http://127.0.0.1:9090/graph?g0.expr=x", "fingerprint": "f1"},
                {"status": "resolved", "labels": {"alertname": "A", "check": "other"}, "annotations": {},
                 "startsAt": "2026-11-20T10:00:00Z", "endsAt": "2026-11-20T10:04:00Z", "fingerprint": "f2"}
            ]
        })
    }

    #[test]
    fn a_delivery_is_read_with_what_fires_and_what_ended() {
        let notice = read(body().to_string().as_bytes(), now()).unwrap();
        assert_eq!(
            (notice.source, notice.key.as_str(), notice.complete),
            (Source::Alertmanager, "{}:{alertname=\"A\"}", true)
        );
        let [first, second] = notice.alerts.as_slice() else { panic!("{notice:?}") };
        assert!(
            first.fires()
                && first.label("check") == Some("orders")
                && first.annotation("summary") == Some("it broke")
        );
        assert_eq!(second.ends_at, Some("2026-11-20T10:04:00Z".parse().unwrap()));
        assert_eq!(first.generator_url.as_deref(), Some("http://127.0.0.1:9090/graph?g0.expr=x"));
    }

    #[test]
    fn the_watchdog_is_taken_and_is_no_incident() {
        let mut body = body();
        body["alerts"][0]["labels"]["alertname"] = json!("DatapulseWatchdog");
        let notice = read(body.to_string().as_bytes(), now()).unwrap();
        assert_eq!(notice.alerts.iter().map(|alert| alert.fingerprint.as_str()).collect::<Vec<_>>(), ["f2"]);
        body["alerts"].as_array_mut().unwrap().pop();
        let notice = read(body.to_string().as_bytes(), now()).unwrap();
        assert!(notice.alerts.is_empty());
        let records = Desk::default().hear(&notice, |_| "C0".to_owned(), now());
        assert_eq!(records, Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_delivery_is_refused_in_words() {
        let with = |change: fn(&mut Value)| {
            let mut body = body();
            change(&mut body);
            body.to_string()
        };
        for (body, words) in [
            ("not json".to_owned(), "not a webhook of Alertmanager (line 1, column 2)"),
            ("[]".to_owned(), "not a webhook of Alertmanager"),
            ("null".to_owned(), "not a webhook of Alertmanager"),
            ("[".repeat(100_000), "not a webhook of Alertmanager"),
            (with(|body| body["version"] = json!("99")), "not version 4"),
            (with(|body| body["version"] = Value::Null), "it has no version"),
            (with(|body| body["alerts"] = json!([])), "no alerts"),
            (with(|body| body["groupKey"] = Value::Null), "no groupKey"),
        ] {
            let refused = read(body.as_bytes(), now()).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn hostile_or_broken_content_loses_no_alert() {
        let mut hostile = body();
        hostile["alerts"][0]["labels"] = Value::Null;
        hostile["alerts"][0]["fingerprint"] = Value::Null;
        hostile["alerts"][1]["annotations"]["summary"] = json!("x".repeat(1 << 20));
        hostile["truncatedAlerts"] = json!(3);
        let text = hostile.to_string();
        let bytes = text.replace("other", "\u{1}\u{2}").into_bytes();
        let mut bytes: Vec<u8> = bytes;
        if let Some(at) = bytes.iter().position(|byte| *byte == b'q') {
            bytes[at] = 0xff;
        }
        let notice = read(text.as_bytes(), now()).unwrap();
        assert_eq!((notice.alerts.len(), notice.complete), (2, false));
        assert!(
            notice
                .alerts
                .iter()
                .all(|alert| alert.annotations.values().all(|text| text.chars().count() <= 4000))
        );
        let mut many = body();
        many["alerts"] =
            (0..3000).map(|n| json!({"status": "firing", "fingerprint": format!("f{n}")})).collect();
        let notice = read(many.to_string().as_bytes(), now()).unwrap();
        assert_eq!((notice.alerts.len(), notice.complete), (MOST_ALERTS, false));
        let mut raw = body().to_string().into_bytes();
        let at = raw.windows(5).position(|five| five == b"broke").unwrap();
        raw[at] = 0xff;
        assert!(read(&raw, now()).unwrap().alerts[0].annotation("summary").unwrap().contains('\u{fffd}'));
    }
}
