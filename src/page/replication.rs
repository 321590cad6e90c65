//! Both ends of a subscription in one picture: the publisher, its slot, the way between, and the worker of the subscriber.

use super::html::{escape, readable};
use crate::board::view::Sample;
use crate::board::{Card, Key};
use crate::check::Endpoint;
use std::collections::BTreeSet;

/// The subscriptions of a check `pg_subscription`; nothing for another.
pub(super) fn picture(key: &Key, card: &Card, found: &[Sample<'_>]) -> String {
    let subscriptions: BTreeSet<(&str, &str)> = found
        .iter()
        .filter(|sample| sample.name.starts_with("pg_subscription_"))
        .filter_map(|sample| Some((label(sample, "datname")?, label(sample, "subname")?)))
        .collect();
    if card.check_type() != "pg_subscription" || subscriptions.is_empty() {
        return String::new();
    }
    let asks = |end: Endpoint| {
        let failed =
            card.last().is_some_and(|last| last.problems.iter().any(|(endpoint, ..)| *endpoint == end));
        if failed { ("down", "does not answer") } else { ("up", "answers") }
    };
    let two = card.questions().any(|(endpoint, _)| *endpoint == Endpoint::Publisher);
    let mut html = String::from("<h2>both ends</h2>\n");
    for (database, name) in subscriptions {
        let of = Subscription { found, database, name };
        html.push_str(&format!(
            "<div class=\"ends\">{}{}{}</div>\n",
            if two { of.publisher(asks(Endpoint::Publisher)) } else { unknown_publisher() },
            of.way(),
            of.subscriber(key, asks(Endpoint::Subscriber))
        ));
    }
    html
}

fn label<'a>(sample: &'a Sample<'_>, name: &str) -> Option<&'a str> {
    sample.labels.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
}

struct Subscription<'a> {
    found: &'a [Sample<'a>],
    database: &'a str,
    name: &'a str,
}

impl Subscription<'_> {
    fn sample(&self, family: &str) -> Option<&Sample<'_>> {
        let own = |sample: &&Sample<'_>| {
            sample.name == family
                && label(sample, "subname") == Some(self.name)
                && label(sample, "datname") == Some(self.database)
        };
        self.found.iter().find(own)
    }

    fn value(&self, family: &str) -> Option<f64> {
        self.sample(family).map(|sample| sample.value)
    }

    fn publisher(&self, (class, word): (&str, &str)) -> String {
        let slot = self.sample("pg_subscription_slot_exists");
        let name = slot.and_then(|sample| label(sample, "slot_name")).map(escape).unwrap_or_default();
        let slot = match slot.map(|sample| sample.value > 0.0) {
            Some(true) => format!("slot <b>{name}</b>"),
            Some(false) => format!("slot <b>{name}</b> is missing"),
            None => "slot unknown".to_owned(),
        };
        let class = if slot.ends_with("missing") { "down" } else { class };
        format!("<div class=\"end {class}\"><b>publisher</b> {word}<br>{slot}</div>")
    }

    fn way(&self) -> String {
        let lag = self
            .value("pg_subscription_lag_bytes")
            .map_or_else(|| "lag unknown".to_owned(), |lag| format!("lag {}", readable("_bytes", lag)));
        let heard = self.value("pg_stat_subscription_last_msg_receipt_age_seconds").map_or_else(
            || "nothing heard".to_owned(),
            |age| format!("heard {} ago", readable("_seconds", age)),
        );
        format!("<div class=\"way\"><span>{lag}</span><span>{heard}</span></div>")
    }

    fn subscriber(&self, key: &Key, (class, word): (&str, &str)) -> String {
        let is = |family: &str| self.value(family).map(|value| value > 0.0);
        let (class, what) = match (
            is("pg_subscription_exists"),
            is("pg_subscription_enabled"),
            is("pg_subscription_worker_up"),
        ) {
            (Some(false), ..) => ("down", "does not exist".to_owned()),
            (_, Some(false), _) => ("down", "is disabled".to_owned()),
            (_, _, Some(false)) => ("down", "has no worker".to_owned()),
            (_, _, Some(true)) => match self.value("pg_subscription_worker_lock_wait_seconds") {
                Some(wait) if wait > 0.0 => {
                    ("partly", format!("waits for a lock, {}", readable("_seconds", wait)))
                }
                _ => (class, "applies".to_owned()),
            },
            _ => (class, "unknown".to_owned()),
        };
        format!(
            "<div class=\"end {class}\"><b>subscriber</b> {word}<br>subscription <b>{}</b> of {} {what}<br><small>{}</small></div>",
            escape(self.name),
            escape(self.database),
            escape(key.target.as_deref().unwrap_or_default())
        )
    }
}

fn unknown_publisher() -> String {
    "<div class=\"end waiting\"><b>publisher</b> is not asked<br>name it with <code>publisher:</code></div>"
        .to_owned()
}
