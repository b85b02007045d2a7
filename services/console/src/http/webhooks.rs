//! Third parties and their endpoints: how far each is, what it did not take, and what can be done about that.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use orrery_service::{GivenUp, Partner, Webhook, Webhooks};
use serde::Serialize;
use uuid::Uuid;

use super::{
    App,
    fault::Fault,
    form::{Act, Fields},
    guard::Session,
    login::see,
    views::{PAGE, number, told},
};

/// Endpoints that are shown; those that are not well come first.
const ENDPOINTS: i64 = 200;

/// What the page has.
#[derive(Serialize)]
pub struct Listed {
    /// A page of third parties.
    pub partners: Vec<Partner>,
    /// The name after which the next page begins.
    pub next_after: Option<String>,
    /// Endpoints, those that are not well first.
    pub endpoints: Vec<Webhook>,
}

fn webhooks(app: &App) -> Result<Arc<dyn Webhooks>, Fault> {
    let found = app.installation.webhooks.clone();
    found.ok_or_else(|| Fault::not_found("no enabled service delivers to third parties: see 'services'"))
}

/// What there is, by the fields of a query.
///
/// # Errors
/// When the database is away or refuses.
pub async fn listed(app: &App, fields: &Fields) -> Result<Result<Listed, orrery_store::StoreError>, Fault> {
    let webhooks = webhooks(app)?;
    let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
    let asked = async {
        let after = fields.get("after").unwrap_or_default();
        let mut partners = webhooks.partners(&app.pool, after, limit).await?;
        let more = partners.len() > PAGE;
        partners.truncate(PAGE);
        let next_after = partners.last().map(|partner| partner.name.clone()).filter(|_| more);
        let endpoints = webhooks.endpoints(&app.pool, fields.get("partner"), ENDPOINTS).await?;
        Ok(Listed { partners, next_after, endpoints })
    };
    Ok(asked.await)
}

/// Who there is, and how their endpoints are.
pub async fn list(request: HttpRequest, app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    if app.installation.webhooks.is_none() {
        let values =
            given! { is_enabled => false, away => None::<()>, listed => None::<()>, partner => None::<()> };
        return app.page(&session, "webhooks.html", "webhooks", values);
    }
    let fields = Fields::parse(request.query_string().as_bytes());
    let (listed, away) = told(listed(&app, &fields).await?)?;
    let values = given! { is_enabled => true, away, listed, partner => fields.get("partner") };
    app.page(&session, "webhooks.html", "webhooks", values)
}

/// What one endpoint has not taken for good.
#[derive(Serialize)]
struct Page {
    webhook: Webhook,
    given_up: Vec<GivenUp>,
    next: Option<i64>,
}

/// One endpoint.
pub async fn one(
    request: HttpRequest,
    app: Data<App>,
    session: Session,
    id: Path<String>,
) -> Result<HttpResponse, Fault> {
    let unknown = || Fault::not_found("there is no such endpoint");
    let id = Uuid::parse_str(&id).map_err(|_| unknown())?;
    let fields = Fields::parse(request.query_string().as_bytes());
    let after = fields.get("after").map_or(Ok(0), str::parse);
    let after = after.map_err(|_| Fault::wrong("'after' must be the last position of the page before"))?;
    let webhooks = webhooks(&app)?;
    let webhook = webhooks.endpoint(&app.pool, id).await?.ok_or_else(unknown)?;
    let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
    let mut given_up = webhooks.given_up(&app.pool, id, after, limit).await?;
    let more = given_up.len() > PAGE;
    given_up.truncate(PAGE);
    let next = given_up.last().map(|last| last.position).filter(|_| more);
    let page = Page { webhook, given_up, next };
    app.page(&session, "webhook.html", "webhooks", given! { page, replayed => number(&fields, "replayed") })
}

/// What an operator does to an endpoint.
#[derive(Clone, Copy)]
enum Deed {
    Replay(Option<i64>),
    Set(bool),
}

impl Deed {
    fn chosen(fields: &Fields) -> Result<Self, Fault> {
        match (fields.get("action"), fields.get("position")) {
            (Some("replay"), None) => Ok(Self::Replay(None)),
            (Some("replay"), Some(position)) => {
                let position = position.parse().map_err(|_| Fault::wrong("this is no position"))?;
                Ok(Self::Replay(Some(position)))
            }
            (Some("enable"), None) => Ok(Self::Set(true)),
            (Some("disable"), None) => Ok(Self::Set(false)),
            _ => Err(Fault::wrong("this is nothing that can be done to an endpoint")),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Replay(_) => "webhook.replay",
            Self::Set(true) => "webhook.enable",
            Self::Set(false) => "webhook.disable",
        }
    }
}

/// Has deliveries tried again, or delivers no more, or again.
pub async fn act(
    app: Data<App>,
    Act { session, fields }: Act,
    id: Path<String>,
) -> Result<HttpResponse, Fault> {
    let id = Uuid::parse_str(&id).map_err(|_| Fault::not_found("there is no such endpoint"))?;
    let (deed, webhooks) = (Deed::chosen(&fields)?, webhooks(&app)?);
    let (operator, pool) = (app.operator(&session), app.job_pool.clone());
    let work = async move {
        let target = match deed {
            Deed::Replay(Some(position)) => format!("{id} at {position}"),
            _ => id.to_string(),
        };
        let begun = operator.begin(deed.name(), &target).await?;
        let done = match deed {
            Deed::Replay(position) => webhooks.replay(&pool, id, position).await,
            Deed::Set(enabled) => webhooks.set(&pool, id, enabled).await.map(usize::from),
        };
        let outcome = match (&done, deed) {
            (Err(_), _) => "failed".to_owned(),
            (Ok(deliveries), Deed::Replay(_)) => format!("replayed {deliveries}"),
            (Ok(0), Deed::Set(_)) => "nothing to change".to_owned(),
            (Ok(_), Deed::Set(true)) => "enabled".to_owned(),
            (Ok(_), Deed::Set(false)) => "disabled".to_owned(),
        };
        begun.end(&outcome).await?;
        done
    };
    // A click that is taken back must not leave the log without an end.
    let done = app.main.spawn(work).await.map_err(|error| Fault::broken(&error))??;
    Ok(see(&match deed {
        Deed::Replay(_) => format!("/webhooks/{id}?replayed={done}"),
        Deed::Set(_) => format!("/webhooks/{id}"),
    }))
}
