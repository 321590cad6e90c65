//! Statements by catalog, and rows in, samples out: tables of NULLs, of rows that cannot be read, and of each state.

use super::*;
use crate::config::secret::Vault;
use crate::config::target::Server as Target;
use crate::net::table::Table;
use metrics::Values;
use std::sync::Arc;

/// Columns that a role without any grant can read, by the version that brought them.
const COLUMNS: [(u32, &[&str]); 6] = [
    (
        13,
        &[
            "pg_stat_subscription.subid",
            "pg_stat_subscription.pid",
            "pg_subscription.subname",
            "pg_subscription.subslotname",
            "pg_locks.granted",
        ],
    ),
    (14, &["pg_subscription.oid", "pg_locks.waitstart"]),
    (
        15,
        &[
            "pg_subscription.subdisableonerr",
            "pg_stat_subscription_stats.apply_error_count",
            "pg_stat_subscription_stats.sync_error_count",
        ],
    ),
    (16, &["pg_stat_subscription.leader_pid"]),
    (17, &["pg_stat_subscription.worker_type"]),
    (
        18,
        &[
            "pg_stat_subscription_stats.confl_insert_exists",
            "pg_stat_subscription_stats.confl_update_missing",
        ],
    ),
];

const FACTS: [&str; 4] = ["in_recovery", "clock", "database", "receiver_timeout"];
const ROW: [&str; 16] = [
    "datname",
    "subname",
    "subenabled",
    "subslotname",
    "disable_on_error",
    "pid",
    "lock_wait",
    "send_age",
    "receipt_age",
    "latest_end_age",
    "transit",
    "received_lsn",
    "latest_end_lsn",
    "apply_errors",
    "sync_errors",
    "confl_insert_exists",
];

fn catalog(version: u32) -> Catalog {
    let columns: Vec<&str> = COLUMNS
        .iter()
        .filter(|(since, _)| *since <= version)
        .flat_map(|(_, names)| *names)
        .copied()
        .collect();
    Catalog::of(&columns)
}

/// What the four statements gave: the facts, a row for each of `subscriptions`, live workers, and states of tables.
fn answered(
    in_recovery: &str,
    subscriptions: &[&[Option<&str>]],
    workers: &[[&str; 3]],
    rels: &[[&str; 3]],
) -> [Table; 4] {
    let table = |columns: &[&str], rows: &[[&str; 3]]| {
        let rows: Vec<[Option<&str>; 3]> = rows.iter().map(|row| row.map(Some)).collect();
        Table::of(columns, &rows.iter().map(<[_; 3]>::as_slice).collect::<Vec<_>>())
    };
    [
        Table::of(&FACTS, &[&[Some(in_recovery), Some("1000.5"), Some("one"), Some("60")]]),
        Table::of(&ROW, subscriptions),
        table(&["datname", "subname", "worker_type"], workers),
        table(&["subname", "state", "tables"], rels),
    ]
}

fn healthy<'a>(datname: &'a str, subname: &'a str, pid: &'a str) -> [Option<&'a str>; 16] {
    [
        datname, subname, "t", "the_slot", "f", pid, "0", "2.5", "2.25", "3", "-0.25", "300", "200", "4",
        "5", "6",
    ]
    .map(Some)
}

/// A subscription of which only the name is known.
fn nulls<'a>(datname: &'a str, subname: &'a str) -> [Option<&'a str>; 16] {
    let mut row = [None; 16];
    row[..2].copy_from_slice(&[Some(datname), Some(subname)]);
    row
}

fn read(tables: &[Table], parallel: bool) -> (Subscriber, Vec<Problem>) {
    read_subscriber(tables, parallel, 1000.0, "orders").unwrap()
}

/// A check without a server; it is never run.
fn check(config: &Config) -> PgSubscription {
    let target = serde_json::json!({ "host": "127.0.0.1", "user": "datapulse", "database": "one" });
    let server = Target { name: "orders".to_owned(), target: serde_json::from_value(target).unwrap() };
    let vault = Vault::new(Arc::new(|_| None), std::path::Path::new("/"));
    let timeout = Duration::from_secs(1);
    let clients = Clients {
        vault: Arc::new(vault),
        target: Arc::new(server),
        publisher: None,
        timeout,
        every: timeout,
        limit: 1000,
        state: None,
    };
    PgSubscription::new(config, &clients)
}

