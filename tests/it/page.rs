//! The status page as a browser and a reader of its streams see it.

use crate::program::{Program, role, target};
use crate::stage::{LIMIT, PASSWORD, eventually, shared_pair, stage};
use datapulse::demo::parts::{Prometheus, Signal, Store, StoreServer, free_port};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The page of so many checks has to stay below this.
const LARGEST_PAGE: usize = 100_000;
/// And be there within this.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// A stream of a page, as a browser reads it.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(program: &Program, query: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", program.port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET /api/v1/live?{query} HTTP/1.1\r\nHost: it\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains("content-type: text/event-stream"),
            "{head}"
        );
        Self(reader)
    }

    /// The next part that `wanted` likes.
    fn part(&mut self, wanted: impl Fn(&str, &str) -> bool) -> String {
        let (mut line, until) = (String::new(), Instant::now() + LIMIT);
        while Instant::now() < until {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended");
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let part: Value = serde_json::from_str(data).unwrap();
            let (Some(id), Some(html)) = (part["id"].as_str(), part["html"].as_str()) else { continue };
            if wanted(id, html) {
                return html.to_owned();
            }
        }
        panic!("no such part within {LIMIT:?}");
    }

    /// Reads to the end.
    fn ends(mut self) -> bool {
        let mut line = String::new();
        while self.0.read_line(&mut line).is_ok_and(|read| read > 0) {
            line.clear();
        }
        true
    }
}

#[test]
fn two_hundred_checks_fit_a_page_that_is_there_at_once() {
    let (stage, store) = (stage("crowd"), Store::redis().unwrap());
    let server = StoreServer::start(&store, stage.path(), &[]).unwrap();
    server.allow("datapulse", PASSWORD, &["+info", "+ping", "+slowlog|len", "+slowlog|get"]).unwrap();
    let check = |number: usize| {
        format!(
            "  - redis: {{name: store-of-team-{number:03}, every: 5s, target: {{host: 127.0.0.1, port: {}, user: datapulse, password: \"env:PASSWORD\", tls: disable}}}}\n",
            server.port()
        )
    };
    let config = format!("checks:\n{}", (0..200).map(check).collect::<String>());
    let program = Program::start("crowd", &config, &[]);
    let page = eventually("all checks are up and have a course", || {
        let page = program.get("/");
        (page.contains("200 up") && page.matches("<svg><path").count() == 200).then_some(page)
    });
    assert_eq!(page.matches("<tr id=").count(), 200);
    let whole = page.len() + program.get("/page.css").len() + program.get("/page.js").len();
    println!("page of 200 checks: {} bytes, with style and script {whole}", page.len());
    assert!(page.len() < LARGEST_PAGE, "{} bytes", page.len());
    // The machine is shared: the best of some says what the program can do.
    let took = (0..10).map(|_| {
        let start = Instant::now();
        program.get("/");
        start.elapsed()
    });
    let best = took.min().unwrap();
    println!("best of ten: {best:?}");
    assert!(best < LONGEST_WAIT, "{best:?}");

    let few = program.get("/?q=team-01");
    assert_eq!(few.matches("<tr id=").count(), 10, "{few}");
    assert_eq!(program.get("/?state=down").matches("<tr id=").count(), 0);
    assert!(program.get("/?q=%3Cscript%3E").contains("value=\"&lt;script&gt;\""));
}

#[test]
fn what_changes_is_sent_to_who_looks_and_the_stream_ends_with_the_program() {
    let (stage, store) = (stage("looked-at"), Store::redis().unwrap());
    let mut server = StoreServer::start(&store, stage.path(), &[]).unwrap();
    server.allow("datapulse", PASSWORD, &["+info", "+ping", "+slowlog|len", "+slowlog|get"]).unwrap();
    let config = format!(
        "checks:\n  - redis: {{name: cache, every: 1s, timeout: 1s, target: {{host: 127.0.0.1, port: {}, user: datapulse, password: \"env:PASSWORD\", tls: disable}}}}\n",
        server.port()
    );
    let program = Program::start("looked-at", &config, &[]);
    program.wait_for("datapulse_check_up", &[("check", "cache")], |up| up == 1.0);
    let mut all = Stream::open(&program, "page=/");
    let mut one = Stream::open(&program, "page=/checks/cache");
    all.part(|id, html| id == "c-cache" && html.contains("class=\"up\""));
    one.part(|id, html| id == "questions" && html.contains("CLUSTER SHARDS"));
    server.kill9().unwrap();
    // In the order of the page.
    all.part(|id, html| id == "summary" && html.contains("1 down"));
    let row = all.part(|id, html| id == "c-cache" && html.contains("class=\"down\""));
    assert!(row.contains("connect: could not connect to"), "{row}");
    one.part(|id, html| id == "problems" && html.contains("could not connect to"));
    assert_eq!(program.request("GET", "/api/v1/live?page=/checks/none", "").status, 404);
    assert_eq!(program.request("GET", "/checks/none", "").status, 404);
    program.signal(Signal::Term);
    let (_, took) = program.end();
    assert!(took < Duration::from_secs(5), "open streams held up the end: {took:?}");
    assert!(all.ends() && one.ends());
}

