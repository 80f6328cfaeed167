//! Where the commit protocol's records are kept.

pub mod kafka;
