//! The file journal alone, and two workers that compete for it through the protocol.

use std::collections::BTreeMap;

use streamjob_core::commit::record::{JobFacts, RecordKind};
use streamjob_core::commit::{Decision, EpochDraft, Identity, Settings, SlotProtocol, Term};

use super::*;

/// A worker that knows how to close epochs, and no more.
struct Worker {
    protocol: SlotProtocol,
    journal: FileJournal,
    stopped: Option<StopReason>,
    running: bool,
}

impl Worker {
    fn start(directory: &Path, owner: &str) -> Worker {
        let identity = Identity {
            job: "uid-1".into(),
            slot: 0,
            term: Term::AfterLast,
            owner: owner.into(),
            incarnation: format!("{owner}-1"),
        };
        let settings = Settings {
            guarantee: Default::default(),
            plan_hash: "plan".into(),
            engine_version: "1".into(),
            retain: 2,
            external_sinks: Vec::new(),
            inputs: vec!["events".into()],
            exchanges: Vec::new(),
        };
        let journal = FileJournal::open(directory).unwrap();
        let protocol = SlotProtocol::new(identity, settings);
        let mut worker = Worker {
            protocol,
            journal,
            stopped: None,
            running: false,
        };
        let decisions = worker.protocol.start();
        worker.carry_out(decisions);
        worker
    }

    fn epoch(&mut self, position: i64) {
        let draft = EpochDraft {
            positions: BTreeMap::from([("in/0".into(), position)]),
            outputs: 1,
            ..EpochDraft::default()
        };
        self.take(Fact::EpochClosed(draft));
    }

    fn take(&mut self, fact: Fact) {
        let decisions = self.protocol.handle(fact);
        self.carry_out(decisions);
    }

