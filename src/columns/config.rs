//! The keys that make metrics of columns, read and checked.

mod words;

use crate::config::fault::{Fault, Faults, Place};
use crate::config::node::Node;
use crate::config::read::{read as read_value, read_rest};
use crate::config::scalar::Interval;
use metrics::{Family, Handle, Kind, Labels, Origin, Unit};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use words::{check_name, is_label, read_unit};

/// The keys of this part; they are split off a check's own.
const KEYS: [&str; 5] = ["metrics", "fill", "empty", "freshness", "max_data_age"];
/// Upper bounds of a histogram without `buckets`, in seconds.
const BOUNDS: [f64; 14] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
/// Label sets that `fill` may make; more would be a family of zeros.
const MOST_FILLED: usize = 1000;
/// A histogram is a series a bucket.
const MOST_BUCKETS: usize = 100;

/// How columns become metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    pub(super) metrics: Vec<Mapped>,
    pub(super) fill: BTreeMap<String, Vec<String>>,
    pub(super) empty: Empty,
    pub(super) freshness: Option<String>,
    pub(super) max_data_age: Option<Duration>,
}

/// What a result without any row means where `fill` names values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Empty {
    /// A failure with reason `empty`.
    #[default]
    Failure,
    /// 0 for every known value.
    Zero,
}

/// A metric and the columns that it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mapped {
    pub(super) family: Arc<Family>,
    /// The column of the value.
    pub(super) value: String,
    /// Upper bounds of a histogram.
    pub(super) bounds: Arc<[f64]>,
    /// Whether known label values without a row are 0.
    pub(super) filled: bool,
}

/// The keys as they are written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// One metric each; every row of the result becomes a sample of it.
    metrics: Vec<WrittenMetric>,
    /// Known values of a label: one without a row is 0, if the result has any row at all. Gauges only.
    #[serde(default)]
    fill: BTreeMap<String, Vec<String>>,
    /// What a result without any row means with `fill`: `failure` (reason `empty`) or `zero`.
    #[serde(default)]
    empty: Empty,
    /// Column with the time of the data: `datapulse_check_data_timestamp_seconds` is its newest.
    freshness: Option<String>,
    /// Older data are a failure with reason `stale_data`. Needs `freshness`.
    max_data_age: Option<Interval>,
}

/// One metric.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenMetric {
    /// Dotted name without unit and without `_total`: `device.connections` is `device_connections` in Prometheus.
    name: String,
    /// Column with the value.
    value: String,
    /// Columns that become labels.
    #[serde(default)]
    labels: Vec<String>,
    /// `gauge`, `counter` (a running total of the source) or `histogram` (observes the value of each row, since the start).
    #[serde(default)]
    kind: WrittenKind,
    /// `s`, `By`, an annotation such as `{device}`, or absent.
    unit: Option<String>,
    /// What the metric says.
    help: String,
    /// Name in Datadog instead of the dotted one; no prefix is put before it.
    datadog_name: Option<String>,
    /// Upper bounds of a histogram, ascending; those of durations from 0.1 to 3600 when absent.
    buckets: Option<Vec<f64>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum WrittenKind {
    #[default]
    Gauge,
    Counter,
    Histogram,
}

impl JsonSchema for Columns {
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Written::json_schema(generator)
    }
}

impl Columns {
    /// The families, for the catalogue and the collision check.
    pub fn families(&self) -> Vec<Handle> {
        let own = self.metrics.iter().map(|metric| Handle::Configured(Arc::clone(&metric.family)));
        own.chain(self.freshness.as_ref().map(|_| super::DATA_TIMESTAMP.handle())).collect()
    }

    /// What a result without any row means.
    pub fn empty(&self) -> Empty {
        self.empty
    }

    /// The family of this dotted name.
    pub fn family(&self, name: &str) -> Option<&Arc<Family>> {
        self.metrics.iter().map(|metric| &metric.family).find(|family| family.name == name)
    }
}

