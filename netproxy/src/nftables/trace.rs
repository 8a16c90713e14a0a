//! Walks a packet through the rules that the kernel runs, and says where it ends. Touches nothing.
//!
//! It executes compiled expressions, so what it says holds for tables read back from the kernel too.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use knarr_netproxy_plan::{Family, FrontendKey};

use super::{
    Name, Ruleset, Verdict,
    chain::{Chain, HookPoint},
    element::frontend_of,
    expression::{Base, Comparison, Expression, Meta, Presence, Register, Side},
    octets::address,
    set::{Counting, Key, Matching, Set, Value},
    statement::Field,
};

/// Jumps beyond this depth are refused by the kernel too.
const DEPTH_MAX: usize = 16;
const RTN_UNICAST: u32 = 1;
const RTN_LOCAL: u32 = 2;

/// The first packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sends it.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// The transport protocol's number.
    pub protocol: u8,
    /// How it comes to this machine.
    pub origin: Origin,
}

/// How a packet comes to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a pod or another machine.
    Arrives,
    /// From a process of the machine's own.
    Own,
}

/// What the rules ask of the machine they run on.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The machine's own addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The address that masquerade gives.
    pub outgoing: Option<IpAddr>,
    /// Clients that dynamic sets remember.
    pub remembered: BTreeSet<(Name, Vec<u8>)>,
}

/// Where a packet ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It goes on, to here and bearing this source.
    Passed {
        /// Where it goes.
        to: SocketAddr,
        /// Which source it bears.
        source: IpAddr,
    },
    /// It is refused.
    Rejected,
    /// It vanishes.
    Dropped,
}

/// One way through the rules, with what it leaves remembered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// Where it ends.
    pub end: End,
    /// Chains it went through, in order.
    pub chains: Vec<Name>,
    /// The dynamic set that remembers the client, if one does.
    pub remembers: Option<(Name, Vec<u8>)>,
    /// Frontends that count it as a connection.
    pub counted_by: Vec<FrontendKey>,
}

/// Every way through the rules, one for each outcome of their random choices.
#[must_use]
pub fn trace(ruleset: &Ruleset, machine: &Machine, packet: Packet) -> Vec<Way> {
    let mut ways = Vec::new();
    let mut script: Vec<Choice> = Vec::new();
    loop {
        let mut walk = Walk::new(ruleset, machine, packet, script);
        let end = walk.run();
        ways.push(Way {
            end,
            chains: walk.chains,
            remembers: walk.remembers,
            counted_by: walk.counted_by,
        });
        script = walk.script;
        while script
            .last()
            .is_some_and(|choice| choice.taken + 1 >= choice.below)
        {
            script.pop();
        }
        match script.last_mut() {
            Some(choice) => choice.taken += 1,
            None => break,
        }
    }
    ways.sort();
    ways.dedup();
    ways
}

/// One random choice, made in turn each way.
#[derive(Clone, Copy)]
struct Choice {
    taken: u32,
    below: u32,
}

/// What a chain or rule comes to.
enum Flow {
    /// The next rule.
    Next,
    /// Back to the caller.
    Return,
    /// The hook is over, and the packet goes on.
    Accept,
    Drop,
    Reject,
}

struct Walk<'a> {
    ruleset: &'a Ruleset,
    machine: &'a Machine,
    packet: Packet,
    mark: u32,
    registers: [u8; 64],
    script: Vec<Choice>,
    chosen: usize,
    chains: Vec<Name>,
    remembers: Option<(Name, Vec<u8>)>,
    counted_by: Vec<FrontendKey>,
}

impl<'a> Walk<'a> {
    fn new(
        ruleset: &'a Ruleset,
        machine: &'a Machine,
        packet: Packet,
        script: Vec<Choice>,
    ) -> Self {
        Self {
            ruleset,
            machine,
            packet,
            mark: 0,
            registers: [0; 64],
            script,
            chosen: 0,
            chains: Vec::new(),
            remembers: None,
            counted_by: Vec::new(),
        }
    }

    fn run(&mut self) -> End {
        let entry = match self.packet.origin {
            Origin::Arrives => HookPoint::Prerouting,
            Origin::Own => HookPoint::Output,
        };
        let mut points = vec![entry];
        points.push(HookPoint::Postrouting);
        for point in points {
            let delivered = self
                .machine
                .addresses
                .contains(&self.packet.destination.ip());
            let arrives = self.packet.origin == Origin::Arrives;
            if point == HookPoint::Postrouting && delivered && arrives {
                break;
            }
            match self.hook(point) {
                Flow::Drop => return End::Dropped,
                Flow::Reject => return End::Rejected,
                Flow::Next | Flow::Return | Flow::Accept => {}
            }
        }
        End::Passed {
            to: self.packet.destination,
            source: self.packet.source.ip(),
        }
    }

