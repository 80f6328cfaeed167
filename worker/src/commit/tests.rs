//! The commit thread and its driver.

use streamjob_core::commit::{Identity, Settings, Term};

use super::file::FileLedger;
use super::*;
use crate::journal::file::FileJournal;

/// A thread that has ended said why, and whoever tells it something then must not take its silence for the reason.
#[test]
fn the_last_word_of_a_thread_that_has_ended_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity {
        job: "job".into(),
        slot: 0,
        term: Term::AfterLast,
        owner: "worker".into(),
        incarnation: "1".into(),
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
    let ledger = FileLedger::new(FileJournal::open(folder.path()).unwrap());
    let restarts = IntCounter::new("restarts", "restarts").unwrap();
    let protocol = SlotProtocol::new(identity, settings);
    let committer = Committer::spawn(0, protocol, Box::new(ledger), restarts).unwrap();
    let reason = StopReason::JournalMissing { slot: 0 };
    committer.send(Message::Fact(Fact::Refused(reason.clone())));
    while !committer.thread.as_ref().unwrap().is_finished() {
        std::thread::yield_now();
    }
    committer.send(Message::Fact(Fact::ProducerReady));
    let mut heard = Vec::new();
    let end = loop {
        match committer.try_decision() {
            Ok(Some(decision)) => heard.push(decision),
            end => break end,
        }
    };
    assert_eq!(heard.last(), Some(&Decision::Stop(reason)));
    assert_eq!(end, Err(CommitterGone));
}
