//! The snapshot as OTLP over HTTP: a task of its own encodes it and posts it to a collector.
//!
//! What a failed push means depends on the temporality. Totals are simply told again with the next snapshot. Differences are
//! told once, so their bodies wait and go first; they may arrive twice when an answer was lost, but not never.

mod answer;
mod config;
mod wire;

pub use config::{Compression, Config, Headers, Temporality};

use super::{Newest, PushCounters, Standing};
use crate::check::{Problem, Reason};
use crate::config::secret::Vault;
use crate::net::gzip;
use crate::net::https::Client;
use crate::task::{self, Task};
use answer::{Verdict, judge};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use metrics::otlp::{Encoder, Resource};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// The value of the label `sink`.
const SINK: &str = "otlp";

/// While this many bytes of differences wait for a dead collector, nothing new is encoded: the differences go on adding up
/// where they are counted, and only the gauges between are lost.
const MOST_WAITING: usize = 16 * 1024 * 1024;

/// The first pause after a failure, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A collector that asks to be left alone for longer than this is asked again nevertheless.
const LONGEST_REST: Duration = Duration::from_hours(1);

/// The kernel knows the host's name; there is no call for it in the standard library.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// What a stop waits for: the request under way and the last push together.
const LAST_PUSH: Duration = Duration::from_secs(2);

/// Starts the sink. What the newest snapshot already counts is taken as told, so start it before the checks.
/// The task ends at most two seconds after `stop`, after one last push.
pub fn start(
    config: Config,
    newest: Newest,
    vault: Arc<Vault>,
    counters: Arc<PushCounters>,
    stop: CancellationToken,
) -> Task<()> {
    let mut sink = Sink::new(config, newest, vault, counters);
    task::spawn(async move {
        let late = async {
            stop.cancelled().await;
            sleep(LAST_PUSH).await;
        };
        tokio::select! {
            () = sink.work(&stop) => {}
            () = late => {}
        }
        let lost = sink.waiting.iter().map(|body| body.points).sum();
        if lost > 0 {
            sink.counters.add_dropped(lost);
            tracing::warn!(sink = SINK, points = lost, "the last push did not get through");
        }
    })
}

struct Sink {
    config: Config,
    path: String,
    resource: Resource,
    newest: Newest,
    vault: Arc<Vault>,
    counters: Arc<PushCounters>,
    standing: Standing,
    /// `None` only while it encodes.
    encoder: Option<Encoder>,
    client: Client,
    waiting: VecDeque<Body>,
    /// The collector does not want to see us before.
    rest_until: Option<Instant>,
}

/// A request that was not taken yet.
#[derive(Clone, Debug)]
struct Body {
    bytes: Bytes,
    points: u64,
}

impl Sink {
    fn new(config: Config, newest: Newest, vault: Arc<Vault>, counters: Arc<PushCounters>) -> Self {
        let resource = resource(&config.resource);
        let client = Client::new(&config.endpoint, config.ca.clone());
        let mut sink = Self {
            path: config.path(),
            config,
            resource,
            newest,
            vault,
            counters,
            standing: Standing::new(SINK),
            encoder: None,
            client,
            waiting: VecDeque::new(),
            rest_until: None,
        };
        sink.encoder = Some(sink.new_encoder());
        sink
    }

