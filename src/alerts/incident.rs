//! An incident, a digest of many, and the records of both in the journal.

use super::{Alert, Severity, Source};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the records below.
pub const VERSION: u32 = 1;

/// From the first firing of a group until all its alerts are resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its own name; it stands in the metadata of its message, by which the message is found again.
    pub id: String,
    /// Who told it.
    pub source: Source,
    /// The sender's name of the group.
    pub key: String,
    /// The channel of the configuration when it began.
    pub channel: String,
    /// When it was heard of first.
    pub opened: Timestamp,
    /// When it was heard of last.
    pub heard: Timestamp,
    /// How it stands.
    pub phase: Phase,
    /// The worst severity that people were told of.
    pub told: Severity,
    /// The most alerts that fired at a time.
    pub most: usize,
    /// The highest value that was seen.
    pub peak: Option<f64>,
    /// The series that it is a value of.
    #[serde(default)]
    pub series: String,
    /// Its message.
    pub post: Post,
    /// What its message shows, as a hash; absent before the first.
    pub shown: Option<u64>,
    /// The digest that shows it instead of a message of its own.
    pub digest: Option<String>,
    /// Whether Slack refused the whole form of its message, so that a bare one has to do.
    pub bare: bool,
    /// What was done about each evidence of the configuration, in its order.
    pub evidence: Vec<Exhibit>,
    /// Its alerts by fingerprint; they have records of their own.
    #[serde(skip)]
    pub alerts: BTreeMap<String, Alert>,
}

/// How an incident stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It fires.
    Firing,
    /// The check behind it does not answer, so nobody knows.
    Unknown {
        /// Since when.
        since: Timestamp,
        /// The check.
        check: String,
    },
    /// It is over.
    Resolved {
        /// Since when.
        at: Timestamp,
    },
}

/// Where a message is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Post {
    /// Not sent yet.
    Waiting,
    /// Sent, and what became of it is not known.
    Posting {
        /// When.
        at: Timestamp,
    },
    /// It is there.
    Posted {
        /// The channel's id, as Slack says it.
        channel: String,
        /// The message's name there.
        ts: String,
    },
}

/// What was done about one evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exhibit {
    /// Attempts that have begun.
    pub tries: u32,
    /// Nothing more will be done.
    pub done: bool,
}

/// One message for many incidents that came at the same time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// Its own name.
    pub id: String,
    /// The channel.
    pub channel: String,
    /// When it was made.
    pub opened: Timestamp,
    /// Its incidents.
    pub members: Vec<String>,
    /// Its message.
    pub post: Post,
    /// What its message shows, as a hash.
    pub shown: Option<u64>,
    /// Whether the whole list is in its thread.
    pub listed: bool,
}

/// What the journal has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// An incident as it stands now, without its alerts.
    Incident(Box<Incident>),
    /// Alerts of an incident that are new or have changed.
    Alerts {
        /// The incident.
        id: String,
        /// The alerts.
        alerts: Vec<Alert>,
    },
    /// A digest as it stands now.
    Digest(Digest),
    /// An incident or a digest is forgotten.
    Gone(String),
    /// A scan that costs money began.
    Scan(Timestamp),
}

impl Incident {
    /// Alerts that fire.
    pub fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values().filter(|alert| alert.fires())
    }

    /// How bad it is: the worst that fires, and when nothing does, the worst there was.
    pub fn severity(&self) -> Severity {
        let worst = self.firing().map(Alert::severity).max();
        worst.or_else(|| self.alerts.values().map(Alert::severity).max()).unwrap_or_default()
    }

    /// The alert that stands for all: the worst, and of those the oldest; one that fires before one that does not.
    pub fn leading(&self) -> Option<&Alert> {
        let rank = |alert: &&Alert| {
            (!alert.fires(), std::cmp::Reverse(alert.severity()), alert.starts_at, alert.fingerprint.clone())
        };
        self.alerts.values().min_by_key(rank)
    }

    /// Since when it fires.
    pub fn began(&self) -> Timestamp {
        self.alerts.values().map(|alert| alert.starts_at).min().unwrap_or(self.opened).min(self.opened)
    }

    /// Whether it is over and said so.
    pub fn is_resolved(&self) -> bool {
        matches!(self.phase, Phase::Resolved { .. })
    }
}

impl Post {
    /// Channel and name of the message, when it is there.
    pub fn place(&self) -> Option<(&str, &str)> {
        match self {
            Self::Posted { channel, ts } => Some((channel, ts)),
            Self::Waiting | Self::Posting { .. } => None,
        }
    }
}
