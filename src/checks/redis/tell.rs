//! From what the nodes said to samples, and to rows for people.

use super::ask::Seen;
use super::families::{
    CLUSTER, CLUSTER_STATE, FAILOVERS, INSTANCE, KEYS, KEYS_EXPIRING, LAG, LINK_UP, MEMORY_MAX, NUMBERS,
    OFFSET, PING, PRIMARY, SLOWLOG_LAST, SLOWLOG_LAST_ID, SLOWLOG_LENGTH, UP, WORDS,
};
use super::group::{Found, Group, Member};
use crate::check::Listing;
use crate::net::redis::Address;
use jiff::Timestamp;
use metrics::Answer;
use serde_json::{Value, json};

/// The columns of the rows for people: nodes first, then the newest entries of their slow logs.
const COLUMNS: [&str; 9] =
    ["node", "shard", "row", "role", "role_before", "changed", "state", "seconds", "text"];
/// Entries of slow logs that people are shown in all.
const MOST_SLOW: usize = 20;

/// Who answered: told also when nobody did.
pub(super) fn tell_up(answer: &mut Answer, found: &Found, group: &Group) {
    for (address, member) in &group.members {
        let is_up = found.get(address).is_some_and(Result::is_ok);
        answer.set(&UP, [&address.to_string(), &member.shard], flag(is_up));
    }
}

pub(super) fn tell(found: &Found, group: &mut Group) -> Answer {
    let mut answer = Answer::new();
    for (address, member) in &mut group.members {
        let node = address.to_string();
        let count = member.failovers_to_show();
        answer.set(&FAILOVERS, [&node, &member.shard], count as f64);
        if let Some(Ok(seen)) = found.get(address) {
            tell_node(&mut answer, [&node, &member.shard], seen);
        }
    }
    answer
}

fn tell_node(answer: &mut Answer, of: [&str; 2], seen: &Seen) {
    let info = &seen.info;
    answer.set_some(&PRIMARY, of, info.is_primary().map(flag));
    answer.set_some(&PING, of, seen.ping);
    answer.set_some(&LINK_UP, of, info.link_is_up().map(flag));
    answer.set_some(&MEMORY_MAX, of, info.number("maxmemory").filter(|most| *most > 0.0));
    for (field, metric) in &NUMBERS {
        answer.set_some(metric, of, info.number(field));
    }
    for (field, metric) in &WORDS {
        answer.set_some(metric, of, info.text(field).map(|word| flag(word == "ok")));
    }
    let (name, version) = info.server();
    let text = |field: &str| info.text(field).unwrap_or_default().to_owned();
    let of_instance = [
        of[0],
        of[1],
        &text("role"),
        name,
        version,
        &text("redis_version"),
        &text("redis_mode"),
        &text("maxmemory_policy"),
    ];
    answer.set(&INSTANCE, of_instance, 1.0);
    for keyspace in info.keyspaces() {
        let of = [of[0], of[1], keyspace.db];
        answer.set_some(&KEYS, of, keyspace.keys);
        answer.set_some(&KEYS_EXPIRING, of, keyspace.expires);
    }
    for replica in info.replicas().into_iter().filter(|replica| replica.online) {
        let of = [&replica.address.to_string(), of[1]];
        answer.set_some(&LAG, of, replica.lag);
        answer.set_some(&OFFSET, of, replica.offset);
    }
    if let Some(cluster) = &seen.cluster {
        answer.set_some(&CLUSTER_STATE, of, cluster.text("cluster_state").map(|state| flag(state == "ok")));
        for (field, metric) in &CLUSTER {
            answer.set_some(metric, of, cluster.number(field));
        }
    }
    answer.set_some(&SLOWLOG_LENGTH, of, seen.slow_length);
    let newest = seen.slow.first();
    answer.set_some(&SLOWLOG_LAST_ID, of, newest.map(|slow| slow.id as f64));
    answer.set_some(&SLOWLOG_LAST, of, newest.map(|slow| slow.seconds));
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// The nodes, shard by shard, with the role that each had before; then what was slow.
pub(super) fn listing(found: &Found, group: &Group) -> Listing {
    let mut nodes: Vec<(&Address, &Member)> = group.members.iter().collect();
    nodes.sort_by_key(|(address, member)| (member.shard.parse::<u16>().unwrap_or(u16::MAX), *address));
    let mut rows: Vec<Vec<Value>> =
        nodes.iter().map(|(address, member)| node_row(address, member, found)).collect();
    let mut slow = Vec::new();
    for (address, member) in nodes {
        let entries = found.get(address).and_then(|seen| seen.as_ref().ok()).map(|seen| &seen.slow);
        slow.extend(entries.into_iter().flatten().map(|entry| (entry, address, member)));
    }
    slow.sort_by_key(|(entry, ..)| std::cmp::Reverse(entry.at));
    for (entry, address, member) in slow.into_iter().take(MOST_SLOW) {
        let at = Timestamp::from_second(entry.at).ok().map(|at| at.to_string());
        let (node, shard) = (address.to_string(), &member.shard);
        rows.push(vec![
            json!(node),
            json!(shard),
            json!("slow"),
            json!(null),
            json!(null),
            json!(at),
            json!(null),
            json!(entry.seconds),
            json!(entry.text),
        ]);
    }
    Listing { columns: &COLUMNS, rows }
}

fn node_row(address: &Address, member: &Member, found: &Found) -> Vec<Value> {
    let (state, seconds, text) = match found.get(address) {
        Some(Ok(seen)) => {
            let (name, version) = seen.info.server();
            let link = seen.info.link_is_up().map_or("up", |up| if up { "up" } else { "link down" });
            let seconds = seen
                .info
                .number("master_last_io_seconds_ago")
                .or_else(|| seen.info.number("master_link_down_since_seconds"));
            (link, seconds, format!("{name} {version}"))
        }
        Some(Err(problem)) => ("lost", None, problem.to_string()),
        None => ("lost", None, String::new()),
    };
    vec![
        json!(address.to_string()),
        json!(member.shard),
        json!("node"),
        json!(member.role),
        json!(member.role_before),
        json!(member.changed.map(|changed| changed.to_string())),
        json!(state),
        json!(seconds),
        json!(text),
    ]
}
