//! `pg_replication`: the publisher's side alone, its replication slots and WAL senders.
//!
//! Slots can be read without a grant. The lags of WAL senders that belong to another role need `pg_monitor`.

mod families;
#[cfg(test)]
mod tests;

use super::pg_subscription::server::{
    CLOCK_OFFSET, IS_REPLICA, Server, middle, read_server, right_role, tell_server, wrong_tables,
};
use crate::check::headline::Headline;
use crate::check::{Check, Context, End, Endpoint, Need, Outcome, Problem, Reason};
use crate::config::target::Role;
use crate::net::Clients;
use crate::net::catalog::Catalog;
use crate::net::postgres::Link;
use crate::net::table::{Row, Table};
use families::{
    ACTIVE, FAILOVER, FLUSH_LAG, INACTIVE_SINCE, INVALIDATED, REPLAY_LAG, RETAINED, SAFE_WAL_SIZE,
    SENDER_FLUSH_LAG, SYNCED, TRANSIENT, WAL_STATUS, WRITE_LAG,
};
use jiff::Timestamp;
use metrics::{Answer, Handle, Metric};
use schemars::JsonSchema;
use serde::Deserialize;
use std::borrow::Cow;
use std::time::Duration;
use tokio::time::Instant;

const WAL_STATES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];
const VIEW: &str = "pg_replication_slots";

/// The keys of `pg_replication`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `writer` makes a replica a failure with reason `wrong_role`.
    pub role: Role,
}

/// The check.
pub struct PgReplication {
    link: Link,
    writer: bool,
    question: Option<Question>,
    learned: Vec<(Endpoint, String)>,
}

/// The statements that this server understands.
struct Question {
    session: u64,
    sql: String,
    catalog: Catalog,
    reasons: Vec<&'static str>,
}

/// What the publisher said.
#[derive(Clone, Debug, Default, PartialEq)]
struct Publisher {
    server: Server,
    transient: f64,
    slots: Vec<Slot>,
    senders: Vec<Sender>,
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Slot {
    name: String,
    kind: String,
    datname: String,
    active: Option<bool>,
    retained: Option<f64>,
    flush_lag: Option<f64>,
    safe_wal_size: Option<f64>,
    inactive_since: Option<f64>,
    wal_status: Option<String>,
    invalidated: Option<String>,
    synced: Option<bool>,
    failover: Option<bool>,
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sender {
    application_name: String,
    client_addr: String,
    write_lag: Option<f64>,
    flush_lag: Option<f64>,
    replay_lag: Option<f64>,
}

impl Check for PgReplication {
    type Config = Config;
    const WORD: &'static str = "pg_replication";
    const EVERY: Option<Duration> = Some(Duration::from_secs(30));
    const ENDS: &'static [Endpoint] = &[Endpoint::Publisher];
    const HEADLINES: &'static [Headline] = &[
        Headline::highest("pg_replication_slots_retained_bytes", "retained WAL"),
        Headline::highest("pg_replication_slots_confirmed_flush_lag_bytes", "lag"),
    ];
    const NEEDS: &'static [Need] = &[
        Need {
            endpoint: Endpoint::Publisher,
            grant: "CONNECT",
            purpose: "pg_replication_slots; no other grant is needed for slots",
            statement: "GRANT CONNECT ON DATABASE {database} TO {user}",
        },
        Need {
            endpoint: Endpoint::Publisher,
            grant: "pg_monitor",
            purpose: "the lags in pg_stat_replication; without it they are absent and every run counts a failure with reason permission",
            statement: "GRANT pg_monitor TO {user}",
        },
    ];

    fn families(_: &Config) -> Vec<Handle> {
        vec![
            ACTIVE.handle(),
            RETAINED.handle(),
            FLUSH_LAG.handle(),
            SAFE_WAL_SIZE.handle(),
            INACTIVE_SINCE.handle(),
            WAL_STATUS.handle(),
            INVALIDATED.handle(),
            SYNCED.handle(),
            FAILOVER.handle(),
            TRANSIENT.handle(),
            WRITE_LAG.handle(),
            SENDER_FLUSH_LAG.handle(),
            REPLAY_LAG.handle(),
            IS_REPLICA.handle(),
            CLOCK_OFFSET.handle(),
        ]
    }

    fn new(config: &Config, clients: &Clients) -> Self {
        Self {
            link: clients.link(),
            writer: config.role == Role::Writer || clients.target.target.role == Role::Writer,
            question: None,
            learned: Vec::new(),
        }
    }

