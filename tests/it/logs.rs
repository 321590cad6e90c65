//! Log deliveries to the real binary: through both doors, over restarts and kill -9, to counters and daily files.

use crate::digest::{CANARY, truth};
use crate::program::{Program, Samples, post};
use crate::stage::{eventually, stage};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datapulse::demo::parts::Signal;
use datapulse::net::gzip;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const GROUP: &str = "/aws/rds/instance/orders-1/slowquery";

pub(crate) fn config(dir: &Path, more: &str) -> String {
    let (data, archive) = (dir.join("data").display().to_string(), dir.join("archive").display().to_string());
    format!(
        "data_dir: {data}\nlogs:\n{more}  routes:\n    - match: /aws/rds/*/*/slowquery\n      parser: mysql_slow\n      \
         labels: {{team: core}}\n      archive: {{dir: {archive}, time_zone: Asia/Tokyo, line: '{{id}}|{{message}}'}}\n    \
         - {{match: /aws/rds/*/*/postgresql, parser: postgres}}\n    - {{match: app, parser: plain}}\n"
    )
}

/// A subscription payload of these events.
pub(crate) fn payload(log_group: &str, events: &[Value]) -> String {
    json!({"messageType": "DATA_MESSAGE", "owner": "123456789012", "logGroup": log_group, "logStream": "orders-1",
        "subscriptionFilters": ["all"], "logEvents": events})
    .to_string()
}

fn base64_of(text: &str) -> String {
    STANDARD.encode(gzip::compress(text.as_bytes()))
}

pub(crate) fn lambda(text: &str) -> Vec<u8> {
    json!({"awslogs": {"data": base64_of(text)}}).to_string().into_bytes()
}

pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A slow query as an event.
pub(crate) fn slow(id: &str, user: &str, sql: &str) -> Value {
    let message = format!(
        "# User@Host: {user}[{user}] @ web [10.0.0.1]  Id: 7\n# Query_time: 1.5  Lock_time: 0.25 Rows_sent: 2  \
         Rows_examined: 30\nuse shop;\nSET timestamp=1;\n{sql};"
    );
    json!({"id": id, "timestamp": now_ms(), "message": message})
}

fn status(program: &Program, path: &str, head: &str, body: &[u8]) -> u16 {
    program.post(path, head, body).expect("an answer").status
}

/// All lines of all daily files.
fn lines(dir: &Path) -> Vec<String> {
    let folder = dir.join("archive").join(GROUP.trim_start_matches('/'));
    let mut lines = Vec::new();
    for file in std::fs::read_dir(folder).into_iter().flatten() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole");
        lines.extend(text.lines().map(str::to_owned));
    }
    lines
}