/// What a run of `check` tells of these answers.
fn told(check: &mut PgSubscription, tables: &[Table], parallel: bool) -> Vec<String> {
    let (mut found, notes) = read(tables, parallel);
    assert!(notes.is_empty(), "{notes:?}");
    check.keep_to_config(&mut found);
    check.remember(&found);
    lines(&tell_subscriber(&found, &check.memory))
}

/// A line for each sample: name, label values, value.
fn lines(answer: &Answer) -> Vec<String> {
    let mut lines = Vec::new();
    for column in answer.columns() {
        let Values::Numbers(numbers) = column.values() else { panic!("no histogram is told here") };
        for (row, number) in numbers.iter().enumerate() {
            let labels: Vec<&str> = column.labels(row).collect();
            lines.push(format!("{} {} {number}", column.family().prometheus(), labels.join(",")));
        }
    }
    lines.sort();
    lines
}

/// The lines of the families whose name begins so, without that beginning.
fn of(lines: &[String], beginning: &str) -> Vec<String> {
    lines.iter().filter_map(|line| Some(line.strip_prefix(beginning)?.to_owned())).collect()
}

#[test]
fn a_statement_names_what_the_server_has_and_nothing_else() {
    for (word, since) in [
        ("s.oid", 14),
        ("waitstart", 14),
        ("subdisableonerr", 15),
        ("t.apply_error_count", 15),
        ("left join pg_catalog.pg_stat_subscription_stats", 15),
        ("v.leader_pid", 16),
        ("t.confl_insert_exists", 18),
        ("t.confl_update_missing", 18),
    ] {
        for version in 13..=18 {
            let sql = statements::subscriber(&catalog(version));
            assert_eq!(sql.contains(word), version >= since, "{word} on {version}");
        }
    }
}

#[test]
fn the_password_of_a_subscription_is_never_asked_for() {
    for version in 13..=18 {
        let sql = statements::subscriber(&catalog(version));
        assert!(!sql.contains("subconninfo") && !sql.contains("s.*"), "{version}");
    }
}

#[test]
fn what_a_role_must_not_read_is_left_out() {
    // A server of 15 whose administrator took columns away.
    let sql =
        statements::subscriber(&Catalog::of(&["pg_subscription.oid", "pg_stat_subscription_stats.subid"]));
    assert!(
        sql.contains("null as apply_errors, null as sync_errors") && sql.contains("null as disable_on_error")
    );
}

#[test]
fn errors_of_sequences_count_as_errors_of_synchronization() {
    let columns = [
        "pg_subscription.oid",
        "pg_stat_subscription_stats.apply_error_count",
        "pg_stat_subscription_stats.sync_table_error_count",
        "pg_stat_subscription_stats.sync_seq_error_count",
    ];
    let sql = statements::subscriber(&Catalog::of(&columns));
    assert!(sql.contains("t.sync_table_error_count + t.sync_seq_error_count as sync_errors"), "{sql}");
}

