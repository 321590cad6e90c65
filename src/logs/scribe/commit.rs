//! The work of the scribe's thread: group commit, recovery and sealing, one step after the other.

use super::ids::{Ids, Packed};
use super::ledger::{Commit, Record, VERSION};
use super::tally::{Differences, Tally};
use super::{Chunk, Committed, Ended, Limits, Notes, Refused, Shared, StartError};
use crate::journal::Journal;
use crate::journal::disk::Disk;
use crate::logs::archive::files::Files;
use crate::logs::archive::{Archive, Shown};
use jiff::Timestamp;
use jiff::civil::Date;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A start reads this and the checkpoint: about a second on a slow machine.
const ROLL_AT: u64 = 32 * 1024 * 1024;
/// Ids in one record of a checkpoint, so that it is never in memory as a whole.
const IDS_IN_RECORD: usize = 64 * 1024;
/// A late file is remembered for so long after its last line; later it is known by its own length.
const LATE_KEPT_MS: i64 = 26 * 3600 * 1000;

/// All that the thread owns.
#[derive(Debug)]
pub(super) struct Books {
    journal: Journal<Record>,
    files: Files,
    archives: Vec<Archive>,
    ids: Ids,
    tally: Tally,
    notes: Notes,
    shared: Arc<Shared>,
    /// Whether the lengths in the ledger could not be relied on at the start.
    damaged: bool,
}

/// What some chunks come to, before anything is written.
#[derive(Debug, Default)]
struct Batch {
    ids: Vec<u64>,
    lines: BTreeMap<(usize, Arc<str>, Date), Lines>,
    differences: Differences,
    notes: BTreeMap<Arc<str>, Option<Arc<str>>>,
    ended: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    answers: Vec<Committed>,
}

#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    count: u64,
}

/// The lines for one file.
#[derive(Debug)]
struct Append {
    log_group: Arc<str>,
    late: bool,
    lines: Lines,
}

