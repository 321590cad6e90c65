//! A sink or a check that fails or hangs changes nothing for the others.

use crate::program::{Program, role, target};
use crate::stage::{LIMIT, eventually, shared_pair};
use datapulse::demo::parts::{Signal, wait_for};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// Broken in every way that needs no further server; `{hung}` accepts connections and says nothing.
const BROKEN: &str = "  - pg_replication: {name: refused, target: {host: 127.0.0.1, port: 1, user: u, database: d, tls: disable}, every: 1s}
  - pg_replication: {name: silent, target: {host: 127.0.0.1, port: {hung}, user: u, database: d, tls: disable}, every: 1s}
  - pg_replication: {name: secretless, target: {host: 127.0.0.1, port: 1, user: u, password: 'file:nowhere', database: d, tls: disable}, every: 1s}
  - pg_replication: {name: locked, target: {good}, every: 1s}
";
/// What the log calls them, and how `failures_total` counts them.
const REASONS: [(&str, &str); 4] =
    [("refused", "connect"), ("silent", "connect_timeout"), ("secretless", "secret"), ("locked", "auth")];

/// A good check every second and broken ones, with these outputs.
fn configuration(name: &str, hung: u16, outputs: &str) -> String {
    let publisher = &shared_pair().publisher;
    // Without the grant, senders of other tests would be rows that it may not read, which counts.
    role(publisher, name, &format!("grant pg_monitor to {name}"));
    let good = target(publisher, name, "postgres");
    let locked = good.replace("env:PASSWORD", "env:PATH");
    let broken = BROKEN.replace("{hung}", &hung.to_string()).replace("{good}", &locked);
    format!(
        "checks:\n  - pg_replication: {{name: good, target: {good}, every: 1s}}\n{broken}outputs:\n{outputs}"
    )
}

/// Watches for a few seconds that scrapes are quick and that the good check is on time.
fn nothing_is_felt(program: &Program) {
    let of = [("check", "good")];
    program.wait_for("datapulse_check_up", &of, |up| up == 1.0);
    let (mut successes, mut slow): (Vec<f64>, Vec<Duration>) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        let samples = program.scrape();
        // A busy machine can delay one of them; a sink that is felt delays them again and again.
        slow.extend(Some(asked.elapsed()).filter(|took| *took > Duration::from_millis(100)));
        assert_eq!(samples.value("datapulse_check_up", &of), Some(1.0));
        assert!(samples.value("pg_replication_is_replica", &of).is_some());
        successes.extend(samples.value("datapulse_check_last_success_timestamp_seconds", &of));
        wait_for(Duration::from_millis(50), || Ok(None::<()>)).unwrap();
    }
    successes.dedup();
    let longest_gap = successes.windows(2).map(|two| two[1] - two[0]).fold(0.0, f64::max);
    println!("{} runs, at most {longest_gap:.3} s apart; slow scrapes {slow:?}", successes.len());
    assert!(successes.len() >= 3 && longest_gap < 1.4, "the good check was late: {successes:?}");
    assert!(slow.len() <= 2, "{slow:?}");
    let samples = program.scrape();
    for (check, reason) in REASONS {
        let failures =
            samples.value("datapulse_check_failures_total", &[("check", check), ("reason", reason)]);
        assert!(failures.is_some_and(|count| count >= 1.0), "{check} has no {reason}:\n{}", program.log());
        assert_eq!(samples.value("datapulse_check_up", &[("check", check)]), Some(0.0), "{check}");
    }
    let good = samples.all("datapulse_check_failures_total", &of).map(|sample| sample.value).sum::<f64>();
    assert!(good.abs() < f64::EPSILON, "the good check has {good} failures");
}

#[test]
fn dead_receivers_and_broken_checks_change_nothing_for_the_others() {
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let outputs = "  otlp: {endpoint: 'http://127.0.0.1:1', every: 1s}\n  dogstatsd: {address: 'unix://SOCKET', every: 1s}\n";
    let config = configuration("isolated_dead", hung.local_addr().unwrap().port(), outputs);
    let folder = crate::stage::stage("sockets");
    let socket = folder.path().join("dsd.socket");
    let program =
        Program::start("isolated-dead", &config.replace("SOCKET", &socket.display().to_string()), &[]);
    nothing_is_felt(&program);
    let log = program.log();
    for sink in ["otlp", "dogstatsd"] {
        let told = log.lines().filter(|line| line.contains("push failed") && line.contains(sink)).count();
        assert_eq!(told, 1, "one line for a change of state, not one a push:\n{log}");
    }

    // The agent comes, goes and comes again: each time it is found, whatever the collector does.
    for _ in 0..2 {
        let agent = UnixDatagram::bind(&socket).unwrap();
        agent.set_read_timeout(Some(LIMIT)).unwrap();
        let start = Instant::now();
        let mut packet = vec![0; 65536];
        let length = agent.recv(&mut packet).unwrap();
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        let text = std::str::from_utf8(&packet[..length]).unwrap();
        assert!(text.lines().all(|line| line.contains('|')) && text.contains("datapulse."), "{text}");
        drop(agent);
        std::fs::remove_file(&socket).unwrap();
    }
}

#[test]
fn receivers_that_hang_change_nothing_for_the_others_nor_for_the_end() {
    // The kernel accepts for it, and nobody ever reads.
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = hung.local_addr().unwrap().port();
    let folder = crate::stage::stage("sockets");
    let socket = folder.path().join("dsd.socket");
    let agent = UnixDatagram::bind(&socket).unwrap();
    let full = UnixDatagram::unbound().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.send_to(b"nobody reads this", &socket).is_ok() {}
    let outputs = format!(
        "  otlp: {{endpoint: 'http://127.0.0.1:{port}', every: 1s, timeout: 3s}}\n  dogstatsd: {{address: 'unix://{}', every: 1s}}\n",
        socket.display()
    );
    let program = Program::start("isolated-hung", &configuration("isolated_hung", port, &outputs), &[]);
    nothing_is_felt(&program);
    eventually("both pushes have failed", || {
        let log = program.log();
        let failed = |sink: &str| log.lines().any(|line| line.contains("push failed") && line.contains(sink));
        (failed("dogstatsd") && failed("otlp")).then_some(())
    });
    program.signal(Signal::Term);
    let (status, took) = program.end();
    println!("ended after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(status.code(), Some(0), "{}", program.log());
    drop(agent);
}
