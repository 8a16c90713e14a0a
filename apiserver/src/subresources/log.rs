//! What is particular to logs: the options that may be given, and a node agent's refusal as a Status.

use axum::{body::Body, response::Response};
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use knarr_api::{
    field::{Error, Path},
    kinds::pod::POD,
    status::{Details, Status},
};

use crate::request::Query;

/// Longer refusals are cut off by not being read.
const REFUSAL_BYTES_MAX: usize = 50_000;
const STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];

/// Refuses options that no log can be read with.
pub(super) fn check(pod: &str, query: &Query) -> Result<(), Status> {
    let tail_lines = query.integer("tailLines")?;
    let since_seconds = query.integer("sinceSeconds")?;
    let since_time = query.text("sinceTime");
    let mut errors = Vec::new();
    let at = Path::new;
    if let Some(lines) = tail_lines.filter(|lines| *lines < 0) {
        let text = "must be greater than or equal to 0";
        errors.push(Error::invalid(&at("tailLines"), lines, text));
    }
    let mut positive = |name: &str, value: Option<i64>| {
        if let Some(value) = value.filter(|value| *value < 1) {
            errors.push(Error::invalid(&at(name), value, "must be greater than 0"));
        }
    };
    positive("limitBytes", query.integer("limitBytes")?);
    if since_time.is_none() {
        positive("sinceSeconds", since_seconds);
    } else if since_seconds.is_some() {
        let text = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(Error::forbidden(&at(""), text));
    }
    if let Some(stream) = query.text("stream").filter(|stream| *stream != "All") {
        if !STREAMS.contains(&stream) {
            errors.push(Error::not_supported(&at("stream"), stream, &STREAMS));
        }
        if tail_lines.is_some() {
            let text = "`tailLines` and specific `stream` are mutually exclusive for now";
            errors.push(Error::forbidden(&at(""), text));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid_kind("PodLogOptions", pod, &errors))
}

/// An agent's refusal in the words of the API.
pub(super) async fn refusal(pod: &str, response: Response) -> Status {
    let code = response.status();
    let body = Limited::new(Body::new(response), REFUSAL_BYTES_MAX);
    let text = match body.collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => return Status::internal(error),
    };
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => {
            let text = format!("the server could not find the requested resource ( pods {pod})");
            let details = Details {
                name: pod.into(),
                kind: POD.plural.into(),
                ..Details::default()
            };
            Status::failure(404, "NotFound", text).with_details(details)
        }
        _ => Status::internal(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let check = |query: &str, expected: &str| {
            let found = check("p", &Query::parse(query)).map_err(|status| status.message);
            assert_eq!(found.err().unwrap_or_default(), expected, "{query}");
        };
        check("", "");
        check("tailLines=0&limitBytes=1&sinceSeconds=1&stream=All", "");
        check(
            "tailLines=-1",
            "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
        );
        check(
            "sinceSeconds=0",
            "PodLogOptions \"p\" is invalid: sinceSeconds: Invalid value: 0: must be greater than 0",
        );
        check(
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
            "PodLogOptions \"p\" is invalid: : Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        );
        check(
            "stream=Stdout&tailLines=3",
            "PodLogOptions \"p\" is invalid: : Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
        );
    }

    #[tokio::test]
    async fn an_agents_refusal_becomes_a_status() {
        let check = async |code: u16, expected: (u16, &str, &str)| {
            let response = Response::builder().status(code).body("why".into());
            let status = refusal("p", response.unwrap()).await;
            let found = (status.code, status.reason.as_str(), status.message.as_str());
            assert_eq!(found, expected);
        };
        check(400, (400, "BadRequest", "why")).await;
        check(500, (500, "InternalError", "Internal error occurred: why")).await;
        let text = "the server could not find the requested resource ( pods p)";
        check(404, (404, "NotFound", text)).await;
    }
}
