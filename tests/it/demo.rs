//! `datapulse demo`, the real one: live values, an alert that comes and goes, and nothing that stays.

use crate::dashboards::{Source, every_expression_has_data};
use crate::program::{datapulse, finish};
use crate::stage::{LIMIT, eventually, stage};
use datapulse::demo::parts::{Ending, Keeper, Signal, Stage, get, wait_for};
use datapulse::demo::running::{self, Place};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A machine that runs all tests at once is slower than a newcomer's.
const LIVE: Duration = Duration::from_secs(30);
pub(crate) const FIRING: Duration = Duration::from_mins(1);
pub(crate) const GONE: Duration = Duration::from_secs(90);
const ENDING: Ending = Ending { signal: Signal::Term, grace: Duration::from_secs(10) };

/// A demo that runs with a temporary directory of its own.
pub(crate) struct Demo<'a> {
    keeper: Keeper,
    stage: &'a Stage,
    place: Place,
    began: Instant,
}

impl<'a> Demo<'a> {
    pub(crate) fn start(stage: &'a Stage, name: &str) -> Self {
        let start = Instant::now();
        let command = command(stage, &["--web.listen-address", "127.0.0.1:0"]);
        let keeper = Keeper::start(&command, ENDING, &stage.path().join(name)).unwrap();
        let path = keeper.log().to_owned();
        let log = || std::fs::read_to_string(&path).unwrap();
        let place = wait_for(LIVE, || {
            assert!(keeper.is_running(), "the demo ended at its start:\n{}", log());
            Ok(bases(stage).first().and_then(|base| running::find(base).unwrap().flatten()))
        });
        let place = place.unwrap().unwrap_or_else(|| panic!("the demo did not say where it is:\n{}", log()));
        let demo = Self { keeper, stage, place, began: start };
        let live = wait_for(LIVE, || {
            let checks = get(demo.exporter(), "/api/v1/checks")?.body;
            let values = ["pg_subscription_lag_bytes", "device_connections", "redshift_inflight_queries"];
            let live = values.into_iter().all(|value| checks.contains(value));
            Ok((live && demo.page().contains("worker runs")).then_some(()))
        });
        assert!(live.unwrap().is_some(), "no live values:\n{}", log());
        println!("live values after {:.1} s", start.elapsed().as_secs_f64());
        demo
    }

    fn exporter(&self) -> u16 {
        let address = self.place.exporter.trim_end_matches('/');
        address.rsplit(':').next().unwrap().parse().unwrap()
    }

    fn page(&self) -> String {
        let reply = get(self.place.page, "/").unwrap();
        assert_eq!(reply.status, 200);
        reply.body
    }

    /// The port of Prometheus.
    fn prometheus(&self) -> Option<u16> {
        let page = self.page();
        let link =
            page.split("<a href=\"http://127.0.0.1:").find_map(|rest| rest.split_once("/alerts\">"))?.0;
        link.parse().ok()
    }

    /// What Prometheus has seen since the start.
    pub(crate) fn source(&self) -> Source {
        let (port, interval) = (self.prometheus().unwrap(), Duration::from_secs(1));
        Source { port, range: self.began.elapsed(), interval }
    }

    /// A session that waits for the table that the fault `lock` has locked; it ends on drop.
    pub(crate) fn session_that_waits(&self) -> Keeper {
        let directory = self.directory();
        let logins = std::fs::read_to_string(directory.join("pgpass")).unwrap();
        // The first two lines are the publisher's.
        let port = logins.lines().nth(2).and_then(|line| line.split(':').nth(1)).unwrap();
        let mut psql = Command::new("psql");
        psql.env("PGPASSFILE", directory.join("pgpass"));
        psql.args(["--host=127.0.0.1", "--username=postgres", "--dbname=shop", "--port", port]);
        psql.arg("--command=select count(*) from orders");
        Keeper::start(&psql, ENDING, &self.stage.path().join("psql.log")).unwrap()
    }

