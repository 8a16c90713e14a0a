//! Who is asking: from certificates and tokens to users. What a user may do is not decided here.

use http::HeaderMap;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::tokens::Tokens;

/// An authenticated identity; a request extension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
}

impl User {
    /// What requests without credentials are, where those are let in.
    pub fn anonymous() -> Self {
        User {
            name: "system:anonymous".into(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".into()],
        }
    }

    /// An authenticated user in `groups`, and in `system:authenticated` as all are.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|&g| g.to_owned()).collect();
        groups.push("system:authenticated".into());
        User {
            name: name.into(),
            uid: String::new(),
            groups,
        }
    }
}

/// Tells who sent a request from the connection's certificate and the request's headers.
pub struct Authenticator {
    tokens: Tokens,
}

/// The credentials given are nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unauthorized;

/// Paths that answer without credentials; the last two check secrets of their own.
const OPEN_PATHS: &[&str] = &[
    "/livez",
    "/readyz",
    "/healthz",
    "/version",
    "/cacerts",
    "/knarr/v1/join",
];

impl Authenticator {
    pub fn new(tokens: Tokens) -> Self {
        Authenticator { tokens }
    }

    /// A certificate goes before a token, as in Kubernetes.
    pub fn user(
        &self,
        path: &str,
        certificate: Option<&User>,
        headers: &HeaderMap,
    ) -> Result<User, Unauthorized> {
        if let Some(user) = certificate {
            return Ok(user.clone());
        }
        if let Some(token) = bearer(headers)
            && let Some(user) = self.tokens.user(token)
        {
            return Ok(user);
        }
        if is_open(path) {
            return Ok(User::anonymous());
        }
        Err(Unauthorized)
    }
}

fn is_open(path: &str) -> bool {
    OPEN_PATHS.iter().any(|open| {
        path.strip_prefix(open)
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
