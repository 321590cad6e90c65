//! One query on Athena at a time: started once, waited for, read page by page, and stopped when it is given up.

use super::Own;
use crate::check::{Problem, Reason};
use crate::columns::{selects, with_since};
use crate::net::aws::{Aws, Place, poll_rest, problem};
use crate::net::https::quoted;
use crate::net::table::Table;
use aws_sdk_athena::Client;
use aws_sdk_athena::types::{
    QueryExecution, QueryExecutionContext, QueryExecutionState, ResultConfiguration,
    ResultReuseByAgeConfiguration, ResultReuseConfiguration, ResultSetMetadata, Row,
};
use digest::Dialect;
use jiff::Timestamp;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Rows of one result, as for databases.
const MOST_ROWS: usize = 100_000;
/// Bytes of the texts of one result, as for databases.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// What Athena gives at most in one page.
const PAGE: i32 = 1000;
/// Looking at what was stopped must not take the time of stopping.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// A query and the way to it.
#[derive(Debug)]
pub(super) struct Athena {
    own: Own,
    place: Place,
    aws: Arc<Aws>,
    client: Option<Client>,
    stage: Stage,
    /// The statement of the query that is started.
    sql: String,
    scanned: Option<u64>,
}

/// How far a query is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    /// The request is out. Asked again with the same token, Athena gives the same query.
    Starting(String),
    Running(String),
}

impl Athena {
    pub(super) fn new(own: &Own, aws: &Arc<Aws>) -> Self {
        let place = Place { region: own.region.clone(), assume_role: own.assume_role.clone() };
        Self {
            own: own.clone(),
            place,
            aws: Arc::clone(aws),
            client: None,
            stage: Stage::Idle,
            sql: String::new(),
            scanned: None,
        }
    }

    /// The statement of the configuration.
    pub(super) fn sql(&self) -> &str {
        &self.own.sql
    }

    /// What a run that ran out of time says.
    pub(super) fn late() -> Problem {
        Problem::new(Reason::Timeout, "the query on Athena did not end in time; it is stopped")
            .hint("raise the timeout of the check, or scan less: partitions, columns")
    }

    /// Starts the query.
    pub(super) async fn start(&mut self, since: Timestamp) -> Result<String, Problem> {
        let token = token();
        // Kept, because a repetition has to be the same request.
        self.sql = with_since(&self.own.sql, since, Dialect::Trino).into_owned();
        self.stage = Stage::Starting(token.clone());
        let id = match self.send(&token).await {
            Ok(id) => id,
            Err(problem) => {
                // Of an answer that was lost nobody knows whether there is a query.
                if !matches!(problem.reason, Reason::Io | Reason::Timeout | Reason::Protocol) {
                    self.stage = Stage::Idle;
                }
                return Err(problem);
            }
        };
        self.stage = Stage::Running(id.clone());
        Ok(id)
    }

    async fn send(&mut self, token: &str) -> Result<String, Problem> {
        let own = &self.own;
        let output =
            own.output.as_ref().map(|place| ResultConfiguration::builder().output_location(place).build());
        let context = QueryExecutionContext::builder()
            .set_catalog(own.catalog.clone())
            .set_database(own.database.clone())
            .build();
        let reuse = own.reuse.map(|age| {
            let minutes = i32::try_from(age.duration().as_secs() / 60).unwrap_or(i32::MAX);
            let by_age =
                ResultReuseByAgeConfiguration::builder().enabled(true).max_age_in_minutes(minutes).build();
            ResultReuseConfiguration::builder().result_reuse_by_age_configuration(by_age).build()
        });
        let (sql, workgroup) = (self.sql.clone(), own.workgroup.clone());
        let client = self.client().await?;
        let answer = client
            .start_query_execution()
            .query_string(sql)
            .work_group(workgroup)
            .set_result_configuration(output)
            .query_execution_context(context)
            .set_result_reuse_configuration(reuse)
            .client_request_token(token)
            .send()
            .await
            .map_err(|error| {
                problem("could not start the query on Athena", "athena:StartQueryExecution", error)
            })?;
        answer.query_execution_id.ok_or_else(|| without("StartQueryExecution", "QueryExecutionId"))
    }

