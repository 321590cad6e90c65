//! Host names to addresses. A look-up cannot be ended, only given up, so a name that is being asked for is not asked for again.

use crate::task;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// What a look-up gives, once it does; an error in words, because many may have waited for it.
type Found = Option<Result<Vec<SocketAddr>, String>>;

/// Look-ups under way. Each holds a thread until the name server answers, long after the check that began it gave up: repeated at
/// every run, a few dead names would take all threads, and every other name would seem dead as well.
static ASKED: Mutex<BTreeMap<String, watch::Receiver<Found>>> = Mutex::new(BTreeMap::new());

/// The addresses of a host, with this port. The caller sets the deadline.
pub async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    look_up_by(host, port, |host| Ok((host, 0).to_socket_addrs()?.collect())).await
}

async fn look_up_by(
    host: &str,
    port: u16,
    resolve: impl FnOnce(&str) -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (mut answer, question) = join(host);
    if let Some(question) = question {
        // Started by this first poll, and not ended when this future is dropped.
        task::blocking(move || {
            let found = resolve(&question.host).map_err(|error| error.to_string());
            let answer = question.answer.clone();
            // Whoever asks from now on asks anew.
            drop(question);
            answer.send_replace(Some(found));
        })
        .await
        .map_err(io::Error::other)?;
    }
    let found = answer.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
    let mut addresses = found.unwrap_or_else(|| Ok(Vec::new())).map_err(io::Error::other)?;
    for address in &mut addresses {
        address.set_port(port);
    }
    Ok(addresses)
}

/// Joins the look-up of a name that is under way, or gives the one to begin.
fn join(host: &str) -> (watch::Receiver<Found>, Option<Question>) {
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(answer) = asked.get(host) {
        return (answer.clone(), None);
    }
    let (sender, answer) = watch::channel(None);
    asked.insert(host.to_owned(), answer.clone());
    (answer, Some(Question { host: host.to_owned(), answer: sender }))
}

/// A look-up to make. When it goes, answered or not, the name can be asked for again.
struct Question {
    host: String,
    answer: watch::Sender<Found>,
}

impl Drop for Question {
    fn drop(&mut self) {
        ASKED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_name_that_hangs_takes_one_thread_and_whoever_asks_again_waits_for_it() {
        let (release, held) = mpsc::sync_channel::<()>(1);
        let hangs = look_up_by("hangs.example", 5432, move |_| {
            held.recv().unwrap();
            Ok(vec!["192.0.2.7:0".parse().unwrap()])
        });
        assert!(timeout(Duration::from_millis(20), hangs).await.is_err(), "given up");
        let mut again =
            pin!(look_up_by("hangs.example", 6432, |_| panic!("a second look-up of the same name")));
        assert!(timeout(Duration::from_millis(20), again.as_mut()).await.is_err(), "waits for the first one");
        let other = look_up_by("other.example", 1, |_| Ok(Vec::new())).await.unwrap();
        assert!(other.is_empty(), "another name does not wait");
        release.send(()).unwrap();
        assert_eq!(again.await.unwrap(), ["192.0.2.7:6432".parse().unwrap()]);
        let anew = look_up_by("hangs.example", 1, |_| Err(io::Error::other("gone"))).await;
        assert_eq!(anew.unwrap_err().to_string(), "gone", "an answer is not kept");
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up() {
        for (host, expected) in [("192.0.2.1", "192.0.2.1:7"), ("::1", "[::1]:7")] {
            let found = look_up_by(host, 7, |_| panic!("looked up")).await.unwrap();
            assert_eq!(found, [expected.parse().unwrap()]);
        }
    }
}
