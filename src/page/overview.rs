//! The first page: what fires, and a row for each check, the worst first.

use super::html::{address, cut, document, escape, moment, next, readable, state};
use super::{Scene, Sources, logs, sparkline};
use crate::alerts::counters::View as Told;
use crate::alerts::open::Open;
use crate::board::view::samples;
use crate::board::{Card, Key, State};
use crate::check::headline::Headline;
use crate::check::{Endpoint, Reason};
use crate::http::Query;
use crate::http::live::Fragment;
use crate::prometheus::Said;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Characters of a problem in a row.
const LONGEST_PROBLEM: usize = 1000;
/// Rows that have room for all of their problems; when more fail at once, those below say the beginning of the first.
const WHOLE_PROBLEMS: usize = 30;
/// Characters of that.
const SHORT_PROBLEM: usize = 120;
/// Incidents that are listed.
const MOST_INCIDENTS: usize = 20;
/// How checks can stand, the worst first.
const STATES: [&str; 5] = ["down", "stale", "partly", "waiting", "up"];

/// Which checks are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Has to be in the name, the type, a label or a problem; in small letters.
    words: String,
    state: String,
    check_type: String,
}

impl Filter {
    pub(super) fn of(query: &Query) -> Self {
        let first = |name: &str| cut(query.first(name).unwrap_or_default().trim(), 100);
        Self { words: first("q").to_lowercase(), state: first("state"), check_type: first("type") }
    }

    fn admits(&self, key: &Key, card: &Card, state: &str) -> bool {
        let wanted = |word: &str, found: &str| word.is_empty() || word == found;
        if !wanted(&self.state, state) || !wanted(&self.check_type, card.check_type()) {
            return false;
        }
        let labels = card.spec().labels.iter().map(|(name, value)| format!("{name}={value}"));
        let problems = card.last().map_or(&[][..], |last| &last.problems);
        let problems = problems.iter().map(|(_, reason, text)| format!("{}: {text}", reason.as_str()));
        let all = [key.to_string(), card.check_type().to_owned()].into_iter().chain(labels).chain(problems);
        self.words.is_empty() || all.into_iter().any(|text| text.to_lowercase().contains(&self.words))
    }
}

/// The page.
pub(super) fn page(sources: &Sources, filter: &Filter) -> String {
    let scene = sources.scene();
    let fragments = fragments(sources, &scene, filter);
    let (rows, others): (Vec<&Fragment>, Vec<&Fragment>) =
        fragments.iter().partition(|fragment| fragment.id.starts_with("c-"));
    let text = |parts: &[&Fragment]| parts.iter().map(|part| part.html.as_str()).collect::<String>();
    let mut body = text(&others);
    if scene.cards.is_empty() {
        body.push_str("<p>No check is configured. Add one under <code>checks:</code> and reload: <code>kill -HUP</code>, or POST /-/reload.</p>\n");
    } else {
        body.push_str(&form(&scene, filter));
        if rows.is_empty() {
            body.push_str("<p>No check fits. <a href=\"/\">Show all</a></p>\n");
        }
        body.push_str(&format!(
            "<table class=\"checks\"><thead><tr><th scope=\"col\">check</th><th scope=\"col\">state</th><th scope=\"col\">value</th>\
             <th scope=\"col\">course</th><th scope=\"col\">last run</th><th scope=\"col\">next run</th></tr></thead><tbody>\n{}</tbody></table>\n",
            text(&rows)
        ));
    }
    document("datapulse", worst(&scene), &sources.telemetry_path, sources.intake.is_some(), &body)
}

/// The parts of the page: the rows of the checks have ids that begin with `c-`.
pub(super) fn fragments(sources: &Sources, scene: &Scene, filter: &Filter) -> Vec<Fragment> {
    let mut parts = vec![summary(scene)];
    match (&scene.told, &scene.said) {
        (Some(told), _) => parts.push(alerts(told, scene)),
        (None, Some(said)) => parts.push(firing(said, scene)),
        (None, None) => {}
    }
    parts.extend(sources.intake.as_ref().map(|intake| logs::short(intake, scene.time)));
    let firing = by_check(scene);
    let mut rows: Vec<(usize, &(Key, Card))> = Vec::new();
    for one in &scene.cards {
        let word = state(&one.1, scene.now).0;
        if filter.admits(&one.0, &one.1, word) {
            rows.push((STATES.iter().position(|known| *known == word).unwrap_or_default(), one));
        }
    }
    rows.sort_by_key(|(rank, (key, _))| (*rank, key));
    parts.extend(rows.into_iter().enumerate().map(|(at, (_, (key, card)))| {
        let alerts = firing.get(&key.to_string()).copied().unwrap_or_default();
        row(key, card, alerts, at < WHOLE_PROBLEMS, scene)
    }));
    parts
}

