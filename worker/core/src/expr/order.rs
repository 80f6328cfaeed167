//! `ORDER BY` lists: columns that rows are ranked by.

use arrow::datatypes::{DataType, Schema};
use datafusion_sql::sqlparser::ast::Expr;

use super::check::{Scope, check};
use super::parse::{self, Text};
use crate::problem::Problem;

/// A column to order by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Index in the schema.
    pub column: usize,
    pub descending: bool,
    pub nulls_first: bool,
}

/// Plans a list such as `total DESC, user_id` over columns of `schema`; `path` is the field it stands in. Nulls come
/// last, in both directions, where `NULLS FIRST` does not say otherwise.
pub fn order(sql: &str, schema: &Schema, path: &str) -> Result<Vec<Order>, Vec<Problem>> {
    let text = Text { sql, path };
    let list = parse::order_list(text).map_err(|problem| vec![problem])?;
    let (mut orders, mut problems): (Vec<Order>, Vec<Problem>) = (Vec::new(), Vec::new());
    for mut item in list {
        parse::prefer_columns(&mut item.expr, |name| schema.index_of(name).is_ok());
        let wrong = check(&item.expr, text, &Scope::of(schema));
        let column = match &item.expr {
            Expr::Identifier(ident) => schema.index_of(&ident.value).ok(),
            _ => None,
        };
        match column {
            _ if !wrong.is_empty() => problems.extend(wrong),
            None => problems.push(
                text.problem(format!(
                    "`{}` is not a column: only columns order rows",
                    item.expr
                ))
                .hint("give the expression a name where it is computed, and write the name here"),
            ),
            Some(column) if orders.iter().any(|order| order.column == column) => {
                problems.push(text.problem(format!("`{}` is in the list already", item.expr)));
            }
            Some(column) if matches!(schema.field(column).data_type(), DataType::List(_)) => {
                problems
                    .push(text.problem(format!("`{}` is a list, which has no order", item.expr)));
            }
            Some(column) => orders.push(Order {
                column,
                descending: item.options.asc == Some(false),
                nulls_first: item.options.nulls_first == Some(true),
            }),
        }
    }
    match problems.is_empty() {
        true => Ok(orders),
        false => Err(problems),
    }
}
