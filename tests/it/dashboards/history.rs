//! A Prometheus with a past: what no demo can have, made up from the catalogue, and the seasonal rules computed over five weeks.

use super::expressions::Source;
use super::selectors;
use crate::artefacts::rules;
use crate::stage::{root, stage};
use datapulse::cli::catalogue::{Entry, entries};
use datapulse::demo::parts::{Prometheus, Stage};
use metrics::Kind;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the demo cannot have, and why: names (with `*` at the end: all that begin so), or expressions.
pub(super) const ELSEWHERE: [(&str, &str); 27] = [
    ("aws_memorydb_*", "there is no AWS in the demo"),
    ("aws_elasticache_*", "there is no AWS in the demo"),
    ("datapulse_aws_api_calls_total", "there is no AWS in the demo"),
    ("datapulse_athena_scanned_bytes_total", "there is no AWS in the demo"),
    ("datapulse_logs_insights_scanned_bytes_total", "there is no AWS in the demo"),
    ("datapulse_check_budget_remaining_ratio", "there is no AWS in the demo"),
    ("datapulse_check_discovered_targets", "there is no AWS in the demo"),
    ("datapulse_check_interval_seconds{check_type=\"memorydb\"}", "there is no AWS in the demo"),
    ("datapulse_target_paused", "there is no AWS in the demo"),
    ("datapulse_logs_pull_*", "there is no AWS in the demo"),
    ("datapulse_bulk_documents_total", "the demo has no Elasticsearch"),
    ("datapulse_push_*", "the demo pushes to nobody"),
    ("datapulse_archive_last_sealed_timestamp_seconds", "a day has to end first"),
    ("datapulse_series_capped_total", "no family of the demo reaches its limit"),
    (
        "increase(datapulse_check_duplicate_rows_total[$__rate_interval]) > 0",
        "no row of the demo comes twice",
    ),
    ("pg_log_messages_total", "the demo takes the log of MariaDB only"),
    ("pg_slow_*", "the demo takes the log of MariaDB only"),
    ("pg_replication_slots_safe_wal_size_bytes", "the demo's publisher keeps all WAL"),
    ("redshift_inflight_queries{status=\"queued\"}", "no query of the demo waits in a queue"),
    ("redis_cluster_state", "the demo's Redis is a pair"),
    ("seasonal:*", "the demo is too young for a season"),
    ("datapulse:seasonal_*", "the demo is too young for a season"),
    ("datapulse:slow_queries:usual", "the demo is too young for a usual level"),
    ("datapulse:log_usual_silence:seconds", "the demo is too young to know a rhythm"),
    ("datapulse:log_group_silent:seconds", "the demo is too young to know a rhythm"),
    ("device_connections offset 1d", "the demo is too young"),
    ("device_connections offset 1w", "the demo is too young"),
];

/// What the demo has now and then only, as on a machine that is busy.
pub(super) const SELDOM: [(&str, &str); 5] = [
    (
        "increase(datapulse_check_failures_total{check_type=~\"pg_inflight|sql_query\"}[$__rate_interval]) > 0",
        "the demo breaks no server of them",
    ),
    ("increase(datapulse_notify_failures_total[$__rate_interval]) > 0", "Slack takes everything"),
    ("increase(datapulse_notify_ambiguous_total[$__rate_interval]) > 0", "Slack answers everything"),
    ("redis_slowlog_last_id", "nothing is slow on the demo's Redis"),
    ("datapulse:store_shard_headless", "a run has to fall between the loss and the takeover"),
];

/// What the demo has too, but no check of devices that is older than the demo.
const ALSO: [&str; 3] = [
    "datapulse_check_up",
    "datapulse_check_last_success_timestamp_seconds",
    "datapulse_check_data_timestamp_seconds",
];

