//! Logins by IAM: a signed token for RDS, Aurora, ElastiCache and MemoryDB, short-lived credentials for Redshift; and whether a cluster is paused.

use super::query::{Call, RDS, REDSHIFT, element, elements, system_time};
use super::{Aws, Place};
use crate::check::{Problem, Reason};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// An RDS token is good for 15 minutes, and only for the login; it is made for each.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.html>
const TOKEN_LIFE: Duration = Duration::from_mins(15);

/// A database cluster as AWS knows it. Told by the host name unless the configuration says it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cluster {
    /// A provisioned Redshift cluster, by its identifier.
    Redshift(String),
    /// A Redshift Serverless workgroup, by its name.
    RedshiftServerless(String),
    /// An RDS or Aurora cluster, by its identifier.
    Rds(String),
    /// An instance of RDS or Aurora, by its identifier.
    RdsInstance(String),
    /// A replication group of ElastiCache, by its identifier.
    Elasticache(String),
    /// A serverless cache of ElastiCache, by its name.
    ElasticacheServerless(String),
    /// A cluster of MemoryDB, by its name.
    Memorydb(String),
}

/// What to log in with.
#[derive(Debug)]
pub struct Login {
    /// The user; Redshift puts `IAM:` before the name.
    pub user: String,
    /// The password, good until `expires`.
    pub password: Zeroizing<String>,
    /// When it ends.
    pub expires: Timestamp,
}

impl Cluster {
    /// The cluster that a host name of AWS belongs to.
    ///
    /// `<cluster>.<id>.<region>.redshift.amazonaws.com`, `<workgroup>.<account>.<region>.redshift-serverless.amazonaws.com`,
    /// `<cluster>.cluster-<id>.<region>.rds.amazonaws.com`, `<instance>.<id>.<region>.rds.amazonaws.com`,
    /// `clustercfg.<cluster>.<id>.memorydb.<region>.amazonaws.com`, `<master|replica|clustercfg>.<group>.<id>.<zone>.cache.amazonaws.com`,
    /// `<cache>-<id>.serverless.<zone>.cache.amazonaws.com`
    pub fn of_host(host: &str) -> Option<Self> {
        let host = host.trim_end_matches(".cn");
        let mut labels = host.split('.');
        let first = labels.next()?.to_owned();
        let of_cluster = labels.next().is_some_and(|second| second.starts_with("cluster-"));
        match () {
            () if host.ends_with(".redshift.amazonaws.com") => Some(Self::Redshift(first)),
            () if host.ends_with(".redshift-serverless.amazonaws.com") => {
                Some(Self::RedshiftServerless(first))
            }
            () if host.ends_with(".rds.amazonaws.com") && of_cluster => Some(Self::Rds(first)),
            () if host.ends_with(".rds.amazonaws.com") => Some(Self::RdsInstance(first)),
            () => Self::of_store_host(host),
        }
    }

    /// <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/Endpoints.html>
    fn of_store_host(host: &str) -> Option<Self> {
        let labels: Vec<&str> = host.strip_suffix(".amazonaws.com")?.split('.').collect();
        match labels.as_slice() {
            ["clustercfg", name, _, "memorydb", _] => Some(Self::Memorydb((*name).to_owned())),
            ["master" | "replica" | "clustercfg", name, _, _, "cache"] => {
                Some(Self::Elasticache((*name).to_owned()))
            }
            [name, "serverless", _, "cache"] => {
                Some(Self::ElasticacheServerless(name.rsplit_once('-')?.0.to_owned()))
            }
            _ => None,
        }
    }

    /// The region in a host name of AWS. Those of ElastiCache have only a short word for it.
    pub fn region_of_host(host: &str) -> Option<String> {
        match Self::of_host(host)? {
            Self::Memorydb(_) => {
                let host = host.trim_end_matches(".cn").trim_end_matches(".amazonaws.com");
                return host.rsplit('.').next().map(str::to_owned);
            }
            Self::Elasticache(_) | Self::ElasticacheServerless(_) => return None,
            Self::Redshift(_) | Self::RedshiftServerless(_) | Self::Rds(_) | Self::RdsInstance(_) => {}
        }
        host.trim_end_matches(".cn").trim_end_matches(".amazonaws.com").rsplit('.').nth(1).map(str::to_owned)
    }
}

