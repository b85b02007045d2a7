//! Partners and their valid keys as they were a moment ago: every request asks for one, and what an operator takes away is gone within a second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use orrery_store::{Pool, StoreError};
use uuid::Uuid;

use crate::records::{keys, partners, partners::Partner};

/// How long what was looked up is believed.
const AGE: Duration = Duration::from_secs(1);
/// Partners that are remembered.
const REMEMBERED: usize = 10_000;

/// A partner and the ids of its valid keys.
#[derive(Debug)]
pub struct Known {
    /// The partner.
    pub partner: Partner,
    /// Its valid keys.
    pub keys: Vec<Uuid>,
}

type Remembered = HashMap<Uuid, (Instant, Option<Arc<Known>>)>;

/// Looks partners up.
#[derive(Clone)]
pub struct Directory {
    pool: Pool,
    known: Arc<Mutex<Remembered>>,
}

impl Directory {
    /// Nothing is known yet.
    pub fn new(pool: Pool) -> Self {
        Self { pool, known: Arc::default() }
    }

    /// The partner of that id, if there is one that may do anything.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn find(&self, id: Uuid) -> Result<Option<Arc<Known>>, StoreError> {
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, known)) = known.get(&id).filter(|(at, _)| at.elapsed() < AGE) {
                return Ok(known.clone());
            }
        }
        let found = self
            .pool
            .run(move |mut connection| async move {
                let partner = partners::by_id(&mut connection, id).await?;
                let Some(partner) = partner.filter(|partner| partner.disabled_at.is_none()) else {
                    return Ok(None);
                };
                let keys = keys::valid(&mut connection, id).await?.into_iter().map(|key| key.id).collect();
                Ok::<_, StoreError>(Some(Arc::new(Known { partner, keys })))
            })
            .await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(id, (Instant::now(), found.clone()));
        Ok(found)
    }
}
