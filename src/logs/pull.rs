//! Logs that are asked for: `FilterLogEvents` again and again, where no subscription can be had.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>

use super::intake::{Intake, id_of};
use super::routes::fits;
use super::scribe::Note;
use crate::check::{Problem, Reason};
use crate::config::secret::Vault;
use crate::net::aws::{Place, problem};
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use digest::payload::{BrokenEvent, Data, LogEvent, TIMES};
use jiff::Timestamp;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashSet};
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
/// An error names so many log groups.
const MOST_NAMED: usize = 10;
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
    let (seen, failing, told) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    let mut puller = Puller { pull, intake, vault, seen, failing, told };
    loop {
        ticks.tick().await;
        let result = puller.pass().await;
        progress.up.store(u8::from(result.is_ok()), Ordering::Relaxed);
        match result {
            Ok(()) => {
                progress.last_success.store(Timestamp::now().as_second(), Ordering::Relaxed);
                if !puller.failing.is_empty() {
                    tracing::info!(log_group = puller.pull.log_group, "logs can be pulled again");
                    puller.failing.clear();
                }
            }
            Err(failures) => puller.tell(failures),
        }
    }
}

/// A log group, or the pattern where not even that is known, and why nothing came from there.
type Failure = (String, Problem);

struct Puller {
    pull: Pull,
    intake: Arc<Intake>,
    vault: Arc<Vault>,
    /// Ids of the last pass, by log group: what the overlap brings again is neither sent nor counted again.
    seen: BTreeMap<String, HashSet<String>>,
    /// What was said to fail since the last pass that went well.
    failing: BTreeSet<String>,
    /// Log groups whose broken events were spoken of.
    told: BTreeSet<String>,
}

