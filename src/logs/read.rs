//! Reads the statements out of a log, piece by piece, in memory that depends on the longest entry only.

use digest::postgres::{self, Prefix};
use digest::{Dialect, End, Event, mysql_slow};

/// How a log is written.
#[derive(Clone, Debug)]
pub enum Format {
    /// The slow query log of MySQL, `MariaDB`, Percona Server and Aurora.
    MySqlSlow,
    /// The server log of `PostgreSQL`.
    Postgres(postgres::Format),
}

impl Format {
    /// The `PostgreSQL` log on standard error as RDS and Aurora write it.
    pub fn postgres_on_rds() -> Self {
        Self::Postgres(postgres::Format::Stderr(Prefix::rds()))
    }

    /// Whose SQL the statements are.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::MySqlSlow => Dialect::MySql,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }
}

/// What was read so far. Every byte is in an entry or skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Statements.
    pub events: u64,
    /// Bytes that are part of no entry.
    pub skipped_bytes: u64,
}

/// A log that is being read.
#[derive(Debug)]
pub struct Reading {
    format: Format,
    session: mysql_slow::Session,
    /// From the first byte that is in no entry yet.
    pending: Vec<u8>,
    /// So many bytes have to be pending before it is worth looking again: else a long entry is scanned anew for every piece of it.
    enough: usize,
    counts: Counts,
}

impl Reading {
    /// A log from its beginning, or from any place within.
    pub fn new(format: Format) -> Self {
        let session = mysql_slow::Session::default();
        Self { format, session, pending: Vec::new(), enough: 0, counts: Counts::default() }
    }

    /// Takes the next piece and hands on each statement that is complete. Where pieces are cut makes no difference.
    pub fn push(&mut self, piece: &[u8], each: &mut dyn FnMut(&Event<'_>)) {
        self.pending.extend_from_slice(piece);
        if self.pending.len() >= self.enough {
            self.read(End::OfPiece, each);
            self.enough = self.pending.len() + self.pending.len() / 2;
        }
    }

    /// Takes the end of the log.
    pub fn finish(mut self, each: &mut dyn FnMut(&Event<'_>)) -> Counts {
        self.read(End::OfInput, each);
        self.counts
    }

    fn read(&mut self, end: End, each: &mut dyn FnMut(&Event<'_>)) {
        let mut start = 0;
        while let Some(rest) = self.pending.get(start..).filter(|rest| !rest.is_empty()) {
            let done = match &self.format {
                Format::MySqlSlow => slow_query(rest, end, &mut self.session, &mut self.counts, each),
                Format::Postgres(format) => message(rest, end, format, &mut self.counts, each),
            };
            match done {
                Some(used) => start += used,
                None => break,
            }
        }
        self.pending.drain(..start);
    }
}

/// Reads the first entry; gives its length, or nothing when more bytes are needed.
fn slow_query(
    rest: &[u8],
    end: End,
    session: &mut mysql_slow::Session,
    counts: &mut Counts,
    each: &mut dyn FnMut(&Event<'_>),
) -> Option<usize> {
    match mysql_slow::next_entry(rest, end, session) {
        mysql_slow::Step::Event { event, used } => {
            counts.events += 1;
            each(&event);
            Some(used)
        }
        mysql_slow::Step::Skip(bytes) => {
            counts.skipped_bytes += bytes as u64;
            Some(bytes)
        }
        mysql_slow::Step::NeedMore => None,
    }
}

fn message(
    rest: &[u8],
    end: End,
    format: &postgres::Format,
    counts: &mut Counts,
    each: &mut dyn FnMut(&Event<'_>),
) -> Option<usize> {
    match postgres::next_message(rest, end, format) {
        postgres::Step::Message { message, used } => {
            if let Some(event) = message.event() {
                counts.events += 1;
                each(&event);
            }
            Some(used)
        }
        // What stands behind the message of another process is no statement with a duration.
        postgres::Step::Rest { used, .. } => Some(used),
        postgres::Step::Skip(bytes) => {
            counts.skipped_bytes += bytes as u64;
            Some(bytes)
        }
        postgres::Step::NeedMore => None,
    }
}
