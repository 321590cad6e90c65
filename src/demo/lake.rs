//! The database `lake` on the subscriber: devices that connect in eight countries, and one country that can fall silent.

use super::parts::{Cluster, Feed, Result};
use std::path::Path;
use std::time::Duration;

/// The database.
pub const DATABASE: &str = "lake";
/// Countries and the devices there; each connects about once an hour, so two of three are seen in an hour.
pub const COUNTRIES: [(&str, u32); 8] = [
    ("JP", 3200),
    ("TH", 5400),
    ("PH", 4100),
    ("KH", 900),
    ("BD", 2600),
    ("ID", 4800),
    ("VN", 1700),
    ("MX", 1200),
];
/// Where the devices fall silent on request.
pub const SILENT: &str = "PH";
const FEED_EVERY: Duration = Duration::from_secs(2);
const TABLES: &str = "create table countries (country text primary key, devices integer not null, \
    reachable boolean not null default true);\n\
    create table device_connections (country text not null, device integer not null, connected_at timestamptz not null);\n\
    create index on device_connections (connected_at);\n\
    grant select on device_connections to datapulse;\n";
/// An hour of connections for the countries that the statement ahead calls `back`.
const HOUR: &str = "insert into device_connections select country, (random() * devices)::integer, \
    clock_timestamp() - random() * interval '1 hour' from back, generate_series(1, devices)";
/// 1800 turns an hour. What a turn that began earlier has still written for a silent country goes with the next one.
const TURN: &str = "with old as (delete from device_connections where connected_at < now() - interval '1 hour' \
    or country in (select country from countries where not reachable)) \
    insert into device_connections select country, (random() * devices)::integer, clock_timestamp() \
    from countries, generate_series(1, floor(devices / 1800.0 + random())::integer) where reachable";

/// Makes the database with the connections of the last hour; devices connect as long as the feed lives.
pub fn start(server: &Cluster, dir: &Path) -> Result<Feed> {
    server.sql("postgres", &format!("create database {DATABASE}"))?;
    let countries: Vec<_> =
        COUNTRIES.iter().map(|(country, devices)| format!("('{country}', {devices})")).collect();
    let text = format!(
        "{TABLES}insert into countries (country, devices) values {};\n\
         with back as (select * from countries) {HOUR};\nanalyze device_connections",
        countries.join(", ")
    );
    server.sql(DATABASE, &text)?;
    Feed::start(server, DATABASE, dir, "devices", TURN, FEED_EVERY)
}

/// No device of one country connects any more, and an hour goes by at once.
pub fn silence(server: &Cluster) -> Result<()> {
    let text = format!(
        "update countries set reachable = false where country = '{SILENT}';\n\
         delete from device_connections where country = '{SILENT}'"
    );
    server.sql(DATABASE, &text).map(drop)
}

/// Brings the silent devices back, as if they had never been away.
pub fn restore(server: &Cluster) -> Result<()> {
    let text = format!(
        "with back as (update countries set reachable = true where not reachable returning *) {HOUR}"
    );
    server.sql(DATABASE, &text).map(drop)
}
