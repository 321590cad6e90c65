//! The road of a delivery: unwrapped, routed, parsed and counted, then committed by the scribe. What is answered for is kept.

use super::decode::{Data, DecodeError, Payload, decode};
use super::parse::{Found, parse};
use super::quarantine::{Origin, Quarantine};
use super::routes::Routes;
use super::scribe::{Amount, Chunk, Entry, Note, Refused, Scribe, StartError};
use super::series::{self, Fate, SLOTS, Source};
use crate::config::secret::Reference;
use crate::task;
use arc_swap::ArcSwap;
use digest::top::{Place, Top};
use digest::{Dialect, Event};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A payload of CloudWatch is at most 1 MB packed; inflated it may be so large, in each of its wrappings.
pub const LARGEST_RECORD: usize = 16 * 1024 * 1024;
/// Events that are committed at once, and the bytes of their messages: the scribe's queue holds some of these.
const MOST_EVENTS: usize = 1_000;
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Log groups with series of their own; what comes from more of them counts as one, `other`.
const MOST_GROUPS: usize = 1_000;
/// Texts of statements are kept so long, in bytes.
const LONGEST_TEXT: usize = 2_048;
/// Names of notes begin like this.
const STATEMENT: &str = "statement\u{1f}";
const LAST_EVENT: &str = "last_event\u{1f}";

/// Takes deliveries from all doors and from pulls.
pub struct Intake {
    routing: ArcSwap<Routing>,
    scribe: Scribe,
    quarantine: Quarantine,
    tops: Mutex<BTreeMap<String, Top>>,
    /// Seconds between the newest event of the last delivery and its arrival, by log group.
    delays: Mutex<BTreeMap<String, f64>>,
    unreadable: AtomicU64,
}

/// What the configuration says about logs.
#[derive(Debug)]
pub struct Routing {
    /// Which route takes what.
    pub routes: Routes,
    /// One of them opens the doors; none: they are open.
    pub access_keys: Vec<Reference>,
    /// The scribe's number of each route's archive.
    archives: Vec<Option<usize>>,
}

/// Why a delivery was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It can never be: it is in quarantine.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    /// It can be later: the sender has to repeat it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The quarantine could not be written.
    #[error("could not write to the quarantine in data_dir: {0}")]
    Quarantine(std::io::Error),
    /// Reading it failed.
    #[error("the delivery could not be worked off; see the log")]
    Panicked,
}

/// A statement with a series of its own, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statement {
    /// Log group.
    pub log_group: String,
    /// 16 hexadecimal digits.
    pub fingerprint: String,
    /// Short name: verb and tables.
    pub statement: String,
    /// Text without literals; `None` when it was not seen since its slot began.
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

impl Intake {
    /// Starts with what the scribe knows. Its archives are those of `routes`, in their order.
    pub fn new(scribe: Scribe, quarantine: Quarantine, routes: Routes, access_keys: Vec<Reference>) -> Self {
        let mut number = 0..;
        let archives =
            routes.0.iter().map(|route| route.archive.as_ref().and_then(|_| number.next())).collect();
        let now_ms = Timestamp::now().as_millisecond();
        let known = series::slots(&scribe.totals()).into_iter();
        let tops = known.map(|(log_group, slots)| {
            (log_group, Top::new(SLOTS, slots.into_iter().map(|(fingerprint, _)| fingerprint), now_ms))
        });
        Self {
            routing: ArcSwap::from_pointee(Routing { routes, access_keys, archives }),
            quarantine,
            tops: Mutex::new(tops.collect()),
            delays: Mutex::default(),
            unreadable: AtomicU64::new(0),
            scribe,
        }
    }

    /// Takes a new configuration. Events that are on their way still go where they would have gone.
    ///
    /// # Errors
    /// When an archive cannot be used; then the old configuration stays.
    pub async fn change(
        &self,
        routes: Routes,
        access_keys: Vec<Reference>,
        now: Timestamp,
    ) -> Result<(), StartError> {
        let mut numbers = self.scribe.adopt(routes.archives(), now).await?.into_iter();
        let archives =
            routes.0.iter().map(|route| route.archive.as_ref().and_then(|_| numbers.next())).collect();
        self.routing.store(Arc::new(Routing { routes, access_keys, archives }));
        Ok(())
    }

    /// What the configuration says.
    pub fn routing(&self) -> Arc<Routing> {
        self.routing.load_full()
    }

    /// The scribe, for what it knows.
    pub fn scribe(&self) -> &Scribe {
        &self.scribe
    }

