//! What holds for every text: nothing is lost by the lexer, no literal leaves the mask, and time grows with length only.

use digest::{Dialect, Kind, UNREAD, fingerprint, mask, shape, statement, statements, tokens};
use proptest::prelude::*;
use proptest::sample::{Index, select};

const ALL: [Dialect; 4] = [Dialect::Postgres, Dialect::Redshift, Dialect::Trino, Dialect::MySql];

/// All that keep apart what [`PIECES`] and [`FORMS`] hold.
const STANDARD: [Dialect; 3] = [Dialect::Postgres, Dialect::Redshift, Dialect::Trino];

/// Stands in every planted literal and nowhere else.
const MARKER: &str = "CANARYxyz";

/// What a lexer may stumble over, alone and in any order.
const SHARDS: [&str; 60] = [
    "'",
    "''",
    "\"",
    "`",
    "\\",
    "\\'",
    "\\\\",
    "$",
    "$$",
    "$a$",
    "$a",
    "$1",
    "E'",
    "e'",
    "U&'",
    "u&\"",
    "x'",
    "B'",
    "N",
    "U&",
    "/*",
    "*/",
    "*",
    "/",
    "--",
    "-",
    "\n",
    "\r\n",
    "\t",
    " ",
    ";",
    ":",
    "::",
    ":b",
    "?",
    ".",
    "1",
    "1e",
    "e",
    "+",
    "a",
    "_",
    "é",
    "²",
    "\u{301}",
    "\0",
    "#",
    "/*!",
    "(",
    ")",
    ",",
    " in (",
    " values (",
    "), (",
    " values row(",
    " array[",
    "]",
    " from ",
    " asc ",
    " and ",
];

/// Complete pieces of statements; each leaves the lexer between two tokens.
const PIECES: [&str; 24] = [
    "select ",
    " from t ",
    "a.b ",
    "(",
    ")",
    ", ",
    " = ",
    "1.5 ",
    " $1 ",
    "::text ",
    " :p ",
    "? ",
    ";",
    "'x' ",
    "'it''s' ",
    "x'1F' ",
    "\"it's\" ",
    "\"$$\" ",
    "$$ it's \" $$ ",
    "$q$ $$ $q$ ",
    "/* it's */ ",
    "-- it's \" $$ /*\n",
    "interval '1 day' ",
    " größe ",
];

