//! `streamjob-worker restore`: a new job that goes on where a snapshot ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::anyhow;
use streamjob_core::commit::check_facts;
use streamjob_core::commit::record::{CheckpointRef, JobFacts, JournalRecord, RecordKind};
use streamjob_core::engine::{SlotEngine, TaskId, input_name};
use streamjob_core::output::{EpochOutput, OutRow, Target, TargetOutput};
use streamjob_core::plan::plan_hash;

use super::{Catalogue, RECORD, Values, storage_failed, stored, unread};
use crate::checkpoint::CheckpointData;
use crate::cli::args::RestoreArgs;
use crate::cli::job::Job;
use crate::cli::{ExitCode, Failure};
use crate::commit::LedgerError;
use crate::fleet::Fleet;
use crate::run::Host;
use crate::setup::{judged, refused, unreachable};
use crate::version::{discards, judge};

/// Gives the job, which must not have run yet, the snapshot's state and a journal that begins with its end.
pub fn restore(job: &Job, args: &RestoreArgs) -> Result<ExitCode, Failure> {
    let name = args.from.as_str();
    let host = Host::open(job, &args.host, false)?;
    let catalogue = Catalogue::find(&host.checkpoints, name)?.ok_or_else(|| {
        refused(anyhow!(
            "there is no snapshot `{name}` in the job's checkpoint storage: it must be that of the job it was taken of"
        ))
    })?;
    let slots = host.setup.slot_count();
    if catalogue.slots.len() != slots as usize {
        return Err(refused(anyhow!(
            "the snapshot has {} slots, the job has {slots}: give it the same maxParallelism",
            catalogue.slots.len()
        )));
    }
    let fleet = Fleet::new(&host, false)?;
    for (slot, reference) in (0..slots).zip(&catalogue.slots) {
        let restoring = Restoring {
            host: &host,
            fleet: &fleet,
            owner: format!("snapshot {name}"),
            slot,
            tasks: host.setup.tasks(slot),
        };
        restoring.restore(reference)?;
    }
    tracing::info!(
        "{slots} slots are restored from snapshot `{name}` of job {}/{}; `streamjob-worker run` goes on from there",
        catalogue.namespace,
        catalogue.job
    );
    Ok(ExitCode::Done)
}

/// One slot on its way into the new job.
struct Restoring<'a> {
    host: &'a Host<'a>,
    fleet: &'a Fleet<'a>,
    /// The writer of the journal's first record.
    owner: String,
    slot: u32,
    tasks: Vec<TaskId>,
}

