//! Differences of running totals, for receivers that want what happened since the last time.

use crate::answer::{Buckets, Values};
use crate::family::{Kind, Origin};
use crate::group::{Group, Member, View};
use crate::snapshot::Snapshot;
use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::time::{Duration, Instant};

/// A source's counter that was away this long begins with a new baseline: the process that counted is likely another.
const FORGET_SOURCE: Duration = Duration::from_hours(1);

/// A counter of ours is remembered over a long outage of its check: if it were forgotten, its whole total would be told
/// a second time when the check comes back. A week covers an outage over a long weekend.
const FORGET_OURS: Duration = Duration::from_hours(7 * 24);

/// How often the memory is searched for series to forget.
const SWEEP_EVERY: Duration = Duration::from_mins(10);

/// Counters remembered at most, about 64 bytes each; label sets that change all the time must not fill the memory.
const MOST_NUMBERS: usize = 500_000;

/// Histograms remembered at most, about 250 bytes each.
const MOST_HISTOGRAMS: usize = 100_000;

/// The totals last told, by series.
///
/// A series is known by a keyed 64-bit hash of its name and labels. Two series with the same hash would tell wrong
/// differences; with a million series the chance that there is such a pair at all is 3 in 100 million, and nobody can
/// construct one, because the key is drawn at the start of the process.
#[derive(Debug)]
pub struct Deltas {
    keyed: RandomState,
    numbers: Memory<f64>,
    histograms: Memory<Buckets>,
}

/// What a histogram gained since it was last told.
#[derive(Debug, PartialEq)]
pub(crate) struct Gain {
    /// Observations per bucket and the growth of the sum.
    pub(crate) buckets: Buckets,
    /// Whether the series was not known before: then zeros are told too.
    pub(crate) first: bool,
}

impl Default for Deltas {
    fn default() -> Self {
        Self {
            keyed: RandomState::new(),
            numbers: Memory::new(MOST_NUMBERS),
            histograms: Memory::new(MOST_HISTOGRAMS),
        }
    }
}

impl Deltas {
    /// An empty memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the totals that may be shown at `now` as already told. Call it at the start with counters that were
    /// restored from disk: the process before this one has told them.
    pub fn remember(&mut self, snapshot: &Snapshot, now: Instant) {
        for group in &View::new(snapshot, now, |_| true).groups {
            for member in &group.members {
                let base = self.base(group, member);
                for row in (0..member.column.len()).filter(|row| !member.hides(*row)) {
                    let key = key(&base, member, row);
                    match (member.column.values(), member.column.family().kind) {
                        (Values::Numbers(totals), Kind::Counter(origin)) => {
                            totals.get(row).map(|total| self.number(key, *total, origin, now));
                        }
                        (Values::Histograms(_, rows), _) => {
                            rows.get(row).map(|total| self.histogram(key, total, now));
                        }
                        (Values::Numbers(_), Kind::Gauge | Kind::Histogram) => {}
                    }
                }
            }
        }
    }

    /// How many samples were not told because the memory was full.
    pub fn refused(&self) -> u64 {
        self.numbers.refused + self.histograms.refused
    }

    /// What is equal in the keys of all rows of a column.
    pub(crate) fn base(&self, group: &Group<'_>, member: &Member<'_>) -> DefaultHasher {
        let mut hasher = self.keyed.build_hasher();
        group.name.hash(&mut hasher);
        for pair in member.shared() {
            pair.hash(&mut hasher);
        }
        for label in member.column.family().labels.iter() {
            label.hash(&mut hasher);
        }
        hasher
    }

    /// What a counter gained; `None` when there is nothing to tell. A total that fell has started anew at 0.
    pub(crate) fn number(&mut self, key: u64, total: f64, origin: Origin, now: Instant) -> Option<f64> {
        if !total.is_finite() {
            return None;
        }
        let keep = keep(origin);
        let Some(told) = self.numbers.get(key, now) else {
            let kept = self.numbers.insert(key, total, keep, now);
            return (kept && origin == Origin::Ours).then_some(total);
        };
        let before = std::mem::replace(told, total);
        let gain = if total < before { total } else { total - before };
        (gain != 0.0).then_some(gain)
    }

    /// What a histogram gained; `None` when there is nothing to tell. A bucket that fell has started anew at 0.
    pub(crate) fn histogram(&mut self, key: u64, total: &Buckets, now: Instant) -> Option<Gain> {
        let Some(told) = self.histograms.get(key, now) else {
            let kept = self.histograms.insert(key, total.clone(), FORGET_OURS, now);
            return kept.then(|| Gain { buckets: total.clone(), first: true });
        };
        let counts = difference(&told.counts, &total.counts);
        let sum = if counts.is_some() { total.sum - told.sum } else { total.sum };
        told.clone_from(total);
        let buckets = Buckets { counts: counts.unwrap_or_else(|| total.counts.clone()), sum };
        (buckets.count() > 0).then_some(Gain { buckets, first: false })
    }

    /// Forgets what was not seen for long. Call it once a cycle.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.numbers.sweep(now);
        self.histograms.sweep(now);
    }
}

/// The bucket-wise difference, if no bucket fell and the bounds are as many as before.
fn difference(before: &[u64], after: &[u64]) -> Option<Vec<u64>> {
    if before.len() != after.len() {
        return None;
    }
    after.iter().zip(before).map(|(after, before)| after.checked_sub(*before)).collect()
}

