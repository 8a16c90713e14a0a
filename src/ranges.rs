//! Chooses the address ranges of a new cluster so that they overlap nothing the host already routes. Observes nothing itself.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The ranges a cluster lives in, fixed at its first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Ranges {
    pub(crate) cluster_cidr: Vec<IpNet>,
    pub(crate) service_cidr: Vec<IpNet>,
    pub(crate) lb_pool: Vec<String>,
}

/// What the user asked for; empty means knarr chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) cluster_cidr: Vec<IpNet>,
    pub(crate) service_cidr: Vec<IpNet>,
    pub(crate) lb_pool: Vec<String>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    #[error("{flag} {range} overlaps {other} of this host")]
    Overlap {
        flag: &'static str,
        range: IpNet,
        other: IpNet,
    },
    #[error("every default range for {flag} overlaps an address or route of this host")]
    NoneFree { flag: &'static str },
    #[error("--cluster-cidr {cluster} overlaps --service-cidr {service}")]
    Each { cluster: IpNet, service: IpNet },
    #[error("{flag} takes one range per IP family, and both flags the same families")]
    Families { flag: &'static str },
}

/// The short lists that a range is taken from, in order, when the user names none.
struct Defaults {
    v4: &'static [&'static str],
    v6: &'static [&'static str],
}

const CLUSTER_CIDRS: Defaults = Defaults {
    v4: &[
        "10.42.0.0/16",
        "10.52.0.0/16",
        "172.28.0.0/16",
        "192.168.128.0/18",
    ],
    v6: &["fd6b:6e00:42::/48", "fd6b:6e01:42::/48"],
};
const SERVICE_CIDRS: Defaults = Defaults {
    v4: &[
        "10.0.128.0/17",
        "10.43.0.0/16",
        "10.53.0.0/16",
        "172.29.0.0/17",
    ],
    v6: &["fd6b:6e00:43::/112", "fd6b:6e01:43::/112"],
};
const LB_POOLS: Defaults = Defaults {
    v4: &[
        "10.0.127.0/24",
        "10.41.255.0/24",
        "172.29.255.0/24",
        "192.168.127.0/24",
    ],
    v6: &["fd6b:6e00:41::/120", "fd6b:6e01:41::/120"],
};

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

impl Defaults {
    fn of(&self, family: Family) -> &'static [&'static str] {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// Settles the ranges of a first start; the notes say where a default had to give way.
pub(crate) fn choose(wanted: &Wanted, host: &[IpNet]) -> Result<(Ranges, Vec<String>), Error> {
    let named = [&wanted.service_cidr, &wanted.cluster_cidr];
    let families = named
        .into_iter()
        .find(|ranges| !ranges.is_empty())
        .map_or_else(|| vec![Family::V4], |ranges| families_of(ranges));
    let mut notes = Vec::new();
    let mut taken = host.to_vec();
    let mut settle =
        |flag: &'static str, wanted: &[IpNet], defaults: &Defaults| -> Result<Vec<IpNet>, Error> {
            let chosen = if wanted.is_empty() {
                let default = |family| first_free(flag, defaults.of(family), &taken, &mut notes);
                families
                    .iter()
                    .copied()
                    .map(default)
                    .collect::<Result<_, _>>()?
            } else {
                wanted
                    .iter()
                    .try_for_each(|range| refuse_overlap(flag, *range, host))?;
                one_per_family(flag, wanted)?;
                wanted.iter().map(IpNet::trunc).collect::<Vec<_>>()
            };
            taken.extend(&chosen);
            Ok(chosen)
        };
    let service_cidr = settle("--service-cidr", &wanted.service_cidr, &SERVICE_CIDRS)?;
    let cluster_cidr = settle("--cluster-cidr", &wanted.cluster_cidr, &CLUSTER_CIDRS)?;
    let lb_pool = if wanted.lb_pool.is_empty() {
        settle("--lb-pool", &[], &LB_POOLS)?
            .iter()
            .map(IpNet::to_string)
            .collect()
    } else {
        wanted.lb_pool.clone()
    };
    for (cluster, service) in cluster_cidr
        .iter()
        .flat_map(|c| service_cidr.iter().map(move |s| (*c, *s)))
    {
        if overlaps(&cluster, &service) {
            return Err(Error::Each { cluster, service });
        }
    }
    if sorted(families_of(&cluster_cidr)) != sorted(families_of(&service_cidr)) {
        return Err(Error::Families {
            flag: "--cluster-cidr",
        });
    }
    let ranges = Ranges {
        cluster_cidr,
        service_cidr,
        lb_pool,
    };
    Ok((ranges, notes))
}

fn first_free(
    flag: &'static str,
    defaults: &[&str],
    taken: &[IpNet],
    notes: &mut Vec<String>,
) -> Result<IpNet, Error> {
    for text in defaults {
        let Ok(range) = text.parse::<IpNet>() else {
            continue;
        };
        match taken.iter().find(|other| overlaps(&range, other)) {
            Some(other) => notes.push(format!(
                "{range} overlaps {other}: {flag} takes the next default"
            )),
            None => return Ok(range),
        }
    }
    Err(Error::NoneFree { flag })
}

