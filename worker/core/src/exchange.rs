//! What travels through an exchange: one record holds the rows of one producer task for one partition, with their event
//! times and the producer's watermark before each, groups that rows were folded into, and the producer's watermark after
//! all of them.
//!
//! Layout, little-endian: version `u8`, producer `u32`, watermark after `i64`, length of the rows `u32`, rows, groups. Rows
//! are nothing or an Arrow IPC stream of one batch whose last columns are `__time`, `__before` (Int64) and, if some rows
//! withdraw others, `__delete` (Boolean). Groups are nothing or an Arrow IPC stream of one batch (see `window::fold`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::chunk::{Chunk, Millis};

const VERSION: u8 = 2;
const HEADER: usize = 1 + 4 + 8 + 4;

#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error(
        "a record of {len} bytes on an internal topic is none of ours: the topic was written by something else"
    )]
    Foreign { len: usize },
    #[error(
        "a record on an internal topic has version {0}, this worker knows version {VERSION}: use the version of Streamjob that wrote it, or start the job anew with --fresh"
    )]
    Version(u8),
    #[error("a record on an internal topic does not have the columns of this job's plan: {0}")]
    Shape(String),
    #[error("rows for an exchange: {0}")]
    Arrow(#[from] ArrowError),
}

/// A decoded record.
#[derive(Debug)]
pub struct Parcel {
    pub producer: u32,
    /// The producer's watermark after the rows.
    pub after: Millis,
    /// `before` is the producer's watermark, not yet the reading task's.
    pub rows: Option<Chunk>,
    /// Behind the rows.
    pub groups: Option<RecordBatch>,
}

/// Encodes what a producer sends (may be no more than its watermark).
pub fn encode(parcel: &Parcel, out: &mut Vec<u8>) -> Result<(), ExchangeError> {
    let mut rows = Vec::new();
    if let Some(chunk) = parcel.rows.as_ref().filter(|chunk| !chunk.is_empty()) {
        write(&with_times(chunk)?, &mut rows)?;
    }
    let length = u32::try_from(rows.len())
        .map_err(|_| ExchangeError::Shape("more than 4 GiB of rows in one epoch".into()))?;
    out.push(VERSION);
    out.extend_from_slice(&parcel.producer.to_le_bytes());
    out.extend_from_slice(&parcel.after.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&rows);
    match &parcel.groups {
        Some(groups) => write(groups, out),
        None => Ok(()),
    }
}

