//! The console's HTTP side: its own listener, who is let in, and which page answers what. What pages show is made by the rest of the crate.

/// What a template is given: `key => value`, a variable by its name alone, and `..` what another made.
macro_rules! given {
    (@ $key:ident) => { serde_json::json!($key) };
    (@ $key:ident $value:expr) => { serde_json::json!($value) };
    ($($key:ident $(=> $value:expr)?),* $(, .. $rest:expr)? $(,)?) => {{
        let given = serde_json::Map::from_iter([$((stringify!($key).to_owned(), given!(@ $key $($value)?))),*]);
        $(let given = { let mut rest: serde_json::Map<String, serde_json::Value> = $rest; rest.extend(given); rest };)?
        given
    }};
}

mod account_pages;
mod acts;
mod api;
mod dead;
mod described;
mod fault;
mod form;
mod guard;
mod live;
mod login;
mod mail_pages;
mod pages;
mod providers;
mod views;
mod webhooks;

use std::{sync::Arc, time::Duration};

use actix_web::{
    App as Application, Error, HttpServer,
    body::{BoxBody, MessageBody},
    dev::{Server, ServiceRequest, ServiceResponse},
    middleware::{Next, from_fn},
    web::{self, Data, ServiceConfig},
};
use orrery_service::Installation;
use orrery_store::Pool;
use orrery_supervise::{Shutdown, Supervisor, clock::Clock, random::Random};
use tokio::sync::Semaphore;

pub use pages::Pages;
pub use views::Checks;

use crate::{
    access::{Access, Pass},
    accounts::Accounts,
    audit::{Actor, Face},
    config::Config,
    jobs::Jobs,
    observer::Latest,
    operator::Operator,
    processes::Others,
    snapshot::Snapshot,
    store::Sessions,
};

/// What pages stand on.
pub struct App {
    /// The settings.
    pub config: Config,
    /// Passes.
    pub access: Access,
    /// Which links are used up and which sessions ended.
    pub sessions: Sessions,
    /// The templates.
    pub pages: Pages,
    /// What was seen last.
    pub latest: Latest,
    /// Redrives and drops.
    pub jobs: Jobs,
    /// Connections for pages.
    pub pool: Pool,
    /// Connections for jobs and exports.
    pub job_pool: Pool,
    /// The installation as it is configured.
    pub installation: Installation,
    /// Other processes.
    pub others: Others,
    /// This process's actors.
    pub supervisor: Supervisor,
    /// Autha's admin API.
    pub accounts: Accounts,
    /// How long what is redriven is wanted.
    pub event_lifetime: Duration,
    /// Places of those who watch.
    pub viewers: Arc<Semaphore>,
    /// The last lines of `orrery check`.
    pub checked: Checks,
    /// The runtime that owns every client.
    pub main: tokio::runtime::Handle,
    /// The end.
    pub shutdown: Shutdown,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
}

impl App {
    /// What was seen last.
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.latest.borrow().clone()
    }

    /// Whoever has this session, acting.
    fn operator(&self, session: &Pass) -> Operator {
        let actor = Actor { name: session.actor.clone(), face: Face::Console };
        Operator::new(self.job_pool.clone(), self.random.clone(), actor)
    }

    /// The names that dead letters can be sent to.
    fn letter_names(&self) -> Vec<&'static str> {
        let services = &self.installation.services;
        let handlers = services.iter().flat_map(|service| service.handlers.iter().map(|spec| spec.name));
        handlers
            .chain(services.iter().flat_map(|service| service.bridges.iter().map(|spec| spec.queue)))
            .collect()
    }
}

/// The trace of a request. Browsers have no say in what is recorded.
async fn trace(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(app) = request.app_data::<Data<App>>().cloned() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    orrery_web::trace::answer("console", &app.random, true, request, next).await
}

/// The server, bound and not yet run.
///
/// # Errors
/// When the address cannot be bound.
pub fn server(app: App) -> std::io::Result<Server> {
    let listen = app.config.listen;
    let app = Data::new(app);
    let server = HttpServer::new(move || {
        Application::new()
            .app_data(Data::clone(&app))
            .wrap(from_fn(guard::guard))
            .wrap(from_fn(trace))
            .configure(routes)
            .default_service(web::to(|| async {
                Err::<&str, _>(fault::Fault::not_found("there is no such page"))
            }))
    })
    .workers(1)
    .keep_alive(Duration::from_secs(75))
    .client_request_timeout(Duration::from_secs(10))
    .shutdown_timeout(2)
    .disable_signals()
    .bind(listen)
    .map_err(|error| {
        std::io::Error::new(
            error.kind(),
            format!("the console cannot listen on {listen} ({error}): change console.listen"),
        )
    });
    Ok(server?.run())
}

fn routes(config: &mut ServiceConfig) {
    config
        .route("/login", web::get().to(login::page))
        .route("/login", web::post().to(login::log_in))
        .route("/logout", web::post().to(login::log_out))
        .route("/assets/{file}", web::get().to(pages::asset))
        .route("/", web::get().to(views::overview))
        .route("/queues", web::get().to(views::queues))
        .route("/dead", web::get().to(dead::list))
        .route("/dead/export", web::get().to(dead::export))
        .route("/dead/redrive", web::post().to(dead::redrive))
        .route("/dead/drop", web::post().to(dead::drop))
        .route("/dead/{id}", web::get().to(dead::one))
        .route("/jobs", web::get().to(views::jobs))
        .route("/jobs/{id}/stop", web::post().to(acts::stop_job))
        .route("/outbox", web::get().to(views::outbox))
        .route("/outbox/replay", web::post().to(acts::replay))
        .route("/actors", web::get().to(views::actors))
        .route("/actors/restart", web::post().to(acts::restart))
        .route("/replicas", web::get().to(views::replicas))
        .route("/audit", web::get().to(views::audit))
        .route("/start", web::get().to(views::start))
        .route("/mail", web::get().to(mail_pages::list))
        .route("/mail/captured/{name}", web::get().to(mail_pages::captured))
        .route("/mail/captured/{name}/html", web::get().to(mail_pages::captured_html))
        .route("/mail/preview/{name}/{locale}", web::get().to(mail_pages::preview))
        .route("/mail/preview/{name}/{locale}/html", web::get().to(mail_pages::preview_html))
        .route("/accounts", web::get().to(account_pages::list))
        .route("/accounts/login", web::post().to(account_pages::log_in))
        .route("/accounts/logout", web::post().to(account_pages::log_out))
        .route("/accounts/find", web::post().to(account_pages::find))
        .route("/accounts/act", web::post().to(account_pages::act))
        .route("/webhooks", web::get().to(webhooks::list))
        .route("/webhooks/{id}", web::get().to(webhooks::one))
        .route("/webhooks/{id}", web::post().to(webhooks::act))
        .route("/events", web::get().to(described::events))
        .route("/routes", web::get().to(described::routes))
        .route("/live/{page}", web::get().to(live::live))
        .route("/api/providers/{name}", web::get().to(providers::show))
        .route("/api/providers/{name}", web::put().to(providers::put))
        .route("/api/providers/{name}", web::delete().to(providers::remove))
        .route("/api/{facts}", web::get().to(api::facts));
}
