//! The sections of the configuration: files, targets and checks, with all that has to fit together.

use super::discover::Discover;
use super::envelope::{ENVELOPE, Envelope, Matching, assignment, server_keys};
use super::families::Families;
use super::fault::{Fault, Faults, suggest};
use super::include::included;
use super::kept::Sources;
use super::logins::Logins;
use super::logs::logs;
use super::node::{Entry, Node, parse};
use super::read::{read, read_rest};
use super::secret::Reference;
use super::servers::{Servers, check_labels};
use super::target::Server;
use super::{Assignment, Outputs, Plan, SHORTEST_INTERVAL, Secrets, Template, folder, read_file};
use crate::alerts;
use crate::checks::{self, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Keys of a configuration file.
const KEYS: [&str; 10] =
    ["data_dir", "secrets", "include", "targets", "defaults", "checks", "logs", "outputs", "alerts", "page"];

/// Reads the files, and says how many checks they have. What has a value in AWS that is not known yet is left out of the plan.
pub(super) fn read_all(path: &Path, sources: &Arc<Sources>, faults: &mut Faults) -> Option<(Plan, usize)> {
    let text = read_file(path, faults)?;
    let mut root = parse(&path.display().to_string(), &text, faults)?;
    root.resolve(sources);
    let base = folder(path);
    mapping(&root, "", faults)?;
    unknown_keys(&root, &KEYS, faults);
    let included = included(&mut root, &base, sources, faults);
    let defaults = root.take("defaults").map(|entry| entry.value);
    if let Some(defaults) = &defaults {
        check_defaults(defaults, faults);
    }
    let files = || std::iter::once(&root).chain(&included);
    let checks: Vec<(String, &Node)> = files().flat_map(|file| checks(file, faults)).collect();
    let mut servers = Servers { base: &base, known: BTreeMap::new() };
    for targets in files().filter_map(|file| file.get("targets")) {
        servers.read(targets, &Logins { checks: &checks }, faults);
    }
    let section = |key: &str| root.get(key).filter(|node| !node.is_nothing());
    // One that cannot be read, or is not known yet, is there all the same.
    let data_dir = section("data_dir")
        .map(|node| base.join(read::<PathBuf>(node, "data_dir", faults).unwrap_or_default()));
    let mut reader = Checks {
        servers: &mut servers,
        defaults: defaults.as_ref(),
        data_dir: data_dir.as_deref(),
        names: BTreeMap::new(),
        families: Families::new(),
        found: Vec::new(),
        templates: Vec::new(),
    };
    let count = checks.len();
    for (path, item) in checks {
        reader.check(&path, item, faults);
    }
    let (assignments, templates) = (reader.found, reader.templates);
    let secrets = section("secrets").and_then(|node| secrets(node, faults));
    let mut outputs: Outputs =
        section("outputs").and_then(|node| read(node, "outputs", faults)).unwrap_or_default();
    if let Some(otlp) = outputs.otlp.as_mut() {
        otlp.ca = otlp.ca.take().map(|ca| base.join(ca));
    }
    let alerts = section("alerts").map(|node| {
        if data_dir.is_none() {
            let hint = "write `data_dir: /var/lib/datapulse`: a restart must not tell an incident twice";
            faults.push(Fault::new(node.place(), "alerts", "needs `data_dir`").hint(hint));
        }
        read::<alerts::config::Config>(node, "alerts", faults)
    });
    let logs = section("logs").and_then(|node| logs(node, &base, data_dir.as_deref(), faults));
    let page = section("page").and_then(|node| read(node, "page", faults));
    let secrets = secrets.unwrap_or_default();
    let alerts = alerts.flatten();
    Some((Plan { data_dir, secrets, base, assignments, templates, outputs, alerts, page, logs }, count))
}

/// The checks of a file, each with its path.
fn checks<'a>(file: &'a Node, faults: &mut Faults) -> Vec<(String, &'a Node)> {
    let Some(list) = file.get("checks").filter(|list| !list.is_nothing()) else { return Vec::new() };
    if let Some(items) = list.items() {
        return items.iter().enumerate().map(|(at, item)| (format!("checks[{at}]"), item)).collect();
    }
    let message = "expected a list of checks, each `- word: {name: ...}`";
    faults.push(Fault::new(list.place(), "checks", message));
    Vec::new()
}

