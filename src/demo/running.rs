//! The mark of a running demo: at most one for each user and temporary directory, and where other processes find it.

use super::parts::{Error, Result, wait_for};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MARK: &str = "running";
/// Who only looks holds the lock for a moment.
const PATIENCE: Duration = Duration::from_millis(500);
/// A mark is a few lines.
const LARGEST_MARK: u64 = 4096;

/// Where a running demo is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its process.
    pub pid: u32,
    /// The port of its page on 127.0.0.1.
    pub page: u16,
    /// The exporter's page.
    pub exporter: String,
}

/// Who runs a demo here.
#[derive(Debug)]
pub enum Claim {
    /// Nobody did, and now this process does.
    Ours(Mark),
    /// Another process; its place is not known while it starts.
    Theirs(Option<Place>),
}

/// Ours while it lives. It is locked, so it cannot outlive its process.
#[derive(Debug)]
pub struct Mark {
    file: File,
    base: PathBuf,
}

/// The directory below which the demos of this user live.
pub fn base() -> Result<PathBuf> {
    Ok(std::env::temp_dir().join(format!("datapulse-demo-{}", ourselves()?)))
}

/// Makes `base` and claims it for this process.
pub fn claim(base: &Path) -> Result<Claim> {
    let what = || format!("use the directory {}", base.display());
    let claimed = wait_for(PATIENCE, || {
        match fs::DirBuilder::new().mode(0o711).create(base) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => check_owner(base)?,
            made => made.map_err(|source| Error::Io { what: what(), source })?,
        }
        // The account of PostgreSQL has to pass, whatever our umask is.
        let opened = fs::set_permissions(base, fs::Permissions::from_mode(0o711)).and_then(|()| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(base.join(MARK))
        });
        let file = match opened {
            // A demo that ends right now takes the directory with it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|source| Error::Io { what: what(), source })?,
        };
        match file.try_lock() {
            Ok(()) if is_at(&file, &base.join(MARK)) => {
                file.set_len(0).map_err(|source| Error::Io { what: what(), source })?;
                Ok(Some(Mark { file, base: base.to_owned() }))
            }
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(Error::Io { what: what(), source }),
        }
    })?;
    match claimed {
        Some(mark) => Ok(Claim::Ours(mark)),
        None => Ok(Claim::Theirs(read(&base.join(MARK)))),
    }
}

/// The demo that runs; `None` when there is none, `Some(None)` while it starts.
pub fn find(base: &Path) -> Result<Option<Option<Place>>> {
    let Ok(file) = File::open(base.join(MARK)) else { return Ok(None) };
    check_owner(base)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(read(&base.join(MARK)))),
        Err(TryLockError::Error(source)) => {
            Err(Error::Io { what: format!("look for a demo in {}", base.display()), source })
        }
    }
}

impl Mark {
    /// Tells other processes where we are.
    pub fn announce(&mut self, place: &Place) -> Result<()> {
        let text = serde_json::to_vec(place).unwrap_or_default();
        let what = format!("write {}", self.base.join(MARK).display());
        self.file.write_all(&text).map_err(|source| Error::Io { what, source })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // What cannot be removed, as a directory that holds more, is found and used again by the next demo.
        drop(fs::remove_file(self.base.join(MARK)));
        drop(fs::remove_dir(&self.base));
    }
}

fn read(mark: &Path) -> Option<Place> {
    let mut text = Vec::new();
    File::open(mark).ok()?.take(LARGEST_MARK).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Another user could have made a directory of this name, to have us write and trust what is in it.
fn check_owner(base: &Path) -> Result<()> {
    let what = format!("use the directory {}", base.display());
    let found = fs::symlink_metadata(base).map_err(|source| Error::Io { what: what.clone(), source })?;
    if found.is_dir() && found.uid() == ourselves()? {
        return Ok(());
    }
    let why = "it belongs to somebody else or is no directory; set TMPDIR to another place".to_owned();
    Err(Error::Refused { what, why })
}

fn ourselves() -> Result<u32> {
    let us = fs::metadata("/proc/self")
        .map_err(|source| Error::Io { what: "read /proc/self".to_owned(), source })?;
    Ok(us.uid())
}

/// Whether the open file is still the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let of = |found: fs::Metadata| (found.dev(), found.ino());
    file.metadata().ok().map(of) == fs::metadata(path).ok().map(of)
}

#[cfg(test)]
mod tests {
    use super::super::parts::Stage;
    use super::*;

    #[test]
    fn one_demo_runs_and_others_find_it_until_it_ends() {
        let stage = Stage::new(&std::env::temp_dir(), "datapulse-running").unwrap();
        let base = stage.path().join("demos");
        assert_eq!(find(&base).unwrap(), None);
        let Claim::Ours(mut mark) = claim(&base).unwrap() else { panic!("nobody else is here") };
        assert_eq!(find(&base).unwrap(), Some(None));
        assert!(matches!(claim(&base).unwrap(), Claim::Theirs(None)));
        let place = Place { pid: 7, page: 9894, exporter: "http://127.0.0.1:9893/".to_owned() };
        mark.announce(&place).unwrap();
        assert_eq!(find(&base).unwrap(), Some(Some(place.clone())));
        assert!(matches!(claim(&base).unwrap(), Claim::Theirs(Some(found)) if found == place));
        drop(mark);
        assert!(!base.exists());
        assert_eq!(find(&base).unwrap(), None);
    }

    #[test]
    fn the_mark_of_a_dead_demo_counts_for_nothing() {
        let stage = Stage::new(&std::env::temp_dir(), "datapulse-running").unwrap();
        let base = stage.path().join("demos");
        fs::create_dir(&base).unwrap();
        fs::write(base.join(MARK), r#"{"pid":1,"page":1,"exporter":""}"#).unwrap();
        assert_eq!(find(&base).unwrap(), None);
        let Claim::Ours(_mark) = claim(&base).unwrap() else { panic!("the other is dead") };
        assert_eq!(find(&base).unwrap(), Some(None));
    }

    #[test]
    fn a_foreign_base_is_refused() {
        let stage = Stage::new(&std::env::temp_dir(), "datapulse-running").unwrap();
        let base = stage.path().join("demos");
        std::os::unix::fs::symlink(stage.path(), &base).unwrap();
        assert!(claim(&base).unwrap_err().to_string().contains("belongs to somebody else"));
    }
}
