//! The road of a delivery: unwrapped, routed, parsed and counted, then committed by the scribe. What is answered for is kept.

mod portions;

pub use portions::id_of;

use super::decode::{DecodeError, decode};
use super::documents::{Document, Maker};
use super::elasticsearch::{Bulk, NotIndexed, Outlet};
use super::parse::{Found, parse};
use super::pull::Progress;
use super::quarantine::{Origin, Quarantine};
use super::routes::{Parser, Routes, Routing};
use super::scribe::{Amount, Chunk, Note, Refused, Scribe, StartError};
use super::series::Source;
use super::statements::Statements;
use crate::config::secret::{Reference, Vault};
use crate::task;
use arc_swap::ArcSwap;
use digest::payload::{Data, Payload};
use jiff::Timestamp;
use portions::Read;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A payload of CloudWatch is at most 1 MB packed; inflated it may be so large, in each of its wrappings.
pub const LARGEST_RECORD: usize = 16 * 1024 * 1024;
/// Log groups with series of their own; what comes from more of them counts as one, `other`.
const MOST_GROUPS: usize = 1_000;
/// What becomes of documents: the server has them; never takes them; their delivery failed.
pub const RESULTS: [&str; 3] = ["indexed", "rejected", "failed"];
/// Names of notes with the time of the newest event begin like this.
const LAST_EVENT: &str = "last_event\u{1f}";

