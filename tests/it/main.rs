//! Integration tests against real parts: one binary, one `mod` per subject. `stage` starts what they need.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::float_cmp,
    reason = "a test stops at the first surprise, may print what it saw, lives in real time, and knows exact values"
)]

mod architecture;
mod artefacts;
mod aws;
mod cli;
mod compose;
mod dashboards;
mod demo;
mod digest;
mod documents;
mod freeze;
mod inflight;
mod init;
mod insights;
mod isolation;
mod log_outlets;
mod logs;
mod memorydb;
mod moto;
mod package;
mod page;
mod program;
mod recorder;
mod redis;
mod references;
mod replication;
mod secrets;
mod serve;
mod slack;
mod slack_evidence;
mod sql;
mod stage;
mod stores;
mod three_spellings;
mod wire;
