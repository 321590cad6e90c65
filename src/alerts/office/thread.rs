//! Evidence on its way into the threads: fetched beside everything else, shown when nothing more urgent waits.

mod show;

pub(super) use show::Show;

use super::super::desk::Desk;
use super::super::incident::Record;
use super::super::message::list;
use super::super::slack::{File, Posted, Trouble};
use super::super::text::escape_within;
use super::Office;
use crate::check::Problem;
use crate::evidence::{Case, Collect, Found, Sources};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Fetches at a time, over all incidents.
const MOST_FETCHES: usize = 4;
/// One fetch; Logs Insights may take minutes.
const LONGEST_FETCH: Duration = Duration::from_mins(3);
/// What failed is tried again so much later.
const AGAIN: Duration = Duration::from_secs(30);
/// After the first failure to show a piece; doubled each time.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_mins(1);
/// A file that failed so often, over a quarter of an hour, is told of in words instead.
const MOST_FAILURES: u32 = 20;
/// When nothing is waited for.
const IDLE: Duration = Duration::from_mins(3);
/// Where the journal cannot be written, nothing is fetched.
const BLOCKED: Duration = Duration::from_millis(250);
/// A restart may have come in between, so one more than twice; of what costs nothing, some more.
const MOST_SCANS: u32 = 3;
const MOST_TRIES: u32 = 10;
/// The list of a digest is evidence of no number.
const LIST: usize = usize::MAX;

/// What is on its way, by incident and number of the evidence.
#[derive(Debug, Default)]
pub(super) struct Threads {
    jobs: BTreeMap<(String, usize), Job>,
    /// Incidents whose evidence has not been looked at yet.
    expected: Vec<String>,
    fetching: usize,
}

#[derive(Debug)]
struct Job {
    not_before: Instant,
    /// When the message was there.
    since: Instant,
    running: bool,
    ready: Option<Ready>,
    /// Times it was tried to show it.
    shows: u32,
    /// Times that failed by no word of Slack.
    failures: u32,
    /// Behind what is shown now there is something to come, so much later.
    later: Duration,
}

#[derive(Clone, Debug)]
struct Ready {
    found: Found,
    last: bool,
}

/// What a fetch gave.
pub(super) struct Fetched {
    id: String,
    at: usize,
    tries: u32,
    word: &'static str,
    /// How much later it is looked for again when there was nothing yet.
    later: Duration,
    result: Result<Found, Problem>,
}

impl Job {
    fn new(now: Instant) -> Self {
        let (not_before, since, later) = (now, now, Duration::ZERO);
        Self { not_before, since, running: false, ready: None, shows: 0, failures: 0, later }
    }

    /// It could not be shown.
    fn failed(&mut self, trouble: &Trouble) {
        self.running = false;
        self.not_before = Instant::now() + rest(self.failures);
        // What Slack says itself is kept to by the channel.
        let (Trouble::Unsent(problem) | Trouble::Unknown(problem)) = trouble else { return };
        self.failures += 1;
        if self.failures >= MOST_FAILURES
            && let Some(Ready { found, .. }) = &mut self.ready
            && let Found::File(file) = found
        {
            let why = escape_within(&problem.to_string(), 1500);
            *found = Found::Words(format!("{} could not be uploaded: {why}", file.name));
        }
    }
}

impl Threads {
    /// The message of an incident or digest is there, so its thread can be filled.
    pub(super) fn expect(&mut self, id: &str) {
        self.expected.push(id.to_owned());
    }

    /// When there is more to fetch or to show.
    pub(super) fn wake(&self) -> Instant {
        let now = Instant::now();
        if self.fetching >= MOST_FETCHES {
            return now + IDLE;
        }
        let waiting = self.jobs.values().filter(|job| !job.running && job.ready.is_none());
        // What is due and has not begun waits for the disk.
        waiting.map(|job| job.not_before.max(now + BLOCKED)).min().unwrap_or(now + IDLE)
    }

    /// Channels in which something is to be shown.
    pub(super) fn channels(&self, desk: &Desk) -> Vec<String> {
        let ready = self.jobs.iter().filter(|(_, job)| job.ready.is_some() && !job.running);
        ready.filter_map(|((id, _), _)| desk.channel_of(id).map(str::to_owned)).collect()
    }

    /// The next piece for a channel.
    pub(super) fn next(&mut self, desk: &Desk, channel: &str) -> Option<Show> {
        let now = Instant::now();
        let due = |job: &Job| job.ready.is_some() && !job.running && job.not_before <= now;
        let (key, job) =
            self.jobs.iter_mut().find(|((id, _), job)| due(job) && desk.channel_of(id) == Some(channel))?;
        let (channel, ts) = desk.place(&key.0)?;
        let Ready { found, last } = job.ready.clone()?;
        let tries = desk
            .incident(&key.0)
            .and_then(|incident| incident.evidence.get(key.1))
            .map_or(0, |one| one.tries);
        let opened = desk.incident(&key.0).map(|incident| incident.opened);
        let opened = opened.or_else(|| desk.digest(&key.0).map(|(digest, _)| digest.opened));
        job.running = true;
        job.shows += 1;
        Some(Show {
            id: key.0.clone(),
            at: key.1,
            thread: Posted { channel: channel.to_owned(), ts: ts.to_owned() },
            found,
            last,
            look: opened.filter(|_| tries != 1 || job.shows > 1),
        })
    }
}

