//! What waits for another try, without its bytes: a dead endpoint costs little memory. The rows are `records::deliveries`'.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use orrery_store::{Pool, StoreError};
use uuid::Uuid;

use crate::records::deliveries::{self, Waiting as Row};

/// Rows that are known at once beyond the window: what was replayed may be many.
const SLACK: u32 = 64;
/// How far clocks of replicas may differ.
const SKEW: chrono::Duration = chrono::Duration::seconds(60);

/// The rows of one endpoint that wait, by their time.
pub struct Waiting {
    window: usize,
    most: usize,
    rows: BTreeMap<(DateTime<Utc>, i64), Row>,
    /// Whether there are more rows than are known here.
    more: bool,
}

impl Waiting {
    /// Nothing is known yet.
    pub fn new(window: u32) -> Self {
        let size = |rows: u32| usize::try_from(rows).unwrap_or(usize::MAX);
        Self {
            window: size(window),
            most: size(window.saturating_add(SLACK)),
            rows: BTreeMap::new(),
            more: false,
        }
    }

    /// Looks at what waits.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn load(&mut self, pool: &Pool, endpoint: Uuid, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut connection = pool.get().await?;
        let limit = i64::try_from(self.most).unwrap_or(i64::MAX);
        let rows = deliveries::waiting(&mut connection, endpoint, limit).await?;
        self.more = rows.len() >= self.most;
        // What was tried first at a time ahead was written while the clock was ahead: its next try lies ahead as well, and is due.
        let due = |row: &Row| if row.first_at > now + SKEW { now } else { row.next_at };
        self.rows = rows.into_iter().map(|row| ((due(&row), row.position), row)).collect();
        Ok(())
    }

    /// Whether there are rows that are not known here, and all that were are gone.
    pub fn is_stale(&self) -> bool {
        self.more && self.rows.is_empty()
    }

    /// Whether so many wait that nothing new is begun.
    pub fn is_full(&self) -> bool {
        self.more || self.rows.len() >= self.window
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && !self.more
    }

    /// When the next one is due that is not yet; what is due and held by its subject is looked at when something ends.
    pub fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.rows.range((now, i64::MAX)..).next().map(|((next_at, _), _)| *next_at)
    }

    /// Whether one of that subject waits.
    pub fn has_subject(&self, subject: Option<&str>) -> bool {
        subject.is_some() && self.rows.values().any(|row| row.subject.as_deref() == subject)
    }

    /// Adds one that was just written.
    pub fn add(&mut self, row: Row) {
        self.rows.insert((row.next_at, row.position), Row { event: Vec::new(), ..row });
    }

    /// Takes one that is due and whose subject is not busy; where order matters, the first of its subject.
    pub fn due(
        &mut self,
        now: DateTime<Utc>,
        is_ordered: bool,
        is_busy: impl Fn(&Option<String>) -> bool,
    ) -> Option<Row> {
        let key = self.rows.range(..=(now, i64::MAX)).find_map(|(key, row)| {
            if !is_ordered || row.subject.is_none() {
                return Some(*key);
            }
            let is_first = !self
                .rows
                .values()
                .any(|other| other.subject == row.subject && other.position < row.position);
            (is_first && !is_busy(&row.subject)).then_some(*key)
        })?;
        self.rows.remove(&key)
    }

    /// The bytes of one, unless it is not there any more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn event(&self, pool: &Pool, endpoint: Uuid, row: &Row) -> Result<Option<Vec<u8>>, StoreError> {
        let mut connection = pool.get().await?;
        deliveries::event(&mut connection, endpoint, row.position).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(position: i64, next: i64, subject: Option<&str>) -> Row {
        Row {
            position,
            key: Uuid::nil(),
            ty: "t".to_owned(),
            subject: subject.map(str::to_owned),
            event: vec![1],
            attempts: 1,
            first_at: DateTime::UNIX_EPOCH,
            next_at: DateTime::from_timestamp(next, 0).unwrap(),
        }
    }

    #[test]
    fn the_first_of_a_subject_goes_first_where_order_matters() {
        let mut waiting = Waiting::new(4);
        for row in [row(1, 50, Some("a")), row(2, 10, Some("a")), row(3, 20, Some("b")), row(4, 30, None)] {
            waiting.add(row);
        }
        assert!(waiting.is_full() && waiting.has_subject(Some("a")) && !waiting.has_subject(None));
        let now = DateTime::from_timestamp(40, 0).unwrap();
        let mut due = |busy: &str| {
            let busy = busy.to_owned();
            waiting.due(now, true, move |subject| subject.as_deref() == Some(&*busy)).map(|row| row.position)
        };
        assert_eq!(due("b"), Some(4), "2 waits for 1, which is not due; b is busy");
        assert_eq!(due(""), Some(3));
        assert_eq!(due(""), None);
        assert_eq!(waiting.due(now, false, |_| false).map(|row| row.position), Some(2));
        assert_eq!(waiting.next(now), DateTime::from_timestamp(50, 0));
    }
}
