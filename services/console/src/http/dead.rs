//! Dead letters: groups, pages by key, one letter with what may be shown of it, and what can be done with one, some or all.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Bytes, Data, Path},
};
use futures_util::stream;
use orrery_config::duration;
use orrery_store::{
    StoreError,
    dead_letters::{
        DROPPED, Filter,
        read::{self, ReasonCount, StoredLetter, Summary},
    },
};
use serde::Serialize;
use uuid::Uuid;

use super::{
    App,
    fault::Fault,
    form::{Act, Fields},
    guard::Session,
    login::see,
    views::{PAGE, told},
};
use crate::{
    batches::{self, Deed},
    letter::View,
    operator::Begun,
    text,
};

/// Letters that are read for groups: the cost is the same for ten thousand letters and for millions.
const AMONG: i64 = 20_000;
/// Groups that are shown.
const GROUPS: i64 = 30;
/// Letters that an export reads at once.
const BATCH: i64 = 200;
/// How fast letters are tried again where nobody says otherwise, a second.
const RATE: u32 = 100;

/// A page of letters.
pub struct Page {
    /// The letters, the last archived first.
    pub letters: Vec<Row>,
    /// After which letter the next page begins.
    pub next: Option<Uuid>,
    /// The groups among the last letters; on the first page only.
    groups: Vec<Group>,
}

/// A letter in a list.
#[derive(Debug, Serialize)]
pub struct Row {
    #[serde(flatten)]
    summary: Summary,
    age: String,
}

#[derive(Debug, Serialize)]
struct Group {
    #[serde(flatten)]
    count: ReasonCount,
    /// The longest part of the reason that is the same in all, to be looked for.
    common: String,
}

/// Which letters the fields mean; a condition that cannot be meant so is a fault.
fn filter(fields: &Fields) -> Result<Filter, Fault> {
    let text = |name: &str| fields.get(name).map(str::to_owned);
    let age = |name: &'static str| {
        let wrong = |_| Fault::wrong(format!("'{name}' must be a duration such as 15min, 24h or 7days"));
        fields.get(name).map(duration).transpose().map_err(wrong)
    };
    Ok(Filter {
        ids: None,
        handler: text("handler"),
        ty: text("type"),
        reason: text("reason"),
        older_than: age("older_than")?,
        newer_than: age("newer_than")?,
        until: None,
    })
}

/// Which letters a form means: those that are ticked, or all that the filter chooses.
fn chosen(fields: &Fields) -> Result<Filter, Fault> {
    match fields.get("which") {
        Some("filter") => filter(fields),
        Some("ids") => {
            let ids: Result<Vec<_>, _> = fields.all("id").into_iter().map(Uuid::parse_str).collect();
            let ids = ids.map_err(|_| Fault::wrong("this is no letter's id"))?;
            if ids.is_empty() {
                return Err(Fault::wrong("no letter is ticked"));
            }
            Ok(Filter { ids: Some(ids), ..Filter::default() })
        }
        _ => Err(Fault::wrong("say which letters: those ticked, or those of the filter")),
    }
}

fn is_all(filter: &Filter) -> bool {
    let Filter { ids, handler, ty, reason, older_than, newer_than, until: _ } = filter;
    ids.is_none()
        && handler.is_none()
        && ty.is_none()
        && reason.is_none()
        && older_than.is_none()
        && newer_than.is_none()
}

/// A page of letters by the fields of a query.
///
/// # Errors
/// When the fields cannot be meant so.
pub async fn page(app: &App, fields: &Fields) -> Result<Result<Page, StoreError>, Fault> {
    let filter = filter(fields)?;
    let after = fields.get("after").map(Uuid::parse_str).transpose();
    let after = after.map_err(|_| Fault::wrong("'after' must be the last id of the page before"))?;
    let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
    let asked = async {
        let mut connection = app.pool.get().await?;
        let mut letters = read::page(&mut connection, &filter, after, limit).await?;
        let more = letters.len() > PAGE;
        letters.truncate(PAGE);
        let groups = match after {
            None => read::recent_reasons(&mut connection, &filter, AMONG, GROUPS).await?,
            Some(_) => Vec::new(),
        };
        let next = letters.last().map(|letter| letter.id).filter(|_| more);
        let row = |summary: Summary| Row { age: text::age(summary.age_seconds), summary };
        let groups = groups.into_iter().map(|count| Group { common: common(&count.reason), count });
        Ok(Page { letters: letters.into_iter().map(row).collect(), next, groups: groups.collect() })
    };
    Ok(asked.await)
}

