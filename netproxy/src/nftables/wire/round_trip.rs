//! What the encoder writes the decoder reads, and what nobody wrote it survives.

use std::collections::{BTreeMap, BTreeSet};

use knarr_netproxy_plan::Family;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

use super::{
    constant as c,
    decode::{self, Listed},
    encode,
    shape::Shape,
};
use crate::{
    netlink::{
        error_of,
        message::{Attributes, Message, Writer, messages},
    },
    nftables::{
        Name, Ruleset, Verdict,
        chain::{Chain, Hook, Rule},
        edits::{Edit, edits},
        elements::Elements,
        expression::{Base, Comparison, Expression, Meta, Presence, Register, Side},
        golden::everything,
        increment_test::{planner, steps, take},
        set::{Matching, Set, Value},
    },
};

const POLICY_ACCEPT: u32 = 1;

/// Where ranges of plain keys start, and where they have ended.
type Edges = (Vec<Vec<u8>>, Vec<Vec<u8>>);

/// The table that a batch of messages makes of nothing.
fn read_back(bytes: &[u8], family: Family) -> Ruleset {
    let mut ruleset = Ruleset::absent(family);
    let mut edges: BTreeMap<Set, Edges> = BTreeMap::new();
    for message in messages(bytes) {
        let attributes = message.attributes();
        match message.kind & 0xff {
            c::message::NEWSET => read_set(attributes, &mut ruleset),
            c::message::NEWCHAIN => {
                let name = attributes.text(c::chain::NAME).expect("a name");
                let chain = Chain {
                    hook: listed_hook(attributes),
                    rules: Vec::new(),
                };
                ruleset.chains.insert(name.into(), chain);
            }
            c::message::NEWRULE => {
                let chain = attributes.text(c::rule::CHAIN).expect("a chain");
                let rule = Rule {
                    statements: Vec::new(),
                    expressions: rule_of(&message, family).expect("expressions of our kind"),
                };
                let chain = ruleset.chains.get_mut(chain).expect("a chain made before");
                chain.rules.push(rule);
            }
            c::message::NEWELEMENT => {
                let set = attributes.text(c::element::SET).and_then(Set::named);
                let set = set.expect("one of our sets");
                let own = ruleset.elements.entry(set).or_default();
                let (starts, ends) = edges.entry(set).or_default();
                for listed in decode::elements(set, attributes) {
                    match listed.expect("an element of our kind") {
                        Listed::Whole(key, value) => assert_eq!(own.insert(key, value), None),
                        Listed::Start(key) => starts.push(key),
                        Listed::End(key) => ends.push(key),
                    }
                }
            }
            _ => {}
        }
    }
    for (set, (starts, ends)) in edges {
        let plain = set.matching() == Matching::Ranges && set.key().len() == 1;
        let ranges = decode::ranges(starts, ends).into_iter().filter(|_| plain);
        let own = ruleset.elements.entry(set).or_default();
        for key in ranges {
            assert_eq!(own.insert(key, Value::Present), None);
        }
    }
    ruleset
}

fn read_set(attributes: Attributes<'_>, ruleset: &mut Ruleset) {
    let name = attributes.text(c::set::NAME).expect("a name");
    match Set::named(name) {
        Some(set) => {
            let wanted = Shape::of(set, ruleset.family);
            assert_eq!(decode::shape(attributes), Some(wanted), "{name}");
            ruleset.elements.insert(set, Elements::default());
        }
        None => assert!(ruleset.client_sets.insert(name.into())),
    }
}

/// Reads a base chain's hook as the kernel lists it, which is with its policy.
fn listed_hook(attributes: Attributes<'_>) -> Option<Hook> {
    let mut writer = Writer {
        bytes: attributes.0.to_vec(),
    };
    writer.number(c::chain::POLICY, POLICY_ACCEPT);
    decode::hook(Attributes(&writer.bytes))
}

fn rule_of(message: &Message<'_>, family: Family) -> Option<Vec<Expression>> {
    let list = message.attributes().nested(c::rule::EXPRESSIONS)?;
    decode::expressions(list, family)
}