    /// Takes one payload, in any of its wrappings. `Ok`: each of its events is kept, or was before.
    ///
    /// # Errors
    /// When the payload cannot be read, which a repetition does not change; or when it could not be kept.
    pub async fn take(self: &Arc<Self>, payload: Vec<u8>, now: Timestamp) -> Result<(), NotTaken> {
        let intake = Arc::clone(self);
        let read = task::blocking(move || intake.read(&payload, now));
        let chunks = read.await.map_err(|error| {
            tracing::error!(%error, "a delivery could not be worked off");
            NotTaken::Panicked
        })??;
        for chunk in chunks {
            self.scribe.commit(chunk, now).await?;
        }
        Ok(())
    }

    fn read(&self, payload: &[u8], now: Timestamp) -> Result<Vec<Chunk>, NotTaken> {
        let data = match decode(payload, LARGEST_RECORD) {
            Ok(Payload::Control) => return Ok(Vec::new()),
            Ok(Payload::Data(data)) => data,
            Err(error) => {
                self.unreadable.fetch_add(1, Ordering::Relaxed);
                self.put_away(&error.to_string(), Origin::default(), payload, now)?;
                return Err(error.into());
            }
        };
        self.entries(data, now)
    }

    /// The chunks of a delivery, in its order.
    fn entries(&self, data: Data, now: Timestamp) -> Result<Vec<Chunk>, NotTaken> {
        let routing = self.routing();
        let source = self.source(&data);
        let mut chunk = Chunk::default();
        let mut counted: Vec<Vec<Amount>> = vec![Vec::new(); data.events.len()];
        let found = routing.routes.of(&data.log_group);
        let (archive, parsed) = match found {
            Some((number, route)) => {
                let parsed = parse(&data.events, &route.parser, &mut |at, entry| {
                    let amounts = self.count(&source, &entry, now, &mut chunk);
                    if let Some(counted) = counted.get_mut(at) {
                        counted.extend(amounts);
                    }
                });
                (routing.archives.get(number).copied().flatten(), parsed)
            }
            None => (None, vec![false; data.events.len()]),
        };
        if let Some(newest) = data.events.iter().map(|event| event.timestamp).max() {
            self.note_newest(&source, newest, now, &mut chunk);
        }
        let (log_group, log_stream): (Arc<str>, Arc<str>) = (data.log_group.into(), data.log_stream.into());
        let repeated = vec![source.fate(Fate::Received), source.fate(Fate::Duplicate)];
        let mut chunks = Vec::new();
        let mut bytes = 0;
        for ((event, mut amounts), parsed) in data.events.into_iter().zip(counted).zip(parsed) {
            let fate = match (found, parsed) {
                (None, _) => Fate::Unrouted,
                (Some(_), true) => Fate::Parsed,
                (Some(_), false) => Fate::Unparsed,
            };
            let why = match fate {
                Fate::Unrouted => Some("no route takes this log group"),
                Fate::Unparsed => Some("the parser found no entry in it"),
                Fate::Received | Fate::Parsed | Fate::Duplicate => None,
            };
            if let Some(why) = why {
                let origin = Origin { log_group: Some(&log_group), id: Some(&event.id) };
                self.put_away(why, origin, event.message.as_bytes(), now)?;
            }
            amounts.extend([
                source.fate(Fate::Received),
                source.fate(fate),
                source.bytes(event.message.len()),
            ]);
            bytes += event.message.len();
            chunk.entries.push(Entry {
                id: event.id,
                time_ms: event.timestamp,
                log_group: Arc::clone(&log_group),
                log_stream: Arc::clone(&log_stream),
                archive,
                message: if archive.is_some() { event.message.into_bytes() } else { Vec::new() },
                amounts,
                repeated: repeated.clone(),
            });
            if chunk.entries.len() >= MOST_EVENTS || bytes >= MOST_BYTES {
                chunks.push(std::mem::take(&mut chunk));
                bytes = 0;
            }
        }
        chunks.push(chunk);
        Ok(chunks)
    }

    fn put_away(
        &self,
        why: &str,
        origin: Origin<'_>,
        content: &[u8],
        now: Timestamp,
    ) -> Result<(), NotTaken> {
        self.quarantine.put(why, origin, content, now).map_err(NotTaken::Quarantine)
    }

