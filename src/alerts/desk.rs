//! The desk: what incidents there are, how they stand, and what has to be done next so that Slack shows just that.
//!
//! It does nothing itself and asks no clock: every change comes back as records, which are applied here at once and have to be
//! in the journal before anybody is told. What is true and what is shown are compared, so changes that wait become one.

mod queue;
mod restore;
#[cfg(test)]
mod tests;

use super::incident::{Digest, Incident, Phase, Post, Record};
use super::{Alert, Notice, Source};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Incidents that wait in a channel; with one more they become a digest.
pub const MOST_WAITING: usize = 20;
/// Incidents at a time; the next one is not taken, and its sender comes again.
const MOST_INCIDENTS: usize = 20_000;
/// Alerts that an incident remembers; the oldest that ended make room.
const MOST_ALERTS: usize = 2500;
/// How long an incident that is over is remembered: a late word of it changes its message and makes no new one.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
/// A repeat alone is written down this seldom.
const HEARD_AGAIN: SignedDuration = SignedDuration::from_mins(5);
/// After a check was down its rules need a while until they fire again; before that, over is not said.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// How the check behind an alert stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Light {
    /// No check here is behind it, or the alert is about a check itself.
    None,
    /// Its last run was good.
    Up,
    /// It has not run yet.
    Waiting(String),
    /// It does not answer.
    Down {
        /// The check.
        check: String,
        /// When it last did.
        since: Option<Timestamp>,
    },
}

/// What is to be done in a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// Post the message of an incident or digest. `look`: it may be there already, from this moment on.
    Post {
        /// The incident or digest.
        id: String,
        /// When it may have been posted before.
        look: Option<Timestamp>,
    },
    /// Reply, for everybody to see, that an incident has become worse.
    Rise {
        /// The incident.
        id: String,
    },
    /// Change a message.
    Update {
        /// The incident or digest.
        id: String,
    },
}

impl Deed {
    /// Whose deed it is.
    pub fn id(&self) -> &str {
        match self {
            Self::Post { id, .. } | Self::Rise { id } | Self::Update { id } => id,
        }
    }
}

/// More incidents than can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Incidents and digests.
#[derive(Debug, Default)]
pub struct Desk {
    incidents: BTreeMap<String, Incident>,
    digests: BTreeMap<String, Digest>,
    /// The last incident of each group.
    newest: BTreeMap<(Source, String), String>,
    scans: VecDeque<Timestamp>,
    /// Whose message may show something else than what is true.
    stale: BTreeSet<String>,
    /// Since when the checks behind incidents answer again.
    good_since: BTreeMap<String, Timestamp>,
    /// What their series show now.
    values: BTreeMap<String, f64>,
    /// Before then nothing is tried again.
    not_before: BTreeMap<String, Timestamp>,
    made: u64,
}

impl Desk {
    /// Takes what a sender says; nothing new gives no record.
    ///
    /// # Errors
    /// When there are too many incidents.
    pub fn hear(
        &mut self,
        notice: &Notice,
        channel: impl Fn(&Alert) -> String,
        now: Timestamp,
    ) -> Result<Vec<Record>, Full> {
        let group = (notice.source, notice.key.clone());
        let known = self.newest.get(&group).and_then(|id| self.incidents.get(id));
        let known = known.filter(|incident| continues(incident, notice));
        let mut records = Vec::new();
        let (id, heard) = if let Some(incident) = known {
            let changed = changes(incident, notice, now);
            let id = incident.id.clone();
            if !changed.is_empty() {
                records.push(Record::Alerts { id: id.clone(), alerts: changed });
            }
            (id, incident.heard)
        } else {
            let alerts: Vec<Alert> = notice.alerts.iter().filter(|alert| alert.fires()).cloned().collect();
            let Some(first) = alerts.iter().max_by_key(|alert| alert.severity()) else { return Ok(records) };
            if self.incidents.len() >= MOST_INCIDENTS {
                return Err(Full);
            }
            let incident = self.open(group, channel(first), now);
            let id = incident.id.clone();
            records.push(Record::Incident(Box::new(incident)));
            records.push(Record::Alerts { id: id.clone(), alerts });
            (id, now)
        };
        self.apply_all(&records);
        let Some(incident) = self.incidents.get_mut(&id) else { return Ok(records) };
        // A repeat alone is worth a record only once in a while.
        if !records.is_empty() || now.duration_since(heard) > HEARD_AGAIN {
            let mut incident = incident.clone();
            incident.heard = now;
            incident.most = incident.most.max(incident.firing().count());
            if incident.is_resolved() && incident.firing().next().is_some() {
                incident.phase = Phase::Firing;
            }
            records.extend(self.put(incident));
        }
        Ok(records)
    }

    fn open(&mut self, (source, key): (Source, String), channel: String, now: Timestamp) -> Incident {
        Incident {
            id: self.name(now),
            source,
            key,
            channel,
            opened: now,
            heard: now,
            phase: Phase::Firing,
            told: super::Severity::Info,
            most: 0,
            peak: None,
            series: String::new(),
            post: Post::Waiting,
            shown: None,
            digest: None,
            bare: false,
            evidence: Vec::new(),
            alerts: BTreeMap::new(),
        }
    }

    /// A name that no incident had before, in this process or an earlier one.
    fn name(&mut self, now: Timestamp) -> String {
        loop {
            self.made += 1;
            let name = format!("{:x}-{:x}", now.as_millisecond(), self.made);
            if !self.incidents.contains_key(&name) && !self.digests.contains_key(&name) {
                return name;
            }
        }
    }

