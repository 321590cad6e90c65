//! The three spellings carry equal names and values: each is read back by a reader of its own and compared.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use metrics::delta::Deltas;
use metrics::dogstatsd::{self, Options};
use metrics::exposition::{Dialect, encode};
use metrics::otlp::{Encoder, MOST_POINTS_A_METRIC, MOST_POINTS_A_REQUEST, Resource, Temporality};
use metrics::{Answer, Buckets, Metric, Part, Snapshot, Unit};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsDouble;
use proptest::prelude::*;
use prost::Message;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

static GAUGE: Metric<2> = Metric::gauge("pg.inflight.oldest", Unit::Seconds, &["user", "state"], "h");
static COUNTER: Metric<2> = Metric::counter("pg.log.messages", Unit::None, &["user", "state"], "h");
static HISTOGRAM: Metric<2> =
    Metric::histogram("mysql.slow_query.duration", Unit::Seconds, &["user", "state"], "h");
static HELD_BACK: Metric<0> = Metric::gauge("pg.position", Unit::Bytes, &[], "h").not_pushed();

/// Dotted and Prometheus names, written out so that a mistake in deriving one from the other shows.
const NAMES: [(&str, &str); 3] = [
    ("pg.inflight.oldest", "pg_inflight_oldest_seconds"),
    ("pg.log.messages", "pg_log_messages_total"),
    ("mysql.slow_query.duration", "mysql_slow_query_duration_seconds"),
];

/// A sample under its Prometheus name, its labels sorted, a bound as `le` in Rust's spelling, the value as bits.
type Sample = (String, Vec<(String, String)>, u64);

#[derive(Clone, Debug)]
struct Row {
    check: String,
    labels: [String; 2],
    gauge: f64,
    counter: f64,
    buckets: Buckets,
}

fn snapshot(rows: &[Row]) -> Snapshot {
    let bounds: Arc<[f64]> = Arc::from([-0.5, 0.1, 1.0, 3600.0, 2e6, 1e17]);
    let parts = rows.iter().map(|row| {
        let mut answer = Answer::new();
        let labels = row.labels.each_ref().map(String::as_str);
        answer.set(&HELD_BACK, [], 5.0);
        answer.set(&GAUGE, labels, row.gauge);
        answer.set(&COUNTER, labels, row.counter);
        answer.set_histogram(&HISTOGRAM.handle(), &labels, &bounds, row.buckets.clone());
        let labels = Arc::from([("check".to_owned(), row.check.clone())]);
        Arc::new(Part { labels, answer, from: None, until: None, counting_since: SystemTime::UNIX_EPOCH })
    });
    Snapshot { generation: 1, parts: parts.collect() }
}

#[expect(clippy::disallowed_methods, reason = "a starting point for arithmetic")]
fn start() -> Instant {
    Instant::now()
}

fn sample(name: String, mut labels: Vec<(String, String)>, value: f64) -> Sample {
    labels.retain(|(_, value)| !value.is_empty());
    labels.sort();
    (name, labels, value.to_bits())
}

fn bound(text: &str) -> String {
    text.parse::<f64>().unwrap().to_string()
}

/// A strict reader of both text formats.
fn read_text(body: &str) -> Vec<Sample> {
    body.lines().filter(|line| !line.starts_with("# ")).map(read_line).collect()
}

fn read_line(line: &str) -> Sample {
    let (name, mut rest) = line.split_at(line.find(['{', ' ']).unwrap());
    let mut labels = Vec::new();
    while let Some(inside) = rest.strip_prefix(['{', ',']) {
        let (label, after) = inside.split_once("=\"").unwrap();
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    other => panic!("unknown escape {other:?} in {line}"),
                }),
                (_, char) => value.push(char),
            }
        };
        labels.push((label.to_owned(), if label == "le" { bound(&value) } else { value }));
        rest = &after[end + 1..];
    }
    let value = rest.strip_prefix('}').unwrap_or(rest).strip_prefix(' ').unwrap();
    sample(name.to_owned(), labels, value.parse().unwrap())
}

