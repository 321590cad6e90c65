//! Claims about entries and what they say, and the readers that all claims share.

use super::*;
use crate::{Dialect, fingerprint, shape};

/// All entries of a log that comes in pieces of so many bytes, and the count of the bytes that are none.
fn read(log: &[u8], piece: usize) -> (Vec<Event<'static>>, usize) {
    let mut session = Session::default();
    let (mut events, mut used_up, mut skipped, mut at_hand) = (Vec::new(), 0, 0, 0);
    while used_up < log.len() {
        let end = if at_hand == log.len() { End::OfInput } else { End::OfPiece };
        match next_entry(&log[used_up..at_hand], end, &mut session) {
            Step::Event { event, used } => {
                assert!(used > 0);
                events.push(owned(&event));
                used_up += used;
            }
            Step::Skip(count) => {
                assert!(count > 0);
                skipped += count;
                used_up += count;
            }
            Step::NeedMore => {
                assert_eq!(end, End::OfPiece);
                at_hand = (at_hand + piece).min(log.len());
            }
        }
    }
    assert_eq!(used_up, log.len());
    (events, skipped)
}

fn owned(event: &Event<'_>) -> Event<'static> {
    let own = |text: &Option<Cow<'_, [u8]>>| text.as_ref().map(|text| Cow::Owned(text.to_vec()));
    Event {
        user: own(&event.user),
        host: own(&event.host),
        ip: own(&event.ip),
        db: own(&event.db),
        query: Cow::Owned(event.query.to_vec()),
        ..*event
    }
}

/// The same in pieces of any size.
fn read_all(log: &[u8]) -> (Vec<Event<'static>>, usize) {
    let whole = read(log, log.len());
    for piece in [1, 2, 3, 7, 61, 1000] {
        assert_eq!(read(log, piece), whole, "pieces of {piece}: {}", String::from_utf8_lossy(log));
    }
    for event in &whole.0 {
        assert_eq!(event.fingerprint, Some(fingerprint(&event.query, Dialect::MySql)));
    }
    whole
}

fn events(log: &str) -> Vec<Event<'static>> {
    read_all(log.as_bytes()).0
}

fn queries(log: &str) -> Vec<String> {
    events(log).iter().map(|event| String::from_utf8_lossy(&event.query).into_owned()).collect()
}

/// One entry with everything a server of today writes before a statement.
fn entry(statement: &str) -> String {
    format!("{HEAD}SET timestamp=1700000000;\n{statement}\n")
}

/// The same, some seconds later.
fn later(seconds: u64, statement: &str) -> String {
    entry(statement).replace("1700000000", &(1_700_000_000 + seconds).to_string())
}

const HEAD: &str = "# Time: 2023-11-14T22:13:21.500000Z\n\
    # User@Host: app[app] @ web1 [10.0.0.1]  Id:     8\n\
    # Query_time: 1.500000  Lock_time: 0.000010 Rows_sent: 2  Rows_examined: 300\n";

const BANNER: &str = "/usr/sbin/mysqld, Version: 8.0.36 (Source distribution). started with:\n\
    Tcp port: 3306  Unix socket: /tmp/mysql.sock\n\
    Time                 Id Command    Argument\n";

fn text(text: Option<&Cow<'_, [u8]>>) -> Option<String> {
    text.map(|text| String::from_utf8_lossy(text).into_owned())
}

#[test]
fn an_entry_says_all_that_its_header_says() {
    let (events, skipped) = read_all(entry("select 1;").as_bytes());
    let expected = Event {
        time: Some(1_700_000_001_500_000),
        user: Some(Cow::Borrowed(b"app")),
        host: Some(Cow::Borrowed(b"web1")),
        ip: Some(Cow::Borrowed(b"10.0.0.1")),
        db: None,
        query_time: Some(1_500_000),
        lock_time: Some(10),
        rows_sent: Some(2),
        rows_examined: Some(300),
        query: Cow::Borrowed(b"select 1"),
        fingerprint: Some(fingerprint(b"select 1", Dialect::MySql)),
    };
    assert_eq!((events, skipped), (vec![expected], 0));
}

#[test]
fn a_time_without_zone_gives_way_to_the_second_of_the_start() {
    let of = |time: &str, preamble: &str| {
        events(&format!("{time}# User@Host: a[a] @ h []\n# Query_time: 1\n{preamble}select 1;\n"))[0].time
    };
    let start = "SET timestamp=1192484600;\n";
    let table = [
        ("# Time: 071015 21:43:52\n", start, Some(1_192_484_600_000_000)),
        ("# Time: 071015  1:43:52\n", "", Some(1_192_412_632_000_000)),
        ("# Time: 2007-10-15T21:43:52.010203Z\n", start, Some(1_192_484_632_010_203)),
        ("# Time: 2007-10-16T06:43:52.000000+09:00\n", start, Some(1_192_484_632_000_000)),
        ("# Time: yesterday\n", start, Some(1_192_484_600_000_000)),
        ("", start, Some(1_192_484_600_000_000)),
        ("", "", None),
    ];
    for (time, preamble, expected) in table {
        assert_eq!(of(time, preamble), expected, "{time}{preamble}");
    }
}

