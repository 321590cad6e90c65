//! What was seen in each situation on each version: printed, and kept in `target/stage/situations.md`.

use super::probe::Seen;
use crate::stage;
use datapulse::check::Endpoint;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// The columns: heading, family, label values behind `datname` and `subname`.
const COLUMNS: [(&str, &str, &[&str]); 16] = [
    ("exists", "pg_subscription_exists", &[]),
    ("enabled", "pg_subscription_enabled", &[]),
    ("worker_up", "pg_subscription_worker_up", &[]),
    ("restarts", "pg_subscription_worker_restarts_total", &[]),
    ("lock_wait", "pg_subscription_worker_lock_wait_seconds", &[]),
    ("recv_timeout", "pg_subscription_wal_receiver_timeout_seconds", &[]),
    ("send_age", "pg_stat_subscription_last_msg_send_age_seconds", &[]),
    ("receipt_age", "pg_stat_subscription_last_msg_receipt_age_seconds", &[]),
    ("latest_end_age", "pg_stat_subscription_latest_end_age_seconds", &[]),
    ("lag_bytes", "pg_subscription_lag_bytes", &[]),
    ("apply_errors", "pg_stat_subscription_apply_errors_total", &[]),
    ("insert_exists", "pg_stat_subscription_conflicts_total", &["insert_exists"]),
    ("apply", "pg_stat_subscription_workers", &["apply"]),
    ("parallel", "pg_stat_subscription_workers", &["parallel apply"]),
    ("sync", "pg_stat_subscription_workers", &["table synchronization"]),
    ("tables d", "pg_subscription_rel_tables", &["d"]),
];

type Lines = BTreeMap<(usize, &'static str, u32), String>;

static LINES: Mutex<Lines> = Mutex::new(BTreeMap::new());

/// Notes what was seen of a subscription in a situation: its place in the table, and its name.
pub(crate) fn note(situation: (usize, &'static str), major: u32, seen: &Seen, of: [&str; 2]) {
    let mut line = String::new();
    for (_, family, labels) in COLUMNS {
        let labels: Vec<&str> = of.iter().chain(labels).copied().collect();
        write!(line, " {} |", seen.value(family, &labels).map_or("–".to_owned(), short)).unwrap();
    }
    let slots = seen.rows("pg_subscription_slot_exists");
    let slot =
        slots.iter().find(|(labels, _)| labels[..2] == of).map_or("–".to_owned(), |slot| short(slot.1));
    let up = |endpoint| match seen.reason(endpoint) {
        Some(reason) => format!("0 {}", reason.as_str()),
        None if seen.answered.contains(&endpoint) => "1".to_owned(),
        None => "–".to_owned(),
    };
    let (subscriber, publisher) = (up(Endpoint::Subscriber), up(Endpoint::Publisher));
    write!(line, " {slot} | {subscriber} | {publisher} |").unwrap();
    LINES.lock().unwrap_or_else(PoisonError::into_inner).insert((situation.0, situation.1, major), line);
}

/// Prints the lines of this version and writes those of all versions so far.
pub(crate) fn publish(major: u32) {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{}", text(&lines, |version| version == major));
    std::fs::write(stage::base().join("situations.md"), text(&lines, |_| true)).unwrap();
}

fn text(lines: &Lines, wanted: impl Fn(u32) -> bool) -> String {
    let headings: Vec<&str> = COLUMNS.iter().map(|(heading, ..)| *heading).collect();
    let mut text = format!(
        "| situation | version | {} | slot_exists | subscriber | publisher |\n|---|---|{}\n",
        headings.join(" | "),
        "---|".repeat(COLUMNS.len() + 3)
    );
    for ((_, situation, major), line) in lines.iter().filter(|((.., major), _)| wanted(*major)) {
        writeln!(text, "| {situation} | {major} |{line}").unwrap();
    }
    text
}

fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.2}") }
}