impl Aws {
    /// Credentials for a login to a cluster.
    ///
    /// # Errors
    /// `credentials`, `permission`, `throttled`, `aws`, and what keeps the answer away.
    pub async fn login(
        &self,
        cluster: &Cluster,
        place: &Place,
        server: (&str, u16),
        user: &str,
        database: &str,
        deadline: Instant,
    ) -> Result<Login, Problem> {
        match cluster {
            Cluster::Rds(_) | Cluster::RdsInstance(_) => self.rds_token(place, server, user).await,
            Cluster::Redshift(cluster) => {
                self.redshift_credentials(cluster, place, user, database, deadline).await
            }
            Cluster::RedshiftServerless(workgroup) => {
                self.serverless_credentials(workgroup, place, database, deadline).await
            }
            Cluster::Elasticache(_) | Cluster::ElasticacheServerless(_) | Cluster::Memorydb(_) => {
                let what = format!("{cluster:?} is no database that can be logged in to with SQL");
                Err(Problem::new(Reason::Auth, what).hint("check cluster: of the target"))
            }
        }
    }

    /// What a user of ElastiCache or MemoryDB has as password: a presigned request `connect`. Nobody is asked for it.
    /// <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html>
    /// <https://docs.aws.amazon.com/memorydb/latest/devguide/auth-iam.html>
    ///
    /// # Errors
    /// `credentials`, or `auth` when this is neither of the two.
    pub async fn store_token(
        &self,
        cluster: &Cluster,
        place: &Place,
        user: &str,
    ) -> Result<Zeroizing<String>, Problem> {
        let (service, name, kind) = match cluster {
            Cluster::Elasticache(name) => ("elasticache", name, ""),
            Cluster::ElasticacheServerless(name) => ("elasticache", name, "&ResourceType=ServerlessCache"),
            Cluster::Memorydb(name) => ("memorydb", name, ""),
            Cluster::Redshift(_)
            | Cluster::RedshiftServerless(_)
            | Cluster::Rds(_)
            | Cluster::RdsInstance(_) => {
                let what = format!("{cluster:?} is neither ElastiCache nor MemoryDB");
                return Err(Problem::new(Reason::Auth, what).hint("check cluster: of the target"));
            }
        };
        let user = super::query::encoded(user);
        let address = format!("{}/?Action=connect&User={user}{kind}", name.to_ascii_lowercase());
        self.presigned(service, place, address).await
    }

    /// An address with its signature, without the scheme in front.
    async fn presigned(
        &self,
        service: &str,
        place: &Place,
        address: String,
    ) -> Result<Zeroizing<String>, Problem> {
        let now = system_time();
        let signer = self.signer(place, now).await?;
        let uri = format!("https://{address}");
        let request = signer.sign(service, ("GET", &uri, &[], &[]), Some(TOKEN_LIFE), now)?;
        let mut token = Zeroizing::new(address);
        for (name, value) in request.params() {
            token.push_str(&format!("&{name}={}", super::query::encoded(value)));
        }
        Ok(token)
    }

    /// A presigned request `connect` is the password; nobody is asked for it.
    async fn rds_token(
        &self,
        place: &Place,
        (host, port): (&str, u16),
        user: &str,
    ) -> Result<Login, Problem> {
        let address = format!("{host}:{port}/?Action=connect&DBUser={}", super::query::encoded(user));
        let token = self.presigned("rds-db", place, address).await?;
        let expires = Timestamp::now().saturating_add(TOKEN_LIFE).unwrap_or(Timestamp::MAX);
        Ok(Login { user: user.to_owned(), password: token, expires })
    }

    /// <https://docs.aws.amazon.com/redshift/latest/APIReference/API_GetClusterCredentials.html>
    async fn redshift_credentials(
        &self,
        cluster: &str,
        place: &Place,
        user: &str,
        database: &str,
        deadline: Instant,
    ) -> Result<Login, Problem> {
        let fields =
            [("ClusterIdentifier", cluster), ("DbUser", user), ("DbName", database), ("AutoCreate", "false")];
        let xml =
            Zeroizing::new(self.query(REDSHIFT, place, "GetClusterCredentials", &fields, deadline).await?);
        let wanted = |name: &str| element(&xml, name).ok_or_else(|| absent("GetClusterCredentials", name));
        Ok(Login {
            user: wanted("DbUser")?,
            password: Zeroizing::new(wanted("DbPassword")?),
            expires: wanted("Expiration")?
                .parse()
                .map_err(|error| absent("GetClusterCredentials", "Expiration").because(error))?,
        })
    }

