//! The families that the board itself gives.

use metrics::{Handle, Metric, Unit};

/// `datapulse_check_up`
pub(super) static UP: Metric<1> = Metric::gauge(
    "datapulse.check.up",
    Unit::None,
    &["check_type"],
    "1 when the check's own target answered in its last run and that answer is still fresh, else 0",
);
/// `datapulse_check_duration_seconds`
pub(super) static DURATION: Metric<1> = Metric::gauge(
    "datapulse.check.duration",
    Unit::Seconds,
    &["check_type"],
    "How long the last run of the check took",
);
/// `datapulse_check_interval_seconds`
pub(super) static INTERVAL: Metric<1> =
    Metric::gauge("datapulse.check.interval", Unit::Seconds, &["check_type"], "How often the check runs");
/// `datapulse_check_last_success_timestamp_seconds`
pub(super) static LAST_SUCCESS: Metric<1> = Metric::gauge(
    "datapulse.check.last_success_timestamp",
    Unit::Seconds,
    &["check_type"],
    "Unix time of the end of the last run in which the check's own target answered",
);
/// `datapulse_check_samples`
pub(super) static SAMPLES: Metric<1> =
    Metric::gauge("datapulse.check.samples", Unit::None, &["check_type"], "Samples that the last run gave");
/// `datapulse_check_runs_total`
pub(super) static RUNS: Metric<1> =
    Metric::counter("datapulse.check.runs", Unit::None, &["check_type"], "Ended runs of the check");
/// `datapulse_check_failures_total`
pub(super) static FAILURES: Metric<2> = Metric::counter(
    "datapulse.check.failures",
    Unit::None,
    &["check_type", "reason"],
    "Failures of the check by reason; one run can count more than one, and a part of it can fail while the rest answers",
);
/// `datapulse_check_threshold`
pub(super) static THRESHOLD: Metric<2> = Metric::gauge(
    "datapulse.check.threshold",
    Unit::None,
    &["check_type", "threshold"],
    "Limits of the configuration that the bundled rules use instead of their own, in seconds or bytes",
);
/// `datapulse_check_endpoint_up`
pub(super) static ENDPOINT_UP: Metric<1> = Metric::gauge(
    "datapulse.check.endpoint_up",
    Unit::None,
    &["endpoint"],
    "1 when this end of the replication answered in the last run, else 0",
);
/// `datapulse_series_capped_total`
pub(super) static CAPPED: Metric<1> = Metric::counter(
    "datapulse.series.capped",
    Unit::None,
    &["family"],
    "Label sets left out because the family had more than the check's limit, summed over runs",
);
/// `datapulse_check_duplicate_rows_total`
pub(super) static DUPLICATES: Metric<0> = Metric::counter(
    "datapulse.check.duplicate_rows",
    Unit::None,
    &[],
    "Samples left out because the same run had given their label set before",
);

/// The families that the board itself gives, for the catalogue.
pub fn families() -> Vec<Handle> {
    vec![
        UP.handle(),
        DURATION.handle(),
        INTERVAL.handle(),
        LAST_SUCCESS.handle(),
        SAMPLES.handle(),
        RUNS.handle(),
        FAILURES.handle(),
        THRESHOLD.handle(),
        ENDPOINT_UP.handle(),
        CAPPED.handle(),
        DUPLICATES.handle(),
    ]
}
