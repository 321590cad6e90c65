//! The board: reports come in, snapshots go out, and nothing is shown longer than it is fresh.
//!
//! Each check and target has a card. A report replaces the card's parts at once; what a report holds disappears by itself
//! when the next report is overdue, and `datapulse_check_up 0` takes its place, so that a dead scheduler cannot freeze values.

use crate::check::{Endpoint, Problem, Reason, Report};
use arc_swap::ArcSwap;
use jiff::Timestamp;
use metrics::{Answer, Handle, Metric, Part, Snapshot, Unit};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// `datapulse_check_up`
pub static UP: Metric<1> = Metric::gauge(
    "datapulse.check.up",
    Unit::None,
    &["check_type"],
    "1 when the check's own target answered in its last run and that answer is still fresh, else 0",
);
/// `datapulse_check_duration_seconds`
pub static DURATION: Metric<1> = Metric::gauge(
    "datapulse.check.duration",
    Unit::Seconds,
    &["check_type"],
    "How long the last run of the check took",
);
/// `datapulse_check_interval_seconds`
pub static INTERVAL: Metric<1> =
    Metric::gauge("datapulse.check.interval", Unit::Seconds, &["check_type"], "How often the check runs");
/// `datapulse_check_last_success_timestamp_seconds`
pub static LAST_SUCCESS: Metric<1> = Metric::gauge(
    "datapulse.check.last_success_timestamp",
    Unit::Seconds,
    &["check_type"],
    "Unix time of the end of the last run in which the check's own target answered",
);
/// `datapulse_check_samples`
pub static SAMPLES: Metric<1> =
    Metric::gauge("datapulse.check.samples", Unit::None, &["check_type"], "Samples that the last run gave");
/// `datapulse_check_runs_total`
pub static RUNS: Metric<1> =
    Metric::counter("datapulse.check.runs", Unit::None, &["check_type"], "Ended runs of the check");
/// `datapulse_check_failures_total`
pub static FAILURES: Metric<2> = Metric::counter(
    "datapulse.check.failures",
    Unit::None,
    &["check_type", "reason"],
    "Failures of the check by reason; one run can count more than one, and a part of it can fail while the rest answers",
);
/// `datapulse_check_threshold`
pub static THRESHOLD: Metric<2> = Metric::gauge(
    "datapulse.check.threshold",
    Unit::None,
    &["check_type", "threshold"],
    "Limits of the configuration that the bundled rules use instead of their own, in seconds or bytes",
);
/// `datapulse_check_endpoint_up`
pub static ENDPOINT_UP: Metric<1> = Metric::gauge(
    "datapulse.check.endpoint_up",
    Unit::None,
    &["endpoint"],
    "1 when this end of the replication answered in the last run, else 0",
);
/// `datapulse_series_capped_total`
pub static CAPPED: Metric<1> = Metric::counter(
    "datapulse.series.capped",
    Unit::None,
    &["family"],
    "Label sets left out because the family had more than the check's limit, summed over runs",
);
/// `datapulse_check_duplicate_rows_total`
pub static DUPLICATES: Metric<0> = Metric::counter(
    "datapulse.check.duplicate_rows",
    Unit::None,
    &[],
    "Samples left out because the same run had given their label set before",
);

/// The families that the board itself gives, for the catalogue.
pub fn families() -> Vec<Handle> {
    vec![
        UP.handle(),
        DURATION.handle(),
        INTERVAL.handle(),
        LAST_SUCCESS.handle(),
        SAMPLES.handle(),
        RUNS.handle(),
        FAILURES.handle(),
        THRESHOLD.handle(),
        ENDPOINT_UP.handle(),
        CAPPED.handle(),
        DUPLICATES.handle(),
    ]
}

/// A check on a target: the name of a card. The target is absent for an inline one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Name of the check.
    pub check: String,
    /// Name of the target.
    pub target: Option<String>,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target {
            Some(target) => write!(f, "{}@{target}", self.check),
            None => f.write_str(&self.check),
        }
    }
}

/// What the board has to know of a check before its first run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The word of the configuration.
    pub check_type: &'static str,
    /// How often it runs.
    pub every: Duration,
    /// How long a run may take.
    pub timeout: Duration,
    /// How long values outlive a failure; `None`: they go at once.
    pub keep_for: Option<Duration>,
    /// Label sets per family.
    pub limit: usize,
    /// Labels of the configuration: the check's and the target's.
    pub labels: BTreeMap<String, String>,
    /// Limits for the bundled rules.
    pub thresholds: Vec<(&'static str, f64)>,
}

