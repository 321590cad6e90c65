//! What is asked of Redshift, and how its answers are read.
//!
//! `now()` and `pg_backend_pid()` run on the leader node alone and must not stand beside a system view, so they are asked for in a
//! statement of their own; names of users are joined here for the same reason.

use super::text::{Fragments, Written};
use super::{Query, Source, is_elsewhere};
use crate::check::{Problem, Reason};
use crate::columns::moment;
use crate::net::postgres::Link;
use crate::net::table::{Row, Table};
use jiff::Timestamp;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Roles and rights with which a user sees the queries of others.
/// <https://docs.aws.amazon.com/redshift/latest/dg/r_roles-default.html>
const SEEING_ROLES: [&str; 4] = ["sys:monitor", "sys:operator", "sys:dba", "sys:superuser"];
/// Superusers have all rights; others see their own row only.
const RIGHTS: &str = "select user_name, superuser, syslog_access from svv_user_info; \
                      select user_name, role_name from svv_user_grants";

/// Which views are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// `SYS_QUERY_HISTORY`, `SYS_QUERY_TEXT`: provisioned and serverless.
    Sys,
    /// `SVV_QUERY_INFLIGHT`: provisioned only.
    Svv,
}

/// The memory of the questions.
#[derive(Debug)]
pub(super) struct Server {
    group: Option<String>,
    /// What `auto` found.
    view: Option<View>,
    /// Whether the server says what we may see; one that refuses the question is not asked again, because a refusal ends the session.
    says_rights: Option<bool>,
}

/// What the server said.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The queries, the longest first, without our own session's.
    pub(super) queries: Vec<Query>,
    /// The login role.
    pub(super) login: String,
    /// Whether it sees the queries of others; `None`: unknown.
    pub(super) sees_all: Option<bool>,
    /// Rows that could not be read.
    pub(super) notes: Vec<Problem>,
}

impl Server {
    pub(super) fn new(source: Source, group: Option<String>) -> Self {
        let view = match source {
            Source::Auto => None,
            Source::Sys => Some(View::Sys),
            Source::Svv => Some(View::Svv),
        };
        Self { group, view, says_rights: None }
    }

    /// For `doctor`.
    pub(super) fn learned(&self) -> String {
        let view = match self.view {
            Some(View::Sys) => "SYS_QUERY_HISTORY and SYS_QUERY_TEXT",
            Some(View::Svv) => "SVV_QUERY_INFLIGHT",
            None => "no view yet",
        };
        let rights = match self.says_rights {
            Some(true) => "",
            Some(false) => {
                "; SVV_USER_INFO and SVV_USER_GRANTS cannot be read, so it is unknown whether all queries are seen"
            }
            None => "; rights not asked yet",
        };
        format!("reads {view}{rights}")
    }

    /// What is asked, once it is known which views there are.
    pub(super) fn question(&self) -> Option<String> {
        self.view.map(|view| self.sql(view, true, Written::Plain))
    }

    /// Asks for everything.
    pub(super) async fn ask(&mut self, link: &mut Link, deadline: Instant) -> Result<Found, Problem> {
        let mut found = match self.view {
            Some(view) => self.ask_view(link, view, deadline).await?,
            None => self.find_view(link, deadline).await?,
        };
        found.login = link.session(deadline).await?.user.clone();
        found.sees_all = self.ask_rights(link, &found.login, deadline).await?;
        Ok(found)
    }

    async fn find_view(&mut self, link: &mut Link, deadline: Instant) -> Result<Found, Problem> {
        let refused = match self.ask_view(link, View::Sys, deadline).await {
            Ok(found) => {
                self.view = Some(View::Sys);
                return Ok(found);
            }
            Err(problem) if is_elsewhere(&problem) => problem,
            Err(problem) => return Err(problem),
        };
        match self.ask_view(link, View::Svv, deadline).await {
            Ok(found) => {
                self.view = Some(View::Svv);
                Ok(found)
            }
            Err(problem) if is_elsewhere(&problem) => {
                Err(refused
                    .hint("neither this nor SVV_QUERY_INFLIGHT can be read; is this a Redshift database"))
            }
            Err(problem) => Err(problem),
        }
    }

