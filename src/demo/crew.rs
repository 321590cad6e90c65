//! One thread that owns every server of the demo: it builds them, takes orders, and takes them down at the end.

use super::diary::{Diary, Kind};
use super::parts::{
    Alertmanager, Binaries, Error, Prometheus, Result, Stage, find_postgres, free_port, random_word, sweep,
};
use super::replication::{Passwords, Replication};
use super::shop::Shop;
use super::store::Stores;
use super::world::World;
use super::{Fault, configuration, rules};
use crate::task;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Orders that may wait; the next one is refused.
const ORDERS_WAITING: usize = 4;

/// What the crew is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Break this.
    Break(Fault),
    /// Repair everything.
    Heal,
}

/// An order with the way back: in words what was done, or why not. `None` ends the work.
type Letter = Option<(Order, oneshot::Sender<std::result::Result<String, String>>)>;

/// How things stand.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// What is broken on request, and since when.
    pub faults: Vec<(Fault, Timestamp)>,
    /// Prometheus.
    pub prometheus: Monitor,
    /// Whether the shop on MariaDB is open, or why not; `None` before that is known.
    pub shop: Option<std::result::Result<(), String>>,
}

/// How Prometheus stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Monitor {
    /// Not asked for yet, or on its way.
    #[default]
    Starting,
    /// It answers on this port of 127.0.0.1.
    Up(u16),
    /// It could not be started; why, and the cure.
    Absent(String),
}

/// What has been built, for people.
#[derive(Clone, Debug)]
pub struct Built {
    /// Version of both servers.
    pub version: String,
    /// Port of the publisher on 127.0.0.1.
    pub publisher: u16,
    /// Port of the subscriber on 127.0.0.1.
    pub subscriber: u16,
    /// Port at which Prometheus is going to be on 127.0.0.1.
    pub prometheus: u16,
    /// Port of the Slack page on 127.0.0.1.
    pub slack: u16,
    /// Port of the Redis that is asked, on 127.0.0.1; `None` where Redis is not installed.
    pub cache: Option<u16>,
    /// Directory of everything; it holds `datapulse.yml` and `pgpass`.
    pub dir: PathBuf,
}

impl Built {
    /// The exporter's configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("datapulse.yml")
    }
}

/// The thread's outer side.
#[derive(Debug)]
pub struct Crew {
    orders: SyncSender<Letter>,
    standing: Arc<ArcSwap<Standing>>,
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

/// What the crew has to know.
pub struct Brief {
    /// Where demos live.
    pub base: PathBuf,
    /// Where the exporter is going to listen.
    pub exporter: SocketAddr,
    /// The port of the demo's Slack, and the token of the bot there.
    pub slack: (u16, String),
    /// Takes down what happens.
    pub diary: Arc<Diary>,
    /// Hears what the start is busy with.
    pub say: Box<dyn Fn(&str) + Send>,
}

impl Crew {
    /// Starts to build. The receiver hears when both servers run, or why not; Prometheus follows after that.
    pub fn start(brief: Brief) -> std::io::Result<(Self, oneshot::Receiver<Result<Built>>)> {
        let (orders, inbox) = sync_channel(ORDERS_WAITING);
        let (tell, built) = oneshot::channel();
        let (over, ended) = oneshot::channel();
        let (standing, stop) = (Arc::<ArcSwap<Standing>>::default(), CancellationToken::new());
        let (shown, stopped) = (Arc::clone(&standing), stop.clone());
        task::thread("demo", move || {
            work(&brief, tell, &inbox, &shown, &stopped);
            drop(over);
        })?;
        Ok((Self { orders, standing, stop, ended }, built))
    }

    /// How things stand.
    pub fn standing(&self) -> Arc<ArcSwap<Standing>> {
        Arc::clone(&self.standing)
    }

    /// Takes orders.
    pub fn desk(&self) -> Desk {
        Desk(self.orders.clone())
    }

