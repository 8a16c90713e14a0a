//! Hostile input for everything that reads bytes of clients: targets, a mutator, and a bounded run of both.

mod mutate;
pub mod targets;

#[cfg(test)]
mod tests;

use std::{collections::HashSet, time::Duration};

use nix::time::{ClockId, clock_gettime};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// What one input may cost; this much is a bomb.
const COST_MAX: Duration = Duration::from_secs(3);
/// Longer inputs only make a run slow.
const INPUT_BYTES_MAX: usize = 16 << 10;
const KEPT_INPUTS_MAX: usize = 2000;

/// One thing that reads bytes of clients.
#[derive(Clone, Copy)]
pub struct Target {
    /// Names the folder of its corpus.
    pub name: &'static str,
    /// Says what became of the input. Panics when a promise is broken.
    pub run: fn(&[u8]) -> String,
}

/// An input on its way.
pub struct Case {
    pub number: u64,
    pub input: Vec<u8>,
}

/// Inputs that all follow from the seed and the corpus; those that behave like no other are bred from.
pub struct Breeder {
    random: StdRng,
    inputs: Vec<Vec<u8>>,
    outcomes: HashSet<String>,
    number: u64,
}

impl Breeder {
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        Breeder {
            random: StdRng::seed_from_u64(seed),
            inputs: corpus,
            outcomes: HashSet::new(),
            number: 0,
        }
    }

    /// The corpus as it is at first, then ever further from it.
    pub fn next_case(&mut self) -> Case {
        let number = self.number;
        self.number += 1;
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let input = match self.inputs.get(index) {
            Some(input) if self.outcomes.len() <= index => input.clone(),
            _ => self.bred(),
        };
        Case { number, input }
    }

    fn bred(&mut self) -> Vec<u8> {
        let pick = |random: &mut StdRng, inputs: &[Vec<u8>]| match inputs.len() {
            0 => Vec::new(),
            length => inputs[random.random_range(0..length)].clone(),
        };
        let mut input = pick(&mut self.random, &self.inputs);
        let other = pick(&mut self.random, &self.inputs);
        for _ in 0..self.random.random_range(1..=4) {
            mutate::once(&mut self.random, &mut input, &other);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    /// Learns what became of a case.
    pub fn note(&mut self, case: Case, outcome: &str) {
        let is_new = self.outcomes.insert(shape(outcome));
        if is_new && self.inputs.len() < KEPT_INPUTS_MAX {
            self.inputs.push(case.input);
        }
    }
}

/// An outcome without what stems from the input itself: numbers and quoted text.
fn shape(outcome: &str) -> String {
    const BYTES_MAX: usize = 300;
    let mut shape = String::new();
    let mut quote = None;
    for character in outcome.chars() {
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(character),
            (None, c) if c.is_alphabetic() || c == ' ' => shape.push(c),
            (None, _) => {}
        }
        if shape.len() > BYTES_MAX {
            break;
        }
    }
    shape
}

/// Processor time of this thread, which other work on the machine does not stretch.
fn cost_so_far() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Runs one input.
///
/// # Panics
/// When the target does, or when the input costs as much as a bomb.
pub fn run(target: Target, input: &[u8]) -> String {
    let before = cost_so_far();
    let outcome = (target.run)(input);
    let cost = cost_so_far().saturating_sub(before);
    assert!(cost < COST_MAX, "{} took {cost:?}", target.name);
    outcome
}
