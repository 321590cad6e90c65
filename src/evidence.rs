//! THE LIST of evidence: what the configuration can have fetched for the thread of an incident. Adding one is one new file and
//! its lines here.

pub mod chart;
pub mod check_rows;
pub mod expression;
pub mod logs_insights;
pub mod metric_image;

use crate::alerts::Alert;
use crate::alerts::slack::File;
use crate::board::Board;
use crate::check::Problem;
use crate::config::secret::Vault;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Evidence for the alerts with these labels.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Evidence")]
pub struct Evidence {
    /// Labels that the alert has to have, with these values; without any it is for all alerts.
    #[serde(default, rename = "match")]
    pub labels: BTreeMap<String, String>,
    /// What is fetched.
    pub collect: Vec<Collect>,
}

/// One evidence, by its word in the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Collect")]
pub enum Collect {
    /// The samples and rows of the check itself.
    Rows(check_rows::Config),
    /// Lines of a log, from CloudWatch Logs Insights.
    LogsInsights(logs_insights::Config),
    /// The firing series as a picture, from Prometheus.
    Chart(chart::Config),
    /// A picture that CloudWatch draws.
    MetricImage(metric_image::Config),
}

/// What evidence is fetched for.
#[derive(Clone, Debug)]
pub struct Case {
    /// The alert that stands for the incident.
    pub alert: Alert,
    /// Since when it fires.
    pub began: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// Whom evidence is asked of.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The checks.
    pub board: Arc<Board>,
    /// Secrets, and behind them AWS.
    pub vault: Arc<Vault>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Words, in Slack's markup.
    Words(String),
    /// A file.
    File(File),
    /// Nothing yet; it is worth to look again. In words.
    NotYet(String),
    /// Nothing that is worth a word.
    Nothing,
}

impl Collect {
    /// Its word in the configuration.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Rows(_) => "rows",
            Self::LogsInsights(_) => "logs_insights",
            Self::Chart(_) => "chart",
            Self::MetricImage(_) => "metric_image",
        }
    }

    /// Whether each time costs money.
    pub fn scans(&self) -> bool {
        match self {
            Self::LogsInsights(_) => true,
            Self::Rows(_) | Self::Chart(_) | Self::MetricImage(_) => false,
        }
    }

    /// When there was nothing yet, it is looked for again so much later.
    pub fn later(&self) -> Duration {
        match self {
            Self::LogsInsights(config) => config.again_after.duration(),
            Self::Rows(_) | Self::Chart(_) | Self::MetricImage(_) => Duration::ZERO,
        }
    }

    /// The name of its file in a thread, by which a file is found again.
    pub fn file_name(&self) -> &'static str {
        match self {
            Self::Rows(_) => check_rows::FILE,
            Self::LogsInsights(_) => logs_insights::FILE,
            Self::Chart(_) => chart::FILE,
            Self::MetricImage(_) => metric_image::FILE,
        }
    }

    /// Fetches it.
    ///
    /// # Errors
    /// What kept it away.
    pub async fn fetch(&self, case: &Case, sources: &Sources, deadline: Instant) -> Result<Found, Problem> {
        match self {
            Self::Rows(config) => Ok(check_rows::find(config, case, &sources.board)),
            Self::LogsInsights(config) => {
                Box::pin(logs_insights::fetch(config, case, sources.vault.aws(), deadline)).await
            }
            Self::Chart(config) => Box::pin(chart::fetch(config, case, deadline)).await,
            Self::MetricImage(config) => {
                Box::pin(metric_image::fetch(config, sources.vault.aws(), deadline)).await
            }
        }
    }
}

impl Evidence {
    /// Whether it is for this alert.
    pub fn fits(&self, alert: &Alert) -> bool {
        fits(&self.labels, alert)
    }
}

/// Whether an alert has these labels; an absent one is empty.
pub fn fits(labels: &BTreeMap<String, String>, alert: &Alert) -> bool {
    labels.iter().all(|(name, value)| alert.label(name).unwrap_or_default() == value)
}