    async fn run(&mut self, context: Context) -> Outcome {
        self.learned.clear();
        let mut notes = Vec::new();
        let result = ask(&mut self.link, &mut self.question, self.writer, context.deadline).await.map(
            |(found, wrong)| {
                notes = wrong;
                let reasons = self.question.as_ref().map_or(&[][..], |question| &question.reasons);
                tell(&found, reasons)
            },
        );
        if let Some(question) = &self.question {
            self.learned.push((
                Endpoint::Publisher,
                format!("{VIEW}: {}", question.catalog.used(VIEW, &question.sql)),
            ));
        }
        if let Some(session) = self.link.known() {
            self.learned.push((Endpoint::Publisher, session.to_string()));
        }
        Outcome { ends: vec![End { notes, ..End::new(Endpoint::Publisher, result) }] }
    }

    async fn give_up(&mut self) -> Result<(), Problem> {
        self.link.give_up().await
    }

    async fn rest(&mut self) {
        self.link.rest().await;
    }

    fn questions(&self) -> Vec<(Endpoint, Cow<'_, str>)> {
        self.question.iter().map(|question| (Endpoint::Publisher, question.sql.as_str().into())).collect()
    }

    fn learned(&self) -> Vec<(Endpoint, String)> {
        self.learned.clone()
    }
}

// ask

async fn ask(
    link: &mut Link,
    question: &mut Option<Question>,
    writer: bool,
    deadline: Instant,
) -> Result<(Publisher, Vec<Problem>), Problem> {
    let session = link.session(deadline).await?.number;
    if question.as_ref().is_none_or(|question| question.session != session) {
        *question = None;
        let catalog = Catalog::read(link, &[VIEW], deadline).await?;
        let reasons = reasons(&catalog, link.session(deadline).await?.version_num);
        *question = Some(Question { session: catalog.session, sql: sql(&catalog), catalog, reasons });
    }
    let Some(Question { sql, .. }) = question else {
        return Err(Problem::new(
            Reason::Protocol,
            format!("the session on {} was lost while its columns were read", link.name()),
        ));
    };
    let began = Timestamp::now();
    let tables = link.ask(sql, deadline).await?;
    let found = read(&tables, middle(began), link.name())?;
    right_role(&found.0.server, writer, link.name())?;
    Ok(found)
}

/// The reasons that this server can give for an invalidated slot.
fn reasons(catalog: &Catalog, version: u32) -> Vec<&'static str> {
    match (catalog.has(VIEW, "invalidation_reason"), catalog.has(VIEW, "conflicting")) {
        (true, _) if version >= 180_000 => {
            vec!["wal_removed", "rows_removed", "wal_level_insufficient", "idle_timeout"]
        }
        (true, _) => vec!["wal_removed", "rows_removed", "wal_level_insufficient"],
        (false, true) => vec!["conflicting"],
        (false, false) => Vec::new(),
    }
}

fn sql(catalog: &Catalog) -> String {
    let invalidated = if catalog.has(VIEW, "invalidation_reason") {
        "s.invalidation_reason"
    } else if catalog.has(VIEW, "conflicting") {
        "case when s.conflicting then 'conflicting' end"
    } else {
        "null"
    };
    let pick = |column: &str, expression: &str| catalog.pick(VIEW, column, expression);
    // Slots of table synchronization workers are named pg_<subscription>_sync_<table>_<system> from 14 on; before, they are
    // temporary, and named <subscription>_<id>_sync_<table>. Their workers log in under the same names.
    let transient = r"s.temporary or s.slot_name ~ '^pg_[0-9]+_sync_[0-9]+_[0-9]+$'";
    format!(
        "select pg_is_in_recovery() as in_recovery, extract(epoch from clock_timestamp()) as clock, \
         (select count(*) from pg_catalog.pg_replication_slots s where {transient}) as transient; \
         with here as (select case when not pg_is_in_recovery() then pg_current_wal_lsn() end as lsn) \
         select s.slot_name, s.slot_type, coalesce(s.database, '') as datname, s.active, s.wal_status, \
         pg_wal_lsn_diff(here.lsn, s.restart_lsn) as retained, pg_wal_lsn_diff(here.lsn, s.confirmed_flush_lsn) as flush_lag, \
         s.safe_wal_size, {} as inactive_since, {invalidated} as invalidated, {} as synced, {} as failover \
         from pg_catalog.pg_replication_slots s, here where not ({transient}) order by 1; \
         select coalesce(application_name, '') as application_name, coalesce(host(client_addr), '') as client_addr, state, \
         extract(epoch from write_lag) as write_lag, extract(epoch from flush_lag) as flush_lag, extract(epoch from replay_lag) as replay_lag \
         from pg_catalog.pg_stat_replication where application_name !~ '_[0-9]+_sync_[0-9]+(_[0-9]+)?$' order by replay_lag desc nulls last, pid",
        pick("inactive_since", "extract(epoch from s.inactive_since)"),
        pick("synced", "s.synced"),
        pick("failover", "s.failover"),
    )
}

// read

