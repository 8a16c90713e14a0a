//! What the real kernel makes of our messages, and what the real nft makes of the kernel's answer.

use knarr_netproxy_plan::{Family, Plan};

use super::{Observed, Socket, encode, observe, socket::Error};
use crate::{
    nftables::{
        Ruleset,
        edits::{Edit, edits},
        golden::{essence, everything},
        text::render,
    },
    own_netns::{run, sh},
};

fn sync(socket: &mut Socket, to: &Ruleset) -> usize {
    let (observed, generation) = observe(socket, to.family).expect("the kernel answers");
    let from = match observed {
        Observed::Absent => Ruleset::absent(to.family),
        Observed::Table(ruleset) => ruleset,
        Observed::Foreign => panic!("the table has another shape"),
    };
    let edits = edits(&from, to);
    if !edits.change.is_empty() {
        let batch = encode(&edits.change, to.family, Some(generation));
        socket
            .commit(&batch)
            .unwrap_or_else(|error| panic!("{error:?}"));
    }
    if !edits.sweep.is_empty() {
        let batch = encode(&edits.sweep, to.family, None);
        socket
            .commit(&batch)
            .unwrap_or_else(|error| panic!("{error:?}"));
    }
    edits.change.len() + edits.sweep.len()
}

#[test]
fn the_kernel_holds_what_was_sent_and_nft_lists_it() {
    let plan = everything();
    run(|| {
        let mut socket = Socket::open().expect("a socket");
        for family in Family::BOTH {
            let ruleset = Ruleset::of(&plan, family);
            sync(&mut socket, &ruleset);
            let (observed, _) = observe(&mut socket, family).expect("the kernel answers");
            let Observed::Table(observed) = observed else {
                panic!("{observed:?}")
            };
            assert_eq!(observed, ruleset);
            let listed = sh("nft list ruleset");
            assert_eq!(essence(&listed), essence(&render(&ruleset)));
            sh("nft flush ruleset");
        }
    });
}

#[test]
fn a_second_sync_sends_nothing() {
    let plan = everything();
    run(|| {
        let mut socket = Socket::open().expect("a socket");
        for family in Family::BOTH {
            let ruleset = Ruleset::of(&plan, family);
            assert!(sync(&mut socket, &ruleset) > 0);
            assert_eq!(sync(&mut socket, &ruleset), 0);
        }
    });
}

#[test]
fn a_table_can_lead_to_any_other_and_back() {
    let plan = everything();
    run(|| {
        let mut socket = Socket::open().expect("a socket");
        for family in Family::BOTH {
            let (empty, full) = (
                Ruleset::of(&Plan::default(), family),
                Ruleset::of(&plan, family),
            );
            for ruleset in [&empty, &full, &empty, &full] {
                sync(&mut socket, ruleset);
                let (observed, _) = observe(&mut socket, family).expect("the kernel answers");
                assert_eq!(observed, Observed::Table(ruleset.clone()));
            }
        }
    });
}

#[test]
fn edits_by_others_are_seen_and_undone() {
    let plan = everything();
    let ruleset = Ruleset::of(&plan, Family::V4);
    run(|| {
        let mut socket = Socket::open().expect("a socket");
        for edit in [
            "nft flush chain ip knarr services",
            "nft insert rule ip knarr services drop",
            "nft add rule ip knarr pick-3 counter accept",
            "nft flush map ip knarr backends",
            "nft delete element ip knarr cluster-cidrs '{ 10.42.0.0/16 }'",
            "nft add element ip knarr node-port-addresses '{ 10.1.2.3 }'",
            "nft add chain ip knarr stray",
            "nft add set ip knarr stray '{ type ipv4_addr; }'",
            "nft flush ruleset",
        ] {
            sync(&mut socket, &ruleset);
            sh(edit);
            assert!(sync(&mut socket, &ruleset) > 0, "{edit}");
            let (observed, _) = observe(&mut socket, Family::V4).expect("the kernel answers");
            assert_eq!(observed, Observed::Table(ruleset.clone()), "{edit}");
        }
    });
}

#[test]
fn tables_of_another_shape_are_foreign() {
    run(|| {
        let mut socket = Socket::open().expect("a socket");
        let family = Family::V4;
        let observe = |socket: &mut Socket| observe(socket, family).expect("the kernel answers").0;
        assert_eq!(observe(&mut socket), Observed::Absent);
        sh("nft add table ip6 knarr; nft add table ip other");
        assert_eq!(observe(&mut socket), Observed::Absent);
        sh("nft add table ip knarr");
        assert_eq!(observe(&mut socket), Observed::Foreign);
        let ruleset = Ruleset::of(&everything(), family);
        let mut whole = vec![Edit::RemoveTable];
        whole.extend(edits(&Ruleset::absent(family), &ruleset).change);
        socket
            .commit(&encode(&whole, family, None))
            .expect("the kernel takes it");
        assert_eq!(observe(&mut socket), Observed::Table(ruleset));
        sh("nft 'chain ip knarr nat-output { policy drop; }'");
        assert_eq!(observe(&mut socket), Observed::Foreign);
    });
}

#[test]
fn refusals_name_the_edit_and_leave_everything() {
    run(|| {
        let mut socket = Socket::open().expect("a socket");
        let edits = [
            Edit::AddTable,
            Edit::AddChain("one".into(), None),
            Edit::RemoveChain("two".into()),
        ];
        let refusal = socket.commit(&encode(&edits, Family::V4, None));
        assert!(
            matches!(refusal, Err(Error::Refused { edit: Some(2), .. })),
            "{refusal:?}"
        );
        assert_eq!(sh("nft list ruleset"), "");
    });
}

#[test]
fn a_stale_generation_changes_nothing() {
    run(|| {
        let mut socket = Socket::open().expect("a socket");
        let generation = socket.generation().expect("the kernel answers");
        sh("nft add table ip other");
        let batch = encode(&[Edit::AddTable], Family::V4, Some(generation));
        assert!(matches!(socket.commit(&batch), Err(Error::Stale)));
        assert!(!sh("nft list ruleset").contains("knarr"));
    });
}
