use super::super::slack::Posted;
use super::super::tests::alert;
use super::super::{Notice, Severity};
use super::*;
use crate::journal::Journal;
use crate::journal::disk::Disk;
use crate::journal::simulated::{Fault, Loss, SimulatedDisk};
use std::path::Path;
use std::sync::Arc;

const CHANNEL: &str = "C0";
const SILENCE: SignedDuration = SignedDuration::from_hours(3);

fn at(second: i64) -> Timestamp {
    let start: Timestamp = "2026-11-20T10:00:05Z".parse().unwrap();
    start + SignedDuration::from_secs(second)
}

fn firing(fingerprint: &str, severity: &str) -> Alert {
    alert(fingerprint, &[("alertname", "A"), ("check", "orders"), ("severity", severity)])
}

fn ended(alert: &Alert, second: i64) -> Alert {
    Alert { ends_at: Some(at(second)), ..alert.clone() }
}

fn again(alert: &Alert, second: i64) -> Alert {
    Alert { starts_at: at(second), ends_at: None, ..alert.clone() }
}

fn notice(key: &str, alerts: &[Alert]) -> Notice {
    Notice { source: Source::Alertmanager, key: key.into(), alerts: alerts.to_vec(), complete: true }
}

fn hear(desk: &mut Desk, key: &str, alerts: &[Alert], second: i64) -> Vec<Record> {
    let mut records = desk.hear(&notice(key, alerts), |_| CHANNEL.into(), at(second)).unwrap();
    records.extend(desk.look(at(second), SILENCE, &|_| Light::Up));
    records
}

/// Does what is to be done, as long as there is something; gives the deeds. Posts get names `ts-<id>`.
fn work(desk: &mut Desk, second: i64) -> Vec<String> {
    let mut deeds = Vec::new();
    while let (Some(deed), _) = desk.next(CHANNEL, at(second)) {
        let id = deed.id().to_owned();
        let (_, hash) = desk.message(&id).unwrap();
        match deed {
            Deed::Post { .. } => {
                desk.posting(&id, at(second));
                desk.posted(&id, Posted { channel: CHANNEL.into(), ts: format!("ts-{id}") }, hash);
                deeds.push("post".to_owned());
            }
            Deed::Rise { .. } => {
                desk.raised(&id);
                deeds.push("rise".to_owned());
            }
            Deed::Update { .. } => {
                desk.updated(&id, hash);
                deeds.push("update".to_owned());
            }
        }
        assert!(deeds.len() < 100, "the desk never rests");
    }
    deeds
}

#[test]
fn an_incident_is_posted_once_updated_as_it_changes_and_resolved_in_place() {
    let mut desk = Desk::default();
    let (a, b) = (firing("a", "warning"), firing("b", "warning"));
    hear(&mut desk, "g", std::slice::from_ref(&a), 0);
    assert_eq!(work(&mut desk, 0), ["post"]);
    for second in 1..50 {
        assert_eq!(hear(&mut desk, "g", std::slice::from_ref(&a), second), [], "a repeat says nothing new");
        assert_eq!(work(&mut desk, second), [""; 0]);
    }
    hear(&mut desk, "g", &[a.clone(), b.clone()], 60);
    assert_eq!(work(&mut desk, 60), ["update"]);
    hear(&mut desk, "g", &[a.clone(), ended(&b, 70)], 70);
    assert_eq!(work(&mut desk, 70), ["update"]);
    hear(&mut desk, "g", &[ended(&a, 80), ended(&b, 70)], 80);
    assert_eq!(work(&mut desk, 80), ["update"]);
    let incident = desk.incidents().next().unwrap();
    assert_eq!((incident.phase.clone(), incident.most), (Phase::Resolved { at: at(80) }, 2));
    hear(&mut desk, "g", &[ended(&a, 80)], 90);
    assert_eq!(work(&mut desk, 90), [""; 0]);
    hear(&mut desk, "g", &[again(&a, 100)], 100);
    assert_eq!(work(&mut desk, 100), ["post"], "a later firing is a new message");
    assert_eq!(desk.incidents().count(), 2);
}

