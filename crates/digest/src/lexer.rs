//! SQL text as tokens, read so that a literal is never taken for anything else.
//!
//! A lexer that falls out of step with the server shows literals as names. So wherever servers, their versions or their
//! settings differ in where a token ends, that token takes the whole rest of the text and is not `complete`.

use memchr::memchr_iter;

/// Whose SQL it is. All that depends on it stands in the `impl` below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `PostgreSQL` and what speaks like it.
    Postgres,
    /// Amazon Redshift.
    Redshift,
    /// Trino, which is Amazon Athena.
    Trino,
    /// `MySQL`, `MariaDB`, Percona Server and Amazon Aurora `MySQL`, without `ANSI_QUOTES`.
    MySql,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or a name without quotes.
    Word,
    /// A name in quotes.
    QuotedName,
    /// A literal text with all that belongs to it: `'a'`, `E'a'`, `U&'a'`, `$tag$a$tag$`.
    Text,
    /// A number, up to the last letter or digit that touches it.
    Number,
    /// `-- ...` without its line break, or `/* ... */`.
    Comment,
    /// Spaces, tabs and line breaks.
    Space,
    /// `;`
    Semicolon,
    /// `$1`, `?` or `:name`.
    Parameter,
    /// `::`, or any other single ASCII character.
    Operator,
    /// A character that cannot stand outside quotes.
    Unknown,
}

/// A piece of SQL text. All pieces in their order are the text, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// The piece; never empty.
    pub text: &'a str,
    /// `false`: the text ended before the token did, or where the token ends is in dispute. It is the last one then.
    pub complete: bool,
}

/// What a backslash does to the quote behind it.
#[derive(Clone, Copy, Debug)]
enum Backslash {
    /// It keeps the quote from ending the token, always.
    Escapes,
    /// It depends on the server. With escapes `'it\'s'` is one literal; without them, `'C:\', 'x'` are two: whichever
    /// is wrong shows the next literal. Nor does it help to count backslashes, as catalogs may have doubled them.
    Disputed,
    /// It escapes, unless the session has `NO_BACKSLASH_ESCAPES`, which no log tells. In `'it\'s'` the `s` says that it
    /// escapes, for a literal cannot end before an `s`. In `'C:\', 'x'` nothing does: a dispute.
    Doubted,
    /// It is a character like any other.
    Plain,
}

/// How a quoted token begins (its last character also ends it), what it is, and what a backslash does in it.
type Opening = (&'static str, Kind, Backslash);

const OF_POSTGRES: [Opening; 8] = [
    ("'", Kind::Text, Backslash::Disputed),
    ("\"", Kind::QuotedName, Backslash::Disputed),
    ("e'", Kind::Text, Backslash::Escapes),
    ("b'", Kind::Text, Backslash::Disputed),
    ("x'", Kind::Text, Backslash::Disputed),
    ("n'", Kind::Text, Backslash::Disputed),
    ("u&'", Kind::Text, Backslash::Disputed),
    ("u&\"", Kind::QuotedName, Backslash::Disputed),
];

/// Redshift comes from `PostgreSQL` 8.0, to which `E` was a word like any other.
const OF_REDSHIFT: [Opening; 8] = [
    ("'", Kind::Text, Backslash::Disputed),
    ("\"", Kind::QuotedName, Backslash::Disputed),
    ("e'", Kind::Text, Backslash::Disputed),
    ("b'", Kind::Text, Backslash::Disputed),
    ("x'", Kind::Text, Backslash::Disputed),
    ("n'", Kind::Text, Backslash::Disputed),
    ("u&'", Kind::Text, Backslash::Disputed),
    ("u&\"", Kind::QuotedName, Backslash::Disputed),
];

/// Trino has no escapes, but Athena hands its DDL to Hive, which has them, and backticks.
const OF_TRINO: [Opening; 5] = [
    ("'", Kind::Text, Backslash::Disputed),
    ("\"", Kind::QuotedName, Backslash::Disputed),
    ("`", Kind::QuotedName, Backslash::Disputed),
    ("x'", Kind::Text, Backslash::Disputed),
    ("u&'", Kind::Text, Backslash::Disputed),
];

/// Without `ANSI_QUOTES`, which hardly anybody sets, double quotes are around texts; with it, names are masked too.
const OF_MYSQL: [Opening; 6] = [
    ("'", Kind::Text, Backslash::Doubted),
    ("\"", Kind::Text, Backslash::Doubted),
    ("`", Kind::QuotedName, Backslash::Plain),
    ("b'", Kind::Text, Backslash::Doubted),
    ("x'", Kind::Text, Backslash::Doubted),
    ("n'", Kind::Text, Backslash::Doubted),
];

impl Dialect {
    fn openings(self) -> &'static [Opening] {
        match self {
            Self::Postgres => &OF_POSTGRES,
            Self::Redshift => &OF_REDSHIFT,
            Self::Trino => &OF_TRINO,
            Self::MySql => &OF_MYSQL,
        }
    }

    /// Whether a comment within a comment has to end too.
    pub(crate) fn nests_comments(self) -> bool {
        match self {
            Self::Postgres | Self::Redshift => true,
            Self::Trino | Self::MySql => false,
        }
    }

    /// Whether `$` opens a text or a parameter; else it is a letter.
    pub(crate) fn quotes_by_dollar(self) -> bool {
        match self {
            Self::Postgres | Self::Redshift | Self::Trino => true,
            Self::MySql => false,
        }
    }

    /// Whether two dashes begin a comment. `MySQL` wants a space behind them, so that `a--1` stays a sum.
    pub(crate) fn dashes_comment(self, behind: Option<u8>) -> bool {
        match self {
            Self::Postgres | Self::Redshift | Self::Trino => true,
            Self::MySql => behind.is_none_or(|byte| byte <= b' ' || byte == 0x7f),
        }
    }

    /// Whether `#` begins a comment.
    pub(crate) fn hash_comments(self) -> bool {
        match self {
            Self::Postgres | Self::Redshift | Self::Trino => false,
            Self::MySql => true,
        }
    }

    /// Whether a server reads what stands in such a comment: `/*! ... */`, `/*M! ... */` and hints in `/*+ ... */`.
    pub(crate) fn runs_comment(self, comment: &[u8]) -> bool {
        match self {
            Self::Postgres | Self::Redshift | Self::Trino => false,
            Self::MySql => {
                [b"/*!".as_slice(), b"/*M!", b"/*+"].iter().any(|start| comment.starts_with(start))
            }
        }
    }
}

