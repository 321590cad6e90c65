//! One statement as a server logged it, whatever the format of the log.

use std::borrow::Cow;

/// A logged statement. What the log does not say is `None`, never a default; texts are bytes, since logs hold any encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// When the statement was logged, which is when it ended, in microseconds since 1970-01-01 UTC.
    pub time: Option<i64>,
    /// Name of the account.
    pub user: Option<Cow<'a, [u8]>>,
    /// Name of the client's host.
    pub host: Option<Cow<'a, [u8]>>,
    /// Address of the client's host.
    pub ip: Option<Cow<'a, [u8]>>,
    /// Name of the database.
    pub db: Option<Cow<'a, [u8]>>,
    /// How long the statement took, in microseconds.
    pub query_time: Option<u64>,
    /// How long it waited for locks, in microseconds.
    pub lock_time: Option<u64>,
    /// Rows sent to the client.
    pub rows_sent: Option<u64>,
    /// Rows read for it.
    pub rows_examined: Option<u64>,
    /// The statement as it came, without preamble and final `;`. It holds literals.
    pub query: Cow<'a, [u8]>,
    /// The [`fingerprint`](crate::fingerprint()) of the statement. `None` only in an event that no reader made.
    pub fingerprint: Option<u64>,
}

/// What the bytes at hand end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// There may be more.
    OfPiece,
    /// Nothing follows: it is the end of a file, or of all that came together, such as a message of `CloudWatch`.
    OfInput,
}
