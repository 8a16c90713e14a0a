//! How a machine becomes a node or a front: the CA's certificate for anybody, certificates for who holds the join token.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    body::{self, Body},
    extract,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, header::CONTENT_TYPE};
use knarr_api::{kinds::lease::LEASE, status::Status, value::str_of};
use serde::{Deserialize, Serialize};

use crate::{
    State, User,
    auth::bearer,
    pki::{self, Role},
    serve::refusal,
    storage::{Key, Store},
    user::{FRONTS, NODES},
};

const BODY_BYTES_MAX: usize = 64 << 10;

/// What a machine asks for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    #[serde(default)]
    part: Part,
    node_name: String,
    #[serde(rename = "nodeIPs")]
    node_ips: Vec<IpAddr>,
    #[serde(rename = "clientCSR")]
    client_csr: String,
    #[serde(rename = "servingCSR")]
    serving_csr: Option<String>,
}

/// What the machine will run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    #[default]
    Node,
    /// Reads what it forwards to, and serves nobody.
    Front,
}

/// What it gets, all PEM.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Admission {
    client_certificate: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    serving_certificate: Option<String>,
    ca: String,
}

pub(crate) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/cacerts", get(cacerts))
        .route("/knarr/v1/join", post(join))
        .with_state(state)
}

async fn cacerts(extract::State(state): extract::State<Arc<State>>) -> String {
    state.pki.authority.pem().to_owned()
}

async fn join(
    extract::State(state): extract::State<Arc<State>>,
    user: Option<extract::Extension<User>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // Nothing is read for whom nobody knows.
    if !bearer(&headers).is_some_and(|secret| state.join_token.admits(secret)) {
        return refusal(&Status::unauthorized());
    }
    let Ok(body) = body::to_bytes(body, BODY_BYTES_MAX).await else {
        return refusal(&Status::bad_request("the request's body cannot be read"));
    };
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refusal(&Status::bad_request(error.to_string())),
    };
    if !is_node_name(&request.node_name) {
        let text = format!("{:?} is not a node name", request.node_name);
        return refusal(&Status::bad_request(text));
    }
    let user = user.map_or_else(User::anonymous, |extension| extension.0);
    let is_own = user.node_name() == Some(request.node_name.as_str());
    let now = jiff::Timestamp::now();
    if request.part == Part::Node && !is_own && is_held(&state.store, &request.node_name, now) {
        let text = format!(
            "another machine is node {:?} and alive: choose another --node-name, \
             or wait until its lease has run out",
            request.node_name
        );
        return refusal(&Status::failure(403, "Forbidden", text));
    }
    match admit(&state, &request) {
        Ok(admission) => {
            let body = serde_json::to_vec(&admission).unwrap_or_default();
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(error) => refusal(&Status::bad_request(error.to_string())),
    }
}

/// Whether a machine renews the lease of this node.
fn is_held(store: &Store, node: &str, now: jiff::Timestamp) -> bool {
    let key = Key::new(&LEASE, "kube-node-lease", node);
    let Some(lease) = store.get(&key) else {
        return false;
    };
    let spec = &lease.object()["spec"];
    let renewed = str_of(&spec["renewTime"]).parse::<jiff::Timestamp>();
    let seconds = spec["leaseDurationSeconds"].as_i64().unwrap_or_default();
    renewed.is_ok_and(|renewed| now.as_second() < renewed.as_second().saturating_add(seconds))
}

fn admit(state: &State, request: &Request) -> Result<Admission, pki::Error> {
    let authority = &state.pki.authority;
    let name = &request.node_name;
    let (user, group) = match request.part {
        Part::Node => (format!("system:node:{name}"), NODES),
        Part::Front => (format!("knarr:front:{name}"), FRONTS),
    };
    let client = Role::Client {
        user,
        groups: vec![group.into()],
    };
    let serving = request
        .serving_csr
        .as_ref()
        .filter(|_| request.part == Part::Node);
    let sign_serving = |csr: &String| {
        let mut names = vec![name.clone(), "localhost".into()];
        names.extend(request.node_ips.iter().map(IpAddr::to_string));
        let node = name.clone();
        authority.sign(csr, &Role::NodeServer { node, names })
    };
    Ok(Admission {
        client_certificate: authority.sign(&request.client_csr, &client)?,
        serving_certificate: serving.map(sign_serving).transpose()?,
        ca: authority.pem().to_owned(),
    })
}

/// A DNS subdomain: anything else could name another user or host in the certificate.
fn is_node_name(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(is_inner)
        })
}
