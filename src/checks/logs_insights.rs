//! `logs_insights`: a query on CloudWatch Logs Insights; its fields become metrics.
//!
//! Events arrive minutes late, so the window ends a `delay` ago: what is not there yet must not look like nothing.

mod client;

use crate::check::{Check, Context, Endpoint, Need, Outcome, Problem, Reason, Recalled};
use crate::columns::{self, Columns, Teller, Told};
use crate::config::fault::{Fault, Faults};
use crate::config::node::Node;
use crate::config::read::read;
use crate::config::scalar::Interval;
use crate::net::Clients;
use crate::net::table::Table;
use crate::spending::{BUDGET_REMAINING, Budget, Spending};
pub(crate) use client::Insights;
use client::MOST_ROWS;
use jiff::Timestamp;
use metrics::{Answer, Handle, Metric, Unit};
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// `datapulse_logs_insights_scanned_bytes_total`
pub static SCANNED: Metric<0> = Metric::counter(
    "datapulse.logs.insights_scanned",
    Unit::Bytes,
    &[],
    "QueryStatistics.bytesScanned of all queries of the check, of those that were stopped as far as it was seen; survives a restart",
);
/// US dollars for a gigabyte; <https://aws.amazon.com/cloudwatch/pricing/>
const PRICE: f64 = 0.005;
/// Ingestion into Insights takes minutes: a window that ends later than this has not got all its events yet.
const INGESTION: Duration = Duration::from_mins(5);

/// The keys of `logs_insights`.
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
    /// The query, in the language of Logs Insights; its fields are the columns.
    #[serde(deserialize_with = "query")]
    pub query: String,
    /// Log groups, by name or ARN; at most 50.
    #[serde(deserialize_with = "log_groups")]
    pub log_groups: Vec<String>,
    /// How long a piece of the log is asked about.
    #[serde(default = "half_an_hour", deserialize_with = "window")]
    pub window: Interval,
    /// How long ago that piece ends: events come in late.
    #[serde(default = "ingestion")]
    pub delay: Interval,
    /// What may be scanned in a day.
    pub budget: Option<Budget>,
    /// Region; the SDK's own when absent.
    pub region: Option<String>,
    /// ARN of a role to assume.
    pub assume_role: Option<String>,
}

const fn half_an_hour() -> Interval {
    Interval::seconds(1800)
}

const fn ingestion() -> Interval {
    Interval::seconds(INGESTION.as_secs())
}

fn query<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let query = String::deserialize(deserializer)?;
    if query.trim().is_empty() || query.len() > 10_000 {
        return Err(D::Error::custom("expected 1 to 10,000 characters"));
    }
    Ok(query)
}

fn log_groups<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let groups = Vec::<String>::deserialize(deserializer)?;
    if groups.is_empty() || groups.len() > 50 {
        return Err(D::Error::custom("expected 1 to 50 log groups"));
    }
    Ok(groups)
}

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Interval, D::Error> {
    let window = Interval::deserialize(deserializer)?;
    if window.duration() < Duration::from_secs(1) {
        return Err(D::Error::custom("shorter than 1s"));
    }
    Ok(window)
}

impl Config {
    /// Reads the keys.
    pub fn read(node: &Node, path: &str, also: &[&str], faults: &mut Faults) -> Option<Self> {
        let (own, columns) = columns::read_with(node, path, also, faults);
        // Looked at also when other keys cannot be read: all faults are told at once.
        let delay = |node| read::<Interval>(node, "", &mut Faults::default());
        let (empty, delay) = (node.get("empty"), node.get("delay").and_then(delay));
        if let Some(empty) = empty.filter(|empty| empty.value() == Some("zero"))
            && delay.is_some_and(|delay| delay.duration() < INGESTION)
        {
            let message = "`zero` with a `delay` below 5m: no event yet is not no event";
            let fault = Fault::new(empty.place(), format!("{path}.empty"), message);
            faults.push(fault.hint("write `delay: 5m` or more"));
            return None;
        }
        Some(Self { own: own?, columns: columns? })
    }
}

