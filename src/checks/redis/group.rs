//! The nodes that belong together: who they are, who was primary, and what is remembered of those that were lost.

use super::Mode;
use super::ask::Seen;
use super::topology::View;
use crate::check::Problem;
use crate::net::redis::{Address, Connection};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// The shard of nodes without a cluster: all slots are theirs, and the lowest is 0.
const ONLY_SHARD: &str = "0";
/// The shard of a primary without slots, and of its replicas.
const NO_SHARD: &str = "none";

/// What came of asking nodes, by the address that they are known by.
pub(super) type Found = BTreeMap<Address, Result<Seen, Problem>>;

/// What is remembered from run to run.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) members: BTreeMap<Address, Member>,
    /// Who was primary of each shard when it last had one.
    primaries: BTreeMap<String, Address>,
}

/// A node that is known.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) connection: Option<Connection>,
    pub(super) shard: String,
    /// Its role when it last said one, and the one before.
    pub(super) role: Option<&'static str>,
    pub(super) role_before: Option<&'static str>,
    /// When the role was seen to change.
    pub(super) changed: Option<Timestamp>,
    /// How often it took over its shard.
    pub(super) failovers: u64,
    /// Whether its counter has been shown before: the first value that is shown is 0, so that the first failover is an increase.
    shown: bool,
    /// When another node, or the configuration, last named it.
    named: Instant,
}

/// Nodes that what was said so far names and that have not been asked.
pub(super) fn unasked(found: &Found, mode: Mode) -> BTreeSet<Address> {
    if mode == Mode::Single {
        return BTreeSet::new();
    }
    let mut named: BTreeSet<Address> = match view(found) {
        Some(view) => view.0.iter().map(|known| known.address.clone()).collect(),
        None => named_by_replication(found),
    };
    named.retain(|address| !found.contains_key(address));
    named
}

