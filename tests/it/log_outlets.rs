//! Where log events come from and go to besides the doors: pulled from moto, and sent as documents to a strict `_bulk`.

use crate::aws::{Cloud, policy};
use crate::digest::CANARY;
use crate::logs::{GROUP, config, lambda, now_ms, payload, slow};
use crate::program::{Program, datapulse, finish};
use crate::recorder::Fault;
use crate::stage::{eventually, stage};
use crate::wire::{Answer, Listener, Request};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn what_is_pulled_comes_once_also_when_it_is_late_and_after_a_restart() {
    let cloud = Cloud::start("logs-pull");
    let dir = stage("logs-pull");
    let pull = "  pull: [{log_group: '/aws/rds/*/*/slowquery', every: 1s, overlap: 20m}]\n";
    let text = config(dir.path(), pull);
    let entry = |n: usize| {
        format!(
            "# User@Host: app[app] @ web []\n# Query_time: 1.5  Lock_time: 0 Rows_sent: 1  Rows_examined: 2\nSET timestamp=1;\nselect {n};"
        )
    };
    let put = |group: &str, numbers: std::ops::Range<usize>, ago_ms: i64| {
        let entries: Vec<String> = numbers.map(entry).collect();
        let lines: Vec<(i64, &str)> = entries
            .iter()
            .enumerate()
            .map(|(at, line)| (now_ms() - ago_ms + i64::try_from(at).unwrap(), line.as_str()))
            .collect();
        cloud.moto.put_log_events(group, &lines);
    };
    cloud.moto.log_group(GROUP);
    cloud.moto.log_group("/aws/rds/instance/orders-1/error");
    put(GROUP, 0..150, 60_000);
    put("/aws/rds/instance/orders-1/error", 0..3, 60_000);
    let parsed = [("log_group", GROUP), ("result", "parsed")];
    let duplicate = [("log_group", GROUP), ("result", "duplicate")];
    let program = cloud.serve("logs-pull-first", &text);
    program.wait_for("datapulse_logs_events_total", &parsed, |found| found == 150.0);
    program.wait_for("datapulse_logs_pull_up", &[("log_group", "/aws/rds/*/*/slowquery")], |up| up == 1.0);
    // Found only now, although they happened before the last pass.
    put(GROUP, 150..160, 120_000);
    program.wait_for("datapulse_logs_events_total", &parsed, |found| found == 160.0);
    assert_eq!(program.scrape().value("datapulse_logs_events_total", &duplicate), Some(0.0));
    drop(program);
    let program = cloud.serve("logs-pull-second", &text);
    program.wait_for("datapulse_logs_events_total", &duplicate, |found| found == 160.0);
    assert_eq!(program.scrape().value("datapulse_logs_events_total", &parsed), Some(160.0));
    let calls = cloud.recorder.calls().into_iter().filter(|call| call.service == "logs");
    let made: BTreeSet<String> = calls.map(|call| format!("logs:{}", call.operation)).collect();
    // Putting them there is our own doing.
    assert_eq!(made, policy("logs_pull.json"));
}