    /// Looks at the checks behind the incidents, and forgets what is long over. `silence`: Alertmanager repeats itself, and of what it
    /// has not named for so long nobody knows anything.
    pub fn look(
        &mut self,
        now: Timestamp,
        silence: SignedDuration,
        light: &dyn Fn(&Alert) -> Light,
    ) -> Vec<Record> {
        let mut records = Vec::new();
        let mut good_since = std::mem::take(&mut self.good_since);
        for id in self.incidents.keys().cloned().collect::<Vec<_>>() {
            let Some(incident) = self.incidents.get(&id) else { continue };
            if let Phase::Resolved { at } = incident.phase {
                let told = incident.digest.is_some() || incident.shown.is_some() && !self.stale.contains(&id);
                if told && now.duration_since(incident.heard.max(at)) > REMEMBERED {
                    records.push(Record::Gone(id));
                }
                continue;
            }
            if incident.source == Source::Alertmanager
                && now.duration_since(incident.heard) > silence.saturating_add(REMEMBERED)
            {
                records.push(Record::Gone(id));
                continue;
            }
            let phase = phase(incident, now, silence, light, &mut good_since);
            if phase != incident.phase {
                let incident = Incident { phase, ..incident.clone() };
                records.extend(self.put(incident));
            }
        }
        self.good_since = good_since;
        let left = |digest: &&Digest| !digest.members.iter().any(|id| self.incidents.contains_key(id));
        records.extend(self.digests.values().filter(left).map(|digest| Record::Gone(digest.id.clone())));
        self.apply_all(&records);
        records
    }

    /// Puts an incident in the place of what was known of it.
    fn put(&mut self, incident: Incident) -> Vec<Record> {
        let records = vec![Record::Incident(Box::new(incident))];
        self.apply_all(&records);
        records
    }
}

/// How an incident stands. Over is said only after a good run of the check behind it.
fn phase(
    incident: &Incident,
    now: Timestamp,
    silence: SignedDuration,
    light: &dyn Fn(&Alert) -> Light,
    good_since: &mut BTreeMap<String, Timestamp>,
) -> Phase {
    let over = incident.firing().next().is_none();
    let (mut dark, mut judged) = (None, false);
    for alert in incident.alerts.values().filter(|alert| over || alert.fires()) {
        match light(alert) {
            Light::Waiting(check) if over => dark = Some((check, None)),
            Light::Up => judged = true,
            Light::None | Light::Waiting(_) => {}
            Light::Down { check, since } => {
                dark = Some((check, since));
                break;
            }
        }
    }
    if let Some((check, since)) = dark {
        good_since.remove(&incident.id);
        return match &incident.phase {
            Phase::Unknown { since, .. } => Phase::Unknown { since: *since, check },
            _ => Phase::Unknown { since: since.unwrap_or(now).max(incident.began()), check },
        };
    }
    if !over {
        let silent = incident.source == Source::Alertmanager && now.duration_since(incident.heard) > silence;
        return if silent {
            Phase::Unknown { since: incident.heard, check: String::new() }
        } else {
            Phase::Firing
        };
    }
    if let Phase::Unknown { check, .. } = &incident.phase
        && !check.is_empty()
        && judged
    {
        let good = *good_since.entry(incident.id.clone()).or_insert(now);
        if now.duration_since(good) < GRACE {
            return incident.phase.clone();
        }
    }
    good_since.remove(&incident.id);
    Phase::Resolved { at: incident.alerts.values().filter_map(|alert| alert.ends_at).max().unwrap_or(now) }
}

/// Whether a notice speaks of this incident, or of a later one of its group.
fn continues(incident: &Incident, notice: &Notice) -> bool {
    let known = |alert: &Alert| {
        let before = incident.alerts.get(&alert.fingerprint);
        before.is_some_and(|before| {
            same_start(before, alert, notice.source) || before.starts_at >= alert.starts_at
        })
    };
    // What nobody has been told of yet goes on; so does what is not over. Else only what was known already.
    let untold = incident.post == Post::Waiting && incident.digest.is_none();
    !incident.is_resolved() || untold || notice.alerts.iter().filter(|alert| alert.fires()).all(known)
}

/// Datadog says when it speaks, not since when the alert fires; there the cycle key is the firing.
fn same_start(before: &Alert, now: &Alert, source: Source) -> bool {
    source == Source::Datadog || before.starts_at == now.starts_at
}

/// The alerts of an incident that a notice changes.
fn changes(incident: &Incident, notice: &Notice, now: Timestamp) -> Vec<Alert> {
    let mut changed = Vec::new();
    for alert in &notice.alerts {
        let before = incident.alerts.get(&alert.fingerprint);
        let mut alert = alert.clone();
        match before {
            // The end of what was never told.
            None if !alert.fires() => continue,
            Some(before) if same_start(before, &alert, notice.source) => alert.starts_at = before.starts_at,
            // A late word of an earlier firing.
            Some(before) if alert.starts_at < before.starts_at => continue,
            None | Some(_) => {}
        }
        if let (Some(end), Some(Alert { ends_at: Some(before), .. })) = (alert.ends_at.as_mut(), before) {
            // Told once is told: two senders may differ by a moment.
            *end = *before;
        }
        if before != Some(&alert) {
            changed.push(alert);
        }
    }
    if notice.complete {
        let named: BTreeSet<&str> = notice.alerts.iter().map(|alert| alert.fingerprint.as_str()).collect();
        let unnamed = incident.firing().filter(|alert| !named.contains(alert.fingerprint.as_str()));
        changed.extend(unnamed.map(|alert| Alert { ends_at: Some(now), ..alert.clone() }));
    }
    changed
}
