//! `discover:`: targets that AWS names, instead of a list.

use super::scalar::Interval;
use super::secret::{Reference, Text};
use super::target::{Auth, Port, Role, Server, Target, Thresholds, Tls};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Looking for targets takes a call a hundred of them.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Where targets are looked for.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Discover {
    /// Amazon RDS and Aurora.
    pub rds: Rds,
}

/// Instances of RDS and Aurora for PostgreSQL, and how to log in to each of them.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rds {
    /// Tags that the instance or its cluster has to have, all of them.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Which of them.
    #[serde(default)]
    pub role: Which,
    /// How often they are looked for.
    #[serde(default = "five_minutes")]
    pub every: Interval,
    /// Login role.
    pub user: Text,
    /// Where its password is kept.
    pub password: Option<Reference>,
    /// `iam`: a token instead of a password.
    pub auth: Option<Auth>,
    /// Database to connect to.
    pub database: Text,
    /// How connections are protected.
    #[serde(default)]
    pub tls: Tls,
    /// File with the authorities to trust (PEM), relative to the configuration.
    pub ca: Option<PathBuf>,
    /// Region to look in; the SDK's own when absent.
    pub region: Option<String>,
    /// ARN of a role to assume, to look and for `auth: iam`.
    pub assume_role: Option<String>,
    /// Labels put on every sample of every target.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Limits of every target.
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// Which instances of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// The one that takes writes; an instance without a cluster is one, unless it is a read replica.
    #[default]
    Writer,
    /// Those that only read.
    Reader,
    /// All of them.
    All,
}

const fn five_minutes() -> Interval {
    Interval::seconds(300)
}

impl Rds {
    /// What is wrong with the keys together: which of them, and in words.
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        match () {
            () if self.every.duration() < Duration::from_secs(10) => {
                Some(("every", "shorter than 10s: AWS slows down who asks so often"))
            }
            () if self.auth.is_some() && self.password.is_some() => {
                Some(("password", "there is `auth: iam` as well; write one of the two"))
            }
            () => None,
        }
    }

    /// The target that an instance becomes.
    pub fn server(&self, identifier: &str, host: &str, port: u16) -> Arc<Server> {
        let target = Target {
            host: Text::Plain(host.to_owned()),
            port: Some(Port::Plain(port)),
            user: Some(self.user.clone()),
            password: self.password.clone(),
            auth: self.auth,
            region: self.region.clone(),
            assume_role: self.assume_role.clone(),
            cluster: Some(crate::net::aws::Cluster::RdsInstance(identifier.to_owned())),
            serverless: false,
            database: self.database.clone(),
            tls: self.tls,
            ca: self.ca.clone(),
            role: Role::Any,
            labels: self.labels.clone(),
            publisher: None,
            thresholds: self.thresholds.clone(),
        };
        Arc::new(Server { name: identifier.to_owned(), target })
    }
}
