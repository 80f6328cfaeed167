//! Pattern text to a tree, and the rules that a pattern must keep.
//!
//! ```text
//! pattern  = sequence { "|" sequence }
//! sequence = part { part }
//! part     = "!" name | ( name | "(" pattern ")" ) [ repeat [ "?" ] ]
//! repeat   = "?" | "*" | "+" | "{" n "}" | "{" n "," "}" | "{" n "," m "}"
//! ```
//!
//! The row patterns of SQL have neither `!` nor, in the parsers there are, reluctant quantifiers: hence a parser of our own.

/// Where in the text, in characters: from and to.
pub type Span = (usize, usize);

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    pub hint: Option<String>,
    pub span: Span,
}

impl Fault {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Fault {
            message: message.into(),
            hint: None,
            span,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event that satisfies a variable.
    Take(String),
    /// No event that satisfies it may be skipped here. Stands in sequences only.
    Not(String),
    Sequence(Vec<Node>),
    /// The left one is preferred.
    Either(Vec<Node>),
    Repeat {
        inner: Box<Node>,
        least: u32,
        /// `None`: as often as you like.
        most: Option<u32>,
        /// Prefers more to fewer.
        greedy: bool,
    },
}

/// Reads a pattern. The first thing that is wrong is told.
pub fn parse(text: &str) -> Result<Node, Fault> {
    let mut parser = Parser {
        chars: text.chars().collect(),
        at: 0,
        depth: 0,
    };
    parser.blanks();
    if parser.peek().is_none() {
        return Err(Fault::new((0, parser.chars.len()), "the pattern is empty")
            .hint("write for example `A B+ C`"));
    }
    let pattern = parser.pattern()?;
    match parser.peek() {
        None => Ok(pattern),
        Some(')') => Err(parser.here("`)` closes nothing")),
        Some(other) => Err(parser.unexpected(other)),
    }
}

/// Groups in groups: more would be a mistake, or an attack on the stack.
const DEEPEST: usize = 64;
/// The highest count of a quantifier.
const HIGHEST: u32 = 100_000;

struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

fn begins_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += 1;
            self.blanks();
        }
        found
    }

    /// A fault with the character at hand.
    fn here(&self, message: impl Into<String>) -> Fault {
        let end = (self.at + 1).min(self.chars.len());
        Fault::new((end.saturating_sub(1), end), message)
    }

    fn unexpected(&self, found: char) -> Fault {
        match found {
            '?' | '*' | '+' | '{' => {
                self.here(format!("`{found}` must stand behind a variable or a group"))
            }
            ',' | '&' => self
                .here(format!("`{found}` is not part of a pattern"))
                .hint("variables one after the other are a sequence: `A B`"),
            _ => self
                .here(format!("`{found}` is not part of a pattern"))
                .hint("a pattern has variables, `( )`, `|`, `!`, and the quantifiers `? * + {n} {n,} {n,m}`"),
        }
    }

    fn pattern(&mut self) -> Result<Node, Fault> {
        let start = self.at;
        let mut branches = vec![self.sequence()?];
        while self.eat('|') {
            branches.push(self.sequence()?);
        }
        Ok(match branches.len() {
            1 => branches.remove(0),
            _ => self.node(start, Kind::Either(branches)),
        })
    }

    /// A node that ends before the blanks at hand.
    fn node(&self, start: usize, kind: Kind) -> Node {
        let mut end = self.at;
        while end > start && self.chars[end - 1].is_whitespace() {
            end -= 1;
        }
        Node {
            span: (start, end),
            kind,
        }
    }

    fn sequence(&mut self) -> Result<Node, Fault> {
        let start = self.at;
        let mut parts = Vec::new();
        while let Some(next) = self.peek().filter(|next| !matches!(next, '|' | ')')) {
            parts.push(match next {
                '!' => self.not()?,
                _ => self.repeated()?,
            });
        }
        Ok(match parts.len() {
            0 => {
                return Err(self
                    .here("a variable is missing here")
                    .hint("an element that may be left out is written `A?`"));
            }
            1 => parts.remove(0),
            _ => self.node(start, Kind::Sequence(parts)),
        })
    }

    fn name(&mut self) -> Option<String> {
        let start = self.at;
        if !self.peek().is_some_and(begins_name) {
            return None;
        }
        while self.peek().is_some_and(in_name) {
            self.at += 1;
        }
        let name = self.chars[start..self.at].iter().collect();
        self.blanks();
        Some(name)
    }

    fn not(&mut self) -> Result<Node, Fault> {
        let start = self.at;
        self.eat('!');
        if self.peek() == Some('!') {
            return Err(self.here("`!` is doubled"));
        }
        let Some(name) = self.name() else {
            return Err(self
                .here("`!` must stand before a variable")
                .hint("write for example `A !X B`"));
        };
        let node = self.node(start, Kind::Not(name));
        match self.peek() {
            Some('?' | '*' | '+' | '{') => Err(self
                .here("`!` cannot be quantified: it means none at all")
                .hint("leave the quantifier out")),
            _ => Ok(node),
        }
    }

    fn repeated(&mut self) -> Result<Node, Fault> {
        let start = self.at;
        let inner = self.primary()?;
        let Some((least, most)) = self.quantifier()? else {
            return Ok(inner);
        };
        let greedy = !self.eat('?');
        if let Some('?' | '*' | '+' | '{') = self.peek() {
            return Err(self
                .here("a second quantifier")
                .hint("put what the first one repeats into parentheses: `(A+)*`"));
        }
        let inner = Box::new(inner);
        Ok(self.node(
            start,
            Kind::Repeat {
                inner,
                least,
                most,
                greedy,
            },
        ))
    }

    fn primary(&mut self) -> Result<Node, Fault> {
        let start = self.at;
        if let Some(name) = self.name() {
            return Ok(self.node(start, Kind::Take(name)));
        }
        if !self.eat('(') {
            return Err(match self.peek() {
                Some(found) => self.unexpected(found),
                None => self.here("a variable is missing here"),
            });
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.here(format!("more than {DEEPEST} groups inside each other")));
        }
        let inner = self.pattern()?;
        self.depth -= 1;
        if self.eat(')') {
            return Ok(inner);
        }
        Err(Fault::new((start, start + 1), "`(` is not closed"))
    }

    fn quantifier(&mut self) -> Result<Option<(u32, Option<u32>)>, Fault> {
        let start = self.at;
        Ok(Some(match self.peek() {
            Some('?') => {
                self.eat('?');
                (0, Some(1))
            }
            Some('*') => {
                self.eat('*');
                (0, None)
            }
            Some('+') => {
                self.eat('+');
                (1, None)
            }
            Some('{') => self.counts(start)?,
            _ => return Ok(None),
        }))
    }

    fn counts(&mut self, start: usize) -> Result<(u32, Option<u32>), Fault> {
        self.eat('{');
        let least = self.number()?;
        let comma = self.eat(',');
        let most = self.number()?;
        if !self.eat('}') {
            return Err(self
                .here("this is no quantifier")
                .hint("write `{3}`, `{3,}` or `{3,5}`"));
        }
        let wrong = |parser: &Self, message: &str| {
            Fault::new(parser.node(start, Kind::Sequence(Vec::new())).span, message)
        };
        match (least, comma, most) {
            (Some(0), false, None) | (Some(0), true, Some(0)) => Err(wrong(
                self,
                "no event at all: leave the element out, or write `!X` where no `X` may be",
            )),
            (Some(least), false, None) => Ok((least, Some(least))),
            (Some(least), true, None) => Ok((least, None)),
            (Some(least), true, Some(most)) if least <= most => Ok((least, Some(most))),
            (Some(least), true, Some(most)) => Err(wrong(self, "the least is more than the most")
                .hint(format!("write `{{{most},{least}}}`"))),
            (None, true, Some(most)) => {
                Err(wrong(self, "the least number is missing")
                    .hint(format!("write `{{0,{most}}}`")))
            }
            _ => Err(wrong(self, "a number is missing").hint("write `{3}`, `{3,}` or `{3,5}`")),
        }
    }

    fn number(&mut self) -> Result<Option<u32>, Fault> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        if start == self.at {
            return Ok(None);
        }
        let digits: String = self.chars[start..self.at].iter().collect();
        let number = digits
            .parse()
            .ok()
            .filter(|number| *number <= HIGHEST)
            .ok_or_else(|| {
                Fault::new((start, self.at), format!("more than {HIGHEST} repetitions"))
            })?;
        self.blanks();
        Ok(Some(number))
    }
}

