//! The 64-bit hash of a normal form: one multiplication for up to eight bytes.
//!
//! Each step folds the 128-bit product of the state, mixed with the input, and an odd constant. It is no defence
//! against made collisions; a statement's author can only make two of their own statements count as one.
#![expect(
    clippy::inline_always,
    reason = "measured: a fifth faster, since each caller knows the kind of its piece"
)]

use super::keywords::Word;
use super::normal::Form;
use super::pieces::Piece;
use crate::eight;

/// Digits of pi. Together with the order of the steps they are part of [`super::RULES`].
const START: u64 = 0x243f_6a88_85a3_08d3;
const OF_WORD: u64 = 0x1319_8a2e_0370_7345;
const OF_NAME: u64 = 0xa409_3822_299f_31d1;
const OF_SYMBOL: u64 = 0x082e_fa98_ec4e_6c89;

/// The hash so far.
pub(super) struct Hash(u64);

impl Hash {
    pub(super) fn new() -> Self {
        Self(START)
    }

    pub(super) fn finish(&self) -> u64 {
        fold(self.0, OF_SYMBOL)
    }

    #[inline(always)]
    fn add(&mut self, bits: u64, factor: u64) {
        self.0 = fold(self.0 ^ bits, factor);
    }

    /// ASCII words, without regard to case. The length goes into the factor, so the last eight bytes may overlap others.
    #[inline]
    fn word(&mut self, word: Word<'_>) {
        let length = word.text.len();
        let factor = OF_WORD ^ ((length as u64) << 32);
        self.add(word.head, factor);
        if length > 8 {
            self.long_word(word.text, factor);
        }
    }

    /// What comes behind the first eight bytes of a word.
    fn long_word(&mut self, text: &[u8], factor: u64) {
        let (eights, _) = text.as_chunks::<8>();
        let last = text.last_chunk::<8>();
        for eight in eights.iter().skip(1).chain(last) {
            self.add(eight::lower(u64::from_le_bytes(*eight), 8), factor);
        }
    }

    /// Any bytes, letters of ASCII in lower case if `lower`.
    fn bytes(&mut self, bytes: &[u8], lower: bool) {
        self.add(bytes.len() as u64, OF_NAME);
        for byte in bytes {
            self.add(u64::from(if lower { byte.to_ascii_lowercase() } else { *byte }), OF_NAME);
        }
    }
}

impl Form for Hash {
    #[inline(always)]
    fn piece(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Word(word) => self.word(word),
            Piece::WideWord(word) => self.bytes(word, true),
            Piece::Name(name) => self.bytes(name, false),
            Piece::Value => self.add(u64::from(b'?'), OF_SYMBOL),
            Piece::Symbol(symbol) => self.add(u64::from(symbol), OF_SYMBOL),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
#[inline(always)]
fn fold(bits: u64, factor: u64) -> u64 {
    let product = u128::from(bits) * u128::from(factor);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn hash(pieces: &[Piece<'_>]) -> u64 {
        let mut hash = Hash::new();
        for piece in pieces {
            hash.piece(*piece);
        }
        hash.finish()
    }

    #[test]
    fn words_of_any_length_differ_in_each_byte() {
        for length in 1..40 {
            let word = vec![b'a'; length];
            let mut seen = HashSet::from([hash(&[Piece::Word(Word::new(&word))])]);
            for at in 0..length {
                for byte in *b"b_0$" {
                    let mut other = word.clone();
                    other[at] = byte;
                    assert!(seen.insert(hash(&[Piece::Word(Word::new(&other))])), "{length} {at}");
                }
                let mut upper = word.clone();
                upper[at] = b'A';
                assert_eq!(
                    hash(&[Piece::Word(Word::new(&word))]),
                    hash(&[Piece::Word(Word::new(&upper))]),
                    "{length} {at}"
                );
            }
        }
    }

    #[test]
    fn it_matters_where_a_piece_ends_and_what_it_is() {
        let forms: [&[Piece<'_>]; 11] = [
            &[],
            &[Piece::Word(Word::new(b"ab"))],
            &[Piece::Word(Word::new(b"a")), Piece::Word(Word::new(b"b"))],
            &[Piece::Word(Word::new(b"abcdefgh")), Piece::Word(Word::new(b"ij"))],
            &[Piece::Word(Word::new(b"abcdefghij"))],
            &[Piece::Word(Word::new(b"abcdefgh")), Piece::Word(Word::new(b"cdefghij"))],
            &[Piece::Name(b"ab")],
            &[Piece::WideWord("é".as_bytes())],
            &[Piece::Value],
            &[Piece::Value, Piece::Value],
            &[Piece::Symbol(b'a')],
        ];
        let seen: HashSet<u64> = forms.iter().map(|form| hash(form)).collect();
        assert_eq!(seen.len(), forms.len());
    }
}
