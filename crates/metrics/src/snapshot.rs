//! What is true now: all parts that checks and our own instruments have answered.

use crate::answer::Answer;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// An answer with the labels that all its samples share, and the time in which it may be shown.
#[derive(Clone, Debug)]
pub struct Part {
    /// Labels put before each sample's own: `check`, `target`, the target's labels. Sorted as shown, names unique.
    pub labels: Arc<[(String, String)]>,
    /// The samples.
    pub answer: Answer,
    /// Not shown before this moment; `None`: at once.
    pub from: Option<Instant>,
    /// Not shown from this moment on; `None`: no end.
    pub until: Option<Instant>,
    /// When our counters in it began.
    pub counting_since: SystemTime,
}

impl Part {
    /// Whether this part may be shown at `now`.
    pub fn visible(&self, now: Instant) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }

    /// The value of a common label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// All parts at one moment. Parts are in the order in which they are shown.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows with every change.
    pub generation: u64,
    /// The parts, sorted by check and target.
    pub parts: Vec<Arc<Part>>,
}

impl Snapshot {
    /// The parts that may be shown at `now`.
    pub fn visible(&self, now: Instant) -> impl Iterator<Item = &Arc<Part>> {
        self.parts.iter().filter(move |part| part.visible(now))
    }

    /// How long what is visible at `now` stays the same, if no new report comes.
    pub fn unchanged_for(&self, now: Instant) -> Option<Duration> {
        let moments = self.parts.iter().flat_map(|part| [part.from, part.until]).flatten();
        moments.filter(|moment| *moment > now).min().map(|moment| moment.duration_since(now))
    }
}