/// Takes reports and keeps the snapshot.
#[derive(Debug)]
pub struct Board {
    cards: Mutex<BTreeMap<Key, Card>>,
    vitals: Mutex<Option<Arc<Part>>>,
    snapshot: ArcSwap<Snapshot>,
    started: SystemTime,
}

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
    /// Counters, thresholds and what is known of the last run: always shown.
    own: Option<Arc<Part>>,
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
    /// When its values stop to be shown.
    pub expires: Instant,
}

#[derive(Clone, Debug)]
struct EndCard {
    endpoint: Endpoint,
    /// The samples; shown until they expire.
    samples: Option<Arc<Part>>,
    /// `up 1` while the samples are fresh, `up 0` after that or after a failure.
    state: Vec<Arc<Part>>,
    ended_at: Instant,
}

impl Board {
    /// An empty board; our counters begin now.
    pub fn new(now: SystemTime) -> Self {
        Self {
            cards: Mutex::default(),
            vitals: Mutex::default(),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            started: now,
        }
    }

    /// The parts as they stand; the reader leaves out what is not visible at its moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts up the card of a check, or changes what is known of it and keeps its counters.
    pub fn register(&self, key: &Key, spec: Spec) {
        let mut cards = self.cards();
        let labels = common_labels(key, &spec);
        let card = cards.entry(key.clone()).or_insert_with(|| Card::new(spec.clone(), Arc::clone(&labels)));
        card.spec = spec;
        card.labels = labels;
        card.renew(self.started);
        self.show(&cards);
    }

    /// Takes the card of a check down, with everything on it.
    pub fn withdraw(&self, key: &Key) {
        let mut cards = self.cards();
        cards.remove(key);
        self.show(&cards);
    }

    /// Takes the samples of a check down because it is about to start anew; its counters stay.
    pub fn clear(&self, key: &Key) {
        let mut cards = self.cards();
        if let Some(card) = cards.get_mut(key) {
            card.ends.clear();
            card.last = None;
            card.renew(self.started);
        }
        self.show(&cards);
    }

    /// Takes a report. What the last one held is gone, unless the check keeps values over a failure.
    pub fn publish(&self, key: &Key, report: Report) {
        let mut cards = self.cards();
        let Some(card) = cards.get_mut(key) else { return };
        card.take(report, self.started);
        card.renew(self.started);
        self.show(&cards);
    }

    /// Counts a failure that came after the report, such as a cancel request that did not get through.
    pub fn count(&self, key: &Key, problem: &Problem) {
        let mut cards = self.cards();
        let Some(card) = cards.get_mut(key) else { return };
        *card.failures.entry(problem.reason).or_default() += 1;
        card.renew(self.started);
        self.show(&cards);
    }

    /// Notes when a check runs next, for the page.
    pub fn plan(&self, key: &Key, next: Instant) {
        if let Some(card) = self.cards().get_mut(key) {
            card.next = Some(next);
        }
    }

    /// Takes our own instruments, which are always shown.
    pub fn vitals(&self, answer: Answer) {
        let part =
            Part { labels: Arc::from([]), answer, from: None, until: None, counting_since: self.started };
        *self.vitals.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(part));
        self.show(&self.cards());
    }

    /// All cards, for people.
    pub fn view(&self) -> Vec<(Key, Card)> {
        self.cards().iter().map(|(key, card)| (key.clone(), card.clone())).collect()
    }

    fn cards(&self) -> MutexGuard<'_, BTreeMap<Key, Card>> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the snapshot; called with the cards locked, so that generations and contents go together.
    fn show(&self, cards: &BTreeMap<Key, Card>) {
        let vitals = self.vitals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let parts = vitals.into_iter().chain(cards.values().flat_map(Card::parts)).collect();
        let generation = self.snapshot.load().generation + 1;
        self.snapshot.store(Arc::new(Snapshot { generation, parts }));
    }
}

