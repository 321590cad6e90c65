//! `datapulse healthy`: asks a running datapulse for `/-/healthy`, for containers that have no other program inside.

use super::{FAILED, complain, print};
use std::io::{Error, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

/// For connecting, and for each read and write. A process that needs longer is not well.
const LIMIT: Duration = Duration::from_secs(3);
/// The first byte of a TLS alert: what a server that speaks TLS answers to a request that does not.
const TLS_ALERT: u8 = 0x15;
/// So much of an answer is enough to know.
const HEAD: usize = 12;

/// Status 0 when it answers.
pub fn run(address: &str) -> ExitCode {
    let answer = match ask(address) {
        Ok(answer) => answer,
        Err(error) => {
            complain(format_args!("nobody answers on {address}: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    if lives(&answer) {
        return print(&format!("datapulse on {address} is healthy\n"));
    }
    let said = String::from_utf8_lossy(&answer);
    complain(format_args!("what listens on {address} is not a healthy datapulse; it said {said:?}"));
    ExitCode::from(FAILED)
}

/// The first bytes of what it says to `GET /-/healthy`.
fn ask(address: &str) -> Result<Vec<u8>, Error> {
    let mut tried = Error::other("the name has no address");
    for socket in reachable(address).to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, LIMIT) {
            Ok(stream) => return exchange(stream, address),
            Err(error) => tried = error,
        }
    }
    Err(tried)
}

/// Where to ask for what listens on all addresses of the machine.
fn reachable(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    match host {
        "" | "0.0.0.0" => format!("127.0.0.1:{port}"),
        "[::]" => format!("[::1]:{port}"),
        _ => address.to_owned(),
    }
}

fn exchange(mut stream: TcpStream, address: &str) -> Result<Vec<u8>, Error> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(format!("GET /-/healthy HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::with_capacity(HEAD);
    stream.take(HEAD as u64).read_to_end(&mut answer)?;
    Ok(answer)
}

/// 401 is the answer of one that wants a password, which this command has not: it lives.
fn lives(answer: &[u8]) -> bool {
    let status = answer.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(1..));
    status == Some(b" 200") || status == Some(b" 401") || answer.first() == Some(&TLS_ALERT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_whether_it_lives() {
        for (answer, well) in [
            (&b"HTTP/1.1 200"[..], true),
            (b"HTTP/1.0 200", true),
            (b"HTTP/1.1 401", true),
            (b"\x15\x03\x03\x00\x02", true),
            (b"HTTP/1.1 404", false),
            (b"HTTP/1.1 503", false),
            (b"HTTP/1.", false),
            (b"", false),
        ] {
            assert_eq!(lives(answer), well, "{answer:?}");
        }
    }

    #[test]
    fn what_listens_everywhere_is_asked_on_this_machine() {
        for (address, asked) in [
            (":9893", "127.0.0.1:9893"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("localhost:1", "localhost:1"),
        ] {
            assert_eq!(reachable(address), asked);
        }
    }
}
