//! The database `warehouse` on the subscriber, which plays Redshift: short queries that come and go, and a long one on request.

use super::parts::redshift::{Kind, Query, Start, monitor, turn, unrestricted};
use super::parts::{Cluster, Feed, Result};
use std::path::Path;
use std::time::Duration;

/// The database.
pub const DATABASE: &str = "warehouse";
const FEED_EVERY: Duration = Duration::from_secs(3);
/// The long query has run for so long when it is found: just over twice the bundled limit.
const LONG: Duration = Duration::from_mins(121);
/// Without a password nobody can log in as one of them.
const ROLES: &str = "create role etl login; create role dashboard login; create role analyst login";
const WORK: [(&str, &str); 6] = [
    ("etl", "copy click_logs from 's3://logs/clicks/2026/' iam_role default format parquet"),
    ("etl", "insert into bids_daily select bid_date, campaign_id, count(*) from bid_logs group by 1, 2"),
    (
        "dashboard",
        "select date_trunc('hour', bid_at) as hour, count(*) from bid_logs where bid_date = current_date group by 1",
    ),
    (
        "dashboard",
        "select campaign_id, sum(clicks) from clicks_daily where bid_date > current_date - 7 group by 1",
    ),
    ("dashboard", "select country, count(distinct device) from connections where hour = '12' group by 1"),
    (
        "analyst",
        "unload ('select * from clicks_daily where bid_date = current_date - 1') to 's3://reports/' iam_role default",
    ),
];

/// Makes the database; queries come and go as long as the feed lives.
pub fn start(server: &Cluster, dir: &Path) -> Result<Feed> {
    server.sql("postgres", &format!("{ROLES}; create database {DATABASE}"))?;
    let create = Kind::Provisioned.create();
    let rights = unrestricted("datapulse") + &monitor("datapulse");
    server.sql(
        DATABASE,
        &format!("{create}{rights}grant select on all tables in schema public to datapulse"),
    )?;
    Feed::start(server, DATABASE, dir, "queries", &turn(&WORK), FEED_EVERY)
}

/// There is a query that has been running for two hours.
pub fn begin_long(server: &Cluster) -> Result<()> {
    server.sql(DATABASE, &long_query().begin()).map(drop)
}

/// It ends.
pub fn end_long(server: &Cluster) -> Result<()> {
    server.sql(DATABASE, &long_query().end()).map(drop)
}

/// Somebody wanted a day, and forgot to say so.
fn long_query() -> Query {
    let campaigns: Vec<_> = (1..=400).map(|number| (1_000_000 + number * 7919).to_string()).collect();
    let text = format!(
        "-- spend and clicks of our campaigns yesterday\n\
         select b.campaign_id, b.creative_id,\n       count(*) as bids,\n       count(c.click_id) as clicks,\n       \
         sum(b.price_micros) / 1000000.0 as spent\nfrom bid_logs as b\nleft join click_logs as c on c.bid_id = b.bid_id\n\
         where b.advertiser <> 'internal test'\n  and b.campaign_id in ({})\n\
         group by b.campaign_id, b.creative_id\norder by spent desc;",
        campaigns.join(", ")
    );
    Query { start: Start::Ago(LONG), slices: 2, ..Query::new(1_073_815_778, 4_711_042, "analyst", &text) }
}
