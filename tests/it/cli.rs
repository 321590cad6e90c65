//! The command line: exit codes, messages, and the documents that are made by it.

use crate::program::{Samples, datapulse, finish, replicate, role, target};
use crate::stage::{USUAL, eventually, root, shared_pair, stage};
use clap::CommandFactory;
use datapulse::cli::{Arguments, catalogue};
use datapulse::config::fault::Faults;
use datapulse::config::node::{Node, Style, parse};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::OnceLock;

/// Nothing listens there.
const DEAD: &str = "{host: 127.0.0.1, port: 1, user: u, database: d, tls: disable}";

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn exit_codes_are_those_of_the_contract() {
    let stage = stage("codes");
    let config = |name, text: &str| format!("--config.file={}", write(stage.path(), name, text));
    let good = config(
        "good.yml",
        &format!("checks: [{{pg_replication: {{name: dead, target: {DEAD}, timeout: 1s}}}}]"),
    );
    let paid = config(
        "paid.yml",
        "data_dir: d\nchecks: [{athena_query: {name: lake, every: 1h, sql: select 1 as n, metrics: [{name: a.n, value: n, help: n}]}}]",
    );
    let searched = config(
        "searched.yml",
        &format!(
            "checks: [{{pg_replication: {{name: a, target: {DEAD}}}}}, {{pg_inflight: {{name: b, target: {DEAD}}}}}, \
             {{pg_inflight: {{name: c, discover: {{rds: {{user: u, database: d}}}}}}}}]"
        ),
    );
    let faulty = config("faulty.yml", "chekcs: []");
    let missing = format!("--config.file={}/missing.yml", stage.path().display());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("--web.listen-address={}", taken.local_addr().unwrap());
    let web = format!("--web.config.file={}", write(stage.path(), "web.yml", "tls_server_confg: {}"));
    for (arguments, code, words) in [
        (vec!["--version"], 0, "datapulse 0."),
        (vec!["help"], 0, "Usage: datapulse"),
        (vec!["--nonsense"], 64, "unexpected argument '--nonsense'"),
        (vec!["nonsense"], 64, "unrecognized subcommand 'nonsense'"),
        (vec!["completions", "tcsh"], 64, "invalid value 'tcsh'"),
        (vec!["validate", &good], 0, "is valid: 1 check on 1 target"),
        (vec!["validate", &paid], 0, "is valid: 1 check\n"),
        (vec!["validate", &searched], 0, "is valid: 3 checks on 1 target, 1 on targets that AWS names\n"),
        (vec!["doctor", &paid], 0, "  cost     unknown until the first run; "),
        (vec!["validate", &faulty], 64, "did you mean \"checks\"?"),
        (vec!["validate", &missing], 64, "could not read the file: No such file"),
        (vec!["once", &faulty], 64, "did you mean \"checks\"?"),
        (vec!["once", &good, "nobody"], 64, "there is no check \"nobody\"; known: dead"),
        (vec!["once", &good], 1, "connect"),
        (vec!["doctor", &faulty], 64, "did you mean \"checks\"?"),
        (vec!["doctor", &good], 1, "connect"),
        (vec!["serve", &faulty], 64, "did you mean \"checks\"?"),
        (vec![&faulty], 64, "did you mean \"checks\"?"),
        (vec![&good, &web], 64, "did you mean \"tls_server_config\"?"),
        (vec![&good, "--log.level=loud"], 64, "invalid value 'loud'"),
        (vec![&good, &taken], 1, "could not listen on 127.0.0.1:"),
    ] {
        let (status, out, err) = finish(&mut datapulse(&arguments));
        assert_eq!(status, code, "{arguments:?}\n{out}{err}");
        assert!(format!("{out}{err}").contains(words), "{arguments:?}\n{out}{err}");
        assert!(!format!("{out}{err}").contains("panicked"), "{arguments:?}\n{out}{err}");
    }
}

