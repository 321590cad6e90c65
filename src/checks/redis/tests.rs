//! Tables of answers and what is told of them.

use super::ask::{Seen, Slow};
use super::group::{Found, Group, unasked};
use super::info::Info;
use super::topology::{Asked, Known, View};
use super::{Config, Mode, tell};
use crate::check::{Problem, Reason};
use crate::net::redis::{Address, Value};
use jiff::Timestamp;
use metrics::{Answer, Values};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

const HOUR: Duration = Duration::from_hours(1);

fn bulk(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn list(items: &[&str]) -> Value {
    Value::Array(items.iter().map(|item| item.parse().map_or_else(|_| bulk(item), Value::Int)).collect())
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn known(id: &str, place: &str, shard: Option<u16>, primary: bool) -> Known {
    Known { id: id.into(), address: address(place), shard, primary }
}

const PLAIN: Asked<'static> = Asked { host: "door", tls: false };

/// The samples as lines, without the families whose name does not begin so.
fn lines(answer: &mut Answer, wanted: &[&str]) -> Vec<String> {
    answer.seal();
    let mut all = Vec::new();
    for column in answer.columns() {
        let Values::Numbers(numbers) = column.values() else { continue };
        for (row, number) in numbers.iter().enumerate() {
            let name = column.family().prometheus();
            let labels: Vec<&str> = column.labels(row).collect();
            if wanted.contains(&name.as_str()) {
                all.push(format!("{name} {} {number}", labels.join(" ")));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn fields_of_info_are_read_by_name_and_what_is_below_zero_is_absent() {
    let info = Info::read(
        "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n# Replication\r\nrole:slave\r\n\
         master_host:10.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:down\r\nmaster_last_io_seconds_ago:-1\r\nused_memory:12\r\n\
         maxmemory:many\r\ndb0:keys=3,expires=1,avg_ttl=0\r\ndb12:keys=x\r\ndbsize:5\r\n\
         slave0:ip=10.0.0.2,port=6380,state=online,offset=14,lag=1\r\nslave1:ip=10.0.0.3,port=6380,state=wait_bgsave,offset=0,lag=-1\r\n\
         slave2:ip=,port=0,state=online\r\nslave_repl_offset:7\r\nnonsense\r\n",
    );
    assert_eq!(info.server(), ("valkey", "8.0.1"));
    assert_eq!((info.is_primary(), info.link_is_up()), (Some(false), Some(false)));
    assert_eq!(info.primary(), Some(address("10.0.0.1:6379")));
    assert_eq!(info.number("used_memory"), Some(12.0));
    for field in ["master_last_io_seconds_ago", "maxmemory", "no_such_field"] {
        assert_eq!(info.number(field), None, "{field}");
    }
    let replicas = info.replicas();
    assert_eq!(replicas.len(), 2, "one without an address is none");
    assert_eq!((replicas[0].online, replicas[0].offset, replicas[0].lag), (true, Some(14.0), Some(1.0)));
    assert_eq!((replicas[1].online, replicas[1].lag), (false, None));
    let keys: Vec<_> =
        info.keyspaces().iter().map(|keys| (keys.db.to_owned(), keys.keys, keys.expires)).collect();
    assert_eq!(keys, [("db0".to_owned(), Some(3.0), Some(1.0)), ("db12".to_owned(), None, None)]);
    assert_eq!(Info::read("redis_version:7.0.15\nrole:sentinel").server(), ("redis", "7.0.15"));
    assert_eq!(Info::read("role:sentinel").is_primary(), None);
    assert_eq!(Info::read("master_host:a\nmaster_port:0").primary(), None);
}

fn shard(slots: &[&str], nodes: Vec<Value>) -> Value {
    Value::Array(vec![bulk("slots"), list(slots), bulk("nodes"), Value::Array(nodes)])
}

#[test]
fn shards_are_read_with_the_address_that_each_node_prefers() {
    let node = |words: &[&str]| list(words);
    let answer = Value::Array(vec![
        shard(
            &["5461", "10922", "100", "200"],
            vec![
                node(&[
                    "id",
                    "a",
                    "port",
                    "6379",
                    "tls-port",
                    "6380",
                    "ip",
                    "10.0.0.1",
                    "endpoint",
                    "a.example",
                    "role",
                    "master",
                    "health",
                    "online",
                ]),
                node(&[
                    "id", "b", "port", "6379", "ip", "10.0.0.2", "endpoint", "10.0.0.2", "role", "replica",
                    "health", "loading",
                ]),
            ],
        ),
        shard(
            &[],
            vec![
                // The endpoint is not known: where we asked.
                Value::Array(vec![
                    bulk("id"),
                    bulk("c"),
                    bulk("tls-port"),
                    Value::Int(6380),
                    bulk("endpoint"),
                    Value::Nil,
                    bulk("role"),
                    bulk("master"),
                ]),
                node(&["id", "d", "port", "6379", "endpoint", "?", "role", "replica"]),
                node(&["id", "without-port", "endpoint", "x", "role", "replica"]),
            ],
        ),
    ]);
    let view = View::of_shards(&answer, PLAIN).unwrap();
    assert_eq!(
        view.0,
        [
            known("a", "a.example:6379", Some(100), true),
            known("b", "10.0.0.2:6379", Some(100), false),
            known("c", "door:6380", None, true),
            known("d", "door:6379", None, false),
        ]
    );
    assert!(view.names(&address("door:6380")) && !view.names(&address("door:6381")));
    let over_tls = View::of_shards(&answer, Asked { tls: true, ..PLAIN }).unwrap();
    assert_eq!(over_tls.0[0].address, address("a.example:6380"));
    for nothing in
        [Value::Nil, Value::Okay, Value::Array(vec![]), list(&["x"]), Value::Array(vec![list(&["slots"])])]
    {
        assert_eq!(View::of_shards(&nothing, PLAIN), None, "{nothing:?}");
    }
}

#[test]
fn nodes_are_read_line_by_line() {
    let answer = bulk(
        "aa 10.0.0.1:6379@16379,a.example master - 0 1 3 connected 5461-10922 [93-<-bb] 12\n\
         bb 10.0.0.2:6379@16379 myself,slave aa 0 1 3 connected\n\
         cc :6379@16379 master,fail - 0 1 3 disconnected\n\
         dd :0@0 slave,fail,noaddr cc 0 1 3 disconnected\n\
         ee ::1:6379@16379 handshake - 0 0 0 disconnected\n\
         short line\n",
    );
    assert_eq!(
        View::of_nodes(&answer, PLAIN).unwrap().0,
        [
            known("aa", "10.0.0.1:6379", Some(12), true),
            known("bb", "10.0.0.2:6379", Some(12), false),
            known("cc", "door:6379", None, true),
        ]
    );
    assert_eq!(View::of_nodes(&bulk(""), PLAIN), None);
    assert_eq!(View::of_nodes(&Value::Int(1), PLAIN), None);
}

#[test]
fn slots_name_each_node_once_with_its_lowest_slot() {
    let range = |first: i64, nodes: &[(&str, i64, &str)]| {
        let mut items = vec![Value::Int(first), Value::Int(first + 9)];
        let node = |(host, port, id): &(&str, i64, &str)| {
            let host = if host.is_empty() { Value::Nil } else { bulk(host) };
            Value::Array(vec![host, Value::Int(*port), bulk(id), Value::Array(vec![])])
        };
        items.extend(nodes.iter().map(node));
        Value::Array(items)
    };
    let both = [("10.0.0.1", 6379, "a"), ("", 6380, "b")];
    let answer = Value::Array(vec![range(500, &both), range(20, &both), list(&["7"])]);
    assert_eq!(
        View::of_slots(&answer, PLAIN).unwrap().0,
        [known("a", "10.0.0.1:6379", Some(20), true), known("b", "door:6380", Some(20), false)]
    );
}

#[test]
fn of_a_slow_command_only_its_name_is_shown() {
    let entry = |words: &[&str]| {
        let command = Value::Array(words.iter().map(|word| bulk(word)).collect());
        Value::Array(vec![
            Value::Int(7),
            Value::Int(1_700_000_000),
            Value::Int(1500),
            command,
            bulk("1.2.3.4:5"),
            bulk(""),
        ])
    };
    for (words, shown) in [
        (&["get", "canary"][..], "GET ?"),
        (&["SET", "canary", "canary"], "SET ? (2 arguments)"),
        (&["PING"], "PING"),
        (&["canary word", "x"], "? ?"),
        (&["acanarythatislongerthananycommandthatis"], "?"),
        (&[], "?"),
    ] {
        let slow = super::ask::slow(&entry(words)).unwrap();
        assert_eq!(slow, Slow { id: 7, at: 1_700_000_000, seconds: 0.0015, text: shown.to_owned() });
    }
    assert_eq!(super::ask::slow(&list(&["1", "2"])), None);
}

/// What came of asking a node.
enum Said {
    This(Seen),
    Nothing,
}

fn seen(text: &str) -> Said {
    Said::This(Seen { info: Info::read(text), ..Seen::default() })
}

fn found(nodes: Vec<(&str, Said)>) -> Found {
    let said = |said| match said {
        Said::This(seen) => Ok(seen),
        Said::Nothing => Err(Problem::new(Reason::Connect, "could not connect")),
    };
    nodes.into_iter().map(|(place, one)| (address(place), said(one))).collect()
}

fn learn(group: &mut Group, mut found: Found, at: Instant) -> Found {
    group.learn(&mut found, BTreeMap::new(), (&address("a:1"), HOUR), (Timestamp::UNIX_EPOCH, at));
    found
}

/// The failovers of each member, as they are shown.
fn failovers(group: &mut Group, found: &Found) -> Vec<String> {
    lines(&mut tell::tell(found, group), &["redis_failovers_total"])
}

const PRIMARY: &str = "role:master\nrun_id:1\nmaster_replid:x\nconnected_slaves:1\nslave0:ip=b,port=1,state=online,offset=5,lag=0";
const REPLICA: &str =
    "role:slave\nrun_id:2\nmaster_replid:x\nmaster_host:a\nmaster_port:1\nmaster_link_status:up";

#[test]
fn replicas_and_primaries_lead_to_each_other_and_no_node_has_two_names() {
    let of = |nodes| unasked(&found(nodes), Mode::Auto).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(of(vec![("a:1", seen(PRIMARY))]), ["b:1"]);
    assert_eq!(of(vec![("b:1", seen(REPLICA))]), ["a:1"]);
    // Its primary is the one that answers, though it calls it otherwise.
    let other_name = REPLICA.replace("master_host:a", "master_host:10.0.0.1");
    assert!(of(vec![("a:1", seen(PRIMARY)), ("b:1", seen(&other_name))]).is_empty());
    assert!(unasked(&found(vec![("a:1", seen(PRIMARY))]), Mode::Single).is_empty());
    let mut group = Group::default();
    let same = found(vec![("a:1", seen(PRIMARY)), ("c:1", seen(PRIMARY)), ("b:1", seen(REPLICA))]);
    let left = learn(&mut group, same, Instant::now());
    assert_eq!(left.keys().map(ToString::to_string).collect::<Vec<_>>(), ["b:1", "c:1"]);
}

#[test]
fn a_failover_is_counted_once_and_first_shown_at_zero() {
    let (mut group, now) = (Group::default(), Instant::now());
    let at_first = learn(&mut group, found(vec![("a:1", seen(PRIMARY)), ("b:1", seen(REPLICA))]), now);
    assert_eq!(
        failovers(&mut group, &at_first),
        ["redis_failovers_total a:1 0 0", "redis_failovers_total b:1 0 0"]
    );
    let gone = learn(&mut group, found(vec![("a:1", Said::Nothing), ("b:1", seen(REPLICA))]), now);
    assert_eq!(failovers(&mut group, &gone)[1], "redis_failovers_total b:1 0 0");
    let mut up = Answer::new();
    tell::tell_up(&mut up, &gone, &group);
    assert_eq!(lines(&mut up, &["redis_up"]), ["redis_up a:1 0 0", "redis_up b:1 0 1"]);
    for _ in 0..2 {
        let promoted = seen(&REPLICA.replace("role:slave", "role:master"));
        let over = learn(&mut group, found(vec![("a:1", Said::Nothing), ("b:1", promoted)]), now);
        assert_eq!(failovers(&mut group, &over)[1], "redis_failovers_total b:1 0 1");
    }
    // Both say that they are primary: the one with the replicas is.
    let both = found(vec![
        ("a:1", seen("role:master\nrun_id:1\nconnected_slaves:0")),
        ("b:1", seen(&PRIMARY.replace("run_id:1", "run_id:2"))),
    ]);
    let both = learn(&mut group, both, now);
    assert_eq!(
        failovers(&mut group, &both),
        ["redis_failovers_total a:1 0 0", "redis_failovers_total b:1 0 1"]
    );
    let rows = tell::listing(&both, &group).rows;
    assert_eq!((rows[1][3].as_str(), rows[1][4].as_str()), (Some("primary"), Some("replica")));
}

#[test]
fn a_new_node_that_is_promoted_at_once_is_shown_at_zero_before_it_is_one() {
    let (mut group, now) = (Group::default(), Instant::now());
    learn(&mut group, found(vec![("a:1", seen(PRIMARY))]), now);
    let promoted = || found(vec![("a:1", Said::Nothing), ("c:1", seen("role:master\nrun_id:3"))]);
    let over = learn(&mut group, promoted(), now);
    assert_eq!(failovers(&mut group, &over)[1], "redis_failovers_total c:1 0 0");
    let over = learn(&mut group, promoted(), now);
    assert_eq!(failovers(&mut group, &over)[1], "redis_failovers_total c:1 0 1");
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_that_nobody_names_is_forgotten_after_a_while() {
    let (mut group, start) = (Group::default(), Instant::now());
    learn(&mut group, found(vec![("a:1", seen(PRIMARY)), ("b:1", seen(REPLICA))]), start);
    let alone = || found(vec![("a:1", seen("role:master\nrun_id:1")), ("b:1", Said::Nothing)]);
    learn(&mut group, alone(), start + HOUR);
    assert_eq!(group.members.len(), 2);
    learn(&mut group, alone(), start + HOUR + Duration::from_secs(1));
    assert_eq!(
        group.members.keys().map(ToString::to_string).collect::<Vec<_>>(),
        ["a:1"],
        "what the configuration names stays"
    );
}

fn in_cluster(epoch: u32, view: &View, role: &str) -> Said {
    Said::This(Seen {
        info: Info::read(&format!("redis_mode:cluster\ncluster_enabled:1\nrole:{role}")),
        cluster: Some(Info::read(&format!("cluster_state:ok\ncluster_current_epoch:{epoch}"))),
        view: Some(view.clone()),
        ..Seen::default()
    })
}

#[test]
fn the_newest_view_is_believed_and_the_shard_outlives_its_primary() {
    let (mut group, now) = (Group::default(), Instant::now());
    let before = View(vec![known("1", "a:1", Some(100), true), known("2", "b:1", Some(100), false)]);
    let well =
        found(vec![("a:1", in_cluster(1, &before, "master")), ("b:1", in_cluster(1, &before, "slave"))]);
    learn(&mut group, well, now);
    // Before 7.2 a primary that has lost its slots makes a shard of its own.
    let after = View(vec![known("1", "a:1", None, true), known("2", "b:1", Some(100), true)]);
    let cut_off =
        found(vec![("a:1", in_cluster(1, &before, "master")), ("b:1", in_cluster(2, &after, "master"))]);
    let cut_off = learn(&mut group, cut_off, now);
    assert_eq!(
        failovers(&mut group, &cut_off),
        ["redis_failovers_total a:1 100 0", "redis_failovers_total b:1 100 0"]
    );
    assert_eq!(failovers(&mut group, &cut_off)[1], "redis_failovers_total b:1 100 1");
    // Who is taken out of the cluster is not known any more.
    let taken_out = View(vec![known("2", "b:1", Some(100), true)]);
    learn(&mut group, found(vec![("a:1", Said::Nothing), ("b:1", in_cluster(2, &taken_out, "master"))]), now);
    assert_eq!(group.members.len(), 1);
}

#[test]
fn nothing_is_told_of_what_a_node_does_not_say() {
    let mut group = Group::default();
    let nodes = learn(&mut group, found(vec![("a:1", seen("")), ("b:1", Said::Nothing)]), Instant::now());
    let mut answer = tell::tell(&nodes, &mut group);
    answer.seal();
    let names: Vec<String> = answer.columns().iter().map(|column| column.family().prometheus()).collect();
    assert_eq!(names, ["redis_failovers_total", "redis_instance_info"]);
}

#[test]
fn no_limit_of_memory_is_no_limit_of_zero() {
    let mut group = Group::default();
    let nodes = learn(
        &mut group,
        found(vec![("a:1", seen("role:master\nmaxmemory:0\nused_memory:5"))]),
        Instant::now(),
    );
    let told =
        lines(&mut tell::tell(&nodes, &mut group), &["redis_memory_max_bytes", "redis_memory_used_bytes"]);
    assert_eq!(told, ["redis_memory_used_bytes a:1 0 5"]);
}

#[test]
fn replicas_lag_under_their_own_names() {
    let mut group = Group::default();
    let nodes =
        learn(&mut group, found(vec![("a:1", seen(PRIMARY)), ("b:1", seen(REPLICA))]), Instant::now());
    let wanted =
        ["redis_connected_slave_lag_seconds", "redis_connected_slave_offset_bytes", "redis_master_link_up"];
    assert_eq!(
        lines(&mut tell::tell(&nodes, &mut group), &wanted),
        [
            "redis_connected_slave_lag_seconds b:1 0 0",
            "redis_connected_slave_offset_bytes b:1 0 5",
            "redis_master_link_up b:1 0 1"
        ]
    );
}

#[test]
fn an_address_that_is_none_is_a_fault() {
    let config = |text: &str| serde_json::from_str::<Config>(text).map_err(|error| error.to_string());
    assert!(config(r#"{"addresses": {"10.0.0.1:6379": "[::1]:7001"}}"#).is_ok());
    for text in [
        r#"{"addresses": {"10.0.0.1": "x:1"}}"#,
        r#"{"addresses": {"a:1": "x:0"}}"#,
        r#"{"addresses": {":1": "x:1"}}"#,
    ] {
        assert!(config(text).unwrap_err().contains("write host:port"), "{text}");
    }
    assert_eq!(address("[::1]:7").to_string(), "[::1]:7");
    assert_eq!(address("::1:7").host, "::1");
}
