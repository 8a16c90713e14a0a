//! ControllerRevision: what a template once was, so that a controller can tell old pods from new ones.

use serde_json::{Value, json};

use super::checks::{self, Errors};
use crate::{
    field::{Error, Path},
    kind::{Column, Kind, Strategy},
    table, walk,
};

pub static CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    strategy: Strategy {
        default: |revision| walk::fill(walk::object_mut(revision, ""), "revision", 0),
        validate_create,
        validate_update,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("Controller", "The object whose template this was."),
        Column::string(
            "Revision",
            "revision: counts the versions of that template.",
        ),
        Column::AGE,
    ],
    cells,
    ..Kind::BASE
};

fn validate_create(revision: &Value) -> Errors {
    let mut errors = Errors::new();
    checks::counts(&mut errors, &Path::default(), revision, &["revision"]);
    let path = Path::new("data");
    match walk::at(revision, "data") {
        Value::Null => errors.push(Error::required(&path, "data is mandatory")),
        Value::Object(_) => {}
        _ => errors.push(Error::required(&path, "data must be a valid JSON object")),
    }
    errors
}

fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    checks::counts(&mut errors, &Path::default(), new, &["revision"]);
    let (now, before) = (walk::at(new, "data"), walk::at(old, "data"));
    if now != before {
        errors.push(Error::invalid(
            &Path::new("data"),
            now.clone(),
            crate::meta::IMMUTABLE,
        ));
    }
    errors
}

fn cells(revision: &Value, now_seconds: i64) -> Vec<Value> {
    let controller = walk::list(revision, "metadata.ownerReferences")
        .iter()
        .find(|owner| walk::is_true(owner, "controller"))
        .map_or("<none>".to_owned(), |owner| {
            let group = walk::text(owner, "apiVersion")
                .rsplit_once('/')
                .map_or("", |(g, _)| g);
            let kind = walk::text(owner, "kind").to_lowercase();
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}", walk::text(owner, "name"))
        });
    vec![
        json!(walk::text(revision, "metadata.name")),
        json!(controller),
        json!(walk::count(revision, "revision")),
        table::age(revision, now_seconds),
    ]
}
