//! The one place that writes: all files or none, and never over something that is there.

use super::File;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Names that a refusal tells; the rest is counted.
const MOST_NAMES: usize = 10;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Something is there.
    #[error("{dir} is not empty: {names}; choose another directory, or write over these files with --force", dir = dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// What is in it.
        names: String,
    },
    /// It is no directory.
    #[error("{} is a file; name a directory", .0.display())]
    NoDirectory(PathBuf),
    /// What was made has faults: a value that was given does not fit.
    #[error("a value that was given does not fit, nothing was written:\n{0}")]
    Faults(String),
    /// The disk.
    #[error("could not write {}: {error}; choose a directory that you may write to", path.display())]
    Io {
        /// What was written.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl Refusal {
    /// Whether another command line is the cure.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}

/// Writes the files into `dir`, which must not exist or be empty; with `force` over those of the same names, and nothing else is
/// touched. They are made beside their place and moved there when all of them are good.
pub fn write(
    dir: &Path,
    files: &[File],
    force: bool,
    check: impl Fn(&Path) -> Result<(), String>,
) -> Result<(), Refusal> {
    let there = names(dir)?;
    if let Some(there) = there.as_ref().filter(|there| !there.is_empty() && !force) {
        return Err(Refusal::NotEmpty { dir: dir.to_owned(), names: told(there) });
    }
    let draft = draft(dir, there.is_some());
    let made = fill(&draft, files).and_then(|()| check(&draft).map_err(Refusal::Faults));
    let moved =
        made.and_then(|()| if there.is_some() { merge(&draft, dir, files) } else { rename(&draft, dir) });
    if there.is_some() || moved.is_err() {
        // What was moved is not there any more, and what is left is of no use.
        drop(fs::remove_dir_all(&draft));
    }
    moved
}

/// What is in the directory, if there is one.
fn names(dir: &Path) -> Result<Option<Vec<String>>, Refusal> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(Refusal::NoDirectory(dir.to_owned()));
        }
        entries => entries.map_err(at(dir))?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<String>>>().map_err(at(dir))?;
    names.sort_unstable();
    Ok(Some(names))
}

fn told(names: &[String]) -> String {
    let mut text = names.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
    if let Some(more) = names.len().checked_sub(MOST_NAMES).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Where the files are made: within a directory that exists, which may be a mount point of its own, else beside it.
fn draft(dir: &Path, exists: bool) -> PathBuf {
    let name = format!(".datapulse-init-{}", std::process::id());
    if exists { dir.join(name) } else { dir.parent().unwrap_or(dir).join(name) }
}

fn fill(draft: &Path, files: &[File]) -> Result<(), Refusal> {
    for file in files {
        let path = draft.join(&file.path);
        let folder = path.parent().unwrap_or(draft);
        fs::create_dir_all(folder).map_err(at(folder))?;
        let mode = if file.path.ends_with(".sh") { 0o755 } else { 0o644 };
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        opened.and_then(|mut open| open.write_all(file.text.as_bytes())).map_err(at(&path))?;
    }
    Ok(())
}

fn rename(draft: &Path, dir: &Path) -> Result<(), Refusal> {
    fs::rename(draft, dir).map_err(at(dir))
}

/// Moves file by file: what else is in the directory stays, and so does the directory itself, in which a shell may be.
fn merge(draft: &Path, dir: &Path, files: &[File]) -> Result<(), Refusal> {
    for file in files {
        let path = dir.join(&file.path);
        let folder = path.parent().unwrap_or(dir);
        fs::create_dir_all(folder).map_err(at(folder))?;
        fs::rename(draft.join(&file.path), &path).map_err(at(&path))?;
    }
    Ok(())
}

fn at(path: &Path) -> impl Fn(io::Error) -> Refusal {
    let path = path.to_owned();
    move |error| Refusal::Io { path: path.clone(), error }
}