fn prometheus_name(dotted: &str) -> String {
    let (_, name) = NAMES.iter().find(|(name, _)| *name == dotted).unwrap_or_else(|| panic!("{dotted}"));
    (*name).to_owned()
}

fn read_otlp(bodies: &[Vec<u8>]) -> Vec<Sample> {
    let requests = bodies.iter().map(|body| ExportMetricsServiceRequest::decode(body.as_slice()).unwrap());
    let resources = requests.flat_map(|request| request.resource_metrics);
    let metrics = resources.flat_map(|resource| resource.scope_metrics).flat_map(|scope| scope.metrics);
    let mut out = Vec::new();
    for metric in metrics {
        let name = prometheus_name(&metric.name);
        let numbers = match metric.data.unwrap() {
            Data::Gauge(gauge) => gauge.data_points,
            Data::Sum(sum) => sum.data_points,
            Data::Histogram(histogram) => {
                for point in histogram.data_points {
                    let labels = attributes(&point.attributes);
                    let mut below = 0;
                    let bounds = point.explicit_bounds.iter().copied().chain([f64::INFINITY]);
                    for (bound, count) in bounds.zip(&point.bucket_counts) {
                        below += count;
                        let mut labels = labels.clone();
                        labels.push(("le".to_owned(), bound.to_string()));
                        out.push(sample(format!("{name}_bucket"), labels, below as f64));
                    }
                    out.push(sample(format!("{name}_sum"), labels.clone(), point.sum.unwrap()));
                    out.push(sample(format!("{name}_count"), labels, point.count as f64));
                }
                continue;
            }
            other => panic!("never sent: {other:?}"),
        };
        for point in numbers {
            let Some(AsDouble(value)) = point.value else { panic!("a float") };
            out.push(sample(name.clone(), attributes(&point.attributes), value));
        }
    }
    out
}

fn attributes(pairs: &[KeyValue]) -> Vec<(String, String)> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(StringValue(value)) => (pair.key.clone(), value.clone()),
        other => panic!("text, not {other:?}"),
    };
    pairs.iter().map(text).collect()
}

fn read_dogstatsd(line: &str) -> Sample {
    let [head, kind, tags] = line.split('|').collect::<Vec<_>>()[..] else {
        panic!("three fields: {line:?}")
    };
    let (name, value) = head.split_once(':').unwrap();
    let tags = tags.strip_prefix('#').unwrap().split(',').map(|tag| tag.split_once(':').unwrap());
    let rename = |(name, value): (&str, &str)| match name {
        "upper_bound" => ("le".to_owned(), bound(value)),
        _ => (name.to_owned(), value.to_owned()),
    };
    let part = ["count", "sum", "bucket"]
        .into_iter()
        .find_map(|part| Some((name.strip_suffix(part)?.strip_suffix('.')?, part)));
    let name = match part {
        Some((family, part)) => format!("{}_{part}", prometheus_name(family)),
        None => prometheus_name(name),
    };
    assert_eq!(kind, if name == "pg_inflight_oldest_seconds" { "g" } else { "c" });
    sample(name, tags.map(rename).collect(), value.parse().unwrap())
}

/// What `DogStatsD` can carry of a label value.
fn cleaned((name, labels, value): Sample) -> Sample {
    let clean = |(name, value): (String, String)| {
        let value =
            value.chars().take(200).map(|c| if "|,#".contains(c) || c.is_control() { '_' } else { c });
        (name, value.collect())
    };
    let mut labels: Vec<(String, String)> = labels.into_iter().map(clean).collect();
    labels.sort();
    (name, labels, value)
}

