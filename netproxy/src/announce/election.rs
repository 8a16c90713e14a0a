//! Which node announces an IP: every node computes the same answer from what the API says.

use std::{cmp::Reverse, net::IpAddr};

use knarr_netproxy_plan::Announced;

/// The nodes that may announce an IP, the best first; removing any other node moves nothing (rendezvous hashing).
#[must_use]
pub fn rank<'a>(
    ip: IpAddr,
    announced: &Announced,
    ready_nodes: impl IntoIterator<Item = &'a str>,
) -> Vec<&'a str> {
    let may = |node: &&str| {
        announced
            .nodes
            .as_ref()
            .is_none_or(|nodes| nodes.contains(*node))
    };
    let mut nodes: Vec<&str> = ready_nodes.into_iter().filter(may).collect();
    nodes.sort_by_key(|node| Reverse((score(ip, node), *node)));
    nodes
}

/// FNV-1a with a final mix: stable across builds and machines, which `std`'s hasher is not.
fn score(ip: IpAddr, node: &str) -> u64 {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let hash = node
        .bytes()
        .chain(octets)
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use knarr_netproxy_plan::ServiceKey;

    use super::*;

    fn announced(nodes: Option<&[&str]>) -> Announced {
        let nodes = nodes.map(|nodes| nodes.iter().map(|&node| node.to_owned()).collect());
        Announced {
            service: Arc::new(ServiceKey::new("default", "web")),
            nodes,
        }
    }

    fn elect<'a>(
        ip: IpAddr,
        announced: &Announced,
        nodes: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        rank(ip, announced, nodes).first().copied()
    }

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn losing_another_node_moves_nothing() {
        for last in 0..=255 {
            let all = elect(ip(last), &announced(None), ["a", "b", "c"]).expect("a node");
            for lost in ["a", "b", "c"].into_iter().filter(|node| *node != all) {
                let rest = ["a", "b", "c"].into_iter().filter(|node| *node != lost);
                assert_eq!(elect(ip(last), &announced(None), rest), Some(all));
            }
        }
    }

    #[test]
    fn ips_spread_over_nodes() {
        let of_a = (0..=255)
            .filter(|last| elect(ip(*last), &announced(None), ["a", "b", "c"]) == Some("a"))
            .count();
        assert!((50..=120).contains(&of_a), "{of_a} of 256");
    }

    #[test]
    fn only_nodes_that_may_are_elected() {
        assert_eq!(
            elect(ip(1), &announced(Some(&["b"])), ["a", "b", "c"]),
            Some("b")
        );
        assert_eq!(
            elect(ip(1), &announced(Some(&["d"])), ["a", "b", "c"]),
            None
        );
        assert_eq!(elect(ip(1), &announced(None), []), None);
    }
}
