//! The check `memorydb`: on moto, and on a fake for what moto lacks.

use crate::aws::policy;
use crate::moto::shared_moto;
use crate::program::{Program, Samples};
use crate::recorder::{Fault, Recorder};
use crate::stage::eventually;
use crate::stores::Stores;
use crate::wire::{ACCESS_KEY, REGION};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

/// A program that meets AWS there.
fn serve(name: &str, config: &str, port: u16) -> Program {
    Program::start_as(name, config, &[], |command, _| {
        for (name, value) in [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}").as_str()),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", "canary-secret-key"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ] {
            command.env(name, value);
        }
    })
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Seconds of the epoch as the query protocol writes them.
fn text(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "whole seconds of our age")]
    jiff::Timestamp::from_second(seconds as i64).unwrap().to_string()
}

#[test]
fn clusters_of_moto_are_told_and_what_it_lacks_takes_nothing_from_them() {
    let moto = shared_moto();
    moto.json(
        "memorydb",
        "AmazonMemoryDB.CreateCluster",
        &json!({"ClusterName": "stores", "NodeType": "db.t4g.small", "ACLName": "open-access", "NumShards": 2, "NumReplicasPerShard": 1}),
    );
    moto.json(
        "memorydb",
        "AmazonMemoryDB.CreateSnapshot",
        &json!({"ClusterName": "stores", "SnapshotName": "one"}),
    );
    let config = "checks:\n  - memorydb: {name: stores, every: 1s, timeout: 20s, clusters: [stores, gone]}\n";
    let program = serve("memorydb-moto", config, moto.port());
    let of = [("cluster", "stores"), ("check", "stores")];
    program.wait_for("aws_memorydb_cluster_available", &of, |available| available == 1.0);
    let samples = program.scrape();
    assert_eq!(samples.value("aws_memorydb_cluster_available", &[("cluster", "gone")]), Some(0.0));
    for shard in ["0001", "0002"] {
        let of = [("cluster", "stores"), ("shard", shard)];
        assert_eq!(samples.value("aws_memorydb_shard_nodes_available", &of), Some(2.0));
        assert_eq!(samples.value("aws_memorydb_shard_nodes_desired", &of), Some(2.0));
        assert_eq!(samples.value("aws_memorydb_shard_primary_nodes", &of), None, "MemoryDB names no roles");
    }
    assert_eq!(samples.value("aws_memorydb_events_total", &[("kind", "failover")]), Some(0.0));
    // moto has no events: counted, told, and no loss for the rest.
    let failures: f64 = samples.all("datapulse_check_failures_total", &[]).map(|sample| sample.value).sum();
    assert!(failures >= 1.0);
    assert_eq!(samples.value("datapulse_check_up", &[]), Some(1.0));
    assert!(program.get("/").contains("DescribeEvents of memorydb failed"), "{}", program.get("/"));
}

#[test]
fn groups_of_moto_are_told_as_far_as_it_knows_them() {
    let moto = shared_moto();
    moto.form(
        "elasticache",
        "2015-02-02",
        "CreateReplicationGroup",
        &[
            ("ReplicationGroupId", "cache"),
            ("ReplicationGroupDescription", "x"),
            ("NumNodeGroups", "1"),
            ("ReplicasPerNodeGroup", "1"),
            ("Engine", "redis"),
        ],
    );
    let config = "checks:\n  - memorydb: {name: caches, service: elasticache, every: 1s, timeout: 20s, clusters: [cache], expect: {replicas: 1}}\n";
    let program = serve("elasticache-moto", config, moto.port());
    program
        .wait_for("aws_elasticache_cluster_available", &[("cluster", "cache")], |available| available == 1.0);
    let samples = program.scrape();
    let of = [("cluster", "cache"), ("shard", "0001")];
    assert_eq!(samples.value("aws_elasticache_shard_nodes_desired", &of), Some(2.0));
    // moto describes no nodes of a group: their status is unknown, and that is no 0.
    assert_eq!(samples.value("aws_elasticache_shard_nodes_available", &of), None);
}

fn shard(name: &str, nodes: &[(&str, &str)]) -> Value {
    let node = |(name, status): &(&str, &str)| json!({"Name": name, "Status": status, "CreateTime": 1_700_000_000.5, "AvailabilityZone": "eu-west-1a"});
    json!({"Name": name, "Status": "available", "Slots": "0-16383", "NumberOfNodes": 2, "Nodes": nodes.iter().map(node).collect::<Vec<_>>()})
}

/// Three clusters, of which `s` has a shard with these nodes.
fn clusters(status: &str, nodes: &[(&str, &str)]) -> Vec<Value> {
    let cluster = |name: &str, status: &str, nodes: &[(&str, &str)]| {
        json!({
            "Name": name, "Status": status, "Engine": "Valkey", "EngineVersion": "7.2", "EnginePatchVersion": "7.2.6",
            "NodeType": "db.r7g.large", "Shards": [shard("0001", nodes)],
            "PendingUpdates": {"ServiceUpdates": [{"ServiceUpdateName": "u", "Status": "scheduled"}]},
        })
    };
    vec![cluster("a", "available", &[]), cluster("b", "available", &[]), cluster("s", status, nodes)]
}

