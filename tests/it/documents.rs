//! The documents: every command and every snippet in them is run, or named here with the reason why it is not.

use crate::artefacts::Known;
use crate::cli::{against, as_json, schema};
use crate::program::{datapulse, finish};
use crate::stage::{postgres, root, stage};
use clap::Parser;
use datapulse::cli::{Arguments, Command as Word};
use datapulse::demo::parts::{Cluster, Settings, Store, StoreServer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Kinds of blocks, each with the test below that runs it. A block of another kind, or of none, is a fault.
const KINDS: [&str; 8] = ["ini", "json", "promql", "redis", "sh", "sql", "text", "yaml"];
/// The version that SQL runs on: the views of the runbooks are all there.
const MAJOR: u32 = 17;

/// Targets that snippets speak of without naming them.
const STOCK: [(&str, &str); 5] = [
    ("orders-sub", "host: sub.db.example.org, database: orders, labels: {team: core}"),
    ("orders-pub", "host: pub.db.example.org, database: orders"),
    ("lake", "host: lake.db.example.org, database: lake"),
    ("lake-pub", "host: lake-pub.db.example.org, database: lake"),
    ("warehouse", "host: bi.example.org, port: 5439, database: bi"),
];

/// Words in capitals that stand for something of the reader's, and what stands for them here.
const WORDS: [(&str, &str); 9] = [
    ("BLOCKING_PID", "1"),
    ("PID", "1"),
    ("NAME", "orders_again"),
    ("PUB", "orders_pub"),
    ("SLOT", "orders_slot"),
    ("ROLE", "datapulse"),
    ("FILE", "datapulse.yml"),
    ("FAMILY", "datapulse_check_up"),
    ("LABEL", "check_type"),
];

/// What PostgreSQL does not know. All else of Redshift has to be a statement that `sql_query` would take.
const OF_REDSHIFT: [&str; 3] = [
    "create user datapulse password 'change-me'",
    "grant role sys:monitor to datapulse",
    "alter user datapulse syslog access unrestricted",
];

/// Programs that run as the documents call them, in a folder with the files that they speak of.
const RUN: [&str; 8] = ["for", "do", "done", "sed", "sort", "comm", "zcat", "datapulse"];
/// Programs that are not run here, and why.
const NOT_RUN: [(&str, &str); 8] = [
    ("aws", "asks AWS"),
    ("compose/secrets.sh", "it::compose runs it"),
    ("curl", "asks a service that is not there"),
    ("docker", "no container engine is among the parts of the tests; it::compose holds what it would read"),
    ("export", "sets what the lines below it read"),
    ("make", "builds; that the target exists is looked up"),
    ("redis-cli", "asks a node of the reader's"),
    ("sudo", "changes the machine; it::package holds what it would install"),
];

/// A fenced block.
struct Block {
    /// `docs/logs.md:5`
    place: String,
    file: String,
    kind: String,
    text: String,
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// Every document that people read, by its path from the root.
fn documents() -> Vec<String> {
    let mut found = vec![];
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.display().to_string());
            }
        }
    }
    found.extend(
        ["README.md", "CONTRIBUTING.md", "alerts/README.md", "alerts/datadog/README.md"].map(str::to_owned),
    );
    found.sort();
    assert!(found.len() > 60, "only {} documents were found", found.len());
    found
}

fn blocks() -> Vec<Block> {
    let mut found = Vec::new();
    for file in documents() {
        let content = text(&file);
        let mut lines = content.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let Some(kind) = line.trim_start().strip_prefix("```") else { continue };
            let indent = line.len() - line.trim_start().len();
            let mut inside = String::new();
            for (_, line) in lines.by_ref().take_while(|(_, line)| line.trim() != "```") {
                inside += line.get(indent..).unwrap_or_default();
                inside.push('\n');
            }
            let place = format!("{file}:{}", at + 1);
            found.push(Block { place, file: file.clone(), kind: kind.to_owned(), text: inside });
        }
    }
    assert!(found.len() > 100, "only {} blocks were found", found.len());
    found
}

