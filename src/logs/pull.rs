//! Logs that are asked for: `FilterLogEvents` again and again, where no subscription can be had.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>

use super::intake::Intake;
use super::routes::fits;
use super::scribe::Note;
use crate::check::{Problem, Reason};
use crate::config::secret::Vault;
use crate::net::aws::{Place, problem};
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use digest::payload::{Data, LogEvent};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

/// The quota of an account and region is five calls a second, and others ask too.
const BETWEEN_CALLS: Duration = Duration::from_millis(250);
/// A pattern that fits more log groups than this is too wide to be asked about every minute.
const MOST_GROUPS: usize = 200;
/// Ids that are remembered between two passes over a log group; the scribe knows all others.
const MOST_REMEMBERED: usize = 200_000;
/// Names of notes with the end of the last pass begin like this.
const CURSOR: &str = "pull\u{1f}";

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Pull {
    /// Log groups; `*` stands for any text between two slashes.
    pub log_group: String,
    /// How often.
    pub every: Duration,
    /// Each pass begins so long before the end of the last one: events can be found only some time after they happened.
    pub overlap: Duration,
    /// Where, and as whom.
    pub place: Place,
}

/// How a pull goes, for the instruments.
#[derive(Debug)]
pub struct Progress {
    /// What is pulled, as it was written.
    pub log_group: String,
    /// 0 failed, 1 went well, 2 not yet.
    up: AtomicU8,
    last_success: AtomicI64,
}

impl Progress {
    /// Of a pull that has not begun.
    pub fn new(pull: &Pull) -> Self {
        Self { log_group: pull.log_group.clone(), up: AtomicU8::new(2), last_success: AtomicI64::new(0) }
    }

