//! The scribe: one thread that owns archives, ledger, ids and totals, and commits events so that none is lost or counted twice.
//!
//! A commit writes the lines and syncs their files, then appends one record to the ledger and syncs that: before it
//! nothing happened, after it everything did. Whoever is answered `Ok` may tell the sender that the events are ours.

mod commit;
mod ids;
mod ledger;
mod tally;

use crate::journal::JournalError;
use crate::journal::disk::Disk;
use crate::logs::archive::{Archive, Lock};
use crate::task;
use commit::Books;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Chunks that wait for the disk. Their senders wait too, and they hold the memory budget of the doors.
const MOST_WAITING: usize = 64;
/// Events that share one sync; more of them would make the first wait for the last.
const MOST_TOGETHER: usize = 16_000;

/// The total of each series.
pub type Totals = BTreeMap<Arc<str>, u64>;
/// All notes by their names.
pub(crate) type Notes = BTreeMap<Arc<str>, Arc<str>>;

/// Events that are committed together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// In the order in which their lines are written.
    pub entries: Vec<Entry>,
    /// What is to be remembered with these events, such as where a pull goes on.
    pub notes: Vec<Note>,
    /// Series whose totals end here, before what the entries add.
    pub ended: Vec<Ended>,
}

/// Something that is remembered over restarts under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The name; a later note of the same name takes its place.
    pub name: Arc<str>,
    /// What is remembered; nothing takes the note away.
    pub value: Option<Arc<str>>,
}

/// A series that ends. Amounts that are put under it later begin at 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The key of the total.
    pub series: Arc<str>,
    /// The key that names its family, as in [`Amount::other`].
    pub other: Arc<str>,
}

/// One event, ready to be kept.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The event's id: an event with an id that is known is a duplicate and changes nothing but `repeated`.
    pub id: String,
    /// The event's own time, in milliseconds since 1970.
    pub time_ms: i64,
    /// As CloudWatch names it.
    pub log_group: Arc<str>,
    /// As CloudWatch names it.
    pub log_stream: Arc<str>,
    /// The number of the archive that keeps its line, if one does.
    pub archive: Option<usize>,
    /// The text of its line.
    pub message: Vec<u8>,
    /// What it counts when it is fresh.
    pub amounts: Vec<Amount>,
    /// What it counts when it is a duplicate.
    pub repeated: Vec<Amount>,
}

/// Something to be added to a total that goes on over restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amount {
    /// The key of the total.
    pub series: Arc<str>,
    /// The key that is used instead when `series` is new and its family is full. It also names the family.
    pub other: Arc<str>,
    /// In a unit of which whole numbers are enough: a count, microseconds.
    pub amount: u64,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Events that were not known before.
    pub fresh: u64,
    /// Events that were.
    pub duplicates: u64,
}

/// A chunk that was not committed. Nothing of it counts, and it can be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The archive could not be written.
    #[error("could not write to {path}: {because}; the archive's dir has to be writable and have room")]
    Archive {
        /// The file, or the archive's directory.
        path: String,
        /// What the disk said.
        because: String,
    },
    /// The ledger could not be written.
    #[error(
        "could not write to the ledger of log events: {because}; data_dir has to be writable and have room"
    )]
    Ledger {
        /// What the disk said.
        because: String,
    },
    /// There is no archive of that number.
    #[error("an event names an archive that is not configured")]
    UnknownArchive,
    /// The thread has ended.
    #[error("the scribe has ended; events are no longer taken")]
    Ended,
}

/// A scribe that could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] JournalError),
    /// The directory of an archive is held by another process, or cannot be used; in words.
    #[error("{0}")]
    Locked(String),
    /// The files of an archive cannot be looked at.
    #[error("could not look at the files of the archives: {0}")]
    Archive(#[source] io::Error),
    /// The system gave no thread.
    #[error("could not start the scribe's thread: {0}")]
    Thread(#[source] io::Error),
}

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ids, of about 20 bytes each.
    pub ids: usize,
    /// Series that share an `other`.
    pub series_in_family: usize,
}

/// What is known about the archive of a log group since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveFacts {
    /// When a file was last sealed.
    pub last_sealed: Option<Timestamp>,
    /// How often a file could not be written, synced or sealed.
    pub write_failures: u64,
    /// Lines that came after their day was sealed.
    pub late_lines: u64,
}

