//! `pg_inflight`: what runs, waits and idles in transactions on a PostgreSQL server, from `pg_stat_activity`.
//!
//! Rows of other roles are hidden without `pg_monitor` (or `pg_read_all_stats`), which looks like an idle server: that is told.

mod families;
#[cfg(test)]
mod tests;

use crate::check::headline::Headline;
use crate::check::{Check, Context, End, Endpoint, Listing, Need, Outcome, Problem, Reason};
use crate::config::scalar::Interval;
use crate::net::Clients;
use crate::net::postgres::{Link, PAUSED};
use crate::net::table::{Row, Table};
use digest::{Dialect, mask};
use families::{BLOCKED, ELAPSED, OLDEST, QUERIES, TRANSACTION_AGE, WAITING};
use jiff::{SignedDuration, Timestamp};
use metrics::{Answer, Handle};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

/// `pg_blocking_pids` takes the lock manager's locks, so it is asked only about who waits for a lock.
const SQL: &str = "select a.pid, a.usename, a.datname, a.state, a.backend_type, a.wait_event_type, a.wait_event, a.query, \
     a.usesysid is not null and a.backend_type is null as hidden, \
     extract(epoch from case when a.state like 'idle in transaction%' then a.state_change else a.query_start end) as since, \
     extract(epoch from clock_timestamp()) as clock, extract(epoch from a.xact_start) as transaction, \
     case when a.wait_event_type = 'Lock' then array_to_string(pg_catalog.pg_blocking_pids(a.pid), ' ') end as blockers \
     from pg_catalog.pg_stat_activity a where a.pid <> pg_catalog.pg_backend_pid() and a.usesysid is not null \
     and (a.backend_type is null or a.backend_type = 'client backend') and a.state is distinct from 'idle'";
/// The columns of the rows for people.
const COLUMNS: [&str; 9] =
    ["pid", "user", "database", "state", "elapsed_minutes", "started", "waits_for", "blocked_by", "text"];

/// The keys of `pg_inflight`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// From this age on a query has a series and a row of its own.
    pub min_elapsed: Interval,
    /// Time zone in which people are told when a query began, such as `Asia/Tokyo`.
    pub time_zone: super::redshift_inflight::Zone,
    /// Show literals of statements on the page, in `once` and in the evidence. They are masked otherwise.
    pub raw_text: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_elapsed: Interval::seconds(60),
            time_zone: super::redshift_inflight::Zone::default(),
            raw_text: false,
        }
    }
}

/// The check.
pub struct PgInflight {
    link: Link,
    config: Config,
    limit: usize,
}

/// A client backend that is not idle.
#[derive(Clone, Debug, Default, PartialEq)]
struct Backend {
    pid: String,
    user: String,
    datname: String,
    state: String,
    /// Unix seconds: when the statement began, or since when it idles in its transaction.
    since: Option<f64>,
    elapsed: Option<f64>,
    transaction: Option<f64>,
    wait: Option<(String, String)>,
    blockers: Option<String>,
    text: String,
}

impl Check for PgInflight {
    type Config = Config;
    const WORD: &'static str = "pg_inflight";
    const EVERY: Option<Duration> = Some(Duration::from_secs(30));
    const ENDS: &'static [Endpoint] = &[Endpoint::Own];
    const HEADLINES: &'static [Headline] = &[
        Headline::highest("pg_inflight_oldest_seconds", "oldest query"),
        Headline::sum("pg_inflight_queries", "queries"),
    ];
    const NEEDS: &'static [Need] = &[
        Need {
            endpoint: Endpoint::Own,
            grant: "CONNECT",
            purpose: "the login, and the login role's own queries",
            statement: "GRANT CONNECT ON DATABASE {database} TO {user}",
        },
        Need {
            endpoint: Endpoint::Own,
            grant: "pg_monitor",
            purpose: "the queries of all other roles; without it every run that meets one counts a failure with reason permission",
            statement: "GRANT pg_monitor TO {user}",
        },
    ];

    fn families(_: &Config) -> Vec<Handle> {
        vec![
            ELAPSED.handle(),
            QUERIES.handle(),
            OLDEST.handle(),
            TRANSACTION_AGE.handle(),
            BLOCKED.handle(),
            WAITING.handle(),
            PAUSED.handle(),
        ]
    }

    fn new(config: &Config, clients: &Clients) -> Self {
        Self { link: clients.link(), config: config.clone(), limit: clients.limit }
    }

    async fn run(&mut self, context: Context) -> Outcome {
        let mut end = End::new(Endpoint::Own, Ok(Answer::new()));
        match self.link.awake(context.deadline, &mut end.facts).await {
            Ok(true) => {}
            Ok(false) => return Outcome { ends: vec![end] },
            Err(problem) => return Outcome::single(Err(problem)),
        }
        end.result = self.link.ask(SQL, context.deadline).await.and_then(|tables| {
            let (backends, notes) = read(&tables, self.link.name())?;
            end.notes = notes;
            end.rows = Some(self.listing(&backends));
            Ok(tell(&backends, self.config.min_elapsed.duration()))
        });
        Outcome { ends: vec![end] }
    }

    async fn give_up(&mut self) -> Result<(), Problem> {
        self.link.give_up().await
    }

    async fn rest(&mut self) {
        self.link.rest().await;
    }

    fn questions(&self) -> Vec<(Endpoint, Cow<'_, str>)> {
        vec![(Endpoint::Own, SQL.into())]
    }

    fn learned(&self) -> Vec<(Endpoint, String)> {
        self.link.known().map(|session| (Endpoint::Own, session.to_string())).into_iter().collect()
    }
}

