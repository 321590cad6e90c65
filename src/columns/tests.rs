//! Rows in, samples out, for every kind of metric; and the faults that a configuration of columns can have.

use super::config::read;
use super::statement::only_reads;
use super::*;
use crate::config::fault::Faults;
use crate::config::node::parse;
use metrics::{Origin, Values};

const GAUGE: &str =
    "metrics: [{name: device.connections, value: devices, labels: [country], unit: '{device}', help: h}]\n";
const COUNTER: &str =
    "metrics: [{name: device.logins, value: total, labels: [country], kind: counter, help: h}]\n";
const HISTOGRAM: &str = "metrics: [{name: device.answer, value: took, labels: [country], kind: histogram, unit: s, help: h, buckets: [1, 10]}]\n";

fn columns(keys: &str) -> Columns {
    let mut faults = Faults::default();
    let node = parse("f", keys, &mut faults).unwrap();
    let columns = read(&node, "c", &[], &mut faults);
    assert!(faults.is_empty(), "{faults}");
    columns.unwrap()
}

/// What is wrong with these keys, a line each.
fn faults(keys: &str) -> Vec<String> {
    let mut faults = Faults::default();
    let node = parse("f", keys, &mut faults).unwrap();
    let columns = read(&node, "c", &[], &mut faults);
    assert_eq!(columns.is_none(), !faults.is_empty(), "{faults}");
    faults.into_sorted().iter().map(ToString::to_string).collect()
}

