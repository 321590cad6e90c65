//! The two servers with their publication, subscription and load, and what can be broken there.

use super::parts::{
    Binaries, Cluster, Ending, Error, Feed, Keeper, Mode, Result, Settings, Signal, wait_for,
};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The database on both sides.
pub const DATABASE: &str = "shop";
/// An order comes this often.
const FEED_EVERY: Duration = Duration::from_millis(200);
/// The key comes from the table, not from a sequence: without gaps, a conflict can be placed right ahead of it.
const FEED: &str = "insert into orders (id, customer, cents) select coalesce(max(id), 0) + 1, \
    'customer ' || (random() * 1000)::int, (random() * 20000)::int from orders";
const TABLE: &str = "create table orders (id bigint primary key, customer text not null, cents integer not null, \
    placed_at timestamptz not null default clock_timestamp());\n";
/// Marks the row that we put in the subscription's way.
const INTRUDER: &str = "written on the subscriber";
/// How far ahead of the last order it is put: the next one is on its way already.
const AHEAD: u32 = 3;
const LOCK_SESSION: &str = "datapulse-demo-lock";
const LOCK_ENDING: Ending = Ending { signal: Signal::Term, grace: Duration::from_secs(1) };
/// For what has to happen on a healthy server at once.
const SOON: Duration = Duration::from_secs(10);

/// The two servers; they stop on drop, the load first.
#[derive(Debug)]
pub struct Replication {
    lock: Option<Keeper>,
    feed: Option<Feed>,
    subscriber: Cluster,
    publisher: Cluster,
    dir: PathBuf,
    conflict: bool,
}

/// Passwords of the roles that are made.
#[derive(Debug)]
pub struct Passwords {
    /// Of datapulse's own login, on both sides.
    pub datapulse: String,
    /// Of the subscription.
    pub replicator: String,
}

impl Replication {
    /// Makes both servers below `dir` at the same time, which halves the longest step of the start.
    pub fn start(binaries: &Binaries, dir: &Path) -> Result<Self> {
        let start = |name: &str| Cluster::start(binaries, &dir.join(name), &Settings::default());
        let (publisher, subscriber) = std::thread::scope(|scope| {
            let publisher = scope.spawn(|| start("publisher"));
            let subscriber = start("subscriber");
            let publisher = publisher.join().unwrap_or_else(|_panic| {
                Err(Error::Refused { what: "start the publisher".into(), why: "see the log".into() })
            });
            (publisher, subscriber)
        });
        let (publisher, subscriber) = (publisher?, subscriber?);
        Ok(Self { lock: None, feed: None, subscriber, publisher, dir: dir.to_owned(), conflict: false })
    }

    /// Makes tables, roles, publication and subscription, and starts the load.
    pub fn fill(&mut self, passwords: &Passwords) -> Result<()> {
        let Passwords { datapulse, replicator } = passwords;
        let both = format!("create database {DATABASE}; create role datapulse login password '{datapulse}';");
        // Without pg_monitor the slots are visible too, and the walsenders' lags are not.
        let roles = format!(
            "{both} grant pg_monitor to datapulse; create role replicator login replication password '{replicator}';"
        );
        self.publisher.sql("postgres", &roles)?;
        let tables = "grant select on orders to replicator; create publication orders_pub for table orders;";
        self.publisher.sql(DATABASE, &format!("{TABLE}{tables}"))?;
        let feed = Feed::start(&self.publisher, DATABASE, &self.dir, "orders", FEED, FEED_EVERY)?;
        self.feed = Some(feed);
        // The subscription needs no grant; this one shows the sessions of others.
        self.subscriber.sql("postgres", &format!("{both} grant pg_read_all_stats to datapulse;"))?;
        let subscription = format!(
            "create subscription orders_sub connection 'host=127.0.0.1 port={} user=replicator password={replicator} \
             dbname={DATABASE}' publication orders_pub;",
            self.publisher.port()
        );
        self.subscriber.sql(DATABASE, &format!("{TABLE}{subscription}")).map(drop)
    }

