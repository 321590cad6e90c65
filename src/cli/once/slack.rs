//! `datapulse once --slack`: what Slack would show, as text and as a picture. Nothing is sent.

use crate::alerts::desk::{Desk, Light};
use crate::alerts::incident::Incident;
use crate::alerts::picture::{Shown, svg};
use crate::alerts::text::code;
use crate::alerts::{Alert, Notice, Source, alertmanager, message};
use crate::board::{Board, Card, Key, State};
use crate::config::Plan;
use crate::evidence::{Case, Collect, Found, check_rows, expression};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::time::Instant;

/// The text of the messages; the picture goes to `picture`. With `alert`, a file with a delivery of Alertmanager, they are about that,
/// and else about one made-up alert for each check.
///
/// # Errors
/// In words, what could not be read or written.
pub(super) fn show(
    plan: &Plan,
    board: &Board,
    picture: &Path,
    alert: Option<&Path>,
    moment: Instant,
) -> Result<String, String> {
    let now = Timestamp::now();
    let notices = match alert {
        Some(path) => vec![read(path, now)?],
        None => board.view().iter().map(|(key, card)| example(key, card, now, moment)).collect(),
    };
    let mut desk = Desk::default();
    for notice in &notices {
        // No more than there are checks.
        drop(desk.hear(notice, |_| String::new(), now));
    }
    if alert.is_some() {
        desk.look(now, SignedDuration::MAX, &|_| Light::None);
    }
    let mut shown = Vec::new();
    for incident in desk.incidents() {
        let Some(alert) = incident.leading() else { continue };
        let case = Case { alert: alert.clone(), began: incident.began(), now };
        let thread = thread(plan, &case, board);
        let (series, value) = expression::value(&board.view(), alert).unzip();
        let incident = Incident { series: series.unwrap_or_default(), ..incident.clone() };
        shown.push(Shown { message: message::of_incident(&incident, value), thread });
    }
    std::fs::write(picture, svg(&shown))
        .map_err(|error| format!("could not write {}: {error}", picture.display()))?;
    let texts = shown.iter().map(|one| {
        let replies =
            one.thread.iter().map(|reply| indented(&message::readable(&reply.replace("```", "\n"))));
        format!("{}\n{}", one.message.plain(), replies.collect::<String>())
    });
    Ok(texts.collect::<Vec<_>>().join("\n\n"))
}

fn read(path: &Path, now: Timestamp) -> Result<Notice, String> {
    let body = std::fs::read(path).map_err(|error| format!("could not read {}: {error}", path.display()))?;
    alertmanager::read(&body, now).map_err(|why| format!("{}: {why}", path.display()))
}

/// An alert as a rule could make it of this check.
fn example(key: &Key, card: &Card, now: Timestamp, moment: Instant) -> Notice {
    let state = card.state(moment);
    let severity = if matches!(state, State::Down | State::Stale) { "critical" } else { "warning" };
    let mut labels: BTreeMap<String, String> = card.spec().labels.clone();
    let own = [
        ("alertname", "Example"),
        ("check", &key.check),
        ("severity", severity),
        ("source", card.check_type()),
    ];
    labels.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    labels.extend(key.target.clone().map(|target| ("target".to_owned(), target)));
    let problem = card.last().and_then(|last| last.problems.first()).map(|(_, _, text)| text.clone());
    let annotations = [
        ("summary", format!("Example: this is how an alert about {key} looks")),
        (
            "description",
            problem.unwrap_or_else(|| {
                format!("The check is {}. The words come from the annotations of the rule.", state.as_str())
            }),
        ),
        ("action", "What to do stands in the annotation `action`.".to_owned()),
        ("runbook_url", "https://git.example.org/runbook".to_owned()),
        ("dashboard_url", "https://grafana.example.org/d/datapulse".to_owned()),
        ("public_url", "https://status.example.org".to_owned()),
    ];
    let alert = Alert {
        fingerprint: key.to_string(),
        labels,
        annotations: annotations.into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
        starts_at: now,
        ends_at: None,
        generator_url: None,
    };
    Notice { source: Source::Alertmanager, key: key.to_string(), alerts: vec![alert], complete: true }
}

/// What would stand in the thread: what is at hand, and the names of what would have to be fetched.
fn thread(plan: &Plan, case: &Case, board: &Board) -> Vec<String> {
    let collect = plan.alerts.as_ref().map_or(&[][..], |alerts| alerts.collect(&case.alert));
    let reply = |collect: &Collect| match collect {
        Collect::Rows(config) => match check_rows::find(config, case, board) {
            Found::Words(words) | Found::NotYet(words) => words,
            Found::File(file) => format!(
                "{}\n```{}```",
                code(&file.name),
                crate::alerts::text::escape(&String::from_utf8_lossy(&file.bytes))
            ),
            Found::Nothing => "no check here is behind it".to_owned(),
        },
        other => format!(
            "{} ({}; fetched when the alert comes)",
            code(other.file_name()),
            other.word().replace('_', " ")
        ),
    };
    collect.iter().map(reply).collect()
}

fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["    ", line, "\n"]).collect()
}