fn of(kind: &str) -> Vec<Block> {
    assert!(KINDS.contains(&kind));
    let found: Vec<_> = blocks().into_iter().filter(|block| block.kind == kind).collect();
    assert!(!found.is_empty(), "no block is {kind}");
    found
}

/// With the reader's words filled in.
fn filled(text: &str) -> String {
    let mut filled = String::new();
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        filled += WORDS.iter().find(|(name, _)| *name == word).map_or(word, |(_, stands)| stands);
        let next = rest[end..].find(part).map_or(rest.len(), |at| end + at);
        filled += &rest[end..next];
        rest = &rest[next..];
    }
    filled
}

#[test]
fn every_block_is_of_a_kind_that_is_run() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for block in blocks() {
        assert!(
            KINDS.contains(&block.kind.as_str()),
            "{}: a block of the kind {:?} is not run by any test; known: {KINDS:?}",
            block.place,
            block.kind
        );
        *counts.entry(block.kind).or_default() += 1;
    }
    // What is only shown stays the exception.
    assert!(counts["text"] < 10, "{counts:?}");
}

// --- YAML ---

/// The keys at the top of a block.
fn keys(text: &str) -> Vec<&str> {
    let bare = text.lines().filter(|line| !line.starts_with([' ', '#', '-']));
    bare.filter_map(|line| line.split_once(':')).map(|(key, _)| key).collect()
}

#[test]
fn every_yaml_is_taken_by_the_program_that_it_is_for() {
    let (stage, schema) = (stage("documents-yaml"), schema());
    for block in of("yaml") {
        let keys = keys(&block.text);
        match keys.first().copied() {
            Some("rule_files" | "scrape_configs") => prometheus(&block, stage.path()),
            Some("receivers" | "route") => alertmanager(&block, stage.path()),
            Some("tls_server_config" | "basic_auth_users") => web(&block, stage.path()),
            Some("apiVersion") => grafana(&block),
            _ => configuration(&block, &keys, &schema, stage.path()),
        }
    }
}

/// Grafana's provisioning of dashboards; no Grafana is at hand.
/// <https://grafana.com/docs/grafana/latest/administration/provisioning/#dashboards>
fn grafana(block: &Block) {
    let found = as_json(&block.place, &block.text);
    let providers = found["providers"].as_array().unwrap_or_else(|| panic!("{}: no providers", block.place));
    assert!(!providers.is_empty() && found["apiVersion"] == 1, "{}: {found}", block.place);
    for provider in providers {
        let path = provider["options"]["path"].as_str().unwrap_or_default();
        let named = provider["name"].is_string() && provider["type"] == "file";
        assert!(named && path.starts_with('/'), "{}: {provider}", block.place);
    }
}

/// A configuration of datapulse, or some of its sections.
fn configuration(block: &Block, keys: &[&str], schema: &Value, stage: &Path) {
    let mut whole = block.text.clone();
    if !keys.contains(&"checks") {
        whole += "checks: []\n";
    }
    let named = |name: &str| block.text.lines().any(|line| line.starts_with(&format!("  {name}:")));
    let mut targets = "targets:\n".to_owned();
    for (name, place) in STOCK.iter().filter(|(name, _)| !named(name)) {
        writeln!(targets, "  {name}: {{{place}, user: datapulse, password: \"env:PASSWORD\"}}").unwrap();
    }
    std::fs::write(stage.join("stock.yml"), targets + "checks: []\n").unwrap();
    whole += "include: [stock.yml]\n";
    let file = stage.join("datapulse.yml");
    std::fs::write(&file, &whole).unwrap();
    let (status, out, err) = finish(datapulse(["validate", "--config.file"]).arg(&file));
    assert_eq!(status, 0, "{}: {out}{err}", block.place);
    let faults = against(schema, schema, &as_json(&block.place, &whole));
    assert!(faults.is_empty(), "{}: {}", block.place, faults.join("\n"));
}

