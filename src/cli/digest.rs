//! `datapulse digest`: reads logs and prints the statements that take the most time.

mod input;
mod progress;
mod report;

use super::{Digest, DigestFormat, DigestOutput, FAILED, USAGE, complain};
use crate::logs::decode::decode;
use crate::logs::read::{Counts, Format, Reading};
use crate::logs::sniff::{Sniffed, sniff};
use digest::payload::{Data, Payload};
use digest::postgres::{self, Prefix};
use digest::tally::Tally;
use digest::{Dialect, Event};
use input::{Input, PIECE};
use progress::Progress;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// Statements kept apart; what comes later is summed as one. With their texts they fit into 40 MB.
const MOST_STATEMENTS: usize = 10_000;
/// A subscription payload is at most 1 MB packed, and inflates to a few; this is far above.
const LARGEST_PAYLOAD: usize = 64 * 1024 * 1024;

/// Reads the logs and prints.
pub fn run(flags: &Digest) -> ExitCode {
    let stdout = BufWriter::with_capacity(256 * 1024, io::stdout().lock());
    let printed = match read_all(flags, stdout) {
        Ok(printed) => printed,
        Err(End::Usage(words)) => {
            complain(words);
            return ExitCode::from(USAGE);
        }
        Err(End::Failed(words)) => {
            complain(words);
            return ExitCode::from(FAILED);
        }
    };
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format!("could not write: {error}"));
            ExitCode::from(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Why nothing is printed.
enum End {
    Usage(String),
    Failed(String),
}

/// What all files give.
struct Found<W: Write> {
    tally: Tally,
    counts: Counts,
    /// First and last time of an event, in microseconds.
    span: Option<(i64, i64)>,
    /// Where events go as they are read, instead of the tally.
    events: Option<W>,
    written: io::Result<()>,
}

fn read_all(flags: &Digest, stdout: impl Write) -> Result<io::Result<()>, End> {
    let prefix = match &flags.log_line_prefix {
        None => Prefix::rds(),
        Some(text) => {
            Prefix::parse(text).map_err(|error| End::Usage(format!("--log-line-prefix: {error}")))?
        }
    };
    let (mut stdout, events) = match flags.output {
        DigestOutput::Events => (None, Some(stdout)),
        DigestOutput::Table | DigestOutput::Json => (Some(stdout), None),
    };
    let tally = Tally::new(MOST_STATEMENTS, flags.raw);
    let mut found = Found { tally, counts: Counts::default(), span: None, events, written: Ok(()) };
    let mut inputs = Vec::new();
    // A name that is wrong is said before an hour of reading, not after it.
    for file in &flags.files {
        inputs.push(Input::open(file).map_err(|error| End::Usage(format!("{}: {error}", file.display())))?);
    }
    let mut progress = Progress::new(inputs.iter().map(Input::length).sum::<Option<u64>>());
    for input in inputs {
        let name = input.name.clone();
        let failed = |error: io::Error| End::Failed(format!("{name}: {error}"));
        read_one(input, flags.format, &prefix, &mut found, &mut progress).map_err(|error| match error {
            Unreadable::Io(error) => failed(error),
            Unreadable::Format => End::Usage(format!(
                "{name}: this looks like no log that is known; say --format mysql, postgres-stderr, postgres-csv, \
                 postgres-json or cloudwatch"
            )),
            Unreadable::Payload(error) => End::Failed(format!("{name}: {error}")),
        })?;
        if found.written.is_err() {
            break;
        }
    }
    progress.end();
    if found.counts.events == 0 {
        complain(format!("no statement in {} bytes", found.counts.skipped_bytes));
    }
    let flushed = found.events.as_mut().map_or(Ok(()), Write::flush);
    let written = std::mem::replace(&mut found.written, Ok(())).and(flushed);
    let Some(stdout) = stdout.as_mut() else { return Ok(written) };
    let text = match flags.output {
        DigestOutput::Json => report::json(&found.tally, found.counts, flags.limit),
        DigestOutput::Table | DigestOutput::Events => report::table(&found, progress.bytes(), flags.limit),
    };
    Ok(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

enum Unreadable {
    Io(io::Error),
    Format,
    Payload(crate::logs::decode::DecodeError),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn read_one<W: Write>(
    mut input: Input,
    format: DigestFormat,
    prefix: &Prefix,
    found: &mut Found<W>,
    progress: &mut Progress,
) -> Result<(), Unreadable> {
    let mut piece = vec![0; PIECE];
    // The first piece is filled as far as it goes: it has to be enough to tell the format.
    let mut length = input.fill(&mut piece)?;
    let stderr = || Format::Postgres(postgres::Format::Stderr(prefix.clone()));
    let start = piece.get(..length).unwrap_or_default();
    let kind = match format {
        DigestFormat::Auto if length == 0 => return Ok(()),
        DigestFormat::Auto => sniff(start),
        DigestFormat::Mysql => Sniffed::Log(Format::MySqlSlow),
        DigestFormat::PostgresStderr => Sniffed::Log(Format::postgres_on_rds()),
        DigestFormat::PostgresCsv => Sniffed::Log(Format::Postgres(postgres::Format::Csv)),
        DigestFormat::PostgresJson => Sniffed::Log(Format::Postgres(postgres::Format::Json)),
        DigestFormat::Cloudwatch => Sniffed::CloudWatch,
    };
    let format = match kind {
        Sniffed::Log(Format::Postgres(postgres::Format::Stderr(_))) => stderr(),
        Sniffed::Log(format) => format,
        Sniffed::Unknown => return Err(Unreadable::Format),
        Sniffed::CloudWatch => {
            let body = input.rest(start, LARGEST_PAYLOAD)?;
            progress.add(&input, body.len());
            return payload(&body, prefix, found);
        }
    };
    let dialect = format.dialect();
    let mut reading = Reading::new(format);
    while length > 0 && found.written.is_ok() {
        reading.push(piece.get(..length).unwrap_or_default(), &mut |event| found.take(event, dialect));
        progress.add(&input, length);
        length = input.read(&mut piece)?;
    }
    let counts = reading.finish(&mut |event| found.take(event, dialect));
    found.counts.events += counts.events;
    found.counts.skipped_bytes += counts.skipped_bytes;
    Ok(())
}

/// A payload of CloudWatch: its messages are read as one log, so that a statement over several of them is whole again.
fn payload<W: Write>(body: &[u8], prefix: &Prefix, found: &mut Found<W>) -> Result<(), Unreadable> {
    let read = decode(body, LARGEST_PAYLOAD, |payload| match payload {
        Payload::Data(data) => events(&data, prefix, found),
        Payload::Control | Payload::Wrapped(_) => {}
    });
    read.map_err(Unreadable::Payload)
}

fn events<W: Write>(data: &Data<'_>, prefix: &Prefix, found: &mut Found<W>) {
    let first = data.events.first().map(|event| event.message.as_ref()).unwrap_or_default();
    let format = match sniff(first.as_bytes()) {
        Sniffed::Log(Format::MySqlSlow) => Format::MySqlSlow,
        _ if data.log_group.ends_with("/slowquery") => Format::MySqlSlow,
        _ => Format::Postgres(postgres::Format::Stderr(prefix.clone())),
    };
    let dialect = format.dialect();
    let mut reading = Reading::new(format);
    for event in &data.events {
        let received = event.timestamp.saturating_mul(1000);
        let mut take = |event: &Event<'_>| {
            let time = event.time.or(Some(received));
            found.take(&Event { time, ..event.clone() }, dialect);
        };
        reading.push(event.message.as_bytes(), &mut take);
        if !event.message.ends_with('\n') {
            reading.push(b"\n", &mut take);
        }
    }
    let last = data.events.last().map(|event| event.timestamp.saturating_mul(1000));
    let counts = reading.finish(&mut |event| {
        found.take(&Event { time: event.time.or(last), ..event.clone() }, dialect);
    });
    found.counts.events += counts.events;
    found.counts.skipped_bytes += counts.skipped_bytes;
}

impl<W: Write> Found<W> {
    fn take(&mut self, event: &Event<'_>, dialect: Dialect) {
        if let Some(time) = event.time {
            let (first, last) = self.span.unwrap_or((time, time));
            self.span = Some((first.min(time), last.max(time)));
        }
        match &mut self.events {
            None => self.tally.add(event, dialect),
            Some(out) if self.written.is_ok() => self.written = report::event(out, event, dialect),
            Some(_) => {}
        }
    }
}
