//! Append-only records with checksums, in segments: after a power cut there is all that was appended, and nothing half.
//!
//! A segment `<n>.jnl` is a header and frames. The first frames are a checkpoint, closed by an empty one; every later
//! frame is one append. A frame is its length (u32), the crc32 of its text (u32) and the text, a JSON array of records;
//! numbers are little-endian. The newest segment with a whole checkpoint says everything, and the one before it is kept
//! in case the newest is damaged.

pub mod disk;
#[cfg(test)]
pub(crate) mod simulated;

use disk::{Disk, OpenFile, make_safe_dir};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"dpulse\r\n";
/// Of the header and the frames; what is in the records has a version of its own.
const FORMAT: u32 = 1;
/// Magic, format, version of the records, number and counted bytes of the segment before, crc32 of all these.
const HEADER: usize = 8 + 4 + 4 + 8 + 8 + 4;
/// Length and crc32.
const FRAME_HEAD: usize = 8;
/// The text of a frame without records: it closes the checkpoint.
const NO_RECORDS: &[u8] = b"[]";

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refused.
    #[error("could not {what} {}: {source}; the directory has to be one that datapulse may write", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// It was written by a newer datapulse; nothing was touched.
    #[error(
        "{} is of version {found}, and this datapulse knows {newest}; run the newer one, or move the directory away",
        path.display()
    )]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that can be read here.
        newest: u32,
    },
}

/// Records that outlive a power cut from the moment an append succeeds.
#[derive(Debug)]
pub struct Journal<R> {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    version: u32,
    /// The segment that is appended to; gone after any failure, and until the first [`Journal::begin`].
    segment: Option<Box<dyn OpenFile>>,
    /// The number that was given last, to a segment or to the attempt to begin one.
    number: u64,
    /// The segment that counts, and up to which byte.
    counted: Counted,
    /// Bytes appended since the checkpoint.
    appended: u64,
    /// Segments that could not be read (or not all of them), until they can be put aside.
    bad: Vec<PathBuf>,
    damaged: usize,
    records: PhantomData<fn(R) -> R>,
}

/// How much of which segment counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    number: u64,
    bytes: u64,
}

