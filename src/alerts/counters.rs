//! What the desk has done, for the instruments and the page.

use super::open::Open;
use crate::check::Reason;
use jiff::Timestamp;
use metrics::{Answer, Buckets, Handle, Metric, Unit};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

static SENT: Metric<0> = Metric::counter(
    "datapulse.notify.sent",
    Unit::None,
    &[],
    "Messages, replies, changes and files that Slack has taken",
);
static FAILURES: Metric<1> = Metric::counter(
    "datapulse.notify.failures",
    Unit::None,
    &["reason"],
    "Calls to Slack that failed, and alerts that could not be written down; all but refused changes are tried again",
);
static OLDEST_PENDING: Metric<0> = Metric::gauge(
    "datapulse.notify.oldest_pending",
    Unit::Seconds,
    &[],
    "How long the oldest incident has been waiting for its message; 0 when none waits",
);
static AMBIGUOUS: Metric<0> = Metric::counter(
    "datapulse.notify.ambiguous",
    Unit::None,
    &[],
    "Messages marked as possibly repeated: the answer was lost and the channel could not be looked through",
);
static EVIDENCE: Metric<0> = Metric::histogram(
    "datapulse.notify.evidence",
    Unit::Seconds,
    &[],
    "From the message of an incident until a piece of evidence was in its thread",
);
static INCIDENTS: Metric<1> = Metric::gauge(
    "datapulse.notify.incidents",
    Unit::None,
    &["phase"],
    "Incidents that are not over: firing, or unknown while the check behind them does not answer",
);
static NOTICES: Metric<1> = Metric::counter(
    "datapulse.notify.notices",
    Unit::None,
    &["result"],
    "Deliveries of Alertmanager and Datadog: taken, refused (unreadable), failed (the sender was told to come again)",
);
static BOUNDS: LazyLock<Arc<[f64]>> = LazyLock::new(|| {
    Arc::from([0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0])
});

/// The counters; they outlive a reload, and are shown while alerts are configured.
#[derive(Debug, Default)]
pub struct Counters {
    configured: AtomicBool,
    sent: AtomicU64,
    ambiguous: AtomicU64,
    taken: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    failures: BTreeMap<Reason, u64>,
    evidence: Buckets,
    /// Since when the oldest waits.
    pending: Option<Timestamp>,
    firing: usize,
    unknown: usize,
    open: Arc<[Open]>,
    problem: Option<(Timestamp, String)>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It is written down.
    Taken,
    /// It cannot be read.
    Refused,
    /// It could not be written down.
    Failed,
}

/// What the page shows.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Messages and changes that Slack has taken.
    pub sent: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Incidents that fire.
    pub firing: usize,
    /// Incidents of which nobody knows.
    pub unknown: usize,
    /// What is not over, the worst first; at most a hundred.
    pub open: Arc<[Open]>,
    /// How long the oldest waits for its message.
    pub pending: Option<Duration>,
    /// The last failure, while nothing has worked after it.
    pub problem: Option<(Timestamp, String)>,
}

impl Counters {
    /// Whether alerts are configured.
    pub fn configure(&self, on: bool) {
        self.configured.store(on, Ordering::Relaxed);
    }

    /// Counts a delivery.
    pub fn delivered(&self, result: Delivered) {
        let counter = match result {
            Delivered::Taken => &self.taken,
            Delivered::Refused => &self.refused,
            Delivered::Failed => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.inner().problem = None;
    }

    pub(super) fn ambiguous(&self) {
        self.ambiguous.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, reason: Reason, what: String, now: Timestamp) {
        let mut inner = self.inner();
        *inner.failures.entry(reason).or_default() += 1;
        inner.problem = Some((now, what));
    }

    pub(super) fn evidence(&self, took: Duration) {
        let mut inner = self.inner();
        inner.evidence.counts.resize(BOUNDS.len() + 1, 0);
        let bucket = BOUNDS.iter().take_while(|bound| took.as_secs_f64() > **bound).count();
        if let Some(count) = inner.evidence.counts.get_mut(bucket) {
            *count += 1;
        }
        inner.evidence.sum += took.as_secs_f64();
    }

    pub(super) fn stand(
        &self,
        (firing, unknown): (usize, usize),
        pending: Option<Timestamp>,
        open: Vec<Open>,
    ) {
        let mut inner = self.inner();
        (inner.firing, inner.unknown, inner.pending) = (firing, unknown, pending);
        inner.open = open.into();
    }

    /// Adds the samples, if alerts are configured.
    pub fn tell(&self, answer: &mut Answer, now: Timestamp) {
        if !self.configured.load(Ordering::Relaxed) {
            return;
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let inner = self.inner();
        answer.set(&SENT, [], count(&self.sent));
        for reason in Reason::ALL {
            let failures = inner.failures.get(&reason).copied().unwrap_or_default();
            answer.set(&FAILURES, [reason.as_str()], failures as f64);
        }
        answer.set(&OLDEST_PENDING, [], pending(&inner, now).unwrap_or_default().as_secs_f64());
        answer.set(&AMBIGUOUS, [], count(&self.ambiguous));
        let mut evidence = inner.evidence.clone();
        evidence.counts.resize(BOUNDS.len() + 1, 0);
        answer.set_histogram(&EVIDENCE.handle(), &[], &BOUNDS, evidence);
        for (phase, count) in [("firing", inner.firing), ("unknown", inner.unknown)] {
            answer.set(&INCIDENTS, [phase], count as f64);
        }
        for (result, counter) in
            [("taken", &self.taken), ("refused", &self.refused), ("failed", &self.failed)]
        {
            answer.set(&NOTICES, [result], count(counter));
        }
    }

    /// For the page; `None` when alerts are not configured.
    pub fn view(&self, now: Timestamp) -> Option<View> {
        let inner = self.inner();
        self.configured.load(Ordering::Relaxed).then(|| View {
            sent: self.sent.load(Ordering::Relaxed),
            failures: inner.failures.values().sum(),
            firing: inner.firing,
            unknown: inner.unknown,
            open: Arc::clone(&inner.open),
            pending: pending(&inner, now),
            problem: inner.problem.clone(),
        })
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pending(inner: &Inner, now: Timestamp) -> Option<Duration> {
    inner.pending.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default())
}

/// The families, for the catalogue.
pub fn families() -> Vec<Handle> {
    vec![
        SENT.handle(),
        FAILURES.handle(),
        OLDEST_PENDING.handle(),
        AMBIGUOUS.handle(),
        EVIDENCE.handle(),
        INCIDENTS.handle(),
        NOTICES.handle(),
    ]
}
