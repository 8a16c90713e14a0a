//! `metav1.Status`: the body of every answer that is not an object.

use serde::{Deserialize, Serialize};

use crate::{field, kind::Kind};

/// A failure (or plain success) as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub kind: String,
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    pub metadata: Metadata,
    pub status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// 0, and absent on the wire, in the answer to a delete.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub code: u16,
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

/// List metadata, empty in nearly every Status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// For the rest of a list whose own token has expired.
    #[serde(rename = "continue", default, skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(
        rename = "retryAfterSeconds",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub retry_after_seconds: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Status {
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Status {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: Metadata::default(),
            status: "Failure".into(),
            message: message.into(),
            reason: reason.into(),
            details: None,
            code,
        }
    }

    /// The answer to a delete; it carries no code.
    pub fn success(details: Details) -> Self {
        Status {
            status: "Success".into(),
            details: Some(details),
            ..Status::failure(0, "", "")
        }
    }

    /// The answer to a subresource that creates nothing to show, such as a binding.
    pub fn created() -> Self {
        Status {
            status: "Success".into(),
            ..Status::failure(201, "", "")
        }
    }

    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(details);
        self
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Status::failure(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Status::failure(401, "Unauthorized", "Unauthorized")
    }

    pub fn internal(message: impl std::fmt::Display) -> Self {
        let message = message.to_string();
        let cause = Cause {
            message: message.clone(),
            ..Cause::default()
        };
        Status::failure(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
        .with_details(Details {
            causes: vec![cause],
            ..Details::default()
        })
    }

    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Status::failure(
            404,
            "NotFound",
            format!("{} {} not found", kind.group_resource(), field::quote(name)),
        )
        .with_details(resource_details(kind, name))
    }

    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        Status::failure(
            409,
            "AlreadyExists",
            format!(
                "{} {} already exists",
                kind.group_resource(),
                field::quote(name)
            ),
        )
        .with_details(resource_details(kind, name))
    }

    pub fn conflict(kind: &Kind, name: &str, detail: &str) -> Self {
        let resource = kind.group_resource();
        let name_quoted = field::quote(name);
        Status::failure(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {resource} {name_quoted}: {detail}"),
        )
        .with_details(resource_details(kind, name))
    }

    pub fn forbidden(kind: &Kind, name: &str, detail: &str) -> Self {
        let resource = kind.group_resource();
        let name_quoted = field::quote(name);
        Status::failure(
            403,
            "Forbidden",
            format!("{resource} {name_quoted} is forbidden: {detail}"),
        )
        .with_details(resource_details(kind, name))
    }

    /// 422 with every error found; the message names each distinct one once.
    pub fn invalid(kind: &Kind, name: &str, errors: &[field::Error]) -> Self {
        // Kubernetes validates the form that is stored, whichever way the object came.
        let kind = kind.view.as_ref().map_or(kind, |view| view.of);
        Status::invalid_kind(&kind.group_kind(), name, errors)
    }

    /// As [`Status::invalid`] for what is no kind of the registry, such as a request's options; `Kind` or `Kind.group`.
    pub fn invalid_kind(qualified_kind: &str, name: &str, errors: &[field::Error]) -> Self {
        let (kind, group) = qualified_kind
            .split_once('.')
            .unwrap_or((qualified_kind, ""));
        let mut texts: Vec<String> = Vec::new();
        for error in errors {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = if texts.len() == 1 {
            texts.remove(0)
        } else {
            format!("[{}]", texts.join(", "))
        };
        let message = format!("{qualified_kind} {} is invalid: {list}", field::quote(name));
        let causes = errors
            .iter()
            .map(|e| Cause {
                reason: e.reason.wire().into(),
                message: e.message.clone(),
                field: e.field.clone(),
            })
            .collect();
        Status::failure(422, "Invalid", message).with_details(Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes,
            ..Details::default()
        })
    }
}

fn resource_details(kind: &Kind, name: &str) -> Details {
    Details {
        name: name.into(),
        group: kind.group.into(),
        kind: kind.plural.into(),
        ..Details::default()
    }
}