/// Reads the keys of a check whose columns become metrics: its own ones, and these. Each part is read whatever is wrong with the other.
pub fn read_with<T: DeserializeOwned>(
    node: &Node,
    path: &str,
    also: &[&str],
    faults: &mut Faults,
) -> (Option<T>, Option<Columns>) {
    let mut node = node.clone();
    let rest = node.split(&KEYS);
    let also: Vec<&str> = also.iter().chain(&KEYS).copied().collect();
    (read_rest(&node, path, &also, faults), read(&rest, path, &also, faults))
}

/// Reads the keys that [`KEYS`] split off; `also` are the words that were accepted elsewhere.
pub(crate) fn read(node: &Node, path: &str, also: &[&str], faults: &mut Faults) -> Option<Columns> {
    let written: Option<Written> = read_rest(node, path, also, faults);
    let mut reader = Reader { node, path, faults, good: true };
    let Some(written) = written else {
        reader.readable();
        return None;
    };
    let columns = reader.columns(written);
    reader.good.then_some(columns)
}

struct Reader<'a> {
    node: &'a Node,
    path: &'a str,
    faults: &'a mut Faults,
    good: bool,
}

impl Reader<'_> {
    fn fault(&mut self, key: &str, at: &Place, message: impl Into<String>, hint: impl Into<String>) {
        let (message, hint) = (message.into(), hint.into());
        let fault = Fault::new(at, format!("{}.{key}", self.path), message);
        self.faults.push(if hint.is_empty() { fault } else { fault.hint(hint) });
        self.good = false;
    }

    fn place(&self, key: &str) -> Place {
        self.node.get(key).unwrap_or(self.node).place().clone()
    }

    /// Looks at the metrics that can be read although something else cannot, so that all faults are told at once.
    fn readable(&mut self) {
        let node = self.node;
        let mut unread = Faults::default();
        let fill = node.get("fill").and_then(|fill| read_value(fill, "", &mut unread)).unwrap_or_default();
        for (at, item) in node.get("metrics").and_then(Node::items).unwrap_or_default().iter().enumerate() {
            if let Some(metric) = read_value(item, "", &mut unread) {
                self.metric(metric, item, &format!("metrics[{at}]"), &fill);
            }
        }
    }

    fn columns(&mut self, written: Written) -> Columns {
        if written.metrics.is_empty() {
            self.fault(
                "metrics",
                &self.place("metrics"),
                "is empty",
                "name at least one column that becomes a metric",
            );
        }
        let mut names = BTreeSet::new();
        let mut metrics = Vec::new();
        for (at, metric) in written.metrics.into_iter().enumerate() {
            let node =
                self.node.get("metrics").and_then(|list| list.items()?.get(at)).unwrap_or(self.node).clone();
            let path = format!("metrics[{at}]");
            if !names.insert(metric.name.clone()) {
                self.fault(
                    &format!("{path}.name"),
                    node.get("name").unwrap_or(&node).place(),
                    "another metric of this check has this name",
                    "",
                );
            }
            metrics.push(self.metric(metric, &node, &path, &written.fill));
        }
        for (label, values) in &written.fill {
            let mut with_label = metrics
                .iter()
                .filter(|metric| metric.family.labels.iter().any(|name| name == label))
                .peekable();
            if with_label.peek().is_none() {
                self.fault(&format!("fill.{label}"), &self.place("fill"), "no metric has this label", "");
            } else if !with_label.any(|metric| metric.family.kind == Kind::Gauge) {
                self.fault(
                    &format!("fill.{label}"),
                    &self.place("fill"),
                    "no gauge has this label, and only gauges are filled",
                    "a total of 0 would look like a reset; leave it out, or write `kind: gauge`",
                );
            }
            if values.iter().collect::<BTreeSet<_>>().len() != values.len() {
                self.fault(&format!("fill.{label}"), &self.place("fill"), "names a value twice", "");
            }
        }
        if written.max_data_age.is_some() && written.freshness.is_none() {
            self.fault(
                "max_data_age",
                &self.place("max_data_age"),
                "needs `freshness`",
                "name the column that holds the time of the data",
            );
        }
        if written.empty == Empty::Zero && written.fill.is_empty() {
            self.fault(
                "empty",
                &self.place("empty"),
                "needs `fill`",
                "without known values there is nothing that could be 0",
            );
        }
        Columns {
            metrics,
            fill: written.fill,
            empty: written.empty,
            freshness: written.freshness,
            max_data_age: written.max_data_age.map(|age| age.duration()),
        }
    }

    fn metric(
        &mut self,
        written: WrittenMetric,
        node: &Node,
        path: &str,
        fill: &BTreeMap<String, Vec<String>>,
    ) -> Mapped {
        let place = |key: &str| node.get(key).unwrap_or(node).place().clone();
        if let Err((message, hint)) = check_name(&written.name, written.kind == WrittenKind::Counter) {
            self.fault(&format!("{path}.name"), &place("name"), message, hint);
        }
        let unit = read_unit(written.unit.as_deref()).unwrap_or_else(|(message, hint)| {
            self.fault(&format!("{path}.unit"), &place("unit"), message, hint);
            Unit::None
        });
        for label in &written.labels {
            if !is_label(label) {
                self.fault(&format!("{path}.labels"), &place("labels"), format!("\"{label}\" cannot be a label here"),
                    "letters, digits and underscores, not one that samples have anyway (check, target, le, quantile, job, instance); rename the column with `as`");
            }
        }
        if written.labels.iter().collect::<BTreeSet<_>>().len() != written.labels.len() {
            self.fault(&format!("{path}.labels"), &place("labels"), "names a label twice", "");
        }
        if let Some(name) = &written.datadog_name
            && !(name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.len() <= 200
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')))
        {
            self.fault(
                &format!("{path}.datadog_name"),
                &place("datadog_name"),
                "not a metric name of Datadog",
                "a letter first, then letters, digits, underscores and dots, at most 200 characters",
            );
        }
        let bounds = self.bounds(&written, &place("buckets"), path);
        let covered = written.labels.iter().filter(|label| fill.contains_key(*label)).count();
        let filled = covered > 0 && written.kind == WrittenKind::Gauge;
        if filled && covered < written.labels.len() {
            self.fault(&format!("{path}.labels"), &place("labels"), "`fill` names values for some of these labels only",
                "a row is missing only where all its labels are known: name the values of the others too, or leave the label out of `fill`");
        }
        let sets: usize = written
            .labels
            .iter()
            .filter_map(|label| fill.get(label))
            .map(Vec::len)
            .fold(1, usize::saturating_mul);
        if filled && sets > MOST_FILLED {
            self.fault(
                &format!("{path}.labels"),
                &place("labels"),
                format!("`fill` makes {sets} label sets; {MOST_FILLED} is the most"),
                "",
            );
        }
        let kind = match written.kind {
            WrittenKind::Gauge => Kind::Gauge,
            WrittenKind::Counter => Kind::Counter(Origin::Source),
            WrittenKind::Histogram => Kind::Histogram,
        };
        let family = Family {
            name: Cow::Owned(written.name),
            unit,
            kind,
            labels: Labels::Configured(written.labels),
            help: Cow::Owned(written.help),
            pushed: true,
            total: false,
            datadog_name: written.datadog_name,
        };
        Mapped { family: Arc::new(family), value: written.value, bounds, filled }
    }

    fn bounds(&mut self, written: &WrittenMetric, at: &Place, path: &str) -> Arc<[f64]> {
        let Some(bounds) = &written.buckets else { return Arc::from(BOUNDS) };
        let key = format!("{path}.buckets");
        if written.kind != WrittenKind::Histogram {
            self.fault(
                &key,
                at,
                "only a histogram has buckets",
                "write `kind: histogram`, or leave them out",
            );
        }
        let ascending = bounds.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        if bounds.is_empty()
            || bounds.len() > MOST_BUCKETS
            || !ascending
            || !bounds.iter().all(|bound| bound.is_finite())
        {
            self.fault(
                &key,
                at,
                format!("expected 1 to {MOST_BUCKETS} ascending numbers"),
                "the bucket +Inf comes by itself",
            );
        }
        Arc::from(bounds.as_slice())
    }
}
