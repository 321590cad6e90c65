//! The page of one check: how it stands, what it found, how that went, what it asks, and which alerts look at it.

use super::html::{MOST_ROWS, document, escape, interval, moment, next, readable, state, table};
use super::{Scene, Sources, overview, replication, rules, sparkline};
use crate::board::view::{Sample, samples};
use crate::board::{Card, Key};
use crate::http::live::Fragment;
use metrics::Part;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The page of the check of this name.
pub(super) fn page(sources: &Sources, name: &str) -> Option<String> {
    let scene = sources.scene();
    let (_, card) = scene.cards.iter().find(|(key, _)| key.to_string() == name)?;
    let body: String = fragments(&scene, name)?.into_iter().map(|part| part.html).collect();
    let worst = state(card, scene.now).0;
    Some(document(name, worst, &sources.telemetry_path, sources.intake.is_some(), &body))
}

/// The parts of the page; nothing when there is no check of this name.
pub(super) fn fragments(scene: &Scene, name: &str) -> Option<Vec<Fragment>> {
    let (key, card) = scene.cards.iter().find(|(key, _)| key.to_string() == name)?;
    let parts: Vec<Arc<Part>> = card.facts().chain(card.samples(scene.now)).map(Arc::clone).collect();
    let found: Vec<Sample<'_>> = parts.iter().flat_map(|part| samples(part)).collect();
    let part = |id: &str, inner: String| {
        let html = if inner.is_empty() {
            format!("<div id=\"{id}\"></div>\n")
        } else {
            format!("<section id=\"{id}\">{inner}</section>\n")
        };
        Fragment { id: id.to_owned(), html }
    };
    Some(vec![
        facts(key, card, scene),
        part("problems", problems(card, scene)),
        part("alerts", alerts(key, card, &found, scene)),
        part("picture", replication::picture(key, card, &found)),
        part("rows", rows(card, scene)),
        part("values", values(key, card, &found, scene)),
        part("questions", questions(card)),
    ])
}

fn facts(key: &Key, card: &Card, scene: &Scene) -> Fragment {
    let (word, class) = state(card, scene.now);
    let mut html = format!(
        "<section id=\"facts\" class=\"{class}\"><h1>{} <span class=\"pill {class}\">{word}</span> <small>{}</small></h1>\n<dl>",
        escape(&key.to_string()),
        card.check_type()
    );
    let mut fact = |label: &str, value: &str| {
        html.push_str(&format!("<div><dt>{label}</dt><dd>{value}</dd></div>"));
    };
    if let Some(last) = card.last() {
        fact("last run", &format!("{}, took {} ms", moment(last.ended, scene.time), last.took.as_millis()));
    }
    let success = card.last_success().map_or_else(|| "never".to_owned(), |at| moment(at, scene.time));
    fact("last success", &success);
    let every = interval(card.spec().every);
    fact("next run", &format!("{}, every {every}", next(card, scene.now, scene.time)));
    let (runs, failures) = card.totals();
    fact("runs", &format!("{runs}, {failures} failures"));
    for (name, value) in &card.spec().labels {
        fact(&escape(name), &escape(value));
    }
    for (name, limit) in &card.spec().thresholds {
        fact(&format!("threshold {name}"), &limit.to_string());
    }
    let json = format!(
        "/api/v1/checks?check={}",
        super::html::address(key).trim_start_matches("/checks/").split('@').next().unwrap_or_default()
    );
    fact("as data", &format!("<a href=\"{json}\">JSON</a>"));
    html.push_str("</dl></section>\n");
    Fragment { id: "facts".to_owned(), html }
}

/// What went wrong at the last run, each with its cure.
fn problems(card: &Card, scene: &Scene) -> String {
    let Some(last) = card.last().filter(|last| !last.problems.is_empty()) else { return String::new() };
    let mut html = format!("<h2>what is wrong <small>{}</small></h2>\n", moment(last.ended, scene.time));
    for (endpoint, reason, text) in &last.problems {
        html.push_str(&format!(
            "<p class=\"problem\"><b>{}: {}</b> {}</p>\n",
            endpoint.as_str(),
            reason.as_str(),
            escape(text)
        ));
    }
    html
}

