//! From a file to a plan: read, and again with what AWS keeps of it, until everything is known or something is wrong.

use super::Plan;
use super::fault::{Fault, Faults};
use super::kept::Sources;
use super::secret::{Environment, Vault};
use super::sections::read_all;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A value that is fetched may name further files, whose values are fetched next; that has an end.
const ROUNDS: usize = 5;

/// What a configuration comes to as far as this machine knows.
#[derive(Debug)]
pub struct Outline {
    /// Without the checks and sections that have values in AWS.
    pub plan: Plan,
    /// How many checks there are, those included.
    pub checks: usize,
    /// The values that only AWS knows: where they stand, and the reference.
    pub unknown: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug)]
pub struct Refused {
    /// What is wrong, and where.
    pub faults: Faults,
    /// Nothing is wrong with the configuration: AWS did not give what it keeps of it.
    pub unreachable: bool,
}

/// Where relative paths of a configuration begin.
pub fn folder(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().unwrap_or(Path::new("/")).to_owned()
}

/// Reads a configuration with all files that it includes, without asking anybody.
///
/// # Errors
/// All its faults.
pub fn check(path: &Path, environment: &Environment) -> Result<Outline, Faults> {
    let sources = Sources::new(Arc::clone(environment), &folder(path), BTreeMap::new());
    read(path, &sources)
}

/// Reads a configuration with all files that it includes and all values that AWS keeps.
///
/// # Errors
/// All faults of the files, or those of what AWS keeps.
pub async fn load(path: &Path, vault: &Vault) -> Result<Plan, Refused> {
    let mut fetched = BTreeMap::new();
    for _ in 0..ROUNDS {
        let sources = Sources::new(Arc::clone(vault.environment()), &folder(path), fetched.clone());
        let outline = read(path, &sources).map_err(|faults| Refused { faults, unreachable: false })?;
        let unknown = sources.unknown();
        if unknown.is_empty() {
            return Ok(outline.plan);
        }
        let (mut faults, mut unreachable) = (Faults::default(), true);
        let wanted = unknown.keys().cloned().collect();
        for (reference, found) in vault.values(&outline.plan.secrets.place(), wanted).await {
            match (found, unknown.get(&reference)) {
                (Ok(secret), _) => drop(fetched.insert(reference, secret)),
                (Err((problem, missing)), Some((place, key))) => {
                    unreachable &= !missing;
                    faults.push(Fault::new(place, key, problem.to_string()));
                }
                (Err(_), None) => {}
            }
        }
        if !faults.is_empty() {
            return Err(Refused { faults, unreachable });
        }
    }
    let mut faults = Faults::default();
    let message = format!("what AWS keeps of it names further values in AWS, more than {ROUNDS} times");
    faults.push(Fault { place: None, key: String::new(), message, hint: None });
    Err(Refused { faults, unreachable: false })
}

