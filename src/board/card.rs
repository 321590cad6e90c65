//! One check's place on the board: its counters, its last run, and the samples of its ends with their time to live.

use super::Spec;
use super::families::{
    CAPPED, DUPLICATES, DURATION, ENDPOINT_UP, FAILURES, INTERVAL, LAST_SUCCESS, RUNS, SAMPLES, THRESHOLD, UP,
};
use super::history::History;
use crate::check::{Endpoint, Listing, Problem, Reason, Report};
use jiff::Timestamp;
use metrics::{Answer, Part};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// What people see of a check; made for the page and the API.
#[derive(Clone, Debug)]
pub struct Card {
    spec: Spec,
    labels: Arc<[(String, String)]>,
    runs: u64,
    failures: BTreeMap<Reason, u64>,
    duplicates: u64,
    /// Per family: the total, and the total that was shown last. A new label set is shown once at 0.
    capped: BTreeMap<String, (u64, u64)>,
    last: Option<Last>,
    last_success: Option<Timestamp>,
    next: Option<Instant>,
    history: Arc<History>,
    questions: Vec<(Endpoint, Arc<str>)>,
    /// Counters, thresholds and what is known of the last run: always shown.
    own: Option<Arc<Part>>,
    /// What holds whether the last run succeeded or not.
    facts: Vec<Arc<Part>>,
    /// Samples, an end each, each with its time to live.
    ends: Vec<EndCard>,
}

/// The last ended run of a check.
#[derive(Clone, Debug)]
pub struct Last {
    /// Wall clock at its end.
    pub ended: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Samples it gave.
    pub samples: usize,
    /// What went wrong, by end; the cure stands in the problem's text.
    pub problems: Vec<(Endpoint, Reason, String)>,
    /// Whether the check's own target answered.
    pub up: bool,
    /// Whether every end answered.
    pub whole: bool,
    /// When its values stop to be shown.
    pub expires: Instant,
}

/// How a check stands, in one word for the page, the API and the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not ended a run yet.
    Waiting,
    /// Every end answers.
    Up,
    /// Its own target answers, but another end or a part of the answer does not.
    Partly,
    /// Its own target does not answer.
    Down,
    /// Its next report is overdue.
    Stale,
}

impl State {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Up => "up",
            Self::Partly => "partly",
            Self::Down => "down",
            Self::Stale => "stale",
        }
    }
}

#[derive(Clone, Debug)]
struct EndCard {
    endpoint: Endpoint,
    /// The samples; shown until they expire.
    samples: Option<Arc<Part>>,
    /// Rows for people; shown as long as the samples.
    rows: Option<Arc<Listing>>,
    /// `up 1` while the samples are fresh, `up 0` after that or after a failure.
    state: Vec<Arc<Part>>,
    ended_at: Instant,
}

