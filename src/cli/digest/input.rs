//! A file or standard input, inflated when it is gzip.

use crate::net::gzip;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

/// Read at a time.
pub(super) const PIECE: usize = 256 * 1024;

/// A log that is open.
pub(super) struct Input {
    /// As it was given.
    pub(super) name: String,
    length: Option<u64>,
    reader: Box<dyn Read>,
    /// Bytes taken from the file, which are fewer than were given when it is packed.
    taken: Rc<Cell<u64>>,
}

/// Counts what goes through.
struct Counting<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.taken.set(self.taken.get() + length as u64);
        Ok(length)
    }
}

impl Input {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let taken = Rc::new(Cell::new(0));
        let (name, length, raw): (_, _, Box<dyn Read>) = if path == Path::new("-") {
            ("standard input".to_owned(), None, Box::new(io::stdin()))
        } else {
            let file = File::open(path)?;
            let about = file.metadata()?;
            if about.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let length = about.is_file().then_some(about.len());
            (path.display().to_string(), length, Box::new(file))
        };
        let counting = Counting { inner: raw, taken: Rc::clone(&taken) };
        let mut buffered = BufReader::with_capacity(PIECE, counting);
        let packed = buffered.fill_buf()?.starts_with(&gzip::MAGIC);
        let reader: Box<dyn Read> =
            if packed { Box::new(gzip::reader(buffered)) } else { Box::new(buffered) };
        Ok(Self { name, length, reader, taken })
    }

    /// Length of the file in bytes; `None` when only its end will tell.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Bytes taken from the file so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// Reads a piece; 0 at the end.
    pub(super) fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.reader.read(piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Fills a piece unless the end comes first.
    pub(super) fn fill(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        while let Some(room) = piece.get_mut(length..).filter(|room| !room.is_empty()) {
            match self.read(room)? {
                0 => break,
                more => length += more,
            }
        }
        Ok(length)
    }

    /// All that remains behind what was read already, together with it.
    pub(super) fn rest(&mut self, start: &[u8], most: usize) -> io::Result<Vec<u8>> {
        let mut body = start.to_vec();
        (&mut self.reader).take(most as u64).read_to_end(&mut body)?;
        if body.len() > most {
            return Err(io::Error::other(format!(
                "a payload of more than {most} bytes; give a file per delivery"
            )));
        }
        Ok(body)
    }
}