/// How a literal is written: what opens it, what closes it, and its text from what it says.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// Quotes are doubled, backslashes are nothing special.
    Doubled(&'static str),
    /// Quotes and backslashes get a backslash.
    Escaped(&'static str),
    /// Quotes are doubled, backslashes too.
    Both(&'static str),
    /// Between two tags.
    Dollar(&'static str),
}

const FORMS: [Form; 15] = [
    Form::Doubled("'"),
    Form::Doubled("U&'"),
    Form::Doubled("u&'"),
    Form::Doubled("B'"),
    Form::Doubled("x'"),
    Form::Doubled("N'"),
    Form::Doubled("date'"),
    Form::Escaped("'"),
    Form::Escaped("E'"),
    Form::Escaped("e'"),
    Form::Both("'"),
    Form::Both("E'"),
    Form::Dollar("$$"),
    Form::Dollar("$tag$"),
    Form::Dollar("$é_1$"),
];

/// Complete pieces of `MySQL` statements.
const MYSQL_PIECES: [&str; 18] = [
    "select ",
    " from t ",
    " in (",
    " values (",
    ")",
    ", ",
    " = ",
    "- ",
    "1.5 ",
    ";",
    "'it''s' ",
    r"'it\'s' ",
    "\"it's\" ",
    "`it's` ",
    "/* it's */ ",
    "-- it's \"\n",
    "# it's \"\n",
    " _utf8",
];

/// Forms of literals in `MySQL`, which reads a backslash as an escape.
const MYSQL_FORMS: [Form; 5] =
    [Form::Escaped("'"), Form::Escaped("x'"), Form::Both("'"), Form::Both("date'"), Form::Both("N'")];

impl Form {
    fn write(self, says: &str) -> String {
        match self {
            Self::Doubled(open) => format!("{open}{}'", says.replace('\'', "''")),
            Self::Escaped(open) => format!("{open}{}'", says.replace('\\', "\\\\").replace('\'', "\\'")),
            Self::Both(open) => format!("{open}{}'", says.replace('\\', "\\\\").replace('\'', "''")),
            Self::Dollar(tag) if format!("{says}{tag}").find(tag) == Some(says.len()) => {
                format!("{tag}{says}{tag}")
            }
            Self::Dollar(tag) => format!("{tag}{}{tag}", says.replace('$', "")),
        }
    }
}

/// What lists and rows are made of, and what ends them.
const LIST_SHARDS: [&str; 26] = [
    "1", " ", ",", "-", "+", "(", ")", "a", "in (", "'x'", ".", "null", "::", "asc", "values (", "[", "]",
    "array[", "e3", "--\n", "?", "*", ";", "select", "and ", "value",
];

fn shards() -> impl Strategy<Value = String> {
    prop::collection::vec(select(&SHARDS[..]), 0..24).prop_map(|shards| shards.concat())
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![3 => shards(), 1 => any::<String>()]
}

fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(select(&PIECES[..]), 0..8).prop_map(|pieces| pieces.concat())
}

/// What a literal says: the marker among anything but control characters, for which the whole text would be withheld.
fn secret() -> impl Strategy<Value = String> {
    (any_text(), any_text()).prop_map(|(before, after)| {
        format!("{before}{MARKER}{after}").replace(|c: char| c.is_control() && c != '\n', "")
    })
}

/// All that is made of a text to be shown.
fn shown(sql: &str, dialect: Dialect) -> String {
    [mask(sql, dialect), shape(sql.as_bytes(), dialect), statement(sql.as_bytes(), dialect)].join("\n")
}

fn leaks(shown: &str) -> bool {
    (0..=MARKER.len() - 4).any(|at| shown.contains(&MARKER[at..at + 4]))
}

/// The text up to a place at or behind `from`, which is one between two characters.
fn cut(sql: &str, from: usize, at: Index) -> &str {
    let mut end = from + at.index(sql.len() - from + 1);
    while !sql.is_char_boundary(end) {
        end -= 1;
    }
    &sql[..end]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn all_tokens_together_are_the_text(sql in any_text()) {
        for dialect in ALL {
            let texts: Vec<&str> = tokens(&sql, dialect).map(|token| token.text).collect();
            prop_assert_eq!(texts.concat(), sql.as_str());
            prop_assert!(texts.iter().all(|text| !text.is_empty()));
        }
    }

    #[test]
    fn only_the_last_token_is_incomplete(sql in any_text()) {
        for dialect in ALL {
            let incomplete = tokens(&sql, dialect).skip_while(|token| token.complete).count();
            prop_assert!(incomplete <= 1);
        }
    }

    #[test]
    fn a_planted_secret_is_never_shown(
        before in pieces(),
        form in select(&FORMS[..]),
        says in secret(),
        after in any_text(),
        whole in any::<bool>(),
        at in any::<Index>(),
    ) {
        // A space, as a prefix would be part of a word before it.
        let start = format!("{before} ");
        let sql = format!("{start}{}{after}", form.write(&says));
        let sql = if whole { sql.as_str() } else { cut(&sql, start.len(), at) };
        for dialect in STANDARD {
            let shown = shown(sql, dialect);
            prop_assert!(!leaks(&shown), "{:?}: {} gave {}", dialect, sql, shown);
        }
    }

    #[test]
    fn a_planted_secret_of_mysql_is_never_shown(
        before in prop::collection::vec(select(&MYSQL_PIECES[..]), 0..8),
        form in select(&MYSQL_FORMS[..]),
        says in secret(),
        after in any_text(),
        whole in any::<bool>(),
        at in any::<Index>(),
    ) {
        let start = format!("{} ", before.concat());
        let sql = format!("{start}{}{after}", form.write(&says));
        let sql = if whole { sql.as_str() } else { cut(&sql, start.len(), at) };
        let shown = shown(sql, Dialect::MySql);
        prop_assert!(!leaks(&shown), "{} gave {}", sql, shown);
        // Without escapes. What touches the literal would say that they escape.
        let sql = format!("{start}'{}\\' ,'{MARKER}'", says.replace(['\'', '\\'], ""));
        let shown = self::shown(&sql, Dialect::MySql);
        prop_assert!(!leaks(&shown), "{} gave {}", sql, shown);
    }

    #[test]
    fn a_shape_is_its_own_and_has_the_fingerprint_of_its_statements(sql in any_text()) {
        for dialect in ALL {
            let shown = shape(sql.as_bytes(), dialect);
            prop_assert_eq!(&shape(shown.as_bytes(), dialect), &shown, "{:?}: {}", dialect, sql);
            prop_assert_eq!(fingerprint(sql.as_bytes(), dialect), fingerprint(shown.as_bytes(), dialect));
            prop_assert_eq!(statement(sql.as_bytes(), dialect).len().min(100), statement(sql.as_bytes(), dialect).len());
        }
    }

    #[test]
    fn a_list_that_ends_anywhere_has_a_shape_of_its_own(
        start in select(&["in (", "array[", "values ("][..]),
        rest in prop::collection::vec(select(&LIST_SHARDS[..]), 0..9),
    ) {
        let sql = format!("{start}{}", rest.concat());
        for dialect in ALL {
            let shown = shape(sql.as_bytes(), dialect);
            prop_assert_eq!(&shape(shown.as_bytes(), dialect), &shown, "{:?}: {}", dialect, sql);
            prop_assert_eq!(fingerprint(sql.as_bytes(), dialect), fingerprint(shown.as_bytes(), dialect));
        }
    }

    #[test]
    fn two_statements_have_one_fingerprint_when_they_have_one_shape(a in shards(), b in shards(), at in any::<Index>()) {
        let cut = cut(&a, 0, at);
        for dialect in ALL {
            for other in [b.as_str(), cut, &a.to_ascii_uppercase(), &a.replace(' ', "\n")] {
                prop_assert_eq!(
                    shape(a.as_bytes(), dialect) == shape(other.as_bytes(), dialect),
                    fingerprint(a.as_bytes(), dialect) == fingerprint(other.as_bytes(), dialect),
                    "{:?}: {} and {}", dialect, a, other
                );
            }
        }
    }

    #[test]
    fn any_bytes_have_a_shape_and_a_fingerprint(sql in prop::collection::vec(any::<u8>(), 0..200)) {
        for dialect in ALL {
            let shown = shape(&sql, dialect);
            prop_assert_eq!(fingerprint(&sql, dialect), fingerprint(shown.as_bytes(), dialect));
        }
    }

    #[test]
    fn a_secret_in_a_comment_is_never_shown(before in pieces(), says in secret(), after in any_text(), line in any::<bool>()) {
        let says = says.replace(['*', '\n'], "");
        let sql = if line { format!("{before} --{says}\n{after}") } else { format!("{before} /* {says} */{after}") };
        for dialect in STANDARD {
            prop_assert!(!leaks(&shown(&sql, dialect)));
        }
    }

    #[test]
    fn a_masked_text_holds_no_literal_and_stays_as_it_is(sql in any_text()) {
        for dialect in ALL {
            let shown = mask(&sql, dialect);
            for token in tokens(&shown, dialect) {
                let harmless = !matches!(token.kind, Kind::Text | Kind::Number | Kind::Comment | Kind::Unknown);
                prop_assert!(harmless && token.complete, "{:?} in {}", token, shown);
            }
            prop_assert_eq!(mask(&shown, dialect), shown);
        }
    }

    #[test]
    fn statements_are_counted_one_by_one(pieces in prop::collection::vec(select(&PIECES[..]), 0..12)) {
        let sql: String = pieces.concat();
        let expected = pieces
            .split(|piece| *piece == ";")
            .filter(|part| part.iter().any(|piece| !piece.starts_with("/*") && !piece.starts_with("--")))
            .count();
        for dialect in STANDARD {
            prop_assert_eq!(statements(&sql, dialect), expected);
        }
    }
}

/// A scan that is quadratic in one of them takes minutes.
#[test]
fn a_hundred_kilobytes_of_anything_are_read_in_one_go() {
    let worse = [
        "$a$b", "$b ", "$$ $", "/* ", "*/ /", "'\\\\", "\"'", "e'\\", "1$", "1e+", "'a'b", "-- \n", "/**/a",
        "''a",
    ];
    for piece in SHARDS.into_iter().chain(worse) {
        let sql = piece.repeat(100_000 / piece.len());
        for dialect in ALL {
            assert!(mask(&sql, dialect).len() <= 2 * sql.len() + UNREAD.len());
            assert!(statements(&sql, dialect) <= sql.len());
            assert!(shape(sql.as_bytes(), dialect).len() <= 3 * sql.len());
        }
    }
    // Each opening is another one, so that none finds its end.
    let tags: String = (0..10_000).fold(String::new(), |tags, at| tags + "$t" + &at.to_string() + "$ ");
    for dialect in STANDARD {
        assert_eq!(mask(&tags, dialect), "?");
    }
}
