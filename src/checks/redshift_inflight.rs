//! `redshift_inflight`: the queries that run on Amazon Redshift, provisioned (`SVV_QUERY_INFLIGHT`) or not (`SYS_QUERY_HISTORY`).
//!
//! A role without special rights sees only its own queries, and an empty answer looks like an idle cluster: that is told.

mod families;
mod server;
#[cfg(test)]
mod tests;
mod text;
mod zone;

pub use zone::{Zone, minutes};

use crate::check::headline::Headline;
use crate::check::{Check, Context, End, Endpoint, Listing, Need, Outcome, Problem, Reason};
use crate::config::scalar::Interval;
use crate::net::Clients;
use crate::net::postgres::{Link, PAUSED};
use families::{ELAPSED, OLDEST, QUERIES, QUEUE, VISIBILITY};
use jiff::Timestamp;
use metrics::{Answer, Handle};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::json;
use server::{Found, Server};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

/// The columns of the rows for people.
const COLUMNS: [&str; 8] =
    ["pid", "query_id", "user", "database", "status", "elapsed_minutes", "started", "text"];

/// The keys of `redshift_inflight`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which views to read: `sys` (all kinds of Redshift), `svv` (provisioned only), or `auto`: the first of them that is there.
    pub source: Source,
    /// From this age on a query has a series and a row of its own.
    pub min_elapsed: Interval,
    /// Time zone in which people are told when a query began, such as `Asia/Tokyo`.
    pub time_zone: Zone,
    /// Sets `query_group`, so that the question does not wait in the queue that it is about.
    pub query_group: Option<QueryGroup>,
    /// Show literals of statements on the page, in `once` and in the evidence. They are masked otherwise.
    pub raw_text: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            source: Source::Auto,
            min_elapsed: Interval::seconds(60),
            time_zone: Zone::default(),
            query_group: None,
            raw_text: false,
        }
    }
}

/// Which views to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The first that is there: `sys`, then `svv`.
    #[default]
    Auto,
    /// `SYS_QUERY_HISTORY` and `SYS_QUERY_TEXT`.
    Sys,
    /// `SVV_QUERY_INFLIGHT`.
    Svv,
}

/// A label for the workload manager: letters, digits, `_`, `-` and blanks.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct QueryGroup(String);

impl<'de> Deserialize<'de> for QueryGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ');
        if name.is_empty() || name.len() > 320 || !name.chars().all(fits) {
            return Err(de::Error::custom("expected up to 320 letters, digits, _, - and blanks"));
        }
        Ok(Self(name))
    }
}

/// The check.
pub struct RedshiftInflight {
    link: Link,
    server: Server,
    config: Config,
    limit: usize,
}

/// A query in flight.
#[derive(Clone, Debug, Default, PartialEq)]
struct Query {
    pid: String,
    /// The label `query_id`.
    id: String,
    user: String,
    /// `SVV_QUERY_INFLIGHT` does not know it.
    database: Option<String>,
    status: String,
    started: Option<Timestamp>,
    /// Seconds.
    elapsed: Option<f64>,
    /// Seconds.
    queue: Option<f64>,
    /// The whole text.
    text: Option<String>,
}

