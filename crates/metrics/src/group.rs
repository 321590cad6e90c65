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
