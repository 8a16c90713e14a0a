//! What a kubeconfig says of the server of its current context. Reads the files it names and runs no plugin.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use knarr_api::yaml;
use serde_json::Value;

use super::connection::{Proof, Server, Trust};

/// The server of the current context in the text of the kubeconfig at `path`.
pub(crate) fn server(text: &str, path: &Path) -> Result<Server> {
    let config = yaml::documents(text.as_bytes())?
        .into_iter()
        .next()
        .unwrap_or_default();
    let context = config["current-context"].as_str().unwrap_or_default();
    let context = named(&config, "contexts", "context", context)?;
    let name = |key: &str| context[key].as_str().unwrap_or_default();
    let cluster = named(&config, "clusters", "cluster", name("cluster"))?;
    let user = match name("user") {
        "" => &Value::Null,
        user => named(&config, "users", "user", user)?,
    };
    for plugin in ["exec", "auth-provider"] {
        if !user[plugin].is_null() {
            bail!("user {:?} asks a plugin for credentials", name("user"));
        }
    }
    let base = path.parent().unwrap_or(Path::new("."));
    let url = cluster["server"].as_str().unwrap_or_default();
    let certificate = text_or_file(user, "client-certificate", base)?;
    let key = text_or_file(user, "client-key", base)?;
    Ok(Server {
        url: url.parse().with_context(|| format!("server {url:?}"))?,
        trust: match text_or_file(cluster, "certificate-authority", base)? {
            _ if cluster["insecure-skip-tls-verify"] == true => Trust::Anybody,
            authorities => Trust::Authorities(authorities.unwrap_or_default()),
        },
        identity: certificate
            .zip(key)
            .map(|(certificate, key)| Proof::Pem(certificate, key)),
        token: token(user, base)?,
        local: None,
    })
}

fn named<'v>(config: &'v Value, list: &str, item: &str, name: &str) -> Result<&'v Value> {
    let list = config[list].as_array().map_or(&[][..], Vec::as_slice);
    let found = list.iter().find(|entry| entry["name"] == name);
    found
        .map(|entry| &entry[item])
        .ok_or_else(|| anyhow!("there is no {item} {name:?}"))
}

/// PEM that stands in `KEY-data`, or in the file that `KEY` names.
fn text_or_file(of: &Value, key: &str, base: &Path) -> Result<Option<String>> {
    if let Some(data) = of[format!("{key}-data")].as_str() {
        let bytes = STANDARD
            .decode(data)
            .with_context(|| format!("{key}-data is not base64"))?;
        let text = String::from_utf8(bytes).with_context(|| format!("{key}-data is not PEM"))?;
        return Ok(Some(text));
    }
    of[key].as_str().map(|file| read(file, base)).transpose()
}

fn token(user: &Value, base: &Path) -> Result<Option<String>> {
    if let Some(token) = user["token"].as_str() {
        return Ok(Some(token.to_owned()));
    }
    let file = user["tokenFile"].as_str();
    let token = file.map(|file| read(file, base)).transpose()?;
    Ok(token.map(|token| token.trim().to_owned()))
}

/// Names of files are relative to the folder of the kubeconfig.
fn read(file: &str, base: &Path) -> Result<String> {
    let path = base.join(file);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
apiVersion: v1
kind: Config
clusters:
- name: a
  cluster: { server: 'https://192.0.2.1:6443', certificate-authority-data: Q0E= }
- name: b
  cluster: { server: 'https://192.0.2.2:6443', insecure-skip-tls-verify: true }
users:
- name: cert
  user: { client-certificate-data: QQ==, client-key-data: Qg== }
- name: token
  user: { token: t0ken }
- name: plugin
  user: { exec: { command: login } }
contexts:
- name: by-cert
  context: { cluster: a, user: cert }
- name: by-token
  context: { cluster: b, user: token }
- name: by-plugin
  context: { cluster: a, user: plugin }
- name: nobody
  context: { cluster: a }
- name: astray
  context: { cluster: c, user: cert }
";

    /// URL, authorities (none: anybody), identity and token.
    type Found = (
        String,
        Option<String>,
        Option<(String, String)>,
        Option<String>,
    );

    fn read_context(current: &str) -> Result<Found> {
        let text = format!("{TWO}current-context: {current}\n");
        let Server {
            url,
            trust,
            identity,
            token,
            local: _,
        } = server(&text, Path::new("kubeconfig.yaml"))?;
        let authorities = match trust {
            Trust::Authorities(pem) => Some(pem),
            Trust::Anybody => None,
        };
        let identity = identity.map(|proof| match proof {
            Proof::Pem(certificate, key) => (certificate, key),
            Proof::Renewed(_) => panic!("a file is read once"),
        });
        Ok((url.to_string(), authorities, identity, token))
    }

    #[track_caller]
    fn check(
        current: &str,
        url: &str,
        ca: Option<&str>,
        pair: Option<(&str, &str)>,
        token: Option<&str>,
    ) {
        let expected = (
            url.to_owned(),
            ca.map(str::to_owned),
            pair.map(|(one, other)| (one.to_owned(), other.to_owned())),
            token.map(str::to_owned),
        );
        assert_eq!(read_context(current).expect("a server"), expected);
    }

    #[test]
    fn the_current_context_names_server_and_user() {
        let (a, b) = ("https://192.0.2.1:6443/", "https://192.0.2.2:6443/");
        check("by-cert", a, Some("CA"), Some(("A", "B")), None);
        check("by-token", b, None, None, Some("t0ken"));
        check("nobody", a, Some("CA"), None, None);
    }

    #[test]
    fn what_cannot_be_followed_is_said() {
        for (current, expected) in [
            ("by-plugin", "user \"plugin\" asks a plugin for credentials"),
            ("astray", "there is no cluster \"c\""),
            ("missing", "there is no context \"missing\""),
        ] {
            let error = read_context(current).expect_err("an error");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn files_are_found_beside_the_kubeconfig() {
        let folder = std::env::temp_dir().join(format!("knarr-kubeconfig-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("t"), "from-file\n").expect("a file");
        let text = "{clusters: [{name: c, cluster: {server: 'https://h:1'}}], users: [{name: u, user: {tokenFile: t}}], \
                    contexts: [{name: x, context: {cluster: c, user: u}}], current-context: x}";
        let found = server(text, &folder.join("config"));
        std::fs::remove_dir_all(&folder).expect("our own folder");
        assert_eq!(found.expect("a server").token.as_deref(), Some("from-file"));
    }
}
