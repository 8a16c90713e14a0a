//! One small change of an input. Knows the words that the readers of clients' bytes know.

use rand::{Rng, rngs::StdRng};

/// What readers take apart text by, and what has tripped readers before.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "null",
    "true",
    "-1",
    "0",
    "1e400",
    "9223372036854775808",
    "18446744073709551616",
    "-0",
    "0x10",
    "0o17",
    "1_000",
    ".5",
    "5.",
    "1e-9",
    "\\ud800",
    "\\u0000",
    "\u{feff}",
    "\r\n",
    "\n---\n",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "!!int ",
    "? ",
    "- ",
    "|\n ",
    ">-\n ",
    "$patch",
    "delete",
    "replace",
    "merge",
    "$retainKeys",
    "$setElementOrder/ports",
    "$deleteFromPrimitiveList/finalizers",
    "\"op\":\"test\"",
    "\"op\":\"move\"",
    "/-",
    "~0",
    "~1",
    "/spec/ports/0",
    "metadata",
    "managedFields",
    "fieldsV1",
    "f:metadata",
    "k:{\"port\":80}",
    "v:1",
    "i:0",
    "name",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "generateName",
    "resourceVersion",
    "spec",
    "status",
    "ports",
    "port",
    "protocol",
    "TCP",
    "targetPort",
    "containers",
    "env",
    "valueFrom",
    "volumes",
    "image",
    "selector",
    "matchLabels",
    "matchExpressions",
    " in (",
    ")",
    " notin ",
    "!",
    "==",
    "!=",
    "=",
    "\\,",
    "\\=",
    "Ki",
    "Ei",
    "E",
    "e3",
    "m",
    "n",
    "u",
    "+",
    "-",
    "@every ",
    "@daily",
    "*/",
    "L",
    "#",
    "?",
    "JAN",
    "SUN",
    "60",
    "TZ=UTC ",
    "k8s\0",
    "\u{7f}",
    "é",
    "\u{202e}",
    "\u{1f600}",
];

/// Bytes that are special in binary frames.
const BYTES: &[u8] = &[
    0, 1, 2, 3, 4, 7, 8, 9, 0x0a, 0x12, 0x1a, 0x7f, 0x80, 0x82, 0xff,
];

/// Deep enough to find a reader that recurses without a limit.
const DEPTH: usize = 3000;

/// Changes `input` in one place; `other` is material.
pub(crate) fn once(random: &mut StdRng, input: &mut Vec<u8>, other: &[u8]) {
    let at = place(random, input.len());
    match random.random_range(0..12) {
        0 => flip(random, input, at),
        1 => insert(input, at, &[BYTES[random.random_range(0..BYTES.len())]]),
        2..=5 => insert(
            input,
            at,
            WORDS[random.random_range(0..WORDS.len())].as_bytes(),
        ),
        6 => {
            let end = place(random, input.len());
            input.drain(at.min(end)..at.max(end).min(at.min(end) + 40));
        }
        7 => {
            let end = place(random, input.len())
                .clamp(at, at + 200)
                .min(input.len());
            let piece = input[at..end].to_vec();
            insert(input, at, &piece);
        }
        8 => {
            let (start, end) = (place(random, other.len()), place(random, other.len()));
            insert(input, at, &other[start.min(end)..start.max(end)]);
        }
        9 => replace_number(random, input),
        10 => input.truncate(at),
        _ if random.random_range(0..20) == 0 => nest(random, input, at),
        _ => swap_halves(input, at),
    }
}

fn place(random: &mut StdRng, length: usize) -> usize {
    random.random_range(0..=length)
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

fn flip(random: &mut StdRng, input: &mut [u8], at: usize) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << random.random_range(0..8);
    }
}

/// Puts another number in place of one.
fn replace_number(random: &mut StdRng, input: &mut Vec<u8>) {
    const NUMBERS: &[&str] = &[
        "-1",
        "0",
        "1",
        "65536",
        "2147483648",
        "9223372036854775807",
        "1e9",
        "1.5",
    ];
    let starts: Vec<usize> = (0..input.len())
        .filter(|&i| input[i].is_ascii_digit() && (i == 0 || !input[i - 1].is_ascii_digit()))
        .collect();
    if starts.is_empty() {
        return;
    }
    let start = starts[random.random_range(0..starts.len())];
    let length = input[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let number = NUMBERS[random.random_range(0..NUMBERS.len())];
    input.splice(start..start + length, number.bytes());
}

fn nest(random: &mut StdRng, input: &mut Vec<u8>, at: usize) {
    const PAIRS: &[(&str, &str)] = &[("[", "]"), ("{\"a\":", "}"), ("(", ")"), ("- ", "")];
    let (open, close) = PAIRS[random.random_range(0..PAIRS.len())];
    insert(input, at, close.repeat(DEPTH).as_bytes());
    insert(input, at, open.repeat(DEPTH).as_bytes());
}

fn swap_halves(input: &mut [u8], at: usize) {
    input.rotate_left(at);
}