#[test]
fn two_senders_are_one_and_a_late_word_makes_no_new_message() {
    let mut desk = Desk::default();
    let a = firing("a", "critical");
    for second in [0, 0, 1] {
        hear(&mut desk, "g", std::slice::from_ref(&a), second);
    }
    assert_eq!(work(&mut desk, 1), ["post"]);
    hear(&mut desk, "g", &[ended(&a, 10)], 10);
    hear(&mut desk, "g", &[ended(&a, 11)], 11);
    assert_eq!(work(&mut desk, 11), ["update"], "the second end differs by a second and changes nothing");
    // The other sender is late; both say later that it is over.
    hear(&mut desk, "g", std::slice::from_ref(&a), 12);
    assert_eq!(work(&mut desk, 12), ["update"]);
    hear(&mut desk, "g", &[ended(&a, 10)], 13);
    assert_eq!((work(&mut desk, 13), desk.incidents().count()), (vec!["update".to_owned()], 1));
}

#[test]
fn an_end_of_what_was_never_told_is_no_message() {
    let mut desk = Desk::default();
    assert_eq!(hear(&mut desk, "g", &[ended(&firing("a", "critical"), 1)], 1), []);
    assert_eq!(work(&mut desk, 1), [""; 0]);
}

#[test]
fn flapping_before_anybody_was_told_is_one_incident() {
    let mut desk = Desk::default();
    let a = firing("a", "warning");
    for round in 0..100 {
        hear(&mut desk, "g", &[again(&a, round * 2)], round * 2);
        hear(&mut desk, "g", &[ended(&again(&a, round * 2), round * 2 + 1)], round * 2 + 1);
    }
    assert_eq!((work(&mut desk, 300), desk.incidents().count()), (vec!["post".to_owned()], 1));
}

#[test]
fn what_becomes_worse_is_told_once_to_everybody() {
    let mut desk = Desk::default();
    hear(&mut desk, "g", &[firing("a", "warning")], 0);
    assert_eq!(work(&mut desk, 0), ["post"]);
    hear(&mut desk, "g", &[firing("a", "warning"), firing("b", "critical")], 1);
    assert_eq!(work(&mut desk, 1), ["rise", "update"]);
    hear(&mut desk, "g", &[firing("b", "critical")], 2);
    assert_eq!(work(&mut desk, 2), ["update"], "an alert that a whole list does not name has ended");
    hear(&mut desk, "g", &[firing("a", "warning"), ended(&firing("b", "critical"), 3)], 3);
    hear(&mut desk, "g", &[firing("a", "warning"), again(&firing("b", "critical"), 4)], 4);
    assert!(!work(&mut desk, 4).contains(&"rise".to_owned()), "that bad it was before");
}

#[test]
fn over_is_said_only_after_a_good_run() {
    let mut desk = Desk::default();
    let a = firing("a", "critical");
    hear(&mut desk, "g", std::slice::from_ref(&a), 0);
    work(&mut desk, 0);
    let down = |_: &Alert| Light::Down { check: "orders".into(), since: Some(at(5)) };
    desk.look(at(20), SILENCE, &down);
    let unknown = Phase::Unknown { since: at(5), check: "orders".into() };
    assert_eq!(desk.incidents().next().unwrap().phase, unknown);
    assert_eq!(work(&mut desk, 20), ["update"]);
    // Its series is gone, so the sender says that it is over.
    desk.hear(&notice("g", &[ended(&a, 30)]), |_| CHANNEL.into(), at(30)).unwrap();
    for light in [&down as &dyn Fn(&Alert) -> Light, &|_| Light::Waiting("orders".into())] {
        desk.look(at(31), SILENCE, light);
        assert_eq!(desk.incidents().next().unwrap().phase, unknown);
    }
    desk.look(at(100), SILENCE, &|_| Light::Up);
    desk.look(at(159), SILENCE, &|_| Light::Up);
    assert_eq!(desk.incidents().next().unwrap().phase, unknown, "the rule may still find that it goes on");
    desk.look(at(160), SILENCE, &|_| Light::Up);
    assert_eq!(desk.incidents().next().unwrap().phase, Phase::Resolved { at: at(30) });
    assert_eq!(work(&mut desk, 160), ["update"]);
}

