//! Rows of both kinds of views in, samples and rows for people out: whose query it is, how old, and whether we see all of them.

use super::server::{View, read, read_rights};
use super::text::Written;
use super::*;
use crate::config::secret::Vault;
use crate::config::target::Server as Target;
use crate::net::table::Table;
use metrics::Values;
use std::sync::Arc;

const SYS: [&str; 9] = [
    "user_id",
    "query_id",
    "pid",
    "database_name",
    "status",
    "started",
    "elapsed_time",
    "queue_time",
    "text",
];
const SVV: [&str; 4] = ["user_id", "query_id", "pid", "started"];
/// The server's clock, and the start of a query that runs for 61.2345 minutes.
const NOW: &str = "2026-11-20 08:48:31.168";
const STARTED: &str = "2026-11-20 07:47:17.098";

type Cells<const N: usize> = [Option<&'static str>; N];

/// A query of `app` in the SYS views; times are in microseconds there.
fn sys(id: &'static str, status: &'static str, elapsed: &'static str) -> Cells<9> {
    ["100", id, "1073", "dev", status, STARTED, elapsed, "2500000", "select 1"].map(Some)
}

fn table<const N: usize>(columns: &[&str], rows: &[Cells<N>]) -> Table {
    Table::of(columns, &rows.iter().map(<[_; N]>::as_slice).collect::<Vec<_>>())
}

/// The four results; the session that asks has the process 7.
fn answered(queries: Table, texts: &[Cells<3>]) -> [Table; 4] {
    [
        table(&["now", "pid"], &[[NOW, "7"].map(Some)]),
        table(
            &["id", "name"],
            &[["100", "app      "], ["101", "batch"], ["1", "rdsdb"]].map(|row| row.map(Some)),
        ),
        queries,
        table(&["query_id", "sequence", "text"], texts),
    ]
}

fn found(view: View, queries: Table) -> Found {
    read(&answered(queries, &[]), view, Written::Plain).unwrap()
}

/// A line for each sample: name, label values, value, in the order in which they are told.
fn lines(answer: &Answer) -> Vec<String> {
    let known = RedshiftInflight::families(&Config::default());
    let mut lines = Vec::new();
    for column in answer.columns() {
        assert!(known.iter().any(|family| family.is(column.family())), "{}", column.family().name);
        let Values::Numbers(numbers) = column.values() else { panic!("no histogram is told here") };
        for (row, number) in numbers.iter().enumerate() {
            let labels: Vec<&str> = column.labels(row).collect();
            lines.push(format!("{} {} {number}", column.family().prometheus(), labels.join(",")));
        }
    }
    lines
}

fn told(found: &Found) -> Vec<String> {
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    lines(&tell(found, Duration::from_mins(1)))
}

/// The lines of the families whose name begins so, without that beginning.
fn of(lines: &[String], beginning: &str) -> Vec<String> {
    lines.iter().filter_map(|line| Some(line.strip_prefix(beginning)?.to_owned())).collect()
}

/// A check without a server; it is never run.
fn check(config: &str, limit: usize) -> RedshiftInflight {
    let target = serde_json::json!({ "host": "127.0.0.1", "user": "datapulse", "database": "dev" });
    let server = Target { name: "warehouse".to_owned(), target: serde_json::from_value(target).unwrap() };
    let timeout = Duration::from_secs(1);
    let clients = Clients {
        vault: Arc::new(Vault::new(Arc::new(|_| None), std::path::Path::new("/"))),
        target: Arc::new(server),
        publisher: None,
        timeout,
        every: timeout,
        limit,
        state: None,
    };
    RedshiftInflight::new(&serde_json::from_str(config).unwrap(), &clients)
}

/// The rows for people, as JSON.
fn listing(config: &str, found: &Found) -> String {
    let listing = check(config, 1000).listing(&found.queries);
    assert_eq!(listing.columns, COLUMNS);
    serde_json::to_string(&listing.rows).unwrap()
}

// read and tell

#[test]
fn a_query_of_the_sys_views_is_told_in_full() {
    let mut found = found(View::Sys, table(&SYS, &[sys("428", "running", "3674070000")]));
    (found.login, found.sees_all) = ("datapulse".to_owned(), Some(true));
    let expected = "\
redshift_inflight_query_elapsed_seconds 1073,428,app,dev 3674.07
redshift_inflight_query_queue_seconds 1073,428,app,dev 2.5
redshift_inflight_queries app,running 1
redshift_inflight_oldest_seconds app 3674.07
redshift_inflight_visibility datapulse 1";
    assert_eq!(told(&found).join("\n"), expected);
}

#[test]
fn a_query_of_the_svv_view_has_no_database_and_no_queue_time() {
    let rows = [["100", "428", "1073", STARTED].map(Some)];
    let mut found = found(View::Svv, table(&SVV, &rows));
    (found.login, found.sees_all) = ("datapulse".to_owned(), Some(false));
    let expected = "\
redshift_inflight_query_elapsed_seconds 1073,428,app, 3674.07
redshift_inflight_queries app,running 1
redshift_inflight_oldest_seconds app 3674.07
redshift_inflight_visibility datapulse 0";
    assert_eq!(told(&found).join("\n"), expected);
}

#[test]
fn people_see_minutes_and_their_own_time_zone() {
    let row = r#""1073","428","app","dev","running",61.2345,"#;
    let found = found(View::Sys, table(&SYS, &[sys("428", "running", "3674070000")]));
    let tokyo = listing(r#"{"time_zone": "Asia/Tokyo"}"#, &found);
    assert_eq!(tokyo, format!(r#"[[{row}"2026-11-20T16:47:17.098+09:00","select ?"]]"#));
    let utc = listing(r#"{"raw_text": true}"#, &found);
    assert_eq!(utc, format!(r#"[[{row}"2026-11-20T07:47:17.098+00:00","select 1"]]"#));
}

#[test]
fn both_views_tell_the_same_age() {
    let rows = [["100", "428", "1073", STARTED].map(Some)];
    let old = found(View::Svv, table(&SVV, &rows));
    let new = found(View::Sys, table(&SYS, &[sys("428", "running", "3674070000")]));
    assert_eq!(old.queries[0].elapsed, Some(3674.07));
    assert_eq!(old.queries[0].elapsed, new.queries[0].elapsed);
    assert_eq!(old.queries[0].started, new.queries[0].started);
}

#[test]
fn a_query_whose_age_the_server_does_not_say_yet_counts_from_its_start() {
    for elapsed in [None, Some("0")] {
        let mut row = sys("428", "queued", "");
        row[6] = elapsed;
        assert_eq!(found(View::Sys, table(&SYS, &[row])).queries[0].elapsed, Some(3674.07), "{elapsed:?}");
    }
}

#[test]
fn names_come_from_pg_user_and_a_dropped_user_keeps_its_id() {
    let mut gone = sys("2", "running", "90000000");
    gone[0] = Some("555");
    let mut batch = sys("3", "running", "80000000");
    batch[0] = Some("101");
    let lines = told(&found(View::Sys, table(&SYS, &[sys("1", "running", "70000000"), gone, batch])));
    assert_eq!(of(&lines, "redshift_inflight_oldest_seconds "), ["555 90", "app 70", "batch 80"]);
}

#[test]
fn our_own_session_is_left_out() {
    let mut own = sys("1", "running", "9000000000");
    own[2] = Some("7");
    let found = found(View::Sys, table(&SYS, &[own]));
    assert_eq!(told(&found), [""; 0]);
    let own = [["100", "1", "7", STARTED].map(Some), ["100", "2", "77", STARTED].map(Some)];
    let found = self::found(View::Svv, table(&SVV, &own));
    assert_eq!(found.queries.iter().map(|query| query.id.as_str()).collect::<Vec<_>>(), ["2"]);
}

#[test]
fn padding_of_columns_of_fixed_width_is_trimmed() {
    let row = [
        "100  ",
        "428   ",
        "1073 ",
        "dev             ",
        "running   ",
        STARTED,
        "3674070000",
        "0",
        "select 1   ",
    ];
    let mut own = sys("1", "running", "9000000000");
    own[2] = Some("7   ");
    let found = found(View::Sys, table(&SYS, &[row.map(Some), own]));
    let lines = told(&found);
    assert_eq!(of(&lines, "redshift_inflight_queries "), ["app,running 1"]);
    assert_eq!(of(&lines, "redshift_inflight_query_elapsed_seconds "), ["1073,428,app,dev 3674.07"]);
    assert_eq!(found.queries[0].text.as_deref(), Some("select 1"));
}

#[test]
fn a_row_of_nulls_gives_no_age_and_never_zero() {
    let lines = told(&found(View::Sys, table(&SYS, &[[None; 9]])));
    assert_eq!(lines, ["redshift_inflight_queries , 1"], "it is there, and nothing else is known");
    let lines = told(&found(View::Svv, table(&SVV, &[[None; 4]])));
    assert_eq!(lines, ["redshift_inflight_queries ,running 1"]);
    let mut row = sys("428", "running", "3674070000");
    row[7] = None;
    let lines = told(&found(View::Sys, table(&SYS, &[row])));
    assert_eq!(of(&lines, "redshift_inflight_query_queue_seconds "), [""; 0]);
    assert_eq!(of(&lines, "redshift_inflight_query_elapsed_seconds ").len(), 1);
}

#[test]
fn a_row_that_cannot_be_read_is_a_note_and_the_others_stay() {
    let (mut elapsed, mut queue) = (sys("1", "running", "NaN"), sys("2", "running", "5"));
    queue[7] = Some("soon");
    let found = found(View::Sys, table(&SYS, &[elapsed, queue, sys("3", "running", "70000000")]));
    assert_eq!(found.queries.iter().map(|query| query.id.as_str()).collect::<Vec<_>>(), ["3"]);
    let words: Vec<String> = found.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        ["column elapsed_time is not a finite number", "column queue_time is not a finite number"]
    );
    elapsed[1] = None;
    assert_eq!(self::found(View::Sys, table(&SYS, &[elapsed])).notes.len(), 1);
}

#[test]
fn a_time_that_cannot_be_read_is_a_note_and_the_query_stays() {
    let rows = [["100", "1", "70", "yesterday"].map(Some), ["100", "2", "71", STARTED].map(Some)];
    let mut tables = answered(table(&SVV, &rows), &[]);
    let words = |found: &Found| found.notes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let found = read(&tables, View::Svv, Written::Plain).unwrap();
    assert_eq!(words(&found), ["column started is not a time"]);
    let lines = lines(&tell(&found, Duration::from_mins(1)));
    assert_eq!(of(&lines, "redshift_inflight_queries "), ["app,running 2"]);
    assert_eq!(of(&lines, "redshift_inflight_query_elapsed_seconds "), ["71,2,app, 3674.07"]);
    // Without a clock nothing has an age: that must not look like a young query.
    tables[0] = table(&["now", "pid"], &[["noon", "7"].map(Some)]);
    let found = read(&tables, View::Svv, Written::Plain).unwrap();
    assert_eq!(words(&found), ["column now is not a time", "column started is not a time"]);
    assert!(found.queries.iter().all(|query| query.elapsed.is_none()));
}

#[test]
fn an_answer_of_another_shape_is_a_problem_of_the_protocol() {
    let tables = answered(table(&SYS, &[sys("1", "running", "5")]), &[]);
    let problem = read(&tables[..3], View::Sys, Written::Plain).unwrap_err();
    assert_eq!(
        (problem.reason, problem.to_string().as_str()),
        (Reason::Protocol, "3 results for four questions")
    );
    let mut silent = tables;
    silent[0] = Table::of(&["now", "pid"], &[]);
    assert_eq!(read(&silent, View::Sys, Written::Plain).unwrap_err().reason, Reason::Protocol);
}

#[test]
fn totals_know_also_those_below_min_elapsed() {
    let mut batch = sys("4", "returning", "1500000");
    batch[0] = Some("101");
    let rows = [
        sys("1", "running", "59999999"),
        sys("2", "running", "60000000"),
        sys("3", "queued", "10000000"),
        batch,
    ];
    let found = found(View::Sys, table(&SYS, &rows));
    let lines = told(&found);
    assert_eq!(of(&lines, "redshift_inflight_query_elapsed_seconds "), ["1073,2,app,dev 60"]);
    assert_eq!(of(&lines, "redshift_inflight_query_queue_seconds "), ["1073,2,app,dev 2.5"]);
    let counts = of(&lines, "redshift_inflight_queries ");
    assert_eq!(counts, ["app,queued 1", "app,running 2", "batch,returning 1"]);
    assert_eq!(of(&lines, "redshift_inflight_oldest_seconds "), ["app 60", "batch 1.5"]);
    assert_eq!(check("{}", 1000).listing(&found.queries).rows.len(), 1);
}

#[test]
fn the_longest_come_first_so_that_a_limit_cuts_the_shortest() {
    let mut ageless = sys("9", "running", "0");
    ageless[5] = None;
    let mut user = sys("5", "running", "62000000");
    user[0] = Some("101");
    let rows = [
        ageless,
        sys("1", "running", "61000000"),
        sys("2", "running", "9000000000"),
        sys("3", "running", "100000000"),
        sys("4", "running", "100000000"),
        user,
    ];
    let found = found(View::Sys, table(&SYS, &rows));
    let order: Vec<&str> = found.queries.iter().map(|query| query.id.as_str()).collect();
    assert_eq!(order, ["2", "3", "4", "5", "1", "9"]);
    let mut answer = tell(&found, Duration::from_mins(1));
    let mut cut: Vec<_> = answer.cap(2).iter().map(|(family, lost)| (family.prometheus(), *lost)).collect();
    cut.sort();
    let elapsed = "redshift_inflight_query_elapsed_seconds".to_owned();
    assert_eq!(cut, [(elapsed, 3), ("redshift_inflight_query_queue_seconds".to_owned(), 3)]);
    let lines = lines(&answer);
    let kept = of(&lines, "redshift_inflight_query_elapsed_seconds ");
    assert_eq!(kept, ["1073,2,app,dev 9000", "1073,3,app,dev 100"]);
    assert_eq!(of(&lines, "redshift_inflight_queries "), ["app,running 5", "batch,running 1"]);
    let shown = check("{}", 2).listing(&found.queries);
    assert_eq!(shown.rows.iter().map(|row| row[1].clone()).collect::<Vec<_>>(), ["2", "3"]);
}

// visibility

#[test]
fn visibility_is_that_of_the_view_which_is_read() {
    let user = |superuser, access| [[Some("datapulse  "), Some(superuser), Some(access)]];
    let restricted = "RESTRICTED   ";
    for (users, role, sys, svv) in [
        (user("t", restricted), None, true, true),
        (user("f", "UNRESTRICTED "), None, false, true),
        (user("f", restricted), Some("sys:monitor  "), true, false),
        (user("f", restricted), Some("sys:operator"), true, false),
        (user("f", restricted), Some("sys:dba"), true, false),
        (user("f", restricted), Some("sys:superuser"), true, false),
        (user("f", restricted), Some("sys:secadmin"), false, false),
        (user("f", restricted), Some("monitor"), false, false),
        (user("f", restricted), None, false, false),
    ] {
        let grants: Vec<Cells<2>> = role.map(|role| [Some("datapulse "), Some(role)]).into_iter().collect();
        let tables = [
            table(&["user_name", "superuser", "syslog_access"], &users),
            table(&["user_name", "role_name"], &grants),
        ];
        for (view, expected) in [(View::Sys, sys), (View::Svv, svv)] {
            assert_eq!(
                read_rights(&tables, view, "datapulse").unwrap(),
                expected,
                "{view:?} {users:?} {role:?}"
            );
        }
    }
}

#[test]
fn the_rights_of_another_user_are_not_ours() {
    let users =
        [["admin", "t", "UNRESTRICTED"].map(Some), ["datapulse", "f", "RESTRICTED"].map(Some), [None; 3]];
    let grants = [["admin", "sys:monitor"].map(Some), ["datapulse2", "sys:dba"].map(Some), [None; 2]];
    let tables = [
        table(&["user_name", "superuser", "syslog_access"], &users),
        table(&["user_name", "role_name"], &grants),
    ];
    for view in [View::Sys, View::Svv] {
        assert!(!read_rights(&tables, view, "datapulse").unwrap(), "{view:?}");
    }
    assert_eq!(read_rights(&tables[..1], View::Sys, "datapulse").unwrap_err().reason, Reason::Protocol);
}

#[test]
fn what_is_not_known_of_our_rights_is_not_told() {
    let mut found = found(View::Sys, table::<9>(&SYS, &[]));
    (found.login, found.sees_all) = ("datapulse".to_owned(), None);
    assert_eq!(told(&found), [""; 0]);
    // An idle cluster, and that we would see only ourselves.
    found.sees_all = Some(false);
    assert_eq!(told(&found), ["redshift_inflight_visibility datapulse 0"]);
}

// texts

/// A statement of more than 100 kB: long and short words, runs of blanks, and letters of two and three bytes.
fn long_text() -> String {
    let mut text = String::from("select '");
    let mut at = 0_usize;
    while text.len() < 120_000 {
        at += 1;
        text.push_str(["é", "x", "€", "word", "  ", "-", "            "][at * 31 % 7]);
        text.push_str(&at.to_string());
        text.push_str(&" ".repeat(if at.is_multiple_of(97) { 250 } else { at % 3 }));
    }
    text + "' as a"
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The fragments of a text as the views keep them, shuffled, each on three slices.
fn fragments(text: &str, width: usize, written: Written, trimmed: bool) -> Table {
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(width).collect();
    let mut rows: Vec<[String; 3]> = Vec::new();
    for at in 0..chunks.len() * 3 {
        // 7919 is a prime: every place comes once.
        let sequence = at * 7919 % (chunks.len() * 3) / 3;
        let mut bytes = chunks[sequence].to_vec();
        if trimmed {
            bytes.truncate(bytes.trim_ascii_end().len());
        } else {
            bytes.resize(width, b' ');
        }
        let text = match written {
            Written::Plain => String::from_utf8(bytes).unwrap(),
            Written::Hexadecimal => hexadecimal(&bytes),
        };
        rows.push(["428".to_owned(), sequence.to_string(), text]);
    }
    let mut table = Table::new(["query_id", "sequence", "text"].into_iter().map(str::to_owned));
    for row in &rows {
        table.push(row.iter().map(|cell| Ok::<_, ()>(Some(cell.as_str()))));
    }
    table
}

#[test]
fn a_text_of_100_kb_in_shuffled_fragments_is_rebuilt_byte_for_byte() {
    let text = long_text();
    let plain = text.replace(['é', '€'], "y");
    for (view, width, most) in [(View::Svv, 200, 500), (View::Sys, 4000, 25)] {
        for (text, written) in [(&plain, Written::Plain), (&text, Written::Hexadecimal)] {
            for trimmed in [false, true] {
                assert!(text.len() > 100_000 && text.len() / width >= most);
                let queries = match view {
                    View::Sys => table(&SYS, &[sys("428", "running", "3674070000")]),
                    View::Svv => table(&SVV, &[["100", "428", "1073", STARTED].map(Some)]),
                };
                let mut tables = answered(queries, &[]);
                tables[3] = fragments(text, width, written, trimmed);
                let found = read(&tables, view, written).unwrap();
                let rebuilt = found.queries[0].text.as_ref().unwrap();
                assert!(rebuilt == text, "{view:?} {written:?}, trimmed: {trimmed}");
                let shown = check(r#"{"raw_text": true}"#, 9).listing(&found.queries);
                assert!(shown.rows[0][7] == text.as_str(), "whole in the listing too");
                let masked = check("{}", 9).listing(&found.queries);
                assert_eq!(masked.rows[0][7], "select ? as a");
            }
        }
    }
}

#[test]
fn a_character_that_was_cut_asks_for_the_other_form() {
    let mut tables = answered(table(&SVV, &[["100", "428", "1073", STARTED].map(Some)]), &[]);
    tables[3] = Table::new(["query_id", "sequence", "text"].into_iter().map(str::to_owned));
    tables[3].push([Ok(Some("428")), Ok(Some("0")), Err(())].into_iter());
    assert_eq!(read(&tables, View::Svv, Written::Plain).unwrap_err().reason, Reason::Decode);
}

#[test]
fn a_query_whose_fragments_are_not_there_yet_has_its_short_text() {
    let mut row = sys("428", "running", "3674070000");
    row[8] = Some("select a\\nfrom t where b = 'canary'   ");
    let found = found(View::Sys, table(&SYS, &[row]));
    assert_eq!(found.queries[0].text.as_deref(), Some("select a\nfrom t where b = 'canary'"));
    let shown = listing("{}", &found);
    assert!(shown.contains(r"select a\nfrom t where b = ?") && !shown.contains("canary"), "{shown}");
    let rows = [["100", "428", "1073", STARTED].map(Some)];
    let without = self::found(View::Svv, table(&SVV, &rows));
    assert!(listing("{}", &without).contains(",null]]"), "no text at all");
}

#[test]
fn a_missing_fragment_is_told_also_where_the_text_is_masked() {
    let texts = [["428", "0", "select 'canary', "].map(Some), ["428", "2", "'x' from t"].map(Some)];
    let tables = answered(table(&SYS, &[sys("428", "running", "3674070000")]), &texts);
    let found = read(&tables, View::Sys, Written::Plain).unwrap();
    for config in ["{}", r#"{"raw_text": true}"#] {
        let shown = listing(config, &found);
        assert!(shown.contains("/* parts of this text were not there */\"]]"), "{shown}");
        assert_eq!(shown.contains("canary"), config != "{}");
    }
    // Only what we wrote ourselves is kept: a comment of the statement may hold data.
    let texts = [["428", "0", "select 1 /* canary */"].map(Some)];
    let tables = answered(table(&SYS, &[sys("428", "running", "3674070000")]), &texts);
    let shown = listing("{}", &read(&tables, View::Sys, Written::Plain).unwrap());
    assert!(shown.ends_with("\"select ?\"]]"), "{shown}");
}

// ask

#[test]
fn a_function_of_the_leader_node_never_stands_beside_a_view() {
    let server = Server::new(Source::Auto, Some("eye 1".to_owned()));
    for view in [View::Sys, View::Svv] {
        for written in [Written::Plain, Written::Hexadecimal] {
            for redshift in [true, false] {
                let sql = server.sql(view, redshift, written);
                let statements: Vec<&str> = sql.split("; ").collect();
                let questions =
                    statements.strip_prefix(&["set query_group to 'eye 1'"]).unwrap_or(&statements);
                assert_eq!(questions.len() < statements.len(), redshift, "only Redshift has groups: {sql}");
                assert_eq!(questions.len(), 4, "{sql}");
                for question in questions {
                    let leader =
                        ["now()", "sysdate", "pg_backend_pid()"].iter().any(|word| question.contains(word));
                    let views = ["svv_", "sys_", "pg_user"].iter().any(|word| question.contains(word));
                    assert!(leader != views, "{question}");
                }
            }
        }
    }
}

#[test]
fn only_what_is_in_flight_is_asked_for() {
    let server = Server::new(Source::Auto, None);
    let sys = server.sql(View::Sys, true, Written::Plain);
    assert_eq!(sys.matches("status in ('planning', 'queued', 'running', 'returning')").count(), 2, "{sys}");
    assert!(sys.starts_with("select sysdate as now"), "with microseconds: {sys}");
    let svv = server.sql(View::Svv, true, Written::Plain);
    assert_eq!(svv.matches("suspended = 0").count(), 2, "{svv}");
    assert!(!svv.contains("sys_") && !sys.contains("svv_"), "each view by itself");
    assert!(svv.contains("group by userid, query, pid") && svv.contains("group by query, sequence"), "{svv}");
}

#[test]
fn doctor_says_what_is_read() {
    for (source, words) in [
        (Source::Auto, "reads no view yet; rights not asked yet"),
        (Source::Sys, "reads SYS_QUERY_HISTORY and SYS_QUERY_TEXT; rights not asked yet"),
        (Source::Svv, "reads SVV_QUERY_INFLIGHT; rights not asked yet"),
    ] {
        assert_eq!(Server::new(source, None).learned(), words);
    }
}

#[test]
fn another_view_is_tried_only_where_this_one_cannot_be_read() {
    for reason in Reason::ALL {
        let elsewhere = is_elsewhere(&Problem::new(reason, "x"));
        assert_eq!(elsewhere, matches!(reason, Reason::Query | Reason::Permission), "{reason:?}");
    }
}

// configuration

#[test]
fn the_keys_have_their_defaults_and_no_others() {
    let config: Config = serde_json::from_str("{}").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!((config.source, config.min_elapsed.duration()), (Source::Auto, Duration::from_mins(1)));
    for (word, source) in [("auto", Source::Auto), ("sys", Source::Sys), ("svv", Source::Svv)] {
        let config: Config = serde_json::from_str(&format!(r#"{{"source": "{word}"}}"#)).unwrap();
        assert_eq!(config.source, source);
    }
    for keys in [r#"{"source": "stv"}"#, r#"{"sources": "sys"}"#, r#"{"time_zone": "JST+9"}"#] {
        assert!(serde_json::from_str::<Config>(keys).is_err(), "{keys}");
    }
}

#[test]
fn a_query_group_cannot_leave_its_quotes() {
    for (group, good) in [
        ("monitoring", true),
        ("eye_1 - a", true),
        ("", false),
        ("a'; drop table t; --", false),
        ("a\\\\", false),
    ] {
        let config = serde_json::from_str::<Config>(&format!(r#"{{"query_group": "{group}"}}"#));
        assert_eq!(config.is_ok(), good, "{group}");
    }
    let long = format!(r#"{{"query_group": "{}"}}"#, "a".repeat(321));
    assert!(serde_json::from_str::<Config>(&long).is_err());
}
