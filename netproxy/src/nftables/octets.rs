//! A few bytes, held in place: a set has tens of thousands of keys, and none is worth an allocation of its own.

use std::{
    cmp::Ordering,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Deref,
};

/// At most `MAX` bytes.
#[derive(Clone, Copy)]
pub struct Octets<const MAX: usize> {
    length: u8,
    bytes: [u8; MAX],
}

/// More bytes than fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes are too many")]
pub struct TooMany(usize);

impl<const MAX: usize> Octets<MAX> {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// When they do not fit; then nothing is added.
    pub fn extend(&mut self, more: &[u8]) -> Result<(), TooMany> {
        let end = usize::from(self.length) + more.len();
        let length = u8::try_from(end).map_err(|_| TooMany(end))?;
        let room = self.bytes.get_mut(usize::from(self.length)..end);
        room.ok_or(TooMany(end))?.copy_from_slice(more);
        self.length = length;
        Ok(())
    }
}

impl<const MAX: usize> Default for Octets<MAX> {
    fn default() -> Self {
        Self {
            length: 0,
            bytes: [0; MAX],
        }
    }
}

impl<const MAX: usize> TryFrom<&[u8]> for Octets<MAX> {
    type Error = TooMany;

    fn try_from(bytes: &[u8]) -> Result<Self, TooMany> {
        let mut octets = Self::default();
        octets.extend(bytes)?;
        Ok(octets)
    }
}

impl<const MAX: usize> Deref for Octets<MAX> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

impl<const MAX: usize> PartialEq for Octets<MAX> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<const MAX: usize> Eq for Octets<MAX> {}

impl<const MAX: usize> PartialOrd for Octets<MAX> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const MAX: usize> Ord for Octets<MAX> {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl<const MAX: usize> fmt::Debug for Octets<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Reads an address as elements hold it.
#[must_use]
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes)
        .ok()
        .map(|octets| Ipv6Addr::from(octets).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_compare_as_the_bytes_they_hold() {
        let of = |bytes: &[u8]| Octets::<4>::try_from(bytes).expect("few bytes");
        let mut sorted = [of(&[2]), of(&[1, 9]), of(&[1]), of(&[])];
        sorted.sort();
        let sorted: Vec<&[u8]> = sorted.iter().map(Deref::deref).collect();
        assert_eq!(sorted, [&[][..], &[1], &[1, 9], &[2]]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut octets = Octets::<4>::try_from(&[1, 2, 3][..]).expect("few bytes");
        assert_eq!(octets.extend(&[4, 5]), Err(TooMany(5)));
        assert_eq!(*octets, [1, 2, 3]);
        assert_eq!(Octets::<4>::try_from(&[0; 300][..]), Err(TooMany(300)));
    }
}
