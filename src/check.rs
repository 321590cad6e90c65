//! What a check is, what a run of it gives, and the closed set of reasons for which it can fail.

pub mod headline;

use crate::net::Clients;
use headline::Headline;
use jiff::Timestamp;
use metrics::{Answer, Handle};
use serde_json::Value;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// One question, asked again and again. A check owns its connections and its memory.
///
/// A check's file reads: *ask* (I/O), *read* (row to struct), *tell* (a pure function from structs to an [`Answer`]).
pub trait Check: Sized + Send + 'static {
    /// The check's own keys; the envelope (name, target, every, timeout, labels, ...) is read elsewhere.
    type Config: schemars::JsonSchema + Clone + PartialEq + fmt::Debug + Send + Sync + 'static;

    /// The word in the configuration, and the label `check_type`.
    const WORD: &'static str;

    /// How often it runs when neither the check nor `defaults` say so; `None`: the configuration has to.
    const EVERY: Option<Duration>;

    /// Whether it asks a server of `targets:`; a check on an AWS API names what it asks in its own keys.
    const TARGET: bool = true;

    /// Whether its target is asked with SQL, and so has to name a user and a database.
    const SQL: bool = true;

    /// Its ends, its own target first. With [`Endpoint::Publisher`] as second it takes the key `publisher`.
    const ENDS: &'static [Endpoint];

    /// What it must be allowed to do, and what is lost without.
    const NEEDS: &'static [Need];

    /// What people want to see first, the best first: the page shows the first that has a sample. Without any, the first family.
    const HEADLINES: &'static [Headline] = &[];

    /// The families that it can give, for the catalogue and the collision check.
    fn families(config: &Self::Config) -> Vec<Handle>;

    /// Makes the check; no I/O. Called again after a panic.
    fn new(config: &Self::Config, clients: &Clients) -> Self;

    /// Asks once. The future is dropped at the deadline plus a little; what it left behind is cleaned up by [`Check::give_up`].
    fn run(&mut self, context: Context) -> impl Future<Output = Outcome> + Send;

    /// The ends that it talks with now, its own target first.
    fn ends(&self) -> &'static [Endpoint] {
        Self::ENDS
    }

    /// Cancels on the server what a run left behind after a timeout or a stop. Has two seconds.
    fn give_up(&mut self) -> impl Future<Output = Result<(), Problem>> + Send {
        async { Ok(()) }
    }

    /// Called between two runs: closes what must not stay open, such as a session that keeps a server from pausing.
    fn rest(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// What was known before this process started, for a check whose runs cost money: asked once, before the first run.
    fn recall(&mut self, _now: Timestamp) -> impl Future<Output = Recalled> + Send {
        async { Recalled::default() }
    }

    /// What it asks each end, as far as it is known: statements or calls, for the page. Literals of the configuration are masked.
    fn questions(&self) -> Vec<(Endpoint, Cow<'_, str>)> {
        Vec::new()
    }

    /// What the last run learned of the servers: version, role, columns in use. For `doctor`.
    fn learned(&self) -> Vec<(Endpoint, String)> {
        Vec::new()
    }
}

/// When a run began and until when it may take.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Wall clock at the start.
    pub now: Timestamp,
    /// Everything of this run has to end by then.
    pub deadline: Instant,
}

/// The two ends of a replication; a check with one end has [`Endpoint::Own`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// The only end of a check that has no two.
    Own,
    /// The subscriber's side.
    Subscriber,
    /// The publisher's side.
    Publisher,
}

impl Endpoint {
    /// The value of the label `endpoint`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Subscriber => "subscriber",
            Self::Publisher => "publisher",
        }
    }
}

/// What a run gave: one end or two, which answer or fail by themselves. The first is the check's own target.
#[derive(Debug)]
pub struct Outcome {
    /// The ends, the check's own target first.
    pub ends: Vec<End>,
}

/// One end's part of an outcome.
#[derive(Debug)]
pub struct End {
    /// Which end.
    pub endpoint: Endpoint,
    /// Its samples, or why there are none.
    pub result: Result<Answer, Problem>,
    /// Rows or columns that could not be read while the rest could: counted and shown, the end still answers.
    pub notes: Vec<Problem>,
    /// What holds whether the run succeeded or not, such as how much of the budget is left: shown until the next run.
    pub facts: Answer,
    /// Rows for people, shown as long as the samples.
    pub rows: Option<Listing>,
}

impl End {
    /// An end without notes, facts and rows.
    pub fn new(endpoint: Endpoint, result: Result<Answer, Problem>) -> Self {
        Self { endpoint, result, notes: Vec::new(), facts: Answer::new(), rows: None }
    }
}

/// Rows for people, who want to read what no label may hold: a statement's text, a time in their own zone. What is here may be
/// shown to everybody: texts are masked unless the check says `raw_text: true`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Names of the columns.
    pub columns: &'static [&'static str],
    /// A value a column; null is absent.
    pub rows: Vec<Vec<Value>>,
}

/// What a check knows from before this process started.
#[derive(Debug, Default)]
pub struct Recalled {
    /// When its last run began; the next one is due an interval later.
    pub last_start: Option<Timestamp>,
    /// When its last good run ended, and what that gave.
    pub answer: Option<(Timestamp, Answer)>,
    /// What holds in any case; see [`End::facts`].
    pub facts: Answer,
}

