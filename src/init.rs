//! What `datapulse init` writes: files for just the parts that were chosen. Each file is a pure function of the choice; `writing` alone writes.

pub mod bundled;
mod compose;
mod configuration;
mod guide;
mod kubernetes;
mod login;
mod monitoring;
mod policy;
pub mod questions;
mod role;
mod systemd;
pub mod writing;

use clap::ValueEnum;
use std::collections::BTreeMap;

pub use guide::{steps, tree};
pub use login::{Login, Server, servers};

/// What can be chosen: each check, and two sections of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The check of this word, and so on.
    PgSubscription,
    /// Slots and WAL senders.
    PgReplication,
    /// Sessions of `PostgreSQL`.
    PgInflight,
    /// Queries of Redshift.
    RedshiftInflight,
    /// Own SQL.
    SqlQuery,
    /// Own SQL on Athena.
    AthenaQuery,
    /// Queries on Logs Insights.
    LogsInsights,
    /// Redis and Valkey.
    Redis,
    /// MemoryDB and ElastiCache by their control plane.
    MemoryDb,
    /// The section `logs`.
    Logs,
    /// The section `alerts`.
    Slack,
}

impl Part {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 11] = [
        Self::PgSubscription,
        Self::PgReplication,
        Self::PgInflight,
        Self::RedshiftInflight,
        Self::SqlQuery,
        Self::AthenaQuery,
        Self::LogsInsights,
        Self::Redis,
        Self::MemoryDb,
        Self::Logs,
        Self::Slack,
    ];

    /// How `--for` calls it: the word of the configuration.
    pub const fn word(self) -> &'static str {
        self.told().0
    }

    /// What it is for.
    pub const fn purpose(self) -> &'static str {
        self.told().1
    }

    const fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::PgSubscription => ("pg_subscription", "logical replication of PostgreSQL, both ends"),
            Self::PgReplication => ("pg_replication", "slots and WAL senders of a publisher"),
            Self::PgInflight => ("pg_inflight", "what runs, waits and idles in transactions on PostgreSQL"),
            Self::RedshiftInflight => ("redshift_inflight", "what runs on Redshift"),
            Self::SqlQuery => ("sql_query", "your own SQL on PostgreSQL or Redshift as metrics"),
            Self::AthenaQuery => ("athena_query", "your own SQL on Athena as metrics"),
            Self::LogsInsights => ("logs_insights", "a query on CloudWatch Logs Insights as metrics"),
            Self::Redis => ("redis", "all nodes of a Redis, Valkey, ElastiCache or MemoryDB"),
            Self::MemoryDb => ("memorydb", "clusters of MemoryDB or ElastiCache, by the API of AWS"),
            Self::Logs => ("logs", "slow queries and errors, from logs that CloudWatch delivers"),
            Self::Slack => ("slack", "alerts in Slack, one message an incident, with evidence"),
        }
    }

    /// The part of this word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.word() == word)
    }
}

/// Where secrets are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Secrets {
    /// Environment variables
    #[default]
    Env,
    /// Files below `secrets/`
    File,
    /// AWS Parameter Store
    Ssm,
}

impl Secrets {
    /// The reference of a secret, as it stands in the configuration.
    fn reference(self, secret: &str) -> String {
        match self {
            Self::Env => format!("env:{}", variable(secret)),
            Self::File => format!("file:secrets/{secret}"),
            Self::Ssm => format!("ssm:{}", parameter(secret)),
        }
    }
}

fn variable(secret: &str) -> String {
    secret.to_ascii_uppercase().replace('-', "_")
}

fn parameter(secret: &str) -> String {
    format!("/datapulse/{secret}")
}

/// How logs come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Delivery {
    /// Firehose or a Lambda function delivers to `/logs/*`
    #[default]
    Doors,
    /// datapulse asks CloudWatch Logs
    Pull,
}

/// The usual address of Prometheus.
pub const PROMETHEUS: &str = "http://127.0.0.1:9090";
/// Stands for the id of a channel.
pub const CHANNEL: &str = "C0123456789";

/// What was said by flags and answers; `None`: not yet.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// What is wanted.
    pub parts: Vec<Part>,
    /// Servers.
    pub logins: BTreeMap<Server, Login>,
    /// Where secrets are kept.
    pub secrets: Option<Secrets>,
    /// How logs come.
    pub delivery: Option<Delivery>,
    /// Where Prometheus is.
    pub prometheus: Option<String>,
    /// Slack's channel.
    pub channel: Option<String>,
}

/// Everything that the files depend on.
#[derive(Clone, Debug)]
pub struct Choice {
    parts: Vec<Part>,
    logins: BTreeMap<Server, Login>,
    secrets: Secrets,
    delivery: Delivery,
    prometheus: String,
    channel: Option<String>,
}

