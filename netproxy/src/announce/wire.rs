//! ARP and neighbour-discovery frames, read and written. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const ICMPV6: u8 = 58;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Receivers drop what a router could have forwarded (RFC 4861 section 7.1.2).
const HOP_LIMIT: u8 = 255;
/// Where the three last bytes are those of the address asked for.
const SOLICITED_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0);
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// Somebody asks who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Arp {
        sender_mac: Mac,
        sender: Ipv4Addr,
        target: Ipv4Addr,
    },
    /// `sender` is unspecified while the sender checks for duplicates.
    Ndp {
        sender_mac: Mac,
        sender: Ipv6Addr,
        target: Ipv6Addr,
    },
}

/// Somebody has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    pub mac: Mac,
    pub ip: IpAddr,
}

/// What a neighbour says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Asked(Question),
    Claimed(Announcement),
}

impl Question {
    pub(super) fn target(&self) -> IpAddr {
        match self {
            Question::Arp { target, .. } => (*target).into(),
            Question::Ndp { target, .. } => (*target).into(),
        }
    }
}

/// Reads a frame; `None` for everything but a well-formed question or announcement.
pub(super) fn read(frame: &[u8]) -> Option<Heard> {
    let sender_mac: Mac = frame.get(6..12)?.try_into().ok()?;
    let body = frame.get(14..)?;
    match number(frame, 12)? {
        ETHERTYPE_ARP => read_arp(body),
        ETHERTYPE_IPV6 => read_ndp(sender_mac, body),
        _ => None,
    }
}

