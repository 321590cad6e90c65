//! The families of `memorydb`, once for each of the two services.

use crate::net::aws::Service;
use metrics::{Handle, Metric, Unit};

/// One service's families.
pub(super) struct Families {
    pub(super) available: Metric<1>,
    pub(super) info: Metric<6>,
    pub(super) pending: Metric<1>,
    pub(super) nodes_available: Metric<2>,
    pub(super) nodes_desired: Metric<2>,
    pub(super) nodes_creating: Metric<2>,
    pub(super) primary_nodes: Metric<2>,
    pub(super) last_snapshot: Metric<2>,
    pub(super) snapshots: Metric<2>,
    pub(super) manual_24h: Metric<1>,
    pub(super) snapshot_failures: Metric<1>,
    pub(super) events: Metric<2>,
}

const CLUSTER: [&str; 1] = ["cluster"];
const SHARD: [&str; 2] = ["cluster", "shard"];
const INFO: [&str; 6] = ["cluster", "status", "engine", "engine_version", "node_type", "shards"];

static MEMORYDB: Families = Families {
    available: Metric::gauge(
        "aws.memorydb.cluster_available",
        Unit::None,
        &CLUSTER,
        "DescribeClusters Status: 1 for available, 0 for all else and for a named cluster that does not exist",
    ),
    info: Metric::gauge(
        "aws.memorydb.cluster_info",
        Unit::None,
        &INFO,
        "DescribeClusters: Status, Engine, EnginePatchVersion, NodeType, number of shards",
    ),
    pending: Metric::gauge(
        "aws.memorydb.pending_updates",
        Unit::None,
        &CLUSTER,
        "DescribeClusters PendingUpdates.ServiceUpdates that are available, scheduled or in progress",
    ),
    nodes_available: Metric::gauge(
        "aws.memorydb.shard_nodes_available",
        Unit::None,
        &SHARD,
        "DescribeClusters: nodes of the shard whose Status is available",
    ),
    nodes_desired: Metric::gauge(
        "aws.memorydb.shard_nodes_desired",
        Unit::None,
        &SHARD,
        "Nodes that the shard should have: one more than expect.replicas, else NumberOfNodes of DescribeClusters",
    ),
    nodes_creating: Metric::gauge(
        "aws.memorydb.shard_nodes_creating",
        Unit::None,
        &SHARD,
        "DescribeClusters: nodes of the shard whose Status is creating",
    ),
    primary_nodes: Metric::gauge(
        "aws.memorydb.shard_primary_nodes",
        Unit::None,
        &SHARD,
        "Nodes of the shard that the API calls primary; absent where it names no roles, as MemoryDB does not",
    ),
    last_snapshot: Metric::gauge(
        "aws.memorydb.last_snapshot_timestamp",
        Unit::Seconds,
        &["cluster", "source"],
        "DescribeSnapshots SnapshotCreationTime of the newest available snapshot; absent without one; source is manual or automated",
    ),
    snapshots: Metric::gauge(
        "aws.memorydb.snapshots",
        Unit::None,
        &["cluster", "source"],
        "DescribeSnapshots: snapshots that exist",
    ),
    manual_24h: Metric::gauge(
        "aws.memorydb.manual_snapshots_24h",
        Unit::None,
        &CLUSTER,
        "DescribeSnapshots: manual snapshots of the last 24 hours that still exist; AWS allows 20",
    ),
    snapshot_failures: Metric::counter(
        "aws.memorydb.snapshot_failures",
        Unit::None,
        &CLUSTER,
        "DescribeEvents: events that tell of a snapshot that failed, since this process started",
    ),
    events: Metric::counter(
        "aws.memorydb.events",
        Unit::None,
        &["cluster", "kind"],
        "DescribeEvents, each counted once, since this process started; kind is failover, replacement, snapshot, maintenance or other",
    ),
};

static ELASTICACHE: Families = Families {
    available: Metric::gauge(
        "aws.elasticache.cluster_available",
        Unit::None,
        &CLUSTER,
        "DescribeReplicationGroups Status: 1 for available, 0 for all else and for a named group that does not exist",
    ),
    info: Metric::gauge(
        "aws.elasticache.cluster_info",
        Unit::None,
        &INFO,
        "DescribeReplicationGroups Status, CacheNodeType, number of shards; DescribeCacheClusters Engine, EngineVersion",
    ),
    pending: Metric::gauge(
        "aws.elasticache.pending_updates",
        Unit::None,
        &CLUSTER,
        "DescribeUpdateActions that are not applied, scheduled or in progress",
    ),
    nodes_available: Metric::gauge(
        "aws.elasticache.shard_nodes_available",
        Unit::None,
        &SHARD,
        "DescribeCacheClusters: nodes of the shard whose CacheClusterStatus is available",
    ),
    nodes_desired: Metric::gauge(
        "aws.elasticache.shard_nodes_desired",
        Unit::None,
        &SHARD,
        "Nodes that the shard should have: one more than expect.replicas, else NodeGroupMembers of DescribeReplicationGroups",
    ),
    nodes_creating: Metric::gauge(
        "aws.elasticache.shard_nodes_creating",
        Unit::None,
        &SHARD,
        "DescribeCacheClusters: nodes of the shard whose CacheClusterStatus is creating",
    ),
    primary_nodes: Metric::gauge(
        "aws.elasticache.shard_primary_nodes",
        Unit::None,
        &SHARD,
        "DescribeReplicationGroups: members of the shard whose CurrentRole is primary; absent with cluster mode, which names no roles",
    ),
    last_snapshot: Metric::gauge(
        "aws.elasticache.last_snapshot_timestamp",
        Unit::Seconds,
        &["cluster", "source"],
        "DescribeSnapshots SnapshotCreateTime of the newest available snapshot; absent without one; source is manual or automated",
    ),
    snapshots: Metric::gauge(
        "aws.elasticache.snapshots",
        Unit::None,
        &["cluster", "source"],
        "DescribeSnapshots: snapshots that exist",
    ),
    manual_24h: Metric::gauge(
        "aws.elasticache.manual_snapshots_24h",
        Unit::None,
        &CLUSTER,
        "DescribeSnapshots: manual snapshots of the last 24 hours that still exist; AWS allows 20 a node",
    ),
    snapshot_failures: Metric::counter(
        "aws.elasticache.snapshot_failures",
        Unit::None,
        &CLUSTER,
        "DescribeEvents: events that tell of a snapshot that failed, since this process started",
    ),
    events: Metric::counter(
        "aws.elasticache.events",
        Unit::None,
        &["cluster", "kind"],
        "DescribeEvents, each counted once, since this process started; kind is failover, replacement, snapshot, maintenance or other",
    ),
};

impl Families {
    pub(super) fn of(service: Service) -> &'static Self {
        match service {
            Service::Memorydb => &MEMORYDB,
            Service::Elasticache => &ELASTICACHE,
        }
    }

    pub(super) fn handles(&'static self) -> Vec<Handle> {
        vec![
            self.available.handle(),
            self.info.handle(),
            self.pending.handle(),
            self.nodes_available.handle(),
            self.nodes_desired.handle(),
            self.nodes_creating.handle(),
            self.primary_nodes.handle(),
            self.last_snapshot.handle(),
            self.snapshots.handle(),
            self.manual_24h.handle(),
            self.snapshot_failures.handle(),
            self.events.handle(),
        ]
    }
}
