//! Log lines: what comes in as bytes, in whatever wrapping and format, what it becomes, and how it is kept without losing any.

pub mod archive;
pub mod decode;
pub mod documents;
pub mod elasticsearch;
pub mod firehose;
pub mod groups;
pub mod intake;
mod keyed_hash;
pub mod parse;
pub mod pull;
pub mod quarantine;
pub mod read;
pub mod report;
pub mod road;
pub mod routes;
pub mod scribe;
pub mod series;
pub mod sniff;
pub mod statements;
