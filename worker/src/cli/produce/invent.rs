//! Made-up events for a source that says only which columns it has.

use arrow::datatypes::DataType;
use serde_json::json;
use streamjob_core::plan::{DecodeColumn, SourcePlan};
use streamjob_crds::{
    Duration, Empty, EveryField, GenerateSource, GeneratedField, Scalar, SequenceField,
    UniformField,
};

/// Distinct values of a key column, and of any other String column.
const KEYS: usize = 100;
const WORDS: usize = 10;
/// From one event to the next where the clock does not set the pace.
const STEP_MILLIS: i64 = 10;

/// A value for every column: texts from a few, numbers at random, times that move on. With a `rate` the event time is
/// the clock's, else it starts where generated times start, so that the same seed makes the same events.
pub(super) fn invent(
    source: &SourcePlan,
    rows: u64,
    seed: u64,
    rate: Option<u64>,
) -> GenerateSource {
    let columns = source.columns.iter().enumerate();
    let fields = columns.map(|(index, column)| {
        let is_time = index == source.time_column;
        let is_key = source.key.contains(&column.name);
        field(source, column, is_time, is_key, rate.is_some())
    });
    GenerateSource {
        rows_per_second: None,
        rows: Some(rows),
        seed,
        partitions: 1,
        fields: fields.collect(),
    }
}

fn field(
    source: &SourcePlan,
    column: &DecodeColumn,
    is_time: bool,
    is_key: bool,
    live: bool,
) -> GeneratedField {
    let mut field = GeneratedField {
        name: column.path.join("."),
        sequence: None,
        uniform: None,
        choice: None,
        now: None,
        every: None,
    };
    let words = if is_key { KEYS } else { WORDS };
    match &column.data_type {
        DataType::Timestamp(..) if is_time && live => field.now = Some(Empty {}),
        DataType::Timestamp(..) => {
            let jitter = source.max_out_of_orderness.clamp(0, STEP_MILLIS * 10);
            field.every = Some(EveryField {
                start: None,
                step: Duration::from_millis(STEP_MILLIS),
                jitter: (is_time && jitter > 0).then_some(Duration::from_millis(jitter)),
            });
        }
        DataType::Boolean => field.choice = Some(vec![Scalar(json!(true)), Scalar(json!(false))]),
        DataType::Int64 if is_key => {
            field.choice = Some((0..words).map(|word| Scalar(json!(word))).collect());
        }
        DataType::Int64 | DataType::Float64 => {
            field.uniform = Some(UniformField {
                min: 0.0,
                max: 1000.0,
            });
        }
        DataType::Decimal128(precision, scale) => {
            let digits = i32::from(*precision) - i32::from(*scale);
            // The largest whole number below the type's limit, within reason; two decimals need a scale of two.
            let most = 10f64.powi(digits.clamp(0, 3)) - 1.0;
            match scale {
                2.. => {
                    field.uniform = Some(UniformField {
                        min: 0.0,
                        max: most,
                    })
                }
                _ => {
                    let whole = (0..words as i64).map(|word| word.min(most as i64));
                    field.choice = Some(whole.map(|number| Scalar(json!(number))).collect());
                }
            }
        }
        DataType::Binary => {
            let bytes = ["AA==", "AQI=", "c3RyZWFt", ""];
            field.choice = Some(bytes.iter().map(|text| Scalar(json!(text))).collect());
        }
        _ if !is_key && (column.name == "id" || column.name.ends_with("event_id")) => {
            field.sequence = Some(SequenceField {
                start: 0,
                prefix: Some(format!("{}-", column.name)),
            });
        }
        _ => {
            let word = |word: usize| Scalar(json!(format!("{}-{word}", column.name)));
            field.choice = Some((0..words).map(word).collect());
        }
    }
    field
}
