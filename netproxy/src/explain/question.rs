//! The question of `knarr explain FROM TO`, as it is typed. Looks nothing up.

use std::{fmt, net::IpAddr};

use knarr_netproxy_plan::Protocol;

/// A packet that somebody would send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who sends it.
    pub from: Client,
    /// Where it goes.
    pub to: Destination,
}

/// Who sends a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A process of a node's own.
    Node(String),
    /// A machine outside the cluster, perhaps one in particular.
    Outside(Option<IpAddr>),
}

/// Where a packet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// To whom.
    pub host: Host,
    /// To which port.
    pub port: u16,
    /// By which protocol.
    pub protocol: Protocol,
}

/// To whom a packet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name that the client looks up.
    Name(String),
}

/// Words that are no question.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The first word.
    #[error("{0:?} is nobody who sends packets")]
    From(String),
    /// The second word.
    #[error("{0:?} is nowhere to send packets to")]
    To(String),
}

impl Unreadable {
    /// How to write it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::From(_) => "write pod/NAME, node/NAME, outside or outside/ADDRESS",
            Self::To(_) => {
                "write http://HOST[:PORT], or HOST:PORT[/udp]; HOST is an address or a name"
            }
        }
    }
}

impl Client {
    /// Reads `pod/NAME`, `pod/NAMESPACE/NAME`, `node/NAME`, `outside`, `outside/ADDRESS` or an address.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str, namespace: &str) -> Result<Self, Unreadable> {
        let unreadable = || Unreadable::From(text.to_owned());
        let address = |text: &str| text.parse().map(Some).map_err(|_| unreadable());
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [_, .., ""] | ["", ..] => Err(unreadable()),
            ["pod" | "pods" | "po", name] => Ok(Self::Pod {
                namespace: namespace.to_owned(),
                name: (*name).to_owned(),
            }),
            ["pod" | "pods" | "po", namespace, name] => Ok(Self::Pod {
                namespace: (*namespace).to_owned(),
                name: (*name).to_owned(),
            }),
            ["node" | "nodes" | "no", name] => Ok(Self::Node((*name).to_owned())),
            ["outside"] => Ok(Self::Outside(None)),
            ["outside", ip] | [ip] => Ok(Self::Outside(address(ip)?)),
            _ => Err(unreadable()),
        }
    }
}

impl Destination {
    /// Reads a URL, or `HOST:PORT` with an optional `/tcp`, `/udp` or `/sctp`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        Self::read(text).ok_or_else(|| Unreadable::To(text.to_owned()))
    }

    fn read(text: &str) -> Option<Self> {
        let (place, protocol, port) = match text.split_once("://") {
            Some((scheme, rest)) => {
                let (protocol, port) = match scheme {
                    "http" => (Protocol::Tcp, Some(80)),
                    "https" => (Protocol::Tcp, Some(443)),
                    "dns" => (Protocol::Udp, Some(53)),
                    "tcp" => (Protocol::Tcp, None),
                    "udp" => (Protocol::Udp, None),
                    _ => return None,
                };
                (rest.split(['/', '?', '#']).next()?, protocol, port)
            }
            None => match text.split_once('/') {
                Some((place, protocol)) => {
                    let protocol = Protocol::parse(Some(&protocol.to_ascii_uppercase()))?;
                    (place, protocol, None)
                }
                None => (text, Protocol::Tcp, None),
            },
        };
        let (host, port) = split_port(place, port)?;
        let host = match host.parse() {
            Ok(ip) => Host::Ip(ip),
            Err(_) => Host::Name(name(host)?),
        };
        Some(Self {
            host,
            port,
            protocol,
        })
    }
}

/// `[2001:db8::1]:80`, `2001:db8::1` and `web:80` are told apart by their brackets and colons.
fn split_port(place: &str, default: Option<u16>) -> Option<(&str, u16)> {
    let number = |text: &str| text.parse().ok().filter(|port| *port != 0);
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, number(port)?)),
            None => Some((host, default.filter(|_| rest.is_empty())?)),
        };
    }
    match place.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host, number(port)?)),
        Some(_) | None => Some((place, default?)),
    }
}

fn name(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let valid = !text.is_empty() && text.len() <= 253 && text.bytes().all(plain);
    valid.then(|| text.to_owned())
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(f, "pod {namespace}/{name}"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Outside(None) => f.write_str("outside"),
            Self::Outside(Some(ip)) => write!(f, "outside ({ip})"),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip @ IpAddr::V4(_)) => write!(f, "{ip}")?,
            Host::Ip(ip @ IpAddr::V6(_)) => write!(f, "[{ip}]")?,
            Host::Name(name) => f.write_str(name)?,
        }
        write!(f, ":{}/{}", self.port, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_as_people_write_them() {
        for (text, expected) in [
            ("http://10.0.128.7", "10.0.128.7:80/tcp"),
            ("https://web.shop/cart?x=1", "web.shop:443/tcp"),
            ("http://[fd01::7]:8080/", "[fd01::7]:8080/tcp"),
            ("10.0.128.7:53/udp", "10.0.128.7:53/udp"),
            ("web:80", "web:80/tcp"),
            ("udp://10.0.128.10:53", "10.0.128.10:53/udp"),
            ("http://fd01::7", "[fd01::7]:80/tcp"),
        ] {
            let read = Destination::parse(text).map(|to| to.to_string());
            assert_eq!(read.as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "web",
            "web:0",
            "web:99999",
            "ftp://web",
            "web:80/icmp",
            "a b:80",
            "[::1",
        ] {
            let expected = Err(Unreadable::To(text.to_owned()));
            assert_eq!(Destination::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn clients_are_pods_nodes_and_others() {
        for (text, expected) in [
            ("pod/web-1", Ok("pod shop/web-1")),
            ("pod/other/web-1", Ok("pod other/web-1")),
            ("node/n1", Ok("node n1")),
            ("outside", Ok("outside")),
            ("outside/192.0.2.9", Ok("outside (192.0.2.9)")),
            ("192.0.2.9", Ok("outside (192.0.2.9)")),
            ("svc/web", Err(())),
            ("pod/", Err(())),
            ("elsewhere", Err(())),
        ] {
            let read = Client::parse(text, "shop").map(|client| client.to_string());
            assert_eq!(read.as_deref().map_err(|_| ()), expected, "{text}");
        }
    }
}
