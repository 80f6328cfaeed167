//! What `validate` says: a good job file, and what becomes of it with mistakes in it.

use super::*;

const GOOD: &str = include_str!("tests/good.yaml");

/// What a user sees of a job file.
fn shown(text: &str) -> String {
    match Job::parse(text, PathBuf::new(), "job.yaml") {
        Ok(job) => format!("{}valid", job.warnings),
        Err(Problems(told)) => told.trim_end().to_owned(),
    }
}

/// A change to the good file: a text that is in it once, and what takes its place.
#[derive(Default)]
struct Edit {
    from: String,
    to: Option<String>,
}

impl Edit {
    fn apply(&self, text: &str) -> String {
        // Lines that go, go whole.
        let (from, to) = match &self.to {
            Some(to) => (self.from.clone(), to.as_str()),
            None => (format!("{}\n", self.from), ""),
        };
        assert_eq!(text.matches(&from).count(), 1, "{from}");
        text.replacen(&from, to, 1)
    }
}

/// Edits, written like a patch: what follows a `-` goes, what follows a `+` comes in its place.
fn edits(patch: &[&str]) -> Vec<Edit> {
    let append = |text: &mut String, line: &str| {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&line[2..]);
    };
    let mut edits: Vec<Edit> = Vec::new();
    for line in patch {
        if line.starts_with('-') && edits.last().is_none_or(|edit| edit.to.is_some()) {
            edits.push(Edit::default());
        }
        let edit = edits.last_mut().expect("a patch begins with what goes");
        match line.starts_with('-') {
            true => append(&mut edit.from, line),
            false => append(edit.to.get_or_insert_default(), line),
        }
    }
    edits
}

#[test]
fn a_good_job() {
    assert_eq!(shown(GOOD), "valid");
}

/// `bad.txt`: mistakes made in the good file, and below each what `validate` says.
#[test]
fn bad_jobs() {
    let table = include_str!("tests/bad.txt");
    let mut lines = table.lines().peekable();
    let (mut told, mut cases) = (Vec::new(), 0);
    while let Some(line) = lines.next() {
        told.push(line.to_owned());
        if !line.starts_with("## ") {
            continue;
        }
        let mut patch = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with(['-', '+'])) {
            patch.push(line);
        }
        while lines.next_if(|line| !line.starts_with('#')).is_some() {}
        let text = edits(&patch)
            .iter()
            .fold(GOOD.to_owned(), |text, edit| edit.apply(&text));
        told.extend(patch.into_iter().map(str::to_owned));
        told.extend([String::new(), shown(&text), String::new()]);
        cases += 1;
    }
    let told = told.join("\n");
    assert!(cases > 100, "{cases}");
    assert!(
        told.trim_end() == table.trim_end(),
        "the table should be:\n{told}"
    );
}