/// The longest part of a group's reason that is the same in all of its letters.
fn common(reason: &str) -> String {
    reason.split('*').max_by_key(|part| part.len()).unwrap_or_default().trim().to_owned()
}

/// The list.
pub async fn list(request: HttpRequest, app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    let fields = Fields::parse(request.query_string().as_bytes());
    let (page, away) = told(page(&app, &fields).await?)?;
    let asked = ["handler", "type", "reason", "older_than", "newer_than"];
    let query: Vec<_> = asked.iter().filter_map(|name| Some((*name, fields.get(name)?))).collect();
    let linked = |after: Option<Uuid>| {
        let mut link = url::form_urlencoded::Serializer::new(String::new());
        link.extend_pairs(query.iter().copied());
        if let Some(after) = after {
            link.append_pair("after", &after.to_string());
        }
        link.finish()
    };
    let next = page.as_ref().and_then(|page| page.next).map(|id| linked(Some(id)));
    let values = given! {
        away,
        letters => page.as_ref().map(|page| &page.letters),
        groups => page.as_ref().map(|page| &page.groups),
        next,
        is_first => fields.get("after").is_none(),
        export => linked(None),
        is_filtered => !query.is_empty(),
        among => AMONG,
        rate => RATE,
        handlers => app.letter_names(),
        filter => given! {
            handler => fields.get("handler"), ty => fields.get("type"), reason => fields.get("reason"),
            older_than => fields.get("older_than"), newer_than => fields.get("newer_than"),
        },
    };
    app.page(&session, "dead.html", "dead", values)
}

/// One letter.
pub async fn one(app: Data<App>, session: Session, id: Path<String>) -> Result<HttpResponse, Fault> {
    let gone = || Fault::not_found("there is no such dead letter; it may have been tried again or dropped");
    let id = Uuid::parse_str(&id).map_err(|_| gone())?;
    let mut connection = app.pool.get().await?;
    let filter = Filter { ids: Some(vec![id]), ..Filter::default() };
    let letters = read::letters(&mut connection, &filter, None, 1).await?;
    std::mem::drop(connection);
    let letter = letters.first().ok_or_else(gone)?;
    let view = View::shown(letter, None, &app.installation.bridge_queues);
    let data = view.event.as_ref().map(|event| event.get("data").or_else(|| event.get("data_base64")));
    let data = data.map(|data| text::pretty(&data)).transpose().map_err(|error| Fault::broken(&error))?;
    let headers: Vec<_> = match view.hidden {
        None => own_headers(letter),
        Some(_) => Vec::new(),
    };
    let trace = letter.summary.trace_id.as_deref().filter(|trace| is_trace(trace));
    let values = given! {
        letter => &letter.summary,
        age => text::age(letter.summary.age_seconds),
        causes => &letter.causes,
        archived_at => letter.archived_at,
        size => letter.body.len(),
        content_type => &letter.content_type,
        source => view.hidden.is_none().then_some(letter.source.as_deref()).flatten(),
        event_id => view.hidden.is_none().then_some(letter.event_id.as_deref()).flatten(),
        hidden => view.hidden,
        not_an_event => &view.not_an_event,
        headers,
        data,
        trace_url => trace.zip(app.config.trace_url.as_ref()).map(|(trace, url)| url.replace("{trace}", trace)),
        can_redrive => app.letter_names().contains(&letter.summary.handler.as_str()),
    };
    app.page(&session, "letter.html", "dead", values)
}

