//! Wires the parts of one process: which run here, with whose credentials, and what happens when one of them ends.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, anyhow};
use knarr_apiserver::{
    Config, OpenError, Server, User,
    pki::{Authority, Role},
    storage,
};
use kube::Client;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::{Addresses, Follower},
    cluster,
    exit::{Code, Failure},
    heap,
    join::{Credentials, Issued, Serving},
    place::Place,
    renewal::{self, Sign},
    settings::Settings,
};

const CLUSTER_DOMAIN: &str = "cluster.local";
/// The kubelet's port.
const AGENT_PORT: u16 = 10250;
const CONNECTION_BACKLOG: u32 = 4096;
/// Time for the parts to put down what they hold.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// An API server that is open but does not answer yet.
pub(crate) struct Api {
    server: Server,
    listener: TcpListener,
    place: Place,
}

/// Takes the port, settles the ranges and opens the store, in this order: a port in use leaves no data directory behind.
pub(crate) async fn open_api(settings: &Settings, addresses: &Addresses) -> Result<Api> {
    crate::client::install_crypto();
    let listener = listen(settings)?;
    let ranges = cluster::ranges(settings).await?;
    let place = Place::new(settings, addresses, &ranges);
    let node_ips = place.node_ips.borrow().clone();
    let config = Config {
        data_dir: settings.data_dir.clone(),
        bind: settings.bind,
        advertise_address: place.advertised(&node_ips),
        port: settings.port,
        server_names: place.names(&node_ips),
        service_cidrs: ranges.service_cidr,
        cluster_cidrs: ranges.cluster_cidr,
        node_port_range: settings.node_ports.clone(),
        requests_inflight_max: settings.requests_inflight_max,
        mutating_requests_inflight_max: settings.mutating_requests_inflight_max,
        give_back_memory: heap::give_back,
        lb_pool: ranges.lb_pool.join(","),
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        cluster_dns: Vec::new(),
    };
    let server = Server::open(config).await.map_err(explain_open)?;
    Ok(Api {
        server,
        listener,
        place,
    })
}

fn explain_open(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::Store(storage::OpenError::Locked(_)) => Failure::new(Code::InUse, error)
            .hint("stop it first, or choose another --data-dir")
            .into(),
        error => anyhow::Error::new(error).context("cannot open the data directory"),
    }
}

fn listen(settings: &Settings) -> Result<TcpListener> {
    let open = |ip: IpAddr| -> std::io::Result<TcpListener> {
        let socket = if ip.is_ipv6() {
            TcpSocket::new_v6()?
        } else {
            TcpSocket::new_v4()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(ip, settings.port))?;
        socket.listen(CONNECTION_BACKLOG)
    };
    let listener = match settings.bind {
        Some(ip) => open(ip),
        // A kernel without IPv6 has no wildcard for both families.
        None => open(Ipv6Addr::UNSPECIFIED.into()).or_else(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => Err(error),
            _ => open(Ipv4Addr::UNSPECIFIED.into()),
        }),
    };
    listener.map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::AddrInUse {
            Code::InUse
        } else {
            Code::Failed
        };
        Failure::new(
            code,
            format!("cannot listen on port {}: {error}", settings.port),
        )
        .hint("choose another with --port")
        .into()
    })
}

impl Api {
    pub(crate) fn client_of_admin(&self) -> Client {
        self.server
            .client(User::new("system:admin", &["system:masters"]))
    }

    pub(crate) fn client_of_node(&self, name: &str) -> Client {
        self.server.client(User::node(name))
    }

    /// What signs certificates for the node of this process: it shows them when it is asked for logs.
    pub(crate) fn signs_for_node(&self, settings: &Settings) -> Sign {
        let authority = self.server.state().pki.authority.clone();
        let name = settings.node_name.clone();
        let user = format!("system:node:{name}");
        Box::new(move |node_ips| {
            let names = [name.clone(), "127.0.0.1".into()].into_iter();
            let names: Vec<String> = names
                .chain(node_ips.iter().map(IpAddr::to_string))
                .collect();
            let issued = issue(&authority, &names, &user);
            Box::pin(std::future::ready(issued))
        })
    }
}

fn issue(authority: &Authority, names: &[String], user: &str) -> Result<Issued> {
    let serving = authority.issue(&Role::Server(names.to_vec()))?;
    let client = authority.issue(&Role::Client {
        user: user.to_owned(),
        groups: vec!["system:nodes".into()],
    })?;
    Ok(Issued {
        ca: authority.pem().to_owned(),
        client_certificate: client.certificate,
        client_key: client.key,
        serving: Some(Serving {
            certificate: serving.certificate,
            key: serving.key,
        }),
    })
}

/// The running parts of this process.
#[derive(Default)]
pub(crate) struct Parts {
    running: JoinSet<(&'static str, Result<()>)>,
    stop: CancellationToken,
}

impl Parts {
    /// What follows this machine's addresses.
    pub(crate) fn start_following(&mut self, follower: Follower) {
        let stop = self.stop.clone();
        self.start("addresses", async move {
            tokio::select! {
                ended = follower.run() => ended,
                () = stop.cancelled() => Ok(()),
            }
        });
    }