fn refuse_overlap(flag: &'static str, range: IpNet, host: &[IpNet]) -> Result<(), Error> {
    match host.iter().find(|other| overlaps(&range, other)) {
        Some(other) => Err(Error::Overlap {
            flag,
            range,
            other: *other,
        }),
        None => Ok(()),
    }
}

fn one_per_family(flag: &'static str, ranges: &[IpNet]) -> Result<(), Error> {
    let v4 = ranges.iter().filter(|r| r.addr().is_ipv4()).count();
    if v4 > 1 || ranges.len() - v4 > 1 {
        Err(Error::Families { flag })
    } else {
        Ok(())
    }
}

/// In the order of the ranges: the first is the cluster's primary one.
fn families_of(ranges: &[IpNet]) -> Vec<Family> {
    let family = |range: &IpNet| match range {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    };
    ranges.iter().map(family).collect()
}

fn sorted(mut families: Vec<Family>) -> Vec<Family> {
    families.sort();
    families
}

/// A default route is no claim to every address.
fn overlaps(range: &IpNet, other: &IpNet) -> bool {
    other.prefix_len() > 0 && (range.contains(&other.network()) || other.contains(&range.network()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter()
            .map(|text| text.parse().expect("a CIDR"))
            .collect()
    }

    fn check(wanted: Wanted, host: &[&str], expected: Result<(&str, &str, &str), Error>) {
        let chosen = choose(&wanted, &nets(host)).map(|(r, _)| {
            let list = |nets: &[IpNet]| {
                nets.iter()
                    .map(IpNet::to_string)
                    .collect::<Vec<_>>()
                    .join(",")
            };
            (
                list(&r.cluster_cidr),
                list(&r.service_cidr),
                r.lb_pool.join(","),
            )
        });
        assert_eq!(
            chosen,
            expected.map(|(c, s, l)| (c.to_owned(), s.to_owned(), l.to_owned()))
        );
    }

    #[test]
    fn defaults_hold_on_an_ordinary_host() {
        let host = ["0.0.0.0/0", "192.168.1.0/24", "127.0.0.0/8"];
        check(
            Wanted::default(),
            &host,
            Ok(("10.42.0.0/16", "10.0.128.0/17", "10.0.127.0/24")),
        );
    }

    #[test]
    fn a_default_that_overlaps_gives_way_to_the_next() {
        check(
            Wanted::default(),
            &["10.0.0.0/16"],
            Ok(("10.42.0.0/16", "10.43.0.0/16", "10.41.255.0/24")),
        );
        check(
            Wanted::default(),
            &["10.0.0.0/8"],
            Ok(("172.28.0.0/16", "172.29.0.0/17", "172.29.255.0/24")),
        );
    }

    #[test]
    fn a_range_that_was_asked_for_is_refused_not_moved() {
        let wanted = Wanted {
            service_cidr: nets(&["10.1.0.0/16"]),
            ..Wanted::default()
        };
        let (range, other) = (nets(&["10.1.0.0/16"])[0], nets(&["10.1.2.0/24"])[0]);
        check(
            wanted,
            &["10.1.2.0/24"],
            Err(Error::Overlap {
                flag: "--service-cidr",
                range,
                other,
            }),
        );
    }

    #[test]
    fn both_ranges_have_the_same_families() {
        let wanted = Wanted {
            service_cidr: nets(&["10.1.0.0/16", "fd01::/108"]),
            cluster_cidr: nets(&["10.2.0.0/16"]),
            ..Wanted::default()
        };
        check(
            wanted,
            &[],
            Err(Error::Families {
                flag: "--cluster-cidr",
            }),
        );
        let wanted = Wanted {
            service_cidr: nets(&["10.1.0.0/16", "fd01::/108"]),
            cluster_cidr: nets(&["10.2.0.0/16", "fd02::/56"]),
            ..Wanted::default()
        };
        check(
            wanted,
            &[],
            Ok((
                "10.2.0.0/16,fd02::/56",
                "10.1.0.0/16,fd01::/108",
                "10.0.127.0/24,fd6b:6e00:41::/120",
            )),
        );
    }

    #[test]
    fn one_flag_decides_the_families_of_all() {
        let wanted = Wanted {
            service_cidr: nets(&["fd01::/112", "10.1.0.0/16"]),
            ..Wanted::default()
        };
        check(
            wanted,
            &["10.42.0.0/24"],
            Ok((
                "fd6b:6e00:42::/48,10.52.0.0/16",
                "fd01::/112,10.1.0.0/16",
                "fd6b:6e00:41::/120,10.0.127.0/24",
            )),
        );
        let wanted = Wanted {
            cluster_cidr: nets(&["fd02::/48"]),
            ..Wanted::default()
        };
        check(
            wanted,
            &[],
            Ok(("fd02::/48", "fd6b:6e00:43::/112", "fd6b:6e00:41::/120")),
        );
    }
}
