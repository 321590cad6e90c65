//! What came of each log group, for the page.

use super::intake::Intake;
use super::routes::Route;
use super::scribe::Totals;
use super::series::{Fate, SEPARATOR, Source};
use std::collections::{BTreeMap, BTreeSet};

/// Events of a log group since its ledger began: received = parsed + unparsed + duplicate + unrouted.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// All that came.
    pub received: u64,
    /// Part of an entry, or of a plain log.
    pub parsed: u64,
    /// The parser found no entry in them.
    pub unparsed: u64,
    /// Known already.
    pub duplicate: u64,
    /// No route takes the log group.
    pub unrouted: u64,
    /// Unix time in seconds of the newest event; absent before the first.
    pub last_event: Option<f64>,
}

/// All log groups that anything came from or is expected from, by name.
pub fn groups(intake: &Intake) -> Vec<Group> {
    let totals = intake.scribe().totals();
    let last: BTreeMap<String, f64> = intake.last_events().into_iter().collect();
    let routing = intake.routing();
    let expected = routing.routes.0.iter().filter_map(Route::one_group);
    let names: BTreeSet<String> = log_groups(&totals).chain(expected).chain(last.keys().cloned()).collect();
    let group = |name: String| {
        let count = |fate| events(&totals, &name, fate);
        Group {
            received: count(Fate::Received),
            parsed: count(Fate::Parsed),
            unparsed: count(Fate::Unparsed),
            duplicate: count(Fate::Duplicate),
            unrouted: count(Fate::Unrouted),
            last_event: last.get(&name).copied(),
            name,
        }
    };
    names.into_iter().map(group).collect()
}

/// The log groups that events came from.
fn log_groups(totals: &Totals) -> impl Iterator<Item = String> {
    let events = totals.keys().filter_map(|key| {
        let mut parts = key.split(SEPARATOR);
        (parts.next() == Some("events")).then(|| parts.next())?
    });
    events.map(str::to_owned)
}

/// Events of a log group that met a fate.
fn events(totals: &Totals, log_group: &str, fate: Fate) -> u64 {
    let source = Source { log_group: log_group.to_owned(), db_instance: String::new() };
    totals.get(&source.fate(fate).series).copied().unwrap_or_default()
}
