//! The desk's memory: records become incidents, after a restart as while it runs; and what is asked about them.

use super::super::incident::{Digest, Incident, Phase, Post, Record};
use super::super::open::{self, Open};
use super::{Desk, MOST_ALERTS};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

impl Desk {
    /// The desk as its records say it.
    pub fn restore(records: &[Record]) -> Self {
        let mut desk = Self::default();
        desk.apply_all(records);
        desk
    }

    /// Records that say all that is known.
    pub fn checkpoint(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for incident in self.incidents.values() {
            records.push(Record::Incident(Box::new(incident.clone())));
            let alerts = incident.alerts.values().cloned().collect();
            records.push(Record::Alerts { id: incident.id.clone(), alerts });
        }
        records.extend(self.digests.values().cloned().map(Record::Digest));
        records.extend(self.scans.iter().copied().map(Record::Scan));
        records
    }

    pub(super) fn apply_all(&mut self, records: &[Record]) {
        for record in records {
            self.apply(record);
        }
    }

    fn apply(&mut self, record: &Record) {
        match record {
            Record::Incident(incident) => {
                let mut incident = Incident::clone(incident);
                if let Some(before) = self.incidents.get(&incident.id) {
                    incident.alerts.clone_from(&before.alerts);
                }
                let group = (incident.source, incident.key.clone());
                let newer = self.newest.get(&group).and_then(|id| self.incidents.get(id));
                if newer.is_none_or(|newer| newer.opened <= incident.opened) {
                    self.newest.insert(group, incident.id.clone());
                }
                let id = incident.id.clone();
                self.incidents.insert(id.clone(), incident);
                self.touch(&id);
            }
            Record::Alerts { id, alerts } => {
                let Some(incident) = self.incidents.get_mut(id) else { return };
                for alert in alerts {
                    incident.alerts.insert(alert.fingerprint.clone(), alert.clone());
                }
                while incident.alerts.len() > MOST_ALERTS {
                    let ended = incident.alerts.values().filter(|alert| !alert.fires());
                    let oldest = ended.min_by_key(|alert| (alert.ends_at, alert.fingerprint.clone()));
                    let Some(oldest) = oldest.map(|alert| alert.fingerprint.clone()) else { break };
                    incident.alerts.remove(&oldest);
                }
                self.touch(id);
            }
            Record::Digest(digest) => {
                self.digests.insert(digest.id.clone(), digest.clone());
                self.touch(&digest.id);
            }
            Record::Gone(id) => {
                if let Some(incident) = self.incidents.remove(id) {
                    let group = (incident.source, incident.key);
                    if self.newest.get(&group) == Some(id) {
                        self.newest.remove(&group);
                    }
                }
                self.digests.remove(id);
                self.stale.remove(id);
                self.good_since.remove(id);
                self.values.remove(id);
                self.not_before.remove(id);
            }
            Record::Scan(at) => {
                self.scans.push_back(*at);
                let hour = SignedDuration::from_hours(1);
                self.scans.retain(|before| at.duration_since(*before) < hour);
            }
        }
    }

    /// Notes whose message shows something else than what is true.
    fn touch(&mut self, id: &str) {
        let Some(incident) = self.incidents.get(id) else {
            return self.compare(id);
        };
        match incident.digest.clone() {
            // To compare a digest means to write it, so that is left to whoever writes it next.
            Some(digest) => {
                // What a digest shows, its incidents do not; but everybody is told when one becomes worse.
                if !incident.is_resolved() && incident.severity() > incident.told {
                    self.stale.insert(id.to_owned());
                } else {
                    self.stale.remove(id);
                }
                if self.digests.contains_key(&digest) {
                    self.stale.insert(digest);
                }
            }
            None => self.compare(id),
        }
    }

    /// Compares what a message shows with what it should.
    pub fn compare(&mut self, id: &str) {
        let shown = match self.digests.get(id) {
            Some(digest) => digest.shown,
            None => self.incidents.get(id).and_then(|incident| incident.shown),
        };
        if self.message(id).is_some_and(|(_, hash)| shown != Some(hash)) {
            self.stale.insert(id.to_owned());
        } else {
            self.stale.remove(id);
        }
    }