fn own_headers(letter: &StoredLetter) -> Vec<(String, String)> {
    let headers = letter.headers.as_object().into_iter().flatten();
    headers
        .filter(|(name, _)| !DROPPED.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect()
}

/// A trace's id comes with the message, from anybody.
fn is_trace(trace: &str) -> bool {
    trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Has letters tried again, after a while in which it can be undone.
pub async fn redrive(app: Data<App>, Act { session, fields }: Act) -> Result<HttpResponse, Fault> {
    let filter = chosen(&fields)?;
    let rate = match fields.get("rate") {
        None => RATE,
        Some(rate) => rate
            .parse()
            .ok()
            .filter(|rate| (1..=10_000).contains(rate))
            .ok_or_else(|| Fault::wrong("'rate' must be 1 to 10000 letters a second"))?,
    };
    let deed = (Deed::Redrive(app.event_lifetime), Some(rate));
    take(&app, &session, filter, deed).await
}

async fn take(
    app: &App,
    session: &crate::access::Pass,
    filter: Filter,
    deed: (Deed, Option<u32>),
) -> Result<HttpResponse, Fault> {
    let (operator, id) = (app.operator(session), app.random.uuid_v4());
    let handlers = app.letter_names();
    app.jobs.take(operator, (session.actor.as_str(), handlers.as_slice()), filter, deed, id).await?;
    Ok(see("/jobs"))
}

/// Drops letters for good: asks first.
pub async fn drop(app: Data<App>, Act { session, fields }: Act) -> Result<HttpResponse, Fault> {
    let filter = chosen(&fields)?;
    if fields.get("confirm") == Some("drop") {
        return take(&app, &session, filter, (Deed::Drop, None)).await;
    }
    let (by_handler, _) = batches::chosen(&app.job_pool, &filter).await?;
    let total: u64 = by_handler.iter().map(|(_, letters)| letters).sum();
    if total == 0 {
        return Err(Fault::new(StatusCode::CONFLICT, "no dead letter matches", "Look at the list again."));
    }
    let names = ["which", "handler", "type", "reason", "older_than", "newer_than"];
    let mut kept: Vec<_> = names.iter().filter_map(|name| Some((*name, fields.get(name)?))).collect();
    kept.extend(fields.all("id").into_iter().map(|id| ("id", id)));
    let values = given! { total, by_handler, kept, is_all => is_all(&filter), undo_seconds => app.config.undo.as_secs() };
    app.page(&Session(session), "drop.html", "dead", values)
}

/// An export at work.
struct Export {
    app: Data<App>,
    filter: Filter,
    after: Option<Uuid>,
    done: u64,
    begun: Option<Begun>,
}

/// Letters as JSON lines, with what may be shown of them; read by key, so that a million needs no more memory than a page.
pub async fn export(request: HttpRequest, app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    let fields = Fields::parse(request.query_string().as_bytes());
    let filter = filter(&fields)?;
    let mut connection = app.pool.get().await?;
    let until = read::now(&mut connection).await?;
    std::mem::drop(connection);
    let filter = Filter { until: Some(until), ..filter };
    let begun = app.operator(&session.0).begin("dead.export", &crate::operator::told(&filter, None)).await?;
    let export = Export { app, filter, after: None, done: 0, begun: Some(begun) };
    let lines = stream::try_unfold(export, |mut export| async move {
        let more = export.next().await?;
        Ok::<_, StoreError>(more.map(|lines| (Bytes::from(lines), export)))
    });
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"dead-letters.jsonl\""))
        .streaming(lines))
}

impl Export {
    async fn next(&mut self) -> Result<Option<String>, StoreError> {
        if self.begun.is_none() {
            return Ok(None);
        }
        let mut connection = self.app.job_pool.get().await?;
        let letters = read::letters(&mut connection, &self.filter, self.after, BATCH).await?;
        std::mem::drop(connection);
        let mut lines = String::new();
        for letter in &letters {
            let view = View::shown(letter, None, &self.app.installation.bridge_queues);
            if let Ok(line) = text::json(&view) {
                lines.push_str(&line);
                lines.push('\n');
                self.done += 1;
            }
        }
        self.after = letters.last().map(|letter| letter.summary.id);
        if letters.is_empty() {
            if let Some(begun) = self.begun.take() {
                begun.end(&format!("exported {}", self.done)).await?;
            }
            return Ok(None);
        }
        Ok(Some(lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_chooses_nothing() {
        let chosen = |text: &str| super::chosen(&Fields::parse(text.as_bytes()));
        assert!(chosen("").is_err() && chosen("which=ids").is_err() && chosen("which=all").is_err());
        assert!(chosen("which=ids&id=x").is_err());
        assert!(chosen("which=filter").is_ok_and(|filter| is_all(&filter)));
        assert!(chosen("which=filter&older_than=soon").is_err());
        let two = chosen(
            "which=ids&id=01a1fd3c-6702-7c36-a8f7-fab7eeb195b2&id=01a1fd3c-6702-7c36-a8f7-fab7eeb195b3",
        );
        assert!(two.is_ok_and(|filter| filter.ids.is_some_and(|ids| ids.len() == 2)));
    }

    #[test]
    fn what_is_no_trace_makes_no_address() {
        assert!(is_trace("4bf92f3577b34da6a3ce929d0e0e4736"));
        for hostile in [
            "",
            "javascript:alert(1)",
            "4bf92f3577b34da6a3ce929d0e0e473g",
            "../../../../../../../../../../../x",
        ] {
            assert!(!is_trace(hostile), "{hostile}");
        }
    }
}
