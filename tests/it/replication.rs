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
    let start = std::time::Instant::now();
    let mut world = World::start(major);
    println!("{major}: start: {:.1} s", start.elapsed().as_secs_f64());
    for (place, (name, play)) in ALL.iter().enumerate() {
        let start = std::time::Instant::now();
        play(&mut world, &mut |world, seen| world.note(place, name, seen));
        println!("{major}: {name}: {:.1} s", start.elapsed().as_secs_f64());
    }
    let start = std::time::Instant::now();
    world.assert_one_session();
    println!("{major}: one session at each end: {:.1} s", start.elapsed().as_secs_f64());
    table::publish(major);
}