#[test]
fn a_check_that_comes_back_to_the_same_trouble_goes_on_with_the_same_message() {
    let mut desk = Desk::default();
    let a = firing("a", "critical");
    hear(&mut desk, "g", std::slice::from_ref(&a), 0);
    work(&mut desk, 0);
    let down = |_: &Alert| Light::Down { check: "orders".into(), since: None };
    desk.hear(&notice("g", &[ended(&a, 30)]), |_| CHANNEL.into(), at(30)).unwrap();
    desk.look(at(30), SILENCE, &down);
    desk.look(at(40), SILENCE, &|_| Light::Up);
    hear(&mut desk, "g", &[again(&a, 50)], 50);
    assert_eq!(
        (desk.incidents().count(), desk.incidents().next().unwrap().phase.clone()),
        (1, Phase::Firing)
    );
}

#[test]
fn of_what_alertmanager_names_no_more_nobody_knows_anything() {
    let mut desk = Desk::default();
    let a = firing("a", "warning");
    hear(&mut desk, "g", std::slice::from_ref(&a), 0);
    work(&mut desk, 0);
    for hour in 1..10 {
        assert_eq!(hear(&mut desk, "g", std::slice::from_ref(&a), hour * 3600).len(), 1, "a repeat is noted");
    }
    desk.look(at(13 * 3600), SILENCE, &|_| Light::Up);
    let phase = desk.incidents().next().unwrap().phase.clone();
    assert_eq!(phase, Phase::Unknown { since: at(9 * 3600), check: String::new() });
    assert_eq!(work(&mut desk, 13 * 3600), ["update"]);
    hear(&mut desk, "g", std::slice::from_ref(&a), 14 * 3600);
    assert_eq!(work(&mut desk, 14 * 3600), ["update"], "it is named again");
    desk.look(at(50 * 3600), SILENCE, &|_| Light::Up);
    assert_eq!(desk.incidents().count(), 0);
}

#[test]
fn a_restart_of_ours_alone_changes_no_message() {
    let mut desk = Desk::default();
    hear(&mut desk, "g", &[firing("a", "critical")], 0);
    work(&mut desk, 0);
    assert_eq!(desk.look(at(10), SILENCE, &|_| Light::Waiting("orders".into())), []);
}

#[test]
fn a_storm_becomes_digests_that_name_each_incident_once() {
    let mut desk = Desk::default();
    for n in 0..1000 {
        hear(
            &mut desk,
            &format!("g{n}"),
            &[firing(&format!("f{n}"), if n % 3 == 0 { "critical" } else { "warning" })],
            0,
        );
        if n == 0 {
            assert_eq!(work(&mut desk, 0), ["post"]);
        }
    }
    assert_eq!(work(&mut desk, 1), ["post"], "one digest");
    let ids = desk.unlisted();
    let (digest, members) = desk.digest(&ids[0]).unwrap();
    assert_eq!((ids.len(), digest.members.len(), members.len()), (1, 999, 999));
    for n in 0..1000 {
        let key = format!("g{n}");
        let alert = ended(&firing(&format!("f{n}"), "warning"), 60);
        desk.hear(&notice(&key, &[alert]), |_| CHANNEL.into(), at(60)).unwrap();
    }
    desk.look(at(60), SILENCE, &|_| Light::Up);
    assert_eq!(work(&mut desk, 61), ["update", "update"]);
    assert!(desk.message(&ids[0]).unwrap().0.text.contains("all resolved"));
    desk.look(at(60 + 25 * 3600), SILENCE, &|_| Light::Up);
    desk.look(at(61 + 25 * 3600), SILENCE, &|_| Light::Up);
    assert_eq!((desk.incidents().count(), desk.checkpoint()), (0, Vec::new()), "nothing is kept for ever");
}

#[test]
fn what_waits_becomes_one_change_and_the_worst_goes_first() {
    let mut desk = Desk::default();
    hear(&mut desk, "info", &[firing("i", "info")], 0);
    hear(&mut desk, "bad", &[firing("c", "critical")], 1);
    let (first, _) = desk.next(CHANNEL, at(1));
    let bad = desk.incidents().find(|one| one.severity() == Severity::Critical).unwrap().id.clone();
    assert_eq!(first, Some(Deed::Post { id: bad, look: None }));
    work(&mut desk, 1);
    for n in 0..10 {
        hear(&mut desk, "bad", &[firing("c", "critical"), firing(&format!("x{n}"), "warning")], 2 + n);
    }
    assert_eq!(work(&mut desk, 20), ["update"]);
}

