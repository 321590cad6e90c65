//! `pg_subscription`: logical replication seen from the subscriber, with the publisher's slots when `publisher:` is set.
//!
//! A role without any grant can read all of it: `pg_stat_subscription`, `pg_stat_subscription_stats`, `pg_subscription_rel`,
//! `pg_locks` and the granted columns of `pg_subscription`. `subconninfo` holds a password and is never read.

#[cfg(test)]
mod tests;

use crate::check::{Check, Context, End, Endpoint, Need, Outcome, Problem, Reason};
use crate::config::target::Role;
use crate::net::Clients;
use crate::net::catalog::Catalog;
use crate::net::postgres::{Link, Row, Table};
use jiff::Timestamp;
use metrics::{Answer, Handle, Metric, Unit};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

const OF: [&str; 2] = ["datname", "subname"];

static EXISTS: Metric<2> = Metric::gauge(
    "pg.subscription.exists",
    Unit::None,
    &OF,
    "1 for a subscription in pg_subscription, 0 for one of `expect` that is not there",
);
static ENABLED: Metric<2> =
    Metric::gauge("pg.subscription.enabled", Unit::None, &OF, "pg_subscription.subenabled");
static WORKER_UP: Metric<2> = Metric::gauge(
    "pg.subscription.worker_up",
    Unit::None,
    &OF,
    "1 when pg_stat_subscription shows a process for the leader apply worker, else 0; absent on a replica",
);
static WORKER_RESTARTS: Metric<2> = Metric::counter(
    "pg.subscription.worker_restarts",
    Unit::None,
    &OF,
    "Changes of the leader apply worker's process seen between runs",
);
static LOCK_WAIT: Metric<2> = Metric::gauge(
    "pg.subscription.worker_lock_wait",
    Unit::Seconds,
    &OF,
    "How long the apply worker, or one of its parallel workers, has been waiting for a lock of another session (pg_locks.waitstart, from 14 on); 0 while it waits for none",
);
static RECEIVER_TIMEOUT: Metric<2> = Metric::gauge(
    "pg.subscription.wal_receiver_timeout",
    Unit::Seconds,
    &OF,
    "wal_receiver_timeout of the subscriber; 0: a dead connection to the publisher is never noticed",
);
static INFO: Metric<4> = Metric::gauge(
    "pg.subscription.info",
    Unit::None,
    &["datname", "subname", "slot_name", "disable_on_error"],
    "Facts from pg_subscription; disable_on_error is empty before 15",
);
static SEND_AGE: Metric<2> = Metric::gauge(
    "pg.stat_subscription.last_msg_send_age",
    Unit::Seconds,
    &OF,
    "Time since pg_stat_subscription.last_msg_send_time, by the subscriber's clock; climbs to about 30 s on an idle publisher",
);
static RECEIPT_AGE: Metric<2> = Metric::gauge(
    "pg.stat_subscription.last_msg_receipt_age",
    Unit::Seconds,
    &OF,
    "Time since pg_stat_subscription.last_msg_receipt_time, by the subscriber's clock",
);
static LATEST_END_AGE: Metric<2> = Metric::gauge(
    "pg.stat_subscription.latest_end_age",
    Unit::Seconds,
    &OF,
    "Time since pg_stat_subscription.latest_end_time, by the subscriber's clock; grows while a big transaction is applied",
);
static TRANSIT: Metric<2> = Metric::gauge(
    "pg.stat_subscription.msg_transit",
    Unit::Seconds,
    &OF,
    "last_msg_receipt_time - last_msg_send_time: the way of a message, with the difference of the two clocks",
);
static RECEIVED_LSN: Metric<2> = Metric::gauge(
    "pg.stat_subscription.received_lsn",
    Unit::Bytes,
    &OF,
    "pg_stat_subscription.received_lsn as a byte position",
)
.not_pushed();
static LATEST_END_LSN: Metric<2> = Metric::gauge(
    "pg.stat_subscription.latest_end_lsn",
    Unit::Bytes,
    &OF,
    "pg_stat_subscription.latest_end_lsn as a byte position",
)
.not_pushed();
static APPLY_ERRORS: Metric<2> = Metric::source_counter(
    "pg.stat_subscription.apply_errors",
    Unit::None,
    &OF,
    "pg_stat_subscription_stats.apply_error_count, from 15 on; a lost connection to the publisher counts too",
);
static SYNC_ERRORS: Metric<2> = Metric::source_counter(
    "pg.stat_subscription.sync_errors",
    Unit::None,
    &OF,
    "pg_stat_subscription_stats.sync_error_count, from 15 on",
);
static CONFLICTS: Metric<3> = Metric::source_counter(
    "pg.stat_subscription.conflicts",
    Unit::None,
    &["datname", "subname", "conflict"],
    "pg_stat_subscription_stats.confl_*, from 18 on",
);
static WORKERS: Metric<3> = Metric::gauge(
    "pg.stat_subscription.workers",
    Unit::None,
    &["datname", "subname", "worker_type"],
    "Live worker processes in pg_stat_subscription: apply, parallel apply (from 16 on), table synchronization; absent on a replica",
);
static TABLES: Metric<3> = Metric::gauge(
    "pg.subscription_rel.tables",
    Unit::None,
    &["datname", "subname", "state"],
    "Tables in pg_subscription_rel by srsubstate: i init, d data copy, f finished copy, s synchronized, r ready; connected database only",
);
static LAG: Metric<2> = Metric::gauge(
    "pg.subscription.lag",
    Unit::Bytes,
    &OF,
    "Publisher's current WAL position - confirmed_flush_lsn of the subscription's slot; there also while the subscription is disabled",
);
static SLOT_EXISTS: Metric<3> = Metric::gauge(
    "pg.subscription.slot_exists",
    Unit::None,
    &["datname", "subname", "slot_name"],
    "1 when the publisher's pg_replication_slots has the subscription's slot, else 0; a replica that has none says nothing",
);
/// `pg_replication_is_replica`, shared with `pg_replication`.
pub static IS_REPLICA: Metric<1> =
    Metric::gauge("pg.replication.is_replica", Unit::None, &["endpoint"], "pg_is_in_recovery() of this end");
