//! The check `redis` on real servers of Redis and Valkey: what it says before, during and after each fault.

use crate::program::{Program, Samples, datapulse, finish};
use crate::stage::{PASSWORD, eventually, root, stage};
use datapulse::demo::parts::{
    Ending, Keeper, Signal, Stage, Store, StoreCluster, StoreServer, free_port, get,
};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

const USER: &str = "datapulse";

fn redis() -> Store {
    Store::redis().unwrap_or_else(|why| panic!("{why}"))
}

fn valkey() -> Store {
    Store::valkey(&root().join("target")).unwrap_or_else(|why| panic!("{why}"))
}

/// The rights that the check says it needs, and no other.
fn rights() -> Vec<&'static str> {
    let kind = datapulse::checks::ALL.iter().find(|kind| kind.word == "redis").unwrap();
    let words = kind.needs.iter().flat_map(|need| need.statement.split(' '));
    words.filter(|word| word.starts_with('+')).collect()
}

fn allow(servers: &[&StoreServer], rights: &[&str]) {
    for server in servers {
        server.allow(USER, PASSWORD, rights).unwrap();
    }
}

fn config(server: &StoreServer, keys: &str) -> String {
    let port = server.port();
    format!(
        "checks:\n  - redis: {{name: cache, {keys}target: {{host: 127.0.0.1, port: {port}, user: {USER}, password: \"env:PASSWORD\", tls: disable}}}}\n"
    )
}

fn node(server: &StoreServer) -> String {
    server.address()
}

/// One value a node, for people who read the output.
fn say(when: &str, samples: &Samples) {
    let mut lines: BTreeMap<(String, String), String> = BTreeMap::new();
    for sample in &samples.0 {
        let names = [
            "up",
            "node_primary",
            "connected_slaves",
            "master_link_up",
            "connected_slave_lag_seconds",
            "failovers_total",
            "cluster_state",
            "cluster_slots_fail",
        ];
        let Some(name) = sample.name.strip_prefix("redis_").filter(|name| names.contains(name)) else {
            continue;
        };
        let key = (sample.labels["shard"].clone(), sample.labels["node"].clone());
        lines.entry(key).or_default().push_str(&format!(" {name}={}", sample.value));
    }
    println!("{when}:");
    for ((shard, node), line) in lines {
        println!("  shard {shard} {node}{line}");
    }
}

fn shard_of(samples: &Samples, server: &StoreServer) -> String {
    samples.all("redis_up", &[("node", &node(server))]).next().unwrap().labels["shard"].clone()
}

/// A primary with a replica that follows it, both with the user.
fn pair(store: &Store, folder: &Stage, lines: &[&str]) -> (StoreServer, StoreServer) {
    let primary = StoreServer::start(store, &folder.path().join("a"), lines).unwrap();
    let replica = primary.replica(&folder.path().join("b"), lines).unwrap();
    allow(&[&primary, &replica], &rights());
    eventually("the replica follows", || {
        (replica.info("master_link_status").unwrap().as_deref() == Some("up")).then_some(())
    });
    (primary, replica)
}

#[test]
fn a_single_server_tells_memory_keys_and_what_was_slow() {
    for (store, name, major) in [(redis(), "redis", "7."), (valkey(), "valkey", "8.")] {
        let folder = stage(&format!("{name}-single"));
        let lines = ["maxmemory 4mb", "maxmemory-policy allkeys-lru", "slowlog-log-slower-than 0"];
        let server = StoreServer::start(&store, &folder.path().join("a"), &lines).unwrap();
        allow(&[&server], &rights());
        server.ask(&["SET", "canary-key", "canary-value"]).unwrap();
        server.ask(&["-n", "3", "SET", "x", "y", "EX", "1000"]).unwrap();
        let program = Program::start(&format!("{name}-single"), &config(&server, "every: 1s, "), &[]);
        let of = [("node", node(&server))];
        let of: Vec<(&str, &str)> = of.iter().map(|(label, value)| (*label, value.as_str())).collect();
        program.wait_for("redis_up", &of, |up| up == 1.0);
        let samples = program.scrape();
        let value = |name: &str| samples.value(name, &of);
        assert_eq!(value("redis_node_primary"), Some(1.0));
        assert_eq!(value("redis_memory_max_bytes"), Some(4.0 * 1024.0 * 1024.0));
        assert!(value("redis_memory_used_bytes").unwrap() > 100_000.0);
        assert!(value("redis_ping_seconds").unwrap() < 1.0);
        assert_eq!(samples.value("redis_db_keys", &[("db", "db0")]), Some(1.0));
        assert_eq!(samples.value("redis_db_keys_expiring", &[("db", "db3")]), Some(1.0));
        assert_eq!(samples.value("redis_db_keys", &[("db", "db1")]), None, "absent is not zero");
        assert_eq!(value("redis_master_link_up"), None, "a primary has no link");
        assert_eq!(value("redis_failovers_total"), Some(0.0));
        let info = samples.all("redis_instance_info", &[]).next().unwrap();
        assert_eq!(info.labels["server_name"], name);
        assert!(info.labels["server_version"].starts_with(major), "{:?}", info.labels);
        assert!(value("redis_slowlog_length").unwrap() > 1.0);
        let value = "v".repeat(100_000);
        for number in 0..60 {
            server.ask(&["SET", &format!("big{number}"), &value]).unwrap();
        }
        program.wait_for("redis_evicted_keys_total", &of, |evicted| evicted > 1.0);
        for path in ["/checks/cache", "/api/v1/checks"] {
            let page = program.get(path);
            assert!(page.contains("SET ? (2 arguments)"), "{page}");
            assert!(!page.contains("canary-key") && !page.contains("canary-value"), "{page}");
        }
    }
}

