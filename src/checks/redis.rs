//! `redis`: all nodes of a Redis or Valkey, found from one: a single server, a primary with replicas, a cluster.
//!
//! A node that is lost is a sample (`redis_up` 0), and stays known. The check fails when no node answers at all.

mod ask;
mod families;
mod group;
mod info;
mod tell;
#[cfg(test)]
mod tests;
mod topology;

use crate::check::headline::Headline;
use crate::check::{Check, Context, End, Endpoint, Need, Outcome, Problem, Reason};
use crate::config::scalar::Interval;
use crate::net::Clients;
use crate::net::redis::{Address, Connection, Door};
use ask::{Question, Seen};
use futures_util::future::join_all;
use group::{Found, Group, unasked};
use metrics::{Answer, Handle};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// From the target to its primary, from there to its replicas, and to theirs.
const ROUNDS: u32 = 4;
/// More nodes than a cluster can have; a server that names more is none.
const MOST_NODES: usize = 1000;

/// The keys of `redis`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What the target is.
    pub mode: Mode,
    /// Where nodes are reached: at the address that they announce, or at the host of the target and the port that they announce.
    pub reach: Reach,
    /// Where nodes are reached whose announced address is another one from here (behind NAT): `"10.0.0.7:6379": "cache.example:7001"`.
    #[serde(deserialize_with = "addresses")]
    pub addresses: BTreeMap<String, String>,
    /// For how long a node without a cluster that nobody names any more is still known. In a cluster it is known until it is taken out.
    pub remember: Interval,
}

/// What the target is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Found out: a cluster, or a primary with its replicas.
    #[default]
    Auto,
    /// Only the target itself is asked.
    Single,
    /// A cluster; anything else is a failure.
    Cluster,
}

/// Where nodes are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Where they say that they are.
    #[default]
    Announced,
    /// At the host of the target, with the port that they announce.
    TargetHost,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            reach: Reach::Announced,
            addresses: BTreeMap::new(),
            remember: Interval::seconds(3600),
        }
    }
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let addresses = BTreeMap::<String, String>::deserialize(deserializer)?;
    let wrong =
        addresses.iter().flat_map(|(from, to)| [from, to]).find(|text| Address::parse(text).is_none());
    match wrong {
        Some(text) => Err(D::Error::custom(format!("`{text}` is not an address; write host:port"))),
        None => Ok(addresses),
    }
}

/// The check.
pub struct Redis {
    door: Door,
    config: Config,
    group: Group,
    learned: Vec<(Endpoint, String)>,
}

impl Check for Redis {
    type Config = Config;
    const WORD: &'static str = "redis";
    const EVERY: Option<Duration> = Some(Duration::from_secs(30));
    const SQL: bool = false;
    const ENDS: &'static [Endpoint] = &[Endpoint::Own];
    const HEADLINES: &'static [Headline] = &[
        Headline::sum("redis_up", "nodes up"),
        Headline::highest("redis_connected_slave_lag_seconds", "replica lag"),
        Headline::sum("redis_memory_used_bytes", "memory"),
    ];
    const NEEDS: &'static [Need] = &[
        Need {
            endpoint: Endpoint::Own,
            grant: "+info",
            purpose: "everything; without it the check fails",
            statement: "ACL SETUSER {user} +info",
        },
        Need {
            endpoint: Endpoint::Own,
            grant: "+ping",
            purpose: "redis_ping_seconds",
            statement: "ACL SETUSER {user} +ping",
        },
        Need {
            endpoint: Endpoint::Own,
            grant: "+cluster|myid +cluster|info +cluster|shards (before 7.0 +cluster|nodes)",
            purpose: "the nodes of a cluster and its state; not needed without one",
            statement: "ACL SETUSER {user} +cluster|myid +cluster|info +cluster|shards +cluster|nodes +cluster|slots",
        },
        Need {
            endpoint: Endpoint::Own,
            grant: "+slowlog|len +slowlog|get",
            purpose: "the slow log; without it every run counts a failure with reason permission for each node",
            statement: "ACL SETUSER {user} +slowlog|len +slowlog|get",
        },
    ];

    fn families(_: &Config) -> Vec<Handle> {
        families::all()
    }

    fn new(config: &Config, clients: &Clients) -> Self {
        Self { door: clients.door(), config: config.clone(), group: Group::default(), learned: Vec::new() }
    }

    async fn run(&mut self, context: Context) -> Outcome {
        self.learned.clear();
        let seed = match self.door.address().await {
            Ok(seed) => seed,
            Err(problem) => return Outcome::single(Err(problem)),
        };
        let mut end = End::new(Endpoint::Own, Ok(Answer::new()));
        let mut asking = Asking { found: Found::new(), connections: BTreeMap::new() };
        asking.all(self, &seed, context.deadline).await;
        let Asking { mut found, connections } = asking;
        let target_answers = found.get(&seed).is_some_and(Result::is_ok);
        let times = (context.now, Instant::now());
        self.group.learn(&mut found, connections, (&seed, self.config.remember.duration()), times);
        tell::tell_up(&mut end.facts, &found, &self.group);
        end.rows = Some(tell::listing(&found, &self.group));
        end.result = match self.usable(&found) {
            Ok(()) => Ok(tell::tell(&found, &mut self.group)),
            Err(problem) if target_answers && found.values().all(Result::is_err) => Err(problem.hint(
                "the target answers, and its nodes announce addresses that cannot be reached from here: write addresses:, or reach: target_host",
            )),
            Err(problem) => Err(problem),
        };
        self.learned.extend(found.iter().filter_map(|(address, seen)| {
            let (server, version) = seen.as_ref().ok()?.info.server();
            Some((Endpoint::Own, format!("{address}: {server} {version}")))
        }));
        end.notes = notes(found, end.result.is_ok());
        Outcome { ends: vec![end] }
    }

    fn questions(&self) -> Vec<(Endpoint, Cow<'_, str>)> {
        let info = "INFO\nPING\nSLOWLOG LEN\nSLOWLOG GET 5\nof a cluster: CLUSTER MYID, CLUSTER INFO, CLUSTER SHARDS";
        vec![(Endpoint::Own, info.into())]
    }

    fn learned(&self) -> Vec<(Endpoint, String)> {
        self.learned.clone()
    }
}

