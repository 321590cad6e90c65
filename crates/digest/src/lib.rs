//! SQL text and logs in; masked text, statement counts, fingerprints and events out. No I/O.
//!
//! All fail closed: of what cannot be read for certain, [`mask()`], [`shape()`] and [`statement()`] show nothing, and
//! [`statements()`] counts the most.

mod eight;
pub mod event;
pub mod fingerprint;
pub mod lexer;
pub mod mask;
pub mod mysql_slow;
pub mod payload;
pub mod postgres;
pub mod statements;
pub mod tally;
pub mod times;
pub mod top;

pub use event::{End, Event};
pub use fingerprint::{RULES, fingerprint, shape, statement};
pub use lexer::{Dialect, Kind, Token, tokens};
pub use mask::{UNREAD, mask};
pub use statements::statements;