/// `datapulse_target_clock_offset_seconds`, shared with `pg_replication`.
pub static CLOCK_OFFSET: Metric<1> = Metric::gauge(
    "datapulse.target.clock_offset",
    Unit::Seconds,
    &["endpoint"],
    "The server's clock_timestamp() - our clock at the middle of the question",
);

const VIEWS: [&str; 4] =
    ["pg_stat_subscription", "pg_stat_subscription_stats", "pg_subscription", "pg_locks"];
const WORKER_TYPES: [&str; 3] = ["apply", "parallel apply", "table synchronization"];
const TABLE_STATES: [&str; 5] = ["i", "d", "f", "s", "r"];

/// The keys of `pg_subscription`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Subscriptions that must exist: `pg_subscription_exists` is 0 when the cluster has none of that name.
    pub expect: Vec<String>,
    /// Look at these subscriptions only; all of the cluster when empty. Name them when they come from several publishers.
    pub subscriptions: Vec<String>,
    /// `writer` makes a replica a failure with reason `wrong_role`.
    pub role: Role,
}

/// The check.
pub struct PgSubscription {
    config: Config,
    subscriber: Link,
    publisher: Option<Link>,
    writer: [bool; 2],
    question: Option<Question>,
    memory: BTreeMap<Id, Remembered>,
    learned: Vec<(Endpoint, String)>,
}

/// A subscription of the cluster: `datname`, `subname`.
type Id = (String, String);

/// What a subscription was at the last run: slots are looked up by it while the subscriber is away.
#[derive(Clone, Debug, Default, PartialEq)]
struct Remembered {
    slot: Option<String>,
    worker: Option<String>,
    restarts: u32,
}