    /// Names of the alerts that fire, from Prometheus itself.
    fn firing(&self) -> Option<Vec<String>> {
        let answer = get(self.prometheus()?, "/api/v1/alerts").ok()?.body;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let alerts = answer["data"]["alerts"].as_array()?.iter().filter(|alert| alert["state"] == "firing");
        let mut names: Vec<String> =
            alerts.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect();
        // It always fires, and the demo does not show it as an alarm.
        assert!(!self.page().contains("DatapulseWatchdog"));
        names.retain(|name| name != "DatapulseWatchdog");
        Some(names)
    }

    /// What Prometheus shows, once it is as wanted; with the seconds that took.
    pub(crate) fn wait(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&[String]) -> bool,
    ) -> Vec<String> {
        let start = Instant::now();
        let seen = wait_for(limit, || {
            // Without a rest this would ask forty times a second for most of a minute.
            std::thread::sleep(Duration::from_millis(250));
            Ok(self.firing().filter(|alerts| wanted(alerts)))
        })
        .unwrap();
        println!("{what} after {:.1} s", start.elapsed().as_secs_f64());
        seen.unwrap_or_else(|| panic!("not {what} within {limit:?}: {:?}\n{}", self.firing(), self.page()))
    }

    /// The page of the demo's Slack, once it is as wanted.
    fn slack_shows(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let page = self.page();
        let link = page.split("<a href=\"http://127.0.0.1:").find_map(|rest| rest.split_once("/\">Slack<"));
        let port = link.unwrap().0.parse().unwrap();
        let shown = || Ok(get(port, "/")?.body);
        let found = wait_for(LIMIT, || shown().map(|page| Some(page).filter(|page| wanted(page))));
        found.unwrap().unwrap_or_else(|| panic!("not within {LIMIT:?}: {what}\n{}", shown().unwrap()))
    }

    pub(crate) fn order(&self, words: &[&str]) -> String {
        let (status, said, complaint) = finish(&mut command(self.stage, words));
        assert_eq!(status, 0, "{words:?}: {complaint}");
        said
    }

    fn directory(&self) -> PathBuf {
        let entries = std::fs::read_dir(&bases(self.stage)[0]).unwrap().flatten();
        entries.map(|entry| entry.path()).find(|path| path.is_dir()).unwrap()
    }
}

fn command(stage: &Stage, words: &[&str]) -> Command {
    let mut command = datapulse(std::iter::once("demo").chain(words.iter().copied()));
    command.env("TMPDIR", stage.path().join("tmp"));
    command
}

/// Where demos of this stage live; gone when none is there.
fn bases(stage: &Stage) -> Vec<PathBuf> {
    std::fs::read_dir(stage.path().join("tmp")).unwrap().flatten().map(|entry| entry.path()).collect()
}

/// Processes that have a path of this directory among their arguments.
fn users(directory: &Path) -> Vec<String> {
    let wanted = format!("{}/", directory.display());
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&wanted))
        .collect()
}

