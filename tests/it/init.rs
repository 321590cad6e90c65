//! `datapulse init`: what it writes is what was chosen, and the tools that read it accept it.

mod manifests;
mod servers;

use crate::cli::as_json;
use crate::program::{datapulse, finish};
use crate::stage::{root, stage};
use datapulse::init::bundled::{self, Bundled, When};
use datapulse::init::{Part, Server};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The files of a directory, by their paths below it.
type Files = BTreeMap<String, String>;

/// Every single word, all of them, and what further flags change.
fn choices() -> Vec<Vec<&'static str>> {
    let mut choices: Vec<Vec<&str>> = Part::ALL.iter().map(|part| vec!["--for", part.word()]).collect();
    choices.push(vec!["--for", "all"]);
    choices.push(vec!["--for", "all", "--secrets", "ssm", "--log-delivery", "pull"]);
    choices.push(vec![
        "--for=slack,pg_replication",
        "--for",
        "logs",
        "--secrets=file",
        "--slack-channel=C01",
        "--target=publisher=eye@[::1]:6432/or\"ders",
        "--prometheus=http://prometheus:9090",
    ]);
    choices
}

/// Runs init into `dir`, which has to work; gives what it printed.
fn init(dir: &Path, flags: &[&str]) -> String {
    let (status, out, err) = finish(datapulse(["init"]).args(flags).arg(dir));
    assert_eq!((status, err.as_str()), (0, ""), "{flags:?}\n{out}");
    out
}