/// The statements that this server understands.
struct Question {
    session: u64,
    sql: String,
    catalog: Catalog,
}

/// A row of `pg_subscription` with its leader worker and its counters.
#[derive(Clone, Debug, Default, PartialEq)]
struct Subscription {
    enabled: Option<bool>,
    slot: Option<String>,
    disable_on_error: Option<bool>,
    worker: Option<String>,
    lock_wait: Option<f64>,
    send_age: Option<f64>,
    receipt_age: Option<f64>,
    latest_end_age: Option<f64>,
    transit: Option<f64>,
    received_lsn: Option<f64>,
    latest_end_lsn: Option<f64>,
    apply_errors: Option<f64>,
    sync_errors: Option<f64>,
    conflicts: Vec<(String, f64)>,
}

/// What the subscriber said.
#[derive(Clone, Debug, Default, PartialEq)]
struct Subscriber {
    server: Server,
    database: String,
    receiver_timeout: Option<f64>,
    parallel: bool,
    subscriptions: BTreeMap<Id, Subscription>,
    workers: BTreeMap<(Id, &'static str), u32>,
    tables: BTreeMap<(String, String), f64>,
}

/// What every PostgreSQL server says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Server {
    /// In recovery: a standby, or a reader of Aurora.
    pub replica: bool,
    /// Its clock less ours, in seconds.
    pub clock_offset: Option<f64>,
}

/// A logical slot of the publisher: how far what it confirmed is behind; `None` on a replica.
type Slots = BTreeMap<String, Option<f64>>;

impl Check for PgSubscription {
    type Config = Config;
    const WORD: &'static str = "pg_subscription";
    const EVERY: Option<Duration> = Some(Duration::from_secs(30));
    const ENDS: &'static [Endpoint] = &[Endpoint::Subscriber, Endpoint::Publisher];
    const NEEDS: &'static [Need] = &[
        Need {
            endpoint: Endpoint::Subscriber,
            grant: "CONNECT",
            purpose: "everything on the subscriber; no other grant is needed",
            statement: "GRANT CONNECT ON DATABASE {database} TO {user}",
        },
        Need {
            endpoint: Endpoint::Publisher,
            grant: "CONNECT",
            purpose: "pg_replication_slots on the publisher; no other grant is needed",
            statement: "GRANT CONNECT ON DATABASE {database} TO {user}",
        },
    ];

    fn families(_: &Config) -> Vec<Handle> {
        vec![
            EXISTS.handle(),
            ENABLED.handle(),
            WORKER_UP.handle(),
            WORKER_RESTARTS.handle(),
            LOCK_WAIT.handle(),
            RECEIVER_TIMEOUT.handle(),
            INFO.handle(),
            SEND_AGE.handle(),
            RECEIPT_AGE.handle(),
            LATEST_END_AGE.handle(),
            TRANSIT.handle(),
            RECEIVED_LSN.handle(),
            LATEST_END_LSN.handle(),
            APPLY_ERRORS.handle(),
            SYNC_ERRORS.handle(),
            CONFLICTS.handle(),
            WORKERS.handle(),
            TABLES.handle(),
            LAG.handle(),
            SLOT_EXISTS.handle(),
            IS_REPLICA.handle(),
            CLOCK_OFFSET.handle(),
        ]
    }

    fn new(config: &Config, clients: &Clients) -> Self {
        let link = |server: &std::sync::Arc<_>| {
            Link::new(std::sync::Arc::clone(server), std::sync::Arc::clone(&clients.vault), clients.timeout)
        };
        let wants_writer = |role: Role| role == Role::Writer;
        Self {
            writer: [
                wants_writer(config.role) || wants_writer(clients.target.target.role),
                clients.publisher.as_ref().is_some_and(|publisher| wants_writer(publisher.target.role)),
            ],
            config: config.clone(),
            subscriber: link(&clients.target),
            publisher: clients.publisher.as_ref().map(link),
            question: None,
            memory: BTreeMap::new(),
            learned: Vec::new(),
        }
    }

    async fn run(&mut self, context: Context) -> Outcome {
        self.learned.clear();
        let deadline = context.deadline;
        let (subscriber, publisher) = tokio::join!(
            ask_subscriber(&mut self.subscriber, &mut self.question, self.writer[0], deadline),
            ask_publisher(self.publisher.as_mut(), self.writer[1], deadline),
        );
        let mut ends = Vec::with_capacity(2);
        let mut notes = Vec::new();
        let result = subscriber.map(|mut found| {
            notes = std::mem::take(&mut found.1);
            self.keep_to_config(&mut found.0);
            self.remember(&found.0);
            tell_subscriber(&found.0, &self.memory, &self.config.expect)
        });
        ends.push(End { endpoint: Endpoint::Subscriber, result, notes });
        if let Some(result) = publisher {
            let result = result.map(|(server, slots)| tell_publisher(&server, &slots, &self.memory));
            ends.push(End { endpoint: Endpoint::Publisher, result, notes: Vec::new() });
        }
        self.learn();
        Outcome { ends }
    }

    async fn give_up(&mut self) -> Result<(), Problem> {
        let (subscriber, publisher) = tokio::join!(self.subscriber.give_up(), async {
            match &mut self.publisher {
                Some(link) => link.give_up().await,
                None => Ok(()),
            }
        });
        subscriber.and(publisher)
    }

    fn learned(&self) -> Vec<(Endpoint, String)> {
        self.learned.clone()
    }
}

