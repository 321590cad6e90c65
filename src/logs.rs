//! Log lines: where they come in, what they become, and how they are kept without losing one.

pub mod archive;
pub mod scribe;
