//! Whether `openapi.yaml` is sound in itself and has the catalogue of problems. Whether it says what a running system does is
//! checked in `tests`.

use std::collections::BTreeSet;

use orrery_schemas::{OPENAPI, problems::Code};
use serde_json::{Value, json};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn document() -> Result<Value, yaml_serde::Error> {
    yaml_serde::from_str(OPENAPI)
}

/// A schema of the document, with all components that it may refer to.
fn schema(document: &Value, reference: &str) -> Value {
    json!({"$ref": reference, "components": document["components"]})
}

fn walk<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Value)) {
    visit(value);
    match value {
        Value::Object(object) => object.values().for_each(|value| walk(value, visit)),
        Value::Array(array) => array.iter().for_each(|value| walk(value, visit)),
        _ => {}
    }
}

#[test]
fn problem_types_are_the_catalogue() -> Outcome {
    let document = document()?;
    let listed = document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"].as_array();
    let listed: Vec<_> = listed.ok_or("no enum")?.iter().filter_map(Value::as_str).collect();
    assert_eq!(listed, Code::ALL.map(Code::uri));
    Ok(())
}

#[test]
fn references_lead_somewhere_and_components_are_used() -> Outcome {
    let document = document()?;
    let mut used = BTreeSet::new();
    walk(&document, &mut |value| {
        used.extend(value.get("$ref").and_then(Value::as_str));
    });
    for reference in &used {
        let pointer = reference.strip_prefix('#').ok_or("a reference to elsewhere")?;
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for kind in ["schemas", "responses", "headers", "parameters"] {
        for name in document["components"][kind].as_object().ok_or("no components")?.keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(used.contains(reference.as_str()), "{reference} is not used");
        }
    }
    Ok(())
}

#[test]
fn examples_fit_their_schemas() -> Outcome {
    let document = document()?;
    let mut checked = 0;
    for (name, component) in document["components"]["schemas"].as_object().ok_or("no schemas")? {
        let schema = schema(&document, &format!("#/components/schemas/{name}"));
        let validator = jsonschema::options().should_validate_formats(true).build(&schema)?;
        if let Some(example) = component.get("example") {
            let faults: Vec<_> = validator.iter_errors(example).map(|fault| fault.to_string()).collect();
            assert_eq!(faults, Vec::<String>::new(), "{name}");
            checked += 1;
        }
    }
    let mut contents = Vec::new();
    walk(&document["paths"], &mut |value| {
        if let (Some(example), Some(reference)) = (value.get("example"), value.pointer("/schema/$ref")) {
            contents.push((example, reference));
        }
    });
    for (example, reference) in contents {
        let schema = schema(&document, reference.as_str().ok_or("no reference")?);
        let validator = jsonschema::options().should_validate_formats(true).build(&schema)?;
        assert!(validator.is_valid(example), "{example} is no {reference}");
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} examples");
    Ok(())
}

#[test]
fn every_operation_has_an_id_of_its_own_and_path_parameters_are_described() -> Outcome {
    let document = document()?;
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().ok_or("no paths")? {
        for (method, operation) in item.as_object().ok_or("no operations")? {
            let id = operation["operationId"].as_str().ok_or("an operation without an id")?;
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            let empty = Vec::new();
            let parameters = operation["parameters"].as_array().unwrap_or(&empty).iter();
            let described: BTreeSet<_> = parameters
                .map(|parameter| {
                    parameter["$ref"]
                        .as_str()
                        .and_then(|reference| document.pointer(reference.strip_prefix('#')?))
                        .unwrap_or(parameter)
                })
                .filter(|parameter| parameter["in"] == "path")
                .filter_map(|parameter| parameter["name"].as_str())
                .collect();
            let placeholders: BTreeSet<_> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            assert_eq!(described, placeholders, "{method} {path}");
        }
    }
    Ok(())
}
