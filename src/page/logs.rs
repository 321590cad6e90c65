//! The page of the logs: what came of each log group, and the statements that take the most time.

use super::Sources;
use super::html::{beginning, document, escape, moment, readable};
use crate::http::live::Fragment;
use crate::logs::groups::{self, Group};
use crate::logs::intake::Intake;
use crate::logs::statements;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// Statements of the page; the JSON has all.
const MOST_STATEMENTS: usize = 50;
/// Log groups of the page.
const MOST_GROUPS: usize = 100;

/// The page.
pub(super) fn page(sources: &Sources) -> Option<String> {
    let intake: &Arc<Intake> = sources.intake.as_ref()?;
    let body: String = fragments(intake).into_iter().map(|part| part.html).collect();
    Some(document("logs", "up", &sources.telemetry_path, true, &format!("<h1>logs</h1>\n{body}")))
}

/// The parts of the page.
pub(super) fn fragments(intake: &Intake) -> Vec<Fragment> {
    vec![table(intake, Timestamp::now()), top(intake)]
}

/// The logs in a line, for the first page.
pub(super) fn short(intake: &Intake, time: Timestamp) -> Fragment {
    let groups = groups::groups(intake);
    let sum = |count: fn(&Group) -> u64| groups.iter().map(count).sum::<u64>();
    let newest = groups.iter().filter_map(|group| group.last_event).reduce(f64::max);
    let newest = newest.and_then(at).map_or_else(String::new, |at| format!(", newest {}", moment(at, time)));
    let (unparsed, unrouted) = (sum(|group| group.unparsed), sum(|group| group.unrouted));
    let class = if unparsed + unrouted > 0 { "partly" } else { "up" };
    let html = format!(
        "<p id=\"logs\" class=\"{class}\"><a href=\"/logs\">logs</a>: {} events of {} log groups, {unparsed} unparsed, {unrouted} without a route{newest}</p>\n",
        sum(|group| group.received),
        groups.len()
    );
    Fragment { id: "logs".to_owned(), html }
}

fn at(seconds: f64) -> Option<Timestamp> {
    SignedDuration::try_from_secs_f64(seconds.round()).and_then(Timestamp::from_duration).ok()
}

fn table(intake: &Intake, time: Timestamp) -> Fragment {
    let groups = groups::groups(intake);
    let (unreadable, (all, kept)) = intake.put_aside();
    let lost = all.saturating_sub(kept);
    let mut html = String::from("<section id=\"groups\"><h2>log groups</h2>\n");
    if groups.is_empty() {
        html.push_str("<p>Nothing has come yet. <code>POST /logs/cloudwatch</code> and <code>POST /logs/firehose</code> take deliveries.</p>\n");
    } else {
        html.push_str(
            "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"log groups\"><table><thead><tr><th scope=\"col\">log group</th><th scope=\"col\" class=\"number\">received</th>\
             <th scope=\"col\" class=\"number\">parsed</th><th scope=\"col\" class=\"number\">unparsed</th><th scope=\"col\" class=\"number\">duplicate</th>\
             <th scope=\"col\" class=\"number\">without a route</th><th scope=\"col\">newest event</th></tr></thead><tbody>\n",
        );
        for group in groups.iter().take(MOST_GROUPS) {
            let newest = group.last_event.and_then(at).map_or_else(String::new, |at| moment(at, time));
            html.push_str(&format!(
                "<tr><td>{}</td>{}<td>{newest}</td></tr>\n",
                escape(&group.name),
                [group.received, group.parsed, group.unparsed, group.duplicate, group.unrouted]
                    .map(|count| format!("<td class=\"number\">{count}</td>"))
                    .concat(),
            ));
        }
        html.push_str("</tbody></table></div>\n");
    }
    html.push_str(&format!(
        "<p>Put aside, to be read by a person: {kept} events and records{}; {unreadable} records could not be read at all.</p></section>\n",
        if lost > 0 { format!(" ({lost} more found no room)") } else { String::new() }
    ));
    Fragment { id: "groups".to_owned(), html }
}

fn top(intake: &Intake) -> Fragment {
    let list = statements::list(intake.scribe());
    let all: f64 = list.iter().map(|one| one.time_sum).sum();
    let mut html = String::from("<section id=\"statements\"><h2>statements that take the most time</h2>\n");
    if list.is_empty() {
        html.push_str("<p>No slow query has come yet.</p></section>\n");
        return Fragment { id: "statements".to_owned(), html };
    }
    html.push_str(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"statements\"><table><thead><tr><th scope=\"col\">statement</th><th scope=\"col\" class=\"number\">share</th><th scope=\"col\" class=\"number\">time</th>\
         <th scope=\"col\" class=\"number\">calls</th><th scope=\"col\" class=\"number\">mean</th><th scope=\"col\">log group</th></tr></thead><tbody>\n",
    );
    for one in list.iter().take(MOST_STATEMENTS) {
        let text = one
            .text
            .as_deref()
            .map_or_else(String::new, |text| format!("<br><code>{}</code>", escape(&beginning(text))));
        html.push_str(&format!(
            "<tr><td><b>{}</b> <small>{}</small>{text}</td><td class=\"number\">{:.0} %</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
             <td class=\"number\">{}</td><td>{}</td></tr>\n",
            escape(&one.statement),
            escape(&one.fingerprint),
            one.time_sum / all.max(f64::MIN_POSITIVE) * 100.0,
            readable("_seconds", one.time_sum),
            one.calls,
            readable("_seconds", one.time_sum / one.calls.max(1) as f64),
            escape(&one.log_group)
        ));
    }
    html.push_str("</tbody></table></div>\n");
    if list.len() > MOST_STATEMENTS {
        html.push_str(&format!(
            "<p>{} more in <a href=\"/api/v1/statements\">JSON</a></p>\n",
            list.len() - MOST_STATEMENTS
        ));
    }
    html.push_str("</section>\n");
    Fragment { id: "statements".to_owned(), html }
}