impl Outcome {
    /// The outcome of a check with one end.
    pub fn single(result: Result<Answer, Problem>) -> Self {
        Self { ends: vec![End::new(Endpoint::Own, result)] }
    }
}

/// Something a check must be allowed to do.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Which end.
    pub endpoint: Endpoint,
    /// The grant or IAM action, as its vendor writes it.
    pub grant: &'static str,
    /// What it is needed for, and what is missing without it.
    pub purpose: &'static str,
    /// The statement that grants it; `{user}` is the login role.
    pub statement: &'static str,
}

/// Why something could not be read: a reason for machines, words for people.
#[derive(Debug)]
pub struct Problem {
    /// The label `reason`.
    pub reason: Reason,
    /// What failed and where, lower case, no full stop, never with a secret.
    pub what: String,
    /// What to do next.
    pub hint: Option<Cow<'static, str>>,
    /// The error beneath.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A problem with its reason.
    pub fn new(reason: Reason, what: impl Into<String>) -> Self {
        Self { reason, what: what.into(), hint: None, source: None }
    }

    /// With the next step for the person on call.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the error beneath.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What failed and every error beneath, in one line, without the hint.
    pub fn chain(&self) -> String {
        let mut text = self.what.clone();
        let mut next = self.source.as_ref().map(|source| &**source as &(dyn Error + 'static));
        while let Some(error) = next {
            let words = error.to_string();
            if !text.ends_with(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            next = error.source();
        }
        text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain())?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Why a check failed. The set is closed: dashboards and rules know every word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The host name has no address.
    Dns,
    /// Nothing accepts the connection.
    Connect,
    /// Connecting, TLS and login took too long.
    ConnectTimeout,
    /// The TLS handshake failed, or the certificate is not the right one.
    Tls,
    /// User or password refused.
    Auth,
    /// Logged in, but not allowed to read.
    Permission,
    /// A secret could not be read.
    Secret,
    /// AWS credentials are missing or expired.
    Credentials,
    /// The server is starting up or recovering.
    Starting,
    /// The server has no connection left.
    TooMany,
    /// The answer took too long.
    Timeout,
    /// A lock was not granted in time.
    LockTimeout,
    /// The cancel request did not get through either.
    CancelTimeout,
    /// The server ended the connection because it shuts down.
    Shutdown,
    /// A reader where the configuration wants the writer.
    WrongRole,
    /// The connection broke.
    Io,
    /// The server spoke something else than its protocol.
    Protocol,
    /// A value could not be read.
    Decode,
    /// The answer was larger than the cap.
    TooLarge,
    /// The answer had more rows than the cap.
    RowLimit,
    /// The answer had no row although one is expected.
    Empty,
    /// The data are older than allowed.
    StaleData,
    /// The server refused the statement.
    Query,
    /// AWS asked to slow down.
    Throttled,
    /// Today's budget is spent.
    Budget,
    /// AWS refused for another reason.
    Aws,
    /// A defect of this program.
    Panic,
}

impl Reason {
    /// All reasons, in the order of the catalogue.
    pub const ALL: [Self; 27] = [
        Self::Dns,
        Self::Connect,
        Self::ConnectTimeout,
        Self::Tls,
        Self::Auth,
        Self::Permission,
        Self::Secret,
        Self::Credentials,
        Self::Starting,
        Self::TooMany,
        Self::Timeout,
        Self::LockTimeout,
        Self::CancelTimeout,
        Self::Shutdown,
        Self::WrongRole,
        Self::Io,
        Self::Protocol,
        Self::Decode,
        Self::TooLarge,
        Self::RowLimit,
        Self::Empty,
        Self::StaleData,
        Self::Query,
        Self::Throttled,
        Self::Budget,
        Self::Aws,
        Self::Panic,
    ];

    /// The value of the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Permission => "permission",
            Self::Secret => "secret",
            Self::Credentials => "credentials",
            Self::Starting => "starting",
            Self::TooMany => "too_many",
            Self::Timeout => "timeout",
            Self::LockTimeout => "lock_timeout",
            Self::CancelTimeout => "cancel_timeout",
            Self::Shutdown => "shutdown",
            Self::WrongRole => "wrong_role",
            Self::Io => "io",
            Self::Protocol => "protocol",
            Self::Decode => "decode",
            Self::TooLarge => "too_large",
            Self::RowLimit => "row_limit",
            Self::Empty => "empty",
            Self::StaleData => "stale_data",
            Self::Query => "query",
            Self::Throttled => "throttled",
            Self::Budget => "budget",
            Self::Aws => "aws",
            Self::Panic => "panic",
        }
    }
}

/// What a run gave, with its times: what the board takes.
#[derive(Debug)]
pub struct Report {
    /// Wall clock at the end.
    pub ended: Timestamp,
    /// Monotonic clock at the end: freshness is counted from here.
    pub ended_at: Instant,
    /// How long the run took.
    pub took: Duration,
    /// The ends.
    pub ends: Vec<End>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let words: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }

    #[test]
    fn a_problem_reads_as_what_then_why_then_cure() {
        let problem = Problem::new(Reason::Permission, "could not read pg_stat_subscription on orders")
            .because(std::io::Error::other("permission denied"))
            .hint("grant pg_monitor to datapulse");
        assert_eq!(
            problem.to_string(),
            "could not read pg_stat_subscription on orders: permission denied; grant pg_monitor to datapulse"
        );
    }
}