fn whole(ruleset: &Ruleset) -> Vec<u8> {
    let change = edits(&Ruleset::absent(ruleset.family), ruleset).change;
    encode(&change, ruleset.family, Some(7)).bytes
}

#[test]
fn every_set_and_sort_of_element_is_tried() {
    for family in Family::BOTH {
        let ruleset = Ruleset::of(&everything(), family);
        let empty: Vec<&Set> = Set::ALL
            .iter()
            .filter(|set| ruleset.elements[set].is_empty())
            .collect();
        assert_eq!(empty, [] as [&Set; 0]);
        let verdicts: BTreeSet<String> = ruleset
            .elements
            .values()
            .flat_map(Elements::iter)
            .filter_map(|(_, value)| match value {
                Value::Verdict(verdict) => Some(verdict.to_string()),
                Value::Present | Value::Backend(_) => None,
            })
            .collect();
        assert!(
            verdicts.contains("drop") && verdicts.contains("goto reject-chain"),
            "{verdicts:?}"
        );
        assert_eq!(read_back(&whole(&ruleset), family), ruleset);
    }
}

fn a_name() -> impl Strategy<Value = Name> {
    select(vec![
        "pick-3",
        "service-default/web/tcp/http",
        "a",
        "no-endpoint-services",
    ])
    .prop_map(Name::from)
}

fn a_register() -> impl Strategy<Value = Register> {
    (0..16_u8).prop_map(Register)
}

fn a_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Return),
        Just(Verdict::Drop),
        a_name().prop_map(Verdict::Jump),
        a_name().prop_map(Verdict::Goto),
    ]
}

fn an_expression() -> impl Strategy<Value = Expression> {
    let register = a_register;
    let loads = prop_oneof![
        (
            select(vec![Base::Network, Base::Transport]),
            any::<u32>(),
            any::<u32>(),
            register()
        )
            .prop_map(|(base, offset, length, into)| Expression::Payload {
                base,
                offset,
                length,
                into
            }),
        (select(vec![Meta::Protocol, Meta::Mark]), register())
            .prop_map(|(key, into)| Expression::Meta { key, into }),
        register().prop_map(|from| Expression::SetMark { from }),
        (select(vec![Side::Source, Side::Destination]), register())
            .prop_map(|(side, into)| Expression::AddressType { side, into }),
        (
            select(vec![Comparison::Equal, Comparison::Unequal]),
            register(),
            vec(any::<u8>(), 1..17)
        )
            .prop_map(|(how, register, with)| Expression::Compare {
                how,
                register,
                with
            }),
        (register(), any::<u32>(), any::<u32>()).prop_map(|(register, mask, xor)| {
            Expression::Bitwise {
                register,
                mask,
                xor,
            }
        }),
    ];
    let sets = prop_oneof![
        (
            a_name(),
            register(),
            select(vec![Presence::Present, Presence::Absent])
        )
            .prop_map(|(set, key, presence)| Expression::Lookup { set, key, presence }),
        (a_name(), register(), register()).prop_map(|(map, key, into)| Expression::Load {
            map,
            key,
            into
        }),
        (a_name(), register()).prop_map(|(map, key)| Expression::Obey { map, key }),
        (a_name(), register(), any::<u32>()).prop_map(|(set, key, timeout_seconds)| {
            Expression::Update {
                set,
                key,
                timeout_seconds,
            }
        }),
    ];
    let acts = prop_oneof![
        (register(), vec(any::<u8>(), 1..17))
            .prop_map(|(into, bytes)| Expression::Immediate { into, bytes }),
        a_verdict().prop_map(Expression::Verdict),
        (any::<u32>(), register()).prop_map(|(below, into)| Expression::Random { below, into }),
        (register(), register()).prop_map(|(address, port)| Expression::Dnat { address, port }),
        Just(Expression::Masquerade),
        Just(Expression::Reject),
        Just(Expression::Reset),
    ];
    prop_oneof![loads, sets, acts]
}

