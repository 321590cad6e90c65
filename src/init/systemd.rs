//! The unit for systemd: the one of the package, word for word.

use super::File;

const UNIT: &str = include_str!("../../packaging/datapulse.service");

pub(super) fn file() -> File {
    File::new("systemd/datapulse.service", "runs it as a service that may do very little", UNIT)
}
