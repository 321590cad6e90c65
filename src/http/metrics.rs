//! The body of `/metrics`: made once per change of the snapshot, then shared by all who ask.

use super::{Snapshots, negotiate};
use crate::net::gzip;
use crate::task;
use hyper::body::Bytes;
use metrics::Snapshot;
use metrics::exposition::{self, Dialect};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

/// A body that may become larger than this is made on a blocking thread: it takes milliseconds.
const LARGE: usize = 1_000_000;

/// Bytes of a sample's line, for the guess before the first body.
const LINE: usize = 120;

/// `?check=` bodies are not shared, so only a few are made at a time.
const PARTS_AT_ONCE: usize = 2;

/// What a client asks of `/metrics`.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) dialect: Dialect,
    pub(super) gzip: bool,
    /// Names of checks; empty for everything.
    pub(super) checks: Vec<String>,
}

impl Wish {
    pub(super) fn of(headers: &hyper::HeaderMap, query: &negotiate::Query) -> Self {
        let checks = query.all("check").map(str::to_owned).collect();
        Self { dialect: negotiate::dialect(headers), gzip: negotiate::gzip(headers), checks }
    }
}

/// The bodies that are shared.
#[derive(Debug)]
pub(super) struct Bodies {
    text: Slot,
    text_gzip: Slot,
    open: Slot,
    open_gzip: Slot,
    parts: Arc<Semaphore>,
    renders: Arc<AtomicU64>,
}

impl Default for Bodies {
    fn default() -> Self {
        let [text, text_gzip, open, open_gzip] = std::array::from_fn(|_| Slot::default());
        let parts = Arc::new(Semaphore::new(PARTS_AT_ONCE));
        Self { text, text_gzip, open, open_gzip, parts, renders: Arc::default() }
    }
}

/// One body of a dialect and an encoding. Its lock makes it single-flight: who comes while it is made waits for it.
type Slot = Arc<Mutex<Made>>;

#[derive(Debug, Default)]
struct Made {
    generation: u64,
    until: Option<Instant>,
    /// `None` before the first request.
    body: Option<Bytes>,
    /// Length before compression.
    size: usize,
}

impl Bodies {
    /// The body for a wish; `None` when making it panicked.
    pub(super) async fn body(&self, snapshots: &Snapshots, wish: Wish) -> Option<Bytes> {
        if !wish.checks.is_empty() {
            return self.part(snapshots(), wish).await;
        }
        let made = Arc::clone(self.slot(&wish)).lock_owned().await;
        // Only now: who waited for the lock must not put back a snapshot of before.
        let (snapshot, now) = (snapshots(), now());
        if let Some(body) = made.fresh(&snapshot, now) {
            return Some(body);
        }
        let large = made.size.max(guess(&snapshot)) > LARGE;
        let renders = Arc::clone(&self.renders);
        away(large, move || fill(made, &snapshot, now, &wish, &renders)).await
    }

    /// A body for some checks only.
    async fn part(&self, snapshot: Arc<Snapshot>, wish: Wish) -> Option<Bytes> {
        let slot = Arc::clone(&self.parts).acquire_owned().await.ok()?;
        let (large, renders) = (guess(&snapshot) > LARGE, Arc::clone(&self.renders));
        let work = move || {
            let (body, _) = render(&snapshot, now(), &wish, &renders);
            drop(slot);
            body
        };
        away(large, work).await
    }

    fn slot(&self, wish: &Wish) -> &Slot {
        match (wish.dialect, wish.gzip) {
            (Dialect::Text, false) => &self.text,
            (Dialect::Text, true) => &self.text_gzip,
            (Dialect::OpenMetrics, false) => &self.open,
            (Dialect::OpenMetrics, true) => &self.open_gzip,
        }
    }

    /// How many bodies have been made.
    #[cfg(test)]
    pub(super) fn renders(&self) -> u64 {
        self.renders.load(Ordering::Relaxed)
    }
}

impl Made {
    fn fresh(&self, snapshot: &Snapshot, now: Instant) -> Option<Bytes> {
        let valid = self.generation == snapshot.generation && self.until.is_none_or(|until| now < until);
        if valid { self.body.clone() } else { None }
    }
}

/// Fills a slot. The guard travels with the work: a client that hangs up neither loses the body nor lets a second one start.
fn fill(
    mut made: OwnedMutexGuard<Made>,
    snapshot: &Snapshot,
    now: Instant,
    wish: &Wish,
    renders: &AtomicU64,
) -> Bytes {
    // The old body goes first: two large ones are not held at a time.
    made.body = None;
    let (body, size) = render(snapshot, now, wish, renders);
    let until = snapshot.unchanged_for(now).map(|rest| now + rest);
    *made = Made { generation: snapshot.generation, until, body: Some(body.clone()), size };
    body
}

/// The bytes, and their length before compression.
fn render(snapshot: &Snapshot, now: Instant, wish: &Wish, renders: &AtomicU64) -> (Bytes, usize) {
    renders.fetch_add(1, Ordering::Relaxed);
    let plain = exposition::encode(snapshot, now, wish.dialect, &wish.checks);
    let size = plain.len();
    (Bytes::from(if wish.gzip { gzip::compress(&plain) } else { plain }), size)
}

fn guess(snapshot: &Snapshot) -> usize {
    snapshot.parts.iter().map(|part| part.answer.len()).sum::<usize>() * LINE
}

/// The clock of the snapshot's limits.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn away<T: Send + 'static>(large: bool, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if !large {
        return Some(work());
    }
    task::blocking(work)
        .await
        .inspect_err(|error| tracing::error!(%error, "could not make the body of /metrics"))
        .ok()
}
