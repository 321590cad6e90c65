//! ElastiCache; <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/>

use super::super::query::{ELASTICACHE, element, elements};
use super::super::{Aws, Place};
use super::{StoreCluster, StoreEvent, StoreNode, StoreShard, StoreSnapshot, pages};
use crate::check::{Problem, Reason};
use jiff::Timestamp;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// States of an update that is still to come.
const STILL_TO_COME: [&str; 5] =
    ["not-applied", "waiting-to-start", "in-progress", "scheduling", "scheduled"];

/// What the description of a node says and that of its group does not.
#[derive(Clone, Debug, Default)]
struct CacheCluster {
    status: Option<String>,
    engine: Option<String>,
    version: Option<String>,
    created: Option<Timestamp>,
}

impl Aws {
    pub(super) async fn elasticache_groups(
        &self,
        place: &Place,
        deadline: Instant,
    ) -> Result<Vec<StoreCluster>, Problem> {
        let groups =
            self.elasticache(place, ("DescribeReplicationGroups", "ReplicationGroup"), &[], deadline).await?;
        let nodes = self.elasticache(place, ("DescribeCacheClusters", "CacheCluster"), &[], deadline).await?;
        let nodes: BTreeMap<String, CacheCluster> =
            nodes.iter().filter_map(|xml| cache_cluster(xml)).collect();
        Ok(groups.iter().map(|xml| group(xml, &nodes)).collect())
    }

    pub(super) async fn elasticache_updates(
        &self,
        place: &Place,
        deadline: Instant,
    ) -> Result<BTreeMap<String, u32>, Problem> {
        let found = self.elasticache(place, ("DescribeUpdateActions", "UpdateAction"), &[], deadline).await?;
        let mut pending: BTreeMap<String, u32> = BTreeMap::new();
        for update in &found {
            let waits = element(update, "UpdateActionStatus")
                .is_some_and(|status| STILL_TO_COME.contains(&status.as_str()));
            if let Some(group) = element(update, "ReplicationGroupId").filter(|_| waits) {
                *pending.entry(group).or_default() += 1;
            }
        }
        Ok(pending)
    }

    pub(super) async fn elasticache_snapshots(
        &self,
        place: &Place,
        deadline: Instant,
    ) -> Result<Vec<StoreSnapshot>, Problem> {
        let found = self.elasticache(place, ("DescribeSnapshots", "Snapshot"), &[], deadline).await?;
        Ok(found.iter().map(|xml| snapshot(xml)).collect())
    }

    pub(super) async fn elasticache_events(
        &self,
        place: &Place,
        minutes: u64,
        deadline: Instant,
    ) -> Result<Vec<StoreEvent>, Problem> {
        let minutes = minutes.to_string();
        let fields = [("Duration", minutes.as_str())];
        let found = self.elasticache(place, ("DescribeEvents", "Event"), &fields, deadline).await?;
        Ok(found.iter().filter_map(|xml| event(xml)).collect())
    }

    /// What stands inside each element of a list, of all pages.
    async fn elasticache(
        &self,
        place: &Place,
        (operation, name): (&str, &str),
        fields: &[(&str, &str)],
        deadline: Instant,
    ) -> Result<Vec<String>, Problem> {
        let mut all = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let mut asked = fields.to_vec();
            asked.extend(marker.as_deref().map(|marker| ("Marker", marker)));
            let xml = self.query(ELASTICACHE, place, operation, &asked, deadline).await?;
            if !xml.contains(&format!("{operation}Result")) {
                return Err(Problem::new(
                    Reason::Protocol,
                    format!("the answer of {operation} has no result"),
                ));
            }
            all.extend(elements(&xml, name).map(str::to_owned));
            let next = element(&xml, "Marker").filter(|marker| !marker.is_empty());
            pages(operation, all.len(), next.as_deref(), marker.as_deref())?;
            if next.is_none() {
                return Ok(all);
            }
            marker = next;
        }
    }
}

fn cache_cluster(xml: &str) -> Option<(String, CacheCluster)> {
    let found = CacheCluster {
        status: element(xml, "CacheClusterStatus"),
        engine: element(xml, "Engine"),
        version: element(xml, "EngineVersion"),
        created: element(xml, "CacheClusterCreateTime").and_then(|time| time.parse().ok()),
    };
    Some((element(xml, "CacheClusterId")?, found))
}