#[test]
fn the_demo_breaks_and_heals_before_ones_eyes_and_leaves_nothing_behind() {
    let stage = stage("demo");
    std::fs::create_dir(stage.path().join("tmp")).unwrap();
    let (status, _, complaint) = finish(&mut command(&stage, &["heal"]));
    assert_eq!((status, complaint.contains("no demo is running")), (1, true), "{complaint}");

    let demo = Demo::start(&stage, "demo.log");
    let (status, _, complaint) = finish(&mut command(&stage, &[]));
    let page = format!("http://127.0.0.1:{}/", demo.place.page);
    assert_eq!((status, complaint.contains(&page)), (1, true), "{complaint}");
    demo.wait(LIMIT, "quiet", <[String]>::is_empty);

    assert!(demo.order(&["break", "disable"]).contains("PostgresSubscriptionDisabled"));
    let firing = demo.wait(FIRING, "firing", |alerts| !alerts.is_empty());
    assert_eq!(firing, ["PostgresSubscriptionDisabled"]);
    let shown = eventually("the page shows the alert", || {
        let page = demo.page();
        page.contains("<span class=\"pill down\">firing</span> PostgresSubscriptionDisabled").then_some(page)
    });
    assert!(shown.contains("subscriber <span class=\"pill down\">disabled</span>"), "{shown}");
    let began = Instant::now();
    let slack = demo.slack_shows("the message and its evidence in Slack", |page| {
        page.contains("orders_sub")
            && page.contains("in the thread")
            && page.contains("rows.txt") | page.contains("What the check")
            && page.contains("chart.png")
    });
    println!("message, rows and chart in Slack {:.1} s later", began.elapsed().as_secs_f64());
    assert!(!slack.contains("<mark>"), "a mention got through: {slack}");
    demo.order(&["heal"]);
    demo.wait(GONE, "gone", <[String]>::is_empty);
    demo.slack_shows("the end in Slack", |page| page.contains("<h3>✅ "));

    // Three at a time, to spare minutes: they have nothing to do with each other.
    eventually("the shop is open", || demo.page().contains("log comes in").then_some(()));
    assert!(demo.order(&["break", "slow-statement"]).contains("SlowQueryStatementDominates"));
    assert!(demo.order(&["break", "long-query"]).contains("RedshiftQueryLongRunning"));
    assert!(demo.order(&["break", "country-drop"]).contains("DeviceConnectionsZero"));
    let mut firing = demo.wait(FIRING, "all firing", |alerts| alerts.len() >= 3);
    firing.sort_unstable();
    assert_eq!(firing, ["DeviceConnectionsZero", "RedshiftQueryLongRunning", "SlowQueryStatementDominates"]);
    let shown = demo.page();
    assert!(shown.contains("PH silent") && shown.contains("<dt>PH</dt><dd>0</dd>"), "{shown}");
    assert!(shown.contains("1 long") && shown.contains("<dt>oldest</dt><dd>121."), "{shown}");
    demo.order(&["heal"]);
    demo.wait(GONE, "gone", <[String]>::is_empty);
    eventually("the page is quiet", || {
        let page = demo.page();
        let quiet = ["All quiet", "worker runs", "8 countries", " in flight</span>"];
        quiet.into_iter().all(|words| page.contains(words)).then_some(())
    });

    assert!(demo.order(&["break", "redis-failover"]).contains("RedisFailover"));
    demo.wait(FIRING, "failover firing", |alerts| alerts.iter().any(|alert| alert == "RedisFailover"));
    assert!(demo.page().contains("<dt>failovers</dt><dd>1</dd>"), "{}", demo.page());
    eventually("the shard is bare", || demo.source().has("datapulse:store_shard_bare").then_some(()));
    demo.order(&["heal"]);
    eventually("the lost one is a replica", || demo.page().contains("primary and replica").then_some(()));

    demo.order(&["break", "lock"]);
    let session = demo.session_that_waits();
    demo.order(&["break", "publisher-down"]);
    every_expression_has_data(|| demo.source());
    drop(session);

    let directory = demo.directory();
    assert!(!users(&directory).is_empty());
    demo.keeper.signal(Signal::Term).unwrap();
    let start = Instant::now();
    assert!(demo.keeper.wait(Duration::from_secs(10)).unwrap(), "the demo did not end in time");
    println!("ended after {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(users(&directory), Vec::<String>::new());
    assert_eq!(bases(&stage), Vec::<PathBuf>::new());
}

#[test]
fn a_demo_that_is_killed_leaves_no_process_and_the_next_one_removes_its_directory() {
    let stage = stage("killed-demo");
    std::fs::create_dir(stage.path().join("tmp")).unwrap();
    let demo = Demo::start(&stage, "first.log");
    let directory = demo.directory();
    demo.keeper.signal(Signal::Kill).unwrap();
    let over = wait_for(LIMIT, || Ok(users(&directory).is_empty().then_some(()))).unwrap();
    assert!(over.is_some(), "{:?}", users(&directory));
    assert!(directory.exists());
    let demo = Demo::start(&stage, "second.log");
    assert!(!directory.exists() && demo.directory() != directory);
    demo.keeper.signal(Signal::Term).unwrap();
    assert!(demo.keeper.wait(Duration::from_secs(10)).unwrap());
    assert_eq!(bases(&stage), Vec::<PathBuf>::new());
}
