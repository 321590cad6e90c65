//! datapulse: every check becomes gauges and counters, shown on `/metrics` and pushed over OTLP and DogStatsD.
//!
//! Data flows one way: an [`actor`] runs a [`check`], its report goes to the [`board`], and the board's snapshot is read by
//! the [`http`] server and the [`sinks`]. [`run`] owns all tasks; [`config`] makes the plan they follow; [`net`] is the only
//! way out. ARCHITECTURE.md is the map.

pub mod actor;
pub mod alarm;
pub mod alerts;
pub mod board;
pub mod check;
pub mod checks;
pub mod cli;
pub mod columns;
pub mod config;
pub mod demo;
pub mod discovery;
pub mod evidence;
pub mod http;
pub mod init;
pub mod journal;
pub mod logs;
pub mod net;
pub mod page;
pub mod prometheus;
pub mod run;
pub mod sinks;
pub mod spending;
pub mod state;
pub mod task;
pub mod vitals;
