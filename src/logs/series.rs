//! The totals of logs: under which key the scribe keeps each, and what samples they become.
//!
//! A key is the family's word and the label values, with a separator that is in none of them.

mod telling;

pub use telling::Telling;

use super::scribe::{Amount, Ended, Totals};
use digest::Event;
use metrics::{Handle, Metric, Unit};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Statements with series of their own, in each log group.
pub const SLOTS: usize = 100;
/// Stands between the values of a key.
pub(super) const SEPARATOR: char = '\u{1f}';
/// The value of all labels but the log group in the series that takes what finds no room.
const OTHER: &str = "other";
/// A label value is no longer, in bytes: the key is kept in the ledger.
const LONGEST_VALUE: usize = 256;
/// Upper bounds of durations, in seconds, as the contract has them.
const BOUNDS: [f64; 14] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

static SLOW_QUERIES: Metric<4> = Metric::counter(
    "mysql.slow_queries",
    Unit::None,
    &["log_group", "db_instance", "db", "user"],
    "Statements in the slow query log",
);
static ROWS_SENT: Metric<4> = Metric::counter(
    "mysql.slow_query.rows_sent",
    Unit::None,
    &["log_group", "db_instance", "db", "user"],
    "Rows sent to clients by statements in the slow query log",
);
static ROWS_EXAMINED: Metric<4> = Metric::counter(
    "mysql.slow_query.rows_examined",
    Unit::None,
    &["log_group", "db_instance", "db", "user"],
    "Rows read by statements in the slow query log",
);
static DURATION: Metric<2> = Metric::histogram(
    "mysql.slow_query.duration",
    Unit::Seconds,
    &["log_group", "db_instance"],
    "How long statements in the slow query log took (Query_time)",
);
static LOCK: Metric<2> = Metric::histogram(
    "mysql.slow_query.lock",
    Unit::Seconds,
    &["log_group", "db_instance"],
    "How long statements in the slow query log waited for locks (Lock_time)",
);
static STATEMENT_SECONDS: Metric<2> = Metric::counter(
    "mysql.slow_query.statement",
    Unit::Seconds,
    &["log_group", "fingerprint"],
    "Time of the statements that take most of it; the rest is \"other\". The text is at /api/v1/statements",
);
static STATEMENT_CALLS: Metric<2> = Metric::counter(
    "mysql.slow_query.statement_calls",
    Unit::None,
    &["log_group", "fingerprint"],
    "Calls of the statements that take the most time; the rest is \"other\"",
);
static PG_MESSAGES: Metric<3> = Metric::counter(
    "pg.log.messages",
    Unit::None,
    &["log_group", "db_instance", "severity"],
    "Messages in the server log, by severity as the server writes it",
);
static PG_SLOW_QUERIES: Metric<2> = Metric::counter(
    "pg.slow_queries",
    Unit::None,
    &["log_group", "db_instance"],
    "Statements that the server log gives a duration for (log_min_duration_statement)",
);
static PG_DURATION: Metric<2> = Metric::histogram(
    "pg.slow_query.duration",
    Unit::Seconds,
    &["log_group", "db_instance"],
    "How long statements took that the server log gives a duration for",
);
static EVENTS: Metric<2> = Metric::counter(
    "datapulse.logs.events",
    Unit::None,
    &["log_group", "result"],
    "Log events by what became of them: received = parsed + unparsed + duplicate + unrouted",
);
static BYTES: Metric<1> =
    Metric::counter("datapulse.logs", Unit::Bytes, &["log_group"], "Bytes of messages that were new");

/// What became of a log event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It came; all others are parts of this.
    Received,
    /// It is part of an entry, or of a plain log.
    Parsed,
    /// The parser found no entry in it.
    Unparsed,
    /// It was known already.
    Duplicate,
    /// No route takes its log group.
    Unrouted,
}

impl Fate {
    const ALL: [Self; 5] = [Self::Received, Self::Parsed, Self::Unparsed, Self::Duplicate, Self::Unrouted];

    fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Parsed => "parsed",
            Self::Unparsed => "unparsed",
            Self::Duplicate => "duplicate",
            Self::Unrouted => "unrouted",
        }
    }
}