#[test]
fn validate_prints_every_fault_at_once_with_its_place() {
    let stage = stage("validate");
    write(stage.path(), "more.yml", "checks:\n  - pg_replication: {name: one, target: pub}\noutputs: {}\n");
    let text = "\
data_dir: [a]
secrets: {refresh: soon}
include: [more.yml]
targets:
  pub: {host: h, user: u, database: d, password: hunter2, port: 70000}
  sub: {host: h, user: u, databse: d, tls: prefer}
checks:
  - pg_subscription: {name: one, target: pub, publisher: nowhere, expect: all}
  - pg_subscription: {name: two, every: 10ms}
  - pg_subscripton: {}
outputs:
  otlp: {endpoint: 'ftp://x', every: 1s, tempralty: delta}
  dogstatsd: {address: /run/dsd.socket}
";
    let config = write(stage.path(), "datapulse.yml", text);
    let (status, out, err) = finish(&mut datapulse(["validate", "--config.file", &config]));
    assert_eq!((status, out.as_str()), (64, ""));
    let shown = err.replace(&format!("{}/", stage.path().display()), "");
    for words in [
        "datapulse.yml:1:11: data_dir: ",
        "datapulse.yml:2:20: secrets.refresh: ",
        "datapulse.yml:5:50: targets.pub.password: a secret in clear text is not accepted",
        "datapulse.yml:5:65: targets.pub.port: ",
        "datapulse.yml:6:27: targets.sub.databse: unknown key; did you mean \"database\"?",
        "datapulse.yml:6:44: targets.sub.tls: ",
        "datapulse.yml:8:58: checks[0].pg_subscription.publisher: there is no target \"nowhere\"",
        "datapulse.yml:8:75: checks[0].pg_subscription.expect: ",
        "datapulse.yml:9:22: checks[1].pg_subscription.target: missing",
        "datapulse.yml:9:41: checks[1].pg_subscription.every: shorter than 1s",
        "datapulse.yml:10:5: checks[2].pg_subscripton: unknown type of check; did you mean \"pg_subscription\"?",
        "datapulse.yml:12:20: outputs.otlp.endpoint: ",
        "datapulse.yml:12:42: outputs.otlp.tempralty: unknown key; did you mean \"temporality\"?",
        "datapulse.yml:13:24: outputs.dogstatsd.address: ",
        "more.yml:2:28: checks[0].pg_replication.name: a check of this name was given before, at",
        "more.yml:3:1: outputs: unknown key",
    ] {
        assert!(shown.contains(words), "{words}\nis not in\n{shown}");
    }
    assert!(shown.ends_with("\n16 faults\n"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

/// A subscription `cli` on the shared pair, a role that may see everything and one that may not.
fn scene() -> &'static str {
    static CONFIG: OnceLock<String> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let pair = shared_pair();
        replicate(pair, "cli");
        for cluster in [&pair.publisher, &pair.subscriber] {
            role(cluster, "cli_all", "grant pg_monitor to cli_all");
            role(cluster, "cli_blind", "");
        }
        let publisher = |user| target(&pair.publisher, user, "cli");
        format!(
            "targets:\n  sub: {}\n  pub: {}\n  blind: {}\nchecks:\n  \
             - pg_subscription: {{name: orders, target: sub, publisher: pub, subscriptions: [cli], labels: {{team: core}}}}\n  \
             - pg_replication: {{name: slots, target: pub}}\n",
            target(&pair.subscriber, "cli_all", "cli"),
            publisher("cli_all"),
            publisher("cli_blind"),
        )
    })
}

#[test]
fn once_prints_a_real_database_in_three_ways() {
    let stage = stage("once");
    let config = format!("--config.file={}", write(stage.path(), "c.yml", scene()));
    let run = |arguments: &[&str]| {
        let (status, out, err) = finish(datapulse(["once", &config]).args(arguments));
        assert_eq!(status, 0, "{out}{err}");
        out
    };

    let table = run(&[]);
    assert!(table.contains("orders@sub  pg_subscription  up  "), "{table}");
    assert!(table.contains("slots@pub  pg_replication  up  "), "{table}");
    assert!(
        table.lines().any(|line| line.contains("pg_subscription_worker_up{datname=\"cli\",subname=\"cli\"}")
            && line.ends_with(" 1")),
        "{table}"
    );

    let samples = Samples::parse(&run(&["orders", "--output=prometheus"]));
    let of = [("check", "orders"), ("target", "sub"), ("team", "core"), ("subname", "cli")];
    assert_eq!(samples.value("pg_subscription_enabled", &of), Some(1.0));
    assert_eq!(
        samples.value("datapulse_check_up", &[("check", "orders"), ("check_type", "pg_subscription")]),
        Some(1.0)
    );
    assert!(samples.0.iter().all(|sample| sample.labels["check"] == "orders"), "only the named check runs");

    let json: Value = serde_json::from_str(&run(&["orders", "--output=json"])).unwrap();
    let card = &json[0];
    assert_eq!((&card["check"], &card["state"], &card["runs"]), (&json!("orders"), &json!("up"), &json!(1)));
    let enabled = json!({"name": "pg_subscription_enabled", "labels": {"datname": "cli", "subname": "cli"}, "value": 1.0});
    assert!(card["samples"].as_array().unwrap().contains(&enabled), "{card:#}");
}

