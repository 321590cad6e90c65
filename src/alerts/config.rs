//! What the configuration says about alerts: the workspace, channels by label, and evidence.

use super::Alert;
use crate::config::scalar::Interval;
use crate::config::secret::Reference;
use crate::evidence::{Collect, Evidence, fits};
use crate::net::https::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;

/// The section `alerts`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Alerts")]
pub struct Config {
    /// Where messages go.
    pub slack: Slack,
    /// What is fetched for the thread: the first whose labels fit, once an incident.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// What Alertmanager has not named for so long is shown as unknown: it was silenced, inhibited, or Alertmanager forgot it. Well
    /// above its `repeat_interval`.
    #[serde(default = "three_hours", deserialize_with = "unheard")]
    pub unheard_after: Interval,
    /// Queries on Logs Insights in an hour, over all incidents; each costs what it scans.
    #[serde(default = "thirty")]
    pub scans_per_hour: usize,
}

/// The workspace.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Slack")]
pub struct Slack {
    /// The Web API.
    #[serde(default = "api")]
    pub url: Url,
    /// Where the bot's token is kept.
    pub token: Reference,
    /// Channels by label; the first that fits.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The channel of all others: its id, such as `C0123456789`.
    #[serde(deserialize_with = "channel")]
    pub channel: String,
}

/// A channel for the alerts with these labels.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SlackRoute")]
pub struct Route {
    /// Labels that the alert has to have, with these values.
    #[serde(rename = "match")]
    pub labels: BTreeMap<String, String>,
    /// The channel's id.
    #[serde(deserialize_with = "channel")]
    pub channel: String,
}

impl Config {
    /// The channel of an alert.
    pub fn channel(&self, alert: &Alert) -> String {
        let route = self.slack.routes.iter().find(|route| fits(&route.labels, alert));
        route.map_or(&self.slack.channel, |route| &route.channel).clone()
    }

    /// What is fetched for an alert.
    pub fn collect(&self, alert: &Alert) -> &[Collect] {
        self.evidence.iter().find(|evidence| evidence.fits(alert)).map_or(&[], |evidence| &evidence.collect)
    }
}

const fn thirty() -> usize {
    30
}

const fn three_hours() -> Interval {
    Interval::seconds(3 * 3600)
}

fn unheard<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Interval, D::Error> {
    let interval = Interval::deserialize(deserializer)?;
    if interval < Interval::seconds(900) {
        return Err(de::Error::custom("shorter than 15m"));
    }
    Ok(interval)
}

fn api() -> Url {
    Url::of_host("slack.com", "/api")
}

/// A name is taken by some calls and refused by others, so that files and changes would be lost.
fn channel<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let channel = String::deserialize(deserializer)?;
    let id = channel.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit());
    if channel.is_empty() || !id {
        let words = "expected a channel's id, such as C0123456789; Slack shows it at the end of the channel's details";
        return Err(de::Error::custom(words));
    }
    Ok(channel)
}
