//! What a step reads: one stream, several as one, or the joined rows of two.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion_common::Result;
use streamjob_crds::Step;

use super::{Builder, Built, Ports};
use crate::plan::steps::ResolvedStep;

impl Builder<'_> {
    pub(super) fn input(
        &mut self,
        step: &Step,
        planned: &ResolvedStep,
        ports: &Ports,
    ) -> Result<Built> {
        let parts = step.inputs().map(|from| self.get(from).cloned());
        let mut parts = parts.collect::<Result<Vec<_>>>()?;
        if let Some(join) = &planned.join {
            let with = parts.remove(1);
            let wanted = self.demand.joined(&step.name);
            return self.join(join, [parts.remove(0), with], wanted, ports);
        }
        let Some(union) = &planned.union else {
            return Ok(parts.remove(0));
        };
        // The columns that are needed are in all of them.
        let everywhere = |name: &str| parts.iter().all(|part| part.schema.index_of(name).is_ok());
        let fields = union
            .fields()
            .iter()
            .filter(|field| everywhere(field.name()));
        let schema = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
        let mut refs = Vec::new();
        for part in &parts {
            for from in &part.refs {
                refs.push(self.input_columns(ports, *from, &part.schema, &schema)?);
            }
        }
        Ok(Built::of(refs, schema))
    }
}
