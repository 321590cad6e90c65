//! Statements that were seen before, but for what their literals say: their fingerprint is known without reading them
//! word by word.
//!
//! A program sends the same few statements again and again. A template is the text of one between its literals and
//! comments. Where a statement has that text, its pieces are those of the template, as long as the same lexer reads each
//! literal and comment at its place, and its end is where the text goes on: so is the fingerprint. What a literal said
//! is not kept.

use super::holes::Hole;
use super::pieces::Pieces;
use crate::eight;
use crate::lexer::Dialect;

/// So many templates are kept; then one gives way to the next. Each one that begins like a statement is compared with it.
const MOST: usize = 64;

/// A statement with more text between its literals, or more literals, is no template.
const LONGEST: usize = 4096;
const MOST_HOLES: usize = 64;

/// So many fingerprints are remembered, in order that a statement becomes a template only when it comes again.
const SEEN: usize = 512;

/// In so many places each of them may be.
const PLACES: usize = 8;

/// The templates of one `MySQL` log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Templates {
    known: Vec<Template>,
    /// The first bytes of each of them.
    heads: Vec<Head>,
    /// Which one gives way next.
    next: usize,
    seen: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    bytes: u128,
    /// Which of the bytes count.
    mask: u128,
}

#[derive(Clone, Debug)]
struct Template {
    fingerprint: u64,
    text: Vec<u8>,
    /// How much text stands before each literal or comment.
    parts: Vec<(usize, Hole)>,
}

impl Templates {
    /// The same as [`super::scan`].
    #[inline]
    pub(crate) fn scan(&mut self, sql: &[u8]) -> (u64, bool) {
        // Commands that are no SQL look like comments.
        if sql.starts_with(b"#") {
            return super::scan(sql, Dialect::MySql);
        }
        match self.find(sql) {
            Some(fingerprint) => (fingerprint, true),
            None => self.read(sql),
        }
    }

    fn find(&self, sql: &[u8]) -> Option<u64> {
        let first = first_bytes(sql);
        let mut both = self.heads.iter().zip(&self.known);
        both.find(|(head, template)| first & head.mask == head.bytes && template.fits(sql))
            .map(|(_, template)| template.fingerprint)
    }

    #[inline(never)]
    fn read(&mut self, sql: &[u8]) -> (u64, bool) {
        let (fingerprint, whole) = super::scan(sql, Dialect::MySql);
        if whole && self.came_again(fingerprint) {
            self.keep(sql, fingerprint);
        }
        (fingerprint, whole)
    }

    fn came_again(&mut self, fingerprint: u64) -> bool {
        self.seen.resize(SEEN, 0);
        // They are looked for in a few places only; the oldest of them is forgotten.
        let sets = (SEEN / PLACES) as u64;
        let set = usize::try_from(fingerprint % sets).unwrap_or_default();
        let Some(set) = self.seen.chunks_exact_mut(PLACES).nth(set) else { return false };
        let came = set.contains(&fingerprint);
        set.rotate_right(1);
        if let Some(first) = set.first_mut() {
            *first = fingerprint;
        }
        came
    }

    fn keep(&mut self, sql: &[u8], fingerprint: u64) {
        let Some(template) = Template::new(sql, fingerprint) else { return };
        let head = template.head();
        if let (Some(old), Some(old_head)) = (self.known.get_mut(self.next), self.heads.get_mut(self.next)) {
            (*old, *old_head) = (template, head);
        } else {
            self.known.push(template);
            self.heads.push(head);
        }
        self.next = (self.next + 1) % MOST;
    }
}

impl Template {
    /// `None`: there is something in it that is read in its place only.
    fn new(sql: &[u8], fingerprint: u64) -> Option<Self> {
        let (mut text, mut parts, mut at) = (Vec::new(), Vec::new(), 0);
        for (from, to, hole) in Pieces::new(sql, Dialect::MySql).holes(MOST_HOLES)? {
            let between = sql.get(at..from)?;
            text.extend_from_slice(between);
            parts.push((between.len(), hole));
            at = to;
        }
        text.extend_from_slice(sql.get(at..)?);
        (text.len() <= LONGEST).then_some(Self { fingerprint, text, parts })
    }

    fn head(&self) -> Head {
        let length = self.parts.first().map_or(self.text.len(), |(length, _)| *length);
        let unused = 128 - 8 * length.min(16);
        let mask = u128::MAX.checked_shr(u32::try_from(unused).unwrap_or(128)).unwrap_or(0);
        Head { bytes: first_bytes(&self.text) & mask, mask }
    }

    fn fits(&self, sql: &[u8]) -> bool {
        let mut pieces = Pieces::new(sql, Dialect::MySql);
        let mut text = self.text.as_slice();
        for (length, hole) in &self.parts {
            let Some((before, behind)) = text.split_at_checked(*length) else { return false };
            text = behind;
            if !(pieces.passes(before) && pieces.fills(*hole)) {
                return false;
            }
        }
        pieces.ends_with(text)
    }
}

