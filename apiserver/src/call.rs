//! One request for objects, with everything that answering it needs.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, Uri, header};
use knarr_api::{kind::Kind, status::Status};

use crate::{
    State, User,
    inflight::LargeBody,
    negotiate::{self, Accepted, Encoding, Produces, accept},
    request::{Query, RequestInfo, Verb, body},
    respond,
};

/// A request for objects on its way to an answer.
pub(crate) struct Call {
    pub(crate) state: Arc<State>,
    pub(crate) user: User,
    pub(crate) verb: Verb,
    pub(crate) info: RequestInfo,
    pub(crate) query: Query,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// Holds the pending upgrade, if the client asked for one.
    pub(crate) extensions: Extensions,
    pub(crate) body: Body,
    pub(crate) warnings: Vec<String>,
    /// Its place, if the body is a large one.
    pub(crate) large_body: Option<LargeBody>,
}

impl Call {
    pub(crate) fn accepted(&self) -> Result<Accepted, Status> {
        let produces = match self.verb {
            Verb::List | Verb::Watch => Produces::ObjectsAndStreams,
            _ => Produces::Objects,
        };
        let Accepted { form, encoding } = accept(self.header(header::ACCEPT), produces)?;
        Ok(Accepted {
            form,
            encoding: self.laid_out(encoding),
        })
    }

    /// How a failure is written, which has one form only.
    pub(crate) fn encoding_of_statuses(&self) -> Encoding {
        self.laid_out(negotiate::of_statuses(self.header(header::ACCEPT)))
    }

    fn laid_out(&self, encoding: Encoding) -> Encoding {
        negotiate::laid_out(encoding, &self.query, self.header(header::USER_AGENT))
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        self.header(header::CONTENT_TYPE)
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The name under which fields are owned if the client gives none: the user agent up to its version.
    pub(crate) fn user_agent_name(&self) -> &str {
        let agent = self.header(header::USER_AGENT).unwrap_or_default();
        let name = agent.split('/').next().unwrap_or_default();
        if name.is_empty() { "unknown" } else { name }
    }

    /// Reads the body; a second call finds it empty.
    pub(crate) async fn read_body(&mut self) -> Result<Bytes, Status> {
        let body = std::mem::take(&mut self.body);
        let (bytes, large) = body::read(body, &self.state.inflight).await?;
        self.large_body = large;
        Ok(bytes)
    }

    /// Refuses to write objects of a namespaced kind to no namespace.
    pub(crate) fn check_writable_place(&self, kind: &Kind) -> Result<(), Status> {
        if kind.is_namespaced() && self.info.namespace.is_empty() {
            return Err(respond::method_not_allowed());
        }
        Ok(())
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }
}