fn read_arp(body: &[u8]) -> Option<Heard> {
    // Ethernet (1), IPv4 (0x0800), address lengths 6 and 4.
    if body.get(..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let ip = |at: usize| -> Option<Ipv4Addr> {
        Some(<[u8; 4]>::try_from(body.get(at..at + 4)?).ok()?.into())
    };
    let sender_mac = body.get(8..14)?.try_into().ok()?;
    let (sender, target) = (ip(14)?, ip(24)?);
    let claim = Announcement {
        mac: sender_mac,
        ip: sender.into(),
    };
    match number(body, 6)? {
        // Who asks for what it has itself asks nobody.
        ARP_REQUEST if sender == target => Some(Heard::Claimed(claim)),
        ARP_REQUEST => Some(Heard::Asked(Question::Arp {
            sender_mac,
            sender,
            target,
        })),
        ARP_REPLY => Some(Heard::Claimed(claim)),
        _ => None,
    }
}

fn read_ndp(sender_mac: Mac, body: &[u8]) -> Option<Heard> {
    let ip = |at: usize| -> Option<Ipv6Addr> {
        Some(<[u8; 16]>::try_from(body.get(at..at + 16)?).ok()?.into())
    };
    if *body.get(6)? != ICMPV6 || *body.get(7)? != HOP_LIMIT {
        return None;
    }
    let (sender, target) = (ip(8)?, ip(48)?);
    match *body.get(40..42)? {
        [NEIGHBOR_SOLICITATION, 0] => Some(Heard::Asked(Question::Ndp {
            sender_mac,
            sender,
            target,
        })),
        [NEIGHBOR_ADVERTISEMENT, 0] => Some(Heard::Claimed(Announcement {
            mac: sender_mac,
            ip: target.into(),
        })),
        _ => None,
    }
}

/// The frame that answers a question.
pub(super) fn answer(mac: Mac, question: &Question) -> Vec<u8> {
    match *question {
        Question::Arp {
            sender_mac,
            sender,
            target,
        } => arp(ARP_REPLY, sender_mac, mac, target, sender_mac, sender),
        Question::Ndp { sender, target, .. } if sender.is_unspecified() => {
            advertisement(ALL_NODES_MAC, mac, target, ALL_NODES, FLAG_OVERRIDE)
        }
        Question::Ndp {
            sender_mac,
            sender,
            target,
        } => advertisement(
            sender_mac,
            mac,
            target,
            sender,
            FLAG_SOLICITED | FLAG_OVERRIDE,
        ),
    }
}

/// The frame that tells all neighbours, asked or not.
pub(super) fn unsolicited(mac: Mac, ip: IpAddr) -> Vec<u8> {
    match ip {
        // A request for one's own address is the form that most neighbours heed (RFC 5227 section 3).
        IpAddr::V4(ip) => arp(ARP_REQUEST, BROADCAST, mac, ip, [0; 6], ip),
        IpAddr::V6(ip) => advertisement(ALL_NODES_MAC, mac, ip, ALL_NODES, FLAG_OVERRIDE),
    }
}

/// The frame that asks whether anybody has an address, and says nothing of who asks (RFC 5227 section 2.1.1, RFC 4862
/// section 5.4.2).
pub(super) fn probe(mac: Mac, ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp(
            ARP_REQUEST,
            BROADCAST,
            mac,
            Ipv4Addr::UNSPECIFIED,
            [0; 6],
            ip,
        ),
        IpAddr::V6(ip) => {
            let [.., a, b, c] = ip.octets();
            let to = u128::from(SOLICITED_NODES) | u128::from(ip) & 0x00ff_ffff;
            let mut message = vec![NEIGHBOR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            message.extend(ip.octets());
            let multicast = [0x33, 0x33, 0xff, a, b, c];
            ndp(multicast, mac, Ipv6Addr::UNSPECIFIED, to.into(), message)
        }
    }
}

fn arp(
    operation: u16,
    to: Mac,
    sender_mac: Mac,
    sender: Ipv4Addr,
    target_mac: Mac,
    target: Ipv4Addr,
) -> Vec<u8> {
    let mut frame = ethernet(to, sender_mac, ETHERTYPE_ARP);
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(sender_mac);
    frame.extend(sender.octets());
    frame.extend(target_mac);
    frame.extend(target.octets());
    frame
}

fn advertisement(to_mac: Mac, mac: Mac, target: Ipv6Addr, to: Ipv6Addr, flags: u8) -> Vec<u8> {
    let mut message = vec![NEIGHBOR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
    message.extend(mac);
    ndp(to_mac, mac, target, to, message)
}

/// A frame around a message whose checksum is still zero.
fn ndp(to_mac: Mac, mac: Mac, from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let checksum = icmpv6_checksum(from, to, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = ethernet(to_mac, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0, 0, message.len() as u8, ICMPV6, HOP_LIMIT]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

fn ethernet(to: Mac, from: Mac, ethertype: u16) -> Vec<u8> {
    [&to[..], &from[..], &ethertype.to_be_bytes()[..]].concat()
}

/// Over the pseudo-header of RFC 8200 section 8.1.
fn icmpv6_checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let mut bytes = [from.octets(), to.octets()].concat();
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, ICMPV6]);
    bytes.extend(message);
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];

    #[test]
    fn an_arp_request_is_answered_to_its_sender() {
        let (asker, target) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 200));
        let request = arp(ARP_REQUEST, BROADCAST, OTHER, asker, [0; 6], target);
        let question = Question::Arp {
            sender_mac: OTHER,
            sender: asker,
            target,
        };
        assert_eq!(read(&request), Some(Heard::Asked(question)));
        let reply = answer(MAC, &question);
        assert_eq!(reply.len(), 42);
        assert_eq!((&reply[..6], &reply[6..12]), (&OTHER[..], &MAC[..]));
        assert_eq!(
            (&reply[20..22], &reply[28..32]),
            (&[0, 2][..], &target.octets()[..])
        );
        let claim = Announcement {
            mac: MAC,
            ip: target.into(),
        };
        assert_eq!(read(&reply), Some(Heard::Claimed(claim)));
    }

    #[test]
    fn a_probe_is_a_question_whose_answer_is_a_claim() {
        for ip in ["192.0.2.200", "2001:db8::a1b2:c3d4"] {
            let ip: IpAddr = ip.parse().expect("an address");
            let Some(Heard::Asked(question)) = read(&probe(OTHER, ip)) else {
                panic!("{ip}: no question");
            };
            assert_eq!(question.target(), ip);
            let claim = Announcement { mac: MAC, ip };
            assert_eq!(read(&answer(MAC, &question)), Some(Heard::Claimed(claim)));
        }
    }

    #[test]
    fn a_probe_of_ipv6_goes_to_the_addresses_own_group() {
        let ip = "2001:db8::a1b2:c3d4".parse().expect("an address");
        let frame = probe(MAC, ip);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0xb2, 0xc3, 0xd4]);
        let group: Ipv6Addr = "ff02::1:ffb2:c3d4".parse().expect("an address");
        assert_eq!(frame[38..54], group.octets());
        assert_eq!(
            icmpv6_checksum(Ipv6Addr::UNSPECIFIED, group, &frame[54..]),
            0
        );
    }

    #[test]
    fn an_announcement_is_a_claim_and_no_question() {
        for ip in ["192.0.2.200", "2001:db8::200"] {
            let ip = ip.parse().expect("an address");
            let announcement = Announcement { mac: OTHER, ip };
            let frame = unsolicited(OTHER, ip);
            assert_eq!(read(&frame), Some(Heard::Claimed(announcement)));
            for length in 0..frame.len() - 16 {
                assert_eq!(read(&frame[..length]), None, "{length} bytes of {ip}");
            }
        }
    }

    #[test]
    fn an_advertisement_checks_out() {
        let target: Ipv6Addr = "2001:db8::200".parse().expect("an address");
        let frame = unsolicited(MAC, target.into());
        assert_eq!(frame.len(), 14 + 40 + 32);
        // A message with its right checksum sums up to zero.
        assert_eq!(icmpv6_checksum(target, ALL_NODES, &frame[54..]), 0);
    }

    #[test]
    fn frames_that_are_no_questions_are_ignored() {
        let (asker, target) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 200));
        let request = arp(ARP_REQUEST, BROADCAST, OTHER, asker, [0; 6], target);
        for length in 0..request.len() {
            assert_eq!(read(&request[..length]), None, "{length} bytes");
        }
        let mut odd = request;
        odd[15] = 6;
        assert_eq!(read(&odd), None);
    }
}