    /// The API server and its controllers.
    pub(crate) fn start_api(&mut self, api: Api) {
        let Api {
            server,
            listener,
            place,
        } = api;
        let server = Arc::new(server);
        let (moving, stop) = (server.clone(), self.stop.clone());
        self.start("place of the API", async move {
            tokio::select! {
                () = place.keep(moving) => {}
                () = stop.cancelled() => {}
            }
            Ok::<_, Infallible>(())
        });
        let (serving, stop) = (server.clone(), self.stop.clone());
        self.start("apiserver", async move {
            serving.serve(listener, stop).await;
            Ok::<_, Infallible>(())
        });
        let stop = self.stop.clone();
        self.start("controllers", async move {
            server.control(stop).await;
            Ok::<_, Infallible>(())
        });
    }

    /// The node agent and the netproxy, as ordinary clients.
    pub(crate) fn start_node(
        &mut self,
        client: Client,
        settings: &Settings,
        node_ips: watch::Receiver<Vec<IpAddr>>,
        credentials: Credentials,
    ) {
        let agent = knarr_nodeagent::Config {
            node_name: settings.node_name.clone(),
            node_ips,
            run_dir: settings.run_dir.clone(),
            data_dir: settings.data_dir.clone(),
            port: AGENT_PORT,
            serving: credentials
                .serving
                .map(|shown| knarr_nodeagent::ServingIdentity {
                    shown,
                    client_ca: credentials.ca,
                }),
        };
        let proxy = knarr_netproxy::Config {
            node_name: settings.node_name.clone(),
            node_port_addresses: settings.node_port_addresses.clone(),
            localhost_node_ports: settings.localhost_node_ports,
            non_masquerade_cidrs: settings.non_masquerade_cidrs.clone(),
        };
        self.start(
            "nodeagent",
            knarr_nodeagent::run(client.clone(), agent, self.stop.clone()),
        );
        self.start(
            "netproxy",
            knarr_netproxy::run(client, proxy, self.stop.clone()),
        );
    }

    /// Certificates that are replaced before they end, and for other addresses.
    pub(crate) fn keep_fresh(
        &mut self,
        credentials: Credentials,
        sign: Sign,
        node_ips: watch::Receiver<Vec<IpAddr>>,
    ) {
        let stop = self.stop.clone();
        self.start("certificates", async move {
            tokio::select! {
                never = renewal::keep_fresh(credentials, sign, node_ips) => match never {},
                () = stop.cancelled() => Ok::<_, Infallible>(()),
            }
        });
    }

    /// Forwarding between machines, in the families that this one has.
    pub(crate) fn start_forwarding(
        &mut self,
        settings: &Settings,
        mut node_ips: watch::Receiver<Vec<IpAddr>>,
    ) {
        let (run_dir, stop) = (settings.run_dir.clone(), self.stop.clone());
        self.start("forwarding", async move {
            loop {
                let ips = node_ips.borrow_and_update().clone();
                knarr_nodeagent::forward_packets(&run_dir, &ips);
                tokio::select! {
                    () = stop.cancelled() => return Ok::<_, Infallible>(()),
                    Ok(()) = node_ips.changed() => {}
                }
            }
        });
    }

    /// The front, as an ordinary client.
    pub(crate) fn start_front(&mut self, client: Client, settings: &Settings) {
        let front = knarr_netproxy::front::Config {
            name: settings.node_name.clone(),
        };
        let stop = self.stop.clone();
        self.start("front", knarr_netproxy::front::run(client, front, stop));
    }

    fn start<E>(
        &mut self,
        name: &'static str,
        part: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<anyhow::Error>,
    {
        self.running
            .spawn(async move { (name, part.await.map_err(Into::into)) });
    }

    /// Runs until `shutdown`, or until a part ends by itself, and stops what still runs.
    pub(crate) async fn run(mut self, shutdown: &CancellationToken) -> Result<()> {
        let outcome = self.until(shutdown).await;
        self.stop().await;
        outcome
    }

    /// Waits for `shutdown`, or for a part to end by itself, which none should.
    pub(crate) async fn until(&mut self, shutdown: &CancellationToken) -> Result<()> {
        tokio::select! {
            failed = self.failure() => Err(failed),
            () = shutdown.cancelled() => Ok(()),
        }
    }

    async fn failure(&mut self) -> anyhow::Error {
        match self.running.join_next().await {
            Some(Ok((name, Err(error)))) => error.context(format!("the {name} failed")),
            Some(Ok((name, Ok(())))) => anyhow!("the {name} ended"),
            Some(Err(error)) => anyhow::Error::new(error).context("a part panicked"),
            None => std::future::pending().await,
        }
    }

    /// Tells every part to stop and waits for those that do in time.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let all_ended = async {
            while let Some(ended) = self.running.join_next().await {
                if let Ok((name, Err(error))) = ended {
                    tracing::warn!("the {name} did not stop well: {error:#}");
                }
            }
        };
        if tokio::time::timeout(STOP_TIME_MAX, all_ended)
            .await
            .is_err()
        {
            tracing::warn!("not every part stopped within {STOP_TIME_MAX:?}");
        }
    }
}
