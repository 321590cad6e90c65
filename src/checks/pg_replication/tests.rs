//! Statements by catalog, and rows in, samples out: NULLs, hidden rows, and what each version can say of a slot.

use super::*;
use metrics::Values;

/// Columns of `pg_replication_slots` that not every version has, by the version that brought them.
const COLUMNS: [(u32, &[&str]); 2] = [
    (16, &["pg_replication_slots.conflicting"]),
    (
        17,
        &[
            "pg_replication_slots.inactive_since",
            "pg_replication_slots.invalidation_reason",
            "pg_replication_slots.synced",
            "pg_replication_slots.failover",
        ],
    ),
];

const FACTS: [&str; 3] = ["in_recovery", "clock", "transient"];
const SLOT: [&str; 12] = [
    "slot_name",
    "slot_type",
    "datname",
    "active",
    "wal_status",
    "retained",
    "flush_lag",
    "safe_wal_size",
    "inactive_since",
    "invalidated",
    "synced",
    "failover",
];
const SENDER: [&str; 6] =
    ["application_name", "client_addr", "state", "write_lag", "flush_lag", "replay_lag"];

fn catalog(version: u32) -> Catalog {
    let columns: Vec<&str> = COLUMNS
        .iter()
        .filter(|(since, _)| *since <= version)
        .flat_map(|(_, names)| *names)
        .copied()
        .collect();
    Catalog::of(&columns)
}

fn answered(in_recovery: &str, slots: &[&[Option<&str>]], senders: &[&[Option<&str>]]) -> [Table; 3] {
    [
        Table::of(&FACTS, &[&[Some(in_recovery), Some("1000.5"), Some("2")]]),
        Table::of(&SLOT, slots),
        Table::of(&SENDER, senders),
    ]
}

/// A slot of which only name and kind are known.
fn nulls(name: &str) -> [Option<&str>; 12] {
    let mut row = [None; 12];
    row[..3].copy_from_slice(&[Some(name), Some("logical"), Some("one")]);
    row
}

/// What is told on `version`: a line for each sample, with name, label values and value; without the facts of the server.
fn told(version: u32, tables: &[Table]) -> Vec<String> {
    let (found, notes) = read(tables, 1000.0, "orders").unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    let mut lines = Vec::new();
    let known = PgReplication::families(&Config::default());
    for column in tell(&found, &reasons(&catalog(version), version * 10_000)).columns() {
        assert!(known.iter().any(|family| family.is(column.family())), "{}", column.family().name);
        let Values::Numbers(numbers) = column.values() else { panic!("no histogram is told here") };
        for (row, number) in numbers.iter().enumerate() {
            let labels: Vec<&str> = column.labels(row).collect();
            lines.push(format!("{} {} {number}", column.family().prometheus(), labels.join(",")));
        }
    }
    lines.sort();
    lines
}

#[test]
fn a_statement_names_what_the_server_has_and_nothing_else() {
    for version in 13..=18 {
        let sql = sql(&catalog(version));
        for word in ["s.inactive_since", "s.invalidation_reason", "s.synced", "s.failover"] {
            assert_eq!(sql.contains(word), version >= 17, "{word} on {version}");
        }
        assert_eq!(sql.contains("s.conflicting"), version == 16, "{version}");
    }
}

#[test]
fn the_reasons_are_those_that_the_server_knows() {
    for (version, known) in [(13, 0), (15, 0), (16, 1), (17, 3), (18, 4)] {
        assert_eq!(reasons(&catalog(version), version * 10_000).len(), known, "{version}");
    }
}

