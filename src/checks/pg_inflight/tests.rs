//! Rows of `pg_stat_activity` in, samples and rows for people out: NULLs, hidden rows, who waits and who is blocked.

use super::*;
use crate::config::secret::Vault;
use crate::config::target::Server;
use metrics::Values;
use std::sync::Arc;

const ROW: [&str; 13] = [
    "pid",
    "usename",
    "datname",
    "state",
    "backend_type",
    "wait_event_type",
    "wait_event",
    "query",
    "hidden",
    "since",
    "clock",
    "transaction",
    "blockers",
];
/// 2026-11-20T09:00:00Z, by the server's clock.
const CLOCK: &str = "1795165200.000000";

/// A client backend that began its statement at `since` and its transaction a second before.
fn active<'a>(pid: &'a str, user: &'a str, since: &'a str) -> [Option<&'a str>; 13] {
    let mut row = [None; 13];
    row[..5].copy_from_slice(&[pid, user, "shop", "active", "client backend"].map(Some));
    row[7..11].copy_from_slice(&["select 1 from t where a = 'canary'", "f", since, CLOCK].map(Some));
    row
}

/// A row of which nothing is known, and that is not hidden either.
fn nulls() -> [Option<&'static str>; 13] {
    let mut row = [None; 13];
    row[8] = Some("f");
    row
}

fn hidden(pid: &str) -> [Option<&str>; 13] {
    let mut row = [None; 13];
    row[..3].copy_from_slice(&[pid, "app", "shop"].map(Some));
    row[7..9].copy_from_slice(&["<insufficient privilege>", "t"].map(Some));
    row[10] = Some(CLOCK);
    row
}

fn read_rows(rows: &[[Option<&str>; 13]]) -> (Vec<Backend>, Vec<Problem>) {
    let rows: Vec<&[Option<&str>]> = rows.iter().map(<[_; 13]>::as_slice).collect();
    read(&[Table::of(&ROW, &rows)], "orders").unwrap()
}

/// A line for each sample: name, label values, value, in the order in which they are told.
fn lines(answer: &Answer) -> Vec<String> {
    let known = PgInflight::families(&Config::default());
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

/// What these rows tell, sorted.
fn told(rows: &[[Option<&str>; 13]]) -> Vec<String> {
    let (backends, notes) = read_rows(rows);
    assert!(notes.is_empty(), "{notes:?}");
    let mut lines = lines(&tell(&backends, Duration::from_mins(1)));
    lines.sort();
    lines
}

/// The lines of the families whose name begins so, without that beginning.
fn of(lines: &[String], beginning: &str) -> Vec<String> {
    lines.iter().filter_map(|line| Some(line.strip_prefix(beginning)?.to_owned())).collect()
}

/// A check without a server; it is never run.
fn check(config: &str, limit: usize) -> PgInflight {
    let target = serde_json::json!({ "host": "127.0.0.1", "user": "datapulse", "database": "one" });
    let server = Server { name: "orders".to_owned(), target: serde_json::from_value(target).unwrap() };
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
    PgInflight::new(&serde_json::from_str(config).unwrap(), &clients)
}

#[test]
fn a_backend_is_told_in_full() {
    let mut row = active("77", "app", "1795164831.125");
    row[5..7].copy_from_slice(&[Some("IO"), Some("DataFileRead")]);
    row[11] = Some("1795164830");
    let expected = "\
pg_inflight_blocked app,shop,active 0
pg_inflight_oldest_seconds app,shop,active 368.875
pg_inflight_queries app,shop,active 1
pg_inflight_query_elapsed_seconds 77,2026-11-20T08:53:51.125Z,app,shop,active 368.875
pg_inflight_transaction_age_seconds app,shop,active 370
pg_inflight_waiting IO,DataFileRead 1";
    assert_eq!(told(&[row]).join("\n"), expected);
}

#[test]
fn an_idle_server_tells_nothing_and_is_no_failure() {
    assert_eq!(told(&[]), [""; 0]);
}

#[test]
fn a_row_of_nulls_gives_no_age_and_never_zero() {
    // It is there, so it is counted; whether anybody blocks it is not known.
    assert_eq!(told(&[nulls()]), ["pg_inflight_queries ,, 1"]);
    for missing in [9, 10] {
        let mut row = active("77", "app", "1795160000");
        (row[missing], row[11]) = (None, Some("1795160000"));
        let lines = told(&[row]);
        assert!(!lines.iter().any(|line| line.contains("elapsed") || line.contains("oldest")), "{lines:?}");
        assert_eq!(of(&lines, "pg_inflight_queries "), ["app,shop,active 1"]);
        let ages = of(&lines, "pg_inflight_transaction_age_seconds ");
        assert_eq!(ages.len(), usize::from(missing == 9), "without a clock nothing has an age: {ages:?}");
    }
}

#[test]
fn a_backend_without_an_age_does_not_hide_the_age_of_another_one() {
    let mut row = active("1", "app", "");
    row[9] = None;
    for rows in [[row, active("2", "app", "1795165100")], [active("2", "app", "1795165100"), row]] {
        let lines = told(&rows);
        assert_eq!(of(&lines, "pg_inflight_oldest_seconds "), ["app,shop,active 100"]);
        assert_eq!(of(&lines, "pg_inflight_queries "), ["app,shop,active 2"]);
    }
}

#[test]
fn hidden_rows_are_one_note_that_names_the_grant() {
    let (backends, notes) = read_rows(&[hidden("1"), active("2", "app", "1795165100"), hidden("3")]);
    assert_eq!(backends.iter().map(|backend| backend.pid.as_str()).collect::<Vec<_>>(), ["2"]);
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    assert_eq!(note.reason, Reason::Permission);
    let words = "2 rows of pg_stat_activity on orders are hidden from this role; grant pg_monitor to it";
    assert_eq!(note.to_string(), words);
}

#[test]
fn a_row_that_cannot_be_read_is_a_note_and_the_others_stay() {
    let mut broken = active("1", "app", "NaN");
    let mut transaction = active("2", "app", "1795165100");
    transaction[11] = Some("long ago");
    let (backends, notes) = read_rows(&[broken, transaction, active("3", "app", "1795165100")]);
    assert_eq!(backends.iter().map(|backend| backend.pid.as_str()).collect::<Vec<_>>(), ["3"]);
    let words: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["column since is not a finite number", "column transaction is not a finite number"]);
    // Without knowing who is hidden, an idle server and a blind one look alike.
    broken[8] = Some("perhaps");
    let rows: [&[Option<&str>]; 1] = [&broken];
    assert_eq!(read(&[Table::of(&ROW, &rows)], "orders").unwrap_err().reason, Reason::Decode);
}

