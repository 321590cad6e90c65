//! The readers of logs against their peers, on the slow query log of a real `MariaDB`; `make bench`.
//!
//! - `datapulse digest` as a process against `pt-query-digest`: what it finds has to be exact, its time at most a fiftieth,
//!   its memory at most 64 MB whatever the length of the log.
//! - Subscription payloads of `CloudWatch` from base64 to the last event against a Node.js script that does base64, gunzip,
//!   JSON and one regular expression: at most half its time.
//!
//! The log is made once, below `target/`; `DATAPULSE_BENCH_MB` sets its length in MB (200).
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures; no test pauses its clock")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench that cannot run has to say so loudly"
)]

use base64::Engine as _;
use datapulse::demo::parts::MariaDb;
use datapulse::logs::decode::decode;
use datapulse::logs::parse::{Found, parse};
use datapulse::logs::read::{Format, Reading};
use datapulse::logs::routes::Parser;
use datapulse::net::gzip;
use digest::payload::Payload;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The least factor between pt-query-digest and us.
const DIGEST_BAR: f64 = 50.0;
/// The least factor between the Node.js script and us.
const PAYLOAD_BAR: f64 = 2.0;
/// The most memory of `digest`, in MB, at any length of the log.
const MEMORY_BAR: f64 = 64.0;
/// Statements of one turn of the templates go to the client together.
const TURNS_A_BATCH: usize = 2_000;
const USERS: [&str; 2] = ["app", "report"];
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-logs");
    std::fs::create_dir_all(&folder).unwrap();
    let wanted: u64 = std::env::var("DATAPULSE_BENCH_MB").map_or(200, |text| text.parse().unwrap());
    let log = folder.join(format!("slow-{wanted}.log"));
    if !log.exists() {
        make_log(&folder, &log, wanted * 1_000_000);
    }
    let exact = exact(&log);
    let fast = against_pt_query_digest(&log);
    let small = memory(&log);
    let decoded = payloads(&folder, &log);
    if exact && fast && small && decoded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The nth statement of each template: literals of every form, lists and rows of every length.
fn templates(n: usize) -> Vec<String> {
    let list = (0..=n % 40).map(|at| (at * 7919 + n).to_string()).collect::<Vec<_>>().join(", ");
    let rows = (0..=n % 6).map(|at| format!("({n}{at}, 'click', '{{\\\"page\\\": {n}}}')"));
    let rows = rows.collect::<Vec<_>>().join(", ");
    let sign = if n.is_multiple_of(2) { "-" } else { "" };
    vec![
        format!("select id, name from items where id = {sign}{n}"),
        format!(
            "SELECT o.id, o.customer, SUM(i.price * i.amount) AS total\n  FROM orders o JOIN items i ON i.order_id = o.id\n WHERE o.created > '2026-11-{:02} 00:00:00' AND o.state IN ('new', 'paid')\n GROUP BY o.id ORDER BY total DESC LIMIT {n}",
            1 + n % 28
        ),
        format!("update accounts set note = 'it''s no. {n}', balance = balance - {n}.5 where id = {n}"),
        format!("insert into events (id, kind, body) values {rows}"),
        format!(
            "select * from `products` where `products`.`id` in ({list}) and `products`.`deleted_at` is null"
        ),
        format!(
            "/* job {n} */ delete from sessions where expires < now() - interval {} day and id = {n}",
            n % 30
        ),
        format!("select count(*) from users where email like '%{n}@example.org' -- page {n}\n limit 1"),
        format!("call settle_account({n}, '2026-11-{:02}')", 1 + n % 28),
    ]
}

/// Runs the templates on a server of its own until its slow query log is long enough.
fn make_log(folder: &Path, log: &Path, bytes: u64) {
    println!("making a slow query log of {} MB on a MariaDB; once", bytes / 1_000_000);
    let server = MariaDb::start(&folder.join("server"), &[]).unwrap();
    let setup = "create database shop; use shop; create table items (id bigint, name text, order_id bigint, price decimal(9,2), amount int, note text);
        create table orders (id bigint, customer bigint, created datetime, state text); create table accounts (id bigint primary key, note text, balance decimal(12,2));
        create table events (id decimal(30), kind text, body text); create table products (id bigint primary key, deleted_at datetime);
        create table sessions (id bigint primary key, expires datetime); create table users (email text);
        create procedure settle_account(id bigint, day date) do id; create user app@localhost, report@localhost; grant all on shop.* to app@localhost, report@localhost;";
    server.run("root", "", setup).unwrap();
    let mut n = 0;
    while std::fs::metadata(server.slow_log()).unwrap().len() < bytes {
        let mut sql = String::new();
        for turn in n..n + TURNS_A_BATCH {
            for statement in templates(turn) {
                writeln!(sql, "{statement};").unwrap();
            }
        }
        n += TURNS_A_BATCH;
        for user in USERS {
            server.run(user, "shop", &sql).unwrap();
        }
        server.run("root", "shop", "truncate events").unwrap();
    }
    std::fs::write(log.with_extension("turns"), n.to_string()).unwrap();
    std::fs::copy(server.slow_log(), log).unwrap();
}

