//! How far the reading is, on a terminal only.

use super::input::Input;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tokio::time::Instant;

/// Often enough to look alive, seldom enough to cost nothing.
const EVERY: Duration = Duration::from_millis(200);
const WIDTH: usize = 30;

/// A bar on standard error.
pub(super) struct Progress {
    /// Length of all files; `None` when one does not tell.
    whole: Option<u64>,
    /// Taken from files that are done, and from the one that is read.
    done: u64,
    current: u64,
    /// Bytes of log, inflated.
    bytes: u64,
    began: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// Begins with nothing read of `whole` bytes.
    pub(super) fn new(whole: Option<u64>) -> Self {
        let terminal = io::stderr().is_terminal();
        let began = Instant::now();
        Self { whole, done: 0, current: 0, bytes: 0, began, shown: None, terminal }
    }

    /// Notes that this many bytes of log were read.
    pub(super) fn add(&mut self, input: &Input, bytes: usize) {
        if input.taken() < self.current {
            self.done += self.current;
        }
        self.current = input.taken();
        self.bytes += bytes as u64;
        let due = self.shown.unwrap_or(self.began).elapsed() >= EVERY;
        if self.terminal && due {
            self.shown = Some(Instant::now());
            self.show();
        }
    }

    /// Bytes of log so far, inflated.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Wipes the bar.
    pub(super) fn end(&mut self) {
        if self.shown.take().is_some() {
            write("\r\x1b[K");
        }
    }

    fn show(&self) {
        let megabytes = self.bytes as f64 / 1e6;
        let speed = megabytes / self.began.elapsed().as_secs_f64();
        let words = format!("{megabytes:.0} MB, {speed:.0} MB/s");
        write(&match self.whole {
            Some(whole) if whole > 0 => {
                let share = ((self.done + self.current) as f64 / whole as f64).min(1.0);
                let full = bar_length(share);
                let (full, empty) = ("█".repeat(full), "░".repeat(WIDTH - full));
                format!("\r\x1b[K{full}{empty} {:3.0} %  {words}", share * 100.0)
            }
            _ => format!("\r\x1b[K{words}"),
        });
    }
}

fn bar_length(share: f64) -> usize {
    (0..=WIDTH).rev().find(|full| *full as f64 <= share * WIDTH as f64).unwrap_or(0)
}

/// A bar that cannot be shown is no reason to stop.
fn write(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()));
}
