//! A snapshot as OTLP: bodies of `ExportMetricsServiceRequest`
//! (<https://opentelemetry.io/docs/specs/otel/metrics/data-model/>).

use crate::answer::{Buckets, Values};
use crate::delta::{self, Deltas, Memory};
use crate::family::{Family, Kind, Origin};
use crate::group::{Member, View};
use crate::snapshot::{Part, Snapshot};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AttributeValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ResourceMessage;
use prost::Message;
use std::hash::DefaultHasher;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Points in one request: at about 120 bytes each it stays well below the 4 MiB that receivers commonly accept.
pub const MOST_POINTS_A_REQUEST: usize = 10_000;

/// Points in one metric message; a family with more is sent as several messages of the same name.
pub const MOST_POINTS_A_METRIC: usize = 2_000;

/// Series whose start times are remembered; beyond it a source's counter has an unknown start, which OTLP allows.
const MOST_STARTS: usize = 500_000;

/// The instrumentation scope of all points.
const SCOPE: &str = "datapulse";

/// Whether totals go as they are or as differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// Totals since their start: the default.
    Cumulative,
    /// Differences since the previous export, which Datadog prefers.
    Delta,
}

/// Who sends: `service.name`, `service.instance.id` and the like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// Names and values, sent as they are.
    pub attributes: Vec<(String, String)>,
}

/// Turns snapshots into requests, and remembers for that when totals began or what of them was told.
#[derive(Debug)]
pub struct Encoder {
    resource: ResourceMessage,
    temporality: Temporality,
    deltas: Deltas,
    starts: Memory<Start>,
    /// Time of the previous export, nanoseconds since 1970.
    previous: Option<u64>,
}

/// When a cumulative series began, and its last point.
#[derive(Clone, Copy, Debug)]
struct Start {
    since: u64,
    time: u64,
    total: f64,
}

impl Encoder {
    /// An encoder without memory.
    pub fn new(resource: &Resource, temporality: Temporality) -> Self {
        let attributes = resource.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
        Self {
            resource: ResourceMessage { attributes, ..ResourceMessage::default() },
            temporality,
            deltas: Deltas::new(),
            starts: Memory::new(MOST_STARTS),
            previous: None,
        }
    }

    /// Takes the totals of a snapshot as already told at `wall`, see [`Deltas::remember`]. It matters to differences only.
    pub fn remember(&mut self, snapshot: &Snapshot, now: Instant, wall: SystemTime) {
        self.deltas.remember(snapshot, now);
        self.previous = Some(nanoseconds(wall));
    }

    /// The requests for what may be shown at `now`, with `wall` as the time of all points; none when there is no point.
    /// Differences are handed out once: who fails to deliver a body must send the same body again, or they are lost.
    /// NaN is left out: staleness has no meaning here, an ended series simply stops.
    pub fn encode(&mut self, snapshot: &Snapshot, now: Instant, wall: SystemTime) -> Vec<Vec<u8>> {
        let view = View::new(snapshot, now, |_| true);
        let moment = Moment { now, time: nanoseconds(wall) };
        let mut requests = Requests::new(self.resource.clone());
        let pairs = |part: &Part| part.labels.iter().map(|(name, value)| attribute(name, value)).collect();
        let ready: Vec<Vec<KeyValue>> = view.parts.iter().map(|part| pairs(part)).collect();
        for group in view.groups.iter().filter(|group| group.family.pushed) {
            let mut chunk = Chunk::new(group.family, self.temporality);
            for member in &group.members {
                let shared = ready.get(member.at).filter(|_| !member.shadowed).cloned();
                let shared = shared
                    .unwrap_or_else(|| member.shared().map(|(name, value)| attribute(name, value)).collect());
                let source = Source { member, shared, base: self.deltas.base(group, member) };
                for row in (0..member.column.len()).filter(|row| !member.hides(*row)) {
                    self.add(&mut chunk, &source, row, moment);
                    if chunk.len() == MOST_POINTS_A_METRIC {
                        requests.add(&mut chunk);
                    }
                }
            }
            requests.add(&mut chunk);
        }
        self.previous = Some(moment.time);
        self.deltas.sweep(now);
        self.starts.sweep(now);
        requests.close();
        requests.bodies
    }

    fn add(&mut self, chunk: &mut Chunk<'_>, source: &Source<'_>, row: usize, moment: Moment) {
        match source.member.column.values() {
            Values::Numbers(values) => {
                let value = values.get(row).copied().filter(|value| !value.is_nan());
                let point = value.and_then(|value| self.number(source, row, value, moment));
                chunk.numbers.extend(point);
            }
            Values::Histograms(bounds, rows) => {
                // Receivers refuse a whole request for one histogram whose counts do not fit its bounds.
                let total = rows.get(row).filter(|total| total.counts.len() == bounds.len() + 1);
                let point = total.and_then(|total| self.histogram(source, row, bounds, total, moment));
                chunk.histograms.extend(point);
            }
        }
    }

    fn number(
        &mut self,
        source: &Source<'_>,
        row: usize,
        value: f64,
        moment: Moment,
    ) -> Option<NumberDataPoint> {
        let (start_time_unix_nano, value) = match (source.member.column.family().kind, self.temporality) {
            (Kind::Gauge | Kind::Histogram, _) => (0, value),
            (Kind::Counter(origin), Temporality::Cumulative) => {
                (self.start(source, row, value, origin, moment), value)
            }
            (Kind::Counter(origin), Temporality::Delta) => {
                let gain = self.deltas.number(source.key(row), value, origin, moment.now)?;
                (self.delta_start(source), gain)
            }
        };
        Some(NumberDataPoint {
            attributes: source.attributes(row),
            start_time_unix_nano,
            time_unix_nano: moment.time,
            value: Some(Value::AsDouble(value)),
            ..NumberDataPoint::default()
        })
    }

