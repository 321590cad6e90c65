//! The HTTP server: listens, bounds every connection in time and number, drains on stop.

mod basic_auth;
mod deadline;
pub mod door;
pub mod live;
pub mod logs;
mod metrics;
mod negotiate;
mod routes;
mod tls;
mod web_config;

#[cfg(test)]
mod tests;

pub use negotiate::{Query, decoded};
pub use web_config::WebConfig;

use crate::task::{self, Task};
use ::metrics::Snapshot;
use basic_auth::Gate;
use deadline::{Deadlines, Pulse};
use door::Door;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use live::Live;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A head is read into one buffer: Prometheus sends 400 bytes, a browser with cookies a few kB.
const LARGEST_HEAD: usize = 8 * 1024;

/// Bodies of deliveries that are held at a time, over all doors, in bytes. Who finds no room is asked to come again.
const MOST_HELD: usize = 64 * 1024 * 1024;

/// Words of an answer to a delivery.
const LARGEST_ANSWER_WORDS: usize = 4 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";

/// hyper's own buffer, for a head and what comes right behind it.
const BUFFER: usize = 16 * 1024;

/// At the limit of file descriptors accepts fail and work in turns: one line in the log is enough for a while.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// Gives the snapshot that is current; called once a request for `/metrics`, so it must not wait.
pub type Snapshots = Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>;

/// Loads the configuration again; an error is shown to whoever asked. Dropped unfinished when the client hangs up.
pub type Reload = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What the server shows.
pub struct Site {
    /// The path of the metrics, `/metrics` unless `--web.telemetry-path` says otherwise.
    pub telemetry_path: String,
    /// What `/metrics` shows.
    pub snapshots: Snapshots,
    /// All other pages.
    pub pages: Vec<Page>,
    /// Pages that go on.
    pub live: Option<Live>,
    /// Paths that take deliveries.
    pub doors: Vec<Door>,
    /// Whether `/-/ready` says yes.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What `/-/reload` does; `None` without `--web.enable-lifecycle`.
    pub reload: Option<Reload>,
}

/// Makes the body of a page.
pub type Make = Arc<dyn Fn(&Asked) -> Option<Bytes> + Send + Sync>;

/// A page that is read with GET.
pub struct Page {
    /// Its path, such as `/api/v1/checks`. One that ends with `/` has pages below it; but `/` alone is only itself.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its `Content-Security-Policy`; [`POLICY`] when it has no need of its own.
    pub policy: &'static str,
    /// Makes it, on a task of the runtime: it must not wait, and it escapes what it shows of the request. Nothing: there is no such page.
    pub body: Make,
}

impl Page {
    /// What stands in a path behind the path of this page; nothing when that is another page's.
    fn below(&self, path: &str) -> Option<String> {
        let below = path.strip_prefix(self.path)?;
        let folder = self.path.len() > 1 && self.path.ends_with('/');
        (below.is_empty() || folder).then(|| decoded(below))
    }
}

/// What was asked for beyond the path of a page.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What stands behind the path of a page that has pages below it, percent-decoded.
    pub below: String,
    /// The parameters.
    pub query: Query,
}

/// Allows a page our own styles, scripts and streams, and pictures inside it, and nothing else. Nobody may put it into a frame.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Caps and deadlines; tests shrink them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time, over all addresses; the next one is closed and counted.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a head (of a new connection: from the accept) to its end.
    pub head: Duration,
    /// For the body of a request, which is at most 64 KiB.
    pub body: Duration,
    /// For the body of a delivery, and for room to hold it.
    pub delivery: Duration,
    /// Between two requests of a connection. Longer than usual scrape intervals, so that these keep theirs.
    pub idle: Duration,
    /// Until a piece of 64 KiB has been taken by the client.
    pub write: Duration,
    /// Until the last piece of a response has been asked for: a slow reader pins a body that nobody else needs.
    pub response: Duration,
    /// After an accept failed for want of file descriptors: nothing is gained by trying at once.
    pub rest: Duration,
    /// What requests in flight have left when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            delivery: Duration::from_mins(1),
            idle: Duration::from_mins(3),
            write: Duration::from_secs(10),
            response: Duration::from_mins(1),
            rest: Duration::from_millis(200),
            drain: Duration::from_secs(8),
        }
    }
}

/// What the server has done, for the vitals.
#[derive(Debug, Default)]
pub struct HttpCounters {
    /// Connections open now.
    pub connections: AtomicU64,
    /// Connections accepted and served.
    pub accepted: AtomicU64,
    /// Connections closed because there were too many.
    pub rejected: AtomicU64,
    /// Accepts that failed, as for want of file descriptors.
    pub accept_failures: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub handshake_failures: AtomicU64,
    /// Requests whose head was read.
    pub requests: AtomicU64,
    /// Requests answered 401.
    pub unauthorized: AtomicU64,
}

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address}: {source}; see --web.listen-address")]
pub struct BindError {
    /// As it was given.
    pub address: String,
    /// What the system said.
    pub source: io::Error,
}

