//! What the logs say on the board: their totals, and how fresh they are.

use super::intake::{Intake, RESULTS};
use super::series::{self, Telling};
use crate::board::Board;
use jiff::Timestamp;
use metrics::{Handle, Metric, Unit};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often what the logs say is put on the board, and sealed what is over.
const EVERY: Duration = Duration::from_secs(5);

static DELAY: Metric<1> = Metric::gauge(
    "datapulse.logs.delay",
    Unit::Seconds,
    &["log_group"],
    "How old the newest event of the last delivery was when it came",
);
static LAST_EVENT: Metric<1> = Metric::gauge(
    "datapulse.logs.last_event_timestamp",
    Unit::Seconds,
    &["log_group"],
    "Unix time of the newest event that came",
);
static PULL_UP: Metric<1> = Metric::gauge(
    "datapulse.logs.pull_up",
    Unit::None,
    &["log_group"],
    "1 when the last pass over these log groups went well; log_group as the configuration writes it",
);
static PULL_LAST_SUCCESS: Metric<1> = Metric::gauge(
    "datapulse.logs.pull_last_success_timestamp",
    Unit::Seconds,
    &["log_group"],
    "Unix time of the last pass that went well; absent before the first",
);
static DOCUMENTS: Metric<2> = Metric::counter(
    "datapulse.bulk.documents",
    Unit::None,
    &["log_group", "result"],
    "Documents for Elasticsearch: indexed; rejected for good, which are in the quarantine; failed with their delivery, which its sender repeats",
);
static DEDUPE_WINDOW: Metric<0> = Metric::gauge(
    "datapulse.logs.dedupe_window",
    Unit::Seconds,
    &[],
    "How long an event is known: a repetition that comes later counts as new",
);
static UNREADABLE: Metric<0> = Metric::counter(
    "datapulse.logs.unreadable_records",
    Unit::None,
    &[],
    "Records that no log event could be read from; they are in the quarantine",
);
static QUARANTINED: Metric<0> = Metric::counter(
    "datapulse.logs.quarantined",
    Unit::None,
    &[],
    "Records and events that went to the quarantine, also those that its file had no room for",
);
static LAST_SEALED: Metric<1> = Metric::gauge(
    "datapulse.archive.last_sealed_timestamp",
    Unit::Seconds,
    &["log_group"],
    "Unix time at which a daily file was last sealed",
);
static WRITE_FAILURES: Metric<1> = Metric::counter(
    "datapulse.archive.write_failures",
    Unit::None,
    &["log_group"],
    "How often a daily file could not be written, synced or sealed; the senders were told to repeat",
);
static LATE: Metric<1> = Metric::counter(
    "datapulse.archive.late",
    Unit::None,
    &["log_group"],
    "Lines that came after their day was sealed, and went to its .late.log file",
);

/// The families of logs, for the catalogue.
pub fn families() -> Vec<Handle> {
    let mut families = series::families();
    families.extend([
        DELAY.handle(),
        LAST_EVENT.handle(),
        PULL_UP.handle(),
        PULL_LAST_SUCCESS.handle(),
        DOCUMENTS.handle(),
        DEDUPE_WINDOW.handle(),
        UNREADABLE.handle(),
        QUARANTINED.handle(),
        LAST_SEALED.handle(),
        WRITE_FAILURES.handle(),
        LATE.handle(),
    ]);
    families
}

/// Keeps the board up to date and has the scribe seal what is over. Ends only with its task.
pub async fn live(intake: Arc<Intake>, board: Arc<Board>, mut telling: Telling) {
    loop {
        tokio::time::sleep(EVERY).await;
        let now = Timestamp::now();
        if let Err(error) = intake.scribe().seal(now).await {
            tracing::error!(%error, "daily files are no longer sealed");
            return;
        }
        show(&intake, &board, &mut telling, now);
    }
}

/// Puts what the logs say on the board.
pub fn show(intake: &Intake, board: &Board, telling: &mut Telling, now: Timestamp) {
    let routing = intake.routing();
    let expected: Vec<String> = routing.routes.0.iter().filter_map(super::routes::Route::one_group).collect();
    let archives = intake.scribe().archive_facts();
    let known = archives
        .keys()
        .map(ToString::to_string)
        .chain(intake.last_events().into_iter().map(|(group, _)| group));
    let log_groups: BTreeSet<String> = known.chain(expected.iter().cloned()).collect();
    let has_archive =
        |log_group: &str| routing.routes.of(log_group).is_some_and(|(_, route)| route.archive.is_some());
    let route = |log_group: &str| routing.routes.of(log_group).map(|(number, _)| number);
    let shown_at = Instant::now();
    let mut parts = telling.tell(&intake.scribe().totals(), &expected, &route, shown_at);
    for (log_group, seconds) in intake.last_events() {
        parts.entry(route(&log_group)).or_default().set(&LAST_EVENT, [&log_group], seconds);
    }
    for (log_group, seconds) in intake.delays() {
        parts.entry(route(&log_group)).or_default().set(&DELAY, [&log_group], seconds);
    }
    for log_group in log_groups.iter().filter(|log_group| has_archive(log_group)) {
        let facts = archives.get(log_group.as_str()).copied().unwrap_or_default();
        let answer = parts.entry(route(log_group)).or_default();
        answer.set_some(
            &LAST_SEALED,
            [log_group],
            facts.last_sealed.map(|at| at.as_millisecond() as f64 / 1e3),
        );
        answer.set(&WRITE_FAILURES, [log_group], facts.write_failures as f64);
        answer.set(&LATE, [log_group], facts.late_lines as f64);
    }
    let has_outlet = |log_group: &str| {
        routing.routes.of(log_group).is_some_and(|(_, route)| route.elasticsearch.is_some())
    };
    let mut documents = intake.documents();
    for log_group in log_groups.iter().filter(|log_group| has_outlet(log_group)) {
        for result in RESULTS {
            documents.entry((log_group.clone(), result)).or_default();
        }
    }
    for ((log_group, result), number) in documents {
        let number = telling.documents(&log_group, result, number, shown_at);
        parts.entry(route(&log_group)).or_default().set(&DOCUMENTS, [&log_group, result], number as f64);
    }
    let own = parts.entry(None).or_default();
    let (unreadable, (quarantined, _)) = intake.put_aside();
    for pull in intake.pulls().iter() {
        own.set_some(&PULL_UP, [&pull.log_group], pull.up().map(|up| f64::from(u8::from(up))));
        own.set_some(&PULL_LAST_SUCCESS, [&pull.log_group], pull.last_success().map(|at| at as f64));
    }
    own.set(&DEDUPE_WINDOW, [], intake.scribe().dedupe_window_seconds(now));
    own.set(&UNREADABLE, [], unreadable as f64);
    own.set(&QUARANTINED, [], quarantined as f64);
    let labels = |number: Option<usize>| {
        let route = number.and_then(|number| routing.routes.0.get(number));
        route.map(|route| route.labels.clone().into_iter().collect()).unwrap_or_default()
    };
    board.logs(parts.into_iter().map(|(number, answer)| (labels(number), answer)).collect());
}
