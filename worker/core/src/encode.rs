//! Rows to bytes: JSON objects for sinks, and the keys of Kafka records.
//!
//! An encoder is made once for a schema, bound to each batch, and then writes row by row into a buffer that the caller owns:
//! types are resolved when it is bound, names are escaped when it is made, and no row allocates.
//!
//! Timestamps are epoch milliseconds, decimals numbers with all digits of their scale, bytes base64, missing values
//! null; so are NaN and the infinities, which JSON does not have. A withdrawn row ends in `"_op":"delete"`.

mod cells;
#[cfg(test)]
mod tests;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};

use self::cells::Cells;
pub(crate) use self::cells::write_text;

#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error(
        "column `{column}` is of type {data_type}, which has no form in JSON: cast it in a `select`"
    )]
    UnsupportedType { column: String, data_type: DataType },
    #[error("the key is to be made of column {0}, but there is none")]
    NoColumn(usize),
    #[error("rows of {found} columns, where {expected} are declared")]
    Shape { expected: usize, found: usize },
}

/// What a row does at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOp {
    Upsert,
    /// Withdraws an earlier row.
    Delete,
}

/// Writes rows of one schema as JSON objects.
#[derive(Clone, Debug)]
pub struct RowEncoder {
    columns: Vec<EncodedColumn>,
}

#[derive(Clone, Debug)]
struct EncodedColumn {
    index: usize,
    name: String,
    /// `{"name":` or `,"name":`.
    prefix: Vec<u8>,
}

/// Rows of a batch, ready to be written.
pub struct BoundRows<'a> {
    columns: Vec<(&'a [u8], Cells)>,
}

impl RowEncoder {
    pub fn new(schema: &Schema) -> Result<Self, EncodeError> {
        let mut columns = Vec::new();
        for index in 0..schema.fields().len() {
            let mut column = EncodedColumn::new(schema, index)?;
            column.prefix.push(if index == 0 { b'{' } else { b',' });
            cells::write_text(&column.name, &mut column.prefix);
            column.prefix.push(b':');
            columns.push(column);
        }
        Ok(RowEncoder { columns })
    }

    pub fn bind(&self, batch: &RecordBatch) -> Result<BoundRows<'_>, EncodeError> {
        if batch.num_columns() != self.columns.len() {
            return Err(EncodeError::Shape {
                expected: self.columns.len(),
                found: batch.num_columns(),
            });
        }
        let columns = self
            .columns
            .iter()
            .map(|column| Ok((column.prefix.as_slice(), column.cells(batch)?)));
        Ok(BoundRows {
            columns: columns.collect::<Result<_, EncodeError>>()?,
        })
    }
}

impl BoundRows<'_> {
    /// Appends a row of the batch, without a line end.
    #[inline]
    pub fn encode(&self, row: usize, op: RowOp, out: &mut Vec<u8>) {
        for (prefix, cells) in &self.columns {
            out.extend_from_slice(prefix);
            cells.write(row, out);
        }
        if self.columns.is_empty() {
            out.push(b'{');
        }
        if op == RowOp::Delete {
            let comma = if self.columns.is_empty() { "" } else { "," };
            out.extend_from_slice(comma.as_bytes());
            out.extend_from_slice(br#""_op":"delete""#);
        }
        out.push(b'}');
    }
}

/// Writes the keys of Kafka records: of one String column its bytes, else a JSON array of the columns.
#[derive(Clone, Debug)]
pub struct KeyEncoder {
    columns: Vec<EncodedColumn>,
}

/// Keys of the rows of a batch, ready to be written.
pub struct BoundKeys {
    columns: Vec<Cells>,
}

impl KeyEncoder {
    /// `columns` are indices into the schema.
    pub fn new(schema: &Schema, columns: &[usize]) -> Result<Self, EncodeError> {
        let columns = columns
            .iter()
            .map(|index| EncodedColumn::new(schema, *index));
        Ok(KeyEncoder {
            columns: columns.collect::<Result<_, _>>()?,
        })
    }

    pub fn bind(&self, batch: &RecordBatch) -> Result<BoundKeys, EncodeError> {
        let columns = self.columns.iter().map(|column| column.cells(batch));
        Ok(BoundKeys {
            columns: columns.collect::<Result<_, _>>()?,
        })
    }
}

impl BoundKeys {
    /// Appends the key of a row. `false` if it has none: there are no key columns, or the one String column is null.
    #[inline]
    pub fn encode(&self, row: usize, out: &mut Vec<u8>) -> bool {
        match self.columns.as_slice() {
            [] => false,
            [Cells::Text(text)] => {
                let value = text.is_valid(row).then(|| text.value(row));
                out.extend_from_slice(value.unwrap_or_default().as_bytes());
                value.is_some()
            }
            columns => {
                for (index, cells) in columns.iter().enumerate() {
                    out.push(if index == 0 { b'[' } else { b',' });
                    cells.write(row, out);
                }
                out.push(b']');
                true
            }
        }
    }
}

impl EncodedColumn {
    fn new(schema: &Schema, index: usize) -> Result<Self, EncodeError> {
        let field = schema
            .fields()
            .get(index)
            .ok_or(EncodeError::NoColumn(index))?;
        let name = field.name();
        if !cells::is_supported(field.data_type()) {
            return Err(unsupported(name, field.data_type()));
        }
        Ok(EncodedColumn {
            index,
            name: name.clone(),
            prefix: Vec::new(),
        })
    }

    fn cells(&self, batch: &RecordBatch) -> Result<Cells, EncodeError> {
        let array: &ArrayRef = batch
            .columns()
            .get(self.index)
            .ok_or(EncodeError::NoColumn(self.index))?;
        Cells::of(array).ok_or_else(|| unsupported(&self.name, array.data_type()))
    }
}

fn unsupported(column: &str, data_type: &DataType) -> EncodeError {
    EncodeError::UnsupportedType {
        column: column.to_owned(),
        data_type: data_type.clone(),
    }
}
