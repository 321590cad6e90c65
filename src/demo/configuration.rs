//! The exporter's configuration in the demo, with the comments that a reader needs.

use super::crew::Built;
use super::{lake, replication, warehouse};
use std::path::Path;

/// The text of `datapulse.yml`.
pub fn text(built: &Built) -> String {
    format!(
        "# Made by `datapulse demo`; a real one looks just like it. Change it and reload: kill -HUP, or POST /-/reload.\n\n\
         {}{}{REPLICATION}{}{}{}",
        logs(&built.dir),
        targets(built),
        analytics(),
        built.cache.map_or_else(String::new, |port| cache(port, &built.dir)),
        alerts(built)
    )
}

/// The slow query log of the shop.
fn logs(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"# What outlives a restart: ids of log events, totals, where a file of today ends.
data_dir: {dir}/data

# Logs come in by POST /logs/cloudwatch and POST /logs/firehose; what becomes of them depends on their log group.
logs:
  routes:
    - match: /aws/rds/*/*/slowquery
      parser: mysql_slow
      archive: {{dir: {dir}/archive, time_zone: Asia/Tokyo, line: "SHOP,{{{{time}}}},{{{{message}}}}"}}

"#
    )
}

fn targets(built: &Built) -> String {
    let server = |name: &str, why: &str, port: u16, database: &str, tls: &str| {
        let password = password(&built.dir);
        format!(
            "  {name:32} # {why}\n    host: 127.0.0.1\n    port: {port}\n    user: datapulse\n    \
             password: \"file:{password}\"\n    database: {database}\n    tls: disable{tls}\n"
        )
    };
    let tls = "                   # servers on this machine only; leave it out and it is verify-full";
    [
        "# Servers, named once and used by many checks. Passwords are never written here, only where they are kept.\n\
         targets:\n"
            .to_owned(),
        server(
            "orders-sub:",
            "the subscriber; its subscription needs no grant, the sessions of others need pg_read_all_stats",
            built.subscriber,
            replication::DATABASE,
            tls,
        ),
        server(
            "orders-pub:",
            "the publisher; pg_monitor lets the login see the lags of the walsenders",
            built.publisher,
            replication::DATABASE,
            "",
        ),
        server(
            "lake:",
            "where devices connect; the login may select from one table",
            built.subscriber,
            lake::DATABASE,
            "",
        ),
        server(
            "warehouse:",
            "plays Redshift; the login has syslog access unrestricted and role sys:monitor",
            built.subscriber,
            warehouse::DATABASE,
            "",
        ),
    ]
    .concat()
}

fn password(dir: &Path) -> String {
    dir.join("password").display().to_string()
}

const REPLICATION: &str = "
checks:
  # Does the subscription run, is it blocked, how far is it behind? Both ends are asked, and fail apart.
  - pg_subscription:
      name: orders
      target: orders-sub
      publisher: orders-pub
      expect: [orders_sub]         # must exist: a dropped subscription is an alert, not an empty page
      every: 2s                    # the demo is in a hurry; the default is 30s
      timeout: 5s
  # The publisher's side alone: slots, the WAL they keep, walsenders.
  - pg_replication:
      name: orders-slots
      target: orders-pub
      every: 2s
      timeout: 5s
";

/// The checks beside the replication.
fn analytics() -> String {
    let countries: Vec<_> = lake::COUNTRIES.iter().map(|(country, _)| *country).collect();
    format!(
        r#"  # Any SQL: columns become values and labels.
  - sql_query:
      name: devices
      target: lake
      every: 5s                    # the default is 1m
      sql: >-
        select country, count(distinct device) as devices, max(connected_at) as newest
        from device_connections
        where connected_at > now() - interval '1 hour'
        group by country
      metrics:
        - name: device.connections
          value: devices
          labels: [country]
          kind: gauge
          unit: "{{device}}"
          help: "Devices that connected in the last hour"
          datadog_name: mccs.connection.hour.count
      fill: {{country: [{}]}}   # no row is 0, not nothing
      freshness: newest            # old data are a failed check, not a quiet country
      max_data_age: 10m
  # Queries in flight on Redshift, with their minutes and whole texts.
  - redshift_inflight:
      name: analytics
      target: warehouse
      every: 5s                    # the default is 5m
      min_elapsed: 60s             # shorter ones are counted, not listed
      time_zone: Asia/Tokyo        # for people: start times on the page and in messages
  # Sessions and transactions of the subscriber, and what blocks them.
  - pg_inflight:
      name: sessions
      target: orders-sub
      every: 5s
      min_elapsed: 5s
"#,
        countries.join(", ")
    )
}

/// Where alerts are told, and what is fetched for their threads.
fn alerts(built: &Built) -> String {
    format!(
        r#"
# The status page asks Prometheus what its seasonal rules expect.
page: {{prometheus: "http://127.0.0.1:{prometheus}"}}

# Alertmanager sends what fires to /alerts/alertmanager; here it becomes one message an incident, with evidence in its thread.
alerts:
  slack:
    url: http://127.0.0.1:{}/api       # the Slack of the demo; leave it out and it is https://slack.com/api
    token: "file:{}"
    channel: C0ALERTS
  evidence:
    - match: {{check: devices}}
      collect:
        - chart: {{prometheus: "http://127.0.0.1:{prometheus}", range: 10m, query: "device_connections{{$labels}}"}}
        - rows: {{}}
    - match: {{check: orders}}
      collect:
        - rows: {{}}
        - chart: {{prometheus: "http://127.0.0.1:{prometheus}", range: 10m, query: "pg_subscription_lag_bytes{{$labels}}"}}
    - collect: [{{rows: {{}}}}]
"#,
        built.slack,
        built.dir.join("slack-token").display(),
        prometheus = built.prometheus,
    )
}

/// The check of the cache, whose target is written in place.
fn cache(port: u16, dir: &Path) -> String {
    format!(
        r#"  # A Redis and its replica, found from the one that is named here.
  - redis:
      name: cache
      target:
        host: 127.0.0.1
        port: {port}
        user: datapulse            # may run INFO, PING and SLOWLOG, and reads no key
        password: "file:{}"
        tls: disable
      every: 2s                    # the default is 30s
      timeout: 2s
"#,
        password(dir)
    )
}

#[cfg(test)]
mod tests {
    use super::super::parts::Stage;
    use super::*;

    #[test]
    fn the_configuration_of_the_demo_has_no_fault() {
        let stage = Stage::new(&std::env::temp_dir(), "datapulse-configuration").unwrap();
        for (cache, checks) in [(None, 5), (Some(13), 6)] {
            let dir = stage.path().to_owned();
            let built = Built {
                version: "18.1".into(),
                publisher: 11,
                subscriber: 12,
                prometheus: 14,
                slack: 15,
                cache,
                dir,
            };
            std::fs::write(built.config(), text(&built)).unwrap();
            let environment: crate::config::secret::Environment = std::sync::Arc::new(|_| None);
            let outline = crate::config::check(&built.config(), &environment);
            let outline = outline.unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(outline.plan.assignments.len(), checks);
        }
    }
}