#[test]
fn a_real_slow_log_becomes_counters_and_lines_and_a_redelivery_changes_nothing() {
    let dir = stage("logs");
    let program = Program::start("logs-serve", &config(dir.path(), ""), &[]);
    let text = std::fs::read_to_string(&truth().slow_log).unwrap();
    // As RDS hands them on: an entry an event, which begins at its header.
    let mut messages: Vec<String> = Vec::new();
    let mut within_header = false;
    for line in text.lines().skip_while(|line| !line.starts_with("# ")) {
        let header =
            line.starts_with("# Time: 2") || line.starts_with("# User@Host: ") && !line.contains("fake");
        if header && !within_header {
            messages.push(String::new());
        }
        within_header = line.starts_with('#') && (header || within_header);
        let message = messages.last_mut().unwrap();
        message.push_str(line);
        message.push('\n');
    }
    let event = |(at, message)| json!({"id": format!("e{at}"), "timestamp": now_ms(), "message": message});
    let events: Vec<Value> = messages.iter().enumerate().map(event).collect();
    let deliveries: Vec<Vec<u8>> = events.chunks(100).map(|part| lambda(&payload(GROUP, part))).collect();
    for delivery in deliveries.iter().chain(&deliveries) {
        assert_eq!(status(&program, "/logs/cloudwatch", "", delivery), 200);
    }
    let all = events.len() as f64;
    let group = [("log_group", GROUP), ("team", "core")];
    let result = |word| [("log_group", GROUP), ("result", word)];
    program.wait_for("datapulse_logs_events_total", &result("parsed"), |found| found == all);
    let scrape = program.scrape();
    assert_eq!(scrape.value("datapulse_logs_events_total", &result("received")), Some(2.0 * all));
    assert_eq!(scrape.value("datapulse_logs_events_total", &result("duplicate")), Some(all));
    assert_eq!(scrape.value("datapulse_logs_events_total", &result("unparsed")), Some(0.0));
    assert_eq!(scrape.value("datapulse_logs_events_total", &result("unrouted")), Some(0.0));

    // The counters are what `digest` finds in the file.
    let (_, digest, _) = crate::program::finish(&mut crate::program::datapulse([
        "digest",
        "--output",
        "json",
        "--limit",
        "1000",
        truth().slow_log.to_str().unwrap(),
    ]));
    let digest: Value = serde_json::from_str(&digest).unwrap();
    let sum = |scrape: &Samples, name: &str| scrape.all(name, &group).map(|sample| sample.value).sum::<f64>();
    let events = digest["events"].as_f64().unwrap();
    eventually("all series are past their 0", || {
        (sum(&program.scrape(), "mysql_slow_queries_total") == events).then_some(())
    });
    let scrape = program.scrape();
    assert_eq!(sum(&scrape, "mysql_slow_query_duration_seconds_count"), events);
    assert_eq!(sum(&scrape, "mysql_slow_query_statement_calls_total"), events);
    let seconds: f64 =
        digest["statements"].as_array().unwrap().iter().filter_map(|one| one["time_sum"].as_f64()).sum();
    for name in ["mysql_slow_query_duration_seconds_sum", "mysql_slow_query_statement_seconds_total"] {
        assert!((sum(&scrape, name) - seconds).abs() < 1e-3, "{name}: {} {seconds}", sum(&scrape, name));
    }
    let statements: Value = serde_json::from_str(&program.get("/api/v1/statements")).unwrap();
    for one in digest["statements"].as_array().unwrap() {
        let found = statements["statements"].as_array().unwrap().iter();
        let found = found.filter(|found| found["fingerprint"] == one["fingerprint"]).collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "{one}");
        assert_eq!((&found[0]["calls"], &found[0]["statement"]), (&one["calls"], &one["statement"]));
    }
    // No literal but in the daily file, which is the log itself.
    for page in ["/metrics", "/api/v1/statements", "/", "/api/v1/checks"] {
        assert!(!program.get(page).contains(CANARY), "a literal on {page}");
    }
    assert!(!program.log().contains(CANARY));
    let mut lines = lines(dir.path());
    let expected = messages.iter().enumerate();
    let mut expected: Vec<String> =
        expected.map(|(at, message)| format!("e{at}|{}", message.replace('\n', "\\n"))).collect();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
}

#[test]
fn totals_and_known_events_outlive_a_restart() {
    let dir = stage("logs-restart");
    let body = lambda(&payload(GROUP, &[slow("a", "app", "select 1"), slow("b", "app", "select 2")]));
    let text = config(dir.path(), "");
    let parsed = [("log_group", GROUP), ("result", "parsed")];
    let program = Program::start("logs-first", &text, &[]);
    assert_eq!(status(&program, "/logs/cloudwatch", "", &body), 200);
    drop(program);
    let program = Program::start("logs-second", &text, &[]);
    assert_eq!(
        program.scrape().value("datapulse_logs_events_total", &parsed),
        Some(2.0),
        "no restart shows 0"
    );
    assert_eq!(status(&program, "/logs/cloudwatch", "", &body), 200);
    let duplicate = [("log_group", GROUP), ("result", "duplicate")];
    program.wait_for("datapulse_logs_events_total", &duplicate, |found| found == 2.0);
    assert_eq!(program.scrape().value("datapulse_logs_events_total", &parsed), Some(2.0));
    assert_eq!(lines(dir.path()).len(), 2);
    let statements: Value = serde_json::from_str(&program.get("/api/v1/statements")).unwrap();
    assert_eq!(statements["statements"][0]["text"], "select ?");
}

