//! The bundled alert rules, read once: which alert looks at which metrics, so that a check can say what it feeds.

use crate::config::fault::Faults;
use crate::config::node::{Node, parse};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

const FILES: [(&str, &str); 6] = [
    ("alerts/replication.yml", include_str!("../../alerts/replication.yml")),
    ("alerts/inflight.yml", include_str!("../../alerts/inflight.yml")),
    ("alerts/devices.yml", include_str!("../../alerts/devices.yml")),
    ("alerts/anomaly.yml", include_str!("../../alerts/anomaly.yml")),
    ("alerts/slow_query.yml", include_str!("../../alerts/slow_query.yml")),
    ("alerts/stores.yml", include_str!("../../alerts/stores.yml")),
];

/// A bundled alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// `alertname`.
    pub(super) name: String,
    /// The label `severity`.
    pub(super) severity: String,
    /// The file that it stands in.
    pub(super) file: &'static str,
    /// The metrics that its expression reads, also through recorded series; those of datapulse itself left out.
    metrics: BTreeSet<String>,
}

static RULES: LazyLock<Vec<Rule>> =
    LazyLock::new(|| FILES.iter().flat_map(|(file, text)| read(file, text)).collect());

/// The alerts that read one of these metrics.
pub(super) fn fed_by<'a>(metrics: &BTreeSet<String>) -> Vec<&'a Rule> {
    RULES.iter().filter(|rule| !rule.metrics.is_disjoint(metrics)).collect()
}

fn read(file: &'static str, text: &str) -> Vec<Rule> {
    let Some(root) = parse(file, text, &mut Faults::default()) else { return Vec::new() };
    let groups = root.get("groups").and_then(Node::items).unwrap_or_default();
    let rules: Vec<&Node> = groups
        .iter()
        .flat_map(|group| group.get("rules").and_then(Node::items).unwrap_or_default())
        .collect();
    let word = |rule: &Node, key: &str| rule.get(key).and_then(Node::text).map(str::to_owned);
    let mut recorded: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut alerts: BTreeMap<(String, String), Rule> = BTreeMap::new();
    // A recorded series stands above those that read it.
    for rule in rules {
        let mut metrics = BTreeSet::new();
        for name in names(&word(rule, "expr").unwrap_or_default()) {
            match recorded.get(name) {
                Some(beneath) => metrics.extend(beneath.iter().cloned()),
                None => _ = metrics.insert(name.to_owned()),
            }
        }
        metrics.retain(|name| !name.starts_with("datapulse_"));
        if let Some(name) = word(rule, "record") {
            recorded.entry(name).or_default().extend(metrics);
        } else if let Some(name) = word(rule, "alert") {
            let severity = rule.get("labels").and_then(|labels| word(labels, "severity")).unwrap_or_default();
            let key = (name.clone(), severity.clone());
            let known = alerts.entry(key).or_insert(Rule { name, severity, file, metrics: BTreeSet::new() });
            known.metrics.extend(metrics);
        }
    }
    alerts.into_values().collect()
}

/// Everything in an expression that could be the name of a series.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':')))
        .filter(|word| word.contains(['_', ':']) && !word.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(metric: &str) -> Vec<String> {
        fed_by(&BTreeSet::from([metric.to_owned()])).into_iter().map(|rule| rule.name.clone()).collect()
    }

    #[test]
    fn a_metric_leads_to_its_alerts_also_through_recorded_series() {
        assert!(
            fed("pg_stat_subscription_last_msg_receipt_age_seconds")
                .contains(&"PostgresSubscriptionSilent".to_owned())
        );
        assert!(
            fed("redshift_inflight_query_elapsed_seconds").contains(&"RedshiftQueryLongRunning".to_owned())
        );
        assert!(fed("device_connections").contains(&"SeasonalGaugeLow".to_owned()));
        assert!(fed("redis_up").contains(&"RedisNodeDown".to_owned()));
        assert_eq!(fed("nothing_of_that_name"), Vec::<String>::new());
    }

    #[test]
    fn every_bundled_file_about_checks_is_here() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let rules = files.filter(|path| path.extension().is_some_and(|end| end == "yml")).filter(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            // What datapulse says of itself is about no check alone.
            text.contains("\ngroups:") && !path.ends_with("self.yml")
        });
        let names = rules
            .map(|path| format!("alerts/{}", path.file_name().unwrap().display()))
            .collect::<BTreeSet<_>>();
        assert_eq!(names, FILES.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn every_alert_of_every_file_is_read() {
        for (file, text) in FILES {
            let written: BTreeSet<&str> =
                text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
            let read: BTreeSet<String> = read(file, text).into_iter().map(|rule| rule.name).collect();
            assert!(!written.is_empty() && read.iter().map(String::as_str).eq(written), "{file}");
        }
    }
}
