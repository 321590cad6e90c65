//! Times and numbers as slow logs write them, exact or not at all.

use crate::eight;

/// A time of a `# Time` line, in microseconds since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    /// Of UTC: the line says its zone.
    Exact(i64),
    /// Of the server's zone, which the line does not say.
    Local(i64),
}

impl Stamp {
    pub(super) fn micros(self) -> i64 {
        match self {
            Self::Exact(micros) | Self::Local(micros) => micros,
        }
    }
}

/// Of each month of a year that is no leap year: days before it, and days in it.
const MONTHS: [(i64, i64); 12] = [
    (0, 31),
    (31, 28),
    (59, 31),
    (90, 30),
    (120, 31),
    (151, 30),
    (181, 31),
    (212, 31),
    (243, 30),
    (273, 31),
    (304, 30),
    (334, 31),
];

/// Digits only, up to the greatest `u64`.
pub(super) fn whole(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    if text.len() < 19 {
        // No such number is too great.
        let digits = text.iter().all(u8::is_ascii_digit);
        return digits.then(|| text.iter().fold(0, |sum, byte| sum * 10 + u64::from(byte & 0xf)));
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Seconds as microseconds: digits, perhaps a point and digits. More than six of those are rounded.
pub(super) fn micros(text: &[u8]) -> Option<u64> {
    let (seconds, fraction) = split_at_byte(text, b'.').unwrap_or((text, b"0"));
    let (fraction, round) = micros_of_fraction(fraction)?;
    whole(seconds)?.checked_mul(1_000_000)?.checked_add(fraction)?.checked_add(round)
}

/// As [`whole`], the word at a place, and where it ends.
#[inline]
pub(super) fn whole_at(text: &[u8], at: usize) -> Option<(u64, usize)> {
    if let Some((number, digits)) = eight::number(text, at)
        && ends_word(text, at + digits)
    {
        return Some((number, at + digits));
    }
    let word = word(text, at);
    Some((whole(word)?, at + word.len()))
}

/// As [`micros`], the word at a place, and where it ends. Nearly all times are short.
#[inline]
pub(super) fn micros_at(text: &[u8], at: usize) -> Option<(u64, usize)> {
    let seconds = eight::at(text, at);
    let digits = eight::of_digits(seconds);
    let point = at + digits;
    if digits > 0 && digits < 8 && text.get(point) == Some(&b'.') {
        let fraction = eight::at(text, point + 1);
        let more = eight::of_digits(fraction);
        let end = point + 1 + more;
        if more > 0 && more < 8 && ends_word(text, end) {
            // Hundredths of them: the digits that lack are zeros.
            let fraction = (eight::decimal(eight::first(fraction, more)) + 50) / 100;
            return Some((eight::right(seconds, digits) * 1_000_000 + fraction, end));
        }
    }
    let word = word(text, at);
    Some((micros(word)?, at + word.len()))
}

fn ends_word(text: &[u8], at: usize) -> bool {
    text.get(at).is_none_or(|byte| *byte <= b' ')
}

#[cold]
fn word(text: &[u8], at: usize) -> &[u8] {
    let rest = text.get(at..).unwrap_or_default();
    rest.split(|byte| *byte <= b' ').next().unwrap_or_default()
}

/// The first six digits, and 1 if the seventh rounds them up.
fn micros_of_fraction(digits: &[u8]) -> Option<(u64, u64)> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    if digits.len() < 8 {
        let hundredths = eight::decimal(eight::load(digits));
        return Some((hundredths / 100, u64::from(hundredths % 100 >= 50)));
    }
    let (first, more) = digits.split_at(digits.len().min(6));
    let scale = (first.len()..6).fold(1, |scale, _| scale * 10);
    Some((whole(first)? * scale, u64::from(more.first().is_some_and(|digit| *digit >= b'5'))))
}

/// `071015 21:43:52`, `071015  1:43:52`, `2026-11-20T21:43:52.123456Z` or the same with `+09:00`.
pub(super) fn stamp(text: &[u8]) -> Option<Stamp> {
    let text = text.trim_ascii();
    let (date, clock) = match text.split_at_checked(10) {
        // Most of them have a date of ten bytes.
        Some((date, [b'T', clock @ ..])) if !date.contains(&b'T') => (date, clock),
        _ => split_at_byte(text, b'T').or_else(|| split_at_byte(text, b' '))?,
    };
    let (clock, offset) = zone(clock.trim_ascii())?;
    let (clock, fraction) = split_at_byte(clock, b'.').unwrap_or((clock, b"0"));
    let (hour, minutes) = split_at_byte(clock, b':')?;
    let (minute, second) = split_at_byte(minutes, b':')?;
    let seconds =
        day(date)? * 86_400 + below(hour, 24)? * 3600 + below(minute, 60)? * 60 + below(second, 61)?;
    let (fraction, _) = micros_of_fraction(fraction)?;
    let micros = (seconds - offset.unwrap_or(0)) * 1_000_000 + i64::try_from(fraction).ok()?;
    Some(if offset.is_some() { Stamp::Exact(micros) } else { Stamp::Local(micros) })
}

/// A time of day without its zone, and the seconds that zone is ahead of UTC.
fn zone(clock: &[u8]) -> Option<(&[u8], Option<i64>)> {
    if let Some(clock) = clock.strip_suffix(b"Z") {
        return Some((clock, Some(0)));
    }
    let Some(at) = clock.iter().position(|byte| matches!(byte, b'+' | b'-')) else {
        return Some((clock, None));
    };
    let (clock, offset) = clock.split_at_checked(at)?;
    let (sign, offset) = offset.split_first()?;
    let (hours, minutes) = split_at_byte(offset, b':')?;
    let seconds = below(hours, 24)? * 3600 + below(minutes, 60)? * 60;
    Some((clock, Some(if *sign == b'-' { -seconds } else { seconds })))
}

/// Days since 1970-01-01 of `yymmdd`, always of this century, or `yyyy-mm-dd`.
fn day(date: &[u8]) -> Option<i64> {
    let (year, month, day) = match date {
        [y1, y2, m1, m2, d1, d2] => (2000 + below(&[*y1, *y2], 100)?, [*m1, *m2], [*d1, *d2]),
        [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] => {
            (below(&[*y1, *y2, *y3, *y4], 10_000)?, [*m1, *m2], [*d1, *d2])
        }
        _ => return None,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month = usize::try_from(below(&month, 13)?).ok()?.checked_sub(1)?;
    let (days, longest) = *MONTHS.get(month)?;
    let day = below(&day, 1 + longest + i64::from(leap && month == 1))?;
    let before = year.checked_sub(1).filter(|year| *year >= 0)?;
    let days = before * 365 + before / 4 - before / 100 + before / 400 + days + i64::from(leap && month > 1);
    // 719,162 days lie between the first of January of the years 1 and 1970.
    Some(days + day - 1 - 719_162).filter(|_| day > 0)
}

/// A number less than `limit`, of digits only.
fn below(text: &[u8], limit: i64) -> Option<i64> {
    i64::try_from(whole(text)?).ok().filter(|number| *number < limit)
}

fn split_at_byte(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|other| *other == byte)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact_or_nothing() {
        let table: [(&str, Option<u64>); 20] = [
            ("0", Some(0)),
            ("12", Some(12_000_000)),
            ("0.1", Some(100_000)),
            ("0.000001", Some(1)),
            ("1.0000004", Some(1_000_000)),
            ("1.0000005", Some(1_000_001)),
            ("0.9999999", Some(1_000_000)),
            ("18446744073709.551615", Some(u64::MAX)),
            ("18446744073709.5516159", None),
            ("18446744073709.551616", None),
            ("18446744073710", None),
            ("", None),
            (".5", None),
            ("5.", None),
            ("-1", None),
            ("+1", None),
            ("NaN", None),
            ("inf", None),
            ("1e309", None),
            ("1.2.3", None),
        ];
        for (text, expected) in table {
            assert_eq!(micros(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn rows_are_exact_up_to_the_greatest_number() {
        assert_eq!(whole(b"18446744073709551615"), Some(u64::MAX));
        for text in ["18446744073709551616", "", "-1", "1.5", "1 "] {
            assert_eq!(whole(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn days_follow_each_other() {
        let mut expected = day(b"1999-12-31").unwrap();
        for year in 2000..2101 {
            for month in 1..=12 {
                for of_month in 1..=31 {
                    if let Some(day) = day(format!("{year}-{month:02}-{of_month:02}").as_bytes()) {
                        expected += 1;
                        assert_eq!(day, expected, "{year}-{month}-{of_month}");
                    }
                }
            }
        }
        assert_eq!(expected, day(b"1999-12-31").unwrap() + 101 * 365 + 25);
    }

    #[test]
    fn a_time_has_three_formats() {
        let table = [
            ("071015 21:43:52", Stamp::Local(1_192_484_632_000_000)),
            ("071015  1:43:52", Stamp::Local(1_192_412_632_000_000)),
            ("2007-10-15T21:43:52.010203Z", Stamp::Exact(1_192_484_632_010_203)),
            ("2007-10-16T06:43:52.5+09:00", Stamp::Exact(1_192_484_632_500_000)),
            ("2007-10-15T18:13:52-03:30", Stamp::Exact(1_192_484_632_000_000)),
            ("2000-02-29T00:00:00Z", Stamp::Exact(951_782_400_000_000)),
            ("1970-01-01T00:00:00Z", Stamp::Exact(0)),
            ("1969-12-31T23:59:59.5Z", Stamp::Exact(-500_000)),
            ("9999-12-31T23:59:59.999999Z", Stamp::Exact(253_402_300_799_999_999)),
        ];
        for (text, expected) in table {
            assert_eq!(stamp(text.as_bytes()), Some(expected), "{text}");
        }
        for text in [
            "",
            "071015",
            "071315 21:43:52",
            "071000 21:43:52",
            "2001-02-29T00:00:00Z",
            "2007-10-15T24:00:00Z",
            "2007-10-15T21:43:52+9",
            "2007-10-15T21:43Z",
            "x",
        ] {
            assert_eq!(stamp(text.as_bytes()), None, "{text}");
        }
    }
}
