//! Who may use the agent's server. Trusts that TLS has checked the certificate's signature.

use x509_parser::prelude::{FromDer, X509Certificate};

/// The group of administrators, and the API server's own name towards agents.
const GROUP: &str = "system:masters";
const USER: &str = "kube-apiserver-kubelet-client";

/// Whether the holder of this certificate is served: nodes hold certificates of the same authority, and are not.
pub(super) fn is_let_in(der: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return false;
    };
    let subject = certificate.subject();
    let mut groups = subject.iter_organization();
    let mut names = subject.iter_common_name();
    groups.any(|group| group.as_str() == Ok(GROUP)) || names.any(|name| name.as_str() == Ok(USER))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn check(name: &str, group: &str, expected: bool) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(is_let_in(certificate.der()), expected, "{name} of {group}");
    }

    #[test]
    fn only_the_api_server_and_administrators_are_let_in() {
        check("system:admin", "system:masters", true);
        check("kube-apiserver-kubelet-client", "none", true);
        check("system:node:node-1", "system:nodes", false);
        check("system:masters", "kube-apiserver-kubelet-client", false);
        assert!(!is_let_in(b"no certificate"));
    }
}