    async fn ask_view(&self, link: &mut Link, view: View, deadline: Instant) -> Result<Found, Problem> {
        let redshift = link.session(deadline).await?.is_redshift();
        let sql = self.sql(view, redshift, Written::Plain);
        let tables = match link.ask(&sql, deadline).await {
            // A server that looks into texts refuses a character that was cut between two fragments.
            Err(problem) if problem.reason == Reason::Decode => {
                return read(
                    &link.ask(&self.sql(view, redshift, Written::Hexadecimal), deadline).await?,
                    view,
                    Written::Hexadecimal,
                );
            }
            tables => tables?,
        };
        match read(&tables, view, Written::Plain) {
            // A server that does not look hands the halves over.
            Err(problem) if problem.reason == Reason::Decode => read(
                &link.ask(&self.sql(view, redshift, Written::Hexadecimal), deadline).await?,
                view,
                Written::Hexadecimal,
            ),
            found => found,
        }
    }

    pub(super) fn sql(&self, view: View, redshift: bool, written: Written) -> String {
        let group = match &self.group {
            Some(group) if redshift => format!("set query_group to '{group}'; "),
            _ => String::new(),
        };
        let text = |column: &str| match written {
            Written::Plain => column.to_owned(),
            Written::Hexadecimal if redshift => format!("to_hex(cast({column} as varbyte))"),
            Written::Hexadecimal => format!("encode(convert_to({column}, getdatabaseencoding()), 'hex')"),
        };
        // sysdate has microseconds; getdate() has whole seconds only.
        let now = if redshift { "sysdate" } else { "now()" };
        let common = format!(
            "{group}select {now} as now, pg_backend_pid() as pid; select usesysid as id, usename as name from pg_user; "
        );
        let queries = match view {
            View::Sys => format!(
                "select user_id, query_id, session_id as pid, database_name, status, start_time as started, elapsed_time, queue_time, \
                 {} as text from sys_query_history where status in ('planning', 'queued', 'running', 'returning'); \
                 select query_id, sequence, {} as text from sys_query_text where query_id in (select query_id from sys_query_history \
                 where status in ('planning', 'queued', 'running', 'returning'))",
                text("query_text"),
                text("text")
            ),
            // A row a slice and fragment; which slice does not matter.
            View::Svv => format!(
                "select userid as user_id, query as query_id, pid, min(starttime) as started from svv_query_inflight where suspended = 0 \
                 group by userid, query, pid; \
                 select query as query_id, sequence, {} as text from svv_query_inflight where suspended = 0 group by query, sequence",
                text("min(text)")
            ),
        };
        common + &queries
    }

    /// Whether the login role sees the queries of all users.
    async fn ask_rights(
        &mut self,
        link: &mut Link,
        login: &str,
        deadline: Instant,
    ) -> Result<Option<bool>, Problem> {
        if self.says_rights == Some(false) {
            return Ok(None);
        }
        match link.ask(RIGHTS, deadline).await {
            Ok(tables) => {
                self.says_rights = Some(true);
                Ok(self.view.map(|view| read_rights(&tables, view, login)).transpose()?)
            }
            Err(problem) if is_elsewhere(&problem) => {
                self.says_rights = Some(false);
                Ok(None)
            }
            Err(problem) => Err(problem),
        }
    }
}

// read

