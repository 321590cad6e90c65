//! Statements: the shape of a shape is itself and has its fingerprint, and no planted literal is in what is shown.
#![no_main]

use digest::{Dialect, fingerprint, mask, shape, statement};
use libfuzzer_sys::fuzz_target;

const CANARY: &str = "7654321001234567";

fuzz_target!(|sql: &[u8]| {
    let Some((first, sql)) = sql.split_first() else { return };
    let dialect = [Dialect::MySql, Dialect::Postgres, Dialect::Redshift, Dialect::Trino][usize::from(first % 4)];
    let form = shape(sql, dialect);
    assert_eq!(shape(form.as_bytes(), dialect), form);
    assert_eq!(fingerprint(form.as_bytes(), dialect), fingerprint(sql, dialect));
    assert!(statement(sql, dialect).len() <= 100);
    // The fuzzer learns the number, and a name may have it.
    if sql.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()) {
        return;
    }
    // A number between spaces can only be a literal, or part of one.
    let planted = [b"select ".as_slice(), sql, b" ", CANARY.as_bytes(), b" "].concat();
    let text = String::from_utf8_lossy(&planted).into_owned();
    for shown in [shape(&planted, dialect), statement(&planted, dialect), mask(&text, dialect)] {
        assert!(!shown.contains(CANARY), "{shown}");
    }
});