/// The check.
pub struct LogsInsights {
    insights: Insights,
    spending: Spending,
    teller: Teller,
    columns: Columns,
    window: Duration,
    delay: Duration,
    every: Duration,
}

impl Check for LogsInsights {
    type Config = Config;
    const WORD: &'static str = "logs_insights";
    const EVERY: Option<Duration> = None;
    const TARGET: bool = false;
    const ENDS: &'static [Endpoint] = &[Endpoint::Own];
    const NEEDS: &'static [Need] = &[Need {
        endpoint: Endpoint::Own,
        grant: "logs:StartQuery logs:GetQueryResults logs:StopQuery",
        purpose: "the query; StopQuery ends one that takes too long",
        statement: "docs/iam/logs_insights.json",
    }];

    fn families(config: &Config) -> Vec<Handle> {
        config.columns.families().into_iter().chain([SCANNED.handle(), BUDGET_REMAINING.handle()]).collect()
    }

    fn new(config: &Config, clients: &Clients) -> Self {
        Self {
            insights: Insights::new(&config.own, clients.vault.aws()),
            spending: Spending::new(clients.state.clone(), config.own.budget, &SCANNED),
            teller: Teller::new(&config.columns, clients.limit),
            columns: config.columns.clone(),
            window: config.own.window.duration(),
            delay: config.own.delay.duration(),
            every: clients.every,
        }
    }

    async fn run(&mut self, context: Context) -> Outcome {
        let mut facts = Answer::new();
        let told = match self.ask(context.now, context.deadline).await {
            Ok(table) => self.tell(&table, context.now, &mut facts),
            Err(problem) => Told { result: Err(problem), notes: Vec::new() },
        };
        self.spending.end(told, facts).await
    }

    async fn give_up(&mut self) -> Result<(), Problem> {
        if !self.insights.stop().await? {
            return Ok(());
        }
        self.spending.scanned(self.insights.scanned());
        self.spending.ended(None, Timestamp::now()).await
    }

    async fn recall(&mut self, now: Timestamp) -> Recalled {
        let recalled = self.spending.recall(&self.columns, now).await;
        if let Some(id) = self.spending.left_running() {
            self.spending.stopped(Box::pin(self.insights.stop_left(&id))).await;
        }
        recalled
    }

    fn questions(&self) -> Vec<(Endpoint, Cow<'_, str>)> {
        vec![(Endpoint::Own, digest::mask(self.insights.query(), digest::Dialect::Postgres).into())]
    }

    fn learned(&self) -> Vec<(Endpoint, String)> {
        vec![(Endpoint::Own, self.spending.estimate(self.every, PRICE, 1e9, 0))]
    }
}

impl LogsInsights {
    fn tell(&mut self, table: &Table, now: Timestamp, facts: &mut Answer) -> Told {
        let mut told = self.teller.tell(table, "the query", now, facts);
        if table.len() >= MOST_ROWS {
            let what =
                format!("the query gave {MOST_ROWS} rows, the most that Insights gives; there may be more");
            let note = Problem::new(Reason::RowLimit, what);
            told.notes.push(note.hint("group with stats, or limit in the query"));
        }
        told
    }

    async fn ask(&mut self, now: Timestamp, deadline: Instant) -> Result<Table, Problem> {
        self.spending.begin(now).await?;
        let late = |_elapsed| Insights::late();
        let end = now.saturating_sub(self.delay).unwrap_or(now);
        let start = end.saturating_sub(self.window).unwrap_or(end);
        let id = timeout_at(deadline, self.insights.start(start, end)).await.map_err(late)??;
        self.spending.started(&id).await?;
        let ended = timeout_at(deadline, self.insights.wait()).await.map_err(late)?;
        self.spending.scanned(self.insights.scanned());
        ended
    }
}
