//! SQL text to syntax trees, and positions in the text for errors.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, FunctionArguments, Ident, OrderByExpr, visit_expressions_mut,
};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Span, Token};

use crate::problem::{Problem, lower_first};

/// An expression's text and the field of the manifest it stands in.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub sql: &'a str,
    pub path: &'a str,
}

/// A select item: an expression and the name it is given.
pub(super) struct ParsedItem {
    pub expr: Expr,
    pub alias: Option<Ident>,
}

impl Text<'_> {
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::new(self.path, message)
    }

    /// A problem with the part of the text at `span`.
    pub fn problem_at(&self, span: Span, message: impl Into<String>) -> Problem {
        let problem = self.problem(message);
        match (self.offset(span.start), self.offset(span.end)) {
            (Some(start), Some(end)) if end > start => problem.within(start, end),
            _ => problem,
        }
    }

    /// Characters before a location (lines and columns from 1; 0: unknown).
    fn offset(&self, location: Location) -> Option<usize> {
        let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(location.column).ok()?.checked_sub(1)?;
        let before: usize = self
            .sql
            .split('\n')
            .take(line)
            .map(|line| line.chars().count() + 1)
            .sum();
        Some((before + column).min(self.sql.chars().count()))
    }

    fn parser(&self) -> Result<Parser<'static>, Problem> {
        if self.sql.trim().is_empty() {
            return Err(self.problem("the expression is empty"));
        }
        let first = self.sql.split_whitespace().next().unwrap_or_default();
        if first.eq_ignore_ascii_case("select") {
            let problem = self.problem("a whole query is not an expression");
            return Err(problem.hint("write what stands behind SELECT or WHERE alone"));
        }
        Parser::new(&GenericDialect {})
            .try_with_sql(self.sql)
            .map_err(|error| self.syntax(error))
    }

    fn syntax(&self, error: ParserError) -> Problem {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
            ParserError::RecursionLimitExceeded => {
                return self.problem("the expression is nested too deeply");
            }
        };
        let (message, location) = split_location(&text);
        let message = lower_first(message)
            .replace("expected: ", "expected ")
            .replace("found: EOF", "found its end")
            .replace("found: ", "found ");
        let message = format!("not an SQL expression: {message}");
        match location.and_then(|location| self.offset(location)) {
            Some(start) => {
                let length = self
                    .sql
                    .chars()
                    .skip(start)
                    .take_while(|c| !c.is_whitespace())
                    .count();
                self.problem(message).within(start, start + length.max(1))
            }
            None => self.problem(message),
        }
    }

    fn end(&self, parser: &Parser<'_>) -> Result<(), Problem> {
        let next = parser.peek_token();
        let message = match next.token {
            Token::EOF => return Ok(()),
            token => format!("`{token}` does not belong here: the expression ends before it"),
        };
        Err(self.problem_at(next.span, message))
    }
}

/// A whole text as one expression.
pub(super) fn expression(text: Text<'_>) -> Result<Expr, Problem> {
    let mut parser = text.parser()?;
    let expr = parser.parse_expr().map_err(|error| text.syntax(error))?;
    text.end(&parser)?;
    Ok(expr)
}

/// A whole text as `expr` or `expr AS name`.
pub(super) fn item(text: Text<'_>) -> Result<ParsedItem, Problem> {
    let mut parser = text.parser()?;
    let expr = parser.parse_expr().map_err(|error| text.syntax(error))?;
    let alias = match parser.parse_keyword(Keyword::AS) {
        true => Some(
            parser
                .parse_identifier()
                .map_err(|error| text.syntax(error))?,
        ),
        false => None,
    };
    text.end(&parser)?;
    Ok(ParsedItem { expr, alias })
}

/// A whole text as a list behind ORDER BY.
pub(super) fn order_list(text: Text<'_>) -> Result<Vec<OrderByExpr>, Problem> {
    let mut parser = text.parser()?;
    let list = parser
        .parse_comma_separated(Parser::parse_order_by_expr)
        .map_err(|error| text.syntax(error))?;
    text.end(&parser)?;
    Ok(list)
}

/// SQL has words that are functions without parentheses (`user`, `current_date`). Where a column has such a name, the
/// column is meant.
pub(super) fn prefer_columns(expr: &mut Expr, is_column: impl Fn(&str) -> bool) {
    let _ = visit_expressions_mut(expr, |expr| {
        if let Expr::Function(function) = expr
            && function.args == FunctionArguments::None
            && let [part] = function.name.0.as_slice()
            && let Some(ident) = part.as_ident()
            && is_column(&ident.value)
        {
            *expr = Expr::Identifier(ident.clone());
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Takes ` at Line: 1, Column: 5` off an error's end.
fn split_location(text: &str) -> (&str, Option<Location>) {
    let parse = || {
        let (message, place) = text.rsplit_once(" at Line: ")?;
        let (line, column) = place.split_once(", Column: ")?;
        Some((
            message,
            Location {
                line: line.parse().ok()?,
                column: column.trim().parse().ok()?,
            },
        ))
    };
    match parse() {
        Some((message, location)) => (message, Some(location)),
        None => (text, None),
    }
}
