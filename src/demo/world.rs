//! All that the demo watches, the replication, the lake, the warehouse and the cache, and what can be broken there.

use super::parts::{Error, Feed, Result};
use super::replication::Replication;
use super::shop::Shop;
use super::store::Stores;
use super::{Fault, lake, warehouse};
use std::path::Path;

/// Everything that runs; dropped from the first to the last, load before servers.
#[derive(Debug)]
pub struct World {
    _load: [Feed; 2],
    replication: Replication,
    /// `None`: Redis is not installed.
    stores: Option<Stores>,
    /// Where MariaDB is installed; why not, else.
    shop: std::result::Result<Shop, String>,
}

impl World {
    /// Adds lake and warehouse to the subscriber's server. Logs and scripts of the load go to `dir`.
    pub fn around(replication: Replication, stores: Option<Stores>, dir: &Path) -> Result<Self> {
        let server = replication.subscriber();
        let load = [lake::start(server, dir)?, warehouse::start(server, dir)?];
        let shop = Err("the shop is not open yet; try again in a moment".to_owned());
        Ok(Self { _load: load, replication, stores, shop })
    }

    /// Takes the shop in, or why there is none.
    pub fn open(&mut self, shop: std::result::Result<Shop, String>) {
        self.shop = shop;
    }

    /// Breaks one thing; nothing happens when it is broken already.
    pub fn cause(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Disable => self.replication.disable(),
            Fault::Lock => self.replication.lock(),
            Fault::Conflict => self.replication.conflict(),
            Fault::PublisherDown => self.replication.stop_publisher(),
            Fault::LongQuery => warehouse::begin_long(self.replication.subscriber()),
            Fault::CountryDrop => lake::silence(self.replication.subscriber()),
            Fault::RedisFailover => match &mut self.stores {
                Some(stores) => stores.fail_over(),
                None => Err(Error::Missing { tool: "Redis".to_owned(), searched: "PATH".to_owned() }),
            },
            Fault::SlowStatement => match &self.shop {
                Ok(shop) => {
                    shop.slow(true);
                    Ok(())
                }
                Err(why) => Err(Error::refused("slow a statement of the shop down", why.clone())),
            },
        }
    }

    /// Repairs everything, also what broke by itself. Goes on after an error, and gives the first.
    pub fn heal(&mut self) -> Result<()> {
        let replication = self.replication.heal();
        let server = self.replication.subscriber();
        if let Ok(shop) = &self.shop {
            shop.slow(false);
        }
        let stores = self.stores.as_mut().map_or(Ok(()), Stores::heal);
        replication.and(warehouse::end_long(server)).and(lake::restore(server)).and(stores)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::{Stage, find_postgres, wait_for};
    use super::super::replication::{DATABASE, Passwords};
    use super::*;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Waits until the statement, run by datapulse's own login, gives this.
    fn shows(world: &World, database: &str, statement: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut seen = String::new();
        let text = format!("set role datapulse; {statement}");
        let found = wait_for(LIMIT, || {
            seen = world.replication.subscriber().sql(database, &text)?;
            Ok(wanted(&seen).then(|| seen.clone()))
        });
        found.unwrap().unwrap_or_else(|| panic!("{statement} gives {seen:?}"))
    }

    #[test]
    fn the_login_sees_what_lives_and_what_is_broken_there_heals() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let stage = Stage::new(&root.join("target/stage"), "world").unwrap();
        let binaries = find_postgres(None, &[&root.join("target/postgres")]).unwrap();
        let mut replication = Replication::start(&binaries, stage.path()).unwrap();
        let passwords = Passwords { datapulse: "one".to_owned(), replicator: "two".to_owned() };
        replication.fill(&passwords).unwrap();
        let mut world = World::around(replication, None, stage.path()).unwrap();

        let devices = "select country, count(distinct device) from device_connections group by 1 order by 1";
        let levels =
            shows(&world, lake::DATABASE, devices, |rows| rows.lines().count() == lake::COUNTRIES.len());
        shows(&world, lake::DATABASE, devices, |rows| rows != levels);
        shows(
            &world,
            lake::DATABASE,
            "select now() - max(connected_at) < '10 s' from device_connections",
            |new| new == "t",
        );
        world.cause(Fault::CountryDrop).unwrap();
        let silent = format!("select count(*) from device_connections where country = '{}'", lake::SILENT);
        shows(&world, lake::DATABASE, &silent, |count| count == "0");

        let running = "select count(*) from sys_query_history where status = 'running'";
        shows(&world, warehouse::DATABASE, running, |count| count != "0");
        world.cause(Fault::LongQuery).unwrap();
        let long = "select usename, extract(epoch from getdate() - starttime)::integer / 60, max(sequence) + 1 > 10 \
            from svv_query_inflight join pg_user on usesysid::bigint = userid where starttime < getdate() - interval '1 hour' \
            group by 1, 2";
        shows(&world, warehouse::DATABASE, long, |rows| rows == "analyst|121|t");

        // The sessions of others.
        let lock = "select count(*) from pg_stat_activity where state = 'idle in transaction' and query like 'lock table%'";
        world.cause(Fault::Lock).unwrap();
        shows(&world, DATABASE, lock, |count| count == "1");

        world.heal().unwrap();
        shows(&world, lake::DATABASE, &silent, |count| count.len() == "4100".len());
        shows(&world, warehouse::DATABASE, long, str::is_empty);
        shows(&world, DATABASE, lock, |count| count == "0");
    }
}
