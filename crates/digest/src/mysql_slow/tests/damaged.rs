//! Claims about what is cut, forged, mixed up or too large.

use super::*;

#[test]
fn what_is_no_entry_is_skipped_and_counted() {
    let one = entry("select 1;");
    let half = "and b = 'it''s'\n# Pick\n;\n";
    let table = [
        (String::new(), 0, 0),
        (BANNER.to_owned(), 0, BANNER.len()),
        (format!("{BANNER}{one}{BANNER}{one}{BANNER}"), 2, 3 * BANNER.len()),
        (format!("{half}{one}"), 1, half.len()),
        (half.trim_end().to_owned(), 0, half.len() - 1),
        (format!("\u{feff}{one}"), 1, 3),
        (format!("x\n\u{feff}{one}"), 1, 5),
        (format!("{HEAD}{one}"), 1, HEAD.len()),
        (HEAD.to_owned(), 0, HEAD.len()),
        (format!("{HEAD}SET timestamp=1700000000;\n{one}"), 1, HEAD.len() + 26),
        ("# Time".to_owned(), 0, 6),
        ("# Time:".to_owned(), 0, 7),
    ];
    for (log, count, expected) in table {
        let (events, skipped) = read_all(log.as_bytes());
        assert_eq!((events.len(), skipped), (count, expected), "{log}");
        assert!(events.iter().all(|event| *event.query == *b"select 1"), "{log}");
    }
}

#[test]
fn a_statement_that_was_cut_ends_before_the_next_header() {
    for cut in ["select a from", "select 1 /* done */", "select 1 -- it's\n", "select 'a' "] {
        let log = format!("{}{}", entry(cut), later(1, "select 2;"));
        assert_eq!(queries(&log), [cut.trim(), "select 2"], "{cut}");
        let log = format!("{}{BANNER}{}", entry(cut), later(1, "select 2;"));
        assert_eq!(queries(&log), [cut.trim(), "select 2"], "{cut}");
    }
}

#[test]
fn a_literal_that_holds_entries_stays_a_literal() {
    let inner = [
        entry("select 1;"),
        later(5, "select 'x;';"),
        entry("select 1;") + &later(1, "select 2;") + &later(2, "select 3;"),
        "# Time: 071015 21:43:52\n".to_owned(),
        format!("{HEAD}select 1;\n"),
        format!("a\n{BANNER}b\n"),
    ];
    for inner in inner {
        let inner = inner.replace('\'', "''");
        for (open, close) in [("'", "'"), ("\"", "\""), ("/* ", "*/"), ("'it\\'s", "'"), ("`", "`")] {
            let statement = format!("insert into logs values (1, {open}\n{inner}{close})");
            for next in [String::new(), later(9, "select 9;"), BANNER.to_owned() + &later(9, "select 9;")] {
                let log = format!("{}{next}", entry(&(statement.clone() + ";")));
                let expected = if next.is_empty() { 1 } else { 2 };
                let found = queries(&log);
                assert_eq!((found.len(), &found[0]), (expected, &statement), "{log}");
            }
        }
    }
}

#[test]
fn the_start_of_a_header_in_a_literal_does_not_make_one_with_the_next_header() {
    let no_time = later(1, "select 2;").split_once('\n').unwrap().1.to_owned();
    for line in [
        "# Time: fake",
        "# Time: 231114 22:13:21",
        "# User@Host: a[a] @ h []",
        "# Query_time: 5",
        "# Schema: x",
        "#",
    ] {
        for close in ["' and b > 5", "\n' and b > 5", "'"] {
            let statement = format!("select a from t where b = ';\n{line}{close}");
            for next in [later(1, "select 2;"), no_time.clone()] {
                let log = entry(&format!("{statement};")) + &next;
                assert_eq!(queries(&log), [statement.as_str(), "select 2"], "{log}");
            }
        }
    }
}

