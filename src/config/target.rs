//! Targets: a server named once, used by many checks.

use super::scalar::{Interval, Size};
use super::secret::{Reference, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A server and how to log in.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Host name or address; also the name that the certificate has to carry.
    pub host: Text,
    /// TCP port; the protocol's own when absent (PostgreSQL: 5432).
    pub port: Option<u16>,
    /// Login role.
    pub user: Text,
    /// Where its password is kept.
    pub password: Option<Reference>,
    /// Database to connect to.
    pub database: Text,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: Tls,
    /// File with the certificates of the authorities to trust (PEM), relative to the configuration; the system's when absent.
    pub ca: Option<PathBuf>,
    /// The server has to be this: `writer` makes a reader (a replica) a failure with reason `wrong_role`.
    #[serde(default)]
    pub role: Role,
    /// Labels put on every sample of this target.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The other end of a replication, for `pg_subscription`; beats the check's own.
    pub publisher: Option<String>,
    /// Limits of this target, joined by the bundled rules; they beat the check's.
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Tls {
    /// No TLS at all.
    Disable,
    /// Encrypted, but anybody may be at the other end.
    Require,
    /// Encrypted, and the certificate comes from a trusted authority.
    VerifyCa,
    /// Encrypted, and the certificate comes from a trusted authority and carries the host name.
    #[default]
    VerifyFull,
}

impl<'de> Deserialize<'de> for Tls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.as_str() {
            "disable" => Ok(Self::Disable),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            "allow" | "prefer" => Err(de::Error::custom(format!(
                "`{word}` goes on without TLS when the server wants it so; write verify-full, or disable if that is meant"
            ))),
            _ => Err(de::Error::unknown_variant(&word, &["disable", "require", "verify-ca", "verify-full"])),
        }
    }
}

/// What a server has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A writer or a reader.
    #[default]
    Any,
    /// The writer: not in recovery.
    Writer,
}

/// Limits that the bundled rules use instead of their own; shown as `datapulse_check_threshold`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// How long a query may be in flight.
    pub elapsed: Option<Interval>,
    /// How long a publisher may be silent.
    pub silence: Option<Interval>,
    /// How far a subscription may be behind.
    pub lag_bytes: Option<Size>,
    /// How much WAL a slot may keep back.
    pub retained_bytes: Option<Size>,
}

impl Thresholds {
    /// The limits that are set, in base units, under their label value; `self` beats `other`.
    pub fn over(&self, other: &Self) -> Vec<(&'static str, f64)> {
        let seconds = |limit: &Option<Interval>| limit.as_ref().map(|limit| limit.duration().as_secs_f64());
        let bytes = |limit: &Option<Size>| limit.as_ref().map(|limit| limit.0 as f64);
        [
            ("elapsed", seconds(&self.elapsed).or(seconds(&other.elapsed))),
            ("silence", seconds(&self.silence).or(seconds(&other.silence))),
            ("lag_bytes", bytes(&self.lag_bytes).or(bytes(&other.lag_bytes))),
            ("retained_bytes", bytes(&self.retained_bytes).or(bytes(&other.retained_bytes))),
        ]
        .into_iter()
        .filter_map(|(name, limit)| Some((name, limit?)))
        .collect()
    }
}

/// A target with the name that people know it by.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Name of the target, or `host:port` of an inline one.
    pub name: String,
    /// How to reach it; paths are absolute.
    pub target: Target,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(word: &str) -> Result<Tls, String> {
        serde_json::from_value(serde_json::json!(word)).map_err(|error| error.to_string())
    }

    #[test]
    fn words_that_fall_back_to_plain_text_are_refused_with_a_way_out() {
        assert_eq!(tls("verify-full"), Ok(Tls::VerifyFull));
        for word in ["allow", "prefer"] {
            assert!(tls(word).unwrap_err().contains("write verify-full"));
        }
        assert!(tls("on").unwrap_err().contains("unknown variant `on`, expected one of `disable`"));
    }
}