    /// Whether the last pass went well; `None` before its end.
    pub fn up(&self) -> Option<bool> {
        match self.up.load(Ordering::Relaxed) {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// Unix time in seconds of the last pass that went well.
    pub fn last_success(&self) -> Option<i64> {
        Some(self.last_success.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }
}

/// Pulls again and again. Ends only with its task; what was not committed is asked for again.
pub async fn live(pull: Pull, intake: Arc<Intake>, vault: Arc<Vault>, progress: Arc<Progress>) {
    let mut ticks = interval_at(Instant::now(), pull.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut puller = Puller { pull, intake, vault, seen: BTreeMap::new() };
    loop {
        ticks.tick().await;
        let result = puller.pass().await;
        let before = progress.up();
        progress.up.store(u8::from(result.is_ok()), Ordering::Relaxed);
        let log_group = &puller.pull.log_group;
        match result {
            Ok(()) => {
                progress.last_success.store(Timestamp::now().as_second(), Ordering::Relaxed);
                if before == Some(false) {
                    tracing::info!(log_group, "logs can be pulled again");
                }
            }
            Err(problem) if before != Some(false) => {
                tracing::warn!(log_group, %problem, "logs cannot be pulled");
            }
            Err(_) => {}
        }
    }
}

struct Puller {
    pull: Pull,
    intake: Arc<Intake>,
    vault: Arc<Vault>,
    /// Ids of the last pass, by log group: what the overlap brings again is neither sent nor counted again.
    seen: BTreeMap<String, HashSet<String>>,
}

impl Puller {
    async fn pass(&mut self) -> Result<(), Problem> {
        let client = self.vault.aws().logs(&self.pull.place).await?;
        let log_groups = self.log_groups(&client).await?;
        let mut first_problem = None;
        for log_group in log_groups {
            // One that fails holds up no other.
            if let Err(problem) = self.log_group(&client, &log_group).await {
                first_problem.get_or_insert(problem);
            }
        }
        first_problem.map_or(Ok(()), Err)
    }

    async fn log_groups(&self, client: &Client) -> Result<Vec<String>, Problem> {
        let pattern = &self.pull.log_group;
        let Some((prefix, _)) = pattern.split_once('*') else { return Ok(vec![pattern.clone()]) };
        let prefix = Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty());
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let call = client.describe_log_groups().set_log_group_name_prefix(prefix.clone());
            let answer = call.set_next_token(token).send().await;
            let what = format!("could not list the log groups of {pattern}");
            let answer = answer.map_err(|error| problem(&what, "logs:DescribeLogGroups", error))?;
            let names = answer.log_groups().iter().filter_map(|group| group.log_group_name());
            found.extend(names.filter(|name| fits(pattern, name)).map(str::to_owned));
            if found.len() > MOST_GROUPS {
                let what = format!("{pattern} fits more than {MOST_GROUPS} log groups");
                return Err(Problem::new(Reason::TooLarge, what)
                    .hint("write a narrower pattern, or subscribe to them"));
            }
            token = answer.next_token().map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
            sleep(BETWEEN_CALLS).await;
        }
    }

    async fn log_group(&mut self, client: &Client, log_group: &str) -> Result<(), Problem> {
        let name: Arc<str> = format!("{CURSOR}{log_group}").into();
        let end_ms = Timestamp::now().as_millisecond();
        let cursor = self.intake.scribe().note(&name).and_then(|cursor| cursor.parse::<i64>().ok());
        let overlap = i64::try_from(self.pull.overlap.as_millis()).unwrap_or(i64::MAX);
        let start_ms = cursor.unwrap_or(end_ms).saturating_sub(overlap);
        let before = self.seen.remove(log_group).unwrap_or_default();
        let (mut seen, mut token) = (HashSet::new(), None);
        loop {
            let call =
                client.filter_log_events().log_group_name(log_group).start_time(start_ms).end_time(end_ms);
            let answer = call.set_next_token(token).send().await;
            let what = format!("could not read {log_group}");
            let answer = answer.map_err(|error| problem(&what, "logs:FilterLogEvents", error))?;
            // Pages can be empty although more follow.
            token = answer.next_token().map(str::to_owned);
            let moved = token.is_none().then(|| Arc::from(end_ms.to_string()));
            let mut streams = streams(log_group, answer.events());
            for data in streams.values_mut() {
                data.events.retain(|event| !before.contains(event.id.as_ref()));
                let room = MOST_REMEMBERED.saturating_sub(seen.len());
                seen.extend(data.events.iter().take(room).map(|event| event.id.clone().into_owned()));
            }
            seen.extend(
                answer
                    .events()
                    .iter()
                    .filter_map(|event| event.event_id())
                    .filter(|id| before.contains(*id))
                    .map(str::to_owned),
            );
            for data in streams.into_values().filter(|data| !data.events.is_empty()) {
                self.take(data, Vec::new()).await?;
            }
            if let Some(value) = moved {
                let data = Data {
                    owner: String::new().into(),
                    log_group: log_group.to_owned().into(),
                    log_stream: String::new().into(),
                    events: Vec::new(),
                };
                self.take(data, vec![Note { name, value: Some(value) }]).await?;
                self.seen.insert(log_group.to_owned(), seen);
                return Ok(());
            }
            sleep(BETWEEN_CALLS).await;
        }
    }

    async fn take(&self, data: Data<'static>, notes: Vec<Note>) -> Result<(), Problem> {
        self.intake.take_events(data, notes, Timestamp::now()).await.map_err(|error| {
            Problem::new(Reason::Io, "what was pulled could not be kept; it is asked for again")
                .because(error)
        })
    }
}

/// The events of a page by stream, each in its order.
fn streams(log_group: &str, events: &[FilteredLogEvent]) -> BTreeMap<String, Data<'static>> {
    let mut streams: BTreeMap<String, Data<'static>> = BTreeMap::new();
    for event in events {
        let (Some(stream), Some(id), Some(timestamp), Some(message)) =
            (event.log_stream_name(), event.event_id(), event.timestamp(), event.message())
        else {
            continue;
        };
        let new = || Data {
            owner: String::new().into(),
            log_group: log_group.to_owned().into(),
            log_stream: stream.to_owned().into(),
            events: Vec::new(),
        };
        let event = LogEvent { id: id.to_owned().into(), timestamp, message: message.to_owned().into() };
        streams.entry(stream.to_owned()).or_insert_with(new).events.push(event);
    }
    streams
}