impl Puller {
    async fn pass(&mut self) -> Result<(), Vec<Failure>> {
        let all = |problem| vec![(self.pull.log_group.clone(), problem)];
        let client = self.vault.aws().logs(&self.pull.place).await.map_err(all)?;
        let log_groups = self.log_groups(&client).await.map_err(all)?;
        let mut failures = Vec::new();
        for log_group in log_groups {
            // One that fails holds up no other.
            if let Err(problem) = self.log_group(&client, &log_group).await {
                failures.push((log_group, problem));
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }

    /// One line when something fails that did not fail before.
    fn tell(&mut self, failures: Vec<Failure>) {
        let mut news = false;
        for (log_group, _) in &failures {
            news |= self.failing.insert(log_group.clone());
        }
        if let Some(problem) = together(failures).filter(|_| news) {
            tracing::warn!(log_group = self.pull.log_group, %problem, "logs cannot be pulled");
        }
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
                keep_new(data, |id| {
                    if seen.len() < MOST_REMEMBERED {
                        seen.insert(id.to_owned());
                    }
                    !before.contains(id)
                });
                self.tell_of_broken(data);
            }
            for data in
                streams.into_values().filter(|data| !data.events.is_empty() || !data.broken.is_empty())
            {
                self.take(data, Vec::new()).await?;
            }
            if let Some(value) = moved {
                let data = Data {
                    owner: String::new().into(),
                    log_group: log_group.to_owned().into(),
                    log_stream: String::new().into(),
                    events: Vec::new(),
                    broken: Vec::new(),
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

    /// Once for each log group: how many there are says the counter.
    fn tell_of_broken(&mut self, data: &Data<'_>) {
        if let Some(broken) = data.broken.first()
            && self.told.insert(data.log_group.clone().into_owned())
        {
            let (log_group, why) = (&data.log_group, broken.why);
            tracing::warn!(%log_group, why, "a log event that was pulled cannot be read; it is in the quarantine");
        }
    }
}

/// One problem for all: the first one, with the names of the others.
fn together(failures: Vec<Failure>) -> Option<Problem> {
    let mut failures = failures.into_iter();
    let (_, mut problem) = failures.next()?;
    let others = failures.len();
    let names = failures.take(MOST_NAMED).map(|(log_group, other)| {
        if other.reason == problem.reason {
            log_group
        } else {
            format!("{log_group} ({})", other.reason.as_str())
        }
    });
    let mut names = names.collect::<Vec<_>>().join(", ");
    if others > MOST_NAMED {
        names.push_str(&format!(" and {} more", others - MOST_NAMED));
    }
    if others > 0 {
        problem.what = format!("{} (failed as well: {names})", problem.what);
    }
    Some(problem)
}

/// The events of a page by stream, each in its order. What lacks something is broken.
fn streams(log_group: &str, events: &[FilteredLogEvent]) -> BTreeMap<String, Data<'static>> {
    let mut streams: BTreeMap<String, Data<'static>> = BTreeMap::new();
    for event in events {
        let stream = event.log_stream_name().unwrap_or_default();
        let data = streams.entry(stream.to_owned()).or_insert_with(|| Data {
            owner: String::new().into(),
            log_group: log_group.to_owned().into(),
            log_stream: stream.to_owned().into(),
            events: Vec::new(),
            broken: Vec::new(),
        });
        match whole(event) {
            Ok(event) => data.events.push(event),
            Err(why) => {
                let json = json!({"logStreamName": event.log_stream_name(), "eventId": event.event_id(),
                    "timestamp": event.timestamp(), "message": event.message()});
                let json = json.to_string().into();
                data.broken.push(BrokenEvent { why, json, before: data.events.len() });
            }
        }
    }
    streams
}

/// Drops what `is_new` does not know as new.
fn keep_new(data: &mut Data<'_>, mut is_new: impl FnMut(&str) -> bool) {
    // How many of the first n events are kept.
    let mut kept = vec![0];
    data.events.retain(|event| {
        let is_new = is_new(&event.id);
        kept.push(kept.last().copied().unwrap_or_default() + usize::from(is_new));
        is_new
    });
    data.broken.retain_mut(|broken| {
        broken.before = kept.get(broken.before).copied().unwrap_or_default();
        is_new(&id_of(broken))
    });
}

fn whole(event: &FilteredLogEvent) -> Result<LogEvent<'static>, &'static str> {
    event.log_stream_name().ok_or("the event names no stream")?;
    let id = event.event_id().filter(|id| !id.is_empty()).ok_or("the event has no id")?;
    let timestamp = event.timestamp().ok_or("the event has no timestamp")?;
    if !TIMES.contains(&timestamp) {
        return Err("the event's timestamp is not between 1970 and 9999");
    }
    let message = event.message().ok_or("the event has no message")?;
    Ok(LogEvent { id: id.to_owned().into(), timestamp, message: message.to_owned().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_lacks_something_is_broken_and_stands_between_its_neighbours() {
        let event =
            |id: &str| FilteredLogEvent::builder().log_stream_name("s").event_id(id).timestamp(1).message(id);
        let events = [
            event("a").build(),
            event("").build(),
            event("b").build(),
            event("c").timestamp(-1).build(),
            event("d").set_message(None).build(),
            event("e").build(),
            event("f").set_log_stream_name(None).build(),
            event("g").set_timestamp(None).build(),
        ];
        let shown = |data: &Data<'_>| {
            let ids: Vec<String> = data.events.iter().map(|event| event.id.clone().into_owned()).collect();
            let broken: Vec<String> =
                data.broken.iter().map(|broken| format!("{} {}", broken.before, broken.why)).collect();
            (ids.join(""), broken.join("; "))
        };
        let mut found = streams("g", &events);
        let expected = "1 the event has no id; 2 the event's timestamp is not between 1970 and 9999; \
            2 the event has no message; 3 the event has no timestamp";
        assert_eq!(shown(&found["s"]), ("abe".to_owned(), expected.to_owned()));
        assert_eq!(shown(&found[""]), (String::new(), "0 the event names no stream".to_owned()));
        let json = r#"{"eventId":"c","logStreamName":"s","message":"c","timestamp":-1}"#;
        assert_eq!(found["s"].broken[1].json, json);
        let known = id_of(&found["s"].broken[1]);
        keep_new(found.get_mut("s").unwrap(), |id| id != "a" && id != known);
        let expected = "0 the event has no id; 1 the event has no message; 2 the event has no timestamp";
        assert_eq!(shown(&found["s"]), ("be".to_owned(), expected.to_owned()));
    }

    #[test]
    fn one_problem_names_all_log_groups() {
        let failure = |number: usize| {
            let reason = if number == 2 { Reason::Throttled } else { Reason::Permission };
            (format!("g{number}"), Problem::new(reason, format!("could not read g{number}")).hint("allow it"))
        };
        let words = |count| together((1..=count).map(failure).collect()).map(|problem| problem.to_string());
        assert_eq!(words(0), None);
        assert_eq!(words(1).unwrap(), "could not read g1; allow it");
        assert_eq!(words(3).unwrap(), "could not read g1 (failed as well: g2 (throttled), g3); allow it");
        assert!(words(15).unwrap().ends_with("g10, g11 and 4 more); allow it"), "{:?}", words(15));
    }
}
