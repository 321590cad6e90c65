//! No secret is ever seen, and a rotated one is found again.

use crate::program::{Program, Samples, datapulse, finish, role, target};
use crate::stage::{PASSWORD, eventually, shared_pair, stage};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datapulse::demo::parts::{Cluster, Signal};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Right, from a file.
const IN_FILE: &str = "canary-of-the-file";
/// The server refuses it.
const WRONG: &str = "canary-that-is-wrong";
/// A header for the collector.
const TOKEN: &str = "canary-of-the-collector";
/// Lets in to the page.
const OF_PAGE: &str = "canary-of-the-page";
/// Stands in the configuration itself, where it must not.
const IN_CLEAR: &str = "canary-in-clear";

/// Panics when a canary, or its base64 form, is in what somebody could see.
fn no_canary(place: &str, text: &str) {
    assert!(!text.is_empty(), "{place} says nothing at all");
    let login = STANDARD.encode(format!("ann:{OF_PAGE}"));
    for canary in [PASSWORD, IN_FILE, WRONG, TOKEN, OF_PAGE, IN_CLEAR, "canary", &login] {
        let plain = text.find(canary).or_else(|| text.find(STANDARD.encode(canary).trim_end_matches('=')));
        if let Some(at) = plain {
            let around = text.get(at.saturating_sub(200)..).unwrap_or_default();
            panic!("{canary} is in {place}: …{}", around.chars().take(400).collect::<String>());
        }
    }
}

/// Checks with a good password from the environment, a good one from a file, and wrong ones from both.
fn configuration(cluster: &Cluster, name: &str) -> String {
    for check in ["env", "file", "wrong_env", "wrong_file"] {
        role(cluster, &format!("{name}_{check}"), "");
    }
    cluster.sql("postgres", &format!("alter role {name}_file password '{IN_FILE}'")).unwrap();
    let check = |check: &str, reference: &str| {
        let target =
            target(cluster, &format!("{name}_{check}"), "postgres").replace("env:PASSWORD", reference);
        format!("  - pg_replication: {{name: {check}, target: {target}, every: 1s}}\n")
    };
    format!(
        "secrets: {{refresh: 1s}}\nchecks:\n{}{}{}{}outputs:\n  \
         otlp: {{endpoint: 'http://127.0.0.1:1', every: 1s, headers: {{authorization: 'env:TOKEN'}}}}\n",
        check("env", "env:PASSWORD"),
        check("file", "file:right"),
        check("wrong_env", "env:WRONG"),
        check("wrong_file", "file:wrong"),
    )
}

/// The files that it refers to, and what the environment has to hold.
fn prepare(command: &mut Command, folder: &Path) {
    std::fs::write(folder.join("right"), format!("{IN_FILE}\n")).unwrap();
    std::fs::write(folder.join("wrong"), WRONG).unwrap();
    command.env("WRONG", WRONG).env("TOKEN", TOKEN);
}

#[test]
fn the_exporter_shows_no_secret() {
    let config = configuration(&shared_pair().publisher, "shy");
    let flags = ["--log.level=trace", "--web.enable-lifecycle"];
    let program = Program::start_as("secrets", &config, &flags, |command, folder| {
        prepare(command, folder);
        let hash = bcrypt::hash(OF_PAGE, 4).unwrap();
        std::fs::write(folder.join("web.yml"), format!("basic_auth_users: {{ann: '{hash}'}}\n")).unwrap();
        command.arg("--web.config.file").arg(folder.join("web.yml"));
    });
    let login =
        |user: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{OF_PAGE}")));
    let ask = |method: &str, path: &str| program.request(method, path, &login("ann"));
    eventually("good logins and refused ones", || {
        let samples = Samples::parse(&ask("GET", "/metrics").text());
        let up = |check: &str, wanted: f64| {
            samples.value("datapulse_check_up", &[("check", check)]) == Some(wanted)
        };
        let pushed = program.log().contains("push failed");
        (up("env", 1.0) && up("file", 1.0) && up("wrong_env", 0.0) && up("wrong_file", 0.0) && pushed)
            .then_some(())
    });
    // Whoever writes a password into the file, or asks with somebody else's, is told so without it.
    program.configure(
        &config
            .replace("\"env:PASSWORD\"", IN_CLEAR)
            .replace("'env:TOKEN'", IN_CLEAR)
            .replace("env:WRONG", IN_CLEAR),
    );
    let refused = ask("POST", "/-/reload");
    assert_eq!(refused.status, 500);
    assert!(refused.text().contains("a secret in clear text is not accepted"), "{}", refused.text());
    let stranger = program.request("GET", "/", &login("eve"));
    assert_eq!(stranger.status, 401);

    for path in ["/metrics", "/", "/api/v1/checks"] {
        let reply = ask("GET", path);
        assert_eq!(reply.status, 200);
        no_canary(path, &format!("{}{}", reply.head, reply.text()));
    }
    no_canary("the refused reload", &refused.text());
    no_canary("the answer to a stranger", &stranger.text());
    no_canary(
        "the command line",
        &std::fs::read_to_string(format!("/proc/{}/cmdline", program.pid())).unwrap(),
    );
    program.signal(Signal::Term);
    program.end();
    no_canary("the log at level trace", &program.log());
}

