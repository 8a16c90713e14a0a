//! A pod's sandbox: its directory, netns, veth, cgroup and init. Makes it, finds it again, ends it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodSpec;
use serde::{Deserialize, Serialize};

use super::{Identity, containers, files};
use crate::cgroup::{Cgroups, Limits};
use crate::netlink::{self, Socket};
use crate::netns;
use crate::network::{self, PodLink};
use crate::paths::Paths;
use crate::process::{self, Init, Namespaces};
use crate::protocol::{Devices, SANDBOX, Sandbox};

/// What can go wrong with a sandbox.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("writing {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("opening a netlink socket")]
    Netlink(#[from] netlink::Error),
    #[error("wiring the pod")]
    Network(#[from] network::apply::Error),
    #[error("starting the pod's init")]
    Init(#[from] process::Error),
}

/// What is noted of a pod, so that a restarted agent can adopt it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Empty for a pod in the host's network.
    pub(crate) addresses: Vec<IpAddr>,
    /// Nanoseconds since the Unix epoch.
    pub(crate) started_ns: i128,
}

const RECORD: &str = "pod.json";
/// An init that was killed is gone within milliseconds, unless the kernel is in trouble.
const KILL_TIME_MAX: Duration = Duration::from_secs(5);

impl Record {
    /// The pod's veth, if it has one.
    pub(crate) fn link(&self, paths: &Paths) -> Option<PodLink> {
        (!self.addresses.is_empty()).then(|| PodLink {
            name: network::link_name(&self.uid),
            netns: paths.netns(&self.uid),
            addresses: self.addresses.clone(),
        })
    }
}

/// Everything a new sandbox depends on.
pub(crate) struct Order<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) cgroups: &'a Cgroups,
    pub(crate) identity: &'a Identity,
    pub(crate) spec: &'a PodSpec,
    pub(crate) record: &'a Record,
    pub(crate) resolver: &'a files::Resolver,
    /// Addresses for /etc/hosts; the node's own for a pod in the host's network.
    pub(crate) pod_ips: &'a [String],
    /// Held while the veth is made, so that repair and creation do not meet.
    pub(crate) network_lock: &'a Mutex<()>,
}

/// Makes whatever is missing of a pod's sandbox and starts its init. Blocks for a few milliseconds.
pub(crate) fn make(order: &Order<'_>) -> Result<Init, Error> {
    let Order {
        paths,
        cgroups,
        identity,
        spec,
        record,
        ..
    } = order;
    let directory = paths.pod(&identity.uid);
    fs::create_dir_all(&directory).map_err(|error| Error::Write(directory.clone(), error))?;
    save_record(&directory, record)?;
    write_etc(&directory, order)?;
    let link = record.link(paths);
    let inner = link.as_ref().map(|link| {
        let _one_at_a_time = order.network_lock.lock();
        network::apply::make_pod_netns(link)
    });
    let inner = inner.transpose()?;
    let sandbox = Sandbox {
        hostname: (spec.host_network != Some(true)).then(|| files::hostname(identity, spec)),
        domain_name: None,
        run_dir: paths.run_dir.clone(),
        own_pid_namespace: spec.host_pid != Some(true),
        own_ipc_namespace: spec.host_ipc != Some(true),
        devices: if is_privileged(spec) {
            Devices::Host
        } else {
            Devices::Private
        },
        sysctls: sysctls(spec),
        cgroups: cgroups.make(&identity.uid, "init", Limits::default()),
    };
    write(
        &directory.join(SANDBOX),
        &serde_json::to_vec(&sandbox).unwrap_or_default(),
    )?;
    let namespaces = Namespaces {
        pid: sandbox.own_pid_namespace,
        ipc: sandbox.own_ipc_namespace,
    };
    let init = process::spawn_init(
        &directory,
        link.as_ref().map(|link| link.netns.as_path()),
        namespaces,
    )?;
    // The init comes up meanwhile; no container starts before this is done.
    if let Some((link, mut inner)) = link.zip(inner)
        && let Err(error) = wire(order, &link, &mut inner)
    {
        init.kill();
        init.wait(KILL_TIME_MAX);
        return Err(error);
    }
    Ok(init)
}

