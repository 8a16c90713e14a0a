//! Numbers of the kernel's nf_tables interface, grouped as `linux/netfilter/nf_tables.h` does.

pub(super) const SUBSYSTEM: u16 = 10;
pub(super) const BATCH_BEGIN: u16 = 16;
pub(super) const BATCH_END: u16 = 17;
pub(super) const BATCH_GENERATION: u16 = 1;

pub(super) mod message {
    pub(crate) const NEWTABLE: u16 = 0;
    pub(crate) const GETTABLE: u16 = 1;
    pub(crate) const DELTABLE: u16 = 2;
    pub(crate) const NEWCHAIN: u16 = 3;
    pub(crate) const GETCHAIN: u16 = 4;
    pub(crate) const DELCHAIN: u16 = 5;
    pub(crate) const NEWRULE: u16 = 6;
    pub(crate) const GETRULE: u16 = 7;
    pub(crate) const DELRULE: u16 = 8;
    pub(crate) const NEWSET: u16 = 9;
    pub(crate) const GETSET: u16 = 10;
    pub(crate) const DELSET: u16 = 11;
    pub(crate) const NEWELEMENT: u16 = 12;
    pub(crate) const GETELEMENT: u16 = 13;
    pub(crate) const DELELEMENT: u16 = 14;
    pub(crate) const GETGENERATION: u16 = 16;
}

pub(super) mod table {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const FLAGS: u16 = 2;
}

pub(super) mod chain {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 3;
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const TYPE: u16 = 7;
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
}

pub(super) mod rule {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const EXPRESSIONS: u16 = 4;
}

pub(super) const LIST_ITEM: u16 = 1;
pub(super) const EXPRESSION_NAME: u16 = 1;
pub(super) const EXPRESSION_DATA: u16 = 2;

pub(super) mod set {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_TYPE: u16 = 4;
    pub(crate) const KEY_LENGTH: u16 = 5;
    pub(crate) const DATA_TYPE: u16 = 6;
    pub(crate) const DATA_LENGTH: u16 = 7;
    pub(crate) const DESCRIPTION: u16 = 9;
    pub(crate) const ID: u16 = 10;
    pub(crate) const USERDATA: u16 = 13;
    pub(crate) const EXPRESSION: u16 = 17;
    pub(crate) const DESCRIPTION_SIZE: u16 = 1;
    pub(crate) const DESCRIPTION_CONCAT: u16 = 2;
    pub(crate) const FIELD_LENGTH: u16 = 1;

    pub(crate) const INTERVAL: u32 = 0x04;
    pub(crate) const MAP: u32 = 0x08;
    pub(crate) const TIMEOUT: u32 = 0x10;
    pub(crate) const DYNAMIC: u32 = 0x20;
    pub(crate) const CONCAT: u32 = 0x80;

    pub(crate) const VERDICT_TYPE: u32 = 0xffff_ff00;
}

pub(super) mod element {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const SET: u16 = 2;
    pub(crate) const LIST: u16 = 3;
    pub(crate) const KEY: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const EXPIRATION: u16 = 5;
    pub(crate) const EXPRESSION: u16 = 7;
    pub(crate) const KEY_END: u16 = 10;
    pub(crate) const INTERVAL_END: u32 = 1;
}

pub(super) mod data {
    pub(crate) const VALUE: u16 = 1;
    pub(crate) const VERDICT: u16 = 2;
    pub(crate) const VERDICT_CODE: u16 = 1;
    pub(crate) const VERDICT_CHAIN: u16 = 2;
    pub(crate) const DROP: i32 = 0;
    pub(crate) const JUMP: i32 = -3;
    pub(crate) const GOTO: i32 = -4;
    pub(crate) const RETURN: i32 = -5;
}

pub(super) mod payload {
    pub(crate) const INTO: u16 = 1;
    pub(crate) const BASE: u16 = 2;
    pub(crate) const OFFSET: u16 = 3;
    pub(crate) const LENGTH: u16 = 4;
    pub(crate) const NETWORK: u32 = 1;
    pub(crate) const TRANSPORT: u32 = 2;
}

pub(super) mod meta {
    pub(crate) const INTO: u16 = 1;
    pub(crate) const KEY: u16 = 2;
    pub(crate) const FROM: u16 = 3;
    pub(crate) const MARK: u32 = 3;
    pub(crate) const PROTOCOL: u32 = 16;
}

pub(super) mod fib {
    pub(crate) const INTO: u16 = 1;
    pub(crate) const RESULT: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const ADDRESS_TYPE: u32 = 3;
    pub(crate) const SOURCE: u32 = 1;
    pub(crate) const DESTINATION: u32 = 2;
}

pub(super) mod compare {
    pub(crate) const FROM: u16 = 1;
    pub(crate) const HOW: u16 = 2;
    pub(crate) const DATA: u16 = 3;
    pub(crate) const EQUAL: u32 = 0;
    pub(crate) const UNEQUAL: u32 = 1;
}

pub(super) mod bitwise {
    pub(crate) const FROM: u16 = 1;
    pub(crate) const INTO: u16 = 2;
    pub(crate) const LENGTH: u16 = 3;
    pub(crate) const MASK: u16 = 4;
    pub(crate) const XOR: u16 = 5;
}

pub(super) mod lookup {
    pub(crate) const SET: u16 = 1;
    pub(crate) const FROM: u16 = 2;
    pub(crate) const INTO: u16 = 3;
    pub(crate) const FLAGS: u16 = 5;
    pub(crate) const INVERTED: u32 = 1;
}

pub(super) mod dynset {
    pub(crate) const SET: u16 = 1;
    pub(crate) const OPERATION: u16 = 3;
    pub(crate) const KEY: u16 = 4;
    pub(crate) const TIMEOUT: u16 = 6;
    pub(crate) const UPDATE: u32 = 1;
}

pub(super) mod immediate {
    pub(crate) const INTO: u16 = 1;
    pub(crate) const DATA: u16 = 2;
}

pub(super) mod numgen {
    pub(crate) const INTO: u16 = 1;
    pub(crate) const MODULUS: u16 = 2;
    pub(crate) const TYPE: u16 = 3;
    pub(crate) const RANDOM: u32 = 1;
}

pub(super) mod nat {
    pub(crate) const TYPE: u16 = 1;
    pub(crate) const FAMILY: u16 = 2;
    pub(crate) const ADDRESS: u16 = 3;
    pub(crate) const PORT: u16 = 5;
    pub(crate) const DNAT: u32 = 1;
}

pub(super) mod masquerade {
    pub(crate) const FLAGS: u16 = 1;
    pub(crate) const FULLY_RANDOM: u32 = 0x10;
}

pub(super) mod reject {
    use knarr_netproxy_plan::Family;

    pub(crate) const TYPE: u16 = 1;
    pub(crate) const CODE: u16 = 2;
    pub(crate) const ICMP: u32 = 0;
    pub(crate) const TCP_RESET: u32 = 1;

    pub(crate) fn port_unreachable(family: Family) -> u8 {
        match family {
            Family::V4 => 3,
            Family::V6 => 4,
        }
    }
}

pub(super) mod counter {
    pub(crate) const NAME: &str = "counter";
    pub(crate) const PACKETS: u16 = 2;
}

pub(super) mod generation {
    pub(crate) const ID: u16 = 1;
}
