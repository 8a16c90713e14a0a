use std::path::{Path, PathBuf};

use super::*;
use crate::{User, pki::fingerprint};

/// In the order in which they are put in place.
const FILES: [&str; 12] = [
    "pki/ca.key",
    "pki/ca.crt",
    "pki/server.key",
    "pki/server.crt",
    "pki/agent-client.key",
    "pki/agent-client.crt",
    "pki/admin.key",
    "pki/admin.crt",
    "pki/tokens",
    "kubeconfig.yaml",
    "join-token",
    "pki/accounts.key",
];

/// Those that others may know already: the authority, the join token, and what signs the tokens of accounts.
const LASTING: [usize; 4] = [0, 1, 10, 11];

struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        let name = format!("knarr-keys-{}", uuid::Uuid::new_v4());
        Directory(std::env::temp_dir().join(name))
    }

    fn open(&self) -> Keys {
        Keys::open(&Config::for_tests(self.0.clone())).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn texts(directory: &Path) -> Vec<Option<String>> {
    let text = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
    FILES.map(text).into()
}

/// That all of it belongs together.
#[track_caller]
fn check(keys: &Keys, directory: &Path) {
    let pin = fingerprint(keys.pki.authority.certificate());
    assert!(keys.join_token.as_str().starts_with(&format!("K1{pin}::")));
    keys.pki.server_tls().unwrap();
    keys.pki.agent_tls().unwrap();
    let kubeconfig = std::fs::read_to_string(kubeconfig::path(directory)).unwrap();
    let token = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix("token: "))
        .unwrap();
    let user = keys.tokens.user(token);
    assert_eq!(user, Some(User::new("system:admin", &["system:masters"])));
}

#[test]
fn a_start_cut_short_after_any_file_is_completed() {
    for kept in 0..=FILES.len() {
        let directory = Directory::new();
        directory.open();
        let before = texts(&directory.0);
        for name in &FILES[kept..] {
            std::fs::remove_file(directory.0.join(name)).unwrap();
            std::fs::write(directory.0.join(format!("{name}.tmp")), "half a fi").unwrap();
        }
        check(&directory.open(), &directory.0);
        let after = texts(&directory.0);
        for index in LASTING.into_iter().filter(|index| *index < kept) {
            assert_eq!(before[index], after[index], "after {kept} files");
        }
        assert!(after.iter().all(Option::is_some), "after {kept} files");
    }
}

#[test]
fn a_second_start_finds_everything_as_it_was() {
    let directory = Directory::new();
    directory.open();
    let before = texts(&directory.0);
    check(&directory.open(), &directory.0);
    assert_eq!(before, texts(&directory.0));
}

#[test]
fn only_the_owner_can_read_what_is_made() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new();
    directory.open();
    for name in FILES {
        let mode = std::fs::metadata(directory.0.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
