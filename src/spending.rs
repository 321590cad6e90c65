//! The memory of a check whose runs cost money: when it last began, what it scanned today, its last answer. All of it survives a restart,
//! so that a restart neither pays twice nor forgets what was paid.

use crate::check::{End, Endpoint, Outcome, Problem, Reason, Recalled};
use crate::columns::{Columns, DATA_TIMESTAMP, Told};
use crate::config::scalar::Size;
use crate::state::{Access, State};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use metrics::{Answer, Metric, Unit, Values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::timeout;

/// A newer version's state is not touched.
const VERSION: u64 = 1;
/// Stopping what a crash left running must not hold up the start.
const LAST_RITES: Duration = Duration::from_secs(5);

/// `datapulse_check_budget_remaining_ratio`
pub static BUDGET_REMAINING: Metric<0> = Metric::gauge(
    "datapulse.check.budget_remaining_ratio",
    Unit::None,
    &[],
    "What is left of the day's budget (UTC), 1 to 0; at 0 no further run begins. As of the last run, or of the last refusal",
);

/// What may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Bytes that may be scanned in a day (UTC). No run begins after that; one that is under way ends.
    pub scanned_bytes_per_day: Size,
}

/// What is kept in the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    version: u64,
    last_start: Option<Timestamp>,
    /// Start of the last good run.
    #[serde(default)]
    last_good: Option<Timestamp>,
    /// The day of `scanned_today`, as days since 1970 in UTC.
    day: i64,
    scanned_today: u64,
    scanned_total: u64,
    scanned_last: Option<u64>,
    /// A query that was started and not seen to end.
    running: Option<String>,
    answer: Option<KeptAnswer>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeptAnswer {
    ended: Timestamp,
    samples: Vec<KeptSample>,
    facts: Vec<(String, f64)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeptSample {
    name: String,
    labels: Vec<String>,
    value: f64,
}

/// What one check has spent.
#[derive(Debug)]
pub struct Spending {
    state: Option<State>,
    /// `None` until it was read.
    kept: Option<Kept>,
    budget: Option<u64>,
    /// The counter of scanned bytes.
    scanned: &'static Metric<0>,
}

impl Spending {
    /// Nothing is read yet.
    pub fn new(state: Option<State>, budget: Option<Budget>, scanned: &'static Metric<0>) -> Self {
        Self { state, kept: None, budget: budget.map(|budget| budget.scanned_bytes_per_day.0), scanned }
    }

    /// What was known before this process started, as far as the columns of today still give it.
    pub async fn recall(&mut self, columns: &Columns, now: Timestamp) -> Recalled {
        let kept = match self.kept(now).await {
            Ok(kept) => kept.clone(),
            Err(problem) => {
                tracing::error!(%problem, "the check begins without what it knew");
                return Recalled::default();
            }
        };
        let mut recalled = Recalled { last_start: kept.last_start, answer: None, facts: Answer::new() };
        if let Some(old) = kept.answer {
            let mut answer = Answer::new();
            for sample in &old.samples {
                let labels: Vec<&str> = sample.labels.iter().map(String::as_str).collect();
                let family = columns.family(&sample.name);
                if let Some(family) = family.filter(|family| family.labels.len() == labels.len()) {
                    answer.set_configured(family, &labels, sample.value);
                }
            }
            for (name, value) in &old.facts {
                if DATA_TIMESTAMP.family().name == *name {
                    recalled.facts.set(&DATA_TIMESTAMP, [], *value);
                }
            }
            recalled.answer = Some((old.ended, answer));
        }
        self.tell(&mut recalled.facts);
        recalled
    }

    /// Begins a run: refuses it when the budget is spent, and notes the start before anything is paid for.
    ///
    /// # Errors
    /// `budget`; `io` when the start could not be noted, because then it would be forgotten by a restart.
    pub async fn begin(&mut self, now: Timestamp) -> Result<(), Problem> {
        let (budget, rhythm) = (self.budget, self.access() != Some(Access::Adds));
        let kept = self.kept(now).await?;
        if let Some(budget) = budget.filter(|budget| kept.scanned_today >= *budget) {
            let what = format!("{} of {budget} bytes of today's budget are spent", kept.scanned_today);
            return Err(Problem::new(Reason::Budget, what)
                .hint("runs go on after midnight UTC; raise budget.scanned_bytes_per_day, or scan less: partitions, columns"));
        }
        if rhythm {
            kept.last_start = Some(now);
        }
        self.save().await
    }

    /// When the last good run began.
    pub fn last_good(&self) -> Option<Timestamp> {
        self.kept.as_ref()?.last_good
    }

    /// Notes that a query runs, so that whoever comes after a crash can stop it.
    ///
    /// # Errors
    /// `io` when it could not be noted.
    pub async fn started(&mut self, id: &str) -> Result<(), Problem> {
        if let Some(kept) = &mut self.kept {
            kept.running = Some(id.to_owned());
        }
        self.save().await
    }

    /// A query that a process before this one left running. Beside a process that runs it is that one's.
    pub fn left_running(&mut self) -> Option<String> {
        if self.access() == Some(Access::Looks) {
            return None;
        }
        self.kept.as_mut()?.running.take()
    }

    /// Stops a query that a process before this one left running: it is paid for as long as it runs, and nobody waits for it any more.
    pub async fn stopped(&mut self, stopping: impl Future<Output = Option<u64>> + Send) {
        let bytes = timeout(LAST_RITES, stopping).await.ok().flatten();
        self.scanned(bytes);
    }

    /// Notes the end of a query: what it scanned, as far as that is known.
    pub fn scanned(&mut self, bytes: Option<u64>) {
        if let Some(kept) = &mut self.kept {
            kept.running = None;
            kept.scanned_today = kept.scanned_today.saturating_add(bytes.unwrap_or_default());
            kept.scanned_total = kept.scanned_total.saturating_add(bytes.unwrap_or_default());
            kept.scanned_last = bytes.or(kept.scanned_last);
        }
    }

    /// The end of a run: what it gave is kept and told, with what is left of the budget.
    pub async fn end(&mut self, told: Told, mut facts: Answer) -> Outcome {
        let Told { result, mut notes } = told;
        let kept = result.as_ref().ok().map(|answer| (answer, &facts));
        // A value that could not be kept is good all the same; that it will be missing after a restart is told.
        notes.extend(self.ended(kept, Timestamp::now()).await.err());
        self.tell(&mut facts);
        Outcome { ends: vec![End { notes, facts, ..End::new(Endpoint::Own, result) }] }
    }

    /// Notes how a run ended: with an answer, which is then the last good one, or without.
    ///
    /// # Errors
    /// `io` when it could not be noted.
    pub async fn ended(&mut self, answer: Option<(&Answer, &Answer)>, now: Timestamp) -> Result<(), Problem> {
        // What a single run saw is not shown by the service, and `$since` of the next run has to begin where the service was.
        if self.access() != Some(Access::Adds)
            && let Some(kept) = &mut self.kept
        {
            if answer.is_some() {
                kept.last_good = kept.last_start;
            }
            kept.answer = answer.map(|(answer, facts)| KeptAnswer {
                ended: now,
                samples: samples(answer),
                facts: samples(facts).into_iter().map(|sample| (sample.name, sample.value)).collect(),
            });
        }
        self.save().await
    }

    /// Adds what holds in any case: the counter of bytes, and what is left of the budget.
    pub fn tell(&self, facts: &mut Answer) {
        let Some(kept) = &self.kept else { return };
        facts.set(self.scanned, [], kept.scanned_total as f64);
        if let Some(budget) = self.budget {
            let spent = if budget == 0 { 1.0 } else { kept.scanned_today as f64 / budget as f64 };
            facts.set(&BUDGET_REMAINING, [], (1.0 - spent).max(0.0));
        }
    }

    /// What a day costs at this pace, in words; `unit_price` is in US dollars for `unit` bytes.
    pub fn estimate(&self, every: Duration, unit_price: f64, unit: f64, least: u64) -> String {
        let Some(bytes) = self.kept.as_ref().and_then(|kept| kept.scanned_last) else {
            return "unknown until the first run; run it once with `datapulse once --spend`".to_owned();
        };
        let runs = 86_400.0 / every.as_secs_f64().max(1.0);
        let daily = bytes.max(least) as f64 * runs;
        let capped = self.budget.filter(|budget| (*budget as f64) < daily);
        let words = match capped {
            Some(budget) => format!("; the budget of {budget} bytes a day ends that earlier"),
            None => String::new(),
        };
        format!(
            "the last run scanned {bytes} bytes; {runs:.0} runs a day are {:.3} GB, about {:.2} USD a day at {unit_price} USD for {:.0} GB \
             (us-east-1){words}",
            daily / 1e9,
            daily / unit * unit_price,
            unit / 1e9,
        )
    }

    fn access(&self) -> Option<Access> {
        self.state.as_ref().map(State::access)
    }

    /// The memory, of today.
    async fn kept(&mut self, now: Timestamp) -> Result<&mut Kept, Problem> {
        if self.kept.is_none() {
            let loaded = match &self.state {
                Some(state) => state.load::<Kept>(VERSION).await?,
                None => None,
            };
            let kept = loaded.unwrap_or(Kept { version: VERSION, ..Kept::default() });
            self.kept = Some(kept);
        }
        let today = now.to_zoned(TimeZone::UTC).timestamp().as_second().div_euclid(86_400);
        let kept = self.kept.get_or_insert_with(Kept::default);
        // A clock that was put back must not give the budget anew.
        if kept.day < today {
            kept.day = today;
            kept.scanned_today = 0;
        }
        Ok(kept)
    }

    async fn save(&self) -> Result<(), Problem> {
        match (&self.state, &self.kept) {
            (Some(state), Some(kept)) => state.save(kept).await,
            _ => Ok(()),
        }
    }
}

/// Gauges and counters. A histogram is not kept: its counts would be told a second time.
fn samples(answer: &Answer) -> Vec<KeptSample> {
    let mut all = Vec::new();
    for column in answer.columns() {
        let Values::Numbers(numbers) = column.values() else { continue };
        for (row, value) in numbers.iter().enumerate() {
            let labels = column.labels(row).map(str::to_owned).collect();
            all.push(KeptSample { name: column.family().name.to_string(), labels, value: *value });
        }
    }
    all
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "values are told exactly as they were kept")]
mod tests {
    use super::*;
    use crate::columns;
    use crate::config::fault::Faults;
    use crate::config::node::parse;

