//! The host is left as it was found, and what stands in the way is said in one line.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;

use crate::lab::{wait, world::World};

/// Everything knarr could leave behind in a machine's kernel.
fn trace_of(world: &World) -> String {
    let netns = &world.nodes[0].netns;
    // Counters and timers change by themselves.
    let mut trace = netns.sh("nft --stateless list ruleset");
    for command in [
        "ip -br link",
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip rule",
        "ip neigh show nud permanent",
    ] {
        trace.push_str(&format!("--- {command}\n{}", netns.sh(command)));
    }
    trace.push_str(
        &netns.sh(
            "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.conf.all.rp_filter",
        ),
    );
    trace
}

#[test]
fn up_leaves_the_host_as_it_was_and_finds_its_data_again() {
    let mut world = World::new(1);
    world.nodes[0].netns.sh("nft add table inet foreign");
    world.nodes[0]
        .netns
        .sh("nft add chain inet foreign input { type filter hook input priority 0 ; }");
    // An address that the kernel is still probing would appear during the test.
    for line in [
        "ip link set eth0 addrgenmode none",
        "ip -6 addr flush dev eth0",
        "ip -6 addr add fd77::11/64 dev eth0 nodad",
    ] {
        world.nodes[0].netns.sh(line);
    }
    wait::until("the address has its route", Duration::from_secs(10), || {
        let routes = world.nodes[0].netns.sh("ip -6 route show table local");
        if routes.contains("local fd77::11") {
            Ok(())
        } else {
            Err(routes)
        }
    });
    let before = trace_of(&world);
    let kubia = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/kubia.yaml");
    for round in 1..=2 {
        world.nodes[0].start(&["up", "-f", kubia]);
        wait::until(
            "up prints an address to try",
            Duration::from_secs(40),
            || {
                let log = world.nodes[0].log();
                if log.matches("http://10.0.").count() == round {
                    Ok(())
                } else {
                    Err(world.nodes[0].log_tail())
                }
            },
        );
        world.nodes[0].stop(Signal::SIGINT);
        assert_eq!(trace_of(&world), before);
    }
    let log = world.nodes[0].log();
    assert!(log.contains("service/kubia unchanged"), "{log}");
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
        .collect();
    assert_eq!(complaints, Vec::<&str>::new());
    assert_eq!(
        mounts_below(&world.nodes[0].run_dir()),
        Vec::<String>::new()
    );
}

fn mounts_below(dir: &std::path::Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the mount table");
    let below = dir.to_string_lossy().into_owned();
    mounts
        .lines()
        .filter(|line| line.contains(&below))
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_stands_in_the_way_is_one_line_with_a_hint() {
    let mut world = World::new(1);
    let check = |world: &World, args: &[&str], code: i32, needle: &str| {
        let output = world.nodes[0].try_knarr(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(
            text.trim_end().lines().count() == 1 && text.contains(needle) && text.contains("hint:"),
            "{args:?}: {text}"
        );
    };
    check(&world, &["get", "pods"], 3, "kubeconfig");
    check(
        &world,
        &["up", "--service-cidr", "10.77.0.0/16"],
        5,
        "overlaps 10.77.0.0/24",
    );
    let manifest = world.nodes[0].run_dir().with_file_name("broken.yaml");
    fs::write(&manifest, "kind: Service\nmetadata:\n  name: [\n").expect("a file");
    check(
        &world,
        &["up", "-f", &manifest.to_string_lossy()],
        2,
        "line 3",
    );
    world.nodes[0].start(&["up"]);
    world.wait_for_api();
    check(&world, &["up"], 5, "another knarr");
    let other = world.nodes[0].run_dir().with_file_name("other");
    let args = ["server", "--data-dir", &other.to_string_lossy()];
    check(&world, &args, 5, "port 6443");
    assert!(!other.exists(), "ranges of a cluster that never started");
    let data = world.nodes[0].data_dir();
    check(
        &world,
        &[
            "server",
            "--data-dir",
            &data.to_string_lossy(),
            "--port",
            "7443",
        ],
        5,
        "data",
    );
}
