//! The administrator's kubeconfig in the data directory.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    config::Config,
    pki::{self, Loss, NewFiles, Pki},
    tokens::Tokens,
    user::User,
};

pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("kubeconfig.yaml")
}

/// Writes the file anew unless it says already what it should.
pub(crate) fn ensure(
    config: &Config,
    pki: &Pki,
    tokens: &mut Tokens,
    new: &mut NewFiles,
) -> Result<(), pki::Error> {
    let path = path(&config.data_dir);
    let server = server_url(config.bind, config.port);
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    let token = present
        .lines()
        .find_map(|line| line.trim().strip_prefix("token: "))
        .filter(|token| tokens.user(token).is_some());
    let token = match token {
        Some(token) => token.to_owned(),
        None => {
            let admin = User::new("system:admin", &["system:masters"]);
            tokens.issue(&config.data_dir, admin, new)?
        }
    };
    let wanted = render(&server, pki, &token);
    if wanted == present {
        return Ok(());
    }
    new.write(&path, &wanted, Loss::Harmless)
}

/// Where a client on this machine reaches the server.
fn server_url(bind: Option<IpAddr>, port: u16) -> String {
    match bind {
        Some(IpAddr::V6(address)) if !address.is_unspecified() => {
            format!("https://[{address}]:{port}")
        }
        Some(IpAddr::V4(address)) if !address.is_unspecified() => {
            format!("https://{address}:{port}")
        }
        Some(_) | None => format!("https://127.0.0.1:{port}"),
    }
}

fn render(server: &str, pki: &Pki, token: &str) -> String {
    let authority = STANDARD.encode(pki.authority.pem());
    let certificate = STANDARD.encode(&pki.admin.certificate);
    let key = STANDARD.encode(&pki.admin.key);
    format!(
        "\
apiVersion: v1
kind: Config
clusters:
- name: knarr
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: admin
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
    token: {token}
contexts:
- name: knarr
  context:
    cluster: knarr
    user: admin
current-context: knarr
"
    )
}
