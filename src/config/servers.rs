//! The targets of the configuration, by name.

use super::fault::{Fault, Faults, suggest};
use super::node::Node;
use super::read::read;
use super::secret::Text;
use super::sections::mapping;
use super::target::{Server, Target};
use crate::{board, checks};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Labels that samples have anyway.
const RESERVED_LABELS: [&str; 6] = ["check", "target", "le", "quantile", "job", "instance"];

/// The targets by name.
pub(super) struct Servers<'a> {
    pub(super) base: &'a Path,
    /// `None`: it has faults of its own, so that its use is no further one.
    pub(super) known: BTreeMap<String, Option<Arc<Server>>>,
}

impl Servers<'_> {
    pub(super) fn read(&mut self, targets: &Node, faults: &mut Faults) {
        if targets.is_nothing() {
            return;
        }
        for entry in mapping(targets, "targets", faults).unwrap_or_default() {
            let name = entry.key.text().unwrap_or_default().to_owned();
            let path = format!("targets.{name}");
            if self.known.contains_key(&name) {
                faults.push(Fault::new(entry.key.place(), &path, "a target of this name was given before"));
                continue;
            }
            let server = self.target(&entry.value, &path, Some(&name), faults);
            self.known.insert(name, server);
        }
    }

    fn target(
        &self,
        node: &Node,
        path: &str,
        name: Option<&str>,
        faults: &mut Faults,
    ) -> Option<Arc<Server>> {
        let mut target: Target = read(node, path, faults)?;
        check_labels(&target.labels, node.get("labels"), &format!("{path}.labels"), faults);
        target.ca = target.ca.map(|ca| self.base.join(ca));
        let name = name.map_or_else(|| inline_name(&target), str::to_owned);
        Some(Arc::new(Server { name, target }))
    }

    pub(super) fn named(
        &self,
        name: &str,
        at: &Node,
        path: &str,
        faults: &mut Faults,
    ) -> Option<Arc<Server>> {
        if let Some(server) = self.known.get(name) {
            return server.clone();
        }
        let known: Vec<&str> = self.known.keys().map(String::as_str).collect();
        let near = suggest(name, known.iter().copied())
            .map(|near| format!("did you mean \"{near}\"? "))
            .unwrap_or_default();
        let hint = match known.as_slice() {
            [] => "there are no targets; add it under `targets:`".to_owned(),
            known => format!("{near}known: {}", known.join(", ")),
        };
        faults.push(Fault::new(at.place(), path, format!("there is no target \"{name}\"")).hint(hint));
        None
    }

    /// A server by its name, or written in place; with its name only in the first case.
    pub(super) fn server(
        &self,
        node: &Node,
        path: &str,
        faults: &mut Faults,
    ) -> Option<(Option<String>, Arc<Server>)> {
        match node.text() {
            Some(name) => Some((Some(name.to_owned()), self.named(name, node, path, faults)?)),
            None => Some((None, self.target(node, path, None, faults)?)),
        }
    }
}

fn inline_name(target: &Target) -> String {
    let host = match &target.host {
        Text::Plain(host) => host.clone(),
        Text::Kept(reference) => reference.to_string(),
    };
    target.port.map_or(host.clone(), |port| format!("{host}:{port}"))
}

/// Refuses names that are no label names, or that samples have anyway.
pub(super) fn check_labels(
    labels: &BTreeMap<String, String>,
    at: Option<&Node>,
    path: &str,
    faults: &mut Faults,
) {
    let families = board::families().into_iter().chain(checks::ALL.iter().flat_map(|kind| (kind.families)()));
    let own: BTreeSet<String> =
        families.flat_map(|family| family.labels.iter().map(str::to_owned).collect::<Vec<_>>()).collect();
    for name in labels.keys() {
        let first = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
        let rest = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        let message = if !first || !rest || name.starts_with("__") {
            "not a label name; letters, digits and underscores, not beginning with a digit or two underscores"
        } else if RESERVED_LABELS.contains(&name.as_str()) || own.contains(name) {
            "samples have this label already; take another name"
        } else {
            continue;
        };
        if let Some(at) = at {
            faults.push(Fault::new(at.place(), format!("{path}.{name}"), message));
        }
    }
}