    /// Waits until the query has succeeded.
    pub(super) async fn wait(&mut self) -> Result<(), Problem> {
        self.scanned = None;
        let Stage::Running(id) = self.stage.clone() else { return Ok(()) };
        for asked in 0.. {
            let execution = self.look(&id).await?;
            let status = execution
                .status
                .unwrap_or_else(|| aws_sdk_athena::types::QueryExecutionStatus::builder().build());
            let why = status.state_change_reason.as_deref().map(quoted).unwrap_or_default();
            match status.state {
                Some(QueryExecutionState::Queued | QueryExecutionState::Running) => {}
                Some(QueryExecutionState::Succeeded) => {
                    self.stage = Stage::Idle;
                    return Ok(());
                }
                Some(QueryExecutionState::Failed) => {
                    self.stage = Stage::Idle;
                    return Err(Problem::new(Reason::Query, "the query on Athena failed").because(why));
                }
                Some(QueryExecutionState::Cancelled) => {
                    self.stage = Stage::Idle;
                    return Err(
                        Problem::new(Reason::Aws, "somebody else cancelled the query on Athena").because(why)
                    );
                }
                Some(other) => {
                    let what =
                        format!("Athena says that the query is {}, which is not known here", other.as_str());
                    return Err(Problem::new(Reason::Protocol, what));
                }
                None => return Err(without("GetQueryExecution", "Status.State")),
            }
            sleep(poll_rest(asked)).await;
        }
        Ok(())
    }

    /// Bytes that the query has scanned, as far as they are known.
    pub(super) fn scanned(&self) -> Option<u64> {
        self.scanned
    }

    async fn look(&mut self, id: &str) -> Result<QueryExecution, Problem> {
        let client = self.client().await?;
        let answer = client.get_query_execution().query_execution_id(id).send().await;
        let answer = answer.map_err(|error| {
            problem("could not see how the query on Athena stands", "athena:GetQueryExecution", error)
        })?;
        let execution =
            answer.query_execution.ok_or_else(|| without("GetQueryExecution", "QueryExecution"))?;
        let bytes = execution.statistics.as_ref().and_then(|statistics| statistics.data_scanned_in_bytes);
        self.scanned = bytes.and_then(|bytes| u64::try_from(bytes).ok()).or(self.scanned);
        Ok(execution)
    }

    /// Reads all pages of a result.
    pub(super) async fn results(&mut self, id: &str) -> Result<Table, Problem> {
        let client = self.client().await?;
        let mut table: Option<Table> = None;
        let (mut page, mut bytes) = (None::<String>, 0);
        loop {
            let call = client
                .get_query_results()
                .query_execution_id(id)
                .max_results(PAGE)
                .set_next_token(page.clone());
            let answer = call.send().await.map_err(|error| {
                problem("could not read the result of the query on Athena", "athena:GetQueryResults", error)
            })?;
            let next = answer.next_token().map(str::to_owned);
            let set = answer.result_set.ok_or_else(|| without("GetQueryResults", "ResultSet"))?;
            let mut rows = set.rows.unwrap_or_default();
            let table = match &mut table {
                Some(table) => table,
                none => none.insert(opened(&self.sql, set.result_set_metadata, &mut rows)?),
            };
            for row in &rows {
                bytes += cells(row).flatten().map(str::len).sum::<usize>();
                if cells(row).count() != table.columns().len() {
                    return Err(Problem::new(
                        Reason::Protocol,
                        "a row of the result on Athena has another number of columns than the result",
                    ));
                }
                table.push(cells(row).map(Ok::<_, ()>));
            }
            if table.len() > MOST_ROWS {
                return Err(Problem::new(
                    Reason::RowLimit,
                    format!("the result on Athena has more than {MOST_ROWS} rows"),
                )
                .hint("group or limit in the statement"));
            }
            if bytes > MOST_BYTES {
                return Err(Problem::new(
                    Reason::TooLarge,
                    format!("the result on Athena has more than {MOST_BYTES} bytes"),
                )
                .hint("read fewer rows, or shorter texts"));
            }
            if next.is_none() {
                break;
            }
            if next == page {
                return Err(Problem::new(Reason::Protocol, "Athena gave the same page twice"));
            }
            page = next;
        }
        table.ok_or_else(|| without("GetQueryResults", "ResultSet"))
    }

