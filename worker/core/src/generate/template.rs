//! The shape of a generated event: literal JSON with gaps for the fields, worked out once.

use crate::encode::write_text;

/// Pieces of JSON, each but the last followed by a field's value.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pieces: Vec<(Vec<u8>, usize)>,
    tail: Vec<u8>,
}

/// A value of the event while its shape is worked out.
enum Node {
    Field(usize),
    Object(Vec<(String, Node)>),
}

impl Template {
    /// Of fields at these paths; those of one object come together, where the first of them is.
    pub fn new(paths: &[Vec<String>]) -> Self {
        let mut root = Vec::new();
        for (field, path) in paths.iter().enumerate() {
            insert(&mut root, path, field);
        }
        let mut template = Template {
            pieces: Vec::new(),
            tail: Vec::new(),
        };
        template.add(&Node::Object(root));
        template
    }

    fn add(&mut self, node: &Node) {
        match node {
            Node::Field(field) => self.pieces.push((std::mem::take(&mut self.tail), *field)),
            Node::Object(entries) => {
                self.tail.push(b'{');
                for (position, (name, node)) in entries.iter().enumerate() {
                    if position > 0 {
                        self.tail.push(b',');
                    }
                    write_text(name, &mut self.tail);
                    self.tail.push(b':');
                    self.add(node);
                }
                self.tail.push(b'}');
            }
        }
    }

    pub fn write(&self, out: &mut Vec<u8>, value: impl Fn(usize, &mut Vec<u8>)) {
        for (literal, field) in &self.pieces {
            out.extend_from_slice(literal);
            value(*field, out);
        }
        out.extend_from_slice(&self.tail);
    }
}

/// Whether two fields cannot be in one object: they are the same, or one would be inside the other.
pub(super) fn collide(left: &[String], right: &[String]) -> bool {
    left.starts_with(right) || right.starts_with(left)
}

fn insert(entries: &mut Vec<(String, Node)>, path: &[String], field: usize) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        entries.push((name.clone(), Node::Field(field)));
        return;
    }
    if !entries.iter().any(|(other, _)| other == name) {
        entries.push((name.clone(), Node::Object(Vec::new())));
    }
    for (other, node) in entries {
        if let Node::Object(inner) = node
            && other == name
        {
            insert(inner, rest, field);
        }
    }
}
