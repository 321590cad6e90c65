//! A database that stands still (SIGSTOP) holds up nobody: not a scrape, not another check, not the end.

use crate::program::{Program, Samples, replicate, role, target};
use crate::stage::{Pair, USUAL, eventually, postgres, shared_pair, stage};
use datapulse::demo::parts::{Cluster, Settings, Signal, Stage, wait_for};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(1);
/// A scrape takes less, whatever the databases do.
const LONGEST_SCRAPE: Duration = Duration::from_millis(50);
/// What a poll of this test may come late: its own pause, a scrape, and a busy machine.
const SLACK: Duration = Duration::from_millis(400);

/// A cluster that only these tests use, one at a time: it stands still now and then.
fn cold() -> MutexGuard<'static, (Cluster, Stage)> {
    static COLD: OnceLock<Mutex<(Cluster, Stage)>> = OnceLock::new();
    let cold = COLD.get_or_init(|| {
        let stage = stage("cold");
        let cluster =
            Cluster::start(&postgres(USUAL), &stage.path().join("cluster"), &Settings::default()).unwrap();
        Mutex::new((cluster, stage))
    });
    let cold = cold.lock().unwrap_or_else(PoisonError::into_inner);
    cold.0.thaw().unwrap();
    cold
}

/// Nanoseconds that the main thread of a process and this thread have waited for a processor.
fn waited_for_a_processor(pid: u32) -> u64 {
    let of = |path: String| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().nth(1).and_then(|waited| waited.parse::<u64>().ok()).unwrap_or(0)
    };
    of(format!("/proc/{pid}/schedstat")) + of("/proc/thread-self/schedstat".to_owned())
}

/// A scrape, and how long it took. The time in which the machine gave us no processor is not datapulse's.
fn timed_scrape(program: &Program) -> (Samples, Duration) {
    let (waited, start) = (waited_for_a_processor(program.pid()), Instant::now());
    let text = program.get("/metrics");
    let took = start.elapsed();
    let waited = Duration::from_nanos(waited_for_a_processor(program.pid()) - waited);
    (Samples::parse(&text), took.saturating_sub(waited))
}

/// TCP connections of a process to a port that both ends have agreed on.
fn established(pid: u32, port: u16) -> usize {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let own: BTreeSet<String> = entries
        .filter_map(|entry| {
            let link = std::fs::read_link(entry.ok()?.path()).ok()?.display().to_string();
            Some(link.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())
        })
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let there = format!(":{port:04X}");
    lines.filter(|line| line[2].ends_with(&there) && line[3] == "01" && own.contains(line[9])).count()
}

/// A good check, one on the cold cluster, and one with its second end there.
fn scene(shared: &Pair, cold: &Cluster) -> Program {
    replicate(shared, "frost");
    role(&shared.subscriber, "frost_sub", "");
    role(&shared.publisher, "frost_pub", "");
    role(cold, "frozen_own", "");
    role(cold, "frozen_end", "");
    let Pair { publisher, subscriber, .. } = shared;
    let config = format!(
        "targets:\n  sub: {}\n  pub: {}\n  cold: {}\n  end: {}\n\
         defaults: {{pg_replication: {{every: 1s, timeout: 1s}}, pg_subscription: {{every: 1s, timeout: 1s}}}}\nchecks:\n  \
         - pg_replication: {{name: warm, target: pub}}\n  \
         - pg_replication: {{name: frozen, target: cold}}\n  \
         - pg_subscription: {{name: half, target: sub, publisher: end, subscriptions: [frost]}}\n",
        target(subscriber, "frost_sub", "frost"),
        target(publisher, "frost_pub", "frost"),
        target(cold, "frozen_own", "postgres"),
        target(cold, "frozen_end", "postgres"),
    );
    Program::start("freeze", &config, &[])
}

