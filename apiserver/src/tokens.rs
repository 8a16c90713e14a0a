//! Secrets that say who one is: bearer tokens, of which only hashes are kept, and the join token of the cluster.

use std::{
    collections::HashMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use rand::RngCore;
use sha2::{Digest, Sha256};

use crate::{
    pki::{self, Loss, NewFiles, Pki, hex},
    user::User,
};

/// Static bearer tokens, by hash.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    users: HashMap<[u8; 32], User>,
}

impl Tokens {
    /// Who `token` belongs to.
    pub(crate) fn user(&self, token: &str) -> Option<User> {
        // Looking up a hash of the guess tells a guesser nothing about the tokens there are.
        self.users.get(&hash(token)).cloned()
    }

    /// Reads `DATA_DIR/pki/tokens`: lines of hash, user and groups.
    pub(crate) fn open(data_dir: &Path) -> Result<Tokens, pki::Error> {
        let path = tokens_path(data_dir);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(source) => return Err(pki::Error::Read { path, source }),
        };
        let users = text
            .lines()
            .map(|line| parse(line).ok_or_else(|| pki::Error::Unreadable(path.clone())))
            .collect::<Result<_, _>>()?;
        Ok(Tokens { users })
    }

    /// Gives `user` a token, in place of those the user had.
    pub(crate) fn issue(
        &mut self,
        data_dir: &Path,
        user: User,
        new: &mut NewFiles,
    ) -> Result<String, pki::Error> {
        let token = random_secret();
        self.users.retain(|_, other| other.name != user.name);
        self.users.insert(hash(&token), user);
        let lines: String = self.users.iter().map(|(h, u)| print(h, u)).collect();
        new.write(&tokens_path(data_dir), &lines, Loss::Fatal)?;
        Ok(token)
    }
}

fn tokens_path(data_dir: &Path) -> PathBuf {
    data_dir.join("pki").join("tokens")
}

fn print(hash: &[u8; 32], user: &User) -> String {
    format!("{} {} {}\n", hex(hash), user.name, user.groups.join(","))
}

fn parse(line: &str) -> Option<([u8; 32], User)> {
    let mut words = line.split(' ');
    let hash = unhex(words.next()?)?;
    let name = words.next()?.to_owned();
    let groups = words.next()?.split(',').map(String::from).collect();
    let user = User {
        name,
        groups,
        ..User::default()
    };
    Some((hash, user))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

pub(crate) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// 256 random bits, in hex.
pub(crate) fn random_secret() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex(&bytes)
}

/// What a machine needs to join: `K1<sha256 of the CA>::<secret>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken(String);

impl JoinToken {
    pub(crate) fn open(
        data_dir: &Path,
        pki: &Pki,
        new: &mut NewFiles,
    ) -> Result<JoinToken, pki::Error> {
        let text = new.read_or_make(&join_token_path(data_dir), || {
            let pin = pki::fingerprint(pki.authority.certificate());
            Ok::<_, pki::Error>(format!("K1{pin}::{}\n", random_secret()))
        })?;
        Ok(JoinToken(text.trim().to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `secret` is this token's, or this whole token.
    pub fn admits(&self, secret: &str) -> bool {
        let own = self.0.rsplit("::").next().unwrap_or_default();
        let given = secret.rsplit("::").next().unwrap_or_default();
        !own.is_empty() && hash(own) == hash(given)
    }
}

fn join_token_path(data_dir: &Path) -> PathBuf {
    data_dir.join("join-token")
}

/// Reads the join token that a server with this data directory made at its first start.
pub fn join_token(data_dir: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(join_token_path(data_dir)).map(|text| text.trim().to_owned())
}