#[test]
fn what_was_being_sent_is_looked_for_after_a_restart() {
    let mut desk = Desk::default();
    let mut records = hear(&mut desk, "g", &[firing("a", "critical")], 0);
    let id = desk.incidents().next().unwrap().id.clone();
    records.extend(desk.posting(&id, at(1)));
    let mut desk = Desk::restore(&records);
    assert_eq!(desk.next(CHANNEL, at(9)).0, Some(Deed::Post { id: id.clone(), look: Some(at(1)) }));
    assert_eq!(desk.oldest_pending(), Some(at(0)));
    desk.posted(&id, Posted { channel: "C9".into(), ts: "1".into() }, 0);
    assert_eq!((desk.oldest_pending(), desk.place(&id)), (None, Some(("C9", "1"))));
    let again = Desk::restore(&desk.checkpoint());
    assert_eq!(again.checkpoint(), desk.checkpoint());
}

#[test]
fn scans_are_counted_by_the_hour_and_over_a_restart() {
    let mut desk = Desk::default();
    let mut records = Vec::new();
    for second in 0..3 {
        records.extend(desk.scan(3, at(second)).unwrap());
    }
    assert_eq!(desk.scan(3, at(10)), None);
    let mut later = Desk::restore(&records);
    assert_eq!(later.scan(3, at(3000)), None);
    assert!(later.scan(3, at(3601)).is_some());
}

/// What Slack has: the messages by the id in their metadata. It outlives every crash of ours.
#[derive(Default)]
struct World {
    messages: BTreeMap<String, usize>,
}

/// Works like the office, over a journal on a disk that fails at one step: with each deed the journal first.
fn run(drive: &Arc<dyn Disk>, world: &mut World, notices: &[Notice]) -> Result<(), std::io::Error> {
    let (mut journal, records) =
        Journal::<Record>::open(drive, Path::new("/data/alerts"), 1).map_err(std::io::Error::other)?;
    let mut desk = Desk::restore(&records);
    journal.begin(desk.checkpoint())?;
    for notice in notices {
        let records = desk.hear(notice, |_| CHANNEL.into(), at(0)).unwrap();
        journal.append(&records)?;
    }
    while let (Some(Deed::Post { id, look }), records) = desk.next(CHANNEL, at(10)) {
        journal.append(&records)?;
        let there = look.is_some() && world.messages.contains_key(&id);
        if !there {
            journal.append(&desk.posting(&id, at(10)))?;
            *world.messages.entry(id.clone()).or_default() += 1;
        }
        let hash = desk.message(&id).unwrap().1;
        journal.append(&desk.posted(&id, Posted { channel: CHANNEL.into(), ts: id.clone() }, hash))?;
    }
    Ok(())
}

#[test]
fn a_crash_at_any_step_of_the_disk_loses_and_doubles_no_message() {
    let notices: Vec<Notice> =
        (0..3).map(|n| notice(&format!("g{n}"), &[firing(&format!("f{n}"), "critical")])).collect();
    let mut cases = 0;
    for fault in [Fault::End, Fault::Fail, Fault::DoneButFailed] {
        for loss in [Loss::Kill, Loss::All, Loss::Half, Loss::Zeros] {
            for step in 0.. {
                let simulated = SimulatedDisk::default();
                let disk: Arc<dyn Disk> = Arc::new(simulated.clone());
                let mut world = World::default();
                simulated.plan(step, fault);
                let failed = run(&disk, &mut world, &notices).is_err();
                let over = simulated.fault_is_ahead();
                simulated.lose(loss);
                // The sender was told nothing, so it comes again.
                run(&disk, &mut world, &notices).unwrap();
                run(&disk, &mut world, &notices).unwrap();
                assert!(failed || over || fault != Fault::End, "{fault:?} {loss:?} {step}");
                let groups = world.messages.len();
                assert_eq!(groups, 3, "{fault:?} {loss:?} at step {step}: {:?}", world.messages);
                assert!(world.messages.values().all(|count| *count == 1), "{fault:?} {loss:?} {step}");
                cases += 1;
                if over {
                    break;
                }
            }
        }
    }
    assert!(cases > 200, "{cases}");
}