#[test]
fn a_pulled_event_that_is_not_whole_is_put_aside_and_all_log_groups_that_fail_are_named() {
    let cloud = Cloud::start("logs-pull-broken");
    let dir = stage("logs-pull-broken");
    let pull = "  pull: [{log_group: 'app*', every: 1s, overlap: 20m}]\n";
    let text = config(dir.path(), pull).replace("match: app,", "match: app*,");
    for group in ["app-1", "app-2", "app-3"] {
        cloud.moto.log_group(group);
    }
    cloud.moto.put_log_events("app-1", &[(now_ms(), "one"), (now_ms(), "two"), (now_ms(), "three")]);
    cloud.recorder.fail(
        "FilterLogEvents",
        Fault::Edited(|answer| {
            if let Some(second) = answer["events"].get_mut(1) {
                second.as_object_mut().unwrap().remove("eventId");
            }
        }),
    );
    let program = cloud.serve("logs-pull-broken", &text);
    let result = |word| [("log_group", "app-1"), ("result", word)];
    for (word, expected) in [("parsed", 2.0), ("unparsed", 1.0), ("received", 3.0)] {
        program.wait_for("datapulse_logs_events_total", &result(word), |found| found == expected);
    }
    cloud.recorder.calm();
    cloud.recorder.fail("FilterLogEvents", Fault::Denied);
    program.wait_for("datapulse_logs_pull_up", &[("log_group", "app*")], |up| up == 0.0);
    eventually("the log names them", || {
        program.log().contains("could not read app-1 (failed as well: app-2, app-3)").then_some(())
    });
    // It came again in each pass.
    assert_eq!(program.scrape().value("datapulse_logs_events_total", &result("duplicate")), Some(0.0));
    assert_eq!(program.log().matches("the event has no id").count(), 1, "{}", program.log());
    let quarantine = std::fs::read_to_string(dir.path().join("data/logs/quarantine.jsonl")).unwrap();
    assert_eq!(quarantine.lines().count(), 1, "{quarantine}");
    assert!(quarantine.contains(r#""why":"the event has no id""#) && quarantine.contains("two"));
}

/// A `_bulk` that refuses what Elasticsearch refuses, keeps what it takes, and fails on request.
struct Search {
    listener: Listener,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// By index and id.
    documents: Mutex<BTreeMap<(String, String), Value>>,
    /// What the next requests are answered.
    failures: Mutex<VecDeque<Failure>>,
    requests: Mutex<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Failure {
    /// The whole request.
    Status(u16),
    /// Each second document.
    EachSecond(u16),
}

impl Search {
    fn start() -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let listener = Listener::start(move |request, stream| {
            let answer = shared.answer(request);
            answer.write(stream, answer.body.len())?;
            Ok(true)
        });
        Self { listener, state }
    }

    fn fail(&self, failures: &[Failure]) {
        self.state.failures.lock().unwrap().extend(failures);
    }

    fn documents(&self) -> BTreeMap<(String, String), Value> {
        self.state.documents.lock().unwrap().clone()
    }
}

impl State {
    fn answer(&self, request: &Request) -> Answer {
        *self.requests.lock().unwrap() += 1;
        let refused = |status: u16, why: &str| {
            let error =
                json!({"error": {"type": "illegal_argument_exception", "reason": why}, "status": status});
            Answer::new(status, "application/json", error.to_string())
        };
        let failure = self.failures.lock().unwrap().pop_front();
        if let Some(Failure::Status(status)) = failure {
            return refused(status, "as told");
        }
        if request.method != "POST" || request.path.split('?').next() != Some("/search/_bulk") {
            return refused(405, "no such thing");
        }
        if request.header("authorization") != Some("Basic ZWxhc3RpYzpjYW5hcnktcGFzc3dvcmQ=") {
            return refused(401, "security_exception");
        }
        if request.header("content-type") != Some("application/x-ndjson") {
            return refused(406, "Content-Type");
        }
        let body = String::from_utf8(request.body.clone()).unwrap();
        if !body.ends_with('\n') {
            return refused(400, "The bulk request must be terminated by a newline [\\n]");
        }
        let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (mut items, mut errors) = (Vec::new(), false);
        for (at, pair) in lines.chunks(2).enumerate() {
            let [action, document] = pair else { return refused(400, "an action without its document") };
            let text = |key: &str| action["index"][key].as_str().unwrap().to_owned();
            let (index, id) = (text("_index"), text("_id"));
            let status = match failure {
                Some(Failure::EachSecond(status)) if at % 2 == 1 => status,
                _ if index != index.to_lowercase() || index.contains('/') || id.len() > 512 => 400,
                _ => 201,
            };
            errors |= status >= 300;
            let error =
                (status >= 300).then(|| json!({"type": "mapper_parsing_exception", "reason": "secret"}));
            items.push(json!({"index": {"status": status, "error": error}}));
            if status < 300 {
                self.documents.lock().unwrap().insert((index, id), document.clone());
            }
        }
        let answer = if errors { json!({"errors": true, "items": items}) } else { json!({"errors": false}) };
        Answer::new(200, "application/json", answer.to_string())
    }
}

#[test]
fn documents_are_indexed_once_and_what_can_never_be_is_put_aside() {
    let (search, dir) = (Search::start(), stage("logs-bulk"));
    let elasticsearch = format!(
        "      elasticsearch: {{url: 'http://127.0.0.1:{}/search', user: elastic, password: 'env:ELASTIC'}}\n",
        search.listener.port()
    );
    let text = config(dir.path(), "").replace("      labels:", &format!("{elasticsearch}      labels:"));
    let plain =
        elasticsearch.trim().replace("elasticsearch: ", "parser: plain, raw_text: true, elasticsearch: ");
    let text = text.replace("parser: plain", &plain);
    let program = Program::start_as("logs-bulk-serve", &text, &[], |command, _| {
        command.env("ELASTIC", "canary-password");
    });
    let body = |ids: std::ops::Range<usize>| {
        let events: Vec<Value> =
            ids.map(|id| slow(&format!("d{id}"), "app", &format!("select '{CANARY}', {id}"))).collect();
        lambda(&payload(GROUP, &events))
    };
    for word in ["indexed", "rejected", "failed"] {
        let labels = [("log_group", "app"), ("result", word)];
        assert_eq!(
            program.scrape().value("datapulse_bulk_documents_total", &labels),
            Some(0.0),
            "from the start"
        );
    }
    let send = |body: &[u8]| program.post("/logs/cloudwatch", "", body).unwrap().status;
    // What is full now has room soon: the delivery waits for that.
    search.fail(&[Failure::Status(503), Failure::EachSecond(429), Failure::EachSecond(429)]);
    assert_eq!(send(&body(0..10)), 200);
    assert_eq!(search.documents().len(), 10);
    assert_eq!(send(&body(0..10)), 200, "a redelivery");
    assert_eq!(search.documents().len(), 10);
    // What can never be indexed is no reason to stop the others.
    search.fail(&[Failure::EachSecond(400)]);
    assert_eq!(send(&body(10..20)), 200);
    assert_eq!(search.documents().len(), 15);
    let quarantine = std::fs::read_to_string(dir.path().join("data/logs/quarantine.jsonl")).unwrap();
    assert_eq!(quarantine.matches("Elasticsearch answered 400: mapper_parsing_exception").count(), 5);
    // Too large a body is halved.
    search.fail(&[Failure::Status(413)]);
    assert_eq!(send(&body(20..30)), 200);
    assert_eq!(search.documents().len(), 25);
    // Nothing is confirmed that was not taken, and nothing of it counts.
    search.fail(&[Failure::Status(403)]);
    let refused = program.post("/logs/cloudwatch", "", &body(30..40)).unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.head.contains("retry-after: 5") && refused.text().contains("the rights to write"));
    assert_eq!(send(&body(30..40)), 200);
    let result = |word| [("log_group", GROUP), ("result", word)];
    program.wait_for("datapulse_logs_events_total", &result("parsed"), |found| found == 40.0);
    for (word, expected) in [("indexed", 45.0), ("rejected", 5.0), ("failed", 10.0)] {
        program.wait_for("datapulse_bulk_documents_total", &result(word), |found| found == expected);
    }
    let documents = search.documents();
    let ((index, _), first) = documents.first_key_value().unwrap();
    assert!(index.starts_with("cwl-aws-rds-instance-orders-1-slowquery-20"), "{index}");
    assert_eq!((&first["Query"], &first["User@Host"]), (&json!("select ?, ?"), &json!("app@web")));
    let everything = format!("{documents:?}{}{}", program.get("/metrics"), program.log());
    assert!(!everything.contains(CANARY) && !everything.contains("canary-password"));
    let (_, raw, _) = finish(&mut datapulse(["validate", "--config.file", program.config.to_str().unwrap()]));
    assert!(!raw.contains("fault"), "{raw}");
    drop(program);
    std::thread::sleep(Duration::from_millis(10));
}
