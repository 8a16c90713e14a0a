//! What knarr promises in numbers, each beside a floor measured in the same run. Prints a Markdown table.
//!
//! `cargo bench --bench figures` runs all, `cargo bench --bench figures -- start pods` those that are named.

#[path = "../tests/lab/mod.rs"]
#[expect(dead_code, reason = "the lab is shared with the tests")]
mod lab;

#[path = "figures/api.rs"]
mod api;
#[path = "figures/crowd.rs"]
mod crowd;
#[path = "figures/dns.rs"]
mod dns;
#[path = "figures/fanout.rs"]
mod fanout;
#[path = "figures/follow.rs"]
mod follow;
#[path = "figures/front.rs"]
mod front;
#[path = "figures/idle.rs"]
mod idle;
#[path = "figures/load.rs"]
mod load;
#[path = "figures/path.rs"]
mod path;
#[path = "figures/peers.rs"]
mod peers;
#[path = "figures/pods.rs"]
mod pods;
#[path = "figures/programming.rs"]
mod programming;
#[path = "figures/scale.rs"]
mod scale;
#[path = "figures/shapes.rs"]
mod shapes;
#[path = "figures/sink.rs"]
mod sink;
#[path = "figures/size.rs"]
mod size;
#[path = "figures/start.rs"]
mod start;

use std::time::Duration;

/// One row of the table.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) figure: String,
    pub(crate) floor: String,
    pub(crate) floor_is: &'static str,
}

type Figure = (&'static str, fn() -> Vec<Row>);

const FIGURES: &[Figure] = &[
    ("size", size::measure),
    ("start", start::measure),
    ("idle", idle::measure),
    ("pods", pods::measure),
    ("path", path::measure),
    ("programming", programming::measure),
    ("follow", follow::measure),
    ("dns", dns::measure),
    ("front", front::measure),
    ("api", api::measure),
    ("fanout", fanout::measure),
    ("scale", scale::measure),
];

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    println!("| what | knarr | floor | the floor is |\n|---|---|---|---|");
    for (name, measure) in FIGURES {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            for Row {
                what,
                figure,
                floor,
                floor_is,
            } in measure()
            {
                println!("| {what} | {figure} | {floor} | {floor_is} |");
            }
        }
    }
}

/// Of figures that are no durations.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    assert!(!figures.is_empty(), "nothing was measured");
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Sorted samples.
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn new(mut samples: Vec<Duration>) -> Self {
        assert!(!samples.is_empty(), "nothing was measured");
        samples.sort();
        Samples(samples)
    }

    pub(crate) fn take(count: usize, mut measure: impl FnMut() -> Duration) -> Self {
        Samples::new((0..count).map(|_| measure()).collect())
    }

    pub(crate) fn quantile(&self, fraction: f64) -> Duration {
        let last = self.0.len() - 1;
        self.0[((last as f64) * fraction).round() as usize]
    }

    pub(crate) fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    /// `p50 / p99`.
    pub(crate) fn show(&self) -> String {
        format!("{} / {}", show(self.median()), show(self.quantile(0.99)))
    }

    /// `p50 / p99 / max`.
    pub(crate) fn show_max(&self) -> String {
        format!("{} / {}", self.show(), show(self.quantile(1.0)))
    }
}

pub(crate) fn show(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        m if m < 1_000.0 => format!("{m:.1} µs"),
        m if m < 1_000_000.0 => format!("{:.1} ms", m / 1e3),
        m => format!("{:.2} s", m / 1e6),
    }
}
