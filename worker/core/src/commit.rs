//! The commit protocol: what is written for an epoch, and what to do after every outcome. Decisions only; the worker's
//! `commit` room is the one that executes them.

pub mod record;