fn sorted(samples: impl IntoIterator<Item = Sample>) -> Vec<Sample> {
    let mut samples: Vec<Sample> = samples.into_iter().collect();
    samples.sort();
    samples
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let label = || {
        prop_oneof![
            any::<String>(),
            "[|,:#@\n\r\t\0\"\\\\{}= a]{0,8}",
            Just("x|g\nfake.metric:1|c".to_owned()),
            (195..205_usize).prop_map(|length| "ü".repeat(length)),
        ]
    };
    let value = prop_oneof![8 => any::<f64>(), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(f64::NEG_INFINITY)];
    let total = prop_oneof![Just(0.0), 0.0..1e18_f64, (0..1000_u32).prop_map(f64::from)];
    let buckets = (prop::collection::vec(0..1000_u64, 7), 0.0..1e9_f64)
        .prop_map(|(counts, sum)| Buckets { counts, sum });
    let row = (label(), label(), label(), value, total, buckets).prop_map(
        |(check, one, two, gauge, counter, buckets)| Row {
            check,
            labels: [one, two],
            gauge,
            counter,
            buckets,
        },
    );
    prop::collection::vec(row, 1..6).prop_map(|rows| {
        let mut seen = BTreeSet::new();
        rows.into_iter().filter(|row| seen.insert(row.check.clone())).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_and_values_are_equal_in_all_three_spellings(rows in rows()) {
        let (snapshot, now) = (snapshot(&rows), start());
        let text = String::from_utf8(encode(&snapshot, now, Dialect::Text, &[])).unwrap();
        let openmetrics = String::from_utf8(encode(&snapshot, now, Dialect::OpenMetrics, &[])).unwrap();
        let bodies = Encoder::new(&Resource::default(), Temporality::Cumulative).encode(&snapshot, now, SystemTime::UNIX_EPOCH);
        let mut lines = Vec::new();
        dogstatsd::render(&snapshot, now, &Options::default(), &mut Deltas::new(), &mut |line| lines.push(line.to_owned()));

        let text = read_text(&text);
        prop_assert_eq!(text.iter().filter(|(name, ..)| name == "pg_position_bytes").count(), rows.len());
        prop_assert_eq!(sorted(text.clone()), sorted(read_text(&openmetrics)));

        let pushed = |(name, _, value): &Sample| name != "pg_position_bytes" && !f64::from_bits(*value).is_nan();
        let text = sorted(text.into_iter().filter(pushed));
        prop_assert_eq!(&text, &sorted(read_otlp(&bodies)));

        // An infinite bound is the count, which has a line of its own.
        let last = |labels: &[(String, String)]| labels.iter().any(|(name, value)| name == "le" && value == "inf");
        let fits = |(_, labels, value): &Sample| f64::from_bits(*value).is_finite() && !last(labels);
        let text = sorted(text.into_iter().filter(fits).map(cleaned));
        prop_assert_eq!(text, sorted(lines.iter().map(|line| read_dogstatsd(line))));
    }
}

#[test]
fn differences_add_up_to_the_totals() {
    let now = start();
    let (mut encoder, mut deltas) = (Encoder::new(&Resource::default(), Temporality::Delta), Deltas::new());
    let (mut pushed, mut emitted) = (0.0, 0.0);
    for total in [3.0, 3.0, 10.0, 2.0, 4.5] {
        let mut answer = Answer::new();
        answer.set(&COUNTER, ["", ""], total);
        let part = Part {
            labels: Arc::from([]),
            answer,
            from: None,
            until: None,
            counting_since: SystemTime::UNIX_EPOCH,
        };
        let snapshot = Snapshot { generation: 0, parts: vec![Arc::new(part)] };
        let values =
            |samples: Vec<Sample>| samples.iter().map(|(.., bits)| f64::from_bits(*bits)).sum::<f64>();
        pushed += values(read_otlp(&encoder.encode(&snapshot, now, SystemTime::UNIX_EPOCH)));
        let read = |line: &str| line.split([':', '|']).nth(1).unwrap().parse::<f64>().unwrap();
        dogstatsd::render(&snapshot, now, &Options::default(), &mut deltas, &mut |line| {
            emitted += read(line);
        });
    }
    assert_eq!((pushed, emitted), (14.5, 14.5));
}

#[test]
fn restored_totals_are_not_told_a_second_time() {
    let (now, mut encoder, mut deltas) =
        (start(), Encoder::new(&Resource::default(), Temporality::Delta), Deltas::new());
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    let row = |counter, count| Row {
        check: "slow".to_owned(),
        labels: ["u".to_owned(), "s".to_owned()],
        gauge: f64::NAN,
        counter,
        buckets: Buckets { counts: vec![count, 0, 0, 0, 0, 0, 0], sum: count as f64 },
    };
    encoder.remember(&snapshot(&[row(500.0, 40)]), now, wall);
    deltas.remember(&snapshot(&[row(500.0, 40)]), now);
    let later = snapshot(&[row(502.0, 41)]);
    let mut lines = Vec::new();
    dogstatsd::render(&later, now, &Options::default(), &mut deltas, &mut |line| lines.push(line.to_owned()));
    assert_eq!(
        lines[..2],
        [
            "mysql.slow_query.duration.count:1|c|#check:slow,user:u,state:s",
            "mysql.slow_query.duration.sum:1|c|#check:slow,user:u,state:s"
        ]
    );
    assert_eq!(lines.last().unwrap(), "pg.log.messages:2|c|#check:slow,user:u,state:s");
    let told = read_otlp(&encoder.encode(&later, now, wall));
    let values: Vec<f64> = told
        .iter()
        .filter(|(name, ..)| !name.ends_with("_bucket"))
        .map(|(.., bits)| f64::from_bits(*bits))
        .collect();
    assert_eq!(values, [1.0, 1.0, 2.0]);
}

#[test]
fn many_points_go_in_several_requests_and_messages() {
    let mut answer = Answer::new();
    for at in 0..25_001 {
        answer.set(&GAUGE, [&at.to_string(), ""], f64::from(at));
    }
    answer.set(&COUNTER, ["", ""], 1.0);
    let part = Part {
        labels: Arc::from([]),
        answer,
        from: None,
        until: None,
        counting_since: SystemTime::UNIX_EPOCH,
    };
    let snapshot = Snapshot { generation: 0, parts: vec![Arc::new(part)] };
    let bodies = Encoder::new(&Resource::default(), Temporality::Cumulative).encode(
        &snapshot,
        start(),
        SystemTime::UNIX_EPOCH,
    );
    let points: Vec<Vec<usize>> = bodies
        .iter()
        .map(|body| {
            let request = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
            let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
            let points = |data: &Data| match data {
                Data::Gauge(gauge) => gauge.data_points.len(),
                Data::Sum(sum) => sum.data_points.len(),
                other => panic!("never sent: {other:?}"),
            };
            metrics.iter().map(|metric| points(metric.data.as_ref().unwrap())).collect()
        })
        .collect();
    assert_eq!(points, [vec![2000; 5], vec![2000; 5], vec![2000, 2000, 1001, 1]]);
    assert_eq!((MOST_POINTS_A_METRIC, MOST_POINTS_A_REQUEST), (2000, 10_000));
}

#[test]
fn nothing_to_tell_makes_no_request() {
    let nothing = |snapshot: &Snapshot| {
        let mut encoder = Encoder::new(&Resource::default(), Temporality::Cumulative);
        encoder.encode(snapshot, start(), SystemTime::UNIX_EPOCH)
    };
    assert!(nothing(&Snapshot::default()).is_empty());
    let mut answer = Answer::new();
    answer.set(&GAUGE, ["", ""], f64::NAN);
    answer.set(&HELD_BACK, [], 1.0);
    let part = Part {
        labels: Arc::from([]),
        answer,
        from: None,
        until: None,
        counting_since: SystemTime::UNIX_EPOCH,
    };
    assert!(nothing(&Snapshot { generation: 0, parts: vec![Arc::new(part)] }).is_empty());
}
