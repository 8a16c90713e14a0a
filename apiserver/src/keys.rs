//! Everything secret in the data directory, opened together: certificates, tokens, and the kubeconfig made of them.

#[cfg(test)]
mod tests;

use crate::{
    Config, JoinToken, accounts, kubeconfig,
    pki::{self, NewFiles, Pki},
    tokens::Tokens,
};

pub(crate) struct Keys {
    pub(crate) pki: Pki,
    pub(crate) tokens: Tokens,
    pub(crate) join_token: JoinToken,
    /// Signs the tokens of service accounts.
    pub(crate) accounts: accounts::SigningKey,
}

impl Keys {
    /// Reads what is there and makes what is missing; nobody is shown anything that a power cut could still take.
    pub(crate) fn open(config: &Config) -> Result<Keys, pki::Error> {
        let mut new = NewFiles::default();
        let pki = Pki::open(config, &mut new)?;
        let mut tokens = Tokens::open(&config.data_dir)?;
        kubeconfig::ensure(config, &pki, &mut tokens, &mut new)?;
        let keys = Keys {
            join_token: JoinToken::open(&config.data_dir, &pki, &mut new)?,
            accounts: accounts::SigningKey::open(&config.data_dir, &mut new)?,
            pki,
            tokens,
        };
        new.place()?;
        Ok(keys)
    }
}
