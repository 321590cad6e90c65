//! One connection to one PostgreSQL or Redshift server: capped, with a deadline on everything, and never used again after a failure.

mod failure;
mod login;
#[cfg(test)]
mod tests;

use crate::check::{Problem, Reason};
use crate::config::secret::{Reference, Text, Vault};
use crate::config::target::Server;
use crate::net::aws::Cluster;
use crate::net::refusals::Refusals;
use crate::net::stream;
use crate::net::table::Table;
use failure::Failure;
use futures_util::TryStreamExt;
use login::Open;
use metrics::{Answer, Metric, Unit};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::SimpleQueryMessage;

/// Bytes of one answer. The driver alone collects a 2 GB row in memory until the process is killed.
const ANSWER_LIMIT: u64 = 16 * 1024 * 1024;
/// Rows of one answer. Millions of short rows stay under the byte limit and would each become a series.
const ROW_LIMIT: usize = 100_000;
/// A cancel request that hangs must not take the time of the next run.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);
/// A session that idles longer is closed between two runs: it holds memory on the server, and firewalls forget it. A serverless
/// one is closed at once, because it would never pause.
const LONGEST_IDLE: Duration = Duration::from_mins(5);

/// How a cluster that is paused looks from outside.
const UNREACHABLE: [Reason; 5] =
    [Reason::Dns, Reason::Connect, Reason::ConnectTimeout, Reason::Starting, Reason::Io];

/// `datapulse_target_paused`
pub static PAUSED: Metric<0> = Metric::gauge(
    "datapulse.target.paused",
    Unit::None,
    &[],
    "1 when AWS says that the cluster is paused, stopped or on its way from or to that; 0 when it answers. Only where AWS knows it",
);

/// The way to one server, for one end of one check: at most one connection, opened when it is needed.
#[derive(Debug)]
pub struct Link {
    server: Arc<Server>,
    vault: Arc<Vault>,
    timeout: Duration,
    every: Duration,
    /// Ready for a question. It leaves this place before it is used, and comes back only after a good answer.
    ready: Option<Open>,
    /// Has a question that was not answered to the end. Never asked again: only cancelled and closed.
    asked: Option<Open>,
    logins: u64,
    refusals: Refusals,
}

/// What is known of the server and the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Grows with each login of the link: after a change the server may be another one, with other columns.
    pub number: u64,
    /// As `server_version_num`: 15.4 is 150004. Redshift says 80002.
    pub version_num: u32,
    /// As `version()`.
    pub version: String,
    /// The login role.
    pub user: String,
    /// The database.
    pub database: String,
}

impl Session {
    /// Whether this is Amazon Redshift, which calls itself PostgreSQL 8.0.2.
    pub fn is_redshift(&self) -> bool {
        self.version_num < login::FIRST_WITH_LOCK_TIMEOUT
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.split(" on ").next().unwrap_or_default();
        write!(f, "{version}, role {}, database {}", self.user, self.database)
    }
}

impl Link {
    /// A link without connection. `timeout` is the check's: the server is told to give up a little earlier by itself.
    /// `every` is the check's too: a refused login is tried again after 1, 2, 4 and then every 8 of it.
    pub fn new(server: Arc<Server>, vault: Arc<Vault>, timeout: Duration, every: Duration) -> Self {
        Self {
            server,
            vault,
            timeout,
            every,
            ready: None,
            asked: None,
            logins: 0,
            refusals: Refusals::new(every),
        }
    }

    /// The name of the server, for messages.
    pub fn name(&self) -> &str {
        &self.server.name
    }

    /// What is known of the live session, if there is one.
    pub fn known(&self) -> Option<&Session> {
        self.ready.as_ref().map(|open| &open.session)
    }

    /// Logs in if there is no live session, and says what is known of it.
    ///
    /// # Errors
    /// `dns`, `connect`, `connect_timeout`, `tls`, `auth`, `secret`, `starting`, `too_many`, `protocol`, `io`, or what the server says.
    pub async fn session(&mut self, deadline: Instant) -> Result<&Session, Problem> {
        let open = self.open(deadline).await?;
        Ok(&self.ready.insert(open).session)
    }

