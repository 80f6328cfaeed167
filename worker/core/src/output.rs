//! What an epoch puts out: encoded once, sent as it is, resent as it is after an abort, and never computed again.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

/// All rows of one epoch of one slot.
#[derive(Clone, Debug, Default)]
pub struct EpochOutput {
    /// In an order that depends on the input alone: by task, then target. A target may come several times.
    pub targets: Vec<TargetOutput>,
    /// Watermarks for internal topics: no rows, so neither digested nor derived again in a replay.
    pub punctuation: Vec<TargetOutput>,
}

/// A sink of the plan or an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    Sink(usize),
    Exchange(usize),
}

/// Rows for one target, in order. Keys and values are ranges of `bytes`.
#[derive(Clone, Debug)]
pub struct TargetOutput {
    pub target: Target,
    pub bytes: Vec<u8>,
    pub rows: Vec<OutRow>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutRow {
    pub key: Option<Range<u32>>,
    /// `None`: a tombstone.
    pub value: Option<Range<u32>>,
    pub partition: u32,
}

impl TargetOutput {
    pub fn new(target: Target) -> Self {
        TargetOutput {
            target,
            bytes: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    pub fn key(&self, row: &OutRow) -> Option<&[u8]> {
        row.key.as_ref().map(|range| self.slice(range))
    }

    pub fn value(&self, row: &OutRow) -> Option<&[u8]> {
        row.value.as_ref().map(|range| self.slice(range))
    }
}

impl EpochOutput {
    /// Rows put out, to sinks and exchanges.
    pub fn rows(&self) -> u64 {
        self.targets
            .iter()
            .map(|target| target.rows.len() as u64)
            .sum()
    }

    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.punctuation.is_empty()
    }

    /// XXH3-128 of all rows in order, hexadecimal: equal digests mean equal output.
    pub fn digest(&self) -> String {
        let mut hash = Xxh3::new();
        for target in &self.targets {
            let (kind, index) = match target.target {
                Target::Sink(index) => (0u8, index),
                Target::Exchange(index) => (1u8, index),
            };
            hash.update(&[kind]);
            hash.update(&(index as u32).to_le_bytes());
            for row in &target.rows {
                let length = |range: &Option<Range<u32>>| {
                    range
                        .as_ref()
                        .map_or(u32::MAX, |range| range.end - range.start)
                };
                hash.update(&row.partition.to_le_bytes());
                hash.update(&length(&row.key).to_le_bytes());
                hash.update(&length(&row.value).to_le_bytes());
            }
            hash.update(&target.bytes);
        }
        format!("{:032x}", hash.digest128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(key: &str, value: &str, partition: u32) -> EpochOutput {
        let mut target = TargetOutput::new(Target::Sink(0));
        target.bytes = format!("{key}{value}").into_bytes();
        let (end, all) = (key.len() as u32, (key.len() + value.len()) as u32);
        target.rows.push(OutRow {
            key: Some(0..end),
            value: Some(end..all),
            partition,
        });
        EpochOutput {
            targets: vec![target],
            punctuation: Vec::new(),
        }
    }

    #[test]
    fn a_digest_tells_outputs_apart() {
        let one = output("k", "value", 0);
        assert_eq!(one.digest(), output("k", "value", 0).digest());
        for other in [
            output("kv", "alue", 0),
            output("k", "value", 1),
            output("k", "valuf", 0),
            EpochOutput::default(),
        ] {
            assert_ne!(one.digest(), other.digest());
        }
    }
}