/// Recorded series that are put there as they are: the name, its labels, a value.
const RECORDED: [(&str, &str, u32); 5] = [
    ("datapulse:push_silence:seconds", "of=\"pushes\"", 300),
    (
        "datapulse:slow_queries:usual",
        "log_group=\"/aws/rds/instance/shop/slowquery\",db_instance=\"shop\"",
        12,
    ),
    ("datapulse:log_usual_silence:seconds", "log_group=\"/aws/rds/instance/shop/slowquery\"", 240),
    ("datapulse:log_group_silent:seconds", "log_group=\"/aws/rds/instance/quiet/slowquery\"", 7200),
    ("datapulse:store_shard_headless", "check=\"sessions\",shard=\"0002\"", 1),
];

/// Countries, their devices at noon, their hour of noon in UTC, and the part that is left in the last hours.
const COUNTRIES: [(&str, f64, i64, f64); 4] =
    [("JP", 4200.0, 3, 1.0), ("TH", 2600.0, 5, 1.0), ("PH", 1900.0, 4, 0.55), ("VN", 240.0, 5, 1.0)];
const OUTAGE: i64 = 5 * HOUR;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// How often everything but the devices is there, and for how long.
const STEP: i64 = 900;
const DAYS: i64 = 15;
/// What the seasonal rules look back on.
const WEEKS: i64 = 5;

/// The Prometheus; it stops on drop.
pub(super) struct History {
    prometheus: Prometheus,
    /// After the server, so that it goes after it.
    _stage: Stage,
}

impl History {
    pub(super) fn start(name: &str) -> Self {
        let stage = stage(name);
        let dir = stage.path();
        // Whole hours: the seasonal rules compare hours.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let end = now / HOUR * HOUR;
        let text = dir.join("history.txt");
        std::fs::write(&text, open_metrics(end, now)).unwrap();
        promtool(dir, &["openmetrics", text.to_str().unwrap()]);
        for (step, names) in SEASON.iter().enumerate() {
            let prometheus = start(dir);
            // Always the same name: it decides at which minute of the hour the rules are evaluated.
            let file = dir.join("season.yml");
            std::fs::write(&file, rules_named(names)).unwrap();
            let times = [format!("--start={}", end - SEASON_DAYS[step] * DAY), format!("--end={end}")];
            let url = format!("--url={}", prometheus.url());
            promtool(
                dir,
                &["rules", &times[0], &times[1], &url, "--eval-interval=1h", file.to_str().unwrap()],
            );
        }
        Self { prometheus: start(dir), _stage: stage }
    }

    pub(super) fn source(&self) -> Source {
        Source {
            port: self.prometheus.port(),
            range: Duration::from_hours(6),
            interval: Duration::from_secs(STEP.cast_unsigned()),
        }
    }
}

/// The recorded series of `alerts/anomaly.yml`, each after those that it is made of, and over how many days.
const SEASON: [&[&str]; 7] = [
    &["datapulse:seasonal_*", "seasonal:value"],
    &["seasonal:usual"],
    &["seasonal:ratio"],
    &["seasonal:expected"],
    &["seasonal:apart", "seasonal:guard"],
    &["seasonal:noise"],
    &["seasonal:low"],
];
const SEASON_DAYS: [i64; 7] = [7 * WEEKS, 20, 20, 18, 16, 8, 8];

/// Samples that come once an hour hold for an hour.
fn start(dir: &Path) -> Prometheus {
    let arguments = ["--storage.tsdb.retention.time=60d", "--query.lookback-delta=61m"];
    Prometheus::start(dir, "global: {}\n", &arguments).unwrap()
}

