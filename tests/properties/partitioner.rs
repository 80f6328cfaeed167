//! Keys land where Java's clients put them, by two implementations that know nothing of each other.

use streamjob_core::key::partition_of;
use streamjob_tests::workload::murmur2;

#[test]
fn engine_and_workload_agree_on_every_key() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..10_000 {
        let key: Vec<u8> = (0..random.usize(0..40)).map(|_| random.u8(..)).collect();
        let partitions = random.u32(1..100);
        let ours = murmur2::partition(&key, partitions as usize);
        assert_eq!(
            partition_of(&key, partitions) as usize,
            ours,
            "{key:?} over {partitions}"
        );
    }
}
