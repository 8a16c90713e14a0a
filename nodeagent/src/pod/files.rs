//! The texts of a pod's /etc/hosts and /etc/resolv.conf, and its hostname. Pure.

use k8s_openapi::api::core::v1::PodSpec;

use super::Identity;

/// How names resolve in the cluster and on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    /// The cluster's name server, while there is one.
    pub(crate) cluster_servers: Vec<String>,
    pub(crate) cluster_domain: String,
    /// The host's own resolv.conf.
    pub(crate) host: String,
}

/// Linux takes no longer hostname.
const HOSTNAME_BYTES_MAX: usize = 63;

/// The pod's hostname.
pub(crate) fn hostname(identity: &Identity, spec: &PodSpec) -> String {
    let wanted = spec.hostname_override.as_ref().or(spec.hostname.as_ref());
    let mut name = wanted.unwrap_or(&identity.name).clone();
    if name.len() > HOSTNAME_BYTES_MAX {
        name.truncate(HOSTNAME_BYTES_MAX);
        let trimmed = name.trim_end_matches(['-', '.']).len();
        name.truncate(trimmed);
    }
    name
}

/// The pod's domain, when it belongs to a subdomain.
pub(crate) fn domain(identity: &Identity, spec: &PodSpec, cluster_domain: &str) -> Option<String> {
    let subdomain = spec.subdomain.as_deref().filter(|text| !text.is_empty())?;
    Some(format!(
        "{subdomain}.{}.svc.{cluster_domain}",
        identity.namespace
    ))
}

/// The pod's /etc/hosts.
pub(crate) fn hosts(
    spec: &PodSpec,
    pod_ips: &[String],
    hostname: &str,
    domain: Option<&str>,
) -> String {
    let mut text = String::from(
        "# Written by knarr for this pod.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         fe00::\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for ip in pod_ips {
        match domain {
            Some(domain) => text.push_str(&format!("{ip}\t{hostname}.{domain}\t{hostname}\n")),
            None => text.push_str(&format!("{ip}\t{hostname}\n")),
        }
    }
    for alias in spec.host_aliases.iter().flatten() {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}

/// The parts of a resolv.conf.
#[derive(Debug, Default)]
struct Resolv {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// The host's resolvers as a pod can reach them: a stub on the host's loopback is no pod's.
pub(crate) fn host_resolv_conf() -> String {
    const OWN: &str = "/etc/resolv.conf";
    /// Where systemd-resolved, whose stub the former names, keeps the real ones.
    const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";
    let own = std::fs::read_to_string(OWN).unwrap_or_default();
    if !names_only_loopback(&own) {
        return own;
    }
    std::fs::read_to_string(BEHIND_STUB).unwrap_or(own)
}

fn names_only_loopback(resolv_conf: &str) -> bool {
    let servers = parse(resolv_conf).servers;
    let is_loopback = |server: &String| {
        server
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
    };
    !servers.is_empty() && servers.iter().all(is_loopback)
}

/// The pod's /etc/resolv.conf.
pub(crate) fn resolv_conf(identity: &Identity, spec: &PodSpec, resolver: &Resolver) -> String {
    let host_network = spec.host_network == Some(true);
    let mut parts = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => Resolv::default(),
        "Default" => parse(&resolver.host),
        "ClusterFirst" if host_network => parse(&resolver.host),
        _ => cluster_first(identity, resolver),
    };
    if let Some(config) = &spec.dns_config {
        parts
            .servers
            .extend(config.nameservers.iter().flatten().cloned());
        parts
            .searches
            .extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            parts
                .options
                .retain(|known| known.split(':').next() != Some(&name));
            parts.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }
    render(parts)
}

fn cluster_first(identity: &Identity, resolver: &Resolver) -> Resolv {
    let host = parse(&resolver.host);
    // Without a cluster name server only the host's can answer anything.
    if resolver.cluster_servers.is_empty() {
        return host;
    }
    let domain = &resolver.cluster_domain;
    let mut searches = vec![
        format!("{}.svc.{domain}", identity.namespace),
        format!("svc.{domain}"),
        domain.clone(),
    ];
    searches.extend(host.searches);
    Resolv {
        servers: resolver.cluster_servers.clone(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn parse(text: &str) -> Resolv {
    let mut parts = Resolv::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => parts.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => parts.searches = words.map(str::to_owned).collect(),
            Some("options") => parts.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    parts
}

fn render(mut parts: Resolv) -> String {
    const SERVERS_MAX: usize = 3;
    let mut text = String::new();
    let mut seen = std::collections::BTreeSet::new();
    parts.searches.retain(|search| seen.insert(search.clone()));
    if !parts.searches.is_empty() {
        text.push_str(&format!("search {}\n", parts.searches.join(" ")));
    }
    for server in parts.servers.iter().take(SERVERS_MAX) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !parts.options.is_empty() {
        text.push_str(&format!("options {}\n", parts.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: serde_json::Value, cluster_servers: &[&str], expected: &str) {
        let identity = Identity {
            namespace: "shop".into(),
            name: "web-1".into(),
            uid: "u".into(),
        };
        let mut spec = spec;
        spec["containers"] = json!([]);
        let resolver = Resolver {
            cluster_servers: cluster_servers.iter().map(|&text| text.into()).collect(),
            cluster_domain: "cluster.local".into(),
            host: "# x\nnameserver 9.9.9.9\nsearch lan\noptions edns0\n".into(),
        };
        let spec = serde_json::from_value(spec).unwrap();
        assert_eq!(resolv_conf(&identity, &spec, &resolver), expected);
    }

    #[test]
    fn only_a_stub_on_loopback_hides_the_real_resolvers() {
        for (text, expected) in [
            ("nameserver 127.0.0.53\noptions edns0\n", true),
            ("nameserver 127.0.0.53\nnameserver 9.9.9.9\n", false),
            ("nameserver ::1\n", true),
            ("search lan\n", false),
        ] {
            assert_eq!(names_only_loopback(text), expected, "{text}");
        }
    }

    #[test]
    fn every_dns_policy_has_its_file() {
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local lan\n\
                       nameserver 10.0.128.10\noptions ndots:5\n";
        let host = "search lan\nnameserver 9.9.9.9\noptions edns0\n";
        check(json!({}), &["10.0.128.10"], cluster);
        check(json!({}), &[], host);
        check(json!({"dnsPolicy": "Default"}), &["10.0.128.10"], host);
        check(json!({"hostNetwork": true}), &["10.0.128.10"], host);
        check(
            json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
            &["10.0.128.10"],
            cluster,
        );
        check(
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"],
                "searches": ["a", "a"], "options": [{"name": "ndots", "value": "2"}]}}),
            &["10.0.128.10"],
            "search a\nnameserver 1.1.1.1\noptions ndots:2\n",
        );
    }

    #[test]
    fn a_long_name_is_cut_to_a_hostname() {
        let name = format!("{}-{}", "a".repeat(62), "b".repeat(9));
        let identity = Identity {
            namespace: "n".into(),
            name,
            uid: "u".into(),
        };
        assert_eq!(hostname(&identity, &PodSpec::default()), "a".repeat(62));
    }
}
