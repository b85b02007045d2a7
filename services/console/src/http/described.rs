//! The messages (AsyncAPI) and the public routes (OpenAPI), as pages made of the descriptions in the binary.

use actix_web::{HttpResponse, web::Data};
use orrery_schemas::{ASYNCAPI, OPENAPI};
use serde::Serialize;
use serde_json::Value;

use super::{App, fault::Fault, guard::Session};

/// A message, with who sends and who receives it.
#[derive(Serialize)]
struct Message {
    address: String,
    title: String,
    description: String,
    is_queue: bool,
    sends: Vec<String>,
    receives: Vec<String>,
}

/// A route.
#[derive(Serialize)]
struct Route {
    method: String,
    path: String,
    summary: String,
    security: String,
    answers: Vec<(String, String)>,
}

/// The routes under one tag.
#[derive(Serialize)]
struct Tag {
    name: String,
    description: String,
    routes: Vec<Route>,
}

fn read(text: &str) -> Result<Value, Fault> {
    yaml_serde::from_str(text).map_err(|error| Fault::broken(&error))
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn entries<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(name).and_then(Value::as_object).into_iter().flatten()
}

/// The last part of a reference.
fn referred(value: &Value) -> Option<&str> {
    value.get("$ref")?.as_str()?.rsplit('/').next()
}

fn messages(document: &Value) -> Vec<Message> {
    let operations: Vec<_> = entries(document, "operations").map(|(_, operation)| operation).collect();
    let told = |channel: &str, action: &str| -> Vec<String> {
        let of = |operation: &&&Value| {
            text(operation, "action") == action
                && operation.get("channel").and_then(referred) == Some(channel)
        };
        operations.iter().filter(of).map(|operation| text(operation, "summary")).collect()
    };
    let title = |channel: &Value| {
        let message = entries(channel, "messages").find_map(|(_, message)| referred(message))?;
        Some(text(document.get("components")?.get("messages")?.get(message)?, "title"))
    };
    entries(document, "channels")
        .map(|(name, channel)| Message {
            address: text(channel, "address"),
            title: title(channel).unwrap_or_default(),
            description: text(channel, "description"),
            is_queue: channel.pointer("/bindings/amqp/is").and_then(Value::as_str) == Some("queue"),
            sends: told(name, "send"),
            receives: told(name, "receive"),
        })
        .collect()
}

fn tags(document: &Value) -> Vec<Tag> {
    let mut tags: Vec<_> = document
        .get("tags")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|tag| Tag { name: text(tag, "name"), description: text(tag, "description"), routes: Vec::new() })
        .collect();
    for (path, item) in entries(document, "paths") {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let tag = operation.pointer("/tags/0").and_then(Value::as_str).unwrap_or("others");
            let answers = entries(operation, "responses");
            let needs: Vec<_> = match operation.get("security").or_else(|| document.get("security")) {
                Some(Value::Array(ways)) => {
                    ways.iter().filter_map(|way| way.as_object()?.keys().next().cloned()).collect()
                }
                _ => Vec::new(),
            };
            let route = Route {
                method: method.to_uppercase(),
                path: path.clone(),
                summary: text(operation, "summary"),
                security: needs.join(" or "),
                answers: answers
                    .map(|(status, answer)| (status.clone(), text(answer, "description")))
                    .collect(),
            };
            match tags.iter_mut().find(|known| known.name == tag) {
                Some(known) => known.routes.push(route),
                None => {
                    tags.push(Tag { name: tag.to_owned(), description: String::new(), routes: vec![route] })
                }
            }
        }
    }
    tags.retain(|tag| !tag.routes.is_empty());
    tags
}

/// Every message.
pub async fn events(app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    let document = read(ASYNCAPI)?;
    let description = document.pointer("/info/description").and_then(Value::as_str).unwrap_or_default();
    let values = given! { messages => messages(&document), description, source => ASYNCAPI };
    app.page(&session, "events.html", "events", values)
}

/// Every public route.
pub async fn routes(app: Data<App>, session: Session) -> Result<HttpResponse, Fault> {
    let document = read(OPENAPI)?;
    let values = given! { tags => tags(&document), source => OPENAPI };
    app.page(&session, "routes.html", "routes", values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_a_sender_and_every_route_a_line() {
        let messages = messages(&read(ASYNCAPI).unwrap());
        assert!(messages.iter().any(|message| message.address == "maily.email" && message.is_queue));
        for message in &messages {
            assert!(!message.sends.is_empty() && !message.title.is_empty(), "{}", message.address);
        }
        let tags = tags(&read(OPENAPI).unwrap());
        for route in tags.iter().flat_map(|tag| &tag.routes) {
            assert!(
                !route.summary.is_empty() && !route.answers.is_empty(),
                "{} {}",
                route.method,
                route.path
            );
        }
    }
}
