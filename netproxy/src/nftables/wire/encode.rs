//! Encodes edits as one batch of netlink messages.

use knarr_netproxy_plan::Family;

use super::{
    constant::{
        self as c, BATCH_BEGIN, BATCH_END, BATCH_GENERATION, EXPRESSION_DATA, EXPRESSION_NAME,
        LIST_ITEM, SUBSYSTEM,
    },
    shape::{Shape, field_length, field_type},
    userdata,
};
use crate::netlink::message::{Open, Writer};
use crate::nftables::{
    TABLE, Verdict,
    chain::{Hook, HookPoint},
    edits::Edit,
    expression::{Base, Comparison, Expression, Meta, Presence, Register, Side},
    set::{Counting, Key, Set, Value},
    statement::Field,
};

const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
const APPEND: u16 = libc::NLM_F_APPEND as u16;
/// Attributes hold at most 64 KiB, so lists of elements are cut before that.
const LIST_BYTES_MAX: usize = 60_000;
/// Clients remembered per backend, as nft's own default has it.
const CLIENT_SET_SIZE: u32 = 65_535;

/// A transaction, encoded.
#[derive(Debug)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    /// For each message in order of sequence number, the edit it came from.
    pub(super) edits: Vec<Option<usize>>,
}

impl Batch {
    /// The batch's size on the wire.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }
}

/// Encodes a transaction, to be refused by the kernel unless its generation is the given one.
#[must_use]
pub fn encode(edits: &[Edit], family: Family, generation: Option<u32>) -> Batch {
    let mut encoder = Encoder {
        writer: Writer::default(),
        edits: Vec::new(),
        family,
        current: None,
    };
    encoder.batch_edge(BATCH_BEGIN, generation);
    for (index, edit) in edits.iter().enumerate() {
        encoder.current = Some(index);
        encoder.edit(edit);
    }
    encoder.current = None;
    encoder.batch_edge(BATCH_END, None);
    Batch {
        bytes: encoder.writer.bytes,
        edits: encoder.edits,
    }
}

struct Encoder {
    writer: Writer,
    edits: Vec<Option<usize>>,
    family: Family,
    current: Option<usize>,
}