    /// <https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/API_GetCredentials.html>
    async fn serverless_credentials(
        &self,
        workgroup: &str,
        place: &Place,
        database: &str,
        deadline: Instant,
    ) -> Result<Login, Problem> {
        let call = Call {
            service: "redshift-serverless",
            service_id: "REDSHIFT_SERVERLESS",
            operation: "GetCredentials",
        };
        let body = serde_json::json!({ "workgroupName": workgroup, "dbName": database });
        let answer = self.json(call, "RedshiftServerless", place, &body, deadline).await?;
        let text = |name: &str| {
            let found = answer.get(name).and_then(serde_json::Value::as_str);
            found.map(str::to_owned).ok_or_else(|| absent("GetCredentials", name))
        };
        let expires = answer.get("expiration").and_then(serde_json::Value::as_f64);
        let expires = expires.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
        let expires = expires.and_then(|since| Timestamp::from_duration(since).ok());
        Ok(Login {
            user: text("dbUser")?,
            password: Zeroizing::new(text("dbPassword")?),
            expires: expires.ok_or_else(|| absent("GetCredentials", "expiration"))?,
        })
    }

    /// Whether a cluster does not run because somebody paused or stopped it, or because it has not come back yet. Asked only when it
    /// cannot be reached. `None`: this kind of cluster has no such state, as Redshift Serverless, which wakes up when it is asked.
    ///
    /// # Errors
    /// As [`Aws::login`].
    pub async fn is_paused(
        &self,
        cluster: &Cluster,
        place: &Place,
        deadline: Instant,
    ) -> Result<Option<bool>, Problem> {
        let (service, operation, field, name, element_name, status) = match cluster {
            Cluster::RedshiftServerless(_)
            | Cluster::Elasticache(_)
            | Cluster::ElasticacheServerless(_)
            | Cluster::Memorydb(_) => return Ok(None),
            Cluster::Redshift(name) => {
                (REDSHIFT, "DescribeClusters", "ClusterIdentifier", name, "Cluster", "ClusterStatus")
            }
            Cluster::Rds(name) => {
                (RDS, "DescribeDBClusters", "DBClusterIdentifier", name, "DBCluster", "Status")
            }
            Cluster::RdsInstance(name) => {
                (RDS, "DescribeDBInstances", "DBInstanceIdentifier", name, "DBInstance", "DBInstanceStatus")
            }
        };
        let xml = self.query(service, place, operation, &[(field, name)], deadline).await?;
        let cluster = elements(&xml, element_name).next();
        let found =
            cluster.and_then(|cluster| element(cluster, status)).ok_or_else(|| absent(operation, status))?;
        Ok(Some(
            ["paused", "pausing", "resuming", "stopped", "stopping", "starting"].contains(&found.as_str()),
        ))
    }
}

fn absent(operation: &str, field: &str) -> Problem {
    Problem::new(Reason::Protocol, format!("the answer of {operation} has no {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_aws_tell_cluster_and_region() {
        for (host, cluster, region) in [
            (
                "bi.abc.eu-west-1.redshift.amazonaws.com",
                Some(Cluster::Redshift("bi".into())),
                Some("eu-west-1"),
            ),
            (
                "wg.123456789012.us-east-1.redshift-serverless.amazonaws.com",
                Some(Cluster::RedshiftServerless("wg".into())),
                Some("us-east-1"),
            ),
            (
                "o.cluster-abc.ap-northeast-1.rds.amazonaws.com",
                Some(Cluster::Rds("o".into())),
                Some("ap-northeast-1"),
            ),
            (
                "o-1.abc.eu-west-1.rds.amazonaws.com",
                Some(Cluster::RdsInstance("o-1".into())),
                Some("eu-west-1"),
            ),
            (
                "clustercfg.s.abc.memorydb.eu-west-1.amazonaws.com",
                Some(Cluster::Memorydb("s".into())),
                Some("eu-west-1"),
            ),
            ("master.c.abc.euw1.cache.amazonaws.com", Some(Cluster::Elasticache("c".into())), None),
            (
                "my-c-abc.serverless.euw1.cache.amazonaws.com",
                Some(Cluster::ElasticacheServerless("my-c".into())),
                None,
            ),
            ("c-001.abc.0001.euw1.cache.amazonaws.com", None, None),
            ("o.abc.rds.cn-north-1.example.cn", None, None),
            ("db.internal", None, None),
        ] {
            assert_eq!(Cluster::of_host(host), cluster, "{host}");
            assert_eq!(Cluster::region_of_host(host).as_deref(), region, "{host}");
        }
    }
}