#[test]
fn once_fails_when_one_check_of_several_fails() {
    let stage = stage("once-fails");
    let text = format!("{}  - pg_replication: {{name: dead, target: {DEAD}}}\n", scene());
    let config = format!("--config.file={}", write(stage.path(), "c.yml", &text));
    let (status, out, err) = finish(&mut datapulse(["once", &config]));
    assert_eq!(status, 1, "{out}{err}");
    assert!(
        out.contains("dead  pg_replication  down") && out.contains("publisher connect: could not connect to"),
        "{out}"
    );
    assert!(out.contains("slots@pub  pg_replication  up"), "the others are shown all the same: {out}");
}

#[test]
fn doctor_names_the_missing_grant_and_what_there_is() {
    let stage = stage("doctor");
    let config = |text: &str| format!("--config.file={}", write(stage.path(), "c.yml", text));
    // The publisher shows a walsender only while the subscription's worker is connected.
    let worker =
        "select count(*) from pg_stat_replication where application_name = 'cli' and state = 'streaming'";
    scene();
    eventually("a walsender", || (shared_pair().publisher.sql("cli", worker).unwrap() == "1").then_some(()));

    let (status, out, err) = finish(&mut datapulse(["doctor", &config(scene())]));
    assert_eq!(status, 0, "{out}{err}");
    let version = format!("PostgreSQL {USUAL}.");
    for words in [
        "orders@sub (pg_subscription, every 30s, timeout 10s)",
        "  ok       subscriber sub: ",
        "  ok       publisher pub: ",
        "  ok       publisher pub: ",
        &version,
        "role cli_all, database cli",
        "pg_replication_slots: ",
        " series of samples on /metrics, ",
    ] {
        assert!(out.contains(words), "{words}\nis not in\n{out}");
    }
    assert!(!out.contains("MISSING") && !out.contains("FAILED"), "{out}");

    let blind = scene().replace("name: slots, target: pub", "name: slots, target: blind");
    let (status, out, err) = finish(&mut datapulse(["doctor", &config(&blind)]));
    assert_eq!(status, 1, "{out}{err}");
    let missing = out.lines().find(|line| line.contains("MISSING")).unwrap_or_else(|| panic!("{out}"));
    assert!(
        missing.contains("publisher blind: permission: ") && missing.contains("grant pg_monitor"),
        "{missing}"
    );
    assert!(out.contains("GRANT pg_monitor TO cli_blind;"), "{out}");
}

