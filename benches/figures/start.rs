//! From exec to the first answer of the API.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Row, Samples, show};

const ROUNDS: usize = 15;

pub(crate) fn measure() -> Vec<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let scratch = std::env::temp_dir().join(format!("knarr-figures-{}", std::process::id()));
    let mut first = Vec::new();
    let mut again = Vec::new();
    for round in 0..ROUNDS {
        let data = scratch.join(round.to_string());
        first.push(start(&runtime, &data));
        again.push(start(&runtime, &data));
    }
    std::fs::remove_dir_all(&scratch).expect("our own scratch folder");
    let floor = Samples::take(ROUNDS, || {
        let began = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_knarr"))
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        assert!(status.expect("the binary").success());
        began.elapsed()
    });
    let row = |what: &str, samples: Vec<Duration>| Row {
        what: what.into(),
        figure: Samples::new(samples).show(),
        floor: show(floor.median()),
        floor_is: "the same binary printing its version",
    };
    vec![
        row("first start → API answers (p50 / p99)", first),
        row("later start → API answers (p50 / p99)", again),
    ]
}

fn start(runtime: &tokio::runtime::Runtime, data: &Path) -> Duration {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port();
    let began = Instant::now();
    let mut server = Command::new(env!("CARGO_BIN_EXE_knarr"))
        .args([
            "server",
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--data-dir",
        ])
        .arg(data)
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    while TcpStream::connect(address).is_err() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the server does not listen"
        );
        std::thread::sleep(Duration::from_micros(200));
    }
    runtime.block_on(async {
        let mut config = kube::Config::new(format!("https://{address}").parse().expect("a URL"));
        config.accept_invalid_certs = true;
        let client = kube::Client::try_from(config).expect("a client");
        let request = http::Request::get("/readyz")
            .body(kube::client::Body::empty())
            .expect("a request");
        let answer = client.send(request).await.expect("an answer");
        assert!(
            answer.status().is_success(),
            "/readyz answered {}",
            answer.status()
        );
    });
    let elapsed = began.elapsed();
    crate::lab::machine::terminate(&mut server);
    elapsed
}