impl PgSubscription {
    fn keep_to_config(&self, found: &mut Subscriber) {
        let wanted: BTreeSet<&str> = self.config.subscriptions.iter().map(String::as_str).collect();
        if !wanted.is_empty() {
            found.subscriptions.retain(|(_, subname), _| wanted.contains(subname.as_str()));
            found.workers.retain(|((_, subname), _), _| wanted.contains(subname.as_str()));
            found.tables.retain(|(subname, _), _| wanted.contains(subname.as_str()));
        }
    }

    /// Takes over which slots there are, and counts new worker processes.
    fn remember(&mut self, found: &Subscriber) {
        self.memory.retain(|id, _| found.subscriptions.contains_key(id));
        for (id, subscription) in &found.subscriptions {
            let known = self.memory.entry(id.clone()).or_default();
            known.slot.clone_from(&subscription.slot);
            if let Some(worker) = &subscription.worker {
                if known.worker.as_ref().is_some_and(|before| before != worker) {
                    known.restarts += 1;
                }
                known.worker = Some(worker.clone());
            }
        }
    }

    fn learn(&mut self) {
        if let Some(question) = &self.question {
            for view in ["pg_stat_subscription", "pg_stat_subscription_stats"] {
                let words = question.catalog.words(view);
                let words = if words.is_empty() { "not on this server".to_owned() } else { words };
                self.learned.push((Endpoint::Subscriber, format!("{view}: {words}")));
            }
        }
        let ends =
            [(Endpoint::Subscriber, Some(&self.subscriber)), (Endpoint::Publisher, self.publisher.as_ref())];
        for (endpoint, link) in ends {
            if let Some(session) = link.and_then(Link::known) {
                self.learned.push((endpoint, session.to_string()));
            }
        }
    }
}

// ask

async fn ask_subscriber(
    link: &mut Link,
    question: &mut Option<Question>,
    writer: bool,
    deadline: Instant,
) -> Result<(Subscriber, Vec<Problem>), Problem> {
    let session = link.session(deadline).await?.number;
    if question.as_ref().is_none_or(|question| question.session != session) {
        *question = None;
        let catalog = Catalog::read(link, &VIEWS, deadline).await?;
        *question = Some(Question { session: catalog.session, sql: subscriber_sql(&catalog), catalog });
    }
    let Some(Question { sql, catalog, .. }) = question else {
        return Err(Problem::new(
            Reason::Protocol,
            format!("the session on {} was lost while its columns were read", link.name()),
        ));
    };
    let (began, name) = (Timestamp::now(), link.name().to_owned());
    let tables = link.ask(sql, deadline).await?;
    let parallel = catalog.has("pg_stat_subscription", "leader_pid");
    let (found, notes) = read_subscriber(&tables, parallel, middle(began), &name)?;
    right_role(&found.server, writer, &name)?;
    Ok((found, notes))
}