fn read(tables: &[Table], ours: f64, name: &str) -> Result<(Publisher, Vec<Problem>), Problem> {
    let [facts, slots, senders] = tables else { return Err(wrong_tables(tables.len(), name)) };
    let (server, row) = read_server(facts, ours, name)?;
    let transient = row
        .number("transient")?
        .ok_or_else(|| Problem::new(Reason::Decode, format!("{name} did not count its transient slots")))?;
    let mut found = Publisher { server, transient, ..Publisher::default() };
    let mut notes = Vec::new();
    for row in slots.rows() {
        match read_slot(&row) {
            Ok(slot) => found.slots.push(slot),
            Err(problem) => notes.push(problem),
        }
    }
    let mut hidden = 0;
    for row in senders.rows() {
        // Without pg_monitor the rows of other roles are there, but empty: blind looks like idle.
        if row.text("state")?.is_none() {
            hidden += 1;
            continue;
        }
        match read_sender(&row) {
            Ok(sender) => found.senders.push(sender),
            Err(problem) => notes.push(problem),
        }
    }
    if hidden > 0 {
        notes.push(
            Problem::new(
                Reason::Permission,
                format!("{hidden} rows of pg_stat_replication on {name} are hidden from this role"),
            )
            .hint("grant pg_monitor to it"),
        );
    }
    Ok((found, notes))
}

fn read_slot(row: &Row<'_>) -> Result<Slot, Problem> {
    let text = |column: &str| row.text(column).map(|text| text.unwrap_or_default().to_owned());
    Ok(Slot {
        name: text("slot_name")?,
        kind: text("slot_type")?,
        datname: text("datname")?,
        active: row.flag("active")?,
        retained: row.number("retained")?,
        flush_lag: row.number("flush_lag")?,
        safe_wal_size: row.number("safe_wal_size")?,
        inactive_since: row.number("inactive_since")?,
        wal_status: row.text("wal_status")?.map(str::to_owned),
        invalidated: row.text("invalidated")?.map(str::to_owned),
        synced: row.flag("synced")?,
        failover: row.flag("failover")?,
    })
}

fn read_sender(row: &Row<'_>) -> Result<Sender, Problem> {
    let text = |column: &str| row.text(column).map(|text| text.unwrap_or_default().to_owned());
    Ok(Sender {
        application_name: text("application_name")?,
        client_addr: text("client_addr")?,
        write_lag: row.number("write_lag")?,
        flush_lag: row.number("flush_lag")?,
        replay_lag: row.number("replay_lag")?,
    })
}

// tell

fn tell(found: &Publisher, reasons: &[&'static str]) -> Answer {
    let mut answer = Answer::new();
    tell_server(&mut answer, Endpoint::Publisher, &found.server);
    answer.set(&TRANSIENT, [], found.transient);
    for slot in &found.slots {
        tell_slot(&mut answer, slot, reasons);
    }
    for sender in &found.senders {
        let of = [sender.application_name.as_str(), sender.client_addr.as_str()];
        answer.set_some(&WRITE_LAG, of, sender.write_lag);
        answer.set_some(&SENDER_FLUSH_LAG, of, sender.flush_lag);
        answer.set_some(&REPLAY_LAG, of, sender.replay_lag);
    }
    answer
}

fn tell_slot(answer: &mut Answer, slot: &Slot, reasons: &[&'static str]) {
    let of = [slot.name.as_str(), slot.kind.as_str(), slot.datname.as_str()];
    let flag = |flag: Option<bool>| flag.map(|flag| f64::from(u8::from(flag)));
    answer.set_some(&ACTIVE, of, flag(slot.active));
    answer.set_some(&RETAINED, of, slot.retained);
    answer.set_some(&FLUSH_LAG, of, slot.flush_lag);
    answer.set_some(&SAFE_WAL_SIZE, of, slot.safe_wal_size);
    answer.set_some(&INACTIVE_SINCE, of, slot.inactive_since);
    answer.set_some(&SYNCED, of, flag(slot.synced));
    answer.set_some(&FAILOVER, of, flag(slot.failover));
    if let Some(status) = &slot.wal_status {
        one_of(answer, &WAL_STATUS, of, &WAL_STATES, Some(status));
    }
    one_of(answer, &INVALIDATED, of, reasons, slot.invalidated.as_deref());
}

/// One series for each known word: 1 for the one that holds, 0 for the others. A word that we do not know yet gets its 1 as well.
fn one_of(
    answer: &mut Answer,
    metric: &'static Metric<4>,
    of: [&str; 3],
    known: &[&str],
    holds: Option<&str>,
) {
    for word in known {
        answer.set(metric, [of[0], of[1], of[2], word], f64::from(u8::from(holds == Some(*word))));
    }
    if let Some(word) = holds.filter(|word| !known.contains(word)) {
        answer.set(metric, [of[0], of[1], of[2], word], 1.0);
    }
}
