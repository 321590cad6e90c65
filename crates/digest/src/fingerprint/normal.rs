//! What makes statements of one shape equal: rules on the pieces of a text, whatever is then made of them.
#![expect(
    clippy::inline_always,
    reason = "measured: a fifth faster, since each caller knows the kind of its piece"
)]

use super::items::Items;
use super::keywords::{Word, is_keyword};
use super::pieces::{Piece, Pieces};
use crate::lexer::Dialect;

/// Takes the pieces of a normal form.
pub(super) trait Form {
    fn piece(&mut self, piece: Piece<'_>);
}

/// Where in the statement the next piece stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Everything counts.
    Anywhere,
    /// In an `IN (` or `ARRAY[` that holds only literals so far, in this many inner parentheses; `passed`: behind the
    /// first item.
    List { inner: usize, seen: bool, passed: bool },
    /// In such a list that holds more.
    Items,
    /// Within a row of `VALUES`, in this many inner parentheses: nothing counts.
    Row { inner: usize },
    /// Behind such a row, with a comma or without.
    BetweenRows { comma: bool },
}

/// What the last piece was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Start,
    Word,
    Value,
    /// A name in quotes or a closing parenthesis: an operand ends here, too.
    Operand,
    Symbol(u8),
}

struct Normal<'a, 'f, F> {
    form: &'f mut F,
    dialect: Dialect,
    place: Place,
    last: Last,
    /// What `last` was when the last word came.
    before_word: Last,
    /// The last word, unless it was a wide one.
    word: Word<'a>,
    /// A semicolon, or a comma of a list, that counts only when more comes.
    separator: Option<u8>,
    /// A sign that counts only when no literal comes.
    sign: Option<u8>,
    /// In [`Place::Items`], and whether one of them was told.
    items: Option<Box<Items<'a>>>,
    told: bool,
}

/// Gives the normal form of a text piece by piece; tells whether the text ended where a piece of it ended.
#[inline(always)]
pub(super) fn normalize<F: Form>(sql: &[u8], dialect: Dialect, form: &mut F) -> bool {
    let mut normal = Normal {
        form,
        dialect,
        place: Place::Anywhere,
        last: Last::Start,
        before_word: Last::Start,
        word: Word::new(b""),
        separator: None,
        sign: None,
        items: None,
        told: false,
    };
    let whole = Pieces::new(sql, dialect).each(|piece| match normal.place {
        Place::Anywhere => normal.anywhere(piece),
        Place::List { .. } | Place::Items | Place::Row { .. } | Place::BetweenRows { .. } => {
            normal.in_place(piece);
        }
    });
    match normal.place {
        Place::List { seen, .. } => normal.end_list(0, seen),
        Place::Items => normal.end_items(false),
        Place::Anywhere | Place::Row { .. } | Place::BetweenRows { .. } => {}
    }
    whole
}

