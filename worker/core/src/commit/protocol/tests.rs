//! Every reason to stop, by the facts that lead to it. The rest is in the simulation (`tests/protocol`).

use std::collections::BTreeMap;

use streamjob_crds::Guarantee;

use super::*;
use crate::commit::record::{JobFacts, TopicFacts};

const OWNER: &str = "worker-0";

fn protocol(term: Term) -> SlotProtocol {
    let identity = Identity {
        job: "uid".into(),
        slot: 0,
        term,
        owner: OWNER.into(),
        incarnation: "life-2".into(),
    };
    let settings = Settings {
        guarantee: Guarantee::ExactlyOnce,
        plan_hash: "plan-a".into(),
        engine_version: "1".into(),
        retain: 2,
        external_sinks: Vec::new(),
        inputs: vec!["more".into(), "events".into(), "back".into()],
        exchanges: vec!["back".into()],
    };
    SlotProtocol::new(identity, settings)
}

fn facts() -> JobFacts {
    let topic = TopicFacts {
        topic: "events".into(),
        id: "id-1".into(),
        partitions: 2,
    };
    JobFacts {
        slots: 1,
        topics: BTreeMap::from([("events".into(), topic)]),
        ..JobFacts::default()
    }
}

/// A record of this worker's life before.
fn record(kind: RecordKind, term: u64, epoch: u64) -> JournalRecord {
    JournalRecord {
        job: "uid".into(),
        slot: 0,
        kind,
        term,
        owner: OWNER.into(),
        incarnation: "life-1".into(),
        epoch,
        positions: BTreeMap::from([("events/0".into(), epoch as i64)]),
        watermarks: BTreeMap::new(),
        idle_advances: BTreeMap::new(),
        idle: Vec::new(),
        ended: Vec::new(),
        applied: BTreeMap::new(),
        checkpoints: Vec::new(),
        sink_timestamp: 0,
        digest: String::new(),
        outputs: 0,
        plan_hash: "plan-a".into(),
        engine_version: "1".into(),
        facts: facts(),
    }
}

fn journal(records: Vec<JournalRecord>) -> Fact {
    Fact::JournalRead {
        records,
        trimmed: false,
    }
}

fn resolved(facts: JobFacts) -> Fact {
    Fact::FactsResolved {
        facts,
        start: BTreeMap::from([("events/0".into(), 0)]),
    }
}

fn past() -> Vec<JournalRecord> {
    vec![
        record(RecordKind::Claim, 1, 0),
        record(RecordKind::Epoch, 1, 1),
    ]
}

/// Feeds the facts; all but the last must be answered by something other than a stop.
fn last_decisions(term: Term, facts: Vec<Fact>) -> Vec<Decision> {
    let mut protocol = protocol(term);
    assert_eq!(protocol.start(), [Decision::ReadJournal]);
    let mut decisions = Vec::new();
    for fact in facts {
        assert!(
            !matches!(decisions[..], [Decision::Stop(_)]),
            "{decisions:?} before {fact:?}"
        );
        decisions = protocol.handle(fact);
    }
    decisions
}

fn stop(term: Term, facts: Vec<Fact>) -> StopReason {
    match &last_decisions(term, facts)[..] {
        [Decision::Stop(reason)] => reason.clone(),
        other => panic!("{other:?}"),
    }
}

/// Up to the question for the facts, under term 2.
fn behind_fence(records: &[JournalRecord]) -> Vec<Fact> {
    vec![
        journal(records.to_vec()),
        Fact::ProducerReady,
        journal(records.to_vec()),
    ]
}

fn stop_at_facts(observed: JobFacts) -> StopReason {
    let mut all = behind_fence(&past());
    all.push(resolved(observed));
    stop(Term::Given(2), all)
}

#[test]
fn the_same_pod_restarted_claims_again_under_its_term() {
    let mut all = behind_fence(&past());
    all.push(resolved(facts()));
    let decisions = last_decisions(Term::Given(1), all);
    let [Decision::Commit(claim)] = &decisions[..] else {
        panic!("{decisions:?}")
    };
    assert_eq!(
        (claim.kind, claim.term, claim.epoch),
        (RecordKind::Claim, 1, 1)
    );
    assert_eq!(
        (claim.incarnation.as_str(), claim.positions["events/0"]),
        ("life-2", 1)
    );
}

