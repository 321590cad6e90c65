//! One check's life: run, report, rest. A panic, a hang or a refused login of one check is felt by no other.

use crate::alarm::Alarm;
use crate::board::{Board, Key};
use crate::check::{Check, Context, End, Endpoint, Problem, Reason, Report};
use crate::net::Clients;
use futures_util::FutureExt;
use jiff::Timestamp;
use std::any::Any;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// First runs are spread over this time, so that a restart does not meet all databases at once.
const LONGEST_SPREAD: Duration = Duration::from_secs(10);
/// A check keeps its own deadline; this much later it is dropped all the same.
const GRACE: Duration = Duration::from_millis(500);
/// What a run left behind on the server has this long to be cancelled.
const CLEAN_UP: Duration = Duration::from_secs(2);
/// A defect does not heal by itself: a check that panics again and again is repeated after at most this many intervals.
const LONGEST_BACKOFF: u32 = 8;

/// A check with all that its life needs.
pub struct Job<C: Check> {
    /// Its card on the board.
    pub key: Key,
    /// Its own keys.
    pub config: C::Config,
    /// What it talks with.
    pub clients: Clients,
    /// How often it runs.
    pub every: Duration,
    /// Aligns runs to the wall clock, moved by this; absent: they are spread by name.
    pub offset: Option<Duration>,
}

/// Runs a check until `stop`, a report each.
pub async fn live<C: Check>(job: Job<C>, board: Arc<Board>, stop: CancellationToken) {
    let mut check = C::new(&job.config, &job.clients);
    let mut next = Instant::now() + recall(&mut check, &job, &board).await;
    let mut state = State::default();
    let alarm = Alarm::new();
    loop {
        board.plan(&job.key, next);
        tokio::select! {
            () = stop.cancelled() => return,
            () = alarm.wait_until(next) => {}
        }
        if !state.may_run() {
            next = following(next, &job);
            continue;
        }
        let report = tokio::select! {
            report = execute(&mut check, job.clients.timeout) => report,
            () = stop.cancelled() => {
                clean_up(&mut check).await;
                return;
            }
        };
        let reasons: Vec<Reason> =
            report.ends.iter().filter_map(|end| Some(end.result.as_ref().err()?.reason)).collect();
        state.note(&job.key, &report);
        state.back_off(reasons.contains(&Reason::Panic), job.every);
        board.asked(&job.key, &check.questions());
        board.publish(&job.key, report);
        // Nothing is left behind by most failures, and then there is nothing to do.
        if !reasons.is_empty()
            && let Some(problem) = clean_up_within(&mut check, CLEAN_UP.min(job.every / 4)).await
        {
            board.count(&job.key, &problem);
        }
        check.rest().await;
        if reasons.contains(&Reason::Panic) {
            check = C::new(&job.config, &job.clients);
        }
        next = following(next, &job);
    }
}

/// Shows what the check knew before this process started. Gives the rest before its first run: none that is worth the money when the
/// last one began less than an interval ago.
async fn recall<C: Check>(check: &mut C, job: &Job<C>, board: &Board) -> Duration {
    let (now, at) = (Timestamp::now(), Instant::now());
    let recalled = check.recall(now).await;
    // A clock that was put back makes an age of nothing, not of centuries.
    let age = |moment: Timestamp| Duration::try_from(now.duration_since(moment)).unwrap_or_default();
    let answer =
        recalled.answer.and_then(|(ended, answer)| Some((ended, at.checked_sub(age(ended))?, answer)));
    if answer.is_some() || !recalled.facts.is_empty() {
        board.recall(&job.key, recalled.facts, answer);
    }
    match recalled.last_start.map(age).filter(|age| *age < job.every) {
        None => first_rest(&job.key, job.every),
        Some(age) => match job.offset {
            Some(offset) => until_aligned(now, job.every, offset),
            None => job.every.saturating_sub(age),
        },
    }
}

/// Runs a check once under its deadline. A panic becomes a problem of this check.
pub async fn execute<C: Check>(check: &mut C, longest: Duration) -> Report {
    let began = Instant::now();
    let deadline = began + longest;
    let ends = check.ends();
    let run = AssertUnwindSafe(check.run(Context { now: Timestamp::now(), deadline })).catch_unwind();
    let ends = match timeout_at(deadline + GRACE, run).await {
        Ok(Ok(outcome)) => outcome.ends,
        Ok(Err(panic)) => failed(ends, || {
            Problem::new(Reason::Panic, format!("the check panicked: {}", words(&*panic)))
                .hint("this is a defect of datapulse: please report it with this text")
        }),
        Err(_) => failed(ends, || Problem::new(Reason::Timeout, format!("no answer within {longest:?}"))),
    };
    Report { ended: Timestamp::now(), ended_at: Instant::now(), took: began.elapsed(), ends }
}