    fn histogram(
        &mut self,
        source: &Source<'_>,
        row: usize,
        bounds: &[f64],
        total: &Buckets,
        moment: Moment,
    ) -> Option<HistogramDataPoint> {
        let (start_time_unix_nano, buckets) = match self.temporality {
            Temporality::Cumulative => {
                (self.start(source, row, total.count() as f64, Origin::Ours, moment), total.clone())
            }
            Temporality::Delta => {
                let gain = self.deltas.histogram(source.key(row), total, moment.now)?;
                (self.delta_start(source), gain.buckets)
            }
        };
        Some(HistogramDataPoint {
            attributes: source.attributes(row),
            start_time_unix_nano,
            time_unix_nano: moment.time,
            count: buckets.count(),
            sum: Some(buckets.sum).filter(|sum| !sum.is_nan()),
            bucket_counts: buckets.counts,
            explicit_bounds: bounds.to_vec(),
            ..HistogramDataPoint::default()
        })
    }

    fn delta_start(&self, source: &Source<'_>) -> u64 {
        self.previous.unwrap_or_else(|| nanoseconds(source.member.part.counting_since))
    }

    /// When a total began. Ours began with its part; of a source we know only that it counted at first sight, so its
    /// first point spans no time, which is how OTLP says "unknown". A total that fell began after its last point.
    fn start(&mut self, source: &Source<'_>, row: usize, total: f64, origin: Origin, moment: Moment) -> u64 {
        let key = source.key(row);
        let ours = nanoseconds(source.member.part.counting_since).min(moment.time);
        let Some(start) = self.starts.get(key, moment.now) else {
            let since = if origin == Origin::Ours { ours } else { moment.time };
            let start = Start { since, time: moment.time, total };
            self.starts.insert(key, start, delta::keep(origin), moment.now);
            return since;
        };
        if total < start.total {
            start.since = start.time;
        }
        if origin == Origin::Ours {
            start.since = start.since.max(ours);
        }
        (start.total, start.time) = (total, moment.time);
        start.since.min(moment.time)
    }
}

/// The time of an export on both clocks; `time` in nanoseconds since 1970.
#[derive(Clone, Copy)]
struct Moment {
    now: Instant,
    time: u64,
}

/// A column with what is equal in all its rows.
struct Source<'a> {
    member: &'a Member<'a>,
    shared: Vec<KeyValue>,
    base: DefaultHasher,
}

impl Source<'_> {
    fn key(&self, row: usize) -> u64 {
        delta::key(&self.base, self.member, row)
    }

    fn attributes(&self, row: usize) -> Vec<KeyValue> {
        let column = self.member.column;
        let names = column.family().labels.iter();
        let mut attributes = Vec::with_capacity(self.shared.len() + column.family().labels.len());
        attributes.extend_from_slice(&self.shared);
        attributes.extend(names.zip(column.labels(row)).map(|(name, value)| attribute(name, value)));
        attributes
    }
}

fn attribute(name: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(AttributeValue::StringValue(value.to_owned())) };
    KeyValue { key: name.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Points of one family that go into one metric message.
struct Chunk<'a> {
    family: &'a Family,
    temporality: AggregationTemporality,
    numbers: Vec<NumberDataPoint>,
    histograms: Vec<HistogramDataPoint>,
}

impl<'a> Chunk<'a> {
    fn new(family: &'a Family, temporality: Temporality) -> Self {
        let temporality = match temporality {
            Temporality::Cumulative => AggregationTemporality::Cumulative,
            Temporality::Delta => AggregationTemporality::Delta,
        };
        Self { family, temporality, numbers: Vec::new(), histograms: Vec::new() }
    }

    fn len(&self) -> usize {
        self.numbers.len() + self.histograms.len()
    }

    fn take(&mut self) -> Metric {
        let aggregation_temporality = self.temporality.into();
        let data = match self.family.kind {
            Kind::Gauge => Data::Gauge(Gauge { data_points: std::mem::take(&mut self.numbers) }),
            Kind::Counter(_) => Data::Sum(Sum {
                data_points: std::mem::take(&mut self.numbers),
                aggregation_temporality,
                is_monotonic: true,
            }),
            Kind::Histogram => Data::Histogram(Histogram {
                data_points: std::mem::take(&mut self.histograms),
                aggregation_temporality,
            }),
        };
        Metric {
            name: self.family.name.to_string(),
            description: self.family.help.to_string(),
            unit: self.family.unit.ucum().to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }
}

/// The requests made so far and the one that is being filled.
struct Requests {
    resource: ResourceMessage,
    metrics: Vec<Metric>,
    points: usize,
    bodies: Vec<Vec<u8>>,
}

impl Requests {
    fn new(resource: ResourceMessage) -> Self {
        Self { resource, metrics: Vec::new(), points: 0, bodies: Vec::new() }
    }

    /// Takes the points of a chunk; the chunk goes on empty.
    fn add(&mut self, chunk: &mut Chunk<'_>) {
        let points = chunk.len();
        if points == 0 {
            return;
        }
        if self.points + points > MOST_POINTS_A_REQUEST {
            self.close();
        }
        self.points += points;
        self.metrics.push(chunk.take());
    }

    fn close(&mut self) {
        if self.metrics.is_empty() {
            return;
        }
        let scope = InstrumentationScope {
            name: SCOPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let metrics = std::mem::take(&mut self.metrics);
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
        let resource = Some(self.resource.clone());
        let resource_metrics =
            vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
        self.bodies.push(ExportMetricsServiceRequest { resource_metrics }.encode_to_vec());
        self.points = 0;
    }
}