/// How AWS is asked for what it keeps cannot be kept there.
fn secrets(node: &Node, faults: &mut Faults) -> Option<Secrets> {
    for entry in node.entries().unwrap_or_default() {
        let reference = entry.value.text().and_then(Reference::parse);
        if matches!(reference, Some(Reference::Ssm(_) | Reference::SecretsManager(..))) {
            let path = format!("secrets.{}", entry.key.text().unwrap_or_default());
            let fault =
                Fault::new(entry.value.place(), path, "is needed to ask AWS, so it cannot be kept there");
            faults.push(fault.hint("write it here, or env:NAME or file:/path"));
        }
    }
    read(node, "secrets", faults)
}

/// The entries of a mapping; anything else is a fault.
pub(super) fn mapping<'a>(node: &'a Node, path: &str, faults: &mut Faults) -> Option<&'a [Entry]> {
    let entries = node.entries();
    if entries.is_none() {
        faults.push(Fault::new(node.place(), path, "expected a mapping of keys to values"));
    }
    entries
}

pub(super) fn unknown_keys(node: &Node, known: &[&str], faults: &mut Faults) {
    for entry in node.entries().unwrap_or_default() {
        let key = entry.key.text().unwrap_or_default();
        if !known.contains(&key) {
            let near = suggest(key, known.iter().copied())
                .map(|near| format!("did you mean \"{near}\"? "))
                .unwrap_or_default();
            let hint = format!("{near}accepted: {}", known.join(", "));
            faults.push(Fault::new(entry.key.place(), key, "unknown key").hint(hint));
        }
    }
}

fn check_defaults(defaults: &Node, faults: &mut Faults) {
    for entry in mapping(defaults, "defaults", faults).unwrap_or_default() {
        let word = entry.key.text().unwrap_or_default();
        if !checks::ALL.iter().any(|kind| kind.word == word) {
            faults.push(unknown_check(&entry.key, &format!("defaults.{word}"), word));
        }
        mapping(&entry.value, &format!("defaults.{word}"), faults);
    }
}

fn unknown_check(at: &Node, path: &str, word: &str) -> Fault {
    let known = checks::ALL.iter().map(|kind| kind.word);
    let near =
        suggest(word, known.clone()).map(|near| format!("did you mean \"{near}\"? ")).unwrap_or_default();
    let known: Vec<&str> = known.collect();
    Fault::new(at.place(), path, "unknown type of check")
        .hint(format!("{near}accepted: {}", known.join(", ")))
}

/// Reads checks one by one.
struct Checks<'a> {
    servers: &'a mut Servers<'a>,
    defaults: Option<&'a Node>,
    data_dir: Option<&'a Path>,
    /// Where each name was given.
    names: BTreeMap<String, String>,
    families: Families,
    found: Vec<Assignment>,
    templates: Vec<Template>,
}

