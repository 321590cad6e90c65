//! THE TABLE of what comes with the program: which part needs which alerts, dashboards and policies.

use super::Part::{
    self, AthenaQuery, Logs, LogsInsights, MemoryDb, PgInflight, PgReplication, PgSubscription, Redis,
    RedshiftInflight, SqlQuery,
};

/// A file that comes with the program.
pub struct Bundled {
    /// Its name in its folder.
    pub file: &'static str,
    /// What is in it.
    pub text: &'static str,
    /// Who needs it: one of these is enough.
    pub parts: &'static [Part],
    /// What it says, in a line.
    pub why: &'static str,
}

/// Rules, of `alerts/`.
pub const ALERTS: [Bundled; 7] = [
    Bundled {
        file: "self.yml",
        text: include_str!("../../alerts/self.yml"),
        parts: &Part::ALL,
        why: "whether datapulse can be believed",
    },
    Bundled {
        file: "replication.yml",
        text: include_str!("../../alerts/replication.yml"),
        parts: &[PgSubscription, PgReplication],
        why: "subscriptions that stopped or lag, slots that fill the disk",
    },
    Bundled {
        file: "inflight.yml",
        text: include_str!("../../alerts/inflight.yml"),
        parts: &[PgInflight, RedshiftInflight],
        why: "queries that run long, wait, block or idle in a transaction",
    },
    Bundled {
        file: "devices.yml",
        text: include_str!("../../alerts/devices.yml"),
        parts: &[SqlQuery, AthenaQuery, LogsInsights],
        why: "a count by country at 0 or missing; a budget that is spent",
    },
    Bundled {
        file: "anomaly.yml",
        text: include_str!("../../alerts/anomaly.yml"),
        parts: &[SqlQuery, AthenaQuery],
        why: "a count below what is usual at this hour of the week",
    },
    Bundled {
        file: "stores.yml",
        text: include_str!("../../alerts/stores.yml"),
        parts: &[Redis, MemoryDb],
        why: "nodes, replicas, failovers, memory and snapshots of stores",
    },
    Bundled {
        file: "slow_query.yml",
        text: include_str!("../../alerts/slow_query.yml"),
        parts: &[Logs],
        why: "bursts of slow queries; deliveries of logs that stop or are late",
    },
];

/// Routes of Alertmanager, of `alerts/`: with datapulse's notifier, and straight to Slack.
pub const ROUTES: [(&str, &str); 2] = [
    ("alertmanager.yml", include_str!("../../alerts/alertmanager.yml")),
    ("alertmanager-slack.yml", include_str!("../../alerts/alertmanager-slack.yml")),
];

/// Boards for Grafana, of `dashboards/`.
pub const DASHBOARDS: [Bundled; 7] = [
    Bundled {
        file: "overview.json",
        text: include_str!("../../dashboards/overview.json"),
        parts: &Part::ALL,
        why: "is everything well: every check, every alert that fires",
    },
    Bundled {
        file: "datapulse.json",
        text: include_str!("../../dashboards/datapulse.json"),
        parts: &Part::ALL,
        why: "datapulse itself",
    },
    Bundled {
        file: "replication.json",
        text: include_str!("../../dashboards/replication.json"),
        parts: &[PgSubscription, PgReplication],
        why: "logical replication, both ends",
    },
    Bundled {
        file: "inflight.json",
        text: include_str!("../../dashboards/inflight.json"),
        parts: &[PgInflight, RedshiftInflight],
        why: "running queries",
    },
    Bundled {
        file: "devices.json",
        text: include_str!("../../dashboards/devices.json"),
        parts: &[SqlQuery, AthenaQuery, LogsInsights],
        why: "counts by country, and what the queries cost",
    },
    Bundled {
        file: "stores.json",
        text: include_str!("../../dashboards/stores.json"),
        parts: &[Redis, MemoryDb],
        why: "Redis, Valkey, MemoryDB, ElastiCache",
    },
    Bundled {
        file: "slow-queries.json",
        text: include_str!("../../dashboards/slow-queries.json"),
        parts: &[Logs],
        why: "slow queries and deliveries of logs",
    },
];

/// A policy of `docs/iam/`.
pub struct Policy {
    /// Its name in its folder.
    pub file: &'static str,
    /// What is in it.
    pub text: &'static str,
    /// What it is needed by.
    pub when: When,
}

/// What needs a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This part.
    Chosen(Part),
    /// Logs that are asked for.
    Pull,
    /// Secrets in Parameter Store.
    Ssm,
}

/// Policies that a choice can need.
pub const POLICIES: [Policy; 5] = [
    Policy {
        file: "athena_query.json",
        text: include_str!("../../docs/iam/athena_query.json"),
        when: When::Chosen(AthenaQuery),
    },
    Policy {
        file: "logs_insights.json",
        text: include_str!("../../docs/iam/logs_insights.json"),
        when: When::Chosen(LogsInsights),
    },
    Policy {
        file: "memorydb.json",
        text: include_str!("../../docs/iam/memorydb.json"),
        when: When::Chosen(MemoryDb),
    },
    Policy { file: "logs_pull.json", text: include_str!("../../docs/iam/logs_pull.json"), when: When::Pull },
    Policy { file: "secrets.json", text: include_str!("../../docs/iam/secrets.json"), when: When::Ssm },
];

/// Policies for keys that are never written here but may be added by hand.
pub const LATER: [(&str, &str); 9] = [
    ("assume_role.json", "assume_role: of a check or a target"),
    ("elasticache.json", "service: elasticache of a check memorydb"),
    ("elasticache_login.json", "auth: iam of a check redis on ElastiCache"),
    ("memorydb_login.json", "auth: iam of a check redis on MemoryDB"),
    ("metric_image.json", "the evidence metric_image"),
    ("rds_describe.json", "discover: {rds: ..}"),
    ("rds_login.json", "auth: iam on RDS and Aurora"),
    ("redshift_login.json", "auth: iam on Redshift, and whether a cluster is paused"),
    ("redshift_serverless_login.json", "auth: iam on Redshift Serverless"),
];

/// The routes that a choice needs.
pub(super) fn routes(slack: bool) -> &'static str {
    let [(_, ours), (_, plain)] = ROUTES;
    if slack { ours } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    // Slack has none of its own: it tells those of the others.
    fn every_part_that_measures_has_rules_and_a_dashboard() {
        // Beside its own those of everything and of datapulse itself.
        for part in Part::ALL.into_iter().filter(|part| *part != Part::Slack) {
            let of = |all: &[Bundled]| all.iter().filter(|one| one.parts.contains(&part)).count();
            assert!(of(&ALERTS) >= 2 && of(&DASHBOARDS) == 3, "{}", part.word());
        }
    }
}
