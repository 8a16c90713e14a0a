//! Certificates with short lives, on connections that live longer.

use std::sync::Arc;

use knarr_client::AnyCertificate;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, ServerConfig, crypto::ring, pki_types::ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;
use crate::join::Serving;

/// Of a certificate that began so long ago and ends then.
fn issued(age: Duration, left: Duration) -> Issued {
    issued_to(vec!["node-1".to_owned()], age, left)
}

fn issued_to(names: Vec<String>, age: Duration, left: Duration) -> Issued {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(names).expect("names");
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - age).into(), (now + left).into());
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    let key = key.serialize_pem();
    Issued {
        ca: String::new(),
        client_certificate: certificate.clone(),
        client_key: key.clone(),
        serving: Some(Serving { certificate, key }),
    }
}

/// A machine without addresses.
fn nowhere() -> watch::Receiver<Vec<IpAddr>> {
    watch::channel(Vec::new()).1
}

type Ends = (
    client::TlsStream<DuplexStream>,
    server::TlsStream<DuplexStream>,
);

/// A connection to a server with this identity.
async fn connect(credentials: &Credentials) -> Ends {
    let provider = Arc::new(ring::default_provider());
    let serving = credentials.serving.clone().expect("a serving identity");
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(serving);
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_client_cert_resolver(credentials.client.clone());
    let (here, there) = duplex(64 << 10);
    let name = ServerName::try_from("node-1").expect("a name");
    let (client, server) = tokio::join!(
        TlsConnector::from(Arc::new(client)).connect(name, here),
        TlsAcceptor::from(Arc::new(server)).accept(there),
    );
    (client.expect("a client"), server.expect("a server"))
}

/// The certificate that a server showed.
fn shown((client, _): &Ends) -> Vec<u8> {
    let certificates = client.get_ref().1.peer_certificates();
    certificates.expect("a certificate")[0].to_vec()
}

#[tokio::test]
async fn new_certificates_are_shown_and_open_connections_stay() {
    let hour = Duration::from_secs(3600);
    let credentials = Credentials::new(&issued(hour * 9, hour)).expect("credentials");
    let mut open = connect(&credentials).await;
    let fresh = Arc::new(tokio::sync::Notify::new());
    let signed = fresh.clone();
    let sign: Sign = Box::new(move |_| {
        signed.notify_one();
        Box::pin(std::future::ready(Ok(issued(hour, hour * 9))))
    });
    let keeping = tokio::spawn(keep_fresh(credentials.clone(), sign, nowhere()));
    fresh.notified().await;
    while credentials.due() < SystemTime::now() {
        tokio::task::yield_now().await;
    }
    let (client, server) = &mut open;
    client.write_all(b"still here").await.expect("it is open");
    client.flush().await.expect("it is open");
    let mut heard = [0; 10];
    server.read_exact(&mut heard).await.expect("it is open");
    assert_eq!(&heard, b"still here");
    assert_ne!(shown(&open), shown(&connect(&credentials).await));
    assert!(!keeping.is_finished());
    keeping.abort();
}

#[test]
fn the_next_certificate_is_due_in_the_last_quarter() {
    let hour = Duration::from_secs(3600);
    for (age, left, is_due) in [(0, 4, false), (2, 2, false), (7, 2, true), (9, 1, true)] {
        let credentials = Credentials::new(&issued(hour * age, hour * left)).expect("credentials");
        let found = credentials.due() < SystemTime::now();
        assert_eq!(found, is_due, "{age} h old, {left} h left");
    }
}

#[test]
fn what_is_no_certificate_replaces_none() {
    let hour = Duration::from_secs(3600);
    let credentials = Credentials::new(&issued(hour, hour)).expect("credentials");
    let due = credentials.due();
    let mut broken = issued(Duration::ZERO, hour * 9);
    broken.client_key = issued(hour, hour).client_key;
    assert!(credentials.replace(&broken).is_err());
    assert_eq!(credentials.due(), due);
}

#[tokio::test]
async fn a_machine_that_moves_has_certificates_for_where_it_is() {
    const DEADLINE: Duration = Duration::from_secs(60);
    let hour = Duration::from_secs(3600);
    let credentials = Credentials::new(&issued(hour, hour * 9)).expect("credentials");
    let there: IpAddr = [192, 0, 2, 7].into();
    assert!(credentials.are_good_for(&[]) && !credentials.are_good_for(&[there]));
    let sign: Sign = Box::new(move |ips| {
        let names = ips.iter().map(IpAddr::to_string).collect();
        Box::pin(std::future::ready(Ok(issued_to(names, hour, hour * 9))))
    });
    let (moves, node_ips) = watch::channel(Vec::new());
    let keeping = tokio::spawn(keep_fresh(credentials.clone(), sign, node_ips));
    moves.send_replace(vec![there]);
    let replaced = async {
        while !credentials.are_good_for(&[there]) {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, replaced).await.is_ok());
    keeping.abort();
}
