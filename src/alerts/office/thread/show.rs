//! A piece of evidence on its way to its thread.

use super::super::work::{Ended, once};
use crate::alerts::counters::Counters;
use crate::alerts::message::Message;
use crate::alerts::slack::{File, Place, Posted, Slack, Trouble};
use crate::evidence::Found;
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::sleep;

/// A file whose answer was lost may appear this much later.
const SETTLE: Duration = Duration::from_secs(2);

/// A piece of evidence to be shown.
#[derive(Clone, Debug)]
pub(in super::super) struct Show {
    pub(super) id: String,
    pub(super) at: usize,
    pub(super) thread: Posted,
    pub(super) found: Found,
    pub(super) last: bool,
    /// It may be there already, from this moment on.
    pub(super) look: Option<Timestamp>,
}

impl Show {
    /// Shows it, unless it is there already.
    pub(in super::super) async fn run(&self, slack: &mut Slack, counters: &Counters) -> Ended {
        let place = Place { channel: &self.thread.channel, thread: Some(&self.thread.ts), broadcast: false };
        match &self.found {
            Found::Nothing => Ended::Done(None),
            Found::Words(words) | Found::NotYet(words) => {
                let name = format!("{}-e{}-{}", self.id, self.at, u8::from(self.last));
                once(slack, place, &Message::bare(words.clone()), &name, self.look, counters).await
            }
            Found::File(file) => self.file(slack, place, file).await,
        }
    }

    async fn file(&self, slack: &mut Slack, place: Place<'_>, file: &File) -> Ended {
        if let Some(after) = self.look {
            match slack.find_file(place, &file.name, after).await {
                Ok(true) => return Ended::Done(None),
                Ok(false) | Err(Trouble::Refused(..)) => {}
                Err(trouble) => return Ended::Blind(trouble),
            }
        }
        let id = match slack.upload(file).await {
            Ok(id) => id,
            Err(trouble) => return Ended::Not(trouble),
        };
        match slack.share(place, &id, &file.title).await {
            Ok(()) => Ended::Done(None),
            Err(Trouble::Unknown(problem)) => {
                sleep(SETTLE).await;
                match slack
                    .find_file(
                        place,
                        &id,
                        Timestamp::now().saturating_sub(Duration::from_mins(5)).unwrap_or_default(),
                    )
                    .await
                {
                    Ok(true) => Ended::Done(None),
                    _ => Ended::Not(Trouble::Unknown(problem)),
                }
            }
            Err(trouble) => Ended::Not(trouble),
        }
    }
}
