//! The keys that every check has beside its own, and what they make of a check and a target.

use super::scalar::Interval;
use super::target::{Server, Thresholds};
use super::{
    Assignment, DEFAULT_LIMIT, LONGEST_AWS_TIMEOUT, LONGEST_DEFAULT_TIMEOUT, PAID_INTERVAL, SHORTEST_ALIGNED,
};
use crate::board::Key;
use crate::checks::{self, Kind};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The keys that every check has beside its own.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Envelope {
    /// Name of the check: the label `check`. Unique.
    pub(super) name: String,
    /// How often it runs; from 1s on.
    pub(super) every: Option<Interval>,
    /// Aligns runs to the wall clock, moved by this.
    pub(super) offset: Option<Interval>,
    /// How long a run may take; when absent the interval, at most 10s, and for `athena_query` and `logs_insights` half of it, at most 10m.
    pub(super) timeout: Option<Interval>,
    /// How long values outlive a failed run; they go at once when absent.
    pub(super) keep_for: Option<Interval>,
    /// Label sets a family; 1000 when absent. What is beyond is left out and counted.
    pub(super) limit: Option<usize>,
    /// Labels put on every sample of this check; a target's label of the same name beats it.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// Limits that the bundled rules use instead of their own; a target's beat these.
    #[serde(default)]
    pub(super) thresholds: Thresholds,
}

/// Keys of the envelope as serde reads them.
pub(super) const ENVELOPE: [&str; 8] =
    ["name", "every", "offset", "timeout", "keep_for", "limit", "labels", "thresholds"];
/// Keys of the envelope that name servers.
pub(super) const SERVERS: [&str; 4] = ["target", "targets", "discover", "publisher"];

/// Those of them that a check takes: only one with two ends has a publisher, and only databases are discovered.
pub(super) fn server_keys(kind: &Kind) -> &'static [&'static str] {
    const NAMES: [&str; 2] = ["target", "targets"];
    match (kind.target, kind.sql, kind.ends.len()) {
        (false, ..) => &[],
        (true, false, _) => &NAMES,
        (true, true, ..2) => &SERVERS[..3],
        (true, true, _) => &SERVERS,
    }
}

/// `targets: {match: {label: value}}`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Matching {
    /// Every target that has all of these labels.
    #[serde(rename = "match")]
    pub(super) labels: BTreeMap<String, String>,
}

/// A check on a target, or on an AWS API.
pub(super) fn assignment(
    envelope: &Envelope,
    kind: &Kind,
    config: checks::Config,
    target: Option<String>,
    server: Option<Arc<Server>>,
    publisher: Option<Arc<Server>>,
) -> Assignment {
    let duration = |interval: &Option<Interval>| interval.as_ref().map(Interval::duration);
    // A check without a default interval and without one of its own was refused above.
    let paid = server.as_ref().is_some_and(|server| server.target.is_serverless());
    let default = kind.every.map(|every| if paid { every.max(PAID_INTERVAL) } else { every });
    let every = duration(&envelope.every).or(default).unwrap_or(LONGEST_DEFAULT_TIMEOUT);
    let mut labels = envelope.labels.clone();
    let mut thresholds = envelope.thresholds.over(&Thresholds::default());
    if let Some(server) = &server {
        labels.extend(server.target.labels.clone());
        thresholds = server.target.thresholds.over(&envelope.thresholds);
    }
    // What is loaded every hour is asked for at the same minute of each hour, also after a restart.
    let aligned = kind.is_paid() && every >= SHORTEST_ALIGNED;
    let longest = if kind.is_paid() {
        (every / 2).min(LONGEST_AWS_TIMEOUT)
    } else {
        every.min(LONGEST_DEFAULT_TIMEOUT)
    };
    Assignment {
        key: Key { check: envelope.name.clone(), target },
        config,
        every,
        offset: duration(&envelope.offset).or(aligned.then_some(Duration::ZERO)),
        timeout: duration(&envelope.timeout).unwrap_or(longest),
        keep_for: duration(&envelope.keep_for),
        limit: envelope.limit.unwrap_or(DEFAULT_LIMIT),
        labels,
        thresholds,
        server,
        publisher,
    }
}