// read

fn read(tables: &[Table], name: &str) -> Result<(Vec<Backend>, Vec<Problem>), Problem> {
    let [table] = tables else {
        return Err(Problem::new(
            Reason::Protocol,
            format!("{name} gave {} results for one question", tables.len()),
        ));
    };
    let (mut backends, mut notes, mut hidden) = (Vec::new(), Vec::new(), 0);
    for row in table.rows() {
        if row.flag("hidden")? == Some(true) {
            hidden += 1;
            continue;
        }
        match read_backend(&row) {
            Ok(backend) => backends.push(backend),
            Err(problem) => notes.push(problem),
        }
    }
    // The longest first: what is cut beyond the limit are the shortest.
    backends.sort_by(|a, b| {
        b.elapsed.partial_cmp(&a.elapsed).unwrap_or(std::cmp::Ordering::Equal).then_with(|| a.pid.cmp(&b.pid))
    });
    if hidden > 0 {
        let what = format!("{hidden} rows of pg_stat_activity on {name} are hidden from this role");
        notes.push(Problem::new(Reason::Permission, what).hint("grant pg_monitor to it"));
    }
    Ok((backends, notes))
}

fn read_backend(row: &Row<'_>) -> Result<Backend, Problem> {
    let text = |column: &str| row.text(column).map(|text| text.unwrap_or_default().to_owned());
    let clock = row.number("clock")?;
    let age = |since: Option<f64>| since.zip(clock).map(|(since, clock)| clock - since);
    let (since, transaction) = (row.number("since")?, row.number("transaction")?);
    let wait = row.text("wait_event_type")?.zip(row.text("wait_event")?);
    Ok(Backend {
        pid: text("pid")?,
        user: text("usename")?,
        datname: text("datname")?,
        state: text("state")?,
        since,
        elapsed: age(since),
        transaction: age(transaction),
        wait: wait.map(|(kind, event)| (kind.to_owned(), event.to_owned())),
        blockers: row.text("blockers")?.filter(|pids| !pids.is_empty()).map(str::to_owned),
        // A text that is no UTF-8 is lost, and nothing else.
        text: row.text("query").ok().flatten().unwrap_or_default().to_owned(),
    })
}

// tell

#[derive(Default)]
struct Group {
    queries: u32,
    blocked: u32,
    oldest: Option<f64>,
    transaction: Option<f64>,
}

fn tell(backends: &[Backend], min_elapsed: Duration) -> Answer {
    let mut answer = Answer::new();
    let mut groups: BTreeMap<[&str; 3], Group> = BTreeMap::new();
    let mut waits: BTreeMap<[&str; 2], u32> = BTreeMap::new();
    for backend in backends {
        let of = [backend.user.as_str(), backend.datname.as_str(), backend.state.as_str()];
        let group = groups.entry(of).or_default();
        group.queries += 1;
        group.blocked += u32::from(backend.blockers.is_some());
        group.oldest = longest(group.oldest, backend.elapsed);
        group.transaction = longest(group.transaction, backend.transaction);
        if let (Some((kind, event)), "active") = (&backend.wait, backend.state.as_str()) {
            *waits.entry([kind, event]).or_default() += 1;
        }
        let long = backend.elapsed.filter(|elapsed| *elapsed >= min_elapsed.as_secs_f64());
        if let (Some(elapsed), Some(started)) = (long, started(backend)) {
            let started = started.to_string();
            answer.set(&ELAPSED, [&backend.pid, &started, of[0], of[1], of[2]], elapsed);
        }
    }
    for (of, group) in groups {
        answer.set(&QUERIES, of, f64::from(group.queries));
        // Of whom the server does not say the state it says no wait either, and that is no 0.
        let known = Some(group.blocked).filter(|blocked| *blocked > 0 || !of[2].is_empty());
        answer.set_some(&BLOCKED, of, known.map(f64::from));
        answer.set_some(&OLDEST, of, group.oldest);
        answer.set_some(&TRANSACTION_AGE, of, group.transaction);
    }
    for (of, count) in waits {
        answer.set(&WAITING, of, f64::from(count));
    }
    answer
}

fn longest(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

fn started(backend: &Backend) -> Option<Timestamp> {
    let since = SignedDuration::try_from_secs_f64(backend.since?).and_then(Timestamp::from_duration);
    since.and_then(|since| since.round(jiff::Unit::Microsecond)).ok()
}

impl PgInflight {
    /// The queries of an age that people want to read.
    fn listing(&self, backends: &[Backend]) -> Listing {
        let long = |backend: &&Backend| {
            backend.elapsed.is_some_and(|elapsed| elapsed >= self.config.min_elapsed.duration().as_secs_f64())
        };
        let row = |backend: &Backend| {
            let text = if self.config.raw_text {
                backend.text.clone()
            } else {
                mask(&backend.text, Dialect::Postgres)
            };
            let wait = backend.wait.as_ref().map(|(kind, event)| format!("{kind}: {event}"));
            vec![
                json!(backend.pid),
                json!(backend.user),
                json!(backend.datname),
                json!(backend.state),
                json!(backend.elapsed.map(super::redshift_inflight::minutes)),
                json!(started(backend).map(|started| self.config.time_zone.show(started))),
                json!(wait),
                json!(backend.blockers),
                json!(text),
            ]
        };
        Listing { columns: &COLUMNS, rows: backends.iter().filter(long).take(self.limit).map(row).collect() }
    }
}
