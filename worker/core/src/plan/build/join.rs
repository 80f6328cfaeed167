//! Lays out `join`: both sides as one stream through an exchange that brings equal rows together.
//!
//! ```text
//!   left  ─▶ false, on, left columns, nulls  ══╗
//!                                              ╠══▶ join ─▶ left columns, right columns
//!   right ─▶ true,  on, nulls, right columns ══╝      └▶ .late ─▶ the same, nullable
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::{Result, ScalarValue};

use super::{Builder, Built, Ports, Sent, port_of};
use crate::expr::Compiled;
use crate::plan::join::JoinStep;
use crate::plan::{JoinPlan, NodeKind, Port, StatelessPlan, StreamRef};
use crate::stateless::nullable;

/// One side of a join: the columns that are needed of it.
struct Side {
    built: Built,
    columns: Vec<usize>,
    on: Vec<usize>,
}

impl Side {
    /// `wanted` are the columns as the stream itself calls them.
    fn of(built: Built, on: Vec<&String>, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let on = on.into_iter().map(|name| Ok(built.schema.index_of(name)?));
        let on = on.collect::<Result<Vec<_>>>()?;
        let fields = built.schema.fields().iter().enumerate();
        // Without its columns of `on` a side might have none.
        let needed = fields.filter(|(at, field)| on.contains(at) || wanted(field.name()));
        let columns = needed.map(|(at, _)| at).collect();
        Ok(Side { columns, on, built })
    }

    fn fields<'a>(&'a self, indices: &'a [usize]) -> impl Iterator<Item = &'a Arc<Field>> {
        indices.iter().map(|at| &self.built.schema.fields()[*at])
    }

    fn read<'a>(&'a self, indices: &'a [usize]) -> impl Iterator<Item = Compiled> + 'a {
        indices
            .iter()
            .map(|at| Compiled::column(&self.built.schema, *at))
    }

    fn nulls(&self) -> Result<Vec<Compiled>> {
        let null = |field: &Arc<Field>| {
            Ok(Compiled::constant(ScalarValue::try_from(
                field.data_type(),
            )?))
        };
        self.fields(&self.columns).map(null).collect()
    }
}

impl Builder<'_> {
    /// The joined rows that the step `ports` is of reads.
    pub(super) fn join(
        &mut self,
        join: &JoinStep,
        [left, right]: [Built; 2],
        wanted: &BTreeSet<String>,
        ports: &Ports,
    ) -> Result<Built> {
        let ours = join.on.iter().map(|(ours, _)| ours).collect();
        let theirs = join.on.iter().map(|(_, theirs)| theirs).collect();
        let left = Side::of(left, ours, |name| wanted.contains(name))?;
        let right = Side::of(right, theirs, |name| wanted.contains(&join.renamed(name)))?;
        let schema = self.joined_schema(join, &left, &right);
        let input = tagged_schema(&left, &schema);

        let tag = |right: bool| Compiled::constant(ScalarValue::Boolean(Some(right)));
        let from_left = [tag(false)]
            .into_iter()
            .chain(left.read(&left.on))
            .chain(left.read(&left.columns));
        let from_left: Vec<Compiled> = from_left.chain(right.nulls()?).collect();
        let from_right = [tag(true)]
            .into_iter()
            .chain(right.read(&right.on))
            .chain(left.nulls()?);
        let from_right: Vec<Compiled> = from_right.chain(right.read(&right.columns)).collect();
        let quiet = ports.quiet("");
        let mut sides = Vec::new();
        for (side, project) in [(&left, from_left), (&right, from_right)] {
            for from in &side.built.refs {
                let project = Some(project.clone());
                let kind = NodeKind::Stateless(StatelessPlan {
                    filter: None,
                    project,
                });
                sides.push(self.node(&quiet, from, kind, &input, false));
            }
        }
        let sent = Sent {
            schema: input.clone(),
            project: Vec::new(),
            key: (1..=join.on.len()).collect(),
        };
        let arrival = self.exchange(&ports.main, sides, &sent);
        let kind = NodeKind::Join(JoinPlan {
            input: input.clone(),
            on: join.on.len(),
            left: left.columns.len(),
            before: join.before,
            after: join.after,
            keep_left: join.keep_left,
            keep_right: join.keep_right,
        });
        let node = self.node(ports, &arrival, kind, &schema, false);
        let late = self.late_of_join(ports, node, &input, &schema, join.on.len())?;
        Ok(Built {
            refs: vec![node],
            schema,
            late: Some(late),
        })
    }

    fn joined_schema(&self, join: &JoinStep, left: &Side, right: &Side) -> SchemaRef {
        let part = |field: &Arc<Field>, name: String, alone: bool| {
            Field::new(
                name,
                field.data_type().clone(),
                field.is_nullable() || alone,
            )
        };
        let ours = left.fields(&left.columns);
        let ours = ours.map(|field| part(field, field.name().clone(), join.keep_right));
        let theirs = right.fields(&right.columns);
        let theirs = theirs.map(|field| part(field, join.renamed(field.name()), join.keep_left));
        Arc::new(Schema::new(ours.chain(theirs).collect::<Vec<_>>()))
    }

    /// Late rows, without the columns that the join needs beside them.
    fn late_of_join(
        &mut self,
        ports: &Ports,
        node: StreamRef,
        input: &SchemaRef,
        joined: &SchemaRef,
        on: usize,
    ) -> Result<(Vec<StreamRef>, SchemaRef)> {
        let schema = Arc::new(nullable(joined));
        if !ports.late_read {
            return Ok((Vec::new(), schema));
        }
        let columns = (1 + on..input.fields().len()).map(|at| Compiled::column(input, at));
        let project = Some(columns.collect());
        let kind = NodeKind::Stateless(StatelessPlan {
            filter: None,
            project,
        });
        let late = port_of(&[node], Port::Late)[0];
        Ok((
            vec![self.node(&ports.quiet(""), &late, kind, &schema, false)],
            schema,
        ))
    }
}

/// Rows of both sides as one stream: which side, `on`, the left side's columns, the right one's.
fn tagged_schema(left: &Side, joined: &Schema) -> SchemaRef {
    let mut fields = vec![Field::new("#right", DataType::Boolean, false)];
    let on = left.fields(&left.on).enumerate();
    fields.extend(
        on.map(|(at, field)| Field::new(format!("#on{at}"), field.data_type().clone(), true)),
    );
    let columns = nullable(joined);
    fields.extend(columns.fields().iter().map(|field| field.as_ref().clone()));
    Arc::new(Schema::new(fields))
}