impl Restoring<'_> {
    fn restore(&self, reference: &CheckpointRef) -> Result<(), Failure> {
        let mut ledger = self.fleet.ledger(self.slot)?;
        ledger.init().map_err(|failure| self.failed(failure))?;
        let records = match ledger.read() {
            Ok(journal) if !journal.trimmed => journal.records,
            Ok(_) => return Err(self.has_run()),
            Err(LedgerError::Missing) => Vec::new(),
            Err(LedgerError::Unreachable(what)) => return Err(unreachable(anyhow!(what))),
            Err(LedgerError::Refused(reason)) => return Err(refused(reason)),
        };
        match records.as_slice() {
            [] => {}
            // A restore that was broken off goes on.
            [first] if first.owner == self.owner => return Ok(()),
            _ => return Err(self.has_run()),
        }
        let data = self
            .host
            .checkpoints
            .fetch(reference)
            .map_err(storage_failed)?;
        let job = self.host.earlier.job(&data.plan).map_err(|problems| {
            self.damaged(&format!("this version cannot read its job: {problems}"))
        })?;
        judge(&job.plan, &self.host.job.plan).map_err(|changes| {
            refused(anyhow!(
                "the snapshot is of a job from whose state this one cannot go on: {changes}"
            ))
        })?;
        let mut parts: BTreeMap<String, Vec<u8>> = data
            .parts
            .into_iter()
            .map(|(name, bytes)| (name, bytes.to_vec()))
            .collect();
        let record = parts.remove(RECORD).unwrap_or_default();
        let before: JournalRecord = serde_json::from_slice(&record)
            .map_err(|error| self.damaged(&format!("its journal record: {error}")))?;
        let facts = self.facts(&before)?;
        let output = self.unread(&mut parts)?;
        let checkpoint = self.adopt(&before, &facts, &parts)?;
        let first = self.first_record(before, facts, checkpoint);
        ledger
            .commit(&first, Some(&Arc::new(output)))
            .map_err(|failure| self.failed(failure))
    }

    /// The inputs as they are now, which must be those that the state was made from.
    fn facts(&self, before: &JournalRecord) -> Result<JobFacts, Failure> {
        let resolver = &self.host.setup.resolver;
        let (mut facts, _) = resolver
            .resolve(&self.tasks, None)
            .map_err(|error| judged(error.unreachable(), error))?;
        // Internal topics are the new job's own.
        let sources = self.host.job.plan.sources.iter();
        let sources: Vec<String> = sources.map(|source| source.name.clone()).collect();
        check_facts(&before.facts, &facts, &sources).map_err(|reason| {
            refused(anyhow!(
                "{reason}: a snapshot goes on with the inputs it was taken with"
            ))
        })?;
        facts.began = before.facts.began.clone();
        for (input, start) in &mut facts.start {
            if !self.is_internal(input) {
                *start = before.positions.get(input).copied().unwrap_or(*start);
            }
        }
        Ok(facts)
    }

    /// What the old job had under way between its steps, for the internal topics of this one.
    fn unread(&self, parts: &mut BTreeMap<String, Vec<u8>>) -> Result<EpochOutput, Failure> {
        let plan = &self.host.job.plan;
        let mut output = EpochOutput::default();
        for task in &self.tasks {
            let input = input_name(plan, *task);
            let Some(bytes) = parts.remove(&unread(&input)) else {
                continue;
            };
            let values = Values::split(&bytes)
                .ok_or_else(|| self.damaged(&format!("records of `{input}` are cut short")))?;
            let exchange = task.stage.saturating_sub(plan.sources.len());
            let mut target = TargetOutput::new(Target::Exchange(exchange));
            for value in values {
                let start = target.bytes.len() as u32;
                target.bytes.extend(value);
                target.rows.push(OutRow {
                    key: None,
                    value: Some(start..target.bytes.len() as u32),
                    partition: task.partition,
                });
            }
            output.targets.push(target);
        }
        Ok(output)
    }

    /// Loads the state under this job's plan, which says if it cannot go on from it, and stores it as this job's.
    fn adopt(
        &self,
        before: &JournalRecord,
        facts: &JobFacts,
        parts: &BTreeMap<String, Vec<u8>>,
    ) -> Result<CheckpointRef, Failure> {
        let Host {
            job,
            setup,
            checkpoints,
            names,
            ..
        } = self.host;
        let mut engine = SlotEngine::new(job.plan.clone(), setup.layout.clone(), &self.tasks)
            .map_err(refused)?;
        engine.adopt(parts, discards(&job.plan)).map_err(refused)?;
        for task in &self.tasks {
            let input = input_name(&job.plan, *task);
            if let Some(start) = facts.start.get(&input) {
                engine.set_position(*task, *start);
            }
        }
        let parts = engine.save().map_err(refused)?;
        let data = CheckpointData {
            job: names.uid.clone(),
            slot: self.slot,
            epoch: before.epoch,
            term: 0,
            incarnation: names.incarnation.clone(),
            plan: job.text.clone(),
            parts: parts
                .into_iter()
                .map(|(name, bytes)| (name, bytes.into()))
                .collect(),
        };
        stored(checkpoints, data)
    }

    /// The record that the job goes on from.
    fn first_record(
        &self,
        before: JournalRecord,
        facts: JobFacts,
        checkpoint: CheckpointRef,
    ) -> JournalRecord {
        let Host { job, names, .. } = self.host;
        let mut positions = before.positions;
        positions.extend(facts.start.clone());
        JournalRecord {
            job: names.uid.clone(),
            kind: RecordKind::Claim,
            term: 0,
            owner: self.owner.clone(),
            incarnation: names.incarnation.clone(),
            positions,
            idle_advances: BTreeMap::new(),
            idle: Vec::new(),
            applied: BTreeMap::new(),
            checkpoints: vec![checkpoint],
            digest: String::new(),
            outputs: 0,
            plan_hash: plan_hash(&job.plan),
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            facts,
            ..before
        }
    }

    fn is_internal(&self, input: &str) -> bool {
        let plan = &self.host.job.plan;
        self.tasks
            .iter()
            .any(|task| task.stage >= plan.sources.len() && input_name(plan, *task) == input)
    }

    fn has_run(&self) -> Failure {
        refused(anyhow!(
            "the job has run before (slot {}): a snapshot is for a new job; give it another name or --uid, or run it once with `--fresh` and stop it",
            self.slot
        ))
    }

    fn damaged(&self, what: &str) -> Failure {
        refused(anyhow!(
            "slot {} of the snapshot is damaged: {what}",
            self.slot
        ))
    }

    fn failed(&self, failure: streamjob_core::commit::Failure) -> Failure {
        unreachable(anyhow!(
            "slot {} could not be written ({failure:?}); the same command goes on with it",
            self.slot
        ))
    }
}