    fn hook(&mut self, point: HookPoint) -> Flow {
        let ruleset = self.ruleset;
        let mut base: Vec<(i32, &Name, &Chain)> = ruleset
            .chains
            .iter()
            .filter_map(|(name, chain)| {
                let hook = chain.hook.filter(|hook| hook.point == point)?;
                Some((hook.priority, name, chain))
            })
            .collect();
        base.sort_by_key(|(priority, name, _)| (*priority, *name));
        for (_, name, chain) in base {
            match self.chain(name, chain, 0) {
                Flow::Next | Flow::Return | Flow::Accept => {}
                end @ (Flow::Drop | Flow::Reject) => return end,
            }
        }
        Flow::Accept
    }

    fn chain(&mut self, name: &Name, chain: &'a Chain, depth: usize) -> Flow {
        self.chains.push(name.clone());
        for rule in &chain.rules {
            match self.rule(&rule.expressions, depth) {
                Flow::Next => {}
                end => return end,
            }
        }
        Flow::Return
    }

    /// Falls through to the next rule as soon as an expression does not hold.
    fn rule(&mut self, expressions: &'a [Expression], depth: usize) -> Flow {
        for expression in expressions {
            let verdict = match self.step(expression) {
                Step::Holds => continue,
                Step::Fails => return Flow::Next,
                Step::Ends(flow) => return flow,
                Step::Obeys(verdict) => verdict,
            };
            return match verdict {
                Verdict::Return => Flow::Return,
                Verdict::Drop => Flow::Drop,
                Verdict::Jump(name) => match self.enter(&name, depth) {
                    Flow::Return => Flow::Next,
                    end => end,
                },
                Verdict::Goto(name) => self.enter(&name, depth),
            };
        }
        Flow::Next
    }

