//! Whether `openapi.yaml` describes what is served: the tables of the gateway and of every service, which no other crate sees together.

use std::collections::BTreeSet;

use crate::services::SERVICES;

/// A pattern without the names of its placeholders, which no client sees.
fn plain(path: &str) -> Vec<String> {
    path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }.to_owned()).collect()
}

#[test]
fn the_tables_are_what_openapi_describes() {
    let document: serde_json::Value = yaml_serde::from_str(orrery_schemas::OPENAPI).unwrap();
    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (plain(path), method.to_uppercase()))
        })
        .collect();
    let services = SERVICES.iter().flat_map(|definition| definition.routes);
    let listed: BTreeSet<_> = orrery_gateway::routes::ROUTES
        .iter()
        .chain(services)
        .map(|route| (plain(route.pattern), route.method.to_string()))
        .collect();
    assert_eq!(listed, described);
}