impl<R: Serialize + DeserializeOwned> Journal<R> {
    /// Reads the checkpoint and all that was appended after it, and makes sure that a power cut cannot take it away again.
    /// `version` is the one of the records, and the newest that can be read. A torn tail is dropped; a damaged segment
    /// gives what is readable in it, or is passed over for the one before. Nothing may be
    /// answered for before [`Journal::begin`]: it alone saves a record whose sync failed in the process before.
    ///
    /// # Errors
    /// When the directory cannot be read and synced, or holds what a newer version wrote.
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path, version: u32) -> Result<(Self, Vec<R>), JournalError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { what, path, source }
        };
        make_safe_dir(disk.as_ref(), dir).map_err(failed("make", dir))?;
        let mut journal = Self {
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
            version,
            segment: None,
            number: 0,
            counted: Counted::default(),
            appended: 0,
            bad: Vec::new(),
            damaged: 0,
            records: PhantomData,
        };
        let mut numbers = journal.numbers().map_err(failed("read", dir))?;
        numbers.sort_unstable();
        journal.number = numbers.last().copied().unwrap_or_default();
        let mut before = Counted::default();
        while let Some(number) = numbers.pop() {
            let path = journal.path(number);
            let mut bytes = disk.read(&path, 0).map_err(failed("read", &path))?;
            if let Some(found) = newer(&bytes, version) {
                return Err(JournalError::Newer { path, found, newest: version });
            }
            if before.number == number {
                bytes.truncate(usize::try_from(before.bytes).unwrap_or(usize::MAX));
            }
            let read = Read::<R>::of(&bytes);
            before = read.before;
            if read.damaged || !read.whole {
                tracing::error!(path = %path.display(), salvaged = read.whole, "a journal segment is damaged");
                journal.damaged += 1;
                journal.bad.push(path.clone());
            }
            if !read.whole {
                continue;
            }
            // Kill -9 leaves bytes that only the cache has: who reads them acts on them, so they are made safe first.
            let (mut file, _) = disk.open(&path).map_err(failed("open", &path))?;
            file.sync().map_err(failed("sync", &path))?;
            disk.sync_dir(dir).map_err(failed("sync", dir))?;
            journal.counted = Counted { number, bytes: read.end };
            return Ok((journal, read.records));
        }
        Ok((journal, Vec::new()))
    }

    /// Appends one frame with these records: once this succeeds all of them outlive a power cut, and before that a power
    /// cut leaves all or none of them.
    ///
    /// # Errors
    /// When they are not safely on the disk. The segment is not used again: whether they are in it is known to nobody.
    pub fn append(&mut self, records: &[R]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let frame = frame(&serde_json::to_vec(records)?)?;
        let mut segment =
            self.segment.take().ok_or_else(|| io::Error::other("a new segment has to begin first"))?;
        segment.write(&frame)?;
        segment.sync()?;
        self.counted.bytes += frame.len() as u64;
        self.appended += frame.len() as u64;
        self.segment = Some(segment);
        Ok(())
    }

    /// Begins a segment that opens with this checkpoint, each record in a frame of its own: it has to say all that is to
    /// be remembered. All segments but the one before are removed, damaged ones are renamed `.bad`.
    ///
    /// # Errors
    /// When it is not safely on the disk; nothing can be appended until a later attempt succeeds.
    pub fn begin(&mut self, checkpoint: impl IntoIterator<Item = R>) -> io::Result<()> {
        self.segment = None;
        self.number += 1;
        let path = self.path(self.number);
        let new = path.with_extension("new");
        let begun = self.write_segment(&new, checkpoint).and_then(|begun| {
            self.disk.rename(&new, &path)?;
            self.disk.sync_dir(&self.dir)?;
            Ok(begun)
        });
        let (file, bytes) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                // Most often the disk is full, and what is half written would keep it so.
                drop(self.disk.remove(&new));
                return Err(error);
            }
        };
        let before = self.counted.number;
        self.segment = Some(file);
        self.counted = Counted { number: self.number, bytes };
        self.appended = 0;
        if let Err(error) = self.tidy(before) {
            tracing::warn!(dir = %self.dir.display(), %error, "old journal segments could not be removed");
        }
        Ok(())
    }

    /// Whether an append is possible: not before the first segment began, and not after a failure.
    pub fn is_ready(&self) -> bool {
        self.segment.is_some()
    }

    /// Bytes appended since the last checkpoint: what the next start has to read on top of it.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// How many damaged segments were met at opening. Above 0 something that was appended may be missing.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number}.jnl"))
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        let names = self.disk.names(&self.dir)?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".jnl")?.parse().ok()).collect())
    }

    /// A segment that does not count before it is renamed, so that no `.jnl` ever has half a checkpoint.
    fn write_segment(
        &self,
        new: &Path,
        checkpoint: impl IntoIterator<Item = R>,
    ) -> io::Result<(Box<dyn OpenFile>, u64)> {
        let (mut file, _) = self.disk.open(new)?;
        file.cut(0)?;
        let mut bytes = HEADER as u64;
        file.write(&header(self.version, self.counted))?;
        for record in checkpoint {
            let frame = frame(&serde_json::to_vec(&[record])?)?;
            file.write(&frame)?;
            bytes += frame.len() as u64;
        }
        let end = frame(NO_RECORDS)?;
        file.write(&end)?;
        file.sync()?;
        Ok((file, bytes + end.len() as u64))
    }

    /// Puts aside what is damaged and removes what no start will read. What is missed here is done at the next segment.
    fn tidy(&mut self, before: u64) -> io::Result<()> {
        while let Some(path) = self.bad.last() {
            self.disk.rename(path, &path.with_extension("bad"))?;
            self.bad.pop();
            self.disk.sync_dir(&self.dir)?;
        }
        for number in self.numbers()? {
            if number != self.number && number != before {
                self.disk.remove(&self.path(number))?;
            }
        }
        for name in self.disk.names(&self.dir)? {
            let path = self.dir.join(name);
            if path.extension() == Some(OsStr::new("new")) {
                self.disk.remove(&path)?;
            }
        }
        Ok(())
    }
}

fn header(version: u32, before: Counted) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend(version.to_le_bytes());
    bytes.extend(before.number.to_le_bytes());
    bytes.extend(before.bytes.to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn frame(text: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(FRAME_HEAD + text.len());
    bytes.extend(length.to_le_bytes());
    bytes.extend(crc32fast::hash(text).to_le_bytes());
    bytes.extend(text);
    Ok(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_le_bytes(*four))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|eight| u64::from_le_bytes(*eight))
}

