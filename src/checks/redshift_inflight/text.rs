//! A statement's text, put together from the fragments that Redshift keeps it in.

use crate::check::{Problem, Reason};
use crate::net::table::{Row, Table};
use digest::{Dialect, mask};
use std::collections::BTreeMap;

/// Stands behind a text of which a fragment was not there.
const MISSING: &str = " /* parts of this text were not there */";

/// The fragments of the texts of some queries.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    /// By query, then by sequence. One sequence that is there more than once, as on several slices, is the same each time.
    of: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    /// Fragments are padded with blanks to so many bytes.
    width: usize,
}

/// What a fragment looks like in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// As text.
    Plain,
    /// As bytes in hexadecimal: a character that was cut between two fragments is no text.
    Hexadecimal,
}

impl Fragments {
    /// Reads rows with `query_id`, `sequence` and `text`.
    ///
    /// # Errors
    /// `decode` when a fragment is not readable in this form.
    pub(super) fn read(table: &Table, width: usize, written: Written) -> Result<Self, Problem> {
        let mut fragments = Self { of: BTreeMap::new(), width };
        for row in table.rows() {
            fragments.add(&row, written)?;
        }
        Ok(fragments)
    }

    fn add(&mut self, row: &Row<'_>, written: Written) -> Result<(), Problem> {
        let (Some(query), Some(sequence)) = (row.text("query_id")?, row.text("sequence")?) else {
            return Ok(());
        };
        let sequence = sequence.trim().parse().map_err(|error| {
            Problem::new(Reason::Decode, "the sequence of a fragment is not a number").because(error)
        })?;
        let Some(text) = row.text("text")? else { return Ok(()) };
        let bytes = match written {
            Written::Plain => text.as_bytes().to_vec(),
            Written::Hexadecimal => bytes(text).ok_or_else(|| {
                Problem::new(Reason::Decode, "a fragment of a text is not written in hexadecimal")
            })?,
        };
        self.of.entry(query.to_owned()).or_default().insert(sequence, bytes);
        Ok(())
    }

    /// The text of a query; `None` without fragments. Blanks at the end of a fragment belong to the text, also where the server left
    /// them out; only those of the last one are padding. Line breaks are kept as the two characters `\n`.
    pub(super) fn text(&self, query: &str) -> Option<String> {
        let fragments = self.of.get(query)?;
        let mut bytes = Vec::with_capacity(fragments.len() * self.width);
        // Counted from the smallest: the views begin at 0, older ones at 1.
        let first = fragments.keys().next().copied().unwrap_or_default();
        let mut missing = false;
        for (at, (sequence, fragment)) in fragments.iter().enumerate() {
            missing |= *sequence as usize != first as usize + at;
            bytes.extend_from_slice(fragment);
            if at + 1 < fragments.len() {
                let trimmed = self.width.saturating_sub(fragment.len());
                bytes.resize(bytes.len() + trimmed, b' ');
            }
        }
        let text = String::from_utf8_lossy(&bytes).trim_end_matches(' ').replace("\\n", "\n");
        let mark = if missing || first > 1 { MISSING } else { "" };
        Some(text + mark)
    }
}

/// A text without its literals and comments; but that parts of it are missing is still told.
pub(super) fn masked(text: &str) -> String {
    match text.strip_suffix(MISSING) {
        Some(text) => mask(text, Dialect::Redshift) + MISSING,
        None => mask(text, Dialect::Redshift),
    }
}

/// `68656c6c6f` or `\x68656c6c6f`.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x").unwrap_or(text).trim_end();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.as_bytes().chunks(2).map(pair).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragments(width: usize, rows: &[(&str, &str, &str)]) -> Fragments {
        let rows: Vec<Vec<Option<&str>>> =
            rows.iter().map(|(a, b, c)| vec![Some(*a), Some(*b), Some(*c)]).collect();
        let rows: Vec<&[Option<&str>]> = rows.iter().map(Vec::as_slice).collect();
        Fragments::read(&Table::of(&["query_id", "sequence", "text"], &rows), width, Written::Plain).unwrap()
    }

    #[test]
    fn fragments_in_any_order_and_from_several_slices_become_one_text() {
        let found = fragments(
            4,
            &[("7", "1", "t 1 "), ("7", "0", "sel"), ("7", "2", "  "), ("7", "1", "t 1 "), ("8", "0", "x")],
        );
        assert_eq!(found.text("7").as_deref(), Some("sel t 1"));
        assert_eq!(found.text("8").as_deref(), Some("x"));
        assert_eq!(found.text("9"), None);
    }

    #[test]
    fn blanks_between_fragments_stay_even_where_the_server_trimmed_them() {
        let text = "select a,    b";
        for trimmed in [false, true] {
            let part = |at: usize| {
                let part = text.get(at * 6..((at + 1) * 6).min(text.len())).unwrap();
                if trimmed { part.trim_end() } else { part }
            };
            let found = fragments(6, &[("1", "2", part(2)), ("1", "0", part(0)), ("1", "1", part(1))]);
            assert_eq!(found.text("1").as_deref(), Some(text), "trimmed: {trimmed}");
        }
    }

    #[test]
    fn a_character_cut_between_two_fragments_is_whole_again() {
        let text = "select 'é€'";
        let hexadecimal: Vec<String> = text
            .as_bytes()
            .chunks(9)
            .map(|part| part.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
            .collect();
        let rows: Vec<[Option<&str>; 3]> = hexadecimal
            .iter()
            .zip(["0", "1"])
            .map(|(text, at)| [Some("1"), Some(at), Some(text.as_str())])
            .collect();
        let rows: Vec<&[Option<&str>]> = rows.iter().map(<[_; 3]>::as_slice).collect();
        let table = Table::of(&["query_id", "sequence", "text"], &rows);
        let found = Fragments::read(&table, 9, Written::Hexadecimal).unwrap();
        assert_eq!(found.text("1").as_deref(), Some(text));
    }

    #[test]
    fn a_missing_fragment_is_told() {
        let found = fragments(2, &[("1", "0", "ab"), ("1", "2", "cd")]);
        assert!(found.text("1").unwrap().contains("were not there"));
    }

    #[test]
    fn line_breaks_are_shown_as_such() {
        assert_eq!(fragments(9, &[("1", "0", "a\\nb")]).text("1").as_deref(), Some("a\nb"));
    }
}