fn read(dir: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                files.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// A tool that has to be content.
fn accepts(tool: &str, arguments: &[&str], file: &Path) {
    let mut command = Command::new(tool);
    let output = command.args(arguments).arg(file).output();
    let output = output.unwrap_or_else(|why| panic!("{tool}: {why}; install it with `make setup`"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{tool} {}: {}", file.display(), String::from_utf8_lossy(&said));
}

fn yaml(files: &Files, name: &str) -> Value {
    as_json(name, files.get(name).unwrap_or_else(|| panic!("there is no {name}")))
}

#[test]
fn what_every_choice_gives_is_accepted_by_those_who_read_it() {
    let stage = stage("init");
    for (number, flags) in choices().iter().enumerate() {
        let dir = stage.path().join(number.to_string());
        let printed = init(&dir, flags);
        let files = read(&dir);
        for name in files.keys() {
            let shown = name.rsplit('/').next().unwrap();
            assert!(printed.contains(shown), "{flags:?}: {name} is not in the tree\n{printed}");
            assert!(name == "README.md" || files["README.md"].contains(&format!("| `{name}` |")), "{name}");
        }

        let config = format!("--config.file={}", dir.join("datapulse.yml").display());
        let (status, out, err) = finish(&mut datapulse(["validate", &config]));
        assert_eq!(status, 0, "{flags:?}: {out}{err}");
        accepts("promtool", &["check", "config"], &dir.join("prometheus.yml"));
        accepts("amtool", &["check-config"], &dir.join("alertmanager.yml"));
        for (name, text) in files.iter().filter(|(name, _)| name.contains(".json")) {
            serde_json::from_str::<Value>(text).unwrap_or_else(|why| panic!("{flags:?}: {name}: {why}"));
        }
        for name in files.keys().filter(|name| name.starts_with("grafana/")) {
            assert_eq!(yaml(&files, name)["apiVersion"], 1, "{name}");
        }
        variables_and_secrets_agree(flags, &files);
        containers_find_their_files(flags, &files);
        manifests::hold_together(flags, &files);
    }
}

/// What the configuration refers to is asked for, and no file has a value.
fn variables_and_secrets_agree(flags: &[&str], files: &Files) {
    let example = files.get("env.example").map_or("", String::as_str);
    let asked: BTreeSet<&str> = example
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_suffix('='))
        .collect();
    let config = &files["datapulse.yml"];
    let named = |scheme: &str| -> BTreeSet<&str> {
        config.split(scheme).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
    };
    assert_eq!(asked, named("\"env:"), "{flags:?}\n{example}");
    let readme = &files["README.md"];
    for file in named("\"file:") {
        assert!(readme.contains(&format!("cat > {file})")), "{flags:?}: nobody says how to make {file}");
    }
    for name in named("\"ssm:") {
        assert!(readme.contains(&format!("--name {name} ")), "{flags:?}: nobody says how to make {name}");
    }
}

/// What is mounted is written, or README.md says how to make it; no image moves.
fn containers_find_their_files(flags: &[&str], files: &Files) {
    let compose = yaml(files, "docker-compose.yml");
    let services = compose["services"].as_object().unwrap();
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["alertmanager", "datapulse", "grafana", "prometheus"]);
    for (name, service) in services {
        let (_, tag) = service["image"].as_str().unwrap().rsplit_once(':').unwrap();
        assert!(
            tag.trim_start_matches('v').split('.').all(|part| part.parse::<u32>().is_ok()),
            "{name}: {tag}"
        );
        for volume in service["volumes"].as_array().unwrap() {
            let Some(source) = volume["source"].as_str().and_then(|path| path.strip_prefix("./")) else {
                let (kept, _) = volume.as_str().unwrap().split_once(':').unwrap();
                assert!(compose["volumes"].get(kept).is_some(), "{name}: {kept}");
                continue;
            };
            let there = files.keys().any(|file| file == source || file.starts_with(&format!("{source}/")));
            let made = source.starts_with("secrets") && files["README.md"].contains("secrets/slack-url");
            assert!(there || made, "{flags:?}: {name} mounts {source}, which is not there");
        }
        let needs = service["env_file"].is_array();
        assert_eq!(needs, name == "datapulse" && files.contains_key("env.example"), "{flags:?}: {name}");
    }
    assert_eq!(services["datapulse"]["image"], concat!("datapulse:", env!("CARGO_PKG_VERSION")));
}

#[test]
fn only_what_the_choice_needs_is_written() {
    let stage = stage("init-only");
    let claim = "kubernetes/persistentvolumeclaim.yml";
    for (word, there, missing) in [
        (
            "pg_subscription",
            vec!["sql/subscriber.sql", "sql/publisher.sql"],
            vec!["iam/policy.json", claim, "sql/database.sql"],
        ),
        ("pg_replication", vec!["sql/publisher.sql"], vec!["sql/subscriber.sql", "iam/policy.json"]),
        (
            "pg_inflight",
            vec!["sql/database.sql", "alerts/inflight.yml"],
            vec!["sql/publisher.sql", "alerts/replication.yml"],
        ),
        ("redshift_inflight", vec!["sql/warehouse.sql"], vec!["iam/policy.json", "alerts/stores.yml"]),
        ("sql_query", vec!["sql/database.sql", "dashboards/devices.json"], vec!["dashboards/inflight.json"]),
        (
            "athena_query",
            vec!["iam/policy.json", claim, "kubernetes/serviceaccount.yml"],
            vec!["kubernetes/secret.yml.example"],
        ),
        ("logs_insights", vec!["iam/policy.json", "env.example"], vec!["alerts/anomaly.yml"]),
        ("redis", vec!["redis/create-user.sh", "alerts/stores.yml"], vec!["iam/policy.json", claim]),
        ("memorydb", vec!["iam/policy.json", "alerts/stores.yml"], vec!["redis/create-user.sh", claim]),
        ("logs", vec!["alerts/slow_query.yml", claim], vec!["iam/policy.json"]),
        ("slack", vec!["env.example", claim], vec!["dashboards/inflight.json", "iam/policy.json"]),
    ] {
        let dir = stage.path().join(word);
        init(&dir, &["--for", word]);
        let files = read(&dir);
        for name in there.iter().chain(&[
            "datapulse.yml",
            "alerts/self.yml",
            "prometheus.yml",
            "systemd/datapulse.service",
        ]) {
            assert!(files.contains_key(*name), "{word}: {name} is not there");
        }
        for name in missing {
            assert!(!files.contains_key(name), "{word}: {name} is of no use");
        }
        // Only what was chosen is in the configuration too.
        let config = yaml(&files, "datapulse.yml");
        let checks = config["checks"].as_array().map_or(&[][..], Vec::as_slice);
        let is_check = !matches!(word, "logs" | "slack");
        assert_eq!(checks.len(), usize::from(is_check), "{word}");
        assert!(!is_check || checks[0].get(word).is_some(), "{word}");
        let notifier = files["alertmanager.yml"].contains("/alerts/alertmanager");
        assert_eq!(notifier, word == "slack", "{word}");
    }
    assert_eq!(
        Part::ALL.len(),
        std::fs::read_dir(stage.path()).unwrap().count() - 1,
        "a word is not in this test"
    );
}

#[test]
fn the_table_has_every_check_and_every_file_that_is_bundled() {
    let words: BTreeSet<&str> = Part::ALL.iter().map(|part| part.word()).collect();
    let checks: BTreeSet<&str> = datapulse::checks::ALL.iter().map(|kind| kind.word).collect();
    assert_eq!(words, checks.union(&["logs", "slack"].into()).copied().collect());

    let files = |folder: &str, ending: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(root().join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let found = paths.filter(|path| path.extension().is_some_and(|extension| extension == ending));
        found.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let named = |all: &[Bundled]| all.iter().map(|one| one.file.to_owned()).collect::<BTreeSet<String>>();
    let routes = bundled::ROUTES.iter().map(|(file, _)| (*file).to_owned());
    let alerts: BTreeSet<String> = named(&bundled::ALERTS).into_iter().chain(routes).collect();
    assert_eq!(alerts, files("alerts", "yml"));
    assert_eq!(named(&bundled::DASHBOARDS), files("dashboards", "json"));
    let policies =
        bundled::POLICIES.iter().map(|policy| policy.file).chain(bundled::LATER.iter().map(|later| later.0));
    assert_eq!(policies.map(str::to_owned).collect::<BTreeSet<_>>(), files("docs/iam", "json"));
}

fn statements(text: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(text).unwrap()["Statement"].as_array().unwrap().clone()
}

#[test]
fn the_policy_is_the_union_of_those_that_the_choice_needs() {
    let stage = stage("init-policy");
    let all =
        [When::Chosen(Part::AthenaQuery), When::Chosen(Part::LogsInsights), When::Chosen(Part::MemoryDb)];
    for (number, (flags, needed)) in [
        (vec!["--for", "athena_query"], &all[..1]),
        (vec!["--for", "athena_query,logs_insights,memorydb,redis,logs"], &all[..]),
        (vec!["--for", "logs", "--log-delivery", "pull"], &[When::Pull]),
        (vec!["--for", "redis", "--secrets", "ssm"], &[When::Ssm]),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = stage.path().join(number.to_string());
        init(&dir, &flags);
        let mut written = statements(&read(&dir)["iam/policy.json"]);
        let names: BTreeSet<String> =
            written.iter().map(|one| one["Sid"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names.len(), written.len(), "AWS refuses a policy with equal names: {names:?}");
        assert!(
            names.iter().all(|name| name.chars().all(|letter| letter.is_ascii_alphanumeric())),
            "{names:?}"
        );
        let sources = bundled::POLICIES.iter().filter(|policy| needed.contains(&policy.when));
        let mut expected: Vec<Value> = sources.flat_map(|policy| statements(policy.text)).collect();
        for statement in written.iter_mut().chain(&mut expected) {
            statement.as_object_mut().unwrap().remove("Sid");
        }
        if needed == [When::Ssm] {
            // No secret of Secrets Manager is written, so none may be read.
            let text = serde_json::to_string(&written).unwrap();
            assert!(!text.contains("secretsmanager") && text.contains("parameter/datapulse/*"), "{text}");
            assert_eq!(written.len(), expected.len());
        } else {
            assert_eq!(written, expected, "{flags:?}");
        }
        let actions = |of: &[Value]| -> BTreeSet<String> {
            let lists = of.iter().filter_map(|one| one["Action"].as_array());
            lists.flatten().map(|action| action.as_str().unwrap().to_owned()).collect()
        };
        assert!(actions(&written).is_subset(&actions(&expected)), "{flags:?}");
    }
}

#[test]
fn the_unit_is_valid_leaves_little_and_is_the_one_of_the_package() {
    let stage = stage("init-unit");
    let dir = stage.path().join("out");
    init(&dir, &["--for", "redis"]);
    let written = std::fs::read_to_string(dir.join("systemd/datapulse.service")).unwrap();
    let packaged = std::fs::read_to_string(root().join("packaging/datapulse.service")).unwrap();
    assert_eq!(written, packaged);

    // Where the tests run nothing is installed.
    let program = env!("CARGO_BIN_EXE_datapulse");
    let unit = stage.path().join("datapulse.service");
    std::fs::write(&unit, written.replace("=datapulse ", &format!("={program} "))).unwrap();
    accepts("systemd-analyze", &["verify", "--man=no"], &unit);
    // In tenths: below 2.0 of 10.
    accepts("systemd-analyze", &["security", "--offline=true", "--no-pager", "--threshold=19"], &unit);
    let operating = std::fs::read_to_string(root().join("docs/operating.md")).unwrap();
    assert!(
        operating.contains("packaging/datapulse.service") && !operating.contains("[Service]"),
        "the unit stands once"
    );
}

#[test]
fn a_directory_with_files_is_left_alone() {
    let stage = stage("init-again");
    let dir = stage.path().join("out");
    init(&dir, &["--for", "pg_inflight"]);
    std::fs::write(dir.join("environment"), "DATABASE_PASSWORD=x").unwrap();
    let before = read(&dir);
    let (status, out, err) = finish(datapulse(["init", "--for", "redis"]).arg(&dir));
    assert_eq!((status, out.as_str()), (64, ""));
    assert!(err.contains("is not empty: .gitignore, README.md, ") && err.contains("--force"), "{err}");
    assert_eq!(read(&dir), before);

    init(&dir, &["--for", "redis", "--force"]);
    let after = read(&dir);
    assert_eq!(after["environment"], before["environment"]);
    assert!(after.contains_key("redis/create-user.sh") && after["datapulse.yml"].contains("- redis:"));

    // What does not fit leaves nothing behind.
    for (flags, words) in [
        (vec!["--for", "nonsense"], "possible values: pg_subscription, "),
        (vec!["--for", "rediss"], "similar value exists: 'redis'"),
        (vec!["--for", "redis", "--target", "cahce=h"], "one of the names subscriber, publisher, "),
        (vec!["--for", "redis", "--target", "database=h"], "no chosen check asks it; asked: cache"),
        (vec!["--for", "slack", "--slack-channel", "#alerts"], "a channel's id"),
        (vec!["--for", "redis", "--prometheus", "prometheus:9090"], "http://127.0.0.1:9090"),
        (vec![], "nobody can be asked here: say what to write it for"),
    ] {
        let new = stage.path().join("new");
        let (status, out, err) = finish(datapulse(["init"]).args(&flags).arg(&new).stdin(Stdio::null()));
        assert_eq!((status, out.as_str()), (64, ""), "{flags:?}");
        assert!(err.contains(words), "{flags:?}: {err}");
        assert!(!new.exists());
    }
    let left: Vec<PathBuf> =
        std::fs::read_dir(stage.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn questions_are_answered_on_a_terminal() {
    let stage = stage("init-terminal");
    let dir = stage.path().join("out");
    let command = format!("{} init {}", env!("CARGO_BIN_EXE_datapulse"), dir.display());
    // `script` gives it a terminal; what it reads there comes from us.
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let answers = "nothing\n1, slack\nsub.example.net\norders\neye\npub.example.net:6432\n\n\nfile\n\nC7\n";
    script.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    let output = script.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for words in [
        "10  logs",
        "\"nothing\" is not in the list",
        "[subscriber.example.org]: ",
        "[C0123456789]: ",
        "Next:",
    ] {
        assert!(said.contains(words), "{words}\nis not in\n{said}");
    }
    assert!(!said.contains("The cache") && !said.contains("How do logs come"), "{said}");
    let files = read(&dir);
    let config = yaml(&files, "datapulse.yml");
    let subscriber = &config["targets"][Server::Subscriber.name()];
    assert_eq!((&subscriber["host"], &subscriber["user"]), (&"sub.example.net".into(), &"eye".into()));
    let publisher = &config["targets"][Server::Publisher.name()];
    assert_eq!(
        (&publisher["port"], &publisher["password"]),
        (&6432.into(), &"file:secrets/publisher-password".into())
    );
    assert_eq!(config["alerts"]["slack"]["channel"], "C7");
    assert!(!files["datapulse.yml"].contains("CHANGE:"), "everything was told\n{}", files["datapulse.yml"]);
}