/// Whether a literal may end before this byte; `None` is the end of the text.
pub(crate) fn may_follow_text(byte: Option<u8>) -> bool {
    byte.is_none_or(|byte| byte.is_ascii_whitespace() || b",);=<>+-*/|&!%^]:@#'\"`".contains(&byte))
}

/// Whether a comment whose content a server reads may end elsewhere than at its first `*/`: that one may be quoted, or
/// end a comment in the comment.
pub(crate) fn comment_end_is_disputed(content: &[u8]) -> bool {
    [b'\'', b'"', b'`'].iter().any(|quote| memchr_iter(*quote, content).count() % 2 == 1)
        || content.iter().any(|byte| matches!(byte, b'\\' | b'#'))
        || content.windows(2).any(|pair| pair == b"/*" || pair == b"--")
}

/// Cuts a text into its tokens. The time it takes grows with the length of the text only, whatever stands in it.
pub fn tokens(sql: &str, dialect: Dialect) -> impl Iterator<Item = Token<'_>> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        let (kind, length) = first(rest, dialect)?;
        let (text, after) = length.and_then(|length| rest.split_at_checked(length)).unwrap_or((rest, ""));
        rest = after;
        Some(Token { kind, text, complete: length.is_some() })
    })
}

/// Kind and length of the first token; no length: it is the whole rest and not complete.
fn first(rest: &str, dialect: Dialect) -> Option<(Kind, Option<usize>)> {
    let opens = |(opening, ..): &&Opening| {
        rest.get(..opening.len()).is_some_and(|start| start.eq_ignore_ascii_case(opening))
    };
    if let Some((opening, kind, backslash)) = dialect.openings().iter().find(opens) {
        return Some((*kind, quoted(rest, opening, *backslash)));
    }
    let mut chars = rest.chars();
    let first = chars.next()?;
    let second = chars.next().unwrap_or(' ');
    Some(match first {
        ' ' | '\t' | '\n' | '\r' => {
            (Kind::Space, Some(span(rest, |c| matches!(c, ' ' | '\t' | '\n' | '\r'))))
        }
        ';' => (Kind::Semicolon, Some(1)),
        '-' if second == '-' && dialect.dashes_comment(rest.as_bytes().get(2).copied()) => {
            (Kind::Comment, Some(line_comment(rest, dialect)))
        }
        '#' if dialect.hash_comments() => (Kind::Comment, Some(line_comment(rest, dialect))),
        '/' if second == '*' => (Kind::Comment, block_comment(rest, dialect)),
        '$' if dialect.quotes_by_dollar() => dollar(rest),
        '$' => (Kind::Word, Some(span(rest, in_word))),
        '?' => (Kind::Parameter, Some(1)),
        ':' if second == ':' => (Kind::Operator, Some(2)),
        ':' if begins_word(second) => (Kind::Parameter, Some(span(rest, in_word))),
        '.' if second.is_numeric() => (Kind::Number, number(rest)),
        _ if first.is_numeric() => (Kind::Number, number(rest)),
        _ if begins_word(first) => (Kind::Word, Some(span(rest, in_word))),
        _ if first.is_ascii_graphic() => (Kind::Operator, Some(1)),
        _ => (Kind::Unknown, Some(first.len_utf8())),
    })
}

