//! Families, samples and their three spellings.
//!
//! A check fills an [`Answer`] with samples of [`Family`]s. Answers with their common labels are the [`Part`]s of a
//! [`Snapshot`]. The snapshot is written as Prometheus or `OpenMetrics` text ([`exposition`]), as OTLP ([`otlp`]) and
//! as `DogStatsD` lines ([`dogstatsd`]). One table, three spellings: names and units are derived from the family alone.
//! Bytes out, no sockets.

pub mod answer;
pub mod delta;
pub mod dogstatsd;
pub mod exposition;
pub mod family;
mod group;
mod number;
pub mod otlp;
pub mod snapshot;

pub use answer::{Answer, Buckets, Column, Values};
pub use family::{Family, Handle, Kind, Labels, Metric, Origin, Unit};
pub use snapshot::{Part, Snapshot};
