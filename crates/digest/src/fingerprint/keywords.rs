//! The words of SQL that a fingerprint has to know.

use crate::eight;

/// Behind these a new expression, list or clause begins: a sign belongs to what follows it, and a parenthesis is set
/// apart. Sorted; lower case.
const KEYWORDS: [&str; 73] = [
    "all",
    "and",
    "any",
    "as",
    "asc",
    "between",
    "by",
    "case",
    "check",
    "collate",
    "cross",
    "default",
    "delete",
    "desc",
    "distinct",
    "div",
    "duplicate",
    "else",
    "end",
    "escape",
    "except",
    "exists",
    "explain",
    "for",
    "force",
    "from",
    "full",
    "group",
    "having",
    "ignore",
    "in",
    "inner",
    "insert",
    "intersect",
    "interval",
    "into",
    "is",
    "join",
    "key",
    "left",
    "like",
    "limit",
    "lock",
    "mod",
    "natural",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "outer",
    "over",
    "partition",
    "regexp",
    "replace",
    "return",
    "returning",
    "right",
    "rlike",
    "rows",
    "select",
    "set",
    "some",
    "table",
    "then",
    "union",
    "update",
    "using",
    "values",
    "when",
    "where",
    "xor",
];

/// Whether it is one of these, in any case.
pub(super) fn is_keyword(word: &[u8]) -> bool {
    let mut lower = [0_u8; 9];
    let Some(lower) = lower.get_mut(..word.len()) else { return false };
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    KEYWORDS.binary_search_by(|keyword| keyword.as_bytes().cmp(lower)).is_ok()
}

/// A word that is ASCII, without quotes around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    /// As it was written.
    pub(super) text: &'a [u8],
    /// Its first eight bytes, by [`eight::lower`].
    pub(super) head: u64,
}

impl<'a> Word<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, head: eight::lower(eight::load(text), text.len()) }
    }

    /// Whether it is this lower-case word of at most eight bytes, in any case.
    #[inline]
    pub(super) fn is(self, lower: &[u8]) -> bool {
        self.head == eight::lower(eight::load(lower), lower.len()) && self.text.len() == lower.len()
    }
}

/// Whether it is this lower-case word, in any case.
pub(super) fn is(word: &[u8], lower: &[u8]) -> bool {
    word.eq_ignore_ascii_case(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_sorted() {
        assert!(KEYWORDS.is_sorted());
    }

    #[test]
    fn a_word_is_found_in_any_case() {
        for word in ["and", "SELECT", "Xor", "returning", "duplicate"] {
            assert!(is_keyword(word.as_bytes()), "{word}");
        }
        for word in ["", "orders", "sel", "a_very_long_name_of_a_table"] {
            assert!(!is_keyword(word.as_bytes()), "{word}");
        }
    }
}
