//! A reader where the writer is wanted, and a failover: what an end is, is asked at every run.

use super::probe::Probe;
use super::world::{self, BARE, BARE_TOO, MONITOR, OF, of};
use crate::stage::{Pair, USUAL, server};
use datapulse::check::{Endpoint, Reason};
use datapulse::checks::pg_replication::{self, PgReplication};
use datapulse::checks::pg_subscription::{Config, PgSubscription};
use datapulse::config::target::{Role, Server};
use datapulse::demo::parts::Mode;
use datapulse::task::{Task, spawn};
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

const LAG: &str = "pg_subscription_lag_bytes";
const REPLICA: &str = "pg_replication_is_replica";
const SLOT: &str = "pg_subscription_slot_exists";

/// A port that leads to one server and then to another, as the name of a cluster does at a failover.
struct Way {
    port: u16,
    to: watch::Sender<u16>,
    _task: Task<()>,
    _runtime: Runtime,
}

impl Way {
    fn to(port: u16) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let here = listener.local_addr().unwrap().port();
        let (to, target) = watch::channel(port);
        let task = runtime.block_on(async { spawn(lead(listener, target)) });
        Self { port: here, to, _task: task, _runtime: runtime }
    }

    /// Leads elsewhere from now on; open connections are cut.
    fn turn(&self, port: u16) {
        self.to.send_replace(port);
    }
}

async fn lead(listener: TcpListener, mut target: watch::Receiver<u16>) {
    let mut open = Vec::new();
    loop {
        tokio::select! {
            changed = target.changed() => {
                if changed.is_err() {
                    return;
                }
                open.clear();
            }
            accepted = listener.accept() => {
                let (mut near, _) = accepted.unwrap();
                let port = *target.borrow();
                open.push(spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await?;
                    copy_bidirectional(&mut near, &mut far).await
                }));
            }
        }
    }
}

fn subscription(role: Role, target: Arc<Server>, publisher: Option<Arc<Server>>) -> Probe<PgSubscription> {
    Probe::new(Config { role, ..Config::default() }, target, publisher)
}

#[test]
fn a_reader_instead_of_the_writer_and_a_failover_of_the_publisher() {
    let mut pair = Pair::start(USUAL, "readers");
    world::prepare(&pair);
    world::subscribe(&pair, "one", OF[1], "p", OF[1]);
    let dir = pair.stage.path().to_owned();
    let reader = pair.subscriber.standby(&dir.join("reader"), "reader").unwrap();
    let heir = pair.publisher.standby(&dir.join("heir"), "heir").unwrap();
    // A copy of the files holds the slots too; a base backup does not, and a standby of 15 cannot have the publisher's.
    heir.sql("postgres", "select pg_drop_replication_slot(slot_name) from pg_replication_slots").unwrap();
    let way = Way::to(pair.publisher.port());
    let subscriber = |role: &str| server(pair.subscriber.port(), role, "one", &[]);
    let publisher = |role: &str, extra: &[(&str, &str)]| server(way.port, role, "one", extra);

    subscriber_on_a_reader(&server(reader.port(), BARE, "one", &[]), publisher(BARE, &[]));

    let mut strict = subscription(Role::Any, subscriber(BARE), Some(publisher(BARE, &[("role", "writer")])));
    let mut open = subscription(Role::Any, subscriber(BARE_TOO), Some(publisher(BARE_TOO, &[])));
    for probe in [&mut strict, &mut open] {
        let seen = probe.until("the writer publishes", |seen| {
            of(seen, LAG).is_some() && of(seen, "pg_subscription_worker_up") == Some(1.0)
        });
        assert_eq!(seen.rows(REPLICA), [(vec!["publisher"], 0.0), (vec!["subscriber"], 0.0)]);
    }

    way.turn(heir.port());
    let seen = strict.until("the end is refused as a reader", |seen| {
        seen.reason(Endpoint::Publisher) == Some(Reason::WrongRole)
    });
    assert_eq!(
        (seen.rows(LAG), seen.rows(SLOT), seen.rows(REPLICA)),
        (vec![], vec![], vec![(vec!["subscriber"], 0.0)])
    );
    assert_eq!(of(&seen, "pg_subscription_worker_up"), Some(1.0), "the other end is not touched");
    let seen = open.until("the end answers as a reader", |seen| seen.failed.is_empty());
    assert_eq!(
        (seen.rows(LAG), seen.rows(SLOT)),
        (vec![], vec![]),
        "a reader says nothing of lags and slots"
    );
    assert_eq!(seen.value(REPLICA, &["publisher"]), Some(1.0));
    slots_on_a_reader(&server(heir.port(), MONITOR, "one", &[]));

    pair.publisher.stop(Mode::Immediate).unwrap();
    heir.promote().unwrap();
    for probe in [&mut strict, &mut open] {
        let seen = probe.until("the new writer answers", |seen| {
            seen.failed.is_empty() && seen.value(REPLICA, &["publisher"]) == Some(0.0)
        });
        assert_eq!(seen.rows(SLOT), [(vec![OF[0], OF[1], OF[1]], 0.0)], "the slot was not taken along");
        assert_eq!(seen.rows(LAG), [], "no value of the old writer is left");
    }
}

fn subscriber_on_a_reader(target: &Arc<Server>, publisher: Arc<Server>) {
    let seen = subscription(Role::Any, Arc::clone(target), Some(publisher))
        .until("the reader has the subscription", |seen| of(seen, "pg_subscription_exists") == Some(1.0));
    assert_eq!(seen.rows(REPLICA), [(vec!["publisher"], 0.0), (vec!["subscriber"], 1.0)]);
    let told = [
        "datapulse_target_clock_offset_seconds",
        REPLICA,
        "pg_subscription_enabled",
        "pg_subscription_exists",
        "pg_subscription_info",
        LAG,
        "pg_subscription_rel_tables",
        SLOT,
        "pg_subscription_wal_receiver_timeout_seconds",
    ];
    assert_eq!(seen.families(), told, "no worker runs on a reader, so nothing is said of one");

    let mut refused = subscription(Role::Writer, Arc::clone(target), None);
    let seen = refused.run();
    assert_eq!((seen.reason(Endpoint::Subscriber), seen.families()), (Some(Reason::WrongRole), vec![]));
    assert!(seen.failed[&Endpoint::Subscriber].1.contains("is in recovery"), "{seen:?}");
}

fn slots_on_a_reader(target: &Arc<Server>) {
    let config = |role| pg_replication::Config { role };
    let mut refused = Probe::<PgReplication>::new(config(Role::Writer), Arc::clone(target), None);
    let seen = refused.run();
    assert_eq!((seen.reason(Endpoint::Publisher), seen.families()), (Some(Reason::WrongRole), vec![]));
    drop(refused);
    let seen = Probe::<PgReplication>::new(config(Role::Any), Arc::clone(target), None).run();
    assert_eq!(seen.rows(REPLICA), [(vec!["publisher"], 1.0)]);
    let lags = ["pg_replication_slots_retained_bytes", "pg_replication_slots_confirmed_flush_lag_bytes"];
    assert!(lags.iter().all(|family| seen.rows(family).is_empty()) && seen.failed.is_empty(), "{seen:?}");
}
