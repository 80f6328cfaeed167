//! One task: a partition of a stage's input, and the state of the stage's steps for the keys in it.
//!
//! Rows pass through the stage in rounds: the steps in order, each taking the rows its input put out in this round, then
//! the watermark that these rows made. So a step's watermark moves only after the rows that the move released have gone
//! on, and rows that a window releases are on time for the next one.

use std::collections::BTreeMap;
use std::mem;

use arrow::array::{BooleanArray, RecordBatch};

use super::routes::{self, PORTS, slot_of, slots};
use super::{Event, Layout, TaskId, length};
use crate::chunk::{Chunk, Millis, W_END};
use crate::decode::{DecodeError, Decoder, Reason};
use crate::encode::{KeyEncoder, RowEncoder, RowOp};
use crate::exchange::{self, ExchangeError, Parcel};
use crate::key::partition_of;
use crate::output::{OutRow, Target, TargetOutput};
use crate::plan::{JobPlan, NodeKind, NodePlan, SinkKind, StageInput, StatelessPlan};
use crate::stateful::{Stateful, StepError, StepOutput, stateful};
use crate::stateless::{self, StatelessError};
use crate::watermark::{MergedWatermark, SourceWatermark};
use crate::window::StateSize;
use crate::window::fold::{Folded, Folder};
use streamjob_crds::OnMalformed;