/// What fires for this check, and which bundled alerts look at its metrics.
fn alerts(key: &Key, card: &Card, found: &[Sample<'_>], scene: &Scene) -> String {
    let own = scene
        .open()
        .unwrap_or_default()
        .iter()
        .filter(|incident| overview::key(incident).as_ref() == Some(key));
    let fires = overview::incidents(own, scene.time);
    let mut names: BTreeSet<String> = found.iter().map(|sample| sample.name.clone()).collect();
    let kind = crate::checks::ALL.iter().find(|kind| kind.word == card.check_type());
    names.extend(kind.into_iter().flat_map(|kind| (kind.families)()).map(|family| family.prometheus()));
    names.retain(|name| !name.starts_with("datapulse_"));
    let fed = rules::fed_by(&names);
    if fires.is_empty() && fed.is_empty() {
        return String::new();
    }
    let item = |rule: &&rules::Rule| {
        let class = if rule.severity == "critical" { "down" } else { "partly" };
        format!(
            "<li><span class=\"pill {class}\">{}</span> {} <small>{}</small></li>",
            escape(&rule.severity),
            escape(&rule.name),
            rule.file
        )
    };
    let fed: String = fed.iter().map(item).collect();
    let told = match (scene.open(), fires.is_empty()) {
        (None, _) if scene.said.is_some() => "<p>Prometheus does not answer, so nobody knows what fires.</p>",
        (None, _) => {
            "<p>What fires is shown here with <code>page: {prometheus: ..}</code>, or with <code>alerts:</code> when Alertmanager sends to it.</p>"
        }
        (Some(_), true) => "<p>Nothing fires.</p>",
        (Some(_), false) => "",
    };
    format!(
        "<h2>alerts</h2>\n{fires}{told}<details><summary>bundled alerts that look at these metrics</summary><ul class=\"rules\">{fed}</ul></details>\n"
    )
}

fn rows(card: &Card, scene: &Scene) -> String {
    let mut html = String::new();
    for listing in card.rows(scene.now).filter(|listing| !listing.rows.is_empty()) {
        html.push_str(&table(listing));
        if listing.rows.len() > MOST_ROWS {
            let more = listing.rows.len() - MOST_ROWS;
            html.push_str(&format!("<p>{more} more in the JSON</p>\n"));
        }
    }
    if html.is_empty() { html } else { format!("<h2>rows</h2>\n{html}") }
}

/// The samples with their courses.
fn values(key: &Key, card: &Card, found: &[Sample<'_>], scene: &Scene) -> String {
    if found.is_empty() {
        return String::new();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for sample in found {
        *counts.entry(&sample.name).or_default() += 1;
    }
    let span = interval_words(card.history().span().as_secs());
    let mut html = format!(
        "<h2>{} values</h2>\n<div class=\"wide values\" tabindex=\"0\" role=\"region\" aria-label=\"values\"><table><thead><tr><th scope=\"col\">metric</th><th scope=\"col\" class=\"number\">value</th>\
         <th scope=\"col\">course{span}</th><th scope=\"col\">labels</th></tr></thead><tbody>\n",
        found.len()
    );
    for sample in found.iter().take(MOST_ROWS) {
        let labels: Vec<String> = sample
            .labels
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
            .collect();
        let only = counts.get(sample.name.as_str()) == Some(&1);
        let course = if only {
            card.history().together(&sample.name)
        } else {
            card.history().of(&sample.name, sample.labels.iter().map(|(_, value)| *value))
        };
        html.push_str(&format!(
            "<tr><td>{}</td><td class=\"number\">{}</td><td>{}</td><td>{}</td></tr>\n",
            escape(&sample.name),
            value(key, sample, scene),
            course.map(|pieces| sparkline::whole(pieces, &sample.name)).unwrap_or_default(),
            labels.join(" ")
        ));
    }
    html.push_str("</tbody></table></div>\n");
    if found.len() > MOST_ROWS {
        html.push_str(&format!("<p>{} more in the JSON</p>\n", found.len() - MOST_ROWS));
    }
    html
}

/// A value; where the seasonal rules expect something, with that.
fn value(key: &Key, sample: &Sample<'_>, scene: &Scene) -> String {
    let value = readable(&sample.name, sample.value);
    let said = scene.said.as_ref();
    let Some(expected) = said.and_then(|said| said.expected(&key.check, &sample.name, &sample.labels)) else {
        return value;
    };
    let about = |value: f64| readable(&sample.name, value.round());
    let low = expected.low.map_or_else(String::new, |low| format!(", low below {}", about(low)));
    let class = if expected.low.is_some_and(|low| sample.value < low) { "fires" } else { "up" };
    format!("<b class=\"{class}\">{value}</b> <small>expected {}{low}</small>", about(expected.value))
}

fn interval_words(seconds: u64) -> String {
    match seconds {
        0 => String::new(),
        1..120 => format!(", {seconds} s"),
        120..7200 => format!(", {} min", seconds / 60),
        _ => format!(", {} h", seconds / 3600),
    }
}

/// What the check asks its ends.
fn questions(card: &Card) -> String {
    let mut html = String::new();
    for (endpoint, text) in card.questions() {
        let of =
            if endpoint.as_str() == "own" { String::new() } else { format!(" of the {}", endpoint.as_str()) };
        html.push_str(&format!(
            "<details><summary>what it asks{of}</summary><pre tabindex=\"0\"><code>{}</code></pre></details>\n",
            escape(text)
        ));
    }
    html
}
