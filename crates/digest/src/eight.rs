//! Eight bytes at once, as one number: where tokens end without a branch for each byte, which no processor can foresee.
//!
//! The first byte of the text is the lowest of the number. In a mask the highest bit of a byte says yes.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHEST: u64 = 0x80 * ONES;

/// The first eight bytes of a text; zeros behind its end.
#[inline]
pub(crate) fn load(text: &[u8]) -> u64 {
    at(text, 0)
}

/// The eight bytes of a text from a place on; zeros behind its end.
///
/// Asked for the whole text, it has no loop near the end but in texts of less than eight bytes.
#[inline]
pub(crate) fn at(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    match (rest.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(eight), _) => u64::from_le_bytes(*eight),
        (None, Some(last)) if !rest.is_empty() => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        _ => short(rest),
    }
}

#[cold]
fn short(text: &[u8]) -> u64 {
    text.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// Where the next of two bytes stands. For texts in which it is near; `memchr` is faster over long ways.
#[inline]
pub(crate) fn find(text: &[u8], from: usize, one: u8, other: u8) -> Option<usize> {
    let mut place = from;
    let mut rest = text.get(from..)?;
    // Sixteen bytes at a time: nearly all that is looked for is so near, and then there is nothing to guess.
    while let Some((sixteen, behind)) = rest.split_first_chunk::<16>() {
        let bytes = u128::from_le_bytes(*sixteen);
        let found = equal(bytes, one) | equal(bytes, other);
        if found != 0 {
            return Some(place + found.trailing_zeros() as usize / 8);
        }
        place += 16;
        rest = behind;
    }
    rest.iter().position(|byte| *byte == one || *byte == other).map(|found| place + found)
}

/// A mask of which the lowest yes is the first such byte; above it, it may be wrong.
#[inline]
fn equal(sixteen: u128, byte: u8) -> u128 {
    const ONES: u128 = u128::from_le_bytes([1; 16]);
    // A byte that is equal becomes 0, and only the first such byte borrows for certain.
    let zeros = sixteen ^ (u128::from(byte) * ONES);
    zeros.wrapping_sub(ONES) & !zeros & (0x80 * ONES)
}

/// The number at a place and how many digits it has; `None`: it has none, or too many to be read here.
#[inline]
pub(crate) fn number(text: &[u8], place: usize) -> Option<(u64, usize)> {
    let first = at(text, place);
    let digits = of_digits(first);
    if digits == 0 {
        return None;
    }
    let value = right(first, digits);
    if digits < 8 {
        return Some((value, digits));
    }
    let second = at(text, place + 8);
    let more = of_digits(second);
    let scale = u32::try_from(more).ok().and_then(|more| 10_u64.checked_pow(more))?;
    (more < 8).then(|| (value * scale + if more > 0 { right(second, more) } else { 0 }, 8 + more))
}

/// What a number says of which these are the digits; more than 0.
#[inline]
pub(crate) fn right(eight: u64, digits: usize) -> u64 {
    decimal(eight << (64 - 8 * digits))
}

/// What eight digits say, the first of which is the lowest byte. A zero byte is the digit 0.
#[inline]
pub(crate) fn decimal(eight: u64) -> u64 {
    let ones = eight & (0x0f * ONES);
    // Neighbours make pairs, pairs make fours, and fours make eight digits, all at once.
    let pairs = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours & 0xffff_ffff) * 10_000 + (fours >> 32)
}

/// How many of the first bytes are ASCII letters, digits, `_` or `$`.
#[inline]
pub(crate) fn of_word(eight: u64) -> usize {
    let letters = between(eight | (0x20 * ONES), b'a', b'z');
    let others = between(eight, b'0', b'9') | between(eight, b'_', b'_') | between(eight, b'$', b'$');
    run((letters | others) & !eight)
}

/// How many of the first bytes are digits.
#[inline]
pub(crate) fn of_digits(eight: u64) -> usize {
    run(between(eight, b'0', b'9') & !eight)
}

/// The first bytes alone.
#[inline]
pub(crate) fn first(eight: u64, length: usize) -> u64 {
    let unused = 64 - 8 * length.min(8);
    eight & u64::MAX.checked_shr(u32::try_from(unused).unwrap_or(64)).unwrap_or(0)
}

/// How many of the first bytes are neither a quote nor a backslash.
#[inline]
pub(crate) fn before_quote(eight: u64, quote: u8) -> usize {
    run(!((between(eight, quote, quote) | between(eight, b'\\', b'\\')) & !eight))
}

/// The first bytes of a word in lower case. `_` changes as well, but to what no word holds.
#[inline]
pub(crate) fn lower(eight: u64, length: usize) -> u64 {
    first(eight | (0x20 * ONES), length)
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
    fn a_byte_is_found_wherever_it_stands() {
        for length in 0..40 {
            for at in 0..length {
                let mut text = vec![b'9'; length];
                text[at] = b':';
                for from in 0..=at {
                    assert_eq!(find(&text, from, b':', b'\n'), Some(at));
                    assert_eq!(find(&text, from, b'\n', b':'), Some(at));
                    assert_eq!(find(&text, from, b'\n', b'\r'), None);
                }
                text.push(b':');
                assert_eq!(find(&text, 0, b':', b';'), Some(at));
            }
        }
    }

    #[test]
    fn a_number_is_read_whatever_stands_behind_it() {
        for digits in 1..16 {
            let number = &"1029384756102938"[..digits];
            for behind in ["", ",", " and more", "x"] {
                let text = format!("{number}{behind}");
                assert_eq!(super::number(text.as_bytes(), 0), Some((number.parse().unwrap(), digits)));
            }
        }
        for none in ["", "x1", "1234567812345678", "12345678123456789"] {
            assert_eq!(super::number(none.as_bytes(), 0), None);
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