fn a_family() -> impl Strategy<Value = Family> {
    select(Family::BOTH.to_vec())
}

/// One way to spoil bytes.
#[derive(Clone, Debug)]
enum Harm {
    Set(Index, u8),
    Cut(Index, usize),
    Insert(Index, Vec<u8>),
    /// A length that promises all there is.
    Promise(Index),
}

fn a_harm() -> impl Strategy<Value = Harm> {
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, byte)| Harm::Set(at, byte)),
        1 => (index(), 1..40_usize).prop_map(|(at, count)| Harm::Cut(at, count)),
        1 => (index(), vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        1 => index().prop_map(Harm::Promise),
    ]
}

fn harm(bytes: &mut Vec<u8>, harm: Harm) {
    if bytes.is_empty() {
        return;
    }
    match harm {
        Harm::Set(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        Harm::Cut(at, count) => {
            let start = at.index(bytes.len());
            let end = bytes.len().min(start + count);
            bytes.drain(start..end);
        }
        Harm::Insert(at, more) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, more);
        }
        Harm::Promise(at) => {
            let start = at.index(bytes.len()) / 4 * 4;
            bytes
                .iter_mut()
                .skip(start)
                .take(2)
                .for_each(|byte| *byte = u8::MAX);
        }
    }
}

/// Has every decoder read every message, and counts what they made of it.
fn decode_all(bytes: &[u8], family: Family) -> usize {
    let mut count = 0;
    for message in messages(bytes) {
        let attributes = message.attributes();
        count += attributes.count();
        count += rule_of(&message, family).map_or(0, |expressions| expressions.len());
        let _ = (
            decode::hook(attributes),
            decode::shape(attributes),
            error_of(&message),
        );
        count += decode::counts(attributes).count();
        for set in [
            Set::ServiceCidrs,
            Set::AllowedSources,
            Set::Backends,
            Set::Frontends,
        ] {
            let (mut starts, mut ends) = (Vec::new(), Vec::new());
            let mut elements = 0;
            for listed in decode::elements(set, attributes) {
                elements += 1;
                match listed {
                    Some(Listed::Start(key)) => starts.push(key),
                    Some(Listed::End(key)) => ends.push(key),
                    Some(Listed::Whole(..)) | None => {}
                }
            }
            count += elements.max(decode::ranges(starts, ends).len());
        }
    }
    count
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_whole_table_survives_the_wire(steps in steps(), family in a_family()) {
        let mut planner = planner();
        steps.into_iter().for_each(|step| take(&mut planner, step));
        let ruleset = Ruleset::of(planner.plan(), family);
        prop_assert_eq!(read_back(&whole(&ruleset), family), ruleset);
    }

    #[test]
    fn every_expression_survives_the_wire(
        expressions in vec(an_expression(), 0..12), family in a_family(),
    ) {
        let rule = Rule { statements: Vec::new(), expressions: expressions.clone() };
        let bytes = encode(&[Edit::AddRule("chain".into(), rule)], family, None).bytes;
        let read = messages(&bytes).find_map(|message| rule_of(&message, family));
        prop_assert_eq!(read, Some(expressions));
    }

    #[test]
    fn spoilt_messages_are_read_without_panic_and_make_no_more_than_they_hold(
        harms in vec(a_harm(), 1..40), family in a_family(),
    ) {
        let mut bytes = whole(&Ruleset::of(&everything(), family));
        harms.into_iter().for_each(|one| harm(&mut bytes, one));
        // An attribute takes four bytes at least, and is read once by each of these decoders.
        prop_assert!(decode_all(&bytes, family) <= bytes.len() * 6 / 4);
    }

    #[test]
    fn noise_is_read_without_panic(noise in vec(any::<u8>(), 0..600), family in a_family()) {
        let framed = [&(noise.len() as u32 + 16).to_ne_bytes()[..], &[0; 16], &noise].concat();
        prop_assert!(decode_all(&framed, family) <= framed.len() * 6 / 4);
    }
}
