//! What /metrics shows arrives at a collector and at a Datadog agent under the name of the table and with the same value.

use crate::program::{Program, Sample, replicate, role, target};
use crate::stage::{eventually, shared_pair, stage};
use datapulse::board::Key;
use datapulse::cli::catalogue::{Entry, entries};
use metrics::{Kind, Origin};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, NumberDataPoint};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A dotted name with its labels.
type Series = (String, BTreeMap<String, String>);

/// Has one series; it tells the agent's cycles apart, which are several packets each.
const ONCE_A_CYCLE: &str = "datapulse.build.info";

/// What a receiver has heard, and in how many cycles.
#[derive(Default)]
struct Heard {
    /// Gauges, and totals as they are.
    values: BTreeMap<Series, f64>,
    /// Differences, added up.
    sums: BTreeMap<Series, f64>,
    times: usize,
}

type Ear = Arc<Mutex<Heard>>;

/// A collector that takes everything; gives its port.
fn collector(ear: &Ear) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, ear) = (listener.local_addr().unwrap().port(), Arc::clone(ear));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            while let Some(body) = request(stream.as_ref().unwrap()) {
                hear(
                    &mut ear.lock().unwrap(),
                    &ExportMetricsServiceRequest::decode(body.as_slice()).unwrap(),
                );
            }
        }
    });
    port
}

/// Reads one request and answers it; `None` when there is no further one.
fn request(mut stream: &TcpStream) -> Option<Vec<u8>> {
    let (mut reader, mut length) = (BufReader::new(stream), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(answer.as_bytes()).ok()?;
    Some(body)
}

fn hear(heard: &mut Heard, request: &ExportMetricsServiceRequest) {
    heard.times += 1;
    let metrics = request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics)
        .flat_map(|scope| &scope.metrics);
    for metric in metrics {
        let points = match metric.data.as_ref().unwrap() {
            Data::Gauge(gauge) => &gauge.data_points,
            Data::Sum(sum) => {
                assert!(sum.is_monotonic, "{}", metric.name);
                assert_eq!(
                    sum.aggregation_temporality,
                    AggregationTemporality::Cumulative as i32,
                    "{}",
                    metric.name
                );
                &sum.data_points
            }
            other => panic!("{}: {other:?}", metric.name),
        };
        for point in points {
            let series = (metric.name.clone(), labels(&point.attributes));
            heard.values.insert(series, number(point));
        }
    }
}

