//! The normal form of a statement, in which its literals are `?`, and the id of all statements that have it.
//!
//! One pass over the text gives the form piece by piece, and each function here makes something else of the pieces. So
//! two statements have one fingerprint when they have one shape; and a shape has itself as its shape. The rules:
//!
//! - Letter case of words, white space and comments do not count, nor do the last `;` and `ASC`. `/*! ... */` is a
//!   comment like any other, though a `MySQL` server runs it.
//! - A literal of any form is `?`, and so is a parameter. A sign that is no operator between two operands belongs to the
//!   number. `NULL`, `TRUE` and `FALSE` stay, and so do the digits in names.
//! - A list of literals in `IN (...)` or `ARRAY[...]` is one `?`. When its items are more, such as `'a'::text` or
//!   `lower('a')`, one of a kind is kept, so that the length does not count. All rows of `VALUES` are `(?)`, whatever
//!   they hold.
//! - What lost its end is a literal up to the end. So is all that follows what cannot be read for certain: control
//!   characters, a backslash outside of quotes, a word that touches a literal, a `*/` in quotes in a comment that a
//!   server runs, and what is in dispute between settings of a server.
//! - A backslash in a `MySQL` literal escapes. With `NO_BACKSLASH_ESCAPES`, which no log tells, `'C:\'` were a literal.
//!   When a quote behind a backslash could end the literal, since something follows that may follow a literal, the rest
//!   is in dispute; the `s` in `'it\'s'` may not.

mod classes;
mod hash;
mod holes;
mod items;
mod keywords;
mod label;
mod normal;
mod pieces;
mod template;
mod text;

use crate::lexer::Dialect;
use hash::Hash;
use label::Label;
use normal::{Form, normalize};
use pieces::Piece;
pub(crate) use template::Templates;
use text::Text;

/// Version of the rules: fingerprints of different versions have nothing to do with each other.
pub const RULES: u32 = 1;

/// How `MySQL` logs a command that is no SQL, such as `Quit`: behind what is a comment in SQL.
pub(crate) const ADMIN: &str = "# administrator command: ";

/// No name of such a command is longer, in bytes.
const LONGEST_COMMAND: usize = 32;

/// The id of all statements with this [`shape`], shown as 16 hexadecimal digits.
///
/// It is stable: it depends on the text, the dialect and [`RULES`], on no seed, machine or run.
pub fn fingerprint(sql: &[u8], dialect: Dialect) -> u64 {
    scan(sql, dialect).0
}

/// The fingerprint, and whether the text ends outside of literals, quoted names and block comments for certain.
#[inline]
pub(crate) fn scan(sql: &[u8], dialect: Dialect) -> (u64, bool) {
    let mut hash = Hash::new();
    if let Some(command) = admin_command(sql, dialect) {
        hash.piece(Piece::Name(command.to_ascii_lowercase().as_bytes()));
        return (hash.finish(), true);
    }
    let whole = normalize(sql, dialect, &mut hash);
    (hash.finish(), whole)
}

/// The readable normal form: lower case, `?` for literals, one space where pieces do not touch. It has no limit; it is
/// at most little longer than the statement.
pub fn shape(sql: &[u8], dialect: Dialect) -> String {
    if let Some(command) = admin_command(sql, dialect) {
        return ADMIN.to_owned() + &command.to_ascii_lowercase();
    }
    let mut text = Text::new();
    normalize(sql, dialect, &mut text);
    text.finish()
}

/// A short label: the verb in upper case and up to three tables, as in `SELECT orders, items` or `ADMIN Quit`; at most
/// 100 bytes. Of an unknown verb it shows `OTHER`.
pub fn statement(sql: &[u8], dialect: Dialect) -> String {
    if let Some(command) = admin_command(sql, dialect) {
        return format!("ADMIN {command}");
    }
    let mut label = Label::new();
    normalize(sql, dialect, &mut label);
    label.finish()
}

/// The name of a command as `MySQL` logs it; `?` when it can be none.
fn admin_command(sql: &[u8], dialect: Dialect) -> Option<&str> {
    match dialect {
        Dialect::MySql => {}
        Dialect::Postgres | Dialect::Redshift | Dialect::Trino => return None,
    }
    let command = sql.strip_prefix(ADMIN.as_bytes())?.trim_ascii();
    let command = command.strip_suffix(b";").unwrap_or(command);
    let readable = command.len() <= LONGEST_COMMAND
        && command.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b' ');
    if readable { std::str::from_utf8(command).ok() } else { Some("?") }
}

#[cfg(test)]
mod tests;
