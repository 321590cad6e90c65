//! datapulse: every check becomes gauges and counters.

pub mod check;
pub mod config;
pub mod net;
pub mod task;
