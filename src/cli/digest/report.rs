//! What is printed: the table for people, JSON for programs, events as they are.

use super::Found;
use crate::logs::read::Counts;
use digest::tally::{Statement, Sums, Tally};
use digest::{Dialect, Event};
use jiff::Timestamp;
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, Write};

/// One statement in `--output json`. Times in seconds; what no call told is null.
#[derive(Serialize)]
struct Row<'a> {
    fingerprint: String,
    statement: &'a str,
    text: &'a str,
    calls: u64,
    time_sum: Option<f64>,
    time_max: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
    lock_sum: Option<f64>,
    rows_sent: Option<u128>,
    rows_examined: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<&'a str>,
}

#[derive(Serialize)]
struct Report<'a> {
    events: u64,
    skipped_bytes: u64,
    statements: Vec<Row<'a>>,
    /// Calls of statements that are not listed.
    other_calls: u64,
}

pub(super) fn json(tally: &Tally, counts: Counts, limit: usize) -> String {
    let ranking = tally.ranking();
    let statements: Vec<Row<'_>> = ranking.iter().take(limit).map(|(id, one)| row(*id, one)).collect();
    let listed: u64 = statements.iter().map(|row| row.calls).sum();
    let Counts { events, skipped_bytes } = counts;
    let report = Report { events, skipped_bytes, statements, other_calls: tally.all.calls - listed };
    // Numbers and texts only: there is nothing that could fail.
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}

fn row(id: u64, one: &Statement) -> Row<'_> {
    let sums = &one.sums;
    Row {
        fingerprint: format!("{id:016x}"),
        statement: &one.statement,
        text: &one.text,
        calls: sums.calls,
        time_sum: sums.time.map(seconds),
        time_max: sums.times.largest().map(|micros| seconds(micros.into())),
        p50: sums.times.quantile(0.5).map(|micros| seconds(micros.into())),
        p95: sums.times.quantile(0.95).map(|micros| seconds(micros.into())),
        lock_sum: sums.lock.map(seconds),
        rows_sent: sums.rows_sent,
        rows_examined: sums.rows_examined,
        example: one.example.as_deref(),
    }
}

/// One event in `--output events`, on a line of its own. The text is as it was logged; bytes that are no UTF-8 are shown as �.
#[derive(Serialize)]
struct Line<'a> {
    time: Option<String>,
    user: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
    ip: Option<Cow<'a, str>>,
    db: Option<Cow<'a, str>>,
    query_time: Option<f64>,
    lock_time: Option<f64>,
    rows_sent: Option<u64>,
    rows_examined: Option<u64>,
    query: Cow<'a, str>,
    fingerprint: Option<String>,
    statement: String,
}