/// Rows decoded before they are worked through: enough for vectorised evaluation, small enough for the caches.
const BATCH_ROWS: usize = 4096;
/// The same in bytes, for large events.
const BATCH_BYTES: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(
        "source `{source_name}`: the event at {origin}, partition {partition}, offset {offset} is malformed, {reason}: {detail}: `{raw}`; `onMalformed: Fail` says to stop: mend the event, or say `onMalformed: SideStream`"
    )]
    Malformed {
        source_name: String,
        origin: String,
        partition: u32,
        offset: i64,
        reason: Reason,
        detail: String,
        raw: String,
    },
    #[error("step `{step}`: {source}")]
    Step { step: String, source: StepError },
    #[error("step `{step}`: {source}")]
    Stateless {
        step: String,
        source: StatelessError,
    },
    #[error("exchange into `{exchange}`: {source}")]
    Exchange {
        exchange: String,
        source: ExchangeError,
    },
    #[error(transparent)]
    Rows(#[from] ExchangeError),
    #[error("decoding: {0}")]
    Decode(#[from] DecodeError),
    #[error("encoding rows of sink `{sink}`: {message}")]
    Encode { sink: String, message: String },
    #[error("task {0} is not here")]
    NoTask(TaskId),
    #[error(transparent)]
    Load(#[from] super::LoadError),
    #[error("saving state: {0}")]
    Save(String),
}

/// Rows counted since the task was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskCounters {
    pub rows_in: u64,
    pub malformed: u64,
    /// By step.
    pub steps: BTreeMap<String, StepCounters>,
    /// Rows put out, by sink.
    pub sinks: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepCounters {
    pub rows_in: u64,
    pub rows_out: u64,
    pub late: u64,
    pub failed: u64,
    /// Starts of a pattern that have ended without a match, and those that were one too many.
    pub timed_out: u64,
    pub overflow: u64,
}

/// Rows (or just a watermark) on their way to a task of another stage.
#[derive(Debug)]
pub struct Shipment {
    pub exchange: usize,
    pub partition: u32,
    pub parcel: Parcel,
}

pub struct Task {
    pub id: TaskId,
    /// Next position to read.
    pub position: i64,
    pub ended: bool,
    pub counters: TaskCounters,
    pub(super) intake: Intake,
    pub(super) nodes: Vec<Node>,
    /// Rows of the current round, by feed.
    streams: Vec<Vec<Chunk>>,
    sinks: Vec<SinkWriter>,
    exchanges: Vec<ExchangeWriter>,
}

pub(super) enum Intake {
    Source(Box<SourceIntake>),
    Exchange(ExchangeIntake),
}

pub(super) struct SourceIntake {
    name: String,
    origin: String,
    decoder: Decoder,
    on_malformed: OnMalformed,
    pub(super) watermark: SourceWatermark,
}

pub(super) struct ExchangeIntake {
    name: String,
    schema: arrow::datatypes::SchemaRef,
    pub(super) watermark: MergedWatermark,
}

pub(super) struct Node {
    pub(super) plan: NodePlan,
    from: usize,
    pub(super) step: Step,
}

pub(super) enum Step {
    Stateless(StatelessPlan),
    Stateful(Box<dyn Stateful>),
}

struct SinkWriter {
    name: String,
    feeds: Vec<usize>,
    rows: RowEncoder,
    key: Option<KeyEncoder>,
    keyed: bool,
    partitions: u32,
    output: TargetOutput,
}

struct ExchangeWriter {
    name: String,
    index: usize,
    feed: usize,
    /// Where rows may be folded on their way.
    folder: Option<Folder>,
    key: KeyEncoder,
    global: bool,
    pending: Vec<Chunk>,
    /// The watermark that each partition has been told.
    told: Vec<Millis>,
}

impl Task {
    pub fn new(plan: &JobPlan, layout: &Layout, id: TaskId) -> Result<Self, EngineError> {
        let stage = &plan.stages[id.stage];
        let nodes = stage
            .nodes
            .iter()
            .map(Node::new)
            .collect::<Result<Vec<_>, _>>()?;
        let sinks = routes::sinks(plan, id.stage).into_iter();
        let exchanges = routes::exchanges(plan, id.stage).into_iter();
        Ok(Task {
            id,
            position: 0,
            ended: false,
            counters: TaskCounters::default(),
            intake: Intake::new(plan, layout, id)?,
            streams: vec![Vec::new(); slots(nodes.len())],
            nodes,
            sinks: sinks
                .map(|(sink, feeds)| SinkWriter::new(plan, layout, sink, feeds))
                .collect::<Result<_, _>>()?,
            exchanges: exchanges
                .map(|(index, feed)| ExchangeWriter::new(plan, layout, index, feed))
                .collect::<Result<_, _>>()?,
        })
    }

    pub fn watermark(&self) -> Millis {
        match &self.intake {
            Intake::Source(source) => source.watermark.current(),
            Intake::Exchange(exchange) => exchange.watermark.current(),
        }
    }

    pub fn event(&mut self, event: Event<'_>) -> Result<(), EngineError> {
        self.position = event.next;
        match &mut self.intake {
            Intake::Source(source) => {
                self.counters.rows_in += 1;
                source
                    .decoder
                    .push(event.payload, event.offset, event.timestamp)?;
                if source.decoder.len() >= BATCH_ROWS || source.decoder.bytes() >= BATCH_BYTES {
                    self.flush()
                } else {
                    Ok(())
                }
            }
            Intake::Exchange(exchange) => {
                let parcel = exchange::decode(event.payload.unwrap_or_default(), &exchange.schema)
                    .map_err(|source| EngineError::Exchange {
                        exchange: exchange.name.clone(),
                        source,
                    })?;
                self.receive(parcel)
            }
        }
    }

    /// Works through the decoded rows.
    pub fn flush(&mut self) -> Result<(), EngineError> {
        let Intake::Source(source) = &mut self.intake else {
            return Ok(());
        };
        if source.decoder.is_empty() {
            return Ok(());
        }
        let decoded = source.decoder.finish()?;
        self.counters.malformed += decoded.malformed_count;
        if let (OnMalformed::Fail, Some(first)) = (source.on_malformed, decoded.first_malformed) {
            return Err(EngineError::Malformed {
                source_name: source.name.clone(),
                origin: source.origin.clone(),
                partition: self.id.partition,
                offset: first.offset,
                reason: first.reason,
                detail: first.detail,
                raw: first.raw,
            });
        }
        let malformed = decoded
            .malformed
            .map(|rows| untimed(rows, source.watermark.current()));
        let before = source.watermark.before_each(&decoded.times);
        let rows = Chunk {
            rows: decoded.rows,
            times: decoded.times,
            before,
            deletes: None,
        };
        self.streams[slot_of(crate::plan::Feed::Malformed)].extend(malformed);
        self.round(Some(rows).filter(|rows| !rows.is_empty()), false)
    }

    /// Rows of one producer task from the other side of an exchange.
    pub fn receive(&mut self, parcel: Parcel) -> Result<(), EngineError> {
        let Intake::Exchange(exchange) = &mut self.intake else {
            return Err(EngineError::NoTask(self.id));
        };
        let producer = parcel.producer as usize;
        if producer >= exchange.watermark.producers().len() {
            let message = format!(
                "record of producer {producer}, there are {}",
                exchange.watermark.producers().len()
            );
            return Err(EngineError::Exchange {
                exchange: exchange.name.clone(),
                source: ExchangeError::Shape(message),
            });
        }
        let rows = parcel.rows.map(|mut chunk| {
            for before in &mut chunk.before {
                *before = exchange.watermark.producer_at(producer, *before);
            }
            chunk
        });
        exchange.watermark.producer_at(producer, parcel.after);
        self.counters.rows_in += rows.as_ref().map_or(0, |rows| rows.len() as u64);
        self.ended = exchange.watermark.current() == W_END;
        self.round(rows, false)?;
        parcel
            .groups
            .map_or(Ok(()), |groups| self.add_groups(&groups))
    }

    /// Groups that another task has folded: for the window that the exchange is made for.
    fn add_groups(&mut self, groups: &RecordBatch) -> Result<(), EngineError> {
        let Some(Node {
            plan,
            step: Step::Stateful(stateful),
            ..
        }) = self.nodes.first_mut()
        else {
            return Err(EngineError::NoTask(self.id));
        };
        let rows = stateful
            .add_groups(groups)
            .map_err(|source| EngineError::Step {
                step: plan.name.clone(),
                source,
            })?;
        self.counters.rows_in += rows;
        let step = self.counters.steps.entry(plan.name.clone()).or_default();
        step.rows_in += rows;
        Ok(())
    }

    /// The watermark moves without data; `W_END` ends the input.
    pub fn advance(&mut self, w: Millis) -> Result<(), EngineError> {
        if let Intake::Source(source) = &mut self.intake {
            source.watermark.advance(w);
            self.ended |= w == W_END;
        }
        Ok(())
    }

    pub fn end_epoch(&mut self) -> Result<(), EngineError> {
        self.round(None, true)
    }

    fn round(&mut self, rows: Option<Chunk>, closing: bool) -> Result<(), EngineError> {
        let w = self.watermark();
        self.streams[0].extend(rows);
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            let input = mem::take(&mut self.streams[node.from]);
            let counters = self
                .counters
                .steps
                .entry(node.plan.name.clone())
                .or_default();
            let output = node.pass(&input, w, closing, counters)?;
            self.streams[node.from] = input;
            for (stream, chunks) in self.streams[2 + at * PORTS..].iter_mut().zip(output) {
                stream.extend(chunks);
            }
        }
        for sink in &mut self.sinks {
            for feed in &sink.feeds.clone() {
                sink.write(&self.streams[*feed], self.id.partition)?;
            }
        }
        for exchange in &mut self.exchanges {
            exchange
                .pending
                .extend(self.streams[exchange.feed].iter().cloned());
        }
        self.streams.iter_mut().for_each(Vec::clear);
        Ok(())
    }

    /// What its windows hold.
    pub fn held(&self) -> StateSize {
        let held = self.nodes.iter().map(|node| match &node.step {
            Step::Stateless(_) => StateSize::default(),
            Step::Stateful(step) => step.held(),
        });
        held.fold(StateSize::default(), StateSize::plus)
    }

    pub fn take_output(&mut self) -> Result<Vec<TargetOutput>, EngineError> {
        let mut outputs = Vec::new();
        for sink in &mut self.sinks {
            if !sink.output.rows.is_empty() {
                let fresh = TargetOutput::new(sink.output.target);
                *self.counters.sinks.entry(sink.name.clone()).or_default() +=
                    sink.output.rows.len() as u64;
                outputs.push(mem::replace(&mut sink.output, fresh));
            }
        }
        Ok(outputs)
    }

    /// What goes through exchanges at the end of the epoch: rows where there are any, and the watermark where it is wanted.
    pub fn take_shipments(
        &mut self,
        partitions: usize,
        punctuate: bool,
    ) -> Result<Vec<Shipment>, EngineError> {
        let (producer, after, all) = (self.id.partition, self.watermark(), punctuate || self.ended);
        let mut shipments = Vec::new();
        for exchange in &mut self.exchanges {
            let parts = exchange.take(partitions)?;
            for (partition, rows) in parts.into_iter().enumerate() {
                if rows.is_some() || (all && after > exchange.told[partition]) {
                    exchange.told[partition] = after;
                    let Folded { rows, groups } = exchange.fold(rows, after)?;
                    shipments.push(Shipment {
                        exchange: exchange.index,
                        partition: partition as u32,
                        parcel: Parcel {
                            producer,
                            after,
                            rows,
                            groups,
                        },
                    });
                }
            }
        }
        Ok(shipments)
    }
}

/// Malformed rows have no event time.
fn untimed(rows: RecordBatch, w: Millis) -> Chunk {
    let count = rows.num_rows();
    Chunk {
        rows,
        times: vec![0; count],
        before: vec![w; count],
        deletes: None,
    }
}

impl Intake {
    fn new(plan: &JobPlan, layout: &Layout, id: TaskId) -> Result<Self, EngineError> {
        Ok(match plan.stages[id.stage].input {
            StageInput::Source(index) => {
                let source = &plan.sources[index];
                let files = layout.files.get(&id.stage);
                let file = files.and_then(|files| files.get(id.partition as usize));
                let origin = file.cloned().unwrap_or_else(|| source.origin());
                let decoder = Decoder::new(
                    &source.columns,
                    source.time_column,
                    source.max_future,
                    &origin,
                    i64::from(id.partition),
                    source.malformed_read,
                )?;
                Intake::Source(Box::new(SourceIntake {
                    name: source.name.clone(),
                    origin,
                    decoder,
                    on_malformed: source.on_malformed,
                    watermark: SourceWatermark::new(source.max_out_of_orderness),
                }))
            }
            StageInput::Exchange(index) => {
                let exchange = &plan.exchanges[index];
                let producers = layout.tasks[exchange.from.stage] as usize;
                Intake::Exchange(ExchangeIntake {
                    name: exchange.name.clone(),
                    schema: exchange.schema.clone(),
                    watermark: MergedWatermark::new(producers),
                })
            }
        })
    }
}

impl Node {
    fn new(plan: &NodePlan) -> Result<Self, EngineError> {
        let failed = |source| EngineError::Step {
            step: plan.name.clone(),
            source,
        };
        let step = match (&plan.kind, stateful(plan).map_err(failed)?) {
            (_, Some(step)) => Step::Stateful(step),
            (NodeKind::Stateless(stateless), None) => Step::Stateless(stateless.clone()),
            (kind, None) => return Err(failed(StepError::Plan(format!("{kind:?}")))),
        };
        Ok(Node {
            plan: plan.clone(),
            from: slot_of(plan.from),
            step,
        })
    }

    /// Rows in, then the watermark; out come the rows of each port.
    fn pass(
        &mut self,
        input: &[Chunk],
        w: Millis,
        closing: bool,
        counters: &mut StepCounters,
    ) -> Result<[Vec<Chunk>; PORTS], EngineError> {
        let mut out: [Vec<Chunk>; PORTS] = Default::default();
        counters.rows_in += rows_of(input);
        match &mut self.step {
            Step::Stateless(plan) => {
                for chunk in input {
                    let passed =
                        stateless::apply(plan, &self.plan.schema, chunk).map_err(|source| {
                            EngineError::Stateless {
                                step: self.plan.name.clone(),
                                source,
                            }
                        })?;
                    counters.failed += passed.failed.as_ref().map_or(0, |rows| rows.len() as u64);
                    out[0].extend(passed.main);
                    out[2].extend(passed.failed);
                }
            }
            Step::Stateful(step) => {
                let made = step
                    .pass(input, w, closing)
                    .map_err(|source| EngineError::Step {
                        step: self.plan.name.clone(),
                        source,
                    })?;
                counters.late += made.late_count;
                counters.failed += made.failed_count;
                counters.timed_out += made.timed_out_count;
                counters.overflow += made.overflow_count;
                out = by_port(made);
            }
        }
        counters.rows_out += rows_of(&out[0]);
        Ok(out)
    }
}

fn by_port(made: StepOutput) -> [Vec<Chunk>; PORTS] {
    [
        made.main,
        made.late,
        made.failed,
        made.timed_out,
        made.overflow,
    ]
}

fn rows_of(chunks: &[Chunk]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

impl SinkWriter {
    fn new(
        plan: &JobPlan,
        layout: &Layout,
        sink: usize,
        feeds: Vec<usize>,
    ) -> Result<Self, EngineError> {
        let spec = &plan.sinks[sink];
        let encode = |message: String| EngineError::Encode {
            sink: spec.name.clone(),
            message,
        };
        let with_key = matches!(spec.kind, SinkKind::Kafka(_)) && !spec.key.is_empty();
        Ok(SinkWriter {
            name: spec.name.clone(),
            feeds,
            rows: RowEncoder::new(&spec.schema).map_err(|error| encode(error.to_string()))?,
            key: match with_key {
                true => Some(
                    KeyEncoder::new(&spec.schema, &spec.key)
                        .map_err(|error| encode(error.to_string()))?,
                ),
                false => None,
            },
            keyed: spec.keyed,
            partitions: layout.sink_partitions[sink].max(1),
            output: TargetOutput::new(Target::Sink(sink)),
        })
    }

    fn write(&mut self, chunks: &[Chunk], task: u32) -> Result<(), EngineError> {
        for chunk in chunks {
            self.write_chunk(chunk, task)
                .map_err(|message| EngineError::Encode {
                    sink: self.name.clone(),
                    message,
                })?;
        }
        Ok(())
    }

    fn write_chunk(&mut self, chunk: &Chunk, task: u32) -> Result<(), String> {
        let rows = self
            .rows
            .bind(&chunk.rows)
            .map_err(|error| error.to_string())?;
        let key = match &self.key {
            Some(key) => Some(key.bind(&chunk.rows).map_err(|error| error.to_string())?),
            None => None,
        };
        let bytes = &mut self.output.bytes;
        for row in 0..chunk.len() {
            let start = length(bytes).map_err(|error| error.to_string())?;
            let has_key = key.as_ref().is_some_and(|key| key.encode(row, bytes));
            let middle = length(bytes).map_err(|error| error.to_string())?;
            let partition = match has_key {
                true => partition_of(&bytes[start as usize..], self.partitions),
                false => task % self.partitions,
            };
            let delete = is_delete(&chunk.deletes, row);
            let value = if delete && self.keyed {
                None
            } else {
                rows.encode(
                    row,
                    if delete { RowOp::Delete } else { RowOp::Upsert },
                    bytes,
                );
                Some(middle..length(bytes).map_err(|error| error.to_string())?)
            };
            self.output.rows.push(OutRow {
                key: has_key.then_some(start..middle),
                value,
                partition,
            });
        }
        Ok(())
    }
}

fn is_delete(deletes: &Option<BooleanArray>, row: usize) -> bool {
    deletes.as_ref().is_some_and(|deletes| deletes.value(row))
}

impl ExchangeWriter {
    fn new(
        plan: &JobPlan,
        layout: &Layout,
        index: usize,
        feed: usize,
    ) -> Result<Self, EngineError> {
        let exchange = &plan.exchanges[index];
        Ok(ExchangeWriter {
            name: exchange.name.clone(),
            folder: plan.stages[exchange.to_stage]
                .nodes
                .first()
                .and_then(Folder::new),
            index,
            feed,
            key: KeyEncoder::new(&exchange.schema, &exchange.key).map_err(|error| {
                EngineError::Encode {
                    sink: exchange.name.clone(),
                    message: error.to_string(),
                }
            })?,
            global: exchange.key.is_empty(),
            pending: Vec::new(),
            told: vec![crate::chunk::W_START; layout.slots as usize],
        })
    }

    /// The epoch's rows, by partition.
    fn take(&mut self, partitions: usize) -> Result<Vec<Option<Chunk>>, EngineError> {
        let chunks = mem::take(&mut self.pending);
        let owner = chunks
            .iter()
            .map(|chunk| self.owners(chunk, partitions as u32))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(exchange::split(&chunks, &owner, partitions)?)
    }

    /// Rows of the epoch for one partition, as far as possible as groups.
    fn fold(&mut self, rows: Option<Chunk>, w: Millis) -> Result<Folded, EngineError> {
        match (&mut self.folder, rows) {
            (Some(folder), Some(rows)) => {
                folder.fold(rows, w).map_err(|source| EngineError::Step {
                    step: self.name.clone(),
                    source: source.into(),
                })
            }
            (_, rows) => Ok(Folded { rows, groups: None }),
        }
    }

    fn owners(&self, chunk: &Chunk, partitions: u32) -> Result<Vec<u32>, EngineError> {
        if self.global {
            return Ok(vec![0; chunk.len()]);
        }
        let key = self
            .key
            .bind(&chunk.rows)
            .map_err(|error| EngineError::Encode {
                sink: "exchange".into(),
                message: error.to_string(),
            })?;
        let mut bytes = Vec::new();
        let owners = (0..chunk.len()).map(|row| {
            bytes.clear();
            // A null key is a group like any other: it lives where the empty key does.
            key.encode(row, &mut bytes);
            partition_of(&bytes, partitions)
        });
        Ok(owners.collect())
    }
}
