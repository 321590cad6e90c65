//! Alerts that come back from Alertmanager or Datadog, and what Slack shows of them: one message an incident.
//!
//! A door reads a delivery into a [`Notice`]. The [`desk`] keeps incidents, durably, and says what has to be done so that
//! Slack shows what is true; the [`office`] does it, through [`slack`], and has evidence put into the thread.

pub mod alertmanager;
pub mod config;
pub mod counters;
pub mod datadog;
pub mod desk;
pub mod incident;
pub mod message;
pub mod office;
pub mod open;
pub mod picture;
pub mod slack;
pub mod text;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A delivery that is larger is refused: a thousand alerts with their annotations have about 2 MB.
pub const LARGEST_BODY: usize = 8 * 1024 * 1024;
/// Alerts of one delivery; more are counted and left out.
pub const MOST_ALERTS: usize = 2000;
/// Labels or annotations of an alert.
const MOST_WORDS: usize = 64;
/// Characters of a name.
const LONGEST_NAME: usize = 200;
/// Characters of a label's value.
const LONGEST_LABEL: usize = 500;
/// Characters of an annotation: Slack shows 3,000 of a text.
const LONGEST_ANNOTATION: usize = 4000;
/// Characters of an address.
const LONGEST_ADDRESS: usize = 3000;
/// Characters of the name of a group.
const LONGEST_KEY: usize = 1000;

/// Who sent an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Alertmanager.
    Alertmanager,
    /// A Datadog monitor.
    Datadog,
}

/// How bad it is: the label `severity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be known, not to be acted on.
    #[default]
    Info,
    /// Today.
    Warning,
    /// Now.
    Critical,
}

/// One alert of a group. It is the same one as long as fingerprint and start are the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// What its labels are known by.
    pub fingerprint: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Words for people.
    pub annotations: BTreeMap<String, String>,
    /// Since when it fires.
    pub starts_at: Timestamp,
    /// When it ended; absent while it fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// Where the expression stands that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator_url: Option<String>,
}

/// What a sender says of one group of alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Who says it.
    pub source: Source,
    /// The sender's name of the group.
    pub key: String,
    /// The alerts, each once.
    pub alerts: Vec<Alert>,
    /// Whether an alert that is not named here does not fire any more.
    pub complete: bool,
}

impl Severity {
    /// The severity that a label names; what is not known is to be looked at today.
    pub fn of(word: Option<&str>) -> Self {
        match word.unwrap_or_default().to_ascii_lowercase().as_str() {
            "critical" | "page" | "error" | "emergency" | "fatal" => Self::Critical,
            "info" | "none" | "ok" | "success" | "low" => Self::Info,
            _ => Self::Warning,
        }
    }

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Alert {
    /// A label's value; `None` when it is absent or empty, which is the same to Prometheus.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// An annotation; `None` when it is absent or blank.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.label("alertname").unwrap_or("alert without a name")
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        Severity::of(self.label("severity"))
    }

    /// Whether it fires.
    pub fn fires(&self) -> bool {
        self.ends_at.is_none()
    }
}

/// Labels or annotations within our limits; control characters but line breaks become blanks.
fn words(found: BTreeMap<String, String>, longest: usize) -> BTreeMap<String, String> {
    let short = |(name, value): (String, String)| (text::cut(&name, LONGEST_NAME), clean(&value, longest));
    found.into_iter().take(MOST_WORDS).map(short).collect()
}

/// A foreign text within our limits.
fn clean(foreign: &str, longest: usize) -> String {
    let letters = foreign.chars().filter_map(|letter| match letter {
        '\n' | '\t' => Some(letter),
        // Marks that turn the direction of writing would let a text look like another one.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => None,
        letter if letter.is_control() => Some(' '),
        letter => Some(letter),
    });
    text::cut(&letters.take(longest + 1).collect::<String>(), longest)
}

/// The name of a group within our limits, still another one for another group.
fn group_key(key: &str) -> String {
    if key.chars().count() <= LONGEST_KEY {
        return key.to_owned();
    }
    format!("{}#{:016x}", text::cut(key, LONGEST_KEY), text::hash(key.as_bytes()))
}

/// An address within our limits; a longer one leads nowhere.
fn address(found: &str) -> Option<String> {
    let fits = !found.is_empty() && found.len() <= LONGEST_ADDRESS;
    fits.then(|| found.to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A firing alert with a few labels.
    pub(crate) fn alert(fingerprint: &str, labels: &[(&str, &str)]) -> Alert {
        Alert {
            fingerprint: fingerprint.into(),
            labels: labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            annotations: BTreeMap::new(),
            starts_at: "2026-11-20T10:00:00Z".parse().unwrap(),
            ends_at: None,
            generator_url: None,
        }
    }

    #[test]
    fn a_severity_that_is_not_known_is_looked_at_today() {
        for (word, expected) in [
            (Some("critical"), Severity::Critical),
            (Some("PAGE"), Severity::Critical),
            (Some("info"), Severity::Info),
            (Some("p3"), Severity::Warning),
            (None, Severity::Warning),
        ] {
            assert_eq!(Severity::of(word), expected, "{word:?}");
        }
        assert!(Severity::Critical > Severity::Warning && Severity::Warning > Severity::Info);
    }

    #[test]
    fn texts_from_outside_have_limits_and_no_hidden_marks() {
        assert_eq!(clean("a\u{202e}b\u{0}c\nd", 10), "ab c\nd");
        assert_eq!(clean(&"x".repeat(100), 5), "xxxx…");
        let (long, longer) = ("k".repeat(2000), "k".repeat(2001));
        assert!(group_key(&long) != group_key(&longer) && group_key(&long).len() < 1100);
    }
}
