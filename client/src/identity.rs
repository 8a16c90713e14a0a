//! Certificates that are replaced while connections use them. Signs nothing and asks nobody for new ones.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why PEM is no identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading the certificate or its key")]
    Pem(#[from] pem::Error),
    #[error("using the certificate")]
    Tls(#[from] rustls::Error),
    #[error("making sense of the certificate")]
    Certificate,
}

/// A certificate and its key, as servers and clients show it; a new one is for connections to come.
#[derive(Debug)]
pub struct Identity {
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    addresses: Vec<IpAddr>,
    due: SystemTime,
}

impl Identity {
    /// Reads PEM.
    ///
    /// # Errors
    /// When it is no certificate, no key, or they do not belong together.
    pub fn new(certificate: &str, key: &str) -> Result<Self, Error> {
        let current = RwLock::new(Current::read(certificate, key)?);
        Ok(Identity { current })
    }

    /// Shows another certificate from here on.
    ///
    /// # Errors
    /// As [`Identity::new`]; the old one is shown then as before.
    pub fn replace(&self, certificate: &str, key: &str) -> Result<(), Error> {
        let new = Current::read(certificate, key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// When the next one is due: when a quarter of this one's time is left.
    pub fn due(&self) -> SystemTime {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .due
    }

    /// Whether the certificate is good for a server at each of these addresses.
    pub fn names_all(&self, addresses: &[IpAddr]) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        addresses.iter().all(|ip| current.addresses.contains(ip))
    }

    fn key(&self) -> Arc<CertifiedKey> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.key.clone()
    }
}

impl Current {
    fn read(certificate: &str, key: &str) -> Result<Self, Error> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
        let chain: Vec<_> = chain.collect::<Result<_, _>>()?;
        let first = chain.first().ok_or(Error::Certificate)?;
        let (_, certificate) = X509Certificate::from_der(first).map_err(|_| Error::Certificate)?;
        let due = due(&certificate).ok_or(Error::Certificate)?;
        let addresses = addresses(&certificate);
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        Ok(Current {
            key: Arc::new(key),
            addresses,
            due,
        })
    }
}

fn addresses(certificate: &X509Certificate<'_>) -> Vec<IpAddr> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let address = |name: &GeneralName<'_>| match name {
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()
        }
        _ => None,
    };
    let names = names.value.general_names.iter();
    names.filter_map(address).collect()
}

fn due(certificate: &X509Certificate<'_>) -> Option<SystemTime> {
    let validity = certificate.validity();
    let (from, to) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    let seconds = to.checked_sub(to.checked_sub(from)? / 4)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