/// The way to the scribe's thread. The thread ends when the last of these is gone and all chunks are answered.
#[derive(Clone, Debug)]
pub struct Scribe {
    sender: mpsc::Sender<Order>,
    shared: Arc<Shared>,
}

/// What readers see without asking the thread.
#[derive(Debug, Default)]
struct Shared {
    totals: Arc<Mutex<Arc<Totals>>>,
    notes: Mutex<Notes>,
    known_since_ms: AtomicI64,
    archives: Mutex<BTreeMap<Arc<str>, ArchiveFacts>>,
    damaged: usize,
}

#[derive(Debug)]
enum Order {
    Commit(Chunk, Timestamp, oneshot::Sender<Result<Committed, Refused>>),
    Seal(Timestamp, oneshot::Sender<()>),
    Adopt(Vec<Archive>, Timestamp, oneshot::Sender<Result<Vec<usize>, StartError>>),
}

impl Default for Limits {
    fn default() -> Self {
        Self { ids: 2_000_000, series_in_family: 10_000 }
    }
}

impl Scribe {
    /// Locks the archives, recovers what a process before left behind and starts the thread. `ledger` is a directory of
    /// its own in `data_dir`, which the caller holds. The numbers of the archives are their places in the list. Blocks.
    ///
    /// # Errors
    /// When the ledger or an archive cannot be read, is held by another process, or was written by a newer version.
    pub fn start(
        disk: &Arc<dyn Disk>,
        ledger: &Path,
        archives: Vec<Archive>,
        limits: Limits,
        now: Timestamp,
    ) -> Result<(Self, JoinHandle<()>), StartError> {
        let mut locks = Locks::default();
        locks.hold(&archives).map_err(StartError::Locked)?;
        let books = Books::open(disk, ledger, archives, limits, now)?;
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let scribe = Self { sender, shared: books.shared() };
        let thread =
            task::thread("scribe", move || work(books, locks, receiver)).map_err(StartError::Thread)?;
        Ok((scribe, thread))
    }

    /// Commits a chunk; `now` decides whether a day is over and when ids are forgotten. Once this is `Ok` no kill and no
    /// power cut takes the events away. A future that is dropped leaves open which of the two it would have said.
    ///
    /// # Errors
    /// When nothing was committed; the sender has to repeat it.
    pub async fn commit(&self, chunk: Chunk, now: Timestamp) -> Result<Committed, Refused> {
        let (answer, answered) = oneshot::channel();
        let sent = self.sender.send(Order::Commit(chunk, now, answer)).await;
        sent.map_err(|_unsent| Refused::Ended)?;
        answered.await.unwrap_or(Err(Refused::Ended))
    }

    /// Seals the files of the days that are over at `now`. To be called every few seconds.
    ///
    /// # Errors
    /// When the thread has ended. A file that cannot be sealed is logged, counted and tried again at the next call.
    pub async fn seal(&self, now: Timestamp) -> Result<(), Refused> {
        let (done, wait) = oneshot::channel();
        self.sender.send(Order::Seal(now, done)).await.map_err(|_unsent| Refused::Ended)?;
        wait.await.map_err(|_ended| Refused::Ended)
    }

    /// Takes the archives of a new configuration and gives their numbers. Numbers given before stay valid, and open
    /// files of archives that are no longer used are still sealed.
    ///
    /// # Errors
    /// When one cannot be used; then none of them is taken.
    pub async fn adopt(&self, archives: Vec<Archive>, now: Timestamp) -> Result<Vec<usize>, StartError> {
        let ended = || StartError::Thread(io::Error::other("it has ended"));
        let (answer, answered) = oneshot::channel();
        self.sender.send(Order::Adopt(archives, now, answer)).await.map_err(|_unsent| ended())?;
        answered.await.map_err(|_dropped| ended())?
    }

    /// All totals, as of the last commit.
    pub fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.shared.totals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A note, as of the last commit.
    pub fn note(&self, name: &str) -> Option<Arc<str>> {
        self.shared.notes().get(name).cloned()
    }

    /// All notes whose names begin like this, as of the last commit.
    pub fn notes(&self, start: &str) -> Vec<(Arc<str>, Arc<str>)> {
        let notes = self.shared.notes();
        let from = notes.range::<str, _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
        let ours = from.take_while(|(name, _)| name.starts_with(start));
        ours.map(|(name, value)| (Arc::clone(name), Arc::clone(value))).collect()
    }