pub(super) fn address_family(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

impl Encoder {
    fn sequence(&mut self) -> u32 {
        let sequence = u32::try_from(self.edits.len()).unwrap_or(u32::MAX);
        self.edits.push(self.current);
        sequence
    }

    fn batch_edge(&mut self, kind: u16, generation: Option<u32>) {
        let sequence = self.sequence();
        let open = self.writer.start(kind, REQUEST, sequence, 0, SUBSYSTEM);
        if let Some(generation) = generation {
            self.writer.number(BATCH_GENERATION, generation);
        }
        self.writer.finish(open);
    }

    fn start(&mut self, kind: u16, flags: u16) -> Open {
        let sequence = self.sequence();
        let kind = SUBSYSTEM << 8 | kind;
        self.writer.start(
            kind,
            REQUEST | flags,
            sequence,
            address_family(self.family),
            0,
        )
    }

    fn edit(&mut self, edit: &Edit) {
        match edit {
            Edit::AddTable => {
                self.table(c::message::NEWTABLE, CREATE);
                Set::ALL.into_iter().for_each(|set| self.add_set(set));
            }
            Edit::RemoveTable => self.table(c::message::DELTABLE, 0),
            Edit::AddClientSet(name) => self.add_client_set(name),
            Edit::AddChain(name, hook) => self.chain(c::message::NEWCHAIN, CREATE, name, *hook),
            Edit::AddRule(chain, rule) => self.add_rule(chain, &rule.expressions),
            Edit::FlushChain(name) => {
                let open = self.start(c::message::DELRULE, 0);
                self.writer.text(c::rule::TABLE, TABLE);
                self.writer.text(c::rule::CHAIN, name);
                self.writer.finish(open);
            }
            Edit::AddElements(set, elements) => {
                self.elements(c::message::NEWELEMENT, CREATE, *set, elements);
            }
            Edit::RemoveElements(set, elements) => {
                self.elements(c::message::DELELEMENT, 0, *set, elements);
            }
            Edit::RemoveChain(name) => self.chain(c::message::DELCHAIN, 0, name, None),
            Edit::RemoveClientSet(name) => {
                let open = self.start(c::message::DELSET, 0);
                self.writer.text(c::set::TABLE, TABLE);
                self.writer.text(c::set::NAME, name);
                self.writer.finish(open);
            }
        }
    }

    fn table(&mut self, kind: u16, flags: u16) {
        let open = self.start(kind, flags);
        self.writer.text(c::table::NAME, TABLE);
        self.writer.finish(open);
    }

    fn chain(&mut self, kind: u16, flags: u16, name: &str, hook: Option<Hook>) {
        let open = self.start(kind, flags);
        self.writer.text(c::chain::TABLE, TABLE);
        self.writer.text(c::chain::NAME, name);
        if let Some(hook) = hook {
            let nest = self.writer.nest(c::chain::HOOK);
            self.writer
                .number(c::chain::HOOK_NUMBER, hook_number(hook.point));
            self.writer
                .bytes(c::chain::HOOK_PRIORITY, &hook.priority.to_be_bytes());
            self.writer.end(nest);
            self.writer.text(c::chain::TYPE, hook.kind);
        }
        self.writer.finish(open);
    }

    fn add_set(&mut self, set: Set) {
        let shape = Shape::of(set, self.family);
        let id = u32::try_from(self.edits.len()).unwrap_or(u32::MAX);
        let open = self.start(c::message::NEWSET, CREATE);
        let writer = &mut self.writer;
        writer.text(c::set::TABLE, TABLE);
        writer.text(c::set::NAME, set.name());
        writer.number(c::set::FLAGS, shape.flags);
        writer.number(c::set::KEY_TYPE, shape.key_type);
        writer.number(c::set::KEY_LENGTH, shape.key_length);
        if let Some(data_type) = shape.data_type {
            writer.number(c::set::DATA_TYPE, data_type);
            writer.number(c::set::DATA_LENGTH, shape.data_length);
        }
        writer.number(c::set::ID, id);
        if shape.flags & c::set::CONCAT != 0 {
            let description = writer.nest(c::set::DESCRIPTION);
            let concat = writer.nest(c::set::DESCRIPTION_CONCAT);
            for field in set.key() {
                let item = writer.nest(LIST_ITEM);
                writer.number(c::set::FIELD_LENGTH, field_length(field, self.family));
                writer.end(item);
            }
            writer.end(concat);
            writer.end(description);
        }
        writer.bytes(c::set::USERDATA, &userdata::of_set(set, self.family));
        if shape.counting == Counting::Lookups {
            let counter = writer.nest(c::set::EXPRESSION);
            writer.text(EXPRESSION_NAME, c::counter::NAME);
            writer.end(counter);
        }
        writer.finish(open);
    }

    fn add_client_set(&mut self, name: &str) {
        let id = u32::try_from(self.edits.len()).unwrap_or(u32::MAX);
        let open = self.start(c::message::NEWSET, CREATE);
        let writer = &mut self.writer;
        writer.text(c::set::TABLE, TABLE);
        writer.text(c::set::NAME, name);
        writer.number(c::set::FLAGS, c::set::TIMEOUT | c::set::DYNAMIC);
        writer.number(c::set::KEY_TYPE, field_type(Field::Source, self.family));
        writer.number(c::set::KEY_LENGTH, field_length(Field::Source, self.family));
        writer.number(c::set::ID, id);
        let description = writer.nest(c::set::DESCRIPTION);
        writer.number(c::set::DESCRIPTION_SIZE, CLIENT_SET_SIZE);
        writer.end(description);
        writer.bytes(c::set::USERDATA, &userdata::of_client_set());
        writer.finish(open);
    }

    fn add_rule(&mut self, chain: &str, expressions: &[Expression]) {
        let open = self.start(c::message::NEWRULE, CREATE | APPEND);
        let family = self.family;
        let writer = &mut self.writer;
        writer.text(c::rule::TABLE, TABLE);
        writer.text(c::rule::CHAIN, chain);
        let list = writer.nest(c::rule::EXPRESSIONS);
        for expression in expressions {
            write_expression(writer, expression, family);
        }
        writer.end(list);
        writer.finish(open);
    }

    fn elements(&mut self, kind: u16, flags: u16, set: Set, elements: &[(Key, Value)]) {
        let shape = KeyShape::of(set);
        let mut rest = elements.iter().peekable();
        while rest.peek().is_some() {
            let open = self.start(kind, flags);
            self.writer.text(c::element::TABLE, TABLE);
            self.writer.text(c::element::SET, set.name());
            let list = self.writer.nest(c::element::LIST);
            while let Some((key, value)) =
                rest.next_if(|_| self.writer.length_since(&list) < LIST_BYTES_MAX)
            {
                write_element(&mut self.writer, shape, key, value);
            }
            self.writer.end(list);
            self.writer.finish(open);
        }
    }
}

pub(super) fn hook_number(point: HookPoint) -> u32 {
    match point {
        HookPoint::Prerouting => 0,
        HookPoint::Output => 3,
        HookPoint::Postrouting => 4,
    }
}

/// Whether a set's keys have several parts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyShape {
    Plain,
    Concatenated,
}

