//! The same rows in every spelling, against files; `UPDATE=1` rewrites them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use metrics::delta::Deltas;
use metrics::dogstatsd::{self, Options};
use metrics::exposition::{Dialect, encode};
use metrics::otlp::{Encoder, Resource, Temporality};
use metrics::{Answer, Buckets, Family, Kind, Labels, Metric, Part, Snapshot, Unit};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsDouble;
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, NumberDataPoint};
use prost::Message;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static BUILD: Metric<1> =
    Metric::gauge("datapulse.build.info", Unit::None, &["version"], "What runs; always 1. From the build.");
static UP: Metric<0> = Metric::gauge("datapulse.check.up", Unit::None, &[], "Whether the last run was good.");
static RUNS: Metric<0> = Metric::counter("datapulse.check.runs", Unit::None, &[], "Runs of the check.");
static AGE: Metric<2> = Metric::gauge(
    "pg.stat_subscription.last_msg_send_age",
    Unit::Seconds,
    &["datname", "subname"],
    "Age of the last message; last_msg_send_time of pg_stat_subscription. A \\ and a \"quote\"\nand a line.",
);
static LSN: Metric<2> = Metric::gauge(
    "pg.stat_subscription.received_lsn",
    Unit::Bytes,
    &["datname", "subname"],
    "Last position received; received_lsn of pg_stat_subscription.",
)
.not_pushed();
static ERRORS: Metric<2> = Metric::source_counter(
    "pg.stat_subscription.apply_errors",
    Unit::None,
    &["datname", "subname"],
    "Errors while applying; apply_error_count of pg_stat_subscription_stats.",
);
static DURATION: Metric<1> = Metric::histogram(
    "mysql.slow_query.duration",
    Unit::Seconds,
    &["log_group"],
    "Duration of slow queries; Query_time of the log.",
);

/// Two checks with the same configured family have a family object each.
fn connections() -> Arc<Family> {
    Arc::new(Family {
        name: "device.connections".into(),
        unit: Unit::Annotation("{device}".into()),
        kind: Kind::Gauge,
        labels: Labels::Configured(vec!["country".to_owned()]),
        help: "Devices connected; count(distinct device) of the table.".into(),
        pushed: true,
        total: false,
        datadog_name: Some("mccs.connection.hour.count".to_owned()),
    })
}

fn part(labels: &[(&str, &str)], fill: impl FnOnce(&mut Answer)) -> Part {
    let mut answer = Answer::new();
    fill(&mut answer);
    answer.seal();
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Part { labels, answer, from: None, until: None, counting_since: began() }
}

fn began() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

/// `round` 0 and 1 are two cycles: totals go on, one of the source's falls, one histogram stands still.
fn snapshot(now: Instant, round: u32) -> Snapshot {
    let later = f64::from(round);
    let build = part(&[], |answer| answer.set(&BUILD, ["0.1.0"], 1.0));
    let devices = part(&[("check", "devices")], |answer| {
        let family = connections();
        answer.set_configured(&family, &["JP"], 1200.0 + later);
        answer.set_configured(&family, &["TH"], 0.5);
        answer.set_configured(&family, &[""], f64::NAN);
        answer.set(&UP, [], 1.0);
        answer.set(&RUNS, [], 7.0 + later);
    });
    let more_devices = part(&[("check", "devices_south")], |answer| {
        let family = connections();
        answer.set_configured(&family, &["NZ"], f64::INFINITY);
        answer.set_configured(&family, &["a\\b\"c\nd|e,f#g:h"], f64::NEG_INFINITY);
        answer.set(&UP, [], 0.0);
        answer.set(&RUNS, [], 0.0);
    });
    let slow = part(&[("check", "slow")], |answer| {
        let (bounds, family) = (Arc::from([0.1, 0.25, 1.0, 3600.0]), DURATION.handle());
        let busy = Buckets { counts: vec![1, 0, 4, 0, u64::from(round)], sum: 4.125 + 9000.0 * later };
        answer.set_histogram(&family, &["/aws/rds/a"], &bounds, busy);
        let quiet = Buckets { counts: vec![0; 5], sum: 0.0 };
        answer.set_histogram(&family, &["/aws/rds/b"], &bounds, quiet);
    });
    let labels = [("check", "orders"), ("target", "orders-sub"), ("team", "core")];
    let orders = part(&labels, |answer| {
        answer.set(&AGE, ["app", "orders_sub"], 0.015_25);
        answer.set(&AGE, ["app", "audit_sub"], -2.0);
        answer.set(&LSN, ["app", "orders_sub"], 1_234_567_890_123.0);
        answer.set(&ERRORS, ["app", "orders_sub"], 40.0 + 2.0 * later);
        answer.set(&ERRORS, ["app", "audit_sub"], 3.0 - later);
    });
    let again = part(&labels, |answer| answer.set(&AGE, ["app", "orders_sub"], 99.0));
    let mut expired = part(&[("check", "expired")], |answer| answer.set(&UP, [], 1.0));
    expired.until = Some(now);
    let mut shadow = part(&[("check", "shadow"), ("datname", "of the target")], |answer| {
        answer.set(&AGE, ["of the family", "s"], 1e22);
    });
    shadow.from = Some(now);
    let parts = [build, devices, more_devices, expired, orders, again, shadow, slow];
    Snapshot { generation: u64::from(round), parts: parts.into_iter().map(Arc::new).collect() }
}

#[expect(clippy::disallowed_methods, reason = "a starting point for arithmetic")]
fn start() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the one switch of the golden files")]
fn check(file: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{file} differs; UPDATE=1 rewrites it\n--- expected\n{expected}\n--- got\n{text}"
    );
}

