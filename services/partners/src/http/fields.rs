//! What an endpoint may be told to be, as it stands in a request, and how it is shown.

use actix_web::web::Query;
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{AppState, fault};
use crate::{
    config::MOST_CONCURRENCY,
    filter,
    records::endpoints::{Endpoint, Settings},
};

/// Types and attributes of one endpoint, and the bytes of each.
const MOST_TYPES: usize = 50;
const MOST_ATTRIBUTES: usize = 20;
const TEXT_BYTES: usize = 255;

/// What a request says of an endpoint; null takes a limit or a filter away.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    url: Option<String>,
    types: Option<Vec<String>>,
    attributes: Option<Map<String, Value>>,
    #[serde(deserialize_with = "given")]
    filter: Option<Option<String>>,
    #[serde(deserialize_with = "given")]
    rate: Option<Option<i32>>,
    concurrency: Option<i32>,
    ordered: Option<bool>,
}

/// A field that is there: also null is something that was said.
fn given<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

impl Given {
    /// The settings that it makes of those before, or of nothing.
    ///
    /// # Errors
    /// 422 with the field that cannot be used.
    pub fn settings(self, app: &AppState, before: Option<&Endpoint>) -> Result<Settings, Problem> {
        let mut settings = match before {
            Some(endpoint) => Settings {
                url: endpoint.url.clone(),
                types: endpoint.types.clone(),
                attributes: endpoint.attributes.clone(),
                filter: endpoint.filter.clone(),
                rate: endpoint.rate,
                concurrency: endpoint.concurrency,
                ordered: endpoint.ordered,
            },
            None => Settings {
                attributes: json!({}),
                concurrency: i32::from(app.config.delivery.concurrency),
                ..Settings::default()
            },
        };
        match (self.url, before) {
            (Some(url), _) => {
                settings.url = app.gate.check(&url).map_err(|error| fault::target(&error))?.to_string();
            }
            (None, None) => return Err(fault::field("url", "name the url that events are posted to")),
            (None, Some(_)) => {}
        }
        if let Some(types) = self.types {
            let is_fit = |ty: &String| (1..=TEXT_BYTES).contains(&ty.len());
            if types.len() > MOST_TYPES || !types.iter().all(is_fit) {
                let message =
                    format!("name at most {MOST_TYPES} beginnings of types, of 1 to {TEXT_BYTES} bytes");
                return Err(fault::field("types", message));
            }
            settings.types = types;
        }
        if let Some(attributes) = self.attributes {
            let is_fit = |(name, value): (&String, &Value)| {
                (1..=TEXT_BYTES).contains(&name.len())
                    && !name.starts_with("data")
                    && value.as_str().is_some_and(|text| text.len() <= TEXT_BYTES)
            };
            if attributes.len() > MOST_ATTRIBUTES || !attributes.iter().all(is_fit) {
                let message = format!(
                    "name at most {MOST_ATTRIBUTES} attributes, each with a text of {TEXT_BYTES} bytes"
                );
                return Err(fault::field("attributes", message));
            }
            settings.attributes = Value::Object(attributes);
        }
        if let Some(expression) = self.filter {
            if let Some(text) = &expression {
                filter::parse(text).map_err(|error| fault::field("filter", error.to_string()))?;
            }
            settings.filter = expression;
        }
        if let Some(rate) = self.rate {
            if rate.is_some_and(|rate| rate <= 0) {
                return Err(fault::field("rate", "deliveries a minute: above zero, or null for no limit"));
            }
            settings.rate = rate;
        }
        if let Some(concurrency) = self.concurrency {
            if !(1..=i32::from(MOST_CONCURRENCY)).contains(&concurrency) {
                return Err(fault::field(
                    "concurrency",
                    format!("deliveries at work: 1 to {MOST_CONCURRENCY}"),
                ));
            }
            settings.concurrency = concurrency;
        }
        settings.ordered = self.ordered.unwrap_or(settings.ordered);
        Ok(settings)
    }
}

/// An endpoint as it is shown to its owner and to operators: without its secrets.
pub fn shown(endpoint: &Endpoint) -> Value {
    json!({
        "id": endpoint.id,
        "url": endpoint.url,
        "types": endpoint.types,
        "attributes": endpoint.attributes,
        "filter": endpoint.filter,
        "rate": endpoint.rate,
        "allowed_rate": endpoint.allowed_rate,
        "concurrency": endpoint.concurrency,
        "ordered": endpoint.ordered,
        "state": endpoint.state,
        "reason": endpoint.reason,
        "cursor": endpoint.cursor.to_string(),
        "failing_since": endpoint.failing_since,
        "previous_secret_until": endpoint.previous_until,
        "created_at": endpoint.created_at,
    })
}

/// A page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Page {
    /// Only those after this one.
    pub after: Option<String>,
    /// How many at most.
    pub limit: Option<i64>,
}

impl Page {
    /// How many are shown.
    ///
    /// # Errors
    /// 400 where it is out of bounds.
    pub fn limit(page: &Query<Self>, most: i64) -> Result<i64, Problem> {
        match page.limit {
            None => Ok(100.min(most)),
            Some(limit) if (1..=most).contains(&limit) => Ok(limit),
            Some(_) => {
                Err(Problem::field(Code::Malformed, "limit", "invalid", format!("limit is 1 to {most}")))
            }
        }
    }

    /// The position after which it begins.
    ///
    /// # Errors
    /// 400 where it is none.
    pub fn position(&self) -> Result<Option<i64>, Problem> {
        let Some(after) = &self.after else { return Ok(None) };
        let position = after.parse::<i64>().ok().filter(|position| *position >= 0);
        position.map(Some).ok_or_else(|| {
            Problem::field(Code::Malformed, "after", "invalid", "after is a cursor that was answered before")
        })
    }
}
