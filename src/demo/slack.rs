//! A workspace of Slack on 127.0.0.1, for the demo and the tests: takes what Slack takes, refuses what Slack refuses, fails on
//! request, and has a page that shows channels and threads.

mod api;
mod door;
mod page;

pub use api::Answer;
pub use door::serve;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Messages that a channel takes in a row before its pace counts.
const BURST: f64 = 3.0;

/// Scopes that docs/alerts-in-slack.md asks for.
const SCOPES: [&str; 3] = ["chat:write", "files:write", "channels:history"];

/// What goes wrong on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// 429, with so many seconds of patience.
    Limited(u64),
    /// 500, and nothing was done.
    Broken,
    /// It is done, and the connection closes without an answer.
    Lost,
    /// 200 with `ok: false` and this word.
    Refused(&'static str),
}

/// A message of a channel or thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The channel.
    pub channel: String,
    /// Its name.
    pub ts: String,
    /// The message that it answers.
    pub thread: Option<String>,
    /// Whether the channel shows it too.
    pub broadcast: bool,
    /// For notifications.
    pub text: String,
    /// What it shows.
    pub blocks: Vec<Value>,
    /// What its sender has put behind it.
    pub metadata: Value,
    /// Its files, by id.
    pub files: Vec<String>,
    /// How often it was changed.
    pub edits: u32,
    /// When it came.
    pub at: Instant,
}

/// A file.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// What stands above it.
    pub title: String,
    /// What it shows.
    pub alt: String,
    /// As many bytes as were announced, once they are there.
    pub bytes: Option<Vec<u8>>,
    length: usize,
}

/// What has been counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls by method.
    pub calls: BTreeMap<String, usize>,
    /// Calls that failed on request.
    pub troubles: usize,
    /// Posts less than a second after the one before, in the same channel.
    pub hasty: usize,
    /// Posts before the patience that was asked for was over.
    pub early: usize,
}

/// The workspace.
#[derive(Debug)]
pub struct Workspace {
    token: Mutex<String>,
    channels: BTreeMap<String, String>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    messages: Vec<Message>,
    files: BTreeMap<String, File>,
    counts: Counts,
    /// In a hundred calls so many fail, in turns of these kinds.
    troubles: (u64, Vec<Trouble>),
    /// How the next calls of a method fail.
    planned: BTreeMap<String, VecDeque<Trouble>>,
    /// Scopes that the token lacks.
    lacking: BTreeSet<String>,
    /// Channels that the bot is not in.
    outside: BTreeSet<String>,
    paces: BTreeMap<String, Pace>,
    made: u64,
    random: u64,
}

/// How a channel is filled.
#[derive(Clone, Copy, Debug)]
struct Pace {
    tokens: f64,
    last: Instant,
    patience: Option<Instant>,
}

impl Workspace {
    /// A workspace with these channels (id and name) for one bot.
    pub fn new(token: &str, channels: &[(&str, &str)]) -> Self {
        let channels = channels.iter().map(|(id, name)| ((*id).to_owned(), (*name).to_owned())).collect();
        let inner = Inner { random: 0x9e37_79b9_7f4a_7c15, ..Inner::default() };
        Self { token: Mutex::new(token.to_owned()), channels, inner: Mutex::new(inner) }
    }

    /// From now on in a hundred calls so many fail, in one of these ways.
    pub fn trouble(&self, percent: u64, kinds: &[Trouble]) {
        self.inner().troubles = (percent, kinds.to_vec());
    }

    /// The next calls of this method fail so; the bytes of a file are `upload`.
    pub fn plan(&self, method: &str, troubles: impl IntoIterator<Item = Trouble>) {
        self.inner().planned.entry(method.to_owned()).or_default().extend(troubles);
    }

    /// The token loses this scope.
    pub fn lose_scope(&self, scope: &str) {
        self.inner().lacking.insert(scope.to_owned());
    }

    /// The bot is put out of this channel.
    pub fn leave(&self, channel: &str) {
        self.inner().outside.insert(channel.to_owned());
    }

    /// What the token may do, as Slack says it in a header.
    pub fn scopes(&self) -> String {
        let inner = self.inner();
        SCOPES.iter().filter(|scope| !inner.lacking.contains(**scope)).copied().collect::<Vec<_>>().join(",")
    }

    /// The bot gets another token; the old one is worth nothing.
    pub fn rotate(&self, token: &str) {
        token.clone_into(&mut self.token.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All messages, in the order in which they came.
    pub fn messages(&self) -> Vec<Message> {
        self.inner().messages.clone()
    }

    /// The messages that are no replies.
    pub fn posts(&self) -> Vec<Message> {
        self.inner().messages.iter().filter(|message| message.thread.is_none()).cloned().collect()
    }

    /// The replies to a message.
    pub fn replies(&self, ts: &str) -> Vec<Message> {
        let replies = |message: &&Message| message.thread.as_deref() == Some(ts);
        self.inner().messages.iter().filter(replies).cloned().collect()
    }

    /// A file by its id.
    pub fn file(&self, id: &str) -> Option<File> {
        self.inner().files.get(id).cloned()
    }

    /// What has been counted.
    pub fn counts(&self) -> Counts {
        self.inner().counts.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether this call fails, and how.
    fn draw(&mut self, method: &str) -> Option<Trouble> {
        if let Some(trouble) = self.planned.get_mut(method).and_then(VecDeque::pop_front) {
            self.counts.troubles += 1;
            return Some(trouble);
        }
        // xorshift: the same in every run.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let (percent, kinds) = &self.troubles;
        if kinds.is_empty() || self.random % 100 >= *percent {
            return None;
        }
        self.counts.troubles += 1;
        let at = usize::try_from(self.random / 100).unwrap_or_default() % kinds.len();
        kinds.get(at).copied()
    }

    /// Whether a channel takes a message now; else after how many seconds.
    fn take(&mut self, channel: &str, now: Instant) -> Result<(), u64> {
        let full = Pace {
            tokens: BURST,
            last: now.checked_sub(Duration::from_secs(2)).unwrap_or(now),
            patience: None,
        };
        let pace = self.paces.entry(channel.to_owned()).or_insert(full);
        if pace.patience.is_some_and(|until| now < until) {
            self.counts.early += 1;
        }
        let since = now.saturating_duration_since(pace.last).as_secs_f64();
        // What is measured here may be a little less than what was waited there.
        if since < 0.95 {
            self.counts.hasty += 1;
        }
        pace.tokens = (pace.tokens + since).min(BURST);
        pace.last = now;
        if pace.tokens < 1.0 {
            return Err(1);
        }
        pace.tokens -= 1.0;
        Ok(())
    }

    fn name(&mut self, seconds: i64) -> String {
        self.made += 1;
        format!("{seconds}.{:06}", self.made)
    }
}