#[test]
fn a_lost_replica_stays_known_and_takes_nothing_from_its_primary() {
    let folder = stage("redis-replica");
    let (primary, mut replica) = pair(&redis(), &folder, &[]);
    // Told from the replica too: its primary is found from it.
    let program = Program::start("redis-replica", &config(&replica, "every: 1s, "), &[]);
    let (first, second) = (node(&primary), node(&replica));
    program.wait_for("redis_node_primary", &[("node", &first), ("shard", "0")], |primary| primary == 1.0);
    program.wait_for("redis_node_primary", &[("node", &second)], |primary| primary == 0.0);
    program.wait_for("redis_connected_slave_lag_seconds", &[("node", &second)], |lag| lag < 5.0);
    program.wait_for("redis_connected_slave_offset_bytes", &[("node", &second)], |offset| offset > 0.0);
    program.wait_for("redis_master_link_up", &[("node", &second)], |up| up == 1.0);
    assert_eq!(program.scrape().all("redis_up", &[]).count(), 2, "no node has two names");
    say("before", &program.scrape());
    replica.kill9().unwrap();
    let killed = Instant::now();
    program.wait_for("redis_up", &[("node", &second)], |up| up == 0.0);
    println!("redis_up 0 {:?} after the kill", killed.elapsed());
    let samples = program.scrape();
    say("replica killed", &samples);
    assert_eq!(samples.value("redis_connected_slaves", &[("node", &first)]), Some(0.0));
    assert_eq!(samples.value("redis_up", &[("node", &first)]), Some(1.0));
    assert_eq!(samples.value("datapulse_check_up", &[("check", "cache")]), Some(1.0));
    assert_eq!(samples.value("redis_node_primary", &[("node", &second)]), None, "absent is not zero");
    assert_eq!(samples.value("redis_connected_slave_lag_seconds", &[("node", &second)]), None);
    assert!(program.get("/").contains(&format!("could not connect to {second}")));
    replica.start_again().unwrap();
    allow(&[&replica], &rights());
    program.wait_for("redis_up", &[("node", &second)], |up| up == 1.0);
    program.wait_for("redis_master_link_up", &[("node", &second)], |up| up == 1.0);
    say("replica back", &program.scrape());
    assert_eq!(program.scrape().value("redis_failovers_total", &[("node", &second)]), Some(0.0));
}

