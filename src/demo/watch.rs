//! Asks Prometheus every second for its alerts, and writes down when one fires and when it is gone.

use super::crew::{Monitor, Standing};
use super::diary::{Diary, Kind};
use super::parts;
use crate::task;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);
/// It always fires, and is no alarm.
const WATCHDOG: &str = "DatapulseWatchdog";

/// An alert that is pending or firing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alert {
    /// `alertname`.
    pub name: String,
    /// The check that it is about.
    pub check: String,
    /// It fires; else its rule has not been true for long enough.
    pub firing: bool,
    /// The rule is no longer true; it fires on for a while (`keep_firing_for`).
    pub kept: bool,
    /// `severity`.
    pub severity: String,
    /// The reason in a sentence.
    pub summary: String,
    /// The reason in full.
    pub description: String,
    /// What to do.
    pub action: String,
    /// Since when the rule is true.
    pub since: Option<Timestamp>,
}

/// The alerts as Prometheus showed them last; `None` when it does not answer.
pub type Alerts = Arc<ArcSwap<Option<Vec<Alert>>>>;

/// Lives as long as its task.
pub async fn live(standing: Arc<ArcSwap<Standing>>, alerts: Alerts, diary: Arc<Diary>) {
    let mut timer = tokio::time::interval(EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        timer.tick().await;
        let Monitor::Up(port) = standing.load().prometheus else { continue };
        let now = task::blocking(move || ask(port)).await.ok().flatten();
        let before = alerts.load_full();
        // While nobody answers, nothing is known to have ended.
        if let (Some(now), before) = (&now, before.as_deref().unwrap_or_default()) {
            compare(before, now, &diary, Timestamp::now());
            alerts.store(Arc::new(Some(now.clone())));
        }
    }
}

fn ask(port: u16) -> Option<Vec<Alert>> {
    let reply = parts::get(port, "/api/v1/alerts").ok()?;
    read(&serde_json::from_str(&reply.body).ok()?)
}

fn read(answer: &Value) -> Option<Vec<Alert>> {
    let mut alerts: Vec<Alert> =
        answer.pointer("/data/alerts")?.as_array()?.iter().filter_map(read_alert).collect();
    alerts.retain(|alert| alert.name != WATCHDOG);
    // The oldest first: what came later is often its consequence.
    alerts.sort_by_key(|alert| (!alert.firing, alert.since, alert.name.clone()));
    Some(alerts)
}

fn read_alert(alert: &Value) -> Option<Alert> {
    let text = |path: &str| alert.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Alert {
        name: alert.pointer("/labels/alertname")?.as_str()?.to_owned(),
        check: text("/labels/check"),
        firing: text("/state") == "firing",
        // Go writes the year 1 for no time.
        kept: alert
            .get("keepFiringSince")
            .and_then(Value::as_str)
            .is_some_and(|time| !time.starts_with("0001")),
        severity: text("/labels/severity"),
        summary: text("/annotations/summary"),
        description: text("/annotations/description"),
        action: text("/annotations/action"),
        since: text("/activeAt").parse().ok(),
    })
}

fn compare(before: &[Alert], now: &[Alert], diary: &Diary, at: Timestamp) {
    let fires = |alerts: &[Alert], wanted: &Alert| {
        alerts.iter().any(|one| one.firing && (&one.name, &one.check) == (&wanted.name, &wanted.check))
    };
    for alert in now.iter().filter(|alert| alert.firing && !fires(before, alert)) {
        diary.note(at, Kind::Firing, format!("{}: {}", alert.name, alert.summary));
    }
    for alert in before.iter().filter(|alert| alert.firing && !fires(now, alert)) {
        diary.note(at, Kind::Gone, alert.name.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(state: &str) -> Value {
        json!({"status": "success", "data": {"alerts": [
            {"labels": {"alertname": "B", "check": "orders", "severity": "critical"}, "state": "pending",
             "annotations": {}, "activeAt": "2026-01-01T00:00:00.5Z", "value": "1e+00"},
            {"labels": {"alertname": "A"}, "annotations": {"summary": "s", "action": "a"}, "state": state,
             "activeAt": "2026-01-01T00:00:00Z", "keepFiringSince": "2026-01-01T00:01:00Z", "value": "0e+00"},
            {"labels": {"alertname": "DatapulseWatchdog"}, "state": "firing", "activeAt": "2026-01-01T00:00:00Z"},
        ]}})
    }

    #[test]
    fn the_answer_of_prometheus_is_read_and_firing_alerts_come_first() {
        let alerts = read(&answer("firing")).unwrap();
        assert_eq!(alerts.len(), 2, "the watchdog is no alarm");
        assert_eq!((alerts[0].name.as_str(), alerts[0].firing, alerts[0].kept), ("A", true, true));
        assert_eq!((alerts[1].check.as_str(), alerts[1].firing, alerts[1].kept), ("orders", false, false));
        assert_eq!(alerts[1].since.unwrap().as_second(), 1_767_225_600);
        assert_eq!(read(&json!({"status": "error"})), None);
    }

    #[test]
    fn only_firing_and_its_end_are_written_down() {
        let diary = Diary::new(|_| {});
        let steps = [vec![], read(&answer("pending")).unwrap(), read(&answer("firing")).unwrap(), vec![]];
        for (before, now) in steps.iter().zip(&steps[1..]) {
            compare(before, now, &diary, Timestamp::UNIX_EPOCH);
        }
        let told: Vec<_> = diary.newest().into_iter().map(|event| (event.kind, event.text)).collect();
        assert_eq!(told, [(Kind::Gone, "A".to_owned()), (Kind::Firing, "A: s".to_owned())]);
    }
}
