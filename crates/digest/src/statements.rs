//! How many statements a text holds.

use crate::lexer::{Dialect, Kind, tokens};

/// Counts the statements: what stands between semicolons, if it is more than spaces and comments.
///
/// It never counts too few: where a token's end was not found or is in dispute, each `;` in it may end a statement, and
/// whatever follows counts as another. So `select 'C:\'; drop table x` are two, although a server may read one.
/// The body of a function in `begin atomic ... end` counts as several, too.
pub fn statements(sql: &str, dialect: Dialect) -> usize {
    let mut count = 0;
    let mut within = false;
    for token in tokens(sql, dialect) {
        match token.kind {
            Kind::Semicolon => within = false,
            Kind::Space | Kind::Comment => {}
            _ if within => {}
            _ => {
                within = true;
                count += 1;
            }
        }
        if !token.complete {
            count += token.text.split(';').skip(1).filter(|part| !part.trim().is_empty()).count();
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Dialect; 3] = [Dialect::Postgres, Dialect::Redshift, Dialect::Trino];

    fn check(dialects: &[Dialect], table: &[(&str, usize)]) {
        for dialect in dialects {
            for (sql, expected) in table {
                assert_eq!(statements(sql, *dialect), *expected, "{sql} in {dialect:?}");
            }
        }
    }

    #[test]
    fn statements_stand_between_semicolons() {
        check(
            &ALL,
            &[
                ("", 0),
                (" \n", 0),
                (";;", 0),
                ("-- a", 0),
                ("/* a; b */ ;", 0),
                ("a", 1),
                ("a;", 1),
                ("a; b", 2),
                ("a; b; ;c ;", 3),
                ("select 1; -- x", 1),
                ("select 1 /* ; */ + 2", 1),
                ("select 1 -- ;\n+ 2", 1),
                ("-- a\nselect 1; /* b */ select 2", 2),
            ],
        );
    }

    #[test]
    fn a_semicolon_in_quotes_ends_nothing() {
        check(
            &ALL,
            &[
                ("select ';'", 1),
                ("select ';''; b'", 1),
                ("select \";\"", 1),
                ("select $$;$$", 1),
                ("$a$;a$a$;", 1),
            ],
        );
        check(&[Dialect::Postgres], &[(r"select E'\'; b'", 1), (r"select E'\\'; b", 2)]);
    }

    #[test]
    fn a_dispute_about_an_end_is_never_counted_as_fewer() {
        check(
            &ALL,
            &[
                (r"select 'it\'s'", 1),
                (r"select 'C:\';", 1),
                (r"select 'C:\'; drop table x", 2),
                (r"select 'C:\'; a; b", 3),
                ("select 'a; b", 2),
                ("select 1a$b; c", 2),
                ("select 1 /* ; b", 2),
                ("a\0; b", 2),
            ],
        );
    }

    #[test]
    fn a_nested_comment_ends_where_the_dialect_ends_it() {
        let sql = "select 1 /* /* */; drop table x /* */ */";
        check(&[Dialect::Postgres, Dialect::Redshift], &[(sql, 1)]);
        check(&[Dialect::Trino], &[(sql, 2)]);
    }
}
