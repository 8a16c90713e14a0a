//! Certificates that are issued anew before they end, by the first connection that finds one old. Needs no timer.

use std::{
    ops::Range,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    Authority, Error, Identity, NewFiles, Role,
    authority::{fresh_seconds, unix_seconds},
    identity,
};

/// Where a certificate is kept.
pub(super) struct Place {
    pub(super) directory: PathBuf,
    pub(super) name: &'static str,
}

/// The certificate in use and all it takes to replace it.
pub(super) struct Renewing {
    place: Place,
    authority: Arc<Authority>,
    role: Role,
    provider: Arc<CryptoProvider>,
    current: RwLock<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    /// Unix time at which no other one is due; a clock that was set back finds one that begins later.
    fresh_seconds: Range<i64>,
}

impl Renewing {
    pub(super) fn new(
        place: Place,
        authority: &Arc<Authority>,
        role: Role,
        shown: &Identity,
        provider: Arc<CryptoProvider>,
    ) -> Result<Renewing, Error> {
        Ok(Renewing {
            place,
            authority: authority.clone(),
            role,
            current: RwLock::new(Current::new(shown, &provider)?),
            provider,
        })
    }

    /// The key to show at `now_seconds`; an old one is better than none.
    fn key_at(&self, now_seconds: i64) -> Arc<CertifiedKey> {
        {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            if current.fresh_seconds.contains(&now_seconds) {
                return current.key.clone();
            }
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !current.fresh_seconds.contains(&now_seconds) {
            match self.renewed() {
                Ok(renewed) => *current = renewed,
                Err(error) => tracing::warn!(%error, "renewing a certificate"),
            }
        }
        current.key.clone()
    }

    fn renewed(&self) -> Result<Current, Error> {
        let mut new = NewFiles::default();
        let identity = identity(
            &self.place.directory,
            self.place.name,
            &self.authority,
            &self.role,
            &mut new,
        )?;
        new.place()?;
        Current::new(&identity, &self.provider)
    }
}

impl Current {
    fn new(identity: &Identity, provider: &CryptoProvider) -> Result<Current, Error> {
        let (chain, key) = identity.chain()?;
        Ok(Current {
            key: Arc::new(CertifiedKey::from_der(chain, key, provider)?),
            fresh_seconds: fresh_seconds(&identity.certificate).unwrap_or(0..i64::MAX),
        })
    }
}

impl ResolvesServerCert for Renewing {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key_at(unix_seconds()))
    }
}

impl ResolvesClientCert for Renewing {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.key_at(unix_seconds()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for Renewing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewing")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, pki::Pki};

    #[test]
    fn an_old_certificate_is_replaced_and_a_fresh_one_kept() {
        let directory = std::env::temp_dir().join(format!("knarr-renew-{}", uuid::Uuid::new_v4()));
        let mut new = NewFiles::default();
        let pki = Pki::open(&Config::for_tests(directory.clone()), &mut new).unwrap();
        new.place().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let place = Place {
            directory: pki.directory.clone(),
            name: "server",
        };
        let role = pki.server_role.clone();
        let renewing = Renewing::new(place, &pki.authority, role, &pki.server, provider).unwrap();
        let due = fresh_seconds(&pki.server.certificate).unwrap().end;
        let shown = renewing.key_at(due - 1);
        assert!(Arc::ptr_eq(&shown, &renewing.key_at(due - 1)));
        std::fs::remove_file(directory.join("pki").join("server.crt")).unwrap();
        let renewed = renewing.key_at(due);
        assert_ne!(shown.cert, renewed.cert);
        assert!(Arc::ptr_eq(&renewed, &renewing.key_at(due - 1)));
        let _gone = std::fs::remove_dir_all(&directory);
    }
}