#[test]
fn a_failover_without_a_cluster_is_counted_where_the_new_primary_is() {
    let folder = stage("redis-failover");
    let (mut primary, replica) = pair(&redis(), &folder, &[]);
    let program = Program::start("redis-failover", &config(&primary, "every: 1s, "), &[]);
    let (first, second) = (node(&primary), node(&replica));
    program.wait_for("redis_failovers_total", &[("node", &second)], |count| count == 0.0);
    say("before", &program.scrape());
    primary.kill9().unwrap();
    program.wait_for("redis_up", &[("node", &first)], |up| up == 0.0);
    program.wait_for("redis_master_link_up", &[("node", &second)], |up| up == 0.0);
    say("primary killed", &program.scrape());
    replica.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    let promoted = Instant::now();
    program.wait_for("redis_failovers_total", &[("node", &second), ("shard", "0")], |count| count == 1.0);
    println!("failover told {:?} after REPLICAOF NO ONE, at an interval of 1 s", promoted.elapsed());
    assert!(promoted.elapsed() < Duration::from_secs(3));
    say("replica promoted", &program.scrape());
    primary.start_again().unwrap();
    allow(&[&primary], &rights());
    program.wait_for("redis_node_primary", &[("node", &first)], |primary| primary == 1.0);
    say("old primary back as a second one", &program.scrape());
    primary.ask(&["REPLICAOF", "127.0.0.1", &replica.port().to_string()]).unwrap();
    program.wait_for("redis_node_primary", &[("node", &first)], |primary| primary == 0.0);
    program.wait_for("redis_master_link_up", &[("node", &first)], |up| up == 1.0);
    let samples = program.scrape();
    say("old primary is a replica", &samples);
    let all: f64 = samples.all("redis_failovers_total", &[]).map(|sample| sample.value).sum();
    assert_eq!(all, 1.0, "the way back of the old one is no failover");
    let api: serde_json::Value = serde_json::from_str(&program.get("/api/v1/checks")).unwrap();
    let rows = api["checks"][0]["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["node"] == second.as_str()).unwrap();
    assert_eq!((row["role_before"].as_str(), row["role"].as_str()), (Some("replica"), Some("primary")));
}

/// Three shards with a replica each, the user on every node, and the check on the first of them.
fn cluster(store: &Store, name: &str) -> (Stage, StoreCluster, Program) {
    let folder = stage(name);
    let cluster = StoreCluster::start(store, folder.path(), 3, &[]).unwrap();
    allow(&cluster.servers.iter().collect::<Vec<_>>(), &rights());
    let program = Program::start(name, &config(&cluster.servers[0], "every: 1s, "), &[]);
    for server in &cluster.servers {
        program.wait_for("redis_up", &[("node", &node(server))], |up| up == 1.0);
    }
    eventually("all replicas are told", || {
        (program.scrape().all("redis_connected_slave_lag_seconds", &[]).count() == 3).then_some(())
    });
    (folder, cluster, program)
}

/// Waits until the server has taken over; gives when.
fn promoted(server: &StoreServer) -> Instant {
    eventually("the replica takes over", || {
        (server.info("role").unwrap().as_deref() == Some("master")).then(Instant::now)
    })
}

#[test]
fn a_cluster_is_followed_through_the_loss_of_a_primary_and_of_a_replica() {
    for (store, name) in [(redis(), "redis"), (valkey(), "valkey")] {
        let (_folder, mut cluster, program) = cluster(&store, &format!("{name}-cluster"));
        let samples = program.scrape();
        say(&format!("{name}, before"), &samples);
        let shards: BTreeSet<String> =
            cluster.servers.iter().map(|server| shard_of(&samples, server)).collect();
        assert_eq!(shards, BTreeSet::from(["0".to_owned(), "5461".to_owned(), "10922".to_owned()]));
        for number in 0..3 {
            assert_eq!(
                shard_of(&samples, &cluster.servers[number]),
                shard_of(&samples, &cluster.servers[number + 3])
            );
        }
        assert_eq!(samples.all("redis_cluster_state", &[]).filter(|sample| sample.value == 1.0).count(), 6);
        // The one that the configuration names, too.
        cluster.servers[0].kill9().unwrap();
        let killed = Instant::now();
        let (old, new) = (node(&cluster.servers[0]), node(&cluster.servers[3]));
        program.wait_for("redis_up", &[("node", &old), ("shard", "0")], |up| up == 0.0);
        println!("redis_up 0 {:?} after the kill", killed.elapsed());
        say(&format!("{name}, primary killed"), &program.scrape());
        let at = promoted(&cluster.servers[3]);
        program.wait_for("redis_failovers_total", &[("node", &new), ("shard", "0")], |count| count == 1.0);
        println!(
            "{name}: failover told {:?} after it happened, {:?} after the kill",
            at.elapsed(),
            killed.elapsed()
        );
        program.wait_for("redis_node_primary", &[("node", &new), ("shard", "0")], |primary| primary == 1.0);
        program.wait_for("redis_up", &[("node", &old), ("shard", "0")], |up| up == 0.0);
        say(&format!("{name}, failed over"), &program.scrape());
        cluster.servers[0].start_again().unwrap();
        allow(&[&cluster.servers[0]], &rights());
        program.wait_for("redis_node_primary", &[("node", &old), ("shard", "0")], |primary| primary == 0.0);
        program.wait_for("redis_master_link_up", &[("node", &old), ("shard", "0")], |up| up == 1.0);
        say(&format!("{name}, back as a replica"), &program.scrape());
        let lost = node(&cluster.servers[4]);
        cluster.servers[4].kill9().unwrap();
        program.wait_for("redis_up", &[("node", &lost), ("shard", "5461")], |up| up == 0.0);
        let primary = node(&cluster.servers[1]);
        program.wait_for("redis_connected_slaves", &[("node", &primary)], |count| count == 0.0);
        say(&format!("{name}, replica killed"), &program.scrape());
        // Taken out of the cluster it is no longer known.
        let id = cluster.servers[1].ask(&["CLUSTER", "NODES"]).unwrap();
        let id = id.lines().find(|line| line.contains(&lost)).unwrap().split(' ').next().unwrap().to_owned();
        for server in cluster.servers.iter().filter(|server| server.is_running()) {
            server.ask(&["CLUSTER", "FORGET", &id]).unwrap();
        }
        eventually("the node is forgotten", || {
            program.scrape().value("redis_up", &[("node", &lost)]).is_none().then_some(())
        });
        let all: f64 = program.scrape().all("redis_failovers_total", &[]).map(|sample| sample.value).sum();
        assert_eq!(all, 1.0);
    }
}

#[test]
fn a_primary_that_is_cut_off_and_comes_back_is_one_failover() {
    let (_folder, cluster, program) = cluster(&redis(), "redis-partition");
    let (old, new) = (node(&cluster.servers[1]), node(&cluster.servers[4]));
    cluster.servers[1].freeze().unwrap();
    let frozen = Instant::now();
    program.wait_for("redis_up", &[("node", &old), ("shard", "5461")], |up| up == 0.0);
    println!("redis_up 0 {:?} after SIGSTOP", frozen.elapsed());
    let samples = program.scrape();
    say("frozen", &samples);
    assert_eq!(samples.value("datapulse_check_up", &[("check", "cache")]), Some(1.0));
    assert_eq!(samples.all("redis_up", &[]).filter(|sample| sample.value == 1.0).count(), 5, "{samples:?}");
    let at = promoted(&cluster.servers[4]);
    program.wait_for("redis_failovers_total", &[("node", &new), ("shard", "5461")], |count| count == 1.0);
    println!("failover told {:?} after it happened, {:?} after SIGSTOP", at.elapsed(), frozen.elapsed());
    say("failed over", &program.scrape());
    cluster.servers[1].thaw().unwrap();
    program.wait_for("redis_node_primary", &[("node", &old), ("shard", "5461")], |primary| primary == 0.0);
    say("thawed", &program.scrape());
    let all: f64 = program.scrape().all("redis_failovers_total", &[]).map(|sample| sample.value).sum();
    assert_eq!(all, 1.0);
    let connections = cluster.servers[2].ask(&["CLIENT", "LIST"]).unwrap();
    assert_eq!(
        connections.lines().filter(|line| line.contains("user=datapulse")).count(),
        1,
        "{connections}"
    );
}

#[test]
fn rights_that_are_missing_are_named_and_the_rest_is_told() {
    let folder = stage("redis-rights");
    let (primary, replica) = pair(&redis(), &folder, &[]);
    let whole = rights();
    println!("least rights: {}", whole.join(" "));
    let without = |right: &str| whole.iter().copied().filter(|own| !own.contains(right)).collect::<Vec<_>>();
    allow(&[&primary, &replica], &without("slowlog"));
    let program = Program::start("redis-rights", &config(&primary, "every: 1s, "), &[]);
    let of = [("node", node(&primary))];
    let of = [(of[0].0, of[0].1.as_str())];
    program.wait_for("redis_up", &of, |up| up == 1.0);
    program.wait_for("datapulse_check_failures_total", &[("reason", "permission")], |count| count >= 1.0);
    let samples = program.scrape();
    assert_eq!(samples.value("datapulse_check_up", &[("check", "cache")]), Some(1.0));
    assert_eq!(samples.value("redis_slowlog_length", &of), None);
    assert!(samples.value("redis_ping_seconds", &of).is_some());
    allow(&[&primary, &replica], &without("info"));
    program.wait_for("datapulse_check_up", &[("check", "cache")], |up| up == 0.0);
    assert!(program.get("/").contains("NOPERM"));
    assert_eq!(program.scrape().value("redis_node_primary", &of), None);
    assert_eq!(program.scrape().value("redis_up", &of), Some(0.0));
    allow(&[&primary, &replica], &whole);
    program.wait_for("redis_slowlog_length", &of, |_| true);
    // What doctor prints is what is needed.
    let (status, out, errors) = finish(datapulse(["doctor", "--config.file"]).arg(&program.config));
    assert_eq!(status, 0, "{errors}{out}");
    assert!(out.contains("ACL SETUSER datapulse +info"), "{out}");
}

#[test]
fn where_there_are_no_shards_the_older_commands_name_the_nodes() {
    let folder = stage("redis-older");
    let cluster = StoreCluster::start(&redis(), folder.path(), 3, &[]).unwrap();
    let servers: Vec<&StoreServer> = cluster.servers.iter().collect();
    for lacking in [&["shards"][..], &["shards", "nodes"]] {
        let has = |right: &&str| !lacking.iter().any(|word| right.ends_with(word));
        allow(&servers, &rights().into_iter().filter(has).collect::<Vec<_>>());
        let program = Program::start("redis-older", &config(servers[0], "every: 1s, "), &[]);
        for (number, server) in servers.iter().enumerate() {
            let shard = ["0", "5461", "10922"][number % 3];
            let of = [("node", node(server)), ("shard", shard.to_owned())];
            let of: Vec<(&str, &str)> = of.iter().map(|(label, value)| (*label, value.as_str())).collect();
            program.wait_for("redis_node_primary", &of, |primary| primary == f64::from(u8::from(number < 3)));
        }
        let samples = program.scrape();
        let failures: f64 =
            samples.all("datapulse_check_failures_total", &[]).map(|sample| sample.value).sum();
        assert_eq!(failures, 0.0, "{lacking:?}: {}", program.get("/"));
    }
}

#[test]
fn a_wrong_password_is_told_without_it() {
    let folder = stage("redis-auth");
    let server = StoreServer::start(&redis(), &folder.path().join("a"), &[]).unwrap();
    let program = Program::start("redis-auth", &config(&server, "every: 1s, "), &[]);
    program.wait_for("datapulse_check_failures_total", &[("reason", "auth")], |count| count >= 1.0);
    let page = program.get("/");
    assert!(page.contains("check user and password of the target"), "{page}");
    assert!(!page.contains(PASSWORD) && !program.log().contains(PASSWORD));
    let without =
        config(&server, "every: 1s, ").replace(&format!("user: {USER}, password: \"env:PASSWORD\", "), "");
    program.configure(&without);
    program.signal(Signal::Hup);
    eventually("what is missing is named", || program.get("/").contains("NOAUTH").then_some(()));
}

#[test]
fn a_store_without_users_takes_a_password_alone_and_an_idle_connection_may_be_closed() {
    let folder = stage("redis-plain");
    let server = StoreServer::start(&redis(), &folder.path().join("a"), &["timeout 1"]).unwrap();
    let text = config(&server, "every: 3s, ").replace(&format!("user: {USER}, "), "");
    let program = Program::start_as("redis-plain", &text, &[], |command, _| {
        command.env("PASSWORD", server.password());
    });
    program.wait_for("redis_up", &[], |up| up == 1.0);
    program.wait_for("datapulse_check_runs_total", &[], |runs| runs >= 4.0);
    let samples = program.scrape();
    let failures: f64 = samples.all("datapulse_check_failures_total", &[]).map(|sample| sample.value).sum();
    assert_eq!((samples.value("redis_up", &[]), failures), (Some(1.0), 0.0));
}

#[test]
fn nodes_behind_nat_are_found_by_a_list_or_at_the_host_of_the_target() {
    let folder = stage("redis-nat");
    let (primary, replica) = pair(&redis(), &folder, &["replica-announce-ip 192.0.2.7"]);
    let announced = format!("192.0.2.7:{}", replica.port());
    let mapped = format!("every: 1s, addresses: {{\"{announced}\": \"{}\"}}, ", node(&replica));
    for (name, keys) in [("list", mapped.as_str()), ("host", "every: 1s, reach: target_host, ")] {
        let program = Program::start(&format!("redis-nat-{name}"), &config(&primary, keys), &[]);
        program.wait_for("redis_node_primary", &[("node", &announced)], |primary| primary == 0.0);
        assert_eq!(program.scrape().all("redis_up", &[]).count(), 2, "{name}");
    }
    let program = Program::start("redis-nat-none", &config(&primary, "every: 1s, "), &[]);
    program.wait_for("redis_up", &[("node", &announced)], |up| up == 0.0);
    program.wait_for("redis_up", &[("node", &node(&primary))], |up| up == 1.0);
}

#[test]
fn nodes_of_a_cluster_that_announce_a_name_of_their_own_network_are_found_at_the_host_of_the_target() {
    let folder = stage("redis-names");
    let lines = ["cluster-announce-hostname inside.invalid", "cluster-preferred-endpoint-type hostname"];
    let cluster = StoreCluster::start(&redis(), folder.path(), 3, &lines).unwrap();
    let servers: Vec<&StoreServer> = cluster.servers.iter().collect();
    allow(&servers, &rights());
    let announced = |server: &StoreServer| format!("inside.invalid:{}", server.port());
    let program = Program::start("redis-names", &config(servers[0], "every: 1s, "), &[]);
    program.wait_for("redis_up", &[("node", &announced(servers[5]))], |up| up == 0.0);
    program.wait_for("datapulse_check_failures_total", &[("reason", "dns")], |count| count >= 1.0);
    assert!(program.get("/").contains("write addresses:, or reach: target_host"), "{}", program.get("/"));
    let listed: Vec<String> =
        servers.iter().map(|server| format!("\"{}\": \"{}\"", announced(server), node(server))).collect();
    let listed = format!("every: 1s, addresses: {{{}}}, ", listed.join(", "));
    for keys in ["every: 1s, reach: target_host, ", &listed] {
        program.configure(&config(servers[0], keys));
        program.signal(Signal::Hup);
        eventually("all nodes answer under their names", || {
            let samples = program.scrape();
            (samples.all("redis_up", &[]).filter(|sample| sample.value == 1.0).count() == 6).then_some(())
        });
        let samples = program.scrape();
        assert_eq!(
            samples.value("redis_up", &[("node", &announced(servers[2])), ("shard", "10922")]),
            Some(1.0)
        );
        assert_eq!(samples.all("redis_up", &[]).count(), 6);
    }
    // Where they say that they do not know their own address, it is that of the target.
    for server in &servers {
        server.ask(&["CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint"]).unwrap();
    }
    program.configure(&config(servers[0], "every: 1s, "));
    program.signal(Signal::Hup);
    eventually("all nodes answer at the host of the target", || {
        let samples = program.scrape();
        servers
            .iter()
            .all(|server| samples.value("redis_up", &[("node", &node(server))]) == Some(1.0))
            .then_some(())
    });
}

#[test]
fn what_is_no_cluster_or_no_redis_is_a_clear_error() {
    let folder = stage("redis-wrong");
    let server = StoreServer::start(&redis(), &folder.path().join("a"), &[]).unwrap();
    allow(&[&server], &rights());
    let program = Program::start("redis-no-cluster", &config(&server, "every: 1s, mode: cluster, "), &[]);
    program.wait_for("datapulse_check_failures_total", &[("reason", "wrong_role")], |count| count >= 1.0);
    assert!(program.get("/").contains("is not a cluster"));
    let port = program.port;
    let text = format!(
        "checks:\n  - redis: {{name: web, every: 1s, target: {{host: 127.0.0.1, port: {port}, tls: disable}}}}\n"
    );
    let other = Program::start("redis-no-redis", &text, &[]);
    other.wait_for("datapulse_check_failures_total", &[("reason", "protocol")], |count| count >= 1.0);
    assert!(other.get("/").contains("is this really a Redis or Valkey server"));
}

/// The exporter of Debian on one node.
fn exporter(server: &StoreServer, folder: &Stage) -> Samples {
    let port = free_port().unwrap();
    let mut command = Command::new("prometheus-redis-exporter");
    command.args(["-redis.addr", &format!("redis://{}", node(server))]);
    command.args(["-web.listen-address", &format!("127.0.0.1:{port}")]);
    command.env("REDIS_PASSWORD", server.password());
    let ending = Ending { signal: Signal::Kill, grace: Duration::from_secs(1) };
    let log = folder.path().join(format!("exporter-{port}.log"));
    let _keeper = Keeper::start(&command, ending, &log).expect("install it with `make setup`");
    let text = eventually("redis_exporter answers (install it with `make setup`)", || {
        get(port, "/metrics").ok().filter(|reply| reply.body.contains("\nredis_up 1")).map(|reply| reply.body)
    });
    Samples::parse(&text)
}

#[test]
fn names_and_values_are_those_of_redis_exporter_where_it_has_one() {
    let (folder, cluster, program) = cluster(&redis(), "redis-exporter");
    let kind = datapulse::checks::ALL.iter().find(|kind| kind.word == "redis").unwrap();
    let ours: BTreeSet<String> = (kind.families)().iter().map(|family| family.prometheus()).collect();
    let mut theirs = BTreeSet::new();
    let mut other_value = BTreeSet::new();
    for server in [&cluster.servers[0], &cluster.servers[3]] {
        let exported = exporter(server, &folder);
        let told = program.scrape();
        let here = node(server);
        for sample in exported.0.iter().filter(|sample| sample.name.starts_with("redis_")) {
            theirs.insert(sample.name.clone());
            let mut wanted = vec![("node", here.as_str())];
            if let Some(db) = sample.labels.get("db") {
                wanted.push(("db", db.as_str()));
            }
            // What moves between two looks, by its nature.
            let moves = [
                "seconds", "total", "offset", "bytes", "ratio", "length", "clients", "last_id", "changes",
                "reads", "writes",
            ];
            if let Some(value) = told.value(&sample.name, &wanted)
                && value != sample.value
                && !moves.iter().any(|word| sample.name.contains(word))
            {
                other_value.insert(format!("{}: {} here, {} there", sample.name, value, sample.value));
            }
        }
    }
    assert!(other_value.is_empty(), "{other_value:?}");
    let only_ours: Vec<&String> = ours.difference(&theirs).collect();
    let both = ours.intersection(&theirs).count();
    let only_theirs: Vec<&String> = theirs.difference(&ours).collect();
    println!("{both} names in both\nonly here: {only_ours:?}\nonly there: {only_theirs:?}");
    let page = std::fs::read_to_string(root().join("docs/checks/redis.md")).unwrap();
    for name in only_ours {
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} is no name of redis_exporter, and docs/checks/redis.md does not say so"
        );
    }
    let there = page.split("Names that only redis_exporter has").nth(1).unwrap();
    for name in only_theirs
        .iter()
        .filter(|name| !name.starts_with("redis_exporter_") && !name.starts_with("redis_config_"))
    {
        assert!(
            there.contains(&format!("`{name}`")),
            "{name} is a name of redis_exporter that docs/checks/redis.md does not list"
        );
    }
}

