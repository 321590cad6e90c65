//! THE LIST of checks. A new one needs a file in `checks/`, its `mod` line, its variant and its arms here; the compiler finds a forgotten one.

pub mod pg_replication;
pub mod pg_subscription;

use crate::check::{Check, Endpoint, Need};
use crate::config::fault::Faults;
use crate::config::node::Node;
use crate::config::read::read_rest;
use metrics::Handle;
use pg_replication::PgReplication;
use pg_subscription::PgSubscription;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::time::Duration;

/// The own keys of a configured check.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    /// Logical replication, both ends.
    PgSubscription(pg_subscription::Config),
    /// Slots and WAL senders of a publisher.
    PgReplication(pg_replication::Config),
}

/// Something to be done with a check whatever its type.
pub trait Visit {
    /// What comes out.
    type Out;
    /// Does it for the check `C`.
    fn visit<C: Check>(self, config: &C::Config) -> Self::Out;
}

impl Config {
    /// Does something with the check behind these keys.
    pub fn visit<V: Visit>(&self, visit: V) -> V::Out {
        match self {
            Self::PgSubscription(config) => visit.visit::<PgSubscription>(config),
            Self::PgReplication(config) => visit.visit::<PgReplication>(config),
        }
    }

    /// What is known of the type of check.
    pub fn kind(&self) -> &'static Kind {
        match self {
            Self::PgSubscription(_) => &PG_SUBSCRIPTION,
            Self::PgReplication(_) => &PG_REPLICATION,
        }
    }
}

/// A type of check: what does not depend on its configuration.
pub struct Kind {
    /// The word of the configuration.
    pub word: &'static str,
    /// How often it runs by default; `None`: the configuration has to say it.
    pub every: Option<Duration>,
    /// Its ends.
    pub ends: &'static [Endpoint],
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

/// All types of checks.
pub static ALL: [&Kind; 2] = [&PG_SUBSCRIPTION, &PG_REPLICATION];

impl Kind {
    const fn of<C: Check>(
        read: fn(&Node, &str, &[&str], &mut Faults) -> Option<Config>,
        families: fn() -> Vec<Handle>,
    ) -> Self {
        Self {
            word: C::WORD,
            every: C::EVERY,
            ends: C::ENDS,
            needs: C::NEEDS,
            read,
            schema: |generator| C::Config::json_schema(generator),
            families,
        }
    }
}
