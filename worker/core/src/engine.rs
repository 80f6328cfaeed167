//! The engine of a slot: its tasks, driven by rows and closed into epochs.
//!
//! Rows go in by task (`event`), in log order. `close` ends the epoch: watermarks that move without data are applied,
//! changed windows emit, and everything the tasks put out comes back in an order that depends on the input alone (by
//! stage, task, target). Fed the same rows, advances and cuts, an engine restored by `load` gives the same bytes: that is
//! what makes replay safe, and the digest in the journal checks it.
//!
//! Owns all state of the tasks; knows nothing of offsets' meaning, of Kafka, or of the clock.

mod routes;
mod save;
mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::chunk::{Millis, W_END};
use crate::exchange::{self, ExchangeError, Parcel};
use crate::output::{EpochOutput, OutRow, Target, TargetOutput};
use crate::plan::{JobPlan, StageInput};
use crate::window::StateSize;

use save::Fit;
pub use save::LoadError;
pub use task::{EngineError, StepCounters, TaskCounters};
use task::{Shipment, Task};

/// Partition `partition` of stage `stage`'s input, and the state behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    pub stage: usize,
    pub partition: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stage, self.partition)
    }
}

/// How the job lies on this cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    pub slots: u32,
    /// Tasks of each stage: partitions of its input.
    pub tasks: Vec<u32>,
    /// Partitions of each sink's topic; 1 for other sinks.
    pub sink_partitions: Vec<u32>,
    /// Exchanges are in process (all tasks are here) rather than internal topics.
    pub exchange_in_process: bool,
    /// The files that a stage reads, by its index: one a partition. Stages of other sources are not in it.
    pub files: BTreeMap<usize, Vec<String>>,
}

impl Layout {
    /// The tasks of a slot: partition modulo slots, in every stage.
    pub fn tasks_of(&self, slot: u32) -> Vec<TaskId> {
        self.all_tasks()
            .into_iter()
            .filter(|task| task.partition % self.slots == slot)
            .collect()
    }

    pub fn all_tasks(&self) -> Vec<TaskId> {
        let stages = self.tasks.iter().enumerate();
        stages
            .flat_map(|(stage, tasks)| {
                (0..*tasks).map(move |partition| TaskId { stage, partition })
            })
            .collect()
    }
}

/// Names of inputs as the journal writes them: `<source or step>/<partition>`.
pub fn input_name(plan: &JobPlan, task: TaskId) -> String {
    let name = match plan.stages[task.stage].input {
        StageInput::Source(source) => &plan.sources[source].name,
        StageInput::Exchange(exchange) => &plan.exchanges[exchange].name,
    };
    format!("{name}/{}", task.partition)
}

/// What an epoch leaves behind.
#[derive(Clone, Debug)]
pub struct ClosedEpoch {
    pub output: EpochOutput,
    /// Next position to read, by task.
    pub positions: BTreeMap<TaskId, i64>,
    pub watermarks: BTreeMap<TaskId, Millis>,
    /// Tasks whose input has ended, in this epoch or before.
    pub ended: Vec<TaskId>,
}

/// One event for a source's task.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub payload: Option<&'a [u8]>,
    /// Its position, as `<source>.malformed` reports it.
    pub offset: i64,
    /// Position after it.
    pub next: i64,
    /// Kafka's timestamp.
    pub timestamp: Option<Millis>,
}

/// What tasks have been sent in process, by the receiver's handle: they come later in the epoch's order than all that send.
type Inbox = BTreeMap<usize, Vec<Parcel>>;

pub struct SlotEngine {
    plan: Arc<JobPlan>,
    layout: Arc<Layout>,
    /// By stage, then partition: the order of everything.
    tasks: Vec<Task>,
    index: BTreeMap<TaskId, usize>,
}

impl SlotEngine {
    pub fn new(
        plan: Arc<JobPlan>,
        layout: Arc<Layout>,
        tasks: &[TaskId],
    ) -> Result<Self, EngineError> {
        let mut ids = tasks.to_vec();
        ids.sort();
        let tasks = ids
            .iter()
            .map(|id| Task::new(&plan, &layout, *id))
            .collect::<Result<Vec<_>, _>>()?;
        let index = ids
            .into_iter()
            .enumerate()
            .map(|(index, id)| (id, index))
            .collect();
        Ok(SlotEngine {
            plan,
            layout,
            tasks,
            index,
        })
    }

    /// Handle for `event`, so that a row costs no look-up.
    pub fn handle(&self, task: TaskId) -> Option<usize> {
        self.index.get(&task).copied()
    }

    pub fn task_ids(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.tasks.iter().map(|task| task.id)
    }

    pub fn position(&self, task: TaskId) -> Option<i64> {
        self.handle(task).map(|handle| self.tasks[handle].position)
    }

    /// Where a fresh task begins, or where the input moved on by itself (control records at the end of a partition).
    pub fn set_position(&mut self, task: TaskId, position: i64) {
        if let Some(handle) = self.handle(task) {
            self.tasks[handle].position = position;
        }
    }

    pub fn watermark(&self, task: TaskId) -> Option<Millis> {
        self.handle(task)
            .map(|handle| self.tasks[handle].watermark())
    }

    pub fn ended(&self, task: TaskId) -> bool {
        self.handle(task)
            .is_some_and(|handle| self.tasks[handle].ended)
    }

    pub fn all_ended(&self) -> bool {
        self.tasks.iter().all(|task| task.ended)
    }