/// The families of logs, for the catalogue.
pub fn families() -> Vec<Handle> {
    vec![
        SLOW_QUERIES.handle(),
        ROWS_SENT.handle(),
        ROWS_EXAMINED.handle(),
        DURATION.handle(),
        LOCK.handle(),
        STATEMENT_SECONDS.handle(),
        STATEMENT_CALLS.handle(),
        PG_MESSAGES.handle(),
        PG_SLOW_QUERIES.handle(),
        PG_DURATION.handle(),
        EVENTS.handle(),
        BYTES.handle(),
    ]
}

/// The families by the words of their keys. Which word stands for what may never change: ledgers have them.
#[derive(Clone, Copy)]
enum Word {
    Two(&'static Metric<2>),
    One(&'static Metric<1>),
    Three(&'static Metric<3>),
    Four(&'static Metric<4>),
    Histogram(&'static Metric<2>),
}

fn word(text: &str) -> Option<Word> {
    Some(match text {
        "slow" => Word::Four(&SLOW_QUERIES),
        "sent" => Word::Four(&ROWS_SENT),
        "examined" => Word::Four(&ROWS_EXAMINED),
        "duration" => Word::Histogram(&DURATION),
        "lock" => Word::Histogram(&LOCK),
        "seconds" => Word::Two(&STATEMENT_SECONDS),
        "calls" => Word::Two(&STATEMENT_CALLS),
        "messages" => Word::Three(&PG_MESSAGES),
        "pg_slow" => Word::Two(&PG_SLOW_QUERIES),
        "pg_duration" => Word::Histogram(&PG_DURATION),
        "events" => Word::Two(&EVENTS),
        "bytes" => Word::One(&BYTES),
        _ => return None,
    })
}

/// Where the events of one stream come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Log group, as a label.
    pub log_group: String,
    /// The instance that wrote the log.
    pub db_instance: String,
}

impl Source {
    /// Of a stream as CloudWatch names it: RDS writes `/aws/rds/instance/<instance>/<log>`, and Aurora
    /// `/aws/rds/cluster/<cluster>/<log>` with a stream for each instance. Otherwise the stream is the instance.
    pub fn new(log_group: &str, log_stream: &str) -> Self {
        let mut parts = log_group.split('/').skip(1);
        let head = [parts.next(), parts.next(), parts.next()];
        let instance = parts.next().filter(|_| head == [Some("aws"), Some("rds"), Some("instance")]);
        // RDS for PostgreSQL numbers its streams: orders.0
        let stream = log_stream.rsplit_once('.').filter(|(_, n)| n.bytes().all(|byte| byte.is_ascii_digit()));
        let stream = stream.map_or(log_stream, |(stream, _)| stream);
        Self { log_group: value(log_group), db_instance: value(instance.unwrap_or(stream)) }
    }

    fn amount(&self, word: &str, labels: &[&str], amount: u64) -> Amount {
        let others = vec![OTHER; labels.len()];
        Amount {
            series: key(word, &self.log_group, labels),
            other: key(word, &self.log_group, &others),
            amount,
        }
    }

    /// What a log event counts, beside what is in it.
    pub fn fate(&self, fate: Fate) -> Amount {
        self.amount("events", &[fate.as_str()], 1)
    }

    /// Bytes of a message.
    pub fn bytes(&self, bytes: usize) -> Amount {
        self.amount("bytes", &[], bytes as u64)
    }

    /// What a statement of a slow query log counts, but for its fingerprint.
    pub fn slow_query(&self, event: &Event<'_>) -> Vec<Amount> {
        let text = |bytes: &Option<std::borrow::Cow<'_, [u8]>>| {
            value(&String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()))
        };
        let (db, user) = (text(&event.db), text(&event.user));
        let labels = [self.db_instance.as_str(), &db, &user];
        let mut amounts = vec![self.amount("slow", &labels, 1)];
        amounts.extend(event.rows_sent.map(|rows| self.amount("sent", &labels, rows)));
        amounts.extend(event.rows_examined.map(|rows| self.amount("examined", &labels, rows)));
        amounts.extend(event.query_time.into_iter().flat_map(|micros| self.observed("duration", micros)));
        amounts.extend(event.lock_time.into_iter().flat_map(|micros| self.observed("lock", micros)));
        amounts
    }

    /// What a statement counts under its fingerprint; `None` is "other".
    pub fn statement(&self, fingerprint: Option<u64>, micros: Option<u64>) -> Vec<Amount> {
        let fingerprint = fingerprint.map_or_else(|| OTHER.to_owned(), hex);
        let mut amounts = vec![self.amount("calls", &[&fingerprint], 1)];
        amounts.extend(micros.map(|micros| self.amount("seconds", &[&fingerprint], micros)));
        amounts
    }

    /// What a message of a `PostgreSQL` log counts.
    pub fn message(&self, severity: &str) -> Amount {
        self.amount("messages", &[&self.db_instance, severity], 1)
    }

    /// What a statement of a `PostgreSQL` log counts.
    pub fn pg_slow_query(&self, micros: u64) -> Vec<Amount> {
        let mut amounts = vec![self.amount("pg_slow", &[&self.db_instance], 1)];
        amounts.extend(self.observed("pg_duration", micros));
        amounts
    }

    /// An observation of a histogram: the bucket and the sum.
    fn observed(&self, word: &str, micros: u64) -> [Amount; 2] {
        let seconds = micros as f64 / 1e6;
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        let part = |part: &str, amount| Amount {
            series: key(word, &self.log_group, &[&self.db_instance, part]),
            other: key(word, &self.log_group, &[OTHER, part]),
            amount,
        };
        [part(&bucket.to_string(), 1), part("sum", micros)]
    }
}

/// The series of a statement that lost its slot.
pub fn ended(log_group: &str, fingerprint: u64) -> [Ended; 2] {
    let log_group = value(log_group);
    ["calls", "seconds"].map(|word| Ended {
        series: key(word, &log_group, &[&hex(fingerprint)]),
        other: key(word, &log_group, &[OTHER]),
    })
}

/// The fingerprints that have a series, by log group.
pub fn slots(totals: &Totals) -> BTreeMap<String, Vec<(u64, u64)>> {
    let mut found: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for (key, micros) in totals {
        let mut parts = key.split(SEPARATOR);
        let (Some("seconds" | "calls"), Some(log_group), Some(fingerprint)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let Ok(fingerprint) = u64::from_str_radix(fingerprint, 16) else { continue };
        let micros = if key.starts_with("seconds") { *micros } else { 0 };
        found.entry(log_group.to_owned()).or_default().push((fingerprint, micros));
    }
    for slots in found.values_mut() {
        slots.sort_unstable();
        // With time comes behind without, and is the one to keep.
        slots.reverse();
        slots.dedup_by_key(|(fingerprint, _)| *fingerprint);
        slots.sort_unstable_by_key(|(_, micros)| std::cmp::Reverse(*micros));
    }
    found
}

/// Calls of a statement since its slot began.
pub fn calls(totals: &Totals, log_group: &str, fingerprint: u64) -> u64 {
    totals.get(&key("calls", log_group, &[&hex(fingerprint)])).copied().unwrap_or_default()
}

/// A fingerprint as people and labels have it.
pub fn hex(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
}

/// A label value: no separator, no line break, not too long.
fn value(text: &str) -> String {
    let mut text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    text.truncate(text.floor_char_boundary(LONGEST_VALUE));
    text
}

fn key(word: &str, log_group: &str, labels: &[&str]) -> Arc<str> {
    let mut key = format!("{word}{SEPARATOR}{log_group}");
    for label in labels {
        key.push(SEPARATOR);
        key.push_str(label);
    }
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_is_in_the_group_or_the_stream() {
        for (log_group, log_stream, expected) in [
            ("/aws/rds/instance/orders-1/slowquery", "orders-1", "orders-1"),
            ("/aws/rds/instance/orders-1/postgresql", "orders-1.0", "orders-1"),
            ("/aws/rds/cluster/orders/slowquery", "orders-2", "orders-2"),
            ("/aws/rds/cluster/orders/postgresql", "orders-2.0", "orders-2"),
            ("app", "a\u{1f}b", "a\u{fffd}b"),
        ] {
            assert_eq!(Source::new(log_group, log_stream).db_instance, expected);
        }
    }
}
