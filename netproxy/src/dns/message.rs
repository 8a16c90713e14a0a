//! From a query message to a response message, over the zone. Pure.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record as WireRecord, RecordType,
        rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT},
    },
};
use knarr_netproxy_plan::dns::{Answer, Question, Record, Zone};

/// CoreDNS' default: short, because endpoints come and go.
const TTL_SECONDS: u32 = 5;
/// What a client without EDNS can take (RFC 1035).
const UDP_BYTES_PLAIN: u16 = 512;
/// What fits every path without fragments (DNS flag day 2020).
pub(super) const UDP_BYTES_MAX: u16 = 1232;
/// An alias of an alias of an alias… ends somewhere.
const ALIAS_DEPTH_MAX: usize = 8;
const SRV_PRIORITY: u16 = 0;
const HEADER_BYTES: usize = 12;

/// What is to be done with a query.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Send this.
    Reply(Message),
    /// The name is not ours: ask the upstreams the same.
    Forward,
    /// An alias leads out of the zone: ask the upstreams for `target` and append what they say.
    Chase {
        reply: Message,
        target: Name,
        kind: RecordType,
    },
}

/// Answers one query; `turn` rotates equal addresses so that clients who take the first spread.
pub(super) fn respond(zone: &Zone, request: &Message, turn: usize) -> Outcome {
    if request.metadata.op_code != OpCode::Query {
        return Outcome::Reply(refusal(request, ResponseCode::NotImp));
    }
    let [query] = request.queries.as_slice() else {
        return Outcome::Reply(refusal(request, ResponseCode::FormErr));
    };
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Outcome::Reply(refusal(request, ResponseCode::BADVERS));
    }
    if !matches!(query.query_class, DNSClass::IN | DNSClass::ANY) {
        return Outcome::Reply(refusal(request, ResponseCode::Refused));
    }
    let name = query.name.clone();
    let question = question_of(query.query_type);
    match zone.lookup(&name.to_ascii(), question) {
        Answer::NotOurs => Outcome::Forward,
        Answer::NoData if query.query_type == RecordType::SOA && is_origin(zone, &name) => {
            let mut reply = reply_to(request, ResponseCode::NoError);
            reply.answers.extend(soa(zone));
            Outcome::Reply(reply)
        }
        Answer::NoData => Outcome::Reply(negative(request, zone, ResponseCode::NoError)),
        Answer::NoName => Outcome::Reply(negative(request, zone, ResponseCode::NXDomain)),
        Answer::Records {
            mut answers,
            additional,
        } => {
            let mut reply = reply_to(request, ResponseCode::NoError);
            let turns = turn % answers.len().max(1);
            answers.rotate_left(turns);
            reply.answers = answers
                .iter()
                .filter_map(|record| to_wire(&name, record))
                .collect();
            reply.additionals = additional
                .iter()
                .filter_map(|(name, ip)| to_wire(&parse(name)?, &Record::Address(*ip)))
                .collect();
            follow(zone, reply, query.query_type)
        }
    }
}

/// Follows an alias through the zone; one that leaves it is somebody else's to finish.
fn follow(zone: &Zone, mut reply: Message, kind: RecordType) -> Outcome {
    for _ in 0..ALIAS_DEPTH_MAX {
        let target = match reply.answers.last().map(|record| &record.data) {
            Some(RData::CNAME(CNAME(target))) if kind != RecordType::CNAME => target.clone(),
            _ => break,
        };
        match zone.lookup(&target.to_ascii(), question_of(kind)) {
            Answer::Records { answers, .. } => {
                reply
                    .answers
                    .extend(answers.iter().filter_map(|record| to_wire(&target, record)));
            }
            Answer::NotOurs => {
                return Outcome::Chase {
                    reply,
                    target,
                    kind,
                };
            }
            Answer::NoData => {
                reply.authorities.extend(soa(zone));
                break;
            }
            // The code speaks of the last name (RFC 6604 section 3).
            Answer::NoName => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.authorities.extend(soa(zone));
                break;
            }
        }
    }
    Outcome::Reply(reply)
}

/// Whether a message asks: whoever answered answers could be made to talk to its like for ever.
pub(super) fn asks(message: &Message) -> bool {
    message.metadata.message_type == MessageType::Query
}

