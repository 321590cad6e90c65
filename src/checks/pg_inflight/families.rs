//! The families of `pg_inflight`.

use metrics::{Metric, Unit};

const OF: [&str; 3] = ["user", "datname", "state"];

pub(super) static ELAPSED: Metric<5> = Metric::gauge(
    "pg.inflight.query_elapsed",
    Unit::Seconds,
    &["pid", "started", "user", "datname", "state"],
    "clock_timestamp() - query_start of a client backend; of one that is idle in transaction - state_change. From min_elapsed on",
);
pub(super) static QUERIES: Metric<3> = Metric::gauge(
    "pg.inflight.queries",
    Unit::None,
    &OF,
    "Client backends in pg_stat_activity that are not idle, but our own",
)
.total();
pub(super) static OLDEST: Metric<3> = Metric::gauge(
    "pg.inflight.oldest",
    Unit::Seconds,
    &OF,
    "The longest pg_inflight_query_elapsed of these, also below min_elapsed",
)
.total();
pub(super) static TRANSACTION_AGE: Metric<3> = Metric::gauge(
    "pg.inflight.transaction_age",
    Unit::Seconds,
    &OF,
    "The longest clock_timestamp() - xact_start of these; an old one keeps vacuum from removing rows",
)
.total();
pub(super) static BLOCKED: Metric<3> = Metric::gauge(
    "pg.inflight.blocked",
    Unit::None,
    &OF,
    "How many of these wait for a lock that another session holds or waits for: pg_blocking_pids(pid) is not empty",
)
.total();
pub(super) static WAITING: Metric<2> = Metric::gauge(
    "pg.inflight.waiting",
    Unit::None,
    &["wait_event_type", "wait_event"],
    "Active client backends by pg_stat_activity.wait_event; those that wait for nothing are not counted",
)
.total();
