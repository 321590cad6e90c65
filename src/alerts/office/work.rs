//! The calls themselves: what is asked of Slack for a deed, and what the desk learns from the answer.

use super::super::counters::Counters;
use super::super::desk::Deed;
use super::super::message::{Message, of_rise};
use super::super::slack::{Place, Posted, Sent, Slack, Trouble, is_about_channel, is_about_form};
use super::lane::Lane;
use super::thread::Show;
use super::{Office, TICK};
use crate::check::Reason;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A message whose answer was lost may appear this much later.
const SETTLE: Duration = Duration::from_secs(2);
/// What Slack refuses in every form is tried again this seldom.
const REFUSED_REST: SignedDuration = SignedDuration::from_mins(5);
/// What stands below a message that may be there twice.
const REPEATED: &str = "possibly repeated: the answer of Slack to the first attempt was lost";

/// A call that has ended.
pub(super) struct Done {
    pub(super) channel: String,
    pub(super) slack: Slack,
    pub(super) work: Work,
    pub(super) result: Ended,
}

/// What was to be done.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// A message; the number is the hash of what it shows.
    Post { id: String, message: Message, hash: u64, look: Option<Timestamp> },
    /// A reply for everybody.
    Rise { id: String, message: Message, thread: Posted, name: String, since: Timestamp },
    /// A change.
    Update { id: String, message: Message, hash: u64, at: Posted },
    /// Evidence.
    Show(Show),
}

/// How it ended.
pub(super) enum Ended {
    /// It is there.
    Done(Option<Posted>),
    /// It is not there, or nobody knows.
    Not(Trouble),
    /// It was looked for, and that failed: nothing more is known than before.
    Blind(Trouble),
}

impl Office {
    /// Begins all calls that may begin; gives the moment at which there is more to do.
    pub(super) async fn settle(&mut self) -> Instant {
        let mut wake = Instant::now() + TICK * 30;
        self.begin_fetches().await;
        let mut channels = self.desk.channels();
        channels.extend(self.threads.channels(&self.desk));
        let config = self.setup.config.load_full();
        for channel in channels {
            let lane =
                self.lanes.entry(channel.clone()).or_insert_with(|| Lane::new(&config, &self.setup.vault));
            match lane.ready() {
                None => continue,
                Some(ready) if ready > Instant::now() => {
                    wake = wake.min(ready);
                    continue;
                }
                Some(_) => {}
            }
            let Some(work) = self.next_work(&channel).await else {
                wake = wake.min(Instant::now() + Duration::from_millis(500));
                continue;
            };
            let Some(slack) =
                self.lanes.get_mut(&channel).and_then(|lane| lane.begin(&config, &self.setup.vault))
            else {
                continue;
            };
            self.works.push(Box::pin(run(slack, channel, work, Arc::clone(&self.setup.counters))));
        }
        wake.min(self.threads.wake())
    }

    /// What is to be done next in a channel, written down as far as it has to be.
    async fn next_work(&mut self, channel: &str) -> Option<Work> {
        loop {
            let now = Timestamp::now();
            let (deed, records) = self.desk.next(channel, now);
            // Nothing is sent that is not written down: after a crash nobody would look for it.
            if !self.write(records).await {
                return None;
            }
            let Some(deed) = deed else { return self.threads.next(&self.desk, channel).map(Work::Show) };
            let id = deed.id().to_owned();
            let (message, hash) = self.desk.message(&id)?;
            match deed {
                Deed::Post { look, .. } => {
                    if look.is_none() {
                        let records = self.desk.posting(&id, now);
                        if !self.write(records).await {
                            return None;
                        }
                    }
                    return Some(Work::Post { id, message, hash, look });
                }
                Deed::Rise { .. } => {
                    let incident = self.desk.incident(&id)?;
                    let (channel, ts) = self.desk.thread(incident)?;
                    let name = format!("{id}-{}", incident.severity().as_str());
                    let (message, since) = (of_rise(incident), incident.opened);
                    return Some(Work::Rise { id, message, thread: Posted { channel, ts }, name, since });
                }
                Deed::Update { .. } => {
                    self.desk.compare(&id);
                    if !self.desk.is_stale(&id) {
                        continue;
                    }
                    let (channel, ts) = self.desk.place(&id)?;
                    let at = Posted { channel: channel.to_owned(), ts: ts.to_owned() };
                    return Some(Work::Update { id, message, hash, at });
                }
            }
        }
    }

