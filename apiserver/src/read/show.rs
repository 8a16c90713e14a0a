//! The forms objects are shown in: as stored, through another version, as Tables, as metadata alone.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use knarr_api::{
    kind::Kind,
    meta,
    status::Status,
    table::{self, Columns, IncludeObject},
};
use serde_json::{Value, json};

use super::{stitch, view::document};
use crate::{call::Call, negotiate::Form, request::Verb, storage::Stored};

/// The object's JSON in the form that was asked for; `None` if that takes the parsed object.
pub(crate) fn document_in(form: Form, kind: &Kind, stored: &Stored) -> Option<Bytes> {
    match form {
        Form::Object => Some(document(kind, stored)),
        Form::Metadata(version) if kind.view.is_none() => {
            Some(stitch::partial_metadata(version, &stored.document))
        }
        Form::Metadata(_) | Form::MetadataList(_) | Form::Table(_) => None,
    }
}

/// How a client wants to see objects of a kind.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    kind: &'static Kind,
    form: Form,
    include: IncludeObject,
}

impl Shown {
    /// # Errors
    /// 406 for metadata of a list where there is one object, and the reverse; 400 for a Table that cannot be had.
    pub(crate) fn new(call: &Call, kind: &'static Kind) -> Result<Self, Status> {
        let form = call.accepted()?.form;
        let include = match form {
            Form::Table(_) => call.query.text("includeObject").unwrap_or_default(),
            Form::Object | Form::Metadata(_) | Form::MetadataList(_) => "",
        };
        let include = IncludeObject::parse(include)?;
        let form = match (form, call.verb) {
            // A watch shows what it cannot show otherwise as it is.
            (Form::MetadataList(_), Verb::Watch) => Form::Object,
            (Form::Metadata(_), Verb::List | Verb::DeleteCollection) => {
                let text = "PartialObjectMetadata, but the requested object is a list";
                return Err(not_as_requested(text, &format!("{}List", go_type(kind))));
            }
            (Form::MetadataList(_), verb)
                if !matches!(verb, Verb::List | Verb::DeleteCollection) =>
            {
                let text = "PartialObjectMetadataList, but the requested object is not a list";
                return Err(not_as_requested(text, &go_type(kind)));
            }
            (form, _) => form,
        };
        Ok(Shown {
            kind,
            form,
            include,
        })
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Where [`Shown::many`] puts the objects.
    pub(super) fn items_field(&self) -> &'static str {
        match self.form {
            Form::Table(_) => "rows",
            Form::Object | Form::Metadata(_) | Form::MetadataList(_) => "items",
        }
    }

    pub(crate) fn single(&self, object: Value) -> Value {
        self.one(object, Columns::Named)
    }

    /// As [`Shown::single`]; events of a watch after the first leave the columns out.
    pub(crate) fn one(&self, object: Value, columns: Columns) -> Value {
        match self.form {
            Form::Object => object,
            Form::Metadata(version) | Form::MetadataList(version) => {
                table::partial_metadata(&object, version)
            }
            Form::Table(version) => {
                let metadata = json!({"resourceVersion": meta::resource_version(&object)});
                let form = table_form(version, self.include, columns);
                table::table(self.kind, &[&object], metadata, form)
            }
        }
    }

    pub(crate) fn many(&self, objects: Vec<Value>, metadata: Value) -> Value {
        let references: Vec<&Value> = objects.iter().collect();
        match self.form {
            Form::Metadata(version) | Form::MetadataList(version) => {
                table::partial_metadata_list(&references, metadata, version)
            }
            Form::Table(version) => {
                let form = table_form(version, self.include, Columns::Named);
                table::table(self.kind, &references, metadata, form)
            }
            Form::Object => list(self.kind, objects, metadata),
        }
    }
}

fn not_as_requested(text: &str, go_type: &str) -> Status {
    let message = format!("you requested {text} ({go_type})");
    Status::failure(406, "NotAcceptable", message)
}

/// The type that Kubernetes holds objects of a kind in: `*core.Pod`.
fn go_type(kind: &Kind) -> String {
    let group = kind.view.as_ref().map_or(kind.group, |view| view.of.group);
    let package = match group.split('.').next() {
        None | Some("") => "core",
        Some(package) => package,
    };
    format!("*{package}.{}", kind.kind)
}

/// A typed list, whose items leave out what the list says already.
fn list(kind: &Kind, mut objects: Vec<Value>, metadata: Value) -> Value {
    for fields in objects.iter_mut().filter_map(Value::as_object_mut) {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    json!({
        "kind": format!("{}List", kind.kind),
        "apiVersion": kind.api_version(),
        "metadata": metadata,
        "items": objects,
    })
}

fn table_form(version: table::Version, include: IncludeObject, columns: Columns) -> table::Form {
    table::Form {
        version,
        include,
        columns,
        now_seconds: now_seconds(),
    }
}

/// Unix time.
fn now_seconds() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| elapsed.as_secs().cast_signed())
}
