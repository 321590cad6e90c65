//! Rules and dashboards name only metrics and labels that the catalogue has.

use crate::stage::root;
use datapulse::cli::catalogue::entries;
use datapulse::config::fault::Faults;
use datapulse::config::node::{Node, parse};
use metrics::Kind;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Labels = BTreeSet<String>;

/// What Prometheus adds to every series that it scrapes.
const SCRAPE: [&str; 2] = ["job", "instance"];
/// Series that Prometheus makes itself. An alert has the labels of the series that it is about, too.
const OF_PROMETHEUS: [(&str, &[&str]); 2] = [
    ("up", &[]),
    (
        "ALERTS",
        &[
            "alertname",
            "alertstate",
            "severity",
            "source",
            "check",
            "target",
            "country",
            "subname",
            "node",
            "log_group",
        ],
    ),
];
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 9] = ["and", "or", "unless", "offset", "bool", "atan2", "inf", "Inf", "NaN"];

/// Metrics whose names the configuration gives: bundled rules speak of these, and the demo and the documents make them.
const CONFIGURED: [(&str, &[&str]); 2] =
    [("device_connections", &["country"]), ("device_holiday", &["country"])];

/// Everything that a name of a series can have as labels.
pub(crate) struct Known(BTreeMap<String, Labels>);

impl Known {
    /// The families of the catalogue.
    fn catalogue() -> Self {
        let mut all = BTreeMap::new();
        for entry in entries() {
            let own = entry.family.labels.iter().map(str::to_owned);
            let labels: Labels =
                own.chain(entry.common.iter().chain(&SCRAPE).map(ToString::to_string)).collect();
            let name = entry.family.prometheus();
            if entry.family.kind == Kind::Histogram {
                // Nothing has the bare name: a histogram is three series.
                let with_bound = labels.iter().cloned().chain(["le".to_owned()]).collect();
                all.insert(format!("{name}_bucket"), with_bound);
                all.insert(format!("{name}_sum"), labels.clone());
                all.insert(format!("{name}_count"), labels);
            } else {
                all.insert(name, labels);
            }
        }
        assert!(all.len() > 60, "the catalogue has {} families only", all.len());
        for (name, own) in CONFIGURED {
            let labels = own.iter().chain(&["check", "target"]).chain(&SCRAPE).map(ToString::to_string);
            all.insert(name.to_owned(), labels.collect());
        }
        for (name, own) in OF_PROMETHEUS {
            all.insert(name.to_owned(), own.iter().chain(&SCRAPE).map(ToString::to_string).collect());
        }
        Self(all)
    }

    /// These, and what the bundled rules record, with every label that there is: whether they have it is the matter of one test.
    pub(crate) fn with_rules() -> Self {
        let mut known = Self::catalogue();
        for rule in files("alerts", "yml").iter().flat_map(|path| rules(path)) {
            if let Some(name) = rule.record {
                let all = known.0.values().flatten().cloned().chain(Uses::of(&rule.expression).made);
                let all = all.collect();
                known.0.insert(name, all);
            }
        }
        known
    }

    /// Checks an expression; gives the labels that its result can have, and adds what is wrong.
    pub(crate) fn check(&self, place: &str, expression: &str, wrong: &mut Vec<String>) -> Labels {
        let uses = Uses::of(expression);
        let mut union: Labels = uses.made.clone();
        for (name, matched) in &uses.series {
            let Some(labels) = self.0.get(name) else {
                wrong.push(format!("{place}: there is no metric {name}"));
                continue;
            };
            for label in matched.iter().filter(|label| !labels.contains(*label)) {
                wrong.push(format!("{place}: {name} has no label {label}"));
            }
            union.extend(labels.iter().cloned());
        }
        for label in uses.grouped.iter().filter(|label| !union.contains(*label)) {
            wrong.push(format!("{place}: nothing in this expression has the label {label}: {expression}"));
        }
        union
    }
}

/// What an expression names.
#[derive(Debug, Default, PartialEq)]
struct Uses {
    /// Series with the labels of their matchers.
    series: Vec<(String, Vec<String>)>,
    /// Labels of `by`, `on` and their like.
    grouped: Labels,
    /// Labels that `label_replace` and `label_join` make.
    made: Labels,
}