#[test]
fn a_frozen_database_holds_up_no_scrape_and_no_other_check() {
    let cold = cold();
    let cluster = &cold.0;
    let program = scene(shared_pair(), cluster);
    let up = [
        ("datapulse_check_up", vec![("check", "frozen")]),
        ("datapulse_check_endpoint_up", vec![("check", "half"), ("endpoint", "publisher")]),
    ];
    for (name, labels) in &up {
        program.wait_for(name, labels, |up| up == 1.0);
    }
    program.wait_for("datapulse_check_up", &[("check", "warm")], |up| up == 1.0);
    assert_eq!(established(program.pid(), cluster.port()), 2, "one connection each");

    cluster.freeze().unwrap();
    let frozen = Instant::now();
    let (mut scrapes, mut slowest, mut most, mut down) = (0, Duration::ZERO, 0, [None; 2]);
    let mut successes: Vec<(f64, Instant)> = Vec::new();
    // Long enough for several rounds of hanging logins and hanging cancel requests.
    while scrapes < 100 || frozen.elapsed() < Duration::from_secs(4) {
        let began = frozen.elapsed();
        let (samples, took) = timed_scrape(&program);
        assert!(took < LONGEST_SCRAPE, "scrape {scrapes}, {began:?} after the freeze, took {took:?}");
        (scrapes, slowest) = (scrapes + 1, slowest.max(took));
        most = most.max(established(program.pid(), cluster.port()));
        for ((name, labels), down) in up.iter().zip(&mut down) {
            if samples.value(name, labels) == Some(0.0) {
                down.get_or_insert(began);
            }
        }
        if down[0].is_some() {
            let left: Vec<_> = samples
                .0
                .iter()
                .filter(|sample| sample.name.starts_with("pg_") && sample.labels["check"] == "frozen")
                .collect();
            assert!(left.is_empty(), "shown {began:?} after the freeze: {left:?}");
        }
        assert_eq!(samples.value("datapulse_check_up", &[("check", "warm")]), Some(1.0));
        assert_eq!(
            samples.value("datapulse_check_up", &[("check", "half")]),
            Some(1.0),
            "its own target answers"
        );
        assert_eq!(samples.value("pg_subscription_enabled", &[("check", "half")]), Some(1.0));
        let success =
            samples.value("datapulse_check_last_success_timestamp_seconds", &[("check", "warm")]).unwrap();
        if successes.last().is_none_or(|(last, _)| *last != success) {
            successes.push((success, Instant::now()));
        }
        wait_for(Duration::from_millis(20), || Ok(None::<()>)).unwrap();
    }
    let longest_gap = successes.windows(2).map(|two| two[1].0 - two[0].0).fold(0.0, f64::max);
    println!(
        "{scrapes} scrapes, the slowest {slowest:?}; down after {down:?}; at most {most} connections; gap of the others {longest_gap:.3} s"
    );
    for down in down {
        let down = down.expect("what is frozen is down");
        assert!(down <= INTERVAL + TIMEOUT + SLACK, "down only {down:?} after the freeze");
    }
    assert!(
        successes.len() >= 5 && longest_gap < (INTERVAL + SLACK).as_secs_f64(),
        "the other check was late: {successes:?}"
    );
    // One session a check and endpoint, and one short cancel request for it.
    assert!(most <= 4, "{most} connections to the frozen server");

    cluster.thaw().unwrap();
    let thawed = Instant::now();
    for (name, labels) in &up {
        program.wait_for(name, labels, |up| up == 1.0);
    }
    let recovered = thawed.elapsed();
    println!("recovered {recovered:?} after the thaw");
    assert!(recovered <= INTERVAL + SLACK, "recovered only {recovered:?} after the thaw");
    // What was left in the server's queue while it stood still is gone.
    let roles = "select count(*) filter (where usename = 'frozen_own') || ' ' || count(*) filter (where usename = 'frozen_end') from pg_stat_activity";
    eventually("one backend a check and endpoint", || {
        (cluster.sql("postgres", roles).unwrap() == "1 1").then_some(())
    });
    assert_eq!(established(program.pid(), cluster.port()), 2);
}

/// A program with one check on the cold cluster, whose run hangs because the cluster is frozen.
fn hanging(name: &str, cluster: &Cluster) -> Program {
    role(cluster, name, "");
    let target = target(cluster, name, "postgres");
    let config =
        format!("checks: [{{pg_replication: {{name: frozen, target: {target}, every: 1s, timeout: 20s}}}}]");
    let program = Program::start(name, &config, &[]);
    let labels = [("check", "frozen")];
    program.wait_for("datapulse_check_up", &labels, |up| up == 1.0);
    cluster.freeze().unwrap();
    // A run is under way once its time has come and it has not ended.
    let runs = || program.scrape().value("datapulse_check_runs_total", &labels).unwrap();
    let mut seen = (runs(), Instant::now());
    eventually("a run that hangs", || {
        if runs() != seen.0 {
            seen = (runs(), Instant::now());
        }
        (seen.1.elapsed() > INTERVAL + SLACK).then_some(())
    });
    program
}

#[test]
fn a_frozen_database_does_not_hold_up_the_end() {
    let cold = cold();
    let program = hanging("frozen_end_once", &cold.0);
    program.signal(Signal::Term);
    let (status, took) = program.end();
    println!("ended after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(status.code(), Some(0), "{status}\n{}", program.log());
    cold.0.thaw().unwrap();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let cold = cold();
    let program = hanging("frozen_end_twice", &cold.0);
    program.signal(Signal::Term);
    eventually("it is stopping", || program.log().contains("stopping").then_some(()));
    let told = Instant::now();
    program.signal(Signal::Int);
    let (status, _) = program.end();
    let took = told.elapsed();
    println!("ended after {took:?}");
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert!(program.log().contains("told to stop again"), "{}", program.log());
    assert_eq!(status.code(), Some(0), "{status}");
    cold.0.thaw().unwrap();
}
