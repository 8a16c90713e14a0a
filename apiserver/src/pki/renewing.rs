//! Certificates that are issued anew: before they end, by the first connection that finds one old, and for other names. Needs no timer.

use std::{
    ops::Range,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
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
    provider: Arc<CryptoProvider>,
    current: RwLock<Current>,
}

struct Current {
    role: Role,
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
            current: RwLock::new(Current::new(role, shown, &provider)?),
            provider,
        })
    }

    /// The key to show at `now_seconds`; an old one is better than none.
    pub(super) fn key_at(&self, now_seconds: i64) -> Arc<CertifiedKey> {
        {
            let current = self.read();
            if current.fresh_seconds.contains(&now_seconds) {
                return current.key.clone();
            }
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !current.fresh_seconds.contains(&now_seconds) {
            match self.issued(current.role.clone()) {
                Ok(renewed) => *current = renewed,
                Err(error) => tracing::warn!(%error, "renewing a certificate"),
            }
        }
        current.key.clone()
    }

    /// Shows a certificate for another role from here on; the old one after a failure.
    pub(super) fn play(&self, role: Role) -> Result<(), Error> {
        if self.read().role == role {
            return Ok(());
        }
        let issued = self.issued(role)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = issued;
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn issued(&self, role: Role) -> Result<Current, Error> {
        let mut new = NewFiles::default();
        let identity = identity(
            &self.place.directory,
            self.place.name,
            &self.authority,
            &role,
            &mut new,
        )?;
        new.place()?;
        Current::new(role, &identity, &self.provider)
    }
}

impl Current {
    fn new(role: Role, identity: &Identity, provider: &CryptoProvider) -> Result<Current, Error> {
        let (chain, key) = identity.chain()?;
        Ok(Current {
            role,
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
            .field("role", &self.read().role)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Config, pki::Pki};

    fn opened(directory: &Path) -> Pki {
        let mut new = NewFiles::default();
        let pki = Pki::open(&Config::for_tests(directory.to_owned()), &mut new).unwrap();
        new.place().unwrap();
        pki
    }

    #[test]
    fn an_old_certificate_is_replaced_and_a_fresh_one_kept() {
        let directory = std::env::temp_dir().join(format!("knarr-renew-{}", uuid::Uuid::new_v4()));
        let pki = opened(&directory);
        let due = pki.server.read().fresh_seconds.end;
        let shown = pki.server.key_at(due - 1);
        assert!(Arc::ptr_eq(&shown, &pki.server.key_at(due - 1)));
        std::fs::remove_file(directory.join("pki").join("server.crt")).unwrap();
        let renewed = pki.server.key_at(due);
        assert_ne!(shown.cert, renewed.cert);
        assert!(Arc::ptr_eq(&renewed, &pki.server.key_at(due - 1)));
        let _gone = std::fs::remove_dir_all(&directory);
    }

    #[test]
    fn a_server_that_moves_shows_its_new_names_and_keeps_them() {
        let directory = std::env::temp_dir().join(format!("knarr-moves-{}", uuid::Uuid::new_v4()));
        let pki = opened(&directory);
        let config = Config::for_tests(directory.clone());
        let shown = pki.server.key_at(unix_seconds());
        let there = [config.advertise_address, [198, 51, 100, 7].into()];
        let names = there.map(|address| address.to_string());
        pki.name_server(&config, &names).unwrap();
        let moved = pki.server.key_at(unix_seconds());
        assert_ne!(shown.cert, moved.cert);
        pki.name_server(&config, &names).unwrap();
        assert!(Arc::ptr_eq(&moved, &pki.server.key_at(unix_seconds())));
        let mut config = config;
        config.server_names = names.into();
        let mut new = NewFiles::default();
        let again = Pki::open(&config, &mut new).unwrap();
        assert_eq!(again.server.key_at(unix_seconds()).cert, moved.cert);
        let _gone = std::fs::remove_dir_all(&directory);
    }
}