/// Takes deliveries from all doors and from pulls.
#[derive(Debug)]
pub struct Intake {
    routing: ArcSwap<Routing>,
    scribe: Scribe,
    bulk: Bulk,
    quarantine: Quarantine,
    statements: Statements,
    /// Seconds between the newest event of the last delivery and its arrival, by log group; NaN before it.
    delays: Mutex<BTreeMap<String, f64>>,
    /// Documents by log group and what became of them.
    documents: Mutex<BTreeMap<(String, &'static str), u64>>,
    unreadable: AtomicU64,
    pulls: ArcSwap<Vec<Arc<Progress>>>,
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
    /// The same of its documents.
    #[error(transparent)]
    NotIndexed(#[from] NotIndexed),
    /// The quarantine could not be written.
    #[error("could not write to the quarantine in data_dir: {0}")]
    Quarantine(std::io::Error),
    /// Reading it failed.
    #[error("the delivery could not be worked off; see the log")]
    Panicked,
}

/// A delivery, read.
#[derive(Debug, Default)]
struct Worked {
    log_group: String,
    outlet: Option<Outlet>,
    documents: Vec<Document>,
    chunks: Vec<Chunk>,
}

impl Intake {
    /// Starts with what the scribe knows. Its archives are those of `routes`, in their order.
    pub fn new(
        scribe: Scribe,
        quarantine: Quarantine,
        vault: Arc<Vault>,
        routes: Routes,
        access_keys: Vec<Reference>,
        now: Timestamp,
    ) -> Self {
        Self {
            routing: ArcSwap::from_pointee(Routing::new(routes, access_keys, 0..)),
            bulk: Bulk::new(vault),
            quarantine,
            statements: Statements::new(&scribe, now),
            delays: Mutex::default(),
            documents: Mutex::default(),
            unreadable: AtomicU64::new(0),
            pulls: ArcSwap::default(),
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
        let numbers = self.scribe.adopt(routes.archives(), now).await?;
        self.routing.store(Arc::new(Routing::new(routes, access_keys, numbers)));
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
        self.work(now, move |intake| intake.read(&payload, now)).await
    }

    /// Takes events of one stream that were asked for, with notes that are kept with them.
    ///
    /// # Errors
    /// When they could not be kept.
    pub async fn take_events(
        self: &Arc<Self>,
        data: Data<'static>,
        notes: Vec<Note>,
        now: Timestamp,
    ) -> Result<(), NotTaken> {
        self.work(now, move |intake| {
            let mut worked = intake.entries(data, now)?;
            if let Some(last) = worked.chunks.last_mut() {
                last.notes.extend(notes);
            }
            Ok(worked)
        })
        .await
    }

    /// Idempotent outlets first, the one commit last.
    async fn work(
        self: &Arc<Self>,
        now: Timestamp,
        read: impl FnOnce(&Self) -> Result<Worked, NotTaken> + Send + 'static,
    ) -> Result<(), NotTaken> {
        let worked = self.aside(read).await?;
        if let Some(outlet) = worked.outlet {
            self.index(&outlet, worked.documents, worked.log_group, now).await?;
        }
        for chunk in worked.chunks {
            self.scribe.commit(chunk, now).await?;
        }
        Ok(())
    }

    /// On a thread that may block and compute.
    async fn aside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, NotTaken> + Send + 'static,
    ) -> Result<T, NotTaken> {
        let intake = Arc::clone(self);
        task::blocking(move || work(&intake)).await.map_err(|error| {
            tracing::error!(%error, "a delivery could not be worked off");
            NotTaken::Panicked
        })?
    }

    async fn index(
        self: &Arc<Self>,
        outlet: &Outlet,
        documents: Vec<Document>,
        log_group: String,
        now: Timestamp,
    ) -> Result<(), NotTaken> {
        let all = documents.len() as u64;
        let sent = self.bulk.send(outlet, documents).await;
        let count = |numbers: [u64; 3]| {
            let mut documents = lock(&self.documents);
            for (result, number) in RESULTS.into_iter().zip(numbers) {
                *documents.entry((log_group.clone(), result)).or_default() += number;
            }
        };
        let rejected = sent.inspect_err(|_| count([0, 0, all]))?;
        let number = rejected.len() as u64;
        count([all - number, number, 0]);
        self.aside(move |intake| {
            for one in rejected {
                let origin = Origin { log_group: Some(&log_group), id: Some(&one.document.id) };
                intake.put_away(&one.why, origin, &one.document.source, now)?;
            }
            Ok(())
        })
        .await
    }

    fn read(&self, payload: &[u8], now: Timestamp) -> Result<Worked, NotTaken> {
        let read = decode(payload, LARGEST_RECORD, |payload| match payload {
            Payload::Data(data) => self.entries(data, now),
            Payload::Control | Payload::Wrapped(_) => Ok(Worked::default()),
        });
        match read {
            Ok(worked) => worked,
            Err(error) => {
                self.unreadable.fetch_add(1, Ordering::Relaxed);
                self.put_away(&error.to_string(), Origin::default(), payload, now)?;
                Err(error.into())
            }
        }
    }

    /// The chunks and documents of a delivery, in its order.
    fn entries(&self, data: Data<'_>, now: Timestamp) -> Result<Worked, NotTaken> {
        let routing = self.routing();
        let source = self.source(&data);
        let mut first = Chunk::default();
        let mut counted: Vec<Vec<Amount>> = vec![Vec::new(); data.events.len()];
        let (mut documents, mut outlet, mut archive) = (Vec::new(), None, None);
        let mut parsed = None;
        if let Some((number, route)) = routing.routes.of(&data.log_group) {
            archive = routing.archives.get(number).copied().flatten();
            outlet.clone_from(&route.elasticsearch);
            let mut maker =
                route.elasticsearch.as_ref().map(|outlet| Maker::new(&data, &outlet.index, route.raw_text));
            let gaps = data.broken.iter().map(|broken| broken.before);
            parsed = Some(parse(&data.events, gaps, &route.parser, &mut |at, entry| {
                documents.extend(maker.as_mut().and_then(|maker| maker.entry(at, &entry)));
                if let Some(counted) = counted.get_mut(at) {
                    counted.extend(self.count(&source, &entry, now, &mut first));
                }
            }));
            if let (Parser::Plain, Some(maker)) = (&route.parser, &maker) {
                documents.extend((0..data.events.len()).filter_map(|at| maker.plain(at)));
            }
        }
        if let Some(newest) = data.events.iter().map(|event| event.timestamp).max() {
            self.note_newest(&source, newest, now, &mut first);
        }
        let log_group = source.log_group.clone();
        let read = Read { data, source: &source, archive, parsed, counted, first };
        let chunks = self.chunks(read, now)?;
        Ok(Worked { log_group, outlet, documents, chunks })
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
    fn source(&self, data: &Data<'_>) -> Source {
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
                amounts.extend(self.statements.count(source, event, now, chunk));
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
        let delays = lock(&self.delays);
        delays
            .iter()
            .filter(|(_, delay)| delay.is_finite())
            .map(|(group, delay)| (group.clone(), *delay))
            .collect()
    }

    /// Documents by log group and what became of them: indexed, rejected for good, or failed with their delivery.
    pub fn documents(&self) -> BTreeMap<(String, &'static str), u64> {
        lock(&self.documents).clone()
    }

    /// How the pulls go.
    pub fn pulls(&self) -> Arc<Vec<Arc<Progress>>> {
        self.pulls.load_full()
    }

    /// Takes the pulls that run from now on.
    pub fn watch(&self, pulls: Vec<Arc<Progress>>) {
        self.pulls.store(Arc::new(pulls));
    }

    /// Records that could not be read, and what went to the quarantine: how many things, and how many are in the file.
    pub fn put_aside(&self) -> (u64, (u64, u64)) {
        (self.unreadable.load(Ordering::Relaxed), self.quarantine.counts())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