    fn enter(&mut self, name: &Name, depth: usize) -> Flow {
        match self.ruleset.chains.get(name) {
            Some(chain) if depth < DEPTH_MAX => self.chain(name, chain, depth + 1),
            Some(_) | None => Flow::Drop,
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm an expression")]
    fn step(&mut self, expression: &Expression) -> Step {
        match expression {
            Expression::Payload {
                base,
                offset,
                length,
                into,
            } => match self.header(*base, *offset, *length) {
                Some(bytes) => self.load(*into, &bytes),
                None => Step::Fails,
            },
            Expression::Meta {
                key: Meta::Protocol,
                into,
            } => self.load(*into, &[self.packet.protocol]),
            Expression::Meta {
                key: Meta::Mark,
                into,
            } => self.load(*into, &self.mark.to_ne_bytes()),
            Expression::SetMark { from } => {
                self.mark = self.word(*from);
                Step::Holds
            }
            Expression::AddressType { side, into } => {
                let end = match side {
                    Side::Source => self.packet.source,
                    Side::Destination => self.packet.destination,
                };
                let local = self.machine.addresses.contains(&end.ip());
                let kind = if local { RTN_LOCAL } else { RTN_UNICAST };
                self.load(*into, &kind.to_ne_bytes())
            }
            Expression::Compare {
                how,
                register,
                with,
            } => {
                let equal = self.bytes(*register, with.len()) == with.as_slice();
                when(equal == (*how == Comparison::Equal))
            }
            Expression::Bitwise {
                register,
                mask,
                xor,
            } => {
                let word = (self.word(*register) & mask) ^ xor;
                self.load(*register, &word.to_ne_bytes())
            }
            Expression::Lookup { set, key, presence } => {
                let present = self.has(set, *key);
                if present && *presence == Presence::Present {
                    self.count(set, *key);
                }
                when(present == (*presence == Presence::Present))
            }
            Expression::Load { map, key, into } => match self.find(map, *key) {
                Some(Value::Backend(bytes)) => self.load(*into, &bytes),
                _ => Step::Fails,
            },
            Expression::Obey { map, key } => match self.find(map, *key) {
                Some(Value::Verdict(verdict)) => Step::Obeys(verdict),
                _ => Step::Fails,
            },
            Expression::Update {
                set,
                key,
                timeout_seconds: _,
            } => {
                let length = self.address_length();
                self.remembers = Some((set.clone(), self.bytes(*key, length).to_vec()));
                Step::Holds
            }
            Expression::Immediate { into, bytes } => self.load(*into, bytes),
            Expression::Verdict(verdict) => Step::Obeys(verdict.clone()),
            Expression::Random { below, into } => {
                let number = self.choose(*below);
                self.load(*into, &number.to_ne_bytes())
            }
            Expression::Dnat { address, port } => self.dnat(*address, *port),
            Expression::Masquerade => {
                if let Some(outgoing) = self.machine.outgoing {
                    self.packet.source.set_ip(outgoing);
                }
                Step::Ends(Flow::Accept)
            }
            Expression::Reject | Expression::Reset => Step::Ends(Flow::Reject),
        }
    }

    fn dnat(&mut self, to: Register, port: Register) -> Step {
        let ip = address(self.bytes(to, self.address_length()));
        let port = self.bytes(port, 2).try_into().ok().map(u16::from_be_bytes);
        if let (Some(ip), Some(port)) = (ip, port) {
            self.packet.destination = SocketAddr::new(ip, port);
        }
        Step::Ends(Flow::Accept)
    }

    fn choose(&mut self, below: u32) -> u32 {
        if self.chosen == self.script.len() {
            self.script.push(Choice { taken: 0, below });
        }
        let taken = self
            .script
            .get(self.chosen)
            .map_or(0, |choice| choice.taken);
        self.chosen += 1;
        taken
    }

    fn address_length(&self) -> usize {
        match self.ruleset.family {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }

    fn header(&self, base: Base, offset: u32, length: u32) -> Option<Vec<u8>> {
        let header = match base {
            Base::Transport => {
                let ports = [self.packet.source.port(), self.packet.destination.port()];
                ports.map(u16::to_be_bytes).concat()
            }
            Base::Network => {
                let ends = [self.packet.source.ip(), self.packet.destination.ip()];
                let before = match self.ruleset.family {
                    Family::V4 => 12,
                    Family::V6 => 8,
                };
                let octets = ends.map(|ip| match ip {
                    IpAddr::V4(ip) => ip.octets().to_vec(),
                    IpAddr::V6(ip) => ip.octets().to_vec(),
                });
                [vec![0; before], octets.concat()].concat()
            }
        };
        let offset = usize::try_from(offset).ok()?;
        let length = usize::try_from(length).ok()?;
        header.get(offset..offset + length).map(<[u8]>::to_vec)
    }

    /// Fills whole registers, as the kernel does.
    fn load(&mut self, Register(index): Register, bytes: &[u8]) -> Step {
        let start = usize::from(index) * 4;
        let end = start + bytes.len().next_multiple_of(4);
        let Some(target) = self.registers.get_mut(start..end) else {
            return Step::Fails;
        };
        target.fill(0);
        target[..bytes.len()].copy_from_slice(bytes);
        Step::Holds
    }

    fn bytes(&self, Register(index): Register, length: usize) -> &[u8] {
        let start = usize::from(index) * 4;
        self.registers
            .get(start..start + length)
            .unwrap_or_default()
    }

    fn word(&self, register: Register) -> u32 {
        self.bytes(register, 4)
            .try_into()
            .map_or(0, u32::from_ne_bytes)
    }

    fn has(&self, name: &Name, key: Register) -> bool {
        match Set::named(name) {
            Some(_) => self.find(name, key).is_some(),
            None => {
                let key = self.bytes(key, self.address_length()).to_vec();
                self.machine.remembered.contains(&(name.clone(), key))
            }
        }
    }

    fn count(&mut self, name: &str, key: Register) {
        let counts = |set: &Set| set.counting() == Counting::Lookups;
        let counted_by = Set::named(name).filter(counts).and_then(|set| {
            let length = self.key_lengths(set).iter().sum();
            let key = Key::exactly(self.bytes(key, length)).ok()?;
            frontend_of(set, &key, self.ruleset.family)
        });
        self.counted_by.extend(counted_by);
    }

    fn key_lengths(&self, set: Set) -> Vec<usize> {
        let fields = set.key().into_iter();
        let lengths = fields.map(|field| match field {
            Field::Source | Field::Destination => self.address_length(),
            Field::Protocol | Field::Port | Field::Slot { .. } => 4,
        });
        lengths.collect()
    }

    fn find(&self, name: &str, key: Register) -> Option<Value> {
        let set = Set::named(name)?;
        let elements = self.ruleset.elements.get(&set)?;
        let lengths = self.key_lengths(set);
        let key = self.bytes(key, lengths.iter().sum());
        match set.matching() {
            Matching::Exact => elements.get(&Key::exactly(key).ok()?).cloned(),
            Matching::Ranges => {
                let mut within = elements
                    .iter()
                    .filter(|(range, _)| covers(range, key, &lengths));
                within.next().map(|(_, value)| value.clone())
            }
        }
    }
}

/// Whether each part of a key is within the range's own part.
fn covers(range: &Key, key: &[u8], lengths: &[usize]) -> bool {
    let last = range.last.as_deref().unwrap_or(&range.first);
    let mut at = 0;
    lengths.iter().all(|length| {
        let part = at..at + length;
        at += length;
        let of = |bytes: &[u8]| bytes.get(part.clone()).map(<[u8]>::to_vec);
        of(&range.first) <= of(key) && of(key) <= of(last)
    })
}

/// What one expression comes to.
enum Step {
    Holds,
    Fails,
    Obeys(Verdict),
    Ends(Flow),
}

fn when(holds: bool) -> Step {
    if holds { Step::Holds } else { Step::Fails }
}
