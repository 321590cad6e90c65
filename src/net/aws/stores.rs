//! MemoryDB and ElastiCache by their control plane: clusters with shards and nodes, snapshots, events.
//!
//! The calls are signed here, as those of Redshift and RDS: the SDK of MemoryDB speaks a binary protocol that no double of AWS
//! understands, and the two SDKs have 227,000 lines for eight small calls.

mod elasticache;
mod memorydb;

use super::{Aws, Place};
use crate::check::{Problem, Reason};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// More things than this are no answer that we could tell in metrics.
const MOST: usize = 10_000;
/// Events are kept for so long.
const LONGEST_LOOK: Duration = Duration::from_hours(14 * 24);

/// Which of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Amazon MemoryDB.
    #[default]
    Memorydb,
    /// Amazon ElastiCache: replication groups, with cluster mode or without.
    Elasticache,
}

/// A cluster of MemoryDB, or a replication group of ElastiCache.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreCluster {
    /// Its name.
    pub name: String,
    /// As AWS says it: available, creating, modifying, ...
    pub status: String,
    /// `redis` or `valkey`.
    pub engine: String,
    /// Version of the engine.
    pub version: String,
    /// Type of its nodes.
    pub node_type: String,
    /// Updates of the service that wait for their window, or are being made; `None` where they are asked for apart.
    pub pending: Option<u32>,
    /// Its shards.
    pub shards: Vec<StoreShard>,
}

/// A shard: a part of the slots with its nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreShard {
    /// Its name, such as 0001.
    pub name: String,
    /// How many nodes AWS wants it to have; `None` when it does not say.
    pub wanted: Option<f64>,
    /// The nodes.
    pub nodes: Vec<StoreNode>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreNode {
    /// Its name.
    pub name: String,
    /// As AWS says it; `None` when it does not.
    pub status: Option<String>,
    /// `primary` or `replica`, where AWS says it.
    pub role: Option<String>,
    /// Availability zone.
    pub zone: Option<String>,
    /// When it was made: a younger one has taken the place of another.
    pub created: Option<Timestamp>,
}

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreSnapshot {
    /// The cluster that it is of.
    pub cluster: String,
    /// `manual` or `automated`.
    pub source: String,
    /// As AWS says it: creating, available, ...
    pub status: String,
    /// When it was taken; of its shards the last.
    pub taken: Option<Timestamp>,
}

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreEvent {
    /// When it happened.
    pub at: Timestamp,
    /// The cluster or node that it is about.
    pub source: String,
    /// What AWS says.
    pub message: String,
}

impl Aws {
    /// All clusters of a region.
    ///
    /// # Errors
    /// `credentials`, `permission`, `throttled`, `aws`, `row_limit`, and what keeps an answer away.
    pub async fn store_clusters(
        &self,
        service: Service,
        place: &Place,
        deadline: Instant,
    ) -> Result<Vec<StoreCluster>, Problem> {
        match service {
            Service::Memorydb => self.memorydb_clusters(place, deadline).await,
            Service::Elasticache => self.elasticache_groups(place, deadline).await,
        }
    }

    /// How many updates wait for each cluster, where that is a question of its own; `None`: the clusters say it.
    ///
    /// # Errors
    /// As [`Aws::store_clusters`].
    pub async fn store_updates(
        &self,
        service: Service,
        place: &Place,
        deadline: Instant,
    ) -> Result<Option<BTreeMap<String, u32>>, Problem> {
        match service {
            Service::Memorydb => Ok(None),
            Service::Elasticache => self.elasticache_updates(place, deadline).await.map(Some),
        }
    }

    /// All snapshots of a region.
    ///
    /// # Errors
    /// As [`Aws::store_clusters`].
    pub async fn store_snapshots(
        &self,
        service: Service,
        place: &Place,
        deadline: Instant,
    ) -> Result<Vec<StoreSnapshot>, Problem> {
        match service {
            Service::Memorydb => self.memorydb_snapshots(place, deadline).await,
            Service::Elasticache => self.elasticache_snapshots(place, deadline).await,
        }
    }

    /// Events of the last `span`, which AWS keeps for 14 days.
    ///
    /// # Errors
    /// As [`Aws::store_clusters`].
    pub async fn store_events(
        &self,
        service: Service,
        place: &Place,
        span: Duration,
        deadline: Instant,
    ) -> Result<Vec<StoreEvent>, Problem> {
        let minutes = span.min(LONGEST_LOOK).as_secs().div_ceil(60);
        match service {
            Service::Memorydb => self.memorydb_events(place, minutes, deadline).await,
            Service::Elasticache => self.elasticache_events(place, minutes, deadline).await,
        }
    }
}

/// What is wrong with an answer that has no end.
fn pages(operation: &str, found: usize, next: Option<&str>, before: Option<&str>) -> Result<(), Problem> {
    if next.is_some() && next == before {
        return Err(Problem::new(Reason::Protocol, format!("{operation} gave the same page twice")));
    }
    if found > MOST {
        return Err(Problem::new(Reason::RowLimit, format!("{operation} names more than {MOST}")));
    }
    Ok(())
}
