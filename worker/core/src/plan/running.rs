//! `running`: aggregates without windows.

use streamjob_crds::Running;

use super::WindowKind;
use crate::problem::Problem;

/// The aggregate at `path` (such as `spec.steps[1].running`).
pub(super) fn kind(
    running: &Running,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<WindowKind> {
    let ttl = running.ttl.as_millis();
    if ttl <= 0 {
        problems.push(
            Problem::new(format!("{path}.ttl"), "must be longer than `0s`")
                .hint("write for example `24h`: groups without rows for so long are forgotten"),
        );
        return None;
    }
    Some(WindowKind::Running { ttl })
}
