//! Which field of an event is which column, and a memory of the order in which fields come.
//!
//! The columns' paths make a trie of objects. Producers write the fields of their events in one order, so every field remembers
//! the one that followed it last time: usually the next key is found by one comparison of its bytes, quotes and colon
//! included, and only otherwise read and looked up.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::malformed::Reason;
use super::scan;

/// Fields that are no columns are remembered too, but only so many of an object: they may have made-up names.
const LEARNT_LIMIT: usize = 256;
/// And only those with short names.
const LEARNT_LENGTH: usize = 256;

/// What to do with a field's value.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    Skip,
    Column(usize),
    /// An object on the way to columns.
    Object(usize),
    /// An index into `Shape::several`.
    Several(usize),
}

/// Several columns with the same path, or a path that is the start of another one.
#[derive(Clone, Debug, Default)]
pub struct Several {
    pub columns: Vec<usize>,
    pub object: Option<usize>,
}

/// Index of a field, or of an object's head, which stands before its first field.
pub type FieldId = usize;

/// Before this "field" nothing is known, and nothing is remembered after it.
const UNKNOWN: FieldId = 0;

/// In `Field::matches`: the first byte must be the comma, or may be anything.
const COMMA_FIRST: u64 = u64::MAX;
const ANY_FIRST: u64 = !0xff;

/// The trie. `fields[object.head]` is the head of an object.
pub struct Shape {
    fields: Vec<Field>,
    objects: Vec<Object>,
    several: Vec<Several>,
    /// A key with escapes, read.
    key: Vec<u8>,
}

struct Object {
    head: FieldId,
    fields: HashMap<Vec<u8>, FieldId, FixedState>,
    learnt: usize,
}

struct Field {
    /// `,"name":` as it is written without spaces.
    raw: Box<[u8]>,
    /// Its first sixteen bytes as two words, and masks of those that there are.
    words: [u64; 2],
    masks: [u64; 2],
    target: Target,
    /// What followed last time.
    next: FieldId,
}

impl Field {
    fn new(name: &[u8], target: Target) -> Self {
        let mut raw = vec![b','];
        // As a string of JSON; that the name is UTF-8 has been checked.
        raw.extend(
            serde_json::Value::from(String::from_utf8_lossy(name))
                .to_string()
                .into_bytes(),
        );
        raw.push(b':');
        let part = |from: usize| {
            let part = raw.iter().skip(from).take(8).enumerate();
            part.fold((0, 0), |(word, mask), (at, byte)| {
                (word | u64::from(*byte) << (8 * at), mask | 0xff << (8 * at))
            })
        };
        let ((low, low_mask), (high, high_mask)) = (part(0), part(8));
        Field {
            words: [low, high],
            masks: [low_mask, high_mask],
            raw: raw.into(),
            target,
            next: UNKNOWN,
        }
    }

    /// Stands before the fields and never is one: no UTF-8 matches it.
    fn head() -> Self {
        Field {
            raw: Box::default(),
            words: [u64::MAX; 2],
            masks: [u64::MAX; 2],
            target: Target::Skip,
            next: UNKNOWN,
        }
    }

    /// The position behind the colon, if this field's key is at `at`, behind a comma. Of the first byte only the bits in
    /// `first` count.
    #[inline(always)]
    fn matches(&self, bytes: &[u8], at: usize, first: u64) -> Option<usize> {
        let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) else {
            return self.matches_slowly(bytes, at, first);
        };
        // In two halves: comparing them as one costs a detour through vector registers.
        let chunk = u128::from_le_bytes(*chunk);
        let (low, high) = (chunk as u64, (chunk >> 64) as u64);
        if (low ^ self.words[0]) & self.masks[0] & first != 0 {
            return None;
        }
        if (high ^ self.words[1]) & self.masks[1] != 0 {
            return None;
        }
        if self.raw.len() > 16 {
            return self.matches_slowly(bytes, at, first);
        }
        Some(at + self.raw.len())
    }

    /// A long key, or one near the end.
    #[inline(never)]
    fn matches_slowly(&self, bytes: &[u8], at: usize, first: u64) -> Option<usize> {
        let (comma, key) = self.raw.split_first()?;
        let (before, rest) = bytes.get(at..)?.split_first()?;
        let comma = first == ANY_FIRST || comma == before;
        (comma && rest.starts_with(key)).then_some(at + self.raw.len())
    }
}

