//! The families of `redshift_inflight`.

use metrics::{Metric, Unit};

const OF_QUERY: [&str; 4] = ["pid", "query_id", "user", "database"];

pub(super) static ELAPSED: Metric<4> = Metric::gauge(
    "redshift.inflight.query_elapsed",
    Unit::Seconds,
    &OF_QUERY,
    "SYS_QUERY_HISTORY.elapsed_time, or now - SVV_QUERY_INFLIGHT.starttime by the server's clock. From min_elapsed on",
);
pub(super) static QUEUE: Metric<4> = Metric::gauge(
    "redshift.inflight.query_queue",
    Unit::Seconds,
    &OF_QUERY,
    "SYS_QUERY_HISTORY.queue_time; absent with SVV_QUERY_INFLIGHT, which does not know it. From min_elapsed on",
);
pub(super) static QUERIES: Metric<2> = Metric::gauge(
    "redshift.inflight.queries",
    Unit::None,
    &["user", "status"],
    "Queries in flight by SYS_QUERY_HISTORY.status (planning, queued, running, returning); SVV_QUERY_INFLIGHT has running ones only. Our own session is left out",
)
.total();
pub(super) static OLDEST: Metric<1> = Metric::gauge(
    "redshift.inflight.oldest",
    Unit::Seconds,
    &["user"],
    "The longest of these, also below min_elapsed",
)
.total();
pub(super) static VISIBILITY: Metric<1> = Metric::gauge(
    "redshift.inflight.visibility",
    Unit::None,
    &["user"],
    "1 when the login role sees the queries of all users, 0 when it sees only its own: blind looks like idle. Absent when the server does not say it",
);