pub(super) fn event(out: &mut impl Write, event: &Event<'_>, dialect: Dialect) -> io::Result<()> {
    let line = Line {
        time: event.time.and_then(moment),
        user: event.user.as_deref().map(String::from_utf8_lossy),
        host: event.host.as_deref().map(String::from_utf8_lossy),
        ip: event.ip.as_deref().map(String::from_utf8_lossy),
        db: event.db.as_deref().map(String::from_utf8_lossy),
        query_time: event.query_time.map(|micros| seconds(micros.into())),
        lock_time: event.lock_time.map(|micros| seconds(micros.into())),
        rows_sent: event.rows_sent,
        rows_examined: event.rows_examined,
        query: String::from_utf8_lossy(&event.query),
        fingerprint: event.fingerprint.map(|id| format!("{id:016x}")),
        statement: digest::statement(&event.query, dialect),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Heads of the columns; those up to the last two hold numbers and stand on the right.
const HEADS: [&str; 11] =
    ["rank", "share", "calls", "time", "p50", "p95", "max", "sent", "examined", "fingerprint", "statement"];

pub(super) fn table<W: Write>(found: &Found<W>, bytes: u64, limit: usize) -> String {
    let tally = &found.tally;
    let ranking = tally.ranking();
    let mut text = summary(found, bytes, ranking.len());
    if ranking.is_empty() {
        return text;
    }
    let all = tally.all.time;
    let mut rows = vec![HEADS.map(str::to_owned)];
    for (at, (id, one)) in ranking.iter().take(limit).enumerate() {
        let names = [format!("{id:016x}"), one.statement.clone()];
        rows.push(cells((at + 1).to_string(), &one.sums, all, names));
    }
    let listed = ranking.iter().take(limit).map(|(_, one)| one.sums.calls).sum::<u64>();
    if tally.all.calls > listed {
        rows.push(rest(tally, &ranking, limit, listed));
    }
    aligned(&mut text, &rows);
    for (at, (id, one)) in ranking.iter().take(limit).enumerate() {
        text.push_str(&format!("\n{}  {id:016x}\n    {}\n", at + 1, one.text.replace('\n', "\n    ")));
        if let Some(example) = &one.example {
            text.push_str(&format!("  slowest call:\n    {}\n", example.replace('\n', "\n    ")));
        }
    }
    text
}

fn summary<W: Write>(found: &Found<W>, bytes: u64, statements: usize) -> String {
    let all = &found.tally.all;
    let mut parts = vec![
        format!("{} events", grouped(found.counts.events.into())),
        format!("{statements} statements"),
        format!("{:.1} MB", bytes as f64 / 1e6),
    ];
    if let Some(micros) = all.time {
        parts.push(format!("{} in all", duration(micros)));
    }
    if let Some((first, last)) = found.span {
        parts.extend(moment(first).zip(moment(last)).map(|(first, last)| format!("{first} to {last}")));
    }
    if found.counts.skipped_bytes > 0 {
        parts.push(format!("{} bytes are part of no entry", grouped(found.counts.skipped_bytes.into())));
    }
    parts.join(", ") + "\n\n"
}

fn cells(rank: String, sums: &Sums, all: Option<u128>, [id, statement]: [String; 2]) -> [String; 11] {
    let share = sums.time.zip(all).filter(|(_, all)| *all > 0);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let quantile = |share| or_dash(sums.times.quantile(share).map(|micros| duration(micros.into())));
    [
        rank,
        or_dash(share.map(|(time, all)| format!("{:.1} %", time as f64 / all as f64 * 100.0))),
        grouped(sums.calls.into()),
        or_dash(sums.time.map(duration)),
        quantile(0.5),
        quantile(0.95),
        or_dash(sums.times.largest().map(|micros| duration(micros.into()))),
        or_dash(sums.rows_sent.map(grouped)),
        or_dash(sums.rows_examined.map(grouped)),
        id,
        statement,
    ]
}

/// What is not listed: below the limit, or without a place in the tally.
fn rest(tally: &Tally, ranking: &[(u64, &Statement)], limit: usize, listed: u64) -> [String; 11] {
    let time = |sums: &Sums| sums.time;
    let listed_time: u128 = ranking.iter().take(limit).filter_map(|(_, one)| time(&one.sums)).sum();
    let rest_time = tally.all.time.map(|all| all - listed_time);
    let share = rest_time.zip(tally.all.time).filter(|(_, all)| *all > 0);
    let mut cells = std::array::from_fn(|_| String::new());
    let shown = [
        (
            1,
            share.map(|(time, all)| format!("{:.1} %", time as f64 / all as f64 * 100.0)).unwrap_or_default(),
        ),
        (2, grouped((tally.all.calls - listed).into())),
        (3, rest_time.map(duration).unwrap_or_default()),
        (10, format!("{} more statements", ranking.len().saturating_sub(limit))),
    ];
    for (at, text) in shown {
        if let Some(cell) = cells.get_mut(at) {
            *cell = text;
        }
    }
    if tally.rest.calls > 0
        && let Some(cell) = cells.last_mut()
    {
        cell.push_str(&format!(
            ", and {} calls of statements that came too late for a place",
            grouped(tally.rest.calls.into())
        ));
    }
    cells
}

fn aligned(text: &mut String, rows: &[[String; 11]]) {
    let widths: Vec<usize> = (0..HEADS.len())
        .map(|column| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0))
        .collect();
    for row in rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match at {
                0 => line.push_str(&format!("{cell:>width$}")),
                1..9 => line.push_str(&format!("  {cell:>width$}")),
                _ => line.push_str(&format!("  {cell:<width$}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// RFC 3339 in UTC; `None` beyond the years that it has.
fn moment(micros: i64) -> Option<String> {
    Timestamp::from_microsecond(micros).ok().map(|time| time.to_string())
}

fn seconds(micros: u128) -> f64 {
    micros as f64 / 1e6
}

/// Three digits or a little more, in the unit that makes them readable.
fn duration(micros: u128) -> String {
    let seconds = seconds(micros);
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", seconds * 1e3),
        1_000_000..120_000_000 => format!("{seconds:.2} s"),
        120_000_000..7_200_000_000 => format!("{:.1} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_at_every_size() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), expected);
        }
        for (micros, expected) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_500, "1.5 ms"),
            (61_234_500, "61.23 s"),
            (3_674_070_000, "61.2 min"),
            (36_000_000_000, "10.0 h"),
        ] {
            assert_eq!(duration(micros), expected);
        }
    }

    #[test]
    fn a_time_beyond_all_years_is_absent() {
        assert_eq!(moment(1_764_000_000_123_456).as_deref(), Some("2025-11-24T16:00:00.123456Z"));
        assert_eq!(moment(i64::MAX), None);
    }
}