#[test]
fn a_higher_term_in_the_journal_stops_a_start() {
    let taken = StopReason::TakenOver {
        slot: 0,
        owner: OWNER.into(),
        term: 3,
    };
    let mut records = past();
    records.push(record(RecordKind::Claim, 3, 1));
    assert_eq!(stop(Term::Given(2), vec![journal(records.clone())]), taken);
    let late = vec![journal(past()), Fact::ProducerReady, journal(records)];
    assert_eq!(stop(Term::Given(2), late), taken);
}

#[test]
fn our_term_with_another_owner_is_refused_if_the_term_was_given() {
    let mut records = past();
    let other = JournalRecord {
        owner: "worker-9".into(),
        ..record(RecordKind::Claim, 2, 1)
    };
    records.push(other);
    let reason = stop(Term::Given(2), vec![journal(records.clone())]);
    assert_eq!(
        reason,
        StopReason::TwoOwners {
            slot: 0,
            owner: "worker-9".into(),
            term: 2
        }
    );
    assert!(reason.hint().contains("--term"));
    let raced = vec![journal(past()), Fact::ProducerReady, journal(records)];
    let reason = stop(Term::AfterLast, raced);
    assert_eq!(
        reason,
        StopReason::TakenOver {
            slot: 0,
            owner: "worker-9".into(),
            term: 2
        }
    );
}

#[test]
fn a_journal_without_its_records_is_missing() {
    let missing = StopReason::JournalMissing { slot: 0 };
    let emptied = Fact::JournalRead {
        records: Vec::new(),
        trimmed: true,
    };
    assert_eq!(stop(Term::Given(2), vec![emptied]), missing);
    assert_eq!(stop(Term::Given(2), vec![Fact::JournalMissing]), missing);
    let lost = vec![
        journal(vec![]),
        Fact::ProducerReady,
        journal(vec![]),
        resolved(facts()),
    ];
    let lost = [
        lost,
        vec![Fact::Committed, Fact::Restored { checkpoint: None }],
    ]
    .concat();
    let lost = [lost, vec![journal(vec![])]].concat();
    assert_eq!(stop(Term::Given(2), lost), missing);
    assert!(missing.hint().contains("--fresh"));
}

#[test]
fn a_foreign_or_broken_journal_is_refused() {
    let foreign = JournalRecord {
        job: "other".into(),
        ..record(RecordKind::Claim, 1, 0)
    };
    let reason = stop(Term::Given(2), vec![journal(vec![foreign])]);
    assert!(matches!(reason, StopReason::OtherJob { .. }), "{reason}");
    let gap = vec![
        record(RecordKind::Epoch, 1, 1),
        record(RecordKind::Epoch, 1, 3),
    ];
    let reason = stop(Term::Given(2), vec![journal(gap)]);
    assert!(
        matches!(reason, StopReason::JournalConflict { .. }),
        "{reason}"
    );
}

#[test]
fn inputs_that_changed_are_refused_by_name() {
    let with = |change: fn(&mut TopicFacts)| {
        let mut observed = facts();
        observed.topics.values_mut().for_each(change);
        stop_at_facts(observed)
    };
    let recreated = with(|topic| topic.id = "id-2".into());
    assert_eq!(
        recreated.to_string(),
        "topic events was re-created: its id was id-1, now it is id-2"
    );
    let grown = with(|topic| topic.partitions = 3);
    assert_eq!(
        grown.to_string(),
        "topic events had 2 partitions, now it has 3"
    );
    let renamed = with(|topic| topic.topic = "clicks".into());
    assert_eq!(
        renamed.to_string(),
        "source events read topic events, now it names clicks"
    );
    let gone = stop_at_facts(JobFacts {
        slots: 1,
        ..JobFacts::default()
    });
    assert_eq!(gone.to_string(), "topic events is gone");
    let more_slots = stop_at_facts(JobFacts {
        slots: 4,
        ..facts()
    });
    assert!(matches!(
        more_slots,
        StopReason::SlotsChanged { before: 1, now: 4 }
    ));
    for reason in [recreated, grown, renamed, gone, more_slots] {
        assert!(reason.hint().contains("--fresh"), "{reason}");
    }
}

