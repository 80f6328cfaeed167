//! YAML to a plain tree, with the place of every field.
//!
//! A job file is the part of YAML that JSON has: mappings with string keys, lists, scalars. Tags, anchors and
//! aliases are refused rather than guessed at, and so are repeated keys and second documents.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde_json::{Map, Value};

use super::source_map::SourceMap;
use super::{child, scalar};
use crate::problem::Problem;

/// Deeper than any job; a bound for recursion over the tree.
const MAX_DEPTH: usize = 64;

/// What was read of a file.
pub struct Document {
    /// None where the text is no YAML or too far from a job file.
    pub value: Option<Value>,
    pub source_map: SourceMap,
    pub problems: Vec<Problem>,
}

pub fn read(text: &str) -> Document {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        source_map: SourceMap::new(text),
        ..Reader::default()
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let read = match event {
            Ok((event, span)) => reader.event(event, span.start.index()..span.end.index(), &span),
            Err(error) => Err(reader.syntax_error(&error)),
        };
        if let Err(Fatal) = read {
            reader.document = None;
            break;
        }
    }
    let Reader {
        source_map,
        problems,
        document,
        ..
    } = reader;
    if document.is_none() && problems.is_empty() {
        let problem = Problem::new("", "the file is empty")
            .hint("a job file starts with `apiVersion: streamjob.dev/v1alpha1`");
        return Document {
            value: None,
            source_map,
            problems: vec![problem],
        };
    }
    Document {
        value: document,
        source_map,
        problems,
    }
}

/// Nothing sensible can be read behind this point. The problem has been noted.
struct Fatal;

#[derive(Default)]
struct Reader {
    source_map: SourceMap,
    problems: Vec<Problem>,
    /// The open lists and mappings, outermost first.
    open: Vec<Open>,
    document: Option<Value>,
}

enum Open {
    Map {
        path: String,
        fields: Map<String, Value>,
        key: Option<Key>,
    },
    List {
        path: String,
        elements: Vec<Value>,
    },
}

/// A field whose value comes next.
struct Key {
    name: String,
    span: Range<usize>,
    repeated: bool,
}

