//! What differs between statements that are otherwise the same, byte for byte: literals and comments.

use super::classes::{Class, class_of};
use super::pieces::{Piece, Pieces};

/// What may say something else in a statement that is the same otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hole {
    Number,
    /// Any number of them in an `IN (`.
    Numbers,
    /// A text in such quotes.
    Text(u8),
    Comment,
}

impl Pieces<'_> {
    /// Where literals and comments begin and end; `None`: some can not be told from what stands around them, or there are
    /// more than so many.
    pub(super) fn holes(mut self, most: usize) -> Option<Vec<(usize, usize, Hole)>> {
        let mut holes = Vec::new();
        // What came last, if it was the beginning of an `IN (`.
        let (mut in_word, mut in_list) = (false, false);
        while let Some(byte) = self.next_byte() {
            let mut start = self.at;
            let piece = match class_of(byte) {
                Class::Space => {
                    self.at += 1;
                    continue;
                }
                Class::Letter => self.word(),
                Class::Digit => Some(self.number(start)),
                Class::Quote => Some(self.quote(byte)),
                Class::Symbol => self.symbol(byte),
                Class::Wide => Some(self.wide_word(start)),
                Class::Unknown => return None,
            };
            if self.torn {
                return None;
            }
            let opened = std::mem::take(&mut in_list);
            let hole = match (piece, class_of(byte)) {
                (Some(Piece::Value), Class::Digit) if opened => {
                    let first_end = self.at;
                    self.pass_list();
                    // If more follows, it may belong to the last item.
                    if self.byte(self.at) == Some(b')') {
                        Hole::Numbers
                    } else {
                        self.at = first_end;
                        Hole::Number
                    }
                }
                (Some(Piece::Value), Class::Digit) => Hole::Number,
                (Some(Piece::Value), Class::Quote) if byte != b'`' => Hole::Text(byte),
                (Some(Piece::Value), Class::Letter) => {
                    start += 1;
                    // What is torn after its letter is a value too, up to the end.
                    Hole::Text(self.byte(start).filter(|byte| matches!(byte, b'\'' | b'"'))?)
                }
                (None, Class::Symbol) => Hole::Comment,
                (Some(Piece::Value), Class::Symbol) if byte == b'?' => continue,
                (Some(Piece::Value), _) => return None,
                (piece, _) => {
                    in_list = in_word && piece == Some(Piece::Symbol(b'('));
                    in_word = matches!(piece, Some(Piece::Word(word)) if word.is(b"in"));
                    continue;
                }
            };
            in_word = false;
            holes.push((start, self.at, hole));
            if self.torn || holes.len() > most {
                return None;
            }
        }
        Some(holes)
    }

    /// More numbers of a list.
    #[inline]
    fn pass_list(&mut self) {
        while let Some(next) = self.next_in_list() {
            self.number(next);
        }
    }

    /// Whether the text goes on like this; then it goes on behind it.
    #[inline]
    pub(super) fn passes(&mut self, text: &[u8]) -> bool {
        let passes = self.rest(self.at).starts_with(text);
        self.at += text.len();
        passes
    }

    /// Whether the text ends like this.
    #[inline]
    pub(super) fn ends_with(&self, text: &[u8]) -> bool {
        self.rest(self.at) == text
    }

    /// Whether there is such a hole, filled; then the text goes on behind it.
    #[inline]
    pub(super) fn fills(&mut self, hole: Hole) -> bool {
        let byte = self.byte(self.at);
        match (hole, byte) {
            (Hole::Number, Some(b'0'..=b'9')) => _ = self.number(self.at),
            (Hole::Numbers, Some(b'0'..=b'9')) => {
                self.number(self.at);
                self.pass_list();
            }
            (Hole::Text(quote), _) if byte == Some(quote) => _ = self.text(self.at, false),
            (Hole::Comment, Some(symbol @ (b'/' | b'-' | b'#'))) => {
                return self.symbol(symbol).is_none() && !self.torn;
            }
            _ => return false,
        }
        !self.torn
    }
}
