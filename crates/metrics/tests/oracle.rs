//! The same values through the crates that everybody uses: the `prometheus` crate and the `OpenTelemetry` SDK.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use metrics::exposition::{Dialect, encode};
use metrics::otlp::{Encoder, Resource, Temporality};
use metrics::{Answer, Buckets, Metric, Part, Snapshot, Unit};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::Encoder as _;
use proptest::prelude::*;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

const BOUNDS: [f64; 4] = [0.1, 0.25, 1.0, 3600.0];

// The crates sort labels by name; these names stand in that order behind `check` and `target`.
static GAUGE: Metric<2> = Metric::gauge(
    "pool.waiting",
    Unit::Annotation(std::borrow::Cow::Borrowed("{client}")),
    &["user", "zone"],
    "Clients \\ that wait\nnow.",
);
static COUNTER: Metric<2> = Metric::counter("pool.sent", Unit::Bytes, &["user", "zone"], "Bytes sent.");
static HISTOGRAM: Metric<2> =
    Metric::histogram("pool.wait", Unit::Seconds, &["user", "zone"], "Time to wait.");

/// One label set with a value of each kind.
#[derive(Clone, Debug)]
struct Row {
    user: String,
    zone: String,
    gauge: f64,
    counter: f64,
    observed: Vec<f64>,
}

impl Row {
    fn labels(&self) -> [&str; 2] {
        [&self.user, &self.zone]
    }

    fn buckets(&self) -> Buckets {
        let mut buckets = Buckets { counts: vec![0; BOUNDS.len() + 1], sum: 0.0 };
        for value in &self.observed {
            buckets.counts[BOUNDS.partition_point(|bound| bound < value)] += 1;
            buckets.sum += value;
        }
        buckets
    }
}

#[expect(clippy::disallowed_methods, reason = "a starting point for arithmetic")]
fn start() -> Instant {
    Instant::now()
}

fn snapshot(rows: &[Row]) -> Snapshot {
    let mut answer = Answer::new();
    let bounds = Arc::from(BOUNDS);
    for row in rows {
        answer.set(&GAUGE, row.labels(), row.gauge);
        answer.set(&COUNTER, row.labels(), row.counter);
        answer.set_histogram(&HISTOGRAM.handle(), &row.labels(), &bounds, row.buckets());
    }
    answer.seal();
    let labels = Arc::from(shared());
    let part = Part { labels, answer, from: None, until: None, counting_since: SystemTime::UNIX_EPOCH };
    Snapshot { generation: 1, parts: vec![Arc::new(part)] }
}