    /// Logs in if there is no live session, runs the statements and gives a [`Table`] for each that returns rows (also for no rows at all).
    /// A statement without result, such as `set`, gives none. The session ends with any error; the next question logs in anew.
    ///
    /// After [`Reason::Timeout`], or when this future was dropped, call [`Link::give_up`]: the statement may still run.
    ///
    /// # Errors
    /// Those of [`Link::session`], and `timeout`, `permission`, `lock_timeout`, `shutdown`, `too_large`, `row_limit`, `decode`, `query`.
    pub async fn ask(&mut self, sql: &str, deadline: Instant) -> Result<Vec<Table>, Problem> {
        let open = self.open(deadline).await?;
        let open = self.asked.insert(open);
        let Ok(answer) = timeout_at(deadline, open.answer(sql)).await else {
            return Err(Problem::new(
                Reason::Timeout,
                format!("no answer from {} in time", self.server.name),
            )
            .hint("raise the timeout of the check, or make the statement cheaper"));
        };
        let open = self.asked.take();
        match answer {
            Ok(tables) => {
                self.ready = open;
                Ok(tables)
            }
            Err(failure) => {
                Err(failure::ended(format!("could not read from {}", self.server.name), failure, open).await)
            }
        }
    }

    /// Cancels the question that was left unanswered, with a deadline of its own (1 s), and closes its connection in any case.
    /// Without such a question nothing happens.
    ///
    /// # Errors
    /// `cancel_timeout` when the request did not get through; the server then ends the statement by its own timeout.
    pub async fn give_up(&mut self) -> Result<(), Problem> {
        let Some(open) = self.asked.take() else { return Ok(()) };
        if open.client.is_closed() {
            open.close().await;
            return Ok(());
        }
        let done = timeout_at(Instant::now() + CANCEL_TIMEOUT, open.cancel()).await;
        open.close().await;
        let problem = |why: String| {
            Problem::new(
                Reason::CancelTimeout,
                format!("could not cancel the statement on {}", self.server.name),
            )
            .because(why)
            .hint("the server ends it by its own statement_timeout")
        };
        match done {
            Ok(result) => result.map_err(problem),
            Err(_) => Err(problem(format!("no answer within {CANCEL_TIMEOUT:?}"))),
        }
    }

    /// Logs in, unless AWS says that the cluster is paused: that is a state (`false`, and [`PAUSED`] 1), and no failure. AWS is asked only
    /// about a cluster that it has, and only when that cannot be reached; then a third of the time is kept for the question.
    ///
    /// # Errors
    /// Those of [`Link::session`].
    pub async fn awake(&mut self, deadline: Instant, facts: &mut Answer) -> Result<bool, Problem> {
        let target = &self.server.target;
        let (cluster, place) = (target.cluster(), target.place());
        let Some(cluster) = cluster else {
            self.session(deadline).await?;
            return Ok(true);
        };
        match self.session(deadline - self.timeout / 3).await.map(|_| ()) {
            Ok(()) => {
                if !matches!(cluster, Cluster::RedshiftServerless(_)) {
                    facts.set(&PAUSED, [], 0.0);
                }
                Ok(true)
            }
            Err(problem) if !UNREACHABLE.contains(&problem.reason) => Err(problem),
            Err(problem) => match Box::pin(self.vault.aws().is_paused(&cluster, &place, deadline)).await {
                Ok(Some(true)) => {
                    facts.set(&PAUSED, [], 1.0);
                    Ok(false)
                }
                Ok(_) => Err(problem),
                Err(refused) => {
                    tracing::debug!(server = %self.server.name, %refused, "could not ask whether the cluster is paused");
                    Err(problem)
                }
            },
        }
    }

    /// The end of a run: closes a session that is not worth keeping until the next one.
    pub async fn rest(&mut self) {
        if (self.every >= LONGEST_IDLE || self.server.target.is_serverless())
            && let Some(open) = self.ready.take()
        {
            open.close().await;
        }
    }