#[test]
fn an_answer_of_another_shape_is_a_problem_of_the_protocol() {
    for tables in [vec![], vec![Table::of(&ROW, &[]), Table::of(&ROW, &[])]] {
        let problem = read(&tables, "orders").unwrap_err();
        assert_eq!(problem.reason, Reason::Protocol);
        assert_eq!(problem.to_string(), format!("orders gave {} results for one question", tables.len()));
    }
}

#[test]
fn who_idles_in_a_transaction_counts_from_its_last_change() {
    let since =
        "case when a.state like 'idle in transaction%' then a.state_change else a.query_start end) as since";
    assert!(SQL.contains(since), "{SQL}");
    let mut idle = active("5", "app", "1795165080");
    idle[3] = Some("idle in transaction");
    // The session waits for its client, which is no wait of the server.
    idle[5..7].copy_from_slice(&[Some("Client"), Some("ClientRead")]);
    idle[11] = Some("1795161600");
    let mut aborted = idle;
    (aborted[0], aborted[3]) = (Some("6"), Some("idle in transaction (aborted)"));
    let expected = "\
pg_inflight_blocked app,shop,idle in transaction (aborted) 0
pg_inflight_blocked app,shop,idle in transaction 0
pg_inflight_oldest_seconds app,shop,idle in transaction (aborted) 120
pg_inflight_oldest_seconds app,shop,idle in transaction 120
pg_inflight_queries app,shop,idle in transaction (aborted) 1
pg_inflight_queries app,shop,idle in transaction 1
pg_inflight_query_elapsed_seconds 5,2026-11-20T08:58:00Z,app,shop,idle in transaction 120
pg_inflight_query_elapsed_seconds 6,2026-11-20T08:58:00Z,app,shop,idle in transaction (aborted) 120
pg_inflight_transaction_age_seconds app,shop,idle in transaction (aborted) 3600
pg_inflight_transaction_age_seconds app,shop,idle in transaction 3600";
    assert_eq!(told(&[idle, aborted]).join("\n"), expected);
}