fn teller(keys: &str) -> Teller {
    Teller::new(&columns(keys), 1000)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A table from lines: columns first, then rows; `~` is NULL, blanks stand between.
fn table(text: &str) -> Table {
    let mut lines = text.lines().map(|line| line.split_whitespace());
    let columns: Vec<&str> = lines.next().unwrap().collect();
    let rows: Vec<Vec<Option<&str>>> =
        lines.map(|line| line.map(|cell| (cell != "~").then_some(cell)).collect()).collect();
    Table::of(&columns, &rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// A line for each sample, in order: name, label values, value; of a histogram the counts of its buckets and the sum.
fn lines(answer: &Answer) -> Vec<String> {
    let mut lines = Vec::new();
    for column in answer.columns() {
        for row in 0..column.len() {
            let value = match column.values() {
                Values::Numbers(numbers) => numbers[row].to_string(),
                Values::Histograms(_, rows) => format!("{:?} {}", rows[row].counts, rows[row].sum),
            };
            let labels: Vec<&str> = column.labels(row).collect();
            lines.push(format!("{} {} {value}", column.family().prometheus(), labels.join(",")));
        }
    }
    lines.sort();
    lines
}

/// Samples and notes of a result.
fn told(teller: &mut Teller, rows: &str) -> (Vec<String>, Vec<String>) {
    let told = teller.tell(&table(rows), "the statement", at("2026-11-20T09:00:00Z"), &mut Answer::new());
    assert!(told.notes.iter().all(|note| note.reason == Reason::Decode));
    (lines(&told.result.unwrap()), told.notes.iter().map(ToString::to_string).collect())
}

/// The samples of a result in which nothing is wrong.
fn good(teller: &mut Teller, rows: &str) -> Vec<String> {
    let (lines, notes) = told(teller, rows);
    assert!(notes.is_empty(), "{notes:?}");
    lines
}

/// Why a result is refused, and what is told all the same.
fn refused(teller: &mut Teller, rows: &str) -> (Reason, String, Vec<String>) {
    let mut facts = Answer::new();
    let told = teller.tell(&table(rows), "the statement", at("2026-11-20T09:00:00Z"), &mut facts);
    assert!(told.notes.is_empty(), "{:?}", told.notes);
    let problem = told.result.unwrap_err();
    (problem.reason, problem.to_string(), lines(&facts))
}

fn with(keys: &str, more: &str) -> String {
    format!("{keys}{more}\n")
}

// gauges

#[test]
fn every_row_becomes_a_sample_of_every_metric() {
    let keys = "metrics:\n  - {name: device.connections, value: devices, labels: [country, model], help: h}\n  \
                - {name: device.age, value: oldest, labels: [model], unit: s, help: h}\n  \
                - {name: device_traffic, value: bytes, labels: [country, model], kind: counter, unit: By, help: h}\n";
    // The order of the columns and a column that nobody named do not matter.
    let rows = "bytes model country ignored devices oldest\n1e3 m1 JP x 7 0.5\n5 m2 TH x 0 -2";
    let expected = "\
device_age_seconds m1 0.5
device_age_seconds m2 -2
device_connections JP,m1 7
device_connections TH,m2 0
device_traffic_bytes_total JP,m1 1000
device_traffic_bytes_total TH,m2 5";
    assert_eq!(good(&mut teller(keys), rows).join("\n"), expected);
}

#[test]
fn a_metric_without_labels_takes_the_one_row() {
    let keys = "metrics: [{name: device.connections, value: devices, help: h}]";
    assert_eq!(good(&mut teller(keys), "devices\n12"), ["device_connections  12"]);
}

#[test]
fn a_known_value_without_a_row_is_zero_but_only_if_there_are_rows() {
    let mut teller = teller(&with(GAUGE, "fill: {country: [JP, TH, PH]}"));
    let lines = good(&mut teller, "country devices\nJP 7\nKH 1");
    let expected = [
        "device_connections JP 7",
        "device_connections KH 1",
        "device_connections PH 0",
        "device_connections TH 0",
    ];
    assert_eq!(lines, expected, "a value that is not known is shown all the same");
    assert_eq!(refused(&mut teller, "country devices").0, Reason::Empty);
}

#[test]
fn an_empty_result_with_fill_is_a_failure_unless_empty_is_zero() {
    let keys = with(GAUGE, "fill: {country: [JP, TH]}");
    let (reason, words, facts) = refused(&mut teller(&keys), "country devices");
    assert_eq!((reason, facts.len()), (Reason::Empty, 0));
    assert!(
        words.starts_with("the statement gave no row at all; ") && words.contains("empty: zero"),
        "{words}"
    );
    let (reason, ..) = refused(&mut teller(&with(&keys, "empty: failure")), "country devices");
    assert_eq!(reason, Reason::Empty);
    let lines = good(&mut teller(&with(&keys, "empty: zero")), "country devices");
    assert_eq!(lines, ["device_connections JP 0", "device_connections TH 0"]);
}

#[test]
fn an_empty_result_without_fill_is_a_good_run_without_samples() {
    assert_eq!(good(&mut teller(GAUGE), "country devices"), [""; 0]);
    // A service that gives no row may give no column either.
    let told = teller(GAUGE).tell(&Table::default(), "s", at("2026-11-20T09:00:00Z"), &mut Answer::new());
    assert!(told.result.unwrap().is_empty());
}

#[test]
fn a_row_whose_value_is_null_gets_no_zero_from_fill() {
    let mut teller = teller(&with(GAUGE, "fill: {country: [JP, TH, PH, KH, VN]}"));
    let (lines, notes) = told(&mut teller, "country devices\nJP ~\nTH NaN\nPH many\nKH 1");
    assert_eq!(lines, ["device_connections KH 1", "device_connections VN 0"]);
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[test]
fn fill_makes_every_pair_of_known_values_that_has_no_row() {
    let keys = "metrics: [{name: a, value: v, labels: [x, y], help: h}, {name: b, value: v, help: h}]\nfill: {x: [1, NO], y: [k, l]}";
    let (lines, notes) = told(&mut teller(keys), "x y v\nNO l 5\n1 z 6");
    assert_eq!(lines, ["a 1,k 0", "a 1,l 0", "a 1,z 6", "a NO,k 0", "a NO,l 5", "b  5"]);
    assert_eq!(notes.len(), 1, "two rows for the metric without labels: {notes:?}");
}

#[test]
fn fill_makes_no_total_and_no_histogram() {
    for keys in [COUNTER, HISTOGRAM] {
        let both =
            keys.replace("metrics: [", "metrics: [{name: a, value: total, labels: [country], help: h}, ");
        let mut teller = teller(&with(&both, "fill: {country: [JP, TH]}"));
        let lines = good(&mut teller, "country total took\nJP 7 7");
        assert_eq!(lines[..2], ["a JP 7", "a TH 0"]);
        assert_eq!(lines.len(), 3, "a total of 0 would be a reset: {lines:?}");
    }
}

// values that are none

#[test]
fn a_null_value_gives_no_sample_and_is_counted() {
    let (lines, notes) = told(&mut teller(GAUGE), "country devices\nJP ~\nTH 3\nPH ~");
    assert_eq!(lines, ["device_connections TH 3"]);
    let words =
        "2 rows of the statement with no value (NULL) in device_connections (row 1); the sample is absent; ";
    assert!(matches!(notes.as_slice(), [note] if note.starts_with(words)), "{notes:?}");
}

#[test]
fn a_result_of_nulls_never_gives_zero() {
    for keys in [GAUGE, COUNTER, HISTOGRAM] {
        let (lines, notes) = told(&mut teller(keys), "country devices total took\n~ ~ ~ ~\nJP ~ ~ ~");
        assert!(lines.is_empty(), "{lines:?}");
        assert!(matches!(notes.as_slice(), [note] if note.starts_with("2 rows")), "{notes:?}");
    }
}

#[test]
fn nan_and_text_are_counted() {
    for value in ["NaN", "Infinity", "-inf", "1e999", "canary", "t", "1,5", "0x10", "7devices"] {
        let (lines, notes) = told(&mut teller(GAUGE), &format!("country devices\nTH 3\nJP {value}"));
        assert_eq!(lines, ["device_connections TH 3"], "{value}");
        let words = "1 row of the statement with a value that is no number in device_connections \
                     (row 2: column devices is not a finite number); ";
        assert!(matches!(notes.as_slice(), [note] if note.starts_with(words)), "{value}: {notes:?}");
        assert!(!notes[0].contains("canary"), "a value is never repeated");
    }
    // An empty text is none either, and none of the three kinds hides another one.
    let cells: [[Option<&str>; 2]; 3] = [[Some("JP"), Some("")], [Some("TH"), None], [Some("PH"), Some("x")]];
    let rows: Vec<&[Option<&str>]> = cells.iter().map(<[_; 2]>::as_slice).collect();
    let now = at("2026-11-20T09:00:00Z");
    let told = teller(GAUGE).tell(&Table::of(&["country", "devices"], &rows), "s", now, &mut Answer::new());
    assert!(told.result.unwrap().is_empty());
    let notes: Vec<String> = told.notes.iter().map(|note| note.what.clone()).collect();
    assert!(notes[0].starts_with("2 rows of s with a value that is no number"), "{notes:?}");
    assert!(notes[1].starts_with("1 row of s with no value (NULL)"), "{notes:?}");
}

#[test]
fn numbers_are_read_as_databases_write_them() {
    for (text, value) in
        [("0", "0"), ("-0.25", "-0.25"), ("1.50E+2", "150"), ("9007199254740991", "9007199254740991")]
    {
        let lines = good(&mut teller(GAUGE), &format!("country devices\nJP {text}"));
        assert_eq!(lines, [format!("device_connections JP {value}")]);
    }
}

#[test]
fn a_label_that_cannot_be_read_loses_its_row_alone() {
    let mut rows = Table::new(["country", "devices"].into_iter().map(str::to_owned));
    rows.push([Err(()), Ok(Some("1"))].into_iter());
    rows.push([Ok::<_, ()>(Some("JP")), Ok(Some("2"))].into_iter());
    rows.push([Ok(Some("TH")), Err(())].into_iter());
    let told = teller(GAUGE).tell(&rows, "s", at("2026-11-20T09:00:00Z"), &mut Answer::new());
    assert_eq!(lines(&told.result.unwrap()), ["device_connections JP 2"]);
    let notes: Vec<&str> = told.notes.iter().map(|note| note.what.as_str()).collect();
    let expected = [
        "1 row of s with a value that is no number in device_connections (row 3: column devices is not UTF-8)",
        "1 row of s with an unreadable label in device_connections (row 1: column country is not UTF-8)",
    ];
    assert_eq!(notes, expected);
}

// rows that are double

#[test]
fn two_rows_with_equal_labels_are_named_and_the_first_is_kept() {
    for (keys, name) in [(GAUGE, "device_connections"), (COUNTER, "device_logins_total")] {
        let rows = "country devices total\nJP ~ ~\nTH 3 3\nJP 7 7\nPH 1 1\nJP 8 8\nTH 4 4";
        let (lines, notes) = told(&mut teller(keys), rows);
        assert_eq!(lines, ["JP 7", "PH 1", "TH 3"].map(|line| format!("{name} {line}")));
        let words = format!(
            "2 rows of the statement with labels that another row has in {name} (row 5 has the labels of row 3: country=\"JP\"); \
             group by every column that is a label"
        );
        assert!(notes.iter().any(|note| note.starts_with(&words)), "{words} in {notes:?}");
        assert_eq!(notes.len(), 2, "{notes:?}");
    }
}

#[test]
fn a_null_label_is_an_empty_one() {
    let cells = [[None, Some("1")], [Some(""), Some("2")]];
    let rows: Vec<&[Option<&str>]> = cells.iter().map(<[_; 2]>::as_slice).collect();
    let now = at("2026-11-20T09:00:00Z");
    let told = teller(GAUGE).tell(&Table::of(&["country", "devices"], &rows), "s", now, &mut Answer::new());
    assert_eq!(lines(&told.result.unwrap()), ["device_connections  1"]);
    assert!(
        told.notes[0].what.ends_with("(row 2 has the labels of row 1: country=\"\")"),
        "{:?}",
        told.notes
    );
}

// columns and their age

#[test]
fn a_missing_column_fails_the_run_and_names_those_there() {
    let keys = with(GAUGE, "freshness: newest");
    for rows in ["Country devices_now\nJP 7", "Country devices_now"] {
        let (reason, words, facts) = refused(&mut teller(&keys), rows);
        let expected = "the result of the statement has no column country, devices, newest; it has: Country, devices_now";
        assert_eq!((reason, words.as_str(), facts.len()), (Reason::Decode, expected, 0));
    }
}

#[test]
fn the_newest_time_is_a_fact() {
    let mut facts = Answer::new();
    let rows = table(
        "country devices newest\nJP 7 2026-11-20T08:53:51.168\nTH 3 2026-11-20T08:00:00\nPH 1 ~\nKH 1 yesterday",
    );
    let told =
        teller(&with(GAUGE, "freshness: newest")).tell(&rows, "s", at("2026-11-20T09:00:00Z"), &mut facts);
    assert_eq!(told.result.unwrap().len(), 4, "old or without a time: no limit was set");
    assert_eq!(lines(&facts), ["datapulse_check_data_timestamp_seconds  1795164831.168"]);
}

#[test]
fn stale_data_fail_with_stale_data_while_the_timestamp_stays() {
    let mut teller = teller(&with(GAUGE, "freshness: newest\nmax_data_age: 10m"));
    let rows = |newest: &str| format!("country devices newest\nJP 7 2026-11-01\nTH 3 {newest}");
    let (reason, words, facts) = refused(&mut teller, &rows("2026-11-20T08:49:59"));
    assert_eq!(reason, Reason::StaleData);
    let expected =
        "the newest data of the statement are from 2026-11-20T08:49:59Z, 601 s old; 600 s are allowed; ";
    assert!(words.starts_with(expected), "{words}");
    assert_eq!(facts, ["datapulse_check_data_timestamp_seconds  1795164599"]);
    // Just young enough, and from a clock that is ahead of ours.
    for newest in ["2026-11-20T08:50:00", "2026-11-20T12:00:00"] {
        assert_eq!(good(&mut teller, &rows(newest)).len(), 2, "{newest}");
    }
}

#[test]
fn data_without_any_time_are_refused() {
    for rows in
        ["country devices newest\nJP 7 ~", "country devices newest\nJP 7 yesterday\nTH 1 1795164831168"]
    {
        let (reason, words, facts) = refused(&mut teller(&with(GAUGE, "freshness: newest")), rows);
        assert_eq!((reason, facts.len()), (Reason::Decode, 0));
        assert!(words.starts_with("no row of the statement has a time in the column newest"), "{words}");
    }
    let empty = "country devices newest";
    let mut teller = teller(&with(GAUGE, "freshness: newest\nmax_data_age: 1s"));
    assert_eq!(good(&mut teller, empty), [""; 0], "without rows there is nothing that could be old");
}

// counters and limits

#[test]
fn counters_are_totals_of_the_source() {
    let columns = columns(COUNTER);
    assert_eq!(columns.family("device.logins").unwrap().kind, Kind::Counter(Origin::Source));
    let mut teller = Teller::new(&columns, 1000);
    for total in ["5", "9", "2"] {
        // Its first value is no 0, and its reset is told as it is.
        let lines = good(&mut teller, &format!("country total\nJP {total}"));
        assert_eq!(lines, [format!("device_logins_total JP {total}")]);
    }
}

#[test]
fn gauges_beyond_the_limit_are_cut_from_the_end_and_counted() {
    let mut teller = Teller::new(&columns(&with(GAUGE, "fill: {country: [VN]}")), 2);
    let rows = table("country devices\nTH 3\nJP 7\nPH 1");
    let told = teller.tell(&rows, "s", at("2026-11-20T09:00:00Z"), &mut Answer::new());
    let mut answer = told.result.unwrap();
    let cut = answer.cap(2);
    assert!(
        matches!(cut.as_slice(), [(family, 2)] if family.prometheus() == "device_connections"),
        "{cut:?}"
    );
    assert_eq!(lines(&answer), ["device_connections JP 7", "device_connections TH 3"]);
}

/// The samples of a result, and how many label sets of its family are counted as cut or folded.
fn capped(teller: &mut Teller, rows: &str, limit: usize) -> (Vec<String>, usize) {
    let told = teller.tell(&table(rows), "s", at("2026-11-20T09:00:00Z"), &mut Answer::new());
    assert!(told.notes.is_empty(), "{:?}", told.notes);
    let mut answer = told.result.unwrap();
    let cut = answer.cap(limit).iter().map(|(_, sets)| sets).sum();
    assert_eq!(answer.seal(), 0, "no label set twice");
    (lines(&answer), cut)
}

#[test]
fn counters_beyond_the_limit_go_to_other_and_the_sum_stays() {
    let mut teller = Teller::new(&columns(COUNTER), 3);
    let (lines, cut) = capped(&mut teller, "country total\nJP 1\nTH 2\nPH 4\nKH 8", 3);
    assert_eq!(lines, ["JP 1", "TH 2", "other 12"].map(|line| format!("device_logins_total {line}")));
    assert_eq!(cut, 2);
    // Rows come in any order: a total that changed places would look like a reset of two.
    let (lines, cut) = capped(&mut teller, "country total\nKH 9\nPH 5\nTH 3\nJP 2", 3);
    assert_eq!(lines, ["JP 2", "TH 3", "other 14"].map(|line| format!("device_logins_total {line}")));
    assert_eq!(cut, 2);
    // A place that became free is given away.
    let (lines, cut) = capped(&mut teller, "country total\nPH 6\nTH 4", 3);
    assert_eq!(
        (lines, cut),
        (["PH 6", "TH 4"].map(|line| format!("device_logins_total {line}")).to_vec(), 0)
    );
}

#[test]
fn a_row_that_is_called_other_is_part_of_the_others() {
    let mut teller = Teller::new(&columns(COUNTER), 2);
    let (lines, cut) = capped(&mut teller, "country total\nother 16\nJP 1\nTH 2", 2);
    assert_eq!(
        (lines.join("; "), cut),
        ("device_logins_total JP 1; device_logins_total other 18".to_owned(), 1)
    );
    let (lines, cut) = capped(&mut teller, "country total\nother 17\nJP 1", 2);
    assert_eq!(
        (lines.join("; "), cut),
        ("device_logins_total JP 1; device_logins_total other 17".to_owned(), 0)
    );
}

#[test]
fn one_label_set_is_never_beyond_the_limit() {
    let keys = "metrics: [{name: a, value: v, kind: counter, help: h}, {name: b, value: v, kind: histogram, help: h, buckets: [1]}]";
    let mut teller = Teller::new(&columns(keys), 1);
    assert_eq!(capped(&mut teller, "v\n5", 1), (vec!["a_total  5".to_owned(), "b  [0, 0] 0".to_owned()], 0));
    assert_eq!(capped(&mut teller, "v\n6", 1), (vec!["a_total  6".to_owned(), "b  [0, 2] 11".to_owned()], 0));
}

// histograms

#[test]
fn a_histogram_adds_up_over_the_runs_and_is_shown_once_at_zero() {
    let mut teller = teller(HISTOGRAM);
    let mut run = |rows: &str| good(&mut teller, &format!("country took\n{rows}"));
    assert_eq!(run("JP 0.5\nJP 5\nJP 50"), ["device_answer_seconds JP [0, 0, 0] 0"]);
    assert_eq!(run("JP 0.25"), ["device_answer_seconds JP [2, 1, 1] 55.75"]);
    let both = ["device_answer_seconds JP [2, 1, 1] 55.75", "device_answer_seconds TH [0, 0, 0] 0"];
    assert_eq!(run("TH 3"), both, "each label set has its first run");
    let both = ["device_answer_seconds JP [2, 1, 1] 55.75", "device_answer_seconds TH [0, 1, 0] 3"];
    assert_eq!(run(""), both, "a run without rows keeps them");
}

#[test]
fn an_upper_bound_belongs_to_its_bucket() {
    let mut teller = teller(HISTOGRAM);
    let mut run = |rows: &str| good(&mut teller, &format!("country took\n{rows}"));
    run("JP -1\nJP 1\nJP 1.0000001\nJP 10\nJP 10.5");
    assert_eq!(run(""), ["device_answer_seconds JP [2, 2, 1] 21.5000001"]);
}

#[test]
fn without_buckets_a_histogram_has_those_of_durations() {
    let mut teller = teller(&HISTOGRAM.replace(", buckets: [1, 10]", ""));
    let told =
        teller.tell(&table("country took\nJP 3600"), "s", at("2026-11-20T09:00:00Z"), &mut Answer::new());
    let answer = told.result.unwrap();
    let Values::Histograms(bounds, rows) = answer.columns()[0].values() else { panic!("{answer:?}") };
    let wanted = "[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0]";
    assert_eq!(format!("{bounds:?}"), wanted);
    assert_eq!(rows[0].counts.len(), 15, "and +Inf");
}

#[test]
fn a_value_that_is_none_is_not_observed() {
    let mut teller = teller(HISTOGRAM);
    let (_, notes) = told(&mut teller, "country took\nJP 5\nJP ~\nJP NaN\nJP soon");
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert_eq!(good(&mut teller, "country took"), ["device_answer_seconds JP [0, 1, 0] 5"]);
}

#[test]
fn a_result_that_is_refused_is_not_observed() {
    let keys = with(HISTOGRAM, "freshness: newest\nmax_data_age: 1h");
    let mut teller = teller(&keys);
    let columns = "country took newest";
    assert_eq!(refused(&mut teller, &format!("{columns}\nJP 5 2026-11-19")).0, Reason::StaleData);
    assert_eq!(refused(&mut teller, "country took\nJP 5").0, Reason::Decode);
    good(&mut teller, &format!("{columns}\nJP 7 2026-11-20T09:00:00"));
    assert_eq!(good(&mut teller, columns), ["device_answer_seconds JP [0, 1, 0] 7"]);
}

#[test]
fn histograms_beyond_the_limit_go_to_other_with_exact_sums() {
    let mut teller = Teller::new(&columns(HISTOGRAM), 3);
    let rows = "country took\nJP 0.5\nTH 5\nPH 50\nKH 7\nPH 0.25";
    let (lines, cut) = capped(&mut teller, rows, 3);
    assert_eq!(lines, ["JP", "TH", "other"].map(|of| format!("device_answer_seconds {of} [0, 0, 0] 0")));
    assert_eq!(cut, 2, "two label sets, whatever their rows");
    let (lines, cut) = capped(&mut teller, "country took\nPH 2\nTH 1\nother 3", 3);
    let expected = ["JP [1, 0, 0] 0.5", "TH [1, 1, 0] 6", "other [1, 3, 1] 62.25"];
    assert_eq!(
        lines,
        expected.map(|line| format!("device_answer_seconds {line}")),
        "who has a place keeps it"
    );
    assert_eq!(cut, 1);
}

#[test]
fn two_histograms_of_one_result_have_their_own_counts() {
    let keys = "metrics:\n  - {name: a, value: x, kind: histogram, help: h, buckets: [1]}\n  - {name: b, value: y, kind: histogram, help: h, buckets: [1, 2, 3]}";
    let mut teller = teller(keys);
    good(&mut teller, "x y\n1 2\n5 9");
    assert_eq!(good(&mut teller, "x y"), ["a  [1, 1] 6", "b  [0, 1, 0, 1] 11"]);
}

#[test]
fn equal_results_give_equal_answers() {
    let keys = with(GAUGE, "fill: {country: [VN, LA, MM]}\nfreshness: newest");
    let rows = table("country devices newest\nTH 3 2026-11-20\nJP ~ 2026-11-20\nTH 4 ~\nPH x ~");
    let run = || {
        let mut facts = Answer::new();
        let told = teller(&keys).tell(&rows, "s", at("2026-11-20T09:00:00Z"), &mut facts);
        format!("{told:?} {facts:?}")
    };
    assert_eq!(run(), run());
}

// configuration

#[test]
fn a_metric_is_spelled_for_all_three() {
    let keys = "metrics: [{name: device.answer, value: v, kind: histogram, unit: s, help: h, datadog_name: mccs.connection.hour.count}, \
                {name: Device_2.x, value: v, unit: By, help: h}]\nfreshness: t";
    let columns = columns(keys);
    let names: Vec<String> = columns.families().iter().map(|family| family.prometheus()).collect();
    assert_eq!(
        names,
        ["device_answer_seconds", "Device_2_x_bytes", "datapulse_check_data_timestamp_seconds"]
    );
    let answer = columns.family("device.answer").unwrap();
    assert_eq!(
        (answer.unit.ucum(), answer.datadog_name.as_deref()),
        ("s", Some("mccs.connection.hour.count"))
    );
    assert!(answer.pushed && answer.help == "h");
    assert_eq!(Columns { freshness: None, ..columns }.families().len(), 2);
}

/// The keys with one thing of the metric replaced.
fn changed(from: &str, to: &str) -> Vec<String> {
    let keys = "metrics: [{name: a.b, value: v, labels: [x, y], kind: gauge, help: h}]\n";
    assert!(keys.contains(from), "{from}");
    faults(&keys.replace(from, to))
}

#[test]
fn a_name_that_is_none_is_refused() {
    for (name, words) in [
        ("''", "not a metric name; words of letters, digits and underscores"),
        ("a..b", "not a metric name"),
        (".a", "not a metric name"),
        ("a.", "not a metric name"),
        ("1a", "not a metric name"),
        ("_a", "not a metric name"),
        ("a-b", "not a metric name"),
        ("a b", "not a metric name"),
        ("gerät", "not a metric name"),
        ("a:b", "not a metric name"),
        ("datapulse.check.up", "names that begin with datapulse are the exporter's own"),
        ("datapulse_up", "names that begin with datapulse are the exporter's own"),
        ("a.b_total", "ends with _total"),
        ("a.b_seconds", "ends with its unit; leave it out and write `unit: s` or `unit: By`"),
        ("a.b_bytes", "ends with its unit"),
        ("a_bucket", "ends with a word that Prometheus gives a meaning of its own"),
        ("a_sum", "ends with a word"),
        ("a_count", "ends with a word"),
        ("a_info", "ends with a word"),
    ] {
        let found = changed("a.b", name);
        let start = format!("f:1:18: c.metrics[0].name: {words}");
        assert!(matches!(found.as_slice(), [fault] if fault.starts_with(&start)), "{start}: {found:?}");
    }
    let long = changed("a.b", &"a".repeat(201));
    assert!(matches!(long.as_slice(), [fault] if fault.contains("not a metric name")), "{long:?}");
    let total = faults("metrics: [{name: a.total, value: v, kind: counter, help: h}]");
    assert!(matches!(total.as_slice(), [fault] if fault.contains("ends with _total")), "{total:?}");
}

#[test]
fn a_unit_is_a_base_unit_or_an_annotation() {
    for unit in ["1", "ms", "min", "MB", "bytes", "percent", "'{}'", "'{é}'", "'{device'"] {
        let found = changed("help: h", &format!("help: h, unit: {unit}"));
        let words = "f:1:77: c.metrics[0].unit: not a unit that is known here; base units only";
        assert!(matches!(found.as_slice(), [fault] if fault.starts_with(words)), "{unit}: {found:?}");
    }
    for unit in ["s", "By", "'{device}'", "''"] {
        assert_eq!(changed("help: h", &format!("help: h, unit: {unit}")), [""; 0], "{unit}");
    }
}

#[test]
fn a_label_that_samples_have_anyway_is_refused() {
    for label in
        ["check", "target", "le", "quantile", "job", "instance", "__name__", "2x", "a-b", "ländle", "''"]
    {
        let found = changed("[x, y]", &format!("[x, {label}]"));
        let words =
            format!("f:1:41: c.metrics[0].labels: \"{}\" cannot be a label here; ", label.trim_matches('\''));
        assert!(matches!(found.as_slice(), [fault] if fault.starts_with(&words)), "{words}: {found:?}");
    }
    let found = changed("[x, y]", "[x, y, x]");
    assert_eq!(found, ["f:1:41: c.metrics[0].labels: names a label twice"]);
}

#[test]
fn fill_has_to_know_all_labels_or_none() {
    let gauge = "metrics: [{name: a, value: v, labels: [x, y], help: h}, {name: b, value: v, labels: [z], help: h}]\n";
    let found = faults(&format!("{gauge}fill: {{x: [1, 2]}}"));
    let words = "f:1:39: c.metrics[0].labels: `fill` names values for some of these labels only; ";
    assert!(matches!(found.as_slice(), [fault] if fault.starts_with(words)), "{found:?}");
    let found = faults(&format!("{gauge}fill: {{w: [1]}}"));
    assert_eq!(found, ["f:2:7: c.fill.w: no metric has this label"]);
    let found = faults(&format!("{gauge}fill: {{z: [1, 2, 1]}}"));
    assert_eq!(found, ["f:2:7: c.fill.z: names a value twice"]);
    let many: Vec<String> = (0..40).map(|at| at.to_string()).collect();
    let found = faults(&format!("{gauge}fill: {{x: [{0}], y: [{0}]}}", many.join(", ")));
    assert_eq!(found, ["f:1:39: c.metrics[0].labels: `fill` makes 1600 label sets; 1000 is the most"]);
    assert_eq!(faults(&format!("{gauge}fill: {{z: [NO, 08, 'a b']}}")), [""; 0]);
    for kind in ["counter", "histogram"] {
        let other = gauge.replace("labels: [z]", &format!("labels: [z], kind: {kind}"));
        let found = faults(&format!("{other}fill: {{z: [1]}}"));
        let words = "f:2:7: c.fill.z: no gauge has this label, and only gauges are filled; a total of 0 would look like a reset";
        assert!(matches!(found.as_slice(), [fault] if fault.starts_with(words)), "{kind}: {found:?}");
    }
}

#[test]
fn buckets_are_ascending_numbers_of_a_histogram() {
    for buckets in ["[]", "[1, 1]", "[2, 1]", "[1, 3, 2]"] {
        let found = changed("kind: gauge", &format!("kind: histogram, buckets: {buckets}"));
        let words = "f:1:75: c.metrics[0].buckets: expected 1 to 100 ascending numbers; the bucket +Inf comes by itself";
        assert_eq!(found, [words], "{buckets}");
    }
    let many: Vec<String> = (0..101).map(|at| at.to_string()).collect();
    let found = changed("kind: gauge", &format!("kind: histogram, buckets: [{}]", many.join(", ")));
    assert_eq!(found.len(), 1, "{found:?}");
    let found = changed("kind: gauge", "kind: gauge, buckets: [1]");
    assert!(
        matches!(found.as_slice(), [fault] if fault.contains("only a histogram has buckets")),
        "{found:?}"
    );
    assert_eq!(changed("kind: gauge", "kind: histogram, buckets: [-1, 0, 0.5, 1e3]"), [""; 0]);
    assert!(!changed("kind: gauge", "kind: histogram, buckets: [1, .inf]").is_empty());
}

#[test]
fn keys_that_need_another_key_say_so() {
    let found = faults(&with(GAUGE, "max_data_age: 1h\nempty: zero"));
    let expected = [
        "f:2:15: c.max_data_age: needs `freshness`; name the column that holds the time of the data",
        "f:3:8: c.empty: needs `fill`; without known values there is nothing that could be 0",
    ];
    assert_eq!(found, expected);
}

#[test]
fn every_fault_is_told_at_once() {
    let keys = "\
metrics:
  - {name: a_total, value: v, unit: ms, help: h}
  - {name: b, value: v, labels: [le, x], kind: gage, help: h}
  - {name: b, vale: v, help: h}
fill: {x: [1]}
emtpy: zero
max_data_age: 5
";
    let found = faults(keys);
    let expected = [
        "f:2:12: c.metrics[0].name: ends with _total",
        "f:2:37: c.metrics[0].unit: not a unit that is known here",
        "f:3:48: c.metrics[1].kind: unknown word \"gage\"; did you mean \"gauge\"?",
        "f:4:15: c.metrics[2].vale: unknown key; did you mean \"value\"?",
        "f:6:1: c.emtpy: unknown key; did you mean \"empty\"?",
        "f:7:15: c.max_data_age: a duration needs a unit; write 5s",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected}\nis not\n{found}");
    }
    // What has to fit together is looked at when all of it can be read.
    let keys = keys
        .replace("gage", "gauge")
        .replace("vale", "value")
        .replace("emtpy", "empty")
        .replace(": 5", ": 5s");
    let found = faults(&keys);
    let expected = [
        "f:2:12: c.metrics[0].name: ends with _total",
        "f:2:37: c.metrics[0].unit: not a unit that is known here",
        "f:3:33: c.metrics[1].labels: \"le\" cannot be a label here",
        "f:3:33: c.metrics[1].labels: `fill` names values for some of these labels only",
        "f:4:12: c.metrics[2].name: another metric of this check has this name",
        "f:7:15: c.max_data_age: needs `freshness`",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected}\nis not\n{found}");
    }
}

#[test]
fn a_check_without_metrics_is_none() {
    assert_eq!(
        faults("metrics: []"),
        ["f:1:10: c.metrics: is empty; name at least one column that becomes a metric"]
    );
    assert!(faults("fill: {}")[0].contains("c.metrics: missing key"));
}

#[test]
fn a_name_of_datadog_is_checked() {
    for name in ["1a", "a b", "a-b", "''", "ä"] {
        let found = changed("help: h", &format!("help: h, datadog_name: {name}"));
        let words = "c.metrics[0].datadog_name: not a metric name of Datadog";
        assert!(matches!(found.as_slice(), [fault] if fault.contains(words)), "{name}: {found:?}");
    }
}

#[test]
fn a_statement_is_read_as_the_strictest_of_the_servers_would() {
    use digest::Dialect::{Postgres, Redshift};
    // Whether a quote behind a backslash ends the text differs from server to server; where it does, a table is made.
    for sql in
        [r"select '\'' into t from u --'", r"select 'a\' into t from u --'", r"select e'\' into t from u --'"]
    {
        let (message, _) = only_reads(sql, &[Postgres, Redshift]).unwrap_err();
        assert_eq!(message, "`into` makes a table", "{sql}");
    }
    for sql in
        [r"select 'C:\dir' as into_it", "select 'into t'", r"select e'\' into t' from u", r"select 'C:\'"]
    {
        assert!(only_reads(sql, &[Postgres]).is_ok(), "{sql}");
    }
}