async fn ask_publisher(
    link: Option<&mut Link>,
    writer: bool,
    deadline: Instant,
) -> Option<Result<(Server, Slots), Problem>> {
    // pg_current_wal_lsn() is an error in recovery; it is volatile, so CASE keeps it from being called there.
    const SQL: &str = "select pg_is_in_recovery() as in_recovery, extract(epoch from clock_timestamp()) as clock; \
        select slot_name, case when not pg_is_in_recovery() then pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) end as lag \
        from pg_catalog.pg_replication_slots where slot_type = 'logical' and not temporary";
    let link = link?;
    let began = Timestamp::now();
    let answer = link.ask(SQL, deadline).await;
    Some(answer.and_then(|tables| {
        let found = read_publisher(&tables, middle(began), link.name())?;
        right_role(&found.0, writer, link.name())?;
        Ok(found)
    }))
}

/// Our clock, in seconds, at the middle of a question that began then and has just ended.
pub fn middle(began: Timestamp) -> f64 {
    let seconds = |moment: Timestamp| moment.as_microsecond() as f64 / 1e6;
    f64::midpoint(seconds(began), seconds(Timestamp::now()))
}

/// Refuses a reader where the writer is wanted.
pub fn right_role(server: &Server, writer: bool, name: &str) -> Result<(), Problem> {
    if writer && server.replica {
        return Err(Problem::new(
            Reason::WrongRole,
            format!("{name} is in recovery, but the writer is wanted"),
        )
        .hint("point the target at the writer (cluster) endpoint, or leave out `role: writer`"));
    }
    Ok(())
}

/// The statements for the subscriber, from the columns that it has. A missing column is read as NULL.
fn subscriber_sql(catalog: &Catalog) -> String {
    let stat = |column: &str, expression: &str| catalog.pick("pg_stat_subscription", column, expression);
    let leader_pid = stat("leader_pid", "v.leader_pid");
    // Live workers, with the database of their subscription. Where pg_subscription.oid cannot be read (13, no superuser)
    // the database comes from the worker's process.
    let workers = if catalog.has("pg_subscription", "oid") {
        "pg_catalog.pg_stat_subscription v join pg_catalog.pg_subscription s on s.oid = v.subid join pg_catalog.pg_database d on d.oid = s.subdbid"
    } else {
        "pg_catalog.pg_stat_subscription v join pg_catalog.pg_stat_activity d on d.pid = v.pid"
    };
    // From 16 on a leader and its parallel workers wait for each other by locks of their own kind: that is work, nobody blocks it.
    let (waits, wait) = if catalog.has("pg_locks", "waitstart") {
        (
            ", waits as (select pid, max(extract(epoch from clock_timestamp() - coalesce(waitstart, clock_timestamp()))) as seconds \
             from pg_catalog.pg_locks where not granted and locktype <> 'applytransaction' group by pid)",
            "case when w.pid is not null then coalesce((select max(waits.seconds) from waits join workers p on p.pid = waits.pid \
             where p.pid = w.pid or p.leader = w.pid), 0) end",
        )
    } else {
        ("", "null")
    };
    let (stats, counters) = counters(catalog);
    let disable = catalog.pick("pg_subscription", "subdisableonerr", "s.subdisableonerr");
    format!(
        "select pg_is_in_recovery() as in_recovery, extract(epoch from clock_timestamp()) as clock, current_database() as database, \
         extract(epoch from current_setting('wal_receiver_timeout')::interval) as receiver_timeout; \
         with workers as materialized (select d.datname, v.*, ({leader_pid})::int as leader from {workers} where v.pid is not null){waits} \
         select d.datname, s.subname, s.subenabled, s.subslotname, {disable} as disable_on_error, w.pid, {wait} as lock_wait, \
         extract(epoch from clock_timestamp() - w.last_msg_send_time) as send_age, \
         extract(epoch from clock_timestamp() - w.last_msg_receipt_time) as receipt_age, \
         extract(epoch from clock_timestamp() - w.latest_end_time) as latest_end_age, \
         extract(epoch from w.last_msg_receipt_time - w.last_msg_send_time) as transit, \
         w.received_lsn - '0/0'::pg_lsn as received_lsn, w.latest_end_lsn - '0/0'::pg_lsn as latest_end_lsn{counters} \
         from pg_catalog.pg_subscription s join pg_catalog.pg_database d on d.oid = s.subdbid{stats} \
         left join workers w on w.datname = d.datname and w.subname = s.subname and w.relid is null and w.leader is null \
         order by 1, 2; \
         select d.datname, v.subname, case when v.relid is not null then 'table synchronization' \
         when {leader_pid} is not null then 'parallel apply' else 'apply' end as worker_type \
         from {workers} where v.pid is not null; \
         select v.subname, r.srsubstate::text as state, count(*) as tables from pg_catalog.pg_subscription_rel r \
         join (select distinct subid, subname from pg_catalog.pg_stat_subscription) v on v.subid = r.srsubid group by 1, 2 order by 1, 2"
    )
}

