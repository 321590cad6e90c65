//! Durations and byte sizes as people write them: `30s`, `1h30m`, `50GB`.

use serde::de::{self, Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Units of a duration in milliseconds, largest first, as Prometheus has them; a day is always 24 hours.
/// <https://prometheus.io/docs/prometheus/latest/querying/basics/#float-literals-and-time-durations>
const DURATION_UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 60 * 60 * 1000),
    ("w", 7 * 24 * 60 * 60 * 1000),
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// Units of a size in bytes; `kB` and `KB` are both seen in practice.
const SIZE_UNITS: [(&str, u64); 12] = [
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1000 * 1000),
    ("GB", 1000 * 1000 * 1000),
    ("TB", 1000 * 1000 * 1000 * 1000),
    ("PB", 1000 * 1000 * 1000 * 1000 * 1000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
];

/// A length of time in Prometheus' spelling: `500ms`, `30s`, `1h30m`, `1d`. Resolution: one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(Duration);

/// A number of bytes: `1000`, `50GB` (decimal) or `16MiB` (binary).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl Interval {
    /// An interval of whole seconds, for defaults.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The length of time.
    pub const fn duration(&self) -> Duration {
        self.0
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text != "0" && is_number(text) {
            return Err(format!("a duration needs a unit; write {text}s"));
        }
        let unreadable =
            || format!("not a duration: {}; write it like 500ms, 30s, 5m, 1h30m or 1d", quoted(text));
        let mut rest = text;
        let mut milliseconds: u64 = 0;
        // Each unit at most once and the largest first, so that `30m1h` or `5m5m` is taken for the slip it is.
        for (unit, length) in DURATION_UNITS {
            let (number, after) = split_number(rest);
            let Some(after) = after.strip_prefix(unit).filter(|_| !number.is_empty()) else { continue };
            if unit == "m" && after.starts_with('s') {
                continue;
            }
            let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(length));
            let sum = part.and_then(|part| milliseconds.checked_add(part));
            milliseconds = sum.ok_or_else(|| format!("the duration {} is too long", quoted(text)))?;
            rest = after;
        }
        if text == "0" || (rest.is_empty() && !text.is_empty()) {
            Ok(Self(Duration::from_millis(milliseconds)))
        } else {
            Err(unreadable())
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        // Weeks and years are read but not written: 7d is easier to compare with 5d than 1w is.
        for (unit, length) in DURATION_UNITS.into_iter().skip(2) {
            let length = u128::from(length);
            if rest >= length {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_number(text);
        let unit = unit.trim_start_matches(' ');
        let factor = match unit {
            "" => Some(1),
            unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor),
        };
        let (Some(factor), false) = (factor, number.is_empty()) else {
            let nearest =
                SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit) && !number.is_empty());
            let advice = match nearest {
                Some((name, _)) => format!("write {number}{name}"),
                None => "write it like 1000, 50GB (decimal) or 16MiB (binary)".to_owned(),
            };
            return Err(format!("not a size in bytes: {}; {advice}", quoted(text)));
        };
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        bytes.map(Self).ok_or_else(|| format!("the size {} is too large", quoted(text)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, factor): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*factor);
        match SIZE_UNITS.iter().filter(whole).max_by_key(|(_, factor)| *factor) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "0B"),
        }
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Interval {
    fn schema_name() -> Cow<'static, str> {
        "Interval".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(0|(?=[0-9])([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$",
            "description": "a duration: 500ms, 30s, 5m, 1h30m, 1d"
        })
    }
}

impl schemars::JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": "^[0-9]+ *(B|kB|KB|MB|GB|TB|PB|KiB|MiB|GiB|TiB|PiB)?$",
            "description": "a number of bytes: 1000, 50GB (decimal), 16MiB (binary)"
        })
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The leading decimal digits and what follows them.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The text in quotes, cut so that a pasted file cannot fill a log line.
fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn interval(text: &str, expected: Result<u64, &str>) {
        let read = text.parse::<Interval>().map(|interval| interval.duration().as_millis());
        assert_eq!(read, expected.map(u128::from).map_err(str::to_owned), "{text}");
    }

    #[track_caller]
    fn size(text: &str, expected: Result<u64, &str>) {
        assert_eq!(text.parse::<Size>().map(|size| size.0), expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn durations_are_read_as_prometheus_reads_them() {
        interval("500ms", Ok(500));
        interval("30s", Ok(30_000));
        interval("5m", Ok(300_000));
        interval("1h30m", Ok(5_400_000));
        interval("1d", Ok(86_400_000));
        interval("1w2d", Ok(777_600_000));
        interval("1m500ms", Ok(60_500));
        interval("1s1ms", Ok(1_001));
        interval("0", Ok(0));
        interval("0s", Ok(0));
    }

    #[test]
    fn a_bad_duration_says_how_to_write_it() {
        interval("30", Err("a duration needs a unit; write 30s"));
        let advice = "write it like 500ms, 30s, 5m, 1h30m or 1d";
        for text in ["", "s", "30 s", "-5s", "1.5h", "30m1h", "5m5m", "1h30", "5S", "5min", "５s"] {
            interval(text, Err(&format!("not a duration: {text:?}; {advice}")));
        }
        interval("99999999999999999999s", Err("the duration \"99999999999999999999s\" is too long"));
        interval("600000000y", Err("the duration \"600000000y\" is too long"));
    }

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        size("1000", Ok(1000));
        size("0", Ok(0));
        size("50GB", Ok(50_000_000_000));
        size("50 GB", Ok(50_000_000_000));
        size("16MiB", Ok(16_777_216));
        size("1kB", Ok(1000));
        size("1KB", Ok(1000));
        size("7B", Ok(7));
    }

    #[test]
    fn a_bad_size_says_how_to_write_it() {
        size("50gb", Err("not a size in bytes: \"50gb\"; write 50GB"));
        let advice = "write it like 1000, 50GB (decimal) or 16MiB (binary)";
        for text in ["", "GB", "-1", "1.5GB", "1_000", "50G", "1GBx"] {
            size(text, Err(&format!("not a size in bytes: {text:?}; {advice}")));
        }
        size("99999PB", Err("the size \"99999PB\" is too large"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (text, written) in [("90m", "1h30m"), ("8d", "8d"), ("1500ms", "1s500ms"), ("0", "0s")] {
            assert_eq!(text.parse::<Interval>().unwrap().to_string(), written);
            assert_eq!(written.parse::<Interval>(), text.parse::<Interval>());
        }
        for (text, written) in [("50000MB", "50GB"), ("16384KiB", "16MiB"), ("1001", "1001B"), ("0", "0B")] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), written);
            assert_eq!(written.parse::<Size>(), text.parse::<Size>());
        }
    }
}