/// Questions under way, and what came of them.
struct Asking {
    found: Found,
    connections: BTreeMap<Address, Connection>,
}

impl Asking {
    /// Asks the nodes that are known, or the target, and then those that they name.
    async fn all(&mut self, check: &mut Redis, seed: &Address, deadline: Instant) {
        let mut next: BTreeSet<Address> = check.group.members.keys().cloned().collect();
        for round in 0..ROUNDS {
            if next.is_empty() {
                if self.found.contains_key(seed) || self.found.values().any(Result::is_ok) {
                    break;
                }
                // All that were known are gone: whoever has their name now may know more.
                next.insert(seed.clone());
            }
            // A node that hangs must leave time to ask those that are found after it.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = if round + 1 == ROUNDS { left * 9 / 10 } else { left * 2 / 5 };
            self.round(check, seed, next, Instant::now() + share).await;
            next = unasked(&self.found, check.config.mode);
            if !next.is_empty() && group::view(&self.found).is_some_and(|view| !view.names(seed)) {
                // The target is one of these under another name: no node has two connections.
                self.connections.remove(seed);
            }
            next = next.into_iter().take(MOST_NODES.saturating_sub(self.found.len())).collect();
        }
    }

    async fn round(
        &mut self,
        check: &mut Redis,
        seed: &Address,
        nodes: BTreeSet<Address>,
        deadline: Instant,
    ) {
        let mut asked = Vec::new();
        for node in nodes {
            let kept = check.group.members.get_mut(&node).and_then(|member| member.connection.take());
            let question = Question {
                address: check.place(&node, seed),
                door: &check.door,
                host: &seed.host,
                deadline,
                wants_view: check.config.mode != Mode::Single,
            };
            asked.push(async move {
                let answer = Box::pin(question.ask(kept)).await;
                (node, answer)
            });
        }
        for (node, answer) in join_all(asked).await {
            let said = answer.map(|(seen, connection)| {
                self.connections.insert(node.clone(), connection);
                seen
            });
            self.found.insert(node, said);
        }
    }
}

impl Redis {
    /// Where a node is reached that is known by this address.
    fn place(&self, node: &Address, seed: &Address) -> Address {
        if let Some(mapped) = self.config.addresses.get(&node.to_string()).and_then(|to| Address::parse(to)) {
            return mapped;
        }
        match self.config.reach {
            Reach::Announced => node.clone(),
            Reach::TargetHost => Address { host: seed.host.clone(), port: node.port },
        }
    }

    /// Whether what was found is worth telling.
    fn usable(&self, found: &Found) -> Result<(), Problem> {
        let name = self.door.name();
        let mut seen = found.values().filter_map(|seen| seen.as_ref().ok()).peekable();
        if seen.peek().is_none() {
            let first = found.values().find_map(|seen| seen.as_ref().err());
            return Err(match first {
                Some(problem) => again(problem),
                None => Problem::new(Reason::Empty, format!("{name} has no node")),
            });
        }
        let seen: Vec<&Seen> = seen.collect();
        if seen.iter().any(|seen| seen.info.text("redis_mode") == Some("sentinel")) {
            let what = format!("{name} is a Sentinel and holds no data");
            return Err(Problem::new(Reason::WrongRole, what)
                .hint("name one of the servers that it watches as target"));
        }
        if self.config.mode == Mode::Cluster && !seen.iter().any(|seen| seen.info.is_cluster()) {
            let what = format!("{name} is not a cluster");
            return Err(
                Problem::new(Reason::WrongRole, what).hint("write mode: auto, or name another target")
            );
        }
        Ok(())
    }
}

/// The same problem once more: those of the nodes stay where they are.
fn again(problem: &Problem) -> Problem {
    let copy = Problem::new(problem.reason, problem.chain());
    match &problem.hint {
        Some(hint) => copy.hint(hint.clone()),
        None => copy,
    }
}

/// What could not be read while other nodes answered.
fn notes(found: Found, answered: bool) -> Vec<Problem> {
    let mut notes = Vec::new();
    for seen in found.into_values() {
        match seen {
            Ok(seen) => notes.extend(seen.notes),
            Err(problem) if answered => notes.push(problem),
            Err(_) => {}
        }
    }
    notes
}
