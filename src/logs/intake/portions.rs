//! The events of a delivery in the portions in which they are committed, each with what became of it.

use super::{Intake, NotTaken};
use crate::logs::keyed_hash::keyed_hash;
use crate::logs::quarantine::Origin;
use crate::logs::scribe::{Amount, Chunk, Entry};
use crate::logs::series::{Fate, Source};
use digest::payload::{BrokenEvent, Data};
use jiff::Timestamp;
use std::sync::Arc;

/// Events that are committed at once, and the bytes of their messages: the scribe's queue holds some of these.
const MOST_EVENTS: usize = 1_000;
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// What was found in a delivery.
pub(super) struct Read<'a> {
    pub(super) data: Data<'a>,
    pub(super) source: &'a Source,
    pub(super) archive: Option<usize>,
    /// For each event whether an entry has a part of it; `None` without a route.
    pub(super) parsed: Option<Vec<bool>>,
    pub(super) counted: Vec<Vec<Amount>>,
    /// The first chunk, with the notes of all.
    pub(super) first: Chunk,
}

impl Intake {
    pub(super) fn chunks(&self, read: Read<'_>, now: Timestamp) -> Result<Vec<Chunk>, NotTaken> {
        let Read { data, source, archive, parsed, counted, first } = read;
        let (log_group, log_stream): (Arc<str>, Arc<str>) = (data.log_group.into(), data.log_stream.into());
        let repeated = vec![source.fate(Fate::Received), source.fate(Fate::Duplicate)];
        let mut chunks = Chunks { full: Vec::new(), open: first, bytes: 0 };
        for (at, (event, mut amounts)) in data.events.into_iter().zip(counted).enumerate() {
            let (fate, why) = match parsed.as_ref().map(|parsed| parsed.get(at) == Some(&true)) {
                None => (Fate::Unrouted, Some("no route takes this log group")),
                Some(true) => (Fate::Parsed, None),
                Some(false) => (Fate::Unparsed, Some("the parser found no entry in it")),
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
            let bytes = event.message.len();
            let entry = Entry {
                id: event.id.into_owned(),
                time_ms: event.timestamp,
                log_group: Arc::clone(&log_group),
                log_stream: Arc::clone(&log_stream),
                archive,
                message: if archive.is_some() { event.message.into_owned().into_bytes() } else { Vec::new() },
                amounts,
                repeated: repeated.clone(),
            };
            chunks.add(entry, bytes);
        }
        let fate = if parsed.is_some() { Fate::Unparsed } else { Fate::Unrouted };
        for broken in data.broken {
            let id = id_of(&broken);
            let origin = Origin { log_group: Some(&log_group), id: Some(&id) };
            self.put_away(broken.why, origin, broken.json.as_bytes(), now)?;
            let entry = Entry {
                id,
                time_ms: now.as_millisecond(),
                log_group: Arc::clone(&log_group),
                log_stream: Arc::clone(&log_stream),
                archive: None,
                message: Vec::new(),
                amounts: vec![source.fate(Fate::Received), source.fate(fate)],
                repeated: repeated.clone(),
            };
            chunks.add(entry, 0);
        }
        chunks.full.push(chunks.open);
        Ok(chunks.full)
    }
}

/// Events in the portions in which they are committed.
struct Chunks {
    full: Vec<Chunk>,
    open: Chunk,
    bytes: usize,
}

impl Chunks {
    /// `bytes` are those of the message.
    fn add(&mut self, entry: Entry, bytes: usize) {
        self.open.entries.push(entry);
        self.bytes += bytes;
        if self.open.entries.len() >= MOST_EVENTS || self.bytes >= MOST_BYTES {
            self.full.push(std::mem::take(&mut self.open));
            self.bytes = 0;
        }
    }
}

/// What a broken event is known by, so that a redelivery counts it as a duplicate. Its own id may be what is wrong, or be
/// that of another event.
pub fn id_of(broken: &BrokenEvent<'_>) -> String {
    format!("broken-{:016x}", keyed_hash([0, 0], broken.json.as_bytes()))
}
