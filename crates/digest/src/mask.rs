//! SQL text without its literals, fit to be shown.

use crate::lexer::{Dialect, Kind, tokens};

/// Shown in place of a text that could not be read: what is not understood may be a literal.
pub const UNREAD: &str = "(text not shown: it could not be read)";

/// What stands for a literal. It reads as a parameter, so a masked text stays as it is when it is masked again.
const MASK: &str = "?";

/// Replaces literal texts and numbers by `?` and removes comments, which hold data too. Names, parameters, `true`,
/// `false` and `null`, spaces and line breaks stay; the ends are trimmed.
///
/// A text that was cut is fine: what lost its end is masked. See [`crate::lexer`] for what is masked up to the end.
pub fn mask(sql: &str, dialect: Dialect) -> String {
    if sql.contains(|c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        return UNREAD.to_owned();
    }
    let mut shown = String::with_capacity(sql.len());
    let mut after_comment = false;
    let mut after_text = false;
    for token in tokens(sql, dialect) {
        let touches_text = std::mem::replace(&mut after_text, token.kind == Kind::Text);
        let piece = match token.kind {
            Kind::Unknown => return UNREAD.to_owned(),
            Kind::Comment => {
                after_comment = true;
                continue;
            }
            // In `'it's'` the `s` was meant to be in the literal.
            Kind::Word if touches_text => continue,
            Kind::Text | Kind::Number => MASK,
            _ if !token.complete => MASK,
            Kind::Word
            | Kind::QuotedName
            | Kind::Space
            | Kind::Semicolon
            | Kind::Parameter
            | Kind::Operator => token.text,
        };
        // What a comment kept apart stays apart: two words would become one, and two `-` a comment.
        if std::mem::take(&mut after_comment)
            && !shown.ends_with(char::is_whitespace)
            && !piece.starts_with(char::is_whitespace)
        {
            shown.push(' ');
        }
        // `a--1` is a sum in `MySQL`, but a comment when nothing is left behind the dashes.
        if piece == "-" && shown.ends_with('-') {
            shown.push(' ');
        }
        shown.push_str(piece);
    }
    shown.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::Dialect::{MySql, Postgres, Redshift, Trino};
    use super::*;

    const ALL: [Dialect; 3] = [Postgres, Redshift, Trino];

    fn check(dialects: &[Dialect], table: &[(&str, &str)]) {
        for dialect in dialects {
            for (sql, expected) in table {
                assert_eq!(mask(sql, *dialect), *expected, "{sql} in {dialect:?}");
            }
        }
    }

    #[test]
    fn literals_become_question_marks_and_all_else_stays() {
        check(
            &ALL,
            &[
                ("", ""),
                ("  select 1 ;\n", "select ? ;"),
                ("select  a,\n\t\"b 1\" from t1", "select  a,\n\t\"b 1\" from t1"),
                ("where a = 'x' and b in (1, -2.5, +1e-3)", "where a = ? and b in (?, -?, +?)"),
                ("a is null or b = true or c = false", "a is null or b = true or c = false"),
                ("interval '5 days', date '2020-01-01'", "interval ?, date ?"),
                (r"U&'d\0061t' UESCAPE '!'", "? UESCAPE ?"),
                ("'a'\n'b'", "?\n?"),
                ("alter user a password 'x''y'", "alter user a password ?"),
                (
                    "a = $1 and b = ? and c = :name and d = '1'::int",
                    "a = $1 and b = ? and c = :name and d = ?::int",
                ),
                ("a[1:n]", "a[?:n]"),
                ("select $$it's$$, $a$ $$ $a$", "select ?, ?"),
            ],
        );
        check(
            &[Postgres, Redshift],
            &[("select E'a', b'1', X'1F', N'a', U&\"a\"", "select ?, ?, ?, ?, U&\"a\"")],
        );
        check(&[Postgres], &[(r"select E'it\'s', 'b'", "select ?, ?")]);
    }

    #[test]
    fn a_word_that_touches_a_literal_is_masked_with_it() {
        check(&ALL, &[("'1'x", "?"), ("'it's' a", "??"), ("'a'1", "??"), ("'a' x", "? x"), ("1x", "?")]);
    }

    #[test]
    fn comments_are_removed_and_keep_apart_what_they_kept_apart() {
        check(
            &ALL,
            &[
                ("select /*+ hint */ a -- 'x'\nfrom b", "select  a \nfrom b"),
                ("a/**/b", "a b"),
                ("a/**//**/b", "a b"),
                ("a--x\nb", "a\nb"),
                ("-/**/-a", "- -a"),
                ("'a'/**/b", "? b"),
                ("/* a */b/* c */", "b"),
                ("-- only", ""),
                ("a /* cut 'x", "a"),
            ],
        );
    }

    #[test]
    fn what_lost_its_end_is_masked() {
        check(
            &ALL,
            &[
                ("select 'a, b", "select ?"),
                ("select \"a, b", "select ?"),
                ("select $$a, b", "select ?"),
                ("select $a$a, b$a", "select ?"),
                ("select '", "select ?"),
                ("select X'1", "select ?"),
            ],
        );
    }

    #[test]
    fn a_backslash_before_a_quote_masks_the_rest() {
        check(
            &ALL,
            &[
                (r"select 'it\'s', secret", "select ?"),
                (r"select 'C:\', 'secret', 1", "select ?"),
                (r"select 'C:\\', 'secret', 1", "select ?"),
                (r"select 'C:\dir', a", "select ?, a"),
                (r#"select "a\", 'secret'"#, "select ?"),
            ],
        );
        check(&[Redshift], &[(r"select E'it\'s', a", "select ?")]);
    }

    #[test]
    fn mysql_is_masked_by_its_own_quotes_and_comments() {
        check(
            &[MySql],
            &[
                ("select `a 1` from `t`", "select `a 1` from `t`"),
                ("select \"it's\", 'a'", "select ?, ?"),
                (r"select 'it\'s', 'a'", "select ?, ?"),
                (r#"select "{\"a\": \"b\"}", c"#, "select ?, c"),
                (r"select 'C:\', 'secret'", "select ?"),
                ("select 1 # it's secret\nfrom t", "select ? \nfrom t"),
                ("select 1 -- it's secret\nfrom t", "select ? \nfrom t"),
                ("select a--1", "select a- -?"),
                ("a--#b", "a- -"),
                ("select /*! sql_no_cache */ a", "select  a"),
                ("select /*! '*/ secret' */ a", "select"),
                ("select _utf8'a', x'1F', 0x1F", "select _utf8?, ?, ?"),
                ("select \"cut", "select ?"),
            ],
        );
    }

    #[test]
    fn a_number_before_a_dollar_masks_the_rest() {
        check(&ALL, &[("select 1a$b$ 'x$b$ y secret'", "select ?")]);
    }

    #[test]
    fn what_cannot_be_read_is_not_shown_at_all() {
        for dialect in ALL {
            for sql in
                ["select \0", "'\u{1b}[31m'", "-- \u{85}", "a\u{c}b", "‘secret’", "a\u{a0}b", "\"\u{7f}\""]
            {
                assert_eq!(mask(sql, dialect), UNREAD, "{sql:?}");
            }
            assert_eq!(mask(UNREAD, dialect), UNREAD);
        }
    }
}
