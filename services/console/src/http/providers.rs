//! The admin API of service providers: JSON, with a bearer token of `orrery console token --admin`. What a provider is lives in `crate::providers`.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Bytes, Data, Path},
};

use super::{
    App,
    fault::Fault,
    guard::{Admin, Session},
};
use crate::providers::{Change, ProviderError};

/// The largest body.
const LIMIT: usize = 16 * 1024;

impl From<ProviderError> for Fault {
    fn from(error: ProviderError) -> Self {
        let told = error.to_string();
        match error {
            ProviderError::Store(error) => error.into(),
            ProviderError::Unknown => Self::not_found(&told),
            ProviderError::Taken | ProviderError::DomainTaken(_) => {
                Self::new(StatusCode::CONFLICT, told, "Look at /api/providers.json.")
            }
            ProviderError::Field(..) => Self::wrong(told),
        }
    }
}

/// One, with what it used.
pub async fn show(app: Data<App>, session: Session, name: Path<String>) -> Result<HttpResponse, Fault> {
    Ok(HttpResponse::Ok().json(app.operator(&session.0).provider(&name).await?))
}

/// Makes one, or changes the one that is there.
pub async fn put(
    app: Data<App>,
    program: Admin,
    name: Path<String>,
    body: Bytes,
) -> Result<HttpResponse, Fault> {
    if body.len() > LIMIT {
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long", "Send less."));
    }
    let change: Change = serde_json::from_slice(&body)
        .map_err(|error| Fault::wrong(format!("the body is no JSON of a provider: {error}")))?;
    let operator = app.operator(&program.0);
    let work = async move {
        let is_new = match operator.provider(&name).await {
            Ok(_) => false,
            Err(ProviderError::Unknown) => true,
            Err(error) => return Err(error),
        };
        if is_new {
            operator.add_provider(&name, change).await?;
        } else {
            operator.set_provider(&name, change).await?;
        }
        Ok((is_new, operator.provider(&name).await?))
    };
    // A request that is taken back must not leave the log without an end.
    let (is_new, shown) = app.main.spawn(work).await.map_err(|error| Fault::broken(&error))??;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(HttpResponse::build(status).json(shown))
}

/// Removes one.
pub async fn remove(app: Data<App>, program: Admin, name: Path<String>) -> Result<HttpResponse, Fault> {
    let operator = app.operator(&program.0);
    let work = async move { operator.remove_provider(&name).await };
    app.main.spawn(work).await.map_err(|error| Fault::broken(&error))??;
    Ok(HttpResponse::NoContent().finish())
}
