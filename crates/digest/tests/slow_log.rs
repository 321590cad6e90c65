//! What holds for every slow log: nothing is lost, pieces of any size give the same events, and time grows with length.

use digest::End;
use digest::mysql_slow::{Session, Step, next_entry};
use digest::{Dialect, Event, fingerprint};
use proptest::prelude::*;
use proptest::sample::select;

/// What a reader may stumble over, alone and in any order.
const SHARDS: [&str; 46] = [
    "# Time: 2023-11-14T22:13:21.500000Z\n",
    "# Time: 231114 22:13:21\n",
    "# Time: 231114 22:13:21# User@Host: a[a] @ h []\n",
    "# Time:",
    "# User@Host: app[app] @ web1 [10.0.0.1]  Id:     8\n",
    "# User@Host: [SQL_SLAVE] @  []\n",
    "# User@Host: it's\n",
    "# Query_time: 1.500000  Lock_time: 0.000010 Rows_sent: 2  Rows_examined: 300\n",
    "# Query_time: 1e309  Lock_time: NaN Rows_sent: -1  Rows_examined: 18446744073709551616\n",
    "# Schema: shop  Last_errno: 0\n",
    "#\n",
    "# explain: 1\n",
    "# administrator command: Quit;\n",
    "# Pick one\n",
    "#",
    "# ",
    "use shop;\n",
    "use `my shop`;\n",
    "SET timestamp=1700000000;\n",
    "SET timestamp=1700000009;\n",
    "SET timestamp=5;\n",
    "SET insert_id=5;\n",
    "SET ",
    "/usr/sbin/mysqld, Version: 8.0.36. started with:\n",
    "Tcp port: 3306  Unix socket: /tmp/mysql.sock\n",
    "Time                 Id Command    Argument\n",
    "Tcp",
    "select a from t where b = 'c';\n",
    "select 'it''s';\n",
    "select \"it's\";\n",
    "select 'a",
    "select 1 -- it's\n",
    "'",
    "\"",
    "`",
    "\\",
    "/*",
    "*/",
    ";",
    ";\n",
    "\n",
    "\r\n",
    "\u{feff}",
    "\0",
    "é",
    "x",
];

/// The three lines of a whole header.
const HEAD: &str = "# Time: 2023-11-14T22:13:21.500000Z\n# User@Host: app[app] @ web1 [10.0.0.1]  Id:     8\n\
    # Query_time: 1.500000  Lock_time: 0.000010 Rows_sent: 2  Rows_examined: 300\nSET timestamp=1700000000;\n";

fn log() -> impl Strategy<Value = Vec<u8>> {
    let shard = prop_oneof![4 => select(&SHARDS[..]), 1 => Just(HEAD)];
    prop_oneof![
        4 => prop::collection::vec(shard, 0..40).prop_map(|shards| shards.concat().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
}

/// Reads a log that comes in pieces: the events as text, with where they begin and end, and the bytes that are none.
fn read(log: &[u8], mut piece: impl FnMut() -> usize) -> (Vec<(usize, usize, String)>, usize) {
    let mut session = Session::default();
    let (mut events, mut from, mut to, mut skipped) = (Vec::new(), 0, 0, 0);
    while from < log.len() {
        let end = if to == log.len() { End::OfInput } else { End::OfPiece };
        match next_entry(log.get(from..to).unwrap_or_default(), end, &mut session) {
            Step::Event { event, used } => {
                assert!(used > 0);
                assert_eq!(event.fingerprint, Some(fingerprint(&event.query, Dialect::MySql)));
                events.push((from, from + used, format!("{event:?}")));
                from += used;
            }
            Step::Skip(count) => {
                assert!(count > 0);
                skipped += count;
                from += count;
            }
            Step::NeedMore => {
                assert_eq!(end, End::OfPiece);
                to = (to + piece()).min(log.len());
            }
        }
        assert!(from <= to);
    }
    (events, skipped)
}

fn assert_sum(log: &[u8], read: &(Vec<(usize, usize, String)>, usize)) {
    let in_events: usize = read.0.iter().map(|(from, to, _)| to - from).sum();
    assert_eq!(in_events + read.1, log.len());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn pieces_of_any_size_give_the_same_events(log in log(), sizes in prop::collection::vec(1_usize..200, 1..10)) {
        let whole = read(&log, || log.len());
        assert_sum(&log, &whole);
        let mut sizes = sizes.iter().cycle();
        prop_assert_eq!(&read(&log, || *sizes.next().unwrap()), &whole);
        prop_assert_eq!(&read(&log, || 1), &whole);
    }

    #[test]
    fn an_event_is_the_same_when_the_log_is_read_again_from_it(log in log()) {
        let (events, _) = read(&log, || log.len());
        for (at, (from, ..)) in events.iter().enumerate() {
            let (again, _) = read(&log[*from..], || log.len());
            let moved: Vec<_> = again.into_iter().map(|(a, b, event)| (a + from, b + from, event)).collect();
            prop_assert_eq!(&moved[..], &events[at..]);
        }
    }

    #[test]
    fn any_start_and_end_of_a_log_can_be_read(log in log(), from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let to = to.index(log.len() + 1);
        let part = &log[from.index(to + 1)..to];
        assert_sum(part, &read(part, || part.len()));
    }

    #[test]
    fn true_entries_are_read_as_they_were_written(
        queries in prop::collection::vec(select(&[
            "select 1", "select 'a;\n# Pick'", "select \"it's\"", "select 'it''s', 'C:\\\\'", "/* it's */ select 2",
            "select 3 -- it's\n + 4", "# administrator command: Quit", "select `it's`", "SET timestamp=5", "use shop",
            "insert into t values ('\n# Time: 231114 22:13:21\n# User@Host: a[a] @ h []\n# Query_time: 1\nSET timestamp=1700000000;\nselect 1;\n')",
        ][..]), 0..12),
        ends in select(&["\n", "\r\n"][..]),
    ) {
        let log = queries.iter().map(|query| format!("{HEAD}{query};\n")).collect::<Vec<_>>().concat();
        let log = log.replace('\n', ends);
        let (events, skipped) = read(log.as_bytes(), || log.len());
        prop_assert_eq!((events.len(), skipped), (queries.len(), 0));
        let mut session = Session::default();
        let mut rest = log.as_bytes();
        for query in queries {
            let Step::Event { event: Event { query: found, .. }, used } = next_entry(rest, End::OfInput, &mut session) else {
                panic!("no event");
            };
            prop_assert_eq!(String::from_utf8_lossy(&found).into_owned(), query.replace('\n', ends));
            rest = &rest[used..];
        }
    }
}

/// A reader that is quadratic in one of them takes minutes.
#[test]
fn two_hundred_kilobytes_of_anything_are_read_in_one_go() {
    let entry = |statement: &str| format!("{HEAD}{statement}\n");
    let worse = [
        entry("select '"),
        entry("select '/*"),
        entry("select '\""),
        entry("select 1;"),
        format!("{HEAD}select '").replace("1700000000", "1600000000"),
        HEAD.to_owned(),
    ];
    for shard in SHARDS.into_iter().map(str::to_owned).chain(worse) {
        for start in [String::new(), entry("select 'a"), entry("select 1")] {
            let log = start + &shard.repeat(200_000 / shard.len());
            let whole = read(log.as_bytes(), || log.len());
            assert_sum(log.as_bytes(), &whole);
            assert_eq!(read(log.as_bytes(), || 4096), whole, "{shard}");
        }
    }
}
