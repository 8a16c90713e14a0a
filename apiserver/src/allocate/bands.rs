//! Which number of a range to take: a lower band kept for those who ask for one by name, an upper band for the rest.
//!
//! Pure: what is free and what chance says come in as arguments.

use std::{net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;

/// Says a number below the one given.
pub type Random = dyn Fn(u64) -> u64 + Send + Sync;

/// Consecutive numbers: addresses as integers, or ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Band {
    pub first: u128,
    pub count: u128,
}

/// A range's static and dynamic part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bands {
    pub low: Band,
    pub high: Band,
}

/// How much of a range its static band takes.
struct Share {
    divisor: u128,
    min: u128,
    max: u128,
}

const ADDRESSES: Share = Share {
    divisor: 16,
    min: 16,
    max: 256,
};
const PORTS: Share = Share {
    divisor: 32,
    min: 16,
    max: 128,
};

impl Share {
    fn of(&self, size: u128) -> u128 {
        if size <= self.min {
            return 0;
        }
        (size / self.divisor).clamp(self.min, self.max)
    }
}

impl Bands {
    /// Network and broadcast addresses are nobody's.
    pub(super) fn addresses(range: &IpNet) -> Bands {
        let host_bits = u32::from(range.max_prefix_len() - range.prefix_len());
        let size = 1_u128.checked_shl(host_bits).unwrap_or(u128::MAX);
        let reserved = match range {
            IpNet::V4(_) => 2,
            IpNet::V6(_) => 1,
        };
        let first = number(range.network()).saturating_add(1);
        Bands::split(first, size.saturating_sub(reserved), ADDRESSES.of(size))
    }

    pub(super) fn ports(range: &RangeInclusive<u16>) -> Bands {
        let first = u128::from(*range.start());
        let count = u128::from(*range.end()).saturating_sub(first) + 1;
        Bands::split(first, count, PORTS.of(count))
    }

    fn split(first: u128, count: u128, low_count: u128) -> Bands {
        let low_count = low_count.min(count);
        Bands {
            low: Band {
                first,
                count: low_count,
            },
            high: Band {
                first: first.saturating_add(low_count),
                count: count - low_count,
            },
        }
    }

    pub(super) fn contains(&self, number: u128) -> bool {
        self.low.contains(number) || self.high.contains(number)
    }

    /// A free number, from the static band only when the dynamic one is full.
    pub(super) fn choose(&self, random: &Random, is_free: impl Fn(u128) -> bool) -> Option<u128> {
        self.high
            .choose(random, &is_free)
            .or_else(|| self.low.choose(random, &is_free))
    }
}

impl Band {
    fn contains(&self, number: u128) -> bool {
        number >= self.first && number - self.first < self.count
    }

    /// The first free number from a random place on, going round.
    fn choose(&self, random: &Random, is_free: impl Fn(u128) -> bool) -> Option<u128> {
        if self.count == 0 {
            return None;
        }
        let start = u128::from(random(u64::try_from(self.count).unwrap_or(u64::MAX))) % self.count;
        (start..self.count)
            .chain(0..start)
            .map(|offset| self.first + offset)
            .find(|&number| is_free(number))
    }
}

pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address that `number` is in the family of `range`.
pub(super) fn address(range: &IpNet, number: u128) -> Option<IpAddr> {
    match range {
        IpNet::V4(_) => Some(IpAddr::V4(u32::try_from(number).ok()?.into())),
        IpNet::V6(_) => Some(IpAddr::V6(number.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeSet};

    use super::*;

    #[test]
    fn static_bands_have_the_sizes_of_kubernetes() {
        let check = |range: &str, low: u128, total: u128| {
            let bands = Bands::addresses(&range.parse().unwrap());
            assert_eq!(
                (bands.low.count, bands.low.count + bands.high.count),
                (low, total),
                "{range}"
            );
        };
        check("10.0.0.0/24", 16, 254);
        check("10.0.0.0/20", 256, 4094);
        check("10.0.0.0/16", 256, 65534);
        check("10.0.0.0/28", 0, 14);
        check("10.0.0.0/32", 0, 0);
        check("fd00::/112", 256, 65535);
        check("fd00::/64", 256, (1 << 64) - 1);
        let ports = Bands::ports(&(30000..=32767));
        assert_eq!(
            ports.low,
            Band {
                first: 30000,
                count: 86
            }
        );
        assert_eq!(
            ports.high,
            Band {
                first: 30086,
                count: 2682
            }
        );
        assert_eq!(Bands::ports(&(30000..=30009)).low.count, 0);
    }

    #[test]
    fn every_number_is_given_out_once_and_the_static_band_comes_last() {
        let bands = Bands::addresses(&"10.0.0.0/24".parse().unwrap());
        for seed in 0..5 {
            let taken = RefCell::new(BTreeSet::new());
            let mut order = Vec::new();
            while let Some(n) =
                bands.choose(&move |n| seed * 7919 % n, |n| !taken.borrow().contains(&n))
            {
                assert!(bands.contains(n));
                assert!(taken.borrow_mut().insert(n), "{n} twice");
                order.push(bands.low.contains(n));
            }
            assert_eq!(order.len(), 254);
            assert!(
                order.is_sorted(),
                "a static number before the dynamic ones ran out"
            );
        }
    }
}
