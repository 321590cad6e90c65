//! What a statement of the configuration may be.

use digest::{Dialect, Kind, Token, statements, tokens};
use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, Error};
use std::borrow::Cow;

/// Words that a statement which only reads can begin with.
const READS: [&str; 7] = ["select", "with", "values", "table", "show", "describe", "explain"];
/// Those of them whose result is a table of data.
const SELECTS: &[&str] = &["select", "with", "values", "table"];

/// Reads a statement where serde wants a text; its faults are told beside those of the other keys.
pub fn read_statement<'de, D: Deserializer<'de>>(
    deserializer: D,
    dialects: &[Dialect],
) -> Result<String, D::Error> {
    let sql = String::deserialize(deserializer)?;
    only_reads(&sql, dialects).map_err(|(message, hint)| D::Error::custom(format!("{message}; {hint}")))?;
    Ok(sql)
}

/// Refuses what is not one statement that reads. Redshift and Athena have no read-only session, so this is what holds there, beside the
/// rights of the role. Gives what is wrong and what to do.
pub(super) fn only_reads(sql: &str, dialects: &[Dialect]) -> Result<(), (String, &'static str)> {
    // Dialects agree on where a text ends unless it has backslashes; then the stricter reading counts.
    let count = dialects.iter().map(|dialect| statements(sql, *dialect)).max().unwrap_or_default();
    if count != 1 {
        return Err((format!("expected one statement, found {count}"), "write a check for each statement"));
    }
    for dialect in dialects {
        let words = words(sql, *dialect);
        if !words.first().is_some_and(|word| READS.contains(&word.as_str())) {
            return Err((
                format!("not a statement that reads; it has to begin with one of {}", READS.join(", ")),
                "a check only looks, it changes nothing",
            ));
        }
        if words.iter().any(|word| word == "into") {
            return Err((
                "`into` makes a table".to_owned(),
                "leave it out; as a name of your own, write \"into\"",
            ));
        }
    }
    Ok(())
}

/// Whether a statement that only reads asks for data, and not for names or plans.
pub fn selects(sql: &str, dialect: Dialect) -> bool {
    words(sql, dialect).first().is_some_and(|word| SELECTS.contains(&word.as_str()))
}

/// The words outside of literals, and all words of what may be one or not: whether a text ends at `\'` is in dispute.
fn words(sql: &str, dialect: Dialect) -> Vec<String> {
    let within = |text: &str| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_ascii_lowercase).collect()
    };
    let of = |token: Token<'_>| match (token.kind, token.complete) {
        (Kind::Word, _) => vec![token.text.to_ascii_lowercase()],
        (Kind::Text | Kind::QuotedName, false) => within(token.text),
        _ => Vec::new(),
    };
    tokens(sql, dialect).flat_map(of).collect()
}

/// What stands in a statement for the start of the last good run, so that each row is given once.
const SINCE: &str = "$since";

/// The statement with `$since` written as a literal of its dialect; before the first good run it is an interval ago.
pub fn with_since(sql: &str, since: Timestamp, dialect: Dialect) -> Cow<'_, str> {
    if !sql.contains(SINCE) {
        return Cow::Borrowed(sql);
    }
    let moment = since.strftime("%Y-%m-%d %H:%M:%S%.3f");
    Cow::Owned(sql.replace(
        SINCE,
        &match dialect {
            Dialect::Trino => format!("timestamp '{moment} UTC'"),
            Dialect::Postgres | Dialect::Redshift => format!("timestamptz '{moment}+00'"),
            // No check asks a MySQL server; the session's zone decides what this means.
            Dialect::MySql => format!("timestamp '{moment}'"),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sql: &str) -> Option<String> {
        only_reads(sql, &[Dialect::Postgres, Dialect::Redshift]).err().map(|(message, _)| message)
    }

    #[test]
    fn the_last_start_is_a_literal_of_the_dialect() {
        let since = "2026-11-24T10:00:00.5Z".parse().unwrap();
        let told = |dialect| with_since("select 1 where t > $since", since, dialect).into_owned();
        assert_eq!(told(Dialect::Postgres), "select 1 where t > timestamptz '2026-11-24 10:00:00.500+00'");
        assert_eq!(told(Dialect::Trino), "select 1 where t > timestamp '2026-11-24 10:00:00.500 UTC'");
        assert_eq!(refused("select 1 where t > $since"), None);
    }

    #[test]
    fn one_statement_that_reads_is_taken() {
        for sql in [
            "select 1",
            " -- a comment\n WITH a as (select ';') select * from a;",
            "select $$ ; drop table t $$",
            "values (1), (2)",
            "select \"into\" from t",
        ] {
            assert_eq!(refused(sql), None, "{sql}");
        }
    }

    #[test]
    fn a_second_statement_or_one_that_writes_is_refused() {
        for (sql, words) in [
            ("select 1; select 2", "found 2"),
            ("", "found 0"),
            ("select '\\'; drop table t; --'", "found 3"),
            ("set default_transaction_read_only = off", "not a statement that reads"),
            ("delete from t", "not a statement that reads"),
            ("select * into t from u", "makes a table"),
        ] {
            assert!(refused(sql).is_some_and(|message| message.contains(words)), "{sql}: {:?}", refused(sql));
        }
    }
}
