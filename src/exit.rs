//! Exit codes, and errors as the user sees them: one line with a hint.

use std::{fmt, process::ExitCode};

use knarr_apiserver::storage::CommitError;

/// The exit codes that `knarr --help` documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Failed = 1,
    Unreadable = 2,
    Unreachable = 3,
    NotRoot = 4,
    InUse = 5,
}

/// An error that knows its exit code and what the user can do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) code: Code,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Failure {
            code,
            message: message.to_string(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

/// Prints `knarr: what: why (hint: …)` and gives the code to exit with.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let (code, line) = describe(error);
    eprintln!("knarr: {line}");
    ExitCode::from(code as u8)
}

fn describe(error: &anyhow::Error) -> (Code, String) {
    let mut line = String::new();
    let mut code = Code::Failed;
    let mut hint = None;
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            code = failure.code;
            hint = hint.or(failure.hint.clone());
        }
        hint = hint.or_else(|| is_full(cause).then(|| FULL_HINT.to_owned()));
        let text = words(cause);
        // Many libraries repeat their source in their own text.
        if !line.ends_with(&text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&text);
        }
    }
    let mut line = line.replace('\n', " ");
    if let Some(hint) = hint {
        line.push_str(&format!(" (hint: {hint})"));
    }
    (code, line)
}

/// What a server refused it says in its message; its whole answer is for programs.
fn words(cause: &(dyn std::error::Error + 'static)) -> String {
    let answer = match cause.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(answer)) => Some(answer),
        Some(_) | None => cause.downcast_ref(),
    };
    answer.map_or_else(|| cause.to_string(), |answer| answer.message.clone())
}

const FULL_HINT: &str = "make room there and start again";

/// Whether a disk had no room.
fn is_full(cause: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind;
    let file = cause.downcast_ref::<std::io::Error>();
    let database = cause.downcast_ref::<CommitError>();
    matches!(database, Some(CommitError::DiskFull))
        || file.is_some_and(|error| {
            matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            )
        })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_is_one_line_with_code_and_hint() {
        let failure =
            Failure::new(Code::InUse, "port 6443 is taken").hint("choose another with --port");
        let error = Err::<(), _>(failure)
            .context("cannot start the API server")
            .expect_err("an error");
        let expected =
            "cannot start the API server: port 6443 is taken (hint: choose another with --port)";
        assert_eq!(describe(&error), (Code::InUse, expected.to_owned()));
    }

    #[test]
    fn a_refusal_is_the_servers_message() {
        let message = "pods \"web\" not found";
        let answer = kube::core::Status::failure(message, "NotFound");
        let error = anyhow::Error::new(kube::Error::Api(Box::new(answer))).context("no logs");
        assert_eq!(describe(&error).1, format!("no logs: {message}"));
    }

    #[test]
    fn a_full_disk_is_said_to_be_full() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        for error in [full.into(), anyhow::Error::new(CommitError::DiskFull)] {
            let (code, line) = describe(&error.context("cannot write cluster.yaml"));
            assert_eq!(code, Code::Failed);
            assert!(
                line.ends_with("(hint: make room there and start again)"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_plain_error_exits_with_1_and_stays_on_one_line() {
        let error = anyhow::anyhow!("two\nlines");
        assert_eq!(describe(&error), (Code::Failed, "two lines".to_owned()));
    }
}
