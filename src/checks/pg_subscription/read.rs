//! From rows to what they say. A row that cannot be read becomes a note, and the others stay.

use super::server::{Server, read_server, wrong_tables};
use crate::check::{Problem, Reason};
use crate::net::table::{Row, Table};
use std::collections::BTreeMap;

/// The words for workers.
pub(super) const WORKER_TYPES: [&str; 3] = ["apply", "parallel apply", "table synchronization"];

/// A subscription of the cluster: `datname`, `subname`.
pub(super) type Id = (String, String);

/// A row of `pg_subscription` with its leader worker and its counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Subscription {
    pub(super) enabled: Option<bool>,
    pub(super) slot: Option<String>,
    pub(super) disable_on_error: Option<bool>,
    pub(super) worker: Option<String>,
    pub(super) lock_wait: Option<f64>,
    pub(super) send_age: Option<f64>,
    pub(super) receipt_age: Option<f64>,
    pub(super) latest_end_age: Option<f64>,
    pub(super) transit: Option<f64>,
    pub(super) received_lsn: Option<f64>,
    pub(super) latest_end_lsn: Option<f64>,
    pub(super) apply_errors: Option<f64>,
    pub(super) sync_errors: Option<f64>,
    pub(super) conflicts: Vec<(String, f64)>,
}

/// What the subscriber said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Subscriber {
    pub(super) server: Server,
    pub(super) database: String,
    pub(super) receiver_timeout: Option<f64>,
    pub(super) parallel: bool,
    pub(super) subscriptions: BTreeMap<Id, Subscription>,
    /// There are more than these: a row could not be read.
    pub(super) unread: bool,
    /// Expected, and not there.
    pub(super) missing: Vec<String>,
    pub(super) workers: BTreeMap<(Id, &'static str), u32>,
    pub(super) tables: BTreeMap<(String, String), f64>,
}

/// A logical slot of the publisher: how far what it confirmed is behind; `None` on a replica.
pub(super) type Slots = BTreeMap<String, Option<f64>>;

pub(super) fn read_subscriber(
    tables: &[Table],
    parallel: bool,
    ours: f64,
    name: &str,
) -> Result<(Subscriber, Vec<Problem>), Problem> {
    let [facts, subscriptions, workers, rels] = tables else { return Err(wrong_tables(tables.len(), name)) };
    let (server, facts) = read_server(facts, ours, name)?;
    let mut found = Subscriber {
        server,
        database: facts.text("database")?.unwrap_or_default().to_owned(),
        receiver_timeout: facts.number("receiver_timeout")?,
        parallel,
        ..Subscriber::default()
    };
    let mut notes = Vec::new();
    let columns = subscriptions.columns().iter().map(String::as_str);
    let conflicts: Vec<&str> = columns.filter(|column| column.starts_with("confl_")).collect();
    for row in subscriptions.rows() {
        match read_subscription(&row, &conflicts) {
            Ok((id, subscription)) => drop(found.subscriptions.insert(id, subscription)),
            Err(problem) => {
                found.unread = true;
                notes.push(problem);
            }
        }
    }
    for row in workers.rows() {
        let (Some(datname), Some(subname)) = (row.text("datname")?, row.text("subname")?) else { continue };
        let kind = row.text("worker_type")?;
        if let Some(kind) = WORKER_TYPES.iter().find(|known| Some(**known) == kind) {
            *found.workers.entry(((datname.to_owned(), subname.to_owned()), *kind)).or_default() += 1;
        }
    }
    for row in rels.rows() {
        if let (Some(subname), Some(state), Some(count)) =
            (row.text("subname")?, row.text("state")?, row.number("tables")?)
        {
            found.tables.insert((subname.to_owned(), state.to_owned()), count);
        }
    }
    Ok((found, notes))
}

fn read_subscription(row: &Row<'_>, conflicts: &[&str]) -> Result<(Id, Subscription), Problem> {
    let (Some(datname), Some(subname)) = (row.text("datname")?, row.text("subname")?) else {
        return Err(Problem::new(Reason::Decode, "a row of pg_subscription has no name"));
    };
    let mut counted = Vec::with_capacity(conflicts.len());
    for column in conflicts {
        if let Some(count) = row.number(column)? {
            counted.push((column.trim_start_matches("confl_").to_owned(), count));
        }
    }
    let subscription = Subscription {
        enabled: row.flag("subenabled")?,
        slot: row.text("subslotname")?.map(str::to_owned),
        disable_on_error: row.flag("disable_on_error")?,
        worker: row.text("pid")?.map(str::to_owned),
        lock_wait: row.number("lock_wait")?,
        send_age: row.number("send_age")?,
        receipt_age: row.number("receipt_age")?,
        latest_end_age: row.number("latest_end_age")?,
        transit: row.number("transit")?,
        received_lsn: row.number("received_lsn")?,
        latest_end_lsn: row.number("latest_end_lsn")?,
        apply_errors: row.number("apply_errors")?,
        sync_errors: row.number("sync_errors")?,
        conflicts: counted,
    };
    Ok(((datname.to_owned(), subname.to_owned()), subscription))
}

pub(super) fn read_publisher(tables: &[Table], ours: f64, name: &str) -> Result<(Server, Slots), Problem> {
    let [facts, slots] = tables else { return Err(wrong_tables(tables.len(), name)) };
    let (server, _) = read_server(facts, ours, name)?;
    let mut found = Slots::new();
    for row in slots.rows() {
        if let Some(slot) = row.text("slot_name")? {
            found.insert(slot.to_owned(), row.number("lag")?);
        }
    }
    Ok((server, found))
}
