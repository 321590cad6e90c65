//! The visible samples of a snapshot by family: what all three spellings walk over, so that they tell the same.

use crate::answer::{Column, Values};
use crate::family::{Family, Kind};
use crate::snapshot::{Part, Snapshot};
use std::collections::{HashMap, HashSet};
use std::mem::discriminant;
use std::time::Instant;

/// The visible parts of a snapshot and their samples by family.
pub(crate) struct View<'a> {
    /// The parts in the order of the snapshot.
    pub(crate) parts: Vec<&'a Part>,
    /// The families in the order of their Prometheus names.
    pub(crate) groups: Vec<Group<'a>>,
}

/// All samples of one family.
pub(crate) struct Group<'a> {
    /// The Prometheus name: the identity of a family over all checks.
    pub(crate) name: String,
    /// The first family object of that name.
    pub(crate) family: &'a Family,
    /// The columns, in the order of the parts.
    pub(crate) members: Vec<Member<'a>>,
}

/// One column and the part it belongs to.
pub(crate) struct Member<'a> {
    /// Position of the part in [`View::parts`].
    pub(crate) at: usize,
    /// The part.
    pub(crate) part: &'a Part,
    /// The column; never empty.
    pub(crate) column: &'a Column,
    /// Whether a label of the part has the name of one of the family's own labels.
    pub(crate) shadowed: bool,
    /// Rows that another part has already shown, ascending; empty nearly always.
    hidden: Vec<usize>,
}

impl<'a> View<'a> {
    /// What may be shown at `now` of the parts that `wanted` accepts.
    pub(crate) fn new(snapshot: &'a Snapshot, now: Instant, wanted: impl Fn(&Part) -> bool) -> Self {
        let parts: Vec<&Part> =
            snapshot.visible(now).map(AsRef::as_ref).filter(|part| wanted(part)).collect();
        let mut groups = by_object(&parts);
        groups.sort_by(|one, other| one.name.cmp(&other.name));
        let objects = groups.len();
        groups.dedup_by(|later, earlier| later.name == earlier.name && earlier.take(later));
        let twins = twins(&parts);
        if objects != groups.len() || !twins.is_empty() {
            for group in &mut groups {
                group.hide_doubles(&twins);
            }
        }
        Self { parts, groups }
    }
}

/// Groups columns by family object: comparing addresses is enough for all but a family that is configured twice.
fn by_object<'a>(parts: &[&'a Part]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut found: HashMap<*const Family, usize> = HashMap::new();
    for (at, part) in parts.iter().copied().enumerate() {
        for column in part.answer.columns() {
            let family: &Family = column.family();
            if column.is_empty() || !holds(family, column.values()) {
                continue;
            }
            let shadowed = part.labels.iter().any(|(name, _)| family.labels.iter().any(|own| own == name));
            let member = Member { at, part, column, shadowed, hidden: Vec::new() };
            let index = *found.entry(std::ptr::from_ref(family)).or_insert(groups.len());
            match groups.get_mut(index) {
                Some(group) => group.members.push(member),
                None => groups.push(Group { name: family.prometheus(), family, members: vec![member] }),
            }
        }
    }
    groups
}

/// Whether a family of this kind can carry these values; anything else could not be spelled.
fn holds(family: &Family, values: &Values) -> bool {
    match values {
        Values::Numbers(_) => family.kind != Kind::Histogram,
        Values::Histograms(..) => family.kind == Kind::Histogram,
    }
}

/// For each part whose labels equal an earlier part's: that part's position. Empty unless there is such a pair.
fn twins(parts: &[&Part]) -> HashMap<usize, usize> {
    let mut first: HashMap<&[(String, String)], usize> = HashMap::with_capacity(parts.len());
    let mut twins = HashMap::new();
    for (at, part) in parts.iter().enumerate() {
        let earlier = *first.entry(&part.labels).or_insert(at);
        if earlier != at {
            twins.insert(at, earlier);
        }
    }
    twins
}

impl<'a> Group<'a> {
    /// Takes over the columns of another object of the same name. One of another kind is dropped: two kinds under one
    /// name are a fault that `validate` reports, and no receiver would accept them.
    fn take(&mut self, other: &mut Self) -> bool {
        if discriminant(&self.family.kind) == discriminant(&other.family.kind) {
            self.members.append(&mut other.members);
            self.members.sort_by_key(|member| member.at);
        }
        true
    }