fn wire(order: &Order<'_>, link: &PodLink, inner: &mut Socket) -> Result<(), Error> {
    let _one_at_a_time = order.network_lock.lock();
    let mut socket = Socket::open()?;
    Ok(network::apply::make_pod_link(&mut socket, inner, link)?)
}

/// Writes /etc/hosts and its neighbours for the pod.
pub(crate) fn write_etc(directory: &Path, order: &Order<'_>) -> Result<(), Error> {
    let Order {
        identity,
        spec,
        resolver,
        pod_ips,
        ..
    } = order;
    let etc = directory.join("etc");
    fs::create_dir_all(&etc).map_err(|error| Error::Write(etc.clone(), error))?;
    let hostname = files::hostname(identity, spec);
    let domain = files::domain(identity, spec, &resolver.cluster_domain);
    let hosts = files::hosts(spec, pod_ips, &hostname, domain.as_deref());
    write(&etc.join("hosts"), hosts.as_bytes())?;
    write(&etc.join("hostname"), format!("{hostname}\n").as_bytes())?;
    let resolv_conf = files::resolv_conf(identity, spec, resolver);
    write(&etc.join("resolv.conf"), resolv_conf.as_bytes())
}

/// The records of all pods this node has, whatever state they are in.
pub(crate) fn records(paths: &Paths) -> Vec<Record> {
    let Ok(entries) = fs::read_dir(paths.pods()) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| read_record(&entry.path()))
        .collect()
}

/// The record of one pod, if this node has it.
pub(crate) fn record(paths: &Paths, uid: &str) -> Option<Record> {
    read_record(&paths.pod(uid)).filter(|record| record.uid == uid)
}

fn read_record(directory: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(directory.join(RECORD)).ok()?).ok()
}

/// Kills the init and with it every process of the pod, without waiting for them to be gone.
pub(crate) fn kill(paths: &Paths, uid: &str) {
    if let Some(init) = process::find_init(&paths.pod(uid)) {
        init.kill();
    }
}

/// Ends the init and with it every process of the pod, then lets go of its netns and removes its cgroups. Blocks.
///
/// The kernel removes the veth with the netns, many at once; one by one each would wait for all CPUs under the
/// lock that new pods need. A netns that somebody still holds keeps its veth until the network is next repaired.
pub(crate) fn end(paths: &Paths, cgroups: &Cgroups, uid: &str) -> Vec<String> {
    if let Some(init) = process::find_init(&paths.pod(uid)) {
        init.kill();
        init.wait(KILL_TIME_MAX);
    }
    let mut errors = Vec::new();
    errors.extend(
        netns::release(&paths.netns(uid))
            .err()
            .map(|error| error.to_string()),
    );
    errors.extend(cgroups.remove_pod(uid).iter().map(ToString::to_string));
    errors
}

/// Removes what is left of a pod that is gone from the API.
pub(crate) fn forget(paths: &Paths, uid: &str) {
    let _ = fs::remove_dir_all(paths.pod(uid));
    let _ = fs::remove_dir_all(paths.pod_data(uid));
}

fn save_record(directory: &Path, record: &Record) -> Result<(), Error> {
    write(
        &directory.join(RECORD),
        &serde_json::to_vec(record).unwrap_or_default(),
    )
}

fn is_privileged(spec: &PodSpec) -> bool {
    containers(spec).any(|(_, container)| {
        container
            .security_context
            .as_ref()
            .is_some_and(|context| context.privileged == Some(true))
    })
}

fn sysctls(spec: &PodSpec) -> Vec<(String, String)> {
    let list = spec
        .security_context
        .iter()
        .flat_map(|context| context.sysctls.iter().flatten());
    list.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
        .collect()
}

fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    fs::write(path, content).map_err(|error| Error::Write(path.to_owned(), error))
}
