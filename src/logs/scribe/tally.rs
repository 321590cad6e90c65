//! Integer totals under opaque keys, with a limit for each family of keys.

use super::{Amount, Totals};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Sums by family (named by its `other` series), then by series.
pub(crate) type Sums = BTreeMap<Arc<str>, BTreeMap<Arc<str>, u64>>;

/// All totals, and which series belong together.
#[derive(Debug)]
pub(crate) struct Tally {
    families: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    totals: Arc<Mutex<Arc<Totals>>>,
    /// Series in a family, `other` not counted.
    most: usize,
}

/// What a batch will add, once it is committed.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    pub(crate) sums: Sums,
    /// How many series of a family are new.
    new: BTreeMap<Arc<str>, usize>,
}

impl Tally {
    pub(crate) fn new(most: usize) -> Self {
        Self { families: BTreeMap::new(), totals: Arc::default(), most }
    }

    /// The totals for others to read.
    pub(crate) fn share(&self) -> Arc<Mutex<Arc<Totals>>> {
        Arc::clone(&self.totals)
    }

    /// Puts an amount under its series, or under `other` when it is new and its family has no room.
    pub(crate) fn put(&self, amount: &Amount, differences: &mut Differences) {
        let Amount { series, other, amount } = amount;
        let known = self.families.get(other).is_some_and(|family| family.contains(series));
        if !differences.sums.contains_key(other) {
            differences.sums.insert(Arc::clone(other), BTreeMap::new());
        }
        let Some(sums) = differences.sums.get_mut(other) else { return };
        if let Some(sum) = sums.get_mut(series) {
            *sum = sum.saturating_add(*amount);
            return;
        }
        let mut key = series;
        if !known && series != other {
            let new = differences.new.entry(Arc::clone(other)).or_default();
            let old = self.families.get(other).map_or(0, BTreeSet::len);
            if old + *new < self.most {
                *new += 1;
            } else {
                key = other;
            }
        }
        let sum = sums.entry(Arc::clone(key)).or_default();
        *sum = sum.saturating_add(*amount);
    }

    /// Adds what was committed.
    pub(crate) fn add(&mut self, sums: Sums) {
        if sums.is_empty() {
            return;
        }
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        // Copied only when a reader still holds the last snapshot.
        let totals = Arc::make_mut(&mut totals);
        for (other, sums) in sums {
            for (series, sum) in sums {
                match totals.get_mut(&series) {
                    Some(total) => *total = total.saturating_add(sum),
                    None => drop(totals.insert(Arc::clone(&series), sum)),
                }
                let known = self.families.get(&other).is_some_and(|family| family.contains(&series));
                if !known && series != other {
                    self.families.entry(Arc::clone(&other)).or_default().insert(series);
                }
            }
        }
    }

    /// Ends series of a family.
    pub(crate) fn end(&mut self, other: &str, ended: &BTreeSet<Arc<str>>) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let totals = Arc::make_mut(&mut totals);
        for series in ended {
            totals.remove(series);
            if let Some(family) = self.families.get_mut(other) {
                family.remove(series);
            }
        }
    }

    /// All totals, for a checkpoint.
    pub(crate) fn sums(&self) -> Sums {
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = Sums::new();
        let mut rest: BTreeMap<&Arc<str>, u64> =
            totals.iter().map(|(series, total)| (series, *total)).collect();
        for (other, family) in &self.families {
            let sums = sums.entry(Arc::clone(other)).or_default();
            for series in family {
                sums.extend(rest.remove(series).map(|total| (Arc::clone(series), total)));
            }
        }
        // What is left are the `other` series themselves.
        for (other, total) in rest {
            sums.entry(Arc::clone(other)).or_default().insert(Arc::clone(other), total);
        }
        sums
    }
}

impl Differences {
    /// Takes back what was put under a series that ends now.
    pub(crate) fn end(&mut self, other: &str, series: &str) {
        if let Some(sums) = self.sums.get_mut(other) {
            sums.remove(series);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(series: &str, other: &str, amount: u64) -> Amount {
        Amount { series: series.into(), other: other.into(), amount }
    }

    #[test]
    fn a_series_that_ended_begins_at_0() {
        let mut tally = Tally::new(2);
        let mut differences = Differences::default();
        tally.put(&amount("a", "o", 7), &mut differences);
        tally.put(&amount("b", "o", 1), &mut differences);
        tally.add(differences.sums);
        let mut differences = Differences::default();
        tally.put(&amount("a", "o", 5), &mut differences);
        differences.end("o", "a");
        tally.end("o", &BTreeSet::from(["a".into()]));
        tally.put(&amount("c", "o", 2), &mut differences);
        tally.add(differences.sums);
        let totals = tally.share().lock().unwrap().clone();
        let found: Vec<_> = totals.iter().map(|(series, total)| (&**series, *total)).collect();
        assert_eq!(found, [("b", 1), ("c", 2)]);
    }

    #[test]
    fn a_family_without_room_counts_under_other_and_nothing_is_lost() {
        let mut tally = Tally::new(2);
        for (series, other) in [("a", "o"), ("b", "o"), ("c", "o"), ("a", "o"), ("x", "p"), ("o", "o")] {
            let mut differences = Differences::default();
            tally.put(&amount(series, other, 10), &mut differences);
            tally.add(differences.sums);
        }
        let mut differences = Differences::default();
        for series in ["y", "z", "z", "y"] {
            tally.put(&amount(series, "p", 1), &mut differences);
        }
        tally.add(differences.sums);
        let check = |tally: &Tally| {
            let totals = tally.share().lock().unwrap().clone();
            let found: Vec<_> = totals.iter().map(|(series, total)| (&**series, *total)).collect();
            assert_eq!(found, [("a", 20), ("b", 10), ("o", 20), ("p", 2), ("x", 10), ("y", 2)]);
        };
        check(&tally);
        let mut again = Tally::new(2);
        again.add(tally.sums());
        check(&again);
        let mut differences = Differences::default();
        again.put(&amount("new", "o", 5), &mut differences);
        assert_eq!(differences.sums["o"]["o"], 5, "the families are full after a restart too");
    }
}
