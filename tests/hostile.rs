//! Attacks on a real server's memory: it stays under a bound, comes back down, and others are answered meanwhile.

mod attacks;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::lab::{wait, world::World};

/// What an attack may cost, over what the server took before it.
const COST_MIB_MAX: f64 = 192.0;
/// What may be left of that when the attackers are gone: free, but kept by the allocator.
const LEFT_MIB_MAX: f64 = 96.0;
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(60);
/// For one request of somebody else's during an attack, on a busy machine.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
const ATTACK_TIME_MAX: Duration = Duration::from_secs(240);

/// How an attacker reaches the server: with the administrator's token, whom no bound on requests protects against.
#[derive(Clone)]
struct Target {
    address: String,
    token: String,
    connector: TlsConnector,
}

impl Target {
    fn new(world: &World) -> Self {
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let data = world.nodes[0].data_dir();
        let read = |file: &str| std::fs::read_to_string(data.join(file)).expect(file);
        let ca = CertificateDer::from_pem_slice(read("pki/ca.crt").as_bytes()).expect("PEM");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca).expect("a CA");
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let kubeconfig = read("kubeconfig.yaml");
        let mut lines = kubeconfig.lines();
        let token = lines.find_map(|line| line.trim().strip_prefix("token: "));
        Target {
            address: format!("{}:6443", world.nodes[0].ip),
            token: token.expect("a token").to_owned(),
            connector: TlsConnector::from(Arc::new(tls)),
        }
    }

    /// `None` if the server had enough of it.
    async fn connect(&self) -> Option<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(&self.address).await.ok()?;
        let name = ServerName::try_from("kubernetes.default.svc").expect("a name");
        self.connector.connect(name, tcp).await.ok()
    }

    fn head(&self, request: &str, headers: &str) -> String {
        let Target { token, .. } = self;
        format!("{request} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}\r\n")
    }
}

/// Does something on the client's machine, to its end.
fn act(world: &World, what: impl AsyncFnOnce(Target) + Send + 'static) {
    let target = Target::new(world);
    world.client.run(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let done = tokio::time::timeout(ATTACK_TIME_MAX, what(target));
            done.await.expect("it comes to an end");
        });
    });
}

/// Runs an attack from the client's machine while node-1's administrator goes on with what they do.
fn check(world: &World, what: &str, attack: impl AsyncFnOnce(Target) + Send + 'static) {
    let before = pss_mib(world);
    let began = Instant::now();
    let mut peak = before;
    std::thread::scope(|scope| {
        let attacking = scope.spawn(move || act(world, attack));
        while !attacking.is_finished() {
            peak = peak.max(pss_mib(world));
            let asked = Instant::now();
            world.get("/api/v1/namespaces/default");
            let took = asked.elapsed();
            assert!(took < ANSWER_TIME_MAX, "{what}: an answer took {took:?}");
        }
    });
    let took = began.elapsed();
    let cost = peak - before;
    assert!(cost < COST_MIB_MAX, "{what}: it cost {cost:.0} MiB");
    let left = wait::until(
        &format!("{what}: memory is free again"),
        RECOVERY_TIME_MAX,
        || match pss_mib(world) - before {
            left if left < LEFT_MIB_MAX => Ok(left),
            left => Err(format!("{left:.0} MiB are left")),
        },
    );
    println!("{what}: {before:.0} MiB before, {peak:.0} at most, {left:.0} left after {took:.0?}");
}

fn pss_mib(world: &World) -> f64 {
    let path = format!("/proc/{}/smaps_rollup", world.nodes[0].pid());
    let text = std::fs::read_to_string(path).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.expect("a size") / 1024.0
}

#[test]
fn memory_stays_bounded_under_attack() {
    let world = World::running(1);
    check(&world, "4,000 silent connections", attacks::silence);
    check(&world, "1,000 endless heads", attacks::heads);
    check(&world, "100 bodies of 3 MiB", attacks::bodies);
    check(&world, "20 slow bodies of 3 MiB", attacks::few_slow_bodies);
    check(&world, "200 slow bodies of 3 MiB", attacks::slow_bodies);
    check(&world, "50 bombs", attacks::bombs);
}

#[test]
fn memory_stays_bounded_whatever_is_read() {
    let world = World::running(1);
    check(&world, "400 long selectors", attacks::selectors);
    act(&world, attacks::store);
    check(&world, "200 long answers unread", attacks::unread_answers);
    check(
        &world,
        "200 long answers read slowly",
        attacks::slowly_read_answers,
    );
    check(&world, "24 lists of 8 MiB", attacks::lists);
}
