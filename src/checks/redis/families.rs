//! The families of `redis`. Names are those of `redis_exporter` where it has one; every value keeps the meaning that INFO gives it.

use metrics::{Handle, Metric, Unit};
use std::borrow::Cow;

const OF: [&str; 2] = ["node", "shard"];
/// Seconds whose name says so in its middle.
const SECONDS: Unit = Unit::Annotation(Cow::Borrowed("s"));

pub(super) static UP: Metric<2> = Metric::gauge(
    "redis.up",
    Unit::None,
    &OF,
    "1 when the node answered INFO, 0 when a node that is known did not; also told while the check fails",
);
pub(super) static PRIMARY: Metric<2> =
    Metric::gauge("redis.node_primary", Unit::None, &OF, "INFO role: 1 for a primary, 0 for a replica");
pub(super) static PING: Metric<2> = Metric::gauge(
    "redis.ping",
    Unit::Seconds,
    &OF,
    "From sending PING to its answer on an open connection, by our clock",
);
pub(super) static FAILOVERS: Metric<2> = Metric::counter(
    "redis.failovers",
    Unit::None,
    &OF,
    "How often the node took the place of another primary of its shard, seen by this process from one run to the next",
);
pub(super) static INSTANCE: Metric<8> = Metric::gauge(
    "redis.instance_info",
    Unit::None,
    &[
        "node",
        "shard",
        "role",
        "server_name",
        "server_version",
        "redis_version",
        "redis_mode",
        "maxmemory_policy",
    ],
    "INFO server, replication and memory; Valkey says which Redis it is like in redis_version, and its own version in server_version",
);
pub(super) static LAG: Metric<2> = Metric::gauge(
    "redis.connected_slave_lag",
    Unit::Seconds,
    &OF,
    "INFO slaveN lag on the primary: since the replica named as node last confirmed; whole seconds, absent while it is not online",
);
pub(super) static OFFSET: Metric<2> = Metric::gauge(
    "redis.connected_slave_offset",
    Unit::Bytes,
    &OF,
    "INFO slaveN offset on the primary: what the replica named as node has confirmed; absent while it is not online",
);
pub(super) static LINK_UP: Metric<2> = Metric::gauge(
    "redis.master_link_up",
    Unit::None,
    &OF,
    "INFO master_link_status of a replica: 1 for up, 0 for down",
);
pub(super) static KEYS: Metric<3> = Metric::gauge(
    "redis.db_keys",
    Unit::None,
    &["node", "shard", "db"],
    "INFO keyspace keys; a database without keys has no sample, because INFO does not name it",
);
pub(super) static KEYS_EXPIRING: Metric<3> = Metric::gauge(
    "redis.db_keys_expiring",
    Unit::None,
    &["node", "shard", "db"],
    "INFO keyspace expires: keys with an end",
);
pub(super) static CLUSTER_STATE: Metric<2> = Metric::gauge(
    "redis.cluster_state",
    Unit::None,
    &OF,
    "CLUSTER INFO cluster_state as this node sees it: 1 for ok, 0 for fail",
);
pub(super) static SLOWLOG_LENGTH: Metric<2> =
    Metric::gauge("redis.slowlog_length", Unit::None, &OF, "SLOWLOG LEN: entries that the node keeps");
pub(super) static SLOWLOG_LAST_ID: Metric<2> = Metric::gauge(
    "redis.slowlog_last_id",
    Unit::None,
    &OF,
    "SLOWLOG GET: id of the newest entry, which grows by one with each; absent without an entry",
);
pub(super) static SLOWLOG_LAST: Metric<2> = Metric::gauge(
    "redis.last_slow_execution_duration",
    Unit::Seconds,
    &OF,
    "SLOWLOG GET: how long the newest entry took; absent without an entry",
);
pub(super) static MEMORY_MAX: Metric<2> = Metric::gauge(
    "redis.memory_max",
    Unit::Bytes,
    &OF,
    "INFO maxmemory; absent where there is no limit, which INFO writes as 0",
);

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Metric<2> {
    Metric::gauge(name, unit, &OF, help)
}

const fn total(name: &'static str, unit: Unit, help: &'static str) -> Metric<2> {
    Metric::source_counter(name, unit, &OF, help)
}

