//! Domain names as text: case, dots, and addresses written backwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Lower case, without the final dot: names are compared so.
pub(super) fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
pub(super) fn reversed_address(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let octets: Vec<u8> = octets
            .rsplit('.')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        return <[u8; 4]>::try_from(octets)
            .ok()
            .map(|octets| Ipv4Addr::from(octets).into());
    }
    let nibbles = name.strip_suffix(".ip6.arpa")?;
    let digit = |text: &str| {
        (text.len() == 1)
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
    };
    let nibbles: Vec<u128> = nibbles.rsplit('.').map(digit).collect::<Option<_>>()?;
    (nibbles.len() == 32).then(|| {
        Ipv6Addr::from(
            nibbles
                .iter()
                .fold(0, |address, nibble| address << 4 | nibble),
        )
        .into()
    })
}

/// The address that a pod is called by: `10-42-0-5`, or `fd00--5`.
pub(super) fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse().map(IpAddr::V6))
        .ok()
}

/// What an endpoint without a hostname is called: `10-42-0-5`.
pub(super) fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}
