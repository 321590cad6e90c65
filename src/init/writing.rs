//! The one place that writes: all files or none, and never over something that is there.

use super::File;
use std::fs;
use std::io::{self, Write};
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
    #[error("{} is a file, or below one; name a directory", .0.display())]
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
    let exists = allows(dir, force)?;
    let draft = draft(dir, exists);
    let made = fill(&draft, files).and_then(|()| check(&draft).map_err(Refusal::Faults));
    let moved = made.and_then(|()| if exists { merge(&draft, dir, files) } else { rename(&draft, dir) });
    if exists || moved.is_err() {
        // What was moved is not there any more, and what is left is of no use.
        drop(fs::remove_dir_all(&draft));
    }
    moved
}

/// Whether the directory is there; refuses one with something in it, unless `force` is given.
pub fn allows(dir: &Path, force: bool) -> Result<bool, Refusal> {
    match names(dir)? {
        Some(there) if !there.is_empty() && !force => {
            Err(Refusal::NotEmpty { dir: dir.to_owned(), names: told(&there) })
        }
        there => Ok(there.is_some()),
    }
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
        let opened = fs::OpenOptions::new().write(true).create_new(true).open(&path);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::parts::Stage;

    fn file(path: &str, text: &str) -> File {
        File::new(path, "", text)
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn all_files_are_there_or_none() {
        let stage = Stage::new(&std::env::temp_dir(), "datapulse-init").unwrap();
        let dir = stage.path().join("a/b");
        let files = [file("one", "1"), file("deep/two", "2")];
        let refused = write(&dir, &files, false, |draft| {
            assert_eq!(read(&draft.join("deep/two")), "2");
            Err("a fault".to_owned())
        });
        assert!(matches!(refused, Err(Refusal::Faults(why)) if why == "a fault"));
        assert_eq!(names(&stage.path().join("a")).unwrap(), Some(Vec::new()), "nothing is left");

        write(&dir, &files, false, |_| Ok(())).unwrap();
        assert_eq!(names(&stage.path().join("a")).unwrap().unwrap(), ["b"]);
        assert_eq!((read(&dir.join("one")), read(&dir.join("deep/two"))), ("1".to_owned(), "2".to_owned()));
    }

    #[test]
    fn what_is_there_stays_unless_it_has_the_same_name_and_force_is_given() {
        let stage = Stage::new(&std::env::temp_dir(), "datapulse-init").unwrap();
        let dir = stage.path().join("dir");
        fs::create_dir(&dir).unwrap();
        write(&dir, &[file("deep/one", "1")], false, |_| Ok(())).unwrap();
        fs::write(dir.join("environment"), "mine").unwrap();
        let files = [file("deep/one", "new"), file("two", "2")];
        let refused = write(&dir, &files, false, |_| Ok(())).unwrap_err();
        assert!(
            refused.is_usage() && refused.to_string().contains("is not empty: deep, environment; "),
            "{refused}"
        );
        assert_eq!(read(&dir.join("deep/one")), "1");

        write(&dir, &files, true, |_| Ok(())).unwrap();
        assert_eq!(names(&dir).unwrap().unwrap(), ["deep", "environment", "two"]);
        assert_eq!(
            (read(&dir.join("deep/one")), read(&dir.join("environment"))),
            ("new".to_owned(), "mine".to_owned())
        );
        let refused = write(&dir.join("two"), &files, true, |_| Ok(())).unwrap_err();
        assert!(matches!(refused, Refusal::NoDirectory(_)), "{refused}");
    }
}
