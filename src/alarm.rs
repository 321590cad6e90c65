//! An alarm clock for long waits that wakes the process once.
//!
//! Timers of the runtime lie on a wheel: one that is seconds away wakes the process two or three times before it is due. For an
//! exporter that sleeps between two runs these were more than half of all wake-ups of an idle process (5 in 5 s; 2 with this).

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// One timer of the kernel.
#[derive(Debug)]
pub struct Alarm(Option<AsyncFd<OwnedFd>>);

impl Alarm {
    /// A new alarm. Without a free file descriptor it waits by the runtime's timers.
    pub fn new() -> Self {
        // The paused clock of the tests is the runtime's.
        if cfg!(test) { Self(None) } else { Self(timer().ok()) }
    }

    /// Waits until this moment.
    pub async fn wait_until(&self, moment: Instant) {
        let rest = moment.saturating_duration_since(Instant::now());
        match &self.0 {
            Some(timer) if !rest.is_zero() && ring(timer, rest).await.is_ok() => {}
            _ => tokio::time::sleep_until(moment).await,
        }
    }
}

#[expect(
    deprecated,
    reason = "sound for an OwnedFd, and the successor is an unsafe function, which this crate forbids"
)]
fn timer() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    AsyncFd::with_interest(timerfd_create(TimerfdClockId::Monotonic, flags)?, Interest::READABLE)
}

/// Sets the timer and waits for it. Setting it anew also forgets a ring that nobody waited for.
async fn ring(timer: &AsyncFd<OwnedFd>, rest: Duration) -> io::Result<()> {
    let once = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec {
            tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: rest.subsec_nanos().into(),
        },
    };
    timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
    loop {
        let mut ready = timer.readable().await?;
        // Eight bytes: how often it rang.
        match ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?)) {
            Ok(rang) => return rang.map(drop),
            Err(_would_block) => {}
        }
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_rings_when_it_is_due_and_again_after_a_ring_that_nobody_heard() {
        let alarm = Alarm(timer().ok());
        assert!(alarm.0.is_some(), "this system has timers");
        let long = Duration::from_millis(120);
        for _ in 0..2 {
            let start = Instant::now();
            // Given up before it rings, as at a stop; then it rings with nobody waiting.
            let short = alarm.wait_until(start + Duration::from_millis(20));
            assert!(tokio::time::timeout(Duration::from_millis(1), short).await.is_err());
            tokio::time::sleep(Duration::from_millis(40)).await;
            alarm.wait_until(start + long).await;
            assert!(start.elapsed() >= long, "{:?}", start.elapsed());
            assert!(start.elapsed() < long * 10, "{:?}", start.elapsed());
        }
    }

    #[tokio::test]
    async fn a_moment_that_is_over_is_no_wait() {
        let start = Instant::now();
        Alarm(timer().ok()).wait_until(start).await;
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
