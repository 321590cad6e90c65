//! How fast payloads of CloudWatch Logs are read on one core, beside plain `serde_json`.
//! `cargo bench -p datapulse-digest --bench payload`.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures; no test pauses its clock")]

use std::hint::black_box;
use std::time::Instant;

use digest::payload::{Payload, payload};

/// About a megabyte, which is what a subscription sends at most.
const EVENTS: usize = 2500;

const RUNS: usize = 30;

fn main() {
    let json = json();
    let megabytes = json.len() as f64 / 1e6;
    let reading = best(|| match payload(black_box(json.as_bytes())) {
        Ok(Payload::Data(data)) => data.events.iter().map(|event| event.message.len()).sum(),
        Ok(Payload::Control | Payload::Wrapped(_)) | Err(_) => 0,
    });
    let tree = best(|| match serde_json::from_str::<serde_json::Value>(black_box(&json)) {
        Ok(value) => value.as_object().map_or(0, serde_json::Map::len),
        Err(_) => 0,
    });
    let quotes = best(|| memchr::memchr2_iter(b'"', b'\\', black_box(json.as_bytes())).count());
    println!("{megabytes:.2} MB, {EVENTS} events");
    println!("payload: {:.0} MB/s", megabytes / reading);
    println!("serde_json::Value: {:.0} MB/s", megabytes / tree);
    println!("limit, count of quotes and backslashes by memchr: {:.0} MB/s", megabytes / quotes);
}

/// Seconds of the fastest run.
fn best(run: impl Fn() -> usize) -> f64 {
    let time = || {
        let start = Instant::now();
        black_box(run());
        start.elapsed().as_secs_f64()
    };
    (0..RUNS).map(|_| time()).fold(f64::INFINITY, f64::min)
}

fn json() -> String {
    let events = (0..EVENTS).map(|at| {
        let id = at * 7919 % 100_000;
        format!(
            r##"{{"id":"3895378913789137891378913{at:031}","timestamp":{},"message":"# Time: 2023-11-14T22:13:20.{id:06}Z\n# User@Host: app[app] @ web1 [10.0.0.1]  Id: {id:5}\n# Query_time: 1.{id:06}  Lock_time: 0.000010 Rows_sent: 5  Rows_examined: {id}\nSET timestamp=1700000000;\nSELECT o.id, SUM(i.price * i.amount) AS \"total\"\n  FROM orders o JOIN items i ON i.order_id = o.id\n WHERE o.created_at > '2023-11-14' AND o.state IN ('new', 'paid') LIMIT {id};"}}"##,
            1_700_000_000_000_u64 + u64::try_from(at).unwrap_or(0),
        )
    });
    let events: Vec<String> = events.collect();
    format!(
        r#"{{"messageType":"DATA_MESSAGE","owner":"123456789012","logGroup":"/aws/rds/instance/a/slowquery","logStream":"a","subscriptionFilters":["all"],"logEvents":[{}]}}"#,
        events.join(",")
    )
}