#[test]
fn tls_is_verified_by_the_name_of_the_target_where_nodes_announce_addresses() {
    let folder = stage("redis-tls");
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    // With equal names OpenSSL takes the certificate for its own issuer.
    params.distinguished_name.push(rcgen::DnType::CommonName, "authority of the test");
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::from_params(&params, &ca_key)).unwrap();
    for (name, text) in [
        ("ca.pem", params.self_signed(&ca_key).unwrap().pem()),
        ("tls.crt", leaf.pem()),
        ("tls.key", key.serialize_pem()),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (crt, key) =
        (format!("tls-cert-file {}", path("tls.crt")), format!("tls-key-file {}", path("tls.key")));
    let ports: Vec<u16> = (0..2).map(|_| free_port().unwrap()).collect();
    let tls = |number: usize| {
        [format!("tls-port {}", ports[number]), format!("tls-ca-cert-file {}", path("ca.pem"))]
    };
    let usual = [crt.as_str(), key.as_str(), "tls-auth-clients no", "tls-replication yes"];
    let [port, ca] = tls(0);
    let lines: Vec<&str> = usual.into_iter().chain([port.as_str(), ca.as_str()]).collect();
    let primary = StoreServer::start(&redis(), &folder.path().join("a"), &lines).unwrap();
    let [port, ca] = tls(1);
    let of = format!("replicaof 127.0.0.1 {}", ports[0]);
    let lines: Vec<&str> = usual.into_iter().chain([port.as_str(), ca.as_str(), of.as_str()]).collect();
    let replica = primary.twin(&folder.path().join("b"), &lines).unwrap();
    allow(&[&primary, &replica], &rights());
    let text = |tls: &str, host: &str, port: u16| {
        format!(
            "checks:\n  - redis: {{name: cache, every: 1s, target: {{host: {host}, port: {port}, user: {USER}, password: \"env:PASSWORD\", tls: {tls}, ca: {}}}}}\n",
            path("ca.pem")
        )
    };
    for mode in ["verify-full", "verify-ca", "require"] {
        let program = Program::start(&format!("redis-{mode}"), &text(mode, "localhost", ports[0]), &[]);
        let second = format!("127.0.0.1:{}", ports[1]);
        program.wait_for("redis_master_link_up", &[("node", &second)], |up| up == 1.0);
        assert_eq!(program.scrape().all("redis_up", &[]).filter(|sample| sample.value == 1.0).count(), 2);
    }
    for (host, port, reason, why) in [
        ("127.0.0.1", ports[0], "tls", "host: has to be a name in the server"),
        // A server in clear text waits for the end of a line that does not come.
        ("localhost", primary.port(), "connect_timeout", "a port that does not speak TLS"),
    ] {
        let program = Program::start("redis-tls-wrong", &text("verify-full", host, port), &[]);
        program.wait_for("datapulse_check_failures_total", &[("reason", reason)], |count| count >= 1.0);
        assert!(program.get("/").contains(why), "{why}: {}", program.get("/"));
    }
}