#[test]
fn our_own_session_and_idle_ones_are_not_asked_for() {
    for words in
        ["a.pid <> pg_catalog.pg_backend_pid()", "a.state is distinct from 'idle'", "= 'client backend'"]
    {
        assert!(SQL.contains(words), "{words}");
    }
}

#[test]
fn blocked_and_waiting_are_counted() {
    let waiting = |pid, blockers| {
        let mut row = active(pid, "app", "1795165190");
        row[5..7].copy_from_slice(&[Some("Lock"), Some("transactionid")]);
        row[12] = blockers;
        row
    };
    let mut io = active("4", "batch", "1795165190");
    io[5..7].copy_from_slice(&[Some("IO"), Some("WALSync")]);
    // An event without a type is none.
    let mut half = active("5", "batch", "1795165190");
    half[6] = Some("WALSync");
    let rows = [waiting("1", Some("9 10")), waiting("2", Some("1")), waiting("3", Some("")), io, half];
    let lines = told(&rows);
    assert_eq!(of(&lines, "pg_inflight_blocked "), ["app,shop,active 2", "batch,shop,active 0"]);
    assert_eq!(of(&lines, "pg_inflight_waiting "), ["IO,WALSync 1", "Lock,transactionid 3"]);
    assert_eq!(of(&lines, "pg_inflight_queries "), ["app,shop,active 3", "batch,shop,active 2"]);
}

#[test]
fn totals_know_also_those_below_min_elapsed() {
    let rows = [
        active("1", "app", "1795165140"),
        active("2", "app", "1795165141"),
        active("3", "batch", "1795165199.5"),
    ];
    let lines = told(&rows);
    let long = of(&lines, "pg_inflight_query_elapsed_seconds ");
    assert_eq!(long, ["1,2026-11-20T08:59:00Z,app,shop,active 60"], "from just that age on");
    assert_eq!(of(&lines, "pg_inflight_queries "), ["app,shop,active 2", "batch,shop,active 1"]);
    assert_eq!(of(&lines, "pg_inflight_oldest_seconds "), ["app,shop,active 60", "batch,shop,active 0.5"]);
}

#[test]
fn the_longest_come_first_so_that_a_limit_cuts_the_shortest() {
    let starts: Vec<String> =
        (0..40_u32).map(|at| (1_795_160_000 + (at * 7 % 40) * 60).to_string()).collect();
    let pids: Vec<String> = (0..40).map(|at| at.to_string()).collect();
    let mut rows: Vec<_> = pids.iter().zip(&starts).map(|(pid, since)| active(pid, "app", since)).collect();
    let mut ageless = active("99", "app", "");
    ageless[9] = None;
    rows.insert(0, ageless);
    let (backends, _) = read_rows(&rows);
    assert_eq!(backends.last().map(|backend| backend.pid.as_str()), Some("99"), "of no age: the last");
    let mut answer = tell(&backends, Duration::from_mins(1));
    let cut = answer.cap(2);
    assert!(matches!(cut.as_slice(), [(family, 38)] if family.is(ELAPSED.family())), "{cut:?}");
    let lines = lines(&answer);
    let kept: Vec<String> = of(&lines, "pg_inflight_query_elapsed_seconds ");
    let expected =
        ["0,2026-11-20T07:33:20Z,app,shop,active 5200", "23,2026-11-20T07:34:20Z,app,shop,active 5140"];
    assert_eq!(kept, expected);
    assert_eq!(of(&lines, "pg_inflight_queries "), ["app,shop,active 41"], "the totals know all of them");
    let shown = check("{}", 2).listing(&backends);
    assert_eq!(shown.rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), ["0", "23"]);
}

#[test]
fn sums_over_users_are_not_cut_with_the_single_queries() {
    let users: Vec<String> = (0..50).map(|at| format!("u{at}")).collect();
    let rows: Vec<_> = users.iter().map(|user| active("1", user, "1795165199")).collect();
    let (backends, _) = read_rows(&rows);
    let mut answer = tell(&backends, Duration::from_mins(1));
    assert!(answer.cap(3).is_empty());
    assert_eq!(of(&lines(&answer), "pg_inflight_queries ").len(), 50);
}

