//! What a node costs when nothing happens.

use std::{fs, time::Duration};

use crate::{Row, lab::world::World};

const MINUTE: Duration = Duration::from_secs(60);
/// Long enough for start-up work, the first leases and a checkpoint to be over.
const SETTLE: Duration = Duration::from_secs(10);

pub(crate) fn measure() -> Vec<Row> {
    let world = World::running(1);
    world.kubectl(&[
        "apply",
        "-f",
        concat!(env!("CARGO_MANIFEST_DIR"), "/examples/kubia.yaml"),
    ]);
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod",
        "-l",
        "app=kubia",
        "--timeout=30s",
    ]);
    let knarr = world.nodes[0].pid();
    let parents = children(knarr);
    std::thread::sleep(SETTLE);
    let before = Use::of(knarr);
    std::thread::sleep(MINUTE);
    let after = Use::of(knarr);
    let cpu_percent = 100.0 * (after.cpu_seconds - before.cpu_seconds) / MINUTE.as_secs_f64();
    let mebibytes = |kibibytes: u64| format!("{:.1} MiB", kibibytes as f64 / 1024.0);
    let pod_inits: u64 = parents.iter().map(|pid| pss_kib(*pid)).sum();
    let row = |what: &str, figure: String, floor: &str, floor_is| Row {
        what: what.into(),
        figure,
        floor: floor.into(),
        floor_is,
    };
    vec![
        row(
            "`knarr up` idle with 3 pods, PSS",
            mebibytes(pss_kib(knarr)),
            "0",
            "nothing running",
        ),
        row(
            "the 3 pods' parents, PSS together",
            mebibytes(pod_inits),
            "0",
            "nothing running",
        ),
        row(
            "CPU of an idle minute, of one core",
            format!("{cpu_percent:.2} %"),
            "0",
            "nothing running",
        ),
        row(
            "written to disk in an idle minute",
            format!("{} B", after.written - before.written),
            "0",
            "nothing running",
        ),
        row(
            "wakeups in an idle minute",
            format!("{}", after.switches - before.switches),
            "0",
            "nothing running",
        ),
    ]
}

struct Use {
    cpu_seconds: f64,
    written: u64,
    switches: u64,
}

impl Use {
    fn of(pid: u32) -> Self {
        let stat = read(pid, "stat");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("a stat line")
            .split_whitespace()
            .collect();
        let ticks: f64 =
            fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime");
        let switches = fs::read_dir(format!("/proc/{pid}/task"))
            .expect("threads")
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
            .map(|status| number(&status, "voluntary_ctxt_switches:"))
            .sum();
        // USER_HZ is 100 on every Linux this runs on.
        Use {
            cpu_seconds: ticks / 100.0,
            written: number(&read(pid, "io"), "write_bytes:"),
            switches,
        }
    }
}

pub(crate) fn pss_mib(pid: u32) -> f64 {
    pss_kib(pid) as f64 / 1024.0
}

fn pss_kib(pid: u32) -> u64 {
    number(&read(pid, "smaps_rollup"), "Pss:")
}

/// What this process holds in memory at this moment.
pub(crate) fn resident_kib() -> u64 {
    number(&read(std::process::id(), "status"), "VmRSS:")
}

/// The most it has held since the peak was last forgotten.
pub(crate) fn peak_kib() -> u64 {
    number(&read(std::process::id(), "status"), "VmHWM:")
}

pub(crate) fn forget_peak() {
    const PEAK: &str = "5";
    fs::write("/proc/self/clear_refs", PEAK).expect("a process may forget its own peak");
}

fn children(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes
        .filter(|child: &u32| *child != pid)
        .filter(|child| {
            let same_program = fs::read_link(format!("/proc/{child}/exe")).ok()
                == fs::read_link(format!("/proc/{pid}/exe")).ok();
            let command = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
            same_program && command.contains("pod-init")
        })
        .collect()
}

fn read(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
        .unwrap_or_else(|error| panic!("/proc/{pid}/{file}: {error}"))
}

fn number(text: &str, key: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .unwrap_or_else(|| panic!("no {key}"));
    line.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("{key} {line}"))
}
