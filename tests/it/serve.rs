//! The exporter as people run it: its pages, its reloads, its guard.

use crate::program::{Program, Sample, Samples, datapulse, finish, replicate, role, target};
use crate::stage::{LIMIT, eventually, root, shared_pair};
use datapulse::demo::parts::{Cluster, Signal, wait_for};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

/// As `datapulse_config_last_reload_successful` says it.
fn last_reload(program: &Program, successful: bool) {
    let wanted = f64::from(u8::from(successful));
    program.wait_for("datapulse_config_last_reload_successful", &[], |value| value == wanted);
}

/// Runs a filter; gives its status and all that it printed.
fn filter(command: &mut Command, input: &[u8]) -> (Option<i32>, String) {
    let name = command.get_program().display().to_string();
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{name}: {error}; `make setup` installs it"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// A subscription with both checks on it, each with samples on /metrics.
fn replicating(name: &str) -> Program {
    let pair = shared_pair();
    replicate(pair, name);
    for cluster in [&pair.publisher, &pair.subscriber] {
        role(cluster, &format!("{name}_role"), &format!("grant pg_monitor to {name}_role"));
    }
    let on = |cluster: &Cluster| target(cluster, &format!("{name}_role"), name);
    let config = format!(
        "targets:\n  sub: {}\n  pub: {}\ndefaults: {{pg_subscription: {{every: 1s}}, pg_replication: {{every: 1s}}}}\nchecks:\n  \
         - pg_subscription: {{name: orders, target: sub, publisher: pub, subscriptions: [{name}], labels: {{team: 'a \"b\" \\ c'}}, thresholds: {{silence: 10m}}}}\n  \
         - pg_replication: {{name: slots, target: pub}}\n  \
         - pg_replication: {{name: dead, target: {{host: 127.0.0.1, port: 1, user: u, database: d, tls: disable}}}}\n",
        on(&pair.subscriber),
        on(&pair.publisher),
    );
    let program = Program::start(name, &config, &[]);
    program.wait_for("pg_subscription_lag_bytes", &[("check", "orders")], |_| true);
    program
        .wait_for("pg_replication_slots_active", &[("check", "slots"), ("slot_name", name)], |up| up == 1.0);
    program.wait_for("datapulse_check_up", &[("check", "dead")], |up| up == 0.0);
    program
}

#[test]
fn the_live_exposition_is_without_a_finding() {
    let program = replicating("exposed");
    let text = program.get("/metrics");
    let (status, said) = filter(Command::new("promtool").args(["check", "metrics"]), text.as_bytes());
    assert_eq!((status, said.as_str()), (Some(0), ""));

    let accept = "Accept: application/openmetrics-text; version=1.0.0\r\n";
    let reply = program.request("GET", "/metrics", accept);
    assert!(
        reply.head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{}",
        reply.head
    );
    let open = reply.text();
    assert!(open.ends_with("# EOF\n"));
    let script = "import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
                  print(sum(len(family.samples) for family in read(sys.stdin.read())))";
    let (status, said) =
        filter(Command::new(root().join(".venv/bin/python")).args(["-c", script]), reply.body.as_slice());
    assert_eq!(status, Some(0), "{said}");
    let samples = open.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(said.trim(), samples.to_string());
    assert!(samples > 100, "{samples} samples");
}

#[test]
fn every_page_answers_in_every_form() {
    let program = replicating("paged");
    for (path, words) in [
        ("/-/healthy", "Healthy"),
        ("/-/ready", "Ready"),
        ("/", "orders@sub"),
        ("/api/v1/checks", "\"check\":\"orders\""),
        ("/metrics", "# HELP datapulse_build_info Always 1"),
    ] {
        let body = program.get(path);
        assert!(body.contains(words), "{path} does not say {words}:\n{body}");
        assert_eq!(program.request("HEAD", path, "").status, 200, "HEAD {path}");
        assert_eq!(program.request("DELETE", path, "").status, 405, "DELETE {path}");
    }
    assert_eq!(program.request("GET", "/nowhere", "").status, 404);

    let reply = program.request("GET", "/metrics", "");
    assert!(reply.head.contains("content-type: text/plain; version=0.0.4"), "{}", reply.head);
    let text = reply.text();
    let label = "team=\"a \\\"b\\\" \\\\ c\"";
    assert!(text.contains(label), "{label} is not in\n{text}");

    // What moves between two requests is another second's.
    eventually("the packed body is the plain one", || {
        let packed = program.request("GET", "/metrics", "Accept-Encoding: gzip\r\n");
        assert!(packed.head.contains("content-encoding: gzip"), "{}", packed.head);
        (unpack(&packed.body) == program.get("/metrics")).then_some(())
    });

    let part = Samples::parse(&program.get("/metrics?check=slots&check=dead"));
    let checks: BTreeSet<&str> = part.0.iter().map(|sample| sample.labels["check"].as_str()).collect();
    assert_eq!(checks, ["slots", "dead"].into());
    assert!(part.value("pg_replication_slots_active", &[]).is_some());
    assert_eq!(program.get("/metrics?check=nobody"), "");
}

fn unpack(packed: &[u8]) -> String {
    let size = u32::from_le_bytes(packed[packed.len() - 4..].try_into().unwrap());
    let mut plain = vec![0; size as usize];
    libdeflater::Decompressor::new().gzip_decompress(packed, &mut plain).unwrap();
    String::from_utf8(plain).unwrap()
}

#[test]
fn a_faulty_configuration_leaves_the_old_one_in_place() {
    let publisher = &shared_pair().publisher;
    role(publisher, "reloaded", "");
    let config = format!(
        "checks: [{{pg_replication: {{name: one, target: {}, every: 1s}}}}]\n",
        target(publisher, "reloaded", "postgres")
    );
    let program = Program::start("reload-faulty", &config, &["--web.enable-lifecycle"]);
    let up = |name: &str| program.wait_for("datapulse_check_up", &[("check", name)], |up| up == 1.0);
    up("one");
    last_reload(&program, true);

    program.configure(&config.replace("every: 1s", "every: 0s, nmae: x"));
    let reply = program.request("POST", "/-/reload", "");
    assert_eq!(reply.status, 500, "{}", reply.text());
    assert!(
        reply.text().contains("checks[0].pg_replication.nmae: unknown key; did you mean \"name\"?"),
        "{}",
        reply.text()
    );
    last_reload(&program, false);
    up("one");
    program.signal(Signal::Hup);
    eventually("the log tells the second refusal", || {
        (program.log().matches("the old one stays").count() == 2).then_some(())
    });

    // A secret that cannot be read is a fault of a reload too.
    program.configure(&config.replace("env:PASSWORD", "env:NOWHERE"));
    let reply = program.request("POST", "/-/reload", "");
    assert_eq!(reply.status, 500);
    assert!(reply.text().contains("environment variable NOWHERE is not set"), "{}", reply.text());
    program.configure(&format!("data_dir: /elsewhere\n{config}"));
    assert!(program.request("POST", "/-/reload", "").text().contains("changing it needs a restart"));
    up("one");

    program.configure(&config.replace("name: one", "name: two"));
    program.signal(Signal::Hup);
    up("two");
    last_reload(&program, true);
    assert!(program.scrape().all("datapulse_check_up", &[("check", "one")]).next().is_none());
    assert_eq!(program.request("GET", "/-/reload", "").status, 405);
}

#[test]
fn without_the_flag_nobody_reloads_over_http() {
    let program = Program::start("no-lifecycle", "checks: []\n", &[]);
    let reply = program.request("POST", "/-/reload", "");
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(reply.text().contains("Lifecycle API is not enabled"), "{}", reply.text());
    program.signal(Signal::Term);
    let (status, _) = program.end();
    assert_eq!(status.code(), Some(0));
}

/// The process id of the only backend of a role.
fn backend(cluster: &Cluster, role: &str) -> Option<u32> {
    let text = format!("select pid from pg_stat_activity where usename = '{role}'");
    cluster.sql("postgres", &text).unwrap().parse().ok()
}

/// Entries of a folder of `/proc`.
fn entries(program: &Program, folder: &str) -> usize {
    std::fs::read_dir(format!("/proc/{}/{folder}", program.pid())).unwrap().count()
}

/// Series on /metrics, without those that say how many connections and pushes there were.
fn series(samples: &Samples) -> BTreeSet<String> {
    let stays = |sample: &&Sample| !sample.name.starts_with("datapulse_push_");
    samples.0.iter().filter(stays).map(|sample| format!("{}{:?}", sample.name, sample.labels)).collect()
}

#[test]
fn two_hundred_reloads_leave_nothing_behind_and_touch_only_what_changed() {
    // No other test has slots there, which would be series that come and go.
    let server = &shared_pair().subscriber;
    for name in ["stays", "changes", "comes"] {
        role(server, &format!("reload_{name}"), "");
    }
    let check = |name: &str, more: &str| {
        let target = target(server, &format!("reload_{name}"), "postgres");
        format!("  - pg_replication: {{name: {name}, target: {target}, every: 1s, {more}}}\n")
    };
    let socket = "outputs: {dogstatsd: {address: 'udp://127.0.0.1:9', every: 1s, tags: {at:";
    let one = format!("checks:\n{}{}{socket} one}}}}}}\n", check("stays", ""), check("changes", "limit: 10"));
    let other = format!(
        "checks:\n{}{}{}{socket} other}}}}}}\n",
        check("stays", ""),
        check("changes", "limit: 20"),
        check("comes", "")
    );
    let program = Program::start("reload-often", &one, &["--web.enable-lifecycle"]);
    let up = |name: &str| program.wait_for("datapulse_check_up", &[("check", name)], |up| up == 1.0);
    let reload = |config: &str| {
        program.configure(config);
        let reply = program.request("POST", "/-/reload", "");
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    let runs = |name: &str| program.scrape().value("datapulse_check_runs_total", &[("check", name)]).unwrap();
    // Once there and back, so that all that is made only once has been made.
    reload(&other);
    up("comes");
    reload(&one);
    up("stays");
    up("changes");
    eventually("the removed check is gone", || backend(server, "reload_comes").is_none().then_some(()));
    let untouched = backend(server, "reload_stays").unwrap();
    let restarted = backend(server, "reload_changes").unwrap();
    let before = program.scrape();
    let (files, threads) = (entries(&program, "fd"), entries(&program, "task"));
    let (runs_stays, runs_changes) = (runs("stays"), runs("changes"));

    for _ in 0..100 {
        reload(&other);
        let shown = program.scrape();
        assert!(shown.all("datapulse_check_runs_total", &[("check", "comes")]).next().is_some());
        reload(&one);
        let left: Vec<Sample> = program
            .scrape()
            .0
            .into_iter()
            .filter(|sample| sample.labels.get("check").is_some_and(|check| check == "comes"))
            .collect();
        assert!(left.is_empty(), "the removed check is still shown: {left:?}");
    }

    up("stays");
    up("changes");
    assert_eq!(
        backend(server, "reload_stays"),
        Some(untouched),
        "an unchanged check goes on over its connection"
    );
    assert_ne!(backend(server, "reload_changes"), Some(restarted), "a changed one starts anew");
    assert!(runs("stays") >= runs_stays && runs("changes") >= runs_changes, "counters do not fall");
    let mut now = (0, 0);
    let settled = wait_for(LIMIT, || {
        now = (entries(&program, "fd"), entries(&program, "task"));
        Ok((now.0 <= files && now.1 <= threads).then_some(()))
    });
    assert!(settled.unwrap().is_some(), "{now:?} files and threads, before {:?}", (files, threads));
    let mut difference = BTreeSet::new();
    let same = wait_for(LIMIT, || {
        difference = &series(&program.scrape()) ^ &series(&before);
        Ok(difference.is_empty().then_some(()))
    });
    assert!(same.unwrap().is_some(), "{difference:#?}");
    assert_eq!(backend(server, "reload_comes"), None);
}

/// What `datapulse healthy` says about a port.
fn healthy(port: u16) -> (i32, String, String) {
    finish(&mut datapulse(["healthy", "--web.listen-address", &format!("127.0.0.1:{port}")]))
}

#[test]
fn healthy_tells_one_that_runs_from_one_that_does_not() {
    let program = Program::start("healthy", "checks: []\n", &[]);
    assert_eq!(healthy(program.port).0, 0);
    program.signal(Signal::Term);
    program.end();
    let (status, out, err) = healthy(program.port);
    assert_eq!(status, 1, "{out}");
    assert!(err.contains("nobody answers on 127.0.0.1:"), "{err}");
}

#[test]
fn tls_and_basic_auth_guard_every_path() {
    let publisher = &shared_pair().publisher;
    role(publisher, "guarded", "");
    let config = format!(
        "checks: [{{pg_replication: {{name: one, target: {}, every: 1s}}}}]\n",
        target(publisher, "guarded", "postgres")
    );
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let web = format!(
        "tls_server_config: {{cert_file: server.pem, key_file: server.key}}\nbasic_auth_users: {{ann: '{}'}}\n",
        bcrypt::hash("open sesame", 4).unwrap()
    );
    let program = Program::start_as("guarded", &config, &[], |command, stage| {
        std::fs::write(stage.join("server.pem"), key.cert.pem()).unwrap();
        std::fs::write(stage.join("server.key"), key.signing_key.serialize_pem()).unwrap();
        std::fs::write(stage.join("web.yml"), &web).unwrap();
        command.arg("--web.config.file").arg(stage.join("web.yml"));
    });
    let stage = program.stage.path();
    let curl = |scheme: &str, path: &str, more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "10", "--cacert"]).arg(stage.join("server.pem"));
        curl.args(["-o", "-", "-w", "\n%{http_code}"]).args(more);
        let (status, out, err) = finish(curl.arg(format!("{scheme}://localhost:{}{path}", program.port)));
        let (body, code) = out.rsplit_once('\n').unwrap_or_default();
        (status, code.to_owned(), format!("{body}{err}"))
    };
    let ann = ["--user", "ann:open sesame"];
    eventually("the check answers", || {
        let (status, code, body) = curl("https", "/metrics", &ann);
        assert_eq!((status, code.as_str()), (0, "200"), "{body}");
        Samples::parse(&body).value("datapulse_check_up", &[("check", "one")]).filter(|up| *up == 1.0)
    });
    let pages = ["/", "/checks/one", "/page.js", "/api/v1/live?page=/", "/api/v1/checks"];
    for path in pages.into_iter().chain(["/metrics", "/-/healthy", "/nowhere"]) {
        for stranger in [&[][..], &["--user", "ann:closed"], &["--user", "eve:open sesame"]] {
            let (status, code, body) = curl("https", path, stranger);
            assert_eq!(
                (status, code.as_str(), body.as_str()),
                (0, "401", "Unauthorized\n"),
                "{path} {stranger:?}"
            );
        }
    }
    assert_ne!(curl("http", "/-/healthy", &ann).0, 0, "no plain HTTP beside TLS");
    let (status, out, err) = healthy(program.port);
    assert_eq!(status, 0, "it lives behind TLS, too: {out}{err}");

    // The file is read again when it changes.
    std::fs::write(stage.join("web.yml"), web.replace("ann:", "bob:")).unwrap();
    eventually("bob is let in", || {
        (curl("https", "/-/healthy", &["--user", "bob:open sesame"]).1 == "200").then_some(())
    });
    assert_eq!(curl("https", "/-/healthy", &ann).1, "401");
    let (status, said) =
        filter(Command::new("promtool").args(["check", "web-config"]).arg(stage.join("web.yml")), b"");
    assert_eq!(status, Some(0), "{said}");
}