impl Check for RedshiftInflight {
    type Config = Config;
    const WORD: &'static str = "redshift_inflight";
    const EVERY: Option<Duration> = Some(Duration::from_mins(5));
    const ENDS: &'static [Endpoint] = &[Endpoint::Own];
    const HEADLINES: &'static [Headline] = &[
        Headline::highest("redshift_inflight_oldest_seconds", "oldest query"),
        Headline::sum("redshift_inflight_queries", "queries"),
    ];
    const NEEDS: &'static [Need] = &[
        Need {
            endpoint: Endpoint::Own,
            grant: "ROLE sys:monitor",
            purpose: "the queries of all users in the SYS views; without it only the login role's own",
            statement: "GRANT ROLE sys:monitor TO {user}",
        },
        Need {
            endpoint: Endpoint::Own,
            grant: "SYSLOG ACCESS UNRESTRICTED",
            purpose: "the queries of all users in SVV_QUERY_INFLIGHT, for source: svv; without it only the login role's own",
            statement: "ALTER USER {user} SYSLOG ACCESS UNRESTRICTED",
        },
    ];

    fn families(_: &Config) -> Vec<Handle> {
        vec![
            ELAPSED.handle(),
            QUEUE.handle(),
            QUERIES.handle(),
            OLDEST.handle(),
            VISIBILITY.handle(),
            PAUSED.handle(),
        ]
    }

    fn new(config: &Config, clients: &Clients) -> Self {
        let group = config.query_group.as_ref().map(|group| group.0.clone());
        Self {
            link: clients.link(),
            server: Server::new(config.source, group),
            config: config.clone(),
            limit: clients.limit,
        }
    }

    async fn run(&mut self, context: Context) -> Outcome {
        let mut end = End::new(Endpoint::Own, Ok(Answer::new()));
        match self.link.awake(context.deadline, &mut end.facts).await {
            Ok(true) => {}
            Ok(false) => return Outcome { ends: vec![end] },
            Err(problem) => return Outcome::single(Err(problem)),
        }
        match self.server.ask(&mut self.link, context.deadline).await {
            Ok(found) => {
                end.result = Ok(tell(&found, self.config.min_elapsed.duration()));
                end.rows = Some(self.listing(&found.queries));
                end.notes = found.notes;
            }
            Err(problem) => end.result = Err(problem),
        }
        Outcome { ends: vec![end] }
    }

    async fn give_up(&mut self) -> Result<(), Problem> {
        self.link.give_up().await
    }

    async fn rest(&mut self) {
        self.link.rest().await;
    }

    fn questions(&self) -> Vec<(Endpoint, Cow<'_, str>)> {
        self.server.question().into_iter().map(|sql| (Endpoint::Own, sql.into())).collect()
    }

    fn learned(&self) -> Vec<(Endpoint, String)> {
        let mut learned = vec![(Endpoint::Own, self.server.learned())];
        learned.extend(self.link.known().map(|session| (Endpoint::Own, session.to_string())));
        learned
    }
}

// tell

fn tell(found: &Found, min_elapsed: Duration) -> Answer {
    let mut answer = Answer::new();
    let mut counts: BTreeMap<[&str; 2], u32> = BTreeMap::new();
    let mut oldest: BTreeMap<&str, f64> = BTreeMap::new();
    for query in &found.queries {
        *counts.entry([&query.user, &query.status]).or_default() += 1;
        let Some(elapsed) = query.elapsed else { continue };
        let longest = oldest.entry(&query.user).or_insert(elapsed);
        *longest = longest.max(elapsed);
        if elapsed >= min_elapsed.as_secs_f64() {
            let of = [&*query.pid, &query.id, &query.user, query.database.as_deref().unwrap_or_default()];
            answer.set(&ELAPSED, of, elapsed);
            answer.set_some(&QUEUE, of, query.queue);
        }
    }
    for (of, count) in counts {
        answer.set(&QUERIES, of, f64::from(count));
    }
    for (user, elapsed) in oldest {
        answer.set(&OLDEST, [user], elapsed);
    }
    if let Some(all) = found.sees_all {
        answer.set(&VISIBILITY, [&found.login], f64::from(u8::from(all)));
    }
    answer
}

impl RedshiftInflight {
    /// The queries of an age that people want to read, the longest first.
    fn listing(&self, queries: &[Query]) -> Listing {
        let long = |query: &&Query| {
            query.elapsed.is_some_and(|elapsed| elapsed >= self.config.min_elapsed.duration().as_secs_f64())
        };
        let row = |query: &Query| {
            let text = query
                .text
                .as_ref()
                .map(|text| if self.config.raw_text { text.clone() } else { text::masked(text) });
            vec![
                json!(query.pid),
                json!(query.id),
                json!(query.user),
                json!(query.database),
                json!(query.status),
                json!(query.elapsed.map(minutes)),
                json!(query.started.map(|started| self.config.time_zone.show(started))),
                json!(text),
            ]
        };
        Listing { columns: &COLUMNS, rows: queries.iter().filter(long).take(self.limit).map(row).collect() }
    }
}

/// A view that is not there, or that may not be read: another one may.
fn is_elsewhere(problem: &Problem) -> bool {
    matches!(problem.reason, Reason::Query | Reason::Permission)
}