impl Choice {
    /// Puts the usual where nothing was said. What was said of a server that nobody asks is a mistake.
    pub fn new(given: Given) -> Result<Self, String> {
        let Given { mut parts, mut logins, secrets, delivery, prometheus, channel } = given;
        parts.sort_unstable();
        parts.dedup();
        let asked = servers(&parts);
        if let Some(server) = logins.keys().find(|server| !asked.contains(server)) {
            let asked: Vec<&str> = asked.iter().map(|server| server.name()).collect();
            let known = if asked.is_empty() { "none".to_owned() } else { asked.join(", ") };
            return Err(format!("--target {}: no chosen check asks it; asked: {known}", server.name()));
        }
        for server in asked {
            logins.entry(server).or_insert_with(|| Login::guess(server));
        }
        Ok(Self {
            parts,
            logins,
            secrets: secrets.unwrap_or_default(),
            delivery: delivery.unwrap_or_default(),
            prometheus: prometheus.unwrap_or_else(|| PROMETHEUS.to_owned()),
            channel,
        })
    }

    fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    fn has_any(&self, parts: &[Part]) -> bool {
        parts.iter().any(|part| self.has(*part))
    }

    /// Something has to be remembered over restarts.
    fn has_state(&self) -> bool {
        self.has_any(&[Part::AthenaQuery, Part::LogsInsights, Part::Logs, Part::Slack])
    }

    fn asks_aws(&self) -> bool {
        policy::text(self).is_some()
    }

    /// Every secret that the configuration refers to, and what it is.
    fn kept(&self) -> Vec<(String, String)> {
        let mut kept: Vec<(String, String)> = self
            .logins
            .iter()
            .map(|(server, login)| {
                (password(*server), format!("password of {} on the {}", login.user, server.name()))
            })
            .collect();
        if self.has(Part::Logs) && self.delivery == Delivery::Doors {
            kept.push((
                "firehose-key".to_owned(),
                "the key that deliveries of logs have to bring".to_owned(),
            ));
        }
        if self.has(Part::Slack) {
            kept.push(("slack-token".to_owned(), "the token of the Slack bot (xoxb-...)".to_owned()));
        }
        kept
    }
}

fn password(server: Server) -> String {
    format!("{}-password", server.name())
}

/// A file that is to be written.
#[derive(Clone, Debug)]
pub struct File {
    /// Where, below the directory.
    pub path: String,
    /// What is in it.
    pub text: String,
    /// Why it is there, in a line.
    pub why: String,
}

impl File {
    fn new(path: impl Into<String>, why: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into(), why: why.into() }
    }
}

/// All files of a choice, sorted by their paths.
pub fn files(choice: &Choice) -> Vec<File> {
    let mut files = configuration::files(choice);
    files.extend(monitoring::files(choice));
    files.push(compose::file(choice));
    files.push(systemd::file());
    files.extend(kubernetes::files(choice));
    files.extend(policy::file(choice));
    files.extend(role::files(choice));
    files.push(guide::file(choice, &files));
    // Files of the directory itself first, then its folders.
    files.sort_by(|a, b| (a.path.contains('/'), &a.path).cmp(&(b.path.contains('/'), &b.path)));
    files
}

/// A scalar of YAML that stays this text: bare where nothing can be mistaken, else in double quotes, whose escapes are those of JSON.
fn scalar(text: &str) -> String {
    let plain = text.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter));
    let word =
        ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&text.to_lowercase().as_str());
    if plain && !word && text.starts_with(|first: char| first.is_ascii_alphabetic()) {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

/// Every line that has something, moved to the right.
fn indented(text: &str, by: usize) -> String {
    let mut moved = String::with_capacity(text.len() * 2);
    for line in text.lines() {
        if !line.is_empty() {
            moved.push_str(&" ".repeat(by));
            moved.push_str(line);
        }
        moved.push('\n');
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_stays_a_text() {
        for (text, written) in [
            ("orders", "orders"),
            ("db.example.org", "db.example.org"),
            ("10.0.0.1", "\"10.0.0.1\""),
            ("null", "\"null\""),
            ("false", "\"false\""),
            ("a: b #", "\"a: b #\""),
            ("\"q\"", "\"\\\"q\\\"\""),
        ] {
            assert_eq!(scalar(text), written);
        }
    }

    #[test]
    fn a_server_that_nobody_asks_is_a_mistake() {
        let logins = [(Server::Cache, Login::guess(Server::Cache))].into();
        let given = Given { parts: vec![Part::PgReplication], logins, ..Given::default() };
        let why = Choice::new(given).unwrap_err();
        assert_eq!(why, "--target cache: no chosen check asks it; asked: publisher");
    }
}
