//! `knarr exec`: a command in a container, with its exit code.

use std::process::ExitCode;

use anyhow::{Context, Result};
use futures_util::{Sink, SinkExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, TerminalSize};
use nix::sys::termios::{self, SetArg, Termios};
use tokio::{
    io::AsyncWriteExt,
    signal::unix::{SignalKind, signal},
};

use super::Target;
use crate::{
    exit::{Code, Failure},
    settings::Settings,
};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Standard input is a terminal
    #[arg(short, long)]
    tty: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(crate) async fn run(args: Args, settings: &Settings) -> Result<ExitCode> {
    let Args {
        target,
        stdin,
        tty,
        command,
    } = args;
    let (pods, name) = target.pods(settings)?;
    let params = AttachParams {
        container: target.container.clone(),
        stdin,
        stdout: true,
        stderr: !tty,
        tty,
        ..AttachParams::default()
    };
    let mut attached = pods
        .exec(name, command, &params)
        .await
        .context("cannot start the command")?;
    let raw = if tty { RawTerminal::enter() } else { None };

    if let Some(mut input) = attached.stdin() {
        tokio::spawn(async move {
            let _ends_with_the_command = tokio::io::copy(&mut tokio::io::stdin(), &mut input).await;
            let _ends_with_the_command = input.shutdown().await;
        });
    }
    if let Some(resizes) = attached.terminal_size() {
        tokio::spawn(forward_resizes(resizes));
    }
    let output = attached.stdout().map(|mut from| {
        tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::stdout()).await })
    });
    let errors = attached.stderr().map(|mut from| {
        tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::stderr()).await })
    });
    let status = attached
        .take_status()
        .context("the server gave no status")?
        .await;
    for copying in [output, errors].into_iter().flatten() {
        copying.await??;
    }
    drop(raw);
    exit_code(status)
}

/// The exit code travels as a cause of the final Status.
fn exit_code(status: Option<Status>) -> Result<ExitCode> {
    let Some(status) = status else {
        return Err(Failure::new(
            Code::Unreachable,
            "the connection ended before the command did",
        )
        .into());
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(ExitCode::SUCCESS);
    }
    let causes = status.details.and_then(|d| d.causes).unwrap_or_default();
    let code = causes
        .iter()
        .find(|c| c.reason.as_deref() == Some("ExitCode"))
        .and_then(|c| c.message.clone());
    match code.and_then(|text| text.parse::<u8>().ok()) {
        Some(code) => Ok(ExitCode::from(code)),
        None => Err(Failure::new(
            Code::Failed,
            status
                .message
                .unwrap_or_else(|| "the command failed".into()),
        )
        .into()),
    }
}

/// Tells the other side the terminal's size, at once and whenever it changes.
async fn forward_resizes(mut sizes: impl Sink<TerminalSize> + Unpin) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    loop {
        if let Some(size) = terminal_size()
            && sizes.send(size).await.is_err()
        {
            return;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

fn terminal_size() -> Option<TerminalSize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one winsize to the pointer, which outlives the call.
    let result = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0).then_some(TerminalSize {
        height: size.ws_row,
        width: size.ws_col,
    })
}

/// Puts the terminal back as it was when it goes out of scope.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Option<Self> {
        let before = termios::tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(RawTerminal(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _nothing_else_can_be_done =
            termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}
