//! Lines, positions and refusals of the `file` source.

use std::io::Write;

use super::*;

fn write(text: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text).unwrap();
    file
}

fn open(file: &tempfile::NamedTempFile, position: i64) -> FilePartition {
    let end = file.path().metadata().unwrap().len() as i64;
    FilePartition::open(file.path(), position, end).unwrap()
}

/// Rows as (position, next, text), polled `rows` at a time.
fn all(input: &mut FilePartition, rows: usize) -> Vec<(i64, i64, String)> {
    let mut out = Vec::new();
    while !input.ended() {
        input
            .poll(0, Budget::new(rows, usize::MAX), &mut |row| {
                let text = String::from_utf8(row.payload.unwrap().to_vec()).unwrap();
                out.push((row.position, row.next, text));
            })
            .unwrap();
    }
    out
}

#[test]
fn lines_end_as_they_like() {
    let file = write(b"{\"a\":1}\r\n\n  \t\n{\"a\":2}\nlast");
    let rows = [
        (0, 9, "{\"a\":1}".to_owned()),
        (14, 22, "{\"a\":2}".to_owned()),
        (22, 26, "last".to_owned()),
    ];
    for at_once in [1, 2, 100] {
        assert_eq!(all(&mut open(&file, 0), at_once), rows);
    }
    assert_eq!(all(&mut open(&file, 9), 100), rows[1..]);
}

#[test]
fn a_line_may_be_longer_than_the_buffer() {
    let long = "x".repeat(3 * BLOCK + 17);
    let file = write(format!("a\n{long}\nb\n").as_bytes());
    let rows = all(&mut open(&file, 0), 100);
    let texts: Vec<&str> = rows.iter().map(|row| row.2.as_str()).collect();
    assert_eq!(texts, ["a", &long, "b"]);
}

#[test]
fn a_replay_stops_at_the_cut() {
    let file = write(b"a\nb\nc\nd\n");
    let mut input = open(&file, 0);
    let mut seen = 0;
    let budget = Budget::new(100, 100).until(4);
    input.poll(0, budget, &mut |_| seen += 1).unwrap();
    assert_eq!((seen, input.position()), (2, 4));
    assert_eq!(input.lag(), Some(4));
}

#[test]
fn what_was_appended_later_is_not_read() {
    let mut file = write(b"a\nb\n");
    let mut input = open(&file, 0);
    file.write_all(b"c\n").unwrap();
    assert_eq!(all(&mut input, 10).len(), 2);
}

#[test]
fn a_shorter_or_missing_file_is_refused() {
    let file = write(b"a\nb\n");
    let shrunk = FilePartition::open(file.path(), 2, 40);
    assert!(matches!(
        shrunk,
        Err(FileError::Shrunk {
            length: 4,
            expected: 40,
            ..
        })
    ));
    let mut input = open(&file, 0);
    file.as_file().set_len(0).unwrap();
    let cut = input.poll(0, Budget::new(10, 10), &mut |_| {});
    assert!(matches!(
        cut,
        Err(SourceError::File(FileError::Shrunk { .. }))
    ));
    let path = file.path().to_owned();
    drop(file);
    assert!(matches!(
        FilePartition::open(path, 0, 0),
        Err(FileError::Gone { .. })
    ));
}

#[test]
fn patterns_name_files_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("odd [name]");
    std::fs::create_dir_all(folder.join("in/sub.ndjson")).unwrap();
    for name in ["b.ndjson", "a.ndjson", "c.txt"] {
        std::fs::write(folder.join("in").join(name), name).unwrap();
    }
    let found = resolve(&folder, "in/*.ndjson").unwrap();
    let paths: Vec<&str> = found.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["in/a.ndjson", "in/b.ndjson"]);
    assert_eq!(found[0].end, 8);
    assert_eq!(resolve(&folder, "in/c.txt").unwrap().len(), 1);
    assert!(matches!(
        resolve(&folder, "in/*.csv"),
        Err(FileError::NoneMatches { .. })
    ));
    std::fs::write(dir.path().join("plain.csv"), "x").unwrap();
    let absolute = dir.path().join("*.csv");
    let found = resolve(&folder, absolute.to_str().unwrap()).unwrap();
    assert_eq!(
        found[0].path,
        dir.path().join("plain.csv").to_str().unwrap()
    );
}
