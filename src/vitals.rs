//! Our own instruments: build, process, configuration, secrets, pushes and HTTP, as families like all others.

use crate::alerts::counters::{self, Counters};
use crate::board::Board;
use crate::config::secret::Vault;
use crate::http::HttpCounters;
use crate::net::aws::Aws;
use crate::sinks::PushCounters;
use metrics::{Answer, Family, Handle, Kind, Labels, Metric, Origin, Unit};
use prometheus::core::Collector;
use prometheus::proto::MetricType;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often the instruments are read: as often as Prometheus asks by default. Reading `/proc` costs as much as half a check.
pub const EVERY: Duration = Duration::from_secs(15);

static BUILD_INFO: Metric<1> =
    Metric::gauge("datapulse.build.info", Unit::None, &["version"], "Always 1; the version as a label");
static RELOAD_SUCCESSFUL: Metric<0> = Metric::gauge(
    "datapulse.config.last_reload_successful",
    Unit::None,
    &[],
    "1 when the last reload of the configuration took effect, 0 when it had faults and the old one stayed",
);
static RELOAD_SUCCESS_TIME: Metric<0> = Metric::gauge(
    "datapulse.config.last_reload_success_timestamp",
    Unit::Seconds,
    &[],
    "Unix time of the last configuration that took effect",
);
static SECRET_UP: Metric<1> = Metric::gauge(
    "datapulse.secret.up",
    Unit::None,
    &["secret"],
    "1 when the last reading of the secret worked, 0 when the old value is still in use or there is none",
);
static PUSH_SENT: Metric<1> = Metric::counter(
    "datapulse.push.sent",
    Unit::None,
    &["sink"],
    "Points handed over to the receiver; over UDP nobody knows whether they arrived",
);
static PUSH_FAILED: Metric<1> =
    Metric::counter("datapulse.push.failed", Unit::None, &["sink"], "Pushes that failed");
static PUSH_DROPPED: Metric<1> = Metric::counter(
    "datapulse.push.dropped",
    Unit::None,
    &["sink"],
    "Points given up, or rejected by the receiver",
);
static PUSH_LAST_SUCCESS: Metric<1> = Metric::gauge(
    "datapulse.push.last_success_timestamp",
    Unit::Seconds,
    &["sink"],
    "Unix time of the last push that worked; absent before the first",
);
static HTTP_REQUESTS: Metric<0> =
    Metric::counter("datapulse.http.requests", Unit::None, &[], "HTTP requests answered");
static HTTP_CONNECTIONS: Metric<0> =
    Metric::gauge("datapulse.http.connections", Unit::None, &[], "Open HTTP connections");
static HTTP_REJECTED: Metric<0> = Metric::counter(
    "datapulse.http.rejected_connections",
    Unit::None,
    &[],
    "HTTP connections closed at once because too many were open",
);
static HTTP_ACCEPT_FAILURES: Metric<0> = Metric::counter(
    "datapulse.http.accept_failures",
    Unit::None,
    &[],
    "HTTP connections that could not be accepted, as for want of file descriptors",
);
static HTTP_HANDSHAKE_FAILURES: Metric<0> = Metric::counter(
    "datapulse.http.handshake_failures",
    Unit::None,
    &[],
    "TLS handshakes of HTTP connections that failed or took too long",
);
static HTTP_UNAUTHORIZED: Metric<0> = Metric::counter(
    "datapulse.http.unauthorized_requests",
    Unit::None,
    &[],
    "HTTP requests refused for want of the right user and password",
);

/// What a reload leaves behind for the instruments.
#[derive(Debug)]
pub struct Reloads {
    successful: AtomicBool,
    /// Unix seconds.
    last_success: AtomicU64,
    /// Whoever reloads looks at the result at once, and not at the next [`EVERY`].
    noted: Notify,
}

impl Reloads {
    /// A configuration has just taken effect.
    pub fn new(now: jiff::Timestamp) -> Self {
        let reloads =
            Self { successful: AtomicBool::new(true), last_success: AtomicU64::new(0), noted: Notify::new() };
        reloads.note(true, now);
        reloads
    }

    /// Notes how a reload went.
    pub fn note(&self, successful: bool, now: jiff::Timestamp) {
        self.successful.store(successful, Ordering::Relaxed);
        if successful {
            self.last_success.store(u64::try_from(now.as_second()).unwrap_or_default(), Ordering::Relaxed);
        }
        self.noted.notify_one();
    }
}

