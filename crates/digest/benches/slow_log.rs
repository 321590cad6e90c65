//! How fast a slow log is read and fingerprinted on one core, beside the count of its lines by `memchr`, which no reader
//! of lines can beat. `cargo bench -p datapulse-digest --bench slow_log`, with a log of one's own:
//! `-- FILE`.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures; no test pauses its clock")]

use std::collections::HashSet;
use std::hint::black_box;
use std::time::Instant;

use digest::End;
use digest::mysql_slow::{Session, Step, next_entry};
use digest::{Dialect, fingerprint};

const BYTES: usize = 100_000_000;

const RUNS: usize = 7;

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let log = match given.map(std::fs::read) {
        Some(Ok(log)) => log,
        Some(Err(error)) => return println!("could not read the log: {error}"),
        None => log(BYTES),
    };
    let megabytes = log.len() as f64 / 1e6;
    let (events, shapes, skipped, query_bytes) = count(&log);
    let queries = queries(&log);
    println!(
        "{megabytes:.0} MB, {events} events, {shapes} fingerprints, {skipped} bytes skipped, queries {query_bytes} bytes"
    );
    let reading = best(|| read(&log));
    let hashing = best(|| queries.iter().fold(0, |sum, query| sum ^ fingerprint(query, Dialect::MySql)));
    let lines = best(|| memchr::memchr_iter(b'\n', &log).count() as u64);
    println!("parse and fingerprint: {:.0} MB/s", megabytes / reading);
    println!("fingerprint alone: {:.0} MB/s of query text", query_bytes as f64 / 1e6 / hashing);
    println!(
        "limit, count of lines by memchr: {:.0} MB/s, {:.1} times as fast",
        megabytes / lines,
        reading / lines
    );
}

/// Seconds of the fastest run.
fn best(run: impl Fn() -> u64) -> f64 {
    let time = || {
        let start = Instant::now();
        black_box(run());
        start.elapsed().as_secs_f64()
    };
    (0..RUNS).map(|_| time()).fold(f64::INFINITY, f64::min)
}

/// Reads as the product does: 64 KiB more whenever an entry is not whole.
fn each_event(log: &[u8], mut with: impl FnMut(&digest::Event<'_>)) -> usize {
    let mut session = Session::default();
    let (mut from, mut to, mut skipped) = (0, 0, 0);
    while from < log.len() {
        let end = if to == log.len() { End::OfInput } else { End::OfPiece };
        match next_entry(log.get(from..to).unwrap_or_default(), end, &mut session) {
            Step::Event { event, used } => {
                with(&event);
                from += used;
            }
            Step::Skip(count) => {
                skipped += count;
                from += count;
            }
            Step::NeedMore => to = (to + 65_536).min(log.len()),
        }
    }
    skipped
}

fn read(log: &[u8]) -> u64 {
    let mut sum = 0;
    each_event(log, |event| sum ^= event.fingerprint.unwrap_or(0) ^ event.query_time.unwrap_or(0));
    sum
}

fn count(log: &[u8]) -> (usize, usize, usize, usize) {
    let (mut events, mut bytes, mut shapes) = (0, 0, HashSet::new());
    let skipped = each_event(log, |event| {
        events += 1;
        bytes += event.query.len();
        shapes.insert(event.fingerprint);
    });
    (events, shapes.len(), skipped, bytes)
}

fn queries(log: &[u8]) -> Vec<Vec<u8>> {
    let mut queries = Vec::new();
    each_event(log, |event| queries.push(event.query.to_vec()));
    queries
}

/// Numbers that look like chance, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn log(bytes: usize) -> Vec<u8> {
    let mut log = String::with_capacity(bytes + 4096);
    let mut numbers = Numbers(7);
    let mut second = 1_700_000_000;
    while log.len() < bytes {
        second += numbers.below(2);
        let (micros, id) = (numbers.below(1_000_000), numbers.below(100_000));
        log += &format!(
            "# Time: 2023-11-14T22:13:20.{micros:06}Z\n# User@Host: app[app] @ web{} [10.0.0.{}]  Id: {id:5}\n\
             # Query_time: {}.{micros:06}  Lock_time: 0.0000{} Rows_sent: {}  Rows_examined: {id}\n\
             SET timestamp={second};\n",
            numbers.below(9),
            numbers.below(250),
            numbers.below(20),
            numbers.below(90),
            numbers.below(1000),
        );
        statement(&mut log, &mut numbers);
        log += ";\n";
    }
    log.into_bytes()
}

fn statement(log: &mut String, numbers: &mut Numbers) {
    let (id, other) = (numbers.below(1_000_000), numbers.below(100_000));
    match numbers.below(8) {
        0 => *log += &format!("SELECT c FROM sbtest{} WHERE id={id}", 1 + id % 10),
        1 => {
            *log += &format!(
                "SELECT o.id, o.customer_id, SUM(i.price * i.amount) AS total\n  FROM orders o JOIN items i ON i.order_id = o.id\n \
                 WHERE o.created_at > '2023-11-{:02} 00:00:00' AND o.state IN ('new', 'paid')\n GROUP BY o.id ORDER BY total DESC LIMIT {other}",
                1 + id % 28
            );
        }
        2 => {
            *log += &format!(
                "UPDATE accounts SET note='it''s no. {id}', balance = balance - {other} WHERE id = {id}"
            );
        }
        3 => {
            *log += "INSERT INTO events (id, kind, body) VALUES ";
            for row in 0..=(id % 8) {
                *log += &format!(
                    "({}, 'click', '{{\\\"page\\\": {other}, \\\"by\\\": \\\"user{id}\\\"}}'), ",
                    id + row
                );
            }
            *log += "(0, NULL, '')";
        }
        4 => {
            *log += "select * from `products` where `products`.`id` in (0";
            for _ in 0..id % 60 {
                *log += &format!(", {}", numbers.below(1_000_000));
            }
            *log += ") and `products`.`deleted_at` is null";
        }
        5 => {
            *log += &format!(
                "/* job {id} */ DELETE FROM sessions WHERE expires_at < NOW() - INTERVAL {} DAY",
                id % 30
            );
        }
        6 => {
            *log += &format!(
                "SELECT COUNT(*) FROM users WHERE email LIKE '%{id}@example.org' -- page {other}\n LIMIT 1"
            );
        }
        _ => *log += &format!("CALL settle_account({id}, '{other}')"),
    }
}