/// The end of a quoted token: a quote that is not doubled.
fn quoted(rest: &str, opening: &str, backslash: Backslash) -> Option<usize> {
    let quote = opening.bytes().last()?;
    let mut escapes = false;
    let mut bytes = rest.bytes().enumerate().skip(opening.len()).peekable();
    while let Some((at, byte)) = bytes.next() {
        let before_quote = bytes.peek().is_some_and(|(_, next)| *next == quote);
        match (byte, backslash) {
            (b'\\', Backslash::Escapes) => _ = bytes.next(),
            (b'\\', Backslash::Disputed) if before_quote => return None,
            (b'\\', Backslash::Doubted) => {
                if before_quote && !escapes && may_follow_text(rest.as_bytes().get(at + 2).copied()) {
                    return None;
                }
                escapes |= before_quote;
                _ = bytes.next();
            }
            _ if byte == quote && before_quote => _ = bytes.next(),
            _ if byte == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// A `MySQL` server goes on over a lone `\r`; the others end there.
fn line_comment(rest: &str, dialect: Dialect) -> usize {
    span(rest, |c| c != '\n' && (c != '\r' || dialect == Dialect::MySql))
}

fn block_comment(rest: &str, dialect: Dialect) -> Option<usize> {
    let length = block_comment_end(rest, dialect.nests_comments())?;
    let comment = rest.as_bytes().get(..length)?;
    let content = comment.get(2..length.saturating_sub(2))?;
    (!dialect.runs_comment(comment) || !comment_end_is_disputed(content)).then_some(length)
}

fn block_comment_end(rest: &str, nests: bool) -> Option<usize> {
    let mut depth = 0_usize;
    let mut bytes = rest.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'/', Some((_, b'*'))) if nests || depth == 0 => {
                bytes.next();
                depth += 1;
            }
            (b'*', Some((_, b'/'))) if depth == 1 => return Some(at + 2),
            (b'*', Some((_, b'/'))) => {
                bytes.next();
                depth -= 1;
            }
            _ => {}
        }
    }
    None
}

/// `$1`, `$$ ... $$`, `$tag$ ... $tag$`, or a lone `$`. Trino has `$$` too, around the bodies of functions.
fn dollar(rest: &str) -> (Kind, Option<usize>) {
    let digits = span(rest, |c| c.is_ascii_digit());
    if digits > 1 {
        return (Kind::Parameter, Some(digits));
    }
    let tag = span(rest, |c| c != '$' && in_word(c));
    match rest.split_at_checked(tag + 1) {
        // If it has no end, the search went through the whole rest, but then the rest is one token: no second search.
        Some((delimiter, body)) if delimiter.ends_with('$') => {
            (Kind::Text, body.find(delimiter).map(|at| at + 2 * delimiter.len()))
        }
        _ => (Kind::Operator, Some(1)),
    }
}

/// Numbers have many spellings and versions differ in what is one (`1_000`, `0x1F`, `1.e5`): all that could belong to it
/// does. With a `$` behind it, old servers begin a name or a dollar quote, and newer ones refuse: a dispute.
fn number(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = chars.next() {
        let sign = matches!(c, '+' | '-')
            && matches!(before, 'e' | 'E')
            && chars.peek().is_some_and(|(_, next)| next.is_ascii_digit());
        match c {
            '$' => return None,
            _ if sign || c == '.' || in_word(c) => before = c,
            _ => return Some(at),
        }
    }
    Some(rest.len())
}

/// Length of the first character and of all that belong to it behind it.
fn span(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.char_indices().skip(1).find(|(_, c)| !belongs(*c)).map_or(rest.len(), |(at, _)| at)
}