/// The join to `pg_stat_subscription_stats` and its columns, as far as the server has them.
fn counters(catalog: &Catalog) -> (&'static str, String) {
    const STATS: &str = "pg_stat_subscription_stats";
    if !catalog.has(STATS, "apply_error_count") || !catalog.has("pg_subscription", "oid") {
        return ("", ", null as apply_errors, null as sync_errors".to_owned());
    }
    // 19 splits sync_error_count in one for tables and one for sequences.
    let sync = if catalog.has(STATS, "sync_table_error_count") {
        "t.sync_table_error_count + t.sync_seq_error_count"
    } else {
        "t.sync_error_count"
    };
    let mut columns = format!(", t.apply_error_count as apply_errors, {sync} as sync_errors");
    for conflict in catalog.beginning(STATS, "confl_") {
        columns.push_str(&format!(", t.confl_{conflict}"));
    }
    (" left join pg_catalog.pg_stat_subscription_stats t on t.subid = s.oid", columns)
}

// read

fn read_subscriber(
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
            Err(problem) => notes.push(problem),
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

fn read_publisher(tables: &[Table], ours: f64, name: &str) -> Result<(Server, Slots), Problem> {
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

/// Reads `in_recovery` and `clock` from the one row of the first table.
pub fn read_server<'a>(facts: &'a Table, ours: f64, name: &str) -> Result<(Server, Row<'a>), Problem> {
    let row = facts
        .rows()
        .next()
        .ok_or_else(|| Problem::new(Reason::Empty, format!("{name} said nothing of itself")))?;
    let replica = row.flag("in_recovery")?.unwrap_or_default();
    let clock_offset = row.number("clock")?.map(|theirs| theirs - ours);
    Ok((Server { replica, clock_offset }, row))
}

/// The problem of an answer that does not have a table for each statement.
pub fn wrong_tables(count: usize, name: &str) -> Problem {
    Problem::new(
        Reason::Protocol,
        format!("{name} answered with {count} tables instead of one for each statement"),
    )
}

// tell

fn tell_subscriber(found: &Subscriber, memory: &BTreeMap<Id, Remembered>, expect: &[String]) -> Answer {
    let mut answer = Answer::new();
    tell_server(&mut answer, Endpoint::Subscriber, &found.server);
    for (id, subscription) in &found.subscriptions {
        let of = [id.0.as_str(), id.1.as_str()];
        answer.set(&EXISTS, of, 1.0);
        answer.set_some(&ENABLED, of, subscription.enabled.map(number));
        let disable_on_error =
            subscription.disable_on_error.map_or("", |on| if on { "true" } else { "false" });
        answer.set(&INFO, [of[0], of[1], subscription.slot.as_deref().unwrap_or(""), disable_on_error], 1.0);
        answer.set_some(&RECEIVER_TIMEOUT, of, found.receiver_timeout);
        // No worker runs on a replica, and what it counts is not replicated: its 0 is not the writer's.
        if found.server.replica {
            continue;
        }
        tell_worker(&mut answer, of, subscription);
        if let Some(known) = memory.get(id) {
            answer.set(&WORKER_RESTARTS, of, f64::from(known.restarts));
        }
        for kind in WORKER_TYPES.iter().filter(|kind| found.parallel || **kind != "parallel apply") {
            let count = found.workers.get(&(id.clone(), *kind)).copied().unwrap_or_default();
            answer.set(&WORKERS, [of[0], of[1], kind], f64::from(count));
        }
    }
    tell_tables(&mut answer, found);
    for subname in expect {
        if !found.subscriptions.keys().any(|(_, known)| known == subname) {
            answer.set(&EXISTS, [&found.database, subname], 0.0);
        }
    }
    answer
}

fn tell_worker(answer: &mut Answer, of: [&str; 2], subscription: &Subscription) {
    answer.set(&WORKER_UP, of, number(subscription.worker.is_some()));
    answer.set_some(&LOCK_WAIT, of, subscription.lock_wait);
    answer.set_some(&SEND_AGE, of, subscription.send_age);
    answer.set_some(&RECEIPT_AGE, of, subscription.receipt_age);
    answer.set_some(&LATEST_END_AGE, of, subscription.latest_end_age);
    answer.set_some(&TRANSIT, of, subscription.transit);
    answer.set_some(&RECEIVED_LSN, of, subscription.received_lsn);
    answer.set_some(&LATEST_END_LSN, of, subscription.latest_end_lsn);
    answer.set_some(&APPLY_ERRORS, of, subscription.apply_errors);
    answer.set_some(&SYNC_ERRORS, of, subscription.sync_errors);
    for (conflict, count) in &subscription.conflicts {
        answer.set(&CONFLICTS, [of[0], of[1], conflict], *count);
    }
}

/// Tables by state; a count of rows, so a state without a row is a true 0. Only the connected database can be read.
fn tell_tables(answer: &mut Answer, found: &Subscriber) {
    for (datname, subname) in found.subscriptions.keys().filter(|(datname, _)| *datname == found.database) {
        for state in TABLE_STATES {
            let count = found.tables.get(&(subname.clone(), state.to_owned())).copied().unwrap_or_default();
            answer.set(&TABLES, [datname, subname, state], count);
        }
    }
}

fn tell_publisher(server: &Server, slots: &Slots, memory: &BTreeMap<Id, Remembered>) -> Answer {
    let mut answer = Answer::new();
    tell_server(&mut answer, Endpoint::Publisher, server);
    for ((datname, subname), known) in memory {
        let Some(slot) = &known.slot else { continue };
        let found = slots.get(slot);
        // A replica need not have the writer's slots: that one is not there says nothing.
        if found.is_some() || !server.replica {
            answer.set(&SLOT_EXISTS, [datname, subname, slot], number(found.is_some()));
        }
        answer.set_some(&LAG, [datname, subname], found.copied().flatten());
    }
    answer
}

/// Role and clock of a server.
pub fn tell_server(answer: &mut Answer, endpoint: Endpoint, server: &Server) {
    answer.set(&IS_REPLICA, [endpoint.as_str()], number(server.replica));
    answer.set_some(&CLOCK_OFFSET, [endpoint.as_str()], server.clock_offset);
}

fn number(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}
