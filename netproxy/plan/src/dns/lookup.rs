//! From a question to its answer.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    Answer, Question, Record, Zone,
    name::{canonical, reversed_address, undashed},
    records::{EndpointRecords, Port, ServiceRecords},
};
use crate::{Protocol, ServiceKey};

/// The version of the specification that the zone follows.
const SCHEMA_VERSION: &str = "1.1.0";

impl Zone {
    /// Answers one question; `name` may be in any case, with or without its final dot.
    #[must_use]
    pub fn lookup(&self, name: &str, question: Question) -> Answer {
        let name = canonical(name);
        if let Some(address) = reversed_address(&name) {
            return self.reverse(address, question);
        }
        let Some(labels) = self.labels_below(&name) else {
            return Answer::NotOurs;
        };
        match labels.as_slice() {
            [] | ["svc" | "pod"] => Answer::NoData,
            ["dns-version"] => only(question, Question::Txt, vec![Record::Txt(SCHEMA_VERSION)]),
            ["svc" | "pod", namespace] if self.has_namespace(namespace) => Answer::NoData,
            // As CoreDNS does by default, without a look at whether there is such a pod.
            ["pod", namespace, dashes] if self.has_namespace(namespace) => match undashed(dashes) {
                Some(address) => of_addresses(std::iter::once(address), question),
                None => Answer::NoName,
            },
            ["svc", namespace, service, rest @ ..] => {
                self.below_service(&ServiceKey::new(*namespace, *service), rest, question)
            }
            _ => Answer::NoName,
        }
    }

    /// The labels below the zone, outermost first; `None` outside it.
    fn labels_below<'a>(&self, name: &'a str) -> Option<Vec<&'a str>> {
        if name == self.domain {
            return Some(Vec::new());
        }
        let rest = name.strip_suffix(self.domain.as_str())?.strip_suffix('.')?;
        Some(rest.rsplit('.').collect())
    }

    fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    /// Addresses that are nobody's here may still have a name elsewhere.
    fn reverse(&self, address: IpAddr, question: Question) -> Answer {
        match self.addresses.get(&address) {
            Some(names) => only(
                question,
                Question::Ptr,
                names.iter().cloned().map(Record::Ptr).collect(),
            ),
            None => Answer::NotOurs,
        }
    }

    fn below_service(&self, key: &ServiceKey, rest: &[&str], question: Question) -> Answer {
        let Some(service) = self.services.get(key) else {
            return Answer::NoName;
        };
        match (service, rest) {
            (ServiceRecords::Alias { target }, []) => alias(target, question),
            (ServiceRecords::Virtual { addresses, .. }, []) => {
                of_addresses(addresses.iter().copied(), question)
            }
            (ServiceRecords::Headless, []) => self.headless(key, |_| true, question),
            (ServiceRecords::Headless, [hostname]) if !hostname.starts_with('_') => {
                self.headless(key, |endpoint| endpoint.hostname == *hostname, question)
            }
            (_, [protocol, port]) => self.srv(key, service, port, protocol, question),
            // `_tcp.web` exists once a port below it does.
            (_, [protocol]) if self.has_protocol(key, service, protocol) => Answer::NoData,
            _ => Answer::NoName,
        }
    }

    fn headless(
        &self,
        key: &ServiceKey,
        wanted: impl Fn(&EndpointRecords) -> bool,
        question: Question,
    ) -> Answer {
        let mut addresses: Vec<IpAddr> = self
            .endpoints(key)
            .filter(|e| wanted(e))
            .map(|e| e.address)
            .collect();
        addresses.sort();
        addresses.dedup();
        if addresses.is_empty() {
            Answer::NoName
        } else {
            of_addresses(addresses.into_iter(), question)
        }
    }

    fn srv(
        &self,
        key: &ServiceKey,
        service: &ServiceRecords,
        port: &str,
        protocol: &str,
        question: Question,
    ) -> Answer {
        let found = |candidate: &&Port| {
            label_of(candidate.protocol) == protocol
                && port.strip_prefix('_') == Some(&candidate.name)
        };
        let base = self.service_name(key);
        let hits: Vec<(u16, String, Vec<IpAddr>)> = match service {
            ServiceRecords::Virtual { addresses, ports } => ports
                .iter()
                .filter(found)
                .map(|p| (p.number, base.clone(), addresses.clone()))
                .collect(),
            ServiceRecords::Headless => self
                .endpoints(key)
                .flat_map(|e| {
                    e.ports
                        .iter()
                        .filter(found)
                        .map(|p| (p.number, format!("{}.{base}", e.hostname), vec![e.address]))
                })
                .collect(),
            ServiceRecords::Alias { .. } => Vec::new(),
        };
        if hits.is_empty() {
            return Answer::NoName;
        }
        if question != Question::Srv {
            return Answer::NoData;
        }
        let additional = hits
            .iter()
            .flat_map(|(_, target, ips)| ips.iter().map(|ip| (target.clone(), *ip)));
        let answers = hits.iter().map(|(port, target, _)| {
            let (port, target) = (*port, target.clone());
            Record::Srv { port, target }
        });
        Answer::Records {
            answers: once_each(answers),
            additional: once_each(additional),
        }
    }

    fn has_protocol(&self, key: &ServiceKey, service: &ServiceRecords, label: &str) -> bool {
        let of = |ports: &[Port]| ports.iter().any(|port| label_of(port.protocol) == label);
        match service {
            ServiceRecords::Virtual { ports, .. } => of(ports),
            ServiceRecords::Headless => self.endpoints(key).any(|endpoint| of(&endpoint.ports)),
            ServiceRecords::Alias { .. } => false,
        }
    }
}

/// An endpoint with an address of each family is in two slices, and is one host.
fn once_each<T: Ord + Clone>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    all.filter(|one| seen.insert(one.clone())).collect()
}

fn label_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "_tcp",
        Protocol::Udp => "_udp",
        Protocol::Sctp => "_sctp",
    }
}

/// An alias answers whatever was asked: the resolver follows it.
fn alias(target: &str, question: Question) -> Answer {
    match question {
        Question::A | Question::Aaaa | Question::Cname => Answer::Records {
            answers: vec![Record::Cname(target.to_owned())],
            additional: Vec::new(),
        },
        Question::Ptr | Question::Srv | Question::Txt | Question::Other => Answer::NoData,
    }
}

fn of_addresses(addresses: impl Iterator<Item = IpAddr>, question: Question) -> Answer {
    let of_family = addresses.filter(|ip| match question {
        Question::A => ip.is_ipv4(),
        Question::Aaaa => ip.is_ipv6(),
        Question::Cname | Question::Ptr | Question::Srv | Question::Txt | Question::Other => false,
    });
    let answers: Vec<Record> = of_family.map(Record::Address).collect();
    if answers.is_empty() {
        Answer::NoData
    } else {
        Answer::Records {
            answers,
            additional: Vec::new(),
        }
    }
}

fn only(question: Question, held: Question, answers: Vec<Record>) -> Answer {
    if question == held {
        Answer::Records {
            answers,
            additional: Vec::new(),
        }
    } else {
        Answer::NoData
    }
}
