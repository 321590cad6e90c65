//! The situations that the metrics tell apart. Each finds `orders_sub` at work and leaves it so; the last one
//! needs a publisher whose slots may be lost.

use super::probe::{Probe, Seen};
use super::world::{BARE, BARE_TOO, BOSS, Holder, MONITOR, OF, World, of};
use crate::stage::{LIMIT, eventually, server};
use datapulse::check::{Endpoint, Reason};
use datapulse::checks::pg_replication::{self, PgReplication};
use datapulse::checks::pg_subscription::{Config, PgSubscription};
use datapulse::demo::parts::{Cluster, Mode};

/// A situation: its name in the table, and what is done and seen.
pub(crate) type Situation = (&'static str, fn(&mut World));

/// All of them, in the order in which they are played.
pub(crate) const ALL: [Situation; 18] = [
    ("healthy idle", healthy_idle),
    ("idle, timeouts 0", idle_without_timeouts),
    ("big transaction", big_transaction),
    ("parallel apply worker, NULL row", parallel_worker),
    ("blocked by a lock", blocked_by_a_lock),
    ("conflict loop", conflict_loop),
    ("disabled", disabled),
    ("publisher down", publisher_down),
    ("publisher hangs", publisher_hangs),
    ("subscriber down", subscriber_down),
    ("missing", missing),
    ("several subscriptions", several_subscriptions),
    ("slot gone", slot_gone),
    ("same name in two databases", same_name_in_two_databases),
    ("table copy", table_copy),
    ("roles", roles),
    ("subscriber restarted", subscriber_restarted),
    ("slot lost", slot_lost),
];

const WORKER: &str = "pg_subscription_worker_up";
const ENABLED: &str = "pg_subscription_enabled";
const LOCK_WAIT: &str = "pg_subscription_worker_lock_wait_seconds";
const LAG: &str = "pg_subscription_lag_bytes";
const RECEIPT: &str = "pg_stat_subscription_last_msg_receipt_age_seconds";
const LATEST: &str = "pg_stat_subscription_latest_end_age_seconds";
const APPLY_ERRORS: &str = "pg_stat_subscription_apply_errors_total";
const SLOT: &str = "pg_subscription_slot_exists";
/// What is read from the worker: absent without one.
const OF_WORKER: [&str; 7] = [
    LOCK_WAIT,
    "pg_stat_subscription_last_msg_send_age_seconds",
    RECEIPT,
    LATEST,
    "pg_stat_subscription_msg_transit_seconds",
    "pg_stat_subscription_received_lsn_bytes",
    "pg_stat_subscription_latest_end_lsn_bytes",
];

fn healthy_idle(world: &mut World) {
    World::set(&world.pair.publisher, "wal_sender_timeout", Some("2s"));
    let mut last = f64::MAX;
    let seen = world.well();
    world.probe.until("a keepalive makes the age of an idle link fall", |seen| {
        let age = of(seen, RECEIPT).unwrap();
        let fell = age < last && last < 30.0 && last > 0.3;
        last = age;
        fell
    });
    world.note(&seen, OF);
    let value = |family| of(&seen, family);
    assert_eq!(
        (value("pg_subscription_exists"), value(ENABLED), value(WORKER)),
        (Some(1.0), Some(1.0), Some(1.0))
    );
    assert_eq!(value("pg_subscription_worker_restarts_total"), Some(0.0));
    assert_eq!(value("pg_subscription_wal_receiver_timeout_seconds"), Some(60.0));
    assert_eq!(value(LOCK_WAIT), (world.major >= 14).then_some(0.0));
    for family in OF_WORKER.iter().skip(1) {
        assert!(value(family).is_some(), "{family}");
    }
    let since_15 = world.major >= 15;
    assert_eq!(value(APPLY_ERRORS), since_15.then_some(0.0));
    // A worker that copies a table may have met another one; it tries again.
    assert_eq!(value("pg_stat_subscription_sync_errors_total").is_some(), since_15);
    let conflicts = seen.rows("pg_stat_subscription_conflicts_total");
    assert_eq!(conflicts.len(), if world.major >= 18 { 7 } else { 0 });
    let disable = if world.major >= 15 { "false" } else { "" };
    assert_eq!(seen.value("pg_subscription_info", &[OF[0], OF[1], OF[1], disable]), Some(1.0));
    assert_eq!(seen.value(SLOT, &[OF[0], OF[1], OF[1]]), Some(1.0));
    let workers: Vec<_> =
        seen.rows("pg_stat_subscription_workers").iter().map(|(of, n)| (of[2], *n)).collect();
    let mut expected = vec![("apply", 1.0), ("parallel apply", 0.0), ("table synchronization", 0.0)];
    expected.retain(|(kind, _)| world.major >= 16 || *kind != "parallel apply");
    assert_eq!(workers, expected);
    let states: Vec<_> = seen.rows("pg_subscription_rel_tables").iter().map(|(of, n)| (of[2], *n)).collect();
    assert_eq!(states, [("d", 0.0), ("f", 0.0), ("i", 0.0), ("r", 2.0), ("s", 0.0)]);
    for end in ["subscriber", "publisher"] {
        assert_eq!(seen.value("pg_replication_is_replica", &[end]), Some(0.0));
        assert!(seen.value("datapulse_target_clock_offset_seconds", &[end]).unwrap().abs() < 1.0);
    }
    // What the server has is used, and nothing else; no version is named in the code.
    let columns = seen.learned.iter().find(|(_, words)| words.starts_with("pg_stat_subscription:")).unwrap();
    assert_eq!(columns.1.contains("leader_pid"), world.major >= 16);
}

fn idle_without_timeouts(world: &mut World) {
    World::set(&world.pair.publisher, "wal_sender_timeout", Some("0"));
    World::set(&world.pair.subscriber, "wal_receiver_timeout", Some("0"));
    // With a timeout of 2 s, as before, it never gets so old.
    let seen = world.probe.until("nothing makes an idle link speak", |seen| of(seen, RECEIPT).unwrap() > 2.2);
    world.note(&seen, OF);
    assert_eq!(of(&seen, "pg_subscription_wal_receiver_timeout_seconds"), Some(0.0));
    assert_eq!((of(&seen, WORKER), of(&seen, ENABLED)), (Some(1.0), Some(1.0)));
    World::set(&world.pair.publisher, "wal_sender_timeout", None);
    World::set(&world.pair.subscriber, "wal_receiver_timeout", Some("1500ms"));
    world.probe.until("a timeout below a second is read in seconds", |seen| {
        of(seen, "pg_subscription_wal_receiver_timeout_seconds") == Some(1.5)
    });
    World::set(&world.pair.subscriber, "wal_receiver_timeout", None);
    world.well();
}

fn big_transaction(world: &mut World) {
    world.publish("insert into big select n, repeat('x', 1000) from generate_series(1, 160) n");
    let seen = world.probe.until("the link speaks, and nothing is done to its end", |seen| {
        of(seen, LATEST).zip(of(seen, RECEIPT)).is_some_and(|(latest, receipt)| latest > receipt + 0.8)
            && of(seen, LAG).unwrap() > 0.0
    });
    world.note(&seen, OF);
    assert!(of(&seen, RECEIPT).unwrap() < 1.0, "{seen:?}");
    assert_eq!(of(&seen, LOCK_WAIT), (world.major >= 14).then_some(0.0));
    assert_eq!(of(&seen, WORKER), Some(1.0));
    arrive(&world.pair.subscriber, "big", 160);
    world.well();
}

fn parallel_worker(world: &mut World) {
    if world.major < 16 {
        return;
    }
    world.stream("parallel");
    let parallel =
        |seen: &Seen| seen.value("pg_stat_subscription_workers", &[OF[0], OF[1], "parallel apply"]);
    world.publish("insert into big select n, repeat('x', 1000) from generate_series(1001, 1120) n");
    let mut longest: f64 = 0.0;
    let World { probe, pair, .. } = &mut *world;
    std::thread::scope(|scope| {
        let applied = scope.spawn(|| arrive(&pair.subscriber, "big", 280));
        probe.until("a streamed transaction is applied", |seen| {
            longest = longest.max(of(seen, LOCK_WAIT).unwrap());
            applied.is_finished()
        });
    });
    // The leader waits for its parallel worker by a lock of its own kind. That is work, and no other session is to blame.
    assert!(longest < 0.5, "{longest}");
    let seen = world.well();
    let null = "select count(*) from pg_stat_subscription where leader_pid is not null and last_msg_receipt_time is null";
    assert_eq!(world.subscriber(null), "1", "the situation is not there");
    world.note(&seen, OF);
    assert_eq!(parallel(&seen), Some(1.0));
    assert!(OF_WORKER.iter().all(|family| of(&seen, family).is_some()), "{seen:?}");

    let lock = Holder::lock(&world.pair.subscriber, "big");
    world
        .pair
        .publisher
        .sql("one", "insert into big select n, repeat('x', 1000) from generate_series(2001, 2120) n")
        .unwrap();
    world.probe.until("a parallel worker's wait is its leader's", |seen| of(seen, LOCK_WAIT).unwrap() > 0.3);
    drop(lock);
    arrive(&world.pair.subscriber, "big", 400);
    world.stream("off");
}

fn blocked_by_a_lock(world: &mut World) {
    let lock = Holder::lock(&world.pair.subscriber, "t");
    world.pair.publisher.sql("one", "insert into t values (1)").unwrap();
    let seen = world.probe.until("the worker waits", |seen| {
        of(seen, LAG).unwrap() > 0.0
            && of(seen, RECEIPT).unwrap() > 0.7
            && of(seen, LOCK_WAIT).is_none_or(|wait| wait > 0.5)
    });
    let waits = "select count(*) from pg_locks where not granted and relation = 't'::regclass";
    assert_eq!(world.subscriber(waits), "1", "the situation is not there");
    drop(lock);
    world.note(&seen, OF);
    assert_eq!(of(&seen, LOCK_WAIT).is_some(), world.major >= 14);
    assert_eq!((of(&seen, WORKER), of(&seen, ENABLED)), (Some(1.0), Some(1.0)));
    arrive(&world.pair.subscriber, "t", 1);
    world.well();
}

fn conflict_loop(world: &mut World) {
    let before = world.well();
    world.subscriber("insert into t values (1000)");
    world.publish("insert into t values (1000)");
    let conflict = [OF[0], OF[1], "insert_exists"];
    let grown = |seen: &Seen, by: f64| {
        of(seen, APPLY_ERRORS).zip(of(&before, APPLY_ERRORS)).is_none_or(|(now, then)| now >= then + by)
    };
    let seen = world.probe.until("the worker fails again and again", |seen| {
        // Before 15 no error is counted: then the first look at a dead worker may come before the publisher's WAL does.
        grown(seen, 3.0) && of(seen, WORKER) == Some(0.0) && of(seen, LAG).is_some_and(|lag| lag > 0.0)
    });
    world.note(&seen, OF);
    assert_eq!(of(&seen, APPLY_ERRORS).is_some(), world.major >= 15);
    let conflicts = seen.value("pg_stat_subscription_conflicts_total", &conflict);
    assert!(if world.major >= 18 { conflicts.unwrap() >= 3.0 } else { conflicts.is_none() }, "{conflicts:?}");
    assert_eq!((of(&seen, ENABLED), seen.value(SLOT, &[OF[0], OF[1], OF[1]])), (Some(1.0), Some(1.0)));
    assert!(seen.failed.is_empty());
    without_worker(&seen);
    world.subscriber("delete from t where id = 1000");
    let after = world.well();
    assert!(of(&after, "pg_subscription_worker_restarts_total").unwrap() >= 1.0);
}

fn disabled(world: &mut World) {
    world.subscriber("alter subscription orders_sub disable");
    let seen = world.probe.until("the worker has gone", |seen| of(seen, WORKER) == Some(0.0));
    world.note(&seen, OF);
    assert_eq!((of(&seen, ENABLED), of(&seen, "pg_subscription_exists")), (Some(0.0), Some(1.0)));
    without_worker(&seen);
    world.publish("insert into t values (2000)");
    world.probe.until("the lag of a disabled subscription is seen", |seen| of(seen, LAG).unwrap() > 0.0);
    world.subscriber("alter subscription orders_sub enable");
    world.well();
}

fn publisher_down(world: &mut World) {
    world.pair.publisher.stop(Mode::Fast).unwrap();
    let first = world.probe.run();
    let reason = first.reason(Endpoint::Publisher).unwrap();
    assert!(matches!(reason, Reason::Connect | Reason::Shutdown | Reason::Io), "{reason:?}");
    let seen = world.probe.until("the worker has gone", |seen| of(seen, WORKER) == Some(0.0));
    world.note(&seen, OF);
    assert_eq!((seen.reason(Endpoint::Publisher), seen.failed.len()), (Some(Reason::Connect), 1));
    assert_eq!((of(&seen, ENABLED), of(&seen, "pg_subscription_exists")), (Some(1.0), Some(1.0)));
    without_worker(&seen);
    // What is read at the dead end is gone, what is read at the other one stays.
    assert!(seen.rows(LAG).is_empty() && seen.rows(SLOT).is_empty());
    assert_eq!(seen.rows("pg_replication_is_replica"), [(vec!["subscriber"], 0.0)]);
    world.pair.publisher.start_again().unwrap();
    assert!(world.probe.run().failed.is_empty(), "the next run finds the publisher again");
    world.well();
}

fn publisher_hangs(world: &mut World) {
    World::set(&world.pair.subscriber, "wal_receiver_timeout", Some("1s"));
    world.probe.until("the timeout is short", |seen| {
        of(seen, "pg_subscription_wal_receiver_timeout_seconds") == Some(1.0)
    });
    world.pair.publisher.freeze().unwrap();
    // Its other end would wait for the publisher as well.
    let (target, _) = World::ends(&world.pair, BARE_TOO);
    let mut probe = Probe::<PgSubscription>::new(Config::default(), target, None);
    let seen = probe.until("a new worker hangs in its connect", |seen| {
        of(seen, WORKER) == Some(1.0) && of(seen, RECEIPT).is_none()
    });
    world.pair.publisher.thaw().unwrap();
    drop(probe);
    world.note(&seen, OF);
    // It lives, but has not received a message: nothing is said of one.
    for family in OF_WORKER.iter().skip(1) {
        assert_eq!(of(&seen, family), None, "{family}");
    }
    assert_eq!(of(&seen, LOCK_WAIT), (world.major >= 14).then_some(0.0));
    World::set(&world.pair.subscriber, "wal_receiver_timeout", None);
    world.well();
}

fn subscriber_down(world: &mut World) {
    world.pair.subscriber.stop(Mode::Fast).unwrap();
    world.probe.run();
    let seen = world.probe.run();
    world.note(&seen, OF);
    assert_eq!((seen.reason(Endpoint::Subscriber), seen.failed.len()), (Some(Reason::Connect), 1));
    // The publisher's families stay: the slot goes on keeping WAL.
    let left = ["datapulse_target_clock_offset_seconds", "pg_replication_is_replica", LAG, SLOT];
    assert_eq!(seen.families(), left);
    world.pair.subscriber.start_again().unwrap();
    world.well();
}

fn missing(world: &mut World) {
    let seen = world.probe.run();
    let (there, gone) = (["one", "orders_sub"], ["one", "missing_sub"]);
    world.note(&seen, gone);
    assert_eq!(seen.value("pg_subscription_exists", &there), Some(1.0));
    assert_eq!(seen.value("pg_subscription_exists", &gone), Some(0.0));
    let of_it = seen
        .families()
        .into_iter()
        .filter(|family| seen.rows(family).iter().any(|(labels, _)| labels.contains(&"missing_sub")));
    assert_eq!(of_it.collect::<Vec<_>>(), ["pg_subscription_exists"]);
}

fn several_subscriptions(world: &mut World) {
    world.subscribe("one", "more_sub", "more", "more_slot");
    let more = ["one", "more_sub"];
    let seen = world.probe.until("both are at work", |seen| {
        seen.value(WORKER, &more) == Some(1.0)
            && seen.value("pg_subscription_rel_tables", &["one", "more_sub", "r"]) == Some(1.0)
    });
    assert_eq!(of(&seen, WORKER), Some(1.0));
    assert_eq!(seen.value(SLOT, &["one", "more_sub", "more_slot"]), Some(1.0));
    world.subscriber("alter subscription more_sub disable");
    let seen =
        world.probe.until("the other one's worker has gone", |seen| seen.value(WORKER, &more) == Some(0.0));
    world.note(&seen, OF);
    assert_eq!((of(&seen, WORKER), of(&seen, ENABLED)), (Some(1.0), Some(1.0)));
    assert_eq!(seen.value(ENABLED, &more), Some(0.0));
    // A check that names its subscriptions sees no other.
    let (target, publisher) = World::ends(&world.pair, BARE_TOO);
    let config = Config { subscriptions: vec!["more_sub".to_owned()], ..Config::default() };
    let only = Probe::<PgSubscription>::new(config, target, Some(publisher)).run();
    assert_eq!(only.rows("pg_subscription_exists"), [(vec!["one", "more_sub"], 1.0)]);
    assert_eq!(
        (only.rows(SLOT).len(), only.rows("pg_stat_subscription_workers").len()),
        (1, if world.major >= 16 { 3 } else { 2 })
    );
}

/// Takes over `more_sub`, disabled.
fn slot_gone(world: &mut World) {
    let more = ["one", "more_sub"];
    let drop_slot = "select pg_drop_replication_slot('more_slot') from pg_replication_slots where slot_name = 'more_slot' and not active;
        select count(*) from pg_replication_slots where slot_name = 'more_slot'";
    eventually("the slot is dropped", || {
        world.pair.publisher.sql("one", drop_slot).unwrap().ends_with('0').then_some(())
    });
    let seen = world.probe.run();
    world.note(&seen, more);
    assert_eq!(seen.value(SLOT, &["one", "more_sub", "more_slot"]), Some(0.0));
    assert_eq!((seen.value(LAG, &more), of(&seen, LAG).is_some()), (None, true));
    world.subscriber("alter subscription more_sub set (slot_name = none)");
    let seen = world.probe.run();
    assert!(
        seen.rows(SLOT).iter().all(|(labels, _)| labels[1] != "more_sub"),
        "without a slot's name there is nothing to look for"
    );
    world.subscriber("drop subscription more_sub");
    assert_eq!(world.probe.run().value("pg_subscription_exists", &more), None);
}

fn same_name_in_two_databases(world: &mut World) {
    world.subscribe("two", OF[1], "p", "orders_two");
    let two = ["two", "orders_sub"];
    let seen = world.probe.until("both are at work", |seen| seen.value(WORKER, &two) == Some(1.0));
    assert_eq!(of(&seen, WORKER), Some(1.0));
    world.pair.subscriber.sql("two", "alter subscription orders_sub disable").unwrap();
    let seen = world.probe.until("one worker has gone", |seen| seen.value(WORKER, &two) == Some(0.0));
    world.note(&seen, two);
    assert_eq!((of(&seen, WORKER), of(&seen, ENABLED)), (Some(1.0), Some(1.0)));
    assert_eq!((seen.value(ENABLED, &two), seen.value(RECEIPT, &two)), (Some(0.0), None));
    assert_eq!(seen.value("pg_stat_subscription_workers", &["two", "orders_sub", "apply"]), Some(0.0));
    // States of tables can be read in the connected database only.
    assert!(seen.rows("pg_subscription_rel_tables").iter().all(|(labels, _)| labels[0] == "one"));
    let slots = seen.rows(SLOT);
    assert_eq!(
        slots,
        [(vec!["one", "orders_sub", "orders_sub"], 1.0), (vec!["two", "orders_sub", "orders_two"], 1.0)]
    );
    world.pair.subscriber.sql("two", "drop subscription orders_sub").unwrap();
}

fn table_copy(world: &mut World) {
    let (target, publisher) = World::ends(&world.pair, BARE_TOO);
    drop(target);
    let mut slots = Probe::<PgReplication>::new(pg_replication::Config::default(), publisher, None);
    let gate = "create function gate() returns trigger language plpgsql as 'begin perform pg_advisory_lock_shared(42); return new; end'";
    world.subscriber(gate);
    for table in ["a", "b", "c"] {
        let closed = format!(
            "create trigger gate before insert on {table} for each row execute function gate(); alter table {table} enable always trigger gate"
        );
        world.subscriber(&closed);
        world.publish(&format!("insert into {table} values (1)"));
    }
    let holder = Holder::advisory(&world.pair.subscriber);
    world.subscribe("one", "abc_sub", "abc", "abc_slot");
    let abc = ["one", "abc_sub"];
    let state = |seen: &Seen, state| seen.value("pg_subscription_rel_tables", &["one", "abc_sub", state]);
    let seen = world.probe.until("a table is being copied", |seen| state(seen, "d") == Some(1.0));
    world.note(&seen, abc);
    assert_eq!((state(&seen, "i"), state(&seen, "r")), (Some(2.0), Some(0.0)));
    assert_eq!(
        seen.value("pg_stat_subscription_workers", &["one", "abc_sub", "table synchronization"]),
        Some(1.0)
    );
    assert_eq!(seen.value("pg_stat_subscription_workers", &["one", "abc_sub", "apply"]), Some(1.0));
    assert_eq!(seen.value(WORKER, &abc), Some(1.0));
    let seen = slots.until("the copy's slot is there", |seen| {
        seen.value("pg_replication_slots_transient", &[]) == Some(1.0)
    });
    let names: Vec<_> =
        seen.rows("pg_replication_slots_active").iter().map(|(labels, _)| labels[0]).collect();
    assert_eq!(names, ["abc_slot", "orders_sub"], "a slot of a copy has no series of its own");
    // Two subscriptions; the copy's sender does not count, under whatever name the version gives it.
    assert!(seen.notes[0].1.starts_with("2 rows of pg_stat_replication"), "{:?}", seen.notes);
    drop(holder);
    let seen = world.probe.until("all tables are ready", |seen| state(seen, "r") == Some(3.0));
    assert_eq!(state(&seen, "d"), Some(0.0));
    world.subscriber("drop subscription abc_sub");
}

/// Everything of `pg_subscription` is seen by a role without any grant: all other situations are. Here it is `pg_replication`.
fn roles(world: &mut World) {
    let end = |role| server(world.pair.publisher.port(), role, "one", &[]);
    let slot = ["orders_sub", "logical", "one"];
    let lag = "pg_stat_replication_flush_lag_seconds";
    let sender = ["orders_sub", "127.0.0.1"];
    let insert = |n: &mut i32| {
        *n += 1;
        world.pair.publisher.sql("one", &format!("insert into t values ({n})")).unwrap();
    };
    let mut n = 100_000;

    // subconninfo holds a password: who sees all the rest without being allowed to read it does not read it.
    let denied =
        format!("select not has_column_privilege('{BARE}', 'pg_subscription', 'subconninfo', 'select')");
    assert_eq!(world.subscriber(&denied), "t");
    let (target, publisher) = World::ends(&world.pair, BOSS);
    let boss = Probe::<PgSubscription>::new(Config::default(), target, Some(publisher)).run();
    let bare = world.probe.run();
    assert_eq!(boss.families(), bare.families(), "a superuser sees no more");
    assert_eq!(of(&boss, WORKER), of(&bare, WORKER));

    let mut bare = Probe::<PgReplication>::new(pg_replication::Config::default(), end(BARE_TOO), None);
    let mut monitor = Probe::<PgReplication>::new(pg_replication::Config::default(), end(MONITOR), None);
    let seen = monitor.until("pg_monitor sees lags", |seen| {
        insert(&mut n);
        seen.value(lag, &sender).is_some()
    });
    assert!(seen.notes.is_empty() && seen.failed.is_empty(), "{seen:?}");
    let all = |seen: &Seen| {
        assert_eq!(seen.value("pg_replication_slots_active", &slot), Some(1.0));
        assert!(seen.value("pg_replication_slots_retained_bytes", &slot).unwrap() > 0.0);
        assert!(seen.value("pg_replication_slots_confirmed_flush_lag_bytes", &slot).unwrap() >= 0.0);
        assert_eq!(seen.value("pg_replication_slots_safe_wal_size_bytes", &slot), None, "no limit is set");
        assert_eq!(
            seen.value("pg_replication_slots_inactive_since_timestamp_seconds", &slot),
            None,
            "it is active"
        );
        assert_eq!(seen.value("pg_replication_slots_transient", &[]), Some(0.0));
        let status =
            |status| seen.value("pg_replication_slots_wal_status", &[slot[0], slot[1], slot[2], status]);
        assert_eq!(
            ["reserved", "extended", "unreserved", "lost"].map(status),
            [Some(1.0), Some(0.0), Some(0.0), Some(0.0)]
        );
        let since_17 = (world.major >= 17).then_some(0.0);
        assert_eq!(seen.value("pg_replication_slots_synced", &slot), since_17);
        assert_eq!(seen.value("pg_replication_slots_failover", &slot), since_17);
        let reasons = seen.rows("pg_replication_slots_invalidated");
        assert_eq!(
            reasons.len(),
            match world.major {
                13..=15 => 0,
                16 => 1,
                17 => 3,
                _ => 4,
            }
        );
        assert!(reasons.iter().all(|(_, value)| *value == 0.0));
    };
    all(&seen);
    let seen = bare.run();
    all(&seen);
    assert_eq!(seen.rows(lag), []);
    let [(Reason::Permission, words)] = seen.notes.as_slice() else { panic!("{:?}", seen.notes) };
    assert!(words.contains("1 rows of pg_stat_replication") && words.contains("grant pg_monitor"), "{words}");

    world.publish("select pg_create_physical_replication_slot('idle')");
    World::set(&world.pair.publisher, "max_slot_wal_keep_size", Some("64MB"));
    let idle = ["idle", "physical", ""];
    let seen = bare.until("the limit is in force", |seen| {
        seen.value("pg_replication_slots_safe_wal_size_bytes", &slot).is_some()
    });
    assert_eq!(seen.value("pg_replication_slots_active", &idle), Some(0.0));
    assert_eq!(seen.value("pg_replication_slots_retained_bytes", &idle), None, "it has reserved nothing");
    assert_eq!(
        seen.value("pg_replication_slots_confirmed_flush_lag_bytes", &idle),
        None,
        "it confirms nothing"
    );
    let since = seen.value("pg_replication_slots_inactive_since_timestamp_seconds", &idle);
    assert_eq!(since.is_some_and(|since| since > 1.7e9), world.major >= 17);
    World::set(&world.pair.publisher, "max_slot_wal_keep_size", None);
    world.publish("select pg_drop_replication_slot('idle')");
}

fn subscriber_restarted(world: &mut World) {
    let before = of(&world.well(), "pg_subscription_worker_restarts_total").unwrap();
    world.pair.subscriber.restart(Mode::Fast).unwrap();
    let first = world.probe.run();
    if let Some(reason) = first.reason(Endpoint::Subscriber) {
        assert!(matches!(reason, Reason::Shutdown | Reason::Io | Reason::Starting), "{first:?}");
    }
    let second = world.probe.run();
    assert!(second.failed.is_empty(), "{second:?}");
    let seen = world.well();
    world.note(&seen, OF);
    assert!(of(&seen, "pg_subscription_worker_restarts_total").unwrap() > before);
}

fn slot_lost(world: &mut World) {
    world.subscriber("drop subscription orders_sub");
    assert!(
        world
            .probe
            .until("no subscription is left", |seen| seen.rows(WORKER).is_empty())
            .rows(SLOT)
            .is_empty()
    );
    let mut slots = Probe::<PgReplication>::new(
        pg_replication::Config::default(),
        server(world.pair.publisher.port(), BARE_TOO, "one", &[]),
        None,
    );
    world.publish("select pg_create_logical_replication_slot('idle', 'pgoutput')");
    World::set(&world.pair.publisher, "max_slot_wal_keep_size", Some("1MB"));
    let idle = ["idle", "logical", "one"];
    let status = |seen: &Seen, word| {
        seen.value("pg_replication_slots_wal_status", &[idle[0], idle[1], idle[2], word]) == Some(1.0)
    };
    assert!(status(&slots.run(), "reserved"));
    for n in 0..4 {
        world.publish(&format!("insert into t values (300{n}); select pg_switch_wal()"));
    }
    let seen = slots.run();
    assert!(seen.value("pg_replication_slots_retained_bytes", &idle).unwrap() > 3e6, "{seen:?}");
    assert!(
        seen.value("pg_replication_slots_safe_wal_size_bytes", &idle).is_some_and(|size| size < 0.0),
        "{seen:?}"
    );
    assert!(status(&seen, "unreserved"), "{seen:?}");
    world.publish("checkpoint");
    let seen = slots.until("the slot is lost", |seen| status(seen, "lost"));
    assert_eq!(seen.value("pg_replication_slots_active", &idle), Some(0.0));
    assert_eq!(seen.value("pg_replication_slots_retained_bytes", &idle), None, "it keeps nothing any more");
    let removed = seen.value("pg_replication_slots_invalidated", &[idle[0], idle[1], idle[2], "wal_removed"]);
    assert_eq!(removed, (world.major >= 17).then_some(1.0));
}

/// Without a worker nothing is said of it; least of all 0.
fn without_worker(seen: &Seen) {
    for family in OF_WORKER {
        assert_eq!(of(seen, family), None, "{family}");
    }
}

impl World {
    /// Sets how `orders_sub` takes big transactions, and waits for the worker that does so.
    fn stream(&mut self, how: &str) {
        let restarts = |seen: &Seen| of(seen, "pg_subscription_worker_restarts_total").unwrap();
        let before = restarts(&self.well());
        self.subscriber(&format!("alter subscription orders_sub set (streaming = {how})"));
        self.probe
            .until("the worker that knows its subscription as it is now", |seen| restarts(seen) > before);
        self.well();
    }
}

/// Waits until a table of the subscriber has so many rows.
fn arrive(subscriber: &Cluster, table: &str, rows: u32) {
    let limit = LIMIT.as_secs();
    let wait = format!(
        "set statement_timeout = '{limit}s'; do $$ begin while (select count(*) from {table}) <> {rows} loop perform pg_sleep(0.03); end loop; end $$"
    );
    subscriber.sql("one", &wait).unwrap();
}
