//! Keys of groups: the group columns as bytes that compare as the columns do (nulls first, strings bytewise, left to
//! right), and back.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};

use super::WindowError;

pub struct GroupKeys {
    /// `None`: no group columns, one group with an empty key.
    converter: Option<RowConverter>,
}

/// Keys of the rows of a batch.
pub struct EncodedKeys(Option<Rows>);

impl EncodedKeys {
    #[inline]
    pub fn get(&self, row: usize) -> &[u8] {
        match &self.0 {
            Some(rows) => rows.row(row).data(),
            None => &[],
        }
    }
}

impl GroupKeys {
    pub fn new(types: impl Iterator<Item = DataType>) -> Result<Self, WindowError> {
        let fields: Vec<SortField> = types.map(SortField::new).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(GroupKeys { converter })
    }

    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedKeys, WindowError> {
        let encoded = self.converter.as_ref().map(|converter| converter.convert_columns(columns)).transpose()?;
        debug_assert!(encoded.as_ref().is_none_or(|encoded| encoded.num_rows() == rows));
        Ok(EncodedKeys(encoded))
    }

    /// The group columns of keys that `encode` made.
    pub fn decode<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, WindowError> {
        let Some(converter) = &self.converter else { return Ok(Vec::new()) };
        let parser = converter.parser();
        Ok(converter.convert_rows(keys.map(|key| parser.parse(key)))?)
    }
}