fn snapshot(source: &str, name: &str, hours: f64) -> Value {
    let taken = now() - hours * 3600.0;
    json!({"Name": name, "Source": source, "Status": "available",
        "ClusterConfiguration": {"Name": "s", "Shards": [{"Name": "0001", "SnapshotCreationTime": taken}]}})
}

fn failures(samples: &Samples) -> f64 {
    samples.all("datapulse_check_failures_total", &[]).map(|sample| sample.value).sum()
}

const WELL: [(&str, &str); 2] = [("s-0001-001", "available"), ("s-0001-002", "available")];

#[test]
fn snapshots_versions_and_updates_are_read_from_all_pages() {
    let fake = Stores::start();
    fake.put("Clusters", clusters("available", &WELL));
    fake.put(
        "Snapshots",
        [("automated", 20.0), ("manual", 30.0), ("manual", 2.0), ("manual", 1.0)]
            .map(|(source, hours)| snapshot(source, &hours.to_string(), hours))
            .into(),
    );
    let config = "checks:\n  - memorydb: {name: stores, every: 1s, timeout: 10s}\n";
    let program = serve("memorydb-pages", config, fake.port());
    let of = [("cluster", "s")];
    program.wait_for("aws_memorydb_manual_snapshots_24h", &of, |count| count == 2.0);
    let samples = program.scrape();
    let newest = [("cluster", "s"), ("source", "automated")];
    let age = now() - samples.value("aws_memorydb_last_snapshot_timestamp_seconds", &newest).unwrap();
    assert!((age - 72_000.0).abs() < 60.0, "{age}");
    assert_eq!(samples.value("aws_memorydb_pending_updates", &of), Some(1.0));
    let info = [("cluster", "s"), ("engine", "valkey"), ("engine_version", "7.2.6")];
    assert_eq!(samples.value("aws_memorydb_cluster_info", &info), Some(1.0));
    assert_eq!(failures(&samples), 0.0, "{}", program.get("/"));
}

#[test]
fn a_failover_and_a_node_that_is_replaced_are_seen_and_each_event_counts_once() {
    let fake = Stores::start();
    let event = |message: &str, ago: f64| json!({"SourceName": "s-0001-001", "SourceType": "node", "Message": message, "Date": now() - ago});
    fake.put("Clusters", clusters("available", &WELL));
    fake.put("Events", vec![event("Failover complete for shard 0001", 600.0)]);
    let config = "checks:\n  - memorydb: {name: stores, every: 1s, timeout: 10s}\n";
    let program = serve("memorydb-fake", config, fake.port());
    let of = [("cluster", "s"), ("shard", "0001")];
    let of_kind = |kind| [("cluster", "s"), ("kind", kind)];
    let say = |when: &str, samples: &Samples| {
        let nodes = samples.value("aws_memorydb_shard_nodes_available", &of);
        let failovers = samples.value("aws_memorydb_events_total", &of_kind("failover"));
        println!("{when}: nodes available {nodes:?}, failovers {failovers:?}");
    };
    program.wait_for("aws_memorydb_shard_nodes_available", &of, |nodes| nodes == 2.0);
    let samples = program.scrape();
    say("before", &samples);
    let before = samples.value("aws_memorydb_events_total", &of_kind("failover"));
    assert_eq!(before, Some(0.0), "what was before is not ours");
    fake.put("Clusters", clusters("modifying", &[("s-0001-001", "creating"), ("s-0001-002", "available")]));
    for message in
        ["Failover complete for shard 0001", "Node replacement started for s-0001-001", "Snapshot failed"]
    {
        fake.add("Events", event(message, 0.0));
    }
    program.wait_for("aws_memorydb_shard_nodes_available", &of, |nodes| nodes == 1.0);
    program.wait_for("aws_memorydb_events_total", &of_kind("failover"), |count| count == 1.0);
    let samples = program.scrape();
    say("during", &samples);
    assert_eq!(samples.value("aws_memorydb_cluster_available", &[("cluster", "s")]), Some(0.0));
    assert_eq!(samples.value("aws_memorydb_shard_nodes_creating", &of), Some(1.0));
    assert_eq!(samples.value("aws_memorydb_snapshot_failures_total", &[("cluster", "s")]), Some(1.0));
    assert!(program.get("/api/v1/checks").contains("s-0001-001"));
    fake.put("Clusters", clusters("available", &WELL));
    program.wait_for("aws_memorydb_shard_nodes_available", &of, |nodes| nodes == 2.0);
    let runs = program.scrape().value("datapulse_check_runs_total", &[]).unwrap();
    program.wait_for("datapulse_check_runs_total", &[], |later| later >= runs + 3.0);
    let samples = program.scrape();
    say("after", &samples);
    for kind in ["failover", "replacement", "snapshot"] {
        assert_eq!(samples.value("aws_memorydb_events_total", &of_kind(kind)), Some(1.0), "{kind}");
    }
}

