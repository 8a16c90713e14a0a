//! The bounded run, and proof that it would find something.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::*;

const SEED_VARIABLE: &str = "KNARR_FUZZ_SEED";
const SECONDS_VARIABLE: &str = "KNARR_FUZZ_SECONDS";
const INPUT_VARIABLE: &str = "KNARR_FUZZ_INPUT";
const TARGET_VARIABLE: &str = "KNARR_FUZZ_TARGET";
const SECONDS_DEFAULT: u64 = 10;

fn number_from(variable: &str, default: impl FnOnce() -> u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or_else(default, |text| text.parse().expect("a number"))
}

fn corpus_of(target: Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("a readable file"))
        .collect()
}

/// Runs a target for a while and gives the first input that breaks it, with the number of those before it.
fn hunt(target: Target, corpus: Vec<Vec<u8>>, seed: u64, limit: Duration) -> Result<u64, Case> {
    let deadline = Instant::now() + limit;
    let corpus_len = corpus.len() as u64;
    let mut breeder = Breeder::new(seed, corpus);
    loop {
        let case = breeder.next_case();
        if case.number >= corpus_len && Instant::now() >= deadline {
            return Ok(case.number);
        }
        match catch_unwind(AssertUnwindSafe(|| run(target, &case.input))) {
            Ok(outcome) => breeder.note(case, &outcome),
            Err(_) => return Err(case),
        }
    }
}

#[test]
fn no_input_breaks_what_reads_it() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = number_from(SEED_VARIABLE, || clock().map_or(0, |t| t.as_secs()));
    println!("{SEED_VARIABLE}={seed}");
    if let (Ok(path), Ok(name)) = (
        std::env::var(INPUT_VARIABLE),
        std::env::var(TARGET_VARIABLE),
    ) {
        let target = targets::ALL.iter().find(|target| target.name == name);
        let input = std::fs::read(path).expect("a readable file");
        println!("{}", run(*target.expect("a target of that name"), &input));
        return;
    }
    let seconds = number_from(SECONDS_VARIABLE, || SECONDS_DEFAULT);
    let limit = Duration::from_secs(seconds) / u32::try_from(targets::ALL.len()).expect("few");
    let mut broken = Vec::new();
    for target in targets::ALL {
        print!("{}: ", target.name);
        match hunt(*target, corpus_of(*target), seed, limit) {
            Ok(count) => println!("{count} inputs"),
            Err(case) => {
                let path = std::env::temp_dir().join(format!("knarr-fuzz-{}", target.name));
                std::fs::write(&path, &case.input).expect("a writable file");
                broken.push(format!(
                    "{}: input {} in {}",
                    target.name,
                    case.number,
                    path.display()
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn a_broken_promise_is_found_and_found_again() {
    let target = Target {
        name: "brittle",
        run: |bytes| {
            let text = String::from_utf8_lossy(bytes);
            assert!(!(text.contains("$patch") && text.contains("null")));
            format!("{}", text.len() % 7)
        },
    };
    let found = || {
        let case = hunt(
            target,
            vec![b"{\"a\":1}".to_vec()],
            7,
            Duration::from_secs(60),
        );
        case.err().map(|case| (case.number, case.input))
    };
    let first = found();
    assert!(first.is_some());
    assert_eq!(first, found());
}

#[test]
fn outcomes_are_told_apart_by_their_words() {
    for (outcome, expected) in [
        (
            "unknown field \"spec.foo\", 3 times",
            "unknown field   times",
        ),
        ("ok", "ok"),
        ("42", ""),
    ] {
        assert_eq!(shape(outcome), expected);
    }
}
