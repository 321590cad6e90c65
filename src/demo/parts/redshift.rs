//! A double of Redshift in a PostgreSQL database: the views on running queries, with Redshift's columns, types and cuts.
//!
//! Nothing here connects: everything gives SQL text, to be run as superuser in the database that plays Redshift. What is
//! told to the double stands in the schema `backstage`, one row a query; the views in `public` show it as Redshift would:
//!
//! - texts in fragments, padded with blanks, line breaks written as `\n`; a fragment is cut without a look at what is there;
//! - times as timestamps without a zone, in UTC;
//! - the id of a query in the old view is not the one of the new views;
//! - a login sees its own rows only, until it has been given more ([`unrestricted`], [`monitor`]);
//! - Redshift's `pg_user` is PostgreSQL's own, so users are login roles of the cluster.
//!
//! One thing differs: in Redshift `char(200)` counts bytes, and a fragment can end inside a letter; here it counts letters,
//! unless the database is made with `encoding 'SQL_ASCII' template template0`: that one knows bytes only.

use jiff::Timestamp;
use std::time::Duration;

/// Which Redshift it is. They differ in the views they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A cluster with all views.
    Provisioned,
    /// A cluster from before the views `sys_*`.
    ProvisionedOld,
    /// A workgroup: without the old views.
    Serverless,
}

/// The queries of [`turn`] have higher ids in the new views than any [`Query`] made with `new`.
const OF_A_TURN: i64 = 5_000_000_000;
/// Schema, tables, and the clock and zone of Redshift.
const BACKSTAGE: &str = "
create schema backstage;
create table backstage.queries (
    pid integer not null, query integer not null, query_id bigint not null, user_id integer not null,
    database_name text not null, query_type text not null, status text not null, suspended boolean not null,
    start_time timestamp not null, end_time timestamp, queue_time interval not null,
    text text not null, slices integer not null, shuffled boolean not null, lost integer);
create table backstage.unrestricted (user_id integer primary key);
create table backstage.monitors (user_id integer primary key);
create sequence backstage.turns;
create function getdate() returns timestamp language sql as $$ select (clock_timestamp() at time zone 'UTC')::timestamp(0) $$;
create view backstage.me as select usesysid::bigint::integer as user_id, usesuper from pg_user where usename = current_user;
";
/// What the old view shows is on the slices already: neither planned nor queued.
const OLD: &str = "
create view svv_query_inflight as select user_id as userid, slice, query, pid, start_time as starttime,
    suspended::integer as suspended, substr(escaped, 1 + 200 * sequence, 200)::char(200) as text, sequence
from (select *, replace(text, E'\\n', '\\n') as escaped from backstage.queries) as told,
    generate_series(0, slices - 1) as slice, generate_series(0, (length(escaped) - 1) / 200) as sequence
where status in ('running', 'returning') and sequence is distinct from lost and ({visible})
order by case when shuffled then random() end, query, slice, sequence;
";
const NEW: &str = "
create view sys_query_history as select user_id, query_id, 'default'::char(320) as query_label,
    query_id * 4 as transaction_id, pid as session_id, database_name::char(128) as database_name,
    query_type::char(32) as query_type, status::char(10) as status, false as result_cache_hit, start_time, end_time,
    elapsed as elapsed_time, queued as queue_time, greatest(elapsed - queued, 0) as execution_time,
    ''::char(512) as error_message, 0::bigint as returned_rows, 0::bigint as returned_bytes,
    left(replace(text, E'\\n', '\\n'), 4000)::char(4000) as query_text, 'Redshift 1.0.79003'::char(256) as redshift_version,
    null::char(150) as usage_limit, 'primary'::varchar(18) as compute_type, 0::bigint as compile_time,
    0::bigint as planning_time, 0::bigint as lock_wait_time
from (select *, (extract(epoch from elapsed_interval) * 1e6)::bigint as elapsed, (extract(epoch from
        case status when 'queued' then elapsed_interval else queue_time end) * 1e6)::bigint as queued
    from (select *, coalesce(end_time, clock_timestamp() at time zone 'UTC') - start_time as elapsed_interval
        from backstage.queries) as timed) as told
where {visible};
create view sys_query_text as select user_id, query_id, query_id * 4 as transaction_id, pid as session_id, start_time,
    sequence, substr(escaped, 1 + 4000 * sequence, 4000)::char(4000) as text
from (select *, replace(text, E'\\n', '\\n') as escaped from backstage.queries) as told,
    generate_series(0, (length(escaped) - 1) / 4000) as sequence
