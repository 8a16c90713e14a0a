//! Services as kube-proxy programs them, written as the texts that `nft` and `iptables-restore` load.

use std::fmt::Write as _;

/// The cluster IP of one Service.
pub(crate) fn cluster_ip(service: usize) -> String {
    format!("10.0.{}.{}", 128 + service / 250, 1 + service % 250)
}

fn endpoint(service: usize, index: usize) -> String {
    format!("10.42.{}.{}", service % 250, 1 + index)
}

/// A chain for each Service with a map of its own, and one map of all Services.
pub(crate) fn nftables(services: usize, endpoints: usize) -> String {
    let mut text = String::from(
        "table ip kube-proxy {\n\
         set cluster-ips { type ipv4_addr; }\n\
         set hairpin-connections { type ipv4_addr . ipv4_addr . inet_proto . inet_service; }\n\
         chain mark-for-masquerade { meta mark set meta mark or 0x4000; }\n\
         chain masquerading { meta mark and 0x4000 == 0 return; meta mark set meta mark xor 0x4000; masquerade fully-random; }\n",
    );
    for service in 0..services {
        let ip = cluster_ip(service);
        let picks: Vec<String> = (0..endpoints)
            .map(|index| format!("{index} : {} . 8080", endpoint(service, index)))
            .collect();
        let _ = writeln!(
            text,
            "chain service-{service:08x}-default/s{service}/tcp/a {{\n\
             ip daddr {ip} tcp dport 80 ip saddr != 10.42.0.0/16 jump mark-for-masquerade\n\
             meta l4proto tcp dnat ip addr . port to numgen random mod {endpoints} map {{ {} }}\n}}",
            picks.join(", ")
        );
    }
    text.push_str(
        "map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = {\n",
    );
    for service in 0..services {
        let ip = cluster_ip(service);
        let _ = writeln!(
            text,
            "{ip} . tcp . 80 : goto service-{service:08x}-default/s{service}/tcp/a,"
        );
    }
    text.push_str(
        "} }\n\
         chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }\n\
         chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }\n\
         chain nat-output { type nat hook output priority -100; jump services; }\n\
         chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }\n}\n",
    );
    text
}

/// A chain for each Service and for each endpoint, and one rule for each Service in the chain that packets walk.
pub(crate) fn iptables(services: usize, endpoints: usize) -> String {
    let mut chains = String::from(
        "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n",
    );
    let mut rules = String::from(
        "-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A POSTROUTING -j KUBE-POSTROUTING\n\
         -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n",
    );
    for service in 0..services {
        let ip = cluster_ip(service);
        let _ = writeln!(chains, ":KUBE-SVC-{service:08} - [0:0]");
        let _ = writeln!(
            rules,
            "-A KUBE-SERVICES -d {ip}/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-{service:08}\n\
             -A KUBE-SVC-{service:08} ! -s 10.42.0.0/16 -d {ip}/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ"
        );
        for index in 0..endpoints {
            let chain = format!("KUBE-SEP-{service:08}-{index}");
            let address = endpoint(service, index);
            let share = 1.0 / (endpoints - index) as f64;
            let _ = writeln!(chains, ":{chain} - [0:0]");
            let _ = writeln!(
                rules,
                "-A KUBE-SVC-{service:08} -m statistic --mode random --probability {share:.10} -j {chain}\n\
                 -A {chain} -s {address}/32 -j KUBE-MARK-MASQ\n\
                 -A {chain} -p tcp -m tcp -j DNAT --to-destination {address}:8080"
            );
        }
    }
    format!("{chains}{rules}COMMIT\n")
}