    fn carry_out(&mut self, decisions: Vec<Decision>) {
        for decision in decisions {
            match decision {
                Decision::ReadJournal => {
                    let fact = self.journal.read();
                    self.take(fact);
                }
                Decision::InitProducer { .. } => self.take(Fact::ProducerReady),
                Decision::ResolveFacts { known } => self.take(Fact::FactsResolved {
                    facts: known.unwrap_or(JobFacts {
                        slots: 1,
                        ..JobFacts::default()
                    }),
                    start: BTreeMap::from([("in/0".into(), 0)]),
                }),
                Decision::Commit(record) => {
                    let fact = self.journal.append(&record);
                    self.take(fact);
                }
                Decision::Restore { .. } => self.take(Fact::Restored { checkpoint: None }),
                Decision::Replay(cuts) => {
                    for cut in cuts {
                        let (epoch, outputs) = (cut.epoch, cut.outputs);
                        self.take(Fact::Replayed {
                            epoch,
                            digest: String::new(),
                            outputs,
                        });
                    }
                }
                Decision::Run { .. } => self.running = true,
                Decision::Stop(reason) => self.stopped = Some(reason),
                Decision::Release { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

fn records(directory: &Path) -> Vec<JournalRecord> {
    match FileJournal::open(directory).unwrap().read() {
        Fact::JournalRead { records, .. } => records,
        other => panic!("{other:?}"),
    }
}

fn epochs(directory: &Path) -> Vec<(RecordKind, u64, u64)> {
    records(directory)
        .iter()
        .map(|record| (record.kind, record.term, record.epoch))
        .collect()
}

use RecordKind::{Claim, Epoch};

#[test]
fn goes_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Worker::start(directory.path(), "a");
    first.epoch(10);
    first.epoch(20);
    drop(first);
    let mut second = Worker::start(directory.path(), "a");
    assert!(second.running);
    assert_eq!(second.protocol.last().unwrap().positions["in/0"], 20);
    second.epoch(30);
    assert_eq!(
        epochs(directory.path()),
        [
            (Claim, 1, 0),
            (Epoch, 1, 1),
            (Epoch, 1, 2),
            (Claim, 2, 2),
            (Epoch, 2, 3)
        ]
    );
}

#[test]
fn a_second_start_takes_over_and_the_first_stops() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Worker::start(directory.path(), "a");
    first.epoch(10);
    let mut second = Worker::start(directory.path(), "b");
    first.epoch(20);
    let reason = first.stopped.expect("the first must stop");
    assert_eq!(
        reason,
        StopReason::TakenOver {
            slot: 0,
            owner: "b".into(),
            term: 2
        }
    );
    second.epoch(15);
    assert_eq!(second.stopped, None);
    assert_eq!(
        epochs(directory.path()),
        [(Claim, 1, 0), (Epoch, 1, 1), (Claim, 2, 1), (Epoch, 2, 2)]
    );
}

#[test]
fn a_torn_tail_is_cut_wherever_it_was_torn() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Worker::start(directory.path(), "a");
    worker.epoch(10);
    worker.epoch(20);
    let path = directory.path().join(NAME);
    let whole = fs::read(&path).unwrap();
    let last_line = whole[..whole.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap()
        + 1;
    for cut in last_line..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(
            epochs(directory.path()),
            [(Claim, 1, 0), (Epoch, 1, 1)],
            "cut at {cut}"
        );
        assert_eq!(
            fs::read(&path).unwrap(),
            &whole[..last_line],
            "cut at {cut}"
        );
    }
}

#[test]
fn a_torn_tail_of_another_fences_and_is_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Worker::start(directory.path(), "a");
    worker.epoch(10);
    let path = directory.path().join(NAME);
    let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
    torn.write_all(b"000001ff 00").unwrap();
    worker.epoch(20);
    assert_eq!(worker.stopped, None);
    assert_eq!(
        epochs(directory.path()),
        [(Claim, 1, 0), (Epoch, 1, 1), (Epoch, 1, 2)]
    );
}

#[test]
fn damage_before_the_tail_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Worker::start(directory.path(), "a");
    worker.epoch(10);
    let path = directory.path().join(NAME);
    let mut bytes = fs::read(&path).unwrap();
    bytes[PREFIX + 5] ^= 1;
    fs::write(&path, bytes).unwrap();
    let again = Worker::start(directory.path(), "a");
    let Some(StopReason::JournalConflict { what, .. }) = again.stopped else {
        panic!("{:?}", again.stopped)
    };
    assert!(
        what.contains("damaged") && what.contains(path.to_str().unwrap()),
        "{what}"
    );
}

#[test]
fn a_journal_that_vanishes_stops_the_job() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Worker::start(directory.path(), "a");
    fs::remove_file(directory.path().join(NAME)).unwrap();
    worker.epoch(10);
    assert_eq!(worker.stopped, Some(StopReason::JournalMissing { slot: 0 }));
}

#[test]
fn trimming_keeps_what_comes_after_and_fences_nobody_wrongly() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Worker::start(directory.path(), "a");
    for position in 1..=4 {
        worker.epoch(position);
    }
    worker.journal.trim(2).unwrap();
    assert_eq!(epochs(directory.path()), [(Epoch, 1, 3), (Epoch, 1, 4)]);
    worker.epoch(5);
    assert_eq!(worker.stopped, None);
    assert_eq!(
        epochs(directory.path()),
        [(Epoch, 1, 3), (Epoch, 1, 4), (Epoch, 1, 5)]
    );
    let mut behind = FileJournal::open(directory.path()).unwrap();
    behind.read();
    worker.journal.trim(4).unwrap();
    worker.epoch(6);
    behind.trim(5).unwrap();
    assert_eq!(epochs(directory.path()), [(Epoch, 1, 5), (Epoch, 1, 6)]);
    let record = records(directory.path()).pop().unwrap();
    assert!(matches!(
        behind.append(&record),
        Fact::CommitFailed(Failure::Fenced)
    ));
}
