//! Statements of fixed text that stay prepared on their connection. What diesel's `sql_query` runs is parsed anew each time, in a round trip of its
//! own, which costs small statements more than their work.

use std::borrow::Cow;

use diesel::{
    IntoSql, QueryResult,
    expression::AsExpression,
    pg::Pg,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    sql_types::{SingleValue, SqlType, Untyped},
};

/// SQL with values for its `$1`, `$2`, ... in their order. Its text must be one of few: each stays in the connection's memory.
pub struct Prepared<'a> {
    sql: Cow<'static, str>,
    values: Vec<Box<dyn QueryFragment<Pg> + Send + 'a>>,
}

/// A statement without values yet.
pub fn prepared<'a>(sql: impl Into<Cow<'static, str>>) -> Prepared<'a> {
    Prepared { sql: sql.into(), values: Vec::new() }
}

impl<'a> Prepared<'a> {
    /// Adds the value of the next placeholder.
    pub fn bind<ST, V>(mut self, value: V) -> Self
    where
        ST: SqlType + SingleValue,
        V: AsExpression<ST>,
        V::Expression: QueryFragment<Pg> + Send + 'a,
    {
        self.values.push(Box::new(value.into_sql::<ST>()));
        self
    }
}

impl QueryFragment<Pg> for Prepared<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let mut parts = self.sql.split('$');
        out.push_sql(parts.next().unwrap_or_default());
        for part in parts {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = part.split_at(digits);
            let value =
                number.parse::<usize>().ok().and_then(|number| self.values.get(number.checked_sub(1)?));
            let Some(value) = value else {
                let fault = format!("a statement has no value for its placeholder ${number}");
                return Err(diesel::result::Error::QueryBuilderError(fault.into()));
            };
            // Writes a placeholder of its own; one that stands twice has its value sent twice.
            value.walk_ast(out.reborrow())?;
            out.push_sql(rest);
        }
        Ok(())
    }
}

impl QueryId for Prepared<'_> {
    type QueryId = ();

    // Known by its text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Prepared<'_> {
    type SqlType = Untyped;
}

#[cfg(test)]
mod tests {
    use diesel::{debug_query, sql_types::Integer};

    use super::*;

    #[test]
    fn placeholders_are_numbered_in_the_order_in_which_they_stand() {
        let statement = prepared("SELECT $2, $1, $2 + 1").bind::<Integer, _>(7).bind::<Integer, _>(8);
        assert_eq!(debug_query::<Pg, _>(&statement).to_string(), "SELECT $1, $2, $3 + 1 -- binds: [8, 7, 8]");
    }

    #[test]
    fn a_placeholder_without_a_value_is_an_error() {
        let mut query = diesel::pg::PgQueryBuilder::default();
        assert!(prepared("SELECT $1").to_sql(&mut query, &Pg).is_err());
    }
}
