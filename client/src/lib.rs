//! How the parts ask the API: kube's requests and watches, with one decoder for every kind. Knows no kind and no server.
//!
//! An answer becomes a [`serde_json::Value`] first and a typed object from there. A kind then costs the code of its fields
//! once, and not once for each form in which its bytes arrive and each stream that carries them.

mod api;
mod certificates;
mod document;
mod identity;
mod lean;
mod watch;

use kube::{Client, Error};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::{
    api::Api,
    certificates::AnyCertificate,
    identity::Error as IdentityError,
    identity::Identity,
    lean::lean,
    watch::{watch, watch_values},
};

/// Sends a request and reads the object in the answer.
///
/// # Errors
/// When the server cannot be reached, refuses, or answers with something else.
pub async fn request<K: DeserializeOwned>(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<K, Error> {
    typed(ask(client, Ok(request)).await?)
}

async fn ask(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Value, Error> {
    client.request(request.map_err(Error::BuildRequest)?).await
}

fn typed<K: DeserializeOwned>(value: Value) -> Result<K, Error> {
    serde_json::from_value(value).map_err(Error::SerdeError)
}
