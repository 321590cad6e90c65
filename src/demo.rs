//! The demo.
pub mod parts;
/// What the demo can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// Disable the subscription
    Disable,
    /// Lock a table that the subscription writes to
    Lock,
    /// Make the subscription fail on a duplicate key
    Conflict,
    /// Stop the publisher
    PublisherDown,
}
