//! `streamjob-worker snapshot`: every slot's state as of now, under a name.

use anyhow::anyhow;
use bytes::Bytes;
use streamjob_core::commit::Term;
use streamjob_core::commit::record::{CheckpointRef, JournalRecord};

use super::{Catalogue, PATIENCE, RECORD, VERSION, Values, folder, stored, unread};
use crate::checkpoint::CheckpointData;
use crate::cli::args::SnapshotArgs;
use crate::cli::job::Job;
use crate::cli::{ExitCode, Failure};
use crate::commit::kafka::InternalInput;
use crate::driver::capture::Captured;
use crate::fleet::Fleet;
use crate::run::{Host, failure};
use crate::setup::{JobJournal, refused, unreachable};
use crate::source::kafka::{KafkaReader, Span};
use crate::source::read_to_end;
use crate::topics::At;

/// Takes the job's slots over and stores what they hold.
pub fn take(job: &Job, args: &SnapshotArgs) -> Result<ExitCode, Failure> {
    let name = args.name.as_str();
    let host = Host::open(job, &args.host, false)?;
    if Catalogue::find(&host.checkpoints, name)?.is_some() {
        return Err(refused(anyhow!(
            "there is a snapshot `{name}` already, and snapshots are never overwritten: choose another --name"
        )));
    }
    let fleet = Fleet::new(&host, false)?;
    let slots = 0..host.setup.slot_count();
    let term = args.term.map_or(Term::AfterLast, Term::Given);
    let mut drivers = slots
        .map(|slot| fleet.driver(slot, term))
        .collect::<Result<Vec<_>, _>>()?;
    let mut captured = Vec::new();
    for driver in &mut drivers {
        let state = driver.capture().map_err(failure)?;
        captured.push(state.ok_or_else(|| {
            let slot = driver.slot;
            refused(anyhow!(
                "slot {slot} has read all of its input and is done: a snapshot is of a job whose slots all have something to go on with"
            ))
        })?);
    }
    // All slots are ours now, so what lies between them is all that there will be.
    let mut stored = Vec::new();
    let records: Vec<JournalRecord> = captured.iter().map(|slot| slot.record.clone()).collect();
    for state in captured {
        stored.push(store(&host, &fleet, name, state)?);
    }
    still_ours(&host, &records)?;
    let catalogue = Catalogue {
        version: VERSION,
        namespace: host.names.namespace.clone(),
        job: host.names.name.clone(),
        uid: host.names.uid.clone(),
        slots: stored,
    };
    catalogue.write(&host.checkpoints, name)?;
    tracing::info!(
        "snapshot `{name}` of {} slots is stored; `streamjob-worker restore JOB.yaml --from {name}` lets a new job go on from it",
        records.len()
    );
    Ok(ExitCode::Done)
}

fn store(
    host: &Host,
    fleet: &Fleet,
    name: &str,
    state: Captured,
) -> Result<CheckpointRef, Failure> {
    let Captured { record, mut parts } = state;
    for input in fleet.internal_inputs(record.slot) {
        let from = record
            .positions
            .get(&input.input)
            .copied()
            .unwrap_or_default();
        parts.push((unread(&input.input), values_after(host, &input, from)?));
    }
    let text = serde_json::to_vec(&record).map_err(refused)?;
    parts.push((RECORD.to_owned(), text.into()));
    let data = CheckpointData {
        job: folder(name),
        slot: record.slot,
        epoch: record.epoch,
        term: record.term,
        incarnation: record.incarnation,
        plan: host.job.text.clone(),
        parts,
    };
    stored(&host.checkpoints, data)
}

/// Values of the internal topic's partition from a position to its end.
fn values_after(host: &Host, input: &InternalInput, from: i64) -> Result<Bytes, Failure> {
    let topics = &host.setup.exchange_topics;
    let (JobJournal::Kafka { kafka, admin, .. }, Some(topic)) = (
        &host.setup.journal,
        topics.values().find(|topic| topic.topic == input.topic),
    ) else {
        return Ok(Bytes::new());
    };
    let partition = i32::try_from(input.partition).unwrap_or(i32::MAX);
    let end = admin
        .list(&[(&topic.topic, partition)], At::Latest)
        .map_err(unreachable)?;
    let reader = KafkaReader::new(kafka, &topic.topic, 1).map_err(refused)?;
    let (wake, woken) = crossbeam_channel::bounded(1);
    let span = Span {
        topic,
        partition: input.partition,
        position: from,
        end: end.first().copied(),
    };
    let mut records = reader.input(&span, wake).map_err(refused)?;
    let mut values = Values::default();
    let all = read_to_end(&mut records, &woken, PATIENCE, &mut |row| {
        values.push(row.payload.unwrap_or_default());
    });
    match all.map_err(refused)? {
        true => Ok(values.into_bytes()),
        false => Err(unreachable(anyhow!(
            "topic `{}` partition {partition} could not be read to its end",
            topic.topic
        ))),
    }
}

/// A worker that was started meanwhile may have gone on, and then the cut is none.
fn still_ours(host: &Host, records: &[JournalRecord]) -> Result<(), Failure> {
    for ours in records {
        let last = host.setup.journal.last(ours.slot)?;
        let same = last
            .is_some_and(|last| (last.epoch, &last.incarnation) == (ours.epoch, &ours.incarnation));
        if !same {
            return Err(refused(anyhow!(
                "a worker took slot {} over while its state was stored: stop the job's workers first, then take the snapshot again under another --name",
                ours.slot
            )));
        }
    }
    Ok(())
}
