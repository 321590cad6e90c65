//! A disk for tests: what is not synced vanishes when the power is cut, and any step can fail or be the last.

use super::disk::{Disk, OpenFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is to happen at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process ends in the middle of it: nothing works from here on.
    End,
    /// It fails: half is written, a failed sync drops what was to be synced.
    Fail,
    /// It is done and reported as failed.
    DoneButFailed,
}

/// What becomes of unsynced bytes and names when the process is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Kill -9: the cache outlives the process, and may be lost later.
    Kill,
    /// Power cut: none of them arrived.
    All,
    /// Power cut: the names arrived, and half of the bytes.
    Half,
    /// Power cut: names and lengths arrived, the bytes are zeros.
    Zeros,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<Bytes>,
    names: BTreeMap<PathBuf, usize>,
    safe_names: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
    safe_dirs: BTreeSet<PathBuf>,
    steps: u64,
    fault: Option<(u64, Fault)>,
    ended: bool,
    /// Bytes that all files together may have.
    room: Option<usize>,
}

#[derive(Clone, Debug, Default)]
struct Bytes {
    cache: Vec<u8>,
    safe: Vec<u8>,
    /// From here on a failed sync dropped the bytes: the cache has them, and no later sync writes them.
    dropped: Option<(usize, usize)>,
}

impl SimulatedDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At the step with this number (from now on, the first is 0) this happens.
    pub(crate) fn plan(&self, step: u64, fault: Fault) {
        let mut state = self.state();
        let step = state.steps + step;
        state.fault = Some((step, fault));
    }

    /// Whether the planned fault lies still ahead.
    pub(crate) fn fault_is_ahead(&self) -> bool {
        self.state().fault.is_some()
    }

    /// Whether the process is gone, so that [`SimulatedDisk::lose`] has to follow.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// How many bytes all files together may have.
    pub(crate) fn limit(&self, room: Option<usize>) {
        self.state().room = room;
    }

    /// The process is gone; the next one finds what this loss leaves.
    pub(crate) fn lose(&self, loss: Loss) {
        let mut state = self.state();
        state.ended = false;
        state.fault = None;
        if loss == Loss::Kill {
            return;
        }
        if loss == Loss::All {
            state.names = state.safe_names.clone();
            let safe = state.safe_dirs.clone();
            // What is in a directory that vanished vanishes with it.
            let all_above =
                |path: &Path| path.ancestors().skip(1).all(|dir| is_root(dir) || safe.contains(dir));
            state.names.retain(|path, _| all_above(path));
            state.dirs = safe.iter().filter(|dir| all_above(dir)).cloned().collect();
        }
        for file in &mut state.files {
            let mut kept = file.safe.clone();
            if file.cache.len() > kept.len() && file.cache.starts_with(&kept) {
                let more = file.cache.len() - kept.len();
                match loss {
                    Loss::Kill | Loss::All => {}
                    Loss::Half => kept.extend_from_slice(&file.cache[kept.len()..kept.len() + more / 2]),
                    Loss::Zeros => kept.resize(file.cache.len(), 0),
                }
            }
            *file = Bytes { cache: kept.clone(), safe: kept, dropped: None };
        }
        state.safe_names = state.names.clone();
        state.safe_dirs = state.dirs.clone();
    }

    /// All files and what is in them.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        state.names.iter().map(|(path, file)| (path.clone(), state.files[*file].cache.clone())).collect()
    }

    /// Puts a file there, synced.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        for dir in path.ancestors().skip(1).filter(|dir| !is_root(dir)) {
            state.dirs.insert(dir.to_owned());
            state.safe_dirs.insert(dir.to_owned());
        }
        let file = state.files.len();
        state.files.push(Bytes { cache: bytes.to_vec(), safe: bytes.to_vec(), dropped: None });
        state.names.insert(path.to_owned(), file);
        state.safe_names.insert(path.to_owned(), file);
    }
}

fn is_root(dir: &Path) -> bool {
    dir.parent().is_none()
}