fn body(dialect: Dialect, checks: &[&str]) -> String {
    let now = start();
    let checks: Vec<String> = checks.iter().map(|name| (*name).to_owned()).collect();
    String::from_utf8(encode(&snapshot(now, 0), now, dialect, &checks)).unwrap()
}

#[test]
fn text() {
    check("text.txt", &body(Dialect::Text, &[]));
}

#[test]
fn openmetrics() {
    check("openmetrics.txt", &body(Dialect::OpenMetrics, &[]));
}

#[test]
fn some_checks() {
    check("some_checks.txt", &body(Dialect::Text, &["orders", "slow"]));
}

#[test]
fn an_unknown_check_shows_nothing() {
    assert_eq!(body(Dialect::Text, &["nobody"]), "");
    assert_eq!(body(Dialect::OpenMetrics, &["nobody"]), "# EOF\n");
}

#[test]
fn promtool_accepts_the_text() {
    let promtool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn();
    let mut promtool = promtool.expect("promtool is missing: apt-get install prometheus");
    promtool.stdin.take().unwrap().write_all(body(Dialect::Text, &[]).as_bytes()).unwrap();
    assert!(promtool.wait().unwrap().success());
}

#[test]
fn dogstatsd() {
    let (now, mut deltas, mut out) = (start(), Deltas::new(), String::new());
    let options = Options {
        prefix: "acme".to_owned(),
        tags: vec![("env".to_owned(), "production".to_owned())],
        drop_labels: vec!["team".to_owned()],
    };
    for round in 0..2 {
        writeln!(out, "-- cycle {round}").unwrap();
        let mut emit = |line: &str| writeln!(out, "{line}").unwrap();
        dogstatsd::render(&snapshot(now, round), now, &options, &mut deltas, &mut emit);
    }
    check("dogstatsd.txt", &out);
}

#[test]
fn otlp_cumulative() {
    check("otlp_cumulative.txt", &otlp(Temporality::Cumulative));
}

#[test]
fn otlp_delta() {
    check("otlp_delta.txt", &otlp(Temporality::Delta));
}

fn otlp(temporality: Temporality) -> String {
    let resource = Resource { attributes: vec![("service.name".to_owned(), "datapulse".to_owned())] };
    let (now, mut encoder, mut out) = (start(), Encoder::new(&resource, temporality), String::new());
    for round in 0..2 {
        let wall = began() + Duration::from_secs(60 + 15 * u64::from(round));
        for body in encoder.encode(&snapshot(now, round), now, wall) {
            writeln!(out, "-- request {round}").unwrap();
            show(&mut out, &ExportMetricsServiceRequest::decode(body.as_slice()).unwrap());
        }
    }
    out
}

fn show(out: &mut String, request: &ExportMetricsServiceRequest) {
    for resource in &request.resource_metrics {
        writeln!(out, "resource{}", attributes(&resource.resource.as_ref().unwrap().attributes)).unwrap();
        for scope in &resource.scope_metrics {
            for metric in &scope.metrics {
                writeln!(out, "{} unit={:?} {:?}", metric.name, metric.unit, metric.description).unwrap();
                match metric.data.as_ref().unwrap() {
                    Data::Gauge(gauge) => show_numbers(out, "gauge", &gauge.data_points),
                    Data::Sum(sum) => {
                        let kind = format!(
                            "sum monotonic={} {}",
                            sum.is_monotonic,
                            temporality(sum.aggregation_temporality)
                        );
                        show_numbers(out, &kind, &sum.data_points);
                    }
                    Data::Histogram(histogram) => {
                        let kind = format!("histogram {}", temporality(histogram.aggregation_temporality));
                        histogram.data_points.iter().for_each(|point| show_histogram(out, &kind, point));
                    }
                    Data::ExponentialHistogram(_) | Data::Summary(_) => panic!("never sent"),
                }
            }
        }
    }
}

fn show_numbers(out: &mut String, kind: &str, points: &[NumberDataPoint]) {
    for point in points {
        let Some(AsDouble(value)) = point.value else { panic!("a float") };
        let span = span(point.start_time_unix_nano, point.time_unix_nano);
        writeln!(out, "  {kind} {span}{} = {value}", attributes(&point.attributes)).unwrap();
    }
}

fn show_histogram(out: &mut String, kind: &str, point: &HistogramDataPoint) {
    let span = span(point.start_time_unix_nano, point.time_unix_nano);
    let (counts, bounds) = (&point.bucket_counts, &point.explicit_bounds);
    let (count, sum) = (point.count, point.sum.unwrap());
    let attributes = attributes(&point.attributes);
    writeln!(out, "  {kind} {span}{attributes} = count {count} sum {sum} {counts:?} under {bounds:?}")
        .unwrap();
}

fn attributes(pairs: &[KeyValue]) -> String {
    let mut out = String::new();
    for pair in pairs {
        let Some(StringValue(value)) = pair.value.as_ref().and_then(|value| value.value.as_ref()) else {
            panic!("text")
        };
        write!(out, " {}={value:?}", pair.key).unwrap();
    }
    out
}

/// Seconds after the counters began; a gauge has no start.
fn span(from: u64, to: u64) -> String {
    let began = u64::try_from(began().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    let second = |time: u64| (time - began) / 1_000_000_000;
    if from == 0 { format!("at {}", second(to)) } else { format!("{}..{}", second(from), second(to)) }
}

fn temporality(number: i32) -> &'static str {
    match number {
        1 => "delta",
        2 => "cumulative",
        _ => "unspecified",
    }
}