fn read(path: &Path, sources: &Arc<Sources>) -> Result<Outline, Faults> {
    let mut faults = Faults::default();
    let all = read_all(path, sources, &mut faults);
    sources.hide(&mut faults);
    match all {
        Some((plan, checks)) if faults.is_empty() => {
            let unknown = sources.unknown().into_iter();
            let unknown = unknown.map(|(reference, (_, key))| format!("{key} ({reference})")).collect();
            Ok(Outline { plan, checks, unknown })
        }
        _ => Err(faults),
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.faults.fmt(f)
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::super::node::{Node, Style, parse};
    use super::super::scalar::Interval;
    use super::super::secret::Text;
    use super::*;
    use crate::checks;

    /// A value that must not be repeated.
    const CANARY: &str = "{%canary-5d41/402a bc4b";

    /// Reads a configuration from a folder of its own, with further files in it.
    fn read_in(name: &str, text: &str, files: &[(&str, &str)], value: &str) -> Result<Outline, String> {
        let dir = std::env::temp_dir().join(format!("datapulse-loading-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (file, text) in files.iter().chain(&[("c.yml", text)]) {
            std::fs::write(dir.join(file), text).unwrap();
        }
        let value = value.to_owned();
        let environment: Environment = Arc::new(move |name| (name == "V").then(|| value.clone()));
        let outline = check(&dir.join("c.yml"), &environment);
        std::fs::remove_dir_all(&dir).unwrap();
        outline.map_err(|faults| faults.to_string().replace(&format!("{}/", dir.display()), ""))
    }

    /// The example without `include`, which names files that are not here.
    fn example() -> Node {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/datapulse.yml");
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.replace("\"ssm:/monitoring/athena/output\"", "s3://results/");
        let mut node = parse("e", &text, &mut Faults::default()).unwrap();
        node.take("include");
        node
    }

    /// The tree as JSON, which is YAML too, with one of its values replaced; and that value as it was, with its path.
    fn with(node: &Node, number: usize, other: &str) -> (String, Option<(String, String)>) {
        let (mut text, mut count, mut found) = (String::new(), 0, None);
        write(node, "", &mut text, &mut |path, value| {
            count += 1;
            (count - 1 == number).then(|| {
                found = Some((path.to_owned(), value.to_owned()));
                other.to_owned()
            })
        });
        (text, found)
    }

    type Replace<'a> = &'a mut dyn FnMut(&str, &str) -> Option<String>;

    fn write(node: &Node, path: &str, text: &mut String, replace: Replace<'_>) {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        if let Some(items) = node.items() {
            text.push('[');
            for item in items {
                write(item, &format!("{path}[]"), text, replace);
                text.push_str(", ");
            }
            text.push(']');
        } else if let Some(entries) = node.entries() {
            text.push('{');
            for entry in entries {
                let key = entry.key.text().unwrap();
                text.push_str(&format!("{}: ", quoted(key)));
                write(&entry.value, &format!("{path}/{key}"), text, replace);
                text.push_str(", ");
            }
            text.push('}');
        } else {
            let value = node.text().unwrap();
            let typed = value.parse::<f64>().is_ok() || matches!(value, "true" | "false");
            let bare = node.style() == Some(Style::Plain) && typed;
            match replace(path, value) {
                Some(other) => text.push_str(&quoted(&other)),
                None if bare => text.push_str(value),
                None => text.push_str(&quoted(value)),
            }
        }
    }

    /// Names, and what says which of them is meant.
    fn is_a_name(path: &str) -> bool {
        let names = ["/target", "/publisher", "/targets[]", "/from"];
        let of_a_check =
            path.starts_with("/checks[]") && path.matches('/').count() == 3 && path.ends_with("/name");
        of_a_check || names.iter().any(|name| path.ends_with(name))
    }

    #[test]
    fn every_value_of_a_configuration_may_be_kept_elsewhere() {
        let example = example();
        let (text, _) = with(&example, usize::MAX, "");
        let Outline { plan: whole, checks, .. } = read_in("whole", &text, &[], "").unwrap();
        let (mut tried, mut kept) = (0, 0);
        for number in 0.. {
            let (text, Some((path, value))) = with(&example, number, "env:V") else { break };
            if value.is_empty() {
                // No variable is set to nothing.
                continue;
            }
            tried += 1;
            let outline = read_in("each", &text, &[], &value);
            if is_a_name(&path) {
                let faults = outline.unwrap_err();
                let told = faults.contains("a name cannot be kept elsewhere; write it here")
                    || path.ends_with("/from") && faults.contains("not a source of a whole target");
                assert!(told, "{path}: {faults}");
                continue;
            }
            let plan = outline.unwrap_or_else(|faults| panic!("{path}: {faults}")).plan;
            if format!("{plan:?}").contains("Env(\"V\")") {
                // Asked for at each login.
                kept += 1;
            } else {
                let plan = Plan { base: whole.base.clone(), ..plan };
                let inside = |plan: &Plan| format!("{plan:?}").replace("-each/", "-whole/");
                assert_eq!(inside(&plan), inside(&whole), "{path}");
            }
            // Offline, what AWS keeps is neither known nor a fault.
            let (text, _) = with(&example, number, "ssm:/a/b");
            match read_in("offline", &text, &[], "") {
                Ok(outline) => assert_eq!(outline.checks, checks, "{path}"),
                Err(faults) => {
                    let own = path.starts_with("/secrets/") && faults.contains("so it cannot be kept there");
                    assert!(own && faults.lines().count() == 1, "{path}: {faults}");
                }
            }
        }
        assert!(tried > 200 && (10..40).contains(&kept), "{tried} {kept}");
    }

    #[test]
    fn no_value_is_repeated_wherever_it_is_refused() {
        let example = example();
        let mut refused = 0;
        for number in 0.. {
            let (text, Some((path, _))) = with(&example, number, "env:V") else { break };
            for value in [CANARY, "5ca"] {
                if let Err(faults) = read_in("canary", &text, &[], value) {
                    refused += 1;
                    let piece = value.trim_start_matches(['{', '%']);
                    assert!(!faults.contains(piece) && !faults.contains("canary"), "{path}: {faults}");
                }
            }
        }
        assert!(refused > 150, "{refused}");
    }

    #[test]
    fn any_cut_of_a_reference_is_read_or_refused_and_its_value_is_not_repeated() {
        let places = [
            "checks: [{athena_query: {name: n, every: 1h, output: @, metrics: []}}]",
            "secrets: {refresh: @}",
            "data_dir: @",
            "targets: {t: {host: @, port: @, user: u, database: d, password: @, tls: @, labels: {a: @}}}",
            "logs: {routes: [{match: @, parser: @, archive: {dir: @, line: @, time_zone: @}}]}",
            "outputs: {otlp: {endpoint: @, headers: {a: @}, every: @}, dogstatsd: {address: @, tags: {a: @}}}",
        ];
        for whole in ["env:V", "file:v.txt", "ssm:/name/of/it", "secretsmanager:name#key"] {
            for end in 0..=whole.len() {
                for text in places {
                    let text = text.replace('@', &format!("'{}'", &whole[..end]));
                    let outline = read_in("cut", &text, &[("v.txt", CANARY)], CANARY);
                    let faults = outline.err().unwrap_or_default();
                    assert!(!faults.contains("canary"), "{text}\n{faults}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_fault_with_its_place_and_its_cure() {
        let text = "secrets: {refresh: env:GONE, region: 'ssm:/region'}\ndata_dir: file:gone.txt\n\
            targets:\n  t: {host: h, user: u, database: d, password: env:GONE, port: env:GONE, tls: env:V}\n\
            checks:\n  - pg_inflight: {name: env:V, target: t}\n  - pg_inflight: {name: a, target: env:V}\n  \
            - pg_inflight: {name: b, target: t, every: env:V, limit: 'secretsmanager:x#'}\n";
        let faults = read_in("faults", text, &[], "sometimes").unwrap_err();
        for words in [
            "c.yml:1:20: secrets.refresh: environment variable GONE is not set; set it",
            "c.yml:1:38: secrets.region: is needed to ask AWS, so it cannot be kept there; write it here",
            "c.yml:2:11: data_dir: could not read file:gone.txt: No such file or directory (os error 2); the file has to",
            "c.yml:4:79: targets.t.tls: unknown word (as env:V has it); accepted: disable, require, verify-ca, verify-full",
            "c.yml:6:25: checks[0].pg_inflight.name: a name cannot be kept elsewhere; write it here",
            "c.yml:7:36: checks[1].pg_inflight.target: a name cannot be kept elsewhere; write it here",
            "c.yml:8:46: checks[2].pg_inflight.every: not a duration: \"env:V\"; write it like 500ms",
            "c.yml:8:60: checks[2].pg_inflight.limit: not a whole reference; write env:NAME, file:/path, ssm:/name",
        ] {
            assert!(faults.contains(words), "{words}\nis not in\n{faults}");
        }
        assert_eq!(faults.lines().count(), 8, "a secret is asked for at each login, and not now\n{faults}");
        let short = "secrets: {refresh: 5s}\ntargets: {t: {host: h, user: u, database: d}}\nchecks: [{pg_inflight: {name: n, target: t, every: env:V}}]";
        let faults = read_in("short", short, &[], "200ms").unwrap_err();
        assert!(faults.contains("every: shorter than 1s (as env:V has it)"), "{faults}");
    }

    #[test]
    fn a_text_that_only_begins_like_a_reference_is_a_text() {
        let labels = "{a: 'env: V', b: 'file:line of the log', c: 'x env:V', d: env:V, e: 'environment:V'}";
        let text = format!(
            "targets: {{t: {{host: h, user: u, database: d, labels: {labels}}}}}\nchecks: [{{sql_query: {{name: n, target: t, sql: file:q.sql, \
             metrics: [{{name: m.m, value: v, help: 'env: that is all'}}]}}}}]"
        );
        let plan =
            read_in("texts", &text, &[("q.sql", "select 1 as v\n  -- twice\n")], "value").unwrap().plan;
        let labels: Vec<&str> = plan.assignments[0].labels.values().map(String::as_str).collect();
        assert_eq!(labels, ["env: V", "file:line of the log", "x env:V", "value", "environment:V"]);
        let checks::Config::SqlQuery(config) = &plan.assignments[0].config else { panic!("{plan:?}") };
        assert!(format!("{config:?}").contains("select 1 as v\\n  -- twice\""), "{config:?}");
    }

    #[tokio::test]
    async fn a_plan_that_needs_nothing_of_aws_asks_nobody() {
        let path = std::env::temp_dir().join(format!("datapulse-loading-{}.yml", std::process::id()));
        std::fs::write(&path, "secrets: {refresh: env:V}\ntargets: {}\n").unwrap();
        let vault = Vault::new(Arc::new(|_| Some("7m".to_owned())), &folder(&path));
        let plan = load(&path, &vault).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(plan.secrets.refresh, Interval::seconds(420));
        assert_eq!(plan.secrets.place(), crate::net::aws::Place::default());
        assert_eq!(Text::none(), Text::Plain(String::new()));
    }
}
