//! Problems as a terminal shows them: where, what, the line itself, and what to do.

use std::fmt::Write;

use super::source_map::{Location, SourceMap};
use crate::problem::Problem;

/// Longest line that is shown whole.
const MAX_WIDTH: usize = 110;

/// All problems, in the order of the file, and their number.
pub fn render(problems: &[Problem], map: &SourceMap, file_name: &str, text: &str) -> String {
    report(problems, map, file_name, text, "", "problem")
}

/// The same for what is doubtful but not wrong.
pub fn render_warnings(
    warnings: &[Problem],
    map: &SourceMap,
    file_name: &str,
    text: &str,
) -> String {
    report(warnings, map, file_name, text, "warning: ", "warning")
}

fn report(
    problems: &[Problem],
    map: &SourceMap,
    file_name: &str,
    text: &str,
    kind: &str,
    noun: &str,
) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = text.lines().collect();
    let mut placed: Vec<(Location, &Problem)> = problems
        .iter()
        .map(|problem| (map.locate(problem), problem))
        .collect();
    placed.sort_by_key(|(location, _)| *location);
    let mut out = String::new();
    for (location, problem) in &placed {
        let path = if problem.path.is_empty() {
            String::new()
        } else {
            format!("{}: ", problem.path)
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{file_name}:{}:{}: {kind}{path}{}",
            location.line, location.column, problem.message
        );
        excerpt(
            &mut out,
            lines.get(location.line - 1).copied().unwrap_or(""),
            *location,
        );
        if let Some(hint) = &problem.hint {
            let _ = writeln!(out, "  hint: {hint}");
        }
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "{} {noun}{}",
        placed.len(),
        if placed.len() == 1 { "" } else { "s" }
    );
    out
}

/// The line with the part in question underlined; of a long line, what is around it.
fn excerpt(out: &mut String, line: &str, location: Location) {
    let line: Vec<char> = line
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    if line.iter().all(|char| *char == ' ') {
        return;
    }
    let (start, end) = (location.column - 1, location.end - 1);
    let from = if line.len() <= MAX_WIDTH {
        0
    } else {
        start
            .saturating_sub(MAX_WIDTH / 3)
            .min(line.len() - MAX_WIDTH)
    };
    let to = (from + MAX_WIDTH).min(line.len());
    let shown: String = line[from..to].iter().collect();
    let (before, behind) = (
        if from > 0 { "…" } else { "" },
        if to < line.len() { "…" } else { "" },
    );
    let indent = start - from + before.chars().count();
    let carets = end.min(to.max(start + 1)) - start;
    let _ = writeln!(out, "  | {before}{shown}{behind}");
    let _ = writeln!(out, "  | {}{}", " ".repeat(indent), "^".repeat(carets));
}
