//! Pictures of the dashboards, drawn by `scripts/pictures` from the demo's answers: `make pictures`.

use super::expressions::Source;
use super::history::History;
use crate::demo::{Demo, FIRING, GONE};
use crate::program::finish;
use crate::stage::{root, stage};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What Grafana would be told of the demo, whose checks run every five seconds at most.
const INTERVAL: Duration = Duration::from_secs(5);
/// How far back the board of devices looks.
const WEEK: Duration = Duration::from_hours(24 * 7);

#[test]
#[ignore = "draws pictures for the documents: make pictures"]
fn the_dashboards_are_drawn() {
    let stage = stage("pictures");
    std::fs::create_dir(stage.path().join("tmp")).unwrap();
    let history = History::start("pictures-history");
    let demo = Demo::start(&stage, "demo.log");
    demo.wait(FIRING, "quiet", <[String]>::is_empty);
    // What happens: one thing after another, and at the end what is still so.
    demo.order(&["break", "lock"]);
    let session = demo.session_that_waits();
    demo.wait(FIRING, "blocked", |alerts| alerts.iter().any(|alert| alert == "PostgresSubscriptionBlocked"));
    drop(session);
    for fault in ["redis-failover", "slow-statement", "publisher-down"] {
        demo.order(&["heal"]);
        demo.order(&["break", fault]);
        stays(&demo);
    }
    demo.order(&["heal"]);
    demo.wait(GONE, "over", |alerts| !alerts.iter().any(|alert| alert.starts_with("PostgresSubscription")));
    for fault in ["lock", "country-drop", "long-query"] {
        demo.order(&["break", fault]);
    }
    let session = demo.session_that_waits();
    let last = ["RedshiftQueryLongRunning", "DeviceConnectionsZero", "PostgresSubscriptionBlocked"];
    demo.wait(FIRING, "firing", |alerts| last.iter().all(|name| alerts.iter().any(|alert| alert == name)));
    stays(&demo);

    let demo_so_far = Source { interval: INTERVAL, ..demo.source() };
    let old = history.source();
    let mut devices = described(&Source { range: WEEK, ..old }, true);
    devices["first_for"] = json!(["devices"]);
    let sources = json!([described(&demo_so_far, false), described(&old, true), devices]);
    let file = stage.path().join("sources.json");
    std::fs::write(&file, sources.to_string()).unwrap();
    let mut draw = Command::new("python3");
    draw.arg(root().join("scripts/pictures/draw.py")).arg(&file).arg(root().join("docs/images/dashboards"));
    let (status, said, complaint) = finish(&mut draw);
    println!("{said}");
    assert_eq!(status, 0, "{complaint}");
    drop(session);
}

/// Lets it be seen for a while.
fn stays(demo: &Demo<'_>) {
    let before = demo.source().range;
    demo.wait(FIRING, "so for a while", |_| demo.source().range > before + Duration::from_secs(25));
}

/// As `draw.py` reads it.
fn described(source: &Source, made_up: bool) -> Value {
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    json!({
        "url": format!("http://127.0.0.1:{}", source.port),
        "start": end.saturating_sub(source.range).as_secs(),
        "end": end.as_secs(),
        "interval": source.interval.as_secs(),
        "made_up": made_up,
    })
}
