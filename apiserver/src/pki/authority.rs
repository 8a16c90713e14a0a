//! The certificate authority: its own certificate, and the ones it signs.

use std::{
    net::IpAddr,
    ops::Range,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{RootCertStore, pki_types::CertificateDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Error, Identity, files::NewFiles};

/// 2026-01-01: no clock that is behind this is right.
const EARLIEST_SECONDS: i64 = 1_767_225_600;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A certificate with less than this left is issued anew.
const RENEWAL_MARGIN: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves TLS under these names and addresses.
    Server(Vec<String>),
    /// Is this user, in these groups.
    Client { user: String, groups: Vec<String> },
    /// A node agent's own server.
    NodeServer { node: String, names: Vec<String> },
}

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// Reads the authority in `directory`, or makes it.
    pub(super) fn open(directory: &Path, new: &mut NewFiles) -> Result<Authority, Error> {
        let key_path = directory.join("ca.key");
        let key = new.read_or_make(&key_path, || {
            Ok::<_, Error>(KeyPair::generate()?.serialize_pem())
        })?;
        let key = KeyPair::from_pem(&key).map_err(|_| Error::Unreadable(key_path))?;
        let path = directory.join("ca.crt");
        let pem = new.read_or_make(&path, || {
            Ok::<_, Error>(authority_params().self_signed(&key)?.pem())
        })?;
        let certificate = parse_pem(&pem).ok_or_else(|| Error::Unreadable(path))?;
        Ok(Authority {
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate,
            pem,
        })
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(roots)
    }

    /// Makes a key and signs it.
    pub fn issue(&self, role: &Role) -> Result<Identity, Error> {
        self.issue_within(role, Span::of_subject(SystemTime::now()))
    }

    pub(crate) fn issue_within(&self, role: &Role, span: Span) -> Result<Identity, Error> {
        let key = KeyPair::generate()?;
        let certificate = role.params(span).signed_by(&key, &self.issuer)?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Signs the key of a request; everything else in the request is ignored, `role` says what the certificate holds.
    pub fn sign(&self, request: &str, role: &Role) -> Result<String, Error> {
        let mut request = CertificateSigningRequestParams::from_pem(request)?;
        request.params = role.params(Span::of_subject(SystemTime::now()));
        Ok(request.signed_by(&self.issuer)?.pem())
    }

    /// Whether `pem` is ours, of `key`, for `role`, and good for a while.
    pub(super) fn still_good(&self, pem: &str, key: &str, role: &Role) -> bool {
        let Ok(key) = KeyPair::from_pem(key) else {
            return false;
        };
        let Some(der) = parse_pem(pem) else {
            return false;
        };
        let Ok((_, certificate)) = X509Certificate::from_der(&der) else {
            return false;
        };
        let Ok((_, authority)) = X509Certificate::from_der(&self.certificate) else {
            return false;
        };
        certificate
            .verify_signature(Some(authority.public_key()))
            .is_ok()
            && certificate.public_key().subject_public_key.data == key.public_key_raw()
            && fresh(&certificate).contains(&unix_seconds())
            && names(&certificate) == role.names()
    }
}

impl Role {
    fn names(&self) -> Vec<String> {
        match self {
            Role::Server(names) | Role::NodeServer { names, .. } => names.clone(),
            Role::Client { .. } => Vec::new(),
        }
    }

    fn params(&self, span: Span) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        set_validity(&mut params, span);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = self.names().iter().filter_map(|n| san(n)).collect();
        let (user, groups, usage) = match self {
            Role::Server(_) => (
                "knarr".to_owned(),
                Vec::new(),
                ExtendedKeyUsagePurpose::ServerAuth,
            ),
            Role::Client { user, groups } => (
                user.clone(),
                groups.clone(),
                ExtendedKeyUsagePurpose::ClientAuth,
            ),
            Role::NodeServer { node, .. } => (
                format!("system:node:{node}"),
                vec!["system:nodes".to_owned()],
                ExtendedKeyUsagePurpose::ServerAuth,
            ),
        };
        params.extended_key_usages = vec![usage];
        for group in groups {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        params.distinguished_name.push(DnType::CommonName, user);
        params
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = format!("knarr-ca@{}", unix_seconds());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    set_validity(&mut params, Span::of_authority(SystemTime::now()));
    params
}

/// From when to when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: SystemTime,
    pub(crate) to: SystemTime,
}

