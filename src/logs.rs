//! Log lines: where they come in, what they become, and how they are kept without losing one.

pub mod archive;
mod keyed_hash;
pub mod scribe;