    /// Whether a message may show something else than what is true.
    pub fn is_stale(&self, id: &str) -> bool {
        self.stale.contains(id)
    }

    pub(super) fn members(&self, digest: &Digest) -> Vec<&Incident> {
        digest.members.iter().filter_map(|id| self.incidents.get(id)).collect()
    }

    /// The channel of an incident or digest.
    pub fn channel_of(&self, id: &str) -> Option<&str> {
        let digest = self.digests.get(id).map(|digest| digest.channel.as_str());
        digest.or_else(|| self.incidents.get(id).map(|incident| incident.channel.as_str()))
    }

    /// Where the message of an incident or digest is; the message of a digest is none of its incidents' own.
    pub fn place(&self, id: &str) -> Option<(&str, &str)> {
        match self.digests.get(id) {
            Some(digest) => digest.post.place(),
            None => self.incidents.get(id).and_then(|incident| incident.post.place()),
        }
    }

    /// Where replies about an incident go.
    pub fn thread(&self, incident: &Incident) -> Option<(String, String)> {
        let digest = incident.digest.as_ref().and_then(|id| self.digests.get(id));
        let post = digest.map_or(&incident.post, |digest| &digest.post);
        post.place().map(|(channel, ts)| (channel.to_owned(), ts.to_owned()))
    }

    /// An incident by its name.
    pub fn incident(&self, id: &str) -> Option<&Incident> {
        self.incidents.get(id)
    }

    /// All incidents that are known, also those that are over.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values()
    }

    /// A digest by its name, with its incidents.
    pub fn digest(&self, id: &str) -> Option<(&Digest, Vec<&Incident>)> {
        self.digests.get(id).map(|digest| (digest, self.members(digest)))
    }

    /// Digests whose whole list is not in their thread yet.
    pub fn unlisted(&self) -> Vec<String> {
        let unlisted = |digest: &&Digest| !digest.listed && digest.post.place().is_some();
        self.digests.values().filter(unlisted).map(|digest| digest.id.clone()).collect()
    }

    /// The channels in which something may be to do.
    pub fn channels(&self) -> BTreeSet<String> {
        let unplaced =
            self.incidents.values().filter(|one| one.post.place().is_none() && one.digest.is_none());
        let stale = self.stale.iter().filter_map(|id| self.channel_of(id));
        let digests = self.digests.values().filter(|digest| digest.post.place().is_none());
        let named = unplaced.map(|one| one.channel.as_str()).chain(stale);
        named.chain(digests.map(|digest| digest.channel.as_str())).map(str::to_owned).collect()
    }

    /// When the oldest message that is not there yet was wanted.
    pub fn oldest_pending(&self) -> Option<Timestamp> {
        let unsent = |post: &Post| post.place().is_none();
        let incidents = self.incidents.values().filter(|one| one.digest.is_none() && unsent(&one.post));
        let digests = self.digests.values().filter(|digest| unsent(&digest.post));
        let of_digests = digests.flat_map(|digest| self.members(digest)).map(|one| one.opened);
        incidents.map(|one| one.opened).chain(of_digests).min()
    }

    /// Incidents that are not over, the worst first and of those the oldest.
    pub fn still_open(&self) -> Vec<Open> {
        let mut open: Vec<Open> = self.incidents.values().filter_map(Open::of).collect();
        open.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.began.cmp(&b.began)));
        open.truncate(open::MOST);
        open
    }

    /// How many incidents fire, and of how many nobody knows.
    pub fn standing(&self) -> (usize, usize) {
        let count = |test: fn(&Phase) -> bool| self.incidents.values().filter(|one| test(&one.phase)).count();
        (count(|phase| *phase == Phase::Firing), count(|phase| matches!(phase, Phase::Unknown { .. })))
    }
}