/// What a question that cannot be read is answered with; nothing where not even its header can.
pub(super) fn unreadable(question: &[u8]) -> Option<[u8; HEADER_BYTES]> {
    const RESPONSE: u8 = 0x80;
    const OPCODE_AND_RECURSION: u8 = 0x79;
    const FORMAT_ERROR: u8 = 1;
    let [id, id_too, flags, ..] = question.first_chunk::<HEADER_BYTES>()?;
    let mut reply = [0; HEADER_BYTES];
    reply[..4].copy_from_slice(&[
        *id,
        *id_too,
        RESPONSE | flags & OPCODE_AND_RECURSION,
        FORMAT_ERROR,
    ]);
    (flags & RESPONSE == 0).then_some(reply)
}

/// A response of a code alone, for queries that cannot be answered.
pub(super) fn refusal(request: &Message, code: ResponseCode) -> Message {
    let mut reply = reply_to(request, code);
    reply.metadata.authoritative = false;
    reply
}

fn reply_to(request: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::new(
        request.metadata.id,
        MessageType::Response,
        request.metadata.op_code,
    );
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = true;
    reply.metadata.response_code = code;
    reply.queries = request.queries.clone();
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX);
        reply.edns = Some(edns);
    }
    reply
}

/// NXDOMAIN or NODATA, with the SOA that lets resolvers remember it (RFC 2308).
fn negative(request: &Message, zone: &Zone, code: ResponseCode) -> Message {
    let mut reply = reply_to(request, code);
    reply.authorities.extend(soa(zone));
    reply
}

fn is_origin(zone: &Zone, name: &Name) -> bool {
    parse(zone.domain()).is_some_and(|origin| origin == *name)
}

fn soa(zone: &Zone) -> Option<WireRecord> {
    let origin = parse(zone.domain())?;
    let (server, contact) = (
        parse(&format!("ns.dns.{}", zone.domain()))?,
        parse(&format!("hostmaster.{}", zone.domain()))?,
    );
    let soa = SOA::new(server, contact, 1, 7200, 1800, 86400, TTL_SECONDS);
    Some(WireRecord::from_rdata(origin, TTL_SECONDS, RData::SOA(soa)))
}

/// Encodes for UDP: what does not fit is cut, and the client asks again over TCP.
pub(super) fn encode_udp(request: &Message, reply: &Message) -> Option<Vec<u8>> {
    let offered = request
        .edns
        .as_ref()
        .map_or(UDP_BYTES_PLAIN, |edns| edns.max_payload());
    let limit = usize::from(offered.clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX));
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    // Additional records are a courtesy: leave those out before cutting answers.
    let mut shorter = reply.clone();
    shorter.additionals.clear();
    let bytes = shorter.to_vec().ok()?;
    if bytes.len() <= limit {
        Some(bytes)
    } else {
        reply.truncate().to_vec().ok()
    }
}

fn question_of(kind: RecordType) -> Question {
    match kind {
        RecordType::A => Question::A,
        RecordType::AAAA => Question::Aaaa,
        RecordType::CNAME => Question::Cname,
        RecordType::PTR => Question::Ptr,
        RecordType::SRV => Question::Srv,
        RecordType::TXT => Question::Txt,
        _ => Question::Other,
    }
}

/// `None` for a target that is no domain name, such as one with a label of more than 63 bytes.
fn to_wire(name: &Name, record: &Record) -> Option<WireRecord> {
    let data = match record {
        Record::Address(IpAddr::V4(ip)) => RData::A(A(*ip)),
        Record::Address(IpAddr::V6(ip)) => RData::AAAA(AAAA(*ip)),
        Record::Cname(target) => RData::CNAME(CNAME(parse(target)?)),
        Record::Ptr(target) => RData::PTR(PTR(parse(target)?)),
        Record::Srv { port, target } => {
            RData::SRV(SRV::new(SRV_PRIORITY, 100, *port, parse(target)?))
        }
        Record::Txt(text) => RData::TXT(TXT::new(vec![(*text).to_owned()])),
    };
    Some(WireRecord::from_rdata(name.clone(), TTL_SECONDS, data))
}

