//! What INFO says: lines of `field:value`, read by name, because every version adds some.

use crate::net::redis::Address;
use std::collections::BTreeMap;

/// The fields of INFO, or of CLUSTER INFO, which is written in the same way.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Info(BTreeMap<String, String>);

/// A replica as its primary sees it: `slaveN`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Replica {
    pub(super) address: Address,
    /// Its state is `online`: it takes changes.
    pub(super) online: bool,
    pub(super) offset: Option<f64>,
    /// Seconds.
    pub(super) lag: Option<f64>,
}

/// What INFO says of one database: `dbN`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Keyspace<'a> {
    pub(super) db: &'a str,
    pub(super) keys: Option<f64>,
    pub(super) expires: Option<f64>,
}

impl Info {
    pub(super) fn read(text: &str) -> Self {
        let fields =
            text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str)
    }

    /// A number of this field. Redis writes -1 for a time that there is not.
    pub(super) fn number(&self, field: &str) -> Option<f64> {
        self.text(field)?.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
    }

    /// Whether it takes part in a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.text("cluster_enabled") == Some("1") || self.text("redis_mode") == Some("cluster")
    }

    /// `role`: 1 for a primary; `None` for a Sentinel, and where it does not say.
    pub(super) fn is_primary(&self) -> Option<bool> {
        match self.text("role")? {
            "master" => Some(true),
            "slave" | "replica" => Some(false),
            _ => None,
        }
    }

    /// Whether the link of a replica to its primary is up.
    pub(super) fn link_is_up(&self) -> Option<bool> {
        self.text("master_link_status").map(|status| status == "up")
    }

    /// The primary of a replica.
    pub(super) fn primary(&self) -> Option<Address> {
        let port = self.text("master_port")?.parse().ok().filter(|port| *port > 0)?;
        let host = self.text("master_host").filter(|host| !host.is_empty())?.to_owned();
        Some(Address { host, port })
    }

    /// `redis` or `valkey`, and its own version.
    pub(super) fn server(&self) -> (&str, &str) {
        let redis = self.text("redis_version").unwrap_or_default();
        match self.text("valkey_version") {
            Some(version) => ("valkey", version),
            None => (self.text("server_name").unwrap_or("redis"), redis),
        }
    }

    pub(super) fn replicas(&self) -> Vec<Replica> {
        self.numbered("slave").filter_map(|(_, line)| replica(line)).collect()
    }

    pub(super) fn keyspaces(&self) -> Vec<Keyspace<'_>> {
        let keyspace = |(db, line)| {
            let number = |name| pair(line, name).and_then(|number| number.parse().ok());
            Keyspace { db, keys: number("keys"), expires: number("expires") }
        };
        self.numbered("db").map(keyspace).collect()
    }

    /// Fields that are a word and a number, such as `db0`.
    fn numbered(&self, word: &'static str) -> impl Iterator<Item = (&str, &str)> {
        let fits = move |name: &str| {
            name.strip_prefix(word)
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
        };
        self.0.iter().filter(move |(name, _)| fits(name)).map(|(name, line)| (name.as_str(), line.as_str()))
    }
}

/// `ip=10.0.0.7,port=6379,state=online,offset=14,lag=1`
fn replica(line: &str) -> Option<Replica> {
    let host = pair(line, "ip").filter(|host| !host.is_empty())?.to_owned();
    let port = pair(line, "port")?.parse().ok().filter(|port| *port > 0)?;
    let number =
        |name| pair(line, name).and_then(|number| number.parse().ok()).filter(|number: &f64| *number >= 0.0);
    Some(Replica {
        address: Address { host, port },
        online: pair(line, "state") == Some("online"),
        offset: number("offset"),
        lag: number("lag"),
    })
}

fn pair<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(',')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}
