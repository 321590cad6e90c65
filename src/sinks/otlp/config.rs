//! What the configuration says about pushing OTLP.

use crate::config::scalar::Interval;
use crate::config::secret::{Reference, Text};
use crate::net::https::Url;
use crate::sinks::from_one_second;
use hyper::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// Path of metrics behind a base address. <https://opentelemetry.io/docs/specs/otlp/#otlphttp-request>
const METRICS_PATH: &str = "/v1/metrics";

/// Words in a header's name that tell of a credential in its value.
const CREDENTIALS: [&str; 6] = ["auth", "key", "token", "secret", "cookie", "password"];

/// Headers that the request itself needs.
const OURS: [&str; 6] =
    ["host", "connection", "content-type", "content-length", "content-encoding", "transfer-encoding"];

/// Where the collector listens and how it wants its metrics.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Otlp")]
pub struct Config {
    /// Base address of the collector, such as `http://127.0.0.1:4318`; `/v1/metrics` is put behind it unless it ends so.
    pub endpoint: Url,
    /// How often everything is sent.
    #[serde(default = "fifteen_seconds", deserialize_with = "from_one_second")]
    pub every: Interval,
    /// Whether totals go as they are or as differences.
    #[serde(default)]
    pub temporality: Temporality,
    /// Headers of every request; credentials by reference only.
    #[serde(default)]
    pub headers: Headers,
    /// File with the certificates of the authorities to trust (PEM), relative to the configuration; the system's when absent.
    pub ca: Option<PathBuf>,
    /// How long one request may take.
    #[serde(default = "ten_seconds", deserialize_with = "from_one_second")]
    pub timeout: Interval,
    /// Resource attributes. `service.name`, `service.version` and `service.instance.id` (the host's name) are there already and
    /// can be replaced.
    #[serde(default)]
    pub resource: BTreeMap<String, String>,
    /// How bodies are compressed.
    #[serde(default)]
    pub compression: Compression,
}

/// Whether totals go as they are or as differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Temporality {
    /// Totals since their start.
    #[default]
    Cumulative,
    /// What was gained since the last push, which Datadog prefers.
    Delta,
}

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// About a sixth of the bytes.
    #[default]
    Gzip,
    /// As they are.
    None,
}

/// Headers by name; the values of those that carry credentials are references.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(transparent)]
pub struct Headers(BTreeMap<String, Text>);

impl Config {
    /// Where metrics go: the endpoint, and behind it what the protocol says unless it ends so.
    pub(super) fn url(&self) -> Url {
        let base = self.endpoint.path().trim_end_matches('/');
        let path =
            if base.ends_with(METRICS_PATH) { base.to_owned() } else { format!("{base}{METRICS_PATH}") };
        self.endpoint.with_path(path)
    }
}

impl Headers {
    /// Names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Text)> {
        self.0.iter()
    }

    /// The references among the values.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.0.values().filter_map(|text| match text {
            Text::Kept(reference) => Some(reference),
            Text::Plain(_) => None,
        })
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let headers = BTreeMap::<String, Text>::deserialize(deserializer)?;
        for (name, text) in &headers {
            let fault = |why: &str| Err(de::Error::custom(format!("header {name:?}: {why}")));
            let Ok(known) = HeaderName::from_str(name) else {
                return fault("this is not the name of a header");
            };
            if OURS.contains(&known.as_str()) {
                return fault("the request sets it itself");
            }
            if let Text::Plain(value) = text {
                // The value may be a password in clear: it is not repeated in the fault.
                if CREDENTIALS.iter().any(|word| known.as_str().contains(word)) {
                    return fault(
                        "a secret in clear text is not accepted here; write env:NAME or file:/path",
                    );
                }
                if HeaderValue::from_str(value).is_err() {
                    return fault("its value has characters that no header may have");
                }
            }
        }
        Ok(Self(headers))
    }
}

impl From<Temporality> for metrics::otlp::Temporality {
    fn from(temporality: Temporality) -> Self {
        match temporality {
            Temporality::Cumulative => Self::Cumulative,
            Temporality::Delta => Self::Delta,
        }
    }
}

fn fifteen_seconds() -> Interval {
    Interval::seconds(15)
}

fn ten_seconds() -> Interval {
    Interval::seconds(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Config, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_endpoint_is_required() {
        let config = read(r#"{"endpoint": "http://127.0.0.1:4318"}"#).unwrap();
        assert_eq!(config.every, Interval::seconds(15));
        assert_eq!(config.timeout, Interval::seconds(10));
        assert_eq!((config.temporality, config.compression), (Temporality::Cumulative, Compression::Gzip));
        assert!(config.resource.is_empty() && config.ca.is_none() && config.headers == Headers::default());
    }

    #[test]
    fn metrics_have_their_own_path_behind_a_base_address() {
        for (endpoint, path) in [
            ("http://h:4318", "/v1/metrics"),
            ("http://h:4318/", "/v1/metrics"),
            ("http://h:9090/api/v1/otlp", "/api/v1/otlp/v1/metrics"),
            ("http://h:9090/api/v1/otlp/v1/metrics", "/api/v1/otlp/v1/metrics"),
        ] {
            assert_eq!(read(&format!(r#"{{"endpoint": "{endpoint}"}}"#)).unwrap().url().path(), path);
        }
    }

    #[test]
    fn a_credential_in_clear_text_is_a_fault_that_does_not_repeat_it() {
        let header = |line: &str| read(&format!(r#"{{"endpoint": "http://h", "headers": {{{line}}}}}"#));
        for name in ["Authorization", "dd-api-key", "X-Token"] {
            let fault = header(&format!(r#""{name}": "hunter2""#)).unwrap_err();
            assert!(fault.contains("write env:NAME") && !fault.contains("hunter2"), "{fault}");
            assert!(header(&format!(r#""{name}": "env:TOKEN""#)).is_ok());
        }
        assert!(header(r#""x-scope-orgid": "team-a""#).is_ok());
        assert!(header(r#""Host": "elsewhere""#).unwrap_err().contains("sets it itself"));
        assert!(header(r#""a b": "c""#).unwrap_err().contains("not the name of a header"));
        assert!(header(r#""a": "b\nc""#).unwrap_err().contains("no header may have"));
    }

    #[test]
    fn unknown_words_and_short_intervals_are_faults() {
        assert!(
            read(r#"{"endpoint": "http://h", "every": "500ms"}"#).unwrap_err().contains("1s is the least")
        );
        assert!(read(r#"{"endpoint": "http://h", "temporality": "both"}"#).is_err());
        assert!(read(r#"{"endpoint": "http://h", "interval": "5s"}"#).is_err());
        assert!(read("{}").is_err());
    }
}