#[test]
fn a_door_with_keys_wants_one_and_basic_auth_guards_the_rest() {
    let dir = stage("logs-keys");
    let more = "  doors: {access_keys: ['env:KEY_ONE', 'env:KEY_TWO']}\n";
    let program = Program::start_as("logs-keys-serve", &config(dir.path(), more), &[], |command, stage| {
        // The password is `hunter2`.
        let users =
            "basic_auth_users:\n  admin: $2b$04$PZXTZ9ZhMQMSzbLSpYUVFuqmvPMuZLRNdULTIhSzeR6RCJhPZQH3W\n";
        std::fs::write(stage.join("web.yml"), users).unwrap();
        command.arg("--web.config.file").arg(stage.join("web.yml"));
        command.env("KEY_ONE", "first-key").env("KEY_TWO", "second-key");
    });
    let text = payload("app", &[json!({"id": "1", "timestamp": now_ms(), "message": "hello"})]);
    let body = json!({"requestId": "r-7", "timestamp": now_ms(), "records": [{"data": base64_of(&text)}]})
        .to_string();
    for (head, expected) in [
        ("", 401),
        ("X-Amz-Firehose-Access-Key: wrong\r\n", 401),
        ("X-Amz-Firehose-Access-Key: \r\n", 401),
        ("Authorization: Basic Zmlyc3Qta2V5\r\n", 401),
        ("Authorization: Bearer first-key2\r\n", 401),
        ("X-Amz-Firehose-Access-Key: first-key\r\n", 200),
        ("X-Amz-Firehose-Access-Key: second-key\r\n", 200),
        ("authorization: bearer second-key\r\n", 200),
    ] {
        let head = format!("{head}X-Amz-Firehose-Request-Id: r-7\r\nContent-Type: application/json\r\n");
        let reply = program.post("/logs/firehose", &head, body.as_bytes()).unwrap();
        assert_eq!(reply.status, expected, "{head}: {}", reply.text());
        assert!(reply.head.contains("content-type: application/json"), "{}", reply.head);
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(answer["requestId"], "r-7");
        assert!(answer["timestamp"].is_i64());
        assert_eq!(answer["errorMessage"].is_string(), expected != 200);
    }
    assert_eq!(program.request("GET", "/metrics", "").status, 401);
    assert!(!program.log().contains("-key"), "{}", program.log());
}

#[test]
fn a_broken_record_does_not_harm_its_neighbours_and_is_kept_for_people() {
    let dir = stage("logs-broken");
    let program = Program::start("logs-broken-serve", &config(dir.path(), ""), &[]);
    let plain = |id: &str| payload("app", &[json!({"id": id, "timestamp": now_ms(), "message": "hello"})]);
    let control = r#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],"logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE: Checking health of destination Firehose."}]}"#;
    let bomb = STANDARD.encode(gzip::compress(&vec![b' '; 64 << 20]));
    let record = |data: &str| json!({ "data": data });
    let records = [
        record(&base64_of(&plain("1"))),
        record("not base64!"),
        record(&base64_of("{")),
        record(&bomb),
        record(&base64_of(control)),
        record(&plain("2")),
        record(&base64_of(&payload(
            "nobody/wants",
            &[json!({"id": "3", "timestamp": 1, "message": "unrouted"})],
        ))),
        record(&base64_of(&payload(GROUP, &[json!({"id": "4", "timestamp": 1, "message": "no entry"})]))),
    ];
    let body = json!({"requestId": "r", "timestamp": 1, "records": records}).to_string();
    let packed = gzip::compress(body.as_bytes());
    assert_eq!(status(&program, "/logs/firehose", "Content-Encoding: gzip\r\n", &packed), 200);
    let value = |group: &'static str, result: &'static str| {
        program.wait_for(
            "datapulse_logs_events_total",
            &[("log_group", group), ("result", result)],
            |count| count == 1.0,
        )
    };
    program
        .wait_for("datapulse_logs_events_total", &[("log_group", "app"), ("result", "parsed")], |n| n == 2.0);
    value("nobody/wants", "unrouted");
    value("nobody/wants", "received");
    value(GROUP, "unparsed");
    let parsed = [("log_group", GROUP), ("result", "parsed")];
    assert_eq!(program.scrape().value("datapulse_logs_events_total", &parsed), Some(0.0));
    assert_eq!(program.scrape().value("datapulse_logs_unreadable_records_total", &[]), Some(3.0));
    assert_eq!(program.scrape().value("datapulse_logs_quarantined_total", &[]), Some(5.0));
    let quarantine = std::fs::read_to_string(dir.path().join("data/logs/quarantine.jsonl")).unwrap();
    let reasons: Vec<Value> = quarantine.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let why: Vec<&str> = reasons.iter().map(|line| line["why"].as_str().unwrap()).collect();
    assert_eq!(
        why,
        [
            "not base64: wrong at byte 3",
            "no subscription payload: it ends too early at line 1 column 1",
            "inflates to more than 16777216 bytes",
            "no route takes this log group",
            "the parser found no entry in it",
        ]
    );
    for (path, head, body, expected) in [
        ("/logs/cloudwatch", "", &b"{}"[..], 400),
        ("/logs/cloudwatch", "", b"", 400),
        ("/logs/cloudwatch", "", control.as_bytes(), 200),
        ("/logs/cloudwatch", "Content-Encoding: br\r\n", b"x", 415),
        ("/logs/firehose", "", b"{\"requestId\":\"r\"}", 400),
        ("/logs/cloudwatch", "", &vec![b'x'; 17 << 20], 413),
    ] {
        assert_eq!(status(&program, path, head, body), expected, "{path} {head}");
    }
    assert_eq!(program.request("GET", "/logs/firehose", "").status, 405);
}

