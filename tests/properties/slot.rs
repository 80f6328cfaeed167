//! One slot with all tasks of a job, in process, and the order in which a random log is given to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use streamjob_core::chunk::Millis;
use streamjob_core::engine::{Event, Layout, SlotEngine, TaskId};
use streamjob_core::output::EpochOutput;
use streamjob_core::plan::JobPlan;
use streamjob_core::{manifest, plan};

pub struct Slot {
    plan: Arc<JobPlan>,
    layout: Arc<Layout>,
    engine: SlotEngine,
}

impl Slot {
    /// `tasks`: of each stage. `slots` is how many tasks there are behind an exchange.
    pub fn new(plan: &Arc<JobPlan>, slots: u32, tasks: Vec<u32>) -> Self {
        let layout = Arc::new(Layout {
            slots,
            tasks,
            sink_partitions: vec![1; plan.sinks.len()],
            exchange_in_process: true,
            files: BTreeMap::new(),
        });
        Slot {
            plan: plan.clone(),
            engine: engine(plan, &layout),
            layout,
        }
    }

    /// An event of the source's partition.
    pub fn event(
        &mut self,
        partition: usize,
        offset: i64,
        payload: Option<&[u8]>,
        timestamp: Option<Millis>,
    ) {
        self.event_of(source(partition), offset, payload, timestamp);
    }

    /// An event of a task.
    pub fn event_of(
        &mut self,
        task: TaskId,
        offset: i64,
        payload: Option<&[u8]>,
        timestamp: Option<Millis>,
    ) {
        let handle = self.engine.handle(task).expect("a task");
        let event = Event {
            payload,
            offset,
            next: offset + 1,
            timestamp,
        };
        self.engine.event(handle, event).expect("an event is taken");
    }

    /// Ends an epoch.
    pub fn close(
        &mut self,
        advances: &BTreeMap<TaskId, Millis>,
        ends: &[TaskId],
        punctuate: bool,
    ) -> EpochOutput {
        let closed = self.engine.close(advances, ends, punctuate);
        closed.expect("an epoch closes").output
    }

    /// What a crash after a checkpoint does, at the end of an epoch.
    pub fn restore(&mut self) {
        let parts = self.engine.save().expect("state is saved");
        self.engine = engine(&self.plan, &self.layout);
        let parts = parts.into_iter().collect();
        self.engine.load(&parts).expect("state is loaded");
    }
}

fn engine(plan: &Arc<JobPlan>, layout: &Arc<Layout>) -> SlotEngine {
    SlotEngine::new(plan.clone(), layout.clone(), &layout.all_tasks()).expect("an engine")
}

/// The task of a partition of the job's only source.
pub fn source(partition: usize) -> TaskId {
    TaskId {
        stage: 0,
        partition: partition as u32,
    }
}

pub fn planned(text: &str) -> Arc<JobPlan> {
    let job = manifest::load(text)
        .unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
        .job;
    let plan = plan::plan("properties", "tests", &job.spec);
    Arc::new(plan.unwrap_or_else(|problems| panic!("{problems:?}\n{text}")))
}

pub enum Step {
    /// The next entry of a partition.
    Entry {
        partition: usize,
        at: usize,
    },
    Restore,
}

/// All entries of partitions of these lengths, which advance at random speeds; with a restore somewhere, or without.
pub fn steps(lengths: &[usize], random: &mut Rng, restore: bool) -> Vec<Step> {
    let total: usize = lengths.iter().sum();
    let restore_at = restore.then(|| random.usize(0..=total));
    let mut next = vec![0; lengths.len()];
    let mut steps = Vec::new();
    for step in 0..=total {
        if restore_at == Some(step) {
            steps.push(Step::Restore);
        }
        let open = (0..lengths.len()).filter(|partition| next[*partition] < lengths[*partition]);
        if let Some(partition) = random.choice(open.collect::<Vec<_>>()) {
            let at = next[partition];
            steps.push(Step::Entry { partition, at });
            next[partition] += 1;
        }
    }
    steps
}