    /// A session for one use: the one that is ready, or a new one after the old one is closed.
    async fn open(&mut self, deadline: Instant) -> Result<Open, Problem> {
        if let Ok(Err(problem)) = timeout_at(deadline, self.give_up()).await {
            tracing::debug!(server = %self.server.name, %problem, "statement left behind");
        }
        if let Some(open) = self.ready.take() {
            if !open.client.is_closed() {
                return Ok(open);
            }
            open.close().await;
        }
        let secrets = self.secrets();
        if self.refusals.resting(&secrets, Instant::now()) {
            let what = format!("the login to {} was refused, and is not tried again yet", self.server.name);
            return Err(Problem::new(Reason::Auth, what).hint(
                "repeated refusals lock accounts; it is tried at once when the secret changes, or after a reload that changes the check",
            ));
        }
        // On the heap while it lasts: a login is the largest thing that a check waits for, and every waiting check would hold its room.
        let mut used = secrets;
        let mut result = Box::pin(self.login(deadline)).await;
        if matches!(&result, Err(problem) if problem.reason == Reason::Auth)
            && Box::pin(self.has_new_secret()).await
        {
            used = self.secrets();
            result = Box::pin(self.login(deadline)).await;
        }
        match &result {
            // What was refused is what was used: a secret that came in during the login has not been tried yet.
            Err(problem) if problem.reason == Reason::Auth => self.refusals.add(used, Instant::now()),
            Err(_) => {}
            Ok(_) => self.refusals.forget(),
        }
        result
    }

    /// The versions of what the login is made of.
    fn secrets(&self) -> Vec<u64> {
        self.references().map(|reference| self.vault.version(reference)).collect()
    }

    fn references(&self) -> impl Iterator<Item = &Reference> {
        let target = &self.server.target;
        target.login_role().and_then(Text::reference).into_iter().chain(&target.password)
    }

    async fn login(&mut self, deadline: Instant) -> Result<Open, Problem> {
        let login = login::login(&self.server, &self.vault, self.timeout, self.logins + 1, deadline);
        match timeout_at(deadline, login).await {
            Ok(result) => {
                self.logins += u64::from(result.is_ok());
                result
            }
            Err(_) => {
                Err(Problem::new(Reason::ConnectTimeout, format!("could not log in to {}", self.server.name))
                    .because("it accepted the connection, but the login did not end in time")
                    .hint("a proxy without a server behind it, a server that hangs, or a slow network"))
            }
        }
    }

    /// The login was refused: a secret may have been rotated since it was read.
    async fn has_new_secret(&self) -> bool {
        let mut changed = false;
        for reference in self.references() {
            changed |= self.vault.distrust(reference).await;
        }
        changed
    }
}

impl Open {
    async fn answer(&self, sql: &str) -> Result<Vec<Table>, Failure> {
        self.limit.reset(ANSWER_LIMIT);
        let mut messages = pin!(self.client.simple_query_raw(sql).await?);
        let mut tables: Vec<Table> = Vec::new();
        let mut rows = 0;
        while let Some(message) = messages.try_next().await? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    tables.push(Table::new(columns.iter().map(|column| column.name().to_owned())));
                }
                SimpleQueryMessage::Row(row) => {
                    rows += 1;
                    if let Some(table) = tables.last_mut() {
                        table.push((0..row.len()).map(|column| row.try_get(column)));
                    }
                }
                _ => {}
            }
            if rows.max(tables.len()) > ROW_LIMIT {
                return Err(Failure::TooManyRows);
            }
        }
        Ok(tables)
    }

    /// Asks the server, over a second connection to the same address, to end what runs here. Done when the server hangs up.
    async fn cancel(&self) -> Result<(), String> {
        let stream = stream::open(self.peer).await.map_err(|error| error.to_string())?;
        self.request_cancel(stream).await
    }

    /// Ends the connection and waits until it is gone. Gives the connection's own error, if it had ended by itself.
    async fn close(mut self) -> Option<tokio_postgres::Error> {
        self.task.abort();
        self.task.join().await.ok().and_then(Result::err)
    }
}