/// Makes blocks and puts them where the server keeps its own.
fn promtool(dir: &Path, arguments: &[&str]) {
    let (kind, rest) = arguments.split_first().unwrap();
    let mut command = Command::new("promtool");
    command.args(["tsdb", "create-blocks-from", "--max-block-duration=1440h", kind]);
    let data = dir.join("prometheus");
    if *kind == "rules" {
        command.arg("--output-dir").arg(&data).args(rest);
    } else {
        command.args(rest).arg(&data);
    }
    let output =
        command.output().unwrap_or_else(|why| panic!("promtool: {why}; install it with `make setup`"));
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A rule file with these records of the bundled one.
fn rules_named(wanted: &[&str]) -> String {
    let mut text = "groups:\n  - name: season\n    rules:\n".to_owned();
    for rule in rules(&root().join("alerts/anomaly.yml")) {
        let Some(record) = rule.record.filter(|record| wanted.iter().any(|what| names(what, record))) else {
            continue;
        };
        let expression = rule.expression.replace('\n', "\n          ");
        writeln!(text, "      - record: {record}\n        expr: |\n          {expression}").unwrap();
    }
    text
}

/// Whether this entry is about the metric.
fn names(what: &str, metric: &str) -> bool {
    if let Some(start) = what.strip_suffix('*') {
        return metric.starts_with(start);
    }
    selectors(what).iter().any(|one| one.name == metric || is_part(metric, one.name))
}

/// Whether the history has this metric.
pub(super) fn is_here(metric: &str) -> bool {
    ELSEWHERE.iter().chain(&SELDOM).any(|(what, _)| names(what, metric))
}

/// Of a histogram.
fn is_part(metric: &str, name: &str) -> bool {
    metric.strip_prefix(name).is_some_and(|end| ["_bucket", "_sum", "_count"].contains(&end))
}

/// All samples, series by series.
fn open_metrics(end: i64, now: i64) -> String {
    let mut text = String::new();
    let mut put = |series: &str, at: i64, value: f64| writeln!(text, "{series} {value} {at}").unwrap();
    for (country, noon, hour, left) in COUNTRIES {
        let series = format!(
            "device_connections{{{SCRAPED},check=\"devices_lake\",target=\"lake\",country=\"{country}\"}}"
        );
        for at in (end - 7 * WEEKS * DAY..=end).step_by(usize::try_from(HOUR).unwrap()) {
            put(&series, at, devices(at, noon, hour) * if at > end - OUTAGE { left } else { 1.0 });
        }
    }
    let times = || (now - DAYS * DAY..=now).step_by(usize::try_from(STEP).unwrap());
    for (name, labels, value) in RECORDED {
        times().for_each(|at| put(&format!("{name}{{{SCRAPED},{labels}}}"), at, f64::from(value)));
    }
    for entry in entries() {
        let name = entry.family.prometheus();
        if !is_here(&name) && !ALSO.contains(&name.as_str()) {
            continue;
        }
        for (number, labels) in label_sets(&entry).into_iter().enumerate() {
            let number = u32::try_from(number).unwrap();
            for at in times() {
                let past = (at - (now - DAYS * DAY)) / STEP;
                if entry.family.kind == Kind::Histogram {
                    let calls = f64::from(number + 2) * whole(past);
                    for (bound, share) in [("0.5", 0.2), ("2.5", 0.6), ("10", 0.95), ("+Inf", 1.0)] {
                        put(&format!("{name}_bucket{{{labels},le=\"{bound}\"}}"), at, calls * share);
                    }
                    put(&format!("{name}_sum{{{labels}}}"), at, calls * 2.1);
                    put(&format!("{name}_count{{{labels}}}"), at, calls);
                } else {
                    put(
                        &format!("{name}{{{labels}}}"),
                        at,
                        value(&name, entry.family.kind, number, at, past),
                    );
                }
            }
        }
    }
    text + "# EOF\n"
}

const SCRAPED: &str = "job=\"datapulse\",instance=\"made-up:9893\"";

/// Devices at this hour: day and night, weekends, and noise as of a count.
fn devices(at: i64, noon: f64, hour: i64) -> f64 {
    let turn = whole(at - hour * HOUR) / whole(DAY) * std::f64::consts::TAU;
    let weekend = if (at / DAY + 4) % 7 >= 5 { 0.85 } else { 1.0 };
    let usual = noon * weekend * (0.6 + 0.4 * turn.cos());
    // The same noise at the same hour in every run.
    let mixed = at.wrapping_mul(0x9E37_79B9).wrapping_add(hour * 7919).rem_euclid(1009);
    (usual + usual.sqrt() * (whole(mixed) / 504.5 - 1.0)).round()
}

fn whole(number: i64) -> f64 {
    f64::from(i32::try_from(number % i64::from(i32::MAX)).unwrap())
}

/// Every family has each of these values for each of its labels.
fn label_sets(entry: &Entry) -> Vec<String> {
    let own = entry.checks.first().copied().filter(|check| !["sql_query", "athena_query"].contains(check));
    let check = own.unwrap_or("devices_lake");
    let common = entry.common.iter().map(|label| (*label, if *label == "check" { check } else { "lake" }));
    let mut sets =
        vec![common.fold(SCRAPED.to_owned(), |set, (label, value)| format!("{set},{label}=\"{value}\""))];
    for label in entry.family.labels.iter() {
        let values: &[&str] = match label {
            "cluster" => &["sessions"],
            "shard" => &["0001", "0002"],
            "source" => &["automated", "manual"],
            "check_type" if ALSO.contains(&entry.family.prometheus().as_str()) => &["athena_query"],
            "check_type" => &["memorydb", "athena_query", "pg_inflight"],
            "status" => &["queued"],
            "reason" => &["timeout"],
            "kind" => &["failover", "snapshot"],
            "service" => &["athena", "redshift"],
            "operation" => &["GetQueryExecution"],
            "result" if entry.family.prometheus().contains("bulk") => &["indexed", "rejected"],
            "result" => &["ok", "throttled"],
            "sink" => &["otlp", "dogstatsd"],
            "family" => &["redshift_inflight_query_elapsed_seconds"],
            "log_group" => &["/aws/rds/instance/shop/postgresql"],
            "db_instance" => &["shop"],
            "severity" => &["ERROR", "WARNING"],
            "node" => &["10.0.0.1:6379", "10.0.0.2:6379"],
            "slot_name" => &["orders_sub"],
            _ => &["some"],
        };
        let with = |set: &String, value: &str| {
            // A check has one type.
            let other = label == "check_type" && value != "athena_query";
            let set =
                if other { set.replace("\"devices_lake\"", &format!("\"{value}\"")) } else { set.clone() };
            format!("{set},{label}=\"{value}\"")
        };
        sets = sets.iter().flat_map(|set| values.iter().map(move |value| with(set, value))).collect();
    }
    sets
}

/// A value that such a metric may well have; `past` counts the samples before.
fn value(name: &str, kind: Kind, number: u32, at: i64, past: i64) -> f64 {
    let (number, wave) = (f64::from(number), (whole(at) / 9000.0).sin());
    let scale = if name.contains("_bytes") { 4.0e8 } else { 1.0 };
    match kind {
        Kind::Counter(_) if number > 0.0 && !name.contains("_bytes") => (whole(past) / 7.0).floor() * number,
        Kind::Counter(_) => whole(past) * scale * 3.0,
        _ if name.ends_with("_timestamp_seconds") => whole(at - at % HOUR) - number * 7.0 * 3600.0,
        _ if name.ends_with("last_id") => (whole(past) / 7.0).floor(),
        _ if name.ends_with("ratio") => 1.0 - 0.8 * whole(at % DAY) / whole(DAY),
        _ if name.ends_with("paused") => f64::from(u8::from(at % (6 * HOUR) < HOUR)),
        _ if name.ends_with("nodes_desired") => 2.0,
        _ if name.ends_with("nodes_available") => {
            2.0 - f64::from(u8::from(number > 0.0 && at % (4 * HOUR) < HOUR))
        }
        _ if name.ends_with("_up") || name.ends_with("_available") || name.ends_with("_state") => 1.0,
        _ => (number + 1.0) * scale * (2.0 + wave),
    }
}
