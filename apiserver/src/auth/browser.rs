//! Tokens of browsers, which can give a WebSocket no headers but its protocols. Judges no token.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Moves a token from the protocols of a WebSocket to where other clients have theirs.
///
/// Nothing is moved without another protocol beside it that can be answered, nor if there are several tokens.
pub(crate) fn move_token(headers: &mut HeaderMap) {
    let Some((token, protocols)) = token(headers) else {
        return;
    };
    let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
    if let (Ok(mut bearer), Ok(protocols)) = (bearer, HeaderValue::from_str(&protocols)) {
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
    }
}

/// The token, and the protocols without it.
fn token(headers: &HeaderMap) -> Option<(String, String)> {
    if headers.contains_key(header::AUTHORIZATION) {
        return None;
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let offered = offered.filter_map(|value| value.to_str().ok());
    let protocols = offered.flat_map(|value| value.split(',').map(str::trim));
    let (tokens, others): (Vec<&str>, Vec<&str>) =
        protocols.partition(|protocol| protocol.starts_with(PREFIX));
    let &[token] = tokens.as_slice() else {
        return None;
    };
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
    let token = String::from_utf8(bytes).ok()?;
    (!token.is_empty() && !others.is_empty()).then(|| (token, others.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_among_the_protocols_is_a_bearers() {
        let check = |offered: &str, expected: Option<(&str, &str)>| {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(offered).unwrap();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
            move_token(&mut headers);
            let found = headers.get(header::AUTHORIZATION).map(|bearer| {
                let rest = &headers[header::SEC_WEBSOCKET_PROTOCOL];
                (bearer.to_str().unwrap(), rest.to_str().unwrap())
            });
            assert_eq!(found, expected, "{offered}");
        };
        let token = format!("{PREFIX}c2VjcmV0");
        check(
            &format!("{token}, v5.channel.k8s.io"),
            Some(("Bearer secret", "v5.channel.k8s.io")),
        );
        check(&format!("a,{token},b"), Some(("Bearer secret", "a,b")));
        check(&token, None);
        check(&format!("{token},{token},a"), None);
        check(&format!("{PREFIX}*,a"), None);
        check("v5.channel.k8s.io", None);
    }
}
