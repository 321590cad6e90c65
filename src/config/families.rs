//! Names of metrics from the configuration: none may mean two things.

use super::fault::{Fault, Faults};
use super::node::Node;
use crate::{board, checks, vitals};
use metrics::Handle;
use std::collections::BTreeMap;

/// The families of the checks read so far, by their name in Prometheus.
pub(super) struct Families {
    built: BTreeMap<String, Handle>,
    configured: BTreeMap<String, (Handle, String)>,
}

impl Families {
    pub(super) fn new() -> Self {
        let all = vitals::families().into_iter().chain(board::families());
        let all = all.chain(checks::ALL.iter().flat_map(|kind| (kind.families)()));
        Self { built: all.map(|family| (family.prometheus(), family)).collect(), configured: BTreeMap::new() }
    }

    /// Adds the families of a check; refuses one that another check means otherwise, or that is built in.
    pub(super) fn add(
        &mut self,
        config: &checks::Config,
        check: &str,
        letter: &Node,
        path: &str,
        faults: &mut Faults,
    ) {
        for family in config.families() {
            let Handle::Configured(_) = &family else { continue };
            let metrics = letter.get("metrics").and_then(Node::items).unwrap_or_default();
            let at = metrics
                .iter()
                .find_map(|metric| metric.get("name").filter(|name| name.text() == Some(&family.name)));
            let at = at.unwrap_or(letter).place();
            let name = family.prometheus();
            let path = format!("{path}.metrics");
            if self.built.contains_key(&name) {
                let message = format!("{name} is a metric of datapulse itself");
                faults.push(
                    Fault::new(at, path, message)
                        .hint("take another name; `datapulse catalogue` has all of them"),
                );
                continue;
            }
            let (known, other) =
                self.configured.entry(name.clone()).or_insert_with(|| (family.clone(), check.to_owned()));
            let same = known.kind == family.kind
                && known.unit == family.unit
                && known.help == family.help
                && known.name == family.name
                && known.datadog_name == family.datadog_name;
            if !same {
                let message = format!("{name} of the check {other} has another kind, unit, help or spelling");
                faults.push(
                    Fault::new(at, path, message)
                        .hint("one name has one meaning: write the same in both, or another name"),
                );
            }
        }
    }
}