fn labels(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.clone()) {
        Some(any_value::Value::StringValue(text)) => text,
        other => panic!("{}: {other:?}", attribute.key),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

fn number(point: &NumberDataPoint) -> f64 {
    match point.value.unwrap() {
        Value::AsDouble(value) => value,
        Value::AsInt(value) => value as f64,
    }
}

/// A Datadog agent at this socket.
fn agent(ear: &Ear, socket: &Path) {
    let (receiver, ear) = (UnixDatagram::bind(socket).unwrap(), Arc::clone(ear));
    std::thread::spawn(move || {
        let mut packet = vec![0; 65536];
        while let Ok(length) = receiver.recv(&mut packet) {
            let mut heard = ear.lock().unwrap();
            for line in std::str::from_utf8(&packet[..length]).unwrap().lines() {
                let mut parts = line.split('|');
                let (name, value) = parts.next().unwrap().split_once(':').unwrap();
                let (kind, tags) = (
                    parts.next().unwrap(),
                    parts.next().and_then(|tags| tags.strip_prefix('#')).unwrap_or_default(),
                );
                let tags = tags.split(',').filter_map(|tag| tag.split_once(':'));
                heard.times += usize::from(name == ONCE_A_CYCLE);
                let series = (
                    name.to_owned(),
                    tags.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                );
                let value: f64 = value.parse().unwrap();
                match kind {
                    "g" => drop(heard.values.insert(series, value)),
                    "c" => *heard.sums.entry(series).or_default() += value,
                    _ => panic!("{line}"),
                }
            }
        }
    });
}

/// A name for a check whose first run comes soon: runs are spread over ten seconds by a hash of the name. Another spread would
/// make this test slower, not wrong.
fn early(name: &str, target: Option<&str>) -> String {
    let names = (0..1000).map(|at| format!("{name}{at}"));
    let soon = |check: &String| {
        let mut hasher = DefaultHasher::new();
        Key { check: check.clone(), target: target.map(str::to_owned) }.hash(&mut hasher);
        hasher.finish() % 1000 < 50
    };
    names.into_iter().find(soon).unwrap()
}

/// Series that move from second to second, without any check: only that they arrive can be compared.
fn moves(name: &str) -> bool {
    ["process_", "datapulse_http_", "datapulse_push_"].iter().any(|group| name.starts_with(group))
}

/// What is not equal about a sample of /metrics and what has arrived of it.
fn difference(entry: &Entry, sample: &Sample, otlp: &Heard, dogstatsd: &Heard) -> Option<String> {
    let Sample { name, labels, value } = sample;
    // A tag or attribute that is empty says what its absence says.
    let told = |labels: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        labels
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let (labels, dotted) = (told(labels), entry.family.name.to_string());
    let arrived =
        otlp.values.iter().find(|((name, attributes), _)| *name == dotted && told(attributes) == labels);
    let ours = arrived.map(|(_, value)| *value);
    let datadog = (entry.family.datadog_name.clone().unwrap_or(dotted), labels);
    let theirs = match entry.family.kind {
        Kind::Counter(_) => dogstatsd.sums.get(&datadog).copied(),
        Kind::Gauge | Kind::Histogram => dogstatsd.values.get(&datadog).copied(),
    };
    let equal = |arrived: Option<f64>| {
        arrived.is_some_and(|arrived| moves(name) || (arrived - value).abs() <= value.abs() * 1e-12)
    };
    let fine = match (entry.family.pushed, entry.family.kind) {
        // Of a counter that somebody else owns, the agent is told only what it gains while we look.
        (true, Kind::Counter(Origin::Source)) => equal(ours) && theirs.is_none_or(|gained| gained == 0.0),
        (true, _) => equal(ours) && equal(theirs),
        (false, _) => ours.is_none() && theirs.is_none(),
    };
    let words = || format!("{name} {:?}: /metrics {value}, OTLP {ours:?}, DogStatsD {theirs:?}", datadog.1);
    (!fine).then(words)
}

#[test]
fn a_real_pair_is_spelled_equally_three_times() {
    let pair = shared_pair();
    replicate(pair, "spelled");
    for cluster in [&pair.publisher, &pair.subscriber] {
        role(cluster, "spelled_role", "grant pg_monitor to spelled_role");
    }
    let (otlp, dogstatsd, folder) = (Ear::default(), Ear::default(), stage("spelled-socket"));
    let socket = folder.path().join("dsd.socket");
    agent(&dogstatsd, &socket);
    let port = collector(&otlp);
    let [orders, slots, dead] =
        [early("orders", Some("sub")), early("slots", Some("pub")), early("dead", None)];
    // One run, and then nothing moves any more.
    let config = format!(
        "targets:\n  sub: {}\n  pub: {}\ndefaults: {{pg_subscription: {{every: 1h}}, pg_replication: {{every: 1h}}}}\nchecks:\n  \
         - pg_subscription: {{name: {orders}, target: sub, publisher: pub, expect: [spelled, gone], labels: {{team: core}}, thresholds: {{silence: 90s}}}}\n  \
         - pg_replication: {{name: {slots}, target: pub}}\n  \
         - pg_replication: {{name: {dead}, target: {{host: 127.0.0.1, port: 1, user: u, database: d, tls: disable}}}}\n\
         outputs:\n  otlp: {{endpoint: 'http://127.0.0.1:{port}', every: 1s, compression: none}}\n  dogstatsd: {{address: 'unix://{}', every: 1s}}\n",
        target(&pair.subscriber, "spelled_role", "spelled"),
        target(&pair.publisher, "spelled_role", "spelled"),
        socket.display(),
    );
    let program = Program::start("spelled", &config, &[]);
    for check in [&orders, &slots, &dead] {
        program.wait_for("datapulse_check_runs_total", &[("check", check)], |runs| runs == 1.0);
    }
    // What was begun after the last run has to have arrived to its end: surely so once the third cycle from now begins.
    for ear in [&otlp, &dogstatsd] {
        let before = ear.lock().unwrap().times;
        eventually("three more pushes", || (ear.lock().unwrap().times >= before + 3).then_some(()));
    }
    let shown = program.scrape();
    assert_eq!(shown.value("pg_subscription_exists", &[("subname", "gone")]), Some(0.0));

    let table: BTreeMap<String, Entry> =
        entries().into_iter().map(|entry| (entry.family.prometheus(), entry)).collect();
    let (otlp, dogstatsd) = (otlp.lock().unwrap(), dogstatsd.lock().unwrap());
    let (mut wrong, mut compared, mut names) = (Vec::new(), 0, BTreeSet::new());
    for sample in shown.0 {
        let entry =
            table.get(&sample.name).unwrap_or_else(|| panic!("{} is not in the catalogue", sample.name));
        wrong.extend(difference(entry, &sample, &otlp, &dogstatsd));
        compared += 1;
        names.insert(sample.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{compared} samples of {} families are equal", names.len());
    let checks = names.iter().filter(|name| name.starts_with("pg_")).count();
    assert!(compared > 100 && checks >= 20, "only {compared} samples, {checks} families of the checks");

    // And nothing arrives that the table does not have.
    let known: BTreeSet<&str> =
        table.values().filter(|entry| entry.family.pushed).map(|entry| entry.family.name.as_ref()).collect();
    for ear in [&otlp, &dogstatsd] {
        for (name, _) in ear.values.keys().chain(ear.sums.keys()) {
            assert!(known.contains(name.as_str()), "{name} is not in the catalogue");
        }
    }
    drop((otlp, dogstatsd));
    drop(program);
}

#[test]
fn a_value_of_the_configuration_is_the_same_three_times_under_its_three_names() {
    let server = &shared_pair().subscriber;
    role(server, "lake_eye", "");
    let (otlp, dogstatsd, folder) = (Ear::default(), Ear::default(), stage("countries-socket"));
    let socket = folder.path().join("dsd.socket");
    agent(&dogstatsd, &socket);
    let port = collector(&otlp);
    let config = format!(
        "checks:\n  - sql_query:\n      name: devices\n      every: 1s\n      target: {}\n      \
         sql: \"select * from (values ('JP', 3200.25), ('TH', 5400), ('KH', 0.1)) as t (country, devices)\"\n      \
         metrics: [{{name: device.connections, value: devices, labels: [country], unit: '{{device}}', help: devices, datadog_name: mccs.connection.hour.count}}]\n      \
         fill: {{country: [JP, TH, KH, PH]}}\n\
         outputs:\n  otlp: {{endpoint: 'http://127.0.0.1:{port}', every: 1s, compression: none}}\n  \
         dogstatsd: {{address: 'unix://{}', every: 1s, prefix: p., tags: {{env: production}}}}\n",
        target(server, "lake_eye", "postgres"),
        socket.display(),
    );
    let program = Program::start("countries", &config, &[]);
    program.wait_for("device_connections", &[("country", "JP")], |devices| devices == 3200.25);
    for (country, devices) in [("JP", 3200.25), ("TH", 5400.0), ("KH", 0.1), ("PH", 0.0)] {
        let heard = |ear: &Ear, name: &str| {
            let heard = ear.lock().unwrap();
            let fits = |labels: &BTreeMap<String, String>| {
                labels.get("country").is_some_and(|value| value.eq_ignore_ascii_case(country))
            };
            heard
                .values
                .iter()
                .find(|((own, labels), _)| own == name && fits(labels))
                .map(|(_, value)| *value)
        };
        let arrived = eventually("both have it", || {
            heard(&otlp, "device.connections").zip(heard(&dogstatsd, "mccs.connection.hour.count"))
        });
        let shown = program.scrape().value("device_connections", &[("country", country)]);
        println!("{country}: /metrics {shown:?}, OTLP and DogStatsD {arrived:?}");
        assert_eq!((shown, arrived), (Some(devices), (devices, devices)));
    }
    let heard = dogstatsd.lock().unwrap();
    let tags = heard.values.keys().find(|(name, _)| name == "mccs.connection.hour.count").unwrap();
    assert_eq!(tags.1.get("env").map(String::as_str), Some("production"), "{tags:?}");
}