    /// For how long an event is known after it came, in seconds: a repetition that comes later counts as fresh.
    pub fn dedupe_window_seconds(&self, now: Timestamp) -> f64 {
        let since = self.shared.known_since_ms.load(Ordering::Relaxed);
        now.as_millisecond().saturating_sub(since).max(0) as f64 / 1000.0
    }

    /// What is known about the archive of each log group.
    pub fn archive_facts(&self) -> BTreeMap<Arc<str>, ArchiveFacts> {
        self.shared.archives.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many damaged parts of the ledger were put aside at the start.
    pub fn damaged_segments(&self) -> usize {
        self.shared.damaged
    }
}

impl Refused {
    fn archive(path: &str, error: &io::Error) -> Self {
        Self::Archive { path: path.to_owned(), because: error.to_string() }
    }

    fn ledger(error: &io::Error) -> Self {
        Self::Ledger { because: error.to_string() }
    }
}

impl Shared {
    fn new(totals: Arc<Mutex<Arc<Totals>>>, damaged: usize) -> Self {
        Self { totals, damaged, ..Self::default() }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, log_group: &Arc<str>, change: impl FnOnce(&mut ArchiveFacts)) {
        let mut archives = self.archives.lock().unwrap_or_else(PoisonError::into_inner);
        change(archives.entry(Arc::clone(log_group)).or_default());
    }
}

/// The directories that are ours, each once.
#[derive(Debug, Default)]
struct Locks(BTreeMap<PathBuf, Lock>);

impl Locks {
    fn hold(&mut self, archives: &[Archive]) -> Result<(), String> {
        for archive in archives {
            if !self.0.contains_key(&archive.dir) {
                self.0.insert(archive.dir.clone(), archive.lock()?);
            }
        }
        Ok(())
    }
}

/// The thread: takes all that waits, commits it at once, answers.
fn work(mut books: Books, mut locks: Locks, mut orders: mpsc::Receiver<Order>) {
    while let Some(first) = orders.blocking_recv() {
        let mut chunks = Vec::new();
        let mut answers = Vec::new();
        let mut now = Timestamp::MIN;
        let mut entries = 0;
        let mut other = None;
        let mut next = Some(first);
        while let Some(order) = next {
            let Order::Commit(chunk, at, answer) = order else {
                other = Some(order);
                break;
            };
            entries += chunk.entries.len();
            chunks.push(chunk);
            answers.push(answer);
            now = now.max(at);
            next = if entries < MOST_TOGETHER { orders.try_recv().ok() } else { None };
        }
        if !chunks.is_empty() {
            for (answer, result) in answers.into_iter().zip(books.commit(&chunks, now)) {
                // Who no longer waits sends the events again, and they are duplicates then.
                drop(answer.send(result));
            }
        }
        match other {
            Some(Order::Seal(now, done)) => {
                books.seal(now);
                done.send(()).ok();
            }
            Some(Order::Adopt(archives, now, answer)) => {
                drop(answer.send(adopt(&mut books, &mut locks, &archives, now)));
            }
            Some(Order::Commit(..)) | None => {}
        }
    }
}

fn adopt(
    books: &mut Books,
    locks: &mut Locks,
    archives: &[Archive],
    now: Timestamp,
) -> Result<Vec<usize>, StartError> {
    locks.hold(archives).map_err(StartError::Locked)?;
    let mut new: Vec<Archive> = Vec::new();
    for archive in archives {
        if !books.archives().contains(archive) && !new.contains(archive) {
            new.push(archive.clone());
        }
    }
    books.adopt(new, now).map_err(StartError::Archive)?;
    let number = |archive| books.archives().iter().position(|known| known == archive);
    Ok(archives.iter().filter_map(number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::RealDisk;
    use crate::logs::archive::Line;
    use jiff::SignedDuration;
    use jiff::tz::TimeZone;
    use std::fs;

    /// A directory that is removed when the test is over.
    struct Stage(PathBuf);

    impl Stage {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("datapulse-scribe-{}-{name}", std::process::id()));
            drop(fs::remove_dir_all(&dir));
            Self(dir)
        }

        fn archive(&self, name: &str) -> Archive {
            Archive {
                dir: self.0.join(name),
                zone: TimeZone::UTC,
                line: Line::parse("{id} {message}").unwrap(),
                seal_after: SignedDuration::from_mins(10),
            }
        }

        fn start(&self, now: Timestamp) -> Result<(Scribe, JoinHandle<()>), StartError> {
            let disk: Arc<dyn Disk> = Arc::new(RealDisk);
            Scribe::start(
                &disk,
                &self.0.join("data/logs"),
                vec![self.archive("archive")],
                Limits::default(),
                now,
            )
        }
    }

    impl Drop for Stage {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn chunk(name: &str, events: usize, archive: usize) -> Chunk {
        let entry = |number| Entry {
            id: format!("{name}-{number}"),
            time_ms: 1_795_507_200_000,
            log_group: "/aws/rds/instance/x/slowquery".into(),
            log_stream: "s".into(),
            archive: Some(archive),
            message: b"select 1".to_vec(),
            amounts: vec![Amount { series: "fresh".into(), other: "other".into(), amount: 1 }],
            repeated: Vec::new(),
        };
        let notes = vec![Note { name: "pull".into(), value: Some(name.into()) }];
        Chunk { entries: (0..events).map(entry).collect(), notes, ended: Vec::new() }
    }

    fn now() -> Timestamp {
        "2026-11-24T08:00:00Z".parse().unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_senders_are_all_answered_and_the_thread_ends_after_the_last() {
        let stage = Stage::new("many");
        let (scribe, thread) = stage.start(now()).unwrap();
        let senders: Vec<_> = (0..200)
            .map(|number| {
                let scribe = scribe.clone();
                async move { scribe.commit(chunk(&format!("c{}", number / 2), 10, 0), now()).await }
            })
            .collect();
        let mut counts = Committed::default();
        let mut tasks: Vec<_> = senders.into_iter().map(crate::task::spawn).collect();
        for task in &mut tasks {
            let answer = task.join().await.unwrap().unwrap();
            counts.fresh += answer.fresh;
            counts.duplicates += answer.duplicates;
        }
        assert_eq!(counts, Committed { fresh: 1_000, duplicates: 1_000 });
        assert_eq!(scribe.totals().get("fresh"), Some(&1_000));
        let window = scribe.dedupe_window_seconds(now() + SignedDuration::from_secs(5));
        assert!((window - 5.0).abs() < 1e-9, "{window}");
        scribe.seal("2026-11-25T00:10:00Z".parse().unwrap()).await.unwrap();
        let sealed = stage.0.join("archive/aws/rds/instance/x/slowquery/2026-11-24.log");
        assert_eq!(fs::read_to_string(sealed).unwrap().lines().count(), 1_000);
        assert!(scribe.archive_facts().values().all(|facts| facts.last_sealed.is_some()));
        drop(scribe);
        thread.join().unwrap();
        let (scribe, thread) = stage.start(now()).unwrap();
        assert_eq!(scribe.totals().get("fresh"), Some(&1_000), "totals go on after a restart");
        assert!(scribe.note("pull").is_some());
        let again = scribe.commit(chunk("c0", 10, 0), now()).await.unwrap();
        assert_eq!(again, Committed { fresh: 0, duplicates: 10 });
        drop(scribe);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn new_archives_get_numbers_and_known_ones_keep_theirs() {
        let stage = Stage::new("adopt");
        let (scribe, _thread) = stage.start(now()).unwrap();
        let (one, two) = (stage.archive("archive"), stage.archive("second"));
        assert_eq!(scribe.adopt(vec![two.clone(), one.clone(), two], now()).await.unwrap(), [1, 0, 1]);
        scribe.commit(chunk("x", 1, 1), now()).await.unwrap();
        let open = stage.0.join("second/aws/rds/instance/x/slowquery/2026-11-24.open");
        assert_eq!(fs::read_to_string(open).unwrap(), "x-0 select 1\n");
        assert_eq!(scribe.commit(chunk("y", 1, 2), now()).await, Err(Refused::UnknownArchive));
    }

    #[tokio::test]
    async fn a_second_process_is_told_that_the_archive_is_in_use() {
        let stage = Stage::new("second");
        let (_scribe, _thread) = stage.start(now()).unwrap();
        let refused = stage.start(now()).unwrap_err().to_string();
        assert!(refused.contains("archive is in use by another process"), "{refused}");
    }
}
