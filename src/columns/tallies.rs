//! Histograms of the rows' values, accumulated since the start.

use super::OTHER;
use super::config::Mapped;
use metrics::{Answer, Buckets, Handle};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The histograms of a check, by family and label values.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    families: BTreeMap<String, BTreeMap<Vec<String>, Tally>>,
    /// Label sets of this run that went to `other`, by family.
    folded: BTreeMap<String, BTreeSet<Vec<String>>>,
}

#[derive(Debug, Default)]
struct Tally {
    buckets: Buckets,
    /// A new label set is shown once at 0, so that its first increase is seen as one.
    shown: bool,
}

impl Tallies {
    /// Counts a value into its bucket: the first whose upper bound is not below it.
    pub(super) fn observe(&mut self, metric: &Mapped, labels: &[String], value: f64, limit: usize) {
        let family = self.families.entry(metric.family.name.to_string()).or_default();
        let room = super::is_other(labels) || family.len() < limit.saturating_sub(1);
        let known = family.contains_key(labels) || room;
        let key = if known { labels.to_vec() } else { vec![OTHER.to_owned(); labels.len()] };
        if !known {
            self.folded.entry(metric.family.name.to_string()).or_default().insert(labels.to_vec());
        }
        let tally = family.entry(key).or_default();
        let bucket = metric.bounds.iter().position(|bound| value <= *bound).unwrap_or(metric.bounds.len());
        tally.buckets.counts.resize(metric.bounds.len() + 1, 0);
        if let Some(count) = tally.buckets.counts.get_mut(bucket) {
            *count += 1;
        }
        tally.buckets.sum += value;
    }

    /// Adds the histograms of a metric to an answer.
    pub(super) fn tell(&mut self, metric: &Mapped, answer: &mut Answer) {
        let Some(family) = self.families.get_mut(metric.family.name.as_ref()) else { return };
        let handle = Handle::Configured(Arc::clone(&metric.family));
        if let Some(folded) = self.folded.remove(metric.family.name.as_ref()) {
            answer.fold(&handle, folded.len());
        }
        for (labels, tally) in family {
            let buckets = if tally.shown {
                tally.buckets.clone()
            } else {
                Buckets { counts: vec![0; metric.bounds.len() + 1], sum: 0.0 }
            };
            tally.shown = true;
            answer.set_histogram(&handle, &super::words(labels), &metric.bounds, buckets);
        }
    }
}
