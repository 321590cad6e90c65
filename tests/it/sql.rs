//! `sql_query` on a real server: what a team asks in SQL becomes gauges, counters and histograms.

use crate::program::{Program, datapulse, finish, role, target};
use crate::stage::{eventually, shared_pair, stage};

/// A database of this name with a table of devices, and a role that may read it; gives its target.
fn devices(name: &str) -> String {
    let server = &shared_pair().subscriber;
    server.sql("postgres", &format!("create database {name}")).unwrap();
    role(server, &format!("{name}_eye"), "");
    let text = "create table seen (country text, device int, took float8, loaded timestamptz default now())";
    server.sql(name, &format!("{text}; grant select on seen to {name}_eye")).unwrap();
    target(server, &format!("{name}_eye"), name)
}

fn ask(name: &str, text: &str) -> String {
    shared_pair().subscriber.sql(name, text).unwrap()
}

const SQL: &str =
    "select country, count(distinct device) as devices, max(loaded) as newest from seen group by 1";

fn config(target: &str, keys: &str) -> String {
    format!(
        "checks:\n  - sql_query:\n      name: devices\n      every: 1s\n      target: {target}\n      sql: \"{SQL}\"\n      \
         metrics: [{{name: device.connections, value: devices, labels: [country], unit: '{{device}}', help: devices}}]\n{keys}"
    )
}

#[test]
fn a_country_without_a_row_is_zero_and_a_late_load_is_no_outage() {
    let target = devices("sql_fill");
    ask("sql_fill", "insert into seen values ('JP', 1), ('JP', 2), ('JP', 2), ('TH', 3)");
    let config = config(
        &target,
        "      fill: {country: [JP, TH, PH]}\n      freshness: newest\n      max_data_age: 10m\n",
    );
    let program = Program::start("sql-fill", &config, &[]);
    program.wait_for("device_connections", &[("country", "JP")], |devices| devices == 2.0);
    let samples = program.scrape();
    assert_eq!(samples.value("device_connections", &[("country", "TH")]), Some(1.0));
    assert_eq!(samples.value("device_connections", &[("country", "PH")]), Some(0.0), "known, without a row");
    let loaded: f64 = ask("sql_fill", "select extract(epoch from max(loaded)) from seen").parse().unwrap();
    let shown = samples.value("datapulse_check_data_timestamp_seconds", &[("check", "devices")]).unwrap();
    assert!((shown - loaded).abs() < 0.001, "{shown} {loaded}");

    // No row at all: unknown, not zero.
    ask("sql_fill", "truncate seen");
    program.wait_for("datapulse_check_failures_total", &[("reason", "empty")], |count| count >= 1.0);
    let samples = program.scrape();
    assert_eq!(samples.all("device_connections", &[]).count(), 0);
    assert_eq!(samples.value("datapulse_check_up", &[("check", "devices")]), Some(0.0));

    // Old data: a failure, and their age is still told.
    ask("sql_fill", "insert into seen values ('JP', 1, null, now() - interval '1 hour')");
    program.wait_for("datapulse_check_failures_total", &[("reason", "stale_data")], |count| count >= 1.0);
    let samples = program.scrape();
    assert_eq!(samples.all("device_connections", &[]).count(), 0);
    let age = loaded - samples.value("datapulse_check_data_timestamp_seconds", &[]).unwrap();
    assert!((3000.0..3700.0).contains(&age), "{age}");
}

#[test]
fn values_that_are_none_and_rows_that_are_double_are_told_and_the_others_stay() {
    let target = devices("sql_wrong");
    let sql = "select * from (values ('JP', '7'), ('TH', null), ('PH', 'NaN'), ('KH', 'many'), ('JP', '8')) as t (country, devices)";
    let config = config(&target, "").replace(SQL, sql);
    let program = Program::start("sql-wrong", &config, &[]);
    program.wait_for("device_connections", &[("country", "JP")], |devices| devices == 7.0);
    let samples = program.scrape();
    assert_eq!(samples.all("device_connections", &[]).count(), 1);
    let failures = samples.value("datapulse_check_failures_total", &[("reason", "decode")]).unwrap();
    assert!(failures >= 3.0, "NULL, no number, and twice: {failures}");
    let page = program.get("/");
    for words in [
        "row 5 has the labels of row 1: country=&quot;JP&quot;",
        "no value (NULL)",
        "2 rows of the statement",
    ] {
        assert!(page.contains(words), "{words}\n{page}");
    }
}

#[test]
fn rows_become_a_histogram_and_a_limit_cuts_visibly() {
    let target = devices("sql_histogram");
    let sql = "select country, took from seen where took is not null";
    let text = config(&target, "      limit: 2\n").replace(SQL, sql).replace(
        "{name: device.connections, value: devices, labels: [country], unit: '{device}', help: devices}",
        "{name: device.answer, value: took, labels: [country], kind: histogram, unit: s, help: answers, buckets: [1, 10]}",
    );
    ask("sql_histogram", "insert into seen values ('JP', 1, 0.5), ('JP', 2, 5), ('TH', 3, 50), ('PH', 4, 7)");
    let program = Program::start("sql-histogram", &text, &[]);
    let count = |samples: &crate::program::Samples, name: &str, country: &str| {
        samples.value(name, &[("country", country)])
    };
    let runs = eventually("two runs and more", || {
        let samples = program.scrape();
        let runs = samples.value("datapulse_check_runs_total", &[("check", "devices")])?;
        let total = count(&samples, "device_answer_seconds_count", "JP")?;
        (total > 0.0 && total == runs * 2.0).then_some(samples)
    });
    // The statement gives each row at each run, and each is counted at each: it has to name each row once.
    let total = count(&runs, "device_answer_seconds_count", "JP").unwrap();
    assert_eq!(
        runs.value("device_answer_seconds_bucket", &[("country", "JP"), ("le", "1.0")])
            .or_else(|| runs.value("device_answer_seconds_bucket", &[("country", "JP"), ("le", "1")])),
        Some(total / 2.0)
    );
    let other = count(&runs, "device_answer_seconds_count", "other").unwrap();
    assert_eq!(other, total, "two countries beyond the limit went to one, none is lost");
    let sum = count(&runs, "device_answer_seconds_sum", "other").unwrap();
    assert!((sum - 57.0 * total / 2.0).abs() < 1e-6, "{sum}");
}

#[test]
fn the_session_only_reads_and_is_in_utc() {
    let target = devices("sql_session");
    let sql = "select current_setting('TimeZone') as country, case current_setting('transaction_read_only') when 'on' then 1 end as devices";
    let text = config(&target, "").replace(SQL, sql);
    let program = Program::start("sql-session", &text, &[]);
    program.wait_for("device_connections", &[("country", "UTC")], |on| on == 1.0);
}

#[test]
fn a_second_statement_is_refused_before_anything_is_asked() {
    let folder = stage("sql-refused");
    let file = folder.path().join("datapulse.yml");
    let text = config("{host: h, user: u, database: d}", "").replace(SQL, "select 1; drop table seen");
    std::fs::write(&file, text).unwrap();
    let (status, _, errors) = finish(datapulse(["validate", "--config.file"]).arg(&file));
    assert_eq!(status, 64);
    assert!(
        errors.contains("c:")
            || errors
                .contains("datapulse.yml:6:12: checks[0].sql_query.sql: expected one statement, found 2"),
        "{errors}"
    );
}