    /// Labels of a stream. A sender can invent log groups, and each would have series for ever.
    fn source(&self, data: &Data) -> Source {
        let mut source = Source::new(&data.log_group, &data.log_stream);
        let mut delays = lock(&self.delays);
        if !delays.contains_key(&source.log_group) {
            if delays.len() < MOST_GROUPS {
                delays.insert(source.log_group.clone(), f64::NAN);
            } else {
                "other".clone_into(&mut source.log_group);
            }
        }
        source
    }

    fn note_newest(&self, source: &Source, newest_ms: i64, now: Timestamp, chunk: &mut Chunk) {
        let delay = now.as_millisecond().saturating_sub(newest_ms) as f64 / 1000.0;
        lock(&self.delays).insert(source.log_group.clone(), delay);
        let name: Arc<str> = format!("{LAST_EVENT}{}", source.log_group).into();
        let known = self.scribe.note(&name).and_then(|known| known.parse::<i64>().ok());
        if known.is_none_or(|known| newest_ms > known) {
            chunk.notes.push(Note { name, value: Some(newest_ms.to_string().into()) });
        }
    }

    fn count(&self, source: &Source, found: &Found<'_>, now: Timestamp, chunk: &mut Chunk) -> Vec<Amount> {
        match found {
            Found::SlowQuery(event) => {
                let mut amounts = source.slow_query(event);
                amounts.extend(self.statement(source, event, now, chunk));
                amounts
            }
            Found::Message(severity, event) => {
                let mut amounts = vec![source.message(severity.as_str())];
                let micros = event.and_then(|event| event.query_time);
                amounts.extend(micros.into_iter().flat_map(|micros| source.pg_slow_query(micros)));
                amounts
            }
        }
    }

    /// Counts a statement under its fingerprint, if that has a slot.
    fn statement(
        &self,
        source: &Source,
        event: &Event<'_>,
        now: Timestamp,
        chunk: &mut Chunk,
    ) -> Vec<Amount> {
        let Some(fingerprint) = event.fingerprint else { return source.statement(None, event.query_time) };
        let place = lock(&self.tops)
            .entry(source.log_group.clone())
            .or_insert_with(|| Top::new(SLOTS, [], now.as_millisecond()))
            .place(fingerprint, event.query_time.unwrap_or_default(), now.as_millisecond());
        match place {
            Place::Own => {}
            Place::Other => return source.statement(None, event.query_time),
            Place::New(before) => {
                if let Some(before) = before {
                    chunk.ended.extend(series::ended(&source.log_group, before));
                    chunk.notes.push(Note { name: text_of(&source.log_group, before), value: None });
                }
                let mut text = digest::shape(&event.query, Dialect::MySql);
                text.truncate(text.floor_char_boundary(LONGEST_TEXT));
                let words = Words { statement: digest::statement(&event.query, Dialect::MySql), text };
                let value = serde_json::to_string(&words).ok().map(Arc::from);
                chunk.notes.push(Note { name: text_of(&source.log_group, fingerprint), value });
            }
        }
        source.statement(Some(fingerprint), event.query_time)
    }

    /// The statements that have series of their own, those of most time first.
    pub fn statements(&self) -> Vec<Statement> {
        let totals = self.scribe.totals();
        let mut statements = Vec::new();
        for (log_group, slots) in series::slots(&totals) {
            for (fingerprint, micros) in slots {
                let words = self.scribe.note(&text_of(&log_group, fingerprint));
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

    /// Unix time in seconds of the newest event of each log group.
    pub fn last_events(&self) -> Vec<(String, f64)> {
        let notes = self.scribe.notes(LAST_EVENT).into_iter();
        let seconds = |text: &str| Some(text.parse::<i64>().ok()? as f64 / 1000.0);
        notes
            .filter_map(|(name, value)| Some((name.strip_prefix(LAST_EVENT)?.to_owned(), seconds(&value)?)))
            .collect()
    }

    /// Seconds between the newest event of the last delivery and its arrival, by log group.
    pub fn delays(&self) -> BTreeMap<String, f64> {
        lock(&self.delays)
            .iter()
            .filter(|(_, delay)| delay.is_finite())
            .map(|(g, d)| (g.clone(), *d))
            .collect()
    }

    /// Records that could not be read, and what went to the quarantine: how many things, and how many are in the file.
    pub fn put_aside(&self) -> (u64, (u64, u64)) {
        (self.unreadable.load(Ordering::Relaxed), self.quarantine.counts())
    }
}

fn text_of(log_group: &str, fingerprint: u64) -> Arc<str> {
    format!("{STATEMENT}{log_group}\u{1f}{}", series::hex(fingerprint)).into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
