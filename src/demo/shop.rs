//! A shop on a private MariaDB, whose slow query log goes through the real door as CloudWatch would send it; and one
//! statement that can get slow.

use super::parts::{Error, MariaDb, Result, post};
use crate::net::gzip;
use crate::task;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use digest::payload::LogEvent;
use jiff::Timestamp;
use serde_json::json;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The log group, named as RDS names it.
pub const LOG_GROUP: &str = "/aws/rds/instance/shop-1/slowquery";
const STREAM: &str = "shop-1";
const DATABASE: &str = "shop";
const EVERY: Duration = Duration::from_secs(1);
/// A log is read in pieces; the demo writes a few hundred bytes a second.
const LONGEST_PIECE: u64 = 1 << 20;
const TABLES: &str = "create database shop; use shop; \
    create table customers (id int primary key, email varchar(80)); \
    create table carts (id int primary key auto_increment, customer int, total decimal(9,2)); \
    insert into customers select seq, concat('customer', seq, '@example.org') from seq_1_to_1000; \
    insert into carts (customer, total) select seq, seq / 7 from seq_1_to_1000; \
    create user app@localhost; create user report@localhost; \
    grant select, insert, update on shop.* to app@localhost, report@localhost;";

/// The shop, as long as it lives.
#[derive(Debug)]
pub struct Shop {
    slow: Arc<AtomicBool>,
    /// Dropped to end the work.
    end: Option<SyncSender<()>>,
    work: Option<JoinHandle<()>>,
}

impl Shop {
    /// Starts the server below `dir`, its customers, and the way of its log to the exporter on this port.
    pub fn start(dir: &Path, exporter: u16) -> Result<Self> {
        // What takes 20 ms is slow here.
        let server = MariaDb::start(&dir.join("shop"), &["--long-query-time=0.02"])?;
        server.run("root", "", TABLES)?;
        let (end, ended) = sync_channel(0);
        let slow = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&slow);
        let work = task::thread("shop", move || work(&server, exporter, &told, &ended));
        let work = work.map_err(Error::io("start the thread of the shop"))?;
        Ok(Self { slow, end: Some(end), work: Some(work) })
    }

    /// Makes one statement slow, or fast again.
    pub fn slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(work) = self.work.take() {
            // It has said what went wrong; there is nothing left to do about it.
            drop(work.join());
        }
    }
}

fn work(server: &MariaDb, exporter: u16, slow: &AtomicBool, ended: &Receiver<()>) {
    let mut way = Way { log: server.slow_log(), at: 0, exporter };
    for turn in 0.. {
        std::thread::scope(|scope| {
            for (user, sql) in statements(turn, slow.load(Ordering::Relaxed)) {
                scope.spawn(move || {
                    if let Err(error) = server.run(user, DATABASE, &sql) {
                        tracing::warn!(%error, "a customer of the shop got an error");
                    }
                });
            }
        });
        if let Err(error) = way.deliver() {
            tracing::warn!(%error, "the slow query log of the shop did not get through; it is sent again");
        }
        if !matches!(ended.recv_timeout(EVERY), Err(RecvTimeoutError::Timeout)) {
            return;
        }
    }
}

/// What the customers of a turn ask, each over a connection of its own.
fn statements(turn: u32, slow: bool) -> Vec<(&'static str, String)> {
    let customer = turn % 1000 + 1;
    let mut all = vec![
        ("app", format!("select email, sleep(0.03) from customers where id = {customer};")),
        (
            "app",
            format!(
                "update carts set total = total + 0.{:02} where customer = {customer} and sleep(0.04) = 0;",
                turn % 100
            ),
        ),
    ];
    if turn.is_multiple_of(5) {
        let sql = "select c.email, sum(k.total) from customers c join carts k on k.customer = c.id group by c.email order by 2 desc limit 10; do sleep(0.2);";
        all.push(("report", sql.to_owned()));
    }
    // Without its index it reads the whole table, and everybody asks for it.
    let (customers, seconds) = if slow { (8, "2") } else { (1, "0.02") };
    all.extend((0..customers).map(|number| {
        let id = (turn * 8 + number) % 1000 + 1;
        ("app", format!("select total, sleep({seconds}) from carts where id = {id};"))
    }));
    all
}

/// How the log gets to the exporter.
struct Way {
    log: PathBuf,
    /// Up to here it was confirmed.
    at: u64,
    exporter: u16,
}

impl Way {
    /// Sends what is new, entry by entry as an event, as a subscription of CloudWatch does. Without a 200 it goes again.
    fn deliver(&mut self) -> Result<()> {
        let failed = Error::io("read the slow query log of the shop");
        let mut text = Vec::new();
        let read = std::fs::File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.at))?;
            file.take(LONGEST_PIECE).read_to_end(&mut text)
        });
        read.map_err(failed)?;
        let text = String::from_utf8_lossy(&text);
        let (events, used) = events(&text, self.at, Timestamp::now().as_millisecond());
        if !events.is_empty() {
            let events: Vec<_> = events
                .iter()
                .map(|event| json!({"id": event.id, "timestamp": event.timestamp, "message": event.message}))
                .collect();
            let payload = json!({"messageType": "DATA_MESSAGE", "owner": "123456789012", "logGroup": LOG_GROUP,
                "logStream": STREAM, "subscriptionFilters": ["datapulse"], "logEvents": events});
            let data = STANDARD.encode(gzip::compress(payload.to_string().as_bytes()));
            let body = json!({"awslogs": {"data": data}}).to_string();
            let reply = post(self.exporter, "/logs/cloudwatch", "application/json", body.as_bytes())?;
            if reply.status != 200 {
                return Err(Error::refused("deliver the slow query log of the shop", reply.body));
            }
        }
        self.at += used as u64;
        Ok(())
    }
}

/// The whole entries of a piece of the log, and how many bytes they and what stands before them take. The last entry is
/// whole only when it ends with its statement.
fn events(text: &str, from: u64, now_ms: i64) -> (Vec<LogEvent<'static>>, usize) {
    let mut starts: Vec<usize> = text.match_indices("# User@Host: ").map(|(at, _)| at).collect();
    starts.retain(|at| *at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n'));
    let end = text.rfind(";\n").map_or(0, |at| at + 2);
    let ends = starts.iter().skip(1).copied().chain([end]);
    let whole = starts.iter().zip(ends).filter(|(start, end)| *start < end);
    let event = |(start, end): (&usize, usize)| {
        let message = text.get(*start..end).unwrap_or_default().trim_end().to_owned();
        LogEvent {
            id: format!("{:020}", from + *start as u64).into(),
            timestamp: now_ms,
            message: message.into(),
        }
    };
    (whole.map(event).collect(), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_entries_go_and_the_rest_waits() {
        let one = "# User@Host: app[app] @ localhost []\n# Query_time: 1\nselect 1;\n";
        let banner = "mariadbd, Version: 10\n# Time: 261124\n";
        let text = format!("{banner}{one}{one}# User@Host: half");
        let (found, used) = events(&text, 100, 7);
        let found: Vec<_> =
            found.into_iter().map(|event| (event.id.into_owned(), event.message.into_owned())).collect();
        let message = one.trim_end().to_owned();
        let id = |at: usize| format!("{:020}", 100 + at);
        assert_eq!(found, [(id(banner.len()), message.clone()), (id(banner.len() + one.len()), message)]);
        assert_eq!(used, banner.len() + 2 * one.len());
        assert_eq!(events("# User@Host: half", 0, 7).1, 0);
    }
}