impl Uses {
    fn of(expression: &str) -> Self {
        let tokens = tokens(expression);
        let mut uses = Self::default();
        let (mut at, mut matching) = (0, false);
        while let Some(token) = tokens.get(at) {
            let next = tokens.get(at + 1).map_or("", String::as_str);
            match token.as_str() {
                "{" => matching = true,
                "}" => matching = false,
                "label_replace" | "label_join" => {
                    // The name stands behind the first argument, whose own commas are in brackets.
                    let mut depth = 0;
                    let end = tokens[at + 1..].iter().position(|token| {
                        depth += i32::from(token == "(") - i32::from(token == ")");
                        depth == 1 && token == ","
                    });
                    let name = end.and_then(|end| tokens.get(at + end + 2)).cloned().unwrap_or_default();
                    uses.made.insert(name.trim_matches('"').to_owned());
                }
                word if GROUPING.contains(&word) && next == "(" => {
                    let names: Vec<_> = tokens[at + 2..].iter().take_while(|token| *token != ")").collect();
                    at += 2 + names.len();
                    uses.grouped.extend(names.into_iter().filter(|token| *token != ",").cloned());
                }
                word if !is_name(word)
                    || WORDS.contains(&word)
                    || GROUPING.contains(&word)
                    || next == "(" => {}
                word if matching => {
                    if let Some((_, labels)) = uses.series.last_mut().filter(|_| next.contains(['=', '!'])) {
                        labels.push(word.to_owned());
                    }
                }
                // A function with its grouping before the bracket: `sum by (a) (b)`.
                _ if GROUPING.contains(&next) && is_aggregation(token) => {}
                word => uses.series.push((word.to_owned(), Vec::new())),
            }
            at += 1;
        }
        uses
    }
}

fn is_aggregation(word: &str) -> bool {
    ["sum", "min", "max", "avg", "group", "count", "topk", "bottomk", "quantile", "stddev", "count_values"]
        .contains(&word)
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Names, strings with their quotes, and single characters; numbers, durations and Grafana's variables are left out.
fn tokens(expression: &str) -> Vec<String> {
    let letters: Vec<char> = expression.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    let run = |from: usize, fits: &dyn Fn(char) -> bool| {
        letters[from..].iter().position(|c| !fits(*c)).map_or(letters.len(), |length| from + length)
    };
    while at < letters.len() {
        let letter = letters[at];
        let end = match letter {
            '"' | '\'' | '`' => {
                let mut end = at + 1;
                while end < letters.len() && letters[end] != letter {
                    end += 1 + usize::from(letters[end] == '\\' && letter != '`');
                }
                (end + 1).min(letters.len())
            }
            '#' => run(at, &|c| c != '\n'),
            '$' if letters.get(at + 1) == Some(&'{') => run(at, &|c| c != '}') + 1,
            '$' => run(at + 1, &|c| c.is_ascii_alphanumeric() || c == '_'),
            c if c.is_ascii_digit() => run(at, &|c| c.is_ascii_alphanumeric() || c == '.'),
            c if c.is_ascii_alphabetic() || c == '_' => {
                run(at, &|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
            }
            _ => at + 1,
        };
        if !letter.is_whitespace() && !letter.is_ascii_digit() && letter != '#' && letter != '$' {
            tokens.push(letters[at..end].iter().collect());
        }
        at = end;
    }
    tokens
}

/// The files of a folder that end so; at least one.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == ending)).collect();
    found.sort();
    assert!(!found.is_empty(), "{folder}/ holds no .{ending} file");
    found
}

pub(crate) struct Rule {
    place: String,
    pub(crate) record: Option<String>,
    pub(crate) expression: String,
    annotations: Vec<String>,
}

/// The rules of a file; routes of Alertmanager have none.
pub(crate) fn rules(path: &Path) -> Vec<Rule> {
    let mut faults = Faults::default();
    let text = std::fs::read_to_string(path).unwrap();
    let root = parse(&path.display().to_string(), &text, &mut faults).unwrap();
    assert!(faults.is_empty(), "{faults}");
    let groups = root.get("groups").and_then(Node::items).unwrap_or_default();
    let items = groups.iter().flat_map(|group| group.get("rules").and_then(Node::items).unwrap());
    let text = |rule: &Node, key: &str| rule.get(key).and_then(Node::text).map(str::to_owned);
    items
        .map(|rule| Rule {
            place: rule.place().to_string(),
            record: text(rule, "record"),
            expression: text(rule, "expr").unwrap(),
            annotations: rule
                .get("annotations")
                .and_then(Node::entries)
                .unwrap_or_default()
                .iter()
                .filter_map(|entry| entry.value.text().map(str::to_owned))
                .collect(),
        })
        .collect()
}

/// The words behind each `mark`.
fn behind<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(mark).skip(1).map(|rest| {
        rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(rest, |end| &rest[..end])
    })
}

