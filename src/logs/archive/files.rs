//! The files of all archives: their committed lengths, the few that are open, and how a day is sealed.

use super::{Archive, DEEPEST_FOLDER, folder};
use crate::journal::disk::{Disk, OpenFile, make_safe_dir};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files kept open. A process may have 1,024, and doors and checks need theirs.
const MOST_OPEN: usize = 64;
/// How much of a file is read at first to find its last line break.
const TAIL: u64 = 64 * 1024;

/// A file as the ledger remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    pub(crate) path: String,
    /// The directory of its archive.
    pub(crate) dir: String,
    pub(crate) log_group: Arc<str>,
    pub(crate) day: Date,
    /// Whether it is the file of what came after its day was sealed.
    pub(crate) late: bool,
    /// Bytes that count; what is behind them was never confirmed.
    pub(crate) length: u64,
}

#[derive(Debug)]
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    known: BTreeMap<String, Known>,
    open: BTreeMap<String, Open>,
    /// Rises with every use of an open file.
    uses: u64,
}

#[derive(Debug)]
struct Known {
    record: FileRecord,
    /// When it was last committed to, in milliseconds since 1970.
    touched_ms: i64,
    /// Whether the file may have more bytes than count.
    has_tail: bool,
    /// Whether its name is safe from a power cut.
    named: bool,
    /// Whether its renaming has begun.
    sealing: bool,
}

