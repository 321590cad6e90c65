//! One check's life: run, report, rest. A panic, a hang or a refused login of one check is felt by no other.

use crate::board::{Board, Key};
use crate::check::{Check, Context, End, Endpoint, Outcome, Problem, Reason, Report};
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
/// Refused logins lock accounts, and a defect does not heal: such runs are repeated after at most this many intervals.
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
    /// Moves the grid of its runs; absent: spread by its name.
    pub offset: Option<Duration>,
}

/// Runs a check until `stop`, a report each.
pub async fn live<C: Check>(job: Job<C>, board: Arc<Board>, stop: CancellationToken) {
    let mut check = C::new(&job.config, &job.clients);
    let mut next = Instant::now() + first_rest(&job);
    let mut state = State::default();
    loop {
        board.plan(&job.key, next);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(next) => {}
        }
        if !state.may_run(&job.clients) {
            next = following(next, job.every);
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
        state.back_off(&reasons, job.every, &job.clients);
        board.publish(&job.key, report);
        if reasons.contains(&Reason::Timeout)
            && let Some(problem) = clean_up(&mut check).await
        {
            board.count(&job.key, &problem);
        }
        if reasons.contains(&Reason::Panic) {
            check = C::new(&job.config, &job.clients);
        }
        next = following(next, job.every);
    }
}

/// Runs a check once under its deadline. A panic becomes a problem of this check.
pub async fn execute<C: Check>(check: &mut C, longest: Duration) -> Report {
    let began = Instant::now();
    let deadline = began + longest;
    let run = AssertUnwindSafe(check.run(Context { now: Timestamp::now(), deadline })).catch_unwind();
    let outcome = match timeout_at(deadline + GRACE, run).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Outcome::single(Err(Problem::new(
            Reason::Panic,
            format!("the check panicked: {}", words(&*panic)),
        )
        .hint("this is a defect of datapulse: please report it with this text"))),
        Err(_) => {
            Outcome::single(Err(Problem::new(Reason::Timeout, format!("no answer within {longest:?}"))))
        }
    };
    let ends = with_every_end::<C>(outcome.ends);
    Report { ended: Timestamp::now(), ended_at: Instant::now(), took: began.elapsed(), ends }
}

/// Cancels what a run left behind; gives the problem when that did not work either.
pub async fn clean_up<C: Check>(check: &mut C) -> Option<Problem> {
    match timeout(CLEAN_UP, AssertUnwindSafe(check.give_up()).catch_unwind()).await {
        Ok(Ok(result)) => result.err(),
        Ok(Err(_)) => Some(Problem::new(Reason::Panic, "the check panicked while it gave up")),
        Err(_) => Some(Problem::new(Reason::CancelTimeout, format!("could not cancel within {CLEAN_UP:?}"))),
    }
}

/// A run that ended as a whole says so for the end that the check itself stands for.
fn with_every_end<C: Check>(mut ends: Vec<End>) -> Vec<End> {
    if let ([only], Some(own)) = (ends.as_mut_slice(), C::ENDS.first())
        && only.endpoint == Endpoint::Own
    {
        only.endpoint = *own;
    }
    ends
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Rest before the first run: a share of the spread that depends on the name alone.
fn first_rest<C: Check>(job: &Job<C>) -> Duration {
    let spread = job.every.min(LONGEST_SPREAD);
    if let Some(offset) = job.offset {
        return offset.min(spread);
    }
    let mut hasher = DefaultHasher::new();
    job.key.hash(&mut hasher);
    let share = (hasher.finish() % 1000) as f64 / 1000.0;
    spread.mul_f64(share)
}

/// The next tick of the grid that is still to come; missed ones are skipped.
fn following(tick: Instant, every: Duration) -> Instant {
    let now = Instant::now();
    let mut next = tick + every;
    if next <= now {
        let missed = now.duration_since(tick).as_nanos() / every.as_nanos().max(1);
        next = tick + every.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX)) + every;
    }
    next
}

/// What a life remembers from run to run.
#[derive(Default)]
struct State {
    /// Runs in a row whose login was refused, or that panicked.
    refused: u32,
    rest_until: Option<Instant>,
    /// Versions of the secrets at the last refused login: a new one ends the rest.
    secrets: Vec<u64>,
    /// What went wrong last time, so that the log has one line per change.
    last: Option<Vec<(Endpoint, Reason)>>,
}

impl State {
    fn may_run(&self, clients: &Clients) -> bool {
        match self.rest_until {
            Some(until) => Instant::now() >= until || secrets(clients) != self.secrets,
            None => true,
        }
    }

    fn back_off(&mut self, reasons: &[Reason], every: Duration, clients: &Clients) {
        if !reasons.iter().any(|reason| matches!(reason, Reason::Auth | Reason::Panic)) {
            self.refused = 0;
            self.rest_until = None;
            return;
        }
        let intervals = 2u32.saturating_pow(self.refused).min(LONGEST_BACKOFF);
        self.refused += 1;
        // Half an interval less, so that the tick at the end of the rest is not the one that is missed.
        self.rest_until = Some(Instant::now() + every.saturating_mul(intervals).saturating_sub(every / 2));
        self.secrets = secrets(clients);
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

fn secrets(clients: &Clients) -> Vec<u64> {
    let servers = [Some(&clients.target), clients.publisher.as_ref()];
    let passwords = servers.into_iter().flatten().filter_map(|server| server.target.password.as_ref());
    passwords.map(|password| clients.vault.version(password)).collect()
}

/// The one place where the type of a check is forgotten: its whole life as a future.
pub fn boxed<C: Check>(
    job: Job<C>,
    board: Arc<Board>,
    stop: CancellationToken,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(live(job, board, stop))
}