fn parse(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use serde_json::json;

    use super::*;

    fn zone(address_count: u8) -> Zone {
        let mut zone = Zone::new("cluster.local");
        let service = |name: &str, spec| {
            serde_json::from_value(
                json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}),
            )
        };
        zone.set_service(
            &service("web", json!({"clusterIPs": ["10.0.128.7"]})).expect("a Service"),
        );
        zone.set_service(&service("db", json!({"clusterIPs": ["None"]})).expect("a Service"));
        let alias = |target: &str| json!({"type": "ExternalName", "externalName": target});
        zone.set_service(
            &service("inner", alias("web.shop.svc.cluster.local")).expect("a Service"),
        );
        zone.set_service(&service("outer", alias("example.com")).expect("a Service"));
        zone.set_service(
            &service("loop", alias("loop.shop.svc.cluster.local")).expect("a Service"),
        );
        let endpoints: Vec<_> = (1..=address_count)
            .map(|n| json!({"addresses": [format!("10.42.0.{n}")]}))
            .collect();
        let slice = json!({"metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "endpoints": endpoints});
        zone.set_slice(&serde_json::from_value(slice).expect("a slice"));
        zone
    }

    fn query(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message
            .queries
            .push(Query::query(Name::from_ascii(name).expect("a name"), kind));
        message
    }

    fn reply(zone: &Zone, request: &Message) -> Message {
        match respond(zone, request, 0) {
            Outcome::Reply(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn negative_answers_carry_an_soa_and_tell_missing_names_from_missing_records() {
        let zone = zone(1);
        let none = reply(
            &zone,
            &query("web.shop.svc.cluster.local.", RecordType::AAAA),
        );
        assert_eq!(
            (
                none.metadata.response_code,
                none.answers.len(),
                none.authorities.len()
            ),
            (ResponseCode::NoError, 0, 1)
        );
        let missing = reply(
            &zone,
            &query("nobody.shop.svc.cluster.local.", RecordType::A),
        );
        assert_eq!(
            (missing.metadata.response_code, missing.authorities.len()),
            (ResponseCode::NXDomain, 1)
        );
    }

    #[test]
    fn aliases_are_followed_inside_the_zone_and_chased_outside() {
        let zone = zone(1);
        let inner = reply(
            &zone,
            &query("inner.shop.svc.cluster.local.", RecordType::A),
        );
        assert_eq!(
            inner
                .answers
                .iter()
                .map(WireRecord::record_type)
                .collect::<Vec<_>>(),
            [RecordType::CNAME, RecordType::A]
        );
        let outer = respond(
            &zone,
            &query("outer.shop.svc.cluster.local.", RecordType::A),
            0,
        );
        assert!(
            matches!(outer, Outcome::Chase { target, .. } if target.to_ascii() == "example.com.")
        );
        let circle = reply(&zone, &query("loop.shop.svc.cluster.local.", RecordType::A));
        assert!(circle.answers.len() <= ALIAS_DEPTH_MAX + 1);
    }

    #[test]
    fn what_does_not_fit_a_datagram_is_truncated() {
        let zone = zone(100);
        let plain = query("db.shop.svc.cluster.local.", RecordType::A);
        let bytes = encode_udp(&plain, &reply(&zone, &plain)).expect("bytes");
        let cut = Message::from_vec(&bytes).expect("a message");
        assert!(bytes.len() <= 512 && cut.metadata.truncation && cut.answers.is_empty());
        let few = self::zone(20);
        let bytes = encode_udp(&plain, &reply(&few, &plain)).expect("bytes");
        assert!(
            !Message::from_vec(&bytes)
                .expect("a message")
                .metadata
                .truncation
        );
    }

    #[test]
    fn of_more_records_than_a_message_can_hold_clients_get_what_fits() {
        let zone = zone(1);
        let request = query("db.shop.svc.cluster.local.", RecordType::A);
        let mut many = reply(&zone, &request);
        let record = many.answers[0].clone();
        many.answers = vec![record; 6_000];
        let read = |bytes: Vec<u8>| Message::from_vec(&bytes).expect("a message");
        let over_tcp = read(many.to_vec().expect("bytes"));
        assert!(over_tcp.metadata.truncation && over_tcp.answers.len() > 1_000);
        let over_udp = read(encode_udp(&request, &many).expect("bytes"));
        assert!(over_udp.metadata.truncation && over_udp.answers.is_empty());
    }

    #[test]
    fn the_zone_has_a_start_of_authority() {
        let zone = zone(1);
        let types = |name, kind| {
            let reply = reply(&zone, &query(name, kind));
            let of = |records: &[WireRecord]| records.iter().map(WireRecord::record_type).collect();
            let (answers, authorities): (Vec<_>, Vec<_>) =
                (of(&reply.answers), of(&reply.authorities));
            (answers, authorities)
        };
        let soa = vec![RecordType::SOA];
        assert_eq!(
            types("Cluster.Local.", RecordType::SOA),
            (soa.clone(), vec![])
        );
        assert_eq!(
            types("svc.cluster.local.", RecordType::SOA),
            (vec![], soa.clone())
        );
        assert_eq!(types("cluster.local.", RecordType::ANY), (vec![], soa));
    }

    #[test]
    fn the_last_name_of_an_alias_gives_the_code() {
        let mut zone = zone(1);
        for (name, target) in [
            ("lost", "nobody.shop.svc.cluster.local"),
            ("again", "inner.shop.svc.cluster.local"),
        ] {
            let service = json!({"metadata": {"name": name, "namespace": "shop"},
                "spec": {"type": "ExternalName", "externalName": target}});
            zone.set_service(&serde_json::from_value(service).expect("a Service"));
        }
        for (name, kind, code, answers, authorities) in [
            ("lost", RecordType::A, ResponseCode::NXDomain, 1, 1),
            ("lost", RecordType::CNAME, ResponseCode::NoError, 1, 0),
            ("again", RecordType::A, ResponseCode::NoError, 3, 0),
            ("again", RecordType::AAAA, ResponseCode::NoError, 2, 1),
        ] {
            let reply = reply(
                &zone,
                &query(&format!("{name}.shop.svc.cluster.local."), kind),
            );
            let found = (
                reply.metadata.response_code,
                reply.answers.len(),
                reply.authorities.len(),
            );
            assert_eq!(found, (code, answers, authorities), "{name} {kind}");
        }
    }

    #[test]
    fn only_questions_are_answered_and_unreadable_ones_are_format_errors() {
        let mut message = query("web.shop.svc.cluster.local.", RecordType::A);
        assert!(asks(&message));
        let bytes = message.to_vec().expect("bytes");
        let spoilt = &bytes[..bytes.len() - 3];
        assert!(Message::from_vec(spoilt).is_err());
        let error = Message::from_vec(&unreadable(spoilt).expect("a reply")).expect("a message");
        assert_eq!(error.metadata.id, message.metadata.id);
        assert_eq!(error.metadata.response_code, ResponseCode::FormErr);
        assert_eq!(error.metadata.message_type, MessageType::Response);
        message.metadata.message_type = MessageType::Response;
        assert!(!asks(&message));
        let bytes = message.to_vec().expect("bytes");
        assert_eq!(unreadable(&bytes[..bytes.len() - 3]), None);
        assert_eq!(unreadable(&bytes[..11]), None);
    }

    #[test]
    fn equal_addresses_take_turns() {
        let zone = zone(3);
        let request = query("db.shop.svc.cluster.local.", RecordType::A);
        let first = |turn| match respond(&zone, &request, turn) {
            Outcome::Reply(message) => message.answers[0].data.clone(),
            other => panic!("{other:?}"),
        };
        assert_ne!(first(0), first(1));
        assert_eq!(first(0), first(3));
    }

    #[test]
    fn odd_queries_are_refused_not_ignored() {
        let zone = zone(1);
        let mut update = query("web.shop.svc.cluster.local.", RecordType::A);
        update.metadata.op_code = OpCode::Status;
        assert_eq!(
            reply(&zone, &update).metadata.response_code,
            ResponseCode::NotImp
        );
        let mut empty = query("web.shop.svc.cluster.local.", RecordType::A);
        empty.queries.clear();
        assert_eq!(
            reply(&zone, &empty).metadata.response_code,
            ResponseCode::FormErr
        );
        assert!(matches!(
            respond(&zone, &query("example.com.", RecordType::A), 0),
            Outcome::Forward
        ));
    }
}