#[test]
fn a_broken_event_is_counted_and_put_aside_and_its_neighbours_are_kept() {
    let dir = stage("logs-events");
    let program = Program::start("logs-events-serve", &config(dir.path(), ""), &[]);
    let mut events = vec![
        slow("a", "app", "select 1"),
        json!({"timestamp": now_ms(), "message": CANARY}),
        slow("b", "app", "select 'SURROGATE'"),
        json!({"id": "c", "timestamp": "yesterday", "message": CANARY}),
        json!({"id": "d", "timestamp": i64::MAX, "message": CANARY}),
        json!({"id": "e", "timestamp": now_ms(), "message": null}),
        json!(CANARY),
        slow("f", "app", "select 'BYTES'"),
    ];
    // An entry that the broken event had a part of.
    let Value::String(message) = &mut events[0]["message"] else { panic!("no text") };
    message.truncate(message.len() - 1);
    let text = payload(GROUP, &events).replace("SURROGATE", r"\ud800");
    let (before, after) = text.split_once("BYTES").unwrap();
    let body = gzip::compress(&[before.as_bytes(), b"\xff\xc3", after.as_bytes()].concat());
    let unrouted = payload("nobody/wants", &events[..2]);
    assert_eq!(status(&program, "/logs/cloudwatch", "", unrouted.as_bytes()), 200);
    let result = |word| [("log_group", GROUP), ("result", word)];
    for (received, duplicate) in [(8.0, 0.0), (16.0, 8.0)] {
        assert_eq!(status(&program, "/logs/cloudwatch", "", &body), 200);
        program.wait_for("datapulse_logs_events_total", &result("received"), |found| found == received);
        let scrape = program.scrape();
        let found = ["parsed", "unparsed", "duplicate", "unrouted"]
            .map(|word| scrape.value("datapulse_logs_events_total", &result(word)));
        assert_eq!(found, [Some(3.0), Some(5.0), Some(duplicate), Some(0.0)]);
        assert_eq!(scrape.value("datapulse_logs_unreadable_records_total", &[]), Some(0.0));
    }
    let found = lines(dir.path());
    let ends: Vec<&str> = found.iter().map(|line| line.rsplit("\\n").next().unwrap()).collect();
    assert_eq!(ends, ["select 1", "select '\u{fffd}';", "select '\u{fffd}\u{fffd}';"]);
    let quarantine = std::fs::read_to_string(dir.path().join("data/logs/quarantine.jsonl")).unwrap();
    for why in [
        "the event has no id",
        "the event's timestamp is no number of milliseconds between 1970 and 9999",
        "the event has no message",
        "the event is no JSON object, or has a key twice",
    ] {
        assert!(quarantine.contains(why), "{why}: {quarantine}");
    }
    let statements = program.get("/api/v1/statements");
    assert!(statements.contains("select ?") && !statements.contains('\u{fffd}'), "{statements}");
    assert!(!program.log().contains(CANARY));
    // Where no route is, the sum holds too.
    for word in ["received", "unrouted"] {
        let labels = [("log_group", "nobody/wants"), ("result", word)];
        program.wait_for("datapulse_logs_events_total", &labels, |found| found == 2.0);
    }
    let around = payload(GROUP, &events).replace("\"logEvents\":[", "\"logEvents\":[,");
    assert_eq!(status(&program, "/logs/cloudwatch", "", around.as_bytes()), 400);
}

