//! What a series costs in each spelling, and the bar: at most a quarter of the `prometheus` crate's gather and encode.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, and reads the real clock"
)]
#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use metrics::dogstatsd::{self, Options};
use metrics::exposition::{self, Dialect};
use metrics::otlp::{Encoder, Resource, Temporality};
use metrics::{Answer, Metric, Part, Snapshot, Unit};
use prometheus::{Encoder as _, GaugeVec, Opts, Registry, TextEncoder};
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Above this share of the crate's time `make bench` fails.
const BAR: f64 = 0.25;
const ROUNDS: u32 = 15;
const SIZES: [usize; 2] = [10_000, 100_000];
const LABELS: [&str; 4] = ["country", "device", "region", "team"];

static CONNECTIONS: Metric<4> =
    Metric::gauge("device.connections", Unit::None, &LABELS, "Devices connected now.");

fn main() -> ExitCode {
    divan::main();
    // `cargo test --benches` and `cargo bench -- --test` only look whether everything runs.
    if cfg!(debug_assertions) || std::env::args().any(|argument| argument == "--test" || argument == "--list")
    {
        return ExitCode::SUCCESS;
    }
    let held = SIZES.map(bar);
    if held.iter().all(|held| *held) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn labels(row: usize) -> [String; 4] {
    [
        format!("C{:02}", row % 97),
        format!("device-{row:06}"),
        format!("ap-northeast-{}", row % 4),
        format!("team{}", row % 7),
    ]
}

fn value(row: usize) -> f64 {
    row as f64 * 1.618_033_988_75
}

fn snapshot(rows: usize) -> Snapshot {
    let mut answer = Answer::new();
    for row in 0..rows {
        answer.set(&CONNECTIONS, labels(row).each_ref().map(String::as_str), value(row));
    }
    let labels = Arc::from([]);
    let part = Part { labels, answer, from: None, until: None, counting_since: SystemTime::UNIX_EPOCH };
    Snapshot { generation: 1, parts: vec![Arc::new(part)] }
}

fn registry(rows: usize) -> Registry {
    let registry = Registry::new();
    let gauges = GaugeVec::new(Opts::new("device_connections", "Devices connected now."), &LABELS).unwrap();
    registry.register(Box::new(gauges.clone())).unwrap();
    for row in 0..rows {
        gauges.with_label_values(&labels(row).each_ref().map(String::as_str)).set(value(row));
    }
    registry
}

fn ours(snapshot: &Snapshot, now: Instant) -> usize {
    black_box(exposition::encode(black_box(snapshot), now, Dialect::Text, &[])).len()
}

fn theirs(registry: &Registry) -> usize {
    let mut out = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut out).unwrap();
    black_box(out).len()
}

#[divan::bench(args = SIZES)]
fn text(bencher: divan::Bencher<'_, '_>, rows: usize) {
    let (snapshot, now) = (snapshot(rows), Instant::now());
    bencher.counter(divan::counter::ItemsCount::new(rows)).bench(|| ours(&snapshot, now));
}

#[divan::bench(args = SIZES)]
fn prometheus_crate(bencher: divan::Bencher<'_, '_>, rows: usize) {
    let registry = registry(rows);
    bencher.counter(divan::counter::ItemsCount::new(rows)).bench(|| theirs(&registry));
}

#[divan::bench(args = SIZES)]
fn otlp(bencher: divan::Bencher<'_, '_>, rows: usize) {
    let (snapshot, now) = (snapshot(rows), Instant::now());
    let mut encoder = Encoder::new(&Resource::default(), Temporality::Cumulative);
    bencher
        .counter(divan::counter::ItemsCount::new(rows))
        .bench_local(|| encoder.encode(black_box(&snapshot), now, SystemTime::UNIX_EPOCH));
}

#[divan::bench(args = SIZES)]
fn dogstatsd(bencher: divan::Bencher<'_, '_>, rows: usize) {
    let (snapshot, now) = (snapshot(rows), Instant::now());
    let (options, mut deltas) = (Options::default(), metrics::delta::Deltas::new());
    bencher.counter(divan::counter::ItemsCount::new(rows)).bench_local(|| {
        let mut bytes = 0;
        dogstatsd::render(black_box(&snapshot), now, &options, &mut deltas, &mut |line| bytes += line.len());
        bytes
    });
}

/// Times both in turns, so that a noisy neighbour hits both, and compares the best round of each.
fn bar(rows: usize) -> bool {
    let (snapshot, registry, now) = (snapshot(rows), registry(rows), Instant::now());
    assert_eq!(ours(&snapshot, now), theirs(&registry), "both must write the same");
    let (mut best, mut best_of_theirs) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        best = best.min(time(|| ours(&snapshot, now)));
        best_of_theirs = best_of_theirs.min(time(|| theirs(&registry)));
    }
    let ratio = best.as_secs_f64() / best_of_theirs.as_secs_f64();
    let a_series = |time: Duration| time.as_secs_f64() * 1e9 / rows as f64;
    let verdict = if ratio <= BAR { "held" } else { "MISSED" };
    println!(
        "exposition, {rows} series: ours {:.1} ns a series, prometheus crate {:.1}, ratio {ratio:.3}, bar {BAR} {verdict}",
        a_series(best),
        a_series(best_of_theirs),
    );
    ratio <= BAR
}

fn time(work: impl FnOnce() -> usize) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}
