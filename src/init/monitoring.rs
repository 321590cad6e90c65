//! Prometheus, Alertmanager and Grafana: rules, routes and boards of the chosen parts, and how they find each other.

use super::bundled::{ALERTS, Bundled, DASHBOARDS, routes};
use super::{Choice, File, Part};

pub(super) fn files(choice: &Choice) -> Vec<File> {
    let mut files: Vec<File> = alerts(choice)
        .map(|one| File::new(format!("alerts/{}", one.file), format!("alerts: {}", one.why), one.text))
        .collect();
    files.push(File::new("prometheus.yml", "scrapes datapulse and evaluates the alerts", PROMETHEUS));
    let why = if choice.has(Part::Slack) {
        "routes: to datapulse's notifier; what is about datapulse itself straight to Slack"
    } else {
        "routes: straight to Slack"
    };
    files.push(File::new("alertmanager.yml", why, routes(choice.has(Part::Slack))));
    files.extend(
        dashboards(choice).map(|one| {
            File::new(format!("dashboards/{}", one.file), format!("board: {}", one.why), one.text)
        }),
    );
    if dashboards(choice).next().is_some() {
        files.push(File::new(
            "grafana/provisioning/dashboards/datapulse.yml",
            "Grafana loads the boards",
            PROVIDER,
        ));
    }
    files.push(File::new(
        "grafana/provisioning/datasources/prometheus.yml",
        "Grafana asks Prometheus",
        datasource(choice),
    ));
    files
}

/// The rules that a choice needs.
pub(super) fn alerts(choice: &Choice) -> impl Iterator<Item = &'static Bundled> {
    ALERTS.iter().filter(|one| choice.has_any(one.parts))
}

/// The boards that a choice needs.
pub(super) fn dashboards(choice: &Choice) -> impl Iterator<Item = &'static Bundled> {
    DASHBOARDS.iter().filter(|one| choice.has_any(one.parts))
}

/// How long Prometheus has to keep what the rules compare with.
pub(super) fn retention(choice: &Choice) -> &'static str {
    // anomaly.yml looks back four weeks, slow_query.yml eight days.
    if alerts(choice).any(|one| one.file == "anomaly.yml") { "35d" } else { "15d" }
}

const PROMETHEUS: &str = "\
# Prometheus 2.42 or newer. In a Prometheus that runs already, take the job and the rules over.
global: {scrape_interval: 15s, evaluation_interval: 15s}
rule_files: [alerts/*.yml]
alerting:
  alertmanagers:
    - static_configs: [{targets: [\"127.0.0.1:9093\"]}]
scrape_configs:
  - job_name: datapulse          # alerts/self.yml asks for this name
    static_configs: [{targets: [\"127.0.0.1:9893\"]}]
";

const PROVIDER: &str = "\
apiVersion: 1
providers:
  - name: datapulse
    folder: datapulse
    type: file
    options: {path: /var/lib/grafana/dashboards}
";

fn datasource(choice: &Choice) -> String {
    format!(
        "apiVersion: 1\ndatasources:\n  - name: Prometheus\n    type: prometheus\n    access: proxy\n    url: {}\n    isDefault: true\n",
        serde_json::Value::from(choice.prometheus.as_str())
    )
}
