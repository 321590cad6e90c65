//! Events, each counted once: AWS gives the same ones again at every look.

use crate::net::aws::{StoreCluster, StoreEvent};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Events arrive late, and with the time at which they happened.
const LATE: Duration = Duration::from_hours(1);

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Failover,
    Replacement,
    Snapshot,
    Maintenance,
    Other,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Failover, Self::Replacement, Self::Snapshot, Self::Maintenance, Self::Other];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Replacement => "replacement",
            Self::Snapshot => "snapshot",
            Self::Maintenance => "maintenance",
            Self::Other => "other",
        }
    }

    /// AWS has no field for it, only words.
    /// <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ElastiCacheSNS.html>
    /// <https://docs.aws.amazon.com/memorydb/latest/devguide/memorydbsns.html>
    pub(super) fn of(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
        match () {
            // `Test Failover API called for ..` comes before the failover itself, and would make two of one.
            () if has(&["failover"]) && !has(&["api called"]) => Self::Failover,
            () if has(&["snapshot", "backup"]) => Self::Snapshot,
            () if has(&["replac", "recover"]) => Self::Replacement,
            () if has(&["maintenance", "service update", "patch", "upgrade"]) => Self::Maintenance,
            () => Self::Other,
        }
    }
}

/// How many of each kind there were.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Count {
    pub(super) kinds: BTreeMap<Kind, u32>,
    pub(super) snapshot_failures: u32,
}

/// What was counted so far.
#[derive(Debug, Default)]
pub(super) struct Counted {
    seen: BTreeSet<StoreEvent>,
    /// Since when nothing has been missed; `None` before the first good look.
    since: Option<Timestamp>,
    counts: BTreeMap<String, Count>,
}

impl Counted {
    /// How far back to look: to the last good look, and as much before as events can be late.
    pub(super) fn span(&self, now: Timestamp) -> Duration {
        let gap = self.since.map_or(SignedDuration::ZERO, |since| now.duration_since(since));
        LATE + Duration::try_from(gap).unwrap_or_default()
    }

    /// Counts what has not been seen. What there was before the first look is a past that is not ours.
    pub(super) fn take(&mut self, events: Vec<StoreEvent>, clusters: &[StoreCluster], now: Timestamp) {
        let is_first = self.since.is_none();
        let span = self.span(now) + LATE;
        for event in events {
            if !self.seen.insert(event.clone()) || is_first {
                continue;
            }
            let Some(cluster) = owner(&event.source, clusters) else { continue };
            let kind = Kind::of(&event.message);
            let count = self.counts.entry(cluster.to_owned()).or_default();
            *count.kinds.entry(kind).or_default() += 1;
            if kind == Kind::Snapshot && event.message.to_ascii_lowercase().contains("fail") {
                count.snapshot_failures += 1;
            }
        }
        self.since = Some(now);
        // What AWS will not give again need not be remembered.
        let oldest = now.saturating_sub(span).unwrap_or(Timestamp::MIN);
        self.seen.retain(|event| event.at >= oldest);
    }

    pub(super) fn of(&self, cluster: &str) -> Count {
        self.counts.get(cluster).cloned().unwrap_or_default()
    }
}

/// The cluster that an event is about: it names the cluster, or one of its nodes.
fn owner<'a>(source: &str, clusters: &'a [StoreCluster]) -> Option<&'a str> {
    let is = |cluster: &&StoreCluster| {
        let mut nodes = cluster.shards.iter().flat_map(|shard| &shard.nodes);
        cluster.name == source || nodes.any(|node| node.name == source)
    };
    // A node that has been replaced is in no list any more; its name begins with that of its cluster.
    let begins = |cluster: &&StoreCluster| {
        source.strip_prefix(cluster.name.as_str()).is_some_and(|rest| {
            rest.starts_with('-') && rest.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit())
        })
    };
    let found = clusters.iter().find(is).or_else(|| clusters.iter().find(begins));
    found.map(|cluster| cluster.name.as_str())
}
