//! What Slack shows of an incident: blocks within its limits, every foreign word escaped.
//! <https://docs.slack.dev/reference/block-kit/blocks>

use super::incident::{Digest, Incident, Phase};
use super::text::{code, cut, duration, escape, escape_within, hash, link, measured, moment};
use super::{Alert, Severity};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Characters of a header.
pub const LONGEST_HEADER: usize = 150;
/// Characters of the text of a section.
pub const LONGEST_SECTION: usize = 3000;
/// Blocks of a message.
pub const MOST_BLOCKS: usize = 50;
/// All texts of a message together: above some 13,200 Slack says `msg_blocks_too_long`, which its documents do not tell.
pub const LONGEST_MESSAGE: usize = 12_000;
/// Fields of a section.
const MOST_FIELDS: usize = 10;
/// Alerts of a group that are named one by one.
const NAMED_ALERTS: usize = 10;
/// Incidents of a digest that are named one by one.
const NAMED_INCIDENTS: usize = 15;
/// Labels that have a place of their own, or say nothing to people.
const TOLD_ELSEWHERE: [&str; 7] = ["alertname", "severity", "check", "target", "source", "job", "instance"];

/// A message as Slack takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// For notifications, and for what shows no blocks.
    pub text: String,
    /// The blocks; none in a bare message.
    pub blocks: Vec<Value>,
}

impl Message {
    /// A message without blocks.
    pub fn bare(text: String) -> Self {
        Self { text, blocks: Vec::new() }
    }

    /// What it shows, as a number.
    pub fn hash(&self) -> u64 {
        hash(json!([self.text, self.blocks]).to_string().as_bytes())
    }

    /// A note that stands below everything.
    #[must_use]
    pub fn with_note(mut self, note: &str) -> Self {
        self.blocks.push(context(note));
        self
    }

    /// As lines of plain text.
    pub fn plain(&self) -> String {
        let mut lines = Vec::new();
        for block in &self.blocks {
            let parts = block.get("fields").or_else(|| block.get("elements")).and_then(Value::as_array);
            let texts = parts.into_iter().flatten().chain(block.get("text"));
            lines.extend(texts.filter_map(|part| part.get("text")?.as_str()).map(readable));
        }
        if lines.is_empty() { self.text.clone() } else { lines.join("\n") }
    }
}

/// The message of an incident. `value` is what its series shows now: the only part that changes all the time, so the hash of
/// what is shown is made without it.
pub fn of_incident(incident: &Incident, value: Option<f64>) -> Message {
    let Some(alert) = incident.leading() else {
        return Message::bare("an incident without alerts".to_owned());
    };
    let title = title(incident, alert);
    let status = status(incident);
    let text = format!("{} · {}", escape_within(&title, 300), first_line(&status));
    if incident.bare {
        return Message::bare(text);
    }
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": cut(&title, LONGEST_HEADER), "emoji": true } }),
        section(status),
        json!({ "type": "section", "fields": fields(incident, alert, value) }),
    ];
    let words = [("description", "", 2400), ("action", "*What to do:* ", 2000)];
    for (name, before, longest) in words {
        if let Some(words) = alert.annotation(name) {
            blocks.push(section(format!("{before}{}", escape_within(words, longest))));
        }
    }
    if incident.alerts.len() > 1 {
        blocks.push(section(named(incident)));
    }
    if let Some(links) = links(alert) {
        blocks.push(section(links));
    }
    blocks.push(context(format!("{} · datapulse {}", escape(alert.name()), code(&incident.id))));
    Message { text, blocks }
}

/// The one reply that tells everybody that it has become worse.
pub fn of_rise(incident: &Incident) -> Message {
    let title = incident.leading().map(|alert| summary(alert).to_owned()).unwrap_or_default();
    let severity = incident.severity();
    Message::bare(format!("{} Now *{}*: {}", mark(severity), severity.as_str(), escape_within(&title, 1000)))
}

