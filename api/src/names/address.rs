//! Addresses and CIDRs as texts: what was once accepted, what is now, and what is canonical.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::field::{self, Path, quote};

/// One of the two kinds of IP address, by its name on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }

    pub fn wire(self) -> &'static str {
        match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        }
    }

    pub fn from_wire(text: &str) -> Option<Self> {
        [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .find(|family| family.wire() == text)
    }
}

/// An address with a prefix length, host bits and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix_length: u8,
}

impl Cidr {
    /// The network: the address without its host bits.
    pub fn network(self) -> ipnet::IpNet {
        ipnet::IpNet::new_assert(self.address, self.prefix_length).trunc()
    }
}

/// Parses as Kubernetes always has: leading zeros are decimal, IPv4-mapped IPv6 is IPv4.
pub fn parse_sloppy(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        let address: Ipv6Addr = text.parse().ok()?;
        return Some(match address.to_ipv4_mapped() {
            Some(mapped) => mapped.into(),
            None => address.into(),
        });
    }
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let digits = part.trim_start_matches('0');
        if part.is_empty() || !part.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        *octet = if digits.is_empty() {
            0
        } else {
            digits.parse().ok()?
        };
    }
    parts
        .next()
        .is_none()
        .then(|| Ipv4Addr::from(octets).into())
}

/// Parses a CIDR as [`parse_sloppy`] parses its address.
pub fn parse_cidr_sloppy(text: &str) -> Option<Cidr> {
    let (address_text, length_text) = text.split_once('/')?;
    let address = parse_sloppy(address_text)?;
    if length_text.is_empty() || !length_text.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let length: u8 = length_text.parse().ok()?;
    let mapped = address.is_ipv4() && address_text.contains(':');
    // A mapped address counts its 96 leading bits, which its IPv4 form does not have.
    let prefix_length = if mapped {
        length.checked_sub(96)?
    } else {
        length
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (prefix_length <= bits).then_some(Cidr {
        address,
        prefix_length,
    })
}

/// Complaints about an address in a field that predates strict checking.
///
/// Values in `accepted`, those the stored object already has, are left alone.
pub fn validate_legacy(path: &Path, text: &str, accepted: &[&str]) -> Vec<field::Error> {
    if accepted.contains(&text) {
        return Vec::new();
    }
    strictness(text)
        .into_iter()
        .map(|detail| field::Error::invalid(path, text, detail))
        .collect()
}

/// Complaints about an address in a field that has always been strict.
pub fn validate(path: &Path, text: &str) -> Vec<field::Error> {
    let errors = validate_legacy(path, text, &[]);
    match parse_sloppy(text) {
        Some(address) if errors.is_empty() && address.to_string() != text => {
            vec![not_canonical(path, text, &address.to_string())]
        }
        _ => errors,
    }
}

/// Complaints about a CIDR in a field that predates strict checking.
pub fn validate_cidr_legacy(path: &Path, text: &str, accepted: &[&str]) -> Vec<field::Error> {
    if accepted.contains(&text) {
        return Vec::new();
    }
    cidr_strictness(text)
        .map(|detail| field::Error::invalid(path, text, detail))
        .into_iter()
        .collect()
}

/// Complaints about a CIDR in a field that has always been strict.
pub fn validate_cidr(path: &Path, text: &str) -> Vec<field::Error> {
    let errors = validate_cidr_legacy(path, text, &[]);
    match parse_cidr_sloppy(text) {
        Some(cidr) if errors.is_empty() && cidr.network().to_string() != text => {
            vec![not_canonical(path, text, &cidr.network().to_string())]
        }
        _ => errors,
    }
}

/// Warnings about an address that is accepted but not in its usual form.
pub fn warnings(path: &Path, text: &str) -> Option<String> {
    let address = parse_sloppy(text)?;
    let shown = quote(text);
    if strictness(text).is_empty() {
        let canonical = address.to_string();
        return (address.is_ipv6() && canonical != text).then(|| {
            format!(
                "{path}: IPv6 address {shown} should be in RFC 5952 canonical format ({})",
                quote(&canonical)
            )
        });
    }
    let canonical = quote(&address.to_string());
    Some(format!(
        "{path}: non-standard IP address {shown} is invalid: use {canonical}"
    ))
}

/// Warnings about a CIDR that is accepted but ambiguous or not in its usual form.
pub fn cidr_warnings(path: &Path, text: &str) -> Vec<String> {
    let Some(cidr) = parse_cidr_sloppy(text) else {
        return Vec::new();
    };
    let shown = quote(text);
    let network = cidr.network();
    let mut warnings = Vec::new();
    if network.network() != cidr.address {
        let bits = if cidr.address.is_ipv4() { 32 } else { 128 };
        warnings.push(format!(
            "{path}: CIDR value {shown} is ambiguous in this context (should be {} or {}?)",
            quote(&network.to_string()),
            quote(&format!("{}/{bits}", cidr.address)),
        ));
    }
    let canonical = quote(&network.to_string());
    if has_leading_zeros(text) || is_mapped(text) {
        warnings.push(format!(
            "{path}: non-standard CIDR value {shown} is invalid: use {canonical}"
        ));
    }
    if warnings.is_empty() && cidr.address.is_ipv6() && network.to_string() != text {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {shown} should be in RFC 5952 canonical format ({canonical})"
        ));
    }
    warnings
}

/// Complaints about addresses that no endpoint may have.
pub fn validate_endpoint(path: &Path, text: &str) -> Vec<field::Error> {
    let Some(address) = parse_sloppy(text) else {
        return vec![field::Error::invalid(
            path,
            text,
            "must be a valid IP address",
        )];
    };
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (
            v6.is_unicast_link_local(),
            v6.is_multicast() && v6.segments()[0] & 0xf == 2,
        ),
    };
    let complaints = [
        (
            address.is_unspecified(),
            format!("may not be unspecified ({text})"),
        ),
        (
            address.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        ),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ];
    complaints
        .into_iter()
        .filter(|(applies, _)| *applies)
        .map(|(_, detail)| field::Error::invalid(path, text, &detail))
        .collect()
}

fn strictness(text: &str) -> Vec<&'static str> {
    if parse_sloppy(text).is_none() {
        return vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"];
    }
    if is_mapped(text) {
        return vec!["must not be an IPv4-mapped IPv6 address"];
    }
    if text.parse::<IpAddr>().is_err() {
        return vec!["must not have leading 0s"];
    }
    Vec::new()
}

fn cidr_strictness(text: &str) -> Option<&'static str> {
    let Some(cidr) = parse_cidr_sloppy(text) else {
        return Some("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    };
    if has_leading_zeros(text) {
        return Some("must not have leading 0s in IP or prefix length");
    }
    if is_mapped(text) {
        return Some("must not have an IPv4-mapped IPv6 address");
    }
    (cidr.network().network() != cidr.address)
        .then_some("must not have bits set beyond the prefix length")
}

fn is_mapped(text: &str) -> bool {
    let address = text.split('/').next().unwrap_or_default();
    address.contains(':') && parse_sloppy(address).is_some_and(|a| a.is_ipv4())
}

fn has_leading_zeros(cidr: &str) -> bool {
    let Some((address, length)) = cidr.split_once('/') else {
        return false;
    };
    address.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0'))
}

fn not_canonical(path: &Path, text: &str, canonical: &str) -> field::Error {
    let detail = format!("must be in canonical form ({})", quote(canonical));
    field::Error::invalid(path, text, &detail)
}
