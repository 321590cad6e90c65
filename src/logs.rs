//! Log lines: what comes in as bytes, in whatever wrapping and format, what it becomes, and how it is kept without losing any.

pub mod archive;
pub mod decode;
mod keyed_hash;
pub mod read;
pub mod scribe;
pub mod sniff;
