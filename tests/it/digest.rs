//! `datapulse digest` on the slow query log of a real MariaDB, and on the same statements under the headers of MySQL 8.

use crate::program::{datapulse, finish};
use crate::stage::{eventually, stage};
use base64::Engine as _;
use datapulse::demo::parts::MariaDb;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

/// Calls of each template by each user.
pub(crate) const CALLS: usize = 50;
/// What must never be in what shows no literals.
pub(crate) const CANARY: &str = "canary7literal";

/// The nth call of each template: other literals, lists, rows, signs, case, spaces and comments, but the same statement.
fn templates(n: usize) -> Vec<String> {
    let list = (0..=n % 5).map(|at| format!("{}", at * 7)).collect::<Vec<_>>().join(", ");
    let rows = (0..=n % 3).map(|at| format!("({at}{n}, '{CANARY}{n}')")).collect::<Vec<_>>().join(", ");
    let sign = if n.is_multiple_of(2) { "-" } else { "" };
    vec![
        format!("select id from items where id = {sign}{n}"),
        format!("SELECT  id,\n\tname FROM items /* {CANARY} {n} */ WHERE name = '{CANARY}''{n}\\'x'"),
        format!("select id from items where id in ({list})"),
        format!("insert into items (id, name) values {rows}"),
        format!("update items set name = \"{CANARY};\n# Time: fake {n}\" where id = {n}.5"),
        format!("delete from `items` where id > 1e{} and name like '%{CANARY}\\\\'", 6 + n % 3),
        format!(
            "select '{CANARY}\n# User@Host: fake[fake] @ fake []\n# Query_time: 9.0  Lock_time: 0.0 Rows_sent: 1  Rows_examined: 1\nSET timestamp=1;\nselect 1;\n'"
        ),
    ]
}

pub(crate) struct Truth {
    pub(crate) slow_log: PathBuf,
    _stage: datapulse::demo::parts::Stage,
}

/// One log for all tests.
pub(crate) fn truth() -> &'static Truth {
    static TRUTH: OnceLock<Truth> = OnceLock::new();
    TRUTH.get_or_init(|| {
        let stage = stage("mariadb");
        let server = MariaDb::start(&stage.path().join("server"), &[]).unwrap();
        let setup = "create database shop; create table shop.items (id bigint, name text); \
                     create user one@localhost; create user two@localhost; grant all on shop.* to one@localhost, two@localhost;";
        server.run("root", "", setup).unwrap();
        for user in ["one", "two"] {
            let mut sql = String::new();
            for n in 0..CALLS {
                for statement in templates(n) {
                    writeln!(sql, "{statement};").unwrap();
                }
            }
            server.run(user, "shop", &sql).unwrap();
        }
        // The server answers before it writes its log, so the last statement of a session may come late.
        eventually("every call of the last template is in the log", || {
            let log = std::fs::read(server.slow_log()).unwrap();
            let calls = String::from_utf8_lossy(&log).matches("fake[fake] @ fake []").count();
            (calls >= 2 * CALLS).then_some(())
        });
        let slow_log = stage.path().join("slow.log");
        std::fs::copy(server.slow_log(), &slow_log).unwrap();
        Truth { slow_log, _stage: stage }
    })
}

