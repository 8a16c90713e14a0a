//! Turns outcomes into HTTP answers: encodings, warnings, headers. Decides nothing about objects.

mod warnings;

use axum::{body::Body, response::Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use knarr_api::status::{Details, Status};
use serde_json::Value;

use crate::negotiate::Encoding;

/// An answer on its way out.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: StatusCode,
    pub(crate) body: Payload,
}

#[derive(Debug)]
pub(crate) enum Payload {
    /// A JSON document as it is stored.
    Document(Bytes),
    Value(Value),
    Status(Status),
    /// Anything else, already an HTTP answer: streams, plain text, upgrades.
    Raw(Response),
}

impl Reply {
    pub(crate) fn ok(value: Value) -> Self {
        Reply {
            code: StatusCode::OK,
            body: Payload::Value(value),
        }
    }

    pub(crate) fn document(document: Bytes) -> Self {
        Reply {
            code: StatusCode::OK,
            body: Payload::Document(document),
        }
    }

    pub(crate) fn status(status: Status) -> Self {
        Reply {
            code: StatusCode::OK,
            body: Payload::Status(status),
        }
    }

    pub(crate) fn raw(response: Response) -> Self {
        Reply {
            code: response.status(),
            body: Payload::Raw(response),
        }
    }

    pub(crate) fn with_code(mut self, code: StatusCode) -> Self {
        self.code = code;
        self
    }
}

/// Renders an outcome; `warnings` become `Warning: 299` headers.
pub(crate) fn render(
    outcome: Result<Reply, Status>,
    encoding: Encoding,
    warnings: &[String],
) -> Response {
    let mut response = match outcome {
        Ok(Reply { code, body }) => match body {
            Payload::Raw(response) => response,
            Payload::Document(document) => document_response(code, &document, encoding),
            Payload::Value(value) => value_response(code, &value, encoding),
            Payload::Status(status) => value_response(code, &status_value(&status), encoding),
        },
        Err(status) => failure_in(encoding, &status),
    };
    for warning in warnings::fitting(warnings) {
        if let Ok(value) = HeaderValue::from_bytes(warning_text(warning).as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// A failure as JSON.
pub(crate) fn failure(status: &Status) -> Response {
    failure_in(Encoding::Json, status)
}

pub(crate) fn failure_in(encoding: Encoding, status: &Status) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = value_response(code, &status_value(status), encoding);
    let retry = status.details.as_ref().and_then(|d| d.retry_after_seconds);
    if let Some(seconds) = retry {
        let value = HeaderValue::from(seconds);
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// 403 for a user who may not do what was asked; refusals of objects do not come here.
pub(crate) fn refusal(encoding: Encoding, status: &Status) -> Response {
    unsniffed(failure_in(encoding, status))
}

pub(crate) fn text(code: StatusCode, body: impl Into<String>) -> Response {
    typed(code, "text/plain; charset=utf-8", Bytes::from(body.into()))
}

/// An answer without a body.
pub(crate) fn empty(code: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

/// Tells browsers to take the body for nothing but what its type says.
pub(crate) fn unsniffed(mut response: Response) -> Response {
    let value = HeaderValue::from_static("nosniff");
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, value);
    response
}

pub(crate) fn typed(code: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

fn status_value(status: &Status) -> Value {
    serde_json::to_value(status).unwrap_or_default()
}

fn document_response(code: StatusCode, document: &Bytes, encoding: Encoding) -> Response {
    match encoding {
        Encoding::Json => {
            let mut body = BytesMut::with_capacity(document.len() + 1);
            body.put_slice(document);
            body.put_u8(b'\n');
            typed(code, "application/json", body.freeze())
        }
        Encoding::Yaml | Encoding::IndentedJson => {
            let value = serde_json::from_slice(document).unwrap_or_default();
            value_response(code, &value, encoding)
        }
    }
}

pub(crate) fn value_response(code: StatusCode, value: &Value, encoding: Encoding) -> Response {
    let (content_type, text) = match encoding {
        Encoding::Json => ("application/json", format!("{value}\n")),
        Encoding::IndentedJson => ("application/json", format!("{value:#}")),
        Encoding::Yaml => match serde_saphyr::to_string(value) {
            Ok(yaml) => ("application/yaml", yaml),
            Err(_) => ("application/json", format!("{value}\n")),
        },
    };
    typed(code, content_type, Bytes::from(text))
}

/// `299 - "text"`, the text quoted, control characters left out.
fn warning_text(warning: &str) -> String {
    let mut text = String::from("299 - \"");
    for c in warning.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

/// 404 for a path that nothing at all is registered under, as Go's own HTTP server says it.
pub(crate) fn no_such_page() -> Response {
    unsniffed(text(StatusCode::NOT_FOUND, "404 page not found\n"))
}

/// 404 for a resource that is not served, below a path that is.
pub(crate) fn no_such_resource() -> Status {
    let text = "the server could not find the requested resource";
    Status::failure(404, "NotFound", text).with_details(Details::default())
}

/// 405 for a verb that the resource does not have.
pub(crate) fn method_not_allowed() -> Status {
    let text = "the server does not allow this method on the requested resource";
    Status::failure(405, "MethodNotAllowed", text).with_details(Details::default())
}

/// An error without a reason of its own: 500 with nothing but a message.
pub(crate) fn unclassified(message: impl Into<String>) -> Status {
    Status::failure(500, "", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_headers() {
        let outcome = Ok(Reply::ok(Value::Null));
        let warnings = ["unknown field \"spec.foo\"".to_owned(), "two\nlines".into()];
        let response = render(outcome, Encoding::Json, &warnings);
        let found: Vec<_> = response.headers().get_all(header::WARNING).iter().collect();
        assert_eq!(
            found,
            [
                r#"299 - "unknown field \"spec.foo\"""#,
                r#"299 - "twolines""#
            ]
        );
    }

    #[test]
    fn an_answer_to_a_delete_has_no_code() {
        let status = status_value(&Status::success(Details::default()));
        assert_eq!(status.get("code"), None);
        assert_eq!(status_value(&Status::created())["code"], 201);
    }

    #[test]
    fn yaml_answers_keep_strings_that_look_like_numbers() {
        let value = serde_json::json!({"data": {"a": "1", "b": "no"}});
        let response = value_response(StatusCode::OK, &value, Encoding::Yaml);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/yaml");
        let text = serde_saphyr::to_string(&value).unwrap();
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, value);
    }
}
