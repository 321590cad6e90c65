//! The log of the process on standard error. A thread of its own writes it: whoever does not read it must not hold up the checks.

use super::{LogFormat, LogLevel};
use crate::task;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait; the next ones are lost and counted.
const LINES_WAITING: usize = 1024;
/// The end of the process waits this long for the last lines.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The way to the thread that writes.
#[derive(Clone, Debug)]
pub struct Log {
    inbox: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before this has been written when its other end hears of it.
    Mark(SyncSender<()>),
}

/// Sets up the log of the process on standard error.
///
/// # Errors
/// When there is no thread to be had.
pub fn start(level: LogLevel, format: LogFormat) -> io::Result<Log> {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let log = Log::to(io::stderr())?;
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(log.clone())
        .with_target(false)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a task panicked; the report of its check says more");
    }));
    Ok(log)
}

impl Log {
    fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (inbox, lines) = sync_channel(LINES_WAITING);
        let lost = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&lost);
        // Ends with the process: a write that blocks cannot be ended.
        drop(task::thread("log", move || write(out, &lines, &counted))?);
        Ok(Self { inbox, lost })
    }

    /// Waits for the lines so far, but not long.
    pub fn finish(&self) {
        let (mark, written) = sync_channel(1);
        if self.inbox.try_send(Entry::Mark(mark)).is_ok() {
            // What is not read by then is lost, and there is nowhere else to say so.
            written.recv_timeout(LAST_LINES).unwrap_or_default();
        }
    }
}

/// Writes lines in their order. One that cannot be written, as when standard error is closed, is lost.
fn write(mut out: impl Write, lines: &Receiver<Entry>, lost: &AtomicU64) {
    while let Ok(entry) = lines.recv() {
        match entry {
            Entry::Line(line) => drop(out.write_all(&line)),
            Entry::Mark(mark) => drop(mark.try_send(())),
        }
        match lost.swap(0, Ordering::Relaxed) {
            0 => {}
            lines => tracing::warn!(lines, "lines of the log were lost: nobody read standard error"),
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

/// A whole line comes with each call.
impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.inbox.try_send(Entry::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::Instant;

    /// Takes a line for each permit, and blocks without one.
    struct Slow(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_holds_nothing_up_and_what_was_kept_comes_in_order() {
        let (permits, taken) = sync_channel(2 * LINES_WAITING);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let log = Log::to(Slow(taken, Arc::clone(&written))).unwrap();
        #[expect(clippy::disallowed_methods, reason = "measures how long the test itself waits")]
        let began = Instant::now();
        for line in 0..2 * LINES_WAITING {
            (&log).write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        assert!(log.lost.load(Ordering::Relaxed) >= LINES_WAITING as u64 - 1);
        log.finish();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        for _ in 0..2 * LINES_WAITING {
            permits.send(()).unwrap();
        }
        let (mark, done) = sync_channel(1);
        log.inbox.send(Entry::Mark(mark)).unwrap();
        done.recv_timeout(Duration::from_secs(10)).unwrap();
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let kept: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert!(kept.len() >= LINES_WAITING, "{}", kept.len());
        assert!(kept.iter().copied().eq(0..kept.len()), "{kept:?}");
    }
}