/// Times of all entries by a reader that knows only their header: no literal of ours has a line like it.
fn independent_sum(log: &Path) -> (u64, u128) {
    let (mut entries, mut micros) = (0, 0);
    for line in BufReader::new(File::open(log).unwrap()).split(b'\n') {
        let line = line.unwrap();
        let Some(rest) = line.strip_prefix(b"# Query_time: ") else { continue };
        let words = String::from_utf8_lossy(rest).into_owned();
        let Some((whole, part)) = words.split_whitespace().next().and_then(|word| word.split_once('.'))
        else {
            continue;
        };
        entries += 1;
        micros += whole.parse::<u128>().unwrap() * 1_000_000 + part.parse::<u128>().unwrap();
    }
    (entries, micros)
}

fn digest(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_datapulse"));
    command.arg("digest").args(arguments).stdin(Stdio::null());
    command
}

/// What `digest` finds is what was sent: every entry, every microsecond, a fingerprint a template, both users alike.
fn exact(log: &Path) -> bool {
    let path = log.to_str().unwrap();
    let turns: usize = std::fs::read_to_string(log.with_extension("turns")).unwrap().parse().unwrap();
    let out = digest(&["--output", "json", "--limit", "1000", path]).output().unwrap().stdout;
    let report: Value = serde_json::from_slice(&out).unwrap();
    let (entries, micros) = independent_sum(log);
    let statements = report["statements"].as_array().unwrap();
    let seconds: f64 = statements.iter().map(|one| one["time_sum"].as_f64().unwrap_or(0.0)).sum();
    let of_ours = statements.iter().filter(|one| one["calls"] == (turns * USERS.len()) as u64).count();
    let events = report["events"].as_u64().unwrap();
    let wrong_time = (seconds - micros as f64 / 1e6).abs();
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    let mut child = digest(&["--output", "events", path]).stdout(Stdio::piped()).spawn().unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        *users.entry(event["user"].as_str().unwrap_or("-").to_owned()).or_default() += 1;
    }
    child.wait().unwrap();
    let templates = templates(0).len();
    let users_right = USERS.iter().all(|user| users.get(*user) == Some(&(turns * templates)));
    let held = events == entries && wrong_time < 1e-3 && of_ours == templates && users_right;
    println!(
        "exact: {events} events of {entries}, sum of times off by {wrong_time:.6} s, {of_ours} fingerprints of {templates} templates, users {users:?}: {}",
        verdict(held)
    );
    held
}