impl KeyShape {
    fn of(set: Set) -> Self {
        match set.key().len() {
            ..=1 => Self::Plain,
            _ => Self::Concatenated,
        }
    }
}

fn write_element(writer: &mut Writer, shape: KeyShape, key: &Key, value: &Value) {
    let item = writer.nest(LIST_ITEM);
    write_data(writer, c::element::KEY, &key.first);
    if let (Some(last), KeyShape::Concatenated) = (&key.last, shape) {
        write_data(writer, c::element::KEY_END, last);
    }
    match value {
        Value::Present => {}
        Value::Verdict(verdict) => {
            let data = writer.nest(c::element::DATA);
            write_verdict(writer, verdict);
            writer.end(data);
        }
        Value::Backend(bytes) => write_data(writer, c::element::DATA, bytes),
    }
    writer.end(item);
    // A range of a plain key is two elements: where it starts, and where it has ended.
    let after = key
        .last
        .as_deref()
        .filter(|_| shape == KeyShape::Plain)
        .and_then(|last| successor(last));
    if let Some(after) = after {
        let item = writer.nest(LIST_ITEM);
        write_data(writer, c::element::KEY, &after);
        writer.number(c::element::FLAGS, c::element::INTERVAL_END);
        writer.end(item);
    }
}

/// The next larger key, unless there is none.
fn successor(key: &[u8]) -> Option<Vec<u8>> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(key);
        }
    }
    None
}

fn write_data(writer: &mut Writer, kind: u16, bytes: &[u8]) {
    let nest = writer.nest(kind);
    writer.bytes(c::data::VALUE, bytes);
    writer.end(nest);
}

fn write_verdict(writer: &mut Writer, verdict: &Verdict) {
    let nest = writer.nest(c::data::VERDICT);
    let (code, chain) = match verdict {
        Verdict::Return => (c::data::RETURN, None),
        Verdict::Drop => (c::data::DROP, None),
        Verdict::Jump(chain) => (c::data::JUMP, Some(chain)),
        Verdict::Goto(chain) => (c::data::GOTO, Some(chain)),
    };
    writer.bytes(c::data::VERDICT_CODE, &code.to_be_bytes());
    if let Some(chain) = chain {
        writer.text(c::data::VERDICT_CHAIN, chain);
    }
    writer.end(nest);
}

/// The first of every four 32-bit registers also has a number as a whole.
fn register(Register(index): Register) -> u32 {
    let index = u32::from(index);
    if index % 4 == 0 {
        1 + index / 4
    } else {
        8 + index
    }
}

fn write_expression(writer: &mut Writer, expression: &Expression, family: Family) {
    let item = writer.nest(LIST_ITEM);
    writer.text(EXPRESSION_NAME, expression_name(expression));
    let data = writer.nest(EXPRESSION_DATA);
    write_expression_data(writer, expression, family);
    writer.end(data);
    writer.end(item);
}

fn expression_name(expression: &Expression) -> &'static str {
    match expression {
        Expression::Payload { .. } => "payload",
        Expression::Meta { .. } | Expression::SetMark { .. } => "meta",
        Expression::AddressType { .. } => "fib",
        Expression::Compare { .. } => "cmp",
        Expression::Bitwise { .. } => "bitwise",
        Expression::Lookup { .. } | Expression::Load { .. } | Expression::Obey { .. } => "lookup",
        Expression::Update { .. } => "dynset",
        Expression::Immediate { .. } | Expression::Verdict(_) => "immediate",
        Expression::Random { .. } => "numgen",
        Expression::Dnat { .. } => "nat",
        Expression::Masquerade => "masq",
        Expression::Reject | Expression::Reset => "reject",
    }
}