fn passes(block: &Block, command: &mut Command) {
    let (status, out, err) = finish(command);
    assert_eq!(status, 0, "{}: {command:?}: {out}{err}", block.place);
}

fn prometheus(block: &Block, stage: &Path) {
    let rules = stage.join("rules");
    copy_rules(&rules);
    for name in ["datapulse-ca.pem", "datapulse.password"] {
        std::fs::write(stage.join(name), "").unwrap();
    }
    let text = block
        .text
        .replace("/etc/prometheus/datapulse/", &format!("{}/", rules.display()))
        .replace("/etc/prometheus/", &format!("{}/", stage.display()));
    let file = stage.join("prometheus.yml");
    std::fs::write(&file, text).unwrap();
    passes(block, Command::new("promtool").args(["check", "config"]).arg(&file));
}

/// The files that hold rules, and no others.
fn copy_rules(to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(root().join("alerts")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && text(&path).lines().any(|line| line == "groups:") {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn alertmanager(block: &Block, stage: &Path) {
    let text = format!("route: {{receiver: datapulse}}\n{}", block.text);
    let file = stage.join("alertmanager.yml");
    std::fs::write(&file, text).unwrap();
    passes(block, Command::new("amtool").arg("check-config").arg(&file));
}

fn web(block: &Block, stage: &Path) {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(stage.join("server.pem"), key.cert.pem()).unwrap();
    std::fs::write(stage.join("server.key"), key.signing_key.serialize_pem()).unwrap();
    let file = stage.join("web.yml");
    std::fs::write(&file, &block.text).unwrap();
    passes(block, Command::new("promtool").args(["check", "web-config"]).arg(&file));
}

// --- SQL ---

#[test]
fn every_sql_runs_on_a_real_server() {
    let stage = stage("documents-sql");
    let cluster =
        Cluster::start(&postgres(MAJOR), &stage.path().join("server"), &Settings::default()).unwrap();
    let own = format!("host=127.0.0.1 port={} dbname=lake password={}", cluster.port(), cluster.password());
    for database in ["orders", "lake"] {
        cluster.sql("postgres", &format!("create database {database}")).unwrap();
    }
    let lake = "create table device_connections (device int, country text, connected_at timestamptz); \
        create publication orders_pub for all tables; select pg_create_logical_replication_slot('orders_slot', 'pgoutput')";
    cluster.sql("lake", lake).unwrap();
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for block in of("sql").into_iter().filter(|block| !block.file.to_lowercase().contains("redshift")) {
        // What connects needs an address.
        let text = filled(&block.text).replace("connection '...'", &format!("connection '{own}'"));
        *files.entry(block.file).or_default() += &text;
    }
    assert!(files.len() > 20, "only {} files have SQL", files.len());
    files.extend(statements_of_alerts());
    for (file, text) in files {
        // The blocks of a page one after another, as a reader would; the next page begins anew.
        let text = format!("begin;\n{text}\nrollback;");
        cluster.sql("lake", &text).unwrap_or_else(|why| panic!("{file}: {why}"));
    }
}

/// The queries on PostgreSQL's catalog that alerts tell people to run, by file. They stand among words.
fn statements_of_alerts() -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut found = 0;
    for file in ["alerts/inflight.yml", "alerts/replication.yml"] {
        let content = text(file).replace("{{ $labels.pid }}", "1");
        for line in content.lines().filter_map(|line| line.trim().strip_prefix("action: \"")) {
            for rest in line.trim_end_matches('"').split("select ").skip(1) {
                let rest = rest.replace(" (query is", ";").replace(" (14 and", ";").replace(": ", ";");
                let end = [";", ". "].iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
                let statement = rest[..end].trim_end_matches('.');
                if statement.contains(" from pg_") {
                    writeln!(files.entry(file.to_owned()).or_default(), "select {statement};").unwrap();
                    found += 1;
                }
            }
        }
    }
    assert!(found >= 15, "only {found} statements were found");
    files
}

#[test]
fn every_sql_for_redshift_is_a_statement_that_may_be_asked() {
    let stage = stage("documents-redshift");
    let file = stage.path().join("datapulse.yml");
    let (mut asked, mut granted) = (0, BTreeSet::new());
    for block in of("sql").into_iter().filter(|block| block.file.to_lowercase().contains("redshift")) {
        let bare: String =
            block.text.lines().map(|line| line.split("--").next().unwrap().to_owned() + "\n").collect();
        for statement in filled(&bare).split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            if let Some(known) = OF_REDSHIFT.iter().find(|known| **known == statement) {
                granted.insert(*known);
                continue;
            }
            let config = format!(
                "checks: [{{sql_query: {{name: a, target: {{host: h, port: 5439, user: u, database: d}}, sql: {}, metrics: [{{name: a.b, value: c, help: d}}]}}}}]\n",
                Value::from(statement)
            );
            std::fs::write(&file, config).unwrap();
            let (status, out, err) = finish(datapulse(["validate", "--config.file"]).arg(&file));
            assert_eq!(status, 0, "{}: {statement}\n{out}{err}", block.place);
            asked += 1;
        }
    }
    assert!(asked >= 8, "only {asked} statements were found");
    assert_eq!(granted, OF_REDSHIFT.into(), "no page has this statement any more");
}

// --- the other languages ---

#[test]
fn every_promql_is_an_expression_on_metrics_that_there_are() {
    let stage = stage("documents-promql");
    let (known, mut wrong) = (Known::with_rules(), Vec::new());
    for block in of("promql") {
        let mut rules = "groups: [{name: documents, rules: [\n".to_owned();
        for line in block.text.lines().filter(|line| !line.trim().is_empty()) {
            let expression = filled(line);
            known.check(&block.place, &expression, &mut wrong);
            writeln!(rules, "  {{record: 'documents:one', expr: {}}},", Value::from(expression)).unwrap();
        }
        let file = stage.path().join("rules.yml");
        std::fs::write(&file, rules + "]}]\n").unwrap();
        // Two equal records in a file are only a warning to promtool.
        let (status, out, err) =
            finish(Command::new("promtool").args(["check", "rules", "--lint=none"]).arg(&file));
        assert_eq!(status, 0, "{}: {out}{err}", block.place);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_of_redis_is_taken_by_a_real_one() {
    let stage = stage("documents-redis");
    let server = StoreServer::start(&Store::redis().unwrap(), &stage.path().join("redis"), &[]).unwrap();
    for block in of("redis") {
        for line in block.text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let answer = server.ask(&words).unwrap_or_else(|why| panic!("{}: {why}", block.place));
            assert_eq!(answer, "OK", "{}", block.place);
        }
    }
}

#[test]
fn every_json_is_the_file_that_it_shows() {
    for block in of("json") {
        let shown: Value =
            serde_json::from_str(&block.text).unwrap_or_else(|why| panic!("{}: {why}", block.place));
        let folder = if shown["Statement"].is_array() { "docs/iam" } else { "alerts/datadog" };
        let files = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let mut files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let same = files.any(|path| serde_json::from_str::<Value>(&text(path)).unwrap() == shown);
        assert!(same, "{}: no file of {folder} holds this", block.place);
    }
}

#[test]
fn every_ini_is_an_environment() {
    for block in of("ini") {
        for line in block.text.lines() {
            let name = line.split_once('=').map_or("", |(name, _)| name);
            let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            assert!(good, "{}: {line}", block.place);
        }
    }
}

// --- commands ---

/// The commands of a block, without comments; a line that ends with `\` goes on.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split(" # ").next().unwrap().split("  #").next().unwrap());
    let parts = lines.flat_map(|line| line.split(" && ")).map(|part| part.trim().to_owned());
    parts.filter(|part| !part.is_empty()).collect()
}

/// The word that says what is run.
fn program(command: &str) -> &str {
    command
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .trim_start_matches("target/debug/")
        .trim_end_matches(';')
}

/// A command of datapulse: its flags exist. Gives whether it is one that needs nobody else.
fn is_offline(place: &str, command: &str) -> bool {
    let own = command.split(" | ").map(str::trim).find(|part| program(part) == "datapulse").unwrap();
    let words = own.split(" > ").next().unwrap().split_whitespace();
    let arguments =
        Arguments::try_parse_from(words).unwrap_or_else(|why| panic!("{place}: {command}\n{why}"));
    matches!(
        arguments.command,
        Some(
            Word::Validate(_)
                | Word::Digest(_)
                | Word::Catalogue(_)
                | Word::Completions { .. }
                | Word::Schema
        )
    )
}

#[test]
fn every_command_is_run_or_named_with_its_reason() {
    let makefile = text("Makefile");
    let (mut ran, mut named) = (0, BTreeSet::new());
    for block in of("sh") {
        let filled = filled(&block.text);
        let commands = commands(&filled);
        let mut runs = Vec::new();
        for command in &commands {
            let place = &block.place;
            let program = program(command);
            let piped = command.split(" | ").any(|part| self::program(part) == "datapulse");
            if piped {
                if is_offline(place, command) {
                    runs.push(command.replace("/etc/datapulse/", ""));
                }
            } else if RUN.contains(&program) {
                runs.push(command.clone());
            } else {
                assert!(
                    NOT_RUN.iter().any(|(name, _)| *name == program),
                    "{place}: {program} is not known here"
                );
                named.insert(program.to_owned());
                if program == "make" {
                    let target = command.split_whitespace().nth(1).unwrap();
                    assert!(makefile.contains(&format!("\n{target}: ## ")), "{place}: make has no {target}");
                }
            }
        }
        // A loop around what is not run is not run either.
        let loops = runs.iter().filter(|command| ["for", "do", "done"].contains(&program(command)));
        if runs.len() > loops.count() {
            run(&block, &runs.join("\n"));
            ran += 1;
        }
    }
    assert!(ran >= 6, "only {ran} blocks were run");
    let all = NOT_RUN.map(|(name, _)| name.to_owned());
    assert_eq!(named, all.into(), "no page names this program any more");
}

/// Commands in the middle of a sentence: they exist, with these flags.
#[test]
fn every_command_in_a_sentence_exists() {
    let (makefile, mut found) = (text("Makefile"), 0);
    for file in documents() {
        let content = text(&file);
        // Outside of blocks, and of lines that a block begins or ends.
        let prose: String = content.split("```").step_by(2).collect();
        for span in prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            if let Some(target) = span.strip_prefix("make ") {
                assert!(makefile.contains(&format!("\n{target}: ## ")), "{file}: make has no {target}");
                found += 1;
            } else if let Some(words) = span.strip_prefix("datapulse ").filter(|words| !words.contains('[')) {
                let words: Vec<_> = words.replace("SHELL", "bash").split(' ').map(str::to_owned).collect();
                let all = [vec!["datapulse".to_owned()], words].concat();
                let result = Arguments::try_parse_from(&all);
                // A command by its bare name may lack what it needs.
                let bare = all.len() == 2
                    && result
                        .as_ref()
                        .is_err_and(|why| why.kind() == clap::error::ErrorKind::MissingRequiredArgument);
                assert!(bare || result.is_ok(), "{file}: {span}: {}", result.unwrap_err());
                found += 1;
            } else if span.starts_with("scripts/")
                || span.starts_with("compose/")
                || span.starts_with("packaging/")
            {
                let path = span.split(' ').next().unwrap();
                assert!(root().join(path).exists(), "{file}: there is no {path}");
                found += 1;
            }
        }
    }
    assert!(found > 60, "only {found} were found");
}

