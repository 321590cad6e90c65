//! Logs: what comes in as bytes, in whatever wrapping and format, and goes on as events.

pub mod decode;
pub mod read;
pub mod sniff;
