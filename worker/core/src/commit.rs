//! The commit protocol of a slot: what is written for an epoch, and what to do after every outcome.
//!
//! Facts in, decisions out. [`SlotProtocol`] decides for one slot; it reads no clock, sends nothing and never
//! sees output bytes. The worker's `commit` room is the only one that carries its decisions out. The journal is
//! the only truth about progress: a slot's partition (or the local file) holds one record an epoch, in the same
//! transaction as the epoch's output.
//!
//! # Start
//!
//! ```text
//!            term higher, or equal with another owner           the same again
//!                      ┌── Stop 78 / 70                            ┌── Stop
//! start ─ ReadJournal ─┴─ InitProducer ── ReadJournal (again) ─────┴─ ResolveFacts ─ Commit(claim)
//!           everything ended ─ Done        │ somebody may have                            │
//!                                          │ claimed in between                           ▼
//!      Run(last) ◄─ Replayed, each epoch's digest compared ◄─ Replay(cuts) ◄─ Restored ◄─ Restore
//! ```
//!
//! # An epoch
//!
//! ```text
//! EpochClosed ─ Commit(record) ─┬─ Committed ──────────────────────────── Release(epoch), external sinks may apply
//!                   ▲           ├─ uncertain ─ InitProducer ─ ReadJournal ─┬─ journal has it: Release
//!                   │           │                                          ├─ it has not: Commit(the same record)
//!                   │           │                                          └─ another's record: Stop 78
//!                   │           └─ fenced ─ ReadJournal ─┬─ another's record: Stop 78
//!                   │                                    └─ ours: InitProducer ─ ReadJournal ─ as above
//!                   └────────────────────────────────── the same bytes, never recomputed
//! ```
//!
//! The journal tells by *epoch number* whether an uncertain commit happened: positions do not (an epoch may put
//! rows out without moving one), nor do output offsets. And it is read only *after* `init_transactions`, which
//! completes or aborts whatever was under way; with it the old producer's delayed requests are fenced, which might
//! otherwise commit the next transaction.
//!
//! # Checkpoints
//!
//! A checkpoint is named by a record only when its manifest is uploaded and every external sink has applied its
//! epoch, since rows not yet applied are derived again by replay from it. One that is pushed out of the list is
//! deleted after that record is committed, and only then are journal records that lead up to the oldest one dropped.
//!
//! # At least once
//!
//! Without transactions nothing fences a zombie, so records of several writers may interleave. Every reader drops
//! the same ones ([`Lineage`]), and what cannot be taken back (claim, deletion, the end) waits for
//! a reading of the journal that shows our record in the line.

mod checkpoints;
mod facts;
mod lineage;
mod protocol;
pub mod record;
mod stop;

pub use facts::check_facts;
pub use lineage::Lineage;
pub use protocol::SlotProtocol;
pub use stop::StopReason;

use std::collections::BTreeMap;

use record::{CheckpointRef, JobFacts, JournalRecord};
use streamjob_crds::Guarantee;

/// Who wants the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The job's uid.
    pub job: String,
    pub slot: u32,
    pub term: Term,
    /// Name of the worker (pod), stable over its restarts.
    pub owner: String,
    /// One life of the worker's process.
    pub incarnation: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// A placement's: `--term`, or the operator's.
    Given(u64),
    /// One more than the journal's last, as of the first reading.
    AfterLast,
}

/// What the job says about the protocol.
#[derive(Clone, Debug)]
pub struct Settings {
    pub guarantee: Guarantee,
    pub plan_hash: String,
    pub engine_version: String,
    /// Checkpoints to keep, at least 1.
    pub retain: usize,
    /// Names of the sinks outside the transaction: applied after the commit.
    pub external_sinks: Vec<String>,
    /// Names of the job's sources and of its exchanges.
    pub inputs: Vec<String>,
    /// Names of its exchanges alone.
    pub exchanges: Vec<String>,
}