fn first_bytes(text: &[u8]) -> u128 {
    u128::from(eight::at(text, 0)) | (u128::from(eight::at(text, 8)) << 64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::fingerprint;

    /// What stands between literals, and literals.
    const TEXTS: [&str; 28] = [
        " ",
        " ",
        "in (",
        " in (",
        ", ",
        ",",
        ")",
        "+",
        "-",
        "and",
        " values (",
        "row",
        "_utf8",
        "`a`",
        "a",
        "é",
        "x",
        "$",
        ".",
        "/",
        "*",
        "\n",
        "asc",
        ";",
        "?",
        "\\",
        "= ",
        "array[",
    ];
    const HOLES: [&str; 18] = [
        "1", "1.5", "0x1e", "1e5", "1e", "1, 2, 3", "7,8", "'a'", "''", "'it''s'", r"'it\'s'", r"'\\'",
        r"'\'", "\"a\"", "/* a */", "/*! ' */", "-- a\n", "# a\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn what_fits_has_the_fingerprint_of_the_template(
            parts in prop::collection::vec((select(&TEXTS[..]), select(&HOLES[..]), select(&HOLES[..]), any::<bool>()), 0..6),
        ) {
            let write = |other: bool| {
                let parts = parts.iter().map(|(text, a, b, same)| format!("{text}{}", if *same || !other { a } else { b }));
                parts.collect::<String>()
            };
            fits(&write(false), &write(true));
        }
    }

    /// Whether the second is read by the template of the first.
    fn fits(known: &str, sql: &str) -> bool {
        let template = Template::new(known.as_bytes(), 0);
        let fits = template.is_some_and(|template| template.fits(sql.as_bytes()));
        if fits {
            assert_eq!(
                super::super::scan(known.as_bytes(), Dialect::MySql),
                super::super::scan(sql.as_bytes(), Dialect::MySql),
                "{known} and {sql}"
            );
        }
        fits
    }

    #[test]
    fn a_statement_fits_whatever_its_literals_say() {
        for (known, sql) in [
            ("select a from t where b = 1", "select a from t where b = 1.5e3"),
            ("select 'a', \"b\", x'1f'", r#"select 'it''s', "a\"b", x''"#),
            ("/* 1 */ select 1 -- a\n+ 2 # b\n+ 3", "/* it's */ select 0 -- 'b\n+ 1 # \n+ 1"),
            ("a in (1) and b", "a in (1, 2,3) and b"),
            ("a in (1, 2) and b", "a in (1) and b"),
            ("insert into t values (1, 'a')", "insert into t values (2, '')"),
        ] {
            assert!(fits(known, sql) && fits(known, known), "{known} and {sql}");
        }
    }

    #[test]
    fn a_statement_does_not_fit_when_anything_else_differs() {
        for (known, sql) in [
            ("select 1", "select 1 "),
            ("select 1", "select 1, 2"),
            ("select 1 + 1", "select 1 + 'a'"),
            ("select 1 + 1", "select 1 + -1"),
            ("select 'a'", "select \"a\""),
            ("select 'a'", "select 'a''"),
            ("select 'a' and", "select 'a'a"),
            ("select 'a', 'b'", r"select 'a\', 'b'"),
            ("select f(1) ", "select f(1, 2) "),
            ("a in (1::int)", "a in (1, 2::int)"),
            ("select 1 /* a */", "select 1 /* a"),
            ("select /* a */ 1", "select /*! ' */ 1"),
        ] {
            assert!(!fits(known, sql), "{known} and {sql}");
        }
    }

    #[test]
    fn what_a_literal_says_is_not_kept() {
        let mut templates = Templates::default();
        for statement in ["select 'secret', 5 /* secret */ -- secret", "select b'secret' # secret"] {
            for _ in 0..3 {
                templates.scan(statement.as_bytes());
            }
        }
        assert_eq!(templates.known.len(), 2);
        for template in &templates.known {
            assert!(!String::from_utf8_lossy(&template.text).contains("secret"));
        }
    }

    #[test]
    fn a_command_is_not_taken_for_a_comment() {
        let mut templates = Templates::default();
        for statement in
            ["/* a */", "# administrator command: Quit", "# administrator command: Ping"].repeat(3)
        {
            let expected = super::super::scan(statement.as_bytes(), Dialect::MySql);
            assert_eq!(templates.scan(statement.as_bytes()), expected, "{statement}");
        }
    }

    #[test]
    fn a_statement_is_kept_once_however_many_begin_like_it() {
        let mut templates = Templates::default();
        for id in 0..1000 {
            templates.scan(format!("select a from a_table_{} where b = {id}", id % 40).as_bytes());
        }
        assert_eq!(templates.known.len(), 40);
    }

    #[test]
    fn templates_give_way_to_others() {
        let mut templates = Templates::default();
        for _ in 0..2 {
            for at in 0..3 * MOST {
                let sql = format!("select {} from t", "a".repeat(at + 1));
                for _ in 0..3 {
                    assert_eq!(templates.scan(sql.as_bytes()).0, fingerprint(sql.as_bytes(), Dialect::MySql));
                }
            }
        }
        assert_eq!((templates.known.len(), templates.heads.len()), (MOST, MOST));
    }
}