fn write(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ExchangeError> {
    let mut writer = StreamWriter::try_new(out, &batch.schema())?;
    writer.write(batch)?;
    Ok(writer.finish()?)
}

fn with_times(chunk: &Chunk) -> Result<RecordBatch, ArrowError> {
    let mut fields: Vec<Arc<Field>> = chunk.rows.schema().fields().iter().cloned().collect();
    let mut columns: Vec<ArrayRef> = chunk.rows.columns().to_vec();
    fields.push(Arc::new(Field::new("__time", DataType::Int64, false)));
    columns.push(Arc::new(Int64Array::from(chunk.times.clone())));
    fields.push(Arc::new(Field::new("__before", DataType::Int64, false)));
    columns.push(Arc::new(Int64Array::from(chunk.before.clone())));
    if let Some(deletes) = &chunk.deletes {
        fields.push(Arc::new(Field::new("__delete", DataType::Boolean, false)));
        columns.push(Arc::new(deletes.clone()));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Decodes a record whose rows have `schema`.
pub fn decode(bytes: &[u8], schema: &SchemaRef) -> Result<Parcel, ExchangeError> {
    let foreign = || ExchangeError::Foreign { len: bytes.len() };
    let header: &[u8; HEADER] = bytes.first_chunk().ok_or_else(foreign)?;
    if header[0] != VERSION {
        return Err(ExchangeError::Version(header[0]));
    }
    let (_, rest) = header.split_at(1);
    let (producer, rest) = rest.split_at(4);
    let (after, length) = rest.split_at(8);
    let producer = u32::from_le_bytes(producer.try_into().map_err(|_| foreign())?);
    let after = i64::from_le_bytes(after.try_into().map_err(|_| foreign())?);
    let length = u32::from_le_bytes(length.try_into().map_err(|_| foreign())?);
    let body = bytes[HEADER..].split_at_checked(length as usize);
    let (rows, groups) = body.ok_or_else(foreign)?;
    Ok(Parcel {
        producer,
        after,
        rows: match rows {
            [] => None,
            rows => Some(decode_rows(rows, schema)?),
        },
        groups: match groups {
            [] => None,
            groups => Some(read(groups)?),
        },
    })
}

fn read(body: &[u8]) -> Result<RecordBatch, ExchangeError> {
    let mut reader = StreamReader::try_new(body, None)?;
    let batch = reader.next();
    Ok(batch.ok_or(ExchangeError::Foreign { len: body.len() })??)
}

fn decode_rows(body: &[u8], schema: &SchemaRef) -> Result<Chunk, ExchangeError> {
    let batch = read(body)?;
    let width = schema.fields().len();
    let have_deletes = match batch.num_columns().checked_sub(width) {
        Some(2) => false,
        Some(3) => true,
        _ => return Err(shape(&batch, schema)),
    };
    let longs = |index: usize| {
        let column = batch.column(index).as_any().downcast_ref::<Int64Array>();
        column
            .map(|column| column.values().to_vec())
            .ok_or_else(|| shape(&batch, schema))
    };
    let (times, before) = (longs(width)?, longs(width + 1)?);
    let deletes = match have_deletes {
        true => Some(
            batch
                .column(width + 2)
                .as_any()
                .downcast_ref::<BooleanArray>()
                .cloned()
                .ok_or_else(|| shape(&batch, schema))?,
        ),
        false => None,
    };
    let rows = RecordBatch::try_new(schema.clone(), batch.columns()[..width].to_vec())
        .map_err(|_| shape(&batch, schema))?;
    Ok(Chunk {
        rows,
        times,
        before,
        deletes,
    })
}

fn shape(batch: &RecordBatch, schema: &SchemaRef) -> ExchangeError {
    let names = |schema: &Schema| {
        schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    ExchangeError::Shape(format!(
        "found {}; expected {}",
        names(&batch.schema()),
        names(schema)
    ))
}

/// The rows of `chunks` that belong to each of `partitions` partitions, in order; `None` where there are none.
pub fn split(
    chunks: &[Chunk],
    owner: &[Vec<u32>],
    partitions: usize,
) -> Result<Vec<Option<Chunk>>, ExchangeError> {
    let mut parts: Vec<Vec<Chunk>> = vec![Vec::new(); partitions];
    for (chunk, owner) in chunks.iter().zip(owner) {
        for (partition, part) in parts.iter_mut().enumerate() {
            let rows: Vec<u32> = (0..chunk.len() as u32)
                .filter(|row| owner[*row as usize] as usize == partition)
                .collect();
            if !rows.is_empty() {
                part.push(pick(chunk, rows)?);
            }
        }
    }
    parts.into_iter().map(join).collect()
}

/// The given rows of a chunk.
pub fn pick(chunk: &Chunk, rows: Vec<u32>) -> Result<Chunk, ExchangeError> {
    let times = rows.iter().map(|row| chunk.times[*row as usize]).collect();
    let before = rows.iter().map(|row| chunk.before[*row as usize]).collect();
    let deletes = chunk.deletes.as_ref().map(|deletes| {
        rows.iter()
            .map(|row| Some(deletes.value(*row as usize)))
            .collect()
    });
    let rows = take_record_batch(&chunk.rows, &arrow::array::UInt32Array::from(rows))?;
    Ok(Chunk {
        rows,
        times,
        before,
        deletes,
    })
}

/// Chunks one after the other as one.
pub fn join(mut chunks: Vec<Chunk>) -> Result<Option<Chunk>, ExchangeError> {
    if chunks.len() <= 1 {
        return Ok(chunks.pop());
    }
    let deletes = chunks.iter().any(|chunk| chunk.deletes.is_some()).then(|| {
        chunks
            .iter()
            .flat_map(|chunk| {
                (0..chunk.len()).map(|row| {
                    Some(
                        chunk
                            .deletes
                            .as_ref()
                            .is_some_and(|deletes| deletes.value(row)),
                    )
                })
            })
            .collect()
    });
    let rows = concat_batches(
        &chunks[0].rows.schema(),
        chunks.iter().map(|chunk| &chunk.rows),
    )?;
    let times = chunks
        .iter()
        .flat_map(|chunk| chunk.times.iter().copied())
        .collect();
    let before = chunks
        .iter()
        .flat_map(|chunk| chunk.before.iter().copied())
        .collect();
    Ok(Some(Chunk {
        rows,
        times,
        before,
        deletes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;

    fn chunk(users: &[&str], deletes: Option<Vec<bool>>) -> Chunk {
        let schema = Arc::new(Schema::new(vec![Field::new("user", DataType::Utf8, false)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(users.to_vec()))])
            .unwrap();
        let times = (0..users.len() as i64).collect();
        let before = (0..users.len() as i64).map(|row| row - 10).collect();
        Chunk {
            rows,
            times,
            before,
            deletes: deletes.map(BooleanArray::from),
        }
    }

    fn encoded(rows: Option<Chunk>, groups: Option<RecordBatch>) -> Vec<u8> {
        let parcel = Parcel {
            producer: 7,
            after: 42,
            rows,
            groups,
        };
        let mut bytes = Vec::new();
        encode(&parcel, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn rows_come_back_as_they_went() {
        for deletes in [None, Some(vec![false, true])] {
            let sent = chunk(&["ann", "bob"], deletes);
            let bytes = encoded(Some(sent.clone()), Some(sent.rows.clone()));
            let parcel = decode(&bytes, &sent.rows.schema()).unwrap();
            assert_eq!((parcel.producer, parcel.after), (7, 42));
            assert_eq!(parcel.groups.as_ref(), Some(&sent.rows));
            let got = parcel.rows.unwrap();
            assert_eq!(
                (got.rows, got.times, got.before, got.deletes),
                (sent.rows, sent.times, sent.before, sent.deletes)
            );
        }
    }

    #[test]
    fn damaged_records_are_errors() {
        let sent = chunk(&["ann"], None);
        let mut bytes = encoded(Some(sent.clone()), None);
        for len in 0..bytes.len() {
            if len != HEADER {
                let _ = decode(&bytes[..len], &sent.rows.schema());
            }
        }
        assert!(matches!(
            decode(&bytes[..4], &sent.rows.schema()),
            Err(ExchangeError::Foreign { .. })
        ));
        bytes[0] = 9;
        assert!(matches!(
            decode(&bytes, &sent.rows.schema()),
            Err(ExchangeError::Version(9))
        ));
    }

    #[test]
    fn a_split_keeps_the_order() {
        let chunks = [
            chunk(&["a", "b", "c"], None),
            chunk(&["d", "e"], Some(vec![true, false])),
        ];
        let parts = split(&chunks, &[vec![1, 0, 1], vec![1, 1]], 3).unwrap();
        let users = |part: &Option<Chunk>| {
            part.as_ref().map(|chunk| {
                let users = chunk
                    .rows
                    .column(0)
                    .as_any()
                    .downcast_ref::<StringArray>()
                    .unwrap()
                    .clone();
                users
                    .iter()
                    .map(|user| user.unwrap().to_string())
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(users(&parts[0]), Some(vec!["b".to_string()]));
        assert_eq!(
            users(&parts[1]),
            Some(vec!["a".into(), "c".into(), "d".into(), "e".into()])
        );
        assert_eq!(users(&parts[2]), None);
        assert_eq!(
            parts[1].as_ref().unwrap().deletes,
            Some(BooleanArray::from(vec![false, false, true, false]))
        );
    }
}