#[test]
fn a_log_that_broke_off_in_a_literal_loses_no_true_entry() {
    let true_entries = [
        vec!["select 2"],
        vec!["select 'a'", "select \"b\"", "select `c`"],
        vec!["select 'a''b', 'c'", "select 3"],
        vec!["select \"it's\"", "select 3"],
        vec!["select 1 -- don't\n + 2", "select 3", "select 4"],
        vec!["select 'it\\'s'", "select 3"],
        vec!["select /* a */ 2", "select 5*/* b */3", "select 3"],
    ];
    for broken in ["select 'abc", "select \"abc", "select 1 /* abc", "insert into t values ('a', 'b;"] {
        for after in &true_entries {
            for between in ["", BANNER] {
                let after_text: String = after
                    .iter()
                    .zip(1..)
                    .map(|(query, seconds)| later(seconds, &format!("{query};")))
                    .collect();
                let log = format!("{}{between}{after_text}", entry(broken));
                let found = queries(&log);
                assert_eq!(found[0], broken.trim_end_matches(';'), "{log}");
                assert_eq!(found[1..], after[..], "{log}");
            }
        }
    }
    // Two in a row.
    let log =
        entry("select 'abc") + &later(1, "select 'def") + &later(2, "select 3;") + &later(3, "select '4';");
    assert_eq!(queries(&log), ["select 'abc", "select 'def", "select 3", "select '4'"]);
}

#[test]
fn a_header_whose_times_disagree_does_not_end_a_literal() {
    let old = entry("select 2;").replace("1700000000", "1600000000");
    assert_eq!(queries(&(entry("select 'abc") + &old)).len(), 1);
    let earlier = old.replace("2023-11-14", "2020-09-13");
    assert_eq!(queries(&(entry("select 'abc") + &earlier)).len(), 1);
    assert_eq!(queries(&(entry("select 'abc") + &earlier + &later(60, "select 3;"))), {
        let first = format!("select 'abc\n{}", earlier.trim_end().trim_end_matches(';'));
        [first, "select 3".to_owned()]
    });
}

#[test]
fn bytes_of_any_kind_stay_as_they_are() {
    for statement in
        [b"select 'caf\xe9'".as_slice(), b"select '\0'", b"select \0", b"\xff\xfe", b"select '\\'\xe9'"]
    {
        let mut log = entry("").into_bytes();
        log.extend_from_slice(statement);
        log.extend_from_slice(b";\n");
        log.extend_from_slice(later(1, "select 2;").as_bytes());
        let found = read_all(&log).0;
        assert_eq!((found.len(), &*found[0].query), (2, statement));
    }
}

#[test]
fn an_entry_that_is_too_large_is_cut_and_its_rest_skipped() {
    let large = format!("select '{}\n", "x".repeat(99)).repeat(LARGEST_ENTRY / 100);
    let log = format!("{}{}", entry(&large), later(1, "select 2;"));
    let whole = read(log.as_bytes(), log.len());
    assert_eq!((whole.0.len(), &*whole.0[1].query), (2, b"select 2".as_slice()));
    assert!(whole.0[0].query.len() < LARGEST_ENTRY && whole.0[0].query.len() > LARGEST_ENTRY - 300);
    assert_eq!(whole.1, entry(&large).len() - LARGEST_ENTRY);
    assert_eq!(read(log.as_bytes(), 64 << 10), whole);
    let endless = "# Time: ".to_owned() + &"x".repeat(LARGEST_ENTRY + 5);
    let (found, skipped) = read(endless.as_bytes(), 64 << 10);
    assert_eq!((found.len(), skipped), (1, 13));
}

#[test]
fn a_literal_is_searched_once_for_its_end_however_the_pieces_come() {
    let old = entry("select 2;").replace("1700000000", "1600000000");
    let log = entry("select 'abc") + &old.repeat(2000);
    assert_eq!(read(log.as_bytes(), 64).0.len(), 1);
    let log = entry("select '/*").repeat(300);
    assert_eq!(read(log.as_bytes(), 64).0.len(), 300);
}

#[test]
fn a_letter_before_a_byte_that_is_none_is_no_literal_with_that_byte_as_its_quote() {
    // Seen by fuzzing: the fourth time a statement is compared with what it was before.
    let one = [entry("select e").trim_end().as_bytes(), b"\xff1;\n"].concat();
    let (found, skipped) = read_all(&one.repeat(5));
    assert_eq!((found.len(), skipped), (5, 0));
    assert!(found.iter().all(|event| event.fingerprint == found[0].fingerprint));
}
