//! THE LIST of checks. A new one needs a file in `checks/`, its `mod` line, its variant and its arms here; the compiler finds a forgotten one.

pub mod athena_query;
pub mod logs_insights;
pub mod memorydb;
pub mod pg_inflight;
pub mod pg_replication;
pub mod pg_subscription;
pub mod redis;
pub mod redshift_inflight;
pub mod sql_query;

use self::redis::Redis;
use crate::check::headline::Headline;
use crate::check::{Check, Endpoint, Need};
use crate::columns;
use crate::config::fault::Faults;
use crate::config::node::Node;
use crate::config::read::read_rest;
use crate::net::postgres::PAUSED;
use crate::spending::BUDGET_REMAINING;
use athena_query::AthenaQuery;
use logs_insights::LogsInsights;
use memorydb::MemoryDb;
use metrics::Handle;
use pg_inflight::PgInflight;
use pg_replication::PgReplication;
use pg_subscription::PgSubscription;
use redshift_inflight::RedshiftInflight;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use sql_query::SqlQuery;
use std::time::Duration;

/// The own keys of a configured check.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    /// Logical replication, both ends.
    PgSubscription(pg_subscription::Config),
    /// Slots and WAL senders of a publisher.
    PgReplication(pg_replication::Config),
    /// What runs on PostgreSQL.
    PgInflight(pg_inflight::Config),
    /// What runs on Redshift.
    RedshiftInflight(redshift_inflight::Config),
    /// Any statement on PostgreSQL or Redshift.
    SqlQuery(sql_query::Config),
    /// A query on Athena.
    AthenaQuery(athena_query::Config),
    /// A query on Logs Insights.
    LogsInsights(logs_insights::Config),
    /// The nodes of a Redis or Valkey.
    Redis(redis::Config),
    /// Clusters of MemoryDB or ElastiCache.
    MemoryDb(memorydb::Config),
}

/// Something to be done with a check whatever its type.
pub trait Visit {
    /// What comes out.
    type Out;
    /// Does it for the check `C`.
    fn visit<C: Check>(self, config: &C::Config) -> Self::Out;
}

impl Config {
    /// The families that it gives with these keys.
    pub fn families(&self) -> Vec<Handle> {
        struct Families;
        impl Visit for Families {
            type Out = Vec<Handle>;
            fn visit<C: Check>(self, config: &C::Config) -> Vec<Handle> {
                C::families(config)
            }
        }
        self.visit(Families)
    }

    /// Does something with the check behind these keys.
    pub fn visit<V: Visit>(&self, visit: V) -> V::Out {
        match self {
            Self::PgSubscription(config) => visit.visit::<PgSubscription>(config),
            Self::PgReplication(config) => visit.visit::<PgReplication>(config),
            Self::PgInflight(config) => visit.visit::<PgInflight>(config),
            Self::RedshiftInflight(config) => visit.visit::<RedshiftInflight>(config),
            Self::SqlQuery(config) => visit.visit::<SqlQuery>(config),
            Self::AthenaQuery(config) => visit.visit::<AthenaQuery>(config),
            Self::LogsInsights(config) => visit.visit::<LogsInsights>(config),
            Self::Redis(config) => visit.visit::<Redis>(config),
            Self::MemoryDb(config) => visit.visit::<MemoryDb>(config),
        }
    }

    /// What is known of the type of check.
    pub fn kind(&self) -> &'static Kind {
        match self {
            Self::PgSubscription(_) => &PG_SUBSCRIPTION,
            Self::PgReplication(_) => &PG_REPLICATION,
            Self::PgInflight(_) => &PG_INFLIGHT,
            Self::RedshiftInflight(_) => &REDSHIFT_INFLIGHT,
            Self::SqlQuery(_) => &SQL_QUERY,
            Self::AthenaQuery(_) => &ATHENA_QUERY,
            Self::LogsInsights(_) => &LOGS_INSIGHTS,
            Self::Redis(_) => &REDIS,
            Self::MemoryDb(_) => &MEMORYDB,
        }
    }
}

