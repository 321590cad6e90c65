//! Checks and secrets on AWS: moto plays it, a proxy between records every call and breaks some.

use crate::insights::{self, Insights, Script, Status};
use crate::moto::Moto;
use crate::program::{Program, datapulse, finish, role};
use crate::recorder::{ALL, Fault, Recorder};
use crate::stage::{PASSWORD, eventually, root, shared_pair, stage};
use crate::wire::{ACCESS_KEY, Answer, REGION};
use datapulse::demo::parts::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const COUNTRIES: [(&str, &str); 2] = [("country", "varchar"), ("devices", "bigint")];
const ROWS: [&[Option<&str>]; 3] =
    [&[Some("JP"), Some("3200")], &[Some("TH"), Some("5400")], &[Some("PH"), None]];

/// AWS as these tests see it.
pub(crate) struct Cloud {
    pub(crate) moto: Moto,
    pub(crate) recorder: Recorder,
}

impl Cloud {
    pub(crate) fn start(name: &str) -> Self {
        let moto = Moto::start(name);
        let recorder = Recorder::start(moto.port());
        Self { moto, recorder }
    }

    /// Lets a command meet it.
    fn reach(&self, command: &mut Command) {
        reach(&self.recorder, command);
    }

    pub(crate) fn serve(&self, name: &str, config: &str) -> Program {
        Program::start_as(name, config, &["--web.enable-lifecycle"], |command, _| self.reach(command))
    }

    /// Every query of Athena scans so many bytes.
    fn scans_a_gigabyte(&self) {
        self.recorder.fail(
            "GetQueryExecution",
            Fault::Edited(|answer| {
                answer["QueryExecution"]["Statistics"]["DataScannedInBytes"] = 1_000_000_000_u64.into();
            }),
        );
    }
}

/// Lets a command take this for AWS.
pub(crate) fn reach(recorder: &Recorder, command: &mut Command) {
    for (name, value) in [
        ("AWS_ENDPOINT_URL", recorder.url().as_str()),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", "canary-secret-key"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ] {
        command.env(name, value);
    }
}

/// The check, with further keys; state in `dir`.
fn athena(dir: &Path, keys: &str) -> String {
    format!(
        "data_dir: {}\nchecks:\n  - athena_query:\n      name: lake\n      output: s3://results/\n      database: lake\n      \
         sql: select country, count(distinct device) as devices from connections group by 1\n      \
         metrics: [{{name: device.connections, value: devices, labels: [country], unit: '{{device}}', help: devices}}]\n{keys}",
        dir.display()
    )
}

#[test]
fn rows_of_athena_become_gauges_and_a_restart_neither_pays_twice_nor_loses_them() {
    let cloud = Cloud::start("athena-rows");
    cloud.moto.athena_lasts(1);
    cloud.moto.athena_results(&COUNTRIES, &ROWS);
    cloud.scans_a_gigabyte();
    let folder = stage("athena-state");
    // The grid of the wall clock must not fall into this test: a second run would find no rows.
    let offset = (jiff::Timestamp::now().as_second() / 60 + 30).rem_euclid(60);
    let config = athena(
        &folder.path().join("data"),
        &format!("      every: 1h\n      offset: {offset}m\n      budget: {{scanned_bytes_per_day: 4GB}}\n"),
    );
    let program = cloud.serve("athena-rows", &config);
    program.wait_for("device_connections", &[("country", "JP")], |devices| devices == 3200.0);
    let seen = |program: &Program| {
        let samples = program.scrape();
        assert_eq!(samples.value("device_connections", &[("country", "TH")]), Some(5400.0));
        assert_eq!(
            samples.value("device_connections", &[("country", "PH")]),
            None,
            "NULL is absent, not zero"
        );
        assert_eq!(samples.value("datapulse_athena_scanned_bytes_total", &[("check", "lake")]), Some(1e9));
        let left = samples.value("datapulse_check_budget_remaining_ratio", &[("check", "lake")]).unwrap();
        assert!((left - 0.75).abs() < 1e-9, "{left}");
    };
    seen(&program);
    let failures = program.scrape().value("datapulse_check_failures_total", &[("reason", "decode")]);
    assert_eq!(failures, Some(1.0), "the NULL is counted");
    assert_eq!(cloud.recorder.count("StartQueryExecution"), 1);
    let start =
        cloud.recorder.calls().into_iter().find(|call| call.operation == "StartQueryExecution").unwrap();
    assert_eq!(start.signature.as_ref().map(|by| by.access_key.as_str()), Some(ACCESS_KEY));
    let body: Value = serde_json::from_slice(&start.request.body).unwrap();
    assert_eq!(
        (body["WorkGroup"].as_str(), body["ResultConfiguration"]["OutputLocation"].as_str()),
        (Some("primary"), Some("s3://results/"))
    );
    assert_eq!(body["QueryExecutionContext"]["Database"], "lake");
    assert!(body["ClientRequestToken"].as_str().unwrap().len() >= 32);

    // Our own counters are the calls that were made.
    eventually("the instruments are read", || {
        let samples = program.scrape();
        let told: f64 = samples.all("datapulse_aws_api_calls_total", &[]).map(|sample| sample.value).sum();
        (told == cloud.recorder.count(ALL) as f64).then_some(())
    });
    let next: Value = serde_json::from_str(&program.get("/api/v1/checks")).unwrap();
    let rest = next["checks"][0]["next_run_seconds"].as_f64().unwrap();
    let aligned =
        (jiff::Timestamp::now().as_second() as f64 + rest - offset as f64 * 60.0).rem_euclid(3600.0);
    assert!(!(3.0..3597.0).contains(&aligned), "at the offset, not {aligned} s beside it");

    program.signal(Signal::Kill);
    drop(program);
    let again = cloud.serve("athena-again", &config);
    again.wait_for("device_connections", &[("country", "JP")], |devices| devices == 3200.0);
    seen(&again);
    assert_eq!(
        again.scrape().value("datapulse_check_runs_total", &[("check", "lake")]),
        Some(0.0),
        "recalled, not run"
    );
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(cloud.recorder.count("StartQueryExecution"), 1, "a restart pays nothing");

    beside_a_process_that_runs(&cloud, folder.path(), &config, again.pid());
}

