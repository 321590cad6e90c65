//! `memorydb`: clusters of Amazon MemoryDB, or replication groups of ElastiCache, as their control plane knows them.

mod events;
mod families;
#[cfg(test)]
mod tests;

use crate::check::headline::Headline;
use crate::check::{Check, Context, End, Endpoint, Listing, Need, Outcome, Problem, Reason};
use crate::net::Clients;
use crate::net::aws::{Aws, Place, Service, StoreCluster, StoreShard, StoreSnapshot};
use events::{Counted, Kind};
use families::Families;
use jiff::{SignedDuration, Timestamp};
use metrics::{Answer, Handle};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The word for every cluster of the region.
const ALL: &str = "all";
/// AWS counts manual snapshots over so long.
const DAY: SignedDuration = SignedDuration::from_hours(24);
const SOURCES: [&str; 2] = ["manual", "automated"];
/// The columns of the rows for people.
const COLUMNS: [&str; 8] =
    ["cluster", "shard", "node", "role", "status", "zone", "created", "engine_version"];

/// The keys of `memorydb`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which service: `memorydb` or `elasticache`.
    pub service: Service,
    /// Names of clusters (ElastiCache: of replication groups), or `[all]`. One that is named and does not exist is told as not available.
    #[serde(deserialize_with = "names")]
    pub clusters: Vec<String>,
    /// What must be there.
    pub expect: Expect,
    /// Region; the SDK's own when absent.
    pub region: Option<String>,
    /// ARN of a role to assume.
    pub assume_role: Option<String>,
}

/// What must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Replicas of each shard; what the API wants when absent.
    pub replicas: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service: Service::Memorydb,
            clusters: vec![ALL.to_owned()],
            expect: Expect::default(),
            region: None,
            assume_role: None,
        }
    }
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(D::Error::custom("expected names of clusters, or [all]"));
    }
    if names.len() > 1 && names.iter().any(|name| name == ALL) {
        return Err(D::Error::custom("`all` stands beside names; write one of the two"));
    }
    Ok(names)
}

/// What the check can give: each service has its own families.
pub fn families_of_both() -> Vec<Handle> {
    [Service::Memorydb, Service::Elasticache]
        .into_iter()
        .flat_map(|one| Families::of(one).handles())
        .collect()
}

/// The check.
pub struct MemoryDb {
    aws: Arc<Aws>,
    place: Place,
    config: Config,
    counted: Counted,
    learned: Vec<(Endpoint, String)>,
}

/// What AWS said in one run.
struct Told {
    clusters: Vec<StoreCluster>,
    /// `None`: they could not be read, which takes nothing from the rest.
    snapshots: Option<Vec<StoreSnapshot>>,
}

impl Check for MemoryDb {
    type Config = Config;
    const WORD: &'static str = "memorydb";
    const EVERY: Option<Duration> = Some(Duration::from_mins(5));
    const TARGET: bool = false;
    const ENDS: &'static [Endpoint] = &[Endpoint::Own];
    const HEADLINES: &'static [Headline] = &[
        Headline::sum("aws_memorydb_shard_nodes_available", "nodes available"),
        Headline::sum("aws_elasticache_shard_nodes_available", "nodes available"),
    ];
    const NEEDS: &'static [Need] = &[
        Need {
            endpoint: Endpoint::Own,
            grant: "memorydb:DescribeClusters memorydb:DescribeSnapshots memorydb:DescribeEvents",
            purpose: "service: memorydb",
            statement: "docs/iam/memorydb.json",
        },
        Need {
            endpoint: Endpoint::Own,
            grant: "elasticache:DescribeReplicationGroups elasticache:DescribeCacheClusters elasticache:DescribeUpdateActions elasticache:DescribeSnapshots elasticache:DescribeEvents",
            purpose: "service: elasticache",
            statement: "docs/iam/elasticache.json",
        },
    ];

    fn families(config: &Config) -> Vec<Handle> {
        Families::of(config.service).handles()
    }

    fn new(config: &Config, clients: &Clients) -> Self {
        Self {
            aws: Arc::clone(clients.vault.aws()),
            place: Place { region: config.region.clone(), assume_role: config.assume_role.clone() },
            config: config.clone(),
            counted: Counted::default(),
            learned: Vec::new(),
        }
    }

    async fn run(&mut self, context: Context) -> Outcome {
        let mut end = End::new(Endpoint::Own, Ok(Answer::new()));
        end.result = Box::pin(self.ask(context, &mut end.notes)).await.map(|told| {
            end.rows = Some(listing(&told.clusters));
            self.learned =
                vec![(Endpoint::Own, format!("{} clusters in {}", told.clusters.len(), self.where_words()))];
            tell(&told, &self.config, &self.counted, context.now)
        });
        Outcome { ends: vec![end] }
    }

    fn questions(&self) -> Vec<(Endpoint, Cow<'_, str>)> {
        let [memorydb, elasticache] = Self::NEEDS else { return Vec::new() };
        let need = match self.config.service {
            Service::Memorydb => memorydb,
            Service::Elasticache => elasticache,
        };
        vec![(Endpoint::Own, need.grant.replace(' ', "\n").into())]
    }

    fn learned(&self) -> Vec<(Endpoint, String)> {
        self.learned.clone()
    }
}

// ask