where sequence is distinct from lost and ({visible})
order by case when shuffled then random() end, query_id, sequence;
";
const USERS: &str = "
create view svv_user_info as select usename::text as user_name, usesysid::bigint::integer as user_id, usecreatedb as createdb,
    pg_user.usesuper as superuser, false as catalog_update, 'UNLIMITED'::text as connection_limit,
    case when pg_user.usesuper or unrestricted.user_id is not null then 'UNRESTRICTED' else 'RESTRICTED' end as syslog_access,
    null::timestamp as last_ddl_timestamp, 0 as session_timeout, null::text as external_id
from pg_user left join backstage.unrestricted on unrestricted.user_id = usesysid::bigint
where usename = current_user or exists (select from backstage.me where usesuper);
create view svv_user_grants as select user_id, usename::text as user_name, 1::bigint as role_id,
    'sys:monitor'::text as role_name, false as admin_option
from backstage.monitors join pg_user on user_id = usesysid::bigint
where usename = current_user or exists (select from backstage.me where usesuper);
";
/// Their own rows are visible to all; everybody's to superusers and to those in `{privileged}`.
const VISIBLE: &str = "exists (select from backstage.me left join backstage.{privileged} using (user_id)
    where me.usesuper or {privileged}.user_id is not null or me.user_id = told.user_id)";

impl Kind {
    /// Makes the double in a database that is not one yet. `grant select on all tables in schema public` lets others look.
    pub fn create(self) -> String {
        let visible = |privileged| VISIBLE.replace("{privileged}", privileged);
        let old = OLD.replace("{visible}", &visible("unrestricted"));
        let new = NEW.replace("{visible}", &visible("monitors"));
        let (old, new) = match self {
            Self::Provisioned => (old.as_str(), new.as_str()),
            Self::ProvisionedOld => (old.as_str(), ""),
            Self::Serverless => ("", new.as_str()),
        };
        format!("{BACKSTAGE}{old}{new}{USERS}")
    }
}

/// `alter user .. syslog access unrestricted`: the old view shows this role everybody's queries.
pub fn unrestricted(role: &str) -> String {
    format!("insert into backstage.unrestricted select {} on conflict do nothing;\n", id_of(role))
}

/// `grant role sys:monitor to ..`: the new views show this role everybody's queries.
pub fn monitor(role: &str) -> String {
    format!("insert into backstage.monitors select {} on conflict do nothing;\n", id_of(role))
}

/// One statement for a feed that runs it every few seconds: it lets some of its own queries succeed, none of them later
/// than 45 s after its start, and begins another one of `work` (a role and a text) unless four run.
pub fn turn(work: &[(&str, &str)]) -> String {
    let work: Vec<_> =
        work.iter().map(|(role, text)| format!("({}, {})", id_of(role), literal(text))).collect();
    format!(
        "with over as (update backstage.queries set status = 'success', end_time = clock_timestamp() at time zone 'UTC' \
         where query_id > {OF_A_TURN} and end_time is null \
         and (random() < 0.25 or start_time < clock_timestamp() at time zone 'UTC' - interval '40 s')), \
         forgotten as (delete from backstage.queries where end_time < clock_timestamp() at time zone 'UTC' - interval '10 min') \
         insert into backstage.queries select 1073700000 + turn, 50000000 + turn, {OF_A_TURN} + turn, user_id, 'dev', \
         upper(split_part(text, ' ', 1)), 'running', false, clock_timestamp() at time zone 'UTC', null, '0', text, 2, false, null \
         from (select nextval('backstage.turns')::integer as turn) as next, (values {}) as work (user_id, text) \
         where (select count(*) from backstage.queries where query_id > {OF_A_TURN} and end_time is null) < 4 \
         order by random() limit 1",
        work.join(", ")
    )
}

/// When a query started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Then.
    At(Timestamp),
    /// So long before the statement runs.
    Ago(Duration),
}

/// A query. `begin` puts it on, `end` lets it succeed.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Its session.
    pub pid: i32,
    /// Its id in the old view.
    pub query: i32,
    /// Its id in the new views.
    pub query_id: i64,
    /// The role that runs it; it has to exist and to be allowed to log in.
    pub user: String,
    /// With it `user` is not looked up; an id that no role has is a dropped user.
    pub user_id: Option<i32>,
    /// Where it runs.
    pub database: String,
    /// SELECT, COPY, UNLOAD and so on.
    pub query_type: String,
    /// planning, queued, running, returning; or failed, canceled, success.
    pub status: String,
    /// Held back by workload management.
    pub suspended: bool,
    /// When it started.
    pub start: Start,
    /// How long it waited in a queue; while it is queued, all its time counts.
    pub queued: Duration,
    /// Its whole text.
    pub text: String,
    /// The old view repeats each fragment for each slice.
    pub slices: u32,
    /// Rows come in any order, another one each time.
    pub shuffled: bool,
    /// The fragment with this number is missing.
    pub lost: Option<u32>,
}