/// Other commands on the configuration and the state of a process that runs.
fn beside_a_process_that_runs(cloud: &Cloud, folder: &Path, config: &str, pid: u32) {
    // A second process on the directory is told who holds it.
    let second = folder.join("second.yml");
    std::fs::write(&second, config).unwrap();
    let mut command = datapulse(["serve", "--web.listen-address", "127.0.0.1:0", "--config.file"]);
    let (status, _, errors) = finish(command.arg(&second));
    assert_eq!(status, 64);
    assert!(errors.contains(&format!("in use by process {pid}")), "{errors}");

    // What it costs stands in doctor, which runs nothing; `once` wants to be told.
    let mut doctor = datapulse(["doctor", "--config.file"]);
    cloud.reach(&mut doctor);
    let (_, text, _) = finish(doctor.arg(&second));
    assert!(text.contains("24 runs a day are 24.000 GB, about 0.12 USD a day"), "{text}");
    assert!(text.contains("the budget of 4000000000 bytes"), "{text}");
    let mut once = datapulse(["once", "--config.file"]);
    cloud.reach(&mut once);
    let (status, text, _) = finish(once.arg(&second));
    assert!(status == 0 && text.contains("not run, because each run costs money: lake"), "{text}");
    assert_eq!(cloud.recorder.count("StartQueryExecution"), 1);
    cloud.moto.athena_results(&COUNTRIES, &ROWS);
    let mut spend = datapulse(["once", "lake", "--spend", "--config.file"]);
    cloud.reach(&mut spend);
    let (_, text, errors) = finish(spend.arg(&second));
    assert!(
        text.contains("device_connections{country=\"JP\"}")
            && text.contains("datapulse_athena_scanned_bytes_total"),
        "{text}{errors}"
    );
    let uncounted = format!(
        "is not counted for the budget of the day: data_dir: {}/data is in use by process {pid}",
        folder.display()
    );
    assert!(text.contains(&uncounted), "{text}");
    assert_eq!(cloud.recorder.count("StartQueryExecution"), 2);
}

