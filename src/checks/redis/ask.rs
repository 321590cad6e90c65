//! What one node is asked, and what it says.

use super::info::Info;
use super::topology::{Asked, View, items, number, text};
use crate::check::{Problem, Reason};
use crate::net::redis::{Address, Connection, Door, Value};
use tokio::time::Instant;

/// How many entries of the slow log people are shown of a node.
const SLOW_ENTRIES: &str = "5";
/// Names of commands are short; what is longer in that place is none.
const LONGEST_COMMAND: usize = 32;

/// What a node said.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) info: Info,
    /// Seconds.
    pub(super) ping: Option<f64>,
    pub(super) cluster: Option<Info>,
    /// Its own id in the cluster.
    pub(super) id: Option<String>,
    pub(super) view: Option<View>,
    pub(super) slow_length: Option<f64>,
    /// The newest first.
    pub(super) slow: Vec<Slow>,
    /// What it refused while it said the rest.
    pub(super) notes: Vec<Problem>,
}

/// An entry of the slow log.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slow {
    pub(super) id: i64,
    /// Unix seconds, by the node's clock.
    pub(super) at: i64,
    pub(super) seconds: f64,
    /// The command with its arguments masked.
    pub(super) text: String,
}

/// A node to be asked.
pub(super) struct Question<'a> {
    pub(super) door: &'a Door,
    /// Where to connect to.
    pub(super) address: Address,
    /// The host of the target, for nodes that do not know their own.
    pub(super) host: &'a str,
    pub(super) deadline: Instant,
    pub(super) wants_view: bool,
}

impl Question<'_> {
    /// Asks over a connection that is there, or a new one. It is given back only after good answers.
    pub(super) async fn ask(&self, kept: Option<Connection>) -> Result<(Seen, Connection), Problem> {
        if let Some(mut connection) = kept.filter(|connection| !connection.is_closed()) {
            match self.ask_on(&mut connection).await {
                Ok(seen) => return Ok((seen, connection)),
                // The server may have closed it while nobody looked: that says nothing about the server now.
                Err(problem) if problem.reason == Reason::Io => {}
                Err(problem) => return Err(problem),
            }
        }
        let mut connection = self.door.open(&self.address, self.deadline).await?;
        let seen = self.ask_on(&mut connection).await?;
        Ok((seen, connection))
    }

    async fn ask_on(&self, connection: &mut Connection) -> Result<Seen, Problem> {
        let mut seen = Seen::default();
        let sent = Instant::now();
        match connection.ask(&["PING"], self.deadline).await {
            Ok(_) => seen.ping = Some(sent.elapsed().as_secs_f64()),
            Err(problem) => seen.refused(problem)?,
        }
        let questions: [&[&str]; 3] = [&["INFO"], &["SLOWLOG", "LEN"], &["SLOWLOG", "GET", SLOW_ENTRIES]];
        let mut answers = connection.ask_all(&questions, self.deadline).await?.into_iter();
        let mut next = || answers.next().unwrap_or_else(|| Err(silent(&self.address)));
        let info = next()?;
        let info = text(&info).ok_or_else(|| {
            Problem::new(Reason::Decode, format!("{} gave an INFO that is no text", self.address))
        })?;
        seen.info = Info::read(&info);
        match next() {
            Ok(length) => seen.slow_length = number(&length).map(|length| length as f64),
            Err(problem) => seen.refused(problem)?,
        }
        match next() {
            Ok(entries) => seen.slow = items(&entries).unwrap_or_default().iter().filter_map(slow).collect(),
            Err(problem) => seen.refused(problem)?,
        }
        if self.wants_view && seen.info.is_cluster() {
            self.ask_cluster(connection, &mut seen).await?;
        }
        Ok(seen)
    }

    async fn ask_cluster(&self, connection: &mut Connection, seen: &mut Seen) -> Result<(), Problem> {
        let questions: [&[&str]; 3] = [&["CLUSTER", "MYID"], &["CLUSTER", "INFO"], &["CLUSTER", "SHARDS"]];
        let mut answers = connection.ask_all(&questions, self.deadline).await?.into_iter();
        let mut next = || answers.next().unwrap_or_else(|| Err(silent(&self.address)));
        seen.id = next().ok().as_ref().and_then(text);
        match next() {
            Ok(told) => seen.cluster = text(&told).map(|told| Info::read(&told)),
            Err(problem) => seen.refused(problem)?,
        }
        let asked = Asked { host: self.host, tls: self.door.uses_tls() };
        // Before 7.0 there are no SHARDS; a user may be allowed one of the others only.
        let refusal = match next() {
            Ok(shards) => {
                seen.view = View::of_shards(&shards, asked);
                None
            }
            Err(problem) => Some(problem),
        };
        if seen.view.is_none()
            && let [Ok(nodes)] = connection.ask_all(&[&["CLUSTER", "NODES"]], self.deadline).await?.as_slice()
        {
            seen.view = View::of_nodes(nodes, asked);
        }
        if seen.view.is_none()
            && let [Ok(slots)] = connection.ask_all(&[&["CLUSTER", "SLOTS"]], self.deadline).await?.as_slice()
        {
            seen.view = View::of_slots(slots, asked);
        }
        match refusal {
            Some(problem) if seen.view.is_none() => seen.refused(problem),
            _ => Ok(()),
        }
    }
}

impl Seen {
    /// Keeps what was refused for want of a right; what the state of the node forbids is told by its metrics.
    fn refused(&mut self, problem: Problem) -> Result<(), Problem> {
        match problem.reason {
            Reason::Permission => self.notes.push(problem),
            Reason::Query | Reason::Starting => {}
            _ => return Err(problem),
        }
        Ok(())
    }
}

fn silent(address: &Address) -> Problem {
    Problem::new(Reason::Protocol, format!("{address} left a question without an answer"))
}

/// `[id, time, microseconds, [command, arguments..], client, name]`; <https://redis.io/docs/latest/commands/slowlog-get/>
pub(super) fn slow(entry: &Value) -> Option<Slow> {
    let [id, at, micros, command, ..] = items(entry)? else { return None };
    Some(Slow {
        id: number(id)?,
        at: number(at)?,
        seconds: number(micros)? as f64 / 1e6,
        text: masked(items(command)?),
    })
}

/// The name of the command and how many arguments it had: keys and values are nobody's business.
fn masked(words: &[Value]) -> String {
    let name = words.first().and_then(text).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'|');
    let name = if !name.is_empty() && name.len() <= LONGEST_COMMAND && name.bytes().all(plain) {
        name.to_ascii_uppercase()
    } else {
        "?".to_owned()
    };
    match words.len().saturating_sub(1) {
        0 => name,
        1 => format!("{name} ?"),
        // The server itself cuts the list at 32 words and puts the number of the others in place of the last.
        more => format!("{name} ? ({more} arguments)"),
    }
}
