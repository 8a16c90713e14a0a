//! Replies about the cluster's own names, kept as bytes until the zone changes. Never decides what a name means.

use std::collections::HashMap;

use hickory_proto::op::Message;
use knarr_netproxy_plan::dns::Zone;

use super::message::{Outcome, respond};

const HEADER_BYTES: usize = 12;
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: u8 = 63;
const TYPE_AND_CLASS_BYTES: usize = 4;
/// An OPT record of version 0 without options, but for its payload size and flags.
const OPT_BYTES: usize = 11;
/// What every client can take, so that no reply is kept that some would need cut.
const REPLY_BYTES_MAX: usize = 512;
/// When full, all are forgotten: those still asked for are back at once.
const BYTES_MAX: usize = 1 << 20;
/// What an entry costs beside its bytes, roughly.
const ENTRY_BYTES: usize = 64;

/// Type, class and whether there is EDNS behind a name in lower case.
type KeyBytes = [u8; NAME_BYTES_MAX + TYPE_AND_CLASS_BYTES + 1];

/// A question as nearly all clients put it: one name, and at most a plain EDNS record.
pub(super) struct Plain<'a> {
    datagram: &'a [u8],
    /// The question section's end in the datagram.
    end: usize,
    key: KeyBytes,
    key_length: usize,
}

impl<'a> Plain<'a> {
    /// Nothing for any other datagram.
    pub(super) fn read(datagram: &'a [u8]) -> Option<Self> {
        const RECURSION_DESIRED: u8 = 1;
        let header: &[u8; HEADER_BYTES] = datagram.first_chunk()?;
        let [_, _, flags, more_flags, counts @ ..] = header;
        if flags & !RECURSION_DESIRED != 0 || more_flags & 0x0f != 0 {
            return None;
        }
        let additional = match counts {
            [0, 1, 0, 0, 0, 0, 0, additional @ 0..=1] => *additional,
            _ => return None,
        };
        let end = name_end(datagram)? + TYPE_AND_CLASS_BYTES;
        let question = datagram.get(HEADER_BYTES..end)?;
        match (additional, datagram.get(end..)?) {
            (0, []) => {}
            (1, rest) if is_plain_edns(rest) => {}
            _ => return None,
        }
        let mut key = [0; NAME_BYTES_MAX + TYPE_AND_CLASS_BYTES + 1];
        let key_length = question.len() + 1;
        let (name, rest) = key.get_mut(..key_length)?.split_at_mut(question.len());
        name.copy_from_slice(question);
        // Lengths of labels are below the letters.
        name.get_mut(..question.len() - TYPE_AND_CLASS_BYTES)?
            .make_ascii_lowercase();
        rest.copy_from_slice(&[additional]);
        Some(Self {
            datagram,
            end,
            key,
            key_length,
        })
    }

    fn key(&self) -> &[u8] {
        self.key.get(..self.key_length).unwrap_or_default()
    }

    /// The same question in lower case.
    fn canonical(&self) -> Vec<u8> {
        let mut bytes = self.datagram.to_vec();
        if let Some(question) = bytes.get_mut(HEADER_BYTES..self.end) {
            let length = question.len();
            question.copy_from_slice(self.key.get(..length).unwrap_or_default());
        }
        bytes
    }
}

