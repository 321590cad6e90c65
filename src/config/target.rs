//! Targets: a server named once, used by many checks.

use super::scalar::{Interval, Size};
use super::secret::{Reference, Text, WRITTEN};
use crate::net::aws::{Cluster, Place};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A server and how to log in.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Host name or address; also the name that the certificate has to carry.
    pub host: Text,
    /// TCP port; the server's own when absent (PostgreSQL 5432, Redis 6379, Redshift 5439 where the host name or `cluster` tells it).
    pub port: Option<Port>,
    /// Login role; not needed for `auth: iam` on Redshift Serverless, where AWS names the user after the IAM role, nor by a Redis that
    /// knows only a password.
    pub user: Option<Text>,
    /// Where its password is kept.
    pub password: Option<Reference>,
    /// `iam`: instead of a password, a token that AWS gives for each login to RDS, Aurora, Redshift,
    /// ElastiCache or MemoryDB.
    pub auth: Option<Auth>,
    /// AWS region of `auth: iam`; told by the host name when absent.
    pub region: Option<String>,
    /// ARN of a role to assume for `auth: iam`.
    pub assume_role: Option<String>,
    /// What AWS calls the cluster; told by the host name when absent.
    pub cluster: Option<Cluster>,
    /// It pauses when nobody asks and is paid while it is asked, such as Aurora Serverless: checks run every 15m by default, and no
    /// session stays open between two runs. Redshift Serverless is known by its host name.
    #[serde(default)]
    pub serverless: bool,
    /// Database to connect to; a store such as Redis needs none.
    #[serde(default = "Text::none")]
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

/// A port: a number, or where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// The number.
    Plain(u16),
    /// Where it is kept; a source without it means the protocol's own port.
    Kept(Reference),
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> de::Visitor<'de> for Read {
            type Value = Port;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port, 1 to 65535")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, written: D) -> Result<Port, D::Error> {
                written.deserialize_any(self)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Port, E> {
                let port = u16::try_from(number).ok().filter(|port| *port > 0);
                port.map(Port::Plain).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Port, E> {
                match (text.parse::<u64>(), Reference::parse(text)) {
                    (Ok(number), _) => self.visit_u64(number),
                    (_, Some(reference)) => Ok(Port::Kept(reference)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_newtype_struct(WRITTEN, Read)
    }
}

impl JsonSchema for Port {
    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 65535 }, { "type": "string" }],
            "description": "a port, or where it is kept"
        })
    }
}

/// How to log in without a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// A token of AWS Identity and Access Management.
    Iam,
}

impl Target {
    /// What has to be resolved before a login, without the port, which may be missing.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        let texts = [Some(&self.host), self.login_role(), Some(&self.database)].into_iter().flatten();
        texts.filter_map(Text::reference).chain(&self.password)
    }

    /// What has to be resolved before a login without SQL: a store may be kept elsewhere without a user and a database.
    pub fn store_references(&self) -> impl Iterator<Item = &Reference> {
        self.host.reference().into_iter().chain(&self.password)
    }

    /// As whom to log in; `None` where AWS names the user.
    pub fn login_role(&self) -> Option<&Text> {
        self.user.as_ref().filter(|_| !self.aws_names_the_user())
    }

    /// Whether `user` has no say: credentials of Redshift Serverless come with the name of the IAM role that asks for them.
    pub fn aws_names_the_user(&self) -> bool {
        self.auth == Some(Auth::Iam) && matches!(self.cluster(), Some(Cluster::RedshiftServerless(_)))
    }

    /// The port, where it is kept elsewhere.
    pub fn port_reference(&self) -> Option<&Reference> {
        match &self.port {
            Some(Port::Kept(reference)) => Some(reference),
            _ => None,
        }
    }

    /// What AWS calls it.
    pub fn cluster(&self) -> Option<Cluster> {
        match (&self.cluster, &self.host) {
            (Some(cluster), _) => Some(cluster.clone()),
            (None, Text::Plain(host)) => Cluster::of_host(host),
            (None, Text::Kept(_)) => None,
        }
    }

    /// Whether it is paid by the time in which it is asked.
    pub fn is_serverless(&self) -> bool {
        self.serverless || matches!(self.cluster(), Some(Cluster::RedshiftServerless(_)))
    }

    /// Where in AWS it is, and as whom to ask there.
    pub fn place(&self) -> Place {
        let host = match &self.host {
            Text::Plain(host) => Cluster::region_of_host(host),
            Text::Kept(_) => None,
        };
        Place { region: self.region.clone().or(host), assume_role: self.assume_role.clone() }
    }
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

impl Server {
    /// What a check has in place of a target when it asks an AWS API. Nothing answers there.
    pub fn nowhere() -> Self {
        let none = || Text::Plain(String::new());
        let target = Target {
            host: none(),
            port: None,
            user: None,
            password: None,
            auth: None,
            region: None,
            assume_role: None,
            cluster: None,
            serverless: false,
            database: none(),
            tls: Tls::default(),
            ca: None,
            role: Role::Any,
            labels: BTreeMap::new(),
            publisher: None,
            thresholds: Thresholds::default(),
        };
        Self { name: "no target".to_owned(), target }
    }
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
