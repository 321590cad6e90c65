//! Queries in flight: on PostgreSQL as it is, and on the double of Redshift's views.

use crate::program::{Program, datapulse, finish, role, target};
use crate::stage::{USUAL, eventually, shared_pair, stage};
use datapulse::demo::parts::redshift::{self, Kind, Query, Start};
use datapulse::demo::parts::{Cluster, wait_for};
use serde_json::Value;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const SIXTY_ONE_MINUTES: Duration = Duration::from_millis(3_674_070);

fn server() -> &'static Cluster {
    &shared_pair().subscriber
}

/// A database that plays Redshift, and a role that may look at it.
struct Double {
    name: &'static str,
}

impl Double {
    fn create(kind: Kind, name: &'static str, options: &str) -> Self {
        server().sql("postgres", &format!("create database {name} {options}")).unwrap();
        role(server(), &format!("{name}_eye"), "");
        let double = Self { name };
        double.ask(&(kind.create() + &format!("grant select on all tables in schema public to {name}_eye")));
        double
    }

    fn ask(&self, text: &str) -> String {
        server().sql(self.name, text).unwrap()
    }

    fn eye(&self) -> String {
        format!("{}_eye", self.name)
    }

    /// The check on it, with further keys.
    fn config(&self, keys: &str) -> String {
        format!(
            "checks:\n  - redshift_inflight: {{name: bi, target: {}, {keys}}}\n",
            target(server(), &self.eye(), self.name)
        )
    }

    /// What `once` says, as JSON.
    fn once(&self, keys: &str) -> Value {
        let folder = stage("inflight-once");
        let file = folder.path().join("datapulse.yml");
        std::fs::write(&file, self.config(keys)).unwrap();
        let mut command = datapulse(["once", "--output", "json", "--config.file"]);
        let (status, out, errors) = finish(command.arg(&file));
        assert_eq!(status, 0, "{errors}{out}");
        serde_json::from_str::<Value>(&out).unwrap()[0].clone()
    }
}

/// The value of a sample that `once` or the API shows.
fn sample(check: &Value, name: &str, label: (&str, &str)) -> Option<f64> {
    let fits = |sample: &&Value| sample["name"] == name && sample["labels"][label.0] == label.1;
    check["samples"].as_array().unwrap().iter().find(fits).map(|sample| sample["value"].as_f64().unwrap())
}

#[test]
fn minutes_user_and_text_are_told_from_the_old_views_and_from_the_new_ones() {
    for (kind, name, source) in [
        (Kind::Provisioned, "inflight_sys", "auto"),
        (Kind::Provisioned, "inflight_svv", "svv"),
        (Kind::ProvisionedOld, "inflight_old", "auto"),
        (Kind::Serverless, "inflight_less", "auto"),
    ] {
        let double = Double::create(kind, name, "");
        double.ask(&(redshift::monitor(&double.eye()) + &redshift::unrestricted(&double.eye())));
        let mut query =
            Query::new(711, 42, "postgres", "select 'canary-literal' from bids\nwhere day = 20261124");
        (query.start, query.slices, query.queued) =
            (Start::Ago(SIXTY_ONE_MINUTES), 3, Duration::from_secs(30));
        double.ask(&query.begin());
        double.ask(
            &Query {
                pid: 712,
                query: 43,
                query_id: 4300,
                suspended: kind == Kind::ProvisionedOld,
                ..query.clone()
            }
            .begin(),
        );
        double.ask(
            &Query {
                start: Start::Ago(Duration::from_secs(5)),
                pid: 713,
                query: 44,
                query_id: 4400,
                ..query.clone()
            }
            .begin(),
        );
        let check = double.once(&format!("source: {source}, time_zone: Asia/Tokyo"));
        let seconds = sample(&check, "redshift_inflight_query_elapsed_seconds", ("pid", "711")).unwrap();
        assert!((3674.07..3694.0).contains(&seconds), "{name}: {seconds}");
        let row = &check["rows"][0];
        let minutes = row["elapsed_minutes"].as_f64().unwrap();
        println!("{name}: {seconds} s are shown as {minutes} min, began {}", row["started"]);
        assert!((minutes - seconds / 60.0).abs() < 1e-4 && (61.2345..61.6).contains(&minutes));
        assert!(row["started"].as_str().unwrap().ends_with("+09:00"));
        assert_eq!(row["user"], "postgres");
        assert_eq!(row["text"], "select ? from bids\nwhere day = ?");
        assert!(!check.to_string().contains("canary-literal"));
        // The youngest has no series of its own and counts all the same; what is suspended counts where the view says so.
        let running = if kind == Kind::ProvisionedOld { 2.0 } else { 3.0 };
        assert_eq!(sample(&check, "redshift_inflight_query_elapsed_seconds", ("pid", "713")), None);
        assert_eq!(
            sample(&check, "redshift_inflight_queries", ("user", "postgres")),
            Some(running),
            "{name}"
        );
        assert_eq!(sample(&check, "redshift_inflight_visibility", ("user", &double.eye())), Some(1.0));
        let queue = sample(&check, "redshift_inflight_query_queue_seconds", ("pid", "711"));
        assert_eq!(queue, ["inflight_sys", "inflight_less"].contains(&name).then_some(30.0), "{name}");
    }
}

