//! Sinks hand the newest snapshot on: each has its own timer, and none can hold up another one.

pub mod dogstatsd;
pub mod otlp;
#[cfg(test)]
mod stage;

use crate::check::{Problem, Reason};
use crate::config::scalar::Interval;
use jiff::Timestamp;
use metrics::Snapshot;
use serde::de::{self, Deserialize, Deserializer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// More often than this is load, not freshness.
const SHORTEST_INTERVAL: Interval = Interval::seconds(1);

/// Gives the newest snapshot; a sink asks once a cycle.
pub type Newest = Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>;

/// What a sink has done so far; read by the vitals at any time.
#[derive(Debug, Default)]
pub struct PushCounters {
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    /// Unix time in seconds, 0 = never.
    last_success: AtomicU64,
}

impl PushCounters {
    /// Points or lines that were handed over.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Pushes that failed: requests (OTLP) or cycles (DogStatsD). What they carried may have gone out later.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Points or lines that were given up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// End of the last push in which everything went through, in Unix seconds; `None` before the first one.
    pub fn last_success(&self) -> Option<u64> {
        Some(self.last_success.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0)
    }

    fn add_sent(&self, count: u64) {
        self.sent.fetch_add(count, Ordering::Relaxed);
    }

    fn add_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn add_dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    fn succeeded(&self, now: Timestamp) {
        self.last_success.store(u64::try_from(now.as_second()).unwrap_or(0), Ordering::Relaxed);
    }
}

/// What the log last said about a sink: one line per change of state, not per push.
#[derive(Debug)]
struct Standing {
    sink: &'static str,
    failing: Option<Reason>,
}

impl Standing {
    fn new(sink: &'static str) -> Self {
        Self { sink, failing: None }
    }

    fn works(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!(sink = self.sink, "push works again");
        }
    }

    fn fails(&mut self, problem: &Problem) {
        if self.failing.replace(problem.reason) != Some(problem.reason) {
            tracing::warn!(sink = self.sink, reason = problem.reason.as_str(), %problem, "push failed");
        }
    }
}

/// Reads an interval of one second or more.
fn from_one_second<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Interval, D::Error> {
    let interval = Interval::deserialize(deserializer)?;
    if interval < SHORTEST_INTERVAL {
        return Err(de::Error::custom(format!("{interval} is too short: 1s is the least")));
    }
    Ok(interval)
}