#[test]
fn the_policies_allow_the_calls_that_are_made_and_no_other() {
    let fake = Stores::start();
    let recorder = Recorder::start(fake.port());
    for service in ["memorydb", "elasticache"] {
        let config =
            format!("checks:\n  - memorydb: {{name: s, service: {service}, every: 1s, timeout: 10s}}\n");
        let program = serve(&format!("policy-{service}"), &config, recorder.port());
        program.wait_for("datapulse_check_up", &[], |up| up == 1.0);
        let calls = recorder.calls().into_iter().filter(|call| call.service == service);
        let made: BTreeSet<String> =
            calls.map(|call| format!("{}:{}", call.service, call.operation)).collect();
        assert_eq!(made, policy(&format!("{service}.json")));
    }
    assert_eq!(policy("memorydb_login.json"), BTreeSet::from(["memorydb:connect".to_owned()]));
    assert_eq!(policy("elasticache_login.json"), BTreeSet::from(["elasticache:Connect".to_owned()]));
}

#[test]
fn replication_groups_are_told_with_roles_versions_and_updates() {
    let fake = Stores::start();
    let member = |number: u32, role: &str| json!({"CacheClusterId": format!("g-00{number}"), "CacheNodeId": "0001", "CurrentRole": role, "PreferredAvailabilityZone": "eu-west-1a"});
    let group = json!({"ReplicationGroupId": "g", "Status": "available", "CacheNodeType": "cache.t4g.small",
        "NodeGroups": {"NodeGroup": [{"NodeGroupId": "0001", "Status": "available", "NodeGroupMembers": {"NodeGroupMember": [member(1, "primary"), member(2, "replica"), member(3, "replica")]}}]}});
    fake.put("ReplicationGroups", vec![group]);
    let node = |number: u32, status: &str| json!({"CacheClusterId": format!("g-00{number}"), "CacheClusterStatus": status, "Engine": "valkey", "EngineVersion": "8.0.1", "CacheClusterCreateTime": "2026-01-01T00:00:00Z"});
    fake.put(
        "CacheClusters",
        vec![node(1, "available"), node(2, "available"), node(3, "rebooting cluster nodes")],
    );
    fake.put(
        "UpdateActions",
        vec![
            json!({"ReplicationGroupId": "g", "UpdateActionStatus": "not-applied"}),
            json!({"ReplicationGroupId": "g", "UpdateActionStatus": "complete"}),
        ],
    );
    fake.put("Snapshots", vec![json!({"SnapshotName": "s", "ReplicationGroupId": "g", "SnapshotSource": "automated", "SnapshotStatus": "available",
        "NodeSnapshots": {"NodeSnapshot": [{"SnapshotCreateTime": text(now() - 3600.0)}]}})]);
    let program = serve(
        "elasticache-fake",
        "checks:\n  - memorydb: {name: caches, service: elasticache, every: 1s, timeout: 10s}\n",
        fake.port(),
    );
    let of = [("cluster", "g"), ("shard", "0001")];
    program.wait_for("aws_elasticache_shard_nodes_available", &of, |nodes| nodes == 2.0);
    let samples = program.scrape();
    assert_eq!(samples.value("aws_elasticache_shard_nodes_desired", &of), Some(3.0));
    assert_eq!(samples.value("aws_elasticache_shard_primary_nodes", &of), Some(1.0));
    assert_eq!(samples.value("aws_elasticache_pending_updates", &[("cluster", "g")]), Some(1.0));
    assert_eq!(
        samples.value("aws_elasticache_cluster_info", &[("engine", "valkey"), ("engine_version", "8.0.1")]),
        Some(1.0)
    );
    let age = now()
        - samples
            .value("aws_elasticache_last_snapshot_timestamp_seconds", &[("source", "automated")])
            .unwrap();
    assert!((age - 3600.0).abs() < 60.0, "{age}");
    fake.add("Events", json!({"SourceIdentifier": "g-001", "SourceType": "cache-cluster", "Message": "Failover from primary node g-001 to replica node g-002 completed", "Date": text(now())}));
    program.wait_for("aws_elasticache_events_total", &[("cluster", "g"), ("kind", "failover")], |count| {
        count == 1.0
    });
    let failures: f64 =
        program.scrape().all("datapulse_check_failures_total", &[]).map(|sample| sample.value).sum();
    assert_eq!(failures, 0.0, "{}", program.get("/"));
}

#[test]
fn a_missing_right_names_the_action() {
    let moto = shared_moto();
    let recorder = Recorder::start(moto.port());
    recorder.fail("DescribeClusters", Fault::Denied);
    let program =
        serve("memorydb-denied", "checks:\n  - memorydb: {name: stores, every: 1s}\n", recorder.port());
    program.wait_for("datapulse_check_failures_total", &[("reason", "permission")], |count| count >= 1.0);
    assert!(program.get("/").contains("allow memorydb:DescribeClusters"));
    eventually("the calls are counted", || {
        program
            .scrape()
            .value("datapulse_aws_api_calls_total", &[("service", "memorydb"), ("result", "error")])
    });
}
