//! Why a slot does not go on: never skip, never reset, say what happened, what a user may do and what that costs.

use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StopReason {
    #[error("slot {slot} was taken over by {owner} under term {term}")]
    TakenOver { slot: u32, owner: String, term: u64 },
    #[error("slot {slot} is claimed by {owner} under our own term {term}")]
    TwoOwners { slot: u32, owner: String, term: u64 },
    #[error("the journal of slot {slot} is missing, though the job has run before")]
    JournalMissing { slot: u32 },
    #[error("the journal of slot {slot} contradicts this worker: {what}")]
    JournalConflict { slot: u32, what: String },
    #[error("the journal belongs to job {found}, not to {job}")]
    OtherJob { job: String, found: String },
    #[error(
        "replay of epoch {epoch} of slot {slot} gave {now} where the journal has {journalled}: \
         the engine, the plan or the input is not what it was"
    )]
    DigestMismatch {
        slot: u32,
        epoch: u64,
        journalled: String,
        now: String,
    },
    #[error(
        "slot {slot} has no undamaged checkpoint from which the journal leads up to epoch {epoch}"
    )]
    StateLost { slot: u32, epoch: u64 },
    #[error("topic {topic} was re-created: its id was {before}, now it is {now}")]
    TopicRecreated {
        topic: String,
        before: String,
        now: String,
    },
    #[error("topic {topic} had {before} partitions, now it has {now}")]
    PartitionsChanged {
        topic: String,
        before: u32,
        now: u32,
    },
    #[error("{input} is gone")]
    InputMissing { input: String },
    #[error("source {input} read topic {before}, now it names {now}")]
    InputChanged {
        input: String,
        before: String,
        now: String,
    },
    #[error("the job was made with {before} slots, now its maxParallelism is {now}")]
    SlotsChanged { before: u32, now: u32 },
    #[error("the job was changed, and slot {slot} cannot go on from its state: {changes}")]
    PlanIncompatible { slot: u32, changes: String },
    #[error("the job was changed, and slot {slot} cannot go on from its state: {what}")]
    PlanUnknown { slot: u32, what: String },
    #[error("step `{step}` was part of the job before, and rows for it lie in its topic still")]
    StepReturned { step: String },
    #[error("slot {slot} cannot commit: {what}")]
    CommitImpossible { slot: u32, what: String },
    #[error("internal error in slot {slot}: {what}")]
    Internal { slot: u32, what: String },
}

impl StopReason {
    /// What a user may do, and what it costs.
    pub fn hint(&self) -> &'static str {
        match self {
            StopReason::TakenOver { .. } => {
                "the other worker goes on from the last committed epoch, nothing is lost; start this one again to take over from it"
            }
            StopReason::TwoOwners { .. } => {
                "stop one of the two, or start this one with a higher --term: it then takes over"
            }
            StopReason::JournalMissing { .. } => {
                "restore the journal topic if you can; `--fresh` forgets the job's progress and state and reads from startFrom again, \
                 which puts rows out a second time"
            }
            StopReason::JournalConflict { .. } => {
                "find out who else writes to the journal topic; `--fresh` forgets progress and state and puts rows out a second time"
            }
            StopReason::OtherJob { .. } => {
                "give each job its own name, namespace or `--uid`, or its own --state-dir"
            }
            StopReason::DigestMismatch { .. } => {
                "run the version that wrote the journal; or `--fresh`, which forgets progress and state and puts rows out a second time"
            }
            StopReason::StateLost { .. } => {
                "restore the checkpoint storage if you can; `--fresh` forgets progress and state, reads from startFrom again \
                 and puts rows out a second time"
            }
            StopReason::TopicRecreated { .. } => {
                "offsets of the old topic mean nothing in the new one; `--fresh` forgets progress and state and reads the new topic \
                 from startFrom; windows that were open are lost"
            }
            StopReason::PartitionsChanged { .. } => {
                "keys have moved between partitions, so state is not where their events are; run the input as a new job (another name or \
                 `--uid`), or `--fresh`, which forgets progress and state and puts rows out a second time"
            }
            StopReason::InputMissing { .. } => {
                "bring it back; `--fresh` forgets progress and state and starts with the inputs there are now"
            }
            StopReason::InputChanged { .. } => {
                "a source's topic cannot be changed in place: give the source another name, or start a new job (another name or `--uid`); \
                 `--fresh` forgets progress and state"
            }
            StopReason::SlotsChanged { .. } => {
                "maxParallelism is immutable: set it back, or start a new job (another name or `--uid`); `--fresh` forgets progress and \
                 state and puts rows out a second time"
            }
            StopReason::PlanIncompatible { .. } => {
                "set it back; or give the steps concerned other names: they then begin empty, beside what is kept. \
                 `upgrade.onIncompatibleState: Discard` lets steps with other windows or aggregates begin empty under their names. \
                 `--fresh` forgets progress and state of all and puts rows out a second time"
            }
            StopReason::PlanUnknown { .. } => {
                "run the job once as it was until it has made a checkpoint (stop it with SIGTERM), then change it; \
                 `--fresh` forgets progress and state and puts rows out a second time"
            }
            StopReason::StepReturned { .. } => "give the step another name",
            StopReason::CommitImpossible { .. } => {
                "mend what the message says and start again: the job goes on after its last committed epoch"
            }
            StopReason::Internal { .. } => {
                "please report it; starting again is safe: the job goes on after its last committed epoch"
            }
        }
    }
}
