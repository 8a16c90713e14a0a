//! Classic BPF programs that let only our own questions through, so that a busy link wakes nobody. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use libc::sock_filter;

const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const ACCEPT_BYTES: u32 = 128;
/// The kernel takes programs of up to 4096 instructions (`BPF_MAXINSNS`).
const ADDRESS_COUNT_MAX: usize = 2000;

/// ARP requests (operation at byte 20) for these addresses (at byte 38), and replies that claim one (at byte 28).
pub(super) fn arp(addresses: &[Ipv4Addr]) -> Vec<sock_filter> {
    let mut program = vec![
        statement(LOAD_HALF, 20),
        jump_if_equal(1, 4),
        jump_if_equal(2, 1),
        statement(RETURN, 0),
        statement(LOAD_WORD, 28),
        statement(JUMP, 1),
        statement(LOAD_WORD, 38),
    ];
    program.extend(any_of(addresses.iter().map(|ip| u32::from(*ip))));
    program
}

/// Neighbour solicitations and advertisements (ICMPv6 type at byte 54) of addresses that end like these (bytes 74 to 77).
pub(super) fn ndp(addresses: &[Ipv6Addr]) -> Vec<sock_filter> {
    let mut program = must_equal(LOAD_BYTE, 20, 58);
    program.extend([
        statement(LOAD_BYTE, 54),
        jump_if_equal(135, 2),
        jump_if_equal(136, 1),
        statement(RETURN, 0),
        statement(LOAD_WORD, 74),
    ]);
    program.extend(any_of(addresses.iter().map(|ip| u128::from(*ip) as u32)));
    program
}

fn must_equal(load: u16, at: u32, value: u32) -> Vec<sock_filter> {
    vec![
        statement(load, at),
        jump_if_equal(value, 1),
        statement(RETURN, 0),
    ]
}

/// Passes what was loaded if it is one of these; beyond what a program can hold, all passes and the reader sorts.
fn any_of(values: impl ExactSizeIterator<Item = u32>) -> Vec<sock_filter> {
    if values.len() > ADDRESS_COUNT_MAX {
        return vec![statement(RETURN, ACCEPT_BYTES)];
    }
    let mut program = Vec::with_capacity(2 * values.len() + 1);
    for value in values {
        program.push(sock_filter {
            code: JUMP_EQUAL,
            jt: 0,
            jf: 1,
            k: value,
        });
        program.push(statement(RETURN, ACCEPT_BYTES));
    }
    program.push(statement(RETURN, 0));
    program
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

fn jump_if_equal(value: u32, over: u8) -> sock_filter {
    sock_filter {
        code: JUMP_EQUAL,
        jt: over,
        jf: 0,
        k: value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a frame: how many bytes pass.
    fn run(program: &[sock_filter], frame: &[u8]) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            let bytes = |count: usize| {
                frame[k as usize..][..count]
                    .iter()
                    .fold(0, |sum, b| sum << 8 | u32::from(*b))
            };
            at += 1;
            match code {
                LOAD_BYTE => accumulator = bytes(1),
                LOAD_HALF => accumulator = bytes(2),
                LOAD_WORD => accumulator = bytes(4),
                JUMP => at += k as usize,
                JUMP_EQUAL => at += usize::from(if accumulator == k { jt } else { jf }),
                RETURN => return k,
                other => panic!("unknown instruction {other}"),
            }
        }
    }

    #[test]
    fn only_requests_for_our_addresses_and_claims_of_them_pass() {
        let ours = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        let other = Ipv4Addr::new(192, 0, 2, 3);
        let check = |operation: u8, [sender, target]: [Ipv4Addr; 2], passes: bool| {
            let mut frame = vec![0; 42];
            frame[21] = operation;
            frame[28..32].copy_from_slice(&sender.octets());
            frame[38..].copy_from_slice(&target.octets());
            let what = format!("{operation} from {sender} to {target}");
            assert_eq!(run(&arp(&ours), &frame) > 0, passes, "{what}");
        };
        check(1, [other, ours[0]], true);
        check(1, [other, ours[1]], true);
        check(1, [ours[0], ours[0]], true);
        check(1, [ours[0], other], false);
        check(2, [ours[0], other], true);
        check(2, [ours[1], ours[1]], true);
        check(2, [other, ours[0]], false);
        check(3, [ours[0], ours[0]], false);
    }

    #[test]
    fn only_solicitations_and_advertisements_of_our_addresses_pass() {
        let ours: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        let check = |next_header: u8, kind: u8, last: u8, passes: bool| {
            let mut frame = vec![0; 86];
            (frame[20], frame[54], frame[77]) = (next_header, kind, last);
            assert_eq!(
                run(&ndp(&[ours]), &frame) > 0,
                passes,
                "{next_header} {kind} {last}"
            );
        };
        check(58, 135, 7, true);
        check(58, 136, 7, true);
        check(58, 134, 7, false);
        check(58, 136, 8, false);
        check(17, 135, 7, false);
        check(58, 135, 8, false);
    }

    #[test]
    fn a_program_is_never_longer_than_the_kernel_takes() {
        let many: Vec<Ipv4Addr> = (0..5000).map(Ipv4Addr::from).collect();
        assert!(arp(&many).len() < 4096 && arp(&many[..2000]).len() <= 4096);
        let many: Vec<Ipv6Addr> = (0..2000).map(Ipv6Addr::from).collect();
        assert!(ndp(&many).len() <= 4096);
    }
}
