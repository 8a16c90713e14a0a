//! What nft keeps beside a set so that it can print the types of its keys. The kernel ignores it.

use knarr_netproxy_plan::Family;

use crate::nftables::{
    set::{Leads, Set},
    statement::Field,
};

const KEY_BYTE_ORDER: u8 = 0;
const DATA_BYTE_ORDER: u8 = 1;
const KEY_TYPEOF: u8 = 3;
const DATA_TYPEOF: u8 = 4;
const DATA_INTERVAL: u8 = 6;
const BIG_ENDIAN: u32 = 2;

const EXPRESSION: u8 = 0;
const EXPRESSION_DATA: u8 = 1;
const PAYLOAD: u32 = 7;
const META: u32 = 9;
const CONCAT: u32 = 13;
const NUMGEN: u32 = 23;

/// The userdata of a set.
pub(super) fn of_set(set: Set, family: Family) -> Vec<u8> {
    let key = set.key();
    let mut bytes = Vec::new();
    let single = key.len() == 1;
    number(
        &mut bytes,
        KEY_BYTE_ORDER,
        if single { BIG_ENDIAN } else { 0 },
    );
    if set.leads() != Leads::Nowhere {
        number(&mut bytes, DATA_BYTE_ORDER, 0);
    }
    if set.leads() == Leads::ToBackend {
        field(&mut bytes, KEY_TYPEOF, &concat(&key, family));
        let backend = concat(&[Field::Destination, Field::Port], family);
        field(&mut bytes, DATA_TYPEOF, &backend);
    } else if !single {
        field(&mut bytes, KEY_TYPEOF, &expression(CONCAT, &[]));
    }
    if set.leads() != Leads::Nowhere {
        number(&mut bytes, DATA_INTERVAL, 0);
    }
    bytes
}

/// The userdata of a set of clients.
pub(super) fn of_client_set() -> Vec<u8> {
    let mut bytes = Vec::new();
    number(&mut bytes, KEY_BYTE_ORDER, BIG_ENDIAN);
    bytes
}

fn concat(fields: &[Field], family: Family) -> Vec<u8> {
    let mut parts = Vec::new();
    for (index, part) in (0_u8..).zip(fields) {
        field(&mut parts, index, &typeof_field(*part, family));
    }
    expression(CONCAT, &parts)
}

fn typeof_field(part: Field, family: Family) -> Vec<u8> {
    let (ip, source, destination) = match family {
        Family::V4 => (12, 11, 12),
        Family::V6 => (13, 8, 9),
    };
    const TRANSPORT: u32 = 11;
    const TRANSPORT_DESTINATION_PORT: u32 = 2;
    const META_PROTOCOL: u32 = 16;
    match part {
        Field::Source => payload(ip, source),
        Field::Destination => payload(ip, destination),
        Field::Port => payload(TRANSPORT, TRANSPORT_DESTINATION_PORT),
        Field::Protocol => {
            let mut data = Vec::new();
            number(&mut data, 0, META_PROTOCOL);
            expression(META, &data)
        }
        Field::Slot { below } => {
            let mut data = Vec::new();
            let random = 1;
            number(&mut data, 0, random);
            number(&mut data, 1, below);
            number(&mut data, 2, 0);
            expression(NUMGEN, &data)
        }
    }
}

fn payload(header: u32, part: u32) -> Vec<u8> {
    let mut data = Vec::new();
    number(&mut data, 0, header);
    number(&mut data, 1, part);
    expression(PAYLOAD, &data)
}

fn expression(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    number(&mut bytes, EXPRESSION, kind);
    field(&mut bytes, EXPRESSION_DATA, data);
    bytes
}

fn number(bytes: &mut Vec<u8>, kind: u8, value: u32) {
    field(bytes, kind, &value.to_ne_bytes());
}

fn field(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    bytes.push(kind);
    bytes.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
    bytes.extend(value);
}
