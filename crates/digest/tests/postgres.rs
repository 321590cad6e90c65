//! Logs that real servers wrote: every format says the same, whatever pieces it comes in.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

use std::borrow::Cow;

use digest::End;
use digest::postgres::{Format, Message, Phase, Prefix, Severity, Step, next_message};

const RDS: &str = "%t:%r:%u@%d:[%p]:";

fn log(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/postgres/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn stderr(prefix: &str) -> Format {
    Format::Stderr(Prefix::parse(prefix).unwrap())
}

/// All messages of a log that comes in pieces of this size. Nothing of it is skipped.
fn messages(log: &[u8], piece: usize, format: &Format) -> Vec<Message<'static>> {
    let (mut found, mut at, mut seen) = (Vec::new(), 0, 0);
    loop {
        let end = if seen == log.len() { End::OfInput } else { End::OfPiece };
        match next_message(&log[at..seen], end, format) {
            Step::Message { message, used } => {
                found.push(message.into_owned());
                at += used;
            }
            Step::NeedMore if end == End::OfInput => break,
            Step::NeedMore => seen = (seen + piece).min(log.len()),
            step => panic!("{step:?} at {at}"),
        }
    }
    assert_eq!(at, log.len());
    found
}

fn whole(name: &str, format: &Format) -> Vec<Message<'static>> {
    messages(&log(name), usize::MAX >> 1, format)
}

/// The account that no prefix with `%u@%d` can tell from its database, `a:b@c`.
fn is_ambiguous(message: &Message<'_>) -> bool {
    message.db.as_deref() == Some(b"a:b@c")
}

#[test]
fn the_three_formats_say_the_same() {
    for (version, prefix) in
        [("13", "%m [%p] %q%u@%d "), ("15", RDS), ("18", "%m [%p] %l %e %c %Q %q%u@%d/%a ")]
    {
        let of_csv = whole(&format!("{version}.csv"), &Format::Csv);
        assert!(of_csv.len() > 75, "{version}: {}", of_csv.len());
        if version != "13" {
            let of_json = whole(&format!("{version}.json"), &Format::Json);
            assert_eq!(of_json.len(), of_csv.len(), "{version}");
            for (found, expected) in of_json.iter().zip(&of_csv) {
                assert_eq!(found, expected, "{version}");
            }
        }
        let of_stderr = whole(&format!("{version}.log"), &stderr(prefix));
        assert_eq!(of_stderr.len(), of_csv.len(), "{version}");
        for (found, mut expected) in of_stderr.into_iter().zip(of_csv) {
            if is_ambiguous(&expected) {
                let (user, db) = (Some(Cow::Borrowed(&b"no@body@a:b"[..])), Some(Cow::Borrowed(&b"c"[..])));
                (expected.user, expected.db) = (user, db);
            }
            if version == "15" {
                expected.time = expected.time.map(|time| time - time % 1_000_000);
            } else {
                (expected.host, expected.port) = (None, None);
            }
            if version != "18" {
                expected.query_id = None;
                // `verbose` was on for a moment.
                expected.sqlstate = expected.sqlstate.filter(|_| found.sqlstate.is_some());
            }
            assert_eq!(found, expected, "{version}");
        }
    }
}

#[test]
fn pieces_make_no_difference() {
    for (name, format) in [("15.log", stderr(RDS)), ("15.csv", Format::Csv), ("15.json", Format::Json)] {
        let (log, expected) = (log(name), whole(name, &format));
        for piece in [1, 2, 3, 7, 64, 1000, 4096] {
            assert_eq!(messages(&log, piece, &format), expected, "{name} in pieces of {piece}");
        }
    }
}

#[test]
fn statements_are_counted_once() {
    let all = whole("15.log", &stderr(RDS));
    let mut phases: Vec<(Phase, usize)> = Vec::new();
    for work in all.iter().filter_map(Message::work) {
        match phases.iter_mut().find(|(phase, _)| *phase == work.phase) {
            Some((_, count)) => *count += 1,
            None => phases.push((work.phase, 1)),
        }
    }
    assert_eq!(
        phases,
        [
            (Phase::Statement, 27),
            (Phase::Plan, 11),
            (Phase::Duration, 4),
            (Phase::Parse, 2),
            (Phase::Bind, 3),
            (Phase::Execute, 3),
        ]
    );
    let events: Vec<_> = all.iter().filter_map(Message::event).collect();
    let of_pgbench: Vec<_> = events.iter().filter(|event| event.ip.is_some()).collect();
    assert_eq!(of_pgbench.len(), 3);
    let first = of_pgbench[0];
    assert_eq!(first.query, Cow::Borrowed(b"select note from t where id = $1 and note <> 'x'"));
    assert_eq!(first.user.as_deref(), Some(&b"we:ird@user"[..]));
    assert_eq!((first.db.as_deref(), first.ip.as_deref()), (Some(&b"app"[..]), Some(&b"127.0.0.1"[..])));
    assert_eq!(first.host, None);
    assert_eq!(of_pgbench[2].ip.as_deref(), Some(&b"::1"[..]));
}

#[test]
fn plans_repeat_the_statement_of_the_next_message() {
    for name in ["13.log", "15.log", "18.log"] {
        let prefix = match name {
            "13.log" => "%m [%p] %q%u@%d ",
            "15.log" => RDS,
            _ => "%m [%p] %l %e %c %Q %q%u@%d/%a ",
        };
        let all = whole(name, &stderr(prefix));
        for text in
            ["'it''s \"quoted\", with\na line break\tand a tab'", "select count(*)\nfrom t", "where id = 2"]
        {
            let with_text = |phase: Phase| {
                let mut works = all.iter().filter_map(Message::work).filter(|work| work.phase == phase);
                works.find(|work| {
                    let sql = work.text.as_deref().map(String::from_utf8_lossy);
                    sql.is_some_and(|sql| sql.contains(text))
                })
            };
            let (plan, statement) = (with_text(Phase::Plan).unwrap(), with_text(Phase::Statement).unwrap());
            assert_eq!(plan.text, statement.text, "{name}");
        }
    }
}

#[test]
fn errors_have_all_their_lines() {
    let all = whole("15.log", &stderr(RDS));
    let error = all.iter().find(|message| message.hint.is_some()).unwrap();
    assert_eq!(error.severity, Severity::Error);
    assert_eq!(error.message.as_ref(), b"bad 7");
    assert_eq!(error.detail.as_deref(), Some(&b"the\ndetail"[..]));
    assert_eq!(error.hint.as_deref(), Some(&b"the hint"[..]));
    assert_eq!(error.context.as_deref(), Some(&b"PL/pgSQL function inline_code_block line 1 at RAISE"[..]));
    assert!(error.statement.as_deref().is_some_and(|sql| sql.starts_with(b"do $$ begin raise exception")));
}