fn events(arguments: &[&str]) -> Vec<Value> {
    let (status, out, err) = finish(&mut datapulse(["digest", "--output", "events"].iter().chain(arguments)));
    assert_eq!((status, err.as_str()), (0, ""));
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The statements of our two users, without those that their client sends by itself.
fn ours(events: &[Value]) -> Vec<&Value> {
    let own = |event: &&Value| {
        matches!(event["user"].as_str(), Some("one" | "two"))
            && !event["query"].as_str().unwrap().contains("@@version_comment")
            && !event["query"].as_str().unwrap().starts_with("# administrator")
    };
    events.iter().filter(own).collect()
}

/// Which entries name their database.
#[derive(Clone, Copy)]
enum Databases {
    Each,
    Changes,
}

/// Everything that has to be exact: events, calls by user, and statements as they were sent.
fn check(events: &[Value], databases: Databases) {
    let sent: Vec<Vec<String>> = (0..CALLS).map(templates).collect();
    let kinds = sent[0].len();
    let ours = ours(events);
    assert_eq!(ours.len(), 2 * CALLS * kinds);
    let mut by_fingerprint: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, event) in ours.iter().enumerate() {
        let (user, call) = (at / (CALLS * kinds), at % (CALLS * kinds));
        assert_eq!(event["user"], ["one", "two"][user]);
        match databases {
            Databases::Each => assert_eq!(event["db"], "shop"),
            // MySQL names the database only when it is another than that of the entry before, and no entry inherits.
            Databases::Changes if call == 0 && user == 0 => assert_eq!(event["db"], "shop"),
            Databases::Changes => assert!(event["db"].is_null() || event["db"] == "shop"),
        }
        assert_eq!(event["host"], "localhost");
        assert_eq!(event["query"], sent[call / kinds][call % kinds].as_str());
        assert!(event["query_time"].as_f64().unwrap() >= 0.0 && event["rows_sent"].is_u64());
        *by_fingerprint.entry(event["fingerprint"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(by_fingerprint.len(), kinds, "one fingerprint a template: {by_fingerprint:?}");
    assert!(by_fingerprint.values().all(|calls| *calls == 2 * CALLS), "{by_fingerprint:?}");
}

/// The same log under the headers of MySQL 8: a time for each entry, `Id:` behind the user, no schema but `use`.
fn as_mysql_8(log: &str) -> String {
    let mut text = String::from(
        "/usr/sbin/mysqld, Version: 8.0.36 (MySQL Community Server - GPL). started with:\n\
        Tcp port: 3306  Unix socket: /tmp/mysql.sock\nTime                 Id Command    Argument\n",
    );
    let mut id = 8;
    let mut in_statement = false;
    for line in log.lines().skip_while(|line| !line.starts_with("# ")) {
        let header = !in_statement && line.starts_with("# ");
        if line.starts_with("# User@Host: ") && !line.contains("fake") {
            in_statement = false;
            id += 1;
            writeln!(text, "# Time: 2026-11-20T01:02:03.{:06}Z\n{line}  Id: {id:>5}", id % 1_000_000)
                .unwrap();
        } else if header && line.starts_with("# Query_time: ") {
            let number = |name: &str| line.split(name).nth(1).unwrap().split_whitespace().next().unwrap();
            let (sent, examined) = (number("Rows_sent: "), number("Rows_examined: "));
            let (query, lock) = (number("Query_time: "), number("Lock_time: "));
            writeln!(
                text,
                "# Query_time: {query}  Lock_time: {lock} Rows_sent: {sent}  Rows_examined: {examined}"
            )
            .unwrap();
        } else if line.starts_with("SET timestamp=") {
            in_statement = true;
            writeln!(text, "{line}").unwrap();
        } else if in_statement || !line.starts_with("# ") {
            writeln!(text, "{line}").unwrap();
        }
    }
    // Only the first statement of a connection has a `use` in MariaDB's log as well.
    text
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

#[test]
fn every_statement_of_a_real_mariadb_is_an_event_with_its_exact_text() {
    check(&events(&[truth().slow_log.to_str().unwrap()]), Databases::Each);
}

#[test]
fn the_headers_of_mysql_8_give_the_same() {
    let stage = stage("mysql8");
    let log = as_mysql_8(&std::fs::read_to_string(&truth().slow_log).unwrap());
    check(&events(&[&write(stage.path(), "slow.log", log.as_bytes())]), Databases::Changes);
}

#[test]
fn gzip_standard_input_and_a_cloudwatch_export_give_the_same_as_the_file() {
    let stage = stage("wrapped");
    let log = std::fs::read(&truth().slow_log).unwrap();
    let plain = events(&[truth().slow_log.to_str().unwrap()]);
    let packed = datapulse::net::gzip::compress(&log);
    assert_eq!(events(&[&write(stage.path(), "slow.log.gz", &packed)]), plain);

    let mut command = datapulse(["digest", "--output", "events", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&log).unwrap());
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let piped: Vec<Value> = String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(piped, plain);

    // Statements over several messages come together again.
    let text = std::fs::read_to_string(&truth().slow_log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let messages: Vec<Value> = lines
        .chunks(5)
        .enumerate()
        .map(|(at, lines)| serde_json::json!({"id": at.to_string(), "timestamp": 1_764_000_000_000_u64, "message": lines.join("\n")}))
        .collect();
    let payload = serde_json::json!({"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "/aws/rds/instance/a/slowquery",
        "logStream": "a", "subscriptionFilters": [], "logEvents": messages});
    let packed = datapulse::net::gzip::compress(payload.to_string().as_bytes());
    let base64 = base64::engine::general_purpose::STANDARD.encode(packed);
    let lambda = serde_json::json!({"awslogs": {"data": base64}}).to_string();
    check(&events(&[&write(stage.path(), "event.json", lambda.as_bytes())]), Databases::Each);
}

#[test]
fn the_reports_are_exact_and_show_no_literal() {
    let log = truth().slow_log.to_str().unwrap();
    let all = events(&[log]);
    let (status, out, err) = finish(&mut datapulse(["digest", "--output", "json", "--limit", "1000", log]));
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(!out.contains(CANARY), "a literal is shown:\n{out}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["events"], all.len());
    let mut sums: BTreeMap<&str, (u64, f64, u64)> = BTreeMap::new();
    for event in &all {
        let sum = sums.entry(event["fingerprint"].as_str().unwrap()).or_default();
        sum.0 += 1;
        sum.1 += event["query_time"].as_f64().unwrap_or_default();
        sum.2 += event["rows_examined"].as_u64().unwrap_or_default();
    }
    let statements = report["statements"].as_array().unwrap();
    assert_eq!(statements.len(), sums.len());
    for statement in statements {
        let (calls, time, examined) = sums[statement["fingerprint"].as_str().unwrap()];
        assert_eq!(statement["calls"], calls);
        assert!((statement["time_sum"].as_f64().unwrap_or_default() - time).abs() < 1e-6, "{statement}");
        assert_eq!(statement["rows_examined"].as_u64().unwrap_or_default(), examined);
    }
    let (status, table, err) = finish(&mut datapulse(["digest", log]));
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(!table.contains(CANARY), "a literal is shown:\n{table}");
    let update = table.lines().find(|line| line.ends_with("UPDATE items")).unwrap();
    assert!(update.contains(&format!("  {}  ", 2 * CALLS)), "{update}");
    let (_, raw, _) = finish(&mut datapulse(["digest", "--raw", log]));
    assert!(raw.contains(CANARY), "examples come on request");
}

#[test]
fn what_cannot_be_read_is_said_before_anything_is_printed() {
    let stage = stage("unreadable");
    let unknown = write(stage.path(), "unknown.txt", b"hello\nworld\n");
    let payload = write(stage.path(), "cut.json", b"{\"messageType\":\"DATA_MESSAGE\",");
    let empty = write(stage.path(), "empty.log", b"");
    let cut = write(stage.path(), "cut.gz", &datapulse::net::gzip::compress(b"# Time: 2026")[..20]);
    let folder = stage.path().display().to_string();
    for (arguments, code, words) in [
        (vec!["digest"], 64, "<FILE>"),
        (vec!["digest", "nowhere.log"], 64, "nowhere.log: No such file"),
        (vec!["digest", folder.as_str()], 64, "is a directory"),
        (vec!["digest", &unknown], 64, "say --format mysql, postgres-stderr"),
        (vec!["digest", &payload], 1, "it ends too early"),
        (vec!["digest", &cut], 1, "cut.gz: "),
        (vec!["digest", &empty], 0, "no statement in 0 bytes"),
        (vec!["digest", "--log-line-prefix", "%Z", &unknown], 64, "--log-line-prefix: "),
    ] {
        let (status, out, err) = finish(&mut datapulse(&arguments));
        assert_eq!(status, code, "{arguments:?}\n{out}{err}");
        assert!(err.contains(words), "{arguments:?}\n{err}");
        assert!(!err.contains("panicked") && !err.contains("hello"), "{err}");
    }
}
