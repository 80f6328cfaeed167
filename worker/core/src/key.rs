//! Keys: which partition one belongs to, and groups as bytes that compare as their columns do.

mod groups;
#[cfg(test)]
mod tests;

pub use self::groups::{EncodedKeys, GroupKeys, KeyError};

/// The partition of a record's key among `partitions`, as the default partitioner of Kafka's Java client chooses it.
/// Topics of ours and theirs are co-partitioned.
#[inline]
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// Murmur2 in 32 bits with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`).
#[inline]
pub fn murmur2(bytes: &[u8]) -> u32 {
    const FACTOR: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    // Java's `length` is an int too.
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(FACTOR);
        word ^= word >> 24;
        hash = hash.wrapping_mul(FACTOR) ^ word.wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(FACTOR);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(FACTOR);
    hash ^ (hash >> 15)
}
