//! One query on Logs Insights at a time: started, waited for, read, and stopped when it is given up.

use super::Own;
use crate::check::{Problem, Reason};
use crate::net::aws::{Aws, Place, poll_rest, problem};
use crate::net::table::Table;
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::operation::get_query_results::GetQueryResultsOutput;
use aws_sdk_cloudwatchlogs::types::{QueryStatus, ResultField};
use jiff::Timestamp;
use std::sync::Arc;
use tokio::time::sleep;

/// Rows that one answer has at most. <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_StartQuery.html>
pub(super) const MOST_ROWS: usize = 10_000;
/// A key that leads to the whole event; nobody's column.
const POINTER: &str = "@ptr";

/// A query and the way to it.
#[derive(Debug)]
pub(crate) struct Insights {
    own: Own,
    place: Place,
    aws: Arc<Aws>,
    client: Option<Client>,
    running: Option<String>,
    scanned: Option<u64>,
}

impl Insights {
    /// The query of the configuration.
    pub(crate) fn query(&self) -> &str {
        &self.own.query
    }

    pub(crate) fn new(own: &Own, aws: &Arc<Aws>) -> Self {
        let place = Place { region: own.region.clone(), assume_role: own.assume_role.clone() };
        Self { own: own.clone(), place, aws: Arc::clone(aws), client: None, running: None, scanned: None }
    }

    /// What a run that ran out of time says.
    pub(crate) fn late() -> Problem {
        Problem::new(Reason::Timeout, "the query on Logs Insights did not end in time; it is stopped")
            .hint("raise the timeout of the check, or ask about a shorter window")
    }

    /// Starts the query on what was logged in this time.
    pub(crate) async fn start(&mut self, start: Timestamp, end: Timestamp) -> Result<String, Problem> {
        let (query, groups) = (self.own.query.clone(), self.own.log_groups.clone());
        let by_arn = groups.iter().any(|group| group.starts_with("arn:"));
        let client = self.client().await?;
        // Whole seconds, both inclusive: one more, so that the last of them is not cut.
        let mut call = client
            .start_query()
            .query_string(query)
            .start_time(start.as_second())
            .end_time(end.as_second() + 1);
        call = call.limit(i32::try_from(MOST_ROWS).unwrap_or(i32::MAX));
        call = if by_arn {
            call.set_log_group_identifiers(Some(groups))
        } else {
            call.set_log_group_names(Some(groups))
        };
        let answer = call.send().await;
        let answer = answer.map_err(|error| {
            problem("could not start the query on Logs Insights", "logs:StartQuery", error)
        })?;
        let id = answer.query_id.ok_or_else(|| without("StartQuery", "queryId"))?;
        self.running = Some(id.clone());
        Ok(id)
    }

    /// Bytes that the query has scanned, as far as they are known.
    pub(super) fn scanned(&self) -> Option<u64> {
        self.scanned
    }

    /// Waits until the query is complete; gives its rows.
    pub(crate) async fn wait(&mut self) -> Result<Table, Problem> {
        self.scanned = None;
        let Some(id) = self.running.clone() else {
            return Err(Problem::new(Reason::Aws, "no query on Logs Insights was started"));
        };
        for asked in 0.. {
            let client = self.client().await?;
            let answer = client.get_query_results().query_id(&id).send().await.map_err(|error| {
                problem(
                    "could not read the result of the query on Logs Insights",
                    "logs:GetQueryResults",
                    error,
                )
            })?;
            self.scanned = answer.statistics.as_ref().map(|all| bytes(all.bytes_scanned)).or(self.scanned);
            let refused =
                |what: &str, reason| Err(Problem::new(reason, format!("the query on Logs Insights {what}")));
            match &answer.status {
                // Rows of a query that still runs are some of its rows.
                Some(QueryStatus::Scheduled | QueryStatus::Running) => {}
                Some(QueryStatus::Complete) => {
                    self.running = None;
                    return Ok(read(answer));
                }
                Some(status) => {
                    self.running = None;
                    return match status {
                        QueryStatus::Failed => refused("failed", Reason::Query),
                        QueryStatus::Cancelled => refused("was cancelled by somebody else", Reason::Aws),
                        QueryStatus::Timeout => {
                            refused("took longer than Logs Insights allows", Reason::Timeout)
                        }
                        other => refused(&format!("ended with the status {}", other.as_str()), Reason::Aws),
                    };
                }
                None => return Err(without("GetQueryResults", "status")),
            }
            sleep(poll_rest(asked)).await;
        }
        Err(Self::late())
    }

    /// Stops the query, if one runs. Says whether one did.
    pub(crate) async fn stop(&mut self) -> Result<bool, Problem> {
        let Some(id) = self.running.take() else { return Ok(false) };
        self.stop_one(&id).await.map(|()| true)
    }

    /// Stops what a process before this one left running; it may have ended long ago, so nothing is said of a refusal.
    pub(super) async fn stop_left(&mut self, id: &str) -> Option<u64> {
        if let Err(problem) = self.stop_one(id).await {
            tracing::debug!(%problem, "query of an earlier process not stopped");
        }
        None
    }

    async fn stop_one(&mut self, id: &str) -> Result<(), Problem> {
        let client = self.client().await?;
        let answer = client.stop_query().query_id(id).send().await;
        answer.map(drop).map_err(|error| {
            let mut refused = problem("could not stop the query on Logs Insights", "logs:StopQuery", error);
            if refused.reason == Reason::Timeout {
                refused.reason = Reason::CancelTimeout;
            }
            refused
        })
    }

    async fn client(&mut self) -> Result<Client, Problem> {
        if self.client.is_none() {
            self.client = Some(self.aws.logs(&self.place).await?);
        }
        self.client.clone().ok_or_else(|| Problem::new(Reason::Aws, "no client of CloudWatch Logs"))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of bytes, written as a double"
)]
fn bytes(scanned: f64) -> u64 {
    scanned.max(0.0) as u64
}

/// The rows as a table: a column for each field that any row has.
fn read(answer: GetQueryResultsOutput) -> Table {
    let rows: Vec<Vec<ResultField>> = answer.results.unwrap_or_default();
    let mut columns: Vec<String> = Vec::new();
    for name in rows.iter().flatten().filter_map(|field| field.field.as_ref()) {
        if name != POINTER && !columns.contains(name) {
            columns.push(name.clone());
        }
    }
    let mut table = Table::new(columns.clone().into_iter());
    for row in &rows {
        let value = |column: &String| {
            row.iter()
                .find(|field| field.field.as_ref() == Some(column))
                .and_then(|field| field.value.as_deref())
        };
        table.push(columns.iter().map(|column| Ok::<_, ()>(value(column))));
    }
    table
}

fn without(operation: &str, field: &str) -> Problem {
    Problem::new(Reason::Protocol, format!("the answer of {operation} has no {field}"))
        .hint("is there really AWS at this endpoint")
}
