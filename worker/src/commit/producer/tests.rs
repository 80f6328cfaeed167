use super::*;

#[test]
fn an_end_that_was_retried_is_unclean() {
    let log = Arc::new(LogWatch::default());
    let watch = log.clone().watch();
    let line = |outcome: &str| {
        format!(
            "[thrd:main]: EndTxn returned {outcome} in state CommittingTransaction (may_retry=true)"
        )
    };
    watch("ENDTXN", &line("NO_ERROR"));
    watch(
        "TXNCOMMIT",
        "[thrd:main]: EndTxn returned _TRANSPORT, as told by another facility",
    );
    assert!(!log.unclean.load(Ordering::Acquire));
    watch("ENDTXN", &line("_TRANSPORT"));
    watch("ENDTXN", &line("NO_ERROR"));
    assert!(
        log.unclean.load(Ordering::Acquire),
        "the success of the retry does not wash it clean"
    );
}

#[test]
fn the_gap_follows_the_refusals() {
    let mut gap = Gap::default();
    for _ in 0..20 {
        gap.committed(true);
    }
    assert_eq!(gap.length, Gap::MOST);
    // A transaction that began late says nothing about the gap.
    gap.committed(false);
    assert_eq!(gap.length, Gap::MOST);
    gap.tight = true;
    gap.committed(false);
    assert!(gap.length < Gap::MOST);
}
