//! Why a strategic merge patch cannot be applied, in the words of the Go library.

use super::does_not_apply;
use crate::status::Status;

/// Why a strategic merge patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("invalid patch format of primitive list")]
    PrimitiveListFormat,
    #[error("invalid patch format of retainKeys")]
    RetainKeysFormat,
    #[error("invalid patch format of setElementOrder list")]
    SetOrderFormat,
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("map: {0} does not contain declared merge key: {1}")]
    NoMergeKey(String, String),
    #[error("expected a {0}, but received a {1}")]
    WrongType(&'static str, &'static str),
    #[error("unknown patch type: {0} in map: {1}")]
    Directive(String, String),
    #[error("{0}")]
    Other(String),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::PrimitiveListFormat | Error::RetainKeysFormat | Error::SetOrderFormat => {
                Status::bad_request(error.to_string())
            }
            Error::ListOfLists => does_not_apply(),
            other => Status::failure(500, "", other.to_string()),
        }
    }
}
