//! `athena_query`: a query on Amazon Athena; its columns become metrics, and what it scans is counted against a budget.

mod client;

use crate::check::{Check, Context, Endpoint, Need, Outcome, Problem, Recalled};
use crate::columns::{self, Columns, Teller, Told};
use crate::config::fault::Faults;
use crate::config::node::Node;
use crate::config::scalar::Interval;
use crate::net::Clients;
use crate::net::table::Table;
use crate::spending::{BUDGET_REMAINING, Budget, Spending};
use client::Athena;
use digest::Dialect;
use jiff::Timestamp;
use metrics::{Answer, Handle, Metric, Unit};
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// `datapulse_athena_scanned_bytes_total`
pub static SCANNED: Metric<0> = Metric::counter(
    "datapulse.athena.scanned",
    Unit::Bytes,
    &[],
    "QueryExecution.Statistics.DataScannedInBytes of all queries of the check, also of those that failed or were stopped; survives a restart",
);
/// US dollars for a terabyte; <https://aws.amazon.com/athena/pricing/>
const PRICE: f64 = 5.0;
/// Athena bills at least so much for a query.
const LEAST_BILLED: u64 = 10_000_000;

/// The keys of `athena_query`.
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
    /// One statement that reads; `$since` stands for the start of the last good run.
    #[serde(deserialize_with = "statement")]
    pub sql: String,
    /// Workgroup.
    #[serde(default = "primary")]
    pub workgroup: String,
    /// Where Athena puts the result, `s3://bucket/prefix/`; may be left out where the workgroup says it.
    #[serde(default, deserialize_with = "place_in_s3")]
    pub output: Option<String>,
    /// Data catalog; `AwsDataCatalog` when absent.
    pub catalog: Option<String>,
    /// Database.
    pub database: Option<String>,
    /// What may be scanned in a day.
    pub budget: Option<Budget>,
    /// Takes the result of an equal query that is not older, which costs nothing (engine version 3).
    #[serde(default, deserialize_with = "age")]
    pub reuse: Option<Interval>,
    /// Region; the SDK's own when absent.
    pub region: Option<String>,
    /// ARN of a role to assume.
    pub assume_role: Option<String>,
}

fn primary() -> String {
    "primary".to_owned()
}

fn statement<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    columns::read_statement(deserializer, &[Dialect::Trino])
}

fn place_in_s3<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let place = Option::<String>::deserialize(deserializer)?;
    match &place {
        Some(place) if !place.starts_with("s3://") => {
            Err(D::Error::custom("not a place in S3; write s3://bucket/prefix/"))
        }
        _ => Ok(place),
    }
}

fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Interval>, D::Error> {
    let taken = Duration::from_mins(1)..=Duration::from_hours(168);
    match Option::<Interval>::deserialize(deserializer)? {
        Some(age) if !taken.contains(&age.duration()) => Err(D::Error::custom("Athena takes 1m to 7d")),
        age => Ok(age),
    }
}

impl Config {
    /// Reads the keys.
    pub fn read(node: &Node, path: &str, also: &[&str], faults: &mut Faults) -> Option<Self> {
        let (own, columns) = columns::read_with(node, path, also, faults);
        Some(Self { own: own?, columns: columns? })
    }
}

/// The check.
pub struct AthenaQuery {
    athena: Athena,
    spending: Spending,
    teller: Teller,
    columns: Columns,
    every: Duration,
}

impl Check for AthenaQuery {
    type Config = Config;
    const WORD: &'static str = "athena_query";
    const EVERY: Option<Duration> = None;
    const TARGET: bool = false;
    const ENDS: &'static [Endpoint] = &[Endpoint::Own];
    const NEEDS: &'static [Need] = &[
        Need {
            endpoint: Endpoint::Own,
            grant: "athena:StartQueryExecution athena:GetQueryExecution athena:GetQueryResults athena:StopQueryExecution",
            purpose: "the query; StopQueryExecution ends one that takes too long, which would be paid to its end",
            statement: "docs/iam/athena_query.json",
        },
        Need {
            endpoint: Endpoint::Own,
            grant: "glue:GetDatabase glue:GetTable glue:GetPartitions, s3 on the data and on the output",
            purpose: "what Athena reads and writes in our name",
            statement: "docs/iam/athena_query.json",
        },
    ];

    fn families(config: &Config) -> Vec<Handle> {
        config.columns.families().into_iter().chain([SCANNED.handle(), BUDGET_REMAINING.handle()]).collect()
    }

    fn new(config: &Config, clients: &Clients) -> Self {
        Self {
            athena: Athena::new(&config.own, clients.vault.aws()),
            spending: Spending::new(clients.state.clone(), config.own.budget, &SCANNED),
            teller: Teller::new(&config.columns, clients.limit),
            columns: config.columns.clone(),
            every: clients.every,
        }
    }

    async fn run(&mut self, context: Context) -> Outcome {
        let mut facts = Answer::new();
        let told = match self.ask(context.now, context.deadline).await {
            Ok(table) => self.teller.tell(&table, "the query", context.now, &mut facts),
            Err(problem) => Told { result: Err(problem), notes: Vec::new() },
        };
        self.spending.end(told, facts).await
    }

    async fn give_up(&mut self) -> Result<(), Problem> {
        let Some(bytes) = self.athena.stop().await? else { return Ok(()) };
        self.spending.scanned(bytes);
        self.spending.ended(None, Timestamp::now()).await
    }

    async fn recall(&mut self, now: Timestamp) -> Recalled {
        let recalled = self.spending.recall(&self.columns, now).await;
        if let Some(id) = self.spending.left_running() {
            self.spending.stopped(Box::pin(self.athena.stop_left(&id))).await;
        }
        recalled
    }

    fn questions(&self) -> Vec<(Endpoint, Cow<'_, str>)> {
        vec![(Endpoint::Own, digest::mask(self.athena.sql(), Dialect::Trino).into())]
    }

    fn learned(&self) -> Vec<(Endpoint, String)> {
        vec![(Endpoint::Own, self.spending.estimate(self.every, PRICE, 1e12, LEAST_BILLED))]
    }
}

impl AthenaQuery {
    async fn ask(&mut self, now: Timestamp, deadline: Instant) -> Result<Table, Problem> {
        self.spending.begin(now).await?;
        let late = |_elapsed| Athena::late();
        let since = self.spending.last_good().unwrap_or(now.saturating_sub(self.every).unwrap_or(now));
        let id = timeout_at(deadline, self.athena.start(since)).await.map_err(late)??;
        self.spending.started(&id).await?;
        let ended = timeout_at(deadline, self.athena.wait()).await.map_err(late)?;
        // Also what failed was scanned, and is counted before anything else can go wrong.
        self.spending.scanned(self.athena.scanned());
        ended?;
        timeout_at(deadline, self.athena.results(&id)).await.map_err(late)?
    }
}
