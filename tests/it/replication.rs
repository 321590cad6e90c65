//! Logical replication on real pairs of clusters: every situation on every version, told apart by the metrics alone.

mod probe;
mod readers;
mod situations;
mod table;
mod world;

use situations::ALL;
use world::World;

#[test]
fn situations_on_13() {
    situations_on(13);
}

#[test]
fn situations_on_14() {
    situations_on(14);
}

#[test]
fn situations_on_15() {
    situations_on(15);
}

#[test]
fn situations_on_16() {
    situations_on(16);
}

#[test]
fn situations_on_17() {
    situations_on(17);
}

#[test]
fn situations_on_18() {
    situations_on(18);
}

fn situations_on(major: u32) {
    let mut world = timed(major, "start", || World::start(major));
    for (place, (name, play)) in ALL.iter().enumerate() {
        world.situation = (place, name);
        timed(major, name, || play(&mut world));
    }
    timed(major, "one session at each end", || world.assert_one_session());
    table::publish(major);
}

fn timed<T>(major: u32, what: &str, work: impl FnOnce() -> T) -> T {
    let start = std::time::Instant::now();
    let done = work();
    println!("{major}: {what}: {:.1} s", start.elapsed().as_secs_f64());
    done
}