#[test]
fn a_slot_and_a_sender_are_told_in_full() {
    let slot =
        ["the_slot", "logical", "one", "t", "extended", "4096", "100", "-5", "1.5", "idle_timeout", "f", "t"]
            .map(Some);
    let sender = [Some("orders"), Some("10.0.0.1"), Some("streaming"), Some("0.25"), Some("0.5"), None];
    let lines = told(18, &answered("f", &[&slot], &[&sender]));
    let expected = "\
datapulse_target_clock_offset_seconds publisher 0.5
pg_replication_is_replica publisher 0
pg_replication_slots_active the_slot,logical,one 1
pg_replication_slots_confirmed_flush_lag_bytes the_slot,logical,one 100
pg_replication_slots_failover the_slot,logical,one 1
pg_replication_slots_inactive_since_timestamp_seconds the_slot,logical,one 1.5
pg_replication_slots_invalidated the_slot,logical,one,idle_timeout 1
pg_replication_slots_invalidated the_slot,logical,one,rows_removed 0
pg_replication_slots_invalidated the_slot,logical,one,wal_level_insufficient 0
pg_replication_slots_invalidated the_slot,logical,one,wal_removed 0
pg_replication_slots_retained_bytes the_slot,logical,one 4096
pg_replication_slots_safe_wal_size_bytes the_slot,logical,one -5
pg_replication_slots_synced the_slot,logical,one 0
pg_replication_slots_transient  2
pg_replication_slots_wal_status the_slot,logical,one,extended 1
pg_replication_slots_wal_status the_slot,logical,one,lost 0
pg_replication_slots_wal_status the_slot,logical,one,reserved 0
pg_replication_slots_wal_status the_slot,logical,one,unreserved 0
pg_stat_replication_flush_lag_seconds orders,10.0.0.1 0.5
pg_stat_replication_write_lag_seconds orders,10.0.0.1 0.25";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn a_null_is_an_absent_sample_and_never_zero() {
    let sender = [Some("orders"), None, Some("streaming"), None, None, None];
    let lines = told(15, &answered("t", &[&nulls("a")], &[&sender]));
    let expected = [
        "datapulse_target_clock_offset_seconds publisher 0.5",
        "pg_replication_is_replica publisher 1",
        "pg_replication_slots_transient  2",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_word_that_is_not_known_yet_is_told_as_it_is() {
    let mut slot = nulls("a");
    (slot[4], slot[9]) = (Some("frozen"), Some("moon_phase"));
    let lines = told(17, &answered("f", &[&slot], &[]));
    for expected in [
        "pg_replication_slots_wal_status a,logical,one,frozen 1",
        "pg_replication_slots_wal_status a,logical,one,lost 0",
        "pg_replication_slots_invalidated a,logical,one,moon_phase 1",
        "pg_replication_slots_invalidated a,logical,one,wal_removed 0",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected} in {lines:?}");
    }
}

#[test]
fn hidden_senders_are_one_note_that_names_the_grant() {
    let hidden = [Some("a"), Some(""), None, None, None, None];
    let seen = [Some("b"), Some(""), Some("streaming"), Some("1"), None, None];
    let (found, notes) = read(&answered("f", &[], &[&hidden, &hidden, &seen]), 0.0, "orders").unwrap();
    assert_eq!(
        found.senders.iter().map(|sender| sender.application_name.as_str()).collect::<Vec<_>>(),
        ["b"]
    );
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    assert_eq!(note.reason, Reason::Permission);
    assert!(note.to_string().starts_with("2 rows of pg_stat_replication on orders are hidden"), "{note}");
    assert!(note.to_string().ends_with("; grant pg_monitor to it"), "{note}");
}

#[test]
fn a_row_that_cannot_be_read_is_a_note_and_the_others_stay() {
    let (mut broken, whole) = (nulls("broken"), nulls("whole"));
    broken[3] = Some("perhaps");
    let bad = [Some("a"), Some(""), Some("streaming"), Some("soon"), None, None];
    let (found, notes) = read(&answered("f", &[&broken, &whole], &[&bad]), 0.0, "orders").unwrap();
    assert_eq!(found.slots.iter().map(|slot| slot.name.as_str()).collect::<Vec<_>>(), ["whole"]);
    let words: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["column active is neither true nor false", "column write_lag is not a finite number"]);
    assert_eq!(read(&answered("f", &[], &[])[..2], 0.0, "orders").unwrap_err().reason, Reason::Protocol);
}
