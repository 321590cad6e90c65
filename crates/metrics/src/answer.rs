//! An answer: the samples of one run, kept in columns. Label values live in one arena per column.

use crate::family::{Family, Handle, Kind, Metric};
use std::sync::Arc;

/// The samples of one run of a check.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    columns: Vec<Column>,
    /// Label sets that the check itself has put into `other`, by family.
    folded: Vec<(Handle, usize)>,
}

/// All samples of one family in an answer.
#[derive(Clone, Debug)]
pub struct Column {
    family: Handle,
    /// Label values of all rows, one behind the other.
    text: String,
    /// Where each label value ends in `text`; as many a row as the family has labels.
    ends: Vec<u32>,
    values: Values,
}

/// The values of a column, a row each.
#[derive(Clone, Debug)]
pub enum Values {
    /// Gauges and counters.
    Numbers(Vec<f64>),
    /// Histograms, all with the same upper bounds (without `+Inf`).
    Histograms(Arc<[f64]>, Vec<Buckets>),
}

/// One histogram: how many observations fell into each bucket (not cumulative, the last one is `+Inf`), and their sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// Observations per bucket; one more than there are bounds.
    pub counts: Vec<u64>,
    /// Sum of all observed values.
    pub sum: f64,
}

impl Buckets {
    /// Number of all observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A small limit is meant for single things, not for the sums over them.
pub const TOTALS: usize = 1000;
/// Label values longer than this are cut, with an ellipsis as mark.
pub const LONGEST_LABEL: usize = 1024;

impl Answer {
    /// An answer without samples.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sample of a built-in family.
    pub fn set<const N: usize>(&mut self, metric: &'static Metric<N>, labels: [&str; N], value: f64) {
        self.column(metric.family(), || metric.handle()).push(&labels, value);
    }

    /// Adds a sample where there is a value; an absent value is an absent sample, never 0.
    pub fn set_some<const N: usize>(
        &mut self,
        metric: &'static Metric<N>,
        labels: [&str; N],
        value: Option<f64>,
    ) {
        if let Some(value) = value {
            self.set(metric, labels, value);
        }
    }

    /// Adds a sample of a configured family; `labels` are in the family's order.
    pub fn set_configured(&mut self, family: &Arc<Family>, labels: &[&str], value: f64) {
        self.column(family, || Handle::Configured(Arc::clone(family))).push(labels, value);
    }

    /// Adds a histogram. All histograms of a family in one answer share their bounds.
    pub fn set_histogram(&mut self, family: &Handle, labels: &[&str], bounds: &Arc<[f64]>, buckets: Buckets) {
        let column = self.column(family, || family.clone());
        column.push_labels(labels);
        match &mut column.values {
            Values::Histograms(_, rows) => rows.push(buckets),
            Values::Numbers(_) => column.values = Values::Histograms(Arc::clone(bounds), vec![buckets]),
        }
    }

    /// Notes that so many label sets of a family went into one, `other`, because there were more than the check's limit.
    pub fn fold(&mut self, family: &Handle, sets: usize) {
        self.folded.push((family.clone(), sets));
    }

    fn column(&mut self, family: &Family, handle: impl FnOnce() -> Handle) -> &mut Column {
        // The last column is nearly always the one; families are few, so a scan beats a map.
        let at = self.columns.iter().rposition(|column| column.family.is(family)).unwrap_or_else(|| {
            self.columns.push(Column::new(handle()));
            self.columns.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the position was just found")]
        &mut self.columns[at]
    }

    /// The columns, a family each.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Number of samples; a histogram counts as one.
    pub fn len(&self) -> usize {
        self.columns.iter().map(Column::len).sum()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.columns.iter().all(Column::is_empty)
    }

    /// Sorts rows by their labels and drops rows whose label set was set before: the first one wins.
    /// Returns how many were dropped.
    pub fn seal(&mut self) -> usize {
        self.columns.iter_mut().map(Column::seal).sum()
    }

    /// Keeps at most `limit` rows of each family (of a total at least [`TOTALS`]), the first set; returns each family that was cut with
    /// the number of rows lost, and those that the check has folded.
    /// Call before [`Answer::seal`], while rows stand in the order in which the check set them.
    pub fn cap(&mut self, limit: usize) -> Vec<(Handle, usize)> {
        let mut cut = std::mem::take(&mut self.folded);
        for column in &mut self.columns {
            let limit = if column.family.total { limit.max(TOTALS) } else { limit };
            let lost = column.len().saturating_sub(limit);
            if lost > 0 {
                let kept: Vec<usize> = (0..limit).collect();
                column.keep(&kept);
                cut.push((column.family.clone(), lost));
            }
        }
        cut
    }
}

impl Column {
    fn new(family: Handle) -> Self {
        Self { family, text: String::new(), ends: Vec::new(), values: Values::Numbers(Vec::new()) }
    }

    fn push(&mut self, labels: &[&str], value: f64) {
        self.push_labels(labels);
        if let Values::Numbers(numbers) = &mut self.values {
            numbers.push(value);
        }
    }

    fn push_labels(&mut self, labels: &[&str]) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "labels of {}", self.family.name);
        for label in labels {
            if label.len() <= LONGEST_LABEL {
                self.text.push_str(label);
            } else {
                self.text.push_str(label.get(..label.floor_char_boundary(LONGEST_LABEL - 3)).unwrap_or(""));
                self.text.push('…');
            }
            self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        }
    }