/// How long a counter is remembered without being seen.
pub(crate) fn keep(origin: Origin) -> Duration {
    match origin {
        Origin::Ours => FORGET_OURS,
        Origin::Source => FORGET_SOURCE,
    }
}

/// The key of one row.
pub(crate) fn key(base: &DefaultHasher, member: &Member<'_>, row: usize) -> u64 {
    let mut hasher = base.clone();
    for label in member.column.labels(row) {
        label.hash(&mut hasher);
    }
    hasher.finish()
}

/// Something known about each of many series; limited in number and in time.
#[derive(Debug)]
pub(crate) struct Memory<T> {
    series: HashMap<u64, Slot<T>>,
    most: usize,
    swept: Option<Instant>,
    refused: u64,
}

#[derive(Debug)]
struct Slot<T> {
    seen: Instant,
    keep: Duration,
    known: T,
}

impl<T> Memory<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { series: HashMap::new(), most, swept: None, refused: 0 }
    }

    /// What is known of a series, which is thereby seen.
    pub(crate) fn get(&mut self, key: u64, now: Instant) -> Option<&mut T> {
        let slot = self.series.get_mut(&key)?;
        slot.seen = now;
        Some(&mut slot.known)
    }

    /// Remembers a new series; `false` when the memory is full.
    pub(crate) fn insert(&mut self, key: u64, known: T, keep: Duration, now: Instant) -> bool {
        if self.series.len() >= self.most {
            self.refused += 1;
            return false;
        }
        self.series.insert(key, Slot { seen: now, keep, known });
        true
    }

    pub(crate) fn sweep(&mut self, now: Instant) {
        let last = *self.swept.get_or_insert(now);
        if now.saturating_duration_since(last) >= SWEEP_EVERY {
            self.series.retain(|_, slot| now.saturating_duration_since(slot.seen) < slot.keep);
            self.swept = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "a starting point for arithmetic")]
    fn start() -> Instant {
        Instant::now()
    }

    fn told(origin: Origin, totals: &[f64]) -> Vec<Option<f64>> {
        let (mut deltas, now) = (Deltas::new(), start());
        totals.iter().map(|total| deltas.number(1, *total, origin, now)).collect()
    }

    #[test]
    fn the_first_sight_of_a_sources_counter_is_only_a_baseline() {
        assert_eq!(told(Origin::Source, &[900.0, 907.0, 907.0]), [None, Some(7.0), None]);
    }

    #[test]
    fn a_counter_of_ours_starts_at_zero_and_is_shown_once_at_zero() {
        assert_eq!(told(Origin::Ours, &[0.0, 0.0, 5.0]), [Some(0.0), None, Some(5.0)]);
        assert_eq!(told(Origin::Ours, &[3.0, 5.0]), [Some(3.0), Some(2.0)]);
    }

    #[test]
    fn a_total_that_fell_starts_anew() {
        assert_eq!(told(Origin::Source, &[900.0, 40.0, 41.0]), [None, Some(40.0), Some(1.0)]);
    }

    #[test]
    fn a_total_that_is_no_number_changes_nothing() {
        assert_eq!(
            told(Origin::Ours, &[3.0, f64::NAN, f64::INFINITY, 4.0]),
            [Some(3.0), None, None, Some(1.0)]
        );
    }

    #[test]
    fn a_histogram_starts_at_zero_and_anew_when_a_bucket_falls() {
        let (mut deltas, now) = (Deltas::new(), start());
        let mut gain = |counts: &[u64], sum: f64| {
            let gain = deltas.histogram(7, &Buckets { counts: counts.to_vec(), sum }, now)?;
            Some((gain.buckets.counts, gain.buckets.sum, gain.first))
        };
        assert_eq!(gain(&[0, 0], 0.0), Some((vec![0, 0], 0.0, true)));
        assert_eq!(gain(&[0, 0], 0.0), None);
        assert_eq!(gain(&[2, 1], 5.0), Some((vec![2, 1], 5.0, false)));
        assert_eq!(gain(&[3, 0], 4.0), Some((vec![3, 0], 4.0, false)));
        assert_eq!(gain(&[3, 0, 1], 9.0), Some((vec![3, 0, 1], 9.0, false)));
    }

    #[test]
    fn what_was_away_for_long_is_forgotten_but_ours_survive_an_outage() {
        let (mut deltas, now) = (Deltas::new(), start());
        deltas.number(1, 10.0, Origin::Source, now);
        deltas.number(2, 10.0, Origin::Ours, now);
        deltas.sweep(now);
        let later = now + FORGET_SOURCE + SECOND;
        deltas.sweep(later);
        assert_eq!(deltas.number(1, 12.0, Origin::Source, later), None);
        assert_eq!(deltas.number(2, 12.0, Origin::Ours, later), Some(2.0));
        let much_later = later + FORGET_OURS + SECOND;
        deltas.sweep(much_later);
        assert_eq!(deltas.numbers.series.len(), 0);
    }

    #[test]
    fn a_full_memory_tells_nothing_of_a_new_series_and_counts_it() {
        let (mut deltas, now) = (Deltas::new(), start());
        deltas.numbers.most = 1;
        assert_eq!(deltas.number(1, 1.0, Origin::Ours, now), Some(1.0));
        assert_eq!(deltas.number(2, 1.0, Origin::Ours, now), None);
        assert_eq!(deltas.number(2, 5.0, Origin::Ours, now), None);
        assert_eq!(deltas.number(1, 2.0, Origin::Ours, now), Some(1.0));
        assert_eq!(deltas.refused(), 2);
    }
}
