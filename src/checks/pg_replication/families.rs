//! The families that `pg_replication` gives beside those of every PostgreSQL server.

use metrics::{Metric, Unit};

const OF: [&str; 3] = ["slot_name", "slot_type", "datname"];
const OF_SENDER: [&str; 2] = ["application_name", "client_addr"];

pub(super) static ACTIVE: Metric<3> = Metric::gauge(
    "pg.replication_slots.active",
    Unit::None,
    &OF,
    "pg_replication_slots.active: a receiver is connected",
);
pub(super) static RETAINED: Metric<3> = Metric::gauge(
    "pg.replication_slots.retained",
    Unit::Bytes,
    &OF,
    "Current WAL position - restart_lsn: the WAL that the slot keeps on the server's disk; absent on a replica",
);
pub(super) static FLUSH_LAG: Metric<3> = Metric::gauge(
    "pg.replication_slots.confirmed_flush_lag",
    Unit::Bytes,
    &OF,
    "Current WAL position - confirmed_flush_lsn; absent on a replica and for physical slots",
);
pub(super) static SAFE_WAL_SIZE: Metric<3> = Metric::gauge(
    "pg.replication_slots.safe_wal_size",
    Unit::Bytes,
    &OF,
    "pg_replication_slots.safe_wal_size: what can still be written before the slot is lost; absent without max_slot_wal_keep_size",
);
pub(super) static INACTIVE_SINCE: Metric<3> = Metric::gauge(
    "pg.replication_slots.inactive_since_timestamp",
    Unit::Seconds,
    &OF,
    "pg_replication_slots.inactive_since, from 17 on; absent while the slot is active",
);
pub(super) static WAL_STATUS: Metric<4> = Metric::gauge(
    "pg.replication_slots.wal_status",
    Unit::None,
    &["slot_name", "slot_type", "datname", "wal_status"],
    "1 for the slot's pg_replication_slots.wal_status, 0 for the others: reserved, extended, unreserved, lost",
);
pub(super) static INVALIDATED: Metric<4> = Metric::gauge(
    "pg.replication_slots.invalidated",
    Unit::None,
    &["slot_name", "slot_type", "datname", "reason"],
    "1 for the slot's pg_replication_slots.invalidation_reason (from 17 on), 0 for the others; 16 knows only conflicting",
);
pub(super) static SYNCED: Metric<3> = Metric::gauge(
    "pg.replication_slots.synced",
    Unit::None,
    &OF,
    "pg_replication_slots.synced: copied here from the primary, from 17 on",
);
pub(super) static FAILOVER: Metric<3> = Metric::gauge(
    "pg.replication_slots.failover",
    Unit::None,
    &OF,
    "pg_replication_slots.failover: to be copied to the standbys, from 17 on",
);
pub(super) static TRANSIENT: Metric<0> = Metric::gauge(
    "pg.replication_slots.transient",
    Unit::None,
    &[],
    "Temporary slots and slots of table synchronization workers; they have no series of their own",
);
pub(super) static WRITE_LAG: Metric<2> = Metric::gauge(
    "pg.stat_replication.write_lag",
    Unit::Seconds,
    &OF_SENDER,
    "pg_stat_replication.write_lag; absent while nothing is written",
);
pub(super) static SENDER_FLUSH_LAG: Metric<2> = Metric::gauge(
    "pg.stat_replication.flush_lag",
    Unit::Seconds,
    &OF_SENDER,
    "pg_stat_replication.flush_lag; absent while nothing is written",
);
pub(super) static REPLAY_LAG: Metric<2> = Metric::gauge(
    "pg.stat_replication.replay_lag",
    Unit::Seconds,
    &OF_SENDER,
    "pg_stat_replication.replay_lag; absent while nothing is written",
);
