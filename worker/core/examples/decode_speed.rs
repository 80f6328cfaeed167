//! Prints what decoding costs: CPU nanoseconds a row, for click events of about 130 bytes. Linux only.
//! Argument: how many batches to decode (100).

use arrow::datatypes::{DataType, TimeUnit};
use streamjob_core::decode::Decoder;
use streamjob_core::plan::DecodeColumn;

/// Few enough to stay in the cache, as a batch just fetched does.
const EVENTS: usize = 8192;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let batches = std::env::args()
        .nth(1)
        .map_or(Ok(100), |batches| batches.parse::<usize>())?;
    let events: Vec<String> = (0..EVENTS).map(event).collect();
    let bytes: usize = events.iter().map(String::len).sum();
    println!("{EVENTS} events of {} bytes", bytes / EVENTS);
    let all = ["event_id", "event_type", "ts", "user_id", "amount"];
    for (what, used) in [
        ("user, time, amount", &all[2..]),
        ("all five columns", &all[..]),
        ("none, only checked", &[]),
    ] {
        let mut best = f64::MAX;
        for _ in 0..5 {
            let start = cpu_nanos()?;
            decode(&events, batches, used)?;
            best = best.min((cpu_nanos()? - start) as f64 / (EVENTS * batches) as f64);
        }
        println!("{what}: {best:.1} ns a row");
    }
    Ok(())
}

fn decode(
    events: &[String],
    batches: usize,
    used: &[&str],
) -> Result<(), Box<dyn std::error::Error>> {
    let column = |name: &str, path: &str, data_type: DataType, nullable: bool| DecodeColumn {
        name: name.into(),
        path: path.split('.').map(str::to_owned).collect(),
        data_type,
        nullable,
        used: used.contains(&name),
    };
    let columns = [
        column("event_id", "event_id", DataType::Utf8, false),
        column("event_type", "event_type", DataType::Utf8, false),
        column(
            "ts",
            "timestamp",
            DataType::Timestamp(TimeUnit::Millisecond, None),
            false,
        ),
        column("user_id", "user_id", DataType::Utf8, false),
        column("amount", "data.amount", DataType::Float64, true),
    ];
    let mut decoder = Decoder::new(&columns, 2, None, "events", 0, true)?;
    let mut rows = 0;
    for _ in 0..batches {
        for (offset, event) in events.iter().enumerate() {
            decoder.push(
                Some(event.as_bytes()),
                offset as i64,
                Some(1_700_000_000_000),
            )?;
        }
        rows += std::hint::black_box(decoder.finish()?).rows.num_rows();
    }
    assert_eq!(rows, EVENTS * batches);
    Ok(())
}

/// The click workload: 10,000 users, three kinds of events, a nested amount.
fn event(i: usize) -> String {
    let hash = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let kind = ["click", "view", "purchase"][(hash % 3) as usize];
    let time = 1_700_000_000_000 + i as u64 / 5 + hash % 4000;
    format!(
        r#"{{"event_id":"e{i}","event_type":"{kind}","timestamp":{time},"user_id":"user{}","data":{{"amount":{}.{:02},"page":"/p/{}"}}}}"#,
        hash % 10_000,
        hash % 1000,
        hash % 100,
        hash % 997
    )
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