impl Shape {
    /// `paths[i]` is where column `i` is.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a [String]>) -> Self {
        let mut shape = Shape {
            fields: vec![Field::head()],
            objects: Vec::new(),
            several: Vec::new(),
            key: Vec::new(),
        };
        shape.add_object();
        for (column, path) in paths.into_iter().enumerate() {
            let Some((last, outer)) = path.split_last() else {
                continue;
            };
            let object = outer
                .iter()
                .fold(0, |object, name| shape.object_at(object, name));
            shape.add_column(object, last, column);
        }
        shape
    }

    fn add_object(&mut self) -> usize {
        self.fields.push(Field::head());
        let head = self.fields.len() - 1;
        self.objects.push(Object {
            head,
            fields: HashMap::default(),
            learnt: 0,
        });
        self.objects.len() - 1
    }

    fn field_at(&mut self, object: usize, name: &[u8]) -> FieldId {
        let fields = &mut self.fields;
        *self.objects[object]
            .fields
            .entry_ref(name)
            .or_insert_with(|| {
                fields.push(Field::new(name, Target::Skip));
                fields.len() - 1
            })
    }

    /// The object in the field `name` of `object`.
    fn object_at(&mut self, object: usize, name: &str) -> usize {
        let field = self.field_at(object, name.as_bytes());
        let mut several = self.several_of(field);
        let inner = several.object.unwrap_or_else(|| self.add_object());
        several.object = Some(inner);
        self.set(field, several);
        inner
    }

    fn add_column(&mut self, object: usize, name: &str, column: usize) {
        let field = self.field_at(object, name.as_bytes());
        let mut several = self.several_of(field);
        several.columns.push(column);
        self.set(field, several);
    }

    fn several_of(&self, field: FieldId) -> Several {
        match self.fields[field].target {
            Target::Skip => Several::default(),
            Target::Column(column) => Several {
                columns: vec![column],
                object: None,
            },
            Target::Object(object) => Several {
                columns: Vec::new(),
                object: Some(object),
            },
            Target::Several(index) => self.several[index].clone(),
        }
    }

    fn set(&mut self, field: FieldId, several: Several) {
        self.fields[field].target = match (several.columns.as_slice(), several.object) {
            ([column], None) => Target::Column(*column),
            ([], Some(object)) => Target::Object(object),
            _ => {
                self.several.push(several);
                Target::Several(self.several.len() - 1)
            }
        };
    }

    pub fn several(&self, index: usize) -> &Several {
        &self.several[index]
    }

    /// The head of an object: what stands before its first field.
    #[inline(always)]
    pub fn head(&self, object: usize) -> FieldId {
        self.objects[object].head
    }

    #[inline(always)]
    pub fn target(&self, field: FieldId) -> Target {
        self.fields[field].target
    }

    /// Behind a value: the field that followed last time, if its comma, key and colon are at `at` without spaces, and
    /// the position behind its colon.
    #[inline(always)]
    pub fn next(&self, before: FieldId, bytes: &[u8], at: usize) -> Option<(FieldId, usize)> {
        let guess = self.fields[before].next;
        let after = self.fields[guess].matches(bytes, at, COMMA_FIRST)?;
        Some((guess, after))
    }

    /// Reads the key at `at` in an object, behind the field `before`: its field, and the position behind its colon.
    #[inline(always)]
    pub fn key(
        &mut self,
        object: usize,
        before: FieldId,
        bytes: &[u8],
        at: usize,
    ) -> Result<(FieldId, usize), Reason> {
        let guess = self.fields[before].next;
        // There is a byte before: the comma or the brace, or space.
        match self.fields[guess].matches(bytes, at - 1, ANY_FIRST) {
            Some(after) => Ok((guess, after)),
            None => self.look_up(object, before, bytes, at),
        }
    }

    #[inline(never)]
    fn look_up(
        &mut self,
        object: usize,
        before: FieldId,
        bytes: &[u8],
        at: usize,
    ) -> Result<(FieldId, usize), Reason> {
        if scan::byte(bytes, at) != b'"' {
            return Err(Reason::InvalidJson);
        }
        self.key.clear();
        let after = scan::space(bytes, scan::string_into(bytes, at + 1, &mut self.key)?);
        if scan::byte(bytes, after) != b':' {
            return Err(Reason::InvalidJson);
        }
        let field = self.known(object);
        if before != UNKNOWN && field != UNKNOWN {
            self.fields[before].next = field;
        }
        Ok((field, after + 1))
    }

    /// The field of the key just read; learns it if it is new.
    fn known(&mut self, object: usize) -> FieldId {
        let owner = &mut self.objects[object];
        if let Some(field) = owner.fields.get(self.key.as_slice()) {
            return *field;
        }
        if owner.learnt == LEARNT_LIMIT || self.key.len() > LEARNT_LENGTH {
            return UNKNOWN;
        }
        owner.learnt += 1;
        self.fields.push(Field::new(&self.key, Target::Skip));
        let field = self.fields.len() - 1;
        owner.fields.insert(self.key.clone(), field);
        field
    }
}
