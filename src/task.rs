//! Owned tasks and threads: the only file that spawns. A task ends when its handle is dropped.

use std::future::Future;
use std::io;
use tokio::task::{JoinError, JoinHandle};

/// A running task that is aborted when this handle goes.
#[derive(Debug)]
#[must_use = "dropping the handle aborts the task"]
pub struct Task<T>(JoinHandle<T>);

/// Starts a task on the current runtime.
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns tasks")]
    Task(tokio::spawn(future))
}

/// Runs work that blocks (files, password hashes, compression of large bodies) away from the scheduler's threads.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    #[expect(clippy::disallowed_methods, reason = "the one place that hands work to blocking threads")]
    tokio::task::spawn_blocking(work).await
}

/// Starts a named thread of its own.
pub fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<std::thread::JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(512 * 1024).spawn(work)
}

impl<T> Task<T> {
    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Waits for the end and gives the result. The task goes on only as long as this future is kept.
    pub async fn join(&mut self) -> Result<T, JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
