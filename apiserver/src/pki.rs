//! The cluster's certificate authority and the certificates of this server, made on first start and kept in `DATA_DIR/pki`.
//!
//! Signs what it is told to; who may ask is decided by the caller.

mod authority;
mod files;
mod peers;
mod renewing;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    server::danger::ClientCertVerifier,
};
use sha2::{Digest, Sha256};

#[cfg(test)]
pub(crate) use self::authority::Span;
pub use self::authority::{Authority, Role};
pub(crate) use self::files::{Loss, NewFiles, flush_directory};
use self::peers::AnyPeer;
use self::renewing::{Place, Renewing};
use crate::config::Config;

/// Why keys or certificates cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot make sense of {}", .0.display())]
    Unreadable(PathBuf),
    #[error("cannot issue a certificate")]
    Issue(#[from] rcgen::Error),
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    #[error("cannot check client certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// Everything of the cluster's keys that this server holds.
pub struct Pki {
    pub authority: Arc<Authority>,
    /// Knows the certificates that this authority signed for clients.
    clients: Arc<dyn ClientCertVerifier>,
    /// What this server shows to its clients.
    server: Arc<Renewing>,
    /// What this server shows to node agents.
    agent_client: Arc<Renewing>,
    /// The administrator's, for the kubeconfig.
    pub admin: Identity,
}

impl Pki {
    /// Reads the keys in `DATA_DIR/pki`, makes what is missing and renews what is about to expire.
    pub(crate) fn open(config: &Config, new: &mut NewFiles) -> Result<Pki, Error> {
        let directory = config.data_dir.join("pki");
        files::create_directory(&directory)?;
        let authority = Authority::open(&directory, new)?;
        let server = Role::Server(server_names(config, &config.server_names));
        let agent_client = Role::Client {
            user: "kube-apiserver-kubelet-client".into(),
            groups: vec!["system:masters".into()],
        };
        let admin = Role::Client {
            user: "system:admin".into(),
            groups: vec!["system:masters".into()],
        };
        let shown = identity(&directory, "agent-client", &authority, &agent_client, new)?;
        let admin = identity(&directory, "admin", &authority, &admin, new)?;
        let shown_to_clients = identity(&directory, "server", &authority, &server, new)?;
        let clients = peers::known(&authority)?;
        let authority = Arc::new(authority);
        let renewing = |name, role, shown| {
            let place = Place {
                directory: directory.clone(),
                name,
            };
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            Renewing::new(place, &authority, role, shown, provider).map(Arc::new)
        };
        Ok(Pki {
            server: renewing("server", server, &shown_to_clients)?,
            agent_client: renewing("agent-client", agent_client, &shown)?,
            admin,
            clients,
            authority,
        })
    }

    /// What clients are shown.
    #[cfg(test)]
    pub(crate) fn shown(&self) -> Vec<CertificateDer<'static>> {
        self.server.key_at(authority::unix_seconds()).cert.clone()
    }

    /// Shows clients a certificate that is good for these names too, from the next connection on.
    pub(crate) fn name_server(&self, config: &Config, names: &[String]) -> Result<(), Error> {
        self.server.play(Role::Server(server_names(config, names)))
    }
}

impl Identity {
    pub(crate) fn chain(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        use rustls::pki_types::pem::PemObject;
        let unusable = |_| Error::Tls(rustls::Error::General("unusable PEM".into()));
        let certificate =
            CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(unusable)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(unusable)?;
        Ok((vec![certificate], key))
    }
}

/// The identity stored under `name`, if it still fits its role; otherwise a new one.
fn identity(
    directory: &Path,
    name: &str,
    authority: &Authority,
    role: &Role,
    new: &mut NewFiles,
) -> Result<Identity, Error> {
    let certificate_path = directory.join(format!("{name}.crt"));
    let key_path = directory.join(format!("{name}.key"));
    let kept = std::fs::read_to_string(&certificate_path)
        .ok()
        .zip(std::fs::read_to_string(&key_path).ok())
        .filter(|(certificate, key)| authority.still_good(certificate, key, role));
    if let Some((certificate, key)) = kept {
        return Ok(Identity { certificate, key });
    }
    let identity = authority.issue(role)?;
    new.write(&key_path, &identity.key, Loss::Harmless)?;
    new.write(&certificate_path, &identity.certificate, Loss::Harmless)?;
    Ok(identity)
}

/// Every name and address under which clients reach this server.
fn server_names(config: &Config, own: &[String]) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "kubernetes", "kubernetes.default"]
        .map(String::from)
        .into();
    names.push("kubernetes.default.svc".into());
    names.push(format!("kubernetes.default.svc.{}", config.cluster_domain));
    let first_addresses = config.service_cidrs.iter().filter_map(crate::config::first);
    let addresses = std::iter::once(IpAddr::from([127, 0, 0, 1])).chain(first_addresses);
    names.extend(addresses.map(|a| a.to_string()));
    names.push("::1".into());
    names.extend(own.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// SHA-256 of the CA certificate, in hex: what a join token pins.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex(&Sha256::digest(certificate))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Pki {
    /// TLS as this server speaks it: anybody may connect, with any certificate or none.
    pub fn server_tls(&self) -> Result<rustls::ServerConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(AnyPeer(self.clients.clone())))
            .with_cert_resolver(self.server.clone());
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(tls)
    }

    /// Whether `certificates` are those of a client of ours that are good now.
    pub(crate) fn admits(&self, certificates: &[CertificateDer<'_>]) -> bool {
        let Some((own, others)) = certificates.split_first() else {
            return false;
        };
        let verified = self
            .clients
            .verify_client_cert(own, others, UnixTime::now());
        verified.is_ok()
    }

    /// TLS towards node agents: theirs must be a certificate of ours, and they are shown one of ours.
    pub fn agent_tls(&self) -> Result<rustls::ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.authority.roots()?)
            .with_client_cert_resolver(self.agent_client.clone()))
    }
}
