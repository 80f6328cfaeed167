//! Lays a resolved job out in stages, over the columns that are needed.
//!
//! A step whose groups are whole in the tasks of its input stays in that stage. Else an exchange is put before it:
//!
//! ```text
//!   stage of the input                                    stage of the exchange
//!   input ─▶ where, group expressions, needed columns ══▶ window ─▶ …
//!                        └▶ .failed                           ├▶ .late   ─▶ input's columns
//!                                                             └▶ .failed ─▶ input's columns
//! ```
//!
//! What a step reads behind an exchange is no more than it needs; one that passes its rows on (`deduplicate`) takes the
//! added columns off again.
//!
//! A stream may so have several origins: a step's failures on both sides. What reads such a stream exists once for each.

mod top;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::{DataFusionError, Result};
use streamjob_crds::Step;

use super::deduplicate::DedupStep;
use super::demand::{Demand, call_columns};
use super::hash::state_hash;
use super::pattern::MatchStep;
use super::planner::Resolved;
use super::sinks::ResolvedSink;
use super::steps::{ResolvedStep, StepKind, WindowStep, field, schema_of};
use super::{
    AggregateCall, DedupPlan, ExchangePlan, Feed, NodeKind, NodePlan, Port, SinkPlan, SourcePlan,
    StageInput, StagePlan, StatelessPlan, StreamRef, WindowPlan,
};
use crate::decode;
use crate::expr::{Compiled, Item};
use crate::stateless::failed_schema;

/// The parts of a plan that streams make up.
pub(super) struct Layout {
    pub sources: Vec<SourcePlan>,
    pub stages: Vec<StagePlan>,
    pub exchanges: Vec<ExchangePlan>,
    pub sinks: Vec<SinkPlan>,
}

pub(super) fn build(resolved: &Resolved<'_>, demand: &Demand) -> Result<Layout> {
    let mut builder = Builder {
        demand,
        stages: Vec::new(),
        exchanges: Vec::new(),
        built: BTreeMap::new(),
    };
    let sources = resolved
        .sources
        .iter()
        .map(|source| builder.source(&source.plan))
        .collect();
    for (step, planned) in &resolved.steps {
        builder.step(step, planned)?;
    }
    let sinks = resolved
        .sinks
        .iter()
        .map(|sink| builder.sink(sink))
        .collect::<Result<_>>()?;
    Ok(Layout {
        sources,
        stages: builder.stages,
        exchanges: builder.exchanges,
        sinks,
    })
}

/// A stream that is laid out.
#[derive(Clone)]
struct Built {
    /// Where its rows come from; all have `schema`.
    refs: Vec<StreamRef>,
    schema: SchemaRef,
}

struct Builder<'a> {
    demand: &'a Demand,
    stages: Vec<StagePlan>,
    exchanges: Vec<ExchangePlan>,
    built: BTreeMap<String, Built>,
}

/// The names of a step's side streams, and who reads them.
#[derive(Default)]
struct Ports {
    main: String,
    late: String,
    failed: String,
    timed_out: String,
    overflow: String,
    late_read: bool,
    failed_read: bool,
    timed_out_read: bool,
    overflow_read: bool,
}

