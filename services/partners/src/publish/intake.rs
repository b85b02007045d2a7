//! Taking events in: each is checked, completed with who sent it, and written to log and outbox in one transaction. An event that came before is taken once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use cloudevents::{AttributesReader as _, Data, Event, event::ExtensionValue};
use cloudevents_amqp::encode_structured;
use diesel_async::AsyncConnection as _;
use jsonschema::Validator;
use orrery_bus::{Bus, field_table, relay::Wake};
use orrery_schemas::{problems::Code, topology::PARTNERS as EXCHANGE};
use orrery_store::{
    Pool, StoreError,
    outbox::{Foreign, Outbox},
};
use serde::Serialize;
use serde_json::Value;

use super::{Refused, SOURCE_CLIENT, allowed};
use crate::{
    deliver::tail::Bell,
    records::{
        log::{self, NewEvent},
        partners::Partner,
        schemas,
    },
};

/// How long a schema is believed to be the newest.
const SCHEMA_AGE: Duration = Duration::from_secs(2);
/// Schemas that are remembered.
const SCHEMAS: usize = 1_000;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    /// It is taken in.
    Accepted,
    /// It was taken in before, by its source and id.
    Duplicate,
}

/// An event that may be taken in.
pub struct Ready {
    logged: NewEvent,
    message: Foreign,
}

/// A type's schema, if it has one, and when it was looked up.
type Remembered = (Instant, Option<Arc<Validator>>);

/// Takes events in.
pub struct Intake {
    /// Connections.
    pub pool: Pool,
    /// How events are encoded.
    pub bus: Bus,
    /// Where they leave.
    pub outbox: Outbox,
    /// Rings for the relay.
    pub wake: Wake,
    /// Rings for those who read the log.
    pub bell: Bell,
    /// Schemas looked up a moment ago.
    pub schemas: Mutex<HashMap<String, Remembered>>,
}

impl Intake {
    /// Checks an event of a partner, and says whose it is.
    ///
    /// # Errors
    /// Why it is refused; a database that is away is `Unavailable`.
    pub async fn prepare(
        &self,
        partner: &Partner,
        mut event: Event,
        now: DateTime<Utc>,
    ) -> Result<Ready, Refused> {
        allowed::check(partner, &event)?;
        let until = expiry(&event, now)?;
        if let Some(validator) = self.schema(event.ty()).await? {
            fits(&validator, &event)?;
        }
        let key = log::key(Some(partner.id), event.source(), event.id());
        event.set_extension(SOURCE_CLIENT, partner.name.as_str());
        let refused =
            |error: cloudevents_amqp::EncodeError| Refused::new(Code::InvalidField, error.to_string());
        // Encoded once more as it is delivered: what cannot be said in JSON is refused here, and not when nobody can be told.
        let logged = encode_structured(&event).map_err(refused)?.body;
        let message = self.bus.encode(&event).map_err(refused)?;
        let headers = message.properties.headers().clone().unwrap_or_default();
        Ok(Ready {
            logged: NewEvent { key, sender: Some(partner.id), ty: event.ty().to_owned(), event: logged },
            message: Foreign {
                source: event.source().to_owned(),
                ty: event.ty().to_owned(),
                subject: event.subject().map(str::to_owned),
                until,
                content_type: message.properties.content_type().as_ref().map(ToString::to_string),
                headers: Value::Object(field_table::table_to_json(&headers)),
                body: message.body,
            },
        })
    }

