//! The keys with all their faults, what two checks may call alike, and since when rows are asked for. How rows become samples is told
//! beside `columns`.

use super::*;
use crate::checks;
use crate::config;
use crate::config::Plan;
use crate::config::secret::{Environment, Vault};
use std::path::Path;
use std::sync::Arc;

/// Loads a configuration; `c.yml` stands for its file.
fn load(name: &str, checks: &str) -> Result<Plan, String> {
    let dir = std::env::temp_dir().join(format!("datapulse-sql-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let environment: Environment = Arc::new(|_| None);
    let targets = "targets: {a: {host: a.db, user: u, database: d}, b: {host: b.db, user: u, database: d}}\n";
    std::fs::write(dir.join("c.yml"), format!("{targets}checks:\n{checks}")).unwrap();
    let plan = config::check(&dir.join("c.yml"), &environment);
    std::fs::remove_dir_all(&dir).unwrap();
    plan.map(|outline| outline.plan)
        .map_err(|faults| faults.to_string().replace(&format!("{}/", dir.display()), ""))
}

/// A check of this name with one gauge of devices, and more keys.
fn devices(name: &str, metric: &str, keys: &str) -> String {
    format!(
        "  - sql_query:\n      name: {name}\n      target: a\n      sql: select country, devices from seen\n      \
         metrics: [{{value: devices, labels: [country], {metric}}}]\n{keys}"
    )
}

/// The faults begin so, line by line, and there are no others.
fn faults(name: &str, checks: &str, expected: &[&str]) {
    let faults = load(name, checks).unwrap_err();
    assert_eq!(faults.lines().count(), expected.len(), "{faults}");
    for (found, expected) in faults.lines().zip(expected) {
        assert!(found.starts_with(expected), "{expected}\nis not\n{found}");
    }
}

/// The check of a configuration; it is never run.
fn check(plan: &Plan) -> SqlQuery {
    let [assignment] = plan.assignments.as_slice() else { panic!("{:?}", plan.assignments) };
    let checks::Config::SqlQuery(config) = &assignment.config else { panic!("{:?}", assignment.config) };
    let vault = Arc::new(Vault::new(Arc::new(|_| None), Path::new("/")));
    SqlQuery::new(config, &assignment.clients(&vault, None))
}

#[test]
fn a_check_gives_its_own_families_and_every_target_has_them() {
    let keys =
        "      fill: {country: [JP, NO]}\n      freshness: newest\n      max_data_age: 1h\n      limit: 5\n";
    let text =
        devices("n", "name: device.connections, help: h", keys).replace("target: a", "targets: [a, b]");
    let plan = load("own", &text).unwrap();
    let [a, b] = plan.assignments.as_slice() else { panic!("{:?}", plan.assignments) };
    assert_eq!(a.config, b.config);
    assert_eq!((a.every, a.timeout, a.limit), (Duration::from_mins(1), Duration::from_secs(10), 5));
    let names: Vec<String> = a.config.families().iter().map(|family| family.prometheus()).collect();
    assert_eq!(
        names,
        ["device_connections", "datapulse_check_data_timestamp_seconds", "datapulse_target_paused"]
    );
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let checks = "  - sql_query:
      name: one
      target: a
      sql: select 1; drop table seen
      limt: 5
      metrics:
        - {name: a.b_total, value: v, unit: ms, labels: [job], help: h}
        - {name: c, vlaue: v, help: h}
  - sql_query:
      name: two
      target: c
      every: 5
      sql: DELETE from seen
      metrics: [{name: d, value: v, labels: [x, y], help: h, kind: histogram, buckets: [2, 1]}]
      fill: {z: [1]}
      empty: zero
      max_data_age: 1h
  - sql_query: {name: three, target: a, metrics: [{name: pg.inflight.queries, value: v, help: h}], sql: select 1}
  - sql_query: {name: four, target: a, metrics: [{name: e, value: v, labels: [x, y], help: h}], fill: {x: [1]}}
  - sql_query: {name: five, target: a, metrics: [], sql: 'select * into t from seen', empty: none}
";
    let accepted = "accepted: sql, target, targets, discover, name, every, offset, timeout, keep_for, limit, labels, \
                    thresholds, metrics, fill, empty, freshness, max_data_age";
    let expected = [
        "c.yml:6:12: checks[0].sql_query.sql: expected one statement, found 2; write a check for each statement",
        &format!("c.yml:7:7: checks[0].sql_query.limt: unknown key; did you mean \"limit\"? {accepted}"),
        "c.yml:9:18: checks[0].sql_query.metrics[0].name: ends with _total; ",
        "c.yml:9:45: checks[0].sql_query.metrics[0].unit: not a unit that is known here; ",
        "c.yml:9:57: checks[0].sql_query.metrics[0].labels: \"job\" cannot be a label here; ",
        "c.yml:10:21: checks[0].sql_query.metrics[1].vlaue: unknown key; did you mean \"value\"?",
        "c.yml:13:15: checks[1].sql_query.target: there is no target \"c\"",
        "c.yml:14:14: checks[1].sql_query.every: a duration needs a unit; write 5s",
        "c.yml:15:12: checks[1].sql_query.sql: not a statement that reads; it has to begin with one of select, with, ",
        "c.yml:16:88: checks[1].sql_query.metrics[0].buckets: expected 1 to 100 ascending numbers; ",
        "c.yml:17:13: checks[1].sql_query.fill.z: no metric has this label",
        "c.yml:19:21: checks[1].sql_query.max_data_age: needs `freshness`; ",
        "c.yml:20:58: checks[2].sql_query.metrics: pg_inflight_queries is a metric of datapulse itself; ",
        "c.yml:21:16: checks[3].sql_query.sql: missing key",
        "c.yml:21:78: checks[3].sql_query.metrics[0].labels: `fill` names values for some of these labels only; ",
        "c.yml:22:58: checks[4].sql_query.sql: `into` makes a table; leave it out; ",
        "c.yml:22:94: checks[4].sql_query.empty: unknown word \"none\"; ",
    ];
    faults("all", checks, &expected);
}

#[test]
fn a_statement_that_could_write_is_refused() {
    for (at, (sql, words)) in [
        ("select 1; select 2", "expected one statement, found 2"),
        ("select 1;; ;delete from seen", "expected one statement, found 2"),
        ("''", "expected one statement, found 0"),
        ("' -- nothing'", "expected one statement, found 0"),
        ("delete from seen", "not a statement that reads"),
        ("/* select */ Update seen set a = 1", "not a statement that reads"),
        ("insert into seen values (1)", "not a statement that reads"),
        ("create table x as select 1", "not a statement that reads"),
        ("unload ('select 1') to 's3://x'", "not a statement that reads"),
        ("set session characteristics as transaction read write", "not a statement that reads"),
        ("call p()", "not a statement that reads"),
        ("do $$ begin end $$", "not a statement that reads"),
        ("(select 1) union select 2", ""),
        ("SELECT * INTO t FROM seen", "`into` makes a table"),
        ("with x as (select 1) select * into temp t from x", "`into` makes a table"),
    ]
    .into_iter()
    .enumerate()
    {
        let text = devices("n", "name: x, help: h", "").replace("select country, devices from seen", sql);
        let found = load(&format!("write-{at}"), &text);
        if words.is_empty() {
            assert!(found.is_ok(), "{sql}: {found:?}");
            continue;
        }
        let found = found.unwrap_err();
        let start = format!("c.yml:6:12: checks[0].sql_query.sql: {words}");
        assert!(found.starts_with(&start) && found.lines().count() == 1, "{sql}: {found}");
        assert!(!found.trim_end().ends_with(';'), "an advice without words: {found}");
    }
}

#[test]
fn a_statement_that_reads_is_taken_as_it_stands() {
    let text = devices("n", "name: x, help: h", "");
    let block = "|\n        -- devices; by country\n        with d as (select ';' as \"into\")\n        select country, devices from d;";
    let plan = load("reads", &text.replace("select country, devices from seen", block)).unwrap();
    let expected =
        "-- devices; by country\nwith d as (select ';' as \"into\")\nselect country, devices from d;\n";
    assert_eq!(check(&plan).sql, expected);
}

#[test]
fn a_name_that_is_built_in_is_refused() {
    for (at, (metric, name)) in [
        ("name: redshift.inflight.queries, help: h", "redshift_inflight_queries"),
        // Spelled otherwise, and yet the same in Prometheus.
        ("name: redshift_inflight.oldest, unit: s, help: h", "redshift_inflight_oldest_seconds"),
        (
            "name: pg.stat_subscription.apply_errors, kind: counter, help: h",
            "pg_stat_subscription_apply_errors_total",
        ),
        ("name: process.open_fds, help: h", "process_open_fds"),
    ]
    .into_iter()
    .enumerate()
    {
        let expected = format!(
            "c.yml:7:{}: checks[0].sql_query.metrics: {name} is a metric of datapulse itself; take another name",
            "      metrics: [{value: devices, labels: [country], name: x".len()
        );
        faults(&format!("built-{at}"), &devices("n", metric, ""), &[&expected]);
    }
}

#[test]
fn one_name_has_one_meaning_in_all_checks() {
    let one = devices("one", "name: device.connections, unit: '{device}', help: Devices", "");
    let two = |metric: &str| one.clone() + &devices("two", metric, "");
    let same = "name: device.connections, unit: '{device}', help: Devices";
    assert!(load("same", &two(same)).is_ok(), "the same may come from two databases");
    for (at, metric) in [
        "name: device.connections, unit: '{device}', help: devices",
        "name: device.connections, help: Devices",
        "name: device.connections, unit: '{device}', help: Devices, datadog_name: d",
        // The same in Prometheus, and two names elsewhere.
        "name: device_connections, unit: '{device}', help: Devices",
    ]
    .into_iter()
    .enumerate()
    {
        let expected = format!(
            "c.yml:12:{}: checks[1].sql_query.metrics: device_connections of the check one has another kind, unit, help or spelling; ",
            "      metrics: [{value: devices, labels: [country], name: x".len()
        );
        faults(&format!("other-{at}"), &two(metric), &[&expected]);
    }
}

#[test]
fn no_sample_gets_a_label_twice_and_no_histogram_a_name_of_another() {
    let text = devices("n", "name: device.connections, help: h", "      labels: {country: all}\n");
    faults(
        "label",
        &text,
        &[
            "c.yml:7:59: checks[0].sql_query.metrics: device_connections has a label country from a column, and `labels` has one too",
        ],
    );
    let histogram = devices(
        "n",
        "name: device, kind: histogram, help: h}, {name: device.count, value: devices, help: h",
        "",
    );
    let refused = load("parts", &histogram).unwrap_err();
    assert!(
        refused.contains("device_count of the check n has another kind, unit, help or spelling"),
        "{refused}"
    );
    let kinds = devices("one", "name: device.connections, help: h", "")
        + &devices("two", "name: device.connections, kind: counter, help: h", "");
    let refused = load("kinds", &kinds).unwrap_err();
    assert!(refused.contains("device_connections_total of the check one has another kind"), "{refused}");
}

#[test]
fn one_check_cannot_give_one_name_twice() {
    let metrics = "name: device.connections, help: h}, {name: device.connections, value: x, help: h}, {name: device_connections, value: y, help: h";
    let text = devices("n", metrics, "");
    let twice = "c.yml:7:96: checks[0].sql_query.metrics[1].name: another metric of this check has this name";
    faults("twice", &text, &[twice]);
    let text = text.replace("{name: device.connections, value: x, help: h}, ", "");
    faults(
        "alike",
        &text,
        &["c.yml:7:96: checks[0].sql_query.metrics: device_connections of the check n has another"],
    );
}

#[test]
fn rows_are_asked_for_since_the_last_good_run() {
    let keys = "      freshness: newest\n      max_data_age: 1h\n      fill: {country: [JP]}\n";
    let plan = load("since", &devices("n", "name: x, help: h", keys)).unwrap();
    let mut check = check(&plan);
    assert_eq!(check.since, None, "the first run asks for one interval");
    let mut take = |now: &str, rows: &[&[Option<&str>]]| {
        let table = Table::of(&["country", "devices", "newest"], rows);
        let told = check.take(&table, now.parse().unwrap(), &mut Answer::new());
        let reason = told.result.err().map(|problem| problem.reason.as_str());
        (reason, check.since.map(|since| since.to_string()))
    };
    let rows = [Some("JP"), Some("1"), Some("2026-11-20 08:30:00")];
    let first = Some("2026-11-20T09:00:00Z".to_owned());
    assert_eq!(take("2026-11-20T09:00:00Z", &[&rows]), (None, first.clone()));
    // What was refused was counted nowhere, so it is asked for again.
    assert_eq!(take("2026-11-20T10:00:00Z", &[&rows]), (Some("stale_data"), first.clone()));
    assert_eq!(take("2026-11-20T10:01:00Z", &[]), (Some("empty"), first));
    assert_eq!(take("2026-11-20T09:10:00Z", &[&rows]), (None, Some("2026-11-20T09:10:00Z".to_owned())));
}

#[test]
fn a_problem_names_the_server_that_was_asked() {
    let plan = load("names", &devices("n", "name: x, help: h", "")).unwrap();
    let table = Table::of(&["devices"], &[]);
    let told = check(&plan).take(&table, Timestamp::UNIX_EPOCH, &mut Answer::new());
    let words = "the result of the statement on a has no column country; it has: devices";
    assert_eq!(told.result.unwrap_err().to_string(), words);
}
