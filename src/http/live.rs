//! Pages that go on: what has changed of a page is sent as server-sent events, for as long as somebody looks.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use super::Query;
use futures_util::FutureExt as _;
use hyper::body::Bytes;
use serde_json::json;
use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Streams at a time; who is told that there are too many comes again.
pub(super) const MOST: usize = 32;
/// How often a page is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Proxies end a connection that says nothing, and a browser that is gone is noticed by a write.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// After this the browser comes again, so that a user whose right has ended does not look on for ever.
const LONGEST: Duration = Duration::from_mins(10);

/// A part of a page that can change by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The `id` of its element.
    pub id: String,
    /// The element as HTML. It depends on what is shown, and not on the moment.
    pub html: String,
}

/// Makes the parts of a page as they are now; must not wait.
pub type View = Arc<dyn Fn() -> Vec<Fragment> + Send + Sync>;

/// Finds the page that a query names.
pub type Find = Arc<dyn Fn(&Query) -> Option<View> + Send + Sync>;

/// The path of the streams.
pub struct Live {
    /// Such as `/api/v1/live`.
    pub path: &'static str,
    /// The page that a query asks for; nothing when there is none.
    pub view: Find,
    /// Counts up with everything that is shown: a page is made again only when this has changed.
    pub generation: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// A stream to one reader.
pub(super) struct Stream {
    view: View,
    generation: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// What was sent last: by id, a hash of the HTML.
    sent: Option<BTreeMap<String, u64>>,
    /// When a page was made last, and of which generation.
    made: Option<(Instant, u64)>,
    spoken: Instant,
    ticks: Interval,
    end: Instant,
    stop: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    _slot: OwnedSemaphorePermit,
}

impl Stream {
    pub(super) fn new(live: &Live, view: View, stop: CancellationToken, slot: OwnedSemaphorePermit) -> Self {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now();
        Self {
            view,
            generation: Arc::clone(&live.generation),
            sent: None,
            made: None,
            spoken: now,
            ticks,
            end: now + LONGEST,
            stop: Box::pin(async move { stop.cancelled().await }),
            _slot: slot,
        }
    }

    /// The next events; nothing at the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.stop.poll_unpin(cx).is_ready() {
            return Poll::Ready(None);
        }
        loop {
            if self.ticks.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if now >= self.end {
                return Poll::Ready(None);
            }
            let events = self.events(now);
            if !events.is_empty() {
                self.spoken = now;
                return Poll::Ready(Some(Bytes::from(events)));
            }
            if now >= self.spoken + SIGN_OF_LIFE {
                self.spoken = now;
                return Poll::Ready(Some(Bytes::from_static(b":\n\n")));
            }
        }
    }

    fn events(&mut self, now: Instant) -> String {
        let generation = (self.generation)();
        // What expires changes the page without anybody saying so.
        let same = |(made, of): (Instant, u64)| of == generation && now < made + SIGN_OF_LIFE;
        if self.made.is_some_and(same) {
            return String::new();
        }
        self.made = Some((now, generation));
        let fragments = (self.view)();
        let hashes: BTreeMap<String, u64> =
            fragments.iter().map(|part| (part.id.clone(), hash(&part.html))).collect();
        let before = self.sent.replace(hashes);
        let Some(now) = &self.sent else { return String::new() };
        if before.as_ref().is_some_and(|before| !before.keys().eq(now.keys())) {
            return "event: other\ndata: {}\n\n".to_owned();
        }
        let changed =
            |part: &&Fragment| before.as_ref().and_then(|before| before.get(&part.id)) != now.get(&part.id);
        let mut events = String::new();
        for part in fragments.iter().filter(changed) {
            // JSON has no line break outside of its escapes, and an event's data is a line.
            events
                .push_str(&format!("event: part\ndata: {}\n\n", json!({ "id": part.id, "html": part.html })));
        }
        events
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
