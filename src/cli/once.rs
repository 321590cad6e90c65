//! `datapulse once`: runs checks now and prints what they give.

mod slack;

use super::{FAILED, Once, OnceOutput, USAGE, complain, loaded, print};
use crate::actor;
use crate::board::view::{as_json, samples};
use crate::board::{Board, Card, Key};
use crate::check::{Check, Listing, Report};
use crate::checks::Visit;
use crate::config::secret::{Environment, Vault};
use crate::config::{Assignment, Plan, Template};
use crate::discovery;
use crate::state::{Access, DataDir, State};
use futures_util::future::join_all;
use metrics::Part;
use metrics::exposition::{Dialect, encode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;

/// Runs the checks and prints.
pub async fn run(flags: &Once, environment: Environment, now: SystemTime) -> ExitCode {
    let (mut plan, vault) = match loaded(&flags.config, environment).await {
        Ok(loaded) => loaded,
        Err(refusal) => return refusal.told(),
    };
    let lost = discover(&mut plan, &vault).await;
    for words in &lost {
        complain(words);
    }
    let searched = plan.templates.iter().map(Template::key);
    let known: BTreeSet<String> =
        plan.assignments.iter().map(|one| one.key.clone()).chain(searched).map(|key| key.check).collect();
    if let Some(unknown) = flags.checks.iter().find(|name| !known.contains(*name)) {
        let known: Vec<String> = known.into_iter().collect();
        complain(format!("there is no check \"{unknown}\"; known: {}", known.join(", ")));
        return ExitCode::from(USAGE);
    }
    let paid = |one: &&Assignment| one.config.kind().is_paid() && !flags.spend;
    let unpaid: Vec<&str> = plan.assignments.iter().filter(paid).map(|one| one.key.check.as_str()).collect();
    if let Some(name) = flags.checks.iter().find(|name| unpaid.contains(&name.as_str())) {
        complain(format!("a run of \"{name}\" costs money; say --spend if it is to run now"));
        return ExitCode::from(USAGE);
    }
    let board = Board::new(now);
    let (claimed, uncounted) = claim(&plan, flags);
    let access = if claimed.is_some() { Access::Adds } else { Access::Looks };
    let moment = run_all(&plan, flags, access, &vault, &board).await;
    drop(claimed);
    let cards = board.view();
    let failed = !lost.is_empty()
        || cards.iter().any(|(_, card)| card.last().is_none_or(|last| !last.problems.is_empty()));
    let text = match flags.output {
        OnceOutput::Table => table(&cards, moment) + &left_out(&flags.checks, &unpaid) + &uncounted,
        OnceOutput::Prometheus => {
            String::from_utf8_lossy(&encode(&board.snapshot(), moment.into_std(), Dialect::Text, &[]))
                .into_owned()
        }
        OnceOutput::Json => format!(
            "{:#}\n",
            json!(cards.iter().map(|(key, card)| as_json(key, card, moment)).collect::<Vec<_>>())
        ),
    };
    if !matches!(flags.output, OnceOutput::Table) && !uncounted.is_empty() {
        complain(uncounted.trim_end());
    }
    let text = match &flags.slack {
        None => text,
        Some(picture) => match slack::show(&plan, &board, picture, flags.alert.as_deref(), moment) {
            Ok(messages) => format!("{messages}\npicture: {}\n", picture.display()),
            Err(why) => {
                complain(why);
                return ExitCode::from(FAILED);
            }
        },
    };
    let printed = print(&text);
    if failed { ExitCode::from(FAILED) } else { printed }
}

/// Looks for the targets that AWS names, and adds the checks on them. In words what could not be found.
pub(crate) async fn discover(plan: &mut Plan, vault: &Vault) -> Vec<String> {
    let mut lost = Vec::new();
    for template in &plan.templates {
        match discovery::find(template, vault).await {
            Ok(found) => plan.assignments.extend(found),
            Err(problem) => lost.push(format!(
                "no targets for {}: {}: {problem}",
                template.key(),
                problem.reason.as_str()
            )),
        }
    }
    lost
}

/// The checks that are to run.
fn wanted<'a>(plan: &'a Plan, flags: &'a Once) -> impl Iterator<Item = &'a Assignment> {
    let named = |one: &&Assignment| flags.checks.is_empty() || flags.checks.contains(&one.key.check);
    plan.assignments.iter().filter(named).filter(|one| flags.spend || !one.config.kind().is_paid())
}

/// Holds `data_dir` while checks run that cost money, so that what they scan counts for the day; beside a service, which holds it
/// itself, the state is only looked at, and that is told in words.
fn claim(plan: &Plan, flags: &Once) -> (Option<DataDir>, String) {
    let paid = wanted(plan, flags).any(|one| one.config.kind().is_paid());
    match plan.data_dir.as_deref().filter(|_| paid).map(DataDir::claim) {
        None => (None, String::new()),
        Some(Ok(claimed)) => (Some(claimed), String::new()),
        Some(Err((why, _))) => {
            (None, format!("what was scanned now is not counted for the budget of the day: {why}\n"))
        }
    }
}

/// Runs all named checks at the same time, and puts their reports on the board. Gives the moment at which to look at it, the start:
/// a fast check must not look overdue because a slow one was waited for.
async fn run_all(plan: &Plan, flags: &Once, access: Access, vault: &Arc<Vault>, board: &Board) -> Instant {
    let moment = Instant::now();
    vault.expect(plan.expected());
    let runs = wanted(plan, flags).map(|assignment| {
        board.register(&assignment.key, assignment.spec());
        let state = plan.state(&assignment.key, access);
        let run = assignment.config.visit(Run { assignment, vault, state });
        async move { (assignment, run.await) }
    });
    for (assignment, ran) in join_all(runs).await {
        board.publish(&assignment.key, ran.report);
    }
    moment
}

/// A run with what it taught.
pub(crate) struct Ran {
    pub(crate) report: Report,
    pub(crate) learned: Vec<(crate::check::Endpoint, String)>,
}

/// Runs a check once, whatever its type.
pub(crate) struct Run<'a> {
    pub(crate) assignment: &'a Assignment,
    pub(crate) vault: &'a Arc<Vault>,
    /// What it remembers.
    pub(crate) state: Option<State>,
}