    /// The next row of a task's input: an event of a source or a record of an internal topic.
    pub fn event(&mut self, handle: usize, event: Event<'_>) -> Result<(), EngineError> {
        self.tasks[handle].event(event)
    }

    /// Works through rows taken in so far; `close` does it too.
    pub fn flush(&mut self) -> Result<(), EngineError> {
        self.tasks.iter_mut().try_for_each(Task::flush)
    }

    /// Ends the epoch. `advances`: watermarks that move without data; `ends`: inputs that have no more rows;
    /// `punctuate`: tell the other side of exchanges about watermarks even where no rows go.
    pub fn close(
        &mut self,
        advances: &BTreeMap<TaskId, Millis>,
        ends: &[TaskId],
        punctuate: bool,
    ) -> Result<ClosedEpoch, EngineError> {
        let mut output = EpochOutput::default();
        let mut inbox = Inbox::new();
        for at in 0..self.tasks.len() {
            let task = &mut self.tasks[at];
            // An exchange's inputs are read in declared order, then by partition, whatever their stages are.
            let mut parcels = inbox.remove(&at).unwrap_or_default();
            parcels.sort_by_key(|parcel| parcel.producer);
            for parcel in parcels {
                task.receive(parcel)?;
            }
            task.flush()?;
            if let Some(w) = advances.get(&task.id) {
                task.advance(*w)?;
            }
            if ends.contains(&task.id) {
                task.advance(W_END)?;
            }
            task.end_epoch()?;
            output.targets.extend(task.take_output()?);
            for shipment in task.take_shipments(self.layout.slots as usize, punctuate)? {
                self.ship(shipment, &mut inbox, &mut output)?;
            }
        }
        Ok(ClosedEpoch {
            output,
            positions: self
                .tasks
                .iter()
                .map(|task| (task.id, task.position))
                .collect(),
            watermarks: self
                .tasks
                .iter()
                .map(|task| (task.id, task.watermark()))
                .collect(),
            ended: self
                .tasks
                .iter()
                .filter(|task| task.ended)
                .map(|task| task.id)
                .collect(),
        })
    }

    /// Hands rows to the other side of an exchange: a later task here, or an internal topic.
    fn ship(
        &self,
        shipment: Shipment,
        inbox: &mut Inbox,
        output: &mut EpochOutput,
    ) -> Result<(), EngineError> {
        let Shipment {
            exchange,
            partition,
            parcel,
        } = shipment;
        if self.layout.exchange_in_process {
            let id = TaskId {
                stage: self.plan.exchanges[exchange].to_stage,
                partition,
            };
            let handle = self.handle(id).ok_or(EngineError::NoTask(id))?;
            inbox.entry(handle).or_default().push(parcel);
            return Ok(());
        }
        let mut bytes = Vec::new();
        exchange::encode(&parcel, &mut bytes)?;
        let row = OutRow {
            key: None,
            value: Some(0..length(&bytes)?),
            partition,
        };
        let target = TargetOutput {
            target: Target::Exchange(exchange),
            bytes,
            rows: vec![row],
        };
        match parcel.rows.is_some() || parcel.groups.is_some() {
            true => output.targets.push(target),
            false => output.punctuation.push(target),
        }
        Ok(())
    }

    /// The complete state, a part for each task. `load` takes it back.
    pub fn save(&self) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
        self.tasks
            .iter()
            .map(|task| Ok((input_name(&self.plan, task.id), save::save(task)?)))
            .collect()
    }

    /// Restores what `save` gave under the same plan and layout.
    pub fn load(&mut self, parts: &BTreeMap<String, Vec<u8>>) -> Result<(), EngineError> {
        for task in &mut self.tasks {
            let name = input_name(&self.plan, task.id);
            let part = parts
                .get(&name)
                .ok_or_else(|| LoadError::Missing(name.clone()))?;
            load(task, name, part, Fit::Same)?;
        }
        Ok(())
    }

    /// Goes on from what `save` gave under another plan of the job: steps that are not in it begin empty, and what it has of
    /// others is left behind. `discard`: steps whose settings changed begin empty too, rather than being an error. Tasks of
    /// inputs that it does not know keep their position.
    pub fn adopt(
        &mut self,
        parts: &BTreeMap<String, Vec<u8>>,
        discard: bool,
    ) -> Result<(), EngineError> {
        for task in &mut self.tasks {
            let name = input_name(&self.plan, task.id);
            if let Some(part) = parts.get(&name) {
                load(task, name, part, Fit::Changed { discard })?;
            }
        }
        Ok(())
    }

    /// Rows in and out since the engine was made, by task.
    pub fn counters(&self) -> impl Iterator<Item = (TaskId, &TaskCounters)> + '_ {
        self.tasks.iter().map(|task| (task.id, &task.counters))
    }

    /// What the tasks' windows hold at the moment.
    pub fn held(&self) -> StateSize {
        let held = self.tasks.iter().map(Task::held);
        held.fold(StateSize::default(), StateSize::plus)
    }
}

fn load(task: &mut Task, name: String, part: &[u8], fit: Fit) -> Result<(), EngineError> {
    save::load(task, part, fit).map_err(|source| {
        let source = Box::new(source);
        LoadError::Part { name, source }.into()
    })
}

pub(crate) fn length(bytes: &[u8]) -> Result<u32, ExchangeError> {
    u32::try_from(bytes.len()).map_err(|_| {
        ExchangeError::Shape(format!(
            "{} bytes in one epoch: more than 4 GiB",
            bytes.len()
        ))
    })
}
