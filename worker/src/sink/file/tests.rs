//! Files that crash, change hands, are shared and are not ours.

use streamjob_core::output::{OutRow, Target};

use super::*;

fn rows(texts: &[&str]) -> TargetOutput {
    let mut output = TargetOutput::new(Target::Sink(0));
    for text in texts {
        let start = output.bytes.len() as u32;
        output.bytes.extend_from_slice(text.as_bytes());
        output.rows.push(OutRow {
            key: None,
            value: Some(start..start + text.len() as u32),
            partition: 0,
        });
    }
    output
}

fn open(path: &Path) -> FileSink {
    FileSink::open(path, "shop.orders", Existing::default()).unwrap()
}

fn apply(sink: &mut FileSink, slot: u32, epoch: u64, texts: &[&str]) {
    sink.apply(slot, epoch, 0, &[&rows(texts)]).unwrap();
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn an_epoch_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out/rows.ndjson");
    let mut sink = open(&path);
    assert_eq!(text(&path), "");
    apply(&mut sink, 0, 1, &["a", "b"]);
    apply(&mut sink, 0, 1, &["a", "b"]);
    apply(&mut sink, 1, 1, &["c"]);
    drop(sink);
    let mut sink = open(&path);
    apply(&mut sink, 1, 1, &["c"]);
    apply(&mut sink, 0, 2, &["d"]);
    assert_eq!(text(&path), "a\nb\nc\nd\n");
    assert_eq!(sink.applied(0).unwrap(), Some(2));
    assert_eq!(sink.applied(7).unwrap(), Some(0));
}

#[test]
fn rows_that_nobody_recorded_are_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    let (mut one, mut two) = (open(&path), open(&path));
    apply(&mut one, 0, 1, &["a"]);
    // Somebody died between writing the rows and recording them.
    std::fs::write(&path, "a\nhalf of a ro").unwrap();
    apply(&mut two, 1, 1, &["b"]);
    assert_eq!(text(&path), "a\nb\n");
    std::fs::write(&path, "a\nb\nc\n").unwrap();
    open(&path);
    assert_eq!(text(&path), "a\nb\n");
}

#[test]
fn an_unfinished_record_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    let mut sink = open(&path);
    apply(&mut sink, 0, 1, &["a"]);
    apply(&mut sink, 0, 2, &["b"]);
    let sidecar = sidecar::path_of(&path);
    let whole = std::fs::read(&sidecar).unwrap();
    for torn in 1..40 {
        std::fs::write(&sidecar, &whole[..whole.len() - torn]).unwrap();
        let mut sink = open(&path);
        assert_eq!(text(&path), "a\n");
        assert_eq!(sink.applied(0).unwrap(), Some(1));
        apply(&mut sink, 0, 2, &["b"]);
        assert_eq!(text(&path), "a\nb\n");
        assert_eq!(std::fs::read(&sidecar).unwrap(), whole);
    }
}

#[test]
fn epochs_without_rows_leave_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    let mut sink = open(&path);
    apply(&mut sink, 0, 1, &["a"]);
    let sidecar = std::fs::read(sidecar::path_of(&path)).unwrap();
    apply(&mut sink, 0, 2, &[]);
    sink.apply(0, 3, 0, &[]).unwrap();
    assert_eq!(std::fs::read(sidecar::path_of(&path)).unwrap(), sidecar);
    apply(&mut sink, 0, 4, &["b"]);
    assert_eq!(sink.applied(0).unwrap(), Some(4));
}

#[test]
fn a_sink_ahead_of_the_journal_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("rows"));
    apply(&mut sink, 0, 5, &["a"]);
    let applied = sink.applied(0).unwrap();
    assert!(crate::sink::not_ahead("out", 0, applied, 5).is_ok());
    let error = crate::sink::not_ahead("out", 0, applied, 4).unwrap_err();
    assert!(error.to_string().contains("--fresh"), "{error}");
}