#[test]
fn accounts_have_many_forms() {
    let table: [(&str, [Option<&str>; 3]); 12] = [
        ("root[root] @ localhost []", [Some("root"), Some("localhost"), None]),
        ("app[app] @  [10.0.0.1]  Id: 5", [Some("app"), None, Some("10.0.0.1")]),
        ("app[app] @ db1.example.org [10.0.0.1]", [Some("app"), Some("db1.example.org"), Some("10.0.0.1")]),
        ("app[app] @  [2001:db8::1]  Id: 5", [Some("app"), None, Some("2001:db8::1")]),
        ("my-app[my-app] @ h []", [Some("my-app"), Some("h"), None]),
        ("a@b[a@b] @ h [::1]", [Some("a@b"), Some("h"), Some("::1")]),
        ("real[proxy] @ h []", [Some("real"), Some("h"), None]),
        ("[SQL_SLAVE] @  []", [Some("[SQL_SLAVE]"), None, None]),
        ("system user[] @  []", [Some("system user"), None, None]),
        ("[] @ localhost []", [Some("[]"), Some("localhost"), None]),
        ("o'brien[o'brien] @ h []", [Some("o'brien"), Some("h"), None]),
        ("nonsense", [None, None, None]),
    ];
    for (account, expected) in table {
        let log = entry("select 1;").replace("app[app] @ web1 [10.0.0.1]  Id:     8", account);
        let event = &events(&log)[0];
        let found = [text(event.user.as_ref()), text(event.host.as_ref()), text(event.ip.as_ref())];
        assert_eq!(found, expected.map(|text| text.map(str::to_owned)), "{account}");
    }
}

#[test]
fn numbers_are_exact_or_absent() {
    let log =
        "# Query_time: 1e309  Lock_time: NaN Rows_sent: -1  Rows_examined: 18446744073709551615\nselect 1;\n";
    let event = &events(log)[0];
    assert_eq!(
        (event.query_time, event.lock_time, event.rows_sent, event.rows_examined),
        (None, None, None, Some(u64::MAX))
    );
    let log = "# Query_time: 12  Lock_time: 0  Rows_sent: 18446744073709551616  Rows_examined:\nselect 1;\n";
    let event = &events(log)[0];
    assert_eq!(
        (event.query_time, event.lock_time, event.rows_sent, event.rows_examined),
        (Some(12_000_000), Some(0), None, None)
    );
}

#[test]
fn the_database_is_the_schema_or_the_one_in_use() {
    let table = [
        ("", "use shop;\n", Some("shop")),
        ("", "use `my shop`;\n", Some("my shop")),
        ("# Schema: store  Last_errno: 0  Killed: 0\n", "use shop;\n", Some("store")),
        ("# Schema:   Last_errno: 0  Killed: 0\n", "", None),
        ("# Schema:   Last_errno: 0  Killed: 0\n", "use shop;\n", Some("shop")),
        ("# Thread_id: 8  Schema: store  QC_hit: No\n", "", Some("store")),
        ("", "", None),
    ];
    for (header, preamble, expected) in table {
        let log = format!("{HEAD}{header}{preamble}SET timestamp=1700000000;\nselect 1;\n");
        let event = &events(&log)[0];
        assert_eq!(text(event.db.as_ref()).as_deref(), expected, "{log}");
        assert_eq!(&*event.query, b"select 1", "{log}");
    }
    // Nothing is inherited.
    let log = format!("{HEAD}use shop;\nSET timestamp=1700000000;\nselect 1;\n{}", entry("select 2;"));
    assert_eq!(events(&log)[1].db, None);
}

