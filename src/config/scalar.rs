//! Placeholder, being written.
use serde::Deserialize;
#[derive(Clone, Debug, PartialEq, Deserialize, schemars::JsonSchema)]
pub struct Interval(u64);
impl Interval { pub fn duration(&self) -> std::time::Duration { std::time::Duration::from_secs(self.0) } }
#[derive(Clone, Debug, PartialEq, Deserialize, schemars::JsonSchema)]
pub struct Size(pub u64);