impl MemoryDb {
    async fn ask(&mut self, context: Context, notes: &mut Vec<Problem>) -> Result<Told, Problem> {
        let (service, deadline) = (self.config.service, context.deadline);
        let mut clusters =
            in_time(Box::pin(self.aws.store_clusters(service, &self.place, deadline)), deadline).await?;
        clusters.retain(|cluster| self.wants(&cluster.name));
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        match in_time(Box::pin(self.aws.store_updates(service, &self.place, deadline)), deadline).await {
            Ok(None) => {}
            Ok(Some(pending)) => {
                for cluster in &mut clusters {
                    cluster.pending = Some(pending.get(&cluster.name).copied().unwrap_or(0));
                }
            }
            Err(problem) => notes.push(problem),
        }
        let snapshots =
            in_time(Box::pin(self.aws.store_snapshots(service, &self.place, deadline)), deadline).await;
        let span = self.counted.span(context.now);
        let events =
            in_time(Box::pin(self.aws.store_events(service, &self.place, span, deadline)), deadline).await;
        match events {
            Ok(events) => self.counted.take(events, &clusters, context.now),
            Err(problem) => notes.push(problem),
        }
        let snapshots = snapshots.map_err(|problem| notes.push(problem)).ok();
        Ok(Told { clusters, snapshots })
    }

    fn wants(&self, name: &str) -> bool {
        self.config.clusters.iter().any(|wanted| wanted == ALL || wanted == name)
    }

    fn where_words(&self) -> &str {
        self.place.region.as_deref().unwrap_or("the region of the environment")
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, Problem>>, deadline: Instant) -> Result<T, Problem> {
    let late = |_elapsed| {
        Problem::new(Reason::Timeout, "AWS did not answer in time").hint("raise the timeout of the check")
    };
    tokio::time::timeout_at(deadline, call).await.map_err(late)?
}

// tell

fn tell(told: &Told, config: &Config, counted: &Counted, now: Timestamp) -> Answer {
    let families = Families::of(config.service);
    let mut answer = Answer::new();
    for cluster in &told.clusters {
        let of = [cluster.name.as_str()];
        answer.set(&families.available, of, flag(cluster.status.eq_ignore_ascii_case("available")));
        let shards = cluster.shards.len().to_string();
        let info = [of[0], &cluster.status, &cluster.engine, &cluster.version, &cluster.node_type, &shards];
        answer.set(&families.info, info, 1.0);
        answer.set_some(&families.pending, of, cluster.pending.map(f64::from));
        for shard in &cluster.shards {
            tell_shard(&mut answer, families, of[0], shard, config.expect);
        }
        let count = counted.of(of[0]);
        for kind in Kind::ALL {
            let events = count.kinds.get(&kind).copied().unwrap_or(0);
            answer.set(&families.events, [of[0], kind.word()], f64::from(events));
        }
        answer.set(&families.snapshot_failures, of, f64::from(count.snapshot_failures));
        if let Some(snapshots) = &told.snapshots {
            tell_snapshots(&mut answer, families, of[0], snapshots, now);
        }
    }
    for name in config.clusters.iter().filter(|name| *name != ALL) {
        if !told.clusters.iter().any(|cluster| cluster.name == *name) {
            answer.set(&families.available, [name], 0.0);
        }
    }
    answer
}

fn tell_shard(
    answer: &mut Answer,
    families: &'static Families,
    cluster: &str,
    shard: &StoreShard,
    expect: Expect,
) {
    let of = [cluster, shard.name.as_str()];
    let desired = expect.replicas.map(|replicas| f64::from(replicas) + 1.0).or(shard.wanted);
    answer.set_some(&families.nodes_desired, of, desired);
    let with = |status: &str| {
        let is = |own: &Option<String>| own.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(status));
        shard.nodes.iter().filter(|node| is(&node.status)).count() as f64
    };
    // Of a shard whose nodes have no status nothing is known, and that is no 0.
    let known = shard.nodes.is_empty() || shard.nodes.iter().any(|node| node.status.is_some());
    answer.set_some(&families.nodes_available, of, Some(with("available")).filter(|_| known));
    answer.set_some(&families.nodes_creating, of, Some(with("creating")).filter(|_| known));
    let roles = shard.nodes.iter().filter_map(|node| node.role.as_deref());
    let primaries = roles.clone().filter(|role| *role == "primary").count() as f64;
    answer.set_some(&families.primary_nodes, of, Some(primaries).filter(|_| roles.count() > 0));
}

fn tell_snapshots(
    answer: &mut Answer,
    families: &'static Families,
    cluster: &str,
    snapshots: &[StoreSnapshot],
    now: Timestamp,
) {
    let own = || snapshots.iter().filter(|snapshot| snapshot.cluster == cluster);
    for source in SOURCES {
        let of = || own().filter(|snapshot| snapshot.source == source);
        answer.set(&families.snapshots, [cluster, source], of().count() as f64);
        let good = of().filter(|snapshot| snapshot.status == "available");
        let newest = good.filter_map(|snapshot| snapshot.taken).max();
        let seconds = newest.map(|newest| newest.as_millisecond() as f64 / 1000.0);
        answer.set_some(&families.last_snapshot, [cluster, source], seconds);
    }
    let recent = own().filter(|snapshot| snapshot.source == "manual").filter(|snapshot| {
        // One that is being made has no time yet, and counts all the same.
        snapshot.taken.is_none_or(|taken| now.duration_since(taken) < DAY)
    });
    answer.set(&families.manual_24h, [cluster], recent.count() as f64);
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn listing(clusters: &[StoreCluster]) -> Listing {
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for cluster in clusters {
        for shard in &cluster.shards {
            for node in &shard.nodes {
                let created = node.created.map(|created| created.to_string());
                rows.push(vec![
                    json!(cluster.name),
                    json!(shard.name),
                    json!(node.name),
                    json!(node.role),
                    json!(node.status),
                    json!(node.zone),
                    json!(created),
                    json!(cluster.version),
                ]);
            }
        }
    }
    Listing { columns: &COLUMNS, rows }
}