/// Where the only question's name ends.
fn name_end(datagram: &[u8]) -> Option<usize> {
    let mut at = HEADER_BYTES;
    loop {
        match *datagram.get(at)? {
            0 => break,
            length @ 1..=LABEL_BYTES_MAX => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    let end = at + 1;
    (end - HEADER_BYTES <= NAME_BYTES_MAX).then_some(end)
}

fn is_plain_edns(record: &[u8]) -> bool {
    let record: Option<&[u8; OPT_BYTES]> = record.try_into().ok();
    // Root, type 41, payload size, extended code, version, flags, length.
    matches!(record, Some([0, 0, 41, _, _, 0, 0, _, _, 0, 0]))
}

/// Replies by question.
#[derive(Debug, Default)]
pub(super) struct Kept {
    revision: u64,
    replies: HashMap<Box<[u8]>, Turns>,
    byte_count: usize,
}

/// One reply for each order of equal addresses.
type Turns = Box<[Box<[u8]>]>;

impl Kept {
    /// Forgets everything if the zone has changed.
    pub(super) fn follow(&mut self, zone: &Zone) {
        if zone.revision() != self.revision {
            self.forget();
            self.revision = zone.revision();
        }
    }

    fn forget(&mut self) {
        self.replies = HashMap::new();
        self.byte_count = 0;
    }

    /// Writes the reply that is kept, if one is, and gives its length.
    pub(super) fn reply(&self, asked: &Plain<'_>, turn: usize, into: &mut [u8]) -> Option<usize> {
        let turns = self.replies.get(asked.key())?;
        let kept = turns.get(turn % turns.len().max(1))?;
        let into = into.get_mut(..kept.len())?;
        into.copy_from_slice(kept);
        let question = asked.datagram.get(..asked.end)?;
        let ([id @ .., flags], rest) = question.split_first_chunk::<3>()?;
        let ([own_id @ .., own_flags], own_rest) = into.split_first_chunk_mut::<3>()?;
        own_id.copy_from_slice(id);
        // The reply was kept without recursion desired, the only flag of a plain question.
        *own_flags |= flags;
        let names = HEADER_BYTES - 3;
        let own_question = own_rest.get_mut(names..rest.len())?;
        own_question.copy_from_slice(rest.get(names..)?);
        Some(kept.len())
    }

    /// Keeps the reply to a question if everybody who asks it now gets the same.
    pub(super) fn keep(&mut self, asked: &Plain<'_>, zone: &Zone) {
        let Some(turns) = all_turns(asked, zone) else {
            return;
        };
        let key: Box<[u8]> = asked.key().into();
        let bytes: usize = turns.iter().map(|reply| reply.len() + ENTRY_BYTES).sum();
        let bytes = bytes + key.len() + ENTRY_BYTES;
        if self.byte_count + bytes > BYTES_MAX {
            self.forget();
        }
        self.byte_count += bytes;
        self.replies.insert(key, turns);
    }
}

fn all_turns(asked: &Plain<'_>, zone: &Zone) -> Option<Turns> {
    let mut request = Message::from_vec(&asked.canonical()).ok()?;
    request.metadata.recursion_desired = false;
    let mut turns = Vec::new();
    loop {
        let Outcome::Reply(reply) = respond(zone, &request, turns.len()) else {
            return None;
        };
        let bytes = reply.to_vec().ok()?;
        if bytes.len() > REPLY_BYTES_MAX {
            return None;
        }
        turns.push(bytes.into_boxed_slice());
        if turns.len() >= reply.answers.len() {
            return Some(turns.into_boxed_slice());
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{Edns, MessageType, OpCode, Query, ResponseCode},
        rr::{Name, RecordType},
    };
    use serde_json::json;

    use super::*;
    use crate::dns::message::encode_udp;

    fn zone() -> Zone {
        let mut zone = Zone::new("cluster.local");
        for (name, spec) in [
            ("web", json!({ "clusterIPs": ["10.0.128.7"] })),
            ("db", json!({ "clusterIPs": ["None"] })),
            (
                "inner",
                json!({ "type": "ExternalName", "externalName": "web.shop.svc.cluster.local" }),
            ),
            (
                "outer",
                json!({ "type": "ExternalName", "externalName": "example.com" }),
            ),
        ] {
            let service =
                json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": spec });
            zone.set_service(&serde_json::from_value(service).expect("a Service"));
        }
        endpoints(&mut zone, 3);
        zone
    }

    fn endpoints(zone: &mut Zone, count: u8) {
        let endpoints: Vec<_> = (1..=count)
            .map(|last| json!({ "addresses": [format!("10.42.0.{last}")] }))
            .collect();
        let labels = json!({ "kubernetes.io/service-name": "db" });
        let metadata = json!({ "name": "db-1", "namespace": "shop", "labels": labels });
        let slice = json!({ "metadata": metadata, "addressType": "IPv4", "endpoints": endpoints });
        zone.set_slice(&serde_json::from_value(slice).expect("a slice"));
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
        let name = Name::from_ascii(name).expect("a name");
        message.queries.push(Query::query(name, kind));
        message
    }

    /// What the server says without keeping anything.
    fn anew(zone: &Zone, request: &Message, turn: usize) -> Option<Vec<u8>> {
        match respond(zone, request, turn) {
            Outcome::Reply(reply) => encode_udp(request, &reply),
            Outcome::Forward | Outcome::Chase { .. } => None,
        }
    }

    fn kept(kept: &mut Kept, zone: &Zone, bytes: &[u8], turn: usize) -> Option<Vec<u8>> {
        let plain = Plain::read(bytes)?;
        let mut room = [0; 1232];
        if kept.reply(&plain, turn, &mut room).is_none() {
            kept.keep(&plain, zone);
        }
        let length = kept.reply(&plain, turn, &mut room)?;
        Some(room[..length].to_vec())
    }

    #[test]
    fn a_kept_reply_is_the_one_that_would_be_made_anew() {
        let zone = zone();
        let mut replies = Kept::default();
        for name in ["web", "WEB", "db", "inner", "nobody"] {
            for kind in [
                RecordType::A,
                RecordType::AAAA,
                RecordType::SRV,
                RecordType::MX,
            ] {
                for edns in [None, Some(Edns::new())] {
                    for turn in [0, 1, 5] {
                        let mut request =
                            question(&format!("{name}.shop.Svc.cluster.local."), kind);
                        request.metadata.recursion_desired = turn > 0;
                        request.edns.clone_from(&edns);
                        let bytes = request.to_vec().expect("bytes");
                        let read = |bytes: Vec<u8>| Message::from_vec(&bytes).expect("a message");
                        let expected = anew(&zone, &request, turn).map(read);
                        let found = kept(&mut replies, &zone, &bytes, turn).map(read);
                        assert!(found.is_some(), "{request}");
                        assert_eq!(found, expected, "{request}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_question_comes_back_as_it_was_put() {
        let zone = zone();
        let mut replies = Kept::default();
        for name in ["web.shop.svc.cluster.local.", "wEb.ShOp.sVc.ClUsTeR.lOcAl."] {
            let bytes = question(name, RecordType::A).to_vec().expect("bytes");
            let reply = kept(&mut replies, &zone, &bytes, 0).expect("kept");
            assert_eq!(reply[..2], bytes[..2]);
            assert_eq!(reply[HEADER_BYTES..bytes.len()], bytes[HEADER_BYTES..]);
        }
        assert_eq!(replies.replies.len(), 1);
    }

    #[test]
    fn a_change_of_the_zone_forgets_and_no_change_does_not() {
        let mut zone = zone();
        let mut replies = Kept::default();
        replies.follow(&zone);
        let bytes = question("db.shop.svc.cluster.local.", RecordType::A).to_vec();
        let bytes = bytes.expect("bytes");
        let count = |reply: Option<Vec<u8>>| reply.map(|reply| reply[7]);
        assert_eq!(count(kept(&mut replies, &zone, &bytes, 0)), Some(3));
        replies.follow(&zone);
        assert_eq!(replies.replies.len(), 1);
        endpoints(&mut zone, 2);
        replies.follow(&zone);
        assert_eq!(count(kept(&mut replies, &zone, &bytes, 0)), Some(2));
    }

    #[test]
    fn what_others_know_and_what_some_cannot_take_is_not_kept() {
        let mut zone = zone();
        let mut replies = Kept::default();
        for name in ["outer.shop.svc.cluster.local.", "example.com."] {
            let bytes = question(name, RecordType::A).to_vec().expect("bytes");
            assert_eq!(kept(&mut replies, &zone, &bytes, 0), None, "{name}");
        }
        endpoints(&mut zone, 100);
        let many = question("db.shop.svc.cluster.local.", RecordType::A);
        assert_eq!(
            kept(&mut replies, &zone, &many.to_vec().expect("bytes"), 0),
            None
        );
        assert!(replies.replies.is_empty());
    }

    #[test]
    fn only_plain_questions_are_plain() {
        let plain = question("web.shop.svc.cluster.local.", RecordType::A);
        let with = |spoil: fn(&mut Message)| {
            let mut message = plain.clone();
            spoil(&mut message);
            Plain::read(&message.to_vec().expect("bytes")).is_some()
        };
        assert!(with(|_| {}));
        assert!(with(|message| message.metadata.recursion_desired = true));
        assert!(!with(|message| message.metadata.op_code = OpCode::Status));
        assert!(!with(
            |message| message.metadata.message_type = MessageType::Response
        ));
        assert!(!with(
            |message| message.metadata.response_code = ResponseCode::NXDomain
        ));
        assert!(!with(|message| message.metadata.truncation = true));
        assert!(!with(|message| message.queries.clear()));
        assert!(!with(|message| message
            .queries
            .push(message.queries[0].clone())));
        let edns = |version| {
            let mut edns = Edns::new();
            edns.set_version(version);
            edns
        };
        let mut message = plain.clone();
        message.edns = Some(edns(0));
        assert!(Plain::read(&message.to_vec().expect("bytes")).is_some());
        message.edns = Some(edns(1));
        assert!(Plain::read(&message.to_vec().expect("bytes")).is_none());
    }

    #[test]
    fn every_beginning_and_every_spoilt_byte_of_a_question_is_read_without_panic() {
        let zone = zone();
        let bytes = question("web.shop.svc.cluster.local.", RecordType::A).to_vec();
        let bytes = bytes.expect("bytes");
        let mut replies = Kept::default();
        for at in 0..bytes.len() {
            kept(&mut replies, &zone, &bytes[..at], 0);
            for value in [0, 1, 0x3f, 0x40, 0xc0, 0xff] {
                let mut spoilt = bytes.clone();
                spoilt[at] = value;
                kept(&mut replies, &zone, &spoilt, 0);
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let zone = zone();
        let mut replies = Kept::default();
        for number in 0..10_000 {
            let name = format!("nobody-{number}.shop.svc.cluster.local.");
            let bytes = question(&name, RecordType::A).to_vec().expect("bytes");
            assert!(kept(&mut replies, &zone, &bytes, 0).is_some());
            assert!(replies.byte_count <= BYTES_MAX);
        }
        assert!(replies.replies.len() > 1_000);
    }
}