/// A run that ended as a whole has failed at every end.
fn failed(ends: &[Endpoint], problem: impl Fn() -> Problem) -> Vec<End> {
    ends.iter().map(|end| End::new(*end, Err(problem()))).collect()
}

/// Cancels what a run left behind; gives the problem when that did not work either.
pub async fn clean_up<C: Check>(check: &mut C) -> Option<Problem> {
    clean_up_within(check, CLEAN_UP).await
}

async fn clean_up_within<C: Check>(check: &mut C, longest: Duration) -> Option<Problem> {
    match timeout(longest, AssertUnwindSafe(check.give_up()).catch_unwind()).await {
        Ok(Ok(result)) => result.err(),
        Ok(Err(_)) => Some(Problem::new(Reason::Panic, "the check panicked while it gave up")),
        Err(_) => Some(Problem::new(Reason::CancelTimeout, format!("could not cancel within {longest:?}"))),
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Rest before the first run: a share of the spread that depends on the name alone.
fn first_rest(key: &Key, every: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let share = (hasher.finish() % 1000) as f64 / 1000.0;
    every.min(LONGEST_SPREAD).mul_f64(share)
}

/// The next tick; see [`next_tick`].
fn following<C: Check>(tick: Instant, job: &Job<C>) -> Instant {
    match job.offset {
        Some(offset) => Instant::now() + until_aligned(Timestamp::now(), job.every, offset),
        None => next_tick(tick, Instant::now(), job.every),
    }
}

/// The tick of the grid after `tick` that is to be kept at `now`. One that was missed by less than half an interval is made up
/// for at once: when one end hangs until the timeout of a whole interval, what the other end says must not expire between two
/// runs. (Clean-up takes a quarter of an interval at most, so two reports are never more than interval + timeout apart.)
/// Others are skipped.
fn next_tick(tick: Instant, now: Instant, every: Duration) -> Instant {
    let missed = now.saturating_duration_since(tick).as_nanos() / every.as_nanos().max(1);
    let missed = u32::try_from(missed).unwrap_or(u32::MAX);
    let last = tick + every.saturating_mul(missed);
    if missed > 0 && now.saturating_duration_since(last) < every / 2 { last } else { last + every }
}

/// How long it takes from `now` to the next whole multiple of `every` of the wall clock, moved by `offset`.
fn until_aligned(now: Timestamp, every: Duration, offset: Duration) -> Duration {
    let every = i128::try_from(every.as_nanos()).unwrap_or(i128::MAX).max(1);
    let offset = i128::try_from(offset.as_nanos()).unwrap_or_default();
    let past = (now.as_nanosecond() - offset).rem_euclid(every);
    Duration::from_nanos(u64::try_from(every - past).unwrap_or(u64::MAX))
}

/// What a life remembers from run to run.
#[derive(Default)]
struct State {
    /// Runs in a row that panicked.
    panics: u32,
    rest_until: Option<Instant>,
    /// What went wrong last time, so that the log has one line per change.
    last: Option<Vec<(Endpoint, Reason)>>,
}

impl State {
    fn may_run(&self) -> bool {
        self.rest_until.is_none_or(|until| Instant::now() >= until)
    }

    fn back_off(&mut self, panicked: bool, every: Duration) {
        if !panicked {
            self.panics = 0;
            self.rest_until = None;
            return;
        }
        let intervals = 2u32.saturating_pow(self.panics).min(LONGEST_BACKOFF);
        self.panics += 1;
        // Half an interval less, so that the tick at the end of the rest is not the one that is missed.
        self.rest_until = Some(Instant::now() + every.saturating_mul(intervals).saturating_sub(every / 2));
    }

    fn note(&mut self, key: &Key, report: &Report) {
        let wrong: Vec<(Endpoint, Reason)> = report
            .ends
            .iter()
            .filter_map(|end| Some((end.endpoint, end.result.as_ref().err()?.reason)))
            .collect();
        if self.last.as_ref() == Some(&wrong) {
            return;
        }
        let took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
        for end in &report.ends {
            if let Err(problem) = &end.result {
                tracing::warn!(check = %key, endpoint = end.endpoint.as_str(), reason = problem.reason.as_str(), took_ms, %problem, "check failed");
            }
        }
        if wrong.is_empty() {
            tracing::info!(check = %key, took_ms, "check answers");
        }
        self.last = Some(wrong);
    }
}

/// The one place where the type of a check is forgotten: its whole life as a future.
pub fn boxed<C: Check>(
    job: Job<C>,
    board: Arc<Board>,
    stop: CancellationToken,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(live(job, board, stop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Spec;
    use crate::check::{Need, Outcome};
    use crate::config::secret::Vault;
    use crate::config::target::Server;
    use metrics::{Answer, Handle, Metric, Unit, Values};
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};

    static RUN: Metric<0> = Metric::gauge("test.run", Unit::None, &[], "");

    /// What a scripted run does.
    #[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize, schemars::JsonSchema)]
    enum Act {
        Good,
        Slow,
        Hang,
        Panic,
    }

    /// A check that follows a script; the runs are counted beside it, because a panic makes a new one.
    struct Scripted(Vec<Act>);

    static STARTED: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];

    #[derive(Clone, Debug, PartialEq, serde::Deserialize, schemars::JsonSchema)]
    struct Script {
        slot: usize,
        acts: Vec<Act>,
    }

    impl Scripted {
        fn slot(&self) -> usize {
            self.0.len() % STARTED.len()
        }
    }

    impl Check for Scripted {
        type Config = Script;
        const WORD: &'static str = "scripted";
        const EVERY: Option<Duration> = None;
        const ENDS: &'static [Endpoint] = &[Endpoint::Own];
        const NEEDS: &'static [Need] = &[];
        fn families(_: &Script) -> Vec<Handle> {
            vec![RUN.handle()]
        }
        fn new(script: &Script, _: &Clients) -> Self {
            // The length of the script stands for the test, so that each test counts in a slot of its own.
            assert_eq!(script.acts.len() % STARTED.len(), script.slot);
            Self(script.acts.clone())
        }
        async fn run(&mut self, context: Context) -> Outcome {
            let run = STARTED[self.slot()].fetch_add(1, Ordering::SeqCst);
            let mut answer = Answer::new();
            answer.set(&RUN, [], f64::from(run));
            match self.0.get(run as usize).unwrap_or(&Act::Good) {
                Act::Good => Outcome::single(Ok(answer)),
                Act::Slow => {
                    tokio::time::sleep_until(context.deadline - Duration::from_millis(1)).await;
                    Outcome::single(Ok(answer))
                }
                Act::Hang => std::future::pending().await,
                Act::Panic => panic!("planted"),
            }
        }
    }

    const EVERY: Duration = Duration::from_secs(30);
    const TIMEOUT: Duration = Duration::from_secs(10);

    struct Stage {
        board: Arc<Board>,
        stop: CancellationToken,
        life: crate::task::Task<()>,
        slot: usize,
    }

    impl Stage {
        /// Starts a check and goes to just after its first run began.
        async fn start(acts: &[Act]) -> Self {
            let slot = acts.len() % STARTED.len();
            let board = Arc::new(Board::new(std::time::SystemTime::UNIX_EPOCH));
            let key = Key { check: "scripted".into(), target: None };
            let spec = Spec {
                check_type: "scripted",
                every: EVERY,
                timeout: TIMEOUT,
                keep_for: None,
                limit: 10,
                headlines: &[],
                labels: BTreeMap::new(),
                thresholds: Vec::new(),
            };
            board.register(&key, spec);
            let stop = CancellationToken::new();
            let first = first_rest(&key, EVERY);
            let config = Script { slot, acts: acts.to_vec() };
            let job = Job::<Scripted> { key, config, clients: clients(), every: EVERY, offset: None };
            let life = crate::task::spawn(live(job, Arc::clone(&board), stop.clone()));
            let stage = Self { board, stop, life, slot };
            stage.wait(first + Duration::from_millis(1)).await;
            stage
        }

        /// Lets time pass in small steps, so that timers fire in their order.
        async fn wait(&self, duration: Duration) {
            tokio::time::sleep(duration).await;
        }

        fn started(&self) -> u32 {
            STARTED[self.slot].load(Ordering::SeqCst)
        }

        fn shown(&self, name: &str) -> Option<f64> {
            let snapshot = self.board.snapshot();
            let found = snapshot.visible(Instant::now().into_std()).flat_map(|part| {
                part.answer
                    .columns()
                    .iter()
                    .filter(|column| column.family().prometheus() == name)
                    .filter_map(|column| match column.values() {
                        Values::Numbers(numbers) => numbers.first().copied(),
                        Values::Histograms(..) => None,
                    })
                    .collect::<Vec<_>>()
            });
            found.last()
        }

        fn failures(&self, reason: Reason) -> u64 {
            let (_, card) = &self.board.view()[0];
            card.failures(reason)
        }
    }

    fn clients() -> Clients {
        Clients {
            vault: Arc::new(Vault::new(Arc::new(|_| None), Path::new("/"))),
            target: Arc::new(Server::nowhere()),
            publisher: None,
            timeout: TIMEOUT,
            every: EVERY,
            limit: 10,
            state: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_runs_once_an_interval() {
        let stage = Stage::start(&[Act::Good]).await;
        assert_eq!((stage.started(), stage.shown("test_run")), (1, Some(0.0)));
        stage.wait(EVERY * 3).await;
        assert_eq!((stage.started(), stage.shown("test_run")), (4, Some(3.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hang_ends_at_the_timeout_withdraws_the_values_and_keeps_the_rhythm() {
        let stage = Stage::start(&[Act::Good, Act::Hang]).await;
        stage.wait(EVERY).await;
        assert_eq!(stage.shown("test_run"), Some(0.0), "shown while the next run is under way");
        stage.wait(TIMEOUT + GRACE).await;
        assert_eq!((stage.shown("test_run"), stage.shown("datapulse_check_up")), (None, Some(0.0)));
        assert_eq!(stage.failures(Reason::Timeout), 1);
        stage.wait(EVERY.saturating_sub(TIMEOUT + GRACE)).await;
        assert_eq!((stage.started(), stage.shown("test_run")), (3, Some(2.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_problem_of_this_check_and_rests_longer_each_time() {
        let stage = Stage::start(&[Act::Panic, Act::Panic, Act::Panic]).await;
        assert_eq!((stage.failures(Reason::Panic), stage.shown("datapulse_check_up")), (1, Some(0.0)));
        stage.wait(EVERY).await;
        assert_eq!(stage.started(), 2, "after one interval");
        stage.wait(EVERY).await;
        assert_eq!(stage.started(), 2, "then after two");
        stage.wait(EVERY).await;
        assert_eq!(stage.started(), 3);
        stage.wait(EVERY * 4).await;
        assert_eq!((stage.started(), stage.shown("datapulse_check_up")), (4, Some(1.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_a_run_that_hangs() {
        let mut stage = Stage::start(&[Act::Hang; 5]).await;
        assert_eq!(stage.started(), 1);
        stage.stop.cancel();
        let ended = tokio::time::timeout(CLEAN_UP, stage.life.join()).await;
        assert!(matches!(ended, Ok(Ok(()))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_run_never_overlaps_with_the_next() {
        let stage = Stage::start(&[Act::Slow; 6]).await;
        stage.wait(EVERY * 2 + TIMEOUT).await;
        assert_eq!(stage.started(), 3);
        assert_eq!(stage.failures(Reason::Timeout), 0);
    }

    #[test]
    fn first_runs_are_spread_by_name_within_the_interval() {
        let rest = |name: &str, every| first_rest(&Key { check: name.into(), target: None }, every);
        assert_eq!(rest("a", EVERY), rest("a", EVERY), "a restart keeps the place");
        assert!((0..100).all(|at| rest(&at.to_string(), Duration::from_secs(1)) < Duration::from_secs(1)));
        let late = (0..100).filter(|at| rest(&at.to_string(), EVERY) > LONGEST_SPREAD / 2).count();
        assert!((25..75).contains(&late), "{late} of 100 in the second half");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tick_missed_by_little_is_made_up_for_and_others_are_skipped() {
        let tick = Instant::now();
        for (late, expected) in [(0, 30), (29, 30), (30, 30), (44, 30), (45, 60), (95, 90), (110, 120)] {
            let now = tick + Duration::from_secs(late);
            assert_eq!(next_tick(tick, now, EVERY), tick + Duration::from_secs(expected), "{late} s later");
        }
    }

    #[test]
    fn an_offset_aligns_to_the_wall_clock() {
        let now: Timestamp = "2026-11-20T10:07:30Z".parse().unwrap();
        let hour = Duration::from_hours(1);
        assert_eq!(
            until_aligned(now, hour, Duration::from_mins(5)),
            Duration::from_mins(57) + Duration::from_secs(30)
        );
        assert_eq!(until_aligned(now, hour, Duration::from_mins(10)), Duration::from_secs(150));
        assert_eq!(until_aligned(now, Duration::from_secs(30), Duration::ZERO), Duration::from_secs(30));
    }
}
