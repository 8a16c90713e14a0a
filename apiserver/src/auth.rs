//! Who is asking: from certificates and tokens to users. What a user may do is not decided here.

mod browser;

use http::HeaderMap;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    accounts::{Accounts, Bearer},
    tokens::Tokens,
    user::User,
};

pub(crate) use browser::move_token;

/// Tells who sent a request from the connection's certificate and the request's headers.
pub struct Authenticator {
    tokens: Tokens,
    pub(crate) accounts: Accounts,
}

/// The credentials given are nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unauthorized;

/// Paths that answer without credentials.
const OPEN_PATHS: &[&str] = &["/livez", "/readyz", "/healthz", "/version"];
/// Paths that check a secret of their own.
const JOIN_PATHS: &[&str] = &["/cacerts", "/knarr/v1/join"];

impl Authenticator {
    pub(crate) fn new(tokens: Tokens, accounts: Accounts) -> Self {
        Authenticator { tokens, accounts }
    }

    /// A certificate goes before a token, as in Kubernetes.
    pub(crate) fn user(
        &self,
        path: &str,
        certificate: Option<&User>,
        headers: &HeaderMap,
    ) -> Result<User, Unauthorized> {
        if let Some(user) = certificate {
            return Ok(user.clone());
        }
        if is_below(JOIN_PATHS, path) {
            return Ok(User::anonymous());
        }
        if let Some(token) = bearer(headers) {
            let bearer = self.bearer(token, &[self.accounts.audience()]);
            return bearer.map(|bearer| bearer.user).ok_or(Unauthorized);
        }
        if is_below(OPEN_PATHS, path) {
            return Ok(User::anonymous());
        }
        Err(Unauthorized)
    }

    /// Who bears `token`, if it is good for one of `audiences`.
    pub(crate) fn bearer(&self, token: &str, audiences: &[&str]) -> Option<Bearer> {
        if let Some(user) = self.tokens.user(token) {
            return Some(Bearer {
                user,
                audiences: audiences.iter().map(|&a| a.to_owned()).collect(),
            });
        }
        let now_seconds = jiff::Timestamp::now().as_second();
        self.accounts.bearer(token, audiences, now_seconds)
    }
}

fn is_below(paths: &[&str], path: &str) -> bool {
    paths.iter().any(|parent| {
        path.strip_prefix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// The token of an `Authorization: Bearer …` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(http::header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
        .filter(|token| !token.is_empty())
}

/// The user a client certificate names: its CN, in the groups its Os name.
pub(crate) fn certificate_user(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups: Vec<&str> = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .collect();
    Some(User::new(name, &groups))
}