    /// Takes events in, all or none; returns after the commit what became of each.
    ///
    /// # Errors
    /// When the database refuses: none is taken.
    pub async fn take(&self, events: Vec<Ready>) -> Result<Vec<Taken>, StoreError> {
        let keys: Vec<_> = events.iter().map(|event| event.logged.key).collect();
        let outbox = self.outbox.clone();
        let mut new = self
            .pool
            .run(move |mut connection| async move {
                connection
                    .transaction::<_, StoreError, _>(async |connection| {
                        let (logged, messages): (Vec<_>, Vec<_>) =
                            events.into_iter().map(|event| (event.logged, event.message)).unzip();
                        let new = log::add(connection, &logged).await?;
                        let mut left: Vec<_> = new.clone();
                        let leaving = logged.iter().zip(messages).filter_map(|(logged, message)| {
                            // The first of an id in a batch is the one that was logged.
                            let at = left.iter().position(|key| *key == logged.key)?;
                            left.swap_remove(at);
                            Some(message)
                        });
                        let leaving: Vec<Foreign> = leaving.collect();
                        if !leaving.is_empty() {
                            outbox.foreign(connection, EXCHANGE, leaving).await?;
                        }
                        Ok(new)
                    })
                    .await
            })
            .await?;
        self.wake.wake();
        self.bell.ring();
        let taken = keys.iter().map(|key| match new.iter().position(|new| new == key) {
            Some(at) => {
                new.swap_remove(at);
                Taken::Accepted
            }
            None => Taken::Duplicate,
        });
        Ok(taken.collect())
    }

    /// The newest schema of a type.
    async fn schema(&self, ty: &str) -> Result<Option<Arc<Validator>>, Refused> {
        let known = {
            let schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
            schemas.get(ty).filter(|(at, _)| at.elapsed() < SCHEMA_AGE).map(|(_, schema)| schema.clone())
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let asked = ty.to_owned();
        let found = self
            .pool
            .run(move |mut connection| async move { schemas::newest(&mut connection, &asked).await })
            .await
            .map_err(|error: StoreError| {
                tracing::warn!(%error, "a schema cannot be looked up");
                Refused::new(
                    Code::Unavailable,
                    "schemas cannot be looked up right now; try again in a moment",
                )
            })?;
        let validator = match found {
            None => None,
            Some(found) => Some(Arc::new(validator(&found.schema).map_err(|error| {
                tracing::error!(ty = found.ty, error, "a registered schema cannot be used");
                Refused::new(Code::Internal, "the schema of that type cannot be used; tell the operator")
            })?)),
        };
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if schemas.len() >= SCHEMAS {
            schemas.clear();
        }
        schemas.insert(ty.to_owned(), (Instant::now(), validator.clone()));
        Ok(validator)
    }
}

/// What validates by a schema. References lead to the schema itself only: nothing is fetched.
///
/// # Errors
/// Why it is no schema.
pub fn validator(schema: &Value) -> Result<Validator, String> {
    jsonschema::options().build(schema).map_err(|error| error.to_string())
}

fn fits(validator: &Validator, event: &Event) -> Result<(), Refused> {
    let refused = |detail: String| Err(Refused::new(Code::InvalidField, detail));
    let data = match event.data() {
        Some(Data::Json(value)) => std::borrow::Cow::Borrowed(value),
        Some(Data::String(text)) => match serde_json::from_str(text) {
            Ok(value) => std::borrow::Cow::Owned(value),
            Err(_) => return refused("this type has a schema, and the data is no JSON".to_owned()),
        },
        Some(Data::Binary(bytes)) => match serde_json::from_slice(bytes) {
            Ok(value) => std::borrow::Cow::Owned(value),
            Err(_) => return refused("this type has a schema, and the data is no JSON".to_owned()),
        },
        None => std::borrow::Cow::Owned(Value::Null),
    };
    match validator.iter_errors(&data).next() {
        None => Ok(()),
        // The place only: the message would repeat the data.
        Some(error) => {
            let place: String = error.instance_path().to_string().chars().take(200).collect();
            let rule: String = error.schema_path().to_string().chars().take(200).collect();
            refused(format!(
                "the data does not fit the schema of its type: at '{place}', by the rule '{rule}'"
            ))
        }
    }
}

/// When nobody wants it any more, if it says so.
fn expiry(event: &Event, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Refused> {
    let Some(value) = event.extension("expirytime") else { return Ok(None) };
    let refused = |detail: &str| Refused::new(Code::InvalidField, detail);
    let ExtensionValue::String(text) = value else { return Err(refused("expirytime is an RFC 3339 time")) };
    let until = DateTime::parse_from_rfc3339(text).map_err(|_| refused("expirytime is an RFC 3339 time"))?;
    if until.to_utc() <= now {
        return Err(refused("expirytime is over: nobody wants the event any more"));
    }
    Ok(Some(until.to_utc()))
}