impl Books {
    /// Reads the ledger, makes it safe and cuts the files back to what it says.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        ledger: &Path,
        archives: Vec<Archive>,
        limits: Limits,
        now: Timestamp,
    ) -> Result<Self, StartError> {
        let now_ms = now.as_millisecond();
        let (journal, records) = Journal::open(disk, ledger, VERSION)?;
        let damaged = journal.damaged() > 0 || records.is_empty();
        let mut books = Self {
            files: Files::new(Arc::clone(disk)),
            ids: Ids::new(limits.ids, now_ms),
            tally: Tally::new(limits.series_in_family),
            notes: Notes::new(),
            shared: Arc::default(),
            archives: Vec::new(),
            damaged,
            journal,
        };
        for record in records {
            books.replay(record, limits, now_ms);
        }
        if damaged {
            books.ids.doubt(now_ms);
        }
        books.shared = Arc::new(Shared::new(books.tally.share(), books.journal.damaged()));
        books.shared.notes().clone_from(&books.notes);
        books.add_archives(archives, now).map_err(StartError::Archive)?;
        books.publish();
        // On a full disk this fails; every commit tries again.
        if let Err(error) = books.begin(now_ms) {
            tracing::error!(%error, "the ledger cannot be written; log deliveries are refused until it can");
        }
        Ok(books)
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Adds archives while the thread runs.
    pub(super) fn adopt(&mut self, archives: Vec<Archive>, now: Timestamp) -> io::Result<()> {
        // No file may be cut while a failed record of the ledger may still count at the next start.
        self.make_ready(0, now.as_millisecond()).map_err(io::Error::other)?;
        self.add_archives(archives, now)
    }

    /// Adds archives; their files are brought in line with the ledger first.
    fn add_archives(&mut self, archives: Vec<Archive>, now: Timestamp) -> io::Result<()> {
        self.files.recover(&archives, self.damaged, now.as_millisecond())?;
        self.archives.extend(archives);
        Ok(())
    }

    /// The archives by their number.
    pub(super) fn archives(&self) -> &[Archive] {
        &self.archives
    }

    /// Commits chunks together; each is answered by itself. When an archive fails, only the chunks
    /// that need it do.
    pub(super) fn commit(&mut self, chunks: &[Chunk], now: Timestamp) -> Vec<Result<Committed, Refused>> {
        match self.commit_together(chunks, now) {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(Refused::Archive { .. } | Refused::UnknownArchive) if chunks.len() > 1 => {
                chunks.iter().flat_map(|chunk| self.commit(std::slice::from_ref(chunk), now)).collect()
            }
            Err(refused) => chunks.iter().map(|_| Err(refused.clone())).collect(),
        }
    }

    /// Seals the files of days that are over. What fails is tried again at the next call.
    pub(super) fn seal(&mut self, now: Timestamp) {
        for record in self.files.due(&self.archives, now) {
            let sealed = self.make_ready(0, now.as_millisecond()).and_then(|()| {
                self.files.seal(&record.path).map_err(|error| Refused::archive(&record.path, &error))?;
                self.journal
                    .append(&[Record::Sealed { path: record.path.clone() }])
                    .map_err(|error| Refused::ledger(&error))
            });
            match sealed {
                Ok(()) => {
                    self.files.forget(&record.path);
                    self.shared.note(&record.log_group, |facts| facts.last_sealed = Some(now));
                    tracing::info!(path = record.path, bytes = record.length, "archive file sealed");
                }
                Err(error) => {
                    self.shared.note(&record.log_group, |facts| facts.write_failures += 1);
                    tracing::warn!(path = record.path, %error, "an archive file could not be sealed yet");
                }
            }
        }
    }

    fn replay(&mut self, record: Record, limits: Limits, now_ms: i64) {
        match record {
            Record::Start { key, sure_since_ms, notes } => {
                self.ids = Ids::with_key(key, limits.ids, i64::MIN);
                self.ids.doubt(sure_since_ms);
                self.notes = notes;
            }
            Record::Ids { since_ms, hashes } => self.ids.restore(since_ms, &hashes.0),
            Record::Files(files) => files.into_iter().for_each(|file| self.files.know(file, now_ms)),
            Record::Totals(sums) => self.tally.add(sums),
            Record::Committed(commit) => self.apply(commit, now_ms),
            Record::Sealed { path } => self.files.forget(&path),
        }
    }

    fn apply(&mut self, commit: Commit, now_ms: i64) {
        self.ids.add(&commit.ids.0);
        for (path, length) in commit.lengths {
            self.files.commit(&path, length, now_ms);
        }
        for (other, ended) in &commit.ended {
            self.tally.end(other, ended);
        }
        self.tally.add(commit.sums);
        let mut shared = self.shared.notes();
        for (name, value) in commit.notes {
            if let Some(value) = value {
                shared.insert(Arc::clone(&name), Arc::clone(&value));
                self.notes.insert(name, value);
            } else {
                shared.remove(&name);
                self.notes.remove(&name);
            }
        }
    }

    /// Begins a segment when the last one failed, has grown long, or holds ids that are forgotten now.
    fn make_ready(&mut self, more_ids: usize, now_ms: i64) -> Result<(), Refused> {
        let turned = self.ids.turn_if_due(more_ids, now_ms);
        if turned || !self.journal.is_ready() || self.journal.appended() > ROLL_AT {
            return self.begin(now_ms).map_err(|error| Refused::ledger(&error));
        }
        Ok(())
    }

    fn begin(&mut self, now_ms: i64) -> io::Result<()> {
        let start = Record::Start {
            key: self.ids.key(),
            sure_since_ms: self.ids.sure_since_ms(),
            notes: self.notes.clone(),
        };
        let files = Record::Files(self.files.records(now_ms.saturating_sub(LATE_KEPT_MS)));
        let totals = Record::Totals(self.tally.sums());
        let ids = self.ids.pieces(IDS_IN_RECORD).map(|(since_ms, hashes)| Record::Ids { since_ms, hashes });
        self.journal.begin([start, files, totals].into_iter().chain(ids))
    }

    fn commit_together(&mut self, chunks: &[Chunk], now: Timestamp) -> Result<Vec<Committed>, Refused> {
        let now_ms = now.as_millisecond();
        let batch = self.sort(chunks)?;
        // Even a batch of nothing but duplicates waits for it: what was read at the start is safe from then on.
        self.make_ready(batch.ids.len(), now_ms)?;
        let appends = self.place(batch.lines, now)?;
        let written = self.write(&appends);
        let lengths = written.inspect_err(|_| {
            for path in appends.keys() {
                if let Err(error) = self.files.cut_back(path) {
                    tracing::warn!(path, %error, "an archive file could not be cut back yet");
                }
            }
        })?;
        let (notes, ended) = (batch.notes, batch.ended);
        let commit = Commit { ids: Packed(batch.ids), lengths, sums: batch.differences.sums, notes, ended };
        if commit.is_empty() {
            return Ok(batch.answers);
        }
        let records = [Record::Committed(commit)];
        // Should this fail, the record may be on the disk nevertheless. So the files keep their new lines until the next
        // segment has said that they do not count.
        self.journal.append(&records).map_err(|error| Refused::ledger(&error))?;
        if let [Record::Committed(commit)] = records {
            self.apply(commit, now_ms);
        }
        for append in appends.into_values().filter(|append| append.late) {
            self.shared.note(&append.log_group, |facts| facts.late_lines += append.lines.count);
        }
        self.publish();
        Ok(batch.answers)
    }

    /// Drops what is known and renders the rest.
    fn sort(&self, chunks: &[Chunk]) -> Result<Batch, Refused> {
        let mut batch = Batch::default();
        let mut met = HashSet::new();
        for chunk in chunks {
            let mut answer = Committed::default();
            for Ended { series, other } in &chunk.ended {
                batch.differences.end(other, series);
                batch.ended.entry(Arc::clone(other)).or_default().insert(Arc::clone(series));
            }
            for entry in &chunk.entries {
                let hash = self.ids.hash(&entry.log_group, &entry.id);
                let is_fresh = !self.ids.contains(hash) && met.insert(hash);
                let amounts = if is_fresh { &entry.amounts } else { &entry.repeated };
                for amount in amounts {
                    self.tally.put(amount, &mut batch.differences);
                }
                if !is_fresh {
                    answer.duplicates += 1;
                    continue;
                }
                answer.fresh += 1;
                batch.ids.push(hash);
                let Some(number) = entry.archive else { continue };
                let archive = self.archives.get(number).ok_or(Refused::UnknownArchive)?;
                let key = (number, Arc::clone(&entry.log_group), archive.day(entry.time_ms));
                let lines = batch.lines.entry(key).or_default();
                let shown = Shown {
                    message: &entry.message,
                    time_ms: entry.time_ms,
                    log_group: &entry.log_group,
                    log_stream: &entry.log_stream,
                    id: &entry.id,
                };
                archive.line.write(shown, &archive.zone, &mut lines.bytes);
                lines.count += 1;
            }
            batch.answers.push(answer);
            let notes = chunk.notes.iter().map(|note| (Arc::clone(&note.name), note.value.clone()));
            batch.notes.extend(notes);
        }
        Ok(batch)
    }

    /// Finds the file for each day's lines, and lets the ledger know of new ones before they come to be.
    fn place(
        &mut self,
        lines: BTreeMap<(usize, Arc<str>, Date), Lines>,
        now: Timestamp,
    ) -> Result<BTreeMap<String, Append>, Refused> {
        let mut appends: BTreeMap<String, Append> = BTreeMap::new();
        let mut new = Vec::new();
        for ((number, log_group, day), lines) in lines {
            let archive = self.archives.get(number).ok_or(Refused::UnknownArchive)?;
            let (record, is_new) = self.files.place(archive, &log_group, day, now).map_err(|error| {
                self.shared.note(&log_group, |facts| facts.write_failures += 1);
                Refused::archive(&archive.dir.to_string_lossy(), &error)
            })?;
            // Two routes may keep their lines in one directory.
            if let Some(append) = appends.get_mut(&record.path) {
                append.lines.bytes.extend(lines.bytes);
                append.lines.count += lines.count;
                continue;
            }
            appends.insert(record.path.clone(), Append { log_group, late: record.late, lines });
            if is_new {
                new.push(record);
            }
        }
        if !new.is_empty() {
            self.journal.append(&[Record::Files(new.clone())]).map_err(|error| Refused::ledger(&error))?;
        }
        for record in new {
            self.files.know(record, now.as_millisecond());
        }
        Ok(appends)
    }

    /// Writes and syncs all lines; gives the length that each file will have.
    fn write(&mut self, appends: &BTreeMap<String, Append>) -> Result<BTreeMap<String, u64>, Refused> {
        let mut lengths = BTreeMap::new();
        for (path, append) in appends {
            self.files.write(path, &append.lines.bytes).map_err(|error| {
                self.shared.note(&append.log_group, |facts| facts.write_failures += 1);
                Refused::archive(path, &error)
            })?;
            lengths.insert(path.clone(), self.files.length(path) + append.lines.bytes.len() as u64);
        }
        Ok(lengths)
    }

    /// Lets readers see what is new besides the totals.
    fn publish(&self) {
        self.shared.known_since_ms.store(self.ids.known_since_ms(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Amount, Entry, Note};
    use super::*;
    use crate::journal::simulated::{Fault, Loss, SimulatedDisk};
    use crate::logs::archive::Line;
    use jiff::SignedDuration;
    use jiff::tz::TimeZone;

    const LOSSES: [Loss; 4] = [Loss::Kill, Loss::All, Loss::Half, Loss::Zeros];
    const FAULTS: [Fault; 3] = [Fault::End, Fault::Fail, Fault::DoneButFailed];

    const RANDOM_RUNS: usize = 1_000;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn archive() -> Archive {
        Archive {
            dir: "/archive".into(),
            zone: TimeZone::UTC,
            line: Line::parse("{id}").unwrap(),
            seal_after: SignedDuration::from_mins(10),
        }
    }

    /// `a`, `b` and so on are events of the first day in two log groups; capitals are of the second day.
    fn entry(id: char) -> Entry {
        let day = if id.is_uppercase() { "2026-11-24T01:00:00Z" } else { "2026-11-23T23:00:00Z" };
        let amount = |series: &str| vec![Amount { series: series.into(), other: "other".into(), amount: 1 }];
        Entry {
            id: id.to_string(),
            time_ms: at(day).as_millisecond(),
            log_group: if id == 'b' { "/aws/b".into() } else { "/aws/a".into() },
            log_stream: "s".into(),
            archive: Some(0),
            message: Vec::new(),
            amounts: amount("fresh"),
            repeated: amount("duplicate"),
        }
    }

    fn chunk(ids: &str) -> Chunk {
        let note = |id: char| Note { name: "pull".into(), value: Some(id.to_string().into()) };
        let notes = ids.chars().last().map(note).into_iter().collect();
        Chunk { entries: ids.chars().map(entry).collect(), notes, ended: Vec::new() }
    }

    fn open(disk: &SimulatedDisk, now: Timestamp) -> Result<Books, StartError> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        Books::open(&disk, Path::new("/data/logs"), vec![archive()], Limits::default(), now)
    }

    fn total(books: &Books, series: &str) -> usize {
        let totals = books.shared().totals.lock().unwrap().clone();
        totals.get(series).map_or(0, |total| usize::try_from(*total).unwrap())
    }

    /// The ids of all lines, in all files of the archive, sorted.
    fn landed(disk: &SimulatedDisk) -> String {
        let files = disk.contents();
        let lines = files.iter().filter(|(path, _)| path.starts_with("/archive"));
        let mut ids: Vec<char> = lines
            .flat_map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap().chars().collect::<Vec<_>>())
            .collect();
        ids.retain(|id| *id != '\n');
        ids.sort_unstable();
        ids.into_iter().collect()
    }

    /// A sender that repeats each delivery until it is confirmed, with these faults one after the other. Gives whether
    /// all of them came to be.
    fn deliver(deliveries: &[&str], faults: &[(u64, Fault, Loss)]) -> bool {
        let disk = SimulatedDisk::default();
        let days = [at("2026-11-23T23:30:00Z"), at("2026-11-24T00:05:00Z"), at("2026-11-24T00:30:00Z")];
        let mut ahead = faults.iter();
        let mut current = None;
        let mut next_fault = |current: &mut Option<Loss>| {
            if !disk.fault_is_ahead()
                && let Some((step, fault, loss)) = ahead.next()
            {
                disk.plan(*step, *fault);
                *current = Some(*loss);
            }
        };
        next_fault(&mut current);
        let mut books = None;
        let mut acked = String::new();
        for (delivery, now) in deliveries.iter().zip(days) {
            let mut tries = 0;
            loop {
                tries += 1;
                assert!(tries < 10 + faults.len(), "{deliveries:?} {faults:?} does not recover");
                if disk.has_ended() {
                    books = None;
                    disk.lose(current.unwrap());
                    next_fault(&mut current);
                }
                if books.is_none() {
                    books = open(&disk, now).ok();
                }
                let Some(open) = &mut books else { continue };
                open.seal(now);
                let answer = open.commit(&[chunk(delivery)], now).remove(0);
                if !disk.has_ended() {
                    next_fault(&mut current);
                }
                if answer.is_ok() {
                    acked.push_str(delivery);
                    break;
                }
            }
        }
        let all_came = !disk.fault_is_ahead() && ahead.next().is_none();
        drop(books);
        disk.lose(current.unwrap_or(Loss::All));
        let told = format!("{deliveries:?} {faults:?}");
        let check = |books: &Books| {
            let lines = landed(&disk);
            let mut once = acked.chars().collect::<Vec<_>>();
            once.sort_unstable();
            once.dedup();
            assert_eq!(lines, once.into_iter().collect::<String>(), "{told}: {:?}", disk.contents());
            assert_eq!(total(books, "fresh"), lines.len(), "{told}");
            let last = deliveries.last().and_then(|ids| ids.chars().last()).map(String::from);
            assert_eq!(books.notes.get("pull").map(ToString::to_string), last, "{told}");
        };
        let books = open(&disk, days[2]).unwrap();
        check(&books);
        drop(books);
        disk.lose(Loss::All);
        let mut books = open(&disk, days[2]).unwrap();
        check(&books);
        let before = total(&books, "duplicate");
        let again = books.commit(&[chunk(&acked)], days[2]).remove(0).unwrap();
        assert_eq!(again, Committed { fresh: 0, duplicates: acked.len() as u64 }, "{told}");
        assert_eq!(total(&books, "duplicate"), before + acked.len(), "{told}");
        books.seal(days[2]);
        for path in disk.contents().keys().filter(|path| path.starts_with("/archive")) {
            assert!(!path.ends_with("2026-11-23.open"), "{told}: the day is over");
        }
        all_came
    }

    #[test]
    fn no_event_is_lost_or_lands_twice_with_a_fault_at_any_step_of_any_three_deliveries() {
        let kinds = ["a", "ab", "bC"];
        let mut runs = 0;
        for sequence in 0..27 {
            let deliveries = [kinds[sequence / 9], kinds[sequence / 3 % 3], kinds[sequence % 3]];
            for fault in FAULTS {
                // Who lives on loses nothing before the end.
                let losses = if fault == Fault::End { &LOSSES[..] } else { &[Loss::Kill, Loss::All] };
                for loss in losses.iter().copied() {
                    let mut step = 0;
                    while deliver(&deliveries, &[(step, fault, loss)]) {
                        step += 1;
                        runs += 1;
                    }
                    assert!(step > 20, "{step} steps");
                }
            }
        }
        println!("{runs} runs");
    }

    #[test]
    fn no_event_is_lost_or_lands_twice_with_two_faults_at_any_steps() {
        let mut runs = 0;
        for (first_fault, first_loss, second_fault, second_loss) in [
            (Fault::End, Loss::Kill, Fault::End, Loss::All),
            (Fault::Fail, Loss::Kill, Fault::End, Loss::Kill),
            (Fault::Fail, Loss::Kill, Fault::Fail, Loss::All),
            (Fault::DoneButFailed, Loss::Kill, Fault::End, Loss::Kill),
        ] {
            for first in 0.. {
                let mut second = 0;
                while deliver(
                    &["ab", "bcC", "ad"],
                    &[(first, first_fault, first_loss), (second, second_fault, second_loss)],
                ) {
                    second += 1;
                    runs += 1;
                }
                if second == 0 {
                    break;
                }
            }
        }
        println!("{runs} runs");
    }

    #[test]
    fn no_event_is_lost_or_lands_twice_with_a_fault_every_few_steps() {
        // Any sequence will do, as long as it is the same each time.
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..RANDOM_RUNS {
            let deliveries = [(); 3].map(|()| ["a", "ab", "bC", "cba", "D"][random(5)]);
            let within = [6, 15, 40][random(3)];
            let faults: Vec<_> = (0..2 + random(8))
                .map(|_| (random(within) as u64, FAULTS[random(3)], LOSSES[random(4)]))
                .collect();
            deliver(&deliveries, &faults);
        }
    }

    #[test]
    fn an_event_that_comes_twice_in_one_batch_lands_once() {
        let disk = SimulatedDisk::default();
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        let answers = books.commit(&[chunk("aba"), chunk("bc"), chunk("c")], at(FIRST_DAY));
        let counts: Vec<_> =
            answers.iter().map(|answer| answer.as_ref().map(|c| (c.fresh, c.duplicates))).collect();
        assert_eq!(counts, [Ok((2, 1)), Ok((1, 1)), Ok((0, 1))]);
        assert_eq!(
            (landed(&disk).as_str(), total(&books, "fresh"), total(&books, "duplicate")),
            ("abc", 3, 3)
        );
    }

    #[test]
    fn what_was_not_confirmed_is_cut_off_at_the_next_start() {
        for loss in LOSSES {
            for step in 0..5 {
                let disk = SimulatedDisk::default();
                let mut books = open(&disk, at(FIRST_DAY)).unwrap();
                books.commit(&[chunk("ab")], at(FIRST_DAY)).remove(0).unwrap();
                disk.plan(step, Fault::End);
                let answer = books.commit(&[chunk("c")], at(FIRST_DAY)).remove(0);
                assert_eq!(answer.is_ok(), step > 3);
                disk.lose(loss);
                let books = open(&disk, at(FIRST_DAY)).unwrap();
                // Write, sync, record, sync: killed before the last one, the record is read from the cache.
                let counts = step > 3 || (step == 3 && loss == Loss::Kill);
                assert_eq!(landed(&disk), if counts { "abc" } else { "ab" }, "{loss:?} {step}");
                assert_eq!(total(&books, "fresh"), landed(&disk).len(), "{loss:?} {step}");
            }
        }
    }

    #[test]
    fn a_duplicate_of_what_only_the_cache_has_is_not_confirmed() {
        let disk = SimulatedDisk::default();
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        let mut quiet = chunk("c");
        quiet.notes.clear();
        quiet.entries[0].repeated.clear();
        books.commit(&[chunk("ab")], at(FIRST_DAY)).remove(0).unwrap();
        // The sync of the record fails, and no later sync can save it: only a new segment can.
        disk.plan(3, Fault::Fail);
        books.commit(&[quiet.clone()], at(FIRST_DAY)).remove(0).unwrap_err();
        disk.lose(Loss::Kill);
        disk.limit(Some(0));
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        assert!(books.ids.contains(books.ids.hash("/aws/a", "c")));
        books.commit(&[quiet.clone()], at(FIRST_DAY)).remove(0).unwrap_err();
        disk.limit(None);
        assert_eq!(books.commit(&[quiet], at(FIRST_DAY)).remove(0).unwrap().duplicates, 1);
        disk.lose(Loss::All);
        let books = open(&disk, at(FIRST_DAY)).unwrap();
        assert_eq!((landed(&disk).as_str(), total(&books, "fresh")), ("abc", 3));
    }

    #[test]
    fn a_refused_line_is_not_sealed() {
        let disk = SimulatedDisk::default();
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        books.commit(&[chunk("a")], at(FIRST_DAY)).remove(0).unwrap();
        disk.plan(2, Fault::Fail);
        books.commit(&[chunk("c")], at(FIRST_DAY)).remove(0).unwrap_err();
        assert_eq!(landed(&disk), "ac", "the ledger may count it still");
        books.seal(at(DAY_OVER));
        assert_eq!(text(&disk, "/archive/aws/a/2026-11-23.log").unwrap(), "a\n");
    }

    #[test]
    fn a_new_configuration_cuts_no_line_that_the_ledger_may_count() {
        let disk = SimulatedDisk::default();
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        books.commit(&[chunk("ab")], at(FIRST_DAY)).remove(0).unwrap();
        disk.plan(3, Fault::DoneButFailed);
        books.commit(&[chunk("c")], at(FIRST_DAY)).remove(0).unwrap_err();
        disk.limit(Some(0));
        let mut other = archive();
        other.line = Line::parse("{message}").unwrap();
        books.adopt(vec![other], at(FIRST_DAY)).unwrap_err();
        disk.limit(None);
        disk.lose(Loss::All);
        let books = open(&disk, at(FIRST_DAY)).unwrap();
        assert_eq!((landed(&disk).as_str(), total(&books, "fresh")), ("abc", 3));
    }

    fn text(disk: &SimulatedDisk, path: &str) -> Option<String> {
        disk.contents().get(Path::new(path)).map(|bytes| String::from_utf8(bytes.clone()).unwrap())
    }

    const FIRST_DAY: &str = "2026-11-23T23:30:00Z";
    const DAY_OVER: &str = "2026-11-24T00:10:00Z";

    #[test]
    fn a_failing_archive_refuses_only_the_chunks_that_need_it() {
        let disk = SimulatedDisk::default();
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        books.commit(&[chunk("a"), chunk("b")], at(FIRST_DAY)).remove(0).unwrap();
        let mut unknown = chunk("e");
        unknown.entries[0].archive = Some(7);
        let answers = books.commit(&[chunk("c"), unknown, chunk("d")], at(FIRST_DAY));
        assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(landed(&disk), "abcd");
        // A directory stands where the log group of `b` wants its next file.
        disk.make_dir(Path::new("/archive/%2fbad/2026-11-23.open")).unwrap();
        let mut bad = chunk("f");
        bad.entries[0].log_group = "/bad".into();
        disk.plan(2, Fault::Fail);
        let answers = books.commit(&[bad.clone()], at(FIRST_DAY));
        assert!(
            answers[0].as_ref().is_err_and(|error| error.to_string().contains("could not write to")),
            "{answers:?}"
        );
        assert_eq!(books.commit(&[bad], at(FIRST_DAY)).remove(0).unwrap().fresh, 1);
        assert_eq!(total(&books, "fresh"), 5);
    }

    #[test]
    fn a_full_disk_refuses_and_leaves_no_half_line_and_recovers() {
        let disk = SimulatedDisk::default();
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        let mut long = archive();
        long.line = Line::parse("{message}").unwrap();
        books.adopt(vec![long], at(FIRST_DAY)).unwrap();
        let big = |id: char| {
            let mut chunk = chunk(&id.to_string());
            chunk.entries[0].archive = Some(1);
            chunk.entries[0].message = vec![b'x'; 5_000];
            chunk
        };
        books.commit(&[big('a')], at(FIRST_DAY)).remove(0).unwrap();
        let used: usize = disk.contents().values().map(Vec::len).sum();
        for room in [1, 300, 2_000, 4_000, 5_050, 5_300] {
            disk.limit(Some(used + room));
            let refused = books.commit(&[big('c')], at(FIRST_DAY)).remove(0).unwrap_err();
            assert!(refused.to_string().contains("have room"), "{refused}");
            books.seal(at(DAY_OVER));
            let file = text(&disk, "/archive/aws/a/2026-11-23.log");
            assert!(file.is_none_or(|file| file.len() == 5_001), "{room}");
        }
        disk.limit(None);
        assert_eq!(books.commit(&[big('c')], at(DAY_OVER)).remove(0).unwrap().fresh, 1);
        books.seal(at(DAY_OVER));
        assert_eq!(text(&disk, "/archive/aws/a/2026-11-23.log").unwrap().len(), 5_001);
        assert_eq!(text(&disk, "/archive/aws/a/2026-11-23.late.log").unwrap().len(), 5_001);
        disk.lose(Loss::All);
        assert_eq!(total(&open(&disk, at(DAY_OVER)).unwrap(), "fresh"), 2);
    }

    #[test]
    fn a_sealed_day_is_never_written_again() {
        let disk = SimulatedDisk::default();
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        books.commit(&[chunk("a")], at(FIRST_DAY)).remove(0).unwrap();
        books.seal(at("2026-11-24T00:09:59Z"));
        assert_eq!(text(&disk, "/archive/aws/a/2026-11-23.open").unwrap(), "a\n");
        // Late, but the day waits still; it is sealed with it.
        books.commit(&[chunk("c")], at("2026-11-24T00:09:59Z")).remove(0).unwrap();
        books.seal(at(DAY_OVER));
        assert_eq!(text(&disk, "/archive/aws/a/2026-11-23.log").unwrap(), "a\nc\n");
        books.commit(&[chunk("dB")], at(DAY_OVER)).remove(0).unwrap();
        // The clock jumps back over midnight, and the process starts anew.
        books.commit(&[chunk("e")], at(FIRST_DAY)).remove(0).unwrap();
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        books.commit(&[chunk("f")], at(FIRST_DAY)).remove(0).unwrap();
        assert_eq!(text(&disk, "/archive/aws/a/2026-11-23.log").unwrap(), "a\nc\n");
        assert_eq!(text(&disk, "/archive/aws/a/2026-11-23.late.log").unwrap(), "d\ne\nf\n");
        assert_eq!(text(&disk, "/archive/aws/a/2026-11-24.open").unwrap(), "B\n");
        // A log group that was silent all day gets its first line of that day now.
        books.commit(&[chunk("b")], at(DAY_OVER)).remove(0).unwrap();
        assert_eq!(text(&disk, "/archive/aws/b/2026-11-23.late.log").unwrap(), "b\n");
        let facts = books.shared().archives.lock().unwrap().clone();
        assert_eq!((facts["/aws/a"].late_lines, facts["/aws/b"].late_lines), (1, 1));
    }

    #[test]
    fn a_late_file_that_the_ledger_forgot_goes_on_where_its_lines_end() {
        let disk = SimulatedDisk::default();
        let mut books = open(&disk, at(DAY_OVER)).unwrap();
        books.commit(&[chunk("a")], at(DAY_OVER)).remove(0).unwrap();
        let later = at("2026-11-26T00:10:00Z");
        books.commit(&[chunk("B")], later).remove(0).unwrap();
        let records = books.files.records(later.as_millisecond());
        assert!(
            records.iter().all(|record| record.day == archive().day(at(DAY_OVER).as_millisecond())),
            "{records:?}"
        );
        books.commit(&[chunk("c")], later).remove(0).unwrap();
        assert_eq!(text(&disk, "/archive/aws/a/2026-11-23.late.log").unwrap(), "a\nc\n");
    }

    #[test]
    fn without_a_ledger_no_line_is_lost_and_open_days_are_sealed() {
        let disk = SimulatedDisk::default();
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        books.commit(&[chunk("ab")], at(FIRST_DAY)).remove(0).unwrap();
        drop(books);
        for path in disk.contents().into_keys().filter(|path| path.starts_with("/data")) {
            disk.remove(&path).unwrap();
        }
        let mut torn = disk.contents()[Path::new("/archive/aws/a/2026-11-23.open")].clone();
        torn.extend(b"half a li");
        disk.put(Path::new("/archive/aws/a/2026-11-23.open"), &torn);
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        assert_eq!(books.ids.known_since_ms(), at(FIRST_DAY).as_millisecond());
        books.commit(&[chunk("c")], at(FIRST_DAY)).remove(0).unwrap();
        books.seal(at(DAY_OVER));
        assert_eq!(text(&disk, "/archive/aws/a/2026-11-23.log").unwrap(), "a\nc\n");
        assert_eq!(text(&disk, "/archive/aws/b/2026-11-23.log").unwrap(), "b\n");
    }

    #[test]
    fn a_bit_that_turned_anywhere_in_the_ledger_loses_no_confirmed_line() {
        let disk = SimulatedDisk::default();
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        for ids in ["a", "b", "c", "dB"] {
            books.commit(&[chunk(ids)], at(FIRST_DAY)).remove(0).unwrap();
        }
        drop(books);
        let before = disk.contents();
        let (path, ledger) = before.iter().find(|(path, _)| path.starts_with("/data")).unwrap();
        // Of the last record alone a turned bit looks like a torn write.
        let end = ledger.len() - 200;
        for at_byte in (0..end).step_by(7) {
            let disk = SimulatedDisk::default();
            for (path, bytes) in &before {
                disk.put(path, bytes);
            }
            let mut bytes = ledger.clone();
            bytes[at_byte] ^= 4;
            disk.put(path, &bytes);
            let mut books = open(&disk, at(FIRST_DAY)).unwrap();
            assert_eq!(landed(&disk), "Babcd", "byte {at_byte}");
            assert_eq!(books.ids.known_since_ms(), at(FIRST_DAY).as_millisecond(), "byte {at_byte}");
            books.commit(&[chunk("e")], at(FIRST_DAY)).remove(0).unwrap();
            assert_eq!(landed(&disk), "Babcde", "byte {at_byte}");
        }
    }

    #[test]
    fn many_log_groups_keep_few_files_open_and_all_lines() {
        let disk = SimulatedDisk::default();
        let mut books = open(&disk, at(FIRST_DAY)).unwrap();
        for round in 0..3 {
            let mut chunk = Chunk::default();
            for group in 0..150 {
                let mut entry = entry('x');
                entry.id = format!("{group}-{round}");
                entry.log_group = format!("/g/{group}").into();
                chunk.entries.push(entry);
            }
            assert_eq!(books.commit(&[chunk], at(FIRST_DAY)).remove(0).unwrap().fresh, 150);
            assert!(books.files.open_count() <= 64);
        }
        assert_eq!(text(&disk, "/archive/g/149/2026-11-23.open").unwrap(), "149-0\n149-1\n149-2\n");
    }

    #[test]
    fn forgotten_ids_shorten_the_window_that_is_told() {
        let disk = SimulatedDisk::default();
        let limits = Limits { ids: 4, series_in_family: 10 };
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let open = |now| Books::open(&shared, Path::new("/data/logs"), vec![archive()], limits, now).unwrap();
        let (start, later) = (at(FIRST_DAY), at("2026-11-23T23:40:00Z"));
        let mut books = open(start);
        books.commit(&[chunk("ab")], start).remove(0).unwrap();
        books.commit(&[chunk("cd")], later).remove(0).unwrap();
        assert_eq!(books.commit(&[chunk("ab")], later).remove(0).unwrap().duplicates, 2);
        books.commit(&[chunk("ef")], later).remove(0).unwrap();
        let mut books = open(later);
        assert_eq!(books.shared().known_since_ms.load(Ordering::Relaxed), later.as_millisecond());
        assert_eq!(books.commit(&[chunk("c")], later).remove(0).unwrap().duplicates, 1);
    }
}
