//! What is to be done next in a channel, and what is known once it is done.

use super::super::incident::{Digest, Exhibit, Incident, Post, Record};
use super::super::message::{self, Message};
use super::super::slack::Posted;
use super::{Deed, Desk, MOST_WAITING};
use jiff::{SignedDuration, Timestamp};
use std::cmp::Reverse;

impl Desk {
    /// The most urgent deed in a channel: new messages, the worst first; then what became worse; then changes. Makes a
    /// digest of what waits when it is too much.
    pub fn next(&mut self, channel: &str, now: Timestamp) -> (Option<Deed>, Vec<Record>) {
        let may = |id: &String| self.not_before.get(id).is_none_or(|moment| *moment <= now);
        let here = |incident: &&Incident| incident.channel == channel && incident.digest.is_none();
        let urgency =
            |incident: &&Incident| (Reverse(incident.severity()), incident.opened, incident.id.clone());
        let unsent = |incident: &&Incident| incident.post == Post::Waiting;
        let waiting: Vec<String> =
            self.incidents.values().filter(here).filter(unsent).map(|incident| incident.id.clone()).collect();
        if waiting.len() > MOST_WAITING {
            let records = self.gather(channel, waiting, now);
            return (self.next(channel, now).0, records);
        }
        let digests = self.digests.values().filter(|digest| digest.channel == channel);
        for digest in digests.filter(|digest| may(&digest.id)) {
            match digest.post {
                Post::Waiting => return (Some(Deed::Post { id: digest.id.clone(), look: None }), Vec::new()),
                Post::Posting { at } => {
                    return (Some(Deed::Post { id: digest.id.clone(), look: Some(at) }), Vec::new());
                }
                Post::Posted { .. } => {}
            }
        }
        let open = self.incidents.values().filter(here).filter(|incident| may(&incident.id));
        let unplaced = open.filter(|incident| incident.post.place().is_none()).min_by_key(urgency);
        if let Some(incident) = unplaced {
            let look = if let Post::Posting { at } = incident.post { Some(at) } else { None };
            return (Some(Deed::Post { id: incident.id.clone(), look }), Vec::new());
        }
        let stale = || self.stale.iter().filter(|id| may(id));
        let worse = stale().find(|id| {
            let incident = self.incidents.get(*id).filter(|incident| incident.channel == channel);
            incident.is_some_and(|one| {
                self.thread(one).is_some() && !one.is_resolved() && one.severity() > one.told
            })
        });
        if let Some(id) = worse {
            return (Some(Deed::Rise { id: id.clone() }), Vec::new());
        }
        let changed = stale().find(|id| self.channel_of(id) == Some(channel) && self.place(id).is_some());
        (changed.map(|id| Deed::Update { id: id.clone() }), Vec::new())
    }

    /// Makes one digest of incidents that wait.
    fn gather(&mut self, channel: &str, members: Vec<String>, now: Timestamp) -> Vec<Record> {
        let id = self.name(now);
        let mut records = Vec::new();
        for member in &members {
            if let Some(incident) = self.incidents.get(member) {
                let incident =
                    Incident { digest: Some(id.clone()), told: incident.severity(), ..incident.clone() };
                records.extend(self.put(incident));
            }
        }
        let digest = Digest {
            id,
            channel: channel.to_owned(),
            opened: now,
            members,
            post: Post::Waiting,
            shown: None,
            listed: false,
        };
        records.push(Record::Digest(digest));
        self.apply_all(records.get(records.len() - 1..).unwrap_or_default());
        records
    }

    /// A message is about to be sent: from here on it may be there.
    pub fn posting(&mut self, id: &str, now: Timestamp) -> Vec<Record> {
        self.change_post(id, Post::Posting { at: now }, None)
    }

    /// A message was surely not sent.
    pub fn unsent(&mut self, id: &str) -> Vec<Record> {
        self.change_post(id, Post::Waiting, None)
    }

    /// A message is there, and shows this.
    pub fn posted(&mut self, id: &str, at: Posted, shown: u64) -> Vec<Record> {
        self.change_post(id, Post::Posted { channel: at.channel, ts: at.ts }, Some(shown))
    }

    fn change_post(&mut self, id: &str, post: Post, shown: Option<u64>) -> Vec<Record> {
        if let Some(digest) = self.digests.get(id) {
            let digest = Digest { post, shown, ..digest.clone() };
            let records = vec![Record::Digest(digest)];
            self.apply_all(&records);
            return records;
        }
        let Some(incident) = self.incidents.get(id) else { return Vec::new() };
        let told = if shown.is_some() { incident.severity() } else { incident.told };
        self.put(Incident { told, post, shown, ..incident.clone() })
    }