/// The version of a segment that this program cannot read. Magic and the two versions are where they are for ever.
fn newer(bytes: &[u8], version: u32) -> Option<u32> {
    let known = bytes.starts_with(MAGIC) && bytes.len() >= HEADER;
    let (format, records) = (u32_at(bytes, 8)?, u32_at(bytes, 12)?);
    // A damaged header is no newer version: the checksum tells, which a newer format keeps at its place too.
    let sound = u32_at(bytes, HEADER - 4) == bytes.get(..HEADER - 4).map(crc32fast::hash);
    (known && sound && (format > FORMAT || records > version)).then_some(records.max(format))
}

/// What a segment says.
struct Read<R> {
    records: Vec<R>,
    before: Counted,
    /// Where the last good frame ends.
    end: u64,
    /// Whether the checkpoint is all there; without it the records mean nothing.
    whole: bool,
    /// Whether something is missing that was safely written once.
    damaged: bool,
}

impl<R: DeserializeOwned> Read<R> {
    fn of(bytes: &[u8]) -> Self {
        let mut read =
            Self { records: Vec::new(), before: Counted::default(), end: 0, whole: false, damaged: false };
        let sound = bytes.starts_with(MAGIC)
            && u32_at(bytes, HEADER - 4) == bytes.get(..HEADER - 4).map(crc32fast::hash);
        let (true, Some(number), Some(counted)) = (sound, u64_at(bytes, 16), u64_at(bytes, 24)) else {
            return read;
        };
        read.before = Counted { number, bytes: counted };
        let mut at = HEADER;
        while at < bytes.len() {
            let Some(text) = text_at(bytes, at) else {
                // A torn write is the last of its segment, because nothing is appended after a failure. So a good
                // frame further on means that this one was good too, once.
                let Some(next) = next_frame(bytes, at + 1) else { break };
                read.damaged = true;
                if !read.whole {
                    return read;
                }
                at = next;
                continue;
            };
            at += FRAME_HEAD + text.len();
            if text == NO_RECORDS {
                read.whole = true;
            } else {
                match serde_json::from_slice::<Vec<R>>(text) {
                    Ok(records) => read.records.extend(records),
                    Err(error) => {
                        tracing::error!(%error, "a journal record is not understood");
                        read.damaged = true;
                    }
                }
            }
            read.end = at as u64;
        }
        read
    }
}

/// The text of the frame at an offset, if there is a good one.
fn text_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = u32_at(bytes, at)? as usize;
    let text = bytes.get(at + FRAME_HEAD..)?.get(..length)?;
    let looks_right = text.first() == Some(&b'[') && text.last() == Some(&b']');
    (looks_right && u32_at(bytes, at + 4) == Some(crc32fast::hash(text))).then_some(text)
}

/// The next good frame from an offset on. Inside JSON no four bytes make a length that fits, so this is no slower than
/// reading.
fn next_frame(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len()).find(|at| text_at(bytes, *at).is_some())
}

#[cfg(test)]
mod tests {
    use super::simulated::{Fault, Loss, SimulatedDisk};
    use super::*;

    const DIR: &str = "/data/logs";

    fn disk() -> (SimulatedDisk, Arc<dyn Disk>) {
        let simulated = SimulatedDisk::default();
        (simulated.clone(), Arc::new(simulated))
    }