    static SCANNED: Metric<0> = Metric::counter("test.scanned", Unit::Bytes, &[], "");

    const fn budget(bytes: u64) -> Budget {
        Budget { scanned_bytes_per_day: Size(bytes) }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn told(spending: &Spending) -> Vec<(String, f64)> {
        let mut facts = Answer::new();
        spending.tell(&mut facts);
        samples(&facts).into_iter().map(|sample| (sample.name, sample.value)).collect()
    }

    fn columns() -> Columns {
        let mut faults = Faults::default();
        let keys = "metrics: [{name: device.connections, value: devices, help: h}]";
        let node = parse("f", keys, &mut faults).unwrap();
        columns::read(&node, "c", &[], &mut faults).unwrap()
    }

    #[tokio::test]
    async fn a_budget_of_zero_runs_nothing_and_says_so() {
        let mut spending = Spending::new(None, Some(budget(0)), &SCANNED);
        let refused = spending.begin(at("2026-11-24T10:00:00Z")).await.unwrap_err();
        assert_eq!(refused.reason, Reason::Budget);
        assert_eq!(
            told(&spending),
            [("test.scanned".into(), 0.0), ("datapulse.check.budget_remaining_ratio".into(), 0.0)]
        );
    }

    #[tokio::test]
    async fn the_budget_is_spent_once_a_day_over_restarts_too() {
        let dir = std::env::temp_dir().join(format!("datapulse-spending-{}", std::process::id()));
        let start =
            || Spending::new(Some(State::new(&dir, "lake", Access::Keeps)), Some(budget(100)), &SCANNED);
        let mut first = start();
        first.begin(at("2026-11-24T10:00:00Z")).await.unwrap();
        first.started("q1").await.unwrap();
        drop(first);
        let mut second = start();
        let recalled = second.recall(&columns(), at("2026-11-24T10:10:00Z")).await;
        assert_eq!(recalled.last_start, Some(at("2026-11-24T10:00:00Z")));
        assert_eq!(second.left_running().as_deref(), Some("q1"), "what a crash left running is known");
        second.begin(at("2026-11-24T11:00:00Z")).await.unwrap();
        second.scanned(Some(120));
        second.ended(None, at("2026-11-24T11:00:01Z")).await.unwrap();
        assert_eq!(told(&second)[1].1, 0.0);
        let mut third = start();
        assert_eq!(third.begin(at("2026-11-24T23:59:59Z")).await.unwrap_err().reason, Reason::Budget);
        third.begin(at("2026-11-25T00:00:00Z")).await.unwrap();
        assert_eq!(
            told(&third),
            [("test.scanned".into(), 120.0), ("datapulse.check.budget_remaining_ratio".into(), 1.0)]
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[tokio::test]
    async fn a_single_run_adds_what_it_spends_and_leaves_the_rest_to_the_service() {
        let dir = std::env::temp_dir().join(format!("datapulse-single-{}", std::process::id()));
        let start =
            |access| Spending::new(Some(State::new(&dir, "lake", access)), Some(budget(100)), &SCANNED);
        let (then, now) = (at("2026-11-24T10:00:00Z"), at("2026-11-24T10:10:00Z"));
        let mut service = start(Access::Keeps);
        service.begin(then).await.unwrap();
        service.scanned(Some(60));
        service.ended(Some((&Answer::new(), &Answer::new())), then).await.unwrap();
        for (access, spent) in [(Access::Looks, 60.0), (Access::Adds, 110.0)] {
            let mut single = start(access);
            single.begin(now).await.unwrap();
            single.started("q").await.unwrap();
            single.scanned(Some(50));
            single.ended(None, now).await.unwrap();
            let mut again = start(Access::Keeps);
            let recalled = again.recall(&columns(), now).await;
            assert_eq!((recalled.last_start, again.last_good()), (Some(then), Some(then)), "{access:?}");
            assert!(recalled.answer.is_some(), "the last good answer of the service stays");
            assert_eq!(told(&again)[0].1, spent, "{access:?}");
        }
        assert_eq!(start(Access::Keeps).begin(now).await.unwrap_err().reason, Reason::Budget);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[tokio::test]
    async fn an_estimate_is_unknown_before_the_first_run() {
        let mut spending = Spending::new(None, None, &SCANNED);
        let price = |spending: &Spending| spending.estimate(Duration::from_hours(1), 5.0, 1e12, 10_000_000);
        assert!(price(&spending).contains("unknown"));
        spending.begin(at("2026-11-24T10:00:00Z")).await.unwrap();
        spending.scanned(Some(2_000_000_000));
        assert!(
            price(&spending).contains("24 runs a day are 48.000 GB, about 0.24 USD a day"),
            "{}",
            price(&spending)
        );
    }
}
