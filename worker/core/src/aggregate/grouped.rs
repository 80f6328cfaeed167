//! Accumulators from functions: a function says what the state of one group is and what becomes of it; the slots that
//! hold the groups are kept here.

use super::*;
use arrow::array::{BinaryArray, BinaryBuilder};

/// An aggregate function over one type of argument.
pub trait Function: Send {
    /// State of a group; the default is that of no rows.
    type Group: Default + Send;
    fn name(&self) -> &'static str;
    /// `groups` by slot.
    fn update(
        &self,
        groups: &mut [Self::Group],
        input: &Input,
        pairs: Pairs<'_>,
    ) -> Result<(), AggregateError>;
    fn merge(&self, from: Self::Group, into: &mut Self::Group);
    fn finish(&self, groups: &[&Self::Group]) -> Result<Finished, AggregateError>;
    fn state_types(&self) -> Vec<DataType>;
    fn save(&self, groups: &[&Self::Group]) -> Result<Vec<ArrayRef>, AggregateError>;
    /// As many groups as were saved.
    fn load(&self, saved: &Saved<'_>) -> Result<Vec<Self::Group>, AggregateError>;
}

pub struct Grouped<F: Function> {
    function: F,
    groups: Vec<F::Group>,
}

impl<F: Function> Grouped<F> {
    pub fn of(function: F) -> Self {
        Grouped {
            function,
            groups: Vec::new(),
        }
    }

    fn at(&self, slots: &[Slot]) -> Vec<&F::Group> {
        slots
            .iter()
            .map(|slot| &self.groups[*slot as usize])
            .collect()
    }
}

impl<F: Function> Accumulator for Grouped<F> {
    fn grow(&mut self, slots: usize) {
        self.groups
            .resize_with(slots.max(self.groups.len()), F::Group::default);
    }

    fn update(&mut self, input: &Input, pairs: Pairs<'_>) -> Result<(), AggregateError> {
        self.function.update(&mut self.groups, input, pairs)
    }

    fn merge(&mut self, from: Slot, into: Slot) {
        let from = std::mem::take(&mut self.groups[from as usize]);
        self.function.merge(from, &mut self.groups[into as usize]);
    }

    fn reset(&mut self, slots: &[Slot]) {
        slots
            .iter()
            .for_each(|slot| self.groups[*slot as usize] = F::Group::default());
    }

    fn finish(&self, slots: &[Slot]) -> Result<Finished, AggregateError> {
        self.function.finish(&self.at(slots))
    }

    fn state_types(&self) -> Vec<DataType> {
        self.function.state_types()
    }

    fn save(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, AggregateError> {
        self.function.save(&self.at(slots))
    }

    fn load(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<(), AggregateError> {
        let saved = Saved {
            columns: state,
            groups: slots.len(),
            function: self.function.name(),
        };
        let groups = self.function.load(&saved)?;
        for (slot, group) in slots.iter().zip(groups) {
            self.groups[*slot as usize] = group;
        }
        Ok(())
    }
}

/// State as it was saved, to be taken back.
pub struct Saved<'a> {
    columns: &'a [ArrayRef],
    groups: usize,
    function: &'static str,
}

impl<'a> Saved<'a> {
    pub fn damaged(&self, reason: impl Into<String>) -> AggregateError {
        AggregateError::State {
            function: self.function,
            reason: reason.into(),
        }
    }

    pub fn any(&self, column: usize) -> Result<&'a ArrayRef, AggregateError> {
        let wrong = |reason| self.damaged(format!("column {column} {reason}"));
        let array = self
            .columns
            .get(column)
            .ok_or_else(|| wrong("is missing"))?;
        match array.len() == self.groups {
            true => Ok(array),
            false => Err(wrong("has another length")),
        }
    }

    /// A column as the array type that `state_types` promised.
    pub fn column<T: Array + 'static>(&self, column: usize) -> Result<&'a T, AggregateError> {
        let array = self.any(column)?.as_any().downcast_ref();
        array.ok_or_else(|| self.damaged(format!("column {column} has another type")))
    }

    /// The groups of which `encoded` made the only column.
    pub fn decoded<G>(
        &self,
        from_bytes: impl Fn(&[u8]) -> Option<G>,
    ) -> Result<Vec<G>, AggregateError> {
        self.column::<BinaryArray>(0)?
            .iter()
            .map(|bytes| {
                bytes
                    .and_then(&from_bytes)
                    .ok_or_else(|| self.damaged("a sketch is damaged"))
            })
            .collect()
    }
}

/// A column of groups that know themselves how to be saved.
pub fn encoded<G>(groups: &[&G], to_bytes: impl Fn(&G) -> Vec<u8>) -> Vec<ArrayRef> {
    let mut column = BinaryBuilder::new();
    groups
        .iter()
        .for_each(|group| column.append_value(to_bytes(group)));
    vec![Arc::new(column.finish())]
}
