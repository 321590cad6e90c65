//! Eight bytes at once, as one number: where tokens end without a branch for each byte, which no processor can foresee.
//!
//! The first byte of the text is the lowest of the number. In a mask the highest bit of a byte says yes.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHEST: u64 = 0x80 * ONES;

/// The first eight bytes of a text; zeros behind its end.
#[inline]
pub(super) fn load(text: &[u8]) -> u64 {
    match text.first_chunk::<8>() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => text.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)),
    }
}

/// How many of the first bytes are ASCII letters, digits, `_` or `$`.
#[inline]
pub(super) fn of_word(eight: u64) -> usize {
    let letters = between(eight | (0x20 * ONES), b'a', b'z');
    let others = between(eight, b'0', b'9') | between(eight, b'_', b'_') | between(eight, b'$', b'$');
    run((letters | others) & !eight)
}

/// How many of the first bytes are digits.
#[inline]
pub(super) fn of_digits(eight: u64) -> usize {
    run(between(eight, b'0', b'9') & !eight)
}

/// How many of the first bytes are neither a quote nor a backslash.
#[inline]
pub(super) fn before_quote(eight: u64, quote: u8) -> usize {
    run(!((between(eight, quote, quote) | between(eight, b'\\', b'\\')) & !eight))
}

/// The first bytes of a word in lower case. `_` changes as well, but to what no word holds.
#[inline]
pub(super) fn lower(eight: u64, length: usize) -> u64 {
    let unused = 64 - 8 * length.min(8);
    let kept = u64::MAX.checked_shr(u32::try_from(unused).unwrap_or(64)).unwrap_or(0);
    (eight | (0x20 * ONES)) & kept
}

/// Bytes from `first` to `last`, their highest bit left out.
#[inline]
fn between(eight: u64, first: u8, last: u8) -> u64 {
    let low = eight & !HIGHEST;
    let at_least = low + u64::from(0x80 - first) * ONES;
    let above = low + u64::from(0x7f - last) * ONES;
    at_least & !above & HIGHEST
}

/// How many of the first bytes say yes.
#[inline]
fn run(mask: u64) -> usize {
    (!mask & HIGHEST).trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_is_told_apart() {
        for byte in 0..=u8::MAX {
            for at in 0..8 {
                let mut text = *b"a1_$Zz90";
                text[at] = byte;
                let in_word = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
                assert_eq!(of_word(load(&text)), if in_word { 8 } else { at }, "{byte} at {at}");
                let mut text = *b"01234567";
                text[at] = byte;
                assert_eq!(
                    of_digits(load(&text)),
                    if byte.is_ascii_digit() { 8 } else { at },
                    "{byte} at {at}"
                );
                let stops = matches!(byte, b'\'' | b'\\');
                assert_eq!(before_quote(load(&text), b'\''), if stops { at } else { 8 }, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn a_short_text_is_filled_with_zeros() {
        assert_eq!(load(b""), 0);
        assert_eq!(load(b"ab"), 0x6261);
        assert_eq!(load(b"12345678"), load(b"123456789"));
        assert_eq!(lower(load(b"AbC("), 3), load(b"abc"));
        assert_eq!(lower(load(b"AbC("), 0), 0);
        assert_eq!(lower(load(b"ABCDEFGHI"), 9), load(b"abcdefgh"));
    }
}
