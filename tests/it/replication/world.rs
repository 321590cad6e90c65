//! A pair of clusters with a replication between them, and what the situations do to it.

use super::probe::{Probe, Seen};
use super::table;
use crate::stage::{PASSWORD, Pair, eventually, server};
use datapulse::checks::pg_subscription::{Config, PgSubscription};
use datapulse::config::target::Server;
use datapulse::demo::parts::{Cluster, Feed};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// The subscription that most situations are about: database and name.
pub(crate) const OF: [&str; 2] = ["one", "orders_sub"];
/// A role that may log in and nothing else.
pub(crate) const BARE: &str = "bare";
/// Such a role for a second check at the same time.
pub(crate) const BARE_TOO: &str = "bare_too";
/// A superuser.
pub(crate) const BOSS: &str = "boss";
/// A role with `pg_monitor`.
pub(crate) const MONITOR: &str = "monitor";
/// Fails, and is then seen in the feed's log, when a role has more than one session of datapulse.
const WATCH: &str = "select 1 / case when max(n) > 1 then 0 else 1 end from (select count(*) as n from pg_stat_activity \
    where application_name = 'datapulse' group by usename) c";

/// Everything that a situation plays with.
pub(crate) struct World {
    pub(crate) major: u32,
    /// The place and the name of the situation that is played.
    pub(crate) situation: (usize, &'static str),
    pub(crate) probe: Probe<PgSubscription>,
    watchers: [Feed; 2],
    pub(crate) pair: Pair,
}

/// A session that holds something until it is dropped.
pub(crate) struct Holder<'a> {
    cluster: &'a Cluster,
    child: Child,
}

impl World {
    /// Starts the pair, with `orders_sub` at work in database `one`.
    pub(crate) fn start(major: u32) -> Self {
        let pair = Pair::start(major, "replication");
        prepare(&pair);
        let watchers = [(&pair.publisher, "publisher-watch"), (&pair.subscriber, "subscriber-watch")].map(
            |(cluster, name)| {
                let every = Duration::from_millis(100);
                Feed::start(cluster, "postgres", pair.stage.path(), name, WATCH, every).unwrap()
            },
        );
        let (target, publisher) = Self::ends(&pair, BARE);
        let config = Config { expect: vec![OF[1].to_owned(), "missing_sub".to_owned()], ..Config::default() };
        let probe = Probe::new(config, target, Some(publisher));
        let world = Self { major, situation: (0, ""), probe, watchers, pair };
        world.subscribe("one", OF[1], "p", OF[1]);
        world
    }

    /// Both ends as targets, for this role.
    pub(crate) fn ends(pair: &Pair, role: &str) -> (Arc<Server>, Arc<Server>) {
        (server(pair.subscriber.port(), role, "one", &[]), server(pair.publisher.port(), role, "one", &[]))
    }

    /// [`subscribe`] on this pair.
    pub(crate) fn subscribe(&self, database: &str, name: &str, publication: &str, slot: &str) {
        subscribe(&self.pair, database, name, publication, slot);
    }

    /// Runs the check until `orders_sub` is at work and has caught up.
    pub(crate) fn well(&mut self) -> Seen {
        let Self { probe, pair, .. } = self;
        probe.until("orders_sub is at work", |seen| {
            let spoken = of(seen, "pg_stat_subscription_last_msg_receipt_age_seconds").is_some();
            if !spoken && seen.failed.is_empty() {
                // A publisher that writes nothing may have nothing to say to a new worker until the first keepalive, 30 s later.
                let nudge = "select pg_logical_emit_message(false, 'nudge', '')";
                pair.publisher.sql("one", nudge).unwrap();
            }
            spoken
                && seen.failed.is_empty()
                && of(seen, "pg_subscription_worker_up") == Some(1.0)
                && of(seen, "pg_subscription_lag_bytes").is_some_and(|lag| lag < 10_000.0)
                && seen.value("pg_subscription_rel_tables", &["one", "orders_sub", "r"]) == Some(2.0)
        })
    }

    /// Sets a setting of a cluster, or takes it back.
    pub(crate) fn set(cluster: &Cluster, name: &str, value: Option<&str>) {
        let change = value.map_or(format!("reset {name}"), |value| format!("set {name} = '{value}'"));
        cluster.sql("postgres", &format!("alter system {change}")).unwrap();
        cluster.reload().unwrap();
    }

    /// Runs SQL in database `one` of the publisher.
    pub(crate) fn publish(&self, sql: &str) {
        self.pair.publisher.sql("one", sql).unwrap();
    }

    /// Runs SQL in database `one` of the subscriber.
    pub(crate) fn subscriber(&self, sql: &str) -> String {
        self.pair.subscriber.sql("one", sql).unwrap()
    }

    /// Notes what was seen of a subscription in this situation.
    pub(crate) fn note(&self, seen: &Seen, of: [&str; 2]) {
        table::note(self.situation, self.major, seen, of);
    }