#[test]
fn rules_name_only_metrics_and_labels_of_the_catalogue() {
    let rules: Vec<Rule> = files("alerts", "yml").iter().flat_map(|path| rules(path)).collect();
    assert!(rules.len() > 20, "only {} rules were found", rules.len());
    let (mut known, mut wrong) = (Known::catalogue(), Vec::new());
    // A recorded series has what its own expression has; that one may be recorded too.
    let mut waiting: Vec<&Rule> = rules.iter().filter(|rule| rule.record.is_some()).collect();
    while !waiting.is_empty() {
        let names: BTreeSet<&str> = waiting.iter().filter_map(|rule| rule.record.as_deref()).collect();
        let ready = |rule: &&Rule| {
            Uses::of(&rule.expression).series.iter().all(|(name, _)| !names.contains(name.as_str()))
        };
        let (now, later): (Vec<_>, Vec<_>) = waiting.iter().copied().partition(ready);
        assert!(!now.is_empty(), "these recorded series need each other: {names:?}");
        for rule in now {
            let labels = known.check(&rule.place, &rule.expression, &mut wrong);
            known.0.entry(rule.record.clone().unwrap()).or_default().extend(labels);
        }
        waiting = later;
    }
    for rule in rules.iter().filter(|rule| rule.record.is_none()) {
        let labels = known.check(&rule.place, &rule.expression, &mut wrong);
        for text in &rule.annotations {
            for label in behind(text, "$labels.").filter(|label| !labels.contains(*label)) {
                wrong.push(format!(
                    "{}: an annotation uses the label {label}, which the alert has not",
                    rule.place
                ));
            }
            for query in text.split('`').skip(1).step_by(2) {
                known.check(&rule.place, &query.replace("%q", "\"\""), &mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_runbook_that_an_alert_names_exists() {
    let mut named = 0;
    for rule in files("alerts", "yml").iter().flat_map(|path| rules(path)) {
        for book in rule.annotations.iter().filter(|text| text.starts_with("docs/runbooks/")) {
            assert!(root().join(book).is_file(), "{}: there is no {book}", rule.place);
            named += 1;
        }
    }
    assert!(named > 10, "only {named} alerts name a runbook");
}

/// Where the bundled routes lead, by the labels of an alert.
#[test]
fn the_bundled_routes_are_whole_and_lead_where_they_should() {
    let folder = root().join("alerts");
    let ask = |file: &str, labels: &str| {
        let mut command = std::process::Command::new("amtool");
        let path = folder.join(file);
        if labels.is_empty() {
            command.arg("check-config").arg(path);
        } else {
            command.args(["config", "routes", "test", "--config.file"]).arg(path).args(labels.split(' '));
        }
        let output =
            command.output().unwrap_or_else(|why| panic!("amtool: {why}; install it with `make setup`"));
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    for (labels, ours, plain) in [
        ("alertname=RedshiftQueryLongRunning source=inflight severity=warning", "datapulse", "slack-warning"),
        (
            "alertname=RedshiftQueryLongRunning source=inflight severity=critical",
            "datapulse",
            "slack-critical",
        ),
        (
            "alertname=PostgresSubscriptionDisabled source=replication severity=critical",
            "datapulse",
            "slack-critical",
        ),
        ("alertname=DeviceConnectionsZero source=devices severity=critical", "datapulse", "slack-critical"),
        ("alertname=DatapulseDown source=datapulse severity=critical", "slack-critical", "slack-critical"),
        (
            "alertname=DatapulseClockOffset source=datapulse severity=warning",
            "slack-warning",
            "slack-warning",
        ),
        ("alertname=DatapulseWatchdog source=datapulse severity=info", "watchdog", "watchdog"),
        ("alertname=SomebodyElse", "slack-warning", "slack-warning"),
    ] {
        assert_eq!(ask("alertmanager.yml", labels), ours, "{labels}");
        assert_eq!(ask("alertmanager-slack.yml", labels), plain, "{labels}");
    }
    for file in ["alertmanager.yml", "alertmanager-slack.yml"] {
        ask(file, "");
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains("group_by: [alertname, check, target]\n"), "{file}");
        assert!(text.contains("group_by: [alertname, check, target, pid, query_id, started]\n"), "{file}");
    }
    // What is said about datapulse itself never goes through it, and the file without it never names it.
    let plain = std::fs::read_to_string(folder.join("alertmanager-slack.yml")).unwrap();
    assert!(!plain.contains("/alerts/alertmanager"), "the plain file has datapulse's door");
}

#[test]
fn dashboards_name_only_metrics_and_labels_of_the_catalogue() {
    let (known, mut wrong) = (Known::with_rules(), Vec::new());
    for path in files("dashboards", "json") {
        let place = path.strip_prefix(root()).unwrap().display().to_string();
        let board: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let mut queries = Vec::new();
        collect(&board, &mut queries);
        assert!(queries.len() > 5, "{place}: only {} queries were found", queries.len());
        for Query { expression, legend } in queries {
            let labels = known.check(&place, &expression, &mut wrong);
            for label in behind(&legend.replace("{{ ", "{{"), "{{").filter(|label| !labels.contains(*label)) {
                wrong.push(format!("{place}: the legend of {expression} uses {label}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn monitors_for_datadog_name_only_metrics_and_tags_of_the_catalogue() {
    let mut known: BTreeMap<String, Labels> = BTreeMap::new();
    for entry in entries().into_iter().filter(|entry| entry.family.pushed) {
        let labels = entry.family.labels.iter().chain(entry.common.iter().copied()).map(str::to_owned);
        known.insert(entry.family.name.to_string(), labels.collect());
    }
    let configured = CONFIGURED.map(|(name, labels)| (name.replacen('_', ".", 1), labels));
    for (name, labels) in configured {
        let common = ["check", "target"];
        known.insert(name, labels.iter().chain(&common).map(ToString::to_string).collect());
    }
    let (mut sources, mut wrong) = (BTreeSet::new(), Vec::new());
    for path in files("alerts/datadog", "json") {
        let place = path.strip_prefix(root()).unwrap().display().to_string();
        let monitor: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        if place.ends_with("/webhook.json") {
            let variables: Vec<&str> =
                monitor.as_object().unwrap().values().filter_map(Value::as_str).collect();
            assert!(variables.contains(&"$ALERT_CYCLE_KEY") && variables.contains(&"$ALERT_TRANSITION"));
            continue;
        }
        let text = |key: &str| monitor[key].as_str().unwrap_or_else(|| panic!("{place}: no {key}"));
        let (query, message) = (text("query"), text("message"));
        for key in ["name", "type"] {
            assert!(!text(key).is_empty(), "{place}: {key} is empty");
        }
        assert!(message.contains("@webhook-datapulse"), "{place}: tells nobody");
        if let Some(book) = message.split_whitespace().find(|word| word.starts_with("docs/runbooks/")) {
            assert!(root().join(book).is_file(), "{place}: there is no {book}");
        }
        // The limit stands in the query and, as Datadog wants it, once more in the options.
        let limit = query.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok());
        assert_eq!(limit, monitor["options"]["thresholds"]["critical"].as_f64(), "{place}: two limits");
        let tags = monitor["tags"].as_array().unwrap().iter().filter_map(Value::as_str);
        sources.extend(tags.filter_map(|tag| tag.strip_prefix("source:")).map(str::to_owned));

        let selections = selections(query);
        assert!(!selections.is_empty(), "{place}: no metric in {query}");
        for (metric, tags) in &selections {
            match known.get(metric) {
                None => wrong.push(format!("{place}: there is no metric {metric}")),
                Some(labels) => {
                    let strange = tags.iter().filter(|tag| !labels.contains(*tag));
                    wrong.extend(strange.map(|tag| format!("{place}: {metric} has no tag {tag}")));
                }
            }
        }
        for variable in behind(&format!("{} {message}", text("name")), "{{").filter(|word| *word != "value") {
            if !selections.iter().any(|(_, tags)| tags.contains(&variable.to_owned())) {
                wrong.push(format!("{place}: {{{{{variable}}}}} is not one of the groups"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all = ["datapulse", "devices", "inflight", "replication", "slow_query", "stores"];
    assert_eq!(sources, all.map(str::to_owned).into());
}

/// The metrics of a query of Datadog, `avg:NAME{tag:value} by {tag,tag}`, each with the tags that it selects and groups by.
fn selections(query: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in query.match_indices('{') {
        let name = query[..at].rsplit([':', ' ', '(', ',']).next().unwrap_or_default();
        let inside = query[at + 1..].split('}').next().unwrap_or_default();
        let tags = inside
            .split(',')
            .map(|tag| tag.split(':').next().unwrap_or_default().trim_matches(['!', ' ']).to_owned());
        let tags = tags.filter(|tag| tag != "*");
        if name.is_empty() {
            // `by {..}` belongs to the metric before it.
            let last: &mut (String, Vec<String>) = found.last_mut().unwrap();
            last.1.extend(tags);
        } else {
            found.push((name.to_owned(), tags.collect()));
        }
    }
    found
}

#[test]
fn queries_of_datadog_are_taken_apart() {
    let one = "sum(last_1m):anomalies(avg:a.b{x:y,!z:w} by {c,d}, 'agile', 2) - max:e{*} > 1";
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        selections(one),
        [("a.b".to_owned(), words(&["x", "z", "c", "d"])), ("e".to_owned(), words(&[]))]
    );
}

struct Query {
    expression: String,
    legend: String,
}

/// Queries of panels, and those that fill variables.
fn collect(value: &Value, found: &mut Vec<Query>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(map) => {
            let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            if map.contains_key("expr") {
                found.push(Query { expression: text("expr"), legend: text("legendFormat") });
            }
            for key in ["query", "definition"] {
                if let Some(inside) =
                    text(key).strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'))
                {
                    // The label is checked like one of a legend.
                    let (expression, label) = inside.rsplit_once(',').unwrap_or(("", inside));
                    let query = Query {
                        expression: expression.to_owned(),
                        legend: format!("{{{{{}}}}}", label.trim()),
                    };
                    found.push(query);
                }
            }
            if let Some(inside) =
                text("query").strip_prefix("query_result(").and_then(|rest| rest.strip_suffix(')'))
            {
                found.push(Query { expression: inside.to_owned(), legend: String::new() });
            }
            map.values().for_each(|item| collect(item, found));
        }
        _ => {}
    }
}

#[test]
fn expressions_are_taken_apart() {
    let uses = Uses::of(
        "sum by (a, b) (rate(x_total{c=\"}\",d!~'e'}[5m:1m])) / on (f) group_left () y:z offset 1e3m and $v * ${w} > 0x1F # k\n or label_replace(q, \"made\", \"$1\", \"r\", \"(.*)\")",
    );
    let series = [("x_total", vec!["c", "d"]), ("y:z", vec![]), ("q", vec![])];
    assert_eq!(
        uses.series,
        series.map(|(name, labels)| (name.into(), labels.iter().map(ToString::to_string).collect()))
    );
    assert_eq!(uses.grouped, ["a", "b", "f"].map(str::to_owned).into());
    assert_eq!(uses.made, ["made".to_owned()].into());
    let mut wrong = Vec::new();
    Known::catalogue().check(
        "here",
        "max by (nobody) (datapulse_check_up{color=\"red\"}) + nonsense",
        &mut wrong,
    );
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    wrong.clear();
    let histogram = "sum by (le) (mysql_slow_query_lock_seconds_bucket) + mysql_slow_query_lock_seconds_sum";
    Known::catalogue().check("here", histogram, &mut wrong);
    assert!(wrong.is_empty(), "{wrong:?}");
    Known::catalogue().check("here", "mysql_slow_query_lock_seconds", &mut wrong);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
}
