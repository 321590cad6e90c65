//! One HTTP exchange with a server on 127.0.0.1.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{Error, Result};

/// For connecting, and for each read and write unless said otherwise.
const LIMIT: Duration = Duration::from_secs(5);
/// An answer beyond this is refused.
const MAX_ANSWER: u64 = 16 << 20;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The whole head, status line included.
    pub head: String,
    /// The body as text.
    pub body: String,
}

/// GET `path` (with its query) from 127.0.0.1:`port`.
pub fn get(port: u16, path: &str) -> Result<Reply> {
    exchange(port, &format!("GET {path} HTTP/1.0\r\n"), &[], LIMIT)
}

/// POST `body` to `path` on 127.0.0.1:`port`.
pub fn post(port: u16, path: &str, content_type: &str, body: &[u8]) -> Result<Reply> {
    post_within(LIMIT, port, path, content_type, body)
}

/// `post` to a server that may take its time: `limit` holds for each read and write.
pub fn post_within(limit: Duration, port: u16, path: &str, content_type: &str, body: &[u8]) -> Result<Reply> {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.0\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n");
    exchange(port, &head, body, limit)
}

// HTTP/1.0, so that the body is never chunked and ends with the connection.
fn exchange(port: u16, head: &str, body: &[u8], limit: Duration) -> Result<Reply> {
    let what = format!("ask 127.0.0.1:{port}");
    let answer = transfer(port, head, body, limit).map_err(Error::io(&what))?;
    if answer.len() as u64 > MAX_ANSWER {
        return Err(Error::refused(what, format!("its answer has more than {MAX_ANSWER} bytes")));
    }
    let text = String::from_utf8_lossy(&answer);
    let parts = text.split_once("\r\n\r\n");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (Some((head, body)), Some(status)) = (parts, status) else {
        return Err(Error::refused(what, "the answer is not HTTP"));
    };
    Ok(Reply { status, head: head.to_owned(), body: body.to_owned() })
}

fn transfer(port: u16, head: &str, body: &[u8], limit: Duration) -> std::io::Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(format!("{head}Host: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER + 1).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answered(with: &'static str) -> Result<Reply> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(with.as_bytes()).unwrap();
            });
            get(port, "/x?y=z")
        })
    }

    #[test]
    fn an_answer_is_taken_apart() {
        let reply = answered("HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nlater\r\n\r\n").unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (503, "later\r\n\r\n"));
        assert!(reply.head.ends_with("A: b"));
    }

    #[test]
    fn an_answer_that_is_not_http_is_an_error() {
        assert!(answered("hello").unwrap_err().to_string().ends_with("the answer is not HTTP"));
    }
}