/// How many incidents a check has.
fn by_check(scene: &Scene) -> BTreeMap<String, usize> {
    let mut firing = BTreeMap::new();
    for incident in scene.open().unwrap_or_default() {
        if let Some(key) = key(incident) {
            *firing.entry(key.to_string()).or_default() += 1;
        }
    }
    firing
}

/// The check that an incident is about.
pub(super) fn key(incident: &Open) -> Option<Key> {
    Some(Key { check: incident.check.clone()?, target: incident.target.clone() })
}

fn worst(scene: &Scene) -> &'static str {
    let states: BTreeSet<&str> = scene.cards.iter().map(|(_, card)| state(card, scene.now).0).collect();
    STATES.into_iter().find(|known| states.contains(known)).unwrap_or("up")
}

fn summary(scene: &Scene) -> Fragment {
    let mut html = "<div id=\"summary\"><h1>checks</h1>".to_owned();
    for word in STATES {
        let count = scene.cards.iter().filter(|(_, card)| state(card, scene.now).0 == word).count();
        if count > 0 || word == "up" {
            let class = if word == "stale" { "down" } else { word };
            html.push_str(&format!("<a class=\"pill {class}\" href=\"/?state={word}\">{count} {word}</a> "));
        }
    }
    html.push_str("</div>\n");
    Fragment { id: "summary".to_owned(), html }
}

fn form(scene: &Scene, filter: &Filter) -> String {
    let option = |word: &str, chosen: &str| {
        let selected = if word == chosen { " selected" } else { "" };
        format!("<option{selected}>{}</option>", escape(word))
    };
    let types: BTreeSet<&str> = scene.cards.iter().map(|(_, card)| card.check_type()).collect();
    let types: String = types.into_iter().map(|word| option(word, &filter.check_type)).collect();
    let states: String = STATES.iter().map(|word| option(word, &filter.state)).collect();
    format!(
        "<form role=\"search\" action=\"/\"><label>find <input type=\"search\" name=\"q\" value=\"{}\" placeholder=\"name, label, error\"></label>\
         <label>state <select name=\"state\"><option value=\"\">all</option>{states}</select></label>\
         <label>type <select name=\"type\"><option value=\"\">all</option>{types}</select></label><button>filter</button></form>\n",
        escape(&filter.words)
    )
}

/// What fires, and what was told to Slack.
fn alerts(told: &Told, scene: &Scene) -> Fragment {
    let (class, word) = match (&told.problem, told.pending, told.firing + told.unknown) {
        (Some(_), Some(_), _) => ("down", "waiting".to_owned()),
        (Some(_), None, _) => ("partly", "trouble".to_owned()),
        (None, _, 0) => ("up", "quiet".to_owned()),
        (None, ..) => ("down", format!("{} open", told.firing + told.unknown)),
    };
    let mut html = format!(
        "<section id=\"alerts\" class=\"{class}\"><h2>alerts <span class=\"pill {class}\">{word}</span> \
         <small>{} sent to Slack, {} failures</small></h2>\n",
        told.sent, told.failures
    );
    if let Some(pending) = told.pending {
        // In steps, so that the page is not made anew each second.
        html.push_str(&format!(
            "<p>The oldest has been waiting for its message for {} s.</p>\n",
            pending.as_secs() / 5 * 5
        ));
    }
    if let Some((at, what)) = &told.problem {
        html.push_str(&format!("<p class=\"problem\">{} {}</p>\n", moment(*at, scene.time), escape(what)));
    }
    if let Some(problem) = scene.said.as_ref().and_then(|said| said.problem.as_ref()) {
        html.push_str(&format!("<p class=\"problem\">{}</p>\n", escape(problem)));
    }
    html.push_str(&incidents(told.open.iter().take(MOST_INCIDENTS), scene.time));
    if told.open.len() > MOST_INCIDENTS {
        html.push_str(&format!("<p>and {} more</p>\n", told.firing + told.unknown - MOST_INCIDENTS));
    }
    html.push_str("</section>\n");
    Fragment { id: "alerts".to_owned(), html }
}

/// What fires as Prometheus says it.
fn firing(said: &Said, scene: &Scene) -> Fragment {
    let (class, word) = match (&said.problem, said.firing.len()) {
        (Some(_), _) => ("partly", "unknown".to_owned()),
        (None, 0) => ("up", "quiet".to_owned()),
        (None, count) => ("down", format!("{count} firing")),
    };
    let mut html = format!(
        "<section id=\"alerts\" class=\"{class}\"><h2>alerts <span class=\"pill {class}\">{word}</span></h2>\n"
    );
    if let Some(problem) = &said.problem {
        html.push_str(&format!("<p class=\"problem\">{}</p>\n", escape(problem)));
    }
    html.push_str(&incidents(said.firing.iter().take(MOST_INCIDENTS), scene.time));
    if said.firing.len() > MOST_INCIDENTS {
        html.push_str(&format!("<p>and {} more</p>\n", said.firing.len() - MOST_INCIDENTS));
    }
    html.push_str("</section>\n");
    Fragment { id: "alerts".to_owned(), html }
}