    /// Stops the query, if one runs or may run. Gives the bytes that it had scanned, which are paid for.
    pub(super) async fn stop(&mut self) -> Result<Option<Option<u64>>, Problem> {
        let id = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => return Ok(None),
            Stage::Starting(token) => self.send(&token).await?,
            Stage::Running(id) => id,
        };
        self.stop_one(&id).await?;
        drop(timeout(LAST_LOOK, self.look(&id)).await);
        Ok(Some(self.scanned))
    }

    /// Stops what a process before this one left running; it may have ended long ago, so nothing is said of a refusal.
    pub(super) async fn stop_left(&mut self, id: &str) -> Option<u64> {
        self.scanned = None;
        if let Err(problem) = self.stop_one(id).await {
            tracing::debug!(%problem, "query of an earlier process not stopped");
        }
        drop(self.look(id).await);
        self.scanned
    }

    async fn stop_one(&mut self, id: &str) -> Result<(), Problem> {
        let client = self.client().await?;
        let answer = client.stop_query_execution().query_execution_id(id).send().await;
        answer.map(drop).map_err(|error| {
            let mut refused =
                problem("could not stop the query on Athena", "athena:StopQueryExecution", error);
            if refused.reason == Reason::Timeout {
                refused.reason = Reason::CancelTimeout;
            }
            refused
        })
    }

    async fn client(&mut self) -> Result<Client, Problem> {
        if self.client.is_none() {
            self.client = Some(self.aws.athena(&self.place).await?);
        }
        self.client.clone().ok_or_else(|| Problem::new(Reason::Aws, "no client of Athena"))
    }
}

/// The table of the first page. A real answer names its columns, and once more in the first row of a SELECT, even if nothing was
/// found: what lacks them is no result without rows, and must not look like a quiet day.
fn opened(sql: &str, metadata: Option<ResultSetMetadata>, rows: &mut Vec<Row>) -> Result<Table, Problem> {
    let columns = metadata.and_then(|metadata| metadata.column_info).unwrap_or_default();
    if columns.is_empty() {
        return Err(without("GetQueryResults", "ResultSet.ResultSetMetadata.ColumnInfo"));
    }
    let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
    match rows.first() {
        Some(first) if cells(first).eq(names.iter().map(|name| Some(name.as_str()))) => drop(rows.remove(0)),
        // The result of SHOW and its like has no such row.
        None if selects(sql, Dialect::Trino) => {
            return Err(without("GetQueryResults", "row with the names of the columns"));
        }
        _ => {}
    }
    Ok(Table::new(names.into_iter()))
}

fn cells(row: &Row) -> impl Iterator<Item = Option<&str>> {
    row.data().iter().map(|datum| datum.var_char_value())
}

fn without(operation: &str, field: &str) -> Problem {
    Problem::new(Reason::Protocol, format!("the answer of {operation} has no {field}"))
        .hint("is there really AWS at this endpoint")
}

/// A name for the request, so that a repetition is no second query: 32 to 128 characters.
fn token() -> String {
    let random = || RandomState::new().hash_one(0);
    format!("datapulse-{:016x}{:016x}", random(), random())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_athena::types::{ColumnInfo, Datum};

    fn row(texts: &[&str]) -> Row {
        let cell = |text: &&str| Datum::builder().var_char_value(*text).build();
        Row::builder().set_data(Some(texts.iter().map(cell).collect())).build()
    }

    #[test]
    fn a_result_without_the_names_of_its_columns_is_no_result_without_rows() {
        let column = |name: &&str| ColumnInfo::builder().name(*name).r#type("varchar").build().unwrap();
        let names = ["country", "devices"];
        let (header, data) = (row(&names), row(&["JP", "1"]));
        let (select, show) = ("-- lake\nSELECT 1", "show tables");
        for (sql, columns, rows, expected) in [
            (select, &names[..], vec![header.clone()], Ok(0)),
            (select, &names, vec![header.clone(), data.clone()], Ok(1)),
            (select, &names, vec![data.clone()], Ok(1)),
            (show, &names, vec![], Ok(0)),
            (select, &names, vec![], Err("no row with the names of the columns")),
            (select, &[], vec![], Err("no ResultSet.ResultSetMetadata.ColumnInfo")),
            (show, &[], vec![data], Err("no ResultSet.ResultSetMetadata.ColumnInfo")),
        ] {
            let metadata =
                ResultSetMetadata::builder().set_column_info(Some(columns.iter().map(column).collect()));
            let mut left = rows.clone();
            let found = opened(sql, Some(metadata.build()), &mut left);
            match (found, expected) {
                (Ok(table), Ok(count)) => {
                    assert_eq!((table.columns().len(), left.len()), (2, count), "{rows:?}");
                }
                (Err(problem), Err(words)) => {
                    assert_eq!(problem.reason, Reason::Protocol);
                    assert!(problem.to_string().contains(words), "{problem}");
                }
                (found, expected) => panic!("{sql} with {rows:?}: {found:?}, not {expected:?}"),
            }
        }
        assert!(opened(select, None, &mut vec![header]).is_err(), "nor without metadata at all");
    }
}