impl Node {
    /// All rules that the pattern breaks. `strict`: nothing may be skipped.
    pub fn faults(&self, strict: bool) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.check_nots(strict, &mut faults);
        if let Kind::Not(name) = &self.kind {
            faults.push(not_between(self.span, name));
        } else if self.can_be_empty() {
            faults.push(
                Fault::new(
                    self.span,
                    "the pattern can be empty: every element may be left out",
                )
                .hint("let one element be there at least once"),
            );
        } else {
            self.check_last(&mut faults);
        }
        faults
    }

    /// Every variable it names, with its place: in order, as often as it is there.
    pub fn names(&self) -> Vec<(&str, Span)> {
        match &self.kind {
            Kind::Take(name) | Kind::Not(name) => vec![(name, self.span)],
            Kind::Sequence(parts) | Kind::Either(parts) => {
                parts.iter().flat_map(Node::names).collect()
            }
            Kind::Repeat { inner, .. } => inner.names(),
        }
    }

    /// How many elements it has once its repetitions are written out.
    pub fn written_out(&self) -> u64 {
        match &self.kind {
            Kind::Take(_) => 1,
            Kind::Not(_) => 0,
            Kind::Sequence(parts) | Kind::Either(parts) => parts
                .iter()
                .map(Node::written_out)
                .fold(0, u64::saturating_add),
            Kind::Repeat {
                inner, least, most, ..
            } => {
                let times = most.unwrap_or((*least).max(1));
                inner.written_out().saturating_mul(times.into())
            }
        }
    }

    /// Whether it may take no event.
    pub fn can_be_empty(&self) -> bool {
        match &self.kind {
            Kind::Take(_) => false,
            Kind::Not(_) => true,
            Kind::Sequence(parts) => parts.iter().all(Node::can_be_empty),
            Kind::Either(branches) => branches.iter().any(Node::can_be_empty),
            Kind::Repeat { inner, least, .. } => *least == 0 || inner.can_be_empty(),
        }
    }

    /// A match is there as soon as it can be: the last element never gets more than it must have.
    fn check_last(&self, faults: &mut Vec<Fault>) {
        match &self.kind {
            Kind::Take(_) | Kind::Not(_) => {}
            Kind::Sequence(parts) => parts.iter().rev().take(1).for_each(|last| {
                last.check_last(faults);
            }),
            Kind::Either(branches) => branches.iter().for_each(|branch| branch.check_last(faults)),
            Kind::Repeat {
                inner, least, most, ..
            } if Some(*least) == *most => inner.check_last(faults),
            Kind::Repeat { least, .. } => {
                let fault = Fault::new(
                    self.span,
                    "the last element cannot be optional or open-ended: a match is there on the earliest event, so it would never take more than its least",
                );
                faults.push(fault.hint(match least {
                    0 => "leave it out".to_string(),
                    1 => "leave the quantifier out".to_string(),
                    least => format!("write `{{{least}}}`"),
                }));
            }
        }
    }

    fn check_nots(&self, strict: bool, faults: &mut Vec<Fault>) {
        match &self.kind {
            Kind::Take(_) | Kind::Not(_) => {}
            Kind::Either(branches) => {
                for branch in branches {
                    if let Kind::Not(name) = &branch.kind {
                        faults.push(not_between(branch.span, name));
                    }
                    branch.check_nots(strict, faults);
                }
            }
            Kind::Repeat { inner, .. } => {
                if let Kind::Not(name) = &inner.kind {
                    faults.push(not_between(inner.span, name));
                }
                inner.check_nots(strict, faults);
            }
            Kind::Sequence(parts) => {
                for (at, part) in parts.iter().enumerate() {
                    part.check_nots(strict, faults);
                    let Kind::Not(name) = &part.kind else {
                        continue;
                    };
                    let doubled = at > 0 && matches!(parts[at - 1].kind, Kind::Not(_));
                    if at == 0 || at + 1 == parts.len() {
                        faults.push(not_between(part.span, name));
                    } else if doubled {
                        faults.push(
                            Fault::new(part.span, "two `!` one after the other")
                                .hint("define one variable that is satisfied by either, with OR"),
                        );
                    } else if strict {
                        faults.push(
                            Fault::new(
                                part.span,
                                format!("`!{name}` cannot stand in a pattern with `contiguity: Strict`, where no event is skipped anyway"),
                            )
                            .hint("leave it out"),
                        );
                    }
                }
            }
        }
    }
}

fn not_between(span: Span, name: &str) -> Fault {
    Fault::new(
        span,
        format!("`!{name}` must stand between two elements of the same group"),
    )
    .hint("it says what may not lie between what is taken before it and what is taken after it")
}