/// A list of incidents; nothing for none.
pub(super) fn incidents<'a>(open: impl Iterator<Item = &'a Open>, time: Timestamp) -> String {
    let items: String = open.map(|incident| item(incident, time)).collect();
    if items.is_empty() { items } else { format!("<ul class=\"incidents\">{items}</ul>\n") }
}

fn item(incident: &Open, time: Timestamp) -> String {
    let severity = incident.severity.as_str();
    let class = if severity == "critical" { "down" } else { "partly" };
    let check = key(incident).map_or_else(String::new, |key| {
        format!(" <a href=\"{}\">{}</a>", address(&key), escape(&key.to_string()))
    });
    let runbook = incident
        .runbook
        .as_ref()
        .map_or_else(String::new, |url| format!(" <a href=\"{}\">runbook</a>", escape(url)));
    let unknown = if incident.unknown { " · unknown since its check fails" } else { "" };
    let more = if incident.firing > 1 { format!(" ({} alerts)", incident.firing) } else { String::new() };
    format!(
        "<li><span class=\"pill {class}\">{severity}</span> <b>{}</b>{check} since {}{unknown}<br>{}{more}{runbook}</li>\n",
        escape(&incident.name),
        moment(incident.began, time),
        escape(&incident.summary)
    )
}

/// What went wrong at the last run, each with its cure.
fn problems(card: &Card, whole: bool) -> String {
    let problems = card.last().map_or(&[][..], |last| &last.problems);
    let several = problems.len() > 1;
    let (most, longest) = if whole { (problems.len(), LONGEST_PROBLEM) } else { (1, SHORT_PROBLEM) };
    let one = |(endpoint, reason, text): &(Endpoint, Reason, String)| {
        let end = if several || *endpoint != Endpoint::Own {
            format!("{} ", endpoint.as_str())
        } else {
            String::new()
        };
        format!("<p class=\"problem\">{end}{}: {}</p>", reason.as_str(), escape(&cut(text, longest)))
    };
    problems.iter().take(most).map(one).collect()
}

fn row(key: &Key, card: &Card, alerts: usize, whole: bool, scene: &Scene) -> Fragment {
    let (word, class) = state(card, scene.now);
    let id = format!("c-{key}");
    let alerts = match alerts {
        0 => String::new(),
        1 => " <b class=\"fires\">1 alert</b>".to_owned(),
        many => format!(" <b class=\"fires\">{many} alerts</b>"),
    };
    let (value, course) = headline(card, scene);
    let last = card.last().map_or_else(|| "none yet".to_owned(), |last| moment(last.ended, scene.time));
    let html = format!(
        "<tr id=\"{}\" class=\"{class}\"><th scope=\"row\"><a href=\"{}\">{}</a> <small>{}</small>{alerts}{}</th>\
         <td><b class=\"pill\">{word}</b></td><td>{value}</td><td>{course}</td><td>{last}</td><td>{}</td></tr>\n",
        escape(&id),
        address(key),
        escape(&key.to_string()),
        card.check_type(),
        problems(card, whole),
        next(card, scene.now, scene.time)
    );
    Fragment { id, html }
}

/// The value that people want to see first, and its course.
fn headline(card: &Card, scene: &Scene) -> (String, String) {
    let Some((headline, value)) = first(card, scene) else {
        let good = card.state(scene.now) == State::Up;
        return (if good { "<small>no sample</small>".to_owned() } else { String::new() }, String::new());
    };
    let course = card.history().together(&headline.0).map(sparkline::short).unwrap_or_default();
    (format!("{} <b>{}</b>", escape(&headline.1), readable(&headline.0, value)), course)
}

/// Family and words of what is shown first, and the value.
pub(super) fn first(card: &Card, scene: &Scene) -> Option<((String, String), f64)> {
    let parts: Vec<_> = card.facts().chain(card.samples(scene.now)).map(Arc::clone).collect();
    let all: Vec<_> = parts.iter().flat_map(|part| samples(part)).collect();
    let of = |headline: &Headline| {
        let values = all.iter().filter(|sample| sample.name == headline.family).map(|sample| sample.value);
        let value = headline.many.one(values)?;
        Some(((headline.family.to_owned(), headline.words.to_owned()), value))
    };
    card.spec().headlines.iter().find_map(of).or_else(|| {
        // A metric of the configuration: the highest of its samples.
        let own = || all.iter().find(|sample| !sample.name.starts_with("datapulse_"));
        let name = card.spec().headlines.is_empty().then(own).flatten()?.name.clone();
        let values: Vec<f64> =
            all.iter().filter(|sample| sample.name == name).map(|sample| sample.value).collect();
        let words = name.trim_end_matches("_seconds").trim_end_matches("_bytes").replace('_', " ");
        let words = if values.len() > 1 { format!("{words}, highest of {}", values.len()) } else { words };
        let value = crate::check::headline::Many::Highest.one(values)?;
        Some(((name, words), value))
    })
}