#[test]
fn a_healthy_subscription_is_told_in_full() {
    let tables = answered(
        "f",
        &[&healthy("one", "orders", "77")],
        &[
            ["one", "orders", "apply"],
            ["one", "orders", "parallel apply"],
            ["one", "orders", "parallel apply"],
        ],
        &[["orders", "r", "12"], ["orders", "d", "1"]],
    );
    let lines = told(&mut check(&Config::default()), &tables, true);
    let expected = "\
datapulse_target_clock_offset_seconds subscriber 0.5
pg_replication_is_replica subscriber 0
pg_stat_subscription_apply_errors_total one,orders 4
pg_stat_subscription_conflicts_total one,orders,insert_exists 6
pg_stat_subscription_last_msg_receipt_age_seconds one,orders 2.25
pg_stat_subscription_last_msg_send_age_seconds one,orders 2.5
pg_stat_subscription_latest_end_age_seconds one,orders 3
pg_stat_subscription_latest_end_lsn_bytes one,orders 200
pg_stat_subscription_msg_transit_seconds one,orders -0.25
pg_stat_subscription_received_lsn_bytes one,orders 300
pg_stat_subscription_sync_errors_total one,orders 5
pg_stat_subscription_workers one,orders,apply 1
pg_stat_subscription_workers one,orders,parallel apply 2
pg_stat_subscription_workers one,orders,table synchronization 0
pg_subscription_enabled one,orders 1
pg_subscription_exists one,orders 1
pg_subscription_info one,orders,the_slot,false 1
pg_subscription_rel_tables one,orders,d 1
pg_subscription_rel_tables one,orders,f 0
pg_subscription_rel_tables one,orders,i 0
pg_subscription_rel_tables one,orders,r 12
pg_subscription_rel_tables one,orders,s 0
pg_subscription_wal_receiver_timeout_seconds one,orders 60
pg_subscription_worker_lock_wait_seconds one,orders 0
pg_subscription_worker_restarts_total one,orders 0
pg_subscription_worker_up one,orders 1";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn a_null_is_an_absent_sample_and_never_zero() {
    let tables = answered("f", &[&nulls("two", "orders")], &[], &[]);
    let lines = told(&mut check(&Config::default()), &tables, false);
    // What is left is true without any column: it exists, no process, no worker, nothing counted so far by us.
    let expected = "\
datapulse_target_clock_offset_seconds subscriber 0.5
pg_replication_is_replica subscriber 0
pg_stat_subscription_workers two,orders,apply 0
pg_stat_subscription_workers two,orders,table synchronization 0
pg_subscription_exists two,orders 1
pg_subscription_info two,orders,, 1
pg_subscription_wal_receiver_timeout_seconds two,orders 60
pg_subscription_worker_restarts_total two,orders 0
pg_subscription_worker_up two,orders 0";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn a_worker_that_hangs_in_its_connect_has_no_ages_but_its_counters() {
    // Measured on 15: a process, no received_lsn, and all three times are the start of the worker.
    let mut row = healthy("one", "orders", "77");
    row[11] = None;
    let lines = told(&mut check(&Config::default()), &answered("f", &[&row], &[], &[]), false);
    assert!(!lines.iter().any(|line| line.contains("_age_") || line.contains("transit")), "{lines:?}");
    assert_eq!(of(&lines, "pg_subscription_worker_up "), ["one,orders 1"]);
    assert_eq!(of(&lines, "pg_stat_subscription_apply_errors_total "), ["one,orders 4"]);
}

#[test]
fn a_row_that_cannot_be_read_is_a_note_and_the_others_stay() {
    let mut broken = healthy("one", "broken", "7");
    broken[7] = Some("NaN");
    let mut nameless = healthy("one", "nameless", "8");
    nameless[1] = None;
    let tables = answered("f", &[&broken, &nameless, &healthy("one", "orders", "9")], &[], &[]);
    let (found, notes) = read(&tables, false);
    assert_eq!(found.subscriptions.keys().map(|id| id.1.as_str()).collect::<Vec<_>>(), ["orders"]);
    let words: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["column send_age is not a finite number", "a row of pg_subscription has no name"]);
    assert!(notes.iter().all(|note| note.reason == Reason::Decode));
}

#[test]
fn an_answer_of_another_shape_is_a_problem_of_the_protocol() {
    let tables = answered("f", &[], &[], &[]);
    let problem = read_subscriber(&tables[..3], false, 0.0, "orders").unwrap_err();
    assert_eq!(
        (problem.reason, problem.to_string().contains("orders answered with 3 tables")),
        (Reason::Protocol, true)
    );
    let silent = [Table::of(&FACTS, &[]), Table::default(), Table::default(), Table::default()];
    assert_eq!(read_subscriber(&silent, false, 0.0, "orders").unwrap_err().reason, Reason::Empty);
}