#[test]
fn a_role_that_sees_only_its_own_queries_is_told_from_an_idle_cluster() {
    let double = Double::create(Kind::Provisioned, "inflight_blind", "");
    let query = Query { start: Start::Ago(SIXTY_ONE_MINUTES), ..Query::new(1, 2, "postgres", "select 1") };
    double.ask(&query.begin());
    let check = double.once("source: auto");
    assert_eq!(sample(&check, "redshift_inflight_queries", ("user", "postgres")), None);
    assert_eq!(sample(&check, "redshift_inflight_visibility", ("user", &double.eye())), Some(0.0));
}

#[test]
fn a_text_of_a_hundred_kilobytes_in_shuffled_fragments_is_rebuilt_byte_for_byte() {
    // Every width of characters, blanks at the cuts and at their ends, and line breaks.
    let part = "select 'ä€𝄞',   \"spalte\"  from t\n  where x = 'y'   -- ü\n";
    let text = part.repeat(102_400 / part.len() + 1) + "end";
    for (name, options) in [
        ("fragments_letters", ""),
        // Here fragments are cut in the middle of characters, as in Redshift.
        ("fragments_bytes", "encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C' template template0"),
    ] {
        let double = Double::create(Kind::Provisioned, name, options);
        double.ask(&(redshift::monitor(&double.eye()) + &redshift::unrestricted(&double.eye())));
        let mut query = Query::new(7, 8, "postgres", &text);
        (query.start, query.slices, query.shuffled) = (Start::Ago(SIXTY_ONE_MINUTES), 2, true);
        double.ask(&query.begin());
        for source in ["svv", "sys"] {
            let check = double.once(&format!("source: {source}, raw_text: true"));
            let rebuilt = check["rows"][0]["text"].as_str().unwrap();
            let differs = rebuilt.bytes().zip(text.bytes()).position(|(ours, theirs)| ours != theirs);
            assert_eq!((rebuilt.len(), differs), (text.len(), None), "{name}, {source}");
        }
        println!("{name}: {} bytes rebuilt from both views", text.len());
    }
}

#[test]
fn a_query_that_ends_is_gone_within_one_interval() {
    let double = Double::create(Kind::Provisioned, "inflight_end", "");
    double.ask(&redshift::monitor(&double.eye()));
    let query = Query { start: Start::Ago(SIXTY_ONE_MINUTES), ..Query::new(71, 72, "postgres", "select 1") };
    let program = Program::start("inflight-end", &double.config("every: 1s"), &[]);
    let of = [("pid", "71")];
    program.wait_for("datapulse_check_up", &[("check", "bi")], |up| up == 1.0);
    double.ask(&query.begin());
    program.wait_for("redshift_inflight_query_elapsed_seconds", &of, |seconds| seconds > 3674.0);
    double.ask(&query.end());
    let ended = Instant::now();
    eventually("the series is gone", || {
        let there = program.scrape().value("redshift_inflight_query_elapsed_seconds", &of).is_some();
        (!there).then_some(())
    });
    println!("gone {:?} after its end, at an interval of 1 s", ended.elapsed());
    assert!(ended.elapsed() < Duration::from_millis(1500), "{:?}", ended.elapsed());
}

#[test]
fn a_database_that_is_no_redshift_is_a_clear_error() {
    role(server(), "no_redshift", "");
    let config = format!(
        "checks:\n  - redshift_inflight: {{name: bi, every: 1s, target: {}}}\n",
        target(server(), "no_redshift", "postgres")
    );
    let program = Program::start("no-redshift", &config, &[]);
    program.wait_for("datapulse_check_failures_total", &[("reason", "query")], |count| count >= 1.0);
    assert!(program.get("/api/v1/checks").contains("is this a Redshift database"));
}

/// A session that runs a statement until it is dropped.
struct Session(Child);