#[test]
fn the_commands_show_no_secret() {
    let config = configuration(&shared_pair().publisher, "mute");
    let stage = stage("mute");
    let path = stage.path().join("datapulse.yml");
    let run = |words: &[&str], text: &str| {
        std::fs::write(&path, text).unwrap();
        let mut command = datapulse(words);
        prepare(command.arg("--config.file").arg(&path), stage.path());
        let (status, out, err) = finish(&mut command);
        no_canary(words[0], &format!("{out}{err}"));
        (status, out + &err)
    };
    for words in [&["doctor"][..], &["once"], &["once", "--output=json"], &["once", "--output=prometheus"]] {
        let (status, text) = run(words, &config);
        assert_eq!(status, 1, "{text}");
        assert!(words.len() > 1 || text.contains("password authentication failed for user"), "{text}");
    }
    let clear = config.replace("\"env:PASSWORD\"", IN_CLEAR).replace("'env:TOKEN'", IN_CLEAR);
    for word in ["validate", "once", "doctor", "serve"] {
        let (status, text) = run(&[word], &clear);
        assert_eq!(status, 64, "{text}");
        assert!(text.contains("outputs.otlp.headers"), "{text}");
    }
}

/// One check every second by a password in a file, and the means to rotate it.
struct Rotated {
    program: Program,
    role: &'static str,
}

impl Rotated {
    fn start(role_name: &'static str, refresh: &str) -> Self {
        let publisher = &shared_pair().publisher;
        role(publisher, role_name, "");
        let target = target(publisher, role_name, "postgres").replace("env:PASSWORD", "file:password");
        let config = format!(
            "secrets: {{refresh: {refresh}}}\nchecks: [{{pg_replication: {{name: one, target: {target}, every: 1s}}}}]\n"
        );
        let program = Program::start_as(role_name, &config, &[], |_, folder| {
            std::fs::write(folder.join("password"), PASSWORD).unwrap();
        });
        program.wait_for("datapulse_check_up", &[("check", "one")], |up| up == 1.0);
        Self { program, role: role_name }
    }

    fn on_the_server(&self, password: &str) {
        let role = self.role;
        let text = format!(
            "alter role {role} password '{password}'; select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'"
        );
        shared_pair().publisher.sql("postgres", &text).unwrap();
    }

    fn in_the_file(&self, password: &str) {
        std::fs::write(self.program.stage.path().join("password"), password).unwrap();
    }

    fn refusals(&self) -> f64 {
        let of = [("check", "one"), ("reason", "auth")];
        self.program.scrape().value("datapulse_check_failures_total", &of).unwrap()
    }
}

#[test]
fn a_rotated_password_is_found_by_the_refused_login_itself() {
    let rotated = Rotated::start("turned", "1h");
    rotated.in_the_file("second");
    rotated.on_the_server("second");
    let backends = "select count(*) from pg_stat_activity where usename = 'turned'";
    let publisher = &shared_pair().publisher;
    eventually("a new session", || (publisher.sql("postgres", backends).unwrap() == "1").then_some(()));
    rotated.program.wait_for("datapulse_check_up", &[("check", "one")], |up| up == 1.0);
    assert!(rotated.refusals() < 1.0, "no run has failed for it");
}

#[test]
fn a_password_that_comes_late_ends_the_rest_after_refused_logins() {
    let rotated = Rotated::start("late", "1s");
    rotated.on_the_server("third");
    // By now the check would rest for four intervals.
    eventually("refused logins", || (rotated.refusals() >= 3.0).then_some(()));
    rotated.in_the_file("third");
    let start = Instant::now();
    rotated.program.wait_for("datapulse_check_up", &[("check", "one")], |up| up == 1.0);
    let took = start.elapsed();
    println!("found after {took:?}");
    assert!(took < Duration::from_secs(3), "found only after {took:?}");
}
