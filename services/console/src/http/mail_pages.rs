//! Captured mails as their recipients see them, and previews of every mail. HTML comes in an answer of its own, for a frame that runs no script and loads nothing.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web::{Data, Path},
};
use orrery_service::{Mails, Preview};

use super::{App, fault::Fault, guard::Session};
use crate::mails;

/// A mail's HTML may have styles of its own and pictures within it, and nothing else; the sandbox takes its scripts, forms and origin.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'; sandbox";

async fn written(app: &App) -> Result<Option<Mails>, Fault> {
    let asked = app.main.spawn((app.installation.mails)()).await.map_err(|error| Fault::broken(&error))?;
    asked.map_err(|why| {
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, why, "Mend the templates that maily is given.")
    })
}

fn unreadable(error: &std::io::Error) -> Fault {
    let what = format!("the folder of captured mails cannot be read: {error}");
    Fault::new(
        StatusCode::SERVICE_UNAVAILABLE,
        what,
        "The console has to run where maily writes its mails, as the same user.",
    )
}

/// What is captured, and what there is to preview.
pub async fn list(app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    let written = written(&app).await?;
    let captured = match written.as_ref().and_then(|mails| mails.captured.as_ref()) {
        Some(folder) => Some(mails::list(folder).await.map_err(|error| unreadable(&error))?),
        None => None,
    };
    let mut previews: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for Preview { name, locale, subject, .. } in written.iter().flat_map(|mails| &mails.previews) {
        match previews.last_mut().filter(|(last, _)| last == name) {
            Some((_, locales)) => locales.push((locale.clone(), subject.clone())),
            None => previews.push((name.clone(), vec![(locale.clone(), subject.clone())])),
        }
    }
    let (mails, more) = captured.map_or((None, false), |(mails, more)| (Some(mails), more));
    let values = given! { has_mail => written.is_some(), mails, more, previews };
    app.page(&session, "mail.html", "mail", values)
}

fn gone() -> Fault {
    Fault::not_found("there is no such mail")
}

async fn read(app: &App, name: &str) -> Result<mails::Mail, Fault> {
    let folder = written(app).await?.and_then(|mails| mails.captured).ok_or_else(gone)?;
    mails::one(&folder, name).await.map_err(|error| unreadable(&error))?.ok_or_else(gone)
}

/// One captured mail.
pub async fn captured(app: Data<App>, session: Session, name: Path<String>) -> Result<HttpResponse, Fault> {
    let mail = read(&app, &name).await?;
    let frame = mail.html.is_some().then(|| format!("/mail/captured/{}/html", encoded(&name)));
    let values = given! { mail, frame, title => "Captured mail" };
    app.page(&session, "one_mail.html", "mail", values)
}

/// Its HTML.
pub async fn captured_html(
    app: Data<App>,
    _session: Session,
    name: Path<String>,
) -> Result<HttpResponse, Fault> {
    let mail = read(&app, &name).await?;
    Ok(framed(mail.html.ok_or_else(gone)?))
}

async fn previewed(app: &App, (name, locale): &(String, String)) -> Result<Preview, Fault> {
    let previews = written(app).await?.map(|mails| mails.previews).unwrap_or_default();
    previews.into_iter().find(|mail| mail.name == *name && mail.locale == *locale).ok_or_else(gone)
}

/// One mail, made of sample data.
pub async fn preview(
    app: Data<App>,
    session: Session,
    which: Path<(String, String)>,
) -> Result<HttpResponse, Fault> {
    let Preview { name, locale, subject, text, .. } = previewed(&app, &which).await?;
    let frame = format!("/mail/preview/{name}/{locale}/html");
    let mail = mails::Mail { subject, text: Some(text), ..mails::Mail::default() };
    let values =
        given! { mail, frame => Some(frame), title => format!("{name} in {locale}, with sample data") };
    app.page(&session, "one_mail.html", "mail", values)
}

/// Its HTML.
pub async fn preview_html(
    app: Data<App>,
    _session: Session,
    which: Path<(String, String)>,
) -> Result<HttpResponse, Fault> {
    Ok(framed(previewed(&app, &which).await?.html))
}

fn framed(html: String) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_FRAME_OPTIONS, "SAMEORIGIN"))
        .content_type("text/html; charset=utf-8")
        .body(html)
}

fn encoded(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect()
}