/// Runs lines with a shell in a folder that has what the documents speak of.
fn run(block: &Block, lines: &str) {
    let stage = stage("documents-sh");
    let here = stage.path();
    copy_rules(here);
    std::os::unix::fs::symlink(root().join("docs"), here.join("docs")).unwrap();
    std::fs::copy(root().join("docs/examples/datapulse.yml"), here.join("datapulse.yml")).unwrap();
    let entry = "# Time: 2026-11-24T16:00:00.123456Z\n# User@Host: app[app] @ web [10.0.0.1]  Id: 7\n\
        # Query_time: 1.500000  Lock_time: 0.000100 Rows_sent: 1  Rows_examined: 2\nSET timestamp=1795536000;\nselect 1;\n";
    for name in ["mysql-slow.log", "slow.log", "slow.log.1"] {
        std::fs::write(here.join(name), entry).unwrap();
    }
    passes(block, Command::new("gzip").arg(here.join("slow.log.1")));
    for folder in ["old", "new"] {
        std::fs::create_dir(here.join(folder)).unwrap();
        std::fs::write(here.join(folder).join("2026-11-24.log"), "a line\n").unwrap();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_datapulse"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    passes(block, shell.args(["-euc", lines]).current_dir(here).env("PATH", path));
    match block.file.as_str() {
        // Every link is set, and the files are still rules.
        "alerts/README.md" => {
            let mut promtool = Command::new("promtool");
            promtool.args(["check", "rules"]);
            for entry in std::fs::read_dir(here).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "yml")
                    && !path.ends_with("datapulse.yml")
                {
                    let rules = text(&path);
                    let unset = rules.contains("runbook_url: docs/") || rules.contains("dashboard_url: ''");
                    assert!(!unset || path.ends_with("self.yml"), "{}", path.display());
                    promtool.arg(path);
                }
            }
            passes(block, &mut promtool);
        }
        "docs/iam/README.md" => {
            let policy: Value = serde_json::from_str(&text(here.join("policy.json"))).unwrap();
            assert!(policy["Statement"].is_array());
        }
        "docs/digest.md" => {
            let event: Value = serde_json::from_str(text(here.join("events.json")).trim()).unwrap();
            assert_eq!(event["user"], "app");
        }
        "docs/migration.md" => assert_eq!(text(here.join("differences.txt")), ""),
        _ => {}
    }
}

