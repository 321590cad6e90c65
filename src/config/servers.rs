//! The targets of the configuration, by name.

use super::fault::{Fault, Faults, suggest};
use super::logins::Logins;
use super::node::{Node, parse};
use super::read::read_rest;
use super::secret::Text;
use super::sections::mapping;
use super::target::{Auth, Port, Server, Target};
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
    pub(super) fn read(&mut self, targets: &Node, logins: &Logins<'_>, faults: &mut Faults) {
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
            let sql = !logins.is_store(&name, &entry.value);
            let server = self.target(&entry.value, &path, Some(&name), sql, faults);
            self.known.insert(name, server);
        }
    }

    fn target(
        &self,
        node: &Node,
        path: &str,
        name: Option<&str>,
        sql: bool,
        faults: &mut Faults,
    ) -> Option<Arc<Server>> {
        let mut node = node.clone();
        let written = node.get("user").is_some();
        if let Some(from) = node.take("from") {
            Self::fill_from(&mut node, &from.value, path, faults)?;
        }
        let named = |name: &Node| name.refuse_reference(&format!("{path}.publisher"), faults);
        if node.get("publisher").is_some_and(named) {
            return None;
        }
        let target: Option<Target> = read_rest(&node, path, &["from"], faults);
        // Told also when other keys cannot be read: without `auth` it is needed whatever they say.
        let needed =
            target.as_ref().map_or(node.get("auth").is_none(), |target| !target.aws_names_the_user());
        let iam = node.get("auth").is_some();
        // One that is written wrong is told as such.
        let misspelt = node.entries().unwrap_or_default().iter().filter_map(|entry| entry.key.text());
        let misspelt =
            misspelt.filter(|key| *key != "database").any(|key| suggest(key, ["database"]).is_some());
        if sql && !misspelt && node.get("database").is_none_or(Node::is_nothing) {
            faults.push(Fault::new(node.place(), format!("{path}.database"), "missing key"));
        }
        if needed && (sql || iam) && node.get("user").is_none_or(Node::is_nothing) {
            faults.push(Fault::new(node.place(), format!("{path}.user"), "missing key"));
        }
        let mut target = target?;
        if !written && !needed {
            target.user = None;
        }
        if target.auth == Some(Auth::Iam) && target.cluster().is_none() {
            let at = node.get("auth").unwrap_or(&node).place();
            let hint = "write `cluster: {rds: name}`, `{redshift: name}`, `{redshift_serverless: workgroup}`, `{elasticache: group}`, `{elasticache_serverless: cache}` or `{memorydb: name}`";
            faults.push(
                Fault::new(at, format!("{path}.auth"), "the host name does not tell which cluster this is")
                    .hint(hint),
            );
        }
        if target.auth == Some(Auth::Iam) && target.password.is_some() {
            let at = node.get("password").unwrap_or(&node).place();
            faults.push(Fault::new(
                at,
                format!("{path}.password"),
                "there is `auth: iam` as well; write one of the two",
            ));
        }
        check_labels(&target.labels, node.get("labels"), &format!("{path}.labels"), faults);
        target.ca = target.ca.map(|ca| self.base.join(ca));
        let name = name.map_or_else(|| inline_name(&target), str::to_owned);
        Some(Arc::new(Server { name, target }))
    }

    /// Puts a reference in the place of each key that is not written: a whole target is kept elsewhere.
    fn fill_from(node: &mut Node, from: &Node, path: &str, faults: &mut Faults) -> Option<()> {
        let text = from.text().unwrap_or_default();
        // Keys here, and what they are called there.
        let (scheme, keys) = if let Some(path) =
            text.strip_prefix("ssm-path:").filter(|path| path.starts_with('/'))
        {
            let path = format!("ssm:{}/", path.trim_end_matches('/'));
            (path, ["hostname", "port", "username", "password", "dbname"])
        } else if let Some(name) =
            text.strip_prefix("secretsmanager:").filter(|name| !name.is_empty() && !name.contains('#'))
        {
            (format!("secretsmanager:{name}#"), ["host", "port", "username", "password", "dbname"])
        } else {
            let hint = "write \"ssm-path:/path/\" or \"secretsmanager:name\"";
            faults.push(
                Fault::new(from.place(), format!("{path}.from"), "not a source of a whole target").hint(hint),
            );
            return None;
        };
        let iam = node.get("auth").is_some();
        let mut lines = String::new();
        for (key, leaf) in ["host", "port", "user", "password", "database"].into_iter().zip(keys) {
            if !(iam && key == "password") {
                lines.push_str(&format!("{key}: {}\n", serde_json::Value::from(format!("{scheme}{leaf}"))));
            }
        }
        let others = parse(&from.place().file, &lines, faults)?;
        node.fill(&others);
        Some(())
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
        if at.refuse_reference(path, faults) {
            return None;
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
        sql: bool,
        faults: &mut Faults,
    ) -> Option<(Option<String>, Arc<Server>)> {
        match node.text() {
            Some(name) => Some((Some(name.to_owned()), self.named(name, node, path, faults)?)),
            None => Some((None, self.target(node, path, None, sql, faults)?)),
        }
    }
}

fn inline_name(target: &Target) -> String {
    let host = match &target.host {
        Text::Plain(host) => host.clone(),
        Text::Kept(reference) => reference.to_string(),
    };
    match &target.port {
        Some(Port::Plain(port)) => format!("{host}:{port}"),
        _ => host,
    }
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
