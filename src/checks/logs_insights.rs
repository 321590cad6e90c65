//! `logs_insights`: a query on CloudWatch Logs Insights; its fields become metrics.
//!
//! Events arrive minutes late, so the window ends a `delay` ago: what is not there yet must not look like nothing.

mod client;

use crate::check::{Check, Context, End, Endpoint, Need, Outcome, Problem, Reason, Recalled};
use crate::columns::{self, Columns, DATA_TIMESTAMP, Teller};
use crate::config::fault::{Fault, Faults};
use crate::config::node::Node;
use crate::config::read::read_rest;
use crate::config::scalar::Interval;
use crate::net::Clients;
use crate::net::table::Table;
use crate::spending::{BUDGET_REMAINING, Budget, Spending};
use client::{Insights, MOST_ROWS};
use jiff::Timestamp;
use metrics::{Answer, Handle, Metric, Unit};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

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

/// Stopping what a crash left running must not hold up the start.
const LAST_RITES: Duration = Duration::from_secs(5);

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
    pub query: String,
    /// Log groups, by name or ARN; at most 50.
    pub log_groups: Vec<String>,
    /// How long a piece of the log is asked about.
    #[serde(default = "half_an_hour")]
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

impl Config {
    /// Reads the keys.
    pub fn read(node: &Node, path: &str, also: &[&str], faults: &mut Faults) -> Option<Self> {
        let mut node = node.clone();
        let rest = node.split(&columns::KEYS);
        let also: Vec<&str> = also.iter().chain(&columns::KEYS).copied().collect();
        let own: Option<Own> = read_rest(&node, path, &also, faults);
        let columns = columns::read(&rest, path, &also, faults);
        let own = own?;
        let mut good = true;
        let mut refuse = |key: &str, message: &str, hint: &str| {
            let at = node.get(key).or(rest.get(key)).unwrap_or(&node).place();
            let fault = Fault::new(at, format!("{path}.{key}"), message);
            faults.push(if hint.is_empty() { fault } else { fault.hint(hint) });
            good = false;
        };
        if own.query.trim().is_empty() || own.query.len() > 10_000 {
            refuse("query", "expected 1 to 10,000 characters", "");
        }
        if own.log_groups.is_empty() || own.log_groups.len() > 50 {
            refuse("log_groups", "expected 1 to 50 log groups", "");
        }
        if own.window.duration() < Duration::from_secs(1) {
            refuse("window", "shorter than 1s", "");
        }
        let zero = columns.as_ref().is_some_and(|columns| columns.empty() == columns::Empty::Zero);
        if zero && own.delay.duration() < INGESTION {
            refuse(
                "empty",
                "`zero` with a `delay` below 5m: no event yet is not no event",
                "write `delay: 5m` or more",
            );
        }
        Some(Self { own, columns: columns? }).filter(|_| good)
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
        let mut notes = Vec::new();
        let result = match self.ask(context.now, context.deadline).await {
            Ok(table) => {
                let told = self.teller.tell(&table, "the query", context.now, &mut facts);
                notes = told.notes;
                if table.len() >= MOST_ROWS {
                    let what = format!(
                        "the query gave {MOST_ROWS} rows, the most that Insights gives; there may be more"
                    );
                    notes.push(
                        Problem::new(Reason::RowLimit, what).hint("group with stats, or limit in the query"),
                    );
                }
                told.result
            }
            Err(problem) => Err(problem),
        };
        let kept = result.as_ref().ok().map(|answer| (answer, &facts));
        // A value that could not be kept is good all the same; that it will be missing after a restart is told.
        notes.extend(self.spending.ended(kept, Timestamp::now()).await.err());
        self.spending.tell(&mut facts);
        Outcome { ends: vec![End { notes, facts, ..End::new(Endpoint::Own, result) }] }
    }

    async fn give_up(&mut self) -> Result<(), Problem> {
        if !self.insights.stop().await? {
            return Ok(());
        }
        self.spending.scanned(self.insights.scanned());
        self.spending.ended(None, Timestamp::now()).await
    }

    async fn recall(&mut self, now: Timestamp) -> Recalled {
        let columns = self.columns.clone();
        let recalled =
            self.spending.recall(|name| columns.family(name).map(Arc::clone), &[&DATA_TIMESTAMP], now).await;
        // Paid for as long as it runs, and nobody waits for it any more.
        if let Some(id) = self.spending.left_running() {
            let bytes = timeout(LAST_RITES, self.insights.stop_left(&id)).await.ok().flatten();
            self.spending.scanned(bytes);
        }
        recalled
    }

    fn learned(&self) -> Vec<(Endpoint, String)> {
        vec![(Endpoint::Own, self.spending.estimate(self.every, PRICE, 1e9, 0))]
    }
}

impl LogsInsights {
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