#[test]
fn what_once_scans_counts_for_the_day_where_no_service_runs() {
    let cloud = Cloud::start("athena-once");
    cloud.moto.athena_lasts(1);
    cloud.scans_a_gigabyte();
    let folder = stage("athena-once");
    let keys = "      every: 1h\n      budget: {scanned_bytes_per_day: 1500MB}\n";
    let config = folder.path().join("c.yml");
    std::fs::write(&config, athena(&folder.path().join("data"), keys)).unwrap();
    for (scanned, left, words) in
        [(1e9, "0.333", "device_connections"), (2e9, "0", "device_connections"), (2e9, "0", "budget")]
    {
        cloud.moto.athena_results(&COUNTRIES, &ROWS[..2]);
        let mut spend = datapulse(["once", "lake", "--spend", "--config.file"]);
        cloud.reach(&mut spend);
        let (_, text, errors) = finish(spend.arg(&config));
        let value = |name: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
            line.split_whitespace().last().unwrap_or_default().to_owned()
        };
        assert!(text.contains(words) && !text.contains("not counted"), "{text}{errors}");
        assert_eq!(value("datapulse_athena_scanned_bytes_total").parse(), Ok(scanned), "{text}");
        assert!(value("datapulse_check_budget_remaining_ratio").starts_with(left), "{text}");
    }
    assert_eq!(cloud.recorder.count("StartQueryExecution"), 2, "the third would be over the budget");
    // Nothing else of the state is touched: the service would run at once.
    let state = std::fs::read_to_string(folder.path().join("data/checks/lake.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!((&state["last_start"], &state["answer"]), (&Value::Null, &Value::Null), "{state}");
}

#[test]
fn a_query_that_is_stuck_is_stopped_at_the_timeout_at_a_reload_and_at_the_end() {
    let cloud = Cloud::start("athena-stuck");
    cloud.moto.athena_lasts(1_000_000);
    let folder = stage("athena-stuck-state");
    let config = athena(&folder.path().join("data"), "      every: 2s\n      timeout: 1s\n");
    let program = cloud.serve("athena-stuck", &config);
    program.wait_for("datapulse_check_failures_total", &[("reason", "timeout")], |count| count >= 1.0);
    let nothing_runs = |cloud: &Cloud, least: usize| {
        eventually("nothing is left running", || {
            let stopped = cloud.recorder.count("StopQueryExecution") >= least;
            (stopped && cloud.moto.running_athena_queries().is_empty()).then_some(())
        });
    };
    nothing_runs(&cloud, 1);
    // From now on a query may take its time, and is stopped by what else happens. Another name is another check, which is due.
    let patient = config.replace("every: 2s\n      timeout: 1s", "every: 1h\n      timeout: 10m");
    for name in ["second", "third"] {
        let before = cloud.recorder.count("StopQueryExecution");
        let was_running = cloud.moto.running_athena_queries().len();
        program.configure(&patient.replace("name: lake", &format!("name: {name}")));
        assert_eq!(program.request("POST", "/-/reload", "").status, 200);
        eventually("the reload stopped what ran", || {
            (cloud.recorder.count("StopQueryExecution") >= before + was_running).then_some(())
        });
        eventually("the next query runs", || (cloud.moto.running_athena_queries().len() == 1).then_some(()));
    }
    program.signal(Signal::Term);
    let (status, took) = program.end();
    assert_eq!(status.code(), Some(0), "{}", program.log());
    println!("the end took {took:?}");
    assert!(cloud.moto.running_athena_queries().is_empty(), "nothing is left running");
}

#[test]
fn a_start_whose_answer_is_lost_leaves_nothing_running_either() {
    let cloud = Cloud::start("athena-lost");
    cloud.moto.athena_lasts(1_000_000);
    cloud.recorder.fail_times("StartQueryExecution", 1, Fault::Hang);
    let folder = stage("athena-lost-state");
    let program = cloud
        .serve("athena-lost", &athena(&folder.path().join("data"), "      every: 4s\n      timeout: 1s\n"));
    program.wait_for("datapulse_check_failures_total", &[("reason", "timeout")], |count| count >= 1.0);
    eventually("the same start was sent again and stopped", || {
        let tokens: Vec<Value> = cloud
            .recorder
            .calls()
            .iter()
            .filter(|call| call.operation == "StartQueryExecution")
            .map(|call| {
                serde_json::from_slice::<Value>(&call.request.body).unwrap()["ClientRequestToken"].clone()
            })
            .collect();
        let twice = tokens.len() >= 2 && tokens[0] == tokens[1];
        (twice && cloud.recorder.count("StopQueryExecution") >= 1).then_some(())
    });
}

#[test]
fn a_budget_of_zero_starts_nothing_and_a_spent_one_says_so() {
    let cloud = Cloud::start("athena-budget");
    cloud.moto.athena_lasts(1);
    let folder = stage("athena-budget-state");
    let keys = "      every: 1s\n      timeout: 900ms\n      budget: {scanned_bytes_per_day: 0}\n";
    let program = cloud.serve("athena-budget", &athena(&folder.path().join("none"), keys));
    program.wait_for("datapulse_check_failures_total", &[("reason", "budget")], |count| count >= 2.0);
    assert_eq!(
        program.scrape().value("datapulse_check_budget_remaining_ratio", &[("check", "lake")]),
        Some(0.0)
    );
    assert_eq!(cloud.recorder.count(ALL), 0, "{:?}", cloud.recorder.calls());
    assert!(program.get("/").contains("budget"));
    drop(program);

    cloud.scans_a_gigabyte();
    for _ in 0..9 {
        cloud.moto.athena_results(&COUNTRIES, &ROWS);
    }
    let keys = keys.replace("day: 0", "day: 1500MB").replace("900ms", "5s");
    let program = cloud.serve("athena-spent", &athena(&folder.path().join("some"), &keys));
    program.wait_for("datapulse_check_failures_total", &[("reason", "budget")], |count| count >= 2.0);
    let samples = program.scrape();
    assert_eq!(
        samples.value("datapulse_athena_scanned_bytes_total", &[]),
        Some(2e9),
        "one query over it at most"
    );
    assert_eq!(samples.all("device_connections", &[]).count(), 0, "what is not asked is not shown");
    assert_eq!(cloud.recorder.count("StartQueryExecution"), 2);
}

#[test]
fn what_aws_refuses_has_its_reason_and_is_not_asked_again_and_again() {
    let cloud = Cloud::start("athena-refused");
    let folder = stage("athena-refused-state");
    let config = athena(&folder.path().join("data"), "      every: 1s\n      timeout: 900ms\n");
    cloud.recorder.fail(ALL, Fault::Throttle);
    let program = cloud.serve("athena-refused", &config);
    let failed = |reason: &str| {
        let before = program
            .scrape()
            .value("datapulse_check_failures_total", &[("reason", reason)])
            .unwrap_or_default();
        program.wait_for("datapulse_check_failures_total", &[("reason", reason)], |count| count > before);
    };
    program.wait_for("datapulse_check_runs_total", &[("check", "lake")], |runs| runs >= 10.0);
    let runs = program.scrape().value("datapulse_check_runs_total", &[("check", "lake")]).unwrap();
    let calls = cloud.recorder.count(ALL) as f64;
    println!("{calls} calls in {runs} runs while AWS says slow down: {:.2} a run", calls / runs);
    assert!(calls <= runs * 1.2 + 1.0, "{calls} calls in {runs} runs");
    for (fault, reason) in [
        (Fault::Denied, "permission"),
        (Fault::Expired, "credentials"),
        (Fault::Empty, "protocol"),
        (Fault::Garbage, "protocol"),
        (Fault::Redirect("http://169.254.169.254/".to_owned()), "protocol"),
        (Fault::Endless, "too_large"),
        (Fault::Hang, "timeout"),
    ] {
        cloud.recorder.calm();
        cloud.recorder.fail(ALL, fault.clone());
        println!("{fault:?} is {reason}");
        failed(reason);
    }
    cloud.recorder.calm();
    cloud.moto.athena_results(&COUNTRIES, &ROWS);
    for _ in 0..30 {
        cloud.moto.athena_results(&COUNTRIES, &ROWS);
    }
    program.wait_for("device_connections", &[("country", "JP")], |devices| devices == 3200.0);
    let log = program.log();
    assert!(!log.contains("canary-secret-key"));
}

#[test]
fn a_result_set_without_its_columns_is_a_failure_and_no_quiet_day() {
    let cloud = Cloud::start("athena-hollow");
    for _ in 0..60 {
        cloud.moto.athena_results(&COUNTRIES, &[]);
    }
    let folder = stage("athena-hollow-state");
    let config = athena(&folder.path().join("data"), "      every: 1s\n      timeout: 900ms\n");
    let program = cloud.serve("athena-hollow", &config);
    let of_lake = [("check", "lake")];
    program.wait_for("datapulse_check_up", &of_lake, |up| up == 1.0);
    assert_eq!(
        program.scrape().value("datapulse_check_samples", &of_lake),
        Some(0.0),
        "a header row and nothing else"
    );
    for hollow in [
        Fault::Edited(|answer| answer["ResultSet"] = Value::Null),
        Fault::Edited(|answer| answer["ResultSet"] = serde_json::json!({})),
        Fault::Edited(|answer| answer["ResultSet"]["Rows"] = serde_json::json!([])),
    ] {
        let failures = ("datapulse_check_failures_total", [("check", "lake"), ("reason", "protocol")]);
        cloud.recorder.calm();
        let before = program.scrape().value(failures.0, &failures.1).unwrap();
        cloud.recorder.fail("GetQueryResults", hollow);
        program.wait_for(failures.0, &failures.1, |count| count > before);
    }
    assert!(
        program.get("/").contains("the answer of GetQueryResults has no row with the names of the columns")
    );
    cloud.recorder.calm();
    program.wait_for("datapulse_check_up", &of_lake, |up| up == 1.0);
}

#[test]
fn insights_is_asked_in_seconds_about_what_has_come_in_already() {
    let cloud = Cloud::start("insights");
    let fake = Insights::start();
    cloud.recorder.route(&insights::OPERATIONS, fake.port());
    fake.group("/aws/rds/cluster/orders/postgresql");
    let row = |level: &str, count: &str| {
        [("level", level), ("count", count), ("@ptr", "canary")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    };
    fake.answer(Script {
        polls_until_complete: 2,
        rows: vec![row("ERROR", "7"), row("FATAL", "1")],
        bytes_scanned: 123_456,
        ..Script::default()
    });
    let folder = stage("insights-state");
    let config = format!(
        "data_dir: {}\nchecks:\n  - logs_insights:\n      name: errors\n      every: 4s\n      timeout: 3s\n      \
         log_groups: [/aws/rds/cluster/orders/postgresql]\n      query: 'stats count(*) as count by level'\n      window: 10m\n      \
         metrics: [{{name: orders.log.errors, value: count, labels: [level], help: errors}}]\n      fill: {{level: [ERROR, FATAL, PANIC]}}\n",
        folder.path().join("data").display()
    );
    let program = cloud.serve("insights", &config);
    program.wait_for("orders_log_errors", &[("level", "ERROR")], |errors| errors == 7.0);
    let samples = program.scrape();
    assert_eq!(samples.value("orders_log_errors", &[("level", "FATAL")]), Some(1.0));
    assert_eq!(samples.value("orders_log_errors", &[("level", "PANIC")]), Some(0.0));
    assert_eq!(
        samples.value("datapulse_logs_insights_scanned_bytes_total", &[("check", "errors")]),
        Some(123_456.0)
    );
    let started = &fake.started()[0];
    let now = jiff::Timestamp::now().as_second();
    assert_eq!(
        started.end_time - started.start_time,
        601,
        "ten minutes, both ends inclusive, one second more"
    );
    assert!((295..330).contains(&(now - started.end_time)), "five minutes ago: {}", now - started.end_time);

    for (status, reason) in [
        (Status::Failed, "query"),
        (Status::Timeout, "timeout"),
        (Status::Cancelled, "aws"),
        (Status::Unknown, "aws"),
    ] {
        fake.answer(Script { final_status: status, ..Script::default() });
        let before = program.scrape().value("datapulse_check_failures_total", &[("reason", reason)]).unwrap();
        program.wait_for("datapulse_check_failures_total", &[("reason", reason)], |count| count > before);
    }
    // Complete without rows: no event yet is not no event.
    fake.answer(Script::default());
    program.wait_for("datapulse_check_failures_total", &[("reason", "empty")], |count| count >= 1.0);
    assert_eq!(program.scrape().all("orders_log_errors", &[]).count(), 0);
    // One that never ends is stopped.
    fake.answer(Script { polls_until_complete: insights::NEVER, ..Script::default() });
    let before = fake.stopped().len();
    eventually("it is stopped", || (fake.stopped().len() > before && fake.running() == 0).then_some(()));
}

/// Two targets whose keys are kept in AWS, on a real server.
#[test]
fn secrets_of_aws_come_in_batches_and_an_old_one_stays_when_they_fail() {
    let cloud = Cloud::start("secrets");
    let server = &shared_pair().publisher;
    let (port, names) = (server.port().to_string(), ["cloud_a", "cloud_b", "cloud_c"]);
    for name in names {
        role(server, name, "");
    }
    for at in 0..12 {
        let path = format!("/monitoring/t{at}");
        for (leaf, value) in [
            ("hostname", "127.0.0.1"),
            ("port", &port),
            ("username", "cloud_a"),
            ("password", PASSWORD),
            ("dbname", "postgres"),
        ] {
            cloud.moto.ssm(&format!("{path}/{leaf}"), value);
        }
    }
    cloud.moto.ssm("/monitoring/single", PASSWORD);
    let json = format!(
        r#"{{"username":"cloud_b","password":"{PASSWORD}","host":"127.0.0.1","port":{port},"dbname":"postgres"}}"#
    );
    cloud.moto.secret("orders", &json);
    let mut config = "secrets: {refresh: 2s}\ntargets:\n".to_owned();
    for at in 0..12 {
        config += &format!(
            "  t{at}: {{from: \"ssm-path:/monitoring/t{at}/\", tls: disable, labels: {{team: core}}}}\n"
        );
    }
    config += "  s: {from: 'secretsmanager:orders', tls: disable, labels: {team: core}}\n";
    config += &format!(
        "  p: {{host: 127.0.0.1, port: {port}, user: cloud_c, password: 'ssm:/monitoring/single', database: postgres, tls: disable, labels: {{team: core}}}}\n"
    );
    config += "checks:\n  - sql_query: {name: one, every: 1s, targets: {match: {team: core}}, sql: select 1 as one, metrics: [{name: one.value, value: one, help: one}]}\n";
    let program = cloud.serve("secrets", &config);
    eventually("every target answers", || {
        (program.scrape().all("one_value", &[]).count() == 14).then_some(())
    });
    let (parameters, secrets) =
        (cloud.recorder.count("GetParameters"), cloud.recorder.count("GetSecretValue"));
    println!("61 parameters in {parameters} calls, 5 keys of one secret in {secrets}");
    // Some refresh may have begun meanwhile.
    assert!(parameters <= 14 && secrets <= 2, "{parameters} {secrets}");
    assert!(cloud.recorder.calls().iter().filter(|call| call.operation == "GetParameters").all(|call| {
        let body: Value = serde_json::from_slice(&call.request.body).unwrap();
        body["Names"].as_array().unwrap().len() <= 10 && body["WithDecryption"] == true
    }));
    cloud.recorder.fail(ALL, Fault::Denied);
    program.wait_for("datapulse_secret_up", &[("secret", "ssm:/monitoring/single")], |up| up == 0.0);
    let runs =
        |program: &Program| program.scrape().value("datapulse_check_runs_total", &[("target", "p")]).unwrap();
    let before = runs(&program);
    program.wait_for("datapulse_check_runs_total", &[("target", "p")], |runs| runs >= before + 2.0);
    assert_eq!(program.scrape().all("one_value", &[]).count(), 14, "the old ones are still good");
    let everything =
        program.log() + &program.get("/metrics") + &program.get("/api/v1/checks") + &program.get("/");
    assert!(!everything.contains(PASSWORD) && !everything.contains("canary-secret-key"));
}

/// XML of RDS as it names instances; real ones have host names that lead nowhere here.
fn instances(names: &[(&str, bool)], port: u16) -> (Answer, Answer) {
    let xml = |body: String, operation: &str| {
        let text = format!(
            "<{operation}Response><{operation}Result>{body}</{operation}Result></{operation}Response>"
        );
        Answer::new(200, "text/xml", text)
    };
    let members: Vec<String> = names.iter().map(|(name, writer)| {
        format!("<DBClusterMember><DBInstanceIdentifier>{name}</DBInstanceIdentifier><IsClusterWriter>{writer}</IsClusterWriter></DBClusterMember>")
    }).collect();
    let clusters = format!(
        "<DBClusters><DBCluster><DBClusterIdentifier>orders</DBClusterIdentifier><DBClusterMembers>{}</DBClusterMembers>\
        <TagList><Tag><Key>monitoring</Key><Value>datapulse</Value></Tag></TagList></DBCluster></DBClusters>",
        members.concat()
    );
    let found: Vec<String> = names.iter().map(|(name, _)| {
        format!("<DBInstance><DBInstanceIdentifier>{name}</DBInstanceIdentifier><Engine>aurora-postgresql</Engine>\
            <Endpoint><Address>127.0.0.1</Address><Port>{port}</Port></Endpoint><DBClusterIdentifier>orders</DBClusterIdentifier></DBInstance>")
    }).collect();
    (
        xml(clusters, "DescribeDBClusters"),
        xml(format!("<DBInstances>{}</DBInstances>", found.concat()), "DescribeDBInstances"),
    )
}

#[test]
fn discovered_instances_come_and_go_without_disturbing_the_others() {
    let cloud = Cloud::start("discovery");
    let server = &shared_pair().publisher;
    role(server, "discovered", "");
    let say = |names: &[(&str, bool)]| {
        let (clusters, found) = instances(names, server.port());
        cloud.recorder.calm();
        cloud.recorder.fail("DescribeDBClusters", Fault::Canned(clusters));
        cloud.recorder.fail("DescribeDBInstances", Fault::Canned(found));
    };
    say(&[("orders-1", true), ("orders-2", false)]);
    let config = "checks:\n  - sql_query:\n      name: one\n      every: 1s\n      sql: select pg_backend_pid() as one\n      \
        metrics: [{name: one.value, value: one, help: one}]\n      \
        discover: {rds: {tags: {monitoring: datapulse}, role: all, every: 10s, user: discovered, password: 'env:PASSWORD', database: postgres, tls: disable}}\n";
    let program = cloud.serve("discovery", config);
    let of = |target| [("check", "one"), ("target", target)];
    let backend = program.wait_for("one_value", &of("orders-1"), |_| true);
    program.wait_for("one_value", &of("orders-2"), |_| true);
    let samples = program.scrape();
    assert_eq!(samples.value("datapulse_check_discovered_targets", &[("check", "one")]), Some(2.0));
    say(&[("orders-1", true), ("orders-3", false)]);
    program.wait_for("one_value", &of("orders-3"), |_| true);
    let samples = program.scrape();
    assert_eq!(samples.value("one_value", &of("orders-2")), None, "gone with its instance");
    assert_eq!(
        samples.value("one_value", &of("orders-1")),
        Some(backend),
        "the same session: it went on untouched"
    );
    // A search that fails changes nothing, and shows.
    cloud.recorder.calm();
    cloud.recorder.fail(ALL, Fault::Denied);
    program.wait_for(
        "datapulse_check_failures_total",
        &[("check", "one"), ("reason", "permission")],
        |count| count >= 1.0,
    );
    assert_eq!(program.scrape().value("one_value", &of("orders-1")), Some(backend));
    // A reload leaves them alone too.
    assert_eq!(program.request("POST", "/-/reload", "").status, 200);
    assert_eq!(program.scrape().value("one_value", &of("orders-1")), Some(backend));
    let file = program.config.clone();
    say(&[("orders-1", true)]);
    let mut once = datapulse(["once", "--config.file"]);
    cloud.reach(&mut once);
    let (status, text, errors) = finish(once.arg(&file));
    assert!(status == 0 && text.contains("one@orders-1"), "{text}{errors}");
}

#[test]
fn a_paused_cluster_is_a_state_and_no_failure() {
    let cloud = Cloud::start("paused");
    cloud.moto.redshift_cluster("bi", &[]);
    cloud.moto.redshift_pause("bi");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "checks:\n  - redshift_inflight: {{name: bi, every: 1s, target: {{host: 127.0.0.1, port: {closed}, user: u, database: d, tls: disable, cluster: {{redshift: bi}}}}}}\n"
    );
    let program = cloud.serve("paused", &config);
    program.wait_for("datapulse_target_paused", &[("check", "bi")], |paused| paused == 1.0);
    let samples = program.scrape();
    assert_eq!(samples.value("datapulse_check_up", &[("check", "bi")]), Some(1.0));
    let failures: f64 =
        samples.all("datapulse_check_failures_total", &[("check", "bi")]).map(|sample| sample.value).sum();
    assert_eq!(failures, 0.0, "{}", program.log());
    // It runs again, and still cannot be reached: now that is a failure.
    cloud.moto.redshift_resume("bi");
    program.wait_for("datapulse_check_failures_total", &[("check", "bi"), ("reason", "connect")], |count| {
        count >= 1.0
    });
}

#[test]
fn a_login_by_iam_takes_credentials_of_redshift_and_signed_tokens_of_rds() {
    let cloud = Cloud::start("iam-login");
    let server = &shared_pair().publisher;
    server.sql("postgres", &format!("create role \"IAM:reader\" login password '{PASSWORD}'; create role rds_reader login password 'x'")).unwrap();
    let end = jiff::Timestamp::now().checked_add(Duration::from_mins(15)).unwrap();
    let xml = format!(
        "<GetClusterCredentialsResponse><GetClusterCredentialsResult><DbUser>IAM:reader</DbUser><DbPassword>{PASSWORD}</DbPassword>\
        <Expiration>{end}</Expiration></GetClusterCredentialsResult></GetClusterCredentialsResponse>"
    );
    cloud.recorder.fail("GetClusterCredentials", Fault::Canned(Answer::new(200, "text/xml", xml)));
    let json =
        format!(r#"{{"dbUser":"IAM:reader","dbPassword":"{PASSWORD}","expiration":{}}}"#, end.as_second());
    cloud
        .recorder
        .fail("GetCredentials", Fault::Canned(Answer::new(200, "application/x-amz-json-1.1", json)));
    let target = |user: &str, cluster: &str| {
        format!(
            "{{host: 127.0.0.1, port: {}, user: {user}, database: postgres, tls: disable, auth: iam, cluster: {{{cluster}}}}}",
            server.port()
        )
    };
    let check = |name: &str, target: &str| {
        format!("  - sql_query: {{name: {name}, every: 1s, target: {target}, sql: select current_user as who, metrics: [{{name: {name}.one, value: one, labels: [who], help: one}}]}}\n")
            .replace("as who,", "as who, 1 as one,").replace("select current_user as who, 1 as one,", "'select current_user as who, 1 as one',")
    };
    let config = format!(
        "checks:\n{}{}{}",
        check("provisioned", &target("reader", "redshift: bi")),
        // AWS names the user there.
        check("serverless", &target("reader", "redshift_serverless: wg").replace("user: reader, ", "")),
        check("rds", &target("rds_reader", "rds: orders")),
    );
    let program = cloud.serve("iam-login", &config);
    for name in ["provisioned_one", "serverless_one"] {
        program.wait_for(name, &[("who", "IAM:reader")], |one| one == 1.0);
    }
    let call =
        cloud.recorder.calls().into_iter().find(|call| call.operation == "GetClusterCredentials").unwrap();
    let form = String::from_utf8(call.request.body.clone()).unwrap();
    for field in ["ClusterIdentifier=bi", "DbUser=reader", "DbName=postgres", "AutoCreate=false"] {
        assert!(form.contains(field), "{form}");
    }
    assert_eq!(call.signature.unwrap().service, "redshift");
    // No server here knows such tokens: that one was sent, and refused, is all that can be seen.
    program.wait_for("datapulse_check_failures_total", &[("check", "rds"), ("reason", "auth")], |count| {
        count >= 1.0
    });
    assert!(
        !cloud.recorder.calls().iter().any(|call| call.service == "rds-db"),
        "nobody is asked for a token"
    );
    let everything = program.log() + &program.get("/metrics") + &program.get("/api/v1/checks");
    assert!(!everything.contains(PASSWORD) && !everything.contains("X-Amz-Signature"));
}

#[test]
fn a_role_is_assumed_for_a_check_that_names_one() {
    let cloud = Cloud::start("assume");
    cloud.moto.athena_lasts(1);
    cloud.moto.athena_results(&COUNTRIES, &ROWS);
    let folder = stage("assume-state");
    let keys = "      every: 1h\n      assume_role: 'arn:aws:iam::123456789012:role/reader'\n";
    let program = cloud.serve("assume", &athena(&folder.path().join("data"), keys));
    program.wait_for("device_connections", &[("country", "JP")], |devices| devices == 3200.0);
    let calls = cloud.recorder.calls();
    assert_eq!(calls[0].operation, "AssumeRole");
    let start =
        calls.iter().find(|call| call.operation == "StartQueryExecution").unwrap().signature.clone().unwrap();
    assert!(start.session_token && start.access_key != ACCESS_KEY, "{start:?}");
}

/// What a policy of docs/iam allows to our own calls.
pub(crate) fn policy(name: &str) -> BTreeSet<String> {
    let path = root().join("docs/iam").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let policy: Value = serde_json::from_str(&text).unwrap();
    let of_calls = policy["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|statement| statement["Sid"].as_str().unwrap().starts_with("Calls"));
    let actions = of_calls.flat_map(|statement| match &statement["Action"] {
        Value::Array(all) => all.iter().map(|action| action.as_str().unwrap().to_owned()).collect::<Vec<_>>(),
        action => vec![action.as_str().unwrap().to_owned()],
    });
    actions.collect()
}

#[test]
fn every_policy_allows_the_calls_that_are_made_and_no_other() {
    let cloud = Cloud::start("policies");
    let fake = Insights::start();
    // Athena and Logs Insights both have a GetQueryResults, so each has an endpoint of its own here.
    let logs = Recorder::start(fake.port());
    fake.group("g");
    let made = |services: &[&str]| -> BTreeSet<String> {
        let calls = cloud
            .recorder
            .calls()
            .into_iter()
            .chain(logs.calls())
            .filter(|call| services.contains(&call.service.as_str()));
        calls.map(|call| format!("{}:{}", call.service, call.operation)).collect()
    };
    // Each check once to its end, and once into its timeout.
    let folder = stage("policies-state");
    let insights = "  - logs_insights: {name: errors, every: 2s, timeout: 1s, log_groups: [g], query: 'stats count(*) as n', metrics: [{name: n.n, value: n, help: n}]}\n";
    cloud.moto.athena_lasts(0);
    // A run that is too late for a busy machine takes its result along.
    for _ in 0..20 {
        cloud.moto.athena_results(&COUNTRIES, &ROWS);
    }
    cloud.moto.ssm("/one", "x");
    cloud.moto.secret("two", "y");
    cloud.moto.redshift_cluster("bi", &[]);
    cloud.moto.rds_cluster("orders", "aurora-postgresql", &[]);
    let target = |password: &str, more: &str| {
        format!("{{host: 127.0.0.1, port: 1, user: u, database: d, tls: disable, {password}{more}}}")
    };
    let sql = |name: &str, target: &str| {
        format!(
            "  - sql_query: {{name: {name}, every: 1s, target: {target}, sql: select 1 as n, metrics: [{{name: {name}.n, value: n, help: n}}]}}\n"
        )
    };
    let mut config = athena(&folder.path().join("data"), "      every: 2s\n      timeout: 1s\n") + insights;
    config += &sql("ssm", &target("password: 'ssm:/one'", ""));
    config += &sql("secret", &target("password: 'secretsmanager:two'", ""));
    config += &sql("bi", &target("auth: iam, ", "cluster: {redshift: bi}"));
    config += &sql("wg", &target("auth: iam, ", "cluster: {redshift_serverless: wg}"));
    config += &sql("orders", &target("auth: iam, ", "cluster: {rds: orders}"));
    config += "  - sql_query: {name: found, every: 1s, discover: {rds: {user: u, database: d}}, sql: select 1 as n, metrics: [{name: found.n, value: n, help: n}]}\n";
    let program = Program::start_as("policies", &config, &[], |command, _| {
        cloud.reach(command);
        command.env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", logs.url());
    });
    program.wait_for("device_connections", &[("country", "JP")], |devices| devices == 3200.0);
    cloud.moto.athena_lasts(1_000_000);
    fake.answer(Script { polls_until_complete: insights::NEVER, ..Script::default() });
    eventually("both were stopped", || {
        (cloud.recorder.count("StopQueryExecution") > 0 && logs.count("StopQuery") > 0).then_some(())
    });
    eventually("clusters were asked for", || {
        (cloud.recorder.count("DescribeClusters") > 0 && cloud.recorder.count("GetCredentials") > 0)
            .then_some(())
    });
    for (services, policies) in [
        (&["athena"][..], &["athena_query.json"][..]),
        (&["logs"], &["logs_insights.json"]),
        (&["ssm", "secretsmanager"], &["secrets.json"]),
        (&["redshift"], &["redshift_login.json"]),
        (&["redshift-serverless"], &["redshift_serverless_login.json"]),
        (&["rds"], &["rds_describe.json"]),
    ] {
        let allowed: BTreeSet<String> = policies.iter().flat_map(|name| policy(name)).collect();
        // The SDK asks for no key itself: Parameter Store does, with the caller's rights.
        assert_eq!(made(services), allowed, "{policies:?}");
    }
    assert_eq!(policy("assume_role.json"), BTreeSet::from(["sts:AssumeRole".to_owned()]));
    assert_eq!(policy("rds_login.json"), BTreeSet::from(["rds-db:connect".to_owned()]));
}
