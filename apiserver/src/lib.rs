//! The memory: routes, admission, allocation, storage, watch.
//!
//! Parts meet here only through requests: node agents and proxies hold a `kube::Client` and nothing else. Controllers write that
//! way too, and read what the server holds in memory.

mod accounts;
pub mod allocate;
pub mod auth;
pub mod authorize;
mod bootstrap;
mod call;
mod clock;
pub mod config;
pub mod controllers;
mod delete;
mod discovery;
mod freed;
mod inflight;
mod join;
mod keys;
mod kubeconfig;
mod negotiate;
pub mod pki;
mod proxy;
mod read;
mod request;
mod respond;
pub mod routes;
mod serve;
pub mod storage;
mod subresources;
mod tokens;
mod user;
mod watch;
mod write;

use std::{net::IpAddr, sync::Arc};

use axum::{Router, body::Body};
use http::Request;
use knarr_api::kinds;
use rand::Rng;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use self::{
    accounts::Accounts,
    allocate::Allocator,
    auth::Authenticator,
    authorize::Authorizer,
    freed::Freed,
    inflight::Inflight,
    keys::Keys,
    pki::Pki,
    serve::{Endpoint, Limits},
    storage::Store,
};
pub use self::{
    config::Config,
    kubeconfig::path as kubeconfig_path,
    tokens::{JoinToken, join_token},
    user::User,
};

/// What every request works on.
pub struct State {
    pub config: Config,
    pub store: Store,
    pub allocator: Allocator,
    pub authenticator: Authenticator,
    pub authorizer: Authorizer,
    pub inflight: Inflight,
    pub(crate) freed: Arc<Freed>,
    pub pki: Pki,
    pub join_token: JoinToken,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] storage::OpenError),
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error("cannot write the first objects")]
    Bootstrap(#[from] storage::CommitError),
}

/// Why the server cannot be known by another address.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error("its certificate")]
    Pki(#[from] pki::Error),
    #[error("its endpoints")]
    Endpoints(#[from] storage::CommitError),
}

/// The API server, ready to answer.
pub struct Server {
    state: Arc<State>,
    router: Router,
    acceptor: TlsAcceptor,
}

impl Server {
    /// Opens what the data directory holds, and makes what a first start needs.
    ///
    /// # Errors
    /// When the data directory cannot be used or is in use, or its keys cannot be read.
    pub async fn open(config: Config) -> Result<Server, OpenError> {
        let for_keys = config.clone();
        let store = async {
            let store = Store::open(&config.data_dir, kinds::ALL).await?;
            bootstrap::ensure(&store, &config).await?;
            Ok::<_, OpenError>(store)
        };
        let keys = async {
            let opening = tokio::task::spawn_blocking(move || Keys::open(&for_keys));
            opening
                .await
                .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
                .map_err(OpenError::from)
        };
        // Both wait for the disk. The store goes first: it locks the directory before it waits for anything.
        let (store, keys) = futures_util::future::try_join(store, keys).await?;
        let Keys {
            pki,
            tokens,
            join_token,
            accounts,
        } = keys;
        let acceptor = TlsAcceptor::from(Arc::new(pki.server_tls()?));
        let random = |below: u64| rand::rng().random_range(0..below.max(1));
        let allocator = Allocator::new(store.clone(), &config, Box::new(random));
        let accounts = Accounts::new(store.clone(), accounts, &config);
        let authenticator = Authenticator::new(tokens, accounts);
        let freed = Freed::new(config.give_back_memory);
        let inflight = Inflight::new(
            config.requests_inflight_max,
            config.mutating_requests_inflight_max,
            &freed,
        );
        let state = Arc::new(State {
            config,
            freed,
            inflight,
            allocator,
            authenticator,
            authorizer: Authorizer::new(store.clone()),
            store,
            pki,
            join_token,
        });
        Ok(Server {
            router: routes::router(state.clone()).merge(join::router(state.clone())),
            state,
            acceptor,
        })
    }

    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Is found at `address` by other machines and by `default/kubernetes` from here on, and answers to `names`.
    ///
    /// # Errors
    /// When keys or objects cannot be written.
    pub async fn move_to(&self, address: IpAddr, names: Vec<String>) -> Result<(), MoveError> {
        let state = self.state.clone();
        let naming =
            tokio::task::spawn_blocking(move || state.pki.name_server(&state.config, &names));
        naming
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        let State { store, config, .. } = &*self.state;
        Ok(bootstrap::readvertise(store, config, address).await?)
    }

    /// Runs the controllers on this server until `shutdown`.
    pub async fn control(&self, shutdown: CancellationToken) {
        let config = &self.state.config;
        let pool = controllers::AddressRange::parse_list(&config.lb_pool).unwrap_or_else(|error| {
            tracing::warn!(%error, "no load-balancer IPs will be given out");
            Vec::new()
        });
        let user = User::new("system:kube-controller-manager", &["system:masters"]);
        let config = controllers::Config {
            cluster_cidrs: config.cluster_cidrs.clone(),
            load_balancer_pool: pool,
            root_ca: self.state.pki.authority.pem().to_owned(),
        };
        tokio::join!(
            accounts::secrets::run(self.state.clone(), shutdown.clone()),
            controllers::run(
                self.client(user),
                self.state.store.clone(),
                config,
                shutdown
            ),
        );
    }

    /// Answers on `listener` until `shutdown`, then lets requests under way finish.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        self.serve_within(Limits::default(), listener, shutdown)
            .await;
    }

    pub(crate) async fn serve_within(
        &self,
        limits: Limits,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) {
        let endpoint = Endpoint {
            limits,
            acceptor: self.acceptor.clone(),
            state: self.state.clone(),
            router: self.router.clone(),
        };
        serve::serve(endpoint, listener, shutdown).await;
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