/// Fields of INFO that are numbers. What is below zero means that there is no such time, and is absent.
pub(super) static NUMBERS: [(&str, Metric<2>); 32] = [
    ("uptime_in_seconds", gauge("redis.uptime_in", Unit::Seconds, "INFO uptime_in_seconds")),
    (
        "connected_clients",
        gauge("redis.connected_clients", Unit::None, "INFO connected_clients, ours included"),
    ),
    (
        "blocked_clients",
        gauge(
            "redis.blocked_clients",
            Unit::None,
            "INFO blocked_clients: clients that wait in a blocking command",
        ),
    ),
    (
        "maxclients",
        gauge("redis.max_clients", Unit::None, "INFO maxclients: connections beyond it are refused"),
    ),
    (
        "used_memory",
        gauge("redis.memory_used", Unit::Bytes, "INFO used_memory: what the allocator has given out"),
    ),
    (
        "used_memory_rss",
        gauge(
            "redis.memory_used_rss",
            Unit::Bytes,
            "INFO used_memory_rss: what the system has given to the process",
        ),
    ),
    ("used_memory_peak", gauge("redis.memory_used_peak", Unit::Bytes, "INFO used_memory_peak")),
    (
        "mem_fragmentation_ratio",
        gauge(
            "redis.mem_fragmentation_ratio",
            Unit::None,
            "INFO mem_fragmentation_ratio: used_memory_rss / used_memory",
        ),
    ),
    (
        "evicted_keys",
        total("redis.evicted_keys", Unit::None, "INFO evicted_keys: thrown out because memory was full"),
    ),
    ("expired_keys", total("redis.expired_keys", Unit::None, "INFO expired_keys")),
    (
        "keyspace_hits",
        total("redis.keyspace_hits", Unit::None, "INFO keyspace_hits: reads that found their key"),
    ),
    (
        "keyspace_misses",
        total("redis.keyspace_misses", Unit::None, "INFO keyspace_misses: reads that did not"),
    ),
    (
        "total_commands_processed",
        total("redis.commands_processed", Unit::None, "INFO total_commands_processed, ours included"),
    ),
    (
        "total_connections_received",
        total("redis.connections_received", Unit::None, "INFO total_connections_received"),
    ),
    (
        "rejected_connections",
        total(
            "redis.rejected_connections",
            Unit::None,
            "INFO rejected_connections: refused because of maxclients",
        ),
    ),
    ("total_net_input_bytes", total("redis.net_input", Unit::Bytes, "INFO total_net_input_bytes")),
    ("total_net_output_bytes", total("redis.net_output", Unit::Bytes, "INFO total_net_output_bytes")),
    (
        "loading",
        gauge(
            "redis.loading_dump_file",
            Unit::None,
            "INFO loading: 1 while the node reads its data from disk and answers nothing else",
        ),
    ),
    (
        "rdb_changes_since_last_save",
        gauge("redis.rdb_changes_since_last_save", Unit::None, "INFO rdb_changes_since_last_save"),
    ),
    (
        "rdb_last_save_time",
        gauge(
            "redis.rdb_last_save_timestamp",
            Unit::Seconds,
            "INFO rdb_last_save_time: the last good save, or the start",
        ),
    ),
    (
        "rdb_bgsave_in_progress",
        gauge("redis.rdb_bgsave_in_progress", Unit::None, "INFO rdb_bgsave_in_progress"),
    ),
    ("aof_enabled", gauge("redis.aof_enabled", Unit::None, "INFO aof_enabled")),
    (
        "connected_slaves",
        gauge(
            "redis.connected_slaves",
            Unit::None,
            "INFO connected_slaves: replicas that are connected to this node",
        ),
    ),
    (
        "master_repl_offset",
        gauge(
            "redis.master_repl_offset",
            Unit::None,
            "INFO master_repl_offset: bytes of the stream of changes that this node has made or, as a replica, taken",
        ),
    ),
    (
        "slave_repl_offset",
        gauge(
            "redis.slave_repl_offset",
            Unit::None,
            "INFO slave_repl_offset of a replica: what it has taken of its primary's stream",
        ),
    ),
    (
        "master_last_io_seconds_ago",
        gauge(
            "redis.master_last_io_seconds_ago",
            SECONDS,
            "INFO master_last_io_seconds_ago of a replica; absent while the link is down",
        ),
    ),
    (
        "master_link_down_since_seconds",
        gauge(
            "redis.master_link_down_since",
            Unit::Seconds,
            "INFO master_link_down_since_seconds of a replica: for how long the link has been down; absent while it is up",
        ),
    ),
    (
        "master_sync_in_progress",
        gauge(
            "redis.master_sync_in_progress",
            Unit::None,
            "INFO master_sync_in_progress of a replica: 1 while it takes the whole data set",
        ),
    ),
    (
        "slave_priority",
        gauge(
            "redis.slave_priority",
            Unit::None,
            "INFO slave_priority of a replica: 0 is never made primary by Sentinel",
        ),
    ),
    ("cluster_enabled", gauge("redis.cluster_enabled", Unit::None, "INFO cluster_enabled")),
    (
        "tracking_clients",
        gauge(
            "redis.tracking_clients",
            Unit::None,
            "INFO tracking_clients: clients that cache on their side",
        ),
    ),
    (
        "total_error_replies",
        gauge(
            "redis.total_error_replies",
            Unit::None,
            "INFO total_error_replies: errors answered since the start",
        ),
    ),
];