impl Reader {
    fn event(&mut self, event: Event<'_>, at: Range<usize>, span: &Span) -> Result<(), Fatal> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), &at);
                if self.key_is_next() {
                    self.key(&text, style, at)
                } else {
                    self.scalar(&text, style, at)
                }
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), &at);
                let path = self.enter(at, span)?;
                self.open.push(Open::Map {
                    path,
                    fields: Map::new(),
                    key: None,
                });
                Ok(())
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), &at);
                let path = self.enter(at, span)?;
                self.open.push(Open::List {
                    path,
                    elements: Vec::new(),
                });
                Ok(())
            }
            Event::MappingEnd | Event::SequenceEnd => match self.open.pop() {
                Some(Open::Map { fields, .. }) => self.place(Value::Object(fields), at),
                Some(Open::List { elements, .. }) => self.place(Value::Array(elements), at),
                None => Ok(()),
            },
            Event::Alias(_) => {
                let hint = "write the value out where it is used";
                self.problem(
                    Problem::new(self.path(), "aliases (`*name`) are not supported").hint(hint),
                    at.clone(),
                );
                if self.key_is_next() {
                    Err(Fatal)
                } else {
                    self.place(Value::Null, at)
                }
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn key_is_next(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    fn key(&mut self, text: &str, style: ScalarStyle, at: Range<usize>) -> Result<(), Fatal> {
        let plain = style == ScalarStyle::Plain;
        if plain && !matches!(scalar::resolve(text), Ok(Value::String(_))) {
            let problem = Problem::new(self.path(), format!("the key `{text}` is not a string"));
            self.problem(
                problem.hint(format!("put it in quotes: `\"{text}\"`")),
                at.clone(),
            );
        }
        let Some(Open::Map { path, fields, key }) = self.open.last_mut() else {
            return Ok(());
        };
        let repeated = fields.contains_key(text);
        *key = Some(Key {
            name: text.into(),
            span: at.clone(),
            repeated,
        });
        if repeated {
            let problem = Problem::new(child(path, text), format!("`{text}` is given twice"));
            self.problem(problem.hint("keep one of them"), at);
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, at: Range<usize>) -> Result<(), Fatal> {
        let value = match style {
            ScalarStyle::Plain => scalar::resolve(text),
            _ => Ok(Value::String(text.into())),
        };
        let (path, key) = self.next_path();
        if !self.is_repeated() {
            self.source_map
                .add_scalar(&path, key, at.clone(), text, style);
        }
        let value = value.unwrap_or_else(|message| {
            self.problem(Problem::new(path, message), at.clone());
            Value::Null
        });
        self.place(value, at)
    }

    /// Notes the start of a list or mapping; gives its path.
    fn enter(&mut self, at: Range<usize>, span: &Span) -> Result<String, Fatal> {
        let (path, key) = self.next_path();
        let depth = self.open.len();
        if self.key_is_next() {
            let problem = Problem::new(path, "a list or mapping cannot be a field's name");
            self.problem(
                problem.hint("is a quote missing around text that starts with `{` or `[`?"),
                at,
            );
            return Err(Fatal);
        }
        if depth >= MAX_DEPTH {
            self.problem(
                Problem::new("", format!("nested deeper than {MAX_DEPTH} levels")),
                at,
            );
            return Err(Fatal);
        }
        if depth == 0 && self.document.is_some() {
            return self.second_document(at);
        }
        if self.is_repeated() {
            // Its fields must not take the place of those of the first.
            return Ok(format!("{path}@{}", span.start.line()));
        }
        self.source_map.add(&path, key, at);
        Ok(path)
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, value: Value, at: Range<usize>) -> Result<(), Fatal> {
        match self.open.last_mut() {
            Some(Open::Map { fields, key, .. }) => {
                if let Some(Key {
                    name,
                    repeated: false,
                    ..
                }) = key.take()
                {
                    fields.insert(name, value);
                }
            }
            Some(Open::List { elements, .. }) => elements.push(value),
            None if value.is_null() => {} // an empty document
            None if self.document.is_some() => return self.second_document(at).map(drop),
            None => self.document = Some(value),
        }
        Ok(())
    }

    fn second_document(&mut self, at: Range<usize>) -> Result<String, Fatal> {
        let problem = Problem::new("", "a second document starts here")
            .hint("one job a file: put the other into a file of its own");
        self.problem(problem, at);
        Err(Fatal)
    }

    fn refuse_extras(&mut self, anchor: usize, tagged: bool, at: &Range<usize>) {
        let (path, _) = self.next_path();
        if anchor != 0 {
            let problem = Problem::new(path.clone(), "anchors (`&name`) are not supported");
            self.problem(
                problem.hint("write the value out where it is used"),
                at.clone(),
            );
        }
        if tagged {
            let problem = Problem::new(path, "tags (`!name`) are not supported");
            self.problem(
                problem.hint("text that starts with `!` must be in quotes"),
                at.clone(),
            );
        }
    }

    /// Path of the innermost open list or mapping.
    fn path(&self) -> String {
        match self.open.last() {
            Some(Open::Map {
                path,
                key: Some(key),
                ..
            }) => child(path, &key.name),
            Some(Open::Map { path, .. } | Open::List { path, .. }) => path.clone(),
            None => String::new(),
        }
    }

    /// Path of the value that comes next, and its key.
    fn next_path(&self) -> (String, Option<Range<usize>>) {
        match self.open.last() {
            Some(Open::List { path, elements }) => (format!("{path}[{}]", elements.len()), None),
            Some(Open::Map { key: Some(key), .. }) => (self.path(), Some(key.span.clone())),
            _ => (self.path(), None),
        }
    }

    fn is_repeated(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open::Map {
                key: Some(Key { repeated: true, .. }),
                ..
            })
        )
    }

    fn problem(&mut self, problem: Problem, at: Range<usize>) {
        self.source_map.pin(&problem, at);
        self.problems.push(problem);
    }

    fn syntax_error(&mut self, error: &ScanError) -> Fatal {
        let at = error.marker().index();
        let mut problem = Problem::new("", format!("not valid YAML: {}", error.info()));
        problem.hint = hint_for(error.info()).map(Into::into);
        self.problem(problem, at..at + 1);
        Fatal
    }
}

/// What usually lies behind a message of the scanner.
fn hint_for(info: &str) -> Option<&'static str> {
    [
        ("mapping values are not allowed", "text that contains `: ` must be in quotes"),
        ("tabs disallowed", "indent with spaces"),
        ("did not find expected key", "fields of one object must start in the same column, and text after a closing quote belongs inside the quotes"),
        ("did not find expected '-'", "the elements of a list must start in the same column"),
        ("found a tab", "indent with spaces"),
        ("invalid trailing content", "put the whole text in quotes, of the other kind: `\"'a' = b\"`"),
        ("indentation in flow", "is a `[`, `{` or quote above not closed?"),
        ("illegal placement of ':'", "is a `[`, `{` or quote above not closed?"),
        ("invalid indentation in quoted scalar", "is the closing quote missing?"),
        ("unexpected character", "text that starts with this character must be in quotes"),
        ("scanning an anchor or alias", "text that starts with `*` or `&` must be in quotes"),
        ("found unknown anchor", "text that starts with `*` must be in quotes"),
    ]
    .into_iter()
    .find_map(|(part, hint)| info.contains(part).then_some(hint))
}
