//! What a question gave, whoever answered: named columns, values as they were written, read one by one.

use crate::check::{Problem, Reason};

/// The rows of one statement. All values lie in one text, so a large answer is one allocation and not one for each value.
#[derive(Debug, Default)]
pub struct Table {
    columns: Vec<String>,
    text: String,
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug)]
enum Cell {
    Null,
    /// Not UTF-8. Only this value is lost, the row stays.
    Unreadable,
    Text {
        start: u32,
        end: u32,
    },
}

/// One row of a [`Table`].
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    table: &'a Table,
    cells: &'a [Cell],
}

impl Table {
    pub(crate) fn new(columns: impl Iterator<Item = String>) -> Self {
        Self { columns: columns.collect(), ..Self::default() }
    }

    /// Adds a row; a value that is an error stays in the row as unreadable.
    pub(crate) fn push<'v, E>(&mut self, values: impl Iterator<Item = Result<Option<&'v str>, E>>) {
        for value in values {
            self.cells.push(match value {
                Ok(Some(value)) => {
                    let start = self.end();
                    self.text.push_str(value);
                    Cell::Text { start, end: self.end() }
                }
                Ok(None) => Cell::Null,
                Err(_) => Cell::Unreadable,
            });
        }
    }

    /// An answer is far smaller than 4 GB; a place beyond would only make its value empty.
    fn end(&self) -> u32 {
        u32::try_from(self.text.len()).unwrap_or(u32::MAX)
    }

    /// The names of the columns, in the order of the statement.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.cells.len().checked_div(self.columns.len()).unwrap_or(0)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The rows, in the order of the answer.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.cells.chunks(self.columns.len().max(1)).map(|cells| Row { table: self, cells })
    }

    /// A table for tests, with a value for each column in each row.
    #[cfg(test)]
    pub(crate) fn of(columns: &[&str], rows: &[&[Option<&str>]]) -> Self {
        let mut table = Self::new(columns.iter().map(|column| (*column).to_owned()));
        for row in rows {
            table.push(row.iter().map(|value| Ok::<_, ()>(*value)));
        }
        table
    }
}

impl<'a> Row<'a> {
    /// The value as the server wrote it; `None` is NULL. Of equal names the first column counts.
    ///
    /// # Errors
    /// `decode` when there is no such column or the value is not UTF-8. No error repeats the value.
    pub fn text(&self, column: &str) -> Result<Option<&'a str>, Problem> {
        let place = self.table.columns.iter().position(|name| name == column);
        match place.and_then(|place| self.cells.get(place)) {
            Some(Cell::Null) => Ok(None),
            Some(Cell::Text { start, end }) => Ok(self.table.text.get(*start as usize..*end as usize)),
            Some(Cell::Unreadable) => Err(unreadable(column, "is not UTF-8")),
            None => Err(unreadable(column, "is not in the answer")),
        }
    }

    /// The value as a finite number; `None` is NULL.
    ///
    /// # Errors
    /// `decode` as for [`Row::text`], and when the value is not a finite number: NaN would silence every rule.
    pub fn number(&self, column: &str) -> Result<Option<f64>, Problem> {
        let Some(text) = self.text(column)? else { return Ok(None) };
        match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(unreadable(column, "is not a finite number")),
        }
    }

    /// The value as a flag; `None` is NULL.
    ///
    /// # Errors
    /// `decode` as for [`Row::text`], and when the value is neither true nor false.
    pub fn flag(&self, column: &str) -> Result<Option<bool>, Problem> {
        match self.text(column)? {
            None => Ok(None),
            Some("t" | "true") => Ok(Some(true)),
            Some("f" | "false") => Ok(Some(false)),
            Some(_) => Err(unreadable(column, "is neither true nor false")),
        }
    }
}

fn unreadable(column: &str, why: &str) -> Problem {
    Problem::new(Reason::Decode, format!("column {column} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_the_name_of_their_column() {
        let table = Table::of(
            &["name", "lag", "active"],
            &[
                &[Some("a"), Some("1.5"), Some("t")],
                &[Some(""), None, Some("f")],
                &[None, Some("-3e2"), None],
            ],
        );
        assert_eq!(table.len(), 3);
        let read: Vec<_> = table
            .rows()
            .map(|row| (row.text("name").unwrap(), row.number("lag").unwrap(), row.flag("active").unwrap()))
            .collect();
        let expected =
            [(Some("a"), Some(1.5), Some(true)), (Some(""), None, Some(false)), (None, Some(-300.0), None)];
        assert_eq!(read, expected);
    }

    #[test]
    fn a_bad_value_is_a_decode_problem_that_names_the_column_and_not_the_value() {
        let table = Table::of(&["a"], &[&[Some("canary")], &[Some("NaN")], &[Some("Infinity")], &[Some("")]]);
        for row in table.rows() {
            for problem in [row.number("a").unwrap_err(), row.flag("a").unwrap_err()] {
                assert_eq!(problem.reason, Reason::Decode);
                assert!(problem.to_string().starts_with("column a is n"), "{problem}");
                assert!(!problem.to_string().contains("canary"));
            }
        }
        let row = table.rows().next().unwrap();
        assert_eq!(row.text("b").unwrap_err().to_string(), "column b is not in the answer");
    }

    #[test]
    fn a_value_that_is_not_utf8_leaves_the_others_readable() {
        let mut table = Table::new(["a", "b"].into_iter().map(str::to_owned));
        table.push([Err(()), Ok(Some("x"))].into_iter());
        let row = table.rows().next().unwrap();
        assert_eq!(row.text("a").unwrap_err().to_string(), "column a is not UTF-8");
        assert_eq!(row.text("b").unwrap(), Some("x"));
    }

    #[test]
    fn a_statement_without_rows_keeps_its_columns() {
        let table = Table::of(&["a"], &[]);
        assert!(table.is_empty());
        assert_eq!(table.rows().count(), 0);
        assert_eq!(table.columns(), ["a"]);
    }
}