fn shared() -> [(String, String); 2] {
    [("check", "pool \"one\""), ("target", "db\\1\n")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

fn by_the_prometheus_crate(rows: &[Row]) -> String {
    let opts = |name: &str, help: &str| {
        prometheus::Opts::new(name, help).const_labels(shared().into_iter().collect())
    };
    let gauge_opts = opts("pool_waiting", "Clients \\ that wait\nnow.");
    let gauges = prometheus::GaugeVec::new(gauge_opts, &["user", "zone"]).unwrap();
    let counters =
        prometheus::CounterVec::new(opts("pool_sent_bytes_total", "Bytes sent."), &["user", "zone"]).unwrap();
    let histogram_opts =
        prometheus::HistogramOpts::from(opts("pool_wait_seconds", "Time to wait.")).buckets(BOUNDS.to_vec());
    let histograms = prometheus::HistogramVec::new(histogram_opts, &["user", "zone"]).unwrap();
    for row in rows {
        gauges.with_label_values(&row.labels()).set(row.gauge);
        counters.with_label_values(&row.labels()).inc_by(row.counter);
        let histogram = histograms.with_label_values(&row.labels());
        row.observed.iter().for_each(|value| histogram.observe(*value));
    }
    let registry = prometheus::Registry::new();
    registry.register(Box::new(gauges)).unwrap();
    registry.register(Box::new(counters)).unwrap();
    registry.register(Box::new(histograms)).unwrap();
    let mut out = Vec::new();
    prometheus::TextEncoder::new().encode(&registry.gather(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Values whose spelling the crate and Prometheus share: it has no exponents and writes `inf`.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-1_000_000_000_i64..1_000_000_000).prop_map(|n| n as f64),
        (-1e12..1e12_f64).prop_filter("no exponent", |n| n.abs() >= 1e-4),
        Just(f64::NAN),
        Just(-0.0),
    ]
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let total = (0..1_000_000_u32).prop_map(|n| f64::from(n) / 8.0);
    let observed = prop::collection::vec((0..80_000_u32).prop_map(|n| f64::from(n) / 16.0), 0..6);
    let text = || "[a-c\"\\\\\n ü{},=]{0,6}";
    let row = (text(), text(), number(), total, observed)
        .prop_map(|(user, zone, gauge, counter, observed)| Row { user, zone, gauge, counter, observed });
    prop::collection::vec(row, 1..12).prop_map(|rows| {
        let mut seen = BTreeSet::new();
        // The crate tells label sets apart by a hash of their values without anything between them: to it `("", ",")` is `(",", "")`.
        rows.into_iter().filter(|row| seen.insert(format!("{}{}", row.user, row.zone))).collect()
    })
}

/// Ours, with a value spelled as theirs where both are right: of a number midway between two shortest spellings, such as
/// 223346798454.265625, we write the even one (`...26562`) and the standard library the other (`...26563`).
fn settled<'a>(ours: &'a str, theirs: &'a str) -> Vec<&'a str> {
    let tie = |one: &str, other: &str| {
        let (one, other) = (one.rsplit_once(' ')?, other.rsplit_once(' ')?);
        let last = |text: &str| text.len() - 1;
        let all_but_last = one.1.get(..last(one.1)) == other.1.get(..last(other.1));
        let same = one.1.parse::<f64>().ok()?.to_bits() == other.1.parse::<f64>().ok()?.to_bits();
        Some(one.0 == other.0 && all_but_last && same)
    };
    let pairs = ours.lines().zip(theirs.lines().map(Some).chain(std::iter::repeat(None)));
    pairs
        .map(|(ours, theirs)| theirs.filter(|theirs| tie(ours, theirs) == Some(true)).unwrap_or(ours))
        .collect()
}

fn check(rows: &[Row]) {
    let ours = String::from_utf8(encode(&snapshot(rows), start(), Dialect::Text, &[])).unwrap();
    let theirs = by_the_prometheus_crate(rows);
    assert_eq!(settled(&ours, &theirs), theirs.lines().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_text_equals_the_prometheus_crates_line_for_line(rows in rows()) {
        check(&rows);
    }
}

#[test]
fn a_number_midway_between_two_spellings_is_the_same_in_both() {
    let row =
        |gauge| Row { user: String::new(), zone: String::new(), gauge, counter: 0.0, observed: Vec::new() };
    check(&[row(-223_346_798_454.0 - 17.0 / 64.0)]);
    for (ours, theirs, expected) in [
        ("a 223346798454.26562", "a 223346798454.26563", "a 223346798454.26563"),
        ("a 1.5", "a 1.6", "a 1.5"),
        ("b 223346798454.26562", "a 223346798454.26563", "b 223346798454.26562"),
        ("a 10", "a 1e1", "a 10"),
    ] {
        assert_eq!(settled(ours, theirs), [expected], "{ours} beside {theirs}");
    }
}

/// Keeps what the exporter posts.
#[derive(Clone, Debug, Default)]
struct Collector(Arc<Mutex<Vec<Bytes>>>);

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.0.lock().unwrap().push(request.into_body());
        Ok(Response::new(Bytes::new()))
    }
}

fn by_the_sdk(rows: &[Row], temporality: Temporality) -> Vec<Bytes> {
    let collector = Collector::default();
    let exporter = opentelemetry_otlp::MetricExporter::builder()
        .with_temporality(match temporality {
            Temporality::Cumulative => opentelemetry_sdk::metrics::Temporality::Cumulative,
            Temporality::Delta => opentelemetry_sdk::metrics::Temporality::Delta,
        })
        .with_http()
        .with_http_client(collector.clone())
        .with_endpoint("http://127.0.0.1:4318/v1/metrics")
        .build()
        .unwrap();
    let reader = PeriodicReader::builder(exporter).with_interval(Duration::from_hours(1)).build();
    let resource = opentelemetry_sdk::Resource::builder_empty()
        .with_attribute(KeyValue::new("service.name", "datapulse"))
        .build();
    let provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();
    let meter = provider.meter("datapulse");
    let help = "Clients \\ that wait\nnow.";
    let gauge = meter.f64_gauge("pool.waiting").with_unit("{client}").with_description(help).build();
    let counter = meter.f64_counter("pool.sent").with_unit("By").with_description("Bytes sent.").build();
    let histogram = meter.f64_histogram("pool.wait").with_unit("s").with_description("Time to wait.");
    let histogram = histogram.with_boundaries(BOUNDS.to_vec()).build();
    for row in rows {
        let [check, target] = shared().map(|(name, value)| KeyValue::new(name, value));
        let labels =
            [check, target, KeyValue::new("user", row.user.clone()), KeyValue::new("zone", row.zone.clone())];
        gauge.record(row.gauge, &labels);
        counter.add(row.counter, &labels);
        row.observed.iter().for_each(|value| histogram.record(*value, &labels));
    }
    provider.force_flush().unwrap();
    let bodies = collector.0.lock().unwrap().clone();
    provider.shutdown().unwrap();
    bodies
}

/// All that two exports of the same values must have in common: everything but times, minimum and maximum.
fn told<B: AsRef<[u8]>>(bodies: &[B]) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    for body in bodies {
        for resource in ExportMetricsServiceRequest::decode(body.as_ref()).unwrap().resource_metrics {
            let owner = format!("{:?}", resource.resource.unwrap().attributes);
            for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let head = format!("{owner} {} {:?} {:?}", metric.name, metric.unit, metric.description);
                let points: Vec<_> = match metric.data.unwrap() {
                    Data::Gauge(gauge) => gauge
                        .data_points
                        .into_iter()
                        .map(|p| ("gauge".to_owned(), p.attributes, format!("{:?}", p.value)))
                        .collect(),
                    Data::Sum(sum) => {
                        let kind = format!("sum {} {}", sum.aggregation_temporality, sum.is_monotonic);
                        sum.data_points
                            .into_iter()
                            .map(|p| (kind.clone(), p.attributes, format!("{:?}", p.value)))
                            .collect()
                    }
                    Data::Histogram(histogram) => {
                        let kind = format!("histogram {}", histogram.aggregation_temporality);
                        let value = |p: &opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint| {
                            format!("{} {:?} {:?} {:?}", p.count, p.sum, p.bucket_counts, p.explicit_bounds)
                        };
                        histogram
                            .data_points
                            .into_iter()
                            .map(|p| (kind.clone(), p.attributes.clone(), value(&p)))
                            .collect()
                    }
                    other => panic!("never sent: {other:?}"),
                };
                for (kind, mut attributes, value) in points {
                    attributes.sort_by(|one, other| one.key.cmp(&other.key));
                    let series = format!("{head} {kind} {attributes:?}");
                    assert_eq!(told.insert(series, value), None, "a point twice");
                }
            }
        }
    }
    told
}

#[test]
fn otlp_decodes_equal_to_the_sdks() {
    let row = |user: &str, gauge, counter, observed: &[f64]| Row {
        user: user.to_owned(),
        zone: "a,b|c\"\n".to_owned(),
        gauge,
        counter,
        observed: observed.to_vec(),
    };
    let rows = [
        row("", 0.0, 0.0, &[0.1, 0.11, 5000.0]),
        row("ü", -1.5, 3.25, &[1.0]),
        row("root", 1e300, 1e15, &[0.0, 0.25, 0.25, 7.0]),
    ];
    let resource = Resource { attributes: vec![("service.name".to_owned(), "datapulse".to_owned())] };
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let ours =
            Encoder::new(&resource, temporality).encode(&snapshot(&rows), start(), SystemTime::UNIX_EPOCH);
        let ours = told(&ours);
        assert_eq!(ours.len(), 9);
        assert_eq!(ours, told(&by_the_sdk(&rows, temporality)));
    }
}