impl Visit for Run<'_> {
    type Out = Pin<Box<dyn Future<Output = Ran> + Send>>;

    fn visit<C: Check>(self, config: &C::Config) -> Self::Out {
        let clients = self.assignment.clients(self.vault, self.state);
        let config = config.clone();
        Box::pin(async move {
            let mut check = C::new(&config, &clients);
            // What was known before is not shown as new, but its counters and budgets go on from there.
            check.recall(jiff::Timestamp::now()).await;
            let report = actor::execute(&mut check, clients.timeout).await;
            let learned = check.learned();
            if let Some(problem) = actor::clean_up(&mut check).await {
                tracing::warn!(%problem, "a statement was left behind");
            }
            Ran { report, learned }
        })
    }
}

/// What a check knows without running: for checks whose runs cost money.
pub(crate) struct Recall<'a>(pub(crate) Run<'a>);

impl Visit for Recall<'_> {
    type Out = Pin<Box<dyn Future<Output = Vec<(crate::check::Endpoint, String)>> + Send>>;

    fn visit<C: Check>(self, config: &C::Config) -> Self::Out {
        let clients = self.0.assignment.clients(self.0.vault, self.0.state);
        let config = config.clone();
        Box::pin(async move {
            let mut check = C::new(&config, &clients);
            check.recall(jiff::Timestamp::now()).await;
            check.learned()
        })
    }
}

fn table(cards: &[(Key, Card)], now: Instant) -> String {
    let mut text = String::new();
    for (key, card) in cards {
        let Some(last) = card.last() else { continue };
        let state = card.state(now).as_str();
        text.push_str(&format!(
            "{key}  {}  {state}  {} samples  {} ms\n",
            card.check_type(),
            last.samples,
            last.took.as_millis()
        ));
        for (endpoint, reason, problem) in &last.problems {
            text.push_str(&format!("  {} {}: {problem}\n", endpoint.as_str(), reason.as_str()));
        }
        let rows: Vec<(String, String)> =
            card.facts().chain(card.samples(now)).flat_map(|part| rows(part)).collect();
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in rows {
            text.push_str(&format!("  {name:width$}  {value}\n"));
        }
        for listing in card.rows(now) {
            texts(&mut text, listing);
        }
    }
    text
}

/// The rows for people: a line of facts for each, and what is long below it.
fn texts(text: &mut String, listing: &Listing) {
    for row in &listing.rows {
        let mut facts = Vec::new();
        let mut long = "";
        for (name, value) in listing.columns.iter().zip(row) {
            match value {
                Value::Null => {}
                Value::String(value) if *name == "text" => long = value,
                Value::String(value) => facts.push(format!("{name} {value}")),
                value => facts.push(format!("{name} {value}")),
            }
        }
        text.push_str(&format!("  {}\n", facts.join(", ")));
        for line in long.lines() {
            text.push_str(&format!("      {line}\n"));
        }
    }
}

/// What was not run because it costs money.
fn left_out(named: &[String], unpaid: &[&str]) -> String {
    if unpaid.is_empty() || !named.is_empty() {
        return String::new();
    }
    format!("not run, because each run costs money: {}; run them with --spend\n", unpaid.join(", "))
}

/// Each sample as its name with its own labels, and its value.
fn rows(part: &Part) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for sample in samples(part) {
        let labels: Vec<String> =
            sample.labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        rows.push((format!("{}{labels}", sample.name), sample.value.to_string()));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::time::Duration;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_fast_check_is_not_overdue_because_a_slow_one_was_waited_for() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let silent_port = silent.local_addr().unwrap().port();
        let target = |port| format!("{{host: 127.0.0.1, port: {port}, user: u, database: d, tls: disable}}");
        let text = format!(
            "checks:\n  - pg_replication: {{name: fast, every: 1s, timeout: 100ms, target: {}}}\n\
             \x20 - pg_replication: {{name: slow, every: 9s, timeout: 1500ms, target: {}}}\n",
            target(closed),
            target(silent_port)
        );
        let file = std::env::temp_dir().join(format!("datapulse-once-{}.yml", std::process::id()));
        std::fs::write(&file, text).unwrap();
        let nowhere: Environment = Arc::new(|_| None);
        let plan = config::check(&file, &nowhere).unwrap().plan;
        std::fs::remove_file(&file).unwrap();
        let board = Board::new(SystemTime::UNIX_EPOCH);
        let flags = Once {
            checks: Vec::new(),
            config: super::super::ConfigFile { config_file: file },
            output: OnceOutput::Table,
            spend: false,
            slack: None,
            alert: None,
        };
        let moment =
            run_all(&plan, &flags, Access::Looks, &Arc::new(Vault::new(nowhere, &plan.base)), &board).await;
        assert!(moment.elapsed() > Duration::from_millis(1100), "longer than the fast report is fresh");
        let states: Vec<_> = board
            .view()
            .iter()
            .map(|(key, card)| as_json(key, card, moment)["state"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(states, ["down", "down"]);
        assert_eq!(as_json(&board.view()[0].0, &board.view()[0].1, Instant::now())["state"], "stale");
    }
}
