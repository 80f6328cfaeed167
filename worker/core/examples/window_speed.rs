//! CPU time of the window step alone, in nanoseconds a row: 10 s tumbling windows of 10,000 users (and other kinds), in
//! chunks as they come from the decoder. Run: `cargo run --profile ci -p streamjob-core --example window_speed`.

use std::sync::Arc;

use arrow::array::{Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use streamjob_core::chunk::{Chunk, W_END, W_START};
use streamjob_core::expr::Compiled;
use streamjob_core::plan::{AggregateCall, AggregateFunction, WindowKind, WindowPlan};
use streamjob_core::window::{WindowOutput, WindowStep};

const ROWS: usize = 1_000_000;
const CHUNK: usize = 4096;
const USERS: u64 = 10_000;
/// Rows of an event-time second; about 11 emitted rows for 100 read.
const ROWS_A_SECOND: usize = 10_000;

fn main() {
    let input = Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8, false),
        Field::new("amount", DataType::Float64, true),
    ]));
    let chunks: Vec<Chunk> = (0..ROWS / CHUNK)
        .map(|at| chunk(&input, at * CHUNK))
        .collect();
    let kinds = [
        (
            "tumbling 10 s",
            WindowKind::Tumbling {
                size: 10_000,
                offset: 0,
            },
        ),
        (
            "sliding 60/10 s",
            WindowKind::Sliding {
                size: 60_000,
                slide: 10_000,
                offset: 0,
            },
        ),
        ("session 3 s", WindowKind::Session { gap: 3_000 }),
    ];
    for (name, kind) in kinds {
        for lateness in [0, 5_000] {
            // The best of three: other programs run too.
            let runs = (0..3).map(|_| run(&input, kind, lateness, &chunks));
            let (nanos, emitted) = runs.min().unwrap_or_default();
            let rows = (chunks.len() * CHUNK) as u64;
            println!(
                "{name:>16}, lateness {lateness:>4} ms: {:>4} ns/row, {emitted} rows out",
                nanos / rows
            );
        }
    }
}

fn run(input: &SchemaRef, kind: WindowKind, lateness: i64, chunks: &[Chunk]) -> (u64, usize) {
    let plan = Arc::new(plan(input, kind, lateness));
    let mut step = WindowStep::new(plan, false, false).expect("a step");
    let mut emitted = 0;
    let start = cpu_nanos();
    for chunk in chunks {
        let mut out = WindowOutput::default();
        step.rows(chunk, &mut out).expect("rows");
        emitted += out.main.iter().map(Chunk::len).sum::<usize>();
    }
    let mut out = WindowOutput::default();
    step.advance(W_END, &mut out).expect("end of input");
    emitted += out.main.iter().map(Chunk::len).sum::<usize>();
    (cpu_nanos() - start, emitted)
}

/// Time this process has spent on a CPU.
fn cpu_nanos() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split(' ')
        .next()
        .and_then(|nanos| nanos.parse().ok())
        .unwrap_or_default()
}

fn chunk(schema: &SchemaRef, first: usize) -> Chunk {
    let mix = |at: usize| {
        (at as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            >> 20
    };
    let users = StringArray::from_iter_values(
        (0..CHUNK).map(|row| format!("user-{:06}", mix(first + row) % USERS)),
    );
    let amounts = Float64Array::from_iter_values(
        (0..CHUNK).map(|row| (mix(first + row) % 10_000) as f64 / 100.0),
    );
    let time = |at: usize| (at * 1000 / ROWS_A_SECOND) as i64;
    let times: Vec<i64> = (0..CHUNK).map(|row| time(first + row)).collect();
    let before = (0..CHUNK)
        .map(|row| (first + row).checked_sub(1).map_or(W_START, time))
        .collect();
    let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(users), Arc::new(amounts)])
        .expect("a batch");
    Chunk {
        rows,
        times,
        before,
        deletes: None,
    }
}

fn plan(input: &SchemaRef, kind: WindowKind, allowed_lateness: i64) -> WindowPlan {
    let call = |function, argument: Option<usize>, data_type, nullable| AggregateCall {
        function,
        argument: argument.map(|column| Compiled::column(input, column)),
        filter: None,
        data_type,
        nullable,
    };
    let calls = vec![
        call(AggregateFunction::Count, None, DataType::Int64, false),
        call(AggregateFunction::Sum, Some(1), DataType::Float64, true),
        call(AggregateFunction::Max, Some(1), DataType::Float64, true),
    ];
    let timestamp = DataType::Timestamp(TimeUnit::Millisecond, None);
    let fields = |names: [&str; 3]| {
        let of_call = calls
            .iter()
            .zip(names)
            .map(|(call, name)| Field::new(name, call.data_type.clone(), call.nullable));
        of_call.collect::<Vec<_>>()
    };
    let mut aggregated = vec![
        Field::new("user", DataType::Utf8, false),
        Field::new("window_start", timestamp.clone(), false),
        Field::new("window_end", timestamp, false),
    ];
    aggregated.extend(fields(["#0", "#1", "#2"]));
    let aggregated = Arc::new(Schema::new(aggregated));
    let having: Vec<Field> = aggregated
        .fields()
        .iter()
        .map(|field| field.as_ref().clone())
        .collect();
    let having = having
        .into_iter()
        .chain(fields(["clicks", "total", "biggest"]))
        .collect::<Vec<_>>();
    WindowPlan {
        input: input.clone(),
        kind,
        allowed_lateness,
        emit_every: None,
        filter: None,
        group: vec![Compiled::column(input, 0)],
        project: (0..aggregated.fields().len())
            .map(|column| Compiled::column(&aggregated, column))
            .collect(),
        aggregated,
        calls,
        having: None,
        having_schema: Arc::new(Schema::new(having)),
    }
}
