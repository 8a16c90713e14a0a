//! Time zones as the host keeps them: TZif files by name. Ships none.

use std::io;
use std::path::{Component, Path};

use jiff::tz::TimeZone;

/// Where a host may keep them, best first.
const FOLDERS: [&str; 3] = ["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/etc/zoneinfo"];

/// Why a zone cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("unknown time zone {0}")]
    Unknown(String),
    #[error("cannot read time zone {0}")]
    Unreadable(String, #[source] io::Error),
    #[error("time zone {0} is no TZif file")]
    Malformed(String),
}

/// The zone of an IANA name.
///
/// # Errors
/// When the host has none of that name, or none that can be read.
pub(super) fn read(name: &str) -> Result<TimeZone, Error> {
    if name.eq_ignore_ascii_case("UTC") {
        return Ok(TimeZone::UTC);
    }
    let is_plain = |component| matches!(component, Component::Normal(_));
    if name.is_empty() || !Path::new(name).components().all(is_plain) {
        return Err(Error::Unknown(name.to_owned()));
    }
    for folder in FOLDERS {
        match std::fs::read(Path::new(folder).join(name)) {
            Ok(bytes) => {
                let zone = TimeZone::tzif(name, &bytes);
                return zone.map_err(|_| Error::Malformed(name.to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::Unreadable(name.to_owned(), error)),
        }
    }
    Err(Error::Unknown(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_way_out_of_the_folder() {
        for name in ["", "../../etc/passwd", "/etc/passwd", "No/Where"] {
            let error = read(name).expect_err("no zone");
            assert_eq!(error.to_string(), format!("unknown time zone {name}"));
        }
        assert_eq!(read("UTC").expect("always there"), TimeZone::UTC);
    }
}
