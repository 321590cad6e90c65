//! The demo: two private PostgreSQL servers with a replication under load, on one of them databases that play a data
//! lake and Redshift, a Redis with its replica, and a MariaDB whose slow query log comes through the door; all of it watched
//! by datapulse, with faults on request.
//!
//! The [`crew`] is one thread that owns all servers; it takes orders and says how things stand. The [`watch`] asks
//! Prometheus for alerts and keeps the [`diary`]; the [`site`] shows both on the demo's own page. [`running`] lets other
//! processes find the demo.

pub mod configuration;
pub mod crew;
pub mod diary;
pub mod lake;
pub mod look;
pub mod page;
pub mod parts;
pub mod replication;
pub mod rules;
pub mod running;
pub mod shop;
pub mod site;
pub mod slack;
pub mod store;
pub mod warehouse;
pub mod watch;
pub mod world;

/// What the demo can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// Disable the subscription
    Disable,
    /// Lock a table that the subscription writes to
    Lock,
    /// Make the subscription fail on a duplicate key
    Conflict,
    /// Stop the publisher
    PublisherDown,
    /// Let a query run on the warehouse for two hours
    LongQuery,
    /// Cut off all devices of one country
    CountryDrop,
    /// Lose the primary of the cache to its replica
    RedisFailover,
    /// Let one statement of the shop become slow
    SlowStatement,
}

impl Fault {
    /// All of them, in the order of the page.
    pub const ALL: [Self; 8] = [
        Self::Disable,
        Self::Lock,
        Self::Conflict,
        Self::PublisherDown,
        Self::LongQuery,
        Self::CountryDrop,
        Self::RedisFailover,
        Self::SlowStatement,
    ];

    /// The word of the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Lock => "lock",
            Self::Conflict => "conflict",
            Self::PublisherDown => "publisher-down",
            Self::LongQuery => "long-query",
            Self::CountryDrop => "country-drop",
            Self::RedisFailover => "redis-failover",
            Self::SlowStatement => "slow-statement",
        }
    }

    /// The fault with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.word() == word)
    }

    /// For a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Disable => "Disable the subscription",
            Self::Lock => "Lock the table",
            Self::Conflict => "Cause a conflict",
            Self::PublisherDown => "Stop the publisher",
            Self::LongQuery => "Forget the period of a query",
            Self::CountryDrop => "Cut off a country",
            Self::RedisFailover => "Lose the cache's primary",
            Self::SlowStatement => "Slow one statement down",
        }
    }

    /// What is done.
    pub fn deed(self) -> &'static str {
        match self {
            Self::Disable => "alter subscription orders_sub disable",
            Self::Lock => {
                "lock table orders in access exclusive mode, in a session on the subscriber that then sits idle"
            }
            Self::Conflict => {
                "insert on the subscriber an order whose key the publisher will use in a second"
            }
            Self::PublisherDown => "end the publisher's server at once",
            Self::LongQuery => {
                "a query over the whole bid log appears in the warehouse; it has been running for 121 minutes"
            }
            Self::CountryDrop => {
                "no device of the Philippines connects any more, and an hour goes by at once"
            }
            Self::RedisFailover => "kill -9 the primary of Redis, and make a primary of its replica",
            Self::SlowStatement => {
                "a statement of the shop takes two seconds instead of none, and eight customers ask for it all the time"
            }
        }
    }

    /// Where one meets it.
    pub fn in_real_life(self) -> &'static str {
        match self {
            Self::Disable => "somebody disabled it for a migration and forgot, or disable_on_error did it",
            Self::Lock => "a migration or a forgotten session holds a lock, and replication waits behind it",
            Self::Conflict => {
                "an application writes to both sides; the worker dies on the same row again and again"
            }
            Self::PublisherDown => "a crash, a failover, or a closed network",
            Self::LongQuery => {
                "an analyst forgets the period, and the query slows everybody down for hours before anyone looks"
            }
            Self::CountryDrop => "a carrier has an outage and does not notice; customers call before it does",
            Self::RedisFailover => {
                "a machine dies; sessions go on, and nobody knows that the next loss takes them all"
            }
            Self::SlowStatement => {
                "an index is gone, or the plan changed, and one statement takes the whole server"
            }
        }
    }

    /// The bundled alert that tells it.
    pub fn alert(self) -> &'static str {
        match self {
            Self::Disable => "PostgresSubscriptionDisabled",
            Self::Lock => "PostgresSubscriptionBlocked",
            Self::Conflict => "PostgresSubscriptionErroring",
            Self::PublisherDown => "PostgresSubscriptionPublisherUnreachable",
            Self::LongQuery => "RedshiftQueryLongRunning",
            Self::CountryDrop => "DeviceConnectionsZero",
            Self::RedisFailover => "RedisFailover",
            Self::SlowStatement => "SlowQueryStatementDominates",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn the_page_and_the_command_line_use_the_same_words() {
        let words: Vec<_> = Fault::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect();
        assert_eq!(words.len(), Fault::ALL.len());
        for (value, fault) in words.iter().zip(Fault::ALL) {
            assert_eq!(value.get_name(), fault.word());
            assert_eq!(Fault::from_word(value.get_name()), Some(fault));
        }
        assert_eq!(Fault::from_word("fire"), None);
    }

    #[test]
    fn every_fault_has_its_alert_in_the_bundled_rules() {
        let rules: String = rules::BUNDLED.iter().map(|(_, text, _)| *text).collect();
        for fault in Fault::ALL {
            assert!(rules.contains(&format!("alert: {}\n", fault.alert())), "{}", fault.alert());
        }
    }
}
