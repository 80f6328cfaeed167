//! Lays out `topN` behind a window: each task ranks its groups, and where these are spread over tasks, the first of
//! each go through an exchange to one that ranks them all.
//!
//! ```text
//!   window ─▶ first n of the task ══▶ first n of all
//! ```

use arrow::datatypes::SchemaRef;

use super::{Builder, Grouped, Ports, Sent};
use crate::plan::{NodeKind, StreamRef};

impl Builder<'_> {
    /// The step's rows, given those of its window.
    pub(super) fn top(
        &mut self,
        step: Grouped<'_>,
        ports: &Ports,
        rows: StreamRef,
        schema: &SchemaRef,
    ) -> StreamRef {
        let Grouped::Window(window) = step else {
            return rows;
        };
        let Some(top) = &window.top else {
            return rows;
        };
        // State has a name, and the window's has the step's.
        let ports = ports.quiet(".top");
        let kind = || NodeKind::TopN(top.plan.clone());
        let of_task = self.node(&ports, &rows, kind(), schema, false);
        if top.stays {
            return of_task;
        }
        let sent = Sent {
            schema: schema.clone(),
            project: Vec::new(),
            key: top.plan.partition.clone(),
        };
        let arrival = self.exchange(&ports.main, of_task, &sent);
        self.node(&ports, &arrival, kind(), schema, false)
    }
}
