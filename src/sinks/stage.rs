//! Snapshots for the tests of the sinks.

use super::Newest;
use metrics::{Answer, Metric, Part, Snapshot, Unit};
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

static DEPTH: Metric<1> = Metric::gauge("test.depth", Unit::Bytes, &["queue"], "Depth of a queue.");
static EVENTS: Metric<0> = Metric::counter("test.events", Unit::None, &[], "Events so far.");

/// A snapshot of so many gauges, `queue-0` with value 0 and so on, and a counter of ours.
pub(super) fn snapshot(gauges: usize, events: f64) -> Arc<Snapshot> {
    let mut answer = Answer::new();
    for at in 0..gauges {
        answer.set(&DEPTH, [&format!("queue-{at}")], at as f64);
    }
    answer.set(&EVENTS, [], events);
    answer.seal();
    let labels: Arc<[_]> = Arc::from([("check".to_owned(), "orders".to_owned())]);
    let part = Part { labels, answer, from: None, until: None, counting_since: UNIX_EPOCH };
    Arc::new(Snapshot { generation: 1, parts: vec![Arc::new(part)] })
}

/// A board whose snapshot the test can replace.
pub(super) fn board(first: Arc<Snapshot>) -> (Newest, impl Fn(Arc<Snapshot>)) {
    let now = Arc::new(Mutex::new(first));
    let shown = Arc::clone(&now);
    (Arc::new(move || Arc::clone(&shown.lock().unwrap())), move |next| *now.lock().unwrap() = next)
}
