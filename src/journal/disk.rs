//! The few things that durable code does to a disk, so that tests can cut the power of a simulated one.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A file system: the real one, or in tests one whose power can be cut.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file for writing at its end, makes it where it is missing, and says how many bytes it has.
    fn open(&self, path: &Path) -> io::Result<(Box<dyn OpenFile>, u64)>;
    /// The bytes of a file from an offset to its end; none when the offset lies behind the end.
    fn read(&self, path: &Path, from: u64) -> io::Result<Vec<u8>>;
    /// The bytes that a file has; `None` when there is no such file.
    fn length(&self, path: &Path) -> io::Result<Option<u64>>;
    /// The names of what is in a directory, sorted; names that are not UTF-8 are none of ours and left out.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory and all above it; it may be there already.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the entries of a directory (files made, renamed, removed) safe from a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file within its directory; a file that has the new name already is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file that is open for writing at its end.
pub trait OpenFile: Send + fmt::Debug {
    /// Writes all bytes at the end; after an error any part of them may be there.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written safe from a power cut. After an error the handle must not be used again: the kernel
    /// reports a failed write once, and a second call would succeed without the bytes.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file back to this many bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<(Box<dyn OpenFile>, u64)> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let length = file.metadata()?.len();
        Ok((Box::new(file), length))
    }

    fn read(&self, path: &Path, from: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn length(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// Makes a directory and all above it where they are missing, and makes their entries safe from a power cut. A directory
/// that is there may still be in the cache only, so all are synced.
///
/// # Errors
/// When it is not safely on the disk.
pub fn make_safe_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.make_dir(dir)?;
    for above in dir.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match disk.sync_dir(above) {
            // Whoever may not read it did not make an entry in it either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

impl OpenFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}
