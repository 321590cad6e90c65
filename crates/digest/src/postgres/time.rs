//! The time of a log line as microseconds since 1970.

/// Reads `2026-11-20 10:00:00.123 UTC` (the fraction may be missing) at the start of a text: the time and what follows it.
///
/// The inner time is `None` if the form is right but the moment is not known: no such day, or a zone without a sure offset.
pub(super) fn log_time(text: &[u8]) -> Option<(Option<i64>, &[u8])> {
    let (start, rest) = text.split_first_chunk::<19>()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b' ', h1, h2, b':', n1, n2, b':', s1, s2] = *start
    else {
        return None;
    };
    let year = pair(y1, y2)? * 100 + pair(y3, y4)?;
    let (month, day) = (pair(m1, m2)?, pair(d1, d2)?);
    let (hour, minute, second) = (pair(h1, h2)?, pair(n1, n2)?, pair(s1, s2)?);
    let (micros, rest) = fraction(rest)?;
    let rest = rest.strip_prefix(b" ")?;
    let end = rest.iter().position(|byte| !in_zone(*byte)).unwrap_or(rest.len());
    let (zone, rest) = rest.split_at_checked(end)?;
    if zone.is_empty() {
        return None;
    }
    let time = || {
        let of_day = hour * 3600 + minute * 60 + second;
        let valid = hour < 24 && minute < 60 && second <= 60;
        let seconds = valid.then_some(days(year, month, day)? * 86_400 + of_day)?;
        Some((seconds - offset(zone)?) * 1_000_000 + micros)
    };
    Some((time(), rest))
}

/// Reads `1763632800.123`, seconds since 1970 (`%n`).
pub(super) fn epoch(text: &[u8]) -> Option<(Option<i64>, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    let (micros, rest) = fraction(rest)?;
    let seconds: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((seconds.checked_mul(1_000_000).and_then(|time| time.checked_add(micros)), rest))
}

/// An optional `.123` as microseconds; more than six digits are none that a server writes.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(mut rest) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let (mut micros, mut unit) = (0, 1_000_000);
    while let Some((digit @ b'0'..=b'9', after)) = rest.split_first() {
        unit /= 10;
        micros += i64::from(digit - b'0') * unit;
        rest = after;
    }
    (1..=100_000).contains(&unit).then_some((micros, rest))
}

fn pair(tens: u8, ones: u8) -> Option<i64> {
    let both = tens.is_ascii_digit() && ones.is_ascii_digit();
    both.then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let (before, length) = match month {
        1 => (0, 31),
        2 => (31, if leap { 29 } else { 28 }),
        3 => (59, 31),
        4 => (90, 30),
        5 => (120, 31),
        6 => (151, 30),
        7 => (181, 31),
        8 => (212, 31),
        9 => (243, 30),
        10 => (273, 31),
        11 => (304, 30),
        12 => (334, 31),
        _ => return None,
    };
    if !(1..=length).contains(&day) || year < 1 {
        return None;
    }
    let past = year - 1;
    let leap_days = past / 4 - past / 100 + past / 400 + i64::from(leap && month > 2);
    // 719,162 days lie between 0001-01-01 and 1970-01-01.
    Some(past * 365 + leap_days + before + day - 1 - 719_162)
}

fn in_zone(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-')
}

/// Seconds east of UTC. Abbreviations that several parts of the world use (`CST`, `IST`, `PST`, ..) have none: a time that
/// is hours off is worse than no time.
fn offset(zone: &[u8]) -> Option<i64> {
    let hours = match zone {
        b"UTC" | b"GMT" | b"WET" => 0,
        b"CET" | b"WEST" => 1,
        b"CEST" | b"EET" | b"SAST" => 2,
        b"EEST" | b"MSK" => 3,
        b"WIB" => 7,
        b"HKT" | b"AWST" => 8,
        b"JST" | b"KST" => 9,
        b"AEST" => 10,
        b"AEDT" => 11,
        b"NZST" => 12,
        b"NZDT" => 13,
        b"EDT" => -4,
        b"EST" | b"CDT" => -5,
        b"MDT" => -6,
        b"MST" | b"PDT" => -7,
        b"AKDT" => -8,
        b"AKST" => -9,
        b"HST" => -10,
        _ => return numeric(zone),
    };
    Some(hours * 3600)
}

/// `+03`, `-0330`: what zones without a name have for an abbreviation.
fn numeric(zone: &[u8]) -> Option<i64> {
    let (sign, digits) = match zone.split_first()? {
        (b'+', digits) => (1, digits),
        (b'-', digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [h1, h2] => (pair(h1, h2)?, 0),
        [h1, h2, m1, m2] => (pair(h1, h2)?, pair(m1, m2)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_zone() {
        let table = [
            ("1970-01-01 00:00:00 UTC", Some(Some(0)), ""),
            ("2026-11-24 17:13:29 UTC:", Some(Some(1_795_540_409_000_000)), ":"),
            ("2026-11-24 17:13:29.985 UTC,", Some(Some(1_795_540_409_985_000)), ","),
            ("2026-11-24 18:13:29.985123 CET [", Some(Some(1_795_540_409_985_123)), " ["),
            ("2026-11-24 22:43:29 +0530 ", Some(Some(1_795_540_409_000_000)), " "),
            ("2026-11-24 14:13:29 -03 ", Some(Some(1_795_540_409_000_000)), " "),
            ("2024-02-29 00:00:00 GMT", Some(Some(1_709_164_800_000_000)), ""),
            ("2000-03-01 00:00:00 GMT", Some(Some(951_868_800_000_000)), ""),
            ("2023-02-29 00:00:00 UTC", Some(None), ""),
            ("2026-13-01 00:00:00 UTC", Some(None), ""),
            ("2026-11-24 24:00:00 UTC", Some(None), ""),
            ("2026-11-24 17:13:29 IST", Some(None), ""),
            ("2026-11-24 17:13:29", None, ""),
            ("2026-11-24 17:13:29 ", None, ""),
            ("2026-11-24T17:13:29 UTC", None, ""),
            ("2026-11-24 17:13:29. UTC", None, ""),
            ("2026-11-24 17:13:29.1234567 UTC", None, ""),
            ("", None, ""),
        ];
        for (text, time, rest) in table {
            let expected = time.map(|time| (time, rest.as_bytes()));
            assert_eq!(log_time(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(epoch(b"1763632800.123 x"), Some((Some(1_763_632_800_123_000), &b" x"[..])));
        assert_eq!(epoch(b"x"), None);
    }
}