impl<'a, F: Form> Normal<'a, '_, F> {
    /// Hands a piece on, with what was kept back before it.
    #[inline(always)]
    fn tell(&mut self, piece: Piece<'a>) {
        if let Some(separator) = self.separator.take() {
            self.form.piece(Piece::Symbol(separator));
        }
        if let Some(sign) = self.sign.take()
            && piece != Piece::Value
        {
            self.form.piece(Piece::Symbol(sign));
        }
        self.form.piece(piece);
    }

    #[inline(always)]
    fn anywhere(&mut self, piece: Piece<'a>) {
        match piece {
            Piece::Word(word) => self.any_word(piece, word),
            Piece::WideWord(_) => {
                self.tell(piece);
                (self.before_word, self.last, self.word) = (self.last, Last::Word, Word::new(b""));
            }
            Piece::Name(_) => {
                self.tell(piece);
                self.last = Last::Operand;
            }
            // 'a' 'b' is one text.
            Piece::Value if self.last == Last::Value && self.sign.is_none() => {}
            Piece::Value => {
                self.tell(piece);
                self.last = Last::Value;
            }
            Piece::Symbol(symbol) => self.any_symbol(symbol),
        }
    }

    #[inline(always)]
    fn any_word(&mut self, piece: Piece<'a>, word: Word<'a>) {
        if word.text.len() == 3 && self.last != Last::Symbol(b'.') {
            // It is the default. And `VALUES ROW(1), ROW(2)` has rows like any other.
            let of_values = self.last == Last::Word && self.word.is(b"values") && word.is(b"row");
            if of_values {
                self.before_word = Last::Word;
                return;
            }
            if word.is(b"asc") {
                return;
            }
        }
        self.tell(piece);
        (self.before_word, self.last, self.word) = (self.last, Last::Word, word);
    }

    #[inline(always)]
    fn any_symbol(&mut self, symbol: u8) {
        match symbol {
            b';' => {
                if self.last != Last::Start {
                    (self.separator, self.sign, self.last) = (Some(symbol), None, Last::Symbol(symbol));
                }
                return;
            }
            b'+' | b'-' if self.expects_operand() => {
                self.sign = self.sign.or(Some(symbol));
                return;
            }
            _ => self.tell(Piece::Symbol(symbol)),
        }
        match symbol {
            b'(' if self.last == Last::Word && self.opens_rows() => {
                self.tell(Piece::Value);
                self.tell(Piece::Symbol(b')'));
                self.place = Place::Row { inner: 0 };
            }
            b'(' if self.last == Last::Word && self.word.is(b"in") => {
                self.place = Place::List { inner: 0, seen: false, passed: false };
            }
            b'[' if self.last == Last::Word && self.word.is(b"array") => {
                self.place = Place::List { inner: 0, seen: false, passed: false };
            }
            _ => {}
        }
        self.last = match symbol {
            b')' | b']' => Last::Operand,
            _ => Last::Symbol(symbol),
        };
    }

    /// Whether a sign here is not an operator between two operands.
    fn expects_operand(&self) -> bool {
        match self.last {
            Last::Start | Last::Symbol(_) => true,
            Last::Word => is_keyword(self.word.text),
            Last::Value | Last::Operand => false,
        }
    }

    /// Whether the last word is `VALUES` before rows, not the function of `MySQL`: `UPDATE a = VALUES(a)`.
    fn opens_rows(&self) -> bool {
        let named = self.word.is(b"values") || (self.dialect == Dialect::MySql && self.word.is(b"value"));
        named && (self.dialect != Dialect::MySql || !matches!(self.before_word, Last::Symbol(_)))
    }

    fn in_place(&mut self, piece: Piece<'a>) {
        match self.place {
            Place::Anywhere => self.anywhere(piece),
            Place::List { inner, seen, passed } => self.list(piece, inner, seen, passed),
            Place::Items => self.item(piece),
            Place::Row { inner } => self.row(piece, inner),
            Place::BetweenRows { comma } => self.between_rows(piece, comma),
        }
    }

    fn list(&mut self, piece: Piece<'a>, inner: usize, seen: bool, passed: bool) {
        match piece {
            Piece::Value => {
                (self.separator, self.sign, self.last) = (None, None, Last::Value);
                self.place = Place::List { inner, seen: true, passed };
            }
            Piece::Word(word) if word.is(b"null") || word.is(b"true") || word.is(b"false") => {
                self.list(Piece::Value, inner, seen, passed);
            }
            Piece::Word(word) if word.is(b"asc") => {}
            Piece::Symbol(b',') if self.last == Last::Value => {
                self.separator = Some(b',');
                self.last = Last::Symbol(b',');
                self.place = Place::List { inner, seen, passed: passed || inner == 0 };
            }
            Piece::Symbol(sign @ (b'+' | b'-')) if self.last != Last::Value => {
                self.sign = self.sign.or(Some(sign));
            }
            Piece::Symbol(b'(' | b'[') if self.last != Last::Value && self.sign.is_none() => {
                self.last = Last::Symbol(b'(');
                self.place = Place::List { inner: inner + 1, seen, passed };
            }
            Piece::Symbol(close @ (b')' | b']')) if inner == 0 || self.last == Last::Value => {
                (self.separator, self.sign) = (None, None);
                if inner > 0 {
                    self.last = Last::Value;
                    self.place = Place::List { inner: inner - 1, seen, passed };
                } else {
                    self.end_list(0, seen);
                    self.last = Last::Operand;
                    self.form.piece(Piece::Symbol(close));
                }
            }
            _ if Items::may_hold(piece) => {
                self.begin_items(inner, passed);
                self.item(piece);
            }
            // As if the text ended here: the last `;` does not count.
            Piece::Symbol(b';') => {
                self.end_list(0, seen);
                self.anywhere(piece);
            }
            _ => {
                // A list of another kind: from here on all counts, and so do the parentheses that are open.
                self.end_list(inner, seen);
                self.anywhere(piece);
            }
        }
    }

    /// What has been seen of a list, its literals as one.
    fn end_list(&mut self, inner: usize, seen: bool) {
        for _ in 0..inner {
            self.form.piece(Piece::Symbol(b'('));
        }
        if seen {
            self.form.piece(Piece::Value);
        }
        self.place = Place::Anywhere;
    }

    /// The item of a list holds more than literals. What came before it was literals, and they are one.
    fn begin_items(&mut self, inner: usize, passed: bool) {
        let mut items = Box::<Items<'a>>::default();
        if passed {
            items.push(Piece::Value);
            items.end();
            self.form.piece(Piece::Value);
        }
        (self.told, self.separator) = (passed, None);
        for _ in 0..inner {
            items.push(Piece::Symbol(b'('));
        }
        match self.last {
            Last::Symbol(b',') if inner > 0 => {
                items.push(Piece::Value);
                items.push(Piece::Symbol(b','));
            }
            Last::Value => _ = items.push(Piece::Value),
            Last::Start | Last::Word | Last::Operand | Last::Symbol(_) => {}
        }
        if let Some(sign) = self.sign.take() {
            items.push(Piece::Symbol(sign));
        }
        self.last = if passed { Last::Value } else { Last::Symbol(b'(') };
        (self.items, self.place) = (Some(items), Place::Items);
    }

    #[inline(never)]
    fn item(&mut self, piece: Piece<'a>) {
        let Some(items) = &mut self.items else { return };
        if items.ends_before(piece) {
            let (item, of_kind) = items.end();
            let goes_on = of_kind && piece == Piece::Symbol(b',');
            self.tell_item(&item, !of_kind);
            if !goes_on {
                self.place = Place::Anywhere;
                self.anywhere(piece);
            }
        } else if !Items::may_hold(piece) {
            self.end_items(piece != Piece::Symbol(b';'));
            self.anywhere(piece);
        } else if !items.push(piece) {
            self.end_items(true);
        }
    }

    /// The rest of the list, if there is more, is not one of items. If there is none, a sign has nothing to belong to.
    fn end_items(&mut self, more: bool) {
        let item = self.items.take().map(|mut items| {
            if !more {
                items.drop_sign();
            }
            items.end().0
        });
        self.tell_item(&item.unwrap_or_default(), more);
        self.place = Place::Anywhere;
    }

    /// `also_empty`: something else stands in the place of an empty one.
    fn tell_item(&mut self, item: &[Piece<'a>], also_empty: bool) {
        if (!item.is_empty() || also_empty) && std::mem::replace(&mut self.told, true) {
            self.anywhere(Piece::Symbol(b','));
        }
        for piece in item {
            self.anywhere(*piece);
        }
    }

    fn row(&mut self, piece: Piece<'a>, inner: usize) {
        match piece {
            Piece::Symbol(b'(') => self.place = Place::Row { inner: inner + 1 },
            Piece::Symbol(b')') if inner > 0 => self.place = Place::Row { inner: inner - 1 },
            Piece::Symbol(b')') => {
                self.last = Last::Operand;
                self.place = Place::BetweenRows { comma: false };
            }
            Piece::Symbol(_) | Piece::Word(_) | Piece::WideWord(_) | Piece::Name(_) | Piece::Value => {}
        }
    }

    fn between_rows(&mut self, piece: Piece<'a>, comma: bool) {
        match piece {
            Piece::Symbol(b',') if !comma => self.place = Place::BetweenRows { comma: true },
            Piece::Symbol(b'(') if comma => self.place = Place::Row { inner: 0 },
            Piece::Word(word) if (comma && word.is(b"row")) || word.is(b"asc") => {}
            _ => {
                self.place = Place::Anywhere;
                if comma {
                    (self.separator, self.last) = (Some(b','), Last::Symbol(b','));
                }
                self.anywhere(piece);
            }
        }
    }
}