/// The view to believe: of the node that has seen the last election, because one that was cut off tells of the past.
pub(super) fn view(found: &Found) -> Option<&View> {
    let seen = found.values().filter_map(|seen| seen.as_ref().ok());
    let with_epoch = seen.filter_map(|seen| {
        let epoch = seen.cluster.as_ref().and_then(|cluster| cluster.number("cluster_current_epoch"));
        let is_ok = seen.cluster.as_ref().and_then(|cluster| cluster.text("cluster_state")) == Some("ok");
        seen.view.as_ref().map(|view| (view, (epoch.unwrap_or(-1.0), is_ok)))
    });
    let newest = with_epoch.max_by(|(_, a), (_, b)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    newest.map(|(view, _)| view)
}

/// Replicas of those that answered, and primaries of replicas.
fn named_by_replication(found: &Found) -> BTreeSet<Address> {
    let seen = || found.values().filter_map(|seen| seen.as_ref().ok()).filter(|seen| !seen.info.is_cluster());
    let mut named = BTreeSet::new();
    for one in seen() {
        named.extend(one.info.replicas().into_iter().map(|replica| replica.address));
        // Whoever has the same stream of changes is that primary, under the name by which we know it.
        let stream = one.info.text("master_replid");
        let known = seen()
            .any(|other| other.info.is_primary() == Some(true) && other.info.text("master_replid") == stream);
        if one.info.is_primary() == Some(false) && !known {
            named.extend(one.info.primary());
        }
    }
    named
}

impl Group {
    /// Takes what the nodes said. `seed` is the address of the configuration.
    pub(super) fn learn(
        &mut self,
        found: &mut Found,
        mut connections: BTreeMap<Address, Connection>,
        (seed, remember): (&Address, Duration),
        (now, at): (Timestamp, Instant),
    ) {
        let shards = self.shards(found, seed);
        found.retain(|address, _| shards.contains_key(address));
        let in_cluster = view(found).is_some();
        let named = if in_cluster { shards.keys().cloned().collect() } else { named_by_replication(found) };
        for (address, shard) in shards {
            let member = self.members.entry(address.clone()).or_insert_with(|| Member::new(at));
            member.shard = shard;
            member.connection = connections.remove(&address);
            if named.contains(&address) || address == *seed {
                member.named = at;
            }
            let role = found.get(&address).and_then(|seen| seen.as_ref().ok()?.info.is_primary());
            member.take_role(role, now);
            if role == Some(true) && !in_cluster && self.primaries.get(ONLY_SHARD) == Some(&address) {
                member.named = at;
            }
        }
        // In a cluster who is not named any more has been taken out; elsewhere a lost replica is not named either.
        self.members.retain(|address, member| {
            found.contains_key(address) && (in_cluster || at - member.named <= remember)
        });
        found.retain(|address, _| self.members.contains_key(address));
        self.count_failovers(found);
    }

    /// Who belongs to the group, and to which shard of it. Names of one and the same node are reduced to one.
    fn shards(&self, found: &Found, seed: &Address) -> BTreeMap<Address, String> {
        let before = |address: &Address| self.members.get(address).map(|member| member.shard.clone());
        if let Some(view) = view(found) {
            let shard = |known: &super::topology::Known| {
                let shard = known.shard.map(|slot| slot.to_string());
                // A primary that has lost its slots to its replica has not come back to its shard yet.
                shard.or_else(|| before(&known.address)).unwrap_or_else(|| NO_SHARD.to_owned())
            };
            let named = view.0.iter().filter(|known| found.contains_key(&known.address));
            return named.map(|known| (known.address.clone(), shard(known))).collect();
        }
        let run = |address: &Address| found.get(address)?.as_ref().ok()?.info.text("run_id");
        let has_other_name = run(seed)
            .is_some_and(|own| found.keys().any(|address| address != seed && run(address) == Some(own)));
        let fits = |address: &&Address| !(has_other_name && *address == seed);
        found
            .keys()
            .filter(fits)
            .map(|address| (address.clone(), before(address).unwrap_or_else(|| ONLY_SHARD.to_owned())))
            .collect()
    }

    fn count_failovers(&mut self, found: &Found) {
        let mut by_shard: BTreeMap<String, Vec<(&Address, f64)>> = BTreeMap::new();
        for (address, seen) in found {
            let (Some(member), Ok(seen)) = (self.members.get(address), seen) else { continue };
            // In a cluster the view decides: one that was cut off, or has lost its slots, believes for a while that it still is primary.
            let is_primary = match view(found) {
                Some(view) => view
                    .0
                    .iter()
                    .any(|known| known.address == *address && known.primary && known.shard.is_some()),
                None => seen.info.is_primary() == Some(true),
            };
            if is_primary && seen.info.is_primary() == Some(true) {
                let replicas = seen.info.number("connected_slaves").unwrap_or(0.0);
                by_shard.entry(member.shard.clone()).or_default().push((address, replicas));
            }
        }
        for (shard, candidates) in by_shard {
            let before = self.primaries.get(&shard);
            // Of two that both say so it is the one with more replicas, and if that does not tell, the old one.
            let best = candidates.into_iter().max_by(|(a, of_a), (b, of_b)| {
                let replicas = of_a.partial_cmp(of_b).unwrap_or(std::cmp::Ordering::Equal);
                replicas.then((before == Some(*a)).cmp(&(before == Some(*b))))
            });
            let Some((address, _)) = best else { continue };
            let took_over = before.is_some_and(|before| before != address);
            if let Some(member) = self.members.get_mut(address).filter(|_| took_over) {
                member.failovers += 1;
            }
            self.primaries.insert(shard, address.clone());
        }
    }
}

impl Member {
    fn new(at: Instant) -> Self {
        Self {
            connection: None,
            shard: String::new(),
            role: None,
            role_before: None,
            changed: None,
            failovers: 0,
            shown: false,
            named: at,
        }
    }

    fn take_role(&mut self, is_primary: Option<bool>, now: Timestamp) {
        let role = is_primary.map(|primary| if primary { "primary" } else { "replica" });
        if role.is_some() && role != self.role {
            if self.role.is_some() {
                self.changed = Some(now);
            }
            self.role_before = self.role;
            self.role = role;
        }
    }

    /// The counter to show.
    pub(super) fn failovers_to_show(&mut self) -> u64 {
        if std::mem::replace(&mut self.shown, true) { self.failovers } else { 0 }
    }
}