    async fn work(&mut self, stop: &CancellationToken) {
        let every = self.config.every.duration();
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            self.cycle(Instant::now() + every, stop).await;
        }
        self.cycle(Instant::now(), stop).await;
    }

    /// Encodes the newest snapshot and tries to get everything through until `due`, when the next cycle begins.
    async fn cycle(&mut self, due: Instant, stop: &CancellationToken) {
        if self.rest_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.rest_until = None;
        self.encode().await;
        self.deliver(due, stop).await;
    }

    async fn encode(&mut self) {
        match self.config.temporality {
            // The newest totals contain what those before said.
            Temporality::Cumulative => self.waiting.clear(),
            Temporality::Delta => {
                let waiting: usize = self.waiting.iter().map(|body| body.bytes.len()).sum();
                if waiting > MOST_WAITING {
                    return;
                }
            }
        }
        let snapshot = (self.newest)();
        let (now, wall) = clocks();
        let compression = self.config.compression;
        let mut encoder = self.encoder.take().unwrap_or_else(|| self.new_encoder());
        let work = move || {
            let bodies = encoder.encode(&snapshot, now, wall).into_iter();
            let bodies: Vec<Body> = bodies.map(|bytes| Body::new(bytes, compression)).collect();
            (encoder, bodies)
        };
        match task::blocking(work).await {
            Ok((encoder, bodies)) => {
                self.encoder = Some(encoder);
                self.waiting.extend(bodies);
            }
            Err(error) => {
                // The encoder is gone, and with it what was told: the next one begins anew.
                self.fails(&Problem::new(Reason::Panic, "could not encode the snapshot").because(error));
            }
        }
    }

    /// An encoder that takes what is counted now as told.
    fn new_encoder(&self) -> Encoder {
        let mut encoder = Encoder::new(&self.resource, self.config.temporality.into());
        if self.config.temporality == Temporality::Delta {
            let (now, wall) = clocks();
            encoder.remember(&(self.newest)(), now, wall);
        }
        encoder
    }

    async fn deliver(&mut self, due: Instant, stop: &CancellationToken) {
        let mut pause = FIRST_PAUSE;
        let mut clean = !self.waiting.is_empty();
        while let Some(body) = self.waiting.front().cloned() {
            let (problem, asked) = match self.attempt(&body).await {
                Verdict::Taken { rejected, problem } => {
                    self.waiting.pop_front();
                    self.counters.add_sent(body.points.saturating_sub(rejected));
                    self.counters.add_dropped(rejected.min(body.points));
                    clean &= problem.is_none();
                    if let Some(problem) = problem {
                        self.standing.fails(&problem);
                    }
                    continue;
                }
                Verdict::Never(problem) => {
                    self.waiting.pop_front();
                    self.counters.add_dropped(body.points);
                    clean = false;
                    self.fails(&problem);
                    continue;
                }
                Verdict::NotNow(problem) => return self.fails(&problem),
                Verdict::Again(problem, asked) => (problem, asked),
            };
            self.fails(&problem);
            let until =
                Instant::now() + asked.map_or_else(|| jittered(pause), |asked| asked.min(LONGEST_REST));
            pause = (pause * 2).min(LONGEST_PAUSE);
            if until >= due || stop.is_cancelled() {
                // A pause that the collector asked for counts for the next cycle too, one of our own does not.
                self.rest_until = asked.map(|_| until);
                return;
            }
            tokio::select! {
                () = sleep_until(until) => {}
                () = stop.cancelled() => return,
            }
        }
        if clean {
            self.counters.succeeded(Timestamp::now());
            self.standing.works();
        }
    }

    fn fails(&mut self, problem: &Problem) {
        self.counters.add_failed();
        self.standing.fails(problem);
    }

    async fn attempt(&mut self, body: &Body) -> Verdict {
        let headers = match self.headers().await {
            Ok(headers) => headers,
            Err(problem) => return Verdict::Again(problem, None),
        };
        let deadline = Instant::now() + self.config.timeout.duration();
        let reply = match self.client.post(&self.path, &headers, body.bytes.clone(), deadline).await {
            Ok(reply) => reply,
            Err(problem) => return Verdict::Again(problem, None),
        };
        let verdict = judge(&reply, &self.config.endpoint);
        if reply.status == StatusCode::UNAUTHORIZED {
            for reference in self.config.headers.references() {
                // Whether it has changed shows at the next cycle, which sends the new value.
                self.vault.distrust(reference).await;
            }
        }
        verdict
    }

    async fn headers(&self) -> Result<HeaderMap, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if self.config.compression == Compression::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        for (name, text) in self.config.headers.iter() {
            let what =
                || format!("could not put the header {name} into a request to {}", self.config.endpoint);
            let problem = || Problem::new(Reason::Secret, what());
            let key = HeaderName::from_str(name).map_err(|error| problem().because(error))?;
            let value = self.vault.text(text).await?;
            let mut value = HeaderValue::from_str(&value).map_err(|error| problem().because(error))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(headers)
    }
}

impl Body {
    fn new(bytes: Vec<u8>, compression: Compression) -> Self {
        let points = wire::points(&bytes);
        let bytes = match compression {
            Compression::Gzip => gzip::compress(&bytes).into(),
            Compression::None => bytes.into(),
        };
        Self { bytes, points }
    }
}

fn clocks() -> (std::time::Instant, SystemTime) {
    (Instant::now().into_std(), Timestamp::now().into())
}

/// Half of a pause to all of it, so that many senders do not come back at the same moment.
fn jittered(pause: Duration) -> Duration {
    let share = (RandomState::new().hash_one(()) % 1024) as f64 / 1024.0;
    pause.mul_f64(0.5 + share / 2.0)
}

/// Who we are. <https://opentelemetry.io/docs/specs/semconv/resource/service/>
fn resource(configured: &BTreeMap<String, String>) -> Resource {
    let mut attributes = BTreeMap::from([
        ("service.name".to_owned(), "datapulse".to_owned()),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    if let Ok(host) = std::fs::read_to_string(HOST_NAME) {
        attributes.insert("service.instance.id".to_owned(), host.trim().to_owned());
    }
    attributes.extend(configured.clone());
    Resource { attributes: attributes.into_iter().collect() }
}