    /// A message shows this now.
    pub fn updated(&mut self, id: &str, shown: u64) -> Vec<Record> {
        if let Some(digest) = self.digests.get(id) {
            return self.change_post(id, digest.post.clone(), Some(shown));
        }
        let Some(incident) = self.incidents.get(id) else { return Vec::new() };
        self.put(Incident { shown: Some(shown), ..incident.clone() })
    }

    /// People were told how bad it is now.
    pub fn raised(&mut self, id: &str) -> Vec<Record> {
        let Some(incident) = self.incidents.get(id) else { return Vec::new() };
        self.put(Incident { told: incident.severity(), ..incident.clone() })
    }

    /// Slack does not take the form of a message: it goes without its blocks from now on.
    pub fn strip(&mut self, id: &str) -> Vec<Record> {
        let Some(incident) = self.incidents.get(id).filter(|incident| !incident.bare) else {
            return Vec::new();
        };
        let post = if incident.post.place().is_some() { incident.post.clone() } else { Post::Waiting };
        self.put(Incident { bare: true, post, ..incident.clone() })
    }

    /// A channel does not take the message: it goes to another one.
    pub fn divert(&mut self, id: &str, channel: &str) -> Vec<Record> {
        if let Some(digest) = self.digests.get(id) {
            let digest = Digest { channel: channel.to_owned(), post: Post::Waiting, ..digest.clone() };
            let members = digest.members.clone();
            let mut records = vec![Record::Digest(digest)];
            self.apply_all(&records);
            for member in members {
                if let Some(incident) = self.incidents.get(&member) {
                    records.extend(self.put(Incident { channel: channel.to_owned(), ..incident.clone() }));
                }
            }
            return records;
        }
        let Some(incident) = self.incidents.get(id) else { return Vec::new() };
        self.put(Incident { channel: channel.to_owned(), post: Post::Waiting, ..incident.clone() })
    }

    /// Nothing is tried for this one before a moment.
    pub fn rest(&mut self, id: &str, until: Timestamp) {
        self.not_before.insert(id.to_owned(), until);
    }

    /// What the series of an incident shows now; the highest is remembered.
    pub fn saw(&mut self, id: &str, series: &str, value: f64) {
        if let Some(incident) = self.incidents.get_mut(id).filter(|_| value.is_finite()) {
            incident.peak = Some(incident.peak.map_or(value, |peak| peak.max(value)));
            series.clone_into(&mut incident.series);
            self.values.insert(id.to_owned(), value);
        }
    }

    /// What the message of an incident or digest has to show, with the hash by which it is compared.
    pub fn message(&self, id: &str) -> Option<(Message, u64)> {
        if let Some(digest) = self.digests.get(id) {
            let message = message::of_digest(digest, &self.members(digest));
            let hash = message.hash();
            return Some((message, hash));
        }
        let incident = self.incidents.get(id)?;
        let value = self.values.get(id).copied().filter(|_| !incident.is_resolved());
        // The value changes all the time and the peak with it: neither is a reason to change a message.
        let steady = if incident.is_resolved() {
            incident.clone()
        } else {
            Incident { peak: None, series: String::new(), ..incident.clone() }
        };
        Some((message::of_incident(incident, value), message::of_incident(&steady, None).hash()))
    }

    /// What stands about evidence: which of `count` is to be begun, if any.
    pub fn exhibits(&self, id: &str, count: usize) -> Vec<(usize, Exhibit)> {
        let Some(incident) =
            self.incidents.get(id).filter(|one| one.digest.is_none() && one.post.place().is_some())
        else {
            return Vec::new();
        };
        let state = |at: usize| (at, incident.evidence.get(at).cloned().unwrap_or_default());
        (0..count).map(state).filter(|(_, exhibit)| !exhibit.done).collect()
    }

    /// Notes what was done about one evidence.
    pub fn exhibit(&mut self, id: &str, at: usize, change: impl Fn(&mut Exhibit)) -> Vec<Record> {
        let Some(mut incident) = self.incidents.get(id).cloned() else { return Vec::new() };
        while incident.evidence.len() <= at {
            incident.evidence.push(Exhibit::default());
        }
        if let Some(exhibit) = incident.evidence.get_mut(at) {
            change(exhibit);
        }
        self.put(incident)
    }

    /// The whole list of a digest is in its thread.
    pub fn listed(&mut self, id: &str) -> Vec<Record> {
        let Some(digest) = self.digests.get(id) else { return Vec::new() };
        let records = vec![Record::Digest(Digest { listed: true, ..digest.clone() })];
        self.apply_all(&records);
        records
    }

    /// A scan that costs money begins now, unless there were too many in the last hour.
    pub fn scan(&mut self, most: usize, now: Timestamp) -> Option<Vec<Record>> {
        let hour = SignedDuration::from_hours(1);
        let fresh = self.scans.iter().filter(|at| now.duration_since(**at) < hour).count();
        (fresh < most).then(|| {
            let records = vec![Record::Scan(now)];
            self.apply_all(&records);
            records
        })
    }
}