/// A sink's counters, which outlive a reload; shown while the sink is configured.
#[derive(Debug)]
pub struct Push {
    sink: &'static str,
    counters: Arc<PushCounters>,
    configured: AtomicBool,
}

impl Push {
    /// A sink that is not configured yet.
    pub fn new(sink: &'static str) -> Self {
        Self { sink, counters: Arc::default(), configured: AtomicBool::new(false) }
    }

    /// The sink starts: gives it its counters.
    pub fn start(&self) -> Arc<PushCounters> {
        self.configured.store(true, Ordering::Relaxed);
        Arc::clone(&self.counters)
    }

    /// The sink has ended.
    pub fn end(&self) {
        self.configured.store(false, Ordering::Relaxed);
    }
}

/// Everything that is read for the instruments.
pub struct Vitals {
    /// How reloads went.
    pub reloads: Arc<Reloads>,
    /// Secrets and whether they could be read.
    pub vault: Arc<Vault>,
    /// The HTTP server's counters.
    pub http: Arc<HttpCounters>,
    /// The sinks.
    pub pushes: Vec<Arc<Push>>,
    /// What was told to Slack.
    pub notify: Arc<Counters>,
    process: Process,
}

impl Vitals {
    /// Instruments of this process.
    pub fn new(
        reloads: Arc<Reloads>,
        vault: Arc<Vault>,
        http: Arc<HttpCounters>,
        pushes: Vec<Arc<Push>>,
        notify: Arc<Counters>,
    ) -> Self {
        Self { reloads, vault, http, pushes, notify, process: Process::default() }
    }

    /// Reads all instruments and puts them on the board, again and again. Ends only with its task.
    pub async fn live(mut self, board: Arc<Board>) {
        loop {
            board.vitals(self.read());
            self.rest(&board).await;
        }
    }

    /// Waits until the instruments are due. Right after a report is the best moment: waking an idle process up by a timer of
    /// its own costs more than the reading. Without reports it takes twice as long.
    async fn rest(&self, board: &Board) {
        let due = Instant::now() + EVERY;
        loop {
            tokio::select! {
                () = board.reported() => if Instant::now() >= due { return },
                () = tokio::time::sleep_until(due + EVERY) => return,
                () = self.reloads.noted.notified() => return,
            }
        }
    }

    fn read(&mut self) -> Answer {
        let mut answer = Answer::new();
        build(&mut answer);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        answer.set(
            &RELOAD_SUCCESSFUL,
            [],
            f64::from(u8::from(self.reloads.successful.load(Ordering::Relaxed))),
        );
        answer.set(&RELOAD_SUCCESS_TIME, [], count(&self.reloads.last_success));
        for (secret, up) in self.vault.states() {
            answer.set(&SECRET_UP, [&secret], f64::from(u8::from(up)));
        }
        for push in self.pushes.iter().filter(|push| push.configured.load(Ordering::Relaxed)) {
            let (sink, counters) = ([push.sink], &push.counters);
            answer.set(&PUSH_SENT, sink, counters.sent() as f64);
            answer.set(&PUSH_FAILED, sink, counters.failed() as f64);
            answer.set(&PUSH_DROPPED, sink, counters.dropped() as f64);
            answer.set_some(&PUSH_LAST_SUCCESS, sink, counters.last_success().map(|seconds| seconds as f64));
        }
        self.notify.tell(&mut answer, jiff::Timestamp::now());
        self.vault.aws().calls().tell(&mut answer);
        answer.set(&HTTP_REQUESTS, [], count(&self.http.requests));
        answer.set(&HTTP_CONNECTIONS, [], count(&self.http.connections));
        answer.set(&HTTP_REJECTED, [], count(&self.http.rejected));
        answer.set(&HTTP_ACCEPT_FAILURES, [], count(&self.http.accept_failures));
        answer.set(&HTTP_HANDSHAKE_FAILURES, [], count(&self.http.handshake_failures));
        answer.set(&HTTP_UNAUTHORIZED, [], count(&self.http.unauthorized));
        self.process.read(&mut answer);
        answer
    }
}

/// `datapulse_build_info`.
fn build(answer: &mut Answer) {
    answer.set(&BUILD_INFO, [env!("CARGO_PKG_VERSION")], 1.0);
}

