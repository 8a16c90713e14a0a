//! The binary `knarr`: parses, wires, prints. Knows no networking.

mod addresses;
mod agent;
mod cli;
mod client;
mod cluster;
mod durable;
mod echo;
mod exit;
mod flags;
mod front;
mod heap;
mod host;
mod join;
mod joined;
mod parts;
mod place;
mod ranges;
mod renewal;
mod rundir;
mod server;
mod settings;
mod up;
mod verbs;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Cli, Command},
    flags::LogFormat,
    settings::Settings,
};

/// Threads that run tasks; what blocks gets threads of its own.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    // Pid 1 of a pod stays small: it must not start a runtime or parse flags.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "pod-init")
    {
        return knarr_nodeagent::pod_init::main();
    }
    let cli = Cli::parse();
    heap::give_back_large_pieces();
    heap::share(heap::count(&cli.command, WORKERS));
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    let outcome = settings::settle(cli.flags, &hostname.to_string_lossy()).and_then(|settings| {
        start_log(&settings);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(WORKERS)
            .build()?;
        runtime.block_on(dispatch(cli.command, settings))
    });
    outcome.unwrap_or_else(|error| exit::report(&error))
}

async fn dispatch(command: Command, settings: Settings) -> Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Up(args) => up::run(args, settings, on_signal()?).await.map(done),
        Command::Server => server::run(settings, on_signal()?).await.map(done),
        Command::Agent(args) => agent::run(args, settings, on_signal()?).await.map(done),
        Command::Front(args) => front::run(args, settings, on_signal()?).await.map(done),
        Command::Apply(args) => verbs::apply::run(args, &settings).await.map(done),
        Command::Get(args) => verbs::get::run(args, &settings).await.map(done),
        Command::Delete(args) => verbs::delete::run(args, &settings).await.map(done),
        Command::Logs(args) => verbs::logs::run(args, &settings).await.map(done),
        Command::Exec(args) => verbs::exec::run(args, &settings).await,
        Command::Explain(args) => verbs::explain::run(args, &settings).await,
        Command::Status => verbs::status::run(&settings).await,
        Command::Token => cluster::print_token(&settings).map(done),
        Command::Kubeconfig => cluster::print_kubeconfig(&settings).map(done),
        Command::Down => rundir::down(&settings).await.map(done),
        Command::Echo(args) => echo::run(args, on_signal()?).await.map(done),
        Command::PodInit => unreachable!("dispatched before flags are parsed"),
    }
}

/// Cancelled by the first SIGINT or SIGTERM; a second one ends the process at once.
fn on_signal() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        for urgency in 0.. {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            token.cancel();
            if urgency > 0 {
                std::process::exit(130);
            }
        }
    });
    Ok(shutdown)
}

/// Talk goes to standard error, so that standard output holds only what was asked for.
fn start_log(settings: &Settings) {
    use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};
    let ours = [
        "knarr",
        "knarr_apiserver",
        "knarr_nodeagent",
        "knarr_netproxy",
        "knarr_netproxy_plan",
    ];
    let filter = Targets::new()
        .with_default(tracing::Level::WARN)
        .with_targets(ours.map(|t| (t, settings.log_level)));
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    match settings.log_format {
        LogFormat::Text => registry
            .with(layer.with_ansi(std::env::var_os("NO_COLOR").is_none() && is_terminal()))
            .init(),
        LogFormat::Json => registry.with(layer.json()).init(),
    }
}

fn is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal()
}
