//! A service of this process, called without a socket: its application is built once in each worker, and gets the request as it was parsed here.

use std::{rc::Rc, sync::Arc};

use actix_http::Request;
use actix_service::{
    IntoServiceFactory,
    boxed::{self, BoxService},
};
use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    body::BoxBody,
    dev::{AppConfig, Payload, Service, ServiceFactory, ServiceResponse},
    error::PayloadError,
    http::{Method, header::HeaderMap},
};
use futures_util::StreamExt;
use orrery_service::Local;
use tokio::sync::OnceCell;

use crate::body::{ClientBody, Framing};

type Called = BoxService<Request, ServiceResponse<BoxBody>, Error>;

/// A worker's own instance of a service of this process.
pub struct Instance {
    local: Local,
    built: OnceCell<Rc<Called>>,
}

/// Why a service of this process gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// It has not been started.
    #[error("the service is not started yet")]
    NotStarted,
    /// Its application cannot be built.
    #[error("the service's application cannot be built")]
    Unbuildable,
    /// Its middleware failed.
    #[error("the service failed: {0}")]
    Failed(Error),
}

impl Instance {
    /// An instance that is built with its first request.
    pub fn new(local: Local) -> Self {
        Self { local, built: OnceCell::new() }
    }

    /// Calls the service.
    ///
    /// # Errors
    /// When it is not started or fails as a whole; its own problems are answers.
    pub async fn call(
        &self,
        request: &HttpRequest,
        method: &Method,
        target: &str,
        headers: HeaderMap,
        framing: Framing,
        body: &ClientBody,
    ) -> Result<HttpResponse, LocalError> {
        let payload = match framing {
            Framing::None => Payload::None,
            Framing::Sized(_) | Framing::Chunked => {
                let chunks = body
                    .clone()
                    .map(|chunk| chunk.map_err(|fault| PayloadError::Io(std::io::Error::other(fault))));
                Payload::Stream { payload: chunks.boxed_local() }
            }
        };
        self.call_with(request, method, target, headers, payload).await
    }

    /// Calls the service with a body as it comes from the client.
    ///
    /// # Errors
    /// As `call`.
    pub async fn call_with(
        &self,
        request: &HttpRequest,
        method: &Method,
        target: &str,
        headers: HeaderMap,
        payload: Payload,
    ) -> Result<HttpResponse, LocalError> {
        let called = self.built.get_or_try_init(|| self.build(request.app_config())).await?;
        let mut inner = Request::with_payload(payload);
        let head = inner.head_mut();
        head.method = method.clone();
        head.uri = target.parse().map_err(|_| LocalError::Unbuildable)?;
        head.version = request.version();
        head.headers = headers;
        let answer = called.call(inner).await.map_err(LocalError::Failed)?;
        Ok(answer.into_parts().1)
    }

    async fn build(&self, config: &AppConfig) -> Result<Rc<Called>, LocalError> {
        let application = Arc::clone(self.local.get().ok_or(LocalError::NotStarted)?);
        let app = App::new().configure(|config| application(config));
        let service =
            app.into_factory().new_service(config.clone()).await.map_err(|()| LocalError::Unbuildable)?;
        Ok(Rc::new(boxed::service(service)))
    }
}