pub(super) fn read(tables: &[Table], view: View, written: Written) -> Result<Found, Problem> {
    let [facts, users, queries, texts] = tables else {
        return Err(Problem::new(Reason::Protocol, format!("{} results for four questions", tables.len())));
    };
    let facts = facts
        .rows()
        .next()
        .ok_or_else(|| Problem::new(Reason::Protocol, "the server did not say the time"))?;
    let mut found = Found::default();
    let now = time(&facts, "now", &mut found.notes);
    let own = facts.text("pid")?.unwrap_or_default().to_owned();
    let mut names = BTreeMap::new();
    for row in users.rows() {
        if let (Some(id), Some(name)) = (row.text("id")?, row.text("name")?) {
            names.insert(id, name);
        }
    }
    let fragments = Fragments::read(texts, if view == View::Sys { 4000 } else { 200 }, written)?;
    for row in queries.rows() {
        match read_query(&row, view, now, &names, &fragments, &mut found.notes) {
            Ok(query) if query.pid == own => {}
            Ok(query) => found.queries.push(query),
            Err(problem) => found.notes.push(problem),
        }
    }
    // The longest first: what is cut beyond the limit are the shortest.
    found.queries.sort_by(|a, b| {
        b.elapsed.partial_cmp(&a.elapsed).unwrap_or(Ordering::Equal).then_with(|| a.id.cmp(&b.id))
    });
    Ok(found)
}

/// The value as a time; `None` is NULL. One that cannot be read is told, because a query without an age looks young; the query stays.
fn time(row: &Row<'_>, column: &str, notes: &mut Vec<Problem>) -> Option<Timestamp> {
    let strange = || Problem::new(Reason::Decode, format!("column {column} is not a time"));
    let read =
        row.text(column).and_then(|text| text.map(|text| moment(text).ok_or_else(strange)).transpose());
    read.unwrap_or_else(|problem| {
        notes.push(problem);
        None
    })
}

fn read_query(
    row: &Row<'_>,
    view: View,
    now: Option<Timestamp>,
    names: &BTreeMap<&str, &str>,
    fragments: &Fragments,
    notes: &mut Vec<Problem>,
) -> Result<Query, Problem> {
    // Columns of type char are padded with blanks.
    let text = |column: &str| Ok::<_, Problem>(row.text(column)?.unwrap_or_default().trim_end().to_owned());
    let user = text("user_id")?;
    let id = text("query_id")?;
    let started = time(row, "started", notes);
    let since = started.zip(now).map(|(started, now)| now.duration_since(started).as_secs_f64());
    let microseconds = |column: &str| Ok::<_, Problem>(row.number(column)?.map(|time| time / 1e6));
    let (elapsed, queue, database, status, short) = match view {
        View::Sys => (
            microseconds("elapsed_time")?.filter(|elapsed| *elapsed > 0.0).or(since),
            microseconds("queue_time")?,
            Some(text("database_name")?),
            text("status")?,
            // Only for a query whose fragments are not there yet; unreadable ones are no reason to lose the query.
            row.text("text").ok().flatten().map(|text| text.trim_end().replace("\\n", "\n")),
        ),
        View::Svv => (since, None, None, "running".to_owned(), None),
    };
    Ok(Query {
        pid: text("pid")?,
        user: names.get(user.as_str()).map_or_else(|| user.clone(), |name| (*name).trim_end().to_owned()),
        database,
        status,
        started,
        elapsed,
        queue,
        text: fragments.text(&id).or(short),
        id,
    })
}

/// Whether the rights open this view to the queries of all users. Each view has its own right; the other one may help too, but to say so
/// without knowing it would hide that we are blind.
pub(super) fn read_rights(tables: &[Table], view: View, login: &str) -> Result<bool, Problem> {
    let [users, grants] = tables else {
        return Err(Problem::new(Reason::Protocol, format!("{} results for two questions", tables.len())));
    };
    let ours = |row: &Row<'_>| Ok::<_, Problem>(row.text("user_name")?.map(str::trim_end) == Some(login));
    for row in users.rows() {
        let unrestricted =
            row.text("syslog_access")?.is_some_and(|access| access.trim_end() == "UNRESTRICTED");
        if ours(&row)? && (row.flag("superuser")? == Some(true) || view == View::Svv && unrestricted) {
            return Ok(true);
        }
    }
    for row in grants.rows() {
        let role = row.text("role_name")?.is_some_and(|role| SEEING_ROLES.contains(&role.trim_end()));
        if ours(&row)? && view == View::Sys && role {
            return Ok(true);
        }
    }
    Ok(false)
}
