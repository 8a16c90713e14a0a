//! Probes and lifecycle handlers. Runs nothing.

use serde_json::Value;

use super::super::checks::{self, Errors};
use crate::{
    field::{Error, Path},
    names, walk,
};

const SECOND_HANDLER: &str = "may not specify more than 1 handler type";
const STOP_SIGNALS_WINDOWS: [&str; 2] = ["SIGKILL", "SIGTERM"];
const STOP_SIGNALS_LINUX: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// What kind of probe is judged; each has rules of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    Liveness,
    Readiness,
    Startup,
}

impl Probe {
    pub const ALL: [Probe; 3] = [Probe::Liveness, Probe::Readiness, Probe::Startup];

    pub fn field(self) -> &'static str {
        match self {
            Probe::Liveness => "livenessProbe",
            Probe::Readiness => "readinessProbe",
            Probe::Startup => "startupProbe",
        }
    }
}

/// Validates all probes of a container.
pub fn validate(errors: &mut Errors, path: &Path, container: &Value, grace_seconds: Option<i64>) {
    for kind in Probe::ALL {
        let probe = walk::at(container, kind.field());
        if !probe.is_null() {
            one(
                errors,
                &path.child(kind.field()),
                probe,
                kind,
                grace_seconds,
            );
        }
    }
}

fn one(errors: &mut Errors, path: &Path, probe: &Value, kind: Probe, grace_seconds: Option<i64>) {
    handler(errors, path, probe, grace_seconds);
    checks::counts(
        errors,
        path,
        probe,
        &[
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ],
    );
    let own_grace = walk::integer(probe, "terminationGracePeriodSeconds");
    let path_grace = path.child("terminationGracePeriodSeconds");
    if let Some(seconds) = own_grace.filter(|seconds| *seconds <= 0) {
        errors.push(Error::invalid(
            &path_grace,
            seconds,
            "must be greater than 0",
        ));
    }
    let successes = walk::count(probe, "successThreshold");
    match kind {
        Probe::Readiness => {
            if let Some(seconds) = own_grace {
                let detail = "must not be set for readinessProbes";
                errors.push(Error::invalid(&path_grace, seconds, detail));
            }
        }
        Probe::Liveness | Probe::Startup if successes != 1 => {
            let path = path.child("successThreshold");
            errors.push(Error::invalid(&path, successes, "must be 1"));
        }
        Probe::Liveness | Probe::Startup => {}
    }
}

/// Validates the hooks of a container and the signal that stops it.
pub fn lifecycle(errors: &mut Errors, path: &Path, lifecycle: &Value, spec: &Value) {
    let grace_seconds = walk::integer(spec, "terminationGracePeriodSeconds");
    for hook in ["postStart", "preStop"] {
        let own = walk::at(lifecycle, hook);
        if !own.is_null() {
            handler(errors, &path.child(hook), own, grace_seconds);
        }
    }
    let signal = walk::text(lifecycle, "stopSignal");
    if !walk::has(lifecycle, "stopSignal") {
        return;
    }
    let path = path.child("stopSignal");
    match walk::text(spec, "os.name") {
        "windows" => checks::one_of(errors, &path, signal, &STOP_SIGNALS_WINDOWS),
        "linux" => checks::one_of(errors, &path, signal, &STOP_SIGNALS_LINUX),
        _ if walk::has(spec, "os") => {}
        _ => {
            let detail = "may not be set for containers with empty `spec.os.name`";
            errors.push(Error::forbidden(&path, detail));
        }
    }
}

fn handler(errors: &mut Errors, path: &Path, handler: &Value, grace_seconds: Option<i64>) {
    let mut is_first = true;
    for name in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = walk::at(handler, name);
        if action.is_null() {
            continue;
        }
        let path = path.child(name);
        if !is_first {
            errors.push(Error::forbidden(&path, SECOND_HANDLER));
            continue;
        }
        is_first = false;
        match name {
            "exec" if walk::list(action, "command").is_empty() => {
                errors.push(Error::required(&path.child("command"), ""));
            }
            "exec" => {}
            "httpGet" => http_get(errors, &path, action),
            "sleep" => sleep(errors, &path, action, grace_seconds),
            _ => checks::port_or_name(errors, &path.child("port"), walk::at(action, "port")),
        }
    }
    if is_first {
        errors.push(Error::required(path, "must specify a handler type"));
    }
}

fn http_get(errors: &mut Errors, path: &Path, action: &Value) {
    checks::required(errors, &path.child("path"), walk::text(action, "path"));
    checks::port_or_name(errors, &path.child("port"), walk::at(action, "port"));
    let scheme = walk::text(action, "scheme");
    if !["HTTP", "HTTPS"].contains(&scheme) {
        let path = path.child("scheme");
        errors.push(Error::not_supported(&path, scheme, &["HTTP", "HTTPS"]));
    }
    for header in walk::list(action, "httpHeaders") {
        let name = walk::text(header, "name");
        let messages = names::http_header_name(name);
        checks::complain(errors, &path.child("httpHeaders"), name, messages);
    }
}

fn sleep(errors: &mut Errors, path: &Path, action: &Value, grace_seconds: Option<i64>) {
    let seconds = walk::count(action, "seconds");
    if let Some(grace) = grace_seconds.filter(|grace| seconds < 0 || seconds > *grace) {
        let detail =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(Error::invalid(path, seconds, &detail));
    }
}
