//! The statements for both ends. What a server lacks, or does not let this role read, is read as NULL.

use crate::net::catalog::Catalog;

/// The views whose columns decide how the statements read.
pub(super) const VIEWS: [&str; 4] =
    ["pg_stat_subscription", "pg_stat_subscription_stats", "pg_subscription", "pg_locks"];

/// Facts of the publisher, and its logical slots. `pg_current_wal_lsn()` is an error in recovery; it is volatile, so CASE keeps it
/// from being called there.
pub(super) const PUBLISHER: &str = "select pg_is_in_recovery() as in_recovery, extract(epoch from clock_timestamp()) as clock; \
    select slot_name, case when not pg_is_in_recovery() then pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) end as lag \
    from pg_catalog.pg_replication_slots where slot_type = 'logical' and not temporary";

/// The statements for the subscriber, from the columns that it has. A missing column is read as NULL.
pub(super) fn subscriber(catalog: &Catalog) -> String {
    let stat = |column: &str, expression: &str| catalog.pick("pg_stat_subscription", column, expression);
    let leader_pid = stat("leader_pid", "v.leader_pid");
    // Live workers, with the database of their subscription. Where pg_subscription.oid cannot be read (13, no superuser)
    // the database comes from the worker's process.
    let workers = if catalog.has("pg_subscription", "oid") {
        "pg_catalog.pg_stat_subscription v join pg_catalog.pg_subscription s on s.oid = v.subid join pg_catalog.pg_database d on d.oid = s.subdbid"
    } else {
        "pg_catalog.pg_stat_subscription v join pg_catalog.pg_stat_activity d on d.pid = v.pid"
    };
    // From 16 on a leader and its parallel workers wait for each other by locks of their own kind: that is work, nobody blocks it.
    let (waits, wait) = if catalog.has("pg_locks", "waitstart") {
        (
            ", waits as (select pid, max(extract(epoch from clock_timestamp() - coalesce(waitstart, clock_timestamp()))) as seconds \
             from pg_catalog.pg_locks where not granted and locktype <> 'applytransaction' group by pid)",
            "case when w.pid is not null then coalesce((select max(waits.seconds) from waits join workers p on p.pid = waits.pid \
             where p.pid = w.pid or p.leader = w.pid), 0) end",
        )
    } else {
        ("", "null")
    };
    let (stats, counters) = counters(catalog);
    let disable = catalog.pick("pg_subscription", "subdisableonerr", "s.subdisableonerr");
    format!(
        "select pg_is_in_recovery() as in_recovery, extract(epoch from clock_timestamp()) as clock, current_database() as database, \
         extract(epoch from current_setting('wal_receiver_timeout')::interval) as receiver_timeout; \
         with workers as materialized (select d.datname, v.*, ({leader_pid})::int as leader from {workers} where v.pid is not null){waits} \
         select d.datname, s.subname, s.subenabled, s.subslotname, {disable} as disable_on_error, w.pid, {wait} as lock_wait, \
         extract(epoch from clock_timestamp() - w.last_msg_send_time) as send_age, \
         extract(epoch from clock_timestamp() - w.last_msg_receipt_time) as receipt_age, \
         extract(epoch from clock_timestamp() - w.latest_end_time) as latest_end_age, \
         extract(epoch from w.last_msg_receipt_time - w.last_msg_send_time) as transit, \
         w.received_lsn - '0/0'::pg_lsn as received_lsn, w.latest_end_lsn - '0/0'::pg_lsn as latest_end_lsn{counters} \
         from pg_catalog.pg_subscription s join pg_catalog.pg_database d on d.oid = s.subdbid{stats} \
         left join workers w on w.datname = d.datname and w.subname = s.subname and w.relid is null and w.leader is null \
         order by 1, 2; \
         select d.datname, v.subname, case when v.relid is not null then 'table synchronization' \
         when {leader_pid} is not null then 'parallel apply' else 'apply' end as worker_type \
         from {workers} where v.pid is not null; \
         select v.subname, r.srsubstate::text as state, count(*) as tables from pg_catalog.pg_subscription_rel r \
         join (select distinct subid, subname from pg_catalog.pg_stat_subscription) v on v.subid = r.srsubid group by 1, 2 order by 1, 2"
    )
}

/// The join to `pg_stat_subscription_stats` and its columns, as far as the server has them.
fn counters(catalog: &Catalog) -> (&'static str, String) {
    const STATS: &str = "pg_stat_subscription_stats";
    if !catalog.has(STATS, "apply_error_count") || !catalog.has("pg_subscription", "oid") {
        return ("", ", null as apply_errors, null as sync_errors".to_owned());
    }
    // 19 splits sync_error_count in one for tables and one for sequences.
    let sync = if catalog.has(STATS, "sync_table_error_count") {
        "t.sync_table_error_count + t.sync_seq_error_count"
    } else {
        "t.sync_error_count"
    };
    let mut columns = format!(", t.apply_error_count as apply_errors, {sync} as sync_errors");
    for conflict in catalog.beginning(STATS, "confl_") {
        columns.push_str(&format!(", t.confl_{conflict}"));
    }
    (" left join pg_catalog.pg_stat_subscription_stats t on t.subid = s.oid", columns)
}
