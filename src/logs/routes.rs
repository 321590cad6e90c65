//! Which route takes a log group, and what it does with its events.

use super::archive;
use super::elasticsearch::Outlet;
use super::read::Format;
use crate::config::secret::Reference;
use digest::postgres::{self, Prefix};
use std::collections::BTreeMap;

/// Routes in their order: the first that fits takes a log group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes(pub Vec<Route>);

/// What becomes of the events of some log groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Log groups that it takes; `*` stands for any text between two slashes.
    pub pattern: String,
    /// How the messages are written.
    pub parser: Parser,
    /// Labels of all its samples.
    pub labels: BTreeMap<String, String>,
    /// Where its lines are kept.
    pub archive: Option<archive::Archive>,
    /// Where documents of its events go.
    pub elasticsearch: Option<Outlet>,
    /// Whether texts may go out with their literals.
    pub raw_text: bool,
}

/// How messages are read.
#[derive(Clone, Debug, PartialEq)]
pub enum Parser {
    /// Slow query log of MySQL and its kin.
    MySqlSlow,
    /// Server log of PostgreSQL on standard error.
    Postgres(Prefix),
    /// Text that is kept and counted, not understood.
    Plain,
}

/// What the configuration says about logs, with what the scribe knows of it.
#[derive(Debug)]
pub struct Routing {
    /// Which route takes what.
    pub routes: Routes,
    /// One of them opens the doors; none: they are open.
    pub access_keys: Vec<Reference>,
    /// The scribe's number of each route's archive.
    pub archives: Vec<Option<usize>>,
}

impl Routing {
    /// Routes and keys; `numbers` are those of the archives, in their order.
    pub fn new(
        routes: Routes,
        access_keys: Vec<Reference>,
        numbers: impl IntoIterator<Item = usize>,
    ) -> Self {
        let mut numbers = numbers.into_iter();
        let archives = routes.0.iter().map(|route| route.archive.as_ref().and_then(|_| numbers.next()));
        Self { archives: archives.collect(), routes, access_keys }
    }
}

impl Parser {
    /// The format that its reader reads; `None` for plain text.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::MySqlSlow => Some(Format::MySqlSlow),
            Self::Postgres(prefix) => Some(Format::Postgres(postgres::Format::Stderr(prefix.clone()))),
            Self::Plain => None,
        }
    }
}

impl Route {
    /// The log group, when there can be only one.
    pub fn one_group(&self) -> Option<String> {
        (!self.pattern.contains('*')).then(|| self.pattern.clone())
    }
}

impl Routes {
    /// The route of a log group, with its number.
    pub fn of(&self, log_group: &str) -> Option<(usize, &Route)> {
        self.0.iter().enumerate().find(|(_, route)| fits(&route.pattern, log_group))
    }

    /// All archives, in the order of their routes.
    pub fn archives(&self) -> Vec<archive::Archive> {
        self.0.iter().filter_map(|route| route.archive.clone()).collect()
    }
}

/// Whether a pattern fits a whole name. `*` stands for any text without a slash, also for none.
pub fn fits(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut names) = (pattern.split('/'), name.split('/'));
    loop {
        match (patterns.next(), names.next()) {
            (None, None) => return true,
            (Some(pattern), Some(name)) if part_fits(pattern.as_bytes(), name.as_bytes()) => {}
            _ => return false,
        }
    }
}

/// Goes back to the last `*` only, so the time is at most the product of the two lengths.
fn part_fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at_pattern, mut at_name) = (0, 0);
    let mut star = None;
    while at_name < name.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                star = Some((at_pattern, at_name));
                at_pattern += 1;
            }
            Some(byte) if name.get(at_name) == Some(byte) => {
                (at_pattern, at_name) = (at_pattern + 1, at_name + 1);
            }
            _ => match &mut star {
                Some((behind, from)) => {
                    *from += 1;
                    (at_pattern, at_name) = (*behind + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern.get(at_pattern..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_between_two_slashes() {
        for (pattern, name, expected) in [
            ("/aws/rds/*/*/slowquery", "/aws/rds/instance/orders-1/slowquery", true),
            ("/aws/rds/*/*/slowquery", "/aws/rds/cluster/a/b/slowquery", false),
            ("/aws/rds/*/*/slowquery", "/aws/rds/instance/orders-1/slowquery/", false),
            ("app-*", "app-1", true),
            ("app-*", "app-", true),
            ("app-*", "app", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("*ab*ab*", "ababab", true),
            ("*ab*ab", "aba", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
