//! Keys of given events: decoded as the job will decode them, written as sinks write keys.

use streamjob_core::decode::{DecodeError, Decoder};
use streamjob_core::encode::{EncodeError, KeyEncoder};
use streamjob_core::plan::{DecodeColumn, SourcePlan};

#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFailure {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

pub(super) struct Keys {
    decoder: Decoder,
    encoder: KeyEncoder,
    misfits: u64,
}

impl Keys {
    pub fn new(source: &SourcePlan) -> Result<Self, KeyFailure> {
        let columns = source.columns.iter().map(|column| DecodeColumn {
            used: source.key.contains(&column.name),
            ..column.clone()
        });
        let columns: Vec<DecodeColumn> = columns.collect();
        let decoder = Decoder::new(&columns, source.time_column, None, "", 0, false)?;
        let schema = decoder.schema().clone();
        let key = source
            .key
            .iter()
            .filter_map(|name| schema.index_of(name).ok());
        let key: Vec<usize> = key.collect();
        Ok(Keys {
            encoder: KeyEncoder::new(&schema, &key)?,
            decoder,
            misfits: 0,
        })
    }

    /// The key of each event; `None` for those that have none or do not fit the columns.
    pub fn of(&mut self, events: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, KeyFailure> {
        let mut fits = Vec::with_capacity(events.len());
        for event in events {
            let before = self.decoder.len();
            self.decoder.push(Some(event), 0, None)?;
            fits.push(self.decoder.len() > before);
        }
        let rows = self.decoder.finish()?.rows;
        let keys = self.encoder.bind(&rows)?;
        let mut row = 0;
        let found = fits.into_iter().map(|fits| {
            if !fits {
                self.misfits += 1;
                return None;
            }
            let mut key = Vec::new();
            let keyed = keys.encode(row, &mut key);
            row += 1;
            keyed.then_some(key)
        });
        Ok(found.collect())
    }

    /// Events so far that do not fit the columns.
    pub fn misfits(&self) -> u64 {
        self.misfits
    }
}
