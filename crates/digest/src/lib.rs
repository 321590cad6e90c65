//! SQL text in, masked text and statement counts out; no I/O, nothing but the standard library.
//!
//! Both fail closed: of what cannot be read for certain, [`mask()`] shows nothing and [`statements()`] counts the most.

pub mod event;
pub mod lexer;
pub mod mask;
pub mod statements;
pub mod tally;
pub mod times;

pub use event::Event;
pub use lexer::{Dialect, Kind, Token, tokens};
pub use mask::{UNREAD, mask};
pub use statements::statements;
