//! Bugs to plant in the simulated executor, so that production code carries no hook for them.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// An `EndTxn` that succeeded at the second try counts as clean, so the producer is used again.
    ReuseProducer,
    /// What was aborted is computed again from the state as it is now.
    RecomputeAfterAbort,
    /// Equal positions count as "committed", whatever the epoch number.
    BoundaryByPosition,
    /// A checkpoint is reported when its parts are there, but not its manifest.
    PointerBeforeManifest,
    /// What a record pushes out is deleted before that record is committed.
    DeleteBeforeCommit,
    /// The reading before the fence is used again behind it.
    SkipSecondRead,
    /// A higher term in the journal is taken for our own.
    IgnoreTerm,
    /// Rows reach the external sink before their epoch is committed.
    ExternalBeforeCommit,
    /// What was uncertain is sent again without a look at the journal.
    ResendWithoutReading,
    /// A transactional id of one's own: nobody is fenced.
    ClaimWithoutFencing,
    /// Rows handed to the external sink count as applied.
    AppliedWhenSent,
    /// Epochs are replayed with cuts of one's own.
    ReplayOtherCuts,
}

impl Bug {
    pub const ALL: [Bug; 12] = [
        Bug::ReuseProducer,
        Bug::RecomputeAfterAbort,
        Bug::BoundaryByPosition,
        Bug::PointerBeforeManifest,
        Bug::DeleteBeforeCommit,
        Bug::SkipSecondRead,
        Bug::IgnoreTerm,
        Bug::ExternalBeforeCommit,
        Bug::ResendWithoutReading,
        Bug::ClaimWithoutFencing,
        Bug::AppliedWhenSent,
        Bug::ReplayOtherCuts,
    ];
}