// --- pages ---

/// As GitHub names the heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for file in documents() {
        let content = text(&file);
        for link in content.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                root().join(&file)
            } else {
                root().join(&file).parent().unwrap().join(path)
            };
            if !target.exists() {
                wrong.push(format!("{file}: there is no {path}"));
            } else if !fragment.is_empty() {
                let content = text(&target);
                if !content.lines().any(|line| line.starts_with('#') && anchor(line) == fragment) {
                    wrong.push(format!("{file}: {path} has no heading #{fragment}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_check_has_a_page_with_all_that_one_asks() {
    let listed = text("src/checks.rs");
    let mut pages = 0;
    for entry in std::fs::read_dir(root().join("docs/checks")).unwrap() {
        let path = entry.unwrap().path();
        let (name, page) = (path.file_stem().unwrap().display().to_string(), text(&path));
        assert!(listed.contains(&format!("mod {name};")), "there is no check {name}");
        assert!(
            text("README.md").contains(&format!("(docs/checks/{name}.md)")),
            "the README does not name {name}"
        );
        let lead = page.lines().nth(2).unwrap();
        assert!(lead.contains('?') || lead.contains("watches"), "{name}: no question at the top");
        let example = page.find("```yaml").unwrap_or(usize::MAX);
        assert!(example < page.find("\n## ").unwrap(), "{name}: no example before the first heading");
        for part in ["What it (asks|calls)", "Metrics", "Privileges", "Cost", "Alerts", "Known limits"] {
            let there = page.lines().filter_map(|line| line.strip_prefix("## ")).any(|heading| {
                heading == part
                    || part.starts_with("What it") && ["What it asks", "What it calls"].contains(&heading)
            });
            assert!(there, "{name}: nothing about {part}");
        }
        assert!(page.contains("../metrics.md") || page.contains("Those of the configuration"), "{name}");
        pages += 1;
    }
    assert_eq!(
        pages,
        listed.lines().filter(|line| line.starts_with("pub mod ") || line.starts_with("mod ")).count()
    );
}