/// One message for many incidents.
pub fn of_digest(digest: &Digest, members: &[&Incident]) -> Message {
    let count = |test: fn(&Incident) -> bool| members.iter().filter(|incident| test(incident)).count();
    let firing = count(|incident| incident.phase == Phase::Firing);
    let (unknown, resolved) =
        (count(|incident| matches!(incident.phase, Phase::Unknown { .. })), count(Incident::is_resolved));
    let worst = members.iter().filter(|one| !one.is_resolved()).map(|one| one.severity()).max();
    let title = match worst {
        Some(worst) => format!(
            "{} {} incidents at once: {}",
            mark(worst),
            members.len(),
            parts(firing, unknown, resolved)
        ),
        None => format!("✅ {} incidents at once, all resolved", members.len()),
    };
    let mut names: BTreeMap<&str, (usize, Severity)> = BTreeMap::new();
    for alert in members.iter().filter_map(|incident| incident.leading()) {
        let entry = names.entry(alert.name()).or_default();
        *entry = (entry.0 + 1, entry.1.max(alert.severity()));
    }
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_by_key(|(name, (count, worst))| (std::cmp::Reverse((*worst, *count)), *name));
    let lines = names
        .iter()
        .take(20)
        .map(|(name, (count, worst))| format!("{} {count} × {}", mark(*worst), escape_within(name, 100)));
    let mut all: Vec<&Incident> = members.to_vec();
    all.sort_by_key(|one| (one.is_resolved(), std::cmp::Reverse(one.severity()), one.opened, one.id.clone()));
    let summaries = all.iter().take(NAMED_INCIDENTS).map(|incident| {
        let alert = incident.leading();
        let summary = alert.map(summary).unwrap_or_default();
        format!("{} {}", phase_mark(incident), escape_within(summary, 150))
    });
    let more = match members.len().saturating_sub(NAMED_INCIDENTS) {
        0 => String::new(),
        more => format!("\n… and {more} more; the whole list is in the thread"),
    };
    let blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": cut(&title, LONGEST_HEADER), "emoji": true } }),
        section(lines.collect::<Vec<_>>().join("\n")),
        section(cut(&summaries.collect::<Vec<_>>().join("\n"), LONGEST_SECTION - 100) + &more),
        context(format!("too many came at a time for a message each · datapulse {}", code(&digest.id))),
    ];
    Message { text: escape(&title), blocks }
}

/// All incidents of a digest, a line each.
pub fn list(members: &[&Incident]) -> String {
    let line = |incident: &&Incident| {
        let phase = match &incident.phase {
            Phase::Firing => "firing",
            Phase::Unknown { .. } => "unknown",
            Phase::Resolved { .. } => "resolved",
        };
        let alert = incident.leading();
        let words =
            alert.map(|alert| cut(&format!("{}: {}", alert.name(), summary(alert)), 400).replace('\n', " "));
        let began = incident.began().strftime("%Y-%m-%dT%H:%M:%SZ");
        format!(
            "{} {phase} {} {began} {}\n",
            incident.id,
            incident.severity().as_str(),
            words.unwrap_or_default()
        )
    };
    members.iter().map(line).collect()
}

fn parts(firing: usize, unknown: usize, resolved: usize) -> String {
    let parts = [(firing, "firing"), (unknown, "unknown"), (resolved, "resolved")];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    parts.collect::<Vec<_>>().join(", ")
}

fn title(incident: &Incident, alert: &Alert) -> String {
    let others = match (incident.phase == Phase::Firing, incident.firing().count()) {
        (true, count @ 2..) => format!(" (and {} more)", count - 1),
        _ => String::new(),
    };
    let room = LONGEST_HEADER - others.len() - 4;
    format!("{} {}{others}", phase_mark(incident), cut(&summary(alert).replace('\n', " "), room))
}

/// The words of the alert itself; its name when it has none.
pub fn summary(alert: &Alert) -> &str {
    alert.annotation("summary").or_else(|| alert.annotation("title")).unwrap_or_else(|| alert.name())
}

fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "🔴",
        Severity::Warning => "🟠",
        Severity::Info => "🔵",
    }
}

fn phase_mark(incident: &Incident) -> &'static str {
    match incident.phase {
        Phase::Firing => mark(incident.severity()),
        Phase::Unknown { .. } => "❔",
        Phase::Resolved { .. } => "✅",
    }
}

fn status(incident: &Incident) -> String {
    let began = incident.began();
    match &incident.phase {
        Phase::Firing => format!("*Firing* since {}", moment(began)),
        Phase::Unknown { since, check } if check.is_empty() => {
            format!(
                "*Unknown since* {}\nNothing was heard of it since then. It began {}",
                moment(*since),
                moment(began)
            )
        }
        Phase::Unknown { since, check } => format!(
            "*Unknown since* {}\nThe check {} does not answer, so nobody knows whether this is over. It began {}",
            moment(*since),
            code(check),
            moment(began)
        ),
        Phase::Resolved { at } => {
            let lasted = duration(at.duration_since(began));
            let peak = incident
                .peak
                .map(|peak| format!(", peak {}", measured(peak, &incident.series)))
                .unwrap_or_default();
            let most = if incident.most > 1 {
                format!(", up to {} alerts at a time", incident.most)
            } else {
                String::new()
            };
            format!("*Resolved* {} after {lasted}{peak}{most}\nIt began {}", moment(*at), moment(began))
        }
    }
}

fn fields(incident: &Incident, alert: &Alert, value: Option<f64>) -> Vec<Value> {
    let mut facts = vec![("Severity", escape(incident.severity().as_str()))];
    if let Some(check) = alert.label("check") {
        let target = alert.label("target").map(|target| format!("@{target}")).unwrap_or_default();
        facts.push(("Check", escape_within(&format!("{check}{target}"), 300)));
    }
    match (alert.annotation("value"), value) {
        (Some(words), _) => facts.push(("Value", escape_within(words, 300))),
        (None, Some(value)) => facts.push(("Value", measured(value, &incident.series))),
        (None, None) => {}
    }
    if incident.alerts.len() > 1 {
        let firing = incident.firing().count();
        facts.push(("Alerts", parts(firing, 0, incident.alerts.len() - firing)));
    }
    let others = alert.labels.iter().filter(|(name, value)| {
        !TOLD_ELSEWHERE.contains(&name.as_str()) && !value.is_empty() && (alert.name() != name.as_str())
    });
    facts.extend(others.map(|(name, value)| (name.as_str(), escape_within(value, 300))));
    let field = |(name, words): &(&str, String)| json!({ "type": "mrkdwn", "text": format!("*{}*\n{words}", escape(name)) });
    facts.iter().take(MOST_FIELDS).map(field).collect()
}

/// The alerts of a group, those that fire first.
fn named(incident: &Incident) -> String {
    let mut alerts: Vec<&Alert> = incident.alerts.values().collect();
    alerts.sort_by_key(|alert| {
        (!alert.fires(), std::cmp::Reverse(alert.severity()), alert.starts_at, &alert.fingerprint)
    });
    let line = |alert: &&Alert| {
        let mark = if alert.fires() { mark(alert.severity()) } else { "✅" };
        format!("{mark} {}", escape_within(summary(alert), 220))
    };
    let mut lines: Vec<String> = alerts.iter().take(NAMED_ALERTS).map(line).collect();
    if alerts.len() > NAMED_ALERTS {
        lines.push(format!("… and {} more", alerts.len() - NAMED_ALERTS));
    }
    lines.join("\n")
}

