//! Names of metrics from the configuration: none may mean two things.

use super::envelope::Envelope;
use super::fault::{Fault, Faults};
use super::node::Node;
use crate::logs::report;
use crate::{board, checks, vitals};
use metrics::{Handle, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// The families of the checks read so far, by every name that a receiver knows them by.
pub(super) struct Families {
    built: BTreeMap<String, Handle>,
    configured: BTreeMap<String, (Handle, String)>,
}

impl Families {
    pub(super) fn new() -> Self {
        let all = vitals::families().into_iter().chain(board::families()).chain(report::families());
        let all = all.chain(checks::ALL.iter().flat_map(|kind| (kind.families)()));
        Self { built: all.map(|family| (family.prometheus(), family)).collect(), configured: BTreeMap::new() }
    }

    /// Adds the families of a check; refuses one that another check means otherwise, or that is built in.
    pub(super) fn add(
        &mut self,
        config: &checks::Config,
        check: &Envelope,
        labels: &BTreeSet<&str>,
        letter: &Node,
        path: &str,
        faults: &mut Faults,
    ) {
        for family in config.families() {
            let Handle::Configured(_) = &family else { continue };
            let metrics = letter.get("metrics").and_then(Node::items).unwrap_or_default();
            let at = metrics
                .iter()
                .find_map(|metric| metric.get("name").filter(|name| name.value() == Some(&family.name)));
            let at = at.unwrap_or(letter).place();
            let name = family.prometheus();
            let path = format!("{path}.metrics");
            for label in family.labels.iter().filter(|label| labels.contains(label)) {
                let message = format!("{name} has a label {label} from a column, and `labels` has one too");
                faults.push(
                    Fault::new(at, &path, message)
                        .hint("one sample cannot have it twice: take another name for one of them"),
                );
            }
            if self.built.contains_key(&name) {
                let message = format!("{name} is a metric of datapulse itself");
                faults.push(
                    Fault::new(at, path, message)
                        .hint("take another name; `datapulse catalogue` has all of them"),
                );
                continue;
            }
            // OTLP, DogStatsD and OpenMetrics know it by its dotted name or without `_total`; a histogram takes further names.
            let mut taken = vec![name.clone(), family.prometheus_stem(), family.name.to_string()];
            taken.extend(family.datadog_name.clone());
            if family.kind == Kind::Histogram {
                taken.extend(["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")));
            }
            let known = taken.iter().filter_map(|name| self.configured.get(name));
            let other =
                known.filter(|(known, _)| !same(known, &family)).map(|(_, check)| check.clone()).next();
            for name in taken {
                self.configured.entry(name).or_insert_with(|| (family.clone(), check.name.clone()));
            }
            if let Some(other) = other {
                let message = format!("{name} of the check {other} has another kind, unit, help or spelling");
                faults.push(
                    Fault::new(at, path, message)
                        .hint("one name has one meaning: write the same in both, or another name"),
                );
            }
        }
    }
}

/// Whether two families mean the same.
fn same(one: &Handle, other: &Handle) -> bool {
    one.kind == other.kind
        && one.unit == other.unit
        && one.help == other.help
        && one.name == other.name
        && one.datadog_name == other.datadog_name
}
