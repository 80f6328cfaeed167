//! A step on a bench: plans written in a line, rows in, lines of text out.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, Literal};

use super::*;
use crate::expr::Compiled;
use crate::plan::{AggregateCall, AggregateFunction};

/// Rows that are read: `k` (group), `n`, `t`.
pub fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        Field::new("t", TIMESTAMP, false),
    ]))
}

const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub time: Millis,
    pub before: Millis,
    pub key: Option<String>,
    pub n: Option<i64>,
}

pub fn row(time: Millis, key: &str) -> Row {
    Row {
        time,
        before: W_START,
        key: Some(key.into()),
        n: Some(1),
    }
}

pub fn null_key(time: Millis) -> Row {
    Row {
        key: None,
        ..row(time, "")
    }
}

impl Row {
    pub fn w(self, before: Millis) -> Row {
        Row { before, ..self }
    }

    pub fn n(self, n: i64) -> Row {
        Row { n: Some(n), ..self }
    }

    pub fn without_n(self) -> Row {
        Row { n: None, ..self }
    }
}

pub fn chunk(rows: &[Row]) -> Chunk {
    let times = || rows.iter().map(|row| row.time);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            rows.iter()
                .map(|row| row.key.as_deref())
                .collect::<StringArray>(),
        ),
        Arc::new(rows.iter().map(|row| row.n).collect::<Int64Array>()),
        Arc::new(TimestampMillisecondArray::from_iter_values(times())),
    ];
    let rows_before = rows.iter().map(|row| row.before).collect();
    let rows = RecordBatch::try_new(input_schema(), columns).expect("columns fit the schema");
    Chunk {
        rows,
        times: times().collect(),
        before: rows_before,
        deletes: None,
    }
}

fn compiled(physical: Arc<dyn PhysicalExpr>, data_type: DataType, sql: &str) -> Compiled {
    Compiled {
        physical,
        data_type,
        nullable: true,
        sql: sql.into(),
    }
}

fn column(name: &str, schema: &Schema) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, schema.index_of(name).expect("a column")))
}

fn number(value: i64) -> Arc<dyn PhysicalExpr> {
    Arc::new(Literal::new(ScalarValue::Int64(Some(value))))
}

/// `n > bound`
pub fn n_above(bound: i64) -> Compiled {
    let above = BinaryExpr::new(column("n", &input_schema()), Operator::Gt, number(bound));
    compiled(Arc::new(above), DataType::Boolean, "n > bound")
}

fn argument(sql: &str) -> Compiled {
    let schema = input_schema();
    match sql {
        "10 / n" => {
            let quotient = BinaryExpr::new(number(10), Operator::Divide, column("n", &schema));
            compiled(Arc::new(quotient), DataType::Int64, sql)
        }
        name => Compiled::column(&schema, schema.index_of(name).expect("a column")),
    }
}

/// A call over a column, or over `10 / n`.
pub fn call(function: AggregateFunction, sql: Option<&str>) -> AggregateCall {
    let argument = sql.map(argument);
    let given = argument
        .as_ref()
        .map_or(DataType::Int64, |argument| argument.data_type.clone());
    let (data_type, nullable) = match &function {
        AggregateFunction::Count | AggregateFunction::ApproxDistinct => (DataType::Int64, false),
        AggregateFunction::ArrayAgg { .. } => (
            DataType::List(Arc::new(Field::new_list_field(given, true))),
            true,
        ),
        AggregateFunction::Avg
        | AggregateFunction::Stddev
        | AggregateFunction::ApproxPercentile(_) => (DataType::Float64, true),
        _ => (given, true),
    };
    AggregateCall {
        function,
        argument,
        filter: None,
        data_type,
        nullable,
    }
}

/// A plan that groups by `k` and emits every call.
pub struct Planned(pub WindowPlan);

impl From<Planned> for Arc<WindowPlan> {
    fn from(planned: Planned) -> Self {
        Arc::new(planned.0)
    }
}

pub fn plan(kind: WindowKind, calls: Vec<AggregateCall>) -> Planned {
    let input = input_schema();
    let group = vec![Compiled::column(&input, 0)];
    Planned(WindowPlan {
        kind,
        allowed_lateness: 0,
        emit_every: None,
        filter: None,
        group,
        calls,
        aggregated: Arc::new(Schema::empty()),
        project: Vec::new(),
        having: None,
        having_schema: Arc::new(Schema::empty()),
        input,
    })
    .projected()
}

/// Counts rows.
pub fn counting(kind: WindowKind) -> Planned {
    plan(kind, vec![call(AggregateFunction::Count, None)])
}

impl Planned {
    fn projected(mut self) -> Self {
        let plan = &mut self.0;
        let groups = plan
            .group
            .iter()
            .map(|group| Field::new(&group.sql, group.data_type.clone(), true));
        let bounds = ["window_start", "window_end"].map(|name| Field::new(name, TIMESTAMP, false));
        let calls = |prefix: &str| {
            let of_call = plan.calls.iter().enumerate();
            let field = of_call.map(|(at, call)| {
                Field::new(
                    format!("{prefix}{at}"),
                    call.data_type.clone(),
                    call.nullable,
                )
            });
            field.collect::<Vec<_>>()
        };
        let bounds = bounds.into_iter().take(plan.kind.bounds());
        let aggregated = groups.chain(bounds).chain(calls("#")).collect::<Vec<_>>();
        let having = aggregated
            .iter()
            .cloned()
            .chain(calls("c"))
            .collect::<Vec<_>>();
        plan.aggregated = Arc::new(Schema::new(aggregated));
        plan.having_schema = Arc::new(Schema::new(having));
        plan.project = (0..plan.aggregated.fields().len())
            .map(|at| Compiled::column(&plan.aggregated, at))
            .collect();
        self
    }

