//! Reads how many connections each frontend has led to a backend.

use knarr_netproxy_plan::{Family, FrontendKey};

use super::{
    constant as c, decode,
    socket::{Error, Socket},
};
use crate::{
    netlink::message::Writer,
    nftables::{
        TABLE,
        element::frontend_of,
        set::{Counting, Set},
    },
};

/// The counts of one family, in one dump a set; none without a table of ours.
///
/// # Errors
/// When the kernel refuses, or others change the table meanwhile.
pub fn connections(socket: &mut Socket, family: Family) -> Result<Vec<(FrontendKey, u64)>, Error> {
    let mut counts = Vec::new();
    for set in Set::ALL {
        if set.counting() == Counting::Nothing {
            continue;
        }
        let filter = |writer: &mut Writer| {
            writer.text(c::element::TABLE, TABLE);
            writer.text(c::element::SET, set.name());
        };
        let dumped = socket.dump(c::message::GETELEMENT, family, filter, |message| {
            let own = decode::counts(message.attributes());
            counts.extend(
                own.filter_map(|(key, count)| Some((frontend_of(set, &key, family)?, count))),
            );
        });
        match dumped {
            Err(Error::Refused { cause, .. }) if cause.raw_os_error() == Some(libc::ENOENT) => {}
            result => result?,
        }
    }
    Ok(counts)
}
