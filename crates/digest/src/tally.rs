//! Statements by fingerprint: calls, times and rows of each, in bounded memory at any number of events.

use crate::event::Event;
use crate::fingerprint::{fingerprint, shape, statement};
use crate::lexer::Dialect;
use crate::times::Times;
use std::collections::HashMap;

/// Shapes are kept up to this length in bytes: people read the beginning, and a generated statement can have a megabyte.
const LONGEST_SHAPE: usize = 2048;
/// An example is kept up to this length in bytes.
const LONGEST_EXAMPLE: usize = 8192;

/// What all events of a log add up to.
#[derive(Debug)]
pub struct Tally {
    statements: HashMap<u64, Statement>,
    most: usize,
    examples: bool,
    /// The sum over all events.
    pub all: Sums,
    /// The sum over those whose statement found no place.
    pub rest: Sums,
}

/// One statement with all its calls.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Short name: verb and tables; no literals.
    pub statement: String,
    /// The statement without its literals, cut after 2,048 bytes.
    pub text: String,
    /// The slowest call as it came, with its literals; only when examples are wanted.
    pub example: Option<String>,
    /// Sums over its calls.
    pub sums: Sums,
}

/// Sums over calls. What no call told is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Number of events.
    pub calls: u64,
    /// Time taken, in microseconds.
    pub time: Option<u128>,
    /// The distribution of the times.
    pub times: Times,
    /// Time waited for locks, in microseconds.
    pub lock: Option<u128>,
    /// Rows sent to clients.
    pub rows_sent: Option<u128>,
    /// Rows read.
    pub rows_examined: Option<u128>,
}

impl Tally {
    /// An empty tally with places for `most` statements, which keeps an example of each if `examples`.
    pub fn new(most: usize, examples: bool) -> Self {
        let (all, rest) = (Sums::default(), Sums::default());
        Self { statements: HashMap::new(), most, examples, all, rest }
    }

    /// Adds an event. The shape is made only when its fingerprint is new.
    pub fn add(&mut self, event: &Event<'_>, dialect: Dialect) {
        self.all.add(event);
        let id = event.fingerprint.unwrap_or_else(|| fingerprint(&event.query, dialect));
        if !self.statements.contains_key(&id) {
            if self.statements.len() >= self.most {
                self.rest.add(event);
                return;
            }
            let mut text = shape(&event.query, dialect);
            cut(&mut text, LONGEST_SHAPE);
            let statement = statement(&event.query, dialect);
            let new = Statement { statement, text, example: None, sums: Sums::default() };
            self.statements.insert(id, new);
        }
        let Some(known) = self.statements.get_mut(&id) else { return };
        let slowest = known.sums.times.largest().is_none_or(|largest| event.query_time > Some(largest));
        if self.examples && (known.example.is_none() || slowest) {
            let mut example = String::from_utf8_lossy(&event.query).into_owned();
            cut(&mut example, LONGEST_EXAMPLE);
            known.example = Some(example);
        }
        known.sums.add(event);
    }

    /// All statements with their fingerprints: most time first, then most calls, then by fingerprint.
    pub fn ranking(&self) -> Vec<(u64, &Statement)> {
        let mut all: Vec<(u64, &Statement)> = self.statements.iter().map(|(id, one)| (*id, one)).collect();
        all.sort_by(|(a_id, a), (b_id, b)| {
            let by_time = b.sums.time.cmp(&a.sums.time).then(b.sums.calls.cmp(&a.sums.calls));
            by_time.then(a_id.cmp(b_id))
        });
        all
    }
}

impl Sums {
    fn add(&mut self, event: &Event<'_>) {
        self.calls += 1;
        if let Some(micros) = event.query_time {
            self.times.add(micros);
        }
        plus(&mut self.time, event.query_time);
        plus(&mut self.lock, event.lock_time);
        plus(&mut self.rows_sent, event.rows_sent);
        plus(&mut self.rows_examined, event.rows_examined);
    }
}

/// 2^64 calls with 2^64 rows each fit.
fn plus(sum: &mut Option<u128>, value: Option<u64>) {
    if let Some(value) = value {
        *sum = Some(sum.unwrap_or_default() + u128::from(value));
    }
}

/// Cuts a text at a character, with a mark.
fn cut(text: &mut String, longest: usize) {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest));
        text.push_str(" …");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sql: &'static str, query_time: Option<u64>, rows_sent: Option<u64>) -> Event<'static> {
        let fingerprint = Some(fingerprint(sql.as_bytes(), Dialect::MySql));
        Event { query: sql.as_bytes().into(), query_time, rows_sent, fingerprint, ..Event::default() }
    }

    #[test]
    fn calls_of_one_shape_are_summed_exactly_and_absent_stays_absent() {
        let mut tally = Tally::new(10, false);
        tally.add(&event("select a from t where b = 1", Some(1_500_001), Some(u64::MAX)), Dialect::MySql);
        tally.add(&event("SELECT a FROM t WHERE b = 'x'", Some(499_999), Some(1)), Dialect::MySql);
        tally.add(&event("select a from t where b = 2", None, None), Dialect::MySql);
        let ranking = tally.ranking();
        let [(_, one)] = ranking.as_slice() else { panic!("{ranking:?}") };
        assert_eq!((one.sums.calls, one.sums.time), (3, Some(2_000_000)));
        assert_eq!(one.sums.rows_sent, Some(u128::from(u64::MAX) + 1));
        assert_eq!((one.sums.lock, one.sums.rows_examined), (None, None));
        assert_eq!(one.example, None);
        assert!(!one.text.contains('x'));
    }

    #[test]
    fn the_example_is_the_slowest_call_and_only_on_request() {
        let mut tally = Tally::new(10, true);
        for (sql, time) in
            [("select 1", Some(5)), ("select 2", Some(9)), ("select 3", Some(7)), ("select 4", None)]
        {
            tally.add(&event(sql, time, None), Dialect::MySql);
        }
        assert_eq!(tally.ranking()[0].1.example.as_deref(), Some("select 2"));
    }

    #[test]
    fn what_finds_no_place_is_summed_apart_and_nothing_is_lost() {
        let mut tally = Tally::new(1, false);
        tally.add(&event("select a from t", Some(1), None), Dialect::MySql);
        tally.add(&event("select b from t", Some(2), None), Dialect::MySql);
        tally.add(&event("select a from t", Some(4), None), Dialect::MySql);
        assert_eq!(tally.ranking()[0].1.sums.time, Some(5));
        assert_eq!((tally.rest.calls, tally.rest.time), (1, Some(2)));
        assert_eq!((tally.all.calls, tally.all.time), (3, Some(7)));
    }

    #[test]
    fn the_heaviest_statement_is_first() {
        let mut tally = Tally::new(10, false);
        for (sql, time) in
            [("select a from t", Some(1)), ("select b from t", Some(9)), ("select c from t", None)]
        {
            tally.add(&event(sql, time, None), Dialect::MySql);
        }
        let texts: Vec<&str> = tally.ranking().iter().map(|(_, one)| one.text.as_str()).collect();
        assert_eq!(texts, ["select b from t", "select a from t", "select c from t"]);
    }
}
