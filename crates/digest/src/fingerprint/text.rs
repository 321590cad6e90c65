//! The readable text of a normal form.

use super::keywords::is_keyword;
use super::normal::Form;
use super::pieces::Piece;

/// Two symbols that are shown without a space. None of them begins a comment.
const PAIRS: [[u8; 2]; 29] = [
    *b"<=", *b">=", *b"<>", *b"!=", *b"||", *b"&&", *b"=>", *b"<<", *b">>", *b"->", *b"@@", *b"::", *b":=",
    *b"((", *b"[(", *b"()", *b"))", *b"),", *b");", *b").", *b")]", *b"])", *b"],", *b"];", *b"].", *b"(*",
    *b".*", *b"*)", *b"*,",
];

#[derive(Clone, Copy)]
enum Last {
    Start,
    Keyword,
    Word,
    Value,
    Symbol(u8),
}

/// The text so far: lower case, names in quotes as they are, one space where pieces do not touch.
pub(super) struct Text {
    shown: String,
    last: Last,
}

impl Text {
    pub(super) fn new() -> Self {
        Self { shown: String::new(), last: Last::Start }
    }

    pub(super) fn finish(self) -> String {
        self.shown
    }

    fn touches(&self, piece: Piece<'_>) -> bool {
        match (self.last, piece) {
            (Last::Start, _) | (Last::Word, Piece::Symbol(b'(')) => true,
            (Last::Symbol(symbol), Piece::Word(_) | Piece::WideWord(_) | Piece::Name(_)) => {
                matches!(symbol, b'(' | b'[' | b'.' | b'@')
            }
            (Last::Symbol(symbol), Piece::Value) => matches!(symbol, b'(' | b'['),
            (Last::Symbol(first), Piece::Symbol(second)) => PAIRS.contains(&[first, second]),
            (_, Piece::Symbol(symbol)) => matches!(symbol, b'.' | b',' | b'[' | b')' | b']' | b';'),
            _ => false,
        }
    }

    fn push(&mut self, text: &[u8]) {
        self.shown.push_str(&String::from_utf8_lossy(text));
    }
}

impl Form for Text {
    fn piece(&mut self, piece: Piece<'_>) {
        if !self.touches(piece) {
            self.shown.push(' ');
        }
        self.last = match piece {
            Piece::Word(word) => {
                self.push(&word.text.to_ascii_lowercase());
                if is_keyword(word.text) { Last::Keyword } else { Last::Word }
            }
            Piece::WideWord(word) => {
                self.push(&word.to_ascii_lowercase());
                Last::Word
            }
            Piece::Name(name) => {
                self.push(name);
                Last::Word
            }
            Piece::Value => {
                self.shown.push('?');
                Last::Value
            }
            Piece::Symbol(symbol) => {
                self.shown.push(char::from(symbol));
                Last::Symbol(symbol)
            }
        };
    }
}