impl Card {
    pub(super) fn new(spec: Spec, labels: Arc<[(String, String)]>) -> Self {
        Self {
            spec,
            labels,
            runs: 0,
            failures: Reason::ALL.iter().map(|reason| (*reason, 0)).collect(),
            duplicates: 0,
            capped: BTreeMap::new(),
            last: None,
            last_success: None,
            next: None,
            history: Arc::default(),
            questions: Vec::new(),
            own: None,
            facts: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The word of the configuration.
    pub fn check_type(&self) -> &'static str {
        self.spec.check_type
    }

    /// What the board was told of the check.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The last ended run.
    pub fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// How the check stands.
    pub fn state(&self, now: Instant) -> State {
        match &self.last {
            None => State::Waiting,
            Some(last) if last.expires <= now => State::Stale,
            Some(last) if !last.up => State::Down,
            Some(last) if !last.problems.is_empty() => State::Partly,
            Some(_) => State::Up,
        }
    }

    /// When the check's own target last answered.
    pub fn last_success(&self) -> Option<Timestamp> {
        self.last_success
    }

    /// When the check runs next.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// How its values went.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What it asks its ends.
    pub fn questions(&self) -> impl Iterator<Item = &(Endpoint, Arc<str>)> {
        self.questions.iter()
    }

    pub(super) fn asks(&self, questions: &[(Endpoint, Cow<'_, str>)]) -> bool {
        let mut both = self.questions.iter().zip(questions);
        self.questions.len() == questions.len()
            && both.all(|(known, asked)| known.0 == asked.0 && *known.1 == *asked.1)
    }

    pub(super) fn ask(&mut self, questions: Vec<(Endpoint, Arc<str>)>) {
        self.questions = questions;
    }

    /// Ended runs and failures of all reasons.
    pub fn totals(&self) -> (u64, u64) {
        (self.runs, self.failures.values().sum())
    }

    /// Failures of one reason.
    pub fn failures(&self, reason: Reason) -> u64 {
        self.failures.get(&reason).copied().unwrap_or_default()
    }

    /// The samples that may be shown at `now`.
    pub fn samples(&self, now: Instant) -> impl Iterator<Item = &Arc<Part>> {
        let now = now.into_std();
        self.ends.iter().filter_map(|end| end.samples.as_ref()).filter(move |part| part.visible(now))
    }

    /// The rows for people that may be shown at `now`.
    pub fn rows(&self, now: Instant) -> impl Iterator<Item = &Arc<Listing>> {
        let now = now.into_std();
        let shown = move |end: &&EndCard| end.samples.as_ref().is_some_and(|part| part.visible(now));
        self.ends.iter().filter(shown).filter_map(|end| end.rows.as_ref())
    }

    /// What holds whether the last run succeeded or not.
    pub fn facts(&self) -> impl Iterator<Item = &Arc<Part>> {
        self.facts.iter()
    }

    /// Takes what was known before this process started: no run, and shown only as long as it would have been.
    pub(super) fn recall(
        &mut self,
        facts: Answer,
        answer: Option<(Timestamp, Instant, Answer)>,
        started: SystemTime,
    ) {
        self.facts = vec![self.part(facts, started, None, None)];
        if let Some((ended, ended_at, mut answer)) = answer {
            answer.cap(self.spec.limit);
            answer.seal();
            let expires = ended_at + self.spec.every + self.spec.timeout;
            let samples = self.part(answer, started, None, Some(expires));
            self.ends = vec![EndCard {
                endpoint: Endpoint::Own,
                samples: Some(samples),
                rows: None,
                state: Vec::new(),
                ended_at,
            }];
            self.last_success = Some(ended);
        }
        self.renew(started);
    }

    /// Takes what the configuration says now; the counters stay.
    pub(super) fn change(&mut self, spec: Spec, labels: Arc<[(String, String)]>, started: SystemTime) {
        self.spec = spec;
        self.labels = labels;
        self.renew(started);
    }

    /// Forgets the last run; the counters stay.
    pub(super) fn clear(&mut self, started: SystemTime) {
        self.ends.clear();
        self.facts.clear();
        self.last = None;
        self.renew(started);
    }

    /// Counts a failure that came after the report.
    pub(super) fn count(&mut self, problem: &Problem, started: SystemTime) {
        *self.failures.entry(problem.reason).or_default() += 1;
        self.renew(started);
    }

    pub(super) fn plan(&mut self, next: Instant) {
        self.next = Some(next);
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = Arc<Part>> {
        let ends = self.ends.iter().flat_map(|end| end.state.iter().chain(&end.samples));
        self.own.iter().chain(&self.facts).chain(ends).cloned()
    }

    pub(super) fn take(&mut self, report: Report, started: SystemTime) {
        let expires = report.ended_at + self.spec.every + self.spec.timeout;
        let mut problems = Vec::new();
        let mut ends = Vec::with_capacity(report.ends.len());
        let mut count = 0;
        let up = report.ends.first().is_some_and(|end| end.result.is_ok());
        let whole = report.ends.iter().all(|end| end.result.is_ok());
        let mut facts = Vec::new();
        let (headlines, every, now) = (self.spec.headlines, self.spec.every, report.ended.as_second());
        let mut history = std::mem::take(&mut self.history);
        let course = Arc::make_mut(&mut history);
        for (at, end) in report.ends.into_iter().enumerate() {
            let own = at == 0;
            for note in end.notes {
                *self.failures.entry(note.reason).or_default() += 1;
                problems.push((end.endpoint, note.reason, note.to_string()));
            }
            course.record(&end.facts, headlines, every, now);
            if !end.facts.is_empty() {
                facts.push(self.part(end.facts, started, None, None));
            }
            let rows = end.rows.map(Arc::new);
            ends.push(match end.result {
                Ok(mut answer) => {
                    for (family, lost) in answer.cap(self.spec.limit) {
                        self.capped.entry(family.prometheus()).or_default().0 += lost as u64;
                    }
                    self.duplicates += answer.seal() as u64;
                    count += answer.len();
                    course.record(&answer, headlines, every, now);
                    let samples = self.part(answer, started, None, Some(expires));
                    let fresh = self.part(self.lights(end.endpoint, own, 1.0), started, None, Some(expires));
                    let overdue =
                        self.part(self.lights(end.endpoint, own, 0.0), started, Some(expires), None);
                    let state = vec![fresh, overdue];
                    EndCard {
                        endpoint: end.endpoint,
                        samples: Some(samples),
                        rows,
                        state,
                        ended_at: report.ended_at,
                    }
                }
                Err(problem) => {
                    *self.failures.entry(problem.reason).or_default() += 1;
                    problems.push((end.endpoint, problem.reason, problem.to_string()));
                    let state = vec![self.part(self.lights(end.endpoint, own, 0.0), started, None, None)];
                    let (samples, rows, ended_at) = match self.kept(end.endpoint) {
                        Some((samples, rows, ended_at)) => (Some(samples), rows, ended_at),
                        None => (None, None, report.ended_at),
                    };
                    EndCard { endpoint: end.endpoint, samples, rows, state, ended_at }
                }
            });
        }
        self.history = history;
        self.ends = ends;
        self.facts = facts;
        self.runs += 1;
        if up {
            self.last_success = Some(report.ended);
        }
        self.last = Some(Last {
            ended: report.ended,
            took: report.took,
            samples: count,
            problems,
            up,
            whole,
            expires,
        });
        self.renew(started);
    }

    /// The last samples of an end that failed now, as long as the check keeps them.
    fn kept(&self, endpoint: Endpoint) -> Option<(Arc<Part>, Option<Arc<Listing>>, Instant)> {
        let keep_for = self.spec.keep_for?;
        let end = self.ends.iter().find(|end| end.endpoint == endpoint)?;
        let mut part = (**end.samples.as_ref()?).clone();
        part.until = Some((end.ended_at + keep_for).into_std());
        Some((Arc::new(part), end.rows.clone(), end.ended_at))
    }

    /// `datapulse_check_up` and `datapulse_check_endpoint_up` of an end.
    fn lights(&self, endpoint: Endpoint, own: bool, value: f64) -> Answer {
        let mut answer = Answer::new();
        if own {
            answer.set(&UP, [self.spec.check_type], value);
        }
        if endpoint != Endpoint::Own {
            answer.set(&ENDPOINT_UP, [endpoint.as_str()], value);
        }
        answer
    }

    fn part(
        &self,
        answer: Answer,
        started: SystemTime,
        from: Option<Instant>,
        until: Option<Instant>,
    ) -> Arc<Part> {
        Arc::new(Part {
            labels: Arc::clone(&self.labels),
            answer,
            from: from.map(Instant::into_std),
            until: until.map(Instant::into_std),
            counting_since: started,
        })
    }

    /// Makes the part that is always shown.
    fn renew(&mut self, started: SystemTime) {
        let word = self.spec.check_type;
        let mut answer = Answer::new();
        answer.set(&INTERVAL, [word], self.spec.every.as_secs_f64());
        answer.set(&RUNS, [word], self.runs as f64);
        for (reason, count) in &self.failures {
            answer.set(&FAILURES, [word, reason.as_str()], *count as f64);
        }
        for (name, limit) in &self.spec.thresholds {
            answer.set(&THRESHOLD, [word, name], *limit);
        }
        answer.set(&DUPLICATES, [], self.duplicates as f64);
        for (family, (total, shown)) in &mut self.capped {
            answer.set(&CAPPED, [family], *shown as f64);
            *shown = *total;
        }
        if let Some(last) = &self.last {
            answer.set(&DURATION, [word], last.took.as_secs_f64());
            answer.set(&SAMPLES, [word], last.samples as f64);
        }
        if let Some(moment) = self.last_success {
            answer.set(&LAST_SUCCESS, [word], moment.as_millisecond() as f64 / 1e3);
        }
        self.own = Some(self.part(answer, started, None, None));
    }
}
