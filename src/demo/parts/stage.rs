//! Directories that live as long as the process that made them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::keeper::{Process, Signal, send};
use super::{Error, Result, wait_for};

/// Names the process that a directory belongs to: its id and its birth.
const MARKER: &str = "owner";
/// Keepers of a run that has just died need this long at most.
const LAST_BREATH: Duration = Duration::from_secs(8);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory of its own, removed on drop. Let it be dropped after the parts in it: declare it after them.
/// A panicking test leaves it for reading, and the next `sweep` takes it.
#[derive(Debug)]
pub struct Stage(PathBuf);

impl Stage {
    /// Makes `<base>/<name>-<process id>-<number>`; `base` is made when it is missing.
    pub fn new(base: &Path, name: &str) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{name}-{}-{number}", std::process::id()));
        let what = format!("make the directory {}", path.display());
        fs::create_dir_all(base).map_err(Error::io(&what))?;
        let path =
            fs::canonicalize(base).map_err(Error::io(&what))?.join(path.file_name().unwrap_or_default());
        fs::create_dir(&path).map_err(Error::io(&what))?;
        // The account of PostgreSQL has to pass, nobody has to list.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).map_err(Error::io(&what))?;
        let us = Process::read(std::process::id()).map_or(0, |process| process.born);
        let marker = format!("{} {us}\n", std::process::id());
        fs::write(path.join(MARKER), marker).map_err(Error::io(&what))?;
        Ok(Self(path))
    }

    /// The directory, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            remove(&self.0);
        }
    }
}

/// Removes what dead runs have left below `base`: their directories, and processes that still name them. Gives the count.
pub fn sweep(base: &Path) -> Result<usize> {
    let entries = match fs::read_dir(base) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(Error::io(format!("read the directory {}", base.display())))?,
    };
    let left: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_left(path)).collect();
    for path in &left {
        wait_for(LAST_BREATH, || Ok(users(path).is_empty().then_some(())))?;
        send(Signal::Kill, &users(path))?;
        remove(path);
    }
    Ok(left.len())
}

/// Whether the directory is one of ours and the process that made it is gone. Without a marker it is not ours.
fn is_left(path: &Path) -> bool {
    let Ok(marker) = fs::read_to_string(path.join(MARKER)) else { return false };
    let mut words = marker.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(born))) = (words.next(), words.next()) else { return false };
    let owner = u32::try_from(pid).ok().and_then(Process::read);
    !owner.is_some_and(|owner| owner.born == born && !owner.ended)
}

/// Processes with a path below `path` among their arguments; these names are never used twice.
fn users(path: &Path) -> Vec<u32> {
    let wanted = format!("{}/", path.display());
    let names_it = |process: &Process| {
        let arguments = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(&wanted)
    };
    let us = std::process::id();
    Process::all()
        .into_iter()
        .filter(|process| process.pid != us && names_it(process))
        .map(|p| p.pid)
        .collect()
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "could not remove a directory of the demo");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_dead_processes_are_swept() {
        let stage = Stage::new(&std::env::temp_dir(), "datapulse-sweep").unwrap();
        let base = stage.path();
        let mine = Stage::new(base, "mine").unwrap();
        let reborn = format!("{} 1\n", std::process::id());
        for (name, marker) in [("dead", "4194305 77\n"), ("reborn", reborn.as_str()), ("odd", "words\n")] {
            fs::create_dir(base.join(name)).unwrap();
            fs::write(base.join(name).join(MARKER), marker).unwrap();
        }
        fs::create_dir(base.join("foreign")).unwrap();
        assert_eq!(sweep(base).unwrap(), 2);
        assert!(mine.path().exists() && base.join("foreign").exists() && base.join("odd").exists());
        assert!(!base.join("dead").exists() && !base.join("reborn").exists());
    }
}