/// A step whose state is by group: the rows of a group have to be in one task.
#[derive(Clone, Copy)]
enum Grouped<'a> {
    Window(&'a WindowStep),
    Match(&'a MatchStep),
    Deduplicate(&'a DedupStep),
}

impl Grouped<'_> {
    fn group(&self) -> &[Item] {
        match self {
            Grouped::Window(window) => &window.group,
            Grouped::Match(pattern) => &pattern.partition,
            Grouped::Deduplicate(step) => &step.by,
        }
    }

    fn stays(&self) -> bool {
        match self {
            Grouped::Window(window) => window.stays,
            Grouped::Match(pattern) => pattern.stays,
            Grouped::Deduplicate(step) => step.stays,
        }
    }

    /// Input columns that it reads, but for those that groups are made of.
    fn columns(&self) -> BTreeSet<String> {
        match self {
            Grouped::Window(window) => call_columns(window.aggregation.calls.iter()),
            Grouped::Match(pattern) => pattern.columns(),
            Grouped::Deduplicate(_) => BTreeSet::new(),
        }
    }

    /// Whether it lets rows through as they are. Its `where` is then a node of its own.
    fn passes_on(&self) -> bool {
        matches!(self, Grouped::Deduplicate(_))
    }

    fn plan(
        &self,
        filter: Option<Compiled>,
        group: Vec<Compiled>,
        input: &Schema,
        ports: &Ports,
    ) -> Result<NodeKind> {
        Ok(match self {
            Grouped::Window(window) => NodeKind::Window(window_plan(window, filter, group, input)?),
            Grouped::Match(pattern) => {
                let whole = ports.failed_read || ports.overflow_read;
                NodeKind::Match(Box::new(pattern.plan(filter, group, input, whole)?))
            }
            Grouped::Deduplicate(step) => NodeKind::Deduplicate(DedupPlan {
                by: group,
                within: step.within,
            }),
        })
    }
}

impl Ports {
    /// For a part of the step whose side streams nobody can read; `part`: behind the step's name.
    fn quiet(&self, part: &str) -> Self {
        Ports {
            main: format!("{}{part}", self.main),
            ..Ports::default()
        }
    }
}

impl Builder<'_> {
    fn get(&self, stream: &str) -> Result<&Built> {
        self.built
            .get(stream)
            .ok_or_else(|| DataFusionError::Internal(format!("stream {stream} is not laid out")))
    }

    fn source(&mut self, plan: &SourcePlan) -> SourcePlan {
        let wanted: Vec<&String> = self.demand.columns(&plan.name).collect();
        let mut columns = plan.columns.clone();
        for (at, column) in columns.iter_mut().enumerate() {
            // Rows without any column would have no number.
            column.used =
                wanted.contains(&&column.name) || (wanted.is_empty() && at == plan.time_column);
        }
        let used = columns.iter().filter(|column| column.used);
        let fields =
            used.map(|column| Field::new(&column.name, column.data_type.clone(), column.nullable));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let stage = self.stages.len();
        self.stages.push(StagePlan {
            input: StageInput::Source(stage),
            schema: schema.clone(),
            nodes: Vec::new(),
        });
        let malformed = format!("{}.malformed", plan.name);
        let malformed_read = self.demand.is_read(&malformed);
        let at = |feed| vec![StreamRef { stage, feed }];
        self.built.insert(
            plan.name.clone(),
            Built {
                refs: at(Feed::Input),
                schema: schema.clone(),
            },
        );
        self.built.insert(
            malformed,
            Built {
                refs: at(Feed::Malformed),
                schema: decode::malformed_schema(),
            },
        );
        SourcePlan {
            columns,
            schema,
            malformed_read,
            ..plan.clone()
        }
    }

    fn sink(&self, sink: &ResolvedSink) -> Result<SinkPlan> {
        let built = self.get(&sink.from)?;
        Ok(SinkPlan {
            name: sink.name.clone(),
            from: built.refs.clone(),
            schema: built.schema.clone(),
            kind: sink.kind.clone(),
            key: sink.key.clone(),
            keyed: sink.keyed,
        })
    }

    fn step(&mut self, step: &Step, planned: &ResolvedStep) -> Result<()> {
        let name = |port: &str| format!("{}{port}", step.name);
        let (main, late, failed) = (name(""), name(".late"), name(".failed"));
        let (timed_out, overflow) = (name(".timedOut"), name(".overflow"));
        let read = [&main, &late, &failed, &timed_out, &overflow]
            .map(|stream| self.demand.is_read(stream));
        if read == [false; 5] {
            return Ok(());
        }
        let [_, late_read, failed_read, timed_out_read, overflow_read] = read;
        let ports = Ports {
            main,
            late,
            failed,
            timed_out,
            overflow,
            late_read,
            failed_read,
            timed_out_read,
            overflow_read,
        };
        let input = self.get(&step.from)?.clone();
        let filter = planned
            .filter
            .as_ref()
            .map(|filter| filter.over(&input.schema))
            .transpose()?;
        match &planned.kind {
            StepKind::Stateless { select } => {
                self.stateless(select.as_deref(), filter, input, ports)
            }
            StepKind::Window(window) => {
                self.grouped(Grouped::Window(window), filter, input, ports, planned)
            }
            StepKind::Match(pattern) => {
                self.grouped(Grouped::Match(pattern), filter, input, ports, planned)
            }
            StepKind::Deduplicate(step) => {
                self.grouped(Grouped::Deduplicate(step), filter, input, ports, planned)
            }
        }
    }

    fn stateless(
        &mut self,
        select: Option<&[Item]>,
        filter: Option<Compiled>,
        input: Built,
        ports: Ports,
    ) -> Result<()> {
        let items: Option<Vec<Item>> = match select {
            None => None,
            Some(items) => {
                let kept = self.demand.kept(items, &ports.main).into_iter();
                Some(
                    kept.map(|item| {
                        Ok(Item {
                            name: item.name.clone(),
                            compiled: item.compiled.over(&input.schema)?,
                        })
                    })
                    .collect::<Result<_>>()?,
                )
            }
        };
        let schema = items.as_deref().map_or(input.schema.clone(), schema_of);
        let project = items.map(|items| items.into_iter().map(|item| item.compiled).collect());
        let plan = StatelessPlan { filter, project };
        let mut main = Vec::new();
        for from in &input.refs {
            main.push(self.node(
                &ports,
                from,
                NodeKind::Stateless(plan.clone()),
                &schema,
                false,
            ));
        }
        self.finish(
            ports,
            &input,
            Built {
                refs: main.clone(),
                schema,
            },
            Sides {
                failed: port_of(&main, Port::Failed),
                ..Sides::default()
            },
        );
        Ok(())
    }

    fn grouped(
        &mut self,
        step: Grouped<'_>,
        filter: Option<Compiled>,
        input: Built,
        ports: Ports,
        planned: &ResolvedStep,
    ) -> Result<()> {
        match step.stays() {
            true => self.in_place(step, filter, input, ports, planned),
            false => self.exchanged(step, filter, input, ports, planned),
        }
    }

    /// In the stage of its input.
    fn in_place(
        &mut self,
        step: Grouped<'_>,
        filter: Option<Compiled>,
        input: Built,
        ports: Ports,
        planned: &ResolvedStep,
    ) -> Result<()> {
        let group = step
            .group()
            .iter()
            .map(|item| item.compiled.over(&input.schema))
            .collect::<Result<_>>()?;
        let (filter, before) = match step.passes_on() {
            true => (None, filter),
            false => (filter, None),
        };
        let schema = match step.passes_on() {
            true => input.schema.clone(),
            false => planned.stream.schema.clone(),
        };
        let plan = step.plan(filter, group, &input.schema, &ports)?;
        let updating = planned.stream.updating;
        let (mut nodes, mut main, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for from in &input.refs {
            let mut from = *from;
            if before.is_some() {
                let passing = StatelessPlan {
                    filter: before.clone(),
                    project: None,
                };
                let kind = NodeKind::Stateless(passing);
                from = self.node(&ports, &from, kind, &input.schema, false);
                failed.extend(port_of(&[from], Port::Failed));
            }
            let node = self.node(&ports, &from, plan.clone(), &schema, updating);
            nodes.push(node);
            main.push(self.top(step, &ports, node, &schema));
        }
        let built = Built { refs: main, schema };
        failed.extend(port_of(&nodes, Port::Failed));
        let sides = Sides {
            late: port_of(&nodes, Port::Late),
            failed,
            timed_out: port_of(&nodes, Port::TimedOut),
            overflow: port_of(&nodes, Port::Overflow),
        };
        self.finish(ports, &input, built, sides);
        Ok(())
    }

    /// Behind an exchange that brings the rows of a group together.
    fn exchanged(
        &mut self,
        step: Grouped<'_>,
        filter: Option<Compiled>,
        input: Built,
        ports: Ports,
        planned: &ResolvedStep,
    ) -> Result<()> {
        let sides_read = ports.late_read || ports.failed_read || ports.overflow_read;
        let all = sides_read || step.passes_on();
        let sent = Sent::of(step, &input.schema, all)?;
        let (mut main, mut sides) = (Vec::new(), Sides::default());
        for from in &input.refs {
            let plan = StatelessPlan {
                filter: filter.clone(),
                project: Some(sent.project.clone()),
            };
            let before = self.node(&ports, from, NodeKind::Stateless(plan), &sent.schema, false);
            sides.failed.extend(port_of(&[before], Port::Failed));
            let arrival = self.exchange(&ports.main, before, &sent);

            let group = sent
                .key
                .iter()
                .map(|index| Compiled::column(&sent.schema, *index))
                .collect();
            let plan = step.plan(None, group, &sent.schema, &ports)?;
            let updating = planned.stream.updating;
            let schema = match step.passes_on() {
                true => sent.schema.clone(),
                false => planned.stream.schema.clone(),
            };
            let node = self.node(&ports, &arrival, plan, &schema, updating);
            main.push(match step.passes_on() {
                true => self.input_columns(&ports, node, &schema, &input.schema)?,
                false => self.top(step, &ports, node, &schema),
            });
            sides.timed_out.extend(port_of(&[node], Port::TimedOut));
            for (read, port, side) in [
                (ports.late_read, Port::Late, &mut sides.late),
                (ports.overflow_read, Port::Overflow, &mut sides.overflow),
            ] {
                if read {
                    side.push(self.input_columns(
                        &ports,
                        port_of(&[node], port)[0],
                        &sent.schema,
                        &input.schema,
                    )?);
                }
            }
            if ports.failed_read {
                let (from, to) = (
                    failed_schema(&sent.schema),
                    Arc::new(failed_schema(&input.schema)),
                );
                sides.failed.push(self.input_columns(
                    &ports,
                    port_of(&[node], Port::Failed)[0],
                    &from,
                    &to,
                )?);
            }
        }
        let schema = match step.passes_on() {
            true => input.schema.clone(),
            false => planned.stream.schema.clone(),
        };
        let built = Built { refs: main, schema };
        self.finish(ports, &input, built, sides);
        Ok(())
    }

    fn exchange(&mut self, name: &str, from: StreamRef, sent: &Sent) -> StreamRef {
        let to_stage = self.stages.len();
        let exchange = self.exchanges.len();
        self.exchanges.push(ExchangePlan {
            name: name.to_string(),
            from,
            schema: sent.schema.clone(),
            key: sent.key.clone(),
            to_stage,
        });
        self.stages.push(StagePlan {
            input: StageInput::Exchange(exchange),
            schema: sent.schema.clone(),
            nodes: Vec::new(),
        });
        StreamRef {
            stage: to_stage,
            feed: Feed::Input,
        }
    }

    /// Takes off the columns that were added for the exchange.
    fn input_columns(
        &mut self,
        ports: &Ports,
        from: StreamRef,
        have: &Schema,
        want: &SchemaRef,
    ) -> Result<StreamRef> {
        if have.fields() == want.fields() {
            return Ok(from);
        }
        let indices = want
            .fields()
            .iter()
            .map(|field| Ok(have.index_of(field.name())?))
            .collect::<Result<Vec<_>>>()?;
        let project = indices
            .into_iter()
            .map(|index| Compiled::column(have, index))
            .collect();
        let plan = StatelessPlan {
            filter: None,
            project: Some(project),
        };
        Ok(self.node(
            &ports.quiet(""),
            &from,
            NodeKind::Stateless(plan),
            want,
            false,
        ))
    }

    fn node(
        &mut self,
        ports: &Ports,
        from: &StreamRef,
        kind: NodeKind,
        schema: &SchemaRef,
        updating: bool,
    ) -> StreamRef {
        let StreamRef { stage, feed } = *from;
        let input_updates = self.updates(from);
        let nodes = &mut self.stages[stage].nodes;
        let node = nodes.len();
        let stateless = matches!(kind, NodeKind::Stateless(_));
        let is_match = matches!(kind, NodeKind::Match(_));
        nodes.push(NodePlan {
            name: ports.main.clone(),
            from: feed,
            state_hash: state_hash(&ports.main, &kind, schema),
            kind,
            schema: schema.clone(),
            updating: updating || (stateless && input_updates),
            late_read: !stateless && ports.late_read,
            failed_read: ports.failed_read,
            timed_out_read: is_match && ports.timed_out_read,
            overflow_read: is_match && ports.overflow_read,
        });
        StreamRef {
            stage,
            feed: Feed::Node {
                node,
                port: Port::Main,
            },
        }
    }

    fn updates(&self, from: &StreamRef) -> bool {
        match from.feed {
            Feed::Node {
                node,
                port: Port::Main,
            } => self.stages[from.stage].nodes[node].updating,
            _ => false,
        }
    }

    /// Makes a step's streams known.
    fn finish(&mut self, ports: Ports, input: &Built, main: Built, sides: Sides) {
        let failed_schema = Arc::new(failed_schema(&input.schema));
        for (name, refs, schema) in [
            (ports.late, sides.late, &input.schema),
            (ports.failed, sides.failed, &failed_schema),
            (ports.timed_out, sides.timed_out, &main.schema),
            (ports.overflow, sides.overflow, &input.schema),
        ] {
            let schema = schema.clone();
            self.built.insert(name, Built { refs, schema });
        }
        self.built.insert(ports.main, main);
    }
}

/// Where the rows of a step's side streams come from.
#[derive(Default)]
struct Sides {
    late: Vec<StreamRef>,
    failed: Vec<StreamRef>,
    timed_out: Vec<StreamRef>,
    overflow: Vec<StreamRef>,
}

/// Another port of nodes.
fn port_of(nodes: &[StreamRef], port: Port) -> Vec<StreamRef> {
    let on_port = |of: &StreamRef| match of.feed {
        Feed::Node { node, .. } => StreamRef {
            stage: of.stage,
            feed: Feed::Node { node, port },
        },
        _ => *of,
    };
    nodes.iter().map(on_port).collect()
}

/// What goes over an exchange.
struct Sent {
    schema: SchemaRef,
    /// Over the input.
    project: Vec<Compiled>,
    /// Where the group columns are in `schema`, in their order.
    key: Vec<usize>,
}

impl Sent {
    /// The columns that the step needs (or all of the input's), then those of the groups that are computed.
    fn of(step: Grouped<'_>, input: &Schema, all: bool) -> Result<Self> {
        let group = step.group();
        let mut needed = step.columns();
        needed.extend(
            group
                .iter()
                .filter_map(|item| item.compiled.as_column())
                .map(|column| column.name().to_string()),
        );
        let computed = |item: &&Item| item.compiled.as_column().is_none();
        let any = all || !needed.is_empty() || group.iter().any(|item| computed(&item));
        let is_sent = |index: &usize| {
            all || needed.contains(input.field(*index).name()) || (!any && *index == 0)
        };
        let mut items: Vec<Item> = (0..input.fields().len())
            .filter(is_sent)
            .map(|index| Item {
                name: input.field(index).name().clone(),
                compiled: Compiled::column(input, index),
            })
            .collect();
        let mut key = Vec::new();
        for (at, item) in group.iter().enumerate() {
            let passed = item
                .compiled
                .as_column()
                .and_then(|column| items.iter().position(|sent| sent.name == column.name()));
            match passed {
                Some(index) => key.push(index),
                None => {
                    key.push(items.len());
                    items.push(Item {
                        name: format!("#group{at}"),
                        compiled: item.compiled.over(input)?,
                    });
                }
            }
        }
        let schema = Arc::new(Schema::new(items.iter().map(field).collect::<Vec<_>>()));
        Ok(Sent {
            schema,
            project: items.into_iter().map(|item| item.compiled).collect(),
            key,
        })
    }
}

fn window_plan(
    window: &WindowStep,
    filter: Option<Compiled>,
    group: Vec<Compiled>,
    input: &Schema,
) -> Result<WindowPlan> {
    let aggregation = &window.aggregation;
    let over = |expr: &Option<Compiled>| expr.as_ref().map(|expr| expr.over(input)).transpose();
    let calls = aggregation.calls.iter().map(|call| {
        Ok(AggregateCall {
            argument: over(&call.argument)?,
            filter: over(&call.filter)?,
            ..call.clone()
        })
    });
    let emitted_as_is = window.group.len() + window.kind.bounds();
    let project = (0..emitted_as_is).map(|index| Compiled::column(&aggregation.aggregated, index));
    Ok(WindowPlan {
        input: Arc::new(input.clone()),
        kind: window.kind,
        allowed_lateness: window.allowed_lateness,
        emit_every: window.emit_every,
        filter,
        group,
        calls: calls.collect::<Result<_>>()?,
        aggregated: aggregation.aggregated.clone(),
        project: project
            .chain(aggregation.items.iter().map(|item| item.compiled.clone()))
            .collect(),
        having: aggregation.having.clone(),
        having_schema: aggregation.having_schema.clone(),
    })
}