#[test]
fn doctor_counts_the_series_that_result() {
    let stage = stage("doctor-series");
    let only = scene().replace("  - pg_replication: {name: slots, target: pub}\n", "");
    let config = format!("--config.file={}", write(stage.path(), "c.yml", &only));
    let (_, out, _) = finish(&mut datapulse(["doctor", &config]));
    let (_, json, _) = finish(&mut datapulse(["once", &config, "--output=json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    let count = json[0]["samples"].as_array().unwrap().len();
    assert!(out.contains(&format!("in all {count} series of samples on /metrics, ")), "{count}\n{out}");
}

#[test]
fn both_forms_of_the_catalogue_say_the_same() {
    let (_, markdown, _) = finish(&mut datapulse(["catalogue"]));
    let (_, json, _) = finish(&mut datapulse(["catalogue", "--output=json"]));
    let json: Vec<Value> = serde_json::from_str(&json).unwrap();
    let rows: Vec<Vec<&str>> = markdown
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert_eq!((rows.len(), rows.len()), (json.len(), catalogue::entries().len()));
    let common = ["check", "target"];
    for (row, entry) in rows.iter().zip(&json) {
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        let dotted =
            entry["opentelemetry"].as_str().map_or("not pushed".to_owned(), |name| format!("`{name}`"));
        let labels: Vec<_> = entry["labels"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let own: Vec<_> =
            labels.iter().filter(|label| !common.contains(label)).map(|label| format!("`{label}`")).collect();
        let prometheus = format!("`{}`", text("prometheus"));
        let expected =
            [&prometheus, &dotted, text("unit"), text("kind"), &own.join(" "), text("check"), text("help")];
        assert_eq!(row.as_slice(), expected, "{entry}");
    }
    let of = |name: &str| json.iter().find(|entry| entry["prometheus"] == name).unwrap()["check"].clone();
    assert_eq!(
        of("datapulse_check_budget_remaining_ratio"),
        "athena_query, logs_insights",
        "all that give it"
    );
    assert_eq!(of("datapulse_check_up"), "");
}

#[test]
fn completions_know_every_command_and_parse() {
    let stage = stage("completions");
    for (shell, checks) in [("bash", true), ("zsh", false), ("fish", false)] {
        let (status, script, err) = finish(&mut datapulse(["completions", shell]));
        assert_eq!(status, 0, "{err}");
        for command in Arguments::command().get_subcommands() {
            assert!(script.contains(command.get_name()), "{shell} does not know {}", command.get_name());
        }
        // The other two shells are not on every machine.
        if checks {
            let path = write(stage.path(), shell, &script);
            let (status, _, err) = finish(std::process::Command::new(shell).args(["-n", &path]));
            assert_eq!(status, 0, "{shell}: {err}");
        }
    }
}

#[test]
fn every_command_and_every_flag_has_its_help() {
    fn walk(command: &clap::Command, words: &[String]) {
        let (status, out, err) = finish(datapulse(words).arg("--help"));
        assert_eq!(status, 0, "{words:?}: {err}");
        assert!(command.get_about().is_some(), "{words:?} says nothing about itself");
        for argument in command.get_arguments() {
            let flag = argument
                .get_long()
                .map_or(argument.get_id().as_str().to_uppercase(), |long| format!("--{long}"));
            assert!(
                argument.get_help().is_some_and(|help| !help.to_string().is_empty()),
                "{words:?} {flag} has no help"
            );
            assert!(
                out.to_lowercase().contains(&flag.trim_end_matches('S').to_lowercase()),
                "{words:?} {flag} is not in\n{out}"
            );
        }
        for inner in command.get_subcommands() {
            walk(inner, &[words, &[inner.get_name().to_owned()]].concat());
        }
    }
    walk(&Arguments::command(), &[]);
}

/// A document that a command prints, as it stands in docs/. `UPDATE=1` writes it anew.
fn is_fresh(document: &str, arguments: &[&str]) {
    let (status, printed, err) = finish(&mut datapulse(arguments));
    assert_eq!(status, 0, "{err}");
    let path = root().join("docs").join(document);
    if std::env::var("UPDATE").is_ok_and(|value| value == "1") {
        std::fs::write(&path, &printed).unwrap();
    }
    let stands = std::fs::read_to_string(&path).unwrap_or_default();
    let line = stands.lines().zip(printed.lines()).position(|(stands, printed)| stands != printed);
    assert!(
        stands == printed,
        "docs/{document} is old from line {line:?} on; UPDATE=1 cargo test --test it is_fresh writes it anew"
    );
}

#[test]
fn the_list_of_metrics_is_fresh() {
    is_fresh("metrics.md", &["catalogue"]);
}

#[test]
fn the_schema_is_fresh() {
    is_fresh("config.schema.json", &["schema"]);
}

/// Configurations that people copy: whole files of docs/examples. Blocks of the documents are the matter of `documents`.
fn examples() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("docs/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yml") {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    found.retain(|(_, text)| text.lines().any(|line| line.starts_with("checks:")));
    assert!(!found.is_empty());
    found
}

pub(crate) fn schema() -> Value {
    let (_, printed, _) = finish(&mut datapulse(["schema"]));
    serde_json::from_str(&printed).unwrap()
}

#[test]
fn examples_are_valid_by_the_program_and_by_the_schema() {
    let (stage, schema) = (stage("examples"), schema());
    for (name, text) in examples() {
        let config = write(stage.path(), "example.yml", &text);
        let (status, _, err) = finish(&mut datapulse(["validate", "--config.file", &config]));
        assert_eq!(status, 0, "{name}: {err}");
        let faults = against(&schema, &schema, &as_json(&name, &text));
        assert!(faults.is_empty(), "{name}: {}", faults.join("\n"));
    }
}

#[test]
fn the_schema_refuses_what_the_program_refuses() {
    let (stage, schema) = (stage("schema"), schema());
    let good = "\
targets: {a: {host: h, user: u, database: d, password: 'env:P', tls: verify-ca, thresholds: {silence: 5m}}}
defaults: {pg_subscription: {every: 10s}}
checks:
  - pg_subscription: {name: n, target: a, publisher: {host: h, user: u, database: d}, expect: [s], limit: 10}
  - pg_replication: {name: m, targets: [a], role: writer}
  - pg_replication: {name: o, targets: {match: {}}}
outputs:
  otlp: {endpoint: 'http://127.0.0.1:4318', temporality: delta}
  dogstatsd: {address: 'udp://127.0.0.1:8125'}
";
    for (from, to) in [
        ("", ""),
        ("targets: {a:", "tragets: {a:"),
        ("host: h, user: u, database: d, pass", "hots: h, user: u, database: d, pass"),
        ("host: h, user: u, database: d, pass", "host: h, database: d, pass"),
        ("tls: verify-ca", "tls: prefer"),
        ("password: 'env:P'", "password: hunter2"),
        ("silence: 5m", "noise: 5m"),
        ("silence: 5m", "silence: five"),
        ("defaults: {pg_subscription", "defaults: {pg_subscribtion"),
        ("- pg_replication: {name: m", "- pg_replicator: {name: m"),
        ("name: n, ", ""),
        ("expect: [s]", "expect: s"),
        ("limit: 10", "limit: many"),
        ("role: writer", "role: boss"),
        ("role: writer", "publisher: a"),
        ("targets: [a], ", ""),
        ("targets: [a], ", "target: a, targets: [a], "),
        ("endpoint:", "end_point:"),
        ("'http://127.0.0.1:4318', ", "'http://127.0.0.1:4318', token: x, "),
        ("temporality: delta", "temporality: none"),
        ("'udp://127.0.0.1:8125'", "[]"),
    ] {
        let text = if from.is_empty() { good.to_owned() } else { good.replacen(from, to, 1) };
        assert!(from.is_empty() || text != good, "{from} is not there");
        let config = write(stage.path(), "c.yml", &text);
        let (status, _, err) = finish(&mut datapulse(["validate", "--config.file", &config]));
        let faults = against(&schema, &schema, &as_json("c.yml", &text));
        assert_eq!(status == 0, from.is_empty(), "{to}: {err}");
        assert_eq!(faults.is_empty(), from.is_empty(), "{from} -> {to}: {faults:?}");
    }
}

#[test]
fn any_value_may_be_a_reference_by_the_program_and_by_the_schema() {
    let (stage, schema) = (stage("schema-references"), schema());
    let text = "secrets: {refresh: 'env:PASSWORD'}\ntargets:\n  t: {host: h, port: 'ssm:/a', user: u, database: d, tls: 'ssm:/b', serverless: 'ssm:/c'}\n\
        checks:\n  - pg_inflight: {name: n, target: t, limit: 'ssm:/d', min_elapsed: 'ssm:/e', raw_text: 'ssm:/f', labels: {a: 'ssm:/g'}}\n  \
        - sql_query: {name: m, target: t, sql: 'ssm:/h', metrics: [{name: a.b, value: v, help: h, kind: 'ssm:/i', buckets: ['ssm:/j']}]}\n";
    let faults = against(&schema, &schema, &as_json("c.yml", text));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let config = write(stage.path(), "c.yml", &text.replace("env:PASSWORD", "ssm:/refresh"));
    let (status, text, errors) = finish(&mut datapulse(["validate", "--config.file", &config]));
    // Only of `secrets` it is one: it says how AWS is asked.
    assert_eq!((status, errors.lines().count()), (64, 2), "{text}{errors}");
    assert!(errors.contains("secrets.refresh: is needed to ask AWS"), "{errors}");
}

/// YAML as editors hand it to a schema.
pub(crate) fn as_json(name: &str, text: &str) -> Value {
    fn value(node: &Node) -> Value {
        if let Some(items) = node.items() {
            return items.iter().map(value).collect();
        }
        if let Some(entries) = node.entries() {
            let pairs =
                entries.iter().map(|entry| (entry.key.text().unwrap().to_owned(), value(&entry.value)));
            return Value::Object(pairs.collect::<Map<_, _>>());
        }
        let text = node.text().unwrap();
        let bare = node.style() == Some(Style::Plain);
        match serde_json::from_str::<Value>(text) {
            Ok(scalar) if bare && !scalar.is_array() && !scalar.is_object() => scalar,
            _ if node.is_nothing() => Value::Null,
            _ => json!(text),
        }
    }
    let mut faults = Faults::default();
    let node = parse(name, text, &mut faults).unwrap();
    assert!(faults.is_empty(), "{faults}");
    value(&node)
}

/// What a value has against a schema, in the words that our schema uses; another word is a panic. Patterns are compared only
/// as far as alternatives of fixed beginnings go.
pub(crate) fn against(whole: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let Some(words) = schema.as_object() else {
        return if schema == &json!(false) { vec![format!("{value} is not allowed")] } else { Vec::new() };
    };
    let mut faults = Vec::new();
    let mut fault = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("{what}: {value}"));
        }
    };
    let fits = |schema: &&Value| against(whole, schema, value).is_empty();
    let listed = |word: &Value| word.as_array().unwrap().clone();
    let mut deeper = Vec::new();
    for (word, wanted) in words {
        match word.as_str() {
            "$schema" | "title" | "description" | "default" | "$defs" | "properties" | "format" => {}
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                deeper.extend(against(whole, &whole["$defs"][name], value));
            }
            "type" => {
                let names = if wanted.is_array() { listed(wanted) } else { vec![wanted.clone()] };
                fault(
                    names.iter().any(|name| is_a(value, name.as_str().unwrap())),
                    &format!("not a {wanted}"),
                );
            }
            "const" => fault(value == wanted, &format!("not {wanted}")),
            "enum" => fault(listed(wanted).contains(value), &format!("not one of {wanted}")),
            "minimum" => {
                fault(value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()), "too small");
            }
            "maximum" => {
                fault(value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()), "too large");
            }
            "pattern" => fault(
                value.as_str().is_none_or(|text| matches(wanted.as_str().unwrap(), text)),
                "does not match",
            ),
            "anyOf" => fault(listed(wanted).iter().any(|one| fits(&one)), "fits none"),
            "oneOf" => fault(listed(wanted).iter().filter(fits).count() == 1, "fits none or several"),
            "required" => {
                let all = listed(wanted).iter().all(|key| value.get(key.as_str().unwrap()).is_some());
                fault(!value.is_object() || all, &format!("lacks one of {wanted}"));
            }
            "items" => value
                .as_array()
                .into_iter()
                .flatten()
                .for_each(|item| deeper.extend(against(whole, wanted, item))),
            "additionalProperties" => {
                let known: BTreeSet<&String> = words
                    .get("properties")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                    .map(|(key, _)| key)
                    .collect();
                for (_, item) in
                    value.as_object().into_iter().flatten().filter(|(key, _)| !known.contains(key))
                {
                    deeper.extend(against(whole, wanted, item));
                }
            }
            _ => panic!("the schema uses {word}, which this test does not know"),
        }
    }
    for (key, inner) in words.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if let Some(value) = value.get(key) {
            deeper.extend(against(whole, inner, value));
        }
    }
    faults.extend(deeper);
    faults
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        _ => panic!("unknown type {name}"),
    }
}

/// Regular expressions are the shell's business here: no crate for five patterns.
fn matches(pattern: &str, text: &str) -> bool {
    let mut grep = std::process::Command::new("grep");
    let mut child = grep.args(["-qP", "-e", pattern]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    child.wait().unwrap().success()
}
