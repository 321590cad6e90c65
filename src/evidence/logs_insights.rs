//! Lines of a log around an incident, from CloudWatch Logs Insights, as a JSON file. Events arrive there minutes late, so
//! nothing is a "not yet" at first.

use super::{Case, Found};
use crate::alerts::slack::File;
use crate::alerts::text::{code, cut};
use crate::check::Problem;
use crate::checks::logs_insights::{Insights, Own};
use crate::config::scalar::Interval;
use crate::net::aws::Aws;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// The file of the thread.
pub const FILE: &str = "errors.json";
/// Characters of one field.
const LONGEST_FIELD: usize = 8000;
/// What is asked unless the configuration says otherwise.
const QUERY: &str =
    "fields @timestamp, @message | filter @message like /ERROR|FATAL|PANIC/ | sort @timestamp asc";

/// The keys of `logs_insights` as evidence.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "InsightsEvidence")]
pub struct Config {
    /// The log group, by name or ARN.
    #[serde(deserialize_with = "log_group")]
    pub log_group: String,
    /// The query, in the language of Logs Insights; errors in the order of their time when absent.
    #[serde(default = "errors")]
    pub query: String,
    /// How far back it looks. Ingestion lags: five minutes find nothing where half an hour finds all.
    #[serde(default = "half_an_hour")]
    pub window: Interval,
    /// How many events are shown.
    #[serde(default = "five", deserialize_with = "limit")]
    pub limit: usize,
    /// When there is none yet, it is asked once more, so much later: events arrive minutes late.
    #[serde(default = "three_minutes")]
    pub again_after: Interval,
    /// Region; the SDK's own when absent.
    pub region: Option<String>,
    /// ARN of a role to assume.
    pub assume_role: Option<String>,
}

const fn three_minutes() -> Interval {
    Interval::seconds(180)
}

fn errors() -> String {
    QUERY.to_owned()
}

const fn half_an_hour() -> Interval {
    Interval::seconds(1800)
}

const fn five() -> usize {
    5
}

fn log_group<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let group = String::deserialize(deserializer)?;
    if group.is_empty() { Err(de::Error::custom("is empty")) } else { Ok(group) }
}

fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let limit = usize::deserialize(deserializer)?;
    if (1..=100).contains(&limit) { Ok(limit) } else { Err(de::Error::custom("expected 1 to 100")) }
}

/// Asks once.
///
/// # Errors
/// What kept the answer away; the query is stopped.
pub async fn fetch(
    config: &Config,
    case: &Case,
    aws: &Arc<Aws>,
    deadline: Instant,
) -> Result<Found, Problem> {
    let own = Own {
        query: config.query.clone(),
        log_groups: vec![config.log_group.clone()],
        window: config.window,
        delay: Interval::seconds(0),
        budget: None,
        region: config.region.clone(),
        assume_role: config.assume_role.clone(),
    };
    let mut insights = Insights::new(&own, aws);
    let window = SignedDuration::try_from(config.window.duration()).unwrap_or(SignedDuration::from_mins(30));
    let from = case.now.saturating_sub(window).unwrap_or(case.now);
    let asked = async {
        insights.start(from, case.now).await?;
        insights.wait().await
    };
    let Ok(asked) = timeout_at(deadline, asked).await else {
        if let Err(problem) = insights.stop().await {
            tracing::warn!(%problem, "a query for evidence was left behind");
        }
        return Err(Insights::late());
    };
    let table = asked?;
    let minutes = window.as_secs() / 60;
    if table.is_empty() {
        let group = code(&config.log_group);
        return Ok(Found::NotYet(format!(
            "No error in {group} in the last {minutes} minutes, as far as Logs Insights has it"
        )));
    }
    let names = table.columns().to_vec();
    let mut events = Vec::new();
    for row in table.rows().take(config.limit) {
        let mut event = Map::new();
        for name in &names {
            if let Some(text) = row.text(name)? {
                event.insert(name.clone(), json!(cut(text, LONGEST_FIELD)));
            }
        }
        events.push(Value::Object(event));
    }
    let title = match table.len() {
        count if count > config.limit => {
            format!("The first {} of {count} errors in the last {minutes} minutes", config.limit)
        }
        1 => format!("1 error in the last {minutes} minutes"),
        count => format!("{count} errors in the last {minutes} minutes"),
    };
    let bytes = format!("{:#}\n", Value::Array(events)).into_bytes();
    Ok(Found::File(File { name: FILE.to_owned(), title, bytes, alt: None }))
}
