//! Looks for PEM blocks as Go's `tls.X509KeyPair` does, for its warnings. Parses no certificate and no key.

const CERTIFICATE: &str = "CERTIFICATE";
const PRIVATE_KEY: &str = "PRIVATE KEY";

/// What is wrong with a pair of PEM texts, as far as their blocks show.
pub(super) fn problem(certificate: &[u8], key: &[u8]) -> Option<String> {
    certificate_problem(&block_types(certificate)).or_else(|| key_problem(&block_types(key)))
}

fn certificate_problem(types: &[String]) -> Option<String> {
    match types {
        [] => Some("tls: failed to find any PEM data in certificate input".into()),
        types if types.iter().any(|t| t == CERTIFICATE) => None,
        [one] if one.ends_with(PRIVATE_KEY) => Some(
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched".into(),
        ),
        types => Some(format!(
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [{}]",
            types.join(" ")
        )),
    }
}

fn key_problem(types: &[String]) -> Option<String> {
    match types {
        [] => Some("tls: failed to find any PEM data in key input".into()),
        types if types.iter().any(|t| t.ends_with(PRIVATE_KEY)) => None,
        [one] if one == CERTIFICATE => {
            Some("tls: found a certificate rather than a key in the PEM for the private key".into())
        }
        types => Some(format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [{}]",
            types.join(" ")
        )),
    }
}

/// The types of the blocks that are closed again: `CERTIFICATE`, `EC PRIVATE KEY`.
fn block_types(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut types = Vec::new();
    let mut open: Option<&str> = None;
    for line in text.lines().map(str::trim_end) {
        let marker = |start: &str| line.strip_prefix(start)?.strip_suffix("-----");
        if let Some(begun) = marker("-----BEGIN ") {
            open = Some(begun);
        } else if let (Some(ended), Some(begun)) = (marker("-----END "), open)
            && ended == begun
        {
            types.push(begun.to_owned());
            open = None;
        }
    }
    types
}