/// The job was changed: its source `more` is new, its source `gone` is no more.
#[test]
fn a_changed_job_claims_with_the_inputs_of_both() {
    let topic = |name: &str| TopicFacts {
        topic: name.into(),
        id: format!("id-{name}"),
        partitions: 1,
    };
    let mut records = past();
    let last = &mut records[1];
    last.plan_hash = "plan-b".into();
    last.applied.insert("file".into(), 1);
    last.positions.insert("gone/0".into(), 5);
    last.facts.topics.insert("gone".into(), topic("gone"));
    last.facts.start = BTreeMap::from([("gone/0".into(), 0), ("events/0".into(), 0)]);
    // It was there before, and was left out for a while: what is noted of it is past.
    last.facts.start.insert("more/0".into(), 2);
    last.facts.end.insert("more/0".into(), 3);
    let mut all = behind_fence(&records);
    let decisions = last_decisions(Term::Given(2), all.clone());
    let [Decision::ResolveFacts { known: Some(known) }] = &decisions[..] else {
        panic!("{decisions:?}");
    };
    assert!(!known.start.contains_key("more/0"));
    let mut now = facts();
    now.start = BTreeMap::from([("events/0".into(), 0), ("more/0".into(), 7)]);
    now.topics.insert("more".into(), topic("more"));
    all.push(Fact::FactsResolved {
        start: now.start.clone(),
        facts: now,
    });
    let decisions = last_decisions(Term::Given(2), all);
    let [Decision::Commit(claim)] = &decisions[..] else {
        panic!("{decisions:?}");
    };
    let names: Vec<&String> = claim.facts.topics.keys().collect();
    assert_eq!(names, ["events", "gone", "more"]);
    assert_eq!(claim.facts.end, BTreeMap::new());
    let positions = [("events/0", 1), ("gone/0", 5), ("more/0", 7)];
    let positions = positions.map(|(input, position)| (input.to_owned(), position));
    assert_eq!(claim.positions, BTreeMap::from(positions));
    assert_eq!(claim.plan_hash, "plan-a");
    assert_eq!(claim.applied, BTreeMap::from([("file".to_owned(), 1)]));
}

/// Rows of before lie in its topic.
#[test]
fn a_step_that_comes_back_with_an_exchange_is_refused() {
    let mut records = past();
    let mut now = facts();
    now.topics
        .insert("back".into(), now.topics["events"].clone());
    records[1].facts = now.clone();
    let mut all = behind_fence(&records);
    all.push(resolved(now.clone()));
    let reason = stop(Term::Given(2), all);
    let expected = StopReason::StepReturned {
        step: "back".into(),
    };
    assert_eq!(reason, expected);
    records[1].positions.insert("back/0".into(), 3);
    let mut all = behind_fence(&records);
    all.push(resolved(now));
    assert!(matches!(
        last_decisions(Term::Given(2), all)[..],
        [Decision::Commit(_)]
    ));
}

#[test]
fn a_replay_that_differs_is_refused() {
    let mut all = behind_fence(&past());
    all.extend([
        resolved(facts()),
        Fact::Committed,
        Fact::Restored { checkpoint: None },
    ]);
    all.push(Fact::Replayed {
        epoch: 1,
        digest: "beef".into(),
        outputs: 1,
    });
    let reason = stop(Term::Given(2), all);
    assert!(
        matches!(reason, StopReason::DigestMismatch { epoch: 1, .. }),
        "{reason}"
    );
}

#[test]
fn without_a_checkpoint_a_trimmed_journal_is_no_way_back() {
    let kept = vec![
        record(RecordKind::Epoch, 1, 8),
        record(RecordKind::Epoch, 1, 9),
    ];
    let mut all = behind_fence(&kept);
    all.extend([
        resolved(facts()),
        Fact::Committed,
        Fact::Restored { checkpoint: None },
    ]);
    assert_eq!(
        stop(Term::Given(2), all),
        StopReason::StateLost { slot: 0, epoch: 9 }
    );
}

#[test]
fn a_job_that_has_ended_is_done_before_it_fences_anybody() {
    let mut records = past();
    records[1].ended = vec!["events/0".into()];
    assert_eq!(
        last_decisions(Term::AfterLast, vec![journal(records)]),
        [Decision::Done]
    );
}

#[test]
fn what_cannot_succeed_is_not_tried_again() {
    let refused = Failure::Fatal("record of 9 MB is too large".into());
    let mut all = behind_fence(&past());
    all.extend([resolved(facts()), Fact::CommitFailed(refused)]);
    let reason = stop(Term::Given(2), all);
    assert_eq!(
        reason.to_string(),
        "slot 0 cannot commit: record of 9 MB is too large"
    );
}