/// Runs it to its end; its time and its most memory in MB, as far as looks every few milliseconds see it.
fn run(command: &mut Command) -> (f64, f64) {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut most = 0.0;
    let exit = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kilobytes = text
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        most = f64::max(most, kilobytes.unwrap_or(0.0) * 1024.0 / 1e6);
        if let Some(exit) = child.try_wait().unwrap() {
            break exit;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(exit.success(), "{command:?}: {exit}");
    (start.elapsed().as_secs_f64(), most)
}

fn against_pt_query_digest(log: &Path) -> bool {
    let megabytes = std::fs::metadata(log).unwrap().len() as f64 / 1e6;
    let path = log.to_str().unwrap();
    let (ours, _) =
        (0..ROUNDS).map(|_| run(&mut digest(&[path]))).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    let start = Instant::now();
    let out = Command::new("pt-query-digest").args(["--limit", "20", path]).stdin(Stdio::null()).output();
    let theirs = start.elapsed().as_secs_f64();
    let report = out.expect("pt-query-digest, from `make setup`").stdout;
    assert!(String::from_utf8_lossy(&report).contains("# Overall: "), "pt-query-digest gave up");
    let factor = theirs / ours;
    println!(
        "digest of {megabytes:.0} MB: ours {:.0} MB/s, pt-query-digest {:.1} MB/s, factor {factor:.0}, bar {DIGEST_BAR}: {}",
        megabytes / ours,
        megabytes / theirs,
        verdict(factor >= DIGEST_BAR)
    );
    factor >= DIGEST_BAR
}

fn memory(log: &Path) -> bool {
    let path = log.to_str().unwrap();
    let (_, once) = run(&mut digest(&[path]));
    let (_, five) = run(&mut digest(&[path; 5]));
    let held = once.max(five) <= MEMORY_BAR;
    println!(
        "memory of digest: {once:.1} MB, and {five:.1} MB at five times the length, bar {MEMORY_BAR}: {}",
        verdict(held)
    );
    held
}

/// 20 MB of the log as payloads of 200 entries, each base64 of gzip.
fn payloads(folder: &Path, log: &Path) -> bool {
    let text = std::fs::read(log).unwrap();
    let part = text.get(..20_000_000.min(text.len())).unwrap();
    let mut messages: Vec<String> = Vec::new();
    let mut reading = Reading::new(Format::MySqlSlow);
    // The raw text of each entry: from header to header, as CloudWatch has it.
    reading.push(part, &mut |event| messages.push(entry(event)));
    let lines: Vec<String> =
        messages.chunks(200).enumerate().map(|(at, messages)| payload(at, messages)).collect();
    let file = folder.join("payloads.txt");
    let mut out = File::create(&file).unwrap();
    for line in &lines {
        writeln!(out, "{line}").unwrap();
    }
    let plain: usize = messages.iter().map(String::len).sum();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/payload.js");
    let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let found = lines.iter().map(|line| events_of(line)).sum::<usize>();
        ours = ours.min(start.elapsed().as_secs_f64());
        let out = Command::new("node").arg(&script).arg(&file).output().expect("node, from `make setup`");
        let out = String::from_utf8(out.stdout).unwrap();
        let (seconds, matched) = out.trim().split_once(' ').unwrap();
        theirs = theirs.min(seconds.parse().unwrap());
        assert_eq!((found, matched.parse().unwrap()), (messages.len(), messages.len()), "both must read all");
    }
    let (factor, megabytes) = (theirs / ours, plain as f64 / 1e6);
    println!(
        "payloads of {megabytes:.0} MB: ours {:.0} MB/s, node {:.0} MB/s, factor {factor:.1}, bar {PAYLOAD_BAR}: {}",
        megabytes / ours,
        megabytes / theirs,
        verdict(factor >= PAYLOAD_BAR)
    );
    factor >= PAYLOAD_BAR
}

fn entry(event: &digest::Event<'_>) -> String {
    let text = |bytes: &Option<std::borrow::Cow<'_, [u8]>>| {
        String::from_utf8_lossy(bytes.as_deref().unwrap_or(b"")).into_owned()
    };
    let seconds = |micros: Option<u64>| micros.unwrap_or(0) as f64 / 1e6;
    format!(
        "# Time: 2026-11-20T01:02:03.000004Z\n# User@Host: {0}[{0}] @ localhost []  Id: 7\n# Query_time: {1:.6}  Lock_time: {2:.6} Rows_sent: {3}  Rows_examined: {4}\nSET timestamp=1763600000;\n{5};",
        text(&event.user),
        seconds(event.query_time),
        seconds(event.lock_time),
        event.rows_sent.unwrap_or(0),
        event.rows_examined.unwrap_or(0),
        String::from_utf8_lossy(&event.query)
    )
}

fn payload(at: usize, messages: &[String]) -> String {
    let event = |(n, message): (usize, &String)| serde_json::json!({"id": format!("{at}-{n}"), "timestamp": 1_763_600_000_000_u64, "message": message});
    let events: Vec<Value> = messages.iter().enumerate().map(event).collect();
    let payload = serde_json::json!({"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "/aws/rds/instance/a/slowquery",
        "logStream": "a", "subscriptionFilters": ["all"], "logEvents": events});
    base64::engine::general_purpose::STANDARD.encode(gzip::compress(payload.to_string().as_bytes()))
}

fn events_of(line: &str) -> usize {
    let counted = decode(line.as_bytes(), 64 << 20, |payload| {
        let Payload::Data(data) = payload else { panic!("an own payload is none") };
        let mut found = 0;
        parse(&data.events, [], &Parser::MySqlSlow, &mut |_, entry| {
            found += usize::from(matches!(entry, Found::SlowQuery(event) if event.fingerprint.is_some()));
        });
        found
    });
    counted.unwrap()
}

fn verdict(held: bool) -> &'static str {
    if held { "held" } else { "MISSED" }
}