#[test]
fn messages_of_postgres_are_counted_by_severity() {
    let dir = stage("logs-pg");
    let program = Program::start("logs-pg-serve", &config(dir.path(), ""), &[]);
    let group = "/aws/rds/instance/pg-1/postgresql";
    let prefix = "2026-11-24 17:13:29 UTC:10.0.0.1(5):me@app:[7]:";
    let messages = [
        format!("{prefix}LOG:  duration: 2500.000 ms  statement: select 1"),
        format!("{prefix}ERROR:  relation \"x\" does not exist at character 15"),
        format!("{prefix}STATEMENT:  select * from x"),
    ];
    let event = |(at, message)| json!({"id": format!("p{at}"), "timestamp": now_ms(), "message": message});
    let events: Vec<Value> = messages.iter().enumerate().map(event).collect();
    assert_eq!(status(&program, "/logs/cloudwatch", "", payload(group, &events).as_bytes()), 200);
    let of = |severity| [("log_group", group), ("severity", severity), ("db_instance", "pg-1")];
    program.wait_for("pg_log_messages_total", &of("ERROR"), |count| count == 1.0);
    program.wait_for("pg_log_messages_total", &of("LOG"), |count| count == 1.0);
    program.wait_for("pg_slow_queries_total", &[("log_group", group)], |count| count == 1.0);
    program.wait_for("pg_slow_query_duration_seconds_sum", &[("log_group", group)], |sum| sum == 2.5);
}

/// Rounds of kill -9 while deliveries come in.
const ROUNDS: usize = 20;

#[test]
fn no_kill_takes_an_acknowledged_event_away_or_doubles_one() {
    let dir = stage("logs-kill");
    let text = config(dir.path(), "");
    let number = Arc::new(AtomicUsize::new(0));
    // Deliveries that were sent, with whether they were acknowledged.
    let sent: Arc<Mutex<BTreeMap<usize, bool>>> = Arc::default();
    let body = |delivery: usize| {
        let events: Vec<Value> =
            (0..5).map(|at| slow(&format!("k{delivery}-{at}"), "app", "select 1")).collect();
        lambda(&payload(GROUP, &events))
    };
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let program = Program::start("logs-kill-serve", &text, &[]);
        let (port, stop) = (program.port, AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    // First again what was not acknowledged, as its sender does.
                    let mut again: Vec<usize> = Vec::new();
                    for (delivery, done) in sent.lock().unwrap().iter().filter(|(_, done)| !**done) {
                        again.push(*delivery);
                        let _ = done;
                    }
                    while !stop.load(Ordering::Relaxed) {
                        let delivery = again.pop().unwrap_or_else(|| number.fetch_add(1, Ordering::Relaxed));
                        sent.lock().unwrap().entry(delivery).or_insert(false);
                        let reply = post(port, "/logs/cloudwatch", "", &body(delivery));
                        if reply.is_some_and(|reply| reply.status == 200) {
                            sent.lock().unwrap().insert(delivery, true);
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(20 + 13 * round as u64 % 170));
            program.signal(Signal::Kill);
            stop.store(true, Ordering::Relaxed);
        });
        acknowledged = sent.lock().unwrap().values().filter(|done| **done).count();
    }
    assert!(acknowledged > ROUNDS, "only {acknowledged} deliveries in {ROUNDS} rounds");
    let program = Program::start("logs-kill-serve", &text, &[]);
    let deliveries: Vec<usize> = sent.lock().unwrap().keys().copied().collect();
    let found = lines(dir.path());
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    for line in &found {
        *ids.entry(line.split('|').next().unwrap().to_owned()).or_default() += 1;
    }
    assert!(ids.values().all(|times| *times == 1), "an event is there twice");
    for (delivery, _) in sent.lock().unwrap().iter().filter(|(_, done)| **done) {
        for at in 0..5 {
            assert!(
                ids.contains_key(&format!("k{delivery}-{at}")),
                "k{delivery}-{at} was acknowledged and is gone"
            );
        }
    }
    for delivery in &deliveries {
        assert_eq!(status(&program, "/logs/cloudwatch", "", &body(*delivery)), 200);
    }
    let all = 5.0 * deliveries.len() as f64;
    assert_eq!(lines(dir.path()).len() as f64, all);
    for (name, labels) in [
        ("mysql_slow_queries_total", &[("user", "app"), ("db", "shop")][..]),
        ("datapulse_logs_events_total", &[("result", "parsed")]),
        ("mysql_slow_query_statement_calls_total", &[]),
        ("mysql_slow_query_rows_sent_total", &[]),
    ] {
        let times = if name.contains("rows_sent") { 2.0 } else { 1.0 };
        program.wait_for(name, labels, |count| count == times * all);
    }
}