impl Checks<'_> {
    fn check(&mut self, path: &str, item: &Node, faults: &mut Faults) {
        let Some([entry]) = item.entries() else {
            let message = "expected one check, written `- word: {name: ...}`";
            faults.push(Fault::new(item.place(), path, message));
            return;
        };
        let word = entry.key.text().unwrap_or_default();
        let path = format!("{path}.{word}");
        let Some(kind) = checks::ALL.iter().find(|kind| kind.word == word) else {
            faults.push(unknown_check(&entry.key, &path, word));
            return;
        };
        let mut node = entry.value.clone();
        let named = |name: &Node| name.refuse_reference(&format!("{path}.name"), faults);
        if node.get("name").is_some_and(named) || mapping(&node, &path, faults).is_none() {
            return;
        }
        if let Some(defaults) = self.defaults.and_then(|defaults| defaults.get(word)) {
            node.fill(defaults);
        }
        let letter = node.clone();
        // Only a check with two ends has a publisher.
        let server_keys = server_keys(kind);
        let mut servers = node.split(server_keys);
        let envelope_node = node.split(&ENVELOPE);
        let also: Vec<&str> = server_keys.iter().chain(&ENVELOPE).copied().collect();
        let config = (kind.read)(&node, &path, &also, faults);
        let envelope: Option<Envelope> = read_rest(&envelope_node, &path, &also, faults);
        if let Some(envelope) = &envelope {
            self.check_envelope(envelope, kind, &letter, &path, faults);
        }
        let publisher = servers.take("publisher").map(|entry| {
            self.servers
                .server(&entry.value, &format!("{path}.publisher"), kind.sql, faults)
                .map(|(_, server)| server)
        });
        if let Some(entry) = servers.take("discover") {
            let path_of = format!("{path}.discover");
            let found: Option<Discover> = read(&entry.value, &path_of, faults);
            for other in ["target", "targets", "publisher"].iter().filter_map(|key| servers.get(key)) {
                let message = "stands beside `target`, `targets` or `publisher`; write one of them";
                faults.push(Fault::new(other.place(), &path_of, message));
            }
            if let (Some(envelope), Some(config), Some(mut discover)) = (envelope, config, found) {
                let at = entry.value.get("rds").and_then(|rds| rds.get("labels"));
                if let Some((key, message)) = discover.rds.fault() {
                    let rds = entry.value.get("rds").unwrap_or(&entry.value);
                    let place = rds.get(key).unwrap_or(rds).place();
                    faults.push(Fault::new(place, format!("{path_of}.rds.{key}"), message));
                }
                check_labels(&discover.rds.labels, at, &path_of, faults);
                let labels =
                    envelope.labels.keys().chain(discover.rds.labels.keys()).map(String::as_str).collect();
                self.families.add(&config, &envelope, &labels, &letter, &path, faults);
                discover.rds.ca = discover.rds.ca.map(|ca| self.servers.base.join(ca));
                self.templates.push(Template { envelope, config, discover });
            }
            return;
        }
        if kind.is_paid() && self.data_dir.is_none() {
            let hint = "write `data_dir: /var/lib/datapulse`: a restart must not pay twice, nor forget the day's budget";
            faults.push(Fault::new(letter.place(), &path, "needs `data_dir`").hint(hint));
        }
        let targets =
            if kind.target { self.targets(&mut servers, &letter, (&path, kind), faults) } else { Vec::new() };
        let (Some(envelope), Some(config)) = (envelope, config) else { return };
        let of_targets = targets.iter().flat_map(|(_, server, _)| server.target.labels.keys());
        let labels = envelope.labels.keys().chain(of_targets).map(String::as_str).collect();
        self.families.add(&config, &envelope, &labels, &letter, &path, faults);
        if !kind.target {
            self.found.push(assignment(&envelope, kind, config.clone(), None, None, None));
        }
        for (name, server, at) in targets {
            let publisher = match &server.target.publisher {
                Some(own) if kind.ends.len() > 1 => {
                    self.servers.named(own, &at, &format!("{path}.target"), faults)
                }
                _ => publisher.clone().flatten(),
            };
            self.found.push(assignment(&envelope, kind, config.clone(), name, Some(server), publisher));
        }
    }

    fn check_envelope(
        &mut self,
        envelope: &Envelope,
        kind: &Kind,
        letter: &Node,
        path: &str,
        faults: &mut Faults,
    ) {
        let place = |key: &str| letter.get(key).unwrap_or(letter).place().clone();
        if envelope.name.is_empty() {
            faults.push(Fault::new(&place("name"), format!("{path}.name"), "is empty"));
        }
        if let Some(before) = self.names.insert(envelope.name.clone(), place("name").to_string()) {
            let message = format!("a check of this name was given before, at {before}");
            faults.push(Fault::new(&place("name"), format!("{path}.name"), message));
        }
        match (&envelope.every, kind.every) {
            (Some(every), _) if every.duration() < SHORTEST_INTERVAL => {
                faults.push(Fault::new(&place("every"), format!("{path}.every"), "shorter than 1s"));
            }
            (None, None) => {
                let message = "missing; this check has no default because every run costs money";
                faults.push(Fault::new(letter.place(), format!("{path}.every"), message));
            }
            _ => {}
        }
        if envelope.timeout.as_ref().is_some_and(|timeout| timeout.duration().is_zero()) {
            faults.push(Fault::new(&place("timeout"), format!("{path}.timeout"), "is zero"));
        }
        if envelope.limit == Some(0) {
            let message = "0 would leave out every sample of the check; leave the key out for 1000";
            faults.push(Fault::new(&place("limit"), format!("{path}.limit"), message));
        }
        check_labels(&envelope.labels, letter.get("labels"), &format!("{path}.labels"), faults);
    }

    /// The targets of a check: name (absent for an inline one), server, and where it was named.
    fn targets(
        &self,
        servers: &mut Node,
        letter: &Node,
        (path, kind): (&str, &Kind),
        faults: &mut Faults,
    ) -> Vec<(Option<String>, Arc<Server>, Node)> {
        let (one, many) = (servers.take("target"), servers.take("targets"));
        match (one, many) {
            (Some(one), None) => {
                let found = self.servers.server(&one.value, &format!("{path}.target"), kind.sql, faults);
                found.map(|(name, server)| (name, server, one.value)).into_iter().collect()
            }
            (None, Some(many)) => self.many(&many.value, &format!("{path}.targets"), faults),
            (Some(_), Some(many)) => {
                faults.push(Fault::new(
                    many.key.place(),
                    format!("{path}.targets"),
                    "there is `target` as well; write one of the two",
                ));
                Vec::new()
            }
            (None, None) => {
                let hint = "write `target: name` of one under `targets:`, or `target: {host: ...}`";
                faults.push(Fault::new(letter.place(), format!("{path}.target"), "missing").hint(hint));
                Vec::new()
            }
        }
    }

    fn many(&self, node: &Node, path: &str, faults: &mut Faults) -> Vec<(Option<String>, Arc<Server>, Node)> {
        let named = |server: &Arc<Server>| (Some(server.name.clone()), Arc::clone(server), node.clone());
        if let Some(items) = node.items() {
            let mut found = Vec::new();
            let mut seen = BTreeSet::new();
            for (at, item) in items.iter().enumerate() {
                let path = format!("{path}[{at}]");
                let Some(name) = item.text() else {
                    faults.push(Fault::new(item.place(), path, "expected the name of a target"));
                    continue;
                };
                if !seen.insert(name) {
                    faults.push(Fault::new(
                        item.place(),
                        path,
                        format!("\"{name}\" stands in this list already"),
                    ));
                    continue;
                }
                found.extend(
                    self.servers
                        .named(name, item, &path, faults)
                        .map(|server| (Some(name.to_owned()), server, item.clone())),
                );
            }
            return found;
        }
        let Some(wanted) = read::<Matching>(node, path, faults) else { return Vec::new() };
        let fits = |server: &&Arc<Server>| {
            wanted.labels.iter().all(|(name, value)| server.target.labels.get(name) == Some(value))
        };
        let found: Vec<_> = self.servers.known.values().flatten().filter(fits).map(named).collect();
        // Nobody knows the labels of a target that cannot be read.
        if found.is_empty() && self.servers.known.values().all(Option::is_some) {
            faults.push(Fault::new(node.place(), path, "no target has these labels"));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Key;
    use crate::config;
    use crate::config::secret::Text;
    use std::time::Duration;

    /// Loads a configuration, with further files beside it.
    fn load(name: &str, text: &str, beside: &[(&str, &str)]) -> Result<Plan, String> {
        let dir = std::env::temp_dir().join(format!("datapulse-config-{}-{name}", std::process::id()));
        std::fs::create_dir_all(dir.join("conf.d")).unwrap();
        std::fs::write(dir.join("c.yml"), text).unwrap();
        for (file, text) in beside {
            std::fs::write(dir.join(file), text).unwrap();
        }
        let nowhere: config::secret::Environment = Arc::new(|_| None);
        let outline = config::check(&dir.join("c.yml"), &nowhere);
        std::fs::remove_dir_all(&dir).unwrap();
        outline
            .map(|outline| outline.plan)
            .map_err(|faults| faults.to_string().replace(&format!("{}/", dir.display()), ""))
    }

    const TARGETS: &str = "targets:\n  a: {host: a.db, user: u, database: d, password: \"env:P\", labels: {team: core}}\n  b: {host: b.db, user: u, database: d, labels: {team: core}, publisher: a, thresholds: {silence: 10m}}\n";

    #[test]
    fn a_check_on_several_targets_becomes_one_assignment_each() {
        let text = format!(
            "{TARGETS}defaults: {{pg_subscription: {{every: 7s, labels: {{team: x, tier: 1}}}}}}\nchecks:\n  - pg_subscription: {{name: n, targets: {{match: {{team: core}}}}, thresholds: {{silence: 1m, lag_bytes: 1kB}}}}\n"
        );
        let plan = load("several", &text, &[]).unwrap();
        let [a, b] = plan.assignments.as_slice() else { panic!("{:?}", plan.assignments) };
        assert_eq!(a.key, Key { check: "n".into(), target: Some("a".into()) });
        assert_eq!((a.every, a.timeout), (Duration::from_secs(7), Duration::from_secs(7)));
        assert_eq!(a.labels, BTreeMap::from([("team".into(), "core".into()), ("tier".into(), "1".into())]));
        assert_eq!(a.thresholds, [("silence", 60.0), ("lag_bytes", 1000.0)]);
        assert_eq!(
            b.thresholds,
            [("silence", 600.0), ("lag_bytes", 1000.0)],
            "the target's limit beats the check's"
        );
        assert_eq!(
            (&a.publisher, b.publisher.as_ref().map(|server| server.name.as_str())),
            (&None, Some("a"))
        );
    }

    #[test]
    fn included_files_bring_targets_and_checks() {
        let text = "include: [conf.d/*.yml]\nchecks:\n  - pg_replication: {name: one, target: late}\n";
        let beside = [
            (
                "conf.d/2.yml",
                "checks:\n  - pg_replication: {name: two, target: {host: h, port: 1, user: u, database: d}}\n",
            ),
            ("conf.d/1.yml", "targets: {late: {host: h, user: u, database: d}}\n"),
            ("conf.d/ignored.txt", "]["),
        ];
        let plan = load("include", text, &beside).unwrap();
        let names: Vec<_> = plan
            .assignments
            .iter()
            .map(|one| (one.key.to_string(), one.server.as_ref().unwrap().name.clone()))
            .collect();
        assert_eq!(names, [("one@late".into(), "late".into()), ("two".into(), "h:1".into())]);
    }

    #[test]
    fn every_fault_is_told_with_its_place_and_its_cure() {
        let text = "targets:\n  a: {host: a.db, user: u, database: d, password: hunter2}\n  b: {hots: b.db, user: u, database: d}\n\
                    chekcs: []\nchecks:\n  - pg_subscription: {name: x, target: c, evry: 5s}\n  - pg_subscriptoin: {name: y}\n\
                    \x20 - pg_replication: {name: x, target: a, every: 100ms, publisher: b, labels: {check: no}}\n";
        let faults = load("faults", text, &[]).unwrap_err();
        let expected = [
            "c.yml:2:51: targets.a.password: a secret in clear text is not accepted here",
            "c.yml:3:7: targets.b.hots: unknown key; did you mean \"host\"?",
            "c.yml:4:1: chekcs: unknown key; did you mean \"checks\"?",
            "c.yml:6:40: checks[0].pg_subscription.target: there is no target \"c\"",
            "c.yml:6:43: checks[0].pg_subscription.evry: unknown key; did you mean \"every\"?",
            "c.yml:7:5: checks[1].pg_subscriptoin: unknown type of check; did you mean \"pg_subscription\"?",
            "c.yml:8:28: checks[2].pg_replication.name: a check of this name was given before, at",
            "checks[2].pg_replication.every: shorter than 1s",
            "checks[2].pg_replication.publisher: unknown key; accepted: role,",
            "checks[2].pg_replication.labels.check: samples have this label already",
        ];
        for words in expected {
            assert!(faults.contains(words), "{words}\nis not in\n{faults}");
        }
        assert_eq!(faults.lines().count(), expected.len(), "{faults}");
        assert!(!faults.contains("hunter2"), "{faults}");
    }

    #[test]
    fn no_fault_of_a_check_that_costs_money_hides_another() {
        let text = "checks:
  - athena_query: {name: a, every: 1, sql: drop table t, output: bucket, reuse: 5s, workgroup: [], databse: d, metrics: []}
  - logs_insights: {name: b, every: 1h, query: '', log_groups: [], window: 0s, delay: 1m, empty: zero, region: [], fill: {x: [1]}, freshness: []}
";
        let faults = load("paid", text, &[]).unwrap_err();
        let expected = [
            "c.yml:2:19: checks[0].athena_query: needs `data_dir`; write",
            "c.yml:2:36: checks[0].athena_query.every: a duration needs a unit; write 1s",
            "c.yml:2:44: checks[0].athena_query.sql: not a statement that reads; it has to begin with",
            "c.yml:2:66: checks[0].athena_query.output: not a place in S3; write s3://bucket/prefix/",
            "c.yml:2:81: checks[0].athena_query.reuse: Athena takes 1m to 7d",
            "c.yml:2:96: checks[0].athena_query.workgroup: expected a string, found a list",
            "c.yml:2:100: checks[0].athena_query.databse: unknown key; did you mean \"database\"?",
            "checks[0].athena_query.metrics: is empty",
            "c.yml:3:20: checks[1].logs_insights: needs `data_dir`",
            "checks[1].logs_insights.query: expected 1 to 10,000 characters",
            "checks[1].logs_insights.log_groups: expected 1 to 50 log groups",
            "checks[1].logs_insights.window: shorter than 1s",
            "checks[1].logs_insights.empty: `zero` with a `delay` below 5m",
            "checks[1].logs_insights.region: expected a string, found a list",
            "checks[1].logs_insights.metrics: missing key",
            "checks[1].logs_insights.freshness: expected a string, found a list",
        ];
        for words in expected {
            assert!(faults.contains(words), "{words}\nis not in\n{faults}");
        }
        assert_eq!(faults.lines().count(), expected.len(), "{faults}");
    }

    #[test]
    fn every_fault_of_the_alerts_is_told_at_once() {
        let text = "checks: []
alerts:
  slack: {token: xoxb-hunter2, channel: '#alerts', routes: [{match: {team: a}, chanel: C1}]}
  unheard_after: 1m
  evidence:
    - colect: []
    - collect: [{rowz: {}}, {metric_image: {widget: {title: x}}}, {chart: {prometheus: 'localhost:9090', time_zone: Mars}}]
    - collect: [{logs_insights: {log_group: '', limit: 0}}]
";
        let faults = load("alerts", text, &[]).unwrap_err();
        let expected = [
            "c.yml:3:3: alerts: needs `data_dir`; write `data_dir: /var/lib/datapulse`",
            "alerts.slack.token: a secret in clear text is not accepted here",
            "alerts.slack.channel: expected a channel's id, such as C0123456789",
            "alerts.slack.routes[0].chanel: unknown key; did you mean \"channel\"?",
            "alerts.unheard_after: shorter than 15m",
            "alerts.evidence[0].colect: unknown key; did you mean \"collect\"?",
            "alerts.evidence[1].collect[0].rowz: unknown word",
            "alerts.evidence[1].collect[1].metric_image.widget: expected a widget with `metrics`, a list",
            "alerts.evidence[1].collect[2].chart.prometheus: not an address",
            "alerts.evidence[1].collect[2].chart.time_zone: not a time zone",
            "alerts.evidence[2].collect[0].logs_insights.log_group: is empty",
            "alerts.evidence[2].collect[0].logs_insights.limit: expected 1 to 100",
        ];
        for words in expected {
            assert!(faults.contains(words), "{words}\nis not in\n{faults}");
        }
        assert!(!faults.contains("hunter2"), "{faults}");
        let good = "data_dir: d\nalerts: {slack: {token: 'env:T', channel: C1}}\n";
        let alerts = load("alerts-good", good, &[]).unwrap().alerts.unwrap();
        assert_eq!(alerts.slack.url.to_string(), "https://slack.com/api");
        assert_eq!((alerts.scans_per_hour, alerts.unheard_after.duration().as_secs()), (30, 10_800));
    }

    #[test]
    fn no_fault_of_the_logs_hides_another() {
        let text = "logs:
  doors: {access_keys: [clear-text-key], keys: []}
  routes:
    - {match: 'a b', parser: mysql}
    - {match: app, parser: plain, log_line_prefix: '%m', labels: {check: x}}
    - {match: one, parser: postgres, log_line_prefix: '%Z', archive: {dir: a, time_zone: Tokyo, line: '{msg}'}}
    - {match: two, parser: plain, archive: {dir: b}}
    - {match: three, parser: plain, archive: {dir: b, time_zone: Asia/Tokyo}}
    - {match: two/*, parser: plain, archive: {dir: b}}
";
        let faults = load("logs", text, &[]).unwrap_err();
        let expected = [
            "logs: needs `data_dir`; write",
            "c.yml:2:25: logs.doors.access_keys[0]: a secret in clear text is not accepted here",
            "logs.doors.keys: unknown key; accepted: access_keys",
            "c.yml:4:30: logs.routes[0].parser: unknown word \"mysql\"; accepted: mysql_slow, postgres, plain",
            "c.yml:5:52: logs.routes[1].log_line_prefix: is for `parser: postgres` only",
            "logs.routes[1].labels.check: samples have this label already",
            "c.yml:6:55: logs.routes[2].log_line_prefix: log_line_prefix `%Z` has the unknown escape %Z",
            "logs.routes[2].archive.time_zone: no time zone of the IANA database; write it like Asia/Tokyo",
            "logs.routes[2].archive.line: unknown placeholder {msg}; known are {message}",
            "logs.routes[4].archive: a route before has this dir with another time_zone, line or seal_after",
            "logs.routes[5].archive: a route before has this dir",
        ];
        for words in expected {
            assert!(faults.contains(words), "{words}\nis not in\n{faults}");
        }
        assert_eq!(faults.lines().count(), expected.len(), "{faults}");
        assert!(!faults.contains("clear-text-key"), "{faults}");
    }

    #[test]
    fn words_that_yaml_would_bend_stay_text() {
        let text = "checks:\n  - pg_subscription: {name: 08, target: {host: NO, user: on, database: 1e3}}\n";
        let plan = load("words", text, &[]).unwrap();
        let target = &plan.assignments[0].server.as_ref().unwrap().target;
        assert_eq!(plan.assignments[0].key.check, "08");
        assert_eq!(
            [&target.host, target.user.as_ref().unwrap(), &target.database],
            ["NO", "on", "1e3"].map(|text| &*Box::leak(Box::new(Text::Plain(text.into()))))
        );
    }

    #[test]
    fn a_store_needs_neither_user_nor_database_and_is_not_discovered() {
        let named =
            "targets:\n  a: {host: h, labels: {tier: cache}}\n  b: {host: h, labels: {tier: cache}}\n";
        for checks in [
            "  - redis: {name: n, target: a}\n  - redis: {name: m, target: b}\n",
            "  - redis: {name: n, targets: [a, b]}\n",
            "  - redis: {name: n, targets: {match: {tier: cache}}}\n",
        ] {
            let plan = load("store", &format!("{named}checks:\n{checks}"), &[]).unwrap();
            assert_eq!(plan.assignments.len(), 2, "{checks}");
            assert!(plan.references().is_empty());
        }
        let both = format!(
            "{named}checks:\n  - redis: {{name: n, target: a}}\n  - pg_inflight: {{name: m, target: a}}\n"
        );
        let faults = load("store-and-sql", &both, &[]).unwrap_err();
        for fault in [
            "c.yml:2:6: targets.a.user: missing key",
            "c.yml:2:6: targets.a.database: missing key",
            "targets.b",
        ] {
            assert!(faults.contains(fault), "{faults}");
        }
        let elsewhere = "checks:\n  - redis: {name: n, target: {from: 'ssm-path:/cache/'}}\n";
        let plan = load("store-from", elsewhere, &[]).unwrap();
        let needed: Vec<String> = plan.references().iter().map(ToString::to_string).collect();
        assert_eq!(needed, ["ssm:/cache/hostname", "ssm:/cache/password"], "the others may be missing");
        let iam = "checks:\n  - redis: {name: n, target: {host: clustercfg.s.abc.memorydb.eu-west-1.amazonaws.com, auth: iam}}\n";
        assert!(load("store-iam", iam, &[]).unwrap_err().contains("target.user: missing key"));
        let found = "checks:\n  - redis: {name: n, discover: {rds: {user: u, database: d}}}\n";
        assert!(load("store-discover", found, &[]).unwrap_err().contains("redis.discover: unknown key"));
    }

    #[test]
    fn only_where_aws_names_the_user_it_may_be_left_out() {
        let target = |keys: &str| {
            format!("checks:\n  - pg_replication: {{name: n, target: {{database: d, {keys}}}}}\n")
        };
        let serverless = "cluster: {redshift_serverless: wg}";
        for (keys, user) in [
            ("host: wg.1.eu-west-1.redshift-serverless.amazonaws.com, auth: iam".to_owned(), None),
            (format!("host: h, auth: iam, {serverless}"), None),
            (format!("from: 'ssm-path:/wg/', auth: iam, {serverless}"), None),
            (format!("host: h, user: u, auth: iam, {serverless}"), Some("u")),
        ] {
            let plan = load("serverless", &target(&keys), &[]).unwrap();
            let target = &plan.assignments[0].server.as_ref().unwrap().target;
            assert_eq!(target.user, user.map(|user| Text::Plain(user.to_owned())), "{keys}");
            assert_eq!(target.login_role(), None, "{keys}");
            assert!(
                target.references().all(|reference| !reference.to_string().contains("username")),
                "{keys}"
            );
        }
        for keys in [
            "host: h",
            "host: h, user: ~",
            "host: h, prot: 1",
            "host: h, auth: iam, cluster: {redshift: bi}",
            "host: h, auth: iam, cluster: {rds: bi}",
            "host: wg.1.eu-west-1.redshift-serverless.amazonaws.com",
        ] {
            let faults = load("no-user", &target(keys), &[]).unwrap_err();
            assert!(
                faults.contains("c.yml:2:39: checks[0].pg_replication.target.user: missing key"),
                "{keys}: {faults}"
            );
        }
    }

    #[test]
    fn a_check_wants_exactly_one_of_target_and_targets() {
        let text = format!(
            "{TARGETS}checks:\n  - pg_replication: {{name: n}}\n  - pg_replication: {{name: m, target: a, targets: [b]}}\n"
        );
        let faults = load("one", &text, &[]).unwrap_err();
        assert!(faults.contains("checks[0].pg_replication.target: missing"), "{faults}");
        assert!(faults.contains("checks[1].pg_replication.targets: there is `target` as well"), "{faults}");
    }
}
