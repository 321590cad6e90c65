//! What every PostgreSQL server says of itself, at either end: its role and its clock. Shared with `pg_replication`.

use crate::check::{Endpoint, Problem, Reason};
use crate::net::table::{Row, Table};
use jiff::Timestamp;
use metrics::{Answer, Metric, Unit};

/// `pg_replication_is_replica`.
pub static IS_REPLICA: Metric<1> =
    Metric::gauge("pg.replication.is_replica", Unit::None, &["endpoint"], "pg_is_in_recovery() of this end");
/// `datapulse_target_clock_offset_seconds`.
pub static CLOCK_OFFSET: Metric<1> = Metric::gauge(
    "datapulse.target.clock_offset",
    Unit::Seconds,
    &["endpoint"],
    "The server's clock_timestamp() - our clock at the middle of the question",
);

/// What every PostgreSQL server says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Server {
    /// In recovery: a standby, or a reader of Aurora.
    pub replica: bool,
    /// Its clock less ours, in seconds.
    pub clock_offset: Option<f64>,
}

/// Our clock, in seconds, at the middle of a question that began then and has just ended.
pub fn middle(began: Timestamp) -> f64 {
    let seconds = |moment: Timestamp| moment.as_microsecond() as f64 / 1e6;
    f64::midpoint(seconds(began), seconds(Timestamp::now()))
}

/// Refuses a reader where the writer is wanted.
pub fn right_role(server: &Server, writer: bool, name: &str) -> Result<(), Problem> {
    if writer && server.replica {
        return Err(Problem::new(
            Reason::WrongRole,
            format!("{name} is in recovery, but the writer is wanted"),
        )
        .hint("point the target at the writer (cluster) endpoint, or leave out `role: writer`"));
    }
    Ok(())
}

/// Reads `in_recovery` and `clock` from the one row of the first table.
pub fn read_server<'a>(facts: &'a Table, ours: f64, name: &str) -> Result<(Server, Row<'a>), Problem> {
    let row = facts
        .rows()
        .next()
        .ok_or_else(|| Problem::new(Reason::Empty, format!("{name} said nothing of itself")))?;
    let replica = row
        .flag("in_recovery")?
        .ok_or_else(|| Problem::new(Reason::Decode, format!("{name} did not say whether it is a replica")))?;
    let clock_offset = row.number("clock")?.map(|theirs| theirs - ours);
    Ok((Server { replica, clock_offset }, row))
}

/// The problem of an answer that does not have a table for each statement.
pub fn wrong_tables(count: usize, name: &str) -> Problem {
    Problem::new(
        Reason::Protocol,
        format!("{name} answered with {count} tables instead of one for each statement"),
    )
}

/// Role and clock of a server.
pub fn tell_server(answer: &mut Answer, endpoint: Endpoint, server: &Server) {
    answer.set(&IS_REPLICA, [endpoint.as_str()], f64::from(u8::from(server.replica)));
    answer.set_some(&CLOCK_OFFSET, [endpoint.as_str()], server.clock_offset);
}
