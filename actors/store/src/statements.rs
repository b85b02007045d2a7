//! A span for each statement of a connection (OpenTelemetry's semantic conventions for databases), where one is recorded for what asks. Of the statement
//! it has the operation and the table; the text and what is bound to it stay here.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
};

use diesel::connection::{Instrumentation, InstrumentationEvent};
use orrery_observability::trace::{self, Kind, Span};

/// So much of a statement is looked at.
const HEAD_CHARS: usize = 2_000;
/// Statements of a connection that run at once; what was dropped before its end leaves its span behind.
const PIPELINED: usize = 64;
/// What diesel writes between a statement and what is bound to it.
const BINDS: &str = "-- binds";

/// Makes the spans of one connection.
#[derive(Debug)]
pub(crate) struct Statements {
    pool: &'static str,
    running: VecDeque<Span>,
}

impl Statements {
    pub fn of(pool: &'static str) -> Self {
        Self { pool, running: VecDeque::new() }
    }

    fn begin(&self, query: &dyn fmt::Display) -> Span {
        let mut head = Head(String::new());
        // It ends early where the text is longer than what is looked at.
        let _whole = write!(head, "{query}").is_ok();
        let (operation, table) = summary(&head.0);
        let span = Span::new(Kind::Client, || match &table {
            Some(table) => format!("{operation} {table}"),
            None => operation.to_owned(),
        });
        span.set("db.system.name", "postgresql");
        span.set("db.operation.name", operation);
        span.set("db.client.connection.pool.name", self.pool);
        if let Some(table) = table {
            span.set("db.collection.name", table);
        }
        span
    }
}

impl Instrumentation for Statements {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { query, .. } => {
                if self.running.len() >= PIPELINED {
                    self.running.clear();
                }
                let span = if trace::is_recorded() { self.begin(query) } else { Span::none() };
                self.running.push_back(span);
            }
            InstrumentationEvent::FinishQuery { error, .. } => {
                // The server answers in the order in which it was asked.
                if let (Some(span), Some(_)) = (self.running.pop_front(), error) {
                    span.fail("refused");
                }
            }
            _ => {}
        }
    }
}

/// Takes the beginning of a text, and none of what is bound.
struct Head(String);

impl fmt::Write for Head {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        match self.0.find(BINDS) {
            Some(at) => self.0.truncate(at),
            None if self.0.len() <= HEAD_CHARS => return Ok(()),
            None => {}
        }
        Err(fmt::Error)
    }
}

/// The operation of a statement, and the table if it is plain which.
fn summary(sql: &str) -> (&'static str, Option<String>) {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let is = |word: &&str, name: &str| word.trim_start_matches('(').eq_ignore_ascii_case(name);
    let first = words.first().copied().unwrap_or_default();
    let changes = ["INSERT", "UPDATE", "DELETE"];
    let named = |names: &[&'static str], word: &str| names.iter().copied().find(|name| is(&word, name));
    let operation = if is(&first, "WITH") {
        // What it changes is what it is for; `FOR UPDATE` changes nothing.
        let pairs = words.iter().zip(words.iter().skip(1));
        let mut changed =
            pairs.filter(|(before, _)| !is(before, "FOR")).filter_map(|(_, word)| named(&changes, word));
        changed.next().unwrap_or("SELECT")
    } else {
        let known = ["INSERT", "UPDATE", "DELETE", "SELECT", "SET", "BEGIN", "COMMIT", "ROLLBACK", "LISTEN"];
        named(&known, first).unwrap_or("OTHER")
    };
    let before = match operation {
        "INSERT" => "INTO",
        "UPDATE" => "UPDATE",
        "DELETE" | "SELECT" => "FROM",
        _ => return (operation, None),
    };
    let at = words.iter().position(|word| is(word, before));
    let table = at.and_then(|at| words.get(at + 1)).map(|word| word.replace('"', ""));
    let is_name = |name: &String| {
        !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'))
    };
    (operation, table.filter(is_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_known_by_its_operation_and_its_table_alone() {
        for (sql, operation, table) in [
            (
                "INSERT INTO \"bus\".\"outbox\" (\"id\") VALUES ($1) -- binds: [\"ada\"]",
                "INSERT",
                Some("bus.outbox"),
            ),
            (
                "SELECT \"x\" FROM \"bus\".\"dead_letters\" WHERE (\"id\" = $1)",
                "SELECT",
                Some("bus.dead_letters"),
            ),
            ("UPDATE bus.dead_letters SET tries = 1", "UPDATE", Some("bus.dead_letters")),
            (
                "WITH picked AS (SELECT FROM bus.x FOR UPDATE) UPDATE bus.outbox SET a = 1",
                "UPDATE",
                Some("bus.outbox"),
            ),
            ("SELECT 'ada@example.org'", "SELECT", None),
            ("SELECT * FROM unnest($1) AS names(name)", "SELECT", None),
            ("BEGIN", "BEGIN", None),
            ("ada@example.org", "OTHER", None),
        ] {
            assert_eq!(summary(sql), (operation, table.map(str::to_owned)), "{sql}");
        }
    }

    #[test]
    fn what_is_bound_is_not_looked_at() {
        let mut head = Head(String::new());
        assert!(write!(head, "SELECT $1 FROM a -- binds: [{:?}]", "ada").is_err());
        assert_eq!(head.0, "SELECT $1 FROM a ");
    }
}
