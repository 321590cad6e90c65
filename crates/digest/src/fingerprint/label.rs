//! The label of a statement: its verb and its tables, never a literal.

use super::keywords::{is, is_keyword};
use super::normal::Form;
use super::pieces::Piece;

/// More are left out.
const TABLES: usize = 3;

/// A label is cut here, in bytes: it becomes a value of a metric's label.
const LONGEST: usize = 100;

/// Shown in place of a first word that is not one of these: it may come from the middle of a literal.
const OTHER: &str = "OTHER";

const VERBS: [&str; 46] = [
    "ALTER",
    "ANALYZE",
    "BEGIN",
    "CALL",
    "CHANGE",
    "CHECK",
    "CLOSE",
    "COMMENT",
    "COMMIT",
    "COPY",
    "CREATE",
    "DEALLOCATE",
    "DECLARE",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DO",
    "DROP",
    "EXECUTE",
    "EXPLAIN",
    "FETCH",
    "FLUSH",
    "GRANT",
    "HANDLER",
    "INSERT",
    "KILL",
    "LOAD",
    "LOCK",
    "MERGE",
    "OPTIMIZE",
    "PREPARE",
    "PURGE",
    "REFRESH",
    "RENAME",
    "REPAIR",
    "REPLACE",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SELECT",
    "SET",
    "SHOW",
    "START",
    "TRUNCATE",
    "UNLOCK",
    "UPDATE",
];

/// Verbs without a rule of their own for tables.
const MORE_VERBS: [&str; 7] = ["USE", "VACUUM", "VALUES", "XA", "RESET", "STOP", "UNLOAD"];

/// May stand between a word such as `INTO` and the table.
const BEFORE_TABLE: [&[u8]; 12] = [
    b"concurrently",
    b"delayed",
    b"exists",
    b"high_priority",
    b"if",
    b"ignore",
    b"lateral",
    b"low_priority",
    b"not",
    b"only",
    b"quick",
    b"table",
];

/// Functions that take `FROM` between their arguments.
const WITH_FROM: [&[u8]; 6] = [b"extract", b"overlay", b"position", b"substr", b"substring", b"trim"];

/// What the next piece may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing to be shown.
    Anything,
    /// A table.
    Table,
    /// More of a table's name: a dot, or what comes behind it.
    Dot,
    PartOfName,
    /// An alias, or a comma and another table.
    MoreTables,
}

/// The label so far.
pub(super) struct Label {
    verb: Option<&'static str>,
    /// It began with `WITH`: names of subqueries come before the verb.
    with: bool,
    of_table: bool,
    tables: Vec<String>,
    next: Next,
    word: Vec<u8>,
    depth: usize,
    /// Depth of the function whose `FROM` names no table.
    function: Option<usize>,
}

impl Label {
    pub(super) fn new() -> Self {
        Self {
            verb: None,
            with: false,
            of_table: false,
            tables: Vec::new(),
            next: Next::Anything,
            word: Vec::new(),
            depth: 0,
            function: None,
        }
    }

    pub(super) fn finish(mut self) -> String {
        let mut label = self.verb.unwrap_or(OTHER).to_owned();
        if self.of_table {
            label += " TABLE";
        }
        let mut kept: Vec<String> = Vec::new();
        for table in self.tables.drain(..) {
            if kept.len() < TABLES && !kept.contains(&table) {
                kept.push(table);
            }
        }
        if !kept.is_empty() {
            label += if matches!(self.verb, Some("INSERT" | "REPLACE")) { " INTO " } else { " " };
            label += &kept.join(", ");
        }
        label.truncate(label.floor_char_boundary(LONGEST));
        label
    }

    fn word(&mut self, word: &[u8]) {
        if self.verb.is_none() {
            self.first_word(word);
        } else if self.next == Next::Table && (is(word, b"outfile") || is(word, b"dumpfile")) {
            self.next = Next::Anything;
        } else if self.next == Next::Table && BEFORE_TABLE.iter().any(|skipped| is(word, skipped)) {
            self.of_table |= is(word, b"table") && matches!(self.verb, Some("LOCK"));
        } else if self.next == Next::PartOfName || (self.next == Next::Table && !is_keyword(word)) {
            self.name(&String::from_utf8_lossy(word).to_ascii_lowercase());
        } else if self.names_table(word) {
            self.next = Next::Table;
        } else if self.next != Next::Anything && is_keyword(word) && !is(word, b"as") {
            self.next = Next::Anything;
        } else if self.next == Next::Dot {
            self.next = Next::MoreTables;
        }
        self.word.clear();
        self.word.extend_from_slice(word);
    }

    fn first_word(&mut self, word: &[u8]) {
        // What stands behind says more.
        if is(word, b"with") {
            self.with = true;
            return;
        }
        self.verb = VERBS.iter().chain(&MORE_VERBS).find(|verb| is(word, verb.as_bytes())).copied();
        if self.verb.is_none() && !self.with {
            self.verb = Some(OTHER);
        }
        if matches!(self.verb, Some("UPDATE" | "CALL" | "TRUNCATE" | "COPY")) {
            self.next = Next::Table;
        }
    }

    /// Whether a table may follow this word.
    fn names_table(&mut self, word: &[u8]) -> bool {
        if is(word, b"table") && matches!(self.verb, Some("ALTER" | "CREATE" | "DROP" | "RENAME" | "ANALYZE"))
        {
            self.of_table = true;
            return true;
        }
        match word.len() {
            4 if is(word, b"from") => self.function.is_none() && !is(&self.word, b"distinct"),
            4 => is(word, b"join") || is(word, b"into"),
            5 => is(word, b"table"),
            6 => is(word, b"tables") && self.verb == Some("LOCK"),
            13 => is(word, b"straight_join"),
            _ => false,
        }
    }

    fn name(&mut self, name: &str) {
        match (self.next, self.tables.last_mut()) {
            (Next::PartOfName, Some(table)) => {
                table.push('.');
                table.push_str(name);
            }
            _ => self.tables.push(name.to_owned()),
        }
        self.next = Next::Dot;
    }

    fn symbol(&mut self, symbol: u8) {
        match symbol {
            b'(' => {
                self.depth += 1;
                if self.function.is_none() && WITH_FROM.iter().any(|function| is(&self.word, function)) {
                    self.function = Some(self.depth);
                }
            }
            b')' => {
                if self.function == Some(self.depth) {
                    self.function = None;
                }
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
        self.next = match (self.next, symbol) {
            (Next::Dot, b'.') => Next::PartOfName,
            (Next::Dot | Next::MoreTables, b',') | (Next::Table, b'(') => Next::Table,
            _ => Next::Anything,
        };
    }
}

impl Form for Label {
    fn piece(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Word(word) => self.word(word.text),
            Piece::WideWord(word) => self.word(word),
            Piece::Name(name) if matches!(self.next, Next::Table | Next::PartOfName) => {
                let inner = name.get(1..name.len().saturating_sub(1)).unwrap_or_default();
                self.name(&String::from_utf8_lossy(inner));
                self.word.clear();
            }
            Piece::Name(_) if self.next == Next::Dot => self.next = Next::MoreTables,
            Piece::Name(_) => self.word.clear(),
            Piece::Value => {
                self.next = Next::Anything;
                self.word.clear();
            }
            Piece::Symbol(symbol) => {
                self.symbol(symbol);
                self.word.clear();
            }
        }
    }
}
