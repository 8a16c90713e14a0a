//! The memory: routes, admission, allocation, storage, watch.
//!
//! Parts meet here only through requests: controllers, node agents and proxies hold a `kube::Client` and nothing else.

pub mod auth;
pub mod config;
pub mod routes;
pub mod serve;
pub mod storage;

use std::sync::Arc;

use axum::{Router, body::Body};
use http::Request;
use knarr_api::kinds;
use tower::ServiceExt;

use self::storage::Store;
pub use self::{auth::User, config::Config};

/// What every request works on.
pub struct State {
    pub config: Config,
    pub store: Store,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] storage::OpenError),
}

/// The API server, ready to answer.
pub struct Server {
    state: Arc<State>,
    router: Router,
}

impl Server {
    /// Opens the store in the data directory.
    ///
    /// # Errors
    /// When the data directory cannot be used or is in use.
    pub async fn open(config: Config) -> Result<Server, OpenError> {
        let store = Store::open(&config.data_dir, kinds::ALL).await?;
        let state = Arc::new(State { config, store });
        let router = routes::router(state.clone());
        Ok(Server { state, router })
    }

    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// A client inside this process: the router is its transport, and `user` is who it is.
    pub fn client(&self, user: User) -> kube::Client {
        let router = self.router.clone();
        let transport = tower::service_fn(move |request: Request<kube::client::Body>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(user.clone());
            router.clone().oneshot(request)
        });
        kube::Client::new(transport, "default")
    }
}