impl Office {
    /// Begins what is to be fetched.
    pub(super) async fn begin_fetches(&mut self) {
        let config = self.setup.config.load_full();
        let moment = Instant::now();
        let job = || Job::new(moment);
        for id in std::mem::take(&mut self.threads.expected) {
            let alert = self.desk.incident(&id).and_then(|incident| incident.leading().cloned());
            let count = alert.map_or(0, |alert| config.collect(&alert).len());
            for (at, _) in self.desk.exhibits(&id, count) {
                self.threads.jobs.entry((id.clone(), at)).or_insert_with(job);
            }
        }
        let desk = &self.desk;
        self.threads.jobs.retain(|(id, _), job| job.running || desk.channel_of(id).is_some());
        for id in self.desk.unlisted() {
            let Some((_, members)) = self.desk.digest(&id) else { continue };
            let bytes = list(&members).into_bytes();
            let title = format!("All {} incidents", members.len());
            let file = File { name: "incidents.txt".to_owned(), title, bytes, alt: None };
            let ready = Some(Ready { found: Found::File(file), last: true });
            self.threads.jobs.entry((id, LIST)).or_insert_with(|| Job { ready, ..job() });
        }
        while self.threads.fetching < MOST_FETCHES {
            let due = |job: &Job| !job.running && job.ready.is_none() && job.not_before <= moment;
            let Some(key) = self.threads.jobs.iter().find(|(_, job)| due(job)).map(|(key, _)| key.clone())
            else {
                return;
            };
            if !self.begin_fetch(&key).await {
                return;
            }
        }
    }

    /// Begins one; says whether the journal has noted it.
    async fn begin_fetch(&mut self, key: &(String, usize)) -> bool {
        let config = self.setup.config.load_full();
        let (id, at) = (key.0.as_str(), key.1);
        let now = Timestamp::now();
        let case = self.desk.incident(id).and_then(|incident| {
            let alert = incident.leading()?.clone();
            Some((
                Case { alert, began: incident.began(), now },
                incident.evidence.get(at).map_or(0, |one| one.tries),
            ))
        });
        let collect = case.as_ref().and_then(|(case, _)| config.collect(&case.alert).get(at).cloned());
        let (Some((case, tries)), Some(collect)) = (case, collect) else {
            self.threads.jobs.remove(key);
            return true;
        };
        if tries >= if collect.scans() { MOST_SCANS } else { MOST_TRIES } {
            let records = self.desk.exhibit(id, at, |exhibit| exhibit.done = true);
            self.threads.jobs.remove(key);
            return self.write(records).await;
        }
        if collect.scans() {
            let Some(records) = self.desk.scan(config.scans_per_hour, now) else {
                let words = format!(
                    "Logs Insights was not asked: {} queries in an hour are the limit of the configuration",
                    config.scans_per_hour
                );
                self.ready(key, Found::Words(words), true);
                return true;
            };
            if !self.write(records).await {
                return false;
            }
        }
        let records = self.desk.exhibit(id, at, |exhibit| exhibit.tries += 1);
        if !self.write(records).await {
            return false;
        }
        if let Some(job) = self.threads.jobs.get_mut(key) {
            job.running = true;
        }
        self.threads.fetching += 1;
        // A file is found again by its name.
        let all = config.collect(&case.alert).iter().take(at);
        let twins = all.filter(|other| other.file_name() == collect.file_name()).count();
        let sources = Sources { board: Arc::clone(&self.setup.board), vault: Arc::clone(&self.setup.vault) };
        self.fetches.push(Box::pin(fetch(key.clone(), tries + 1, (collect, twins), case, sources)));
        true
    }

    /// Takes what a fetch gave.
    pub(super) fn fetched(&mut self, fetched: Fetched) {
        self.threads.fetching = self.threads.fetching.saturating_sub(1);
        let Fetched { id, at, tries, word, later, result } = fetched;
        let key = (id, at);
        let last = tries >= 2;
        match result {
            Ok(Found::Nothing) => self.ready(&key, Found::Nothing, true),
            Ok(Found::NotYet(words)) if last => {
                self.ready(&key, Found::Words(format!("{words}, also now")), true);
            }
            Ok(Found::NotYet(words)) => {
                let words = format!(
                    "{words}. Events arrive there late, so it is asked again {}",
                    match later.as_secs() / 60 {
                        0 => "soon".to_owned(),
                        1 => "in a minute".to_owned(),
                        minutes => format!("in {minutes} minutes"),
                    }
                );
                if let Some(job) = self.threads.jobs.get_mut(&key) {
                    job.later = later;
                }
                self.ready(&key, Found::Words(words), false);
            }
            Ok(found) => self.ready(&key, found, true),
            Err(problem) => {
                tracing::warn!(evidence = word, %problem, "evidence could not be fetched");
                self.setup.counters.failed(
                    problem.reason,
                    format!("evidence {word}: {problem}"),
                    Timestamp::now(),
                );
                if last {
                    let words = format!(
                        "No {}: {}",
                        word.replace('_', " "),
                        escape_within(&problem.to_string(), 1500)
                    );
                    self.ready(&key, Found::Words(words), true);
                } else if let Some(job) = self.threads.jobs.get_mut(&key) {
                    job.running = false;
                    job.not_before = Instant::now() + AGAIN;
                }
            }
        }
    }