/// Listens on all addresses, `HOST:PORT` each; without a host (`:9893`) on all interfaces.
pub async fn bind(addresses: &[String]) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::new();
    for address in addresses {
        let bound = match address.strip_prefix(':') {
            // A machine without IPv6 refuses the first.
            Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
                Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
                bound => bound,
            },
            None => TcpListener::bind(address).await,
        };
        listeners.push(bound.map_err(|source| BindError { address: address.clone(), source })?);
    }
    Ok(listeners)
}

/// A server, ready to run.
#[derive(Clone, Debug)]
pub struct Server(Arc<Inner>);

struct Inner {
    site: Site,
    web: WebConfig,
    limits: Limits,
    counters: Arc<HttpCounters>,
    slots: Arc<Semaphore>,
    /// Room for bodies of deliveries.
    held: Semaphore,
    /// Room for pages that go on.
    lives: Arc<Semaphore>,
    gate: Gate,
    bodies: metrics::Bodies,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("web", &self.web).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Server {
    /// A server of this site behind this guard.
    pub fn new(site: Site, web: WebConfig, limits: Limits, counters: Arc<HttpCounters>) -> Self {
        let slots = Arc::new(Semaphore::new(limits.connections));
        let held = Semaphore::new(MOST_HELD / routes::HELD_IN + 1);
        let (gate, bodies) = (Gate::default(), metrics::Bodies::default());
        let lives = Arc::new(Semaphore::new(live::MOST));
        Self(Arc::new(Inner { site, web, limits, counters, slots, held, lives, gate, bodies }))
    }

    /// Serves on these listeners until `stop`; then no connection is accepted, and requests in flight are answered
    /// within [`Limits::drain`].
    pub async fn run(&self, listeners: Vec<TcpListener>, stop: CancellationToken) {
        let loops = listeners.into_iter().map(|listener| {
            let (server, stop) = (Arc::clone(&self.0), stop.clone());
            end_of(task::spawn(async move { server.accept(listener, stop).await }))
        });
        loops.collect::<FuturesUnordered<_>>().collect::<()>().await;
    }
}

/// Waits for a task. What it panicked with has been printed; the others go on.
async fn end_of(mut task: Task<()>) {
    if let Err(error) = task.join().await {
        tracing::error!(%error, "a task of the HTTP server failed");
    }
}

impl Inner {
    async fn accept(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let mut connections = FuturesUnordered::new();
        let mut told: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(()) = connections.next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
                        let connection = Arc::clone(&self).connection(stream, slot, stop.clone());
                        connections.push(end_of(task::spawn(connection)));
                    } else {
                        self.counters.rejected.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // The client went away between its connect and our accept.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.counters.accept_failures.fetch_add(1, Ordering::Relaxed);
                    if told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
                        told = Some(Instant::now());
                        tracing::error!(%error, "could not accept connections, trying again");
                    }
                    // Trying at once would burn a core and free no descriptor; connections go on meanwhile.
                    if timeout(self.limits.rest, stop.cancelled()).await.is_ok() {
                        break;
                    }
                }
            }
        }
        drop(listener);
        if timeout(self.limits.drain, connections.by_ref().collect::<()>()).await.is_err() {
            tracing::warn!(connections = connections.len(), "requests were still in flight at the end");
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        slot: OwnedSemaphorePermit,
        stop: CancellationToken,
    ) {
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let _open = Open::new(&self.counters);
        // Head and body of a response are separate writes; a refusal only costs time.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not set TCP_NODELAY");
        }
        match self.web.current().await.tls.clone() {
            None => self.talk(stream, stop).await,
            Some(config) => {
                let handshake = timeout(self.limits.handshake, TlsAcceptor::from(config).accept(stream));
                let shaken = tokio::select! {
                    () = stop.cancelled() => return,
                    shaken = handshake => shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                };
                match shaken {
                    Ok(stream) => Box::pin(self.talk(stream, stop)).await,
                    Err(error) => {
                        self.counters.handshake_failures.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(%error, "TLS handshake failed");
                    }
                }
            }
        }
        drop(slot);
    }

    /// Speaks HTTP until the client is done, too slow, or `stop`.
    async fn talk<S>(self: &Arc<Self>, stream: S, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let pulse = Arc::new(Pulse::default());
        let io = TokioIo::new(Deadlines::new(stream, self.limits, Arc::clone(&pulse)));
        let service = service_fn(|request| {
            let (server, pulse, stop) = (Arc::clone(self), Arc::clone(&pulse), stop.clone());
            pulse.begin();
            async move { Ok::<_, Infallible>(server.answer(request, pulse, stop).await) }
        });
        let mut builder = http1::Builder::new();
        // The deadline of a head is kept in `Deadlines`: hyper's would also end idle connections.
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_header_size(LARGEST_HEAD)
            .max_buf_size(BUFFER);
        let mut connection = pin!(builder.serve_connection(io, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// Counts a connection while it is open.
struct Open<'a>(&'a HttpCounters);

impl<'a> Open<'a> {
    fn new(counters: &'a HttpCounters) -> Self {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        Self(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
