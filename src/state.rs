//! What a check keeps over a restart, in `data_dir/checks/<name>.json`, and the lock that makes `data_dir` ours alone.

use crate::check::{Problem, Reason};
use crate::task;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};

/// A state is a last answer, and an answer has at most 100,000 rows.
const LARGEST_STATE: u64 = 64 * 1024 * 1024;
/// Root may write here too (`once --spend`): a link that the owner of the directory has put there must not lead it to other files.
const NO_LINK: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
/// File names longer than this are refused by file systems.
const LONGEST_NAME: usize = 200;

/// Where one check keeps its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    path: PathBuf,
    access: Access,
}

/// What a process may do with a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The service: the state is its own. It holds the lock of `data_dir`.
    Keeps,
    /// A single run beside the rhythm of the check: it adds what it spends, and changes nothing else. It holds the lock too.
    Adds,
    /// Another process may keep it: nothing is written.
    Looks,
}

/// The directory of all state, held by this process alone.
#[derive(Debug)]
pub struct DataDir {
    /// Locked as long as it is open.
    _lock: File,
}

impl DataDir {
    /// Makes the directory where it is missing, and locks it.
    ///
    /// # Errors
    /// In words: who holds it, or why it cannot be used; and what to do.
    pub fn claim(dir: &Path) -> Result<Self, (String, &'static str)> {
        let problem = |what: &str, error: &io::Error| {
            (
                format!("data_dir: could not {what} {}: {error}", dir.display()),
                "it has to be a directory that datapulse may write",
            )
        };
        let checks = dir.join("checks");
        fs::create_dir_all(&checks).map_err(|error| problem("make", &error))?;
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(NO_LINK)
            .open(&path)
            .map_err(|error| problem("open the lock of", &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let holder = match file.take(20).read_to_string(&mut holder) {
                    Ok(_) if !holder.trim().is_empty() => format!("process {}", holder.trim()),
                    _ => "another process".to_owned(),
                };
                return Err((
                    format!("data_dir: {} is in use by {holder}", dir.display()),
                    "stop it, or give this one a data_dir of its own",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(problem("lock", &error)),
        }
        let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        written.map_err(|error| problem("write to the lock of", &error))?;
        hand_over(&checks, dir);
        hand_over(&path, dir);
        Ok(Self { _lock: file })
    }
}

impl State {
    /// The state of the check of this name below a data directory.
    pub fn new(data_dir: &Path, check: &str, access: Access) -> Self {
        Self { path: data_dir.join("checks").join(file_name(check)), access }
    }

    /// What this process may do with it.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Reads it; `None` when there is none yet. What cannot be read is put aside as `.bad`, so that the check starts anew.
    ///
    /// # Errors
    /// `io` when the file is there and cannot be read or put aside, or is of a version above `newest`: such a one is not touched.
    pub async fn load<T: DeserializeOwned + Send + 'static>(
        &self,
        newest: u64,
    ) -> Result<Option<T>, Problem> {
        let (path, writable) = (self.path.clone(), self.access != Access::Looks);
        let read = task::blocking(move || load(&path, newest, writable)).await;
        read.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| self.problem("read", error))
    }

    /// Writes it so that after a power cut there is the old state or the new one.
    ///
    /// # Errors
    /// `io` when it is not safely on the disk.
    pub async fn save<T: Serialize>(&self, state: &T) -> Result<(), Problem> {
        if self.access == Access::Looks {
            return Ok(());
        }
        let text = serde_json::to_vec(state).map_err(|error| self.problem("write", error.into()))?;
        let path = self.path.clone();
        let written = task::blocking(move || save(&path, &text)).await;
        written
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| self.problem("write", error))
    }

    fn problem(&self, what: &str, error: io::Error) -> Problem {
        Problem::new(Reason::Io, format!("could not {what} {}", self.path.display()))
            .because(error)
            .hint("data_dir has to exist, be writable and have room")
    }
}

fn load<T: DeserializeOwned>(path: &Path, newest: u64, writable: bool) -> io::Result<Option<T>> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(LARGEST_STATE + 1).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let version = serde_json::from_slice::<Versioned>(&text).ok().map_or(0, |state| state.version);
    if version > newest {
        let message = format!(
            "it is of version {version}, and this datapulse knows {newest}; run the newer one, or move the file away"
        );
        return Err(io::Error::other(message));
    }
    match serde_json::from_slice(&text) {
        Ok(state) => Ok(Some(state)),
        Err(error) => {
            if writable {
                fs::rename(path, path.with_extension("bad"))?;
            }
            tracing::error!(path = %path.display(), %error, "state could not be read; the check starts without it");
            Ok(None)
        }
    }
}

