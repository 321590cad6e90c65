//! Tables of what AWS says and what is told of it.

use super::events::{Counted, Kind};
use super::{Config, Expect, Told, tell};
use crate::net::aws::{StoreCluster, StoreEvent, StoreNode, StoreShard, StoreSnapshot};
use jiff::{SignedDuration, Timestamp};
use metrics::Values;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
}

fn node(name: &str, status: Option<&str>, role: Option<&str>) -> StoreNode {
    let text = |text: Option<&str>| text.map(str::to_owned);
    StoreNode { name: name.into(), status: text(status), role: text(role), ..StoreNode::default() }
}

fn cluster(nodes: Vec<StoreNode>) -> StoreCluster {
    let shard = StoreShard { name: "0001".into(), wanted: Some(3.0), nodes };
    StoreCluster {
        name: "stores".into(),
        status: "available".into(),
        shards: vec![shard],
        ..StoreCluster::default()
    }
}

fn snapshot(source: &str, status: &str, taken: Option<Timestamp>) -> StoreSnapshot {
    StoreSnapshot { cluster: "stores".into(), source: source.into(), status: status.into(), taken }
}

fn told(told: &Told, config: &Config, counted: &Counted) -> Vec<String> {
    let mut answer = tell(told, config, counted, at(0));
    answer.seal();
    let mut all = Vec::new();
    for column in answer.columns() {
        let Values::Numbers(numbers) = column.values() else { continue };
        for (row, number) in numbers.iter().enumerate() {
            let labels: Vec<&str> = column.labels(row).collect();
            all.push(format!(
                "{} {} {number}",
                column.family().prometheus().replace("aws_memorydb_", ""),
                labels.join(" ")
            ));
        }
    }
    all.sort();
    all
}

#[test]
fn a_shard_tells_what_it_has_and_what_it_should_have() {
    let nodes =
        vec![node("a", Some("available"), Some("primary")), node("b", Some("creating"), Some("replica"))];
    let one = Told { clusters: vec![cluster(nodes)], snapshots: None };
    let has =
        |config: &Config, line: &str| told(&one, config, &Counted::default()).contains(&line.to_owned());
    let usual = Config::default();
    for line in [
        "cluster_available stores 1",
        "shard_nodes_available stores 0001 1",
        "shard_nodes_creating stores 0001 1",
        "shard_nodes_desired stores 0001 3",
        "shard_primary_nodes stores 0001 1",
        "events_total stores failover 0",
    ] {
        assert!(has(&usual, line), "{line}: {:?}", told(&one, &usual, &Counted::default()));
    }
    let expecting = Config { expect: Expect { replicas: Some(1) }, ..Config::default() };
    assert!(has(&expecting, "shard_nodes_desired stores 0001 2"));
    let naming = Config { clusters: vec!["stores".into(), "gone".into()], ..Config::default() };
    assert!(has(&naming, "cluster_available gone 0"));
    assert!(
        !told(&one, &usual, &Counted::default()).iter().any(|line| line.contains("snapshots ")),
        "not read is not none"
    );
}

#[test]
fn nodes_without_a_status_and_roles_are_not_counted_as_none() {
    let mut bare = cluster(vec![node("a", None, None)]);
    bare.shards[0].wanted = None;
    let lines =
        told(&Told { clusters: vec![bare], snapshots: None }, &Config::default(), &Counted::default());
    assert!(!lines.iter().any(|line| line.starts_with("shard_")), "{lines:?}");
}

#[test]
fn snapshots_are_told_by_source_and_only_good_ones_have_an_age() {
    let snapshots = vec![
        snapshot("manual", "available", Some(at(-1))),
        snapshot("manual", "creating", None),
        snapshot("manual", "available", Some(at(-25))),
        snapshot("automated", "creating", Some(at(0))),
        StoreSnapshot { cluster: "other".into(), ..snapshot("manual", "available", Some(at(0))) },
    ];
    let lines = told(
        &Told { clusters: vec![cluster(vec![])], snapshots: Some(snapshots) },
        &Config::default(),
        &Counted::default(),
    );
    let of_snapshots: Vec<&String> =
        lines.iter().filter(|line| line.contains("snapshot") && !line.starts_with("events")).collect();
    assert_eq!(
        of_snapshots,
        [
            "last_snapshot_timestamp_seconds stores manual 1799996400",
            "manual_snapshots_24h stores 2",
            "snapshot_failures_total stores 0",
            "snapshots stores automated 1",
            "snapshots stores manual 3"
        ]
    );
}

fn event(hours: i64, source: &str, message: &str) -> StoreEvent {
    StoreEvent { at: at(hours), source: source.into(), message: message.into() }
}

#[test]
fn each_event_is_counted_once_and_none_from_before_the_first_look() {
    let clusters = [cluster(vec![node("stores-0001-001", None, None)])];
    let old = event(0, "stores", "Failover complete for shard 0001");
    let mut counted = Counted::default();
    counted.take(vec![old.clone()], &clusters, at(0));
    assert_eq!(counted.of("stores").kinds.len(), 0);
    let late = event(-1, "stores-0001-001", "Node replacement complete");
    let failed = event(1, "stores", "Snapshot failed for snapshot x");
    let events = vec![
        old,
        late,
        failed,
        event(1, "others", "Failover complete"),
        event(1, "stores-0001-007", "Failover complete"),
    ];
    for _ in 0..3 {
        counted.take(events.clone(), &clusters, at(1));
    }
    let count = counted.of("stores");
    let kinds: Vec<(Kind, u32)> = count.kinds.into_iter().collect();
    assert_eq!(kinds, [(Kind::Failover, 1), (Kind::Replacement, 1), (Kind::Snapshot, 1)]);
    assert_eq!(count.snapshot_failures, 1);
    // After a gap it looks back over the whole of it.
    let span = SignedDuration::try_from(counted.span(at(11))).unwrap();
    assert_eq!(span, SignedDuration::from_hours(11));
}

#[test]
fn kinds_are_told_by_the_words_of_aws() {
    for (message, kind) in [
        ("Failover from primary node a-001 to replica node a-002 completed", Kind::Failover),
        ("Test Failover API called for node group 0001", Kind::Other),
        ("Recovering cache nodes 0001", Kind::Replacement),
        ("Finished recovery for cache nodes 0001", Kind::Replacement),
        ("Node replacement complete for node stores-0001-001", Kind::Replacement),
        ("Snapshot succeeded for snapshot with ID 'x'", Kind::Snapshot),
        ("Service update memorydb-20260101 started", Kind::Maintenance),
        ("Cluster created", Kind::Other),
    ] {
        assert_eq!(Kind::of(message), kind, "{message}");
    }
}

#[test]
fn names_beside_all_and_no_name_are_faults() {
    let config = |text: &str| serde_json::from_str::<Config>(text).map_err(|error| error.to_string());
    assert_eq!(config("{}").unwrap(), Config::default());
    assert!(config(r#"{"clusters": ["all", "a"]}"#).unwrap_err().contains("`all` stands beside names"));
    assert!(config(r#"{"clusters": []}"#).unwrap_err().contains("expected names"));
}