#[expect(clippy::too_many_lines, reason = "one arm an expression")]
fn write_expression_data(writer: &mut Writer, expression: &Expression, family: Family) {
    match expression {
        Expression::Payload {
            base,
            offset,
            length,
            into,
        } => {
            writer.number(c::payload::INTO, register(*into));
            let base = match base {
                Base::Network => c::payload::NETWORK,
                Base::Transport => c::payload::TRANSPORT,
            };
            writer.number(c::payload::BASE, base);
            writer.number(c::payload::OFFSET, *offset);
            writer.number(c::payload::LENGTH, *length);
        }
        Expression::Meta { key, into } => {
            let key = match key {
                Meta::Protocol => c::meta::PROTOCOL,
                Meta::Mark => c::meta::MARK,
            };
            writer.number(c::meta::KEY, key);
            writer.number(c::meta::INTO, register(*into));
        }
        Expression::SetMark { from } => {
            writer.number(c::meta::KEY, c::meta::MARK);
            writer.number(c::meta::FROM, register(*from));
        }
        Expression::AddressType { side, into } => {
            writer.number(c::fib::INTO, register(*into));
            writer.number(c::fib::RESULT, c::fib::ADDRESS_TYPE);
            let flags = match side {
                Side::Source => c::fib::SOURCE,
                Side::Destination => c::fib::DESTINATION,
            };
            writer.number(c::fib::FLAGS, flags);
        }
        Expression::Compare {
            how,
            register: from,
            with,
        } => {
            writer.number(c::compare::FROM, register(*from));
            let how = match how {
                Comparison::Equal => c::compare::EQUAL,
                Comparison::Unequal => c::compare::UNEQUAL,
            };
            writer.number(c::compare::HOW, how);
            write_data(writer, c::compare::DATA, with);
        }
        Expression::Bitwise {
            register: both,
            mask,
            xor,
        } => {
            writer.number(c::bitwise::FROM, register(*both));
            writer.number(c::bitwise::INTO, register(*both));
            writer.number(c::bitwise::LENGTH, 4);
            write_data(writer, c::bitwise::MASK, &mask.to_ne_bytes());
            write_data(writer, c::bitwise::XOR, &xor.to_ne_bytes());
        }
        Expression::Lookup { .. }
        | Expression::Load { .. }
        | Expression::Obey { .. }
        | Expression::Update { .. } => write_set_expression(writer, expression),
        Expression::Immediate { .. }
        | Expression::Verdict(_)
        | Expression::Random { .. }
        | Expression::Dnat { .. }
        | Expression::Masquerade
        | Expression::Reject
        | Expression::Reset => write_action(writer, expression, family),
    }
}

fn write_set_expression(writer: &mut Writer, expression: &Expression) {
    let mut lookup = |set: &str, key: Register| {
        writer.text(c::lookup::SET, set);
        writer.number(c::lookup::FROM, register(key));
    };
    match expression {
        Expression::Lookup { set, key, presence } => {
            lookup(set, *key);
            if *presence == Presence::Absent {
                writer.number(c::lookup::FLAGS, c::lookup::INVERTED);
            }
        }
        Expression::Load { map, key, into } => {
            lookup(map, *key);
            writer.number(c::lookup::INTO, register(*into));
        }
        Expression::Obey { map, key } => {
            lookup(map, *key);
            writer.number(c::lookup::INTO, 0);
        }
        Expression::Update {
            set,
            key,
            timeout_seconds,
        } => {
            writer.text(c::dynset::SET, set);
            writer.number(c::dynset::OPERATION, c::dynset::UPDATE);
            writer.number(c::dynset::KEY, register(*key));
            let timeout_ms = u64::from(*timeout_seconds) * 1_000;
            writer.bytes(c::dynset::TIMEOUT, &timeout_ms.to_be_bytes());
        }
        _ => {}
    }
}

fn write_action(writer: &mut Writer, expression: &Expression, family: Family) {
    match expression {
        Expression::Immediate { into, bytes } => {
            writer.number(c::immediate::INTO, register(*into));
            write_data(writer, c::immediate::DATA, bytes);
        }
        Expression::Verdict(verdict) => {
            writer.number(c::immediate::INTO, 0);
            let data = writer.nest(c::immediate::DATA);
            write_verdict(writer, verdict);
            writer.end(data);
        }
        Expression::Random { below, into } => {
            writer.number(c::numgen::INTO, register(*into));
            writer.number(c::numgen::MODULUS, *below);
            writer.number(c::numgen::TYPE, c::numgen::RANDOM);
        }
        Expression::Dnat { address, port } => {
            writer.number(c::nat::TYPE, c::nat::DNAT);
            writer.number(c::nat::FAMILY, u32::from(address_family(family)));
            writer.number(c::nat::ADDRESS, register(*address));
            writer.number(c::nat::PORT, register(*port));
        }
        Expression::Masquerade => {
            writer.number(c::masquerade::FLAGS, c::masquerade::FULLY_RANDOM);
        }
        Expression::Reject => {
            writer.number(c::reject::TYPE, c::reject::ICMP);
            writer.bytes(c::reject::CODE, &[c::reject::port_unreachable(family)]);
        }
        Expression::Reset => writer.number(c::reject::TYPE, c::reject::TCP_RESET),
        _ => {}
    }
}
