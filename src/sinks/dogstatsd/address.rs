//! Where a Datadog agent listens.

use crate::check::{Problem, Reason};
use crate::net::names::look_up;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio::time::timeout;

/// How long a name server may take.
const RESOLVE: Duration = Duration::from_secs(2);
/// Longest path that fits into the address of a Unix socket on Linux.
const LONGEST_PATH: usize = 107;

/// Where the agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix datagram socket, by its absolute path.
    Unix(PathBuf),
    /// A host, looked up at each cycle, and a UDP port.
    Udp {
        /// Name or address; an IPv6 address without brackets.
        host: String,
        /// UDP port.
        port: u16,
    },
}

/// An address that a datagram can be sent to.
#[derive(Clone, Debug)]
pub(super) enum Destination {
    /// A socket's path.
    Unix(PathBuf),
    /// An address and a port.
    Udp(SocketAddr),
}

impl Address {
    /// Looks the host up; a path stays what it is.
    pub(super) async fn resolve(&self) -> Result<Destination, Problem> {
        let (host, port) = match self {
            Self::Unix(path) => return Ok(Destination::Unix(path.clone())),
            Self::Udp { host, port } => (host.as_str(), *port),
        };
        let problem = || Problem::new(Reason::Dns, format!("could not look up {host}"));
        match timeout(RESOLVE, look_up(host, port)).await {
            Ok(Ok(found)) => found.first().copied().map(Destination::Udp).ok_or_else(problem),
            Ok(Err(error)) => Err(problem().because(error)),
            Err(elapsed) => Err(problem().because(elapsed)),
        }
    }

    /// Why nothing can be sent there.
    pub(super) fn problem(&self, error: io::Error) -> Problem {
        let reason = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Reason::Connect,
            io::ErrorKind::PermissionDenied => Reason::Permission,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Reason::Timeout,
            _ => Reason::Io,
        };
        let hint = match reason {
            Reason::Timeout => "the agent does not read fast enough",
            Reason::Permission => "the user that datapulse runs as needs write access to the socket",
            _ => "the Datadog agent has to run and to listen there",
        };
        Problem::new(reason, format!("could not send to {self}")).because(error).hint(hint)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Udp { host, port } if host.contains(':') => write!(f, "udp://[{host}]:{port}"),
            Self::Udp { host, port } => write!(f, "udp://{host}:{port}"),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unreadable =
            || format!("{text:?} is not an agent's address: write unix:///path/to/socket or udp://host:port");
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
                return Err(unreadable());
            }
            if path.len() > LONGEST_PATH {
                return Err(format!(
                    "the path of a socket has at most {LONGEST_PATH} bytes, this one has {}",
                    path.len()
                ));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let (host, port) =
            text.strip_prefix("udp://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(unreadable)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(unreadable)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let fits = match bare {
            Some(bare) => bare.parse::<Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
            }
        };
        if !fits {
            return Err(unreadable());
        }
        Ok(Self::Udp { host: bare.unwrap_or(host).to_owned(), port })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "DogStatsDAddress".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^(unix:///.+|udp://.+:[0-9]+)$",
            "description": "where the Datadog agent listens: unix:///path/to/socket or udp://host:port"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in [
            "unix:///var/run/datadog/dsd.socket",
            "udp://127.0.0.1:8125",
            "udp://agent.monitoring.svc:8125",
            "udp://[::1]:8125",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let host = "::1".to_owned();
        assert_eq!("udp://[::1]:8125".parse(), Ok(Address::Udp { host, port: 8125 }));
    }

    #[test]
    fn anything_else_is_a_fault_that_says_what_to_write() {
        let long = format!("unix:///{}", "x".repeat(LONGEST_PATH));
        assert!(long.parse::<Address>().unwrap_err().contains("at most 107 bytes, this one has 108"));
        for text in [
            "",
            "127.0.0.1:8125",
            "unix://relative",
            "unix:///",
            "/var/run/dsd.socket",
            "udp://host",
            "udp://host:0",
            "udp://host:99999",
            "udp://:8125",
            "udp://::1:8125",
            "udp://host:8125/path",
            "tcp://host:8125",
        ] {
            let fault = text.parse::<Address>().unwrap_err();
            assert!(fault.ends_with("write unix:///path/to/socket or udp://host:port"), "{text}: {fault}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_a_missing_one_is_a_dns_problem() {
        let found = "udp://localhost:8125".parse::<Address>().unwrap().resolve().await;
        assert!(
            matches!(found, Ok(Destination::Udp(address)) if address.port() == 8125 && address.ip().is_loopback())
        );
        let address = Address::Udp { host: "no host has this name".to_owned(), port: 1 };
        assert_eq!(address.resolve().await.unwrap_err().reason, Reason::Dns);
    }
}