impl Span {
    /// A machine without a battery wakes in 1970 and learns the time later: the authority is good at either time.
    fn of_authority(now: SystemTime) -> Span {
        Span {
            from: SystemTime::UNIX_EPOCH,
            to: now.max(earliest()) + AUTHORITY_LIFETIME,
        }
    }

    /// Starts a day early: clocks of joining machines differ. Who does not know the time yet gives all the time there is.
    pub(crate) fn of_subject(now: SystemTime) -> Span {
        if now < earliest() {
            return Span::of_authority(now);
        }
        Span {
            from: now - DAY,
            to: now + LIFETIME,
        }
    }
}

fn earliest() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(EARLIEST_SECONDS.unsigned_abs())
}

fn set_validity(params: &mut CertificateParams, span: Span) {
    let Span { from, to } = span;
    (params.not_before, params.not_after) = (from.into(), to.into());
}

fn san(name: &str) -> Option<SanType> {
    match name.parse::<IpAddr>() {
        Ok(address) => Some(SanType::IpAddress(address)),
        Err(_) => Some(SanType::DnsName(name.try_into().ok()?)),
    }
}

/// The names and addresses a certificate is good for, in its own order.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|a| a.to_string()),
            _ => None,
        })
        .collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

fn parse_pem(pem: &str) -> Option<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

/// While it is what, in Unix time, a certificate need not be issued anew.
pub(super) fn fresh_seconds(pem: &str) -> Option<Range<i64>> {
    let der = parse_pem(pem)?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    Some(fresh(&certificate))
}

/// One that was made before the time was known has done its duty once it is.
fn fresh(certificate: &X509Certificate<'_>) -> Range<i64> {
    let validity = certificate.validity();
    let from = validity.not_before.timestamp();
    let due = validity.not_after.timestamp() - RENEWAL_MARGIN.as_secs() as i64;
    from..if from < EARLIEST_SECONDS {
        EARLIEST_SECONDS
    } else {
        due
    }
}

pub(super) fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        SystemTime::from(text.parse::<jiff::Timestamp>().unwrap())
    }

    #[test]
    fn what_is_signed_before_the_time_is_known_is_good_when_it_is() {
        let check = |now: &str, wanted: &str, expected: bool| {
            let (now, wanted) = (at(now), at(wanted));
            for span in [Span::of_authority(now), Span::of_subject(now)] {
                assert!(span.from <= now && now < span.to);
                let holds = span.from <= wanted && wanted < span.to;
                assert_eq!(holds, expected, "{span:?}");
            }
        };
        check("1970-01-01T00:00:20Z", "2026-11-24T00:00:00Z", true);
        check("1999-12-31T23:59:59Z", "2035-12-01T00:00:00Z", true);
        check("2026-11-24T00:00:00Z", "2026-11-23T01:00:00Z", true);
        check("2026-11-24T00:00:00Z", "2037-01-01T00:00:00Z", false);
    }

    #[test]
    fn the_authority_is_good_at_any_time_before_its_end() {
        let Span { from, to } = Span::of_authority(at("2040-01-01T00:00:00Z"));
        assert_eq!(
            (from, to),
            (SystemTime::UNIX_EPOCH, at("2049-12-29T00:00:00Z"))
        );
    }

    #[test]
    fn a_certificate_is_fresh_from_its_beginning_until_its_renewal() {
        let check = |span: Span, expected: [&str; 2]| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            set_validity(&mut params, span);
            let pem = params.self_signed(&key).unwrap().pem();
            let Range { start, end } = fresh_seconds(&pem).unwrap();
            let times =
                [start, end].map(|at| jiff::Timestamp::from_second(at).unwrap().to_string());
            assert_eq!(times, expected);
        };
        let of = |now| Span::of_subject(at(now));
        let normal = ["2026-11-23T00:00:00Z", "2027-08-26T00:00:00Z"];
        check(of("2026-11-24T00:00:00Z"), normal);
        let unknown = ["1970-01-01T00:00:00Z", "2026-01-01T00:00:00Z"];
        check(of("1970-01-01T00:00:20Z"), unknown);
        check(of("1999-01-01T00:00:00Z"), unknown);
    }
}
