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
use crate::net::https::{Client, Url};
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
    url: Url,
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
        let url = config.url();
        let client = Client::new(&url, config.ca.clone());
        let mut sink = Self {
            config,
            url,
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
        let reply = match self.client.post(self.url.path(), &headers, body.bytes.clone(), deadline).await {
            Ok(reply) => reply,
            Err(problem) => return Verdict::Again(problem, None),
        };
        let verdict = judge(&reply, &self.url);
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
            let what = || format!("could not put the header {name} into a request to {}", self.url);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::https::double::{Act, Double, Seen, answer};
    use crate::sinks::stage::{board, snapshot};
    use metrics::Snapshot;
    use opentelemetry_proto::tonic::collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    };
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
    use prost::Message;
    use std::path::Path;

    fn ok() -> Act {
        Act::Say(answer(200, "", b""))
    }

    fn status(status: u16, headers: &str) -> Act {
        Act::Say(answer(status, headers, b"some words"))
    }

    /// A sink that the test turns by hand; its board was empty at the start.
    fn sink(server: &Double, lines: &str) -> (Sink, Arc<PushCounters>, impl Fn(Arc<Snapshot>) + use<>) {
        let (newest, show) = board(Arc::default());
        let counters = Arc::new(PushCounters::default());
        (Sink::new(config(server, lines), newest, vault(), Arc::clone(&counters)), counters, show)
    }

    fn config(server: &Double, lines: &str) -> Config {
        let json =
            format!(r#"{{"endpoint": "http://127.0.0.1:{}", "compression": "none"{lines}}}"#, server.port);
        serde_json::from_str(&json).unwrap()
    }

    fn vault() -> Arc<Vault> {
        let environment = |name: &str| (name == "TOKEN").then(|| "Bearer canary".to_owned());
        Arc::new(Vault::new(Arc::new(environment), Path::new("/")))
    }

    /// One cycle with the time until the next one.
    async fn cycle(sink: &mut Sink, left: Duration) {
        sink.cycle(Instant::now() + left, &CancellationToken::new()).await;
    }

    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(1);

    /// Names and values of all number points of a request.
    fn values(seen: &Seen) -> Vec<(String, f64)> {
        let request = ExportMetricsServiceRequest::decode(&seen.body[..]).unwrap();
        let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        let metrics = scopes.flat_map(|scope| scope.metrics);
        let points = metrics.flat_map(|metric| {
            let points = match metric.data.unwrap() {
                Data::Gauge(gauge) => gauge.data_points,
                Data::Sum(sum) => sum.data_points,
                other => panic!("{other:?}"),
            };
            points.into_iter().map(move |point| match point.value {
                Some(Value::AsDouble(value)) => (metric.name.clone(), value),
                other => panic!("{other:?}"),
            })
        });
        points.collect()
    }

    fn events(seen: &[Seen]) -> Vec<f64> {
        let all = seen.iter().flat_map(values);
        all.filter(|(name, _)| name == "test.events").map(|(_, value)| value).collect()
    }

    #[tokio::test]
    async fn a_large_snapshot_arrives_in_several_requests_with_every_value() {
        let server = Double::start(|_| ok()).await;
        let (mut sink, counters, show) = sink(&server, r#", "headers": {"authorization": "env:TOKEN"}"#);
        show(snapshot(25_000, 7.0));
        cycle(&mut sink, LONG).await;
        let seen = server.seen();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|seen| seen.head.starts_with("post /v1/metrics http/1.1\r\n")));
        assert!(seen.iter().all(|seen| seen.head.contains("content-type: application/x-protobuf\r\n")));
        assert!(seen.iter().all(|seen| seen.head.contains("authorization: bearer canary\r\n")));
        let mut gauges: Vec<f64> = seen.iter().flat_map(values).map(|(_, value)| value).collect();
        gauges.sort_by(f64::total_cmp);
        let mut wanted: Vec<f64> = (0..25_000).map(f64::from).chain([7.0]).collect();
        wanted.sort_by(f64::total_cmp);
        assert!(gauges == wanted);
        assert_eq!((counters.sent(), counters.failed(), counters.dropped()), (25_001, 0, 0));
        assert!(counters.last_success().is_some());
        let request = ExportMetricsServiceRequest::decode(&seen[0].body[..]).unwrap();
        let attributes = &request.resource_metrics[0].resource.as_ref().unwrap().attributes;
        let names: Vec<_> = attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert_eq!(names, ["service.instance.id", "service.name", "service.version"]);
    }

    #[tokio::test]
    async fn bodies_are_gzip_unless_told_otherwise() {
        let server = Double::start(|_| ok()).await;
        let (newest, _) = board(snapshot(1_000, 7.0));
        let config = Config { compression: Compression::Gzip, ..config(&server, "") };
        let mut sink = Sink::new(config, newest, vault(), Arc::default());
        cycle(&mut sink, LONG).await;
        let seen = server.seen();
        assert!(seen[0].head.contains("content-encoding: gzip\r\n"));
        assert_eq!(seen[0].body[..2], [0x1f, 0x8b]);
        assert!(seen[0].body.len() < 20_000, "{}", seen[0].body.len());
    }

    #[tokio::test]
    async fn a_busy_collector_is_left_alone_as_long_as_it_asks_and_then_gets_everything() {
        let server =
            Double::start(|number| if number == 0 { status(503, "Retry-After: 1\r\n") } else { ok() }).await;
        let (mut sink, counters, show) = sink(&server, "");
        show(snapshot(10, 7.0));
        cycle(&mut sink, LONG).await;
        let seen = server.seen();
        assert_eq!(seen.len(), 2);
        assert!(seen[1].at - seen[0].at >= Duration::from_secs(1));
        assert_eq!((counters.sent(), counters.failed(), counters.dropped()), (11, 1, 0));
        assert!(counters.last_success().is_some());
    }

    #[tokio::test]
    async fn a_pause_that_was_asked_for_holds_over_cycles() {
        let script = |number| if number == 0 { status(429, "Retry-After: 1\r\n") } else { ok() };
        let server = Double::start(script).await;
        let (mut sink, _, show) = sink(&server, "");
        show(snapshot(1, 7.0));
        while server.seen().len() < 2 {
            cycle(&mut sink, SHORT).await;
            sleep(Duration::from_millis(20)).await;
        }
        let seen = server.seen();
        assert!(seen[1].at - seen[0].at >= Duration::from_secs(1));
    }

    #[tokio::test]
    async fn what_a_collector_refuses_is_not_repeated() {
        for code in [400, 404, 413, 500] {
            let server = Double::start(move |_| status(code, "")).await;
            let (mut sink, counters, show) = sink(&server, "");
            show(snapshot(10, 7.0));
            cycle(&mut sink, LONG).await;
            assert_eq!(server.seen().len(), 1, "{code}");
            assert_eq!((counters.sent(), counters.failed(), counters.dropped()), (0, 1, 11), "{code}");
            assert!(counters.last_success().is_none() && sink.waiting.is_empty());
        }
    }

    #[tokio::test]
    async fn differences_wait_for_the_collector_and_totals_are_told_anew() {
        for (temporality, wanted) in [("delta", vec![5.0, 2.0, 4.0]), ("cumulative", vec![11.0])] {
            let script = |number| if number < 2 { status(503, "") } else { ok() };
            let server = Double::start(script).await;
            let (mut sink, counters, show) = sink(&server, &format!(r#", "temporality": "{temporality}""#));
            for total in [5.0, 7.0, 11.0] {
                show(snapshot(1, total));
                cycle(&mut sink, SHORT).await;
            }
            assert_eq!(events(&server.seen()[2..]), wanted, "{temporality}");
            assert_eq!((counters.failed(), counters.dropped()), (2, 0));
        }
    }

    #[tokio::test]
    async fn refused_credentials_keep_the_differences() {
        let server = Double::start(|number| if number == 0 { status(401, "") } else { ok() }).await;
        let (mut sink, counters, show) = sink(&server, r#", "temporality": "delta""#);
        show(snapshot(1, 5.0));
        cycle(&mut sink, LONG).await;
        assert_eq!(server.seen().len(), 1, "nobody mends it within a cycle");
        cycle(&mut sink, LONG).await;
        assert_eq!(events(&server.seen()[1..]), [5.0]);
        assert_eq!(counters.dropped(), 0);
    }

    #[tokio::test]
    async fn rejected_points_are_counted() {
        let partial_success =
            Some(ExportMetricsPartialSuccess { rejected_data_points: 4, error_message: "quota".to_owned() });
        let body = ExportMetricsServiceResponse { partial_success }.encode_to_vec();
        let server = Double::start(move |_| Act::Say(answer(200, "", &body))).await;
        let (mut sink, counters, show) = sink(&server, "");
        show(snapshot(10, 7.0));
        cycle(&mut sink, LONG).await;
        assert_eq!((counters.sent(), counters.dropped()), (7, 4));
        assert!(counters.last_success().is_none());
    }

    #[tokio::test]
    async fn a_missing_token_fails_the_push_and_sends_nothing() {
        let server = Double::start(|_| ok()).await;
        let (mut sink, counters, show) = sink(&server, r#", "headers": {"authorization": "env:GONE"}"#);
        show(snapshot(10, 7.0));
        cycle(&mut sink, SHORT).await;
        assert_eq!((server.seen().len(), counters.failed()), (0, 1));
    }

    #[tokio::test]
    async fn a_dead_collector_does_not_delay_the_stop_beyond_two_seconds() {
        let server = Double::start(|_| Act::Hang).await;
        let (newest, _) = board(snapshot(10, 7.0));
        let (counters, stop) = (Arc::new(PushCounters::default()), CancellationToken::new());
        let config = Config { every: "50ms".parse().unwrap(), ..config(&server, "") };
        let mut task = start(config, newest, vault(), Arc::clone(&counters), stop.clone());
        while server.seen().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
        let began = Instant::now();
        stop.cancel();
        task.join().await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
        assert_eq!(counters.dropped(), 11);
    }

    #[tokio::test]
    async fn the_last_snapshot_is_pushed_at_the_stop() {
        let server = Double::start(|_| ok()).await;
        let (newest, show) = board(snapshot(1, 1.0));
        let stop = CancellationToken::new();
        let config = Config { every: "1h".parse().unwrap(), ..config(&server, "") };
        let mut task = start(config, newest, vault(), Arc::default(), stop.clone());
        show(snapshot(1, 9.0));
        stop.cancel();
        task.join().await.unwrap();
        assert_eq!(events(&server.seen()), [9.0]);
    }

    #[test]
    fn pauses_grow_and_are_spread() {
        for _ in 0..100 {
            let pause = jittered(FIRST_PAUSE);
            assert!((FIRST_PAUSE / 2..=FIRST_PAUSE).contains(&pause), "{pause:?}");
        }
    }
}
