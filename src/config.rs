//! The configuration.

pub mod scalar;
pub mod secret;
pub mod target;