fn begins_word(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

/// A word may hold a `$`, so `a$b$c` has no dollar quote in it.
fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::Dialect::{MySql, Postgres, Redshift, Trino};
    use super::Kind::{
        Comment, Number, Operator, Parameter, QuotedName, Semicolon, Space, Text, Unknown, Word,
    };
    use super::*;

    const ALL: [Dialect; 3] = [Postgres, Redshift, Trino];

    fn kinds(sql: &str, dialect: Dialect) -> Vec<(Kind, &str)> {
        tokens(sql, dialect).map(|token| (token.kind, token.text)).collect()
    }

    /// The text is one token and has its end.
    fn whole(sql: &str, dialect: Dialect, kind: Kind) {
        let found: Vec<Token<'_>> = tokens(sql, dialect).collect();
        assert_eq!(found, [Token { kind, text: sql, complete: true }], "{sql} in {dialect:?}");
    }

    /// The text is one token without an end.
    fn endless(sql: &str, dialect: Dialect, kind: Kind) {
        let found: Vec<Token<'_>> = tokens(sql, dialect).collect();
        assert_eq!(found, [Token { kind, text: sql, complete: false }], "{sql} in {dialect:?}");
    }

    #[test]
    fn a_statement_is_cut_into_its_tokens() {
        let expected = [
            (Word, "select"),
            (Space, " "),
            (Word, "a"),
            (Operator, "."),
            (QuotedName, "\"b\"\"c\""),
            (Operator, "::"),
            (Word, "text"),
            (Operator, ","),
            (Operator, "-"),
            (Number, "1.5"),
            (Space, "\n\t"),
            (Comment, "-- it's; mine"),
            (Space, "\r\n"),
            (Word, "where"),
            (Space, " "),
            (Word, "x"),
            (Operator, "="),
            (Text, "'a''b'"),
            (Semicolon, ";"),
        ];
        let sql = "select a.\"b\"\"c\"::text,-1.5\n\t-- it's; mine\r\nwhere x='a''b';";
        for dialect in ALL {
            assert_eq!(kinds(sql, dialect), expected);
        }
    }

    #[test]
    fn a_quoted_token_with_its_prefix_is_one() {
        for text in
            ["''", "''''", "'a;b'", "'--'", "'/*'", "'a\nb'", "'é’😀'", "'C:\\dir'", "X'1F'", "u&'d\\0061'"]
        {
            for dialect in ALL {
                whole(text, dialect, Text);
            }
        }
        for dialect in ALL {
            whole("\"it's\"\"; $$\"", dialect, QuotedName);
        }
        for dialect in [Postgres, Redshift] {
            for text in ["E'a\\n'", "b'01'", "N'a'"] {
                whole(text, dialect, Text);
            }
            whole("U&\"d\\0061t\"", dialect, QuotedName);
        }
        whole("`it's`", Trino, QuotedName);
        assert_eq!(kinds("E'a'", Trino), [(Word, "E"), (Text, "'a'")]);
        assert_eq!(kinds("some'a'", Postgres), [(Word, "some"), (Text, "'a'")]);
        assert_eq!(kinds("`", Postgres), [(Operator, "`")]);
    }

    #[test]
    fn an_escape_string_of_postgres_ends_where_the_server_ends_it() {
        whole(r"E'it\'s'", Postgres, Text);
        whole(r"e'\\'", Postgres, Text);
        whole(r"e'a''\''", Postgres, Text);
        endless(r"E'it\'", Postgres, Text);
        assert_eq!(kinds(r"E'\\'a", Postgres), [(Text, r"E'\\'"), (Word, "a")]);
    }

    #[test]
    fn a_backslash_before_a_quote_takes_the_rest() {
        for dialect in ALL {
            for text in [r"'it\'s'", r"'C:\', 'x'", r"'C:\\', 'x'", r"'''\'", r"x'\'", r"'a\''b'"] {
                endless(text, dialect, Text);
            }
            endless(r#""a\" , b"#, dialect, QuotedName);
        }
        endless(r"E'it\'s'", Redshift, Text);
        assert_eq!(kinds(r"1e'a\'b'", Postgres), [(Number, "1e"), (Text, r"'a\'b'")]);
    }

    #[test]
    fn a_text_that_was_cut_ends_in_one_token() {
        for dialect in ALL {
            for text in ["'a", "'a''", "'a; select 1 -- x\n", "X'1", "$$a$", "$a$ b $a"] {
                endless(text, dialect, Text);
            }
            endless("\"a", dialect, QuotedName);
            endless("/* a *", dialect, Comment);
        }
    }

    #[test]
    fn a_dollar_quoted_text_is_one_literal() {
        for dialect in ALL {
            for text in ["$$$$", "$$it's$$", "$$a$b$$", "$_a1$ $$ $a$ $_a1$", "$é$a$é$", "$a$$a$"] {
                whole(text, dialect, Text);
            }
        }
        assert_eq!(kinds("$$a$$$", Postgres), [(Text, "$$a$$"), (Operator, "$")]);
        endless("$A$ x $a$", Postgres, Text);
    }

    #[test]
    fn a_dollar_within_a_word_or_before_a_number_opens_nothing() {
        whole("a$b$c", Postgres, Word);
        whole("$1", Postgres, Parameter);
        assert_eq!(kinds("$1$a$b$a$", Postgres), [(Parameter, "$1"), (Text, "$a$b$a$")]);
        assert_eq!(kinds("$a 1", Postgres), [(Operator, "$"), (Word, "a"), (Space, " "), (Number, "1")]);
    }

    #[test]
    fn a_number_goes_on_to_its_last_letter() {
        let numbers = [
            "1", "1.5", ".5", "1.", "1e-3", "1E+3", "0x1F", "0b1", "1_000", "1abc", "1.5e3é", "1..2", "١٢",
            "²",
        ];
        for dialect in ALL {
            for number in numbers {
                whole(number, dialect, Number);
            }
        }
        assert_eq!(kinds("1-2", Postgres), [(Number, "1"), (Operator, "-"), (Number, "2")]);
        assert_eq!(kinds("1e--3", Postgres), [(Number, "1e"), (Comment, "--3")]);
        assert_eq!(kinds("a1", Postgres), [(Word, "a1")]);
        endless("1a$b$ 'c$b$d'", Postgres, Number);
    }

    #[test]
    fn comments_nest_but_not_in_trino() {
        for dialect in [Postgres, Redshift] {
            whole("/* a /* b */ ' */", dialect, Comment);
            whole("/*/**/*/", dialect, Comment);
            endless("/*/* */", dialect, Comment);
        }
        assert_eq!(kinds("/* /* */a", Trino), [(Comment, "/* /* */"), (Word, "a")]);
        for dialect in ALL {
            whole("/***/", dialect, Comment);
            whole("--", dialect, Comment);
            endless("/*/", dialect, Comment);
            assert_eq!(kinds("a*/**/", dialect), [(Word, "a"), (Operator, "*"), (Comment, "/**/")]);
        }
    }

    #[test]
    fn a_cast_is_no_parameter() {
        whole(":name", Postgres, Parameter);
        whole("?", Trino, Parameter);
        assert_eq!(kinds("a::b", Postgres), [(Word, "a"), (Operator, "::"), (Word, "b")]);
        assert_eq!(kinds("1:2", Postgres), [(Number, "1"), (Operator, ":"), (Number, "2")]);
        assert_eq!(kinds(":=", Postgres), [(Operator, ":"), (Operator, "=")]);
    }

    #[test]
    fn mysql_has_texts_in_double_quotes_and_names_in_backticks() {
        for text in
            ["'a'", "\"it's\"", "\"a\"\"b\"", "x'1F'", "N'a'", "'it''s'", r"'a\\'", r"'it\'s'", r"'\n'"]
        {
            whole(text, MySql, Text);
        }
        whole("`it's \\`", MySql, QuotedName);
        whole("`a``b`", MySql, QuotedName);
        whole("$a$b", MySql, Word);
        endless("`a", MySql, QuotedName);
        endless(r"'it\'", MySql, Text);
        whole(r"'say \'a\' b'", MySql, Text);
    }

    #[test]
    fn mysql_ends_a_text_in_dispute_when_nothing_says_that_the_backslash_escapes() {
        for text in [r"'C:\', 'x'", r#""C:\", "x""#, r"'the dogs\' bone'", r"x'\' "] {
            endless(text, MySql, Text);
        }
    }

    #[test]
    fn mysql_has_three_comments_and_a_dispute_within_those_it_runs() {
        for comment in
            ["# it's", "-- it's", "--\ta", "--", "/* it's */", "/*! straight_join */", "/*+ a('b') */"]
        {
            whole(comment, MySql, Comment);
        }
        for comment in ["/*! '*/ a' */", "/*+ \" */ ", "/*M! /* */ a */", "/*!1 -- */"] {
            endless(comment, MySql, Comment);
        }
        assert_eq!(kinds("a--1", MySql), [(Word, "a"), (Operator, "-"), (Operator, "-"), (Number, "1")]);
        assert_eq!(kinds("# a\nb", MySql), [(Comment, "# a"), (Space, "\n"), (Word, "b")]);
    }

    #[test]
    fn letters_of_all_languages_make_words_and_other_characters_are_unknown() {
        for dialect in ALL {
            whole("größe_2", dialect, Word);
            whole("表", dialect, Word);
            for unknown in ["\0", "\u{b}", "\u{7f}", "\u{a0}", "\u{2028}", "’", "😀"] {
                whole(unknown, dialect, Unknown);
            }
        }
    }
}