#[test]
fn two_processes_append_to_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    open(&path);
    std::thread::scope(|scope| {
        for slot in 0..4 {
            let path = &path;
            // A handle of its own, as another process has.
            scope.spawn(move || {
                let mut sink = open(path);
                for epoch in 1..=25 {
                    apply(&mut sink, slot, epoch, &[&format!("{slot} {epoch}")]);
                }
            });
        }
    });
    let text = text(&path);
    for slot in 0..4 {
        let prefix = format!("{slot} ");
        let mine: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix))
            .collect();
        let expected: Vec<String> = (1..=25).map(|epoch| epoch.to_string()).collect();
        assert_eq!(mine, expected);
    }
}

#[test]
fn a_long_sidecar_is_compacted_under_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    let (mut one, mut two) = (open(&path), open(&path));
    apply(&mut one, 0, 1, &["a"]);
    apply(&mut two, 1, 1, &["b"]);
    apply(&mut one, 0, 2, &["a2"]);
    one.with(|output| output.sidecar.compact()).unwrap();
    apply(&mut two, 1, 1, &["b"]);
    apply(&mut two, 1, 2, &["c"]);
    apply(&mut one, 0, 3, &["d"]);
    assert_eq!(text(&path), "a\nb\na2\nc\nd\n");
    let mut again = open(&path);
    assert_eq!(again.applied(0).unwrap(), Some(3));
    assert_eq!(again.applied(1).unwrap(), Some(2));
}

#[test]
fn a_file_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    std::fs::write(&path, "precious\n").unwrap();
    for fresh in [false, true] {
        let existing = Existing {
            overwrite: false,
            fresh,
        };
        let error = FileSink::open(&path, "a", existing).unwrap_err();
        assert!(matches!(error, FileSinkError::Foreign { .. }));
        assert!(error.to_string().contains("overwrite: true"), "{error}");
    }
    assert_eq!(text(&path), "precious\n");
    let existing = Existing {
        overwrite: true,
        fresh: false,
    };
    apply(
        &mut FileSink::open(&path, "a", existing).unwrap(),
        0,
        1,
        &["mine"],
    );
    assert_eq!(text(&path), "mine\n");
    // `overwrite` does not mean the job's own rows.
    FileSink::open(&path, "a", existing).unwrap();
    assert_eq!(text(&path), "mine\n");
    let other = FileSink::open(&path, "b", Existing::default()).unwrap_err();
    assert!(matches!(other, FileSinkError::OtherJob { ref owner, .. } if owner == "a"));
    FileSink::open(&path, "b", existing).unwrap();
    assert_eq!(text(&path), "");
}

#[test]
fn fresh_starts_the_file_anew_and_stops_who_had_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    let mut old = open(&path);
    apply(&mut old, 0, 5, &["old"]);
    let fresh = Existing {
        overwrite: false,
        fresh: true,
    };
    let mut new = FileSink::open(&path, "shop.orders", fresh).unwrap();
    let stopped = old.apply(0, 6, 0, &[&rows(&["zombie"])]);
    assert!(matches!(
        stopped,
        Err(SinkError::File(FileSinkError::TakenOver { .. }))
    ));
    apply(&mut new, 0, 1, &["new"]);
    assert_eq!(text(&path), "new\n");
}

#[test]
fn a_file_that_was_tampered_with_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    apply(&mut open(&path), 0, 1, &["one", "two"]);
    std::fs::write(&path, "one\nTWO\n").unwrap();
    let changed = FileSink::open(&path, "shop.orders", Existing::default());
    assert!(matches!(changed, Err(FileSinkError::Changed { .. })));
    std::fs::write(&path, "one\n").unwrap();
    let shorter = FileSink::open(&path, "shop.orders", Existing::default());
    assert!(matches!(
        shorter,
        Err(FileSinkError::Shorter {
            length: 4,
            expected: 8,
            ..
        })
    ));
}