    /// Of equal samples from parts with equal labels the first wins: Prometheus refuses a scrape with duplicates.
    fn hide_doubles(&mut self, twins: &HashMap<usize, usize>) {
        if self.members.len() < 2 {
            return;
        }
        let mut shown: HashSet<(usize, Vec<&'a str>)> = HashSet::new();
        let mut owners: HashMap<usize, usize> = HashMap::new();
        for member in &self.members {
            *owners.entry(*twins.get(&member.at).unwrap_or(&member.at)).or_default() += 1;
        }
        for member in &mut self.members {
            let owner = *twins.get(&member.at).unwrap_or(&member.at);
            if owners.get(&owner).is_some_and(|columns| *columns > 1) {
                let column = member.column;
                member.hidden = (0..column.len())
                    .filter(|row| !shown.insert((owner, column.labels(*row).collect())))
                    .collect();
            }
        }
    }
}

impl<'a> Member<'a> {
    /// Whether a row is not to be shown.
    pub(crate) fn hides(&self, row: usize) -> bool {
        !self.hidden.is_empty() && self.hidden.binary_search(&row).is_ok()
    }

    /// The part's labels. One with the name of a family's own label is left out: a sample cannot have a label twice,
    /// and the family's own is what the documentation of the family speaks of.
    pub(crate) fn shared(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (shadowed, family) = (self.shadowed, self.column.family());
        let labels = self.part.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        labels.filter(move |(name, _)| !shadowed || family.labels.iter().all(|own| own != *name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Answer;
    use crate::family::{Labels, Unit};
    use std::sync::Arc;
    use std::time::SystemTime;

    fn family(kind: Kind) -> Arc<Family> {
        Arc::new(Family {
            name: "pool.size".into(),
            unit: Unit::None,
            kind,
            labels: Labels::Configured(vec!["pool".to_owned()]),
            help: "".into(),
            pushed: true,
            total: false,
            datadog_name: None,
        })
    }

    fn part(check: &str, samples: &[(&Arc<Family>, &str, f64)]) -> Arc<Part> {
        let mut answer = Answer::new();
        for (family, label, value) in samples {
            answer.set_configured(family, &[label], *value);
        }
        let labels = Arc::from([("check".to_owned(), check.to_owned())]);
        Arc::new(Part { labels, answer, from: None, until: None, counting_since: SystemTime::UNIX_EPOCH })
    }

    /// Check, own label and value of all rows shown, and the number of groups.
    fn shown(parts: Vec<Arc<Part>>) -> (Vec<(String, String, f64)>, usize) {
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let now = Instant::now();
        let snapshot = Snapshot { generation: 0, parts };
        let view = View::new(&snapshot, now, |_| true);
        let mut rows = Vec::new();
        for member in view.groups.iter().flat_map(|group| &group.members) {
            let Values::Numbers(numbers) = member.column.values() else { panic!("numbers") };
            for (row, value) in numbers.iter().enumerate().filter(|(row, _)| !member.hides(*row)) {
                let check = member.part.label("check").unwrap().to_owned();
                rows.push((check, member.column.labels(row).collect(), *value));
            }
        }
        (rows, view.groups.len())
    }

    fn row(check: &str, label: &str, value: f64) -> (String, String, f64) {
        (check.to_owned(), label.to_owned(), value)
    }

    #[test]
    fn families_of_equal_name_are_one_group_in_the_order_of_the_parts() {
        let (one, other) = (family(Kind::Gauge), family(Kind::Gauge));
        let parts = vec![
            part("a", &[(&one, "x", 1.0)]),
            part("b", &[(&other, "x", 2.0)]),
            part("c", &[(&one, "x", 3.0)]),
        ];
        assert_eq!(shown(parts), (vec![row("a", "x", 1.0), row("b", "x", 2.0), row("c", "x", 3.0)], 1));
    }

    #[test]
    fn of_equal_samples_the_first_is_shown() {
        let (one, other) = (family(Kind::Gauge), family(Kind::Gauge));
        let first = part("a", &[(&one, "x", 1.0), (&one, "y", 2.0), (&other, "y", 3.0)]);
        let second = part("a", &[(&other, "x", 4.0), (&other, "z", 5.0)]);
        let rows = vec![row("a", "x", 1.0), row("a", "y", 2.0), row("a", "z", 5.0)];
        assert_eq!(shown(vec![first, second]), (rows, 1));
    }

    #[test]
    fn a_second_kind_under_the_same_name_is_left_out() {
        // A gauge that is configured as `pool.size_total` meets the counter `pool.size`.
        let mut gauge = Family::clone(&family(Kind::Gauge));
        gauge.name = "pool.size_total".into();
        let counter = family(Kind::Counter(crate::Origin::Ours));
        let parts = vec![part("a", &[(&Arc::new(gauge), "x", 1.0)]), part("b", &[(&counter, "x", 2.0)])];
        assert_eq!(shown(parts), (vec![row("a", "x", 1.0)], 1));
    }
}