    fn ready(&mut self, key: &(String, usize), found: Found, last: bool) {
        if let Some(job) = self.threads.jobs.get_mut(key) {
            job.running = false;
            job.not_before = Instant::now();
            job.ready = Some(Ready { found, last });
        }
    }

    /// A piece is in its thread.
    pub(super) fn shown(&mut self, show: &Show) -> Vec<Record> {
        let key = (show.id.clone(), show.at);
        if show.at == LIST {
            self.threads.jobs.remove(&key);
            return self.desk.listed(&show.id);
        }
        if show.last {
            if let Some(job) = self.threads.jobs.remove(&key) {
                self.setup.counters.evidence(job.since.elapsed());
            }
            return self.desk.exhibit(&show.id, show.at, |exhibit| exhibit.done = true);
        }
        if let Some(job) = self.threads.jobs.get_mut(&key) {
            job.running = false;
            job.ready = None;
            (job.shows, job.failures) = (0, 0);
            job.not_before = Instant::now() + job.later;
        }
        Vec::new()
    }

    /// A piece could not be shown, but may be later.
    pub(super) fn not_shown(&mut self, show: &Show, trouble: &Trouble) {
        if let Some(job) = self.threads.jobs.get_mut(&(show.id.clone(), show.at)) {
            job.failed(trouble);
        }
    }

    /// Slack does not take a piece.
    pub(super) fn given_up(&mut self, show: &Show) -> Vec<Record> {
        self.threads.jobs.remove(&(show.id.clone(), show.at));
        if show.at == LIST {
            return self.desk.listed(&show.id);
        }
        self.desk.exhibit(&show.id, show.at, |exhibit| exhibit.done = true)
    }
}

async fn fetch(
    (id, at): (String, usize),
    tries: u32,
    (collect, twins): (Collect, usize),
    case: Case,
    sources: Sources,
) -> Fetched {
    let deadline = Instant::now() + LONGEST_FETCH;
    let late = || Problem::new(crate::check::Reason::Timeout, "it took too long");
    let fetched = timeout(LONGEST_FETCH + AGAIN, collect.fetch(&case, &sources, deadline)).await;
    let mut result = fetched.unwrap_or_else(|_| Err(late()));
    if let Ok(Found::File(file)) = &mut result {
        file.name = numbered(&file.name, twins);
    }
    Fetched { id, at, tries, word: collect.word(), later: collect.later(), result }
}

/// `errors.json`, and `errors-2.json` behind one of that name.
fn numbered(name: &str, before: usize) -> String {
    match name.rsplit_once('.') {
        Some((stem, ending)) if before > 0 => format!("{stem}-{}.{ending}", before + 1),
        _ => name.to_owned(),
    }
}

/// How long a piece rests that could not be shown.
fn rest(failures: u32) -> Duration {
    FIRST_REST.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Reason;

    #[test]
    fn files_of_one_name_are_numbered() {
        assert_eq!(numbered("errors.json", 0), "errors.json");
        assert_eq!(numbered("errors.json", 2), "errors-3.json");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_cannot_be_uploaded_is_tried_ever_more_seldom_and_then_told_of_in_words() {
        let file = File { name: "chart.png".into(), title: String::new(), bytes: vec![1], alt: None };
        let ready = Some(Ready { found: Found::File(file), last: true });
        let now = Instant::now();
        let mut job = Job { ready, ..Job::new(now) };
        let mut rests = Vec::new();
        let lost = || Trouble::Unknown(Problem::new(Reason::Io, "status 500"));
        for _ in 1..MOST_FAILURES {
            job.failed(&lost());
            rests.push(job.not_before.duration_since(now).as_secs());
        }
        assert_eq!(rests[..7], [2, 4, 8, 16, 32, 60, 60]);
        assert!((600..1200).contains(&rests.iter().sum::<u64>()), "{rests:?}");
        job.failed(&Trouble::Later(Duration::from_secs(9)));
        assert!(matches!(job.ready.as_ref().unwrap().found, Found::File(_)), "patience is no failure");
        job.failed(&lost());
        let words = Found::Words("chart.png could not be uploaded: status 500".to_owned());
        assert_eq!(job.ready.unwrap().found, words);
    }
}