#[test]
fn a_check_has_a_page_with_both_ends_its_statements_and_its_alerts() {
    let pair = shared_pair();
    crate::program::replicate(pair, "both_ends");
    role(&pair.subscriber, "both_sub", "");
    role(&pair.publisher, "both_pub", "grant pg_monitor to both_pub");
    let config = format!(
        "checks:\n  - pg_subscription: {{name: orders, every: 1s, target: {}, publisher: {}, subscriptions: [both_ends]}}\n  \
         - sql_query: {{name: secretive, every: 1s, target: {}, sql: \"select 1 as n where 'canary of a literal' > ''\", metrics: [{{name: both.n, value: n, help: h}}]}}\n",
        target(&pair.subscriber, "both_sub", "both_ends"),
        target(&pair.publisher, "both_pub", "both_ends"),
        target(&pair.subscriber, "both_sub", "both_ends"),
    );
    let program = Program::start("both_ends", &config, &[]);
    program.wait_for("pg_subscription_lag_bytes", &[], |_| true);
    let page = eventually("the worker applies", || {
        Some(program.get("/checks/orders")).filter(|page| page.contains("applies"))
    });
    for words in [
        "<b>publisher</b> answers<br>slot <b>both_ends</b>",
        "lag ",
        "heard ",
        "subscription <b>both_ends</b> of both_ends applies",
        "what it asks of the subscriber",
        "pg_stat_subscription",
        "what it asks of the publisher",
        "PostgresSubscriptionSilent",
        "page: {prometheus: ..}",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let query = eventually("the statement has run", || {
        Some(program.get("/checks/secretive")).filter(|page| page.contains("select ? as n"))
    });
    let api = program.get("/api/v1/checks?check=orders&check=secretive");
    for text in [&page, &query, &api] {
        assert!(!text.contains("canary of a literal") && !text.contains(PASSWORD), "{text}");
    }
    let api: Value = serde_json::from_str(&api).unwrap();
    let orders = api["checks"].as_array().unwrap().iter().find(|check| check["check"] == "orders").unwrap();
    assert_eq!(orders["headline"]["name"], "pg_subscription_lag_bytes");
    assert_eq!(orders["questions"].as_array().unwrap().len(), 2);
    assert_eq!(orders["alerts"], Value::Null, "nobody was asked what fires");
}

#[test]
fn what_prometheus_fires_and_expects_stands_on_the_page() {
    let pair = shared_pair();
    role(&pair.subscriber, "expecting", "");
    let port = free_port().unwrap();
    let config = format!(
        "page: {{prometheus: \"http://127.0.0.1:{port}\"}}\nchecks:\n  - sql_query: {{name: devices, every: 1s, target: {}, \
         sql: \"select 'JP' as country, 80 as n\", metrics: [{{name: device.connections, value: n, labels: [country], help: h}}]}}\n",
        target(&pair.subscriber, "expecting", "postgres"),
    );
    let program = Program::start("expecting", &config, &[]);
    program.wait_for("device_connections", &[], |_| true);
    let silent = eventually("that Prometheus does not answer is told", || {
        Some(program.get("/")).filter(|page| page.contains("could not connect to"))
    });
    assert!(silent.contains("unknown"), "{silent}");
    assert!(!program.get("/checks/devices").contains("Nothing fires"), "nobody knows what fires");
    // The recorded series have the names and labels of alerts/anomaly.yml; four weeks of history are too long for a test.
    let stage = stage("expecting-prometheus");
    let rules = stage.path().join("rules.yml");
    let text = "groups:\n- name: g\n  interval: 1s\n  rules:\n  \
         - {record: 'seasonal:expected', expr: 'label_replace(device_connections * 0 + 100, \"gauge\", \"device_connections\", \"\", \"\")'}\n  \
         - {record: 'seasonal:guard', expr: 'seasonal:expected * 0 + 0.15'}\n  \
         - {alert: Low, expr: 'device_connections < 85', labels: {severity: critical}}\n";
    std::fs::write(&rules, text).unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n- job_name: datapulse\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        rules.display(),
        program.port
    );
    let _prometheus = Prometheus::start_at(port, stage.path(), &config, &[]).unwrap();
    let page = eventually("the alert and the expected value", || {
        Some(program.get("/checks/devices")).filter(|page| page.contains("expected 100"))
    });
    assert!(page.contains("<b class=\"fires\">80</b> <small>expected 100, low below 85</small>"), "{page}");
    assert!(page.contains("<b>Low</b>") && page.contains("country=JP"), "{page}");
    let all = program.get("/");
    assert!(all.contains("1 firing") && all.contains("1 alert</b>"), "{all}");
}
