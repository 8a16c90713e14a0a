//! What a container's security context means for its process: user, groups, capabilities. Decides, changes nothing.

use std::fs;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::Identity;
use crate::capability;

/// A process's rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) capabilities: u64,
    pub(crate) no_new_privileges: bool,
    pub(crate) read_only_root: bool,
    pub(crate) home: String,
}

/// A security context that cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "container has runAsNonRoot and image will run as root (pod: \"{pod}_{namespace}({uid})\", container: {container})"
    )]
    Root {
        pod: String,
        namespace: String,
        uid: String,
        container: String,
    },
    #[error("{0} is not a user or group number")]
    OutOfRange(i64),
}

/// The rights of a container's process.
pub(crate) fn rights(
    identity: &Identity,
    spec: &PodSpec,
    container: &Container,
    passwd: &str,
) -> Result<Rights, Error> {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let uid = number(own.run_as_user.or(pod.run_as_user).unwrap_or(0))?;
    if uid == 0 && own.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
        return Err(Error::Root {
            pod: identity.name.clone(),
            namespace: identity.namespace.clone(),
            uid: identity.uid.clone(),
            container: container.name.clone(),
        });
    }
    let entry = passwd_entry(passwd, uid);
    let gid = match own.run_as_group.or(pod.run_as_group) {
        Some(gid) => number(gid)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let asked = pod
        .supplemental_groups
        .into_iter()
        .flatten()
        .chain(pod.fs_group);
    let mut groups = asked.map(number).collect::<Result<Vec<u32>, Error>>()?;
    groups.insert(0, gid);
    let privileged = own.privileged == Some(true);
    let added = own
        .capabilities
        .and_then(|capabilities| capabilities.add)
        .unwrap_or_default();
    Ok(Rights {
        uid,
        gid,
        groups,
        capabilities: if privileged {
            capability::ALL
        } else {
            capability::set_of(&added)
        },
        no_new_privileges: !privileged && own.allow_privilege_escalation != Some(true),
        read_only_root: own.read_only_root_filesystem == Some(true),
        home: entry.map_or_else(|| "/".to_owned(), |entry| entry.home),
    })
}

/// The host's list of users; a host without one has root only.
pub(crate) fn read_passwd() -> String {
    fs::read_to_string("/etc/passwd").unwrap_or_default()
}

struct PasswdEntry {
    gid: u32,
    home: String,
}

fn passwd_entry(passwd: &str, uid: u32) -> Option<PasswdEntry> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let found: u32 = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1)?.to_owned();
        (found == uid).then_some(PasswdEntry { gid, home })
    })
}

fn number(wide: i64) -> Result<u32, Error> {
    u32::try_from(wide).map_err(|_| Error::OutOfRange(wide))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv/www:/bin/false\n";

    fn check(pod: Value, container: Value, expected: (u32, u32, &[u32], u64, bool, &str)) {
        let rights = rights_of(pod, container).unwrap();
        let Rights {
            uid,
            gid,
            groups,
            capabilities,
            no_new_privileges,
            home,
            ..
        } = &rights;
        let found = (
            *uid,
            *gid,
            groups.as_slice(),
            *capabilities,
            *no_new_privileges,
            home.as_str(),
        );
        assert_eq!(found, expected);
    }

    fn rights_of(pod: Value, container: Value) -> Result<Rights, Error> {
        let identity = Identity {
            namespace: "n".into(),
            name: "p".into(),
            uid: "u".into(),
        };
        let container = json!({"name": "c", "securityContext": container});
        let spec = json!({"containers": [container], "securityContext": pod});
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        rights(&identity, &spec, &spec.containers[0], PASSWD)
    }

    #[test]
    fn the_container_overrides_the_pod() {
        check(json!({}), json!({}), (0, 0, &[0], 0, true, "/root"));
        check(
            json!({"runAsUser": 33}),
            json!({}),
            (33, 34, &[34], 0, true, "/srv/www"),
        );
        check(
            json!({"runAsUser": 33, "fsGroup": 7, "supplementalGroups": [5]}),
            json!({"runAsUser": 1000, "runAsGroup": 2, "capabilities": {"add": ["CHOWN"]}}),
            (1000, 2, &[2, 5, 7], 1, true, "/"),
        );
        check(
            json!({}),
            json!({"privileged": true}),
            (0, 0, &[0], u64::MAX, false, "/root"),
        );
        check(
            json!({}),
            json!({"allowPrivilegeEscalation": true}),
            (0, 0, &[0], 0, false, "/root"),
        );
    }

    #[test]
    fn root_is_refused_where_nobody_may_be_root() {
        let refused = rights_of(json!({"runAsNonRoot": true}), json!({}));
        assert!(matches!(refused, Err(Error::Root { .. })), "{refused:?}");
        assert!(rights_of(json!({"runAsNonRoot": true, "runAsUser": 1}), json!({})).is_ok());
        assert_eq!(
            rights_of(json!({"runAsUser": -1}), json!({})),
            Err(Error::OutOfRange(-1))
        );
    }
}