/// A server that plays Redis: answers the first command with these bytes, and gives what it was.
fn fake(answer: Vec<u8>) -> (u16, std::sync::mpsc::Receiver<String>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = std::sync::mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = [0; 4096];
            let Ok(length) = stream.read(&mut bytes) else { continue };
            drop(tell.try_send(String::from_utf8_lossy(&bytes[..length]).into_owned()));
            // A client that has seen enough hangs up.
            drop(stream.write_all(&answer));
        }
    });
    (port, told)
}

#[test]
fn a_login_by_iam_is_a_signed_request_of_a_quarter_of_an_hour() {
    for (service, cluster) in
        [("memorydb", "memorydb"), ("elasticache", "elasticache"), ("elasticache", "elasticache_serverless")]
    {
        let (port, told) = fake(b"-WRONGPASS no\r\n".to_vec());
        let text = format!(
            "checks:\n  - redis: {{name: n, every: 1s, target: {{host: 127.0.0.1, port: {port}, user: eye, auth: iam, cluster: {{{cluster}: Stores}}, region: eu-west-1, tls: disable}}}}\n"
        );
        let program = Program::start_as("redis-iam", &text, &[], |command, _| {
            command.env("AWS_ACCESS_KEY_ID", "AKIASTAGE").env("AWS_SECRET_ACCESS_KEY", "canary-secret-key");
            command.env("AWS_EC2_METADATA_DISABLED", "true");
        });
        let login = told.recv_timeout(crate::stage::LIMIT).unwrap();
        let words: Vec<&str> = login.split("\r\n").collect();
        assert_eq!((words[2], words[4]), ("AUTH", "eye"), "{login}");
        let token = words[6];
        assert!(token.starts_with("stores/?Action=connect&User=eye"), "{token}");
        assert_eq!(
            token.contains("&ResourceType=ServerlessCache"),
            cluster.ends_with("serverless"),
            "{token}"
        );
        for part in
            ["&X-Amz-Expires=900", &format!("%2Feu-west-1%2F{service}%2Faws4_request"), "&X-Amz-Signature="]
        {
            assert!(token.contains(part), "{part}: {token}");
        }
        program.wait_for("datapulse_check_failures_total", &[("reason", "auth")], |count| count >= 1.0);
        assert!(!program.log().contains("X-Amz-Signature") && !program.get("/").contains("X-Amz-Signature"));
    }
}

#[test]
fn an_answer_without_end_is_refused_and_one_that_is_none_is_named() {
    let mut flood = b"$400000000\r\n".to_vec();
    flood.resize(12_000_000, b'x');
    for (answer, reason) in
        [(flood, "too_large"), (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "protocol"), (Vec::new(), "io")]
    {
        let (port, _told) = fake(answer);
        let text = format!(
            "checks:\n  - redis: {{name: n, every: 1s, target: {{host: 127.0.0.1, port: {port}, tls: disable}}}}\n"
        );
        let program = Program::start(&format!("redis-{reason}"), &text, &[]);
        program.wait_for("datapulse_check_failures_total", &[("reason", reason)], |count| count >= 1.0);
        assert_eq!(program.scrape().value("redis_up", &[]), Some(0.0));
    }
}
