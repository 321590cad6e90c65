//! What the ledger remembers: a checkpoint says everything, and a record of each commit what changed.

use super::Notes;
use super::ids::Packed;
use super::tally::Sums;
use crate::logs::archive::files::FileRecord;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Of the records; a rise makes older versions of the program refuse the ledger.
pub(crate) const VERSION: u32 = 1;

/// One record. A checkpoint is `Start`, then `Files`, `Totals` and `Ids` as often as needed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    /// Everything before this is void.
    Start {
        /// Of the hashes of ids.
        key: [u64; 2],
        /// Before this instant ids may be missing.
        sure_since_ms: i64,
        notes: Notes,
    },
    /// A piece of a generation of ids; the older generation comes first.
    Ids {
        since_ms: i64,
        hashes: Packed,
    },
    /// Files that lines will be written to.
    Files(Vec<FileRecord>),
    /// Totals, by family.
    Totals(Sums),
    Committed(Commit),
    /// The file has its final name, or was empty and is gone.
    Sealed {
        path: String,
    },
}

/// The commit point of a batch.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub(crate) ids: Packed,
    /// How many bytes of each file count now.
    pub(crate) lengths: BTreeMap<String, u64>,
    /// What is added to the totals.
    pub(crate) sums: Sums,
    /// Notes that are new, and those that are gone.
    pub(crate) notes: BTreeMap<Arc<str>, Option<Arc<str>>>,
    /// Series that end before the sums are added, by family.
    pub(crate) ended: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Commit {
    /// Whether it changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.0.is_empty() && self.sums.is_empty() && self.notes.is_empty() && self.ended.is_empty()
    }
}
