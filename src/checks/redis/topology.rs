//! What a node of a cluster says of all its nodes: CLUSTER SHARDS (from Redis 7.0 on), CLUSTER NODES and CLUSTER SLOTS.

use crate::net::redis::{Address, Value};
use std::collections::BTreeMap;

/// The nodes of a cluster, as one of them sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct View(pub(super) Vec<Known>);

/// A node that another one names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) address: Address,
    /// The lowest slot of its shard; `None` for a primary without slots, and for its replicas.
    pub(super) shard: Option<u16>,
    pub(super) primary: bool,
}

/// Where this view was asked for: what a node leaves out of its address is the address that we reach it by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) host: &'a str,
    /// Nodes have another port for TLS.
    pub(super) tls: bool,
}

impl View {
    /// <https://redis.io/docs/latest/commands/cluster-shards/>
    pub(super) fn of_shards(answer: &Value, asked: Asked<'_>) -> Option<Self> {
        let mut found = Vec::new();
        for shard in items(answer)? {
            let shard = fields(shard)?;
            let slots = shard.get("slots").and_then(|slots| items(slots)).unwrap_or_default();
            let lowest = slots.iter().step_by(2).filter_map(slot).min();
            for node in shard.get("nodes").and_then(|nodes| items(nodes))? {
                let node = fields(node)?;
                let text =
                    |name: &str| node.get(name).and_then(|value| text(value)).filter(|text| is_known(text));
                let port = |name: &str| node.get(name).and_then(|value| slot(value)).filter(|port| *port > 0);
                let tls = port("tls-port").filter(|_| asked.tls);
                let Some(port) = tls.or_else(|| port("port")).or_else(|| port("tls-port")) else { continue };
                let host =
                    text("endpoint").or_else(|| (!node.contains_key("endpoint")).then(|| text("ip"))?);
                let host = host.unwrap_or_else(|| asked.host.to_owned());
                found.push(Known {
                    id: text("id").unwrap_or_default(),
                    address: Address { host, port },
                    shard: lowest,
                    primary: text("role").is_some_and(|role| role == "master"),
                });
            }
        }
        Some(Self(found)).filter(|view| !view.0.is_empty())
    }

    /// `<id> <ip:port@cport[,hostname]> <flags> <id of the primary or -> <ping> <pong> <epoch> <link> <slots> ...`
    /// <https://redis.io/docs/latest/commands/cluster-nodes/>
    pub(super) fn of_nodes(answer: &Value, asked: Asked<'_>) -> Option<Self> {
        let answer = text(answer)?;
        let mut found = Vec::new();
        let mut lowest: BTreeMap<String, u16> = BTreeMap::new();
        for line in answer.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [id, place, flags, primary, _, _, _, _, slots @ ..] = words.as_slice() else { continue };
            let flag = |wanted: &str| flags.split(',').any(|flag| flag == wanted);
            let Some(mut address) = place.split(['@', ',']).next().and_then(nodes_address) else { continue };
            if address.host.is_empty() {
                asked.host.clone_into(&mut address.host);
            }
            if flag("noaddr") || flag("handshake") {
                continue;
            }
            let is_primary = flag("master");
            // `[93-<-id]` is a slot on its way.
            let first = slots.iter().filter_map(|range| range.split('-').next()?.parse::<u16>().ok()).min();
            if let Some(first) = first {
                lowest.insert((*id).to_owned(), first);
            }
            let of = if is_primary { *id } else { *primary };
            found.push(((*id).to_owned(), address, of.to_owned(), is_primary));
        }
        let known =
            |(id, address, of, primary)| Known { id, address, shard: lowest.get(&of).copied(), primary };
        Some(Self(found.into_iter().map(known).collect())).filter(|view| !view.0.is_empty())
    }

    /// Ranges with their nodes, the primary first. What has no slot or has failed is not named.
    /// <https://redis.io/docs/latest/commands/cluster-slots/>
    pub(super) fn of_slots(answer: &Value, asked: Asked<'_>) -> Option<Self> {
        let mut found: BTreeMap<(String, Address), Known> = BTreeMap::new();
        for range in items(answer)? {
            let [first, _, nodes @ ..] = items(range)? else { continue };
            let first = slot(first)?;
            for (at, node) in nodes.iter().enumerate() {
                let [host, port, rest @ ..] = items(node)? else { continue };
                let host = text(host).filter(|host| is_known(host)).unwrap_or_else(|| asked.host.to_owned());
                let address = Address { host, port: slot(port)? };
                let id = rest.first().and_then(text).unwrap_or_default();
                let known = found.entry((id.clone(), address.clone())).or_insert_with(|| Known {
                    id,
                    address,
                    shard: Some(first),
                    primary: at == 0,
                });
                known.shard = known.shard.min(Some(first));
            }
        }
        Some(Self(found.into_values().collect())).filter(|view| !view.0.is_empty())
    }

    pub(super) fn names(&self, address: &Address) -> bool {
        self.0.iter().any(|known| known.address == *address)
    }
}

/// Without an address of its own a node writes nothing; `?` stands for a host name that it does not have.
fn is_known(text: &str) -> bool {
    !text.is_empty() && text != "?"
}

fn nodes_address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    Some(Address { host: host.to_owned(), port: port.parse().ok().filter(|port| *port > 0)? })
}

pub(super) fn items(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

/// A map, or the list of names and values that older versions of the protocol have in its place.
fn fields(value: &Value) -> Option<BTreeMap<String, &Value>> {
    let items = items(value)?;
    Some(items.chunks_exact(2).filter_map(|pair| Some((text(pair.first()?)?, pair.get(1)?))).collect())
}

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

pub(super) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        other => text(other)?.parse().ok(),
    }
}

/// Slots and ports have the same size.
fn slot(value: &Value) -> Option<u16> {
    number(value).and_then(|number| u16::try_from(number).ok())
}