#[test]
fn lines_of_all_servers_stand_in_headers() {
    let lines = [
        "# Thread_id: 8  Schema: shop  QC_hit: No\n",
        "# Rows_affected: 0  Bytes_sent: 79\n",
        "# Full_scan: Yes  Full_join: No  Tmp_table: No  Tmp_table_on_disk: No\n# Filesort: No  Filesort_on_disk: No\n",
        "# Bytes_sent: 60  Tmp_tables: 0  Tmp_disk_tables: 0\n# InnoDB_trx_id: 0\n#   InnoDB_IO_r_ops: 0\n",
        "# No InnoDB statistics available for this query(!)\n",
        "#\n# explain: id\tselect_type\ttable\n# explain: 1\tSIMPLE\tSchema: x\n#\n",
        "# Stored_routine: shop.f\n",
        "# Log_slow_rate_type: query  Log_slow_rate_limit: 10\n",
    ];
    for line in lines {
        let log = format!("{HEAD}{line}SET timestamp=1700000000;\nselect 1;\n{}", entry("select 2;"));
        assert_eq!(queries(&log), ["select 1", "select 2"], "{line}");
        assert_eq!(events(&log)[0].query_time, Some(1_500_000));
    }
    let extra = entry("select 1;").replace(
        "Rows_examined: 300\n",
        "Rows_examined: 300 Thread_id: 8 Errno: 0 Killed: 0 Bytes_received: 0 Bytes_sent: 56 Read_first: 0 \
         Start: 2023-11-14T22:13:20.000000Z End: 2023-11-14T22:13:21.500000Z\n",
    );
    assert_eq!(events(&extra)[0].rows_examined, Some(300));
    let one_line = entry("select 1;").replace("500000Z\n#", "500000Z# ").replace("#  User", "# User");
    assert!(one_line.starts_with("# Time: 2023-11-14T22:13:21.500000Z# User@Host: app["));
    assert_eq!(events(&one_line), events(&entry("select 1;")));
}

#[test]
fn headers_may_begin_anywhere() {
    let whole = entry("select 1;");
    let (time, no_time) = whole.split_once('\n').unwrap();
    let (_, no_user) = no_time.split_once('\n').unwrap();
    assert!(time.starts_with("# Time"));
    let log = format!("{no_time}{no_time}{no_user}{no_user}{whole}{no_user}{time}\n{no_user}");
    assert_eq!(queries(&log), ["select 1"; 7]);
    assert_eq!(events(&log)[0].time, Some(1_700_000_000_000_000));
}

#[test]
fn the_preamble_is_not_in_the_query_and_what_users_set_is() {
    let table = [
        ("use shop;\nSET timestamp=1700000000;\nselect 1;\n", "select 1"),
        ("SET insert_id=5,timestamp=1700000000;\nselect 1;\n", "select 1"),
        ("SET last_insert_id=4,insert_id=5,timestamp=1700000000;\nselect 1;\n", "select 1"),
        ("SET insert_id=5;\nSET timestamp=1700000000;\nselect 1;\n", "select 1"),
        ("SET timestamp=1700000000;\nSET timestamp=5;\n", "SET timestamp=5"),
        ("SET timestamp=1700000000;\nuse shop;\n", "use shop"),
        ("use shop;\nSET timestamp=1700000000;\nuse shop;\n", "use shop"),
        ("SET timestamp=5;\n", "SET timestamp=5"),
        ("use shop;\n", "use shop"),
        ("SET insert_id=5;\n", "SET insert_id=5"),
        ("SET timestamp=1700000000;\nSET insert_id=5;\n", "SET insert_id=5"),
        ("SET timestamp=1700000000;\nSET NAMES utf8;\n", "SET NAMES utf8"),
        ("SET NAMES utf8;\n", "SET NAMES utf8"),
        ("SET timestamp=1700000000;\n\n  select 1 ;\n\n", "select 1"),
        ("SET timestamp=1700000000;\nselect 1; select 2;\n", "select 1; select 2"),
        ("SET timestamp=1700000000;\nselect 1;\nselect 2;\n", "select 1;\nselect 2"),
        ("SET timestamp=1700000000;\nselect 1;;\n", "select 1;"),
        ("SET timestamp=1700000000;\n# administrator command: Quit;\n", "# administrator command: Quit"),
        ("# administrator command: Quit;\n", "# administrator command: Quit"),
        ("SET timestamp=1700000000;\n# Pick one\nselect 1;\n", "# Pick one\nselect 1"),
        ("SET timestamp=1700000000;\nselect 1\n# Pick two\n+ 2;\n", "select 1\n# Pick two\n+ 2"),
        ("SET timestamp=1700000000;\n/* a */ -- b\nselect 1;\n", "/* a */ -- b\nselect 1"),
        ("SET timestamp=1700000000;\nselect ';\n';\n", "select ';\n'"),
    ];
    for (rest, expected) in table {
        let log = format!("{HEAD}{rest}{}", entry("select 9;"));
        assert_eq!(queries(&log), [expected, "select 9"], "{rest}");
        assert_eq!(events(&log)[0].time, Some(1_700_000_001_500_000), "{rest}");
        // The same at the end of the log, with another end of lines, and without the last one.
        assert_eq!(queries(&format!("{HEAD}{rest}")), [expected], "{rest}");
        assert_eq!(queries(format!("{HEAD}{rest}").trim_end()), [expected], "{rest}");
        assert_eq!(
            queries(&log.replace('\n', "\r\n")),
            [&expected.replace('\n', "\r\n"), "select 9"],
            "{rest}"
        );
    }
    assert_eq!(
        shape(&events(&format!("{HEAD}# administrator command: Quit;\n"))[0].query, Dialect::MySql),
        "# administrator command: quit"
    );
}

mod damaged;
