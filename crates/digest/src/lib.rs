//! SQL text and logs in; masked texts, statement counts and log messages out; no I/O.
//!
//! What is shown and what is run fail closed: of a text that cannot be read for certain, [`mask()`] shows nothing and
//! [`statements()`] counts the most.

pub mod event;
pub mod lexer;
pub mod mask;
pub mod postgres;
pub mod statements;

pub use event::Event;
pub use lexer::{Dialect, Kind, Token, tokens};
pub use mask::{UNREAD, mask};
pub use statements::statements;
