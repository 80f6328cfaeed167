//! Parts of a scalar's value are found in the file, however the scalar is written.

use crate::manifest::yaml;
use crate::problem::Problem;

/// What is underlined when `word` of the value at `path` is meant.
fn underlined(text: &str, path: &str, word: &str) -> (usize, String) {
    let document = yaml::read(text);
    assert_eq!(document.problems, []);
    let value = path
        .split('.')
        .fold(document.value.as_ref().unwrap(), |value, name| &value[name])
        .as_str()
        .unwrap();
    let byte = value
        .find(word)
        .unwrap_or_else(|| panic!("no {word} in {value:?}"));
    let start = value[..byte].chars().count();
    let end = start + word.chars().count();
    let location = document
        .source_map
        .locate(&Problem::new(path, "bad").within(start, end));
    let line = text.lines().nth(location.line - 1).unwrap();
    let part = line
        .chars()
        .skip(location.column - 1)
        .take(location.end - location.column)
        .collect();
    (location.line, part)
}

#[test]
fn parts_of_scalars() {
    for (text, word, line) in [
        ("a: x = é + usr", "usr", 1),
        ("a: 'it''s = ''b'' + usr'", "usr", 1),
        ("a: \"\\\"x\\\" = \\u00e9 \\x41 \\U0001F600 usr\"", "usr", 1),
        ("a: |\n  one = 1\n    AND usr\n", "usr", 3),
        ("a: |\n\n  one = 1\n\n  AND usr\n", "usr", 5),
        ("a: >-\n  one = 1\n  AND usr\n  OR two\n", "usr", 3),
        ("a: >\n  one = 1\n\n  AND usr\n", "usr", 4),
        ("a: |\r\n  one\r\n  usr\r\n", "usr", 3),
        ("a: one\n  two\n\n  usr", "usr", 4),
        ("a: \"one\n  two\\\n  usr\"", "usr", 3),
        ("a: 'one\n  it''s usr'", "usr", 2),
        ("b: {a: x, c: [a usr]}\na: a = usr # usr", "usr", 2),
    ] {
        assert_eq!(
            underlined(text, "a", word),
            (line, word.to_string()),
            "{text:?}"
        );
    }
}

#[test]
fn falls_back_to_what_is_around() {
    let text = "spec:\n  steps:\n    - name: a\n      where: x\n    - {name: b, from: c}\nx: {client.rack: 5, \"a.b[0]\": {}}\n";
    let document = yaml::read(text);
    for (path, line, column, end) in [
        ("spec.steps[0].where", 4, 14, 15),
        ("spec.steps[0].window.size", 3, 7, 11),
        ("spec.steps[1].window", 5, 8, 12),
        ("spec.steps[1]", 5, 8, 12),
        ("spec.steps", 2, 3, 8),
        ("spec.steps[7]", 2, 3, 8),
        ("spec.sinks", 1, 1, 5),
        ("metadata.name", 1, 1, 6),
        ("x[\"client.rack\"]", 6, 18, 19),
        ("x[\"a.b[0]\"]", 6, 21, 29),
    ] {
        let location = document.source_map.locate(&Problem::new(path, "bad"));
        assert_eq!(
            (location.line, location.column, location.end),
            (line, column, end),
            "{path}"
        );
    }
}