#[test]
fn nothing_is_told_of_a_worker_on_a_replica() {
    let tables = answered("t", &[&healthy("one", "orders", "77")], &[["one", "orders", "apply"]], &[]);
    let lines = told(&mut check(&Config::default()), &tables, true);
    assert_eq!(of(&lines, "pg_replication_is_replica "), ["subscriber 1"]);
    assert_eq!(of(&lines, "pg_subscription_enabled "), ["one,orders 1"]);
    assert!(
        !lines.iter().any(|line| line.contains("worker") || line.contains("pg_stat_subscription")),
        "{lines:?}"
    );
}

#[test]
fn an_expected_subscription_that_is_nowhere_is_told_with_zero() {
    let mut check = check(&Config { expect: vec!["orders".into(), "gone".into()], ..Config::default() });
    // Another database of the cluster has it: that will do.
    let lines = told(&mut check, &answered("f", &[&nulls("two", "orders")], &[], &[]), false);
    assert_eq!(of(&lines, "pg_subscription_exists "), ["one,gone 0", "two,orders 1"]);
    let lines = told(&mut check, &answered("f", &[], &[], &[]), false);
    assert_eq!(of(&lines, "pg_subscription_exists "), ["one,gone 0", "one,orders 0"]);
}

#[test]
fn an_expected_subscription_that_was_not_named_or_not_readable_is_not_told_with_zero() {
    let config = Config { expect: vec!["a".into()], subscriptions: vec!["b".into()], ..Config::default() };
    let (a, b) = (healthy("one", "a", "1"), healthy("one", "b", "2"));
    let all = told(&mut check(&config), &answered("f", &[&a, &b], &[], &[]), false);
    assert_eq!(of(&all, "pg_subscription_exists "), ["one,b 1"], "a is there, only not looked at");

    let mut check = check(&Config { expect: vec!["a".into()], ..Config::default() });
    told(&mut check, &answered("f", &[&a], &[], &[]), false);
    let mut broken = a;
    broken[2] = Some("neither");
    let (mut found, notes) = read(&answered("f", &[&broken], &[], &[]), false);
    assert_eq!(notes.len(), 1);
    check.keep_to_config(&mut found);
    check.remember(&found);
    let lines = lines(&tell_subscriber(&found, &check.memory));
    assert!(of(&lines, "pg_subscription_exists ").is_empty(), "{lines:?}");
    assert!(check.memory.contains_key(&("one".to_owned(), "a".to_owned())), "its slot is still looked for");
}

#[test]
fn a_server_that_does_not_say_its_role_is_not_taken_for_a_writer() {
    let facts = Table::of(&["in_recovery", "clock"], &[&[None, Some("999")]]);
    assert_eq!(server::read_server(&facts, 1.0, "orders").unwrap_err().reason, Reason::Decode);
}

#[test]
fn only_the_subscriptions_that_were_named_are_told() {
    let mut check = check(&Config { subscriptions: vec!["b".into()], ..Config::default() });
    let rows = [healthy("one", "a", "1"), healthy("one", "b", "2")];
    let tables = answered(
        "f",
        &[&rows[0], &rows[1]],
        &[["one", "a", "apply"], ["one", "b", "apply"]],
        &[["a", "r", "1"], ["b", "r", "2"]],
    );
    let lines = told(&mut check, &tables, true);
    assert!(!lines.iter().any(|line| line.contains("one,a")), "{lines:?}");
    assert!(lines.contains(&"pg_subscription_rel_tables one,b,r 2".to_owned()), "{lines:?}");
}

#[test]
fn states_of_tables_are_told_for_the_connected_database_alone() {
    let rows = [healthy("one", "orders", "1"), healthy("two", "orders", "2")];
    let tables = answered("f", &[&rows[0], &rows[1]], &[], &[["orders", "r", "3"]]);
    let lines = told(&mut check(&Config::default()), &tables, true);
    let states = of(&lines, "pg_subscription_rel_tables ");
    assert_eq!(states.len(), TABLE_STATES.len());
    assert!(states.iter().all(|line| line.starts_with("one,")), "{states:?}");
}

