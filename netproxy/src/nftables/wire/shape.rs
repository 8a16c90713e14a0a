//! What the kernel must know of a set before it holds an element.

use knarr_netproxy_plan::Family;

use super::constant as c;
use crate::nftables::{
    set::{Counting, Leads, Matching, Set},
    statement::Field,
};

/// What the kernel must know of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) flags: u32,
    pub(super) key_type: u32,
    pub(super) key_length: u32,
    pub(super) data_type: Option<u32>,
    pub(super) data_length: u32,
    pub(super) counting: Counting,
}

impl Shape {
    pub(super) fn of(set: Set, family: Family) -> Self {
        let key = set.key();
        let mut flags = match (set.matching(), key.len()) {
            (Matching::Exact, _) => 0,
            (Matching::Ranges, 1) => c::set::INTERVAL,
            (Matching::Ranges, _) => c::set::INTERVAL | c::set::CONCAT,
        };
        let backend = [Field::Destination, Field::Port];
        let (data_type, data_length) = match set.leads() {
            Leads::Nowhere => (None, 0),
            Leads::ToVerdict => (Some(c::set::VERDICT_TYPE), 0),
            Leads::ToBackend => (
                Some(concat_type(&backend, family)),
                concat_length(&backend, family),
            ),
        };
        if data_type.is_some() {
            flags |= c::set::MAP;
        }
        let key_type = concat_type(&key, family);
        Self {
            flags,
            key_type,
            key_length: concat_length(&key, family),
            data_type,
            data_length,
            counting: set.counting(),
        }
    }
}

/// nft's numbers of types, six bits each.
fn concat_type(fields: &[Field], family: Family) -> u32 {
    fields
        .iter()
        .fold(0, |kind, field| kind << 6 | field_type(*field, family))
}

fn concat_length(fields: &[Field], family: Family) -> u32 {
    let single = fields.len() == 1;
    let length = |field: &Field| field_length(*field, family);
    fields
        .iter()
        .map(|field| {
            if single {
                length(field)
            } else {
                length(field).next_multiple_of(4)
            }
        })
        .sum()
}

pub(super) fn field_type(field: Field, family: Family) -> u32 {
    match (field, family) {
        (Field::Slot { .. }, _) => 4,
        (Field::Source | Field::Destination, Family::V4) => 7,
        (Field::Source | Field::Destination, Family::V6) => 8,
        (Field::Protocol, _) => 12,
        (Field::Port, _) => 13,
    }
}

pub(super) fn field_length(field: Field, family: Family) -> u32 {
    match (field, family) {
        (Field::Source | Field::Destination, Family::V6) => 16,
        (Field::Source | Field::Destination, Family::V4) | (Field::Slot { .. }, _) => 4,
        (Field::Protocol, _) => 1,
        (Field::Port, _) => 2,
    }
}