    /// At no time had a role more than one session at one end; and the watchers would have seen a second one.
    pub(crate) fn assert_one_session(&self) {
        let read = |feed: &Feed| std::fs::read_to_string(feed.log()).unwrap_or_default();
        for watcher in &self.watchers {
            let log = read(watcher);
            assert!(
                !log.contains("division by zero"),
                "two sessions at once, see {}",
                watcher.log().display()
            );
        }
        for (watcher, cluster) in self.watchers.iter().zip([&self.pair.publisher, &self.pair.subscriber]) {
            let _two = [1, 2].map(|_| Holder::start(cluster, "postgres", "datapulse", "select pg_sleep(60)"));
            eventually("the watcher sees a second session", || {
                read(watcher).contains("division by zero").then_some(())
            });
        }
    }
}

impl<'a> Holder<'a> {
    /// Runs statements in one transaction, the last of which lasts.
    pub(crate) fn start(cluster: &'a Cluster, database: &str, name: &str, sql: &str) -> Self {
        let mut psql: Command = cluster.psql(database, name);
        psql.args(["--command", sql]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { cluster, child: psql.spawn().unwrap() }
    }

    /// A session that has locked a table.
    pub(crate) fn lock(cluster: &'a Cluster, table: &str) -> Self {
        let sql = format!("lock table {table} in access exclusive mode; select pg_sleep(120)");
        let holder = Self::start(cluster, "one", "holder", &sql);
        holder.wait_for("mode = 'AccessExclusiveLock'");
        holder
    }

    /// A session that holds advisory lock 42.
    pub(crate) fn advisory(cluster: &'a Cluster) -> Self {
        let holder = Self::start(cluster, "one", "holder", "select pg_advisory_lock(42), pg_sleep(120)");
        holder.wait_for("locktype = 'advisory'");
        holder
    }

    fn wait_for(&self, lock: &str) {
        let sql = format!(
            "select count(*) from pg_locks join pg_stat_activity using (pid) where application_name = 'holder' and granted and {lock}"
        );
        eventually("the lock is held", || (self.cluster.sql("one", &sql).unwrap() != "0").then_some(()));
    }
}

impl Drop for Holder<'_> {
    fn drop(&mut self) {
        // The server notices the end of psql only when it has something to say to it.
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name in ('holder', 'datapulse') \
            and backend_type = 'client backend' and usename = 'postgres'";
        self.cluster.sql("postgres", end).ok();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Roles, databases, tables and publications, without a subscription.
pub(crate) fn prepare(pair: &Pair) {
    for cluster in [&pair.publisher, &pair.subscriber] {
        let roles = format!(
            "create role {BARE} login password '{PASSWORD}'; create role {BARE_TOO} login password '{PASSWORD}';
             create role {MONITOR} login password '{PASSWORD}'; grant pg_monitor to {MONITOR};
             create role {BOSS} superuser login password '{PASSWORD}';
             create role feeder login replication password '{PASSWORD}';
             create database one; create database two;"
        );
        cluster.sql("postgres", &roles).unwrap();
        let tables = "create table t (id int primary key); create table u (id int primary key);
            create table big (id int primary key, filler text);
            create table a (id int primary key); create table b (id int primary key); create table c (id int primary key);";
        cluster.sql("one", tables).unwrap();
        cluster.sql("two", "create table t (id int primary key)").unwrap();
    }
    let publications =
        "grant select on all tables in schema public to feeder; create publication p for table t, big;
        create publication more for table u; create publication abc for table a, b, c;";
    pair.publisher.sql("one", publications).unwrap();
    pair.publisher.sql("two", "grant select on t to feeder; create publication p for table t").unwrap();
    // Each row of a big transaction takes its time, as it does on a busy subscriber.
    let slow = "create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.01); return new; end';
        create trigger slow before insert on big for each row execute function slow();
        alter table big enable always trigger slow;";
    pair.subscriber.sql("one", slow).unwrap();
}

/// `create subscription` in `database`, from the publisher's database of that name.
pub(crate) fn subscribe(pair: &Pair, database: &str, name: &str, publication: &str, slot: &str) {
    // 18 streams in parallel by itself; the situations say when they want it.
    let streaming = if pair.subscriber.binaries().major >= 14 { ", streaming = off" } else { "" };
    let sql = format!(
        "create subscription {name} connection 'host=127.0.0.1 port={} user=feeder password={PASSWORD} dbname={database}' \
         publication {publication} with (slot_name = '{slot}'{streaming})",
        pair.publisher.port()
    );
    pair.subscriber.sql(database, &sql).unwrap();
}

/// The value of a family for `orders_sub`.
pub(crate) fn of(seen: &Seen, family: &str) -> Option<f64> {
    seen.value(family, &OF)
}