fn group(xml: &str, nodes: &BTreeMap<String, CacheCluster>) -> StoreCluster {
    // The group's own status stands before those of its shards, or after them: what is inside them is left out.
    let inside = elements(xml, "NodeGroups").next().unwrap_or_default();
    let own = xml.replace(inside, "");
    let shards: Vec<StoreShard> =
        elements(inside, "NodeGroup").map(|shard| node_group(shard, nodes)).collect();
    let first = shards.iter().flat_map(|shard| &shard.nodes).find_map(|node| nodes.get(&node.name));
    let engine = element(&own, "Engine").or_else(|| first.and_then(|node| node.engine.clone()));
    StoreCluster {
        name: element(&own, "ReplicationGroupId").unwrap_or_default(),
        status: element(&own, "Status").unwrap_or_default(),
        engine: engine.unwrap_or_else(|| "redis".to_owned()).to_ascii_lowercase(),
        version: first.and_then(|node| node.version.clone()).unwrap_or_default(),
        node_type: element(&own, "CacheNodeType").unwrap_or_default(),
        pending: None,
        shards,
    }
}

fn node_group(xml: &str, nodes: &BTreeMap<String, CacheCluster>) -> StoreShard {
    let node = |member: &str| {
        let name = element(member, "CacheClusterId").unwrap_or_default();
        let known = nodes.get(&name).cloned().unwrap_or_default();
        StoreNode {
            status: known.status,
            role: element(member, "CurrentRole").filter(|role| !role.is_empty()),
            zone: element(member, "PreferredAvailabilityZone"),
            created: known.created,
            name,
        }
    };
    let nodes: Vec<StoreNode> = elements(xml, "NodeGroupMember").map(node).collect();
    StoreShard {
        name: element(xml, "NodeGroupId").unwrap_or_default(),
        // It lists those that it wants to have: one that is made anew stays in the list.
        wanted: Some(nodes.len() as f64).filter(|wanted| *wanted > 0.0),
        nodes,
    }
}

fn snapshot(xml: &str) -> StoreSnapshot {
    let times = elements(xml, "NodeSnapshot").filter_map(|node| element(node, "SnapshotCreateTime"));
    let cluster = element(xml, "ReplicationGroupId").filter(|group| !group.is_empty());
    StoreSnapshot {
        cluster: cluster.or_else(|| element(xml, "CacheClusterId")).unwrap_or_default(),
        source: element(xml, "SnapshotSource").unwrap_or_default(),
        status: element(xml, "SnapshotStatus").unwrap_or_default(),
        taken: times.filter_map(|time| time.parse().ok()).max(),
    }
}

fn event(xml: &str) -> Option<StoreEvent> {
    Some(StoreEvent {
        at: element(xml, "Date")?.parse().ok()?,
        source: element(xml, "SourceIdentifier").unwrap_or_default(),
        message: element(xml, "Message").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_group_is_its_own_and_a_node_that_is_not_described_has_none() {
        let xml = "<ReplicationGroupId>g</ReplicationGroupId><NodeGroups><NodeGroup><NodeGroupId>0001</NodeGroupId><Status>creating</Status>\
            <NodeGroupMembers><NodeGroupMember><CacheClusterId>g-001</CacheClusterId><CurrentRole>primary</CurrentRole></NodeGroupMember>\
            <NodeGroupMember><CacheClusterId>g-002</CacheClusterId></NodeGroupMember></NodeGroupMembers></NodeGroup></NodeGroups>\
            <Status>modifying</Status><CacheNodeType>cache.t4g.small</CacheNodeType>";
        let known = CacheCluster {
            status: Some("available".into()),
            version: Some("7.1".into()),
            ..CacheCluster::default()
        };
        let found = group(xml, &BTreeMap::from([("g-001".to_owned(), known)]));
        assert_eq!((found.status.as_str(), found.version.as_str()), ("modifying", "7.1"));
        let [shard] = found.shards.as_slice() else { panic!("{found:?}") };
        assert_eq!((shard.name.as_str(), shard.wanted), ("0001", Some(2.0)));
        assert_eq!(shard.nodes[0].status.as_deref(), Some("available"));
        assert_eq!((shard.nodes[1].status.clone(), shard.nodes[1].role.clone()), (None, None));
    }
}