    pub fn lateness(mut self, lateness: Millis) -> Self {
        self.0.allowed_lateness = lateness;
        self
    }

    pub fn emit_every(mut self, every: Millis) -> Self {
        self.0.emit_every = Some(every);
        self
    }

    pub fn where_n_above(mut self, bound: i64) -> Self {
        self.0.filter = Some(n_above(bound));
        self
    }

    pub fn ungrouped(mut self) -> Self {
        self.0.group.clear();
        self.projected()
    }

    /// Over the first call.
    pub fn having_count_below(mut self, bound: i64) -> Self {
        let below = BinaryExpr::new(
            column("c0", &self.0.having_schema),
            Operator::Lt,
            number(bound),
        );
        self.0.having = Some(compiled(Arc::new(below), DataType::Boolean, "c0 < bound"));
        self
    }
}

pub struct Bench {
    pub step: WindowStep,
    pub late: u64,
    pub failed: u64,
}

impl Bench {
    pub fn new(plan: Planned) -> Self {
        Bench {
            step: WindowStep::new(plan.into(), true, true).expect("a step"),
            late: 0,
            failed: 0,
        }
    }

    pub fn rows(&mut self, rows: &[Row]) -> Vec<String> {
        let mut out = StepOutput::default();
        self.step.rows(&chunk(rows), &mut out).expect("rows");
        self.lines(out)
    }

    pub fn advance(&mut self, w: Millis) -> Vec<String> {
        let mut out = StepOutput::default();
        self.step.advance(w, &mut out).expect("advance");
        self.lines(out)
    }

    pub fn end_epoch(&mut self) -> Vec<String> {
        let mut out = StepOutput::default();
        self.step.end_epoch(&mut out).expect("end of epoch");
        self.lines(out)
    }

    fn lines(&mut self, out: StepOutput) -> Vec<String> {
        self.late += out.late_count;
        self.failed += out.failed_count;
        let main = out.main.iter().flat_map(emitted).map(|row| row.line());
        let late = out.late.iter().flat_map(|chunk| {
            let times = chunk
                .rows
                .column_by_name("t")
                .expect("t")
                .as_primitive::<TimestampMillisecondType>();
            let line =
                |row: usize| format!("late {} before {}", times.value(row), chunk.before[row]);
            (0..chunk.len()).map(line).collect::<Vec<_>>()
        });
        let failed = out.failed.iter().flat_map(|chunk| {
            let text = texts(chunk);
            let line = |row: usize| {
                format!(
                    "failed {} {} {}",
                    chunk.times[row], text[0][row], text[3][row]
                )
            };
            (0..chunk.len()).map(line).collect::<Vec<_>>()
        });
        main.chain(late).chain(failed).collect()
    }
}

/// A row of the main stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Emitted {
    pub delete: bool,
    pub key: String,
    pub start: Millis,
    pub end: Millis,
    pub values: String,
    pub time: Millis,
    pub before: Millis,
}

impl Emitted {
    fn line(&self) -> String {
        let Emitted {
            delete,
            key,
            start,
            end,
            values,
            time,
            before,
        } = self;
        let delete = if *delete { "delete " } else { "" };
        let before = if *before == W_START {
            "start".into()
        } else {
            before.to_string()
        };
        // No window is empty: running groups have none.
        let bounds = match start == end {
            true => String::new(),
            false => format!("[{start}, {end}) "),
        };
        format!("{delete}{key}{bounds}{values} @{time} before {before}")
    }
}

fn texts(chunk: &Chunk) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("null");
    let text = |column: &ArrayRef| {
        let format = ArrayFormatter::try_new(column, &options).expect("can be shown");
        (0..column.len())
            .map(|row| format.value(row).to_string())
            .collect()
    };
    chunk.rows.columns().iter().map(text).collect()
}

pub fn emitted(chunk: &Chunk) -> Vec<Emitted> {
    let schema = chunk.rows.schema();
    let groups = schema.index_of("window_start");
    let (bounds, values) = groups.map_or((1, 1), |groups| (groups, groups + 2));
    let bound = |at: usize, row: usize| match bounds == values {
        true => 0,
        false => chunk
            .rows
            .column(at)
            .as_primitive::<TimestampMillisecondType>()
            .value(row),
    };
    let texts = texts(chunk);
    (0..chunk.len())
        .map(|row| Emitted {
            delete: chunk
                .deletes
                .as_ref()
                .is_some_and(|deletes| deletes.value(row)),
            key: texts[..bounds]
                .iter()
                .map(|column| format!("{} ", column[row]))
                .collect(),
            start: bound(bounds, row),
            end: bound(bounds + 1, row),
            values: texts[values..]
                .iter()
                .map(|column| column[row].clone())
                .collect::<Vec<_>>()
                .join(" "),
            time: chunk.times[row],
            before: chunk.before[row],
        })
        .collect()
}
