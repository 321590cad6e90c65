//! A Redis primary with its replica, and what can be broken there: the primary is lost, and the replica takes over.

use super::parts::{Error, Result, Store, StoreServer, wait_for};
use std::path::Path;
use std::time::Duration;

/// The login of datapulse.
const USER: &str = "datapulse";
/// What the check `redis` needs, and no more.
const RIGHTS: [&str; 4] = ["+info", "+ping", "+slowlog|len", "+slowlog|get"];
/// Without a limit nobody knows how full a store is.
const MEMORY: [&str; 1] = ["maxmemory 64mb"];
/// Keys that it holds: enough to be seen.
const KEYS: u32 = 20;
/// For what has to happen on healthy servers at once.
const SOON: Duration = Duration::from_secs(10);

/// The two servers; they stop on drop.
#[derive(Debug)]
pub struct Stores {
    servers: [StoreServer; 2],
    password: String,
}

impl Stores {
    /// Starts both below `dir`; datapulse logs in with this password.
    ///
    /// # Errors
    /// [`Error::Missing`] where Redis is not installed: the demo goes on without.
    pub fn start(dir: &Path, password: &str) -> Result<Self> {
        let store = Store::redis()?;
        let primary = StoreServer::start(&store, &dir.join("cache-a"), &MEMORY)?;
        let replica = primary.replica(&dir.join("cache-b"), &MEMORY)?;
        for number in 0..KEYS {
            primary.ask(&["SET", &format!("session:{number}"), "something"])?;
        }
        let stores = Self { servers: [primary, replica], password: password.to_owned() };
        for server in &stores.servers {
            server.allow(USER, password, &RIGHTS)?;
        }
        Ok(stores)
    }

    /// Port of the server that the configuration names.
    pub fn port(&self) -> u16 {
        self.servers[0].port()
    }

    /// Kills the primary and makes a primary of its replica, as a Sentinel would.
    pub fn fail_over(&mut self) -> Result<()> {
        let [one, other] = &mut self.servers;
        let (primary, replica) = if is_primary(one) { (one, other) } else { (other, one) };
        if !replica.is_running() {
            return Err(Error::Refused {
                what: "fail over".into(),
                why: "there is no replica; heal it first".into(),
            });
        }
        primary.kill9()?;
        replica.ask(&["REPLICAOF", "NO", "ONE"]).map(drop)
    }

    /// Starts the one that was lost as replica of the other.
    pub fn heal(&mut self) -> Result<()> {
        let [one, other] = &mut self.servers;
        let partners = [other.port(), one.port()];
        for (server, partner) in [one, other].into_iter().zip(partners) {
            if server.is_running() {
                continue;
            }
            server.start_again()?;
            server.ask(&["REPLICAOF", "127.0.0.1", &partner.to_string()])?;
            server.allow(USER, &self.password, &RIGHTS)?;
            let follows = wait_for(SOON, || {
                Ok((server.info("master_link_status")?.as_deref() == Some("up")).then_some(()))
            })?;
            follows.ok_or_else(|| Error::Refused {
                what: "make a replica of the old primary".into(),
                why: "it does not follow".into(),
            })?;
        }
        Ok(())
    }
}

fn is_primary(server: &StoreServer) -> bool {
    server.is_running() && server.info("role").is_ok_and(|role| role.as_deref() == Some("master"))
}

#[cfg(test)]
mod tests {
    use super::super::parts::Stage;
    use super::*;

    #[test]
    fn each_failover_is_by_the_other_one_and_healing_makes_a_replica_of_the_lost_one() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/stage");
        let stage = Stage::new(&base, "store").unwrap();
        let mut stores = Stores::start(stage.path(), "one").unwrap();
        for _ in 0..2 {
            let before = is_primary(&stores.servers[0]);
            stores.fail_over().unwrap();
            assert!(stores.fail_over().is_err(), "there is no replica now");
            stores.heal().unwrap();
            stores.heal().unwrap();
            assert_ne!(is_primary(&stores.servers[0]), before);
            assert_ne!(is_primary(&stores.servers[1]), is_primary(&stores.servers[0]));
        }
    }
}
