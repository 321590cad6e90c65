//! stub
pub(crate) mod ids;