    /// Learns from a call that has ended.
    pub(super) async fn take(&mut self, done: Done) {
        let Done { channel, slack, work, result } = done;
        let now = Timestamp::now();
        let mut records = Vec::new();
        match (&work, &result) {
            (Work::Post { id, hash, .. }, Ended::Done(Some(posted))) => {
                records = self.desk.posted(id, posted.clone(), *hash);
                self.threads.expect(id);
            }
            (Work::Update { id, hash, .. }, Ended::Done(_)) => records = self.desk.updated(id, *hash),
            (Work::Rise { id, .. }, Ended::Done(_)) => records = self.desk.raised(id),
            (Work::Show(show), Ended::Done(_)) => records = self.shown(show),
            (Work::Post { id, .. }, Ended::Not(trouble)) => {
                if let Trouble::Unknown(_) = trouble {
                    self.desk.rest(id, now + SignedDuration::try_from(SETTLE).unwrap_or_default());
                } else {
                    records = self.desk.unsent(id);
                }
            }
            (Work::Show(show), Ended::Not(trouble) | Ended::Blind(trouble)) => {
                self.not_shown(show, trouble);
            }
            _ => {}
        }
        if let Ended::Not(Trouble::Refused(word, reason)) = &result {
            records.extend(self.refused(&work, word, *reason, now));
        }
        let Some(lane) = self.lanes.get_mut(&channel) else { return };
        match result {
            Ended::Done(_) => {
                self.setup.counters.sent();
                lane.good(slack);
            }
            Ended::Not(trouble) | Ended::Blind(trouble) => {
                let (reason, what) = match &trouble {
                    Trouble::Later(wait) => {
                        (Reason::Throttled, format!("Slack asks to wait {} s", wait.as_secs()))
                    }
                    Trouble::Refused(word, reason) => {
                        (*reason, format!("Slack refused: {word} (channel {channel})"))
                    }
                    Trouble::Unsent(problem) | Trouble::Unknown(problem) => {
                        (problem.reason, problem.to_string())
                    }
                };
                tracing::warn!(channel, reason = reason.as_str(), what, "a call to Slack failed");
                self.setup.counters.failed(reason, what, now);
                match trouble {
                    Trouble::Later(wait) => lane.wait(slack, wait),
                    Trouble::Refused(_, Reason::TooLarge | Reason::Query) | Trouble::Unknown(_) => {
                        lane.next(slack);
                    }
                    Trouble::Refused(word, _) if is_about_channel(&word) => lane.next(slack),
                    Trouble::Refused(..) | Trouble::Unsent(_) => lane.bad(slack),
                }
            }
        }
        self.write(records).await;
        self.setup.counters.stand(self.desk.standing(), self.desk.oldest_pending(), self.desk.still_open());
    }

    /// Slack says no: another channel, another form, or later; what cannot be changed any more is left as it is.
    fn refused(&mut self, work: &Work, why: &str, reason: Reason, now: Timestamp) -> Vec<super::Record> {
        if reason == Reason::Auth {
            return Vec::new();
        }
        match work {
            Work::Post { id, message, .. } => {
                let default = self.setup.config.load().slack.channel.clone();
                let elsewhere = self.desk.channel_of(id).is_some_and(|channel| channel != default);
                if is_about_channel(why) && elsewhere {
                    tracing::error!(
                        channel = self.desk.channel_of(id),
                        why,
                        "the message goes to the default channel"
                    );
                    return self.desk.divert(id, &default);
                }
                if is_about_form(why) && !message.blocks.is_empty() {
                    return self.desk.strip(id);
                }
                self.desk.rest(id, now + REFUSED_REST);
                Vec::new()
            }
            Work::Update { id, message, hash, .. } => {
                if is_about_form(why) && !message.blocks.is_empty() {
                    return self.desk.strip(id);
                }
                self.desk.updated(id, *hash)
            }
            Work::Rise { id, .. } => self.desk.raised(id),
            Work::Show(show) => self.given_up(show),
        }
    }
}

async fn run(mut slack: Slack, channel: String, work: Work, counters: Arc<Counters>) -> Done {
    let result = match &work {
        Work::Post { id, message, look, .. } => {
            post(&mut slack, &channel, id, message, *look, &counters).await
        }
        Work::Update { id, message, at, .. } => ended(slack.update(at, message, id).await.map(|()| None)),
        Work::Rise { message, thread, name, since, .. } => {
            let place = Place { channel: &thread.channel, thread: Some(&thread.ts), broadcast: true };
            once(&mut slack, place, message, name, Some(*since), &counters).await
        }
        Work::Show(show) => show.run(&mut slack, &counters).await,
    };
    Done { channel, slack, work, result }
}

/// Posts a message, unless it is there already.
async fn post(
    slack: &mut Slack,
    channel: &str,
    id: &str,
    message: &Message,
    look: Option<Timestamp>,
    counters: &Counters,
) -> Ended {
    let place = Place { channel, thread: None, broadcast: false };
    once(slack, place, message, id, look, counters).await
}

/// Looks for a message first when it may be there already. Twice, because it may be on its way.
pub(super) async fn once(
    slack: &mut Slack,
    place: Place<'_>,
    message: &Message,
    id: &str,
    look: Option<Timestamp>,
    counters: &Counters,
) -> Ended {
    let mut message = message.clone();
    if let Some(after) = look {
        for round in 0..2 {
            if round > 0 {
                sleep(SETTLE).await;
            }
            match slack.find(place, id, after).await {
                Ok(Some(found)) => return Ended::Done(Some(found)),
                Ok(None) => {}
                Err(Trouble::Refused(_, Reason::Permission | Reason::Query)) => {
                    message = message.with_note(REPEATED);
                    counters.ambiguous();
                    break;
                }
                Err(trouble) => return Ended::Blind(trouble),
            }
        }
    }
    ended(slack.post(place, &message, id).await.map(Some))
}

pub(super) fn ended(sent: Sent<Option<Posted>>) -> Ended {
    match sent {
        Ok(posted) => Ended::Done(posted),
        Err(trouble) => Ended::Not(trouble),
    }
}
