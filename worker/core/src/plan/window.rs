//! Windows: their sizes, and what makes a step update rows.

use streamjob_crds::{Duration, Window};

use super::WindowKind;
use super::names::exactly_one;
use crate::chunk::Millis;
use crate::problem::Problem;

/// Windows that a row may fall into: each costs state and time for every row.
const MOST_WINDOWS_PER_ROW: Millis = 10_000;

/// The window at `path` (such as `spec.steps[1].window`).
pub(super) fn kind(window: &Window, path: &str, problems: &mut Vec<Problem>) -> Option<WindowKind> {
    let before = problems.len();
    let given = [
        ("tumbling", window.tumbling.is_some()),
        ("sliding", window.sliding.is_some()),
        ("cumulating", window.cumulating.is_some()),
        ("session", window.session.is_some()),
    ];
    if window
        .emit_every
        .is_some_and(|every| every.as_millis() == 0)
    {
        problems.push(
            Problem::new(format!("{path}.emitEvery"), "the interval is zero")
                .hint("leave it out for final rows only"),
        );
    }
    if !exactly_one(path, &given, problems) {
        return None;
    }
    let kind = if let Some(tumbling) = &window.tumbling {
        let size = tumbling.size.as_millis();
        positive(size, &format!("{path}.tumbling.size"), problems);
        WindowKind::Tumbling {
            size,
            offset: shift(tumbling.offset.as_millis(), size),
        }
    } else if let Some(sliding) = &window.sliding {
        let (size, slide) = (sliding.size.as_millis(), sliding.slide.as_millis());
        parts(size, slide, "slide", &format!("{path}.sliding"), problems);
        WindowKind::Sliding {
            size,
            slide,
            offset: shift(sliding.offset.as_millis(), slide),
        }
    } else if let Some(cumulating) = &window.cumulating {
        let (size, step) = (cumulating.size.as_millis(), cumulating.step.as_millis());
        parts(size, step, "step", &format!("{path}.cumulating"), problems);
        WindowKind::Cumulating { size, step }
    } else {
        let gap = window
            .session
            .as_ref()
            .map_or(0, |session| session.gap.as_millis());
        positive(gap, &format!("{path}.session.gap"), problems);
        WindowKind::Session { gap }
    };
    (problems.len() == before).then_some(kind)
}

/// Windows repeat: only the offset within one matters.
fn shift(offset: Millis, every: Millis) -> Millis {
    offset.checked_rem(every).unwrap_or(0)
}

fn positive(millis: Millis, path: &str, problems: &mut Vec<Problem>) -> bool {
    if millis <= 0 {
        problems
            .push(Problem::new(path, "must be longer than `0s`").hint("write for example `1m`"));
    }
    millis > 0
}

fn parts(size: Millis, part: Millis, name: &str, path: &str, problems: &mut Vec<Problem>) {
    let size_fits = positive(size, &format!("{path}.size"), problems);
    let part_fits = positive(part, &format!("{path}.{name}"), problems);
    if !size_fits || !part_fits {
        return;
    }
    if size % part != 0 {
        let shown = |millis| Duration::from_millis(millis);
        let message = format!(
            "`size` ({}) must be a multiple of `{name}` ({})",
            shown(size),
            shown(part)
        );
        // The next shorter one that fits.
        let mut counts = (size / part + 1..).take(MOST_WINDOWS_PER_ROW as usize);
        let mut problem = Problem::new(path, message);
        problem.hint = counts
            .find(|count| size % count == 0)
            .map(|count| format!("write for example `{name}: {}`", shown(size / count)));
        problems.push(problem);
    } else if size / part > MOST_WINDOWS_PER_ROW {
        let message = format!(
            "a row would fall into {} windows, more than {MOST_WINDOWS_PER_ROW}",
            size / part
        );
        problems.push(Problem::new(path, message).hint(format!("choose a longer `{name}`")));
    }
}

/// Whether rows of the window may be emitted again or withdrawn.
pub(super) fn updates(window: &Window) -> bool {
    window.allowed_lateness.as_millis() > 0 || window.emit_every.is_some()
}