    fn open(disk: &Arc<dyn Disk>) -> (Journal<String>, Vec<String>) {
        Journal::open(disk, Path::new(DIR), 1).unwrap()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Where each append ends, and what there is up to there.
    type Ends = Vec<(usize, Vec<String>)>;

    /// One older segment (`older`, `x`) and a newest one: checkpoint `start`, `more`, then appends `a`, `b c`, `d`.
    fn written() -> (SimulatedDisk, Vec<u8>, PathBuf, Ends) {
        let (simulated, disk) = disk();
        let (mut journal, found) = open(&disk);
        assert!(found.is_empty() && !journal.is_ready());
        journal.append(&words(&["too early"])).unwrap_err();
        journal.begin(words(&["older"])).unwrap();
        journal.append(&words(&["x"])).unwrap();
        journal.begin(words(&["start", "more"])).unwrap();
        let path = journal.path(2);
        let mut so_far = words(&["start", "more"]);
        let mut ends = vec![(disk.read(&path, 0).unwrap().len(), so_far.clone())];
        for append in [&["a"][..], &["b", "c"], &["d"]] {
            journal.append(&words(append)).unwrap();
            so_far.extend(words(append));
            ends.push((disk.read(&path, 0).unwrap().len(), so_far.clone()));
        }
        (simulated, disk.read(&path, 0).unwrap(), path, ends)
    }

    #[test]
    fn cut_at_every_byte_everything_before_the_cut_is_there() {
        let (simulated, whole, path, ends) = written();
        let before = simulated.contents();
        for zeros in [0, 1, 7, 8, 4096] {
            for cut in 0..=whole.len() {
                let simulated = SimulatedDisk::default();
                for (path, bytes) in &before {
                    simulated.put(path, bytes);
                }
                let mut bytes = whole[..cut].to_vec();
                bytes.resize(cut + zeros, 0);
                simulated.put(&path, &bytes);
                let disk: Arc<dyn Disk> = Arc::new(simulated.clone());
                let (mut journal, found) = open(&disk);
                let expected = ends.iter().rev().find(|(end, _)| *end <= cut);
                let expected = expected.map_or_else(|| words(&["older", "x"]), |(_, words)| words.clone());
                assert_eq!(found, expected, "cut at {cut}, {zeros} zeros");
                assert_eq!(journal.damaged(), usize::from(cut < ends[0].0), "cut at {cut}, {zeros} zeros");
                journal.begin(found.clone()).unwrap();
                journal.append(&words(&["after"])).unwrap();
                simulated.lose(Loss::All);
                let (journal, again) = open(&disk);
                assert_eq!(again, [expected, words(&["after"])].concat());
                assert_eq!(journal.damaged(), 0);
                assert_eq!(simulated.contents().contains_key(&path.with_extension("bad")), cut < ends[0].0);
            }
        }
    }

    #[test]
    fn a_bit_that_turned_costs_one_append_and_is_told() {
        let (_, whole, path, ends) = written();
        for at in ends[0].0..whole.len() {
            let simulated = SimulatedDisk::default();
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            simulated.put(&path, &bytes);
            let (mut journal, found) = open(&(Arc::new(simulated.clone()) as Arc<dyn Disk>));
            let hit = ends.iter().position(|(end, _)| *end > at).unwrap();
            let mut expected = words(&["start", "more"]);
            for (index, append) in [&["a"][..], &["b", "c"], &["d"]].into_iter().enumerate() {
                if index + 1 != hit {
                    expected.extend(words(append));
                }
            }
            assert_eq!(found, expected, "bit at {at}");
            // The last append cannot be told from a torn one.
            assert_eq!(journal.damaged(), usize::from(hit < 3), "bit at {at}");
            journal.begin(found).unwrap();
            assert_eq!(simulated.contents().contains_key(&path.with_extension("bad")), hit < 3);
        }
    }

    #[test]
    fn what_a_newer_version_wrote_is_refused_and_not_touched() {
        let (simulated, disk) = disk();
        let (mut journal, _) = Journal::<String>::open(&disk, Path::new(DIR), 2).unwrap();
        journal.begin(words(&["new"])).unwrap();
        let before = simulated.contents();
        let refused = Journal::<String>::open(&disk, Path::new(DIR), 1).unwrap_err().to_string();
        assert!(refused.contains("1.jnl is of version 2, and this datapulse knows 1"), "{refused}");
        assert_eq!(simulated.contents(), before);
    }

    #[test]
    fn what_was_read_outlives_the_next_power_cut() {
        let (simulated, disk) = disk();
        let (mut journal, _) = open(&disk);
        journal.begin(words(&["start"])).unwrap();
        // Written, not synced, killed: the next process reads it.
        simulated.plan(1, Fault::End);
        journal.append(&words(&["a"])).unwrap_err();
        simulated.lose(Loss::Kill);
        let (_, found) = open(&disk);
        assert_eq!(found, words(&["start", "a"]));
        simulated.lose(Loss::All);
        assert_eq!(open(&disk).1, words(&["start", "a"]));
    }

    #[test]
    fn after_any_failed_step_nothing_is_appended_until_a_new_segment_begins() {
        for fault in [Fault::Fail, Fault::DoneButFailed] {
            for step in 0..2 {
                let (simulated, disk) = disk();
                let (mut journal, _) = open(&disk);
                journal.begin(words(&["start"])).unwrap();
                simulated.plan(step, fault);
                journal.append(&words(&["unknown"])).unwrap_err();
                assert!(!journal.is_ready());
                journal.append(&words(&["b"])).unwrap_err();
                journal.begin(words(&["start"])).unwrap();
                journal.append(&words(&["c"])).unwrap();
                simulated.lose(Loss::All);
                assert_eq!(open(&disk).1, words(&["start", "c"]), "{fault:?} at {step}");
                // Should the new segment be lost later, its header still says what the old one is worth.
                let newest = Path::new(DIR).join("2.jnl");
                let mut bytes = simulated.contents()[&newest].clone();
                bytes[HEADER + 9] ^= 1;
                simulated.put(&newest, &bytes);
                assert_eq!(open(&disk).1, words(&["start"]), "{fault:?} at {step}");
            }
        }
    }

    /// Every append that was confirmed is there, and of the one that was not, all or nothing.
    #[test]
    fn kill_and_power_cut_at_every_step_lose_nothing() {
        let mut runs = 0;
        for loss in [Loss::Kill, Loss::All, Loss::Half, Loss::Zeros] {
            for fault in [Fault::End, Fault::Fail, Fault::DoneButFailed] {
                for step in 0.. {
                    let (simulated, disk) = disk();
                    simulated.plan(step, fault);
                    let mut safe = Vec::new();
                    let mut unsure: Vec<String> = Vec::new();
                    for round in 0..3 {
                        let Ok((mut journal, found)) = Journal::<String>::open(&disk, Path::new(DIR), 1)
                        else {
                            break;
                        };
                        assert_eq!(
                            found,
                            safe,
                            "{loss:?} {fault:?} {step} {round} {:?}",
                            simulated.contents().keys()
                        );
                        for name in ["a", "b"] {
                            let name = format!("{name}{round}");
                            if !journal.is_ready() && journal.begin(safe.clone()).is_err() {
                                continue;
                            }
                            if journal.append(std::slice::from_ref(&name)).is_ok() {
                                safe.push(name);
                                unsure.clear();
                            } else {
                                unsure = vec![name];
                            }
                        }
                        if !unsure.is_empty() {
                            break;
                        }
                    }
                    let reached = !simulated.fault_is_ahead();
                    simulated.lose(loss);
                    let (mut journal, found) = open(&disk);
                    // Only a segment of its own saves a record whose sync failed: the cache has it, the disk never will.
                    journal.begin(found.clone()).unwrap();
                    simulated.lose(Loss::All);
                    assert_eq!(open(&disk).1, found);
                    let with_unsure = [safe.clone(), unsure].concat();
                    assert!(
                        found == safe || found == with_unsure,
                        "{loss:?} {fault:?} {step}: {found:?} {safe:?}"
                    );
                    runs += 1;
                    if !reached {
                        break;
                    }
                }
            }
        }
        assert!(runs > 200, "{runs}");
    }

    #[test]
    fn only_two_segments_stay_and_a_full_disk_recovers() {
        let (simulated, disk) = disk();
        let (mut journal, _) = open(&disk);
        for round in 0..5 {
            journal.begin(vec![round.to_string()]).unwrap();
        }
        let names = disk.names(Path::new(DIR)).unwrap();
        assert_eq!(names, ["4.jnl", "5.jnl"]);
        simulated.limit(Some(150));
        journal.append(&["x".repeat(200)]).unwrap_err();
        journal.begin(words(&["y"])).unwrap_err();
        assert_eq!(disk.names(Path::new(DIR)).unwrap(), ["4.jnl", "5.jnl"]);
        simulated.limit(None);
        journal.begin(words(&["y"])).unwrap();
        assert_eq!(open(&disk).1, words(&["y"]));
    }

    #[test]
    fn the_real_disk_does_the_same() {
        let dir = std::env::temp_dir().join(format!("datapulse-journal-{}", std::process::id()));
        let disk: Arc<dyn Disk> = Arc::new(disk::RealDisk);
        let (mut journal, _) = Journal::open(&disk, &dir, 1).unwrap();
        journal.begin(words(&["start"])).unwrap();
        journal.append(&words(&["a"])).unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(journal.path(1)).unwrap();
        std::io::Write::write_all(&mut file, b"\x05\0\0\0torn").unwrap();
        assert_eq!(Journal::<String>::open(&disk, &dir, 1).unwrap().1, words(&["start", "a"]));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