#[derive(Debug)]
struct Open {
    file: Box<dyn OpenFile>,
    used: u64,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, known: BTreeMap::new(), open: BTreeMap::new(), uses: 0 }
    }

    /// Takes a file into account, before its first line is written.
    pub(crate) fn know(&mut self, record: FileRecord, now_ms: i64) {
        let known = Known { touched_ms: now_ms, has_tail: true, named: false, sealing: false, record };
        self.known.insert(known.record.path.clone(), known);
    }

    pub(crate) fn forget(&mut self, path: &str) {
        self.known.remove(path);
        self.open.remove(path);
    }

    /// More of a file counts from now on.
    pub(crate) fn commit(&mut self, path: &str, length: u64, now_ms: i64) {
        if let Some(known) = self.known.get_mut(path) {
            known.record.length = length;
            known.touched_ms = now_ms;
            known.has_tail = false;
        }
    }

    /// The files for the next checkpoint. Late files that nothing was written to since then are left out: they are known
    /// by their own length when another line comes.
    pub(crate) fn records(&mut self, late_since_ms: i64) -> Vec<FileRecord> {
        let gone: Vec<String> =
            self.known.values().filter(|known| known.is_idle(late_since_ms)).map(Known::path).collect();
        for path in gone {
            self.forget(&path);
        }
        self.known.values().map(|known| known.record.clone()).collect()
    }

    /// The record of the file for a day of a log group, and whether the ledger has to hear of it first.
    ///
    /// # Errors
    /// When the directory cannot be looked at.
    pub(crate) fn place(
        &mut self,
        archive: &Archive,
        log_group: &Arc<str>,
        day: Date,
        now: Timestamp,
    ) -> io::Result<(FileRecord, bool)> {
        let dir =
            archive.dir.to_str().ok_or_else(|| io::Error::other("the path of an archive is not UTF-8"))?;
        let folder = folder(log_group);
        let path = |kind: &str| format!("{dir}/{folder}/{day}.{kind}");
        let (open, late, sealed) = (path("open"), path("late.log"), path("log"));
        if self.known.get(&open).is_some_and(|known| known.sealing) {
            self.seal(&open)?;
            self.forget(&open);
        }
        for path in [&open, &late] {
            if let Some(known) = self.known.get(path) {
                return Ok((known.record.clone(), false));
            }
        }
        let is_open = self.disk.length(Path::new(&open))?.is_some();
        let is_late =
            !is_open && (self.disk.length(Path::new(&sealed))?.is_some() || archive.is_over(day, now));
        let path = if is_late { late } else { open };
        // Nothing is written to a file that the ledger does not know. If there is one, the ledger was lost or has
        // forgotten a late file: all its whole lines count.
        let length = self.whole_lines(Path::new(&path))?;
        let log_group = Arc::clone(log_group);
        Ok((FileRecord { path, dir: dir.to_owned(), log_group, day, late: is_late, length }, true))
    }

    /// Appends lines to a known file and syncs it, its name too. They count from [`Files::commit`] on, and are cut off
    /// again when that does not follow.
    ///
    /// # Errors
    /// When they are not safely on the disk.
    pub(crate) fn write(&mut self, path: &str, lines: &[u8]) -> io::Result<()> {
        let Some(known) = self.known.get_mut(path) else {
            return Err(io::Error::other("the ledger does not know the file"));
        };
        let kept = self.open.remove(path).filter(|_| !known.has_tail);
        let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
        let mut file = if let Some(open) = kept {
            open.file
        } else {
            if !known.named {
                make_safe_dir(self.disk.as_ref(), parent)?;
            }
            let (mut file, length) = self.disk.open(Path::new(path))?;
            if length > known.record.length {
                file.cut(known.record.length)?;
            } else if length < known.record.length {
                tracing::error!(
                    path,
                    length,
                    committed = known.record.length,
                    "an archive file has lost bytes"
                );
                known.record.length = length;
            }
            file
        };
        known.has_tail = true;
        file.write(lines)?;
        file.sync()?;
        if !known.named {
            self.disk.sync_dir(parent)?;
            known.named = true;
        }
        self.uses += 1;
        self.open.insert(path.to_owned(), Open { file, used: self.uses });
        if self.open.len() > MOST_OPEN
            && let Some(idle) =
                self.open.iter().min_by_key(|(_, open)| open.used).map(|(path, _)| path.clone())
        {
            self.open.remove(&idle);
        }
        Ok(())
    }

    /// How many bytes of a known file count.
    pub(crate) fn length(&self, path: &str) -> u64 {
        self.known.get(path).map_or(0, |known| known.record.length)
    }

    /// How many files are open.
    #[cfg(test)]
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Cuts off what does not count. What fails here is done before the next line or the sealing.
    ///
    /// # Errors
    /// When the bytes are there still.
    pub(crate) fn cut_back(&mut self, path: &str) -> io::Result<()> {
        self.open.remove(path);
        let Some(known) = self.known.get_mut(path).filter(|known| known.has_tail) else { return Ok(()) };
        // Only a file that is there has a tail; one that has not come to be is not made for this.
        if self.disk.length(Path::new(path))?.is_some_and(|length| length > known.record.length) {
            let (mut file, _) = self.disk.open(Path::new(path))?;
            file.cut(known.record.length)?;
            file.sync()?;
        }
        known.has_tail = false;
        Ok(())
    }

    /// The open files whose day is over.
    pub(crate) fn due(&self, archives: &[Archive], now: Timestamp) -> Vec<FileRecord> {
        let is_due = |record: &&FileRecord| {
            let archive = archives.iter().find(|archive| archive.dir.to_str() == Some(&record.dir));
            !record.late && archive.is_some_and(|archive| archive.is_over(record.day, now))
        };
        self.known.values().map(|known| &known.record).filter(is_due).cloned().collect()
    }

    /// Gives an open file its final name; one that no line counts in is removed. Can be repeated after a failure. The
    /// ledger has to hear of it, then it can be forgotten.
    ///
    /// # Errors
    /// When it is not safely sealed.
    pub(crate) fn seal(&mut self, path: &str) -> io::Result<()> {
        self.open.remove(path);
        let Some(known) = self.known.get_mut(path) else { return Ok(()) };
        let (open, sealed) = (Path::new(path), Path::new(path).with_extension("log"));
        let parent = open.parent().unwrap_or(Path::new("/"));
        let Some(length) = self.disk.length(open)? else {
            if known.sealing || self.disk.length(&sealed)?.is_some() {
                return self.disk.sync_dir(parent);
            }
            if known.record.length > 0 {
                tracing::error!(path, bytes = known.record.length, "an archive file is gone");
            }
            return Ok(());
        };
        if self.disk.length(&sealed)?.is_some() {
            tracing::error!(path, "the day was sealed before by someone else; the file is left as it is");
            return Ok(());
        }
        if known.record.length == 0 {
            self.disk.remove(open)?;
            return self.disk.sync_dir(parent);
        }
        let (mut file, _) = self.disk.open(open)?;
        if length > known.record.length {
            file.cut(known.record.length)?;
        }
        file.sync()?;
        known.sealing = true;
        self.disk.rename(open, &sealed)?;
        self.disk.sync_dir(parent)
    }

    /// After a start: cuts every file of these archives back to what counts and drops those that are sealed already.
    /// Of a ledger that is `damaged` or missing the lengths cannot be relied on: then all whole lines count, because no
    /// line that was confirmed may go, and files that it does not know are looked for.
    ///
    /// # Errors
    /// When a directory cannot be looked at.
    pub(crate) fn recover(&mut self, archives: &[Archive], damaged: bool, now_ms: i64) -> io::Result<()> {
        let dirs: BTreeSet<&str> = archives.iter().filter_map(|archive| archive.dir.to_str()).collect();
        let records: Vec<FileRecord> = self.known.values().map(|known| known.record.clone()).collect();
        for mut record in records.into_iter().filter(|record| dirs.contains(record.dir.as_str())) {
            let path = Path::new(&record.path);
            let Some(length) = self.disk.length(path)? else {
                let sealed = !record.late && self.disk.length(&path.with_extension("log"))?.is_some();
                if sealed {
                    self.disk.sync_dir(path.parent().unwrap_or(Path::new("/")))?;
                } else if record.length > 0 {
                    tracing::error!(path = record.path, bytes = record.length, "an archive file is gone");
                }
                self.forget(&record.path);
                continue;
            };
            if damaged || length < record.length {
                let whole = self.whole_lines(path)?;
                if whole != record.length {
                    let committed = record.length;
                    tracing::error!(
                        path = record.path,
                        committed,
                        whole,
                        "an archive file and the ledger disagree"
                    );
                }
                record.length = whole;
                self.know(record.clone(), now_ms);
            }
            if let Some(known) = self.known.get_mut(&record.path) {
                known.has_tail = true;
            }
            if let Err(error) = self.cut_back(&record.path) {
                tracing::warn!(path = record.path, %error, "an archive file could not be cut back yet");
            }
        }
        if damaged {
            for dir in dirs {
                self.find_strays(dir, now_ms)?;
            }
        }
        Ok(())
    }

    /// Open files that the ledger does not know: they have to be sealed one day.
    fn find_strays(&mut self, dir: &str, now_ms: i64) -> io::Result<()> {
        let mut folders = vec![(String::new(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let names = match self.disk.names(&Path::new(dir).join(&folder)) {
                Ok(names) => names,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => continue,
                Err(error) => return Err(error),
            };
            for name in names {
                let inside = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                let path = format!("{dir}/{inside}");
                let Some(day) = name.strip_suffix(".open") else {
                    if !is_sealed(&name) && !name.starts_with('.') && depth < DEEPEST_FOLDER {
                        folders.push((inside, depth + 1));
                    }
                    continue;
                };
                let Ok(day) = day.parse::<Date>() else { continue };
                if !self.known.contains_key(&path) {
                    let length = self.whole_lines(Path::new(&path))?;
                    let (dir, log_group) = (dir.to_owned(), folder.as_str().into());
                    self.know(FileRecord { path, dir, log_group, day, late: false, length }, now_ms);
                }
            }
        }
        Ok(())
    }

    /// The bytes of a file up to its last line break; 0 when there is no such file.
    fn whole_lines(&self, path: &Path) -> io::Result<u64> {
        let Some(length) = self.disk.length(path)? else { return Ok(0) };
        let mut tail = TAIL;
        loop {
            let from = length.saturating_sub(tail);
            let bytes = self.disk.read(path, from)?;
            if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
                return Ok(from + at as u64 + 1);
            }
            if from == 0 {
                return Ok(0);
            }
            tail *= 4;
        }
    }
}

impl Known {
    fn is_idle(&self, late_since_ms: i64) -> bool {
        self.record.late && !self.has_tail && self.touched_ms < late_since_ms
    }

    fn path(&self) -> String {
        self.record.path.clone()
    }
}

fn is_sealed(name: &str) -> bool {
    PathBuf::from(name).extension().is_some_and(|extension| extension == "log")
}