/// What every state has.
#[derive(serde::Deserialize)]
struct Versioned {
    #[serde(default)]
    version: u64,
}

fn save(path: &Path, text: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let new = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).custom_flags(NO_LINK).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    hand_over(&new, dir);
    fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}

/// Gives what was made to the owner of the directory: `once --spend` by root must not lock the service out of its own files. Nobody
/// else may do so, and nobody else has to.
fn hand_over(path: &Path, dir: &Path) {
    let owner = |path: &Path| fs::symlink_metadata(path).map(|found| (found.uid(), found.gid()));
    if let (Ok(now), Ok((user, group))) = (owner(path), fs::metadata(dir).map(|dir| (dir.uid(), dir.gid())))
        && now != (user, group)
        && let Err(error) = lchown(path, Some(user), Some(group))
    {
        // The service of another account that may write here meets this at every write, and nothing is wrong.
        tracing::debug!(path = %path.display(), %error, "could not give it to the owner of its directory");
    }
}

/// A name that leads nowhere else: what is no letter, digit, `-` or `_` is written as its bytes in hexadecimal.
fn file_name(check: &str) -> String {
    let mut name = String::new();
    for byte in check.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    if name.len() > LONGEST_NAME {
        let hash = check.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        name = format!("{}-{hash:016x}", name.get(..LONGEST_NAME - 20).unwrap_or_default());
    }
    name + ".json"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("datapulse-state-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&dir));
        dir
    }

    #[test]
    fn no_name_of_a_check_leads_out_of_the_directory() {
        assert_eq!(file_name("devices_lake-2"), "devices_lake-2.json");
        assert_eq!(file_name("../a b"), "%2e%2e%2fa%20b.json");
        assert_eq!(file_name("ü"), "%c3%bc.json");
        let (long, longer) = ("x".repeat(500), "x".repeat(501));
        assert!(file_name(&long).len() < 255 && file_name(&long) != file_name(&longer));
    }

    #[test]
    fn a_second_process_is_told_who_holds_the_directory() {
        let dir = dir("lock");
        let first = DataDir::claim(&dir).unwrap();
        let refused = DataDir::claim(&dir).unwrap_err();
        assert!(refused.0.contains(&format!("in use by process {}", std::process::id())), "{refused:?}");
        drop(first);
        DataDir::claim(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }

    #[tokio::test]
    async fn a_link_in_the_directory_leads_to_no_other_file() {
        let dir = dir("link");
        let state = State::new(&dir, "a", Access::Keeps);
        state.save(&1).await.unwrap();
        let other = dir.join("other");
        fs::write(&other, "theirs").unwrap();
        for link in [state.path.with_extension("new"), dir.join("lock")] {
            std::os::unix::fs::symlink(&other, link).unwrap();
        }
        assert!(state.save(&2).await.is_err());
        let refused = DataDir::claim(&dir).unwrap_err();
        assert!(refused.0.contains("could not open the lock"), "{refused:?}");
        assert_eq!(fs::read_to_string(&other).unwrap(), "theirs");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[tokio::test]
    async fn the_state_of_a_newer_version_is_left_alone() {
        let dir = dir("newer");
        let state = State::new(&dir, "a", Access::Keeps);
        state.save(&serde_json::json!({ "version": 2, "more": {} })).await.unwrap();
        let refused = state.load::<Vec<String>>(1).await.unwrap_err();
        assert!(refused.to_string().contains("it is of version 2"), "{refused}");
        assert!(state.path.exists());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[tokio::test]
    async fn a_state_is_read_back_and_every_cut_of_it_starts_anew() {
        let dir = dir("cut");
        let state = State::new(&dir, "a", Access::Keeps);
        assert_eq!(state.load::<Vec<String>>(1).await.unwrap(), None);
        let kept = vec!["one".to_owned(), "two".to_owned()];
        state.save(&kept).await.unwrap();
        assert_eq!(state.load(1).await.unwrap(), Some(kept));
        let whole = fs::read(&state.path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&state.path, &whole[..cut]).unwrap();
            assert_eq!(state.load::<Vec<String>>(1).await.unwrap(), None, "cut at {cut}");
            assert!(state.path.with_extension("bad").exists());
        }
        fs::write(&state.path, &whole).unwrap();
        let looker = State::new(&dir, "a", Access::Looks);
        looker.save(&Vec::<String>::new()).await.unwrap();
        assert_eq!(
            looker.load::<Vec<String>>(1).await.unwrap().unwrap().len(),
            2,
            "who only looks writes nothing"
        );
        fs::remove_dir_all(&dir).unwrap();
    }
}
