//! A time as databases and services write it.

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp, Unit};

/// Seconds of a year that nobody's data come from: a larger number is one of milliseconds, and refused.
const LATEST: f64 = 1e11;

/// Reads `2026-11-20 08:53:51.168`, with `T`, `Z`, ` UTC`, `+00`, `+09:00` or nothing (UTC) behind it, a date alone, or Unix seconds.
pub fn moment(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        let real = Some(seconds).filter(|seconds| seconds.is_finite() && seconds.abs() < LATEST)?;
        let moment = SignedDuration::try_from_secs_f64(real).and_then(Timestamp::from_duration);
        // A double has no nanoseconds at this size.
        return moment.and_then(|moment| moment.round(Unit::Microsecond)).ok();
    }
    let text = text.strip_suffix(" UTC").unwrap_or(text);
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    // PostgreSQL leaves the minutes of a whole offset out.
    let offset = text.get(text.len().saturating_sub(3)..).filter(|_| text.len() > 13);
    if offset.is_some_and(|offset| {
        offset.starts_with(['+', '-'])
            && offset.get(1..).is_some_and(|hours| hours.bytes().all(|b| b.is_ascii_digit()))
    }) && let Ok(moment) = format!("{text}:00").parse::<Timestamp>()
    {
        return Some(moment);
    }
    let civil: DateTime = text.parse().ok()?;
    civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_time_is_read_and_utc_is_meant_without_a_zone() {
        let wanted = "2026-11-20T08:53:51.168Z".parse::<Timestamp>().ok();
        for text in [
            "2026-11-20 08:53:51.168",
            "2026-11-20T08:53:51.168",
            "2026-11-20 08:53:51.168+00",
            "2026-11-20 08:53:51.168 UTC",
            "2026-11-20 17:53:51.168+09:00",
            "2026-11-20T08:53:51.168Z",
            "1795164831.168",
        ] {
            assert_eq!(moment(text), wanted, "{text}");
        }
        assert_eq!(moment("2026-11-20"), "2026-11-20T00:00:00Z".parse().ok());
        for text in ["", "yesterday", "1795164831168", "NaN", "2026-13-01"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
