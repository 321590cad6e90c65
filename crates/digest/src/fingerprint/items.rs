//! Items of a list that are more than literals, such as `'a'::text` or `lower('a')`: one of a kind is kept.

use super::keywords::{is, is_keyword};
use super::pieces::Piece;

/// A longer item, in pieces, is none: it is told as it comes.
const LONGEST: usize = 64;

/// So many kinds are known again.
const MOST_KINDS: usize = 8;

/// What begins a statement, a list or rows in the list: an item with them is told as it comes.
const APART: [&[u8]; 6] = [b"select", b"with", b"in", b"array", b"values", b"value"];

/// The items of one list so far.
#[derive(Default)]
pub(super) struct Items<'a> {
    /// All kinds of items that were told.
    kinds: Vec<Vec<Piece<'a>>>,
    /// The item that is being read, without signs of numbers and the like.
    item: Vec<Piece<'a>>,
    /// So many parentheses of it are open.
    depth: usize,
    /// Its last piece is a sign of what follows.
    signed: bool,
}

impl<'a> Items<'a> {
    /// Whether such a piece may stand in an item.
    pub(super) fn may_hold(piece: Piece<'_>) -> bool {
        match piece {
            Piece::Word(word) => !APART.iter().any(|apart| is(word.text, apart)),
            Piece::Symbol(symbol) => symbol != b';',
            Piece::WideWord(_) | Piece::Name(_) | Piece::Value => true,
        }
    }

    /// Whether this piece ends the item.
    pub(super) fn ends_before(&self, piece: Piece<'_>) -> bool {
        self.depth == 0 && matches!(piece, Piece::Symbol(b',' | b')' | b']'))
    }

    /// Adds a piece to the item; `false`: it is too long for one.
    pub(super) fn push(&mut self, piece: Piece<'a>) -> bool {
        match piece {
            Piece::Symbol(b'(' | b'[') => self.depth += 1,
            Piece::Symbol(b')' | b']') => self.depth = self.depth.saturating_sub(1),
            Piece::Symbol(b'+' | b'-') if self.expects_operand() => {
                if !self.signed {
                    self.item.push(piece);
                }
                self.signed = true;
                return true;
            }
            Piece::Word(word) if is(word.text, b"asc") && self.item.last() != Some(&Piece::Symbol(b'.')) => {
                return true;
            }
            Piece::Word(word)
                if [b"null".as_slice(), b"true", b"false"].iter().any(|name| is(word.text, name)) =>
            {
                return self.push(Piece::Value);
            }
            Piece::Value if std::mem::take(&mut self.signed) => _ = self.item.pop(),
            Piece::Value if self.item.last() == Some(&Piece::Value) => return true,
            Piece::Word(_) | Piece::WideWord(_) | Piece::Name(_) | Piece::Value | Piece::Symbol(_) => {}
        }
        self.signed = false;
        self.item.push(piece);
        self.item.len() <= LONGEST
    }

    /// Takes back a sign that nothing has followed yet.
    pub(super) fn drop_sign(&mut self) {
        if std::mem::take(&mut self.signed) {
            self.item.pop();
        }
    }

    fn expects_operand(&self) -> bool {
        match self.item.last() {
            None => true,
            Some(Piece::Symbol(symbol)) => !matches!(symbol, b')' | b']'),
            Some(Piece::Word(word)) => is_keyword(word.text),
            Some(Piece::WideWord(_) | Piece::Name(_) | Piece::Value) => false,
        }
    }

    /// Ends the item. What is told of it, and whether the next one may be another of its kind: if it has nothing but
    /// names, they tell such lists apart.
    pub(super) fn end(&mut self) -> (Vec<Piece<'a>>, bool) {
        let item = std::mem::take(&mut self.item);
        let of_kind =
            item.iter().any(|piece| matches!(piece, Piece::Value | Piece::Symbol(b'('))) && !self.signed;
        self.signed = false;
        if of_kind && self.kinds.iter().any(|kind| same(kind, &item)) {
            return (Vec::new(), true);
        }
        if of_kind && self.kinds.len() < MOST_KINDS {
            self.kinds.push(item.clone());
        }
        (item, of_kind)
    }
}

fn same(one: &[Piece<'_>], other: &[Piece<'_>]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|pair| match pair {
            (Piece::Word(one), Piece::Word(other)) => is(one.text, other.text),
            (Piece::WideWord(one), Piece::WideWord(other)) => is(one, other),
            (one, other) => one == other,
        })
}
