//! The key that signs service-account tokens (ES256), and tokens as text: header, claims, signature.

use std::path::Path;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
        UnparsedPublicKey,
    },
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::pki::{self, NewFiles};

/// The first byte of a public key that is a whole point: both coordinates follow.
const UNCOMPRESSED: u8 = 4;
const COORDINATE_BYTES: usize = 32;

/// Signs tokens, and knows its own signatures.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    id: String,
    random: SystemRandom,
}

impl Key {
    /// Reads `DATA_DIR/pki/accounts.key`, or makes it.
    pub(crate) fn open(data_dir: &Path, new: &mut NewFiles) -> Result<Key, pki::Error> {
        let path = data_dir.join("pki").join("accounts.key");
        let pem = new.read_or_make(&path, || {
            Ok::<_, pki::Error>(rcgen::KeyPair::generate()?.serialize_pem())
        })?;
        let unreadable = || pki::Error::Unreadable(path.clone());
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| unreadable())?;
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der(), &random)
                .map_err(|_| unreadable())?;
        let id = BASE64.encode(Sha256::digest(pair.public_key().as_ref()));
        Ok(Key { pair, id, random })
    }

    /// A token that says `claims`; `None` if there is no randomness to sign with.
    pub(super) fn sign(&self, claims: &Value) -> Option<String> {
        let header = json!({ "alg": "ES256", "kid": self.id });
        let header = BASE64.encode(header.to_string());
        let text = format!("{header}.{}", BASE64.encode(claims.to_string()));
        let signature = self.pair.sign(&self.random, text.as_bytes()).ok()?;
        Some(format!("{text}.{}", BASE64.encode(signature)))
    }

    /// The claims of a token that this key signed.
    pub(super) fn verify(&self, token: &str) -> Option<Value> {
        let (text, signature) = token.rsplit_once('.')?;
        let (header, claims) = text.split_once('.')?;
        let header: Value = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        let signature = BASE64.decode(signature).ok()?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(text.as_bytes(), &signature)
            .ok()?;
        serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()
    }

    /// The public half, as a JSON Web Key.
    pub(super) fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let coordinates = match point {
            [UNCOMPRESSED, coordinates @ ..] => coordinates,
            _ => &[],
        };
        let (x, y) = coordinates.split_at(COORDINATE_BYTES.min(coordinates.len()));
        json!({
            "use": "sig",
            "kty": "EC",
            "kid": self.id,
            "crv": "P-256",
            "alg": "ES256",
            "x": BASE64.encode(x),
            "y": BASE64.encode(y),
        })
    }
}
