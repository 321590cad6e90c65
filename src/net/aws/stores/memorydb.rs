//! MemoryDB; <https://docs.aws.amazon.com/memorydb/latest/APIReference/>

use super::super::query::Call;
use super::super::{Aws, Place};
use super::{StoreCluster, StoreEvent, StoreNode, StoreShard, StoreSnapshot, pages};
use crate::check::{Problem, Reason};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

const TARGET: &str = "AmazonMemoryDB";
/// States of an update that is still to come.
const STILL_TO_COME: [&str; 3] = ["available", "in-progress", "scheduled"];

impl Aws {
    pub(super) async fn memorydb_clusters(
        &self,
        place: &Place,
        deadline: Instant,
    ) -> Result<Vec<StoreCluster>, Problem> {
        let fields = ("ShowShardDetails", json!(true));
        let found = self.memorydb(place, ("DescribeClusters", "Clusters"), fields, deadline).await?;
        Ok(found.iter().map(cluster).collect())
    }

    pub(super) async fn memorydb_snapshots(
        &self,
        place: &Place,
        deadline: Instant,
    ) -> Result<Vec<StoreSnapshot>, Problem> {
        let fields = ("ShowDetail", json!(true));
        let found = self.memorydb(place, ("DescribeSnapshots", "Snapshots"), fields, deadline).await?;
        Ok(found.iter().map(snapshot).collect())
    }

    pub(super) async fn memorydb_events(
        &self,
        place: &Place,
        minutes: u64,
        deadline: Instant,
    ) -> Result<Vec<StoreEvent>, Problem> {
        let fields = ("Duration", json!(minutes));
        let found = self.memorydb(place, ("DescribeEvents", "Events"), fields, deadline).await?;
        Ok(found.iter().filter_map(event).collect())
    }

    /// All items of a list, page by page.
    async fn memorydb(
        &self,
        place: &Place,
        (operation, list): (&str, &str),
        (name, value): (&str, Value),
        deadline: Instant,
    ) -> Result<Vec<Value>, Problem> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut fields = Map::from_iter([(name.to_owned(), value.clone())]);
            fields.extend(token.iter().map(|token| ("NextToken".to_owned(), json!(token))));
            let call = Call { service: "memorydb", service_id: "MEMORYDB", operation };
            let mut answer = self.json(call, TARGET, place, &Value::Object(fields), deadline).await?;
            let Some(Value::Array(items)) = answer.get_mut(list).map(Value::take) else {
                return Err(Problem::new(
                    Reason::Protocol,
                    format!("the answer of {operation} has no {list}"),
                ));
            };
            all.extend(items);
            let next = text(&answer, "NextToken").filter(|next| !next.is_empty());
            pages(operation, all.len(), next.as_deref(), token.as_deref())?;
            if next.is_none() {
                return Ok(all);
            }
            token = next;
        }
    }
}

fn cluster(found: &Value) -> StoreCluster {
    let updates =
        found.get("PendingUpdates").map(|pending| items(pending, "ServiceUpdates")).unwrap_or_default();
    let pending = updates.iter().filter(|update| {
        text(update, "Status").is_some_and(|status| STILL_TO_COME.contains(&status.as_str()))
    });
    StoreCluster {
        name: text(found, "Name").unwrap_or_default(),
        status: text(found, "Status").unwrap_or_default(),
        // Before Valkey there was only one.
        engine: text(found, "Engine").unwrap_or_else(|| "redis".to_owned()).to_ascii_lowercase(),
        version: text(found, "EnginePatchVersion")
            .or_else(|| text(found, "EngineVersion"))
            .unwrap_or_default(),
        node_type: text(found, "NodeType").unwrap_or_default(),
        pending: Some(u32::try_from(pending.count()).unwrap_or(u32::MAX)),
        shards: items(found, "Shards").iter().map(shard).collect(),
    }
}

fn shard(found: &Value) -> StoreShard {
    let node = |node: &Value| StoreNode {
        name: text(node, "Name").unwrap_or_default(),
        status: text(node, "Status"),
        role: None,
        zone: text(node, "AvailabilityZone"),
        created: node.get("CreateTime").and_then(time),
    };
    StoreShard {
        name: text(found, "Name").unwrap_or_default(),
        wanted: found.get("NumberOfNodes").and_then(Value::as_f64),
        nodes: items(found, "Nodes").iter().map(node).collect(),
    }
}

fn snapshot(found: &Value) -> StoreSnapshot {
    let configuration = found.get("ClusterConfiguration").unwrap_or(&Value::Null);
    let shards = items(configuration, "Shards");
    StoreSnapshot {
        cluster: text(configuration, "Name").unwrap_or_default(),
        source: text(found, "Source").unwrap_or_default(),
        status: text(found, "Status").unwrap_or_default(),
        taken: shards.iter().filter_map(|shard| time(shard.get("SnapshotCreationTime")?)).max(),
    }
}

fn event(found: &Value) -> Option<StoreEvent> {
    Some(StoreEvent {
        at: found.get("Date").and_then(time)?,
        source: text(found, "SourceName").unwrap_or_default(),
        message: text(found, "Message").unwrap_or_default(),
    })
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Seconds of the epoch; a text is also seen.
fn time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(seconds) => {
            let millis = seconds.as_f64()? * 1000.0;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a float beyond the range gives its end, which is no time"
            )]
            Timestamp::from_millisecond(millis as i64).ok()
        }
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_leaves_out_is_absent() {
        let bare = cluster(&json!({"Name": "a", "Shards": [{"Name": "0001", "Nodes": [{"Name": "n"}]}]}));
        assert_eq!((bare.engine.as_str(), bare.pending), ("redis", Some(0)));
        assert_eq!((bare.shards[0].wanted, bare.shards[0].nodes[0].status.clone()), (None, None));
        assert_eq!(snapshot(&json!({"Source": "manual"})).taken, None);
        assert_eq!(event(&json!({"Message": "without a time"})), None);
    }

    #[test]
    fn pending_updates_are_those_that_are_still_to_come_and_a_snapshot_is_as_old_as_its_last_shard() {
        let updates = json!({"ServiceUpdates": [{"Status": "available"}, {"Status": "complete"}, {"Status": "scheduled"}]});
        assert_eq!(cluster(&json!({"Name": "a", "PendingUpdates": updates})).pending, Some(2));
        let found = json!({"Source": "automated", "Status": "available", "ClusterConfiguration": {
            "Name": "a", "Shards": [{"SnapshotCreationTime": 10.5}, {"SnapshotCreationTime": "1970-01-01T00:00:20Z"}]}});
        assert_eq!(snapshot(&found).taken, Timestamp::from_second(20).ok());
    }
}
