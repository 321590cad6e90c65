//! Incidents that are not over, for the page.

use super::Severity;
use super::incident::{Incident, Phase};
use super::message::summary;
use super::text::cut;
use jiff::Timestamp;

/// Beyond that it is a storm, and nobody reads single ones.
pub(super) const MOST: usize = 100;
/// Characters of a summary.
const LONGEST: usize = 300;

/// An incident that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// `alertname` of the alert that stands for it.
    pub name: String,
    /// Its label `check`.
    pub check: Option<String>,
    /// Its label `target`.
    pub target: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// Whether nobody knows how it stands, because its check does not answer.
    pub unknown: bool,
    /// Since when.
    pub began: Timestamp,
    /// The alert's own words.
    pub summary: String,
    /// Alerts that fire.
    pub firing: usize,
    /// What to do.
    pub runbook: Option<String>,
}

impl Open {
    pub(super) fn of(incident: &Incident) -> Option<Self> {
        let alert = incident.leading().filter(|_| !incident.is_resolved())?;
        let label = |name: &str| alert.label(name).map(str::to_owned);
        Some(Self {
            name: alert.name().to_owned(),
            check: label("check"),
            target: label("target"),
            severity: incident.severity(),
            unknown: matches!(incident.phase, Phase::Unknown { .. }),
            began: incident.began(),
            summary: cut(summary(alert), LONGEST),
            firing: incident.firing().count(),
            runbook: alert.annotation("runbook_url").filter(|url| url.starts_with("http")).map(str::to_owned),
        })
    }
}