impl Query {
    /// A query that runs since now on one slice, with its rows in order.
    pub fn new(pid: i32, id: i32, user: &str, text: &str) -> Self {
        Self {
            pid,
            query: id,
            query_id: 1_000_000_000 + i64::from(id),
            user: user.to_owned(),
            user_id: None,
            database: "dev".to_owned(),
            query_type: "SELECT".to_owned(),
            status: "running".to_owned(),
            suspended: false,
            start: Start::Ago(Duration::ZERO),
            queued: Duration::ZERO,
            text: text.to_owned(),
            slices: 1,
            shuffled: false,
            lost: None,
        }
    }

    /// Puts it on, in place of one with the same id.
    pub fn begin(&self) -> String {
        let start = match self.start {
            Start::At(time) => format!("'{time}'::timestamptz at time zone 'UTC'"),
            Start::Ago(time) => format!("clock_timestamp() at time zone 'UTC' - {}", interval(time)),
        };
        let user = self.user_id.map_or_else(|| id_of(&self.user), |id| id.to_string());
        format!(
            "delete from backstage.queries where query_id = {query_id};\n\
             insert into backstage.queries values ({pid}, {query}, {query_id}, {user}, {database}, {query_type}, {status}, \
             {suspended}, {start}, null, {queued}, {text}, {slices}, {shuffled}, {lost});\n",
            query_id = self.query_id,
            pid = self.pid,
            query = self.query,
            database = literal(&self.database),
            query_type = literal(&self.query_type),
            status = literal(&self.status),
            suspended = self.suspended,
            queued = interval(self.queued),
            text = literal(&self.text),
            slices = self.slices,
            shuffled = self.shuffled,
            lost = self.lost.map_or_else(|| "null".to_owned(), |number| number.to_string()),
        )
    }

    /// Lets it succeed now: it leaves the old view, and stays in the new ones as history.
    pub fn end(&self) -> String {
        format!(
            "update backstage.queries set status = 'success', end_time = clock_timestamp() at time zone 'UTC' \
             where query_id = {} and end_time is null;\n",
            self.query_id
        )
    }
}

fn id_of(role: &str) -> String {
    format!("(select oid::bigint::integer from pg_roles where rolname = {})", literal(role))
}

