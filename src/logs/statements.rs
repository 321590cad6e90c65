//! Which statements have series of their own, and their texts.

use super::scribe::{Amount, Chunk, Note, Scribe};
use super::series::{self, SLOTS, Source};
use digest::top::{Place, Top};
use digest::{Dialect, Event};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Texts are kept so long, in bytes.
const LONGEST_TEXT: usize = 2_048;
/// Names of notes with texts begin like this.
const STATEMENT: &str = "statement\u{1f}";

/// The slots of all log groups.
#[derive(Debug)]
pub struct Statements(Mutex<BTreeMap<String, Top>>);

/// A statement with a series of its own, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statement {
    /// Log group.
    pub log_group: String,
    /// 16 hexadecimal digits.
    pub fingerprint: String,
    /// Short name: verb and tables.
    pub statement: String,
    /// Text without literals.
    pub text: Option<String>,
    /// Calls since the slot began.
    pub calls: u64,
    /// Their time in seconds.
    pub time_sum: f64,
}

#[derive(Serialize, Deserialize)]
struct Words {
    statement: String,
    text: String,
}

impl Statements {
    /// Those that have series already keep them.
    pub fn new(scribe: &Scribe, now: Timestamp) -> Self {
        let known = series::slots(&scribe.totals()).into_iter();
        let tops = known.map(|(log_group, slots)| {
            let fingerprints = slots.into_iter().map(|(fingerprint, _)| fingerprint);
            (log_group, Top::new(SLOTS, fingerprints, now.as_millisecond()))
        });
        Self(Mutex::new(tops.collect()))
    }

    /// Counts a statement under its fingerprint, if that has a slot; what that changes goes into the chunk.
    pub fn count(
        &self,
        source: &Source,
        event: &Event<'_>,
        now: Timestamp,
        chunk: &mut Chunk,
    ) -> Vec<Amount> {
        let Some(fingerprint) = event.fingerprint else { return source.statement(None, event.query_time) };
        let (log_group, now_ms) = (&source.log_group, now.as_millisecond());
        let place = {
            let mut tops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let top = tops.entry(log_group.clone()).or_insert_with(|| Top::new(SLOTS, [], now_ms));
            top.place(fingerprint, event.query_time.unwrap_or_default(), now_ms)
        };
        match place {
            Place::Own => {}
            Place::Other => return source.statement(None, event.query_time),
            Place::New(before) => {
                if let Some(before) = before {
                    chunk.ended.extend(series::ended(log_group, before));
                    chunk.notes.push(Note { name: name(log_group, before), value: None });
                }
                let mut text = digest::shape(&event.query, Dialect::MySql);
                text.truncate(text.floor_char_boundary(LONGEST_TEXT));
                let words = Words { statement: digest::statement(&event.query, Dialect::MySql), text };
                let value = serde_json::to_string(&words).ok().map(Arc::from);
                chunk.notes.push(Note { name: name(log_group, fingerprint), value });
            }
        }
        source.statement(Some(fingerprint), event.query_time)
    }
}

/// All statements that have series, those of most time first.
pub fn list(scribe: &Scribe) -> Vec<Statement> {
    let totals = scribe.totals();
    let mut statements = Vec::new();
    for (log_group, slots) in series::slots(&totals) {
        for (fingerprint, micros) in slots {
            let words = scribe.note(&name(&log_group, fingerprint));
            let words: Option<Words> = words.and_then(|words| serde_json::from_str(&words).ok());
            let (statement, text) =
                words.map_or_else(Default::default, |words| (words.statement, Some(words.text)));
            statements.push(Statement {
                calls: series::calls(&totals, &log_group, fingerprint),
                log_group: log_group.clone(),
                fingerprint: series::hex(fingerprint),
                statement,
                text,
                time_sum: micros as f64 / 1e6,
            });
        }
    }
    statements.sort_by(|a, b| b.time_sum.total_cmp(&a.time_sum));
    statements
}

fn name(log_group: &str, fingerprint: u64) -> Arc<str> {
    format!("{STATEMENT}{log_group}\u{1f}{}", series::hex(fingerprint)).into()
}