/// Runbook, dashboard, and the page for people without accounts.
fn links(alert: &Alert) -> Option<String> {
    let known = [("runbook_url", "Runbook"), ("dashboard_url", "Dashboard"), ("public_url", "Public page")];
    let linked = known.into_iter().filter_map(|(annotation, name)| {
        let address = alert.annotation(annotation)?;
        // A path in a repository is no address, but it can be looked up.
        link(address, name).or_else(|| Some(format!("{name}: {}", code(&cut(address, 200)))))
    });
    let source = alert.generator_url.as_deref().and_then(|address| link(address, "Source"));
    let all: Vec<String> = linked.chain(source).collect();
    (!all.is_empty()).then(|| all.join("   ·   "))
}

fn section(text: impl AsRef<str>) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut_markup(text.as_ref(), LONGEST_SECTION) } })
}

fn context(text: impl AsRef<str>) -> Value {
    json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": cut_markup(text.as_ref(), 1000) }] })
}

/// Parts are cut before they are put together, so this is a guard and no rule. An empty text is refused.
fn cut_markup(text: &str, longest: usize) -> String {
    if text.is_empty() { "–".to_owned() } else { cut(text, longest) }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Markup as text, with the addresses behind the names of links.
pub fn readable(markup: &str) -> String {
    unmarked(
        markup,
        |name, address| if name == address { name.to_owned() } else { format!("{name} ({address})") },
    )
}

/// Markup as people see it in Slack, where a link is its name.
pub fn seen(markup: &str) -> String {
    unmarked(markup, |name, _| name.to_owned())
}

fn unmarked(markup: &str, link: impl Fn(&str, &str) -> String) -> String {
    let mut shown = String::with_capacity(markup.len());
    let mut rest = markup;
    while let Some((before, after)) = rest.split_once('<') {
        shown.push_str(before);
        let Some((inside, behind)) = after.split_once('>') else { break };
        let (address, name) = inside.split_once('|').unwrap_or((inside, inside));
        if address.starts_with('!') {
            shown.push_str(name);
        } else {
            shown.push_str(&link(name, address));
        }
        rest = behind;
    }
    shown.push_str(rest);
    shown.replace(['*', '`'], "").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::super::incident::Post;
    use super::super::tests::alert;
    use super::*;
    use jiff::Timestamp;

    fn incident(alerts: Vec<Alert>) -> Incident {
        let opened: Timestamp = "2026-11-20T10:00:05Z".parse().unwrap();
        Incident {
            id: "1a2b-0".into(),
            source: Source::Alertmanager,
            key: "k".into(),
            channel: "C0".into(),
            opened,
            heard: opened,
            phase: Phase::Firing,
            told: Severity::Warning,
            most: alerts.len(),
            peak: Some(7.5),
            series: String::new(),
            post: Post::Waiting,
            shown: None,
            digest: None,
            bare: false,
            evidence: Vec::new(),
            alerts: alerts.into_iter().map(|alert| (alert.fingerprint.clone(), alert)).collect(),
        }
    }

    /// Slack's limits: see the constants.
    fn fits(message: &Message) {
        let mut all = 0;
        assert!(
            message.blocks.len() <= MOST_BLOCKS
                && message.text.chars().count() < 4000
                && !message.text.is_empty()
        );
        for block in &message.blocks {
            let longest = if block["type"] == "header" { LONGEST_HEADER } else { LONGEST_SECTION };
            let fields =
                block["fields"].as_array().or(block["elements"].as_array()).cloned().unwrap_or_default();
            assert!(fields.len() <= MOST_FIELDS);
            for text in fields.iter().chain(block.get("text")) {
                let text = text["text"].as_str().unwrap();
                let length = text.chars().count();
                assert!((1..=longest).contains(&length), "{length}: {text}");
                assert!(fields.is_empty() || length <= 2000);
                all += length;
            }
        }
        assert!(all <= LONGEST_MESSAGE, "{all}");
    }

    #[test]
    fn a_message_has_facts_words_and_links() {
        let mut one = alert(
            "f1",
            &[
                ("alertname", "Sub"),
                ("check", "orders"),
                ("target", "sub"),
                ("severity", "critical"),
                ("subname", "s<1>"),
            ],
        );
        for (name, text) in [
            ("summary", "Subscription orders_sub is disabled"),
            ("description", "nothing is applied & <@U1>"),
            ("action", "alter subscription … enable"),
            ("runbook_url", "https://git.example.org/r.md"),
            ("dashboard_url", "docs/d.json"),
            ("public_url", "https://pub.example.org/?a=1&b=2"),
        ] {
            one.annotations.insert(name.into(), text.into());
        }
        let mut incident = incident(vec![one]);
        let message = of_incident(&incident, Some(12.0));
        fits(&message);
        let plain = message.plain();
        for words in [
            "🔴 Subscription orders_sub is disabled",
            "Firing since 2026-11-20 10:00:00 UTC",
            "orders@sub",
            "Value\n12",
            "subname\ns<1>",
            "nothing is applied & <@U1>",
            "What to do: alter",
            "Runbook (https://git.example.org/r.md)",
            "Dashboard: docs/d.json",
            "Public page (https://pub.example.org/?a=1&b=2)",
        ] {
            assert!(plain.contains(words), "{words}\n{plain}");
        }
        assert!(!json!(message.blocks).to_string().contains("<@U1>"));
        let firing = message.hash();
        assert!(firing != of_incident(&incident, Some(13.0)).hash());
        incident.phase = Phase::Resolved { at: "2026-11-20T10:30:00Z".parse().unwrap() };
        let plain = of_incident(&incident, None).plain();
        assert!(plain.contains("✅ Subscription") && plain.contains("after 30 min, peak 7.5"), "{plain}");
        incident.phase =
            Phase::Unknown { since: "2026-11-20T10:20:00Z".parse().unwrap(), check: "orders@sub".into() };
        let plain = of_incident(&incident, None).plain();
        assert!(
            plain.contains("Unknown since 2026-11-20 10:20:00 UTC\nThe check orders@sub does not answer"),
            "{plain}"
        );
        incident.bare = true;
        assert!(of_incident(&incident, None).blocks.is_empty());
    }

    #[test]
    fn whatever_comes_fits_into_the_limits_of_slack() {
        let hostile = [
            "<!channel> & ".repeat(1000),
            "x".repeat(100_000),
            "\n".repeat(5000),
            "`".repeat(4000),
            String::new(),
        ];
        for words in hostile {
            let alerts = (0..60).map(|n| {
                let mut alert = alert(
                    &format!("f{n}"),
                    &[("alertname", &words), ("check", &words), ("severity", "critical")],
                );
                for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"] {
                    alert.labels.insert(name.into(), words.clone());
                }
                for name in [
                    "summary",
                    "description",
                    "action",
                    "value",
                    "runbook_url",
                    "dashboard_url",
                    "public_url",
                ] {
                    alert.annotations.insert(name.into(), words.clone());
                }
                alert
            });
            let incident = incident(alerts.collect());
            let message = of_incident(&incident, Some(f64::NAN));
            fits(&message);
            // A header is plain text, in which Slack sees no mention.
            let marked: Vec<&Value> =
                message.blocks.iter().filter(|block| block["type"] != "header").collect();
            assert!(!json!(marked).to_string().contains("<!channel"), "a mention got through");
            assert!(!message.text.contains("<!channel"), "a mention got through");
            fits(&Message { blocks: vec![section(of_rise(&incident).text)], text: "x".into() });
            let members: Vec<&Incident> = std::iter::repeat_n(&incident, 1000).collect();
            let digest = Digest {
                id: "d".into(),
                channel: "C".into(),
                opened: incident.opened,
                members: Vec::new(),
                post: Post::Waiting,
                shown: None,
                listed: false,
            };
            let message = of_digest(&digest, &members);
            fits(&message);
            assert!(message.plain().contains("1000 incidents at once: 1000 firing"), "{}", message.plain());
            assert_eq!(list(&members).lines().count(), 1000);
        }
    }
}