/// The families of the instruments, for the catalogue.
pub fn families() -> Vec<Handle> {
    let mut process = Process::default();
    process.read(&mut Answer::new());
    let mut families = vec![
        BUILD_INFO.handle(),
        RELOAD_SUCCESSFUL.handle(),
        RELOAD_SUCCESS_TIME.handle(),
        SECRET_UP.handle(),
        PUSH_SENT.handle(),
        PUSH_FAILED.handle(),
        PUSH_DROPPED.handle(),
        PUSH_LAST_SUCCESS.handle(),
        HTTP_REQUESTS.handle(),
        HTTP_CONNECTIONS.handle(),
        HTTP_REJECTED.handle(),
        HTTP_ACCEPT_FAILURES.handle(),
        HTTP_HANDSHAKE_FAILURES.handle(),
        HTTP_UNAUTHORIZED.handle(),
    ];
    families.extend(counters::families());
    families.extend(Aws::families());
    families.extend(process.families.into_values().map(Handle::Configured));
    families
}

/// The process collector of the prometheus crate, and the families that its names become.
struct Process {
    collector: prometheus::process_collector::ProcessCollector,
    families: BTreeMap<String, Arc<Family>>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            collector: prometheus::process_collector::ProcessCollector::for_self(),
            families: BTreeMap::new(),
        }
    }
}

impl Process {
    fn read(&mut self, answer: &mut Answer) {
        for gathered in self.collector.collect() {
            let counter = gathered.get_field_type() == MetricType::COUNTER;
            let family = self
                .families
                .entry(gathered.name().to_owned())
                .or_insert_with(|| Arc::new(family(gathered.name(), gathered.help(), counter)));
            for metric in gathered.get_metric() {
                let value =
                    if counter { metric.get_counter().get_value() } else { metric.get_gauge().get_value() };
                answer.set_configured(family, &[], value);
            }
        }
    }
}

/// `process_cpu_seconds_total` and its like as a family: a dot after the first word, unit and `_total` taken off.
fn family(name: &str, help: &str, counter: bool) -> Family {
    let stem = name.strip_suffix("_total").unwrap_or(name);
    let (stem, unit) = match (stem.strip_suffix("_seconds"), stem.strip_suffix("_bytes")) {
        (Some(stem), _) => (stem, Unit::Seconds),
        (_, Some(stem)) => (stem, Unit::Bytes),
        _ => (stem, Unit::None),
    };
    Family {
        name: Cow::Owned(stem.replacen('_', ".", 1)),
        unit,
        kind: if counter { Kind::Counter(Origin::Ours) } else { Kind::Gauge },
        labels: Labels::Built(&[]),
        help: Cow::Owned(help.to_owned()),
        pushed: true,
        total: false,
        datadog_name: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_process_collector_stay_what_they_are_in_prometheus() {
        for (name, counter) in [
            ("process_cpu_seconds_total", true),
            ("process_open_fds", false),
            ("process_resident_memory_bytes", false),
        ] {
            assert_eq!(family(name, "", counter).prometheus(), name);
        }
    }

    #[test]
    fn every_family_of_the_list_is_told_and_no_other() {
        let http = Arc::new(HttpCounters::default());
        http.unauthorized.store(3, Ordering::Relaxed);
        let vault = Vault::new(Arc::new(|_| None), std::path::Path::new("/"));
        let reloads = Arc::new(Reloads::new(jiff::Timestamp::UNIX_EPOCH));
        let push = Push::new("otlp");
        push.start();
        let notify = Arc::new(Counters::default());
        notify.configure(true);
        let answer = Vitals::new(reloads, Arc::new(vault), http, vec![Arc::new(push)], notify).read();
        let told: Vec<String> = answer.columns().iter().map(|column| column.family().prometheus()).collect();
        // Absent until there is a secret, until a push has worked, and until AWS is asked for something.
        let absent = [SECRET_UP.handle(), PUSH_LAST_SUCCESS.handle(), crate::net::aws::CALLS.handle()]
            .map(|family| family.prometheus());
        let listed = families().into_iter().map(|family| family.prometheus());
        let mut listed: Vec<String> = listed.filter(|name| !absent.contains(name)).collect();
        let mut told_sorted = told.clone();
        told_sorted.sort();
        listed.sort();
        assert_eq!(told_sorted, listed);
        let at = told.iter().position(|name| name == "datapulse_http_unauthorized_requests_total").unwrap();
        assert!(
            matches!(answer.columns()[at].values(), metrics::Values::Numbers(numbers) if numbers == &[3.0])
        );
    }

    #[test]
    fn the_process_has_memory_and_files() {
        let names: Vec<String> = families().iter().map(|family| family.prometheus()).collect();
        assert!(names.contains(&"process_resident_memory_bytes".to_owned()), "{names:?}");
        assert!(names.contains(&"process_open_fds".to_owned()), "{names:?}");
    }
}