impl Card {
    fn new(spec: Spec, labels: Arc<[(String, String)]>) -> Self {
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
            own: None,
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

    /// When the check's own target last answered.
    pub fn last_success(&self) -> Option<Timestamp> {
        self.last_success
    }

    /// When the check runs next.
    pub fn next(&self) -> Option<Instant> {
        self.next
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

    fn parts(&self) -> impl Iterator<Item = Arc<Part>> {
        let ends = self.ends.iter().flat_map(|end| end.state.iter().chain(&end.samples));
        self.own.iter().chain(ends).cloned()
    }

    fn take(&mut self, report: Report, started: SystemTime) {
        let expires = report.ended_at + self.spec.every + self.spec.timeout;
        let mut problems = Vec::new();
        let mut ends = Vec::with_capacity(report.ends.len());
        let mut count = 0;
        let up = report.ends.first().is_some_and(|end| end.result.is_ok());
        for (at, end) in report.ends.into_iter().enumerate() {
            let own = at == 0;
            for note in end.notes {
                *self.failures.entry(note.reason).or_default() += 1;
                problems.push((end.endpoint, note.reason, note.to_string()));
            }
            ends.push(match end.result {
                Ok(mut answer) => {
                    for (family, lost) in answer.cap(self.spec.limit) {
                        self.capped.entry(family.prometheus()).or_default().0 += lost as u64;
                    }
                    self.duplicates += answer.seal() as u64;
                    count += answer.len();
                    let samples = self.part(answer, started, None, Some(expires));
                    let fresh = self.part(self.state(end.endpoint, own, 1.0), started, None, Some(expires));
                    let overdue = self.part(self.state(end.endpoint, own, 0.0), started, Some(expires), None);
                    let state = vec![fresh, overdue];
                    EndCard {
                        endpoint: end.endpoint,
                        samples: Some(samples),
                        state,
                        ended_at: report.ended_at,
                    }
                }
                Err(problem) => {
                    *self.failures.entry(problem.reason).or_default() += 1;
                    problems.push((end.endpoint, problem.reason, problem.to_string()));
                    let state = vec![self.part(self.state(end.endpoint, own, 0.0), started, None, None)];
                    let kept = self.kept(end.endpoint);
                    let ended_at = kept.as_ref().map_or(report.ended_at, |(_, ended_at)| *ended_at);
                    EndCard { endpoint: end.endpoint, samples: kept.map(|(part, _)| part), state, ended_at }
                }
            });
        }
        self.ends = ends;
        self.runs += 1;
        if up {
            self.last_success = Some(report.ended);
        }
        self.last =
            Some(Last { ended: report.ended, took: report.took, samples: count, problems, up, expires });
    }

    /// The last samples of an end that failed now, as long as the check keeps them.
    fn kept(&self, endpoint: Endpoint) -> Option<(Arc<Part>, Instant)> {
        let keep_for = self.spec.keep_for?;
        let end = self.ends.iter().find(|end| end.endpoint == endpoint)?;
        let mut part = (**end.samples.as_ref()?).clone();
        part.until = Some((end.ended_at + keep_for).into_std());
        Some((Arc::new(part), end.ended_at))
    }

    fn state(&self, endpoint: Endpoint, own: bool, value: f64) -> Answer {
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
        answer.seal();
        self.own = Some(self.part(answer, started, None, None));
    }
}

/// `check`, `target`, then the labels of the configuration, which cannot take those names.
fn common_labels(key: &Key, spec: &Spec) -> Arc<[(String, String)]> {
    let own = [("check".to_owned(), Some(key.check.clone())), ("target".to_owned(), key.target.clone())];
    let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
    own.chain(spec.labels.iter().map(|(name, value)| (name.clone(), value.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::End;
    use metrics::Values;

    static VALUE: Metric<1> = Metric::gauge("test.value", Unit::None, &["name"], "");
    const EVERY: Duration = Duration::from_secs(30);
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn key() -> Key {
        Key { check: "orders".into(), target: Some("sub".into()) }
    }

    fn board(keep_for: Option<Duration>) -> Board {
        let board = Board::new(SystemTime::UNIX_EPOCH);
        let labels = BTreeMap::from([("team".to_owned(), "core".to_owned())]);
        let thresholds = vec![("silence", 600.0)];
        let limit = 3;
        let spec =
            Spec { check_type: "test", every: EVERY, timeout: TIMEOUT, keep_for, limit, labels, thresholds };
        board.register(&key(), spec);
        board
    }

    fn report(ends: Vec<End>) -> Report {
        Report {
            ended: Timestamp::from_second(1000).unwrap(),
            ended_at: Instant::now(),
            took: Duration::from_millis(5),
            ends,
        }
    }

    fn good(endpoint: Endpoint, rows: usize) -> End {
        let mut answer = Answer::new();
        for row in 0..rows {
            answer.set(&VALUE, [&format!("{}{row}", endpoint.as_str())], 1.0);
        }
        End { endpoint, result: Ok(answer), notes: vec![] }
    }

    fn bad(endpoint: Endpoint) -> End {
        End { endpoint, result: Err(Problem::new(Reason::Io, "gone")), notes: vec![] }
    }

    /// Everything visible now as `name{label,...}` to value.
    fn shown(board: &Board) -> BTreeMap<String, f64> {
        let snapshot = board.snapshot();
        let mut all = BTreeMap::new();
        for part in snapshot.visible(Instant::now().into_std()) {
            for column in part.answer.columns() {
                let Values::Numbers(numbers) = column.values() else { continue };
                for (row, number) in numbers.iter().enumerate() {
                    let labels: Vec<_> = column.labels(row).collect();
                    let name = format!("{}{{{}}}", column.family().prometheus(), labels.join(","));
                    assert_eq!(all.insert(name.clone(), *number), None, "{name} shown twice");
                }
            }
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn counters_exist_at_zero_and_up_is_absent_before_the_first_run() {
        let all = shown(&board(None));
        assert_eq!(all["datapulse_check_runs_total{test}"], 0.0);
        assert_eq!(all["datapulse_check_failures_total{test,lock_timeout}"], 0.0);
        assert_eq!(all["datapulse_check_threshold{test,silence}"], 600.0);
        assert!(!all.keys().any(|name| name.starts_with("datapulse_check_up")));
        assert!(!all.keys().any(|name| name.starts_with("datapulse_check_last_success")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_never_shown_after_it_expires_and_up_turns_zero_by_itself() {
        let board = board(None);
        board.publish(&key(), report(vec![good(Endpoint::Subscriber, 1)]));
        tokio::time::advance(EVERY + TIMEOUT - Duration::from_millis(1)).await;
        assert_eq!(shown(&board)["test_value{subscriber0}"], 1.0);
        assert_eq!(shown(&board)["datapulse_check_up{test}"], 1.0);
        tokio::time::advance(Duration::from_millis(1)).await;
        let all = shown(&board);
        assert!(!all.contains_key("test_value{subscriber0}"));
        assert_eq!(all["datapulse_check_up{test}"], 0.0);
        assert_eq!(all["datapulse_check_endpoint_up{subscriber}"], 0.0);
        assert_eq!(all["datapulse_check_last_success_timestamp_seconds{test}"], 1000.0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_two_ends_fail_apart() {
        let board = board(None);
        board.publish(&key(), report(vec![good(Endpoint::Subscriber, 1), bad(Endpoint::Publisher)]));
        let all = shown(&board);
        assert_eq!(all["datapulse_check_up{test}"], 1.0);
        assert_eq!(all["datapulse_check_endpoint_up{publisher}"], 0.0);
        assert_eq!(all["datapulse_check_failures_total{test,io}"], 1.0);
        board.publish(&key(), report(vec![bad(Endpoint::Subscriber), good(Endpoint::Publisher, 1)]));
        let all = shown(&board);
        assert_eq!(all["datapulse_check_up{test}"], 0.0);
        assert_eq!(all["test_value{publisher0}"], 1.0);
        assert!(!all.contains_key("test_value{subscriber0}"));
    }

    #[tokio::test(start_paused = true)]
    async fn values_outlive_a_failure_only_as_long_as_keep_for_says() {
        let board = board(Some(Duration::from_secs(60)));
        board.publish(&key(), report(vec![good(Endpoint::Own, 1)]));
        tokio::time::advance(EVERY).await;
        board.publish(&key(), report(vec![bad(Endpoint::Own)]));
        assert_eq!(shown(&board)["test_value{own0}"], 1.0);
        assert_eq!(shown(&board)["datapulse_check_up{test}"], 0.0, "kept values do not hide the failure");
        tokio::time::advance(EVERY).await;
        board.publish(&key(), report(vec![bad(Endpoint::Own)]));
        assert!(
            !shown(&board).contains_key("test_value{own0}"),
            "counted from the good run, not from the last failure"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_is_counted_and_first_shown_at_zero() {
        let board = board(None);
        board.publish(&key(), report(vec![good(Endpoint::Own, 5)]));
        assert_eq!(shown(&board)["datapulse_series_capped_total{test_value}"], 0.0);
        assert_eq!(shown(&board)["datapulse_check_samples{test}"], 3.0);
        board.publish(&key(), report(vec![good(Endpoint::Own, 5)]));
        assert_eq!(shown(&board)["datapulse_series_capped_total{test_value}"], 2.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_check_keeps_its_counters_and_a_removed_one_leaves_nothing() {
        let board = board(None);
        board.publish(&key(), report(vec![bad(Endpoint::Own)]));
        let spec = board.view()[0].1.spec().clone();
        board.clear(&key());
        board.register(&key(), spec);
        assert_eq!(shown(&board)["datapulse_check_failures_total{test,io}"], 1.0);
        assert!(!shown(&board).contains_key("datapulse_check_up{test}"));
        board.withdraw(&key());
        assert!(shown(&board).is_empty());
    }
}