impl State {
    /// Counts a step and says what happens at it.
    fn step(&mut self) -> io::Result<Option<Fault>> {
        if self.ended {
            return Err(io::Error::other("the process has ended"));
        }
        let step = self.steps;
        self.steps += 1;
        match self.fault {
            Some((at, fault)) if at == step => {
                self.fault = None;
                self.ended = fault == Fault::End;
                Ok(Some(fault))
            }
            _ => Ok(None),
        }
    }

    /// A step that happens or not.
    fn whole(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        match self.step()? {
            None => work(self),
            Some(Fault::DoneButFailed) => {
                work(self)?;
                Err(planned())
            }
            Some(Fault::End | Fault::Fail) => Err(planned()),
        }
    }
}

fn planned() -> io::Error {
    io::Error::other("planned fault")
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path) -> io::Result<(Box<dyn OpenFile>, u64)> {
        let mut state = self.state();
        if !path.parent().is_some_and(|dir| is_root(dir) || state.dirs.contains(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if !state.names.contains_key(path) {
            state.whole(|state| {
                state.names.insert(path.to_owned(), state.files.len());
                state.files.push(Bytes::default());
                Ok(())
            })?;
        } else if state.ended {
            return Err(planned());
        }
        let file = state.names[path];
        let length = state.files[file].cache.len() as u64;
        Ok((Box::new(SimulatedFile { disk: self.clone(), file }), length))
    }

    fn read(&self, path: &Path, from: u64) -> io::Result<Vec<u8>> {
        let state = self.state();
        let file = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.files[*file].cache.iter().skip(usize::try_from(from).unwrap()).copied().collect())
    }

    fn length(&self, path: &Path) -> io::Result<Option<u64>> {
        let state = self.state();
        Ok(state.names.get(path).map(|file| state.files[*file].cache.len() as u64))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let found = state.names.keys().chain(&state.dirs).filter(|path| path.parent() == Some(dir));
        let mut names: Vec<_> =
            found.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.dirs.contains(dir) {
            return Ok(());
        }
        state.whole(|state| {
            state.dirs.extend(dir.ancestors().filter(|dir| !is_root(dir)).map(Path::to_owned));
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !is_root(dir) && !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.whole(|state| {
            state.safe_names.retain(|path, _| path.parent() != Some(dir));
            let names: Vec<_> = state.names.iter().filter(|(path, _)| path.parent() == Some(dir)).collect();
            let names: Vec<_> = names.into_iter().map(|(path, file)| (path.clone(), *file)).collect();
            state.safe_names.extend(names);
            let dirs: Vec<_> = state.dirs.iter().filter(|path| path.parent() == Some(dir)).cloned().collect();
            state.safe_dirs.extend(dirs);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().whole(|state| {
            let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state()
            .whole(|state| state.names.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into()))
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
}

impl OpenFile for SimulatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.step()?;
        let used: usize = state.files.iter().map(|file| file.cache.len()).sum();
        let room = state.room.map_or(usize::MAX, |room| room.saturating_sub(used));
        let written = match fault {
            None | Some(Fault::DoneButFailed) => bytes.len(),
            Some(Fault::End | Fault::Fail) => bytes.len() / 2,
        };
        let written = written.min(room);
        state.files[self.file].cache.extend_from_slice(&bytes[..written]);
        if fault.is_none() && written == bytes.len() { Ok(()) } else { Err(planned()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.step()?;
        let file = &mut state.files[self.file];
        match fault {
            None | Some(Fault::DoneButFailed) => {
                file.safe = file.cache.clone();
                if let Some((from, to)) = file.dropped {
                    file.safe[from..to].fill(0);
                }
            }
            Some(Fault::Fail) => {
                let from = file.safe.len().min(file.cache.len());
                if from < file.cache.len() {
                    file.dropped = Some((from, file.cache.len()));
                }
            }
            Some(Fault::End) => {}
        }
        if fault.is_none() { Ok(()) } else { Err(planned()) }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap();
        self.disk.state().whole(|state| {
            let file = &mut state.files[self.file];
            file.cache.resize(length, 0);
            file.dropped =
                file.dropped.map(|(from, to)| (from, to.min(length))).filter(|(from, to)| from < to);
            Ok(())
        })
    }
}
