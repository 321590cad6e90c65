//! Does what the desk says: writes the journal before anybody is told, and has one call at a time under way in each channel.

mod lane;
mod thread;
mod work;

use super::config::Config;
use super::counters::Counters;
use super::desk::{Desk, Light};
use super::incident::{Record, VERSION};
use super::{Alert, Notice};
use crate::board::{Board, Card, Key, State};
use crate::check::Reason;
use crate::config::secret::Vault;
use crate::evidence::check_rows::is_behind;
use crate::evidence::expression;
use crate::journal::disk::Disk;
use crate::journal::{Journal, JournalError};
use crate::task::{self, Task};
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use lane::Lane;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use thread::{Fetched, Threads};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use work::Done;

/// Deliveries that may wait to be written down together; the next one waits itself.
const LETTERS_WAITING: usize = 256;
/// How often the checks behind incidents are looked at while there are any.
const TICK: Duration = Duration::from_secs(2);
/// After the disk refused.
const DISK_REST: Duration = Duration::from_secs(1);
/// What calls under way have left when the process stops.
const LAST_CALLS: Duration = Duration::from_secs(3);
/// Bytes of the journal after which it begins anew.
const LONGEST_JOURNAL: u64 = 16 * 1024 * 1024;

/// What the office works with.
pub struct Setup {
    /// The section `alerts`, which a reload changes.
    pub config: Arc<ArcSwap<Config>>,
    /// The checks.
    pub board: Arc<Board>,
    /// Secrets.
    pub vault: Arc<Vault>,
    /// What is counted.
    pub counters: Arc<Counters>,
}

/// Where deliveries are handed in.
#[derive(Clone, Debug)]
pub struct Door(mpsc::Sender<Letter>);

#[derive(Debug)]
struct Letter {
    notice: Notice,
    answer: oneshot::Sender<bool>,
}

impl Door {
    /// Hands in a notice. Says whether it is safely written down; if not, the sender has to come again.
    pub async fn deliver(&self, notice: Notice) -> bool {
        let (answer, written) = oneshot::channel();
        self.0.send(Letter { notice, answer }).await.is_ok() && written.await.unwrap_or(false)
    }
}

/// Opens the journal and starts to work until `stop`.
///
/// # Errors
/// When the journal cannot be used.
pub fn start(
    setup: Setup,
    disk: &Arc<dyn Disk>,
    dir: &Path,
    stop: CancellationToken,
) -> Result<(Door, Task<()>), JournalError> {
    let (journal, records) = Journal::<Record>::open(disk, dir, VERSION)?;
    let (letters, inbox) = mpsc::channel(LETTERS_WAITING);
    let office = Office {
        desk: Desk::restore(&records),
        book: Book { journal: Some(journal), sound: false, rest: Instant::now() },
        threads: Threads::default(),
        lanes: BTreeMap::new(),
        works: FuturesUnordered::new(),
        fetches: FuturesUnordered::new(),
        tick: Instant::now(),
        setup,
    };
    Ok((Door(letters), task::spawn(office.live(inbox, stop))))
}

struct Office {
    setup: Setup,
    desk: Desk,
    book: Book,
    threads: Threads,
    lanes: BTreeMap<String, Lane>,
    works: FuturesUnordered<BoxFuture<'static, Done>>,
    fetches: FuturesUnordered<BoxFuture<'static, Fetched>>,
    /// When the checks are looked at next.
    tick: Instant,
}

/// The journal, and whether it says all that the desk knows.
struct Book {
    journal: Option<Journal<Record>>,
    sound: bool,
    /// Not before then is a new segment tried.
    rest: Instant,
}

impl Office {
    async fn live(mut self, mut inbox: mpsc::Receiver<Letter>, stop: CancellationToken) {
        for incident in self.desk.incidents() {
            self.threads.expect(&incident.id);
        }
        self.write(Vec::new()).await;
        loop {
            self.look().await;
            let wake = self.settle().await;
            let wake = if self.desk.incidents().next().is_some() { wake.min(self.tick) } else { wake };
            tokio::select! {
                () = stop.cancelled() => break,
                Some(letter) = inbox.recv() => {
                    let mut letters = vec![letter];
                    while let Ok(more) = inbox.try_recv() {
                        letters.push(more);
                    }
                    self.hear(letters).await;
                }
                Some(done) = self.works.next(), if !self.works.is_empty() => self.take(done).await,
                Some(fetched) = self.fetches.next(), if !self.fetches.is_empty() => self.fetched(fetched),
                () = sleep_until(wake) => {}
            }
        }
        inbox.close();
        // An answer that is still noted saves a search after the restart.
        let last = async {
            while let Some(done) = self.works.next().await {
                self.take(done).await;
            }
        };
        if timeout(LAST_CALLS, last).await.is_err() {
            tracing::warn!(
                "calls to Slack were still under way at the end; what became of them is looked up at the next start"
            );
        }
    }

