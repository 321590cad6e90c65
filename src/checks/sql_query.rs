//! `sql_query`: one statement on PostgreSQL, Aurora or Redshift; its columns become metrics.

#[cfg(test)]
mod tests;

use crate::check::{Check, Context, End, Endpoint, Need, Outcome, Problem, Reason};
use crate::columns::{self, Columns, Teller, Told};
use crate::config::fault::Faults;
use crate::config::node::Node;
use crate::net::Clients;
use crate::net::postgres::{Link, PAUSED};
use crate::net::table::Table;
use digest::Dialect;
use jiff::Timestamp;
use metrics::{Answer, Handle};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::time::Duration;

/// The keys of `sql_query`.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
pub struct Config {
    /// Its own keys.
    #[schemars(flatten)]
    pub own: Own,
    /// Columns to metrics.
    #[schemars(flatten)]
    pub columns: Columns,
}

/// The keys that no other check has.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Own {
    /// One statement that reads; `$since` stands for the start of the last good run. The session is in UTC and, on PostgreSQL, read-only.
    #[serde(deserialize_with = "statement")]
    pub sql: String,
}

fn statement<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    columns::read_statement(deserializer, &[Dialect::Postgres, Dialect::Redshift])
}

/// The check.
pub struct SqlQuery {
    link: Link,
    sql: String,
    teller: Teller,
    every: Duration,
    /// Start of the last good run.
    since: Option<Timestamp>,
}

impl Config {
    /// Reads the keys.
    pub fn read(node: &Node, path: &str, also: &[&str], faults: &mut Faults) -> Option<Self> {
        let (own, columns) = columns::read_with(node, path, also, faults);
        Some(Self { own: own?, columns: columns? })
    }
}

impl Check for SqlQuery {
    type Config = Config;
    const WORD: &'static str = "sql_query";
    const EVERY: Option<Duration> = Some(Duration::from_mins(1));
    const ENDS: &'static [Endpoint] = &[Endpoint::Own];
    const NEEDS: &'static [Need] = &[
        Need {
            endpoint: Endpoint::Own,
            grant: "CONNECT",
            purpose: "the login",
            statement: "GRANT CONNECT ON DATABASE {database} TO {user}",
        },
        Need {
            endpoint: Endpoint::Own,
            grant: "SELECT",
            purpose: "the tables and views that the statement names, and nothing else",
            statement: "GRANT SELECT ON the tables of the statement TO {user}",
        },
    ];

    fn families(config: &Config) -> Vec<Handle> {
        config.columns.families().into_iter().chain([PAUSED.handle()]).collect()
    }

    fn new(config: &Config, clients: &Clients) -> Self {
        Self {
            link: clients.link(),
            sql: config.own.sql.clone(),
            teller: Teller::new(&config.columns, clients.limit),
            every: clients.every,
            since: None,
        }
    }

    async fn run(&mut self, context: Context) -> Outcome {
        let mut facts = Answer::new();
        match self.link.awake(context.deadline, &mut facts).await {
            Ok(true) => {}
            Ok(false) => {
                return Outcome { ends: vec![End { facts, ..End::new(Endpoint::Own, Ok(Answer::new())) }] };
            }
            Err(problem) => return Outcome::single(Err(problem)),
        }
        let since = self.since.unwrap_or(context.now.saturating_sub(self.every).unwrap_or(context.now));
        let sql = columns::with_since(&self.sql, since, Dialect::Postgres);
        let table = self.link.ask(&sql, context.deadline).await.and_then(|tables| {
            let what = || format!("the statement on {} gives no rows", self.link.name());
            tables.into_iter().next().ok_or_else(|| Problem::new(Reason::Query, what()))
        });
        let end = match table {
            Ok(table) => {
                let told = self.take(&table, context.now, &mut facts);
                End { notes: told.notes, facts, ..End::new(Endpoint::Own, told.result) }
            }
            Err(problem) => End { facts, ..End::new(Endpoint::Own, Err(problem)) },
        };
        Outcome { ends: vec![end] }
    }

    async fn give_up(&mut self) -> Result<(), Problem> {
        self.link.give_up().await
    }

    async fn rest(&mut self) {
        self.link.rest().await;
    }

    fn questions(&self) -> Vec<(Endpoint, Cow<'_, str>)> {
        vec![(Endpoint::Own, digest::mask(&self.sql, Dialect::Postgres).into())]
    }

    fn learned(&self) -> Vec<(Endpoint, String)> {
        self.link.known().map(|session| (Endpoint::Own, session.to_string())).into_iter().collect()
    }
}

impl SqlQuery {
    /// Tells a result. Rows of one that is refused, as too old, are asked for again: they were counted nowhere.
    fn take(&mut self, table: &Table, now: Timestamp, facts: &mut Answer) -> Told {
        let told = self.teller.tell(table, &format!("the statement on {}", self.link.name()), now, facts);
        if told.result.is_ok() {
            self.since = Some(now);
        }
        told
    }
}
