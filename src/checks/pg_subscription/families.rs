//! The families that `pg_subscription` gives beside those of every PostgreSQL server.

use metrics::{Metric, Unit};

const OF: [&str; 2] = ["datname", "subname"];

pub(super) static EXISTS: Metric<2> = Metric::gauge(
    "pg.subscription.exists",
    Unit::None,
    &OF,
    "1 for a subscription in pg_subscription, 0 for one of `expect` that is not there",
);
pub(super) static ENABLED: Metric<2> =
    Metric::gauge("pg.subscription.enabled", Unit::None, &OF, "pg_subscription.subenabled");
pub(super) static WORKER_UP: Metric<2> = Metric::gauge(
    "pg.subscription.worker_up",
    Unit::None,
    &OF,
    "1 when pg_stat_subscription shows a process for the leader apply worker, else 0; absent on a replica",
);
pub(super) static WORKER_RESTARTS: Metric<2> = Metric::counter(
    "pg.subscription.worker_restarts",
    Unit::None,
    &OF,
    "Changes of the leader apply worker's process seen between runs",
);
pub(super) static LOCK_WAIT: Metric<2> = Metric::gauge(
    "pg.subscription.worker_lock_wait",
    Unit::Seconds,
    &OF,
    "How long the apply worker, or one of its parallel workers, has been waiting for a lock of another session (pg_locks.waitstart, from 14 on); 0 while it waits for none",
);
pub(super) static RECEIVER_TIMEOUT: Metric<2> = Metric::gauge(
    "pg.subscription.wal_receiver_timeout",
    Unit::Seconds,
    &OF,
    "wal_receiver_timeout of the subscriber; 0: a dead connection to the publisher is never noticed",
);
pub(super) static INFO: Metric<4> = Metric::gauge(
    "pg.subscription.info",
    Unit::None,
    &["datname", "subname", "slot_name", "disable_on_error"],
    "Facts from pg_subscription; disable_on_error is empty before 15",
);
pub(super) static SEND_AGE: Metric<2> = Metric::gauge(
    "pg.stat_subscription.last_msg_send_age",
    Unit::Seconds,
    &OF,
    "Time since pg_stat_subscription.last_msg_send_time, by the subscriber's clock; climbs to about 30 s on an idle publisher",
);
pub(super) static RECEIPT_AGE: Metric<2> = Metric::gauge(
    "pg.stat_subscription.last_msg_receipt_age",
    Unit::Seconds,
    &OF,
    "Time since pg_stat_subscription.last_msg_receipt_time, by the subscriber's clock",
);
pub(super) static LATEST_END_AGE: Metric<2> = Metric::gauge(
    "pg.stat_subscription.latest_end_age",
    Unit::Seconds,
    &OF,
    "Time since pg_stat_subscription.latest_end_time, by the subscriber's clock; grows while a big transaction is applied",
);
pub(super) static TRANSIT: Metric<2> = Metric::gauge(
    "pg.stat_subscription.msg_transit",
    Unit::Seconds,
    &OF,
    "last_msg_receipt_time - last_msg_send_time: the way of a message, with the difference of the two clocks",
);
pub(super) static RECEIVED_LSN: Metric<2> = Metric::gauge(
    "pg.stat_subscription.received_lsn",
    Unit::Bytes,
    &OF,
    "pg_stat_subscription.received_lsn as a byte position",
)
.not_pushed();
pub(super) static LATEST_END_LSN: Metric<2> = Metric::gauge(
    "pg.stat_subscription.latest_end_lsn",
    Unit::Bytes,
    &OF,
    "pg_stat_subscription.latest_end_lsn as a byte position",
)
.not_pushed();
pub(super) static APPLY_ERRORS: Metric<2> = Metric::source_counter(
    "pg.stat_subscription.apply_errors",
    Unit::None,
    &OF,
    "pg_stat_subscription_stats.apply_error_count, from 15 on; a lost connection to the publisher counts too",
);
pub(super) static SYNC_ERRORS: Metric<2> = Metric::source_counter(
    "pg.stat_subscription.sync_errors",
    Unit::None,
    &OF,
    "pg_stat_subscription_stats.sync_error_count, from 15 on",
);
pub(super) static CONFLICTS: Metric<3> = Metric::source_counter(
    "pg.stat_subscription.conflicts",
    Unit::None,
    &["datname", "subname", "conflict"],
    "pg_stat_subscription_stats.confl_*, from 18 on",
);
pub(super) static WORKERS: Metric<3> = Metric::gauge(
    "pg.stat_subscription.workers",
    Unit::None,
    &["datname", "subname", "worker_type"],
    "Live worker processes in pg_stat_subscription: apply, parallel apply (from 16 on), table synchronization; absent on a replica",
);
pub(super) static TABLES: Metric<3> = Metric::gauge(
    "pg.subscription_rel.tables",
    Unit::None,
    &["datname", "subname", "state"],
    "Tables in pg_subscription_rel by srsubstate: i init, d data copy, f finished copy, s synchronized, r ready; connected database only",
);
pub(super) static LAG: Metric<2> = Metric::gauge(
    "pg.subscription.lag",
    Unit::Bytes,
    &OF,
    "Publisher's current WAL position - confirmed_flush_lsn of the subscription's slot; there also while the subscription is disabled",
);
pub(super) static SLOT_EXISTS: Metric<3> = Metric::gauge(
    "pg.subscription.slot_exists",
    Unit::None,
    &["datname", "subname", "slot_name"],
    "1 when the publisher's pg_replication_slots has the subscription's slot, else 0; a replica that has none says nothing",
);