/// What happened. Every decision that asks for something is answered by exactly one fact, named there.
#[derive(Clone, Debug)]
pub enum Fact {
    /// The slot's records from the start of its partition to its end, `read_committed`, in order.
    JournalRead {
        records: Vec<JournalRecord>,
        /// Whether records before these have been deleted (the partition's start offset is not 0).
        trimmed: bool,
    },
    /// The journal's topic, partition or file is gone (at a first start it is made before it is read).
    JournalMissing,
    ProducerReady,
    ProducerFailed(Failure),
    /// The commit was clean: every record acknowledged, a single `EndTxn` answered with no error.
    Committed,
    CommitFailed(Failure),
    FactsResolved {
        facts: JobFacts,
        /// First positions of this slot's inputs. Used at the slot's first start only.
        start: BTreeMap<String, i64>,
    },
    /// State was loaded from this checkpoint, or is empty because there is none to restore.
    Restored {
        checkpoint: Option<CheckpointRef>,
    },
    /// An epoch of [`Decision::Replay`] was computed again.
    Replayed {
        epoch: u64,
        digest: String,
        outputs: u64,
    },
    /// Only while [`SlotProtocol::ready_for_epoch`].
    EpochClosed(EpochDraft),
    /// The sink holds the rows of all epochs up to this one.
    ExternalApplied {
        sink: String,
        epoch: u64,
    },
    /// Parts and manifest are stored. It may then be named, sooner or later.
    CheckpointUploaded(CheckpointRef),
    /// Something only the caller can see: positions past retention, say.
    Refused(StopReason),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Another producer of the same transactional id was initialised (or the broker timed the transaction out);
    /// for a file: its tail is not what we saw last.
    Fenced,
    /// Committed or not, nobody knows: timeout, abort, transport error, an `EndTxn` answered with an error even if
    /// it was retried with success. Initialising a producer: it may be tried again.
    Uncertain,
    /// Trying again will not help: not authorised, record too large, disk full.
    Fatal(String),
}

/// The end of an epoch, as the engine saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpochDraft {
    /// Next position to read of every input of the slot.
    pub positions: BTreeMap<String, i64>,
    pub watermarks: BTreeMap<String, i64>,
    pub idle_advances: BTreeMap<String, i64>,
    /// Tasks that are idle.
    pub idle: Vec<String>,
    pub ended: Vec<String>,
    pub digest: String,
    pub outputs: u64,
    /// Wall clock in microseconds, for the sink timestamp.
    pub now_us: i64,
}

/// What to do. In order, if there are several.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// → `JournalRead` or `JournalMissing`. To the end as of now, never from a cache.
    ReadJournal,
    /// Drop the producer there is, wait as befits the attempt (0: not at all), make a new one and initialise its
    /// transactions; at-least-once and files: just make a new one. → `ProducerReady` or `ProducerFailed`.
    InitProducer {
        attempt: u32,
    },
    /// Find topics (ids and partitions) and files as they are now; at the first start also the first and last
    /// positions, else those of `known`. → `FactsResolved`.
    ResolveFacts {
        known: Option<JobFacts>,
    },
    /// Write the kept output bytes of the record's epoch and the record, in one transaction (at least once: output
    /// first, the record when all of it is acknowledged). A claim goes alone. The same record may come again: then the
    /// same bytes are written. → `Committed` or `CommitFailed`.
    Commit(Box<JournalRecord>),
    /// Load the first of these (newest first) that is undamaged; storage that does not answer is no damage. → `Restored`.
    Restore {
        candidates: Vec<CheckpointRef>,
        facts: JobFacts,
    },
    /// Compute these epochs again, each to its record's positions, idle advances and ends; put nothing out.
    /// → one `Replayed` each.
    Replay(Vec<JournalRecord>),
    /// The slot is ours and its state current: read on from the record's positions.
    Run {
        last: Box<JournalRecord>,
    },
    /// The epoch is committed: these external sinks may apply its rows (→ `ExternalApplied` each, in order of epochs),
    /// the kept output bytes may go. In a replay: rows a sink has not applied before.
    Release {
        epoch: u64,
        sinks: Vec<String>,
    },
    /// Nobody names them any more. Best effort.
    DeleteCheckpoints(Vec<CheckpointRef>),
    /// Journal records before the first one of a later epoch are not needed any more. Best effort.
    TrimJournal {
        through: u64,
    },
    /// Every input of the slot has ended and every sink has its rows.
    Done,
    Stop(StopReason),
}