impl Session {
    fn start(database: &str, text: &str) -> Self {
        let mut command = server().psql(database, "it-session");
        command.arg("-c").arg(text).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Runs a statement in a transaction that stays open.
    fn idle(database: &str, text: &str) -> Self {
        use std::io::Write;
        let mut command = server().psql(database, "it-session");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "begin; {text};").unwrap();
        Self(child)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn running_waiting_and_idle_sessions_of_postgresql_are_told_apart() {
    server().sql("postgres", "create database busy").unwrap();
    server().sql("busy", "create table t (id int)").unwrap();
    role(server(), "busy_eye", "grant pg_monitor to busy_eye");
    let _idle = Session::idle("busy", "lock table t in access exclusive mode");
    let _waiting = eventually("the lock is held", || {
        let held =
            server().sql("busy", "select count(*) from pg_locks where relation = 't'::regclass").unwrap()
                == "1";
        held.then(|| Session::start("busy", "select 'canary-literal' from t"))
    });
    let _running = Session::start("busy", "select pg_sleep(600), 4242424242");
    let config = format!(
        "checks:\n  - pg_inflight: {{name: busy, every: 1s, min_elapsed: 1s, target: {}}}\n",
        target(server(), "busy_eye", "busy")
    );
    let program = Program::start("inflight-busy", &config, &[]);
    let of = |state| [("datname", "busy"), ("state", state), ("user", "postgres")];
    program.wait_for("pg_inflight_blocked", &of("active"), |blocked| blocked == 1.0);
    program.wait_for("pg_inflight_queries", &of("active"), |queries| queries == 2.0);
    program.wait_for("pg_inflight_query_elapsed_seconds", &of("active"), |seconds| seconds > 1.0);
    program
        .wait_for("pg_inflight_transaction_age_seconds", &of("idle in transaction"), |seconds| seconds > 1.0);
    program.wait_for(
        "pg_inflight_waiting",
        &[("wait_event_type", "Lock"), ("wait_event", "relation")],
        |count| count == 1.0,
    );
    let api = program.get("/api/v1/checks");
    assert!(!api.contains("canary-literal") && !api.contains("4242424242"), "{api}");
    let api: Value = serde_json::from_str(&api).unwrap();
    let rows = api["checks"][0]["rows"].as_array().unwrap();
    let waiting = rows.iter().find(|row| row["text"] == "select ? from t").unwrap();
    assert_eq!(waiting["waits_for"], "Lock: relation");
    let blocker = waiting["blocked_by"].as_str().unwrap();
    assert!(
        rows.iter().any(|row| row["pid"] == blocker && row["state"] == "idle in transaction"),
        "{rows:?}"
    );
    let page = program.get("/checks/busy");
    assert!(page.contains("select ? from t") && !page.contains("canary-literal"));
    let series = program.scrape();
    let elapsed = series.all("pg_inflight_query_elapsed_seconds", &[]).next().unwrap();
    assert!(elapsed.labels["started"].parse::<jiff::Timestamp>().is_ok(), "{:?}", elapsed.labels);
    assert!(!elapsed.labels.values().any(|value| value.contains("select")), "{:?}", elapsed.labels);
}

#[test]
fn queries_that_this_role_may_not_see_are_a_missing_right_and_not_an_idle_server() {
    role(server(), "half_blind", "");
    let _running = Session::start("postgres", "select pg_sleep(600)");
    let config = format!(
        "checks:\n  - pg_inflight: {{name: blind, every: 1s, target: {}}}\n",
        target(server(), "half_blind", "postgres")
    );
    let program = Program::start("inflight-blind", &config, &[]);
    let of = [("check", "blind")];
    program.wait_for(
        "datapulse_check_failures_total",
        &[("check", "blind"), ("reason", "permission")],
        |count| count >= 1.0,
    );
    assert_eq!(program.scrape().value("datapulse_check_up", &of), Some(1.0), "what is its own it sees");
    assert!(program.get("/").contains("grant pg_monitor to it"));
}

#[test]
fn pg_inflight_reads_every_version() {
    for major in [13, 14, 16, 17, 18, USUAL] {
        let folder = stage(&format!("inflight-{major}"));
        let settings = datapulse::demo::parts::Settings::default();
        let cluster =
            Cluster::start(&crate::stage::postgres(major), &folder.path().join("one"), &settings).unwrap();
        role(&cluster, "eye", "grant pg_monitor to eye");
        let mut idle = cluster.psql("postgres", "it-session");
        let mut idle =
            idle.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(idle.stdin.as_mut().unwrap(), b"begin; select 1;\n").unwrap();
        let file = folder.path().join("datapulse.yml");
        let text = format!(
            "checks:\n  - pg_inflight: {{name: all, min_elapsed: 0s, target: {}}}\n",
            target(&cluster, "eye", "postgres")
        );
        std::fs::write(&file, text).unwrap();
        let found = wait_for(crate::stage::LIMIT, || {
            let mut command = datapulse(["once", "--output", "json", "--config.file"]);
            let (status, out, errors) = finish(command.arg(&file));
            assert_eq!(status, 0, "{major}: {errors}{out}");
            let checks: Value = serde_json::from_str(&out).unwrap();
            Ok(sample(&checks[0], "pg_inflight_transaction_age_seconds", ("state", "idle in transaction")))
        });
        assert!(found.unwrap().is_some(), "{major}");
        drop(idle.kill());
        drop(idle.wait());
    }
}
