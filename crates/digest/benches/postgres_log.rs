//! Megabytes a second of the three `PostgreSQL` log formats, next to counting the line feeds of the same bytes.
//!
//! `cargo bench -p datapulse-digest --bench postgres_log`

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench, not the program"
)]

use std::time::Instant;

use digest::End;
use digest::postgres::{Format, Message, Prefix, Step, next_message};

const SIZE: usize = 100_000_000;
const RUNS: usize = 5;

fn main() {
    let formats = [
        ("stderr", Format::Stderr(Prefix::rds()), "15.log"),
        ("csv", Format::Csv, "15.csv"),
        ("json", Format::Json, "15.json"),
    ];
    for (name, format, file) in formats {
        report(&format!("{name}, statements"), &statements(name), &format);
        report(&format!("{name}, real with plans"), &real(file), &format);
    }
}

fn report(name: &str, log: &[u8], format: &Format) {
    let (lines, lines_took) = fastest(|| memchr::memchr_iter(b'\n', log).count());
    let (messages, took) = fastest(|| read(log, format, |_| {}));
    let (_, events_took) = fastest(|| {
        let mut total = 0;
        read(log, format, |message| total += message.event().and_then(|event| event.query_time).unwrap_or(0));
        total
    });
    let rate = |seconds: f64| log.len() as f64 / 1e6 / seconds;
    println!(
        "{name}: {:.0} MB/s, with events {:.0} MB/s, line feeds {:.0} MB/s ({messages} messages, {lines} lines)",
        rate(took),
        rate(events_took),
        rate(lines_took),
    );
}

fn fastest<T>(mut work: impl FnMut() -> T) -> (T, f64) {
    let mut best = f64::MAX;
    let mut result = None;
    for _ in 0..RUNS {
        let start = Instant::now();
        result = Some(std::hint::black_box(work()));
        best = best.min(start.elapsed().as_secs_f64());
    }
    (result.unwrap(), best)
}

fn read(log: &[u8], format: &Format, mut each: impl FnMut(&Message<'_>)) -> usize {
    let (mut rest, mut messages) = (log, 0);
    loop {
        let used = match next_message(rest, End::OfInput, format) {
            Step::Message { message, used } => {
                each(&message);
                messages += 1;
                used
            }
            Step::Rest { used, .. } | Step::Skip(used) => used,
            Step::NeedMore => return messages,
        };
        rest = rest.split_at(used).1;
    }
}

/// Statements as an application sends them: one line each, every fourth with two line breaks and quotes.
fn statements(format: &str) -> Vec<u8> {
    let mut log = String::with_capacity(SIZE + 1000);
    let mut number = 1_u32;
    while log.len() < SIZE {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (pid, micros, id) = (number >> 18, number % 1000, number >> 8);
        let (second, line) = (number % 60, if number >> 30 == 0 { "\n" } else { " " });
        let sql = format!(
            "select o.id, o.note, c.name from orders o{line}join customers c on c.id = o.customer_id{line}where o.id = {id} and c.\"state\" = 'open'"
        );
        let message = format!("duration: 3.{micros:03} ms  statement: {sql}");
        let time = format!("2026-11-24 17:13:{second:02}");
        match format {
            "stderr" => {
                let text = message.replace('\n', "\n\t");
                log.push_str(&format!("{time} UTC:10.0.12.7(42640):app_rw@shop:[{pid}]:LOG:  {text}\n"));
            }
            "csv" => {
                let text = message.replace('"', "\"\"");
                log.push_str(&format!("{time}.{micros:03} UTC,\"app_rw\",\"shop\",{pid},\"10.0.12.7:42640\",6b05c5ba.{pid:x},4,\"SELECT\",{time} UTC,3/7,0,LOG,00000,\"{text}\",,,,,,,,,\"app\",\"client backend\",,-8596432890620649019\n"));
            }
            _ => {
                let text = message.replace('"', "\\\"").replace('\n', "\\n");
                log.push_str(&format!("{{\"timestamp\":\"{time}.{micros:03} UTC\",\"user\":\"app_rw\",\"dbname\":\"shop\",\"pid\":{pid},\"remote_host\":\"10.0.12.7\",\"remote_port\":42640,\"session_id\":\"6b05c5ba.{pid:x}\",\"line_num\":4,\"ps\":\"SELECT\",\"session_start\":\"{time} UTC\",\"vxid\":\"3/7\",\"txid\":0,\"error_severity\":\"LOG\",\"message\":\"{text}\",\"application_name\":\"app\",\"backend_type\":\"client backend\",\"query_id\":-8596432890620649019}}\n"));
            }
        }
    }
    log.into_bytes()
}

/// A small real log, over and over.
fn real(file: &str) -> Vec<u8> {
    let once = std::fs::read(format!("{}/tests/data/postgres/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    once.repeat(SIZE / once.len())
}
