//! What could not be taken, kept in a file for people to read, up to a limit.

use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// All of the file; what comes later is only counted.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;
/// Of one thing so much is kept, in bytes: enough to see what it is.
const LONGEST_PIECE: usize = 64 * 1024;

/// The file, and how much was put there.
#[derive(Debug)]
pub struct Quarantine {
    path: PathBuf,
    kept: AtomicU64,
    counted: AtomicU64,
    /// One line at a time.
    writing: Mutex<()>,
}

/// One line of the file. It holds what came as it came, literals included: only its owner may read it.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    why: &'a str,
    log_group: Option<&'a str>,
    id: Option<&'a str>,
    bytes: usize,
    content: &'a str,
}

/// Where something came from, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// Its log group.
    pub log_group: Option<&'a str>,
    /// Its event id.
    pub id: Option<&'a str>,
}

impl Quarantine {
    /// A file in this directory, which is made when there is something to keep.
    pub fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("quarantine.jsonl"),
            kept: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            writing: Mutex::new(()),
        }
    }

    /// Keeps a thing unless the file is full, and syncs it. Blocks.
    ///
    /// # Errors
    /// When it should be kept and the disk refuses.
    pub fn put(&self, why: &str, origin: Origin<'_>, content: &[u8], now: jiff::Timestamp) -> io::Result<()> {
        self.counted.fetch_add(1, Ordering::Relaxed);
        let cut = content.get(..LONGEST_PIECE).unwrap_or(content);
        let text = String::from_utf8_lossy(cut);
        let time = now.to_string();
        let Origin { log_group, id } = origin;
        let line = Line { time, why, log_group, id, bytes: content.len(), content: &text };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        let _one = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        if file.metadata()?.len() + line.len() as u64 > LARGEST_FILE {
            return Ok(());
        }
        file.write_all(&line)?;
        file.sync_data()?;
        self.kept.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// How many things came here since the start, and how many of them are in the file.
    pub fn counts(&self) -> (u64, u64) {
        (self.counted.load(Ordering::Relaxed), self.kept.load(Ordering::Relaxed))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_a_limit_and_the_count_has_none() {
        let dir = std::env::temp_dir().join(format!("datapulse-quarantine-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let quarantine = Quarantine::new(&dir);
        let origin = Origin { log_group: Some("g"), id: Some("7") };
        let content = vec![b'x'; LONGEST_PIECE + 1];
        for _ in 0..300 {
            quarantine.put("no JSON", origin, &content, jiff::Timestamp::UNIX_EPOCH).unwrap();
        }
        let text = std::fs::read_to_string(quarantine.path()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(text.len() as u64 <= LARGEST_FILE);
        let (counted, kept) = quarantine.counts();
        assert_eq!((counted, kept), (300, text.lines().count() as u64));
        let start = r#"{"time":"1970-01-01T00:00:00Z","why":"no JSON","log_group":"g","id":"7","bytes":65537,"content":"xxx"#;
        assert!(text.starts_with(start));
    }
}