/// Fields of INFO that are a word: `ok` is 1, all else 0.
pub(super) static WORDS: [(&str, Metric<2>); 3] = [
    (
        "rdb_last_bgsave_status",
        gauge("redis.rdb_last_bgsave_status", Unit::None, "INFO rdb_last_bgsave_status: 1 for ok, 0 for err"),
    ),
    (
        "aof_last_write_status",
        gauge("redis.aof_last_write_status", Unit::None, "INFO aof_last_write_status: 1 for ok, 0 for err"),
    ),
    (
        "aof_last_bgrewrite_status",
        gauge(
            "redis.aof_last_bgrewrite_status",
            Unit::None,
            "INFO aof_last_bgrewrite_status: 1 for ok, 0 for err",
        ),
    ),
];

/// Fields of CLUSTER INFO, as this node sees the cluster.
pub(super) static CLUSTER: [(&str, Metric<2>); 7] = [
    (
        "cluster_slots_assigned",
        gauge(
            "redis.cluster_slots_assigned",
            Unit::None,
            "CLUSTER INFO cluster_slots_assigned; all are 16384",
        ),
    ),
    ("cluster_slots_ok", gauge("redis.cluster_slots_ok", Unit::None, "CLUSTER INFO cluster_slots_ok")),
    (
        "cluster_slots_pfail",
        gauge(
            "redis.cluster_slots_pfail",
            Unit::None,
            "CLUSTER INFO cluster_slots_pfail: slots of nodes that this node cannot reach",
        ),
    ),
    (
        "cluster_slots_fail",
        gauge(
            "redis.cluster_slots_fail",
            Unit::None,
            "CLUSTER INFO cluster_slots_fail: slots of nodes that a majority of primaries cannot reach",
        ),
    ),
    (
        "cluster_known_nodes",
        gauge("redis.cluster_known_nodes", Unit::None, "CLUSTER INFO cluster_known_nodes"),
    ),
    (
        "cluster_size",
        gauge(
            "redis.cluster_size",
            Unit::None,
            "CLUSTER INFO cluster_size: primaries with at least one slot",
        ),
    ),
    (
        "cluster_current_epoch",
        gauge(
            "redis.cluster_current_epoch",
            Unit::None,
            "CLUSTER INFO cluster_current_epoch: grows with each failover",
        ),
    ),
];

/// All of them.
pub(super) fn all() -> Vec<Handle> {
    let single = [
        &UP,
        &PRIMARY,
        &PING,
        &FAILOVERS,
        &LAG,
        &OFFSET,
        &LINK_UP,
        &CLUSTER_STATE,
        &SLOWLOG_LENGTH,
        &SLOWLOG_LAST_ID,
        &SLOWLOG_LAST,
        &MEMORY_MAX,
    ];
    let mut all: Vec<Handle> = single.into_iter().map(Metric::handle).collect();
    all.extend([INSTANCE.handle(), KEYS.handle(), KEYS_EXPIRING.handle()]);
    for table in [&NUMBERS[..], &WORDS[..], &CLUSTER[..]] {
        all.extend(table.iter().map(|(_, metric)| metric.handle()));
    }
    all
}
