//! A family: one dotted name with unit, kind and labels, and how each receiver spells it.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

/// The unit of a family's values. Values are always in base units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Counts, booleans and ratios: no suffix in Prometheus, no unit in OTLP.
    None,
    /// Seconds, UCUM `s`.
    Seconds,
    /// Bytes, UCUM `By`.
    Bytes,
    /// A UCUM annotation such as `{device}`: written to OTLP as it is, no suffix in Prometheus.
    Annotation(Cow<'static, str>),
}

impl Unit {
    /// The suffix of the Prometheus name, empty or with its underscore.
    pub fn suffix(&self) -> &'static str {
        match self {
            Self::None | Self::Annotation(_) => "",
            Self::Seconds => "_seconds",
            Self::Bytes => "_bytes",
        }
    }

    /// The UCUM unit that OTLP carries. Never `1`: a receiver would turn that into `_ratio`.
    pub fn ucum(&self) -> &str {
        match self {
            Self::None => "",
            Self::Seconds => "s",
            Self::Bytes => "By",
            Self::Annotation(text) => text,
        }
    }
}

/// Who keeps a counter: this decides what its first sight means to a receiver of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// We count: it began at 0 (or at its restored value) when this process started.
    Ours,
    /// The source counts: its first value is only a baseline.
    Source,
}

/// What kind of number a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A running total.
    Counter(Origin),
    /// Cumulative buckets with sum and count, always kept by us.
    Histogram,
}

/// The names of a family's own labels; labels of the check and the target come with the [`crate::Part`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Known to the compiler.
    Built(&'static [&'static str]),
    /// From the configuration.
    Configured(Vec<String>),
}

impl Labels {
    /// How many labels a sample has.
    pub fn len(&self) -> usize {
        match self {
            Self::Built(names) => names.len(),
            Self::Configured(names) => names.len(),
        }
    }

    /// Whether samples have no own label.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The label names in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (built, configured) = match self {
            Self::Built(names) => (*names, &[][..]),
            Self::Configured(names) => (&[][..], names.as_slice()),
        };
        built.iter().copied().chain(configured.iter().map(String::as_str))
    }
}

/// One family of metrics. The dotted name is the OTLP and `DogStatsD` name; the Prometheus name is made from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Dotted name without unit and without `_total`, such as `pg.stat_subscription.last_msg_send_age`.
    pub name: Cow<'static, str>,
    /// Unit of the values.
    pub unit: Unit,
    /// Gauge, counter or histogram.
    pub kind: Kind,
    /// Names of the family's own labels.
    pub labels: Labels,
    /// Help text: meaning, and the view, column or API it comes from.
    pub help: Cow<'static, str>,
    /// Whether OTLP and `DogStatsD` get it too; `/metrics` always does.
    pub pushed: bool,
    /// A sum over things of which some have series of their own: kept whole where those are cut.
    pub total: bool,
    /// The name that `DogStatsD` uses instead of the dotted one; no prefix is put before it.
    pub datadog_name: Option<String>,
}

impl Family {
    /// The sample name in Prometheus, with unit suffix and `_total`; histograms get `_bucket`, `_sum`, `_count` behind it.
    pub fn prometheus(&self) -> String {
        let mut name = self.prometheus_stem();
        if matches!(self.kind, Kind::Counter(_)) {
            name.push_str("_total");
        }
        name
    }

    /// The Prometheus name with its unit but without `_total`: what `OpenMetrics` calls the metric family name
    /// (an `_info` family loses that suffix there as well).
    pub fn prometheus_stem(&self) -> String {
        let mut name = self.name.replace('.', "_");
        name.push_str(self.unit.suffix());
        name
    }

    /// Whether this is a gauge that is always 1 and carries its facts as labels.
    pub fn is_info(&self) -> bool {
        self.kind == Kind::Gauge && self.name.ends_with("info") && self.unit == Unit::None
    }
}

/// A built-in family whose number of labels the compiler knows.
#[derive(Debug)]
pub struct Metric<const N: usize>(Family);

impl<const N: usize> Metric<N> {
    const fn new(
        kind: Kind,
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str; N],
        help: &'static str,
    ) -> Self {
        Self(Family {
            name: Cow::Borrowed(name),
            unit,
            kind,
            labels: Labels::Built(labels),
            help: Cow::Borrowed(help),
            pushed: true,
            total: false,
            datadog_name: None,
        })
    }

    /// A sum over things of which some have series of their own; see [`Family::total`].
    #[must_use]
    pub const fn total(mut self) -> Self {
        self.0.total = true;
        self
    }

    /// A value that goes up and down.
    pub const fn gauge(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str; N],
        help: &'static str,
    ) -> Self {
        Self::new(Kind::Gauge, name, unit, labels, help)
    }

    /// A total that this process keeps.
    pub const fn counter(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str; N],
        help: &'static str,
    ) -> Self {
        Self::new(Kind::Counter(Origin::Ours), name, unit, labels, help)
    }

    /// A total that the source keeps and we only read.
    pub const fn source_counter(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str; N],
        help: &'static str,
    ) -> Self {
        Self::new(Kind::Counter(Origin::Source), name, unit, labels, help)
    }

    /// A histogram that this process keeps.
    pub const fn histogram(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str; N],
        help: &'static str,
    ) -> Self {
        Self::new(Kind::Histogram, name, unit, labels, help)
    }

    /// The same family, kept away from OTLP and `DogStatsD`.
    #[must_use]
    pub const fn not_pushed(mut self) -> Self {
        self.0.pushed = false;
        self
    }

    /// The family behind this metric.
    pub const fn family(&'static self) -> &'static Family {
        &self.0
    }

    /// The family as everything after a check sees it.
    pub const fn handle(&'static self) -> Handle {
        Handle::Built(&self.0)
    }
}

/// A family, built in or from the configuration: everything behind a check sees one type.
#[derive(Clone, Debug)]
pub enum Handle {
    /// A static of this program.
    Built(&'static Family),
    /// Made by the configuration.
    Configured(Arc<Family>),
}

impl Handle {
    /// Whether both are the very same family object.
    pub fn is(&self, other: &Family) -> bool {
        std::ptr::eq(&raw const **self, &raw const *other)
    }
}

impl Deref for Handle {
    type Target = Family;
    fn deref(&self) -> &Family {
        match self {
            Self::Built(family) => family,
            Self::Configured(family) => family,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static AGE: Metric<1> =
        Metric::gauge("pg.stat_subscription.last_msg_send_age", Unit::Seconds, &["subname"], "");
    static RUNS: Metric<0> = Metric::counter("datapulse.check.runs", Unit::None, &[], "");
    static INFO: Metric<1> = Metric::gauge("datapulse.build.info", Unit::None, &["version"], "");

    #[test]
    fn names_get_unit_and_total() {
        assert_eq!(AGE.family().prometheus(), "pg_stat_subscription_last_msg_send_age_seconds");
        assert_eq!(RUNS.family().prometheus(), "datapulse_check_runs_total");
        assert_eq!(RUNS.family().prometheus_stem(), "datapulse_check_runs");
        assert!(INFO.family().is_info() && !AGE.family().is_info());
    }
}