    /// Takes deliveries, with one write for all of them.
    async fn hear(&mut self, letters: Vec<Letter>) {
        let now = Timestamp::now();
        let config = self.setup.config.load_full();
        let (mut records, mut answers) = (Vec::new(), Vec::new());
        for Letter { notice, answer } in letters {
            match self.desk.hear(&notice, |alert| config.channel(alert), now) {
                Ok(new) => {
                    records.extend(new);
                    answers.push(answer);
                }
                Err(_full) => {
                    tracing::error!("too many incidents are open; a delivery was not taken");
                    self.setup.counters.failed(
                        Reason::TooMany,
                        "too many incidents are open".to_owned(),
                        now,
                    );
                    answer.send(false).ok();
                }
            }
        }
        let cards = if records.is_empty() { Vec::new() } else { self.setup.board.view() };
        for record in &records {
            if let Record::Incident(incident) = record {
                self.see(&incident.id, &cards);
            }
        }
        let written = self.write(records).await;
        for answer in answers {
            // Who asked may be gone, and comes again.
            answer.send(written).ok();
        }
        self.tick = Instant::now();
    }

    /// Looks at the checks behind the incidents.
    async fn look(&mut self) {
        if Instant::now() < self.tick {
            return;
        }
        self.tick = Instant::now() + TICK;
        let now = Timestamp::now();
        let open: Vec<String> =
            self.desk.incidents().filter(|one| !one.is_resolved()).map(|one| one.id.clone()).collect();
        let cards = if open.is_empty() { Vec::new() } else { self.setup.board.view() };
        // Beyond that it is a storm, and nobody reads single values.
        for id in open.iter().take(100) {
            self.see(id, &cards);
        }
        let moment = Instant::now();
        let silence = self.setup.config.load().unheard_after.duration();
        let silence = SignedDuration::try_from(silence).unwrap_or(SignedDuration::MAX);
        let records = self.desk.look(now, silence, &|alert| light(&cards, alert, moment));
        if !records.is_empty() {
            self.write(records).await;
        }
        self.setup.counters.stand(self.desk.standing(), self.desk.oldest_pending());
    }

    /// Notes what the series of an incident shows now.
    fn see(&mut self, id: &str, cards: &[(Key, Card)]) {
        let alert = self.desk.incident(id).and_then(|incident| incident.leading());
        if let Some((series, value)) = alert.and_then(|alert| expression::value(cards, alert)) {
            self.desk.saw(id, &series, value);
        }
    }

    /// Writes records to the journal; says whether all that the desk knows is safely there.
    async fn write(&mut self, records: Vec<Record>) -> bool {
        if self.book.sound && records.is_empty() {
            return true;
        }
        let Some(mut journal) = self.book.journal.take() else { return false };
        let long = journal.appended() > LONGEST_JOURNAL;
        if !self.book.sound && Instant::now() < self.book.rest {
            self.book.journal = Some(journal);
            return false;
        }
        let whole = (!self.book.sound || long).then(|| self.desk.checkpoint());
        let written = task::blocking(move || {
            let written = match whole {
                Some(checkpoint) => journal.begin(checkpoint),
                None => journal.append(&records),
            };
            (journal, written)
        });
        match written.await {
            Ok((journal, written)) => {
                self.book.journal = Some(journal);
                self.book.sound = written.is_ok();
                if let Err(error) = written {
                    self.book.rest = Instant::now() + DISK_REST;
                    tracing::error!(%error, "alerts could not be written down; their senders are told to come again");
                    let what = format!("alerts could not be written to data_dir: {error}");
                    self.setup.counters.failed(Reason::Io, what, Timestamp::now());
                }
            }
            Err(error) => {
                tracing::error!(%error, "the journal of alerts is gone; restart datapulse");
                self.book.sound = false;
            }
        }
        self.book.sound
    }
}

/// How the check behind an alert stands. One without a target stands for each of its targets.
fn light(cards: &[(Key, Card)], alert: &Alert, now: Instant) -> Light {
    // What datapulse says of itself is true just while a check fails.
    if alert.label("source") == Some("datapulse") {
        return Light::None;
    }
    let mut found = Light::None;
    for (key, card) in cards.iter().filter(|(key, _)| is_behind(key, alert)) {
        match card.state(now) {
            // A note says little; an end that does not answer says that its samples are gone.
            State::Up | State::Partly
                if card.state(now) == State::Up || card.last().is_some_and(|last| last.whole) =>
            {
                found = if found == Light::None { Light::Up } else { found };
            }
            State::Up | State::Partly | State::Waiting => found = Light::Waiting(key.to_string()),
            State::Down | State::Stale => {
                return Light::Down { check: key.to_string(), since: card.last_success() };
            }
        }
    }
    found
}