    /// The server that is written to.
    pub fn publisher(&self) -> &Cluster {
        &self.publisher
    }

    /// The server that follows.
    pub fn subscriber(&self) -> &Cluster {
        &self.subscriber
    }

    /// Disables the subscription.
    pub fn disable(&self) -> Result<()> {
        self.subscriber.sql(DATABASE, "alter subscription orders_sub disable").map(drop)
    }

    /// Stops the publisher; not cleanly, which would wait until a subscriber that is blocked has caught up.
    pub fn stop_publisher(&mut self) -> Result<()> {
        self.publisher.stop(Mode::Immediate)
    }

    /// Repairs everything, also what broke by itself. Goes on after an error, and gives the first.
    pub fn heal(&mut self) -> Result<()> {
        let publisher = self.publisher.start_again();
        let subscriber = self.subscriber.start_again();
        let lock = self.unlock();
        let text =
            format!("delete from orders where customer = '{INTRUDER}'; alter subscription orders_sub enable");
        let rest = self.subscriber.sql(DATABASE, &text).map(drop);
        self.conflict &= rest.is_err();
        publisher.and(subscriber).and(lock).and(rest)
    }

    /// A session that takes the lock and then does nothing, as in life.
    pub fn lock(&mut self) -> Result<()> {
        if self.lock.as_ref().is_some_and(Keeper::is_running) {
            return Ok(());
        }
        let script = self.dir.join("lock.sql");
        let text = "begin;\nlock table orders in access exclusive mode;\n\\! exec sleep 1000000\n";
        let what = format!("write {}", script.display());
        std::fs::write(&script, text).map_err(|source| Error::Io { what, source })?;
        let mut psql: Command = self.subscriber.psql(DATABASE, LOCK_SESSION);
        psql.arg("--file").arg(&script);
        let keeper = Keeper::start(&psql, LOCK_ENDING, &self.dir.join("lock.log"))?;
        self.lock = Some(keeper);
        let text = format!(
            "select count(*) from pg_locks join pg_stat_activity using (pid) where application_name = '{LOCK_SESSION}' \
             and relation = 'orders'::regclass and mode = 'AccessExclusiveLock' and granted"
        );
        let locked = wait_for(SOON, || Ok((self.subscriber.sql(DATABASE, &text)? == "1").then_some(())))?;
        locked.ok_or_else(|| Error::Refused {
            what: "lock table orders on the subscriber".into(),
            why: "another session holds it".into(),
        })
    }

    fn unlock(&mut self) -> Result<()> {
        if let Some(mut keeper) = self.lock.take() {
            keeper.stop();
        }
        // Also one that a stop has not ended, so that the table is free when we say so.
        let text = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = '{LOCK_SESSION}'"
        );
        self.subscriber.sql(DATABASE, &text)?;
        let free = wait_for(SOON, || Ok((self.subscriber.backends(LOCK_SESSION)? == 0).then_some(())))?;
        free.ok_or_else(|| Error::Refused {
            what: "end the session that holds the lock".into(),
            why: "it is still there".into(),
        })
    }

    /// Puts an order in the subscription's way.
    pub fn conflict(&mut self) -> Result<()> {
        if self.conflict {
            return Ok(());
        }
        let locked = self.lock.is_some();
        if locked {
            self.unlock()?; // else our own row waits behind it
        }
        let text = format!(
            "set lock_timeout = '5s'; insert into orders (id, customer, cents) \
             select coalesce(max(id), 0) + {AHEAD}, '{INTRUDER}', 0 from orders on conflict do nothing returning id"
        );
        // While a backlog is applied, the key can be taken between our look and our insert.
        let placed = wait_for(SOON, || {
            let id = self.subscriber.sql(DATABASE, &text)?;
            Ok((!id.is_empty()).then_some(()))
        })?;
        self.conflict = placed.is_some();
        if locked {
            self.lock()?;
        }
        placed.ok_or_else(|| Error::Refused {
            what: "place a conflicting order".into(),
            why: "all keys ahead were taken".into(),
        })
    }
}
