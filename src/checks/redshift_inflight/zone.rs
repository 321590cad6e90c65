//! Times and minutes as people want to read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::de::{self, Deserialize, Deserializer};
use std::borrow::Cow;

/// A time zone of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl Zone {
    /// A moment in this zone, with its offset: `2026-11-20T17:53:51.168+09:00`.
    pub fn show(&self, moment: Timestamp) -> String {
        moment.to_zoned(self.0.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
    }
}

/// Minutes as a fraction, to four digits: 3674.07 s are 61.2345 min.
pub fn minutes(seconds: f64) -> f64 {
    (seconds / 60.0 * 1e4).round() / 1e4
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        TimeZone::get(&name).map(Self).map_err(|_unknown| {
            de::Error::custom(format!(
                "there is no time zone \"{name}\"; write it like Asia/Tokyo, or leave it out for UTC"
            ))
        })
    }
}

impl schemars::JsonSchema for Zone {
    fn schema_name() -> Cow<'static, str> {
        "Zone".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "a time zone of the IANA database, such as Asia/Tokyo; UTC when absent" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_in_the_zone_with_its_offset() {
        let zone: Zone = serde_json::from_str("\"Asia/Tokyo\"").unwrap();
        assert_eq!(zone.show("2026-11-20T08:53:51.168Z".parse().unwrap()), "2026-11-20T17:53:51.168+09:00");
        assert!(
            serde_json::from_str::<Zone>("\"Asia/Kyoto\"").unwrap_err().to_string().contains("Asia/Tokyo")
        );
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "rounded to just this")]
    fn minutes_are_a_fraction() {
        assert_eq!(minutes(3674.07), 61.2345);
    }
}