/// A type of check: what does not depend on its configuration.
pub struct Kind {
    /// The word of the configuration.
    pub word: &'static str,
    /// How often it runs by default; `None`: the configuration has to say it.
    pub every: Option<Duration>,
    /// Whether it asks a server of `targets:`.
    pub target: bool,
    /// Whether that is asked with SQL.
    pub sql: bool,
    /// Its ends.
    pub ends: &'static [Endpoint],
    /// What people want to see first.
    pub headlines: &'static [Headline],
    /// What it must be allowed to do.
    pub needs: &'static [Need],
    /// Reads its own keys; the third argument are the words that were accepted elsewhere in the mapping.
    pub read: fn(&Node, &str, &[&str], &mut Faults) -> Option<Config>,
    /// Its own keys as JSON schema: adds what it needs to the definitions.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// The families that it gives without any key set.
    pub families: fn() -> Vec<Handle>,
}

static PG_SUBSCRIPTION: Kind = Kind::of::<PgSubscription>(
    |node, path, also, faults| read_rest(node, path, also, faults).map(Config::PgSubscription),
    || PgSubscription::families(&pg_subscription::Config::default()),
);
static PG_REPLICATION: Kind = Kind::of::<PgReplication>(
    |node, path, also, faults| read_rest(node, path, also, faults).map(Config::PgReplication),
    || PgReplication::families(&pg_replication::Config::default()),
);
static PG_INFLIGHT: Kind = Kind::of::<PgInflight>(
    |node, path, also, faults| read_rest(node, path, also, faults).map(Config::PgInflight),
    || PgInflight::families(&pg_inflight::Config::default()),
);
static REDSHIFT_INFLIGHT: Kind = Kind::of::<RedshiftInflight>(
    |node, path, also, faults| read_rest(node, path, also, faults).map(Config::RedshiftInflight),
    || RedshiftInflight::families(&redshift_inflight::Config::default()),
);
static SQL_QUERY: Kind = Kind::of::<SqlQuery>(
    |node, path, also, faults| sql_query::Config::read(node, path, also, faults).map(Config::SqlQuery),
    || vec![columns::DATA_TIMESTAMP.handle(), PAUSED.handle()],
);
static ATHENA_QUERY: Kind = Kind::of::<AthenaQuery>(
    |node, path, also, faults| athena_query::Config::read(node, path, also, faults).map(Config::AthenaQuery),
    || vec![columns::DATA_TIMESTAMP.handle(), athena_query::SCANNED.handle(), BUDGET_REMAINING.handle()],
);
static LOGS_INSIGHTS: Kind = Kind::of::<LogsInsights>(
    |node, path, also, faults| {
        logs_insights::Config::read(node, path, also, faults).map(Config::LogsInsights)
    },
    || vec![columns::DATA_TIMESTAMP.handle(), logs_insights::SCANNED.handle(), BUDGET_REMAINING.handle()],
);
static REDIS: Kind = Kind::of::<Redis>(
    |node, path, also, faults| read_rest(node, path, also, faults).map(Config::Redis),
    || Redis::families(&redis::Config::default()),
);
static MEMORYDB: Kind = Kind::of::<MemoryDb>(
    |node, path, also, faults| read_rest(node, path, also, faults).map(Config::MemoryDb),
    memorydb::families_of_both,
);

/// All types of checks.
pub static ALL: [&Kind; 9] = [
    &PG_SUBSCRIPTION,
    &PG_REPLICATION,
    &PG_INFLIGHT,
    &REDSHIFT_INFLIGHT,
    &SQL_QUERY,
    &ATHENA_QUERY,
    &LOGS_INSIGHTS,
    &REDIS,
    &MEMORYDB,
];

impl Kind {
    /// Whether its runs cost money: it then has no default for how often it runs.
    pub fn is_paid(&self) -> bool {
        self.every.is_none()
    }

    const fn of<C: Check>(
        read: fn(&Node, &str, &[&str], &mut Faults) -> Option<Config>,
        families: fn() -> Vec<Handle>,
    ) -> Self {
        Self {
            word: C::WORD,
            every: C::EVERY,
            target: C::TARGET,
            sql: C::SQL,
            ends: C::ENDS,
            headlines: C::HEADLINES,
            needs: C::NEEDS,
            read,
            schema: |generator| C::Config::json_schema(generator),
            families,
        }
    }
}