#[test]
fn a_process_id_that_is_used_again_is_another_query() {
    let (one, two) = (active("7", "app", "1795160000"), active("7", "app", "1795160060"));
    let elapsed = |row| of(&told(&[row]), "pg_inflight_query_elapsed_seconds ");
    assert_eq!(elapsed(one), ["7,2026-11-20T07:33:20Z,app,shop,active 5200"]);
    assert_eq!(elapsed(two), ["7,2026-11-20T07:34:20Z,app,shop,active 5140"]);
}

#[test]
fn the_start_is_the_same_in_every_run() {
    // The clock goes on, what began does not move, also not in the last digit that the server gives.
    for (at, since) in ["1795164831.168001", "1795164831.999999", "1795164831.5"].into_iter().enumerate() {
        let starts: Vec<String> = ["1795165200.000000", "1795165230.123457", "1795171111.1"]
            .into_iter()
            .map(|clock| {
                let mut row = active("7", "app", since);
                row[10] = Some(clock);
                started(&read_rows(&[row]).0[0]).unwrap().to_string()
            })
            .collect();
        let expected =
            ["2026-11-20T08:53:51.168001Z", "2026-11-20T08:53:51.999999Z", "2026-11-20T08:53:51.5Z"][at];
        assert!(starts.iter().all(|start| start == expected), "{starts:?}");
    }
}

#[test]
fn an_age_comes_from_the_clock_of_the_server_and_is_not_clamped() {
    let lines = told(&[active("7", "app", "1795165203")]);
    assert_eq!(of(&lines, "pg_inflight_oldest_seconds "), ["app,shop,active -3"]);
}

#[test]
fn a_text_is_masked_unless_the_check_wants_it_raw() {
    let mut blocked = active("7", "app", "1795161525.930");
    blocked[5..7].copy_from_slice(&[Some("Lock"), Some("relation")]);
    blocked[12] = Some("8 9");
    let (backends, _) = read_rows(&[active("8", "app", "1795165199"), blocked]);
    let row = |config: &str| {
        let listing = check(config, 1000).listing(&backends);
        assert_eq!(listing.columns, COLUMNS);
        let [row] = listing.rows.as_slice() else { panic!("below min_elapsed is not shown: {listing:?}") };
        serde_json::to_string(row).unwrap()
    };
    let start =
        r#"["7","app","shop","active",61.2345,"2026-11-20T16:58:45.930+09:00","Lock: relation","8 9","#;
    let masked = row(r#"{"time_zone": "Asia/Tokyo"}"#);
    assert_eq!(masked, format!(r#"{start}"select ? from t where a = ?"]"#));
    let raw = row(r#"{"time_zone": "Asia/Tokyo", "raw_text": true}"#);
    assert_eq!(raw, format!(r#"{start}"select 1 from t where a = 'canary'"]"#));
}

#[test]
fn what_is_not_known_is_null_in_the_listing() {
    let mut row = active("7", "app", "1795161525");
    row[7] = None;
    let listing = check("{}", 1000).listing(&read_rows(&[row]).0);
    let row = serde_json::to_string(&listing.rows).unwrap();
    assert_eq!(row, r#"[["7","app","shop","active",61.25,"2026-11-20T07:58:45.000+00:00",null,null,""]]"#);
    assert!(check("{}", 1000).listing(&read_rows(&[nulls()]).0).rows.is_empty());
}

#[test]
fn a_text_that_is_no_utf8_is_lost_and_nothing_else() {
    let mut table = Table::new(ROW.into_iter().map(str::to_owned));
    let cells = active("7", "app", "1795160000").into_iter().enumerate();
    table.push(cells.map(|(at, cell)| if at == 7 { Err(()) } else { Ok(cell) }));
    let (backends, notes) = read(&[table], "orders").unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!((backends[0].elapsed, backends[0].text.as_str()), (Some(5200.0), ""));
}

#[test]
fn the_keys_have_their_defaults_and_no_others() {
    let config: Config = serde_json::from_str("{}").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!((config.min_elapsed.duration(), config.raw_text), (Duration::from_mins(1), false));
    let keys = r#"{"min_elapsed": "5m", "time_zone": "Asia/Tokyo", "raw_text": true}"#;
    let config: Config = serde_json::from_str(keys).unwrap();
    assert_eq!((config.min_elapsed.duration(), config.raw_text), (Duration::from_mins(5), true));
    assert!(serde_json::from_str::<Config>(r#"{"min_elapsd": "5m"}"#).is_err());
}
