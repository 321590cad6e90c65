//! The board: reports come in, snapshots go out, and nothing is shown longer than it is fresh.
//!
//! Each check and target has a card. A report replaces the card's parts at once; what a report holds disappears by itself
//! when the next report is overdue, and `datapulse_check_up 0` takes its place, so that a dead scheduler cannot freeze values.

mod card;
mod families;
pub mod history;
pub mod view;

pub use card::{Card, Last, State};
pub use families::families;

use crate::check::headline::Headline;
use crate::check::{Endpoint, Problem, Report};
use arc_swap::ArcSwap;
use jiff::Timestamp;
use metrics::{Answer, Part, Snapshot};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::Instant;

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
    /// What people want to see first.
    pub headlines: &'static [Headline],
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
    logs: Mutex<Vec<Arc<Part>>>,
    snapshot: ArcSwap<Snapshot>,
    started: SystemTime,
    reported: Notify,
}

impl Board {
    /// An empty board; our counters begin now.
    pub fn new(now: SystemTime) -> Self {
        Self {
            cards: Mutex::default(),
            vitals: Mutex::default(),
            logs: Mutex::default(),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            started: now,
            reported: Notify::new(),
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
        card.change(spec, labels, self.started);
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
            card.clear(self.started);
        }
        self.show(&cards);
    }

    /// Takes a report. What the last one held is gone, unless the check keeps values over a failure.
    pub fn publish(&self, key: &Key, report: Report) {
        let mut cards = self.cards();
        let Some(card) = cards.get_mut(key) else { return };
        card.take(report, self.started);
        self.show(&cards);
        self.reported.notify_one();
    }

    /// Takes what a check knew before this process started.
    pub fn recall(&self, key: &Key, facts: Answer, answer: Option<(Timestamp, Instant, Answer)>) {
        let mut cards = self.cards();
        let Some(card) = cards.get_mut(key) else { return };
        card.recall(facts, answer, self.started);
        self.show(&cards);
    }

    /// Waits for the next report. For one waiter.
    pub async fn reported(&self) {
        self.reported.notified().await;
    }

    /// Counts a failure that came after the report, such as a cancel request that did not get through.
    pub fn count(&self, key: &Key, problem: &Problem) {
        let mut cards = self.cards();
        let Some(card) = cards.get_mut(key) else { return };
        card.count(problem, self.started);
        self.show(&cards);
    }

    /// Notes what a check asks its ends, for the page.
    pub fn asked(&self, key: &Key, questions: &[(Endpoint, Cow<'_, str>)]) {
        let mut cards = self.cards();
        if cards.get(key).is_none_or(|card| card.asks(questions)) {
            return;
        }
        // Many checks ask the same, so all of them share one text.
        let known = |text: &str| {
            let texts = || cards.values().flat_map(Card::questions);
            texts()
                .find(|(_, known)| **known == *text)
                .map_or_else(|| Arc::from(text), |(_, known)| Arc::clone(known))
        };
        let questions = questions.iter().map(|(endpoint, text)| (*endpoint, known(text))).collect();
        if let Some(card) = cards.get_mut(key) {
            card.ask(questions);
        }
    }

    /// Notes when a check runs next, for the page.
    pub fn plan(&self, key: &Key, next: Instant) {
        if let Some(card) = self.cards().get_mut(key) {
            card.plan(next);
        }
    }

    /// Takes our own instruments, which are always shown.
    pub fn vitals(&self, answer: Answer) {
        let part =
            Part { labels: Arc::from([]), answer, from: None, until: None, counting_since: self.started };
        *self.vitals.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(part));
        self.show(&self.cards());
    }

    /// Takes what the logs say, by their common labels; it is always shown.
    pub fn logs(&self, answers: Vec<(Vec<(String, String)>, Answer)>) {
        let counting_since = self.started;
        let part = |(labels, answer): (Vec<(String, String)>, Answer)| {
            Arc::new(Part { labels: labels.into(), answer, from: None, until: None, counting_since })
        };
        *self.logs.lock().unwrap_or_else(PoisonError::into_inner) = answers.into_iter().map(part).collect();
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
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let parts = vitals.into_iter().chain(logs).chain(cards.values().flat_map(Card::parts)).collect();
        let generation = self.snapshot.load().generation + 1;
        self.snapshot.store(Arc::new(Snapshot { generation, parts }));
    }
}

/// `check`, `target`, then the labels of the configuration, which cannot take those names.
fn common_labels(key: &Key, spec: &Spec) -> Arc<[(String, String)]> {
    let own = [("check".to_owned(), Some(key.check.clone())), ("target".to_owned(), key.target.clone())];
    let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
    own.chain(spec.labels.iter().map(|(name, value)| (name.clone(), value.clone()))).collect()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "values are shown exactly as they were set")]
mod tests {
    use super::*;
    use crate::check::{End, Endpoint, Reason};
    use metrics::{Metric, Unit, Values};

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
        let spec = Spec {
            check_type: "test",
            every: EVERY,
            timeout: TIMEOUT,
            keep_for,
            limit,
            headlines: &[],
            labels,
            thresholds,
        };
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
        End::new(endpoint, Ok(answer))
    }

    fn bad(endpoint: Endpoint) -> End {
        End::new(endpoint, Err(Problem::new(Reason::Io, "gone")))
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
        tokio::time::advance((EVERY + TIMEOUT).saturating_sub(Duration::from_millis(1))).await;
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
        let board = board(Some(Duration::from_mins(1)));
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
