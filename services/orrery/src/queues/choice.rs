//! Which dead letters a command is about, as its user says it.

use std::time::Duration;

use clap::Args;
use orrery_config::duration;
use orrery_console::text;
use orrery_store::{
    Pool,
    dead_letters::{Filter, read},
};
use uuid::Uuid;

use super::{End, watched};
use crate::{config::Config, terminal::tell};

/// The beginning of a letter's id, or all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPrefix(String);

impl std::str::FromStr for IdPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        let fits = |(place, c): (usize, char)| match place {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        };
        if (4..=36).contains(&text.len()) && text.chars().enumerate().all(fits) {
            Ok(Self(text))
        } else {
            Err("this is no id: copy one from 'orrery queues dead list', or its first 4 characters or more"
                .to_owned())
        }
    }
}

impl IdPrefix {
    /// The one letter that it means; tells why when there is none, or more than one.
    pub async fn resolve(&self, pool: &Pool) -> anyhow::Result<Option<Uuid>> {
        if let Ok(id) = Uuid::parse_str(&self.0) {
            return Ok(Some(id));
        }
        let mut connection = pool.get().await?;
        let found = read::of_prefix(&mut connection, &self.0, 3).await?;
        match found.as_slice() {
            [one] => return Ok(Some(*one)),
            [] => tell(&format!("there is no dead letter whose id begins with {}", self.0)),
            several => {
                let ids: Vec<_> = several.iter().map(Uuid::to_string).collect();
                tell(&format!("several ids begin with {}: {} ...", self.0, ids.join(", ")));
            }
        }
        Ok(None)
    }
}

/// What a choice comes to.
pub enum Chosen {
    /// These letters.
    Letters(Filter),
    /// It cannot be meant so; why is told.
    Wrong,
    /// An id that is no letter's; that is told.
    Nothing,
}

impl Chosen {
    /// How a command ends that has no letters.
    pub fn end(&self) -> End {
        match self {
            Self::Letters(_) => End::Done,
            Self::Wrong => End::Usage,
            Self::Nothing => End::Nothing,
        }
    }
}

/// Which letters; all conditions must hold.
#[derive(Args)]
pub struct Choice {
    /// These letters, by their ids or the beginnings of them; several are separated by commas or spaces.
    #[arg(long = "id", value_name = "ID", num_args = 1.., value_delimiter = ',')]
    ids: Vec<IdPrefix>,
    /// Of this handler, such as maily.email.
    #[arg(long)]
    handler: Option<String>,
    /// Of this CloudEvents type, such as com.gravitalia.email.
    #[arg(long = "type", value_name = "TYPE")]
    ty: Option<String>,
    /// With this text in the reason or its causes, in any case.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Failed longer ago, such as 24h.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Failed since, such as 15min.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    newer_than: Option<Duration>,
}

impl Choice {
    /// The same for the store: ids are completed, and a handler that neither an enabled service nor any letter has is told with the names that there are.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn filter(self, config: &Config, pool: &Pool) -> anyhow::Result<Chosen> {
        if let Some(handler) = &self.handler {
            let watched = watched(config);
            let mut known: Vec<String> = watched.letter_names().map(str::to_owned).collect();
            if !known.contains(handler) {
                let mut connection = pool.get().await?;
                let counts = read::counts(&mut connection, &Filter::default()).await?;
                known.extend(counts.into_iter().map(|count| count.handler));
            }
            if !known.contains(handler) {
                known.sort_unstable();
                known.dedup();
                let known: Vec<_> = known.iter().map(|name| text::safe(name)).collect();
                tell(&format!(
                    "orrery: there is no handler '{}'; there are {}",
                    text::safe(handler),
                    known.join(", ")
                ));
                return Ok(Chosen::Wrong);
            }
        }
        let mut ids = Vec::new();
        for prefix in &self.ids {
            match prefix.resolve(pool).await? {
                Some(id) => ids.push(id),
                None => return Ok(Chosen::Nothing),
            }
        }
        Ok(Chosen::Letters(Filter {
            ids: (!ids.is_empty()).then_some(ids),
            handler: self.handler,
            ty: self.ty,
            reason: self.reason,
            older_than: self.older_than,
            newer_than: self.newer_than,
            until: None,
        }))
    }

    /// Whether nothing was said, so that it would be all letters.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
            && self.handler.is_none()
            && self.ty.is_none()
            && self.reason.is_none()
            && self.older_than.is_none()
            && self.newer_than.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_be_cut_short_and_nothing_else() {
        for text in ["01a1", "01A1FD3C", "01a1fd3c-67", "01a1fd3c-6702-7c36-a8f7-fab7eeb195b2"] {
            assert!(text.parse::<IdPrefix>().is_ok(), "{text}");
        }
        for text in ["", "01a", "n", "01a1fd3c6702", "01a1fd3c-6702-7c36-a8f7-fab7eeb195b2a", "zzzz"] {
            let fault = text.parse::<IdPrefix>().unwrap_err();
            assert!(fault.contains("queues dead list"), "{fault}");
        }
    }
}