    /// The family of all samples in this column.
    pub fn family(&self) -> &Handle {
        &self.family
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Numbers(numbers) => numbers.len(),
            Values::Histograms(_, rows) => rows.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values, in the order of the rows.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// All label values of all rows, one behind the other: for size estimates and for one look at all characters.
    pub(crate) fn arena(&self) -> &str {
        &self.text
    }

    /// The label values of one row, in the order of the family's labels.
    pub fn labels(&self, row: usize) -> impl Iterator<Item = &str> {
        let width = self.family.labels.len();
        (row * width..(row + 1) * width).map(|at| {
            let from = if at == 0 { 0 } else { self.ends.get(at - 1).map_or(0, |end| *end as usize) };
            let to = self.ends.get(at).map_or(0, |end| *end as usize);
            self.text.get(from..to).unwrap_or("")
        })
    }

    /// Whether this family holds running totals.
    pub fn is_counter(&self) -> bool {
        matches!(self.family.kind, Kind::Counter(_))
    }

    fn seal(&mut self) -> usize {
        let rows = self.len();
        // Most servers and lists are in order already.
        if (1..rows).all(|row| self.labels(row - 1).lt(self.labels(row))) {
            return 0;
        }
        let mut order: Vec<usize> = (0..rows).collect();
        // A stable sort, so that of equal rows the first set stays first.
        order.sort_by(|a, b| self.labels(*a).cmp(self.labels(*b)));
        order.dedup_by(|later, earlier| self.labels(*later).eq(self.labels(*earlier)));
        let dropped = rows - order.len();
        self.keep(&order);
        dropped
    }

    fn keep(&mut self, order: &[usize]) {
        let mut kept = Self::new(self.family.clone());
        for row in order {
            kept.push_labels(&self.labels(*row).collect::<Vec<_>>());
        }
        kept.values = match &self.values {
            Values::Numbers(all) => {
                Values::Numbers(order.iter().filter_map(|row| all.get(*row).copied()).collect())
            }
            Values::Histograms(bounds, all) => Values::Histograms(
                Arc::clone(bounds),
                order.iter().filter_map(|row| all.get(*row).cloned()).collect(),
            ),
        };
        *self = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Unit;

    static PAIR: Metric<2> = Metric::gauge("test.pair", Unit::None, &["a", "b"], "");
    static BARE: Metric<0> = Metric::gauge("test.bare", Unit::None, &[], "");

    fn rows(column: &Column) -> Vec<Vec<&str>> {
        (0..column.len()).map(|row| column.labels(row).collect()).collect()
    }

    #[test]
    fn sealing_sorts_and_keeps_the_first_of_equal_rows() {
        let mut answer = Answer::new();
        answer.set(&PAIR, ["x", "2"], 1.0);
        answer.set(&PAIR, ["", "1"], 2.0);
        answer.set(&PAIR, ["x", "2"], 3.0);
        answer.set(&BARE, [], 4.0);
        answer.set_some(&BARE, [], None);
        assert_eq!(answer.seal(), 1);
        let [pair, bare] = answer.columns() else { panic!("two families") };
        assert_eq!(rows(pair), [["", "1"], ["x", "2"]]);
        assert!(matches!(pair.values(), Values::Numbers(numbers) if numbers == &[2.0, 1.0]));
        assert_eq!(bare.len(), 1);
        assert_eq!(answer.len(), 3);
    }

    #[test]
    fn a_cap_keeps_the_first_rows_and_counts_the_rest() {
        let mut answer = Answer::new();
        for at in 0..5 {
            answer.set(&PAIR, [&at.to_string(), ""], f64::from(at));
        }
        let cut = answer.cap(2);
        assert!(matches!(cut.as_slice(), [(family, 3)] if family.is(PAIR.family())));
        assert_eq!(answer.len(), 2);
    }

    #[test]
    fn long_label_values_are_cut_with_a_mark_at_a_character() {
        let mut answer = Answer::new();
        let long = "ü".repeat(LONGEST_LABEL);
        answer.set(&PAIR, [&long, "kept"], 1.0);
        let labels = rows(&answer.columns()[0]);
        assert!(labels[0][0].ends_with("ü…") && labels[0][0].len() <= LONGEST_LABEL);
        assert_eq!(labels[0][1], "kept");
    }
}
