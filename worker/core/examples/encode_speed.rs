//! Prints what encoding costs: CPU nanoseconds a row, for window results of six columns with their Kafka keys. Linux only.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use streamjob_core::encode::{KeyEncoder, RowEncoder, RowOp};
use streamjob_core::key::{GroupKeys, partition_of};

const ROWS: usize = 8192;
const BATCHES: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let batch = results()?;
    let users = batch.columns()[..1].to_vec();
    measure("rows", || {
        let rows = RowEncoder::new(&batch.schema())?;
        let rows = rows.bind(&batch)?;
        let mut out = Vec::new();
        (0..ROWS).for_each(|row| rows.encode(row, RowOp::Upsert, &mut out));
        Ok(out.len())
    })?;
    measure("Kafka keys and partitions", || {
        let keys = KeyEncoder::new(&batch.schema(), &[0])?.bind(&batch)?;
        let (mut out, mut sum) = (Vec::new(), 0);
        for row in 0..ROWS {
            let start = out.len();
            keys.encode(row, &mut out);
            sum += partition_of(&out[start..], 4) as usize;
        }
        Ok(sum)
    })?;
    measure("group keys of one String", || {
        let keys = GroupKeys::new([users[0].data_type().clone()])?.encode(&users, ROWS)?;
        Ok((0..ROWS).map(|row| keys.get(row).len()).sum())
    })
}

fn measure(
    what: &str,
    run: impl Fn() -> Result<usize, Box<dyn std::error::Error>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = cpu_nanos()?;
        for _ in 0..BATCHES {
            std::hint::black_box(run()?);
        }
        best = best.min((cpu_nanos()? - start) as f64 / (ROWS * BATCHES) as f64);
    }
    println!("{what}: {best:.1} ns a row");
    Ok(())
}

fn results() -> Result<RecordBatch, arrow::error::ArrowError> {
    let hash = |i: usize| i.wrapping_mul(0x9E37_79B9) >> 7;
    let column = |of: &dyn Fn(usize) -> i64| -> Vec<i64> { (0..ROWS).map(of).collect() };
    let users = (0..ROWS).map(|i| format!("user{}", hash(i) % 10_000));
    let start = column(&|i| 1_700_000_000_000 + (i / 100) as i64 * 10_000);
    let end = start.iter().map(|start| start + 10_000).collect::<Vec<_>>();
    let money = |i: usize| (hash(i) % 10_000_000) as f64 / 100.0;
    let columns: [(&str, ArrayRef); 6] = [
        ("user_id", Arc::new(StringArray::from_iter_values(users))),
        (
            "window_start",
            Arc::new(TimestampMillisecondArray::from(start)),
        ),
        ("window_end", Arc::new(TimestampMillisecondArray::from(end))),
        (
            "clicks",
            Arc::new(Int64Array::from(column(&|i| (hash(i) % 50) as i64))),
        ),
        (
            "total",
            Arc::new(Float64Array::from_iter_values((0..ROWS).map(money))),
        ),
        (
            "biggest",
            Arc::new(Float64Array::from_iter_values(
                (0..ROWS).map(|i| money(i + 7)),
            )),
        ),
    ];
    RecordBatch::try_from_iter(columns)
}

/// Time this thread has been on a CPU.
fn cpu_nanos() -> Result<u64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat
        .split_whitespace()
        .next()
        .ok_or("no schedstat")?
        .parse()?)
}