#[test]
fn a_restart_is_another_process_and_a_pause_is_none() {
    let mut check = check(&Config::default());
    let mut restarts = |pid: Option<&str>| {
        let mut row = healthy("one", "orders", "");
        row[5] = pid;
        let lines = told(&mut check, &answered("f", &[&row], &[], &[]), true);
        of(&lines, "pg_subscription_worker_restarts_total one,orders ").join("")
    };
    for (pid, expected) in [
        (None, "0"),
        (Some("7"), "0"),
        (Some("7"), "0"),
        (None, "0"),
        (Some("7"), "0"),
        (Some("8"), "1"),
        (None, "1"),
        (Some("9"), "2"),
    ] {
        assert_eq!(restarts(pid), expected, "{pid:?}");
    }
}

fn publisher(in_recovery: &str, slots: &[&[Option<&str>]]) -> [Table; 2] {
    [
        Table::of(&["in_recovery", "clock"], &[&[Some(in_recovery), Some("999")]]),
        Table::of(&["slot_name", "lag"], slots),
    ]
}

/// What the publisher's answer tells of subscriptions that were seen before: one with this slot, and one without.
fn told_of_slots(tables: &[Table]) -> Vec<String> {
    let (server, slots) = read_publisher(tables, 1000.0, "orders").unwrap();
    let seen = |slot: Option<&str>| Remembered { slot: slot.map(str::to_owned), ..Remembered::default() };
    let memory = BTreeMap::from([
        (("one".to_owned(), "orders".to_owned()), seen(Some("the_slot"))),
        (("one".to_owned(), "slotless".to_owned()), seen(None)),
    ]);
    lines(&tell_publisher(&server, &slots, &memory))
}

#[test]
fn a_slot_is_told_for_the_subscription_that_wants_it() {
    let lines =
        told_of_slots(&publisher("f", &[&[Some("other"), Some("9")], &[Some("the_slot"), Some("4096")]]));
    let expected = [
        "datapulse_target_clock_offset_seconds publisher -1",
        "pg_replication_is_replica publisher 0",
        "pg_subscription_lag_bytes one,orders 4096",
        "pg_subscription_slot_exists one,orders,the_slot 1",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_slot_that_is_gone_has_no_lag() {
    let lines = told_of_slots(&publisher("f", &[&[Some("other"), Some("9")]]));
    assert_eq!(of(&lines, "pg_subscription_"), ["slot_exists one,orders,the_slot 0"]);
    // It is there and has confirmed nothing yet.
    let lines = told_of_slots(&publisher("f", &[&[Some("the_slot"), None]]));
    assert_eq!(of(&lines, "pg_subscription_"), ["slot_exists one,orders,the_slot 1"]);
}

#[test]
fn a_replica_without_the_slot_does_not_say_that_it_is_gone() {
    assert_eq!(of(&told_of_slots(&publisher("t", &[])), "pg_subscription_"), Vec::<String>::new());
    let lines = told_of_slots(&publisher("t", &[&[Some("the_slot"), None]]));
    assert_eq!(of(&lines, "pg_subscription_"), ["slot_exists one,orders,the_slot 1"]);
}

#[test]
fn a_reader_is_refused_where_the_writer_is_wanted() {
    for (replica, writer, refused) in
        [(false, false, false), (false, true, false), (true, false, false), (true, true, true)]
    {
        let result = right_role(&Server { replica, clock_offset: None }, writer, "orders");
        assert_eq!(result.err().map(|problem| problem.reason), refused.then_some(Reason::WrongRole));
    }
}

#[test]
fn every_family_that_is_told_is_in_the_list() {
    let tables = answered("f", &[&healthy("one", "orders", "77")], &[["one", "orders", "apply"]], &[]);
    let (found, _) = read(&tables, true);
    let known = PgSubscription::families(&Config::default());
    for column in tell_subscriber(&found, &BTreeMap::new()).columns() {
        assert!(known.iter().any(|family| family.is(column.family())), "{}", column.family().name);
    }
}