fn interval(time: Duration) -> String {
    format!("'{} s'::interval", time.as_secs_f64())
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::super::{Cluster, Settings, Stage, find_postgres};
    use super::*;
    use std::path::Path;
    use std::sync::OnceLock;

    const COLUMNS: &str = "select table_name || ': ' || string_agg(column_name || ' ' || case data_type
            when 'character' then 'char(' || character_maximum_length || ')'
            when 'character varying' then 'varchar(' || character_maximum_length || ')'
            when 'timestamp without time zone' then 'timestamp' else data_type end, ', ' order by ordinal_position)
        from information_schema.columns where table_schema = 'public' group by table_name order by table_name";
    const OLD_COLUMNS: &str = "svv_query_inflight: userid integer, slice integer, query integer, pid integer, \
        starttime timestamp, suspended integer, text char(200), sequence integer";
    const NEW_COLUMNS: [&str; 2] = [
        "sys_query_history: user_id integer, query_id bigint, query_label char(320), transaction_id bigint, \
         session_id integer, database_name char(128), query_type char(32), status char(10), result_cache_hit boolean, \
         start_time timestamp, end_time timestamp, elapsed_time bigint, queue_time bigint, execution_time bigint, \
         error_message char(512), returned_rows bigint, returned_bytes bigint, query_text char(4000), \
         redshift_version char(256), usage_limit char(150), compute_type varchar(18), compile_time bigint, \
         planning_time bigint, lock_wait_time bigint",
        "sys_query_text: user_id integer, query_id bigint, transaction_id bigint, session_id integer, \
         start_time timestamp, sequence integer, text char(4000)",
    ];
    const USER_COLUMNS: [&str; 2] = [
        "svv_user_grants: user_id integer, user_name text, role_id bigint, role_name text, admin_option boolean",
        "svv_user_info: user_name text, user_id integer, createdb boolean, superuser boolean, catalog_update boolean, \
         connection_limit text, syslog_access text, last_ddl_timestamp timestamp, session_timeout integer, external_id text",
    ];

    /// A double of its own for each test, in one cluster with the logins `etl` and `watcher`.
    struct Double(&'static str);

    impl Double {
        fn create(kind: Kind, name: &'static str) -> Self {
            Self::create_with(kind, name, "")
        }

        fn create_with(kind: Kind, name: &'static str, options: &str) -> Self {
            cluster().sql("postgres", &format!("create database {name} {options}")).unwrap();
            let double = Self(name);
            double.ask(&(kind.create() + "grant select on all tables in schema public to watcher, etl"));
            double
        }

        fn ask(&self, text: &str) -> String {
            cluster().sql(self.0, text).unwrap()
        }
    }

    fn cluster() -> &'static Cluster {
        static SHARED: OnceLock<(Cluster, Stage)> = OnceLock::new();
        let start = || {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let stage = Stage::new(&root.join("target/stage"), "redshift").unwrap();
            let binaries = find_postgres(None, &[&root.join("target/postgres")]).unwrap();
            let cluster = Cluster::start(&binaries, &stage.path().join("one"), &Settings::default()).unwrap();
            cluster.sql("postgres", "create role etl login; create role watcher login").unwrap();
            (cluster, stage)
        };
        &SHARED.get_or_init(start).0
    }

    #[test]
    fn each_kind_has_the_views_of_its_redshift() {
        let shown = |kind, name| Double::create(kind, name).ask(COLUMNS);
        let lines = |parts: &[&[&str]]| {
            let mut lines: Vec<&str> = parts.concat();
            lines.sort_unstable();
            lines.join("\n")
        };
        assert_eq!(
            shown(Kind::Provisioned, "provisioned"),
            lines(&[&[OLD_COLUMNS], &NEW_COLUMNS, &USER_COLUMNS])
        );
        assert_eq!(shown(Kind::ProvisionedOld, "provisioned_old"), lines(&[&[OLD_COLUMNS], &USER_COLUMNS]));
        assert_eq!(shown(Kind::Serverless, "serverless"), lines(&[&NEW_COLUMNS, &USER_COLUMNS]));
    }

    #[test]
    fn a_text_comes_in_padded_fragments_that_give_it_back() {
        let double = Double::create(Kind::Provisioned, "fragments");
        let text = format!("select 'it''s',\n  {}\nfrom bids ", "campaign_id, ".repeat(700));
        let mut query = Query::new(7, 41, "etl", &text);
        (query.slices, query.shuffled) = (3, true);
        double.ask(&query.begin());
        let ask = |statement: &str| double.ask(statement);
        // As text a char(n) has lost its blanks; over the wire it has them.
        let whole = "select string_agg(rpad(text::text, 200), '' order by sequence) from svv_query_inflight where slice = 1";
        let escaped = text.replace('\n', "\\n");
        assert_eq!(ask(whole).trim_end(), escaped.trim_end());
        let fragments = escaped.len().div_ceil(200);
        assert_eq!(
            ask(
                "select count(*), count(distinct slice), max(sequence) + 1, min(octet_length(text)) from svv_query_inflight"
            ),
            format!("{}|3|{fragments}|200", 3 * fragments)
        );
        assert_ne!(
            ask("select sequence from svv_query_inflight"),
            ask("select sequence from svv_query_inflight")
        );
        let whole = "select string_agg(rpad(text::text, 4000), '' order by sequence) from sys_query_text";
        assert_eq!(ask(whole).trim_end(), escaped.trim_end());
        assert_eq!(
            ask(
                "select query_text = left(text, 4000) from sys_query_history join sys_query_text using (query_id) where sequence = 0"
            ),
            "t"
        );
        query.lost = Some(1);
        double.ask(&query.begin());
        assert_eq!(ask("select count(*) from svv_query_inflight where sequence = 1"), "0");
    }

    #[test]
    fn in_a_database_of_bytes_a_fragment_ends_inside_a_letter() {
        let double =
            Double::create_with(Kind::Provisioned, "bytes", "encoding 'SQL_ASCII' template template0");
        let text = format!("{}日本", "a".repeat(199));
        double.ask(&Query::new(7, 41, "etl", &text).begin());
        // In hexadecimal, since a half is no text: psql or the server may refuse it.
        let halves = "select encode(convert_to(rtrim(text), 'SQL_ASCII'), 'hex') from svv_query_inflight order by sequence";
        assert_eq!(double.ask(halves), format!("{}e6\n97a5e69cac", "61".repeat(199)));
    }

    #[test]
    fn a_query_runs_by_the_clock_of_the_server_and_ends() {
        let double = Double::create(Kind::Provisioned, "clock");
        let mut query = Query::new(7, 41, "etl", "select 1");
        query.start = Start::Ago(Duration::from_mins(121));
        query.queued = Duration::from_millis(1500);
        let mut dropped = Query::new(8, 42, "", "select 2");
        (dropped.user_id, dropped.status) = (Some(99), "queued".to_owned());
        dropped.start = Start::At("2026-01-02T03:04:05Z".parse().unwrap());
        double.ask(&(query.begin() + &dropped.begin() + &query.begin()));
        // Another zone of the session changes nothing.
        let ask = |statement: &str| double.ask(&format!("set timezone = 'Asia/Tokyo'; {statement}"));
        assert_eq!(
            ask(
                "select query, usename, pid, (getdate() - starttime) between '7259 s' and '7319 s', suspended \
                from svv_query_inflight left join pg_user on userid = usesysid::bigint"
            ),
            "41|etl|7|t|0"
        );
        let history = "select query_id - 1000000000, status, end_time is null, elapsed_time / 60000000, queue_time, \
            elapsed_time = queue_time + execution_time from sys_query_history";
        assert_eq!(
            ask(&format!("{history} where query_id = {}", query.query_id)),
            "41|running   |t|121|1500000|t"
        );
        assert_eq!(
            ask(
                "select start_time, elapsed_time = queue_time, execution_time from sys_query_history where user_id = 99"
            ),
            "2026-01-02 03:04:05|t|0"
        );
        double.ask(&query.end());
        assert_eq!(ask("select count(*) from svv_query_inflight"), "0");
        assert!(
            ask(&format!("{history} where query_id = {}", query.query_id))
                .starts_with("41|success   |f|121|")
        );
    }

    #[test]
    fn turns_keep_a_few_short_queries_running_and_leave_others_alone() {
        let double = Double::create(Kind::Serverless, "turns");
        let turn = turn(&[("etl", "copy clicks from 's3://logs/'"), ("watcher", "select 1")]);
        let long = Query::new(7, 41, "etl", "select 2");
        let ask = |statement: &str| double.ask(statement);
        ask(&(long.begin() + &format!("{turn};\n").repeat(40)));
        let running: u32 =
            ask("select count(*) from sys_query_history where status = 'running'").parse().unwrap();
        assert!((1..=5).contains(&running), "{running}");
        assert_eq!(
            ask("select count(*) from sys_query_history where status = 'running' and query_id = 1000000041"),
            "1"
        );
        ask("update backstage.queries set start_time = start_time - interval '41 s'");
        ask(&turn);
        let late =
            "select count(*) from sys_query_history where status = 'running' and elapsed_time > 41000000";
        assert_eq!(ask(&format!("{late} and query_id > {OF_A_TURN}")), "0");
        assert_eq!(ask(late), "1");
    }

    #[test]
    fn a_login_sees_its_own_queries_until_it_may_see_all() {
        let double = Double::create(Kind::Provisioned, "rights");
        let queries =
            Query::new(7, 41, "etl", "select 1").begin() + &Query::new(8, 42, "watcher", "select 2").begin();
        double.ask(&queries);
        let seen = |role: &str| {
            let text = format!(
                "set role {role}; select (select count(*) from svv_query_inflight), (select count(*) from sys_query_history), \
                 (select count(*) from sys_query_text), (select string_agg(user_name || ' ' || syslog_access, ',') from svv_user_info), \
                 (select string_agg(role_name, ',') from svv_user_grants)"
            );
            double.ask(&text)
        };
        assert_eq!(seen("watcher"), "1|1|1|watcher RESTRICTED|");
        double.ask(&unrestricted("watcher"));
        assert_eq!(seen("watcher"), "2|1|1|watcher UNRESTRICTED|");
        double.ask(&(monitor("watcher") + &monitor("watcher")));
        assert_eq!(seen("watcher"), "2|2|2|watcher UNRESTRICTED|sys:monitor");
        assert_eq!(seen("etl"), "1|1|1|etl RESTRICTED|");
        assert!(seen("postgres").starts_with("2|2|2|"));
    }
}