    /// Takes everything down, after the orders that wait.
    pub async fn end(self) {
        self.stop.cancel();
        // Errors mean that the thread is gone: just what is waited for.
        drop(task::blocking(move || self.orders.send(None)).await);
        drop(self.ended.await);
    }
}

/// Where orders are given.
#[derive(Clone, Debug)]
pub struct Desk(SyncSender<Letter>);

impl Desk {
    /// Has an order carried out; in words what was done, or why not.
    pub async fn give(&self, order: Order) -> std::result::Result<String, String> {
        let (answer, result) = oneshot::channel();
        self.0
            .try_send(Some((order, answer)))
            .map_err(|_full| "the demo is busy; try again in a moment".to_owned())?;
        result.await.map_err(|_gone| "the demo is ending".to_owned())?
    }
}

fn work(
    brief: &Brief,
    tell: oneshot::Sender<Result<Built>>,
    inbox: &Receiver<Letter>,
    standing: &ArcSwap<Standing>,
    stop: &CancellationToken,
) {
    // Dropped from the last to the first: Prometheus, servers, directory.
    let (stage, mut world, built) = match build(brief, stop) {
        Ok(all) => all,
        // Who asked may be gone: then nobody wants to know.
        Err(error) => return drop(tell.send(Err(error))),
    };
    let monitored = built.clone();
    drop(tell.send(Ok(built)));
    let prometheus = if stop.is_cancelled() { None } else { monitor(brief, &monitored, standing) };
    if !stop.is_cancelled() {
        world.open(shop(brief, &monitored.dir, standing));
    }
    while let Ok(Some((order, answer))) = inbox.recv() {
        // Who asked may be gone; the diary has it.
        drop(answer.send(carry_out(order, &mut world, standing, &brief.diary)));
    }
    drop(prometheus);
    drop(world);
    drop(stage);
}

fn build(brief: &Brief, stop: &CancellationToken) -> Result<(Stage, World, Built)> {
    let go_on = |what: &str| {
        if stop.is_cancelled() {
            return Err(Error::Refused { what: "start the demo".to_owned(), why: "told to stop".to_owned() });
        }
        (brief.say)(what);
        Ok(())
    };
    match sweep(&brief.base)? {
        0 => {}
        1 => (brief.say)("removed what a demo that died had left"),
        count => (brief.say)(&format!("removed what {count} demos that died had left")),
    }
    let binaries = newest_postgres()?;
    let stage = Stage::new(&brief.base, "demo")?;
    let dir = stage.path();
    go_on(&format!("making two PostgreSQL {} servers in {}", binaries.version, dir.display()))?;
    let mut replication = Replication::start(&binaries, dir)?;
    go_on("making table orders, publication orders_pub, subscription orders_sub, and five orders a second")?;
    let passwords = Passwords { datapulse: random_word()?, replicator: random_word()? };
    replication.fill(&passwords)?;
    let (publisher, subscriber) = (replication.publisher().port(), replication.subscriber().port());
    keep(&dir.join("password"), &passwords.datapulse)?;
    let ports = [(publisher, replication.publisher()), (subscriber, replication.subscriber())];
    let lines = ports.map(|(port, cluster)| {
        format!(
            "127.0.0.1:{port}:*:postgres:{}\n127.0.0.1:{port}:*:datapulse:{}\n",
            cluster.password(),
            passwords.datapulse
        )
    });
    keep(&dir.join("pgpass"), &lines.concat())?;
    go_on(
        "making databases lake, where devices connect, and warehouse, which plays Redshift, and a Redis with a replica",
    )?;
    let stores = match Stores::start(dir, &passwords.datapulse) {
        Err(missing @ Error::Missing { .. }) => {
            (brief.say)(&format!("the demo goes on without a cache: {missing}"));
            None
        }
        stores => Some(stores?),
    };
    let cache = stores.as_ref().map(Stores::port);
    let world = World::around(replication, stores, dir)?;
    keep(&dir.join("slack-token"), &brief.slack.1)?;
    let (prometheus, slack) = (free_port()?, brief.slack.0);
    let built = Built {
        version: binaries.version,
        publisher,
        subscriber,
        prometheus,
        slack,
        cache,
        dir: dir.to_owned(),
    };
    write(&built.config(), &configuration::text(&built))?;
    go_on("starting datapulse, Prometheus and Alertmanager")?;
    Ok((stage, world, built))
}

/// The newest version, also among those that `make setup` puts beside the build.
fn newest_postgres() -> Result<Binaries> {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.parent().and_then(Path::parent).unwrap_or(Path::new("target"));
    find_postgres(None, &[&target.join("postgres")])
}

/// Prometheus, and Alertmanager behind it.
fn monitor(
    brief: &Brief,
    built: &Built,
    standing: &ArcSwap<Standing>,
) -> Option<(Prometheus, Option<Alertmanager>)> {
    let dir = built.dir.as_path();
    let alertmanager = Alertmanager::start(dir, &rules::alertmanager(brief.exporter, built.slack), &[]);
    let alertmanager = match alertmanager {
        Ok(alertmanager) => Some(alertmanager),
        Err(error) => {
            (brief.say)(&format!("without Alertmanager nothing gets to Slack: {error}"));
            None
        }
    };
    let port = alertmanager.as_ref().map(Alertmanager::port);
    let started = rules::BUNDLED
        .iter()
        .try_for_each(|(name, text, parts)| write(&dir.join(name), &rules::shortened(text, *parts)))
        .and_then(|()| {
            let arguments = ["--storage.tsdb.retention.time=6h"];
            Prometheus::start_at(built.prometheus, dir, &rules::prometheus(brief.exporter, port), &arguments)
        });
    let (monitor, prometheus) = match started {
        Ok(prometheus) => {
            (brief.say)(&format!("Prometheus judges at {}/alerts", prometheus.url()));
            (Monitor::Up(prometheus.port()), Some(prometheus))
        }
        Err(error) => {
            (brief.say)(&format!("without Prometheus there are no alerts: {error}"));
            (Monitor::Absent(error.to_string()), None)
        }
    };
    standing.rcu(|old| Standing { prometheus: monitor.clone(), ..Standing::clone(old) });
    prometheus.map(|prometheus| (prometheus, alertmanager))
}

/// After all else: the first values must not wait for a third server.
fn shop(brief: &Brief, dir: &Path, standing: &ArcSwap<Standing>) -> std::result::Result<Shop, String> {
    let opened = Shop::start(dir, brief.exporter.port()).map_err(|error| error.to_string());
    let said = match &opened {
        Ok(_) => "a shop on MariaDB; its slow query log comes in through POST /logs/cloudwatch".to_owned(),
        Err(why) => format!("without MariaDB there are no slow queries: {why}"),
    };
    (brief.say)(&said);
    let shop = Some(opened.as_ref().map(|_| ()).map_err(Clone::clone));
    standing.rcu(|old| Standing { shop: shop.clone(), ..Standing::clone(old) });
    opened
}

fn carry_out(
    order: Order,
    world: &mut World,
    standing: &ArcSwap<Standing>,
    diary: &Diary,
) -> std::result::Result<String, String> {
    let at = Timestamp::now();
    let faults = &standing.load().faults;
    let (kind, text, faults, done) = match order {
        Order::Break(fault) if faults.iter().any(|(on, _)| *on == fault) => {
            return Ok(format!("{} is on already", fault.word()));
        }
        Order::Break(fault) => {
            let faults = faults.iter().copied().chain([(fault, at)]).collect();
            (Kind::Broken, format!("{}: {}", fault.word(), fault.deed()), faults, world.cause(fault))
        }
        Order::Heal => {
            let words: Vec<_> = faults.iter().map(|(fault, _)| fault.word()).collect();
            let what = if words.is_empty() { "nothing was broken".to_owned() } else { words.join(", ") };
            (Kind::Healed, what, Vec::new(), world.heal())
        }
    };
    match done {
        Ok(()) => {
            standing.rcu(|old| Standing { faults: faults.clone(), ..Standing::clone(old) });
            diary.note(at, kind, text.clone());
            Ok(text)
        }
        Err(error) => {
            diary.note(at, Kind::Failed, error.to_string());
            Err(error.to_string())
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let what = || format!("write {}", path.display());
    fs::write(path, text).map_err(|source| Error::Io { what: what(), source })
}

/// Writes what only we may read.
fn keep(path: &Path, secret: &str) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(secret.as_bytes()));
    written.map_err(|source| Error::Io { what: format!("write {}", path.display()), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_during_the_start_leaves_nothing() {
        let base = Stage::new(&std::env::temp_dir(), "datapulse-crew").unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let brief = Brief {
            base: base.path().to_owned(),
            exporter: ([127, 0, 0, 1], 1).into(),
            slack: (1, String::new()),
            diary: Arc::new(Diary::new(|_| {})),
            say: Box::new(|_| {}),
        };
        assert!(build(&brief, &stop).unwrap_err().to_string().contains("told to stop"));
        let left: Vec<_> =
            fs::read_dir(base.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["owner"]);
    }
}
