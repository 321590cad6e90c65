//! Which columns a PostgreSQL server has: statements are made from what is there, never from a list by version.

use crate::check::Problem;
use crate::net::postgres::Link;
use std::collections::BTreeSet;
use tokio::time::Instant;

/// The columns of some system views on one server that this login may read.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The session in which this was read; a new login may meet another server.
    pub session: u64,
    /// `view.column`.
    columns: BTreeSet<String>,
}

impl Catalog {
    /// Reads the columns of `views` (in `pg_catalog`).
    pub async fn read(link: &mut Link, views: &[&str], deadline: Instant) -> Result<Self, Problem> {
        let session = link.session(deadline).await?.number;
        let names: Vec<String> = views.iter().map(|view| format!("'{view}'")).collect();
        // has_column_privilege: pg_subscription.oid exists everywhere, but only servers from 14 on let everybody read it.
        let sql = format!(
            "select c.relname, a.attname from pg_catalog.pg_attribute a \
             join pg_catalog.pg_class c on c.oid = a.attrelid \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = 'pg_catalog' and c.relname in ({}) and not a.attisdropped \
             and pg_catalog.has_column_privilege(c.oid, a.attnum, 'select')",
            names.join(", ")
        );
        let mut columns = BTreeSet::new();
        for table in link.ask(&sql, deadline).await? {
            for row in table.rows() {
                if let (Some(view), Some(column)) = (row.text("relname")?, row.text("attname")?) {
                    columns.insert(format!("{view}.{column}"));
                }
            }
        }
        // The session that gave the answer: it is another one when the first was lost in between.
        let session = link.known().map_or(session, |session| session.number);
        Ok(Self { session, columns })
    }

    /// Whether the view has this column, and we may read it.
    pub fn has(&self, view: &str, column: &str) -> bool {
        self.columns.contains(&format!("{view}.{column}"))
    }

    /// The expression where the view has the column, else `null`.
    pub fn pick(&self, view: &str, column: &str, expression: &str) -> String {
        if self.has(view, column) { expression.to_owned() } else { "null".to_owned() }
    }

    /// The columns of a view that begin so, without the beginning.
    pub fn beginning<'a>(&'a self, view: &str, prefix: &str) -> impl Iterator<Item = &'a str> {
        let prefix = format!("{view}.{prefix}");
        self.columns.iter().filter_map(move |column| column.strip_prefix(prefix.as_str()))
    }

    /// The columns of a view that a statement uses, for `doctor`.
    pub fn used(&self, view: &str, sql: &str) -> String {
        self.beginning(view, "").filter(|column| sql.contains(*column)).collect::<Vec<_>>().join(", ")
    }

    /// A catalog for tests, from `view.column` words.
    #[cfg(test)]
    pub fn of(columns: &[&str]) -> Self {
        Self { session: 1, columns: columns.iter().map(|column| (*column).to_owned()).collect() }
    }
}
