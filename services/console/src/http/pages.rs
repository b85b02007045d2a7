//! The templates, compiled once, what every page is given, and the few files beside them. All are in the binary.

use actix_web::{
    HttpResponse,
    http::header,
    web::{Data, Path},
};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, value::Serde};
use orrery_seal::sha256;

use super::{App, fault::Fault, guard::Session};
use crate::{access::Pass, text};

macro_rules! templates {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../pages/", $name)))),+]
    };
}

const TEMPLATES: &[(&str, &str)] = templates![
    "base.html",
    "login.html",
    "fault.html",
    "overview.html",
    "queues.html",
    "dead.html",
    "letter.html",
    "drop.html",
    "jobs.html",
    "outbox.html",
    "actors.html",
    "replicas.html",
    "audit.html",
    "start.html",
    "mail.html",
    "one_mail.html",
    "accounts.html",
    "account.html",
    "webhooks.html",
    "webhook.html",
    "events.html",
    "routes.html",
    "live_overview.html",
    "live_chart.html",
    "live_queues.html",
    "live_jobs.html",
    "live_outbox.html",
    "live_actors.html",
    "live_replicas.html",
];
const STYLE: &str = include_str!("../pages/console.css");
const SCRIPT: &str = include_str!("../pages/console.js");
const ICON: &str = include_str!("../pages/icon.svg");

/// What a template is given.
pub type Given = serde_json::Map<String, serde_json::Value>;

/// The compiled templates.
pub struct Pages {
    environment: Environment<'static>,
    /// Changes with the style sheet and the script, so that a browser may keep them for ever.
    version: String,
}

impl Pages {
    /// Compiles them.
    ///
    /// # Errors
    /// When one is broken.
    pub fn new() -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.add_filter("shown", |text: String| text::safe(&text));
        environment.add_filter("num", num);
        environment.add_filter("rate", rate);
        environment.add_filter("age", |seconds: f64| text::age(seconds));
        environment.add_filter("time", time);
        environment.add_filter("breaks", breaks);
        for (name, source) in TEMPLATES {
            environment.add_template(name, source)?;
        }
        let version = hex::encode(sha256(format!("{STYLE}{SCRIPT}{ICON}").as_bytes()));
        Ok(Self { environment, version: version.chars().take(12).collect() })
    }

    /// A page's text.
    ///
    /// # Errors
    /// When the template asks for what it was not given.
    pub fn render(&self, name: &str, given: Given) -> Result<String, Fault> {
        let given = Value::from(Serde(given));
        let rendered = self.environment.get_template(name).and_then(|template| template.render(given));
        rendered.map_err(|error| Fault::broken(&error))
    }
}

/// What every page is given, with `values` of its own.
pub fn context_of(app: &App, pass: Option<&Pass>, current: &str, values: Given) -> Given {
    let snapshot = app.snapshot();
    let form = pass.and_then(|pass| app.access.form_token(pass).ok()).unwrap_or_default();
    given! {
        version => app.pages.version.as_str(),
        current,
        actor => pass.map(|pass| pass.actor.as_str()).unwrap_or_default(),
        form,
        level => snapshot.as_ref().map(|snapshot| snapshot.level),
        dead_total => snapshot.as_ref().and_then(|snapshot| snapshot.dead),
        every_seconds => app.config.poll_every.as_secs(),
        ..values
    }
}

impl App {
    /// A page for somebody who is logged in.
    ///
    /// # Errors
    /// When its template is broken.
    pub fn page(
        &self,
        session: &Session,
        name: &str,
        current: &str,
        values: Given,
    ) -> Result<HttpResponse, Fault> {
        let page = self.pages.render(name, context_of(self, Some(&session.0), current, values))?;
        Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page))
    }
}

/// The files beside the pages.
pub async fn asset(app: Data<App>, file: Path<String>) -> Result<HttpResponse, Fault> {
    let (ty, content) = match file.as_str() {
        "console.css" => ("text/css; charset=utf-8", STYLE),
        "console.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Err(Fault::not_found("there is no such file")),
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "private, max-age=31536000, immutable"))
        .insert_header((header::ETAG, format!("\"{}\"", app.pages.version)))
        .content_type(ty)
        .body(content))
}

/// A number in groups of three; a dash for what is not known.
fn num(value: Value) -> String {
    u64::try_from(value).map_or_else(|_| "–".to_owned(), text::grouped)
}

/// A number a second.
fn rate(value: Value) -> String {
    f64::try_from(value).map_or_else(|_| "–".to_owned(), |rate| format!("{rate:.1}"))
}

/// A time as serde writes it, to the second.
fn time(value: Value) -> String {
    let text = value.as_str().unwrap_or_default();
    match chrono::DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.format("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => "–".to_owned(),
    }
}

/// Lets a long name of dots and dashes break where it may: after each of them.
fn breaks(text: String) -> Value {
    let escaped = minijinja::HtmlEscape(&text::safe(&text)).to_string();
    Value::from_safe_string(escaped.replace('.', ".<wbr>").replace('_', "_<wbr>"))
}
