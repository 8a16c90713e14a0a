//! A pod's volumes: directories and files on the host, and where a container mounts them.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, PodSpec, Volume, VolumeMount, VolumeProjection,
};

use super::env::{self, Facts};
use super::sources::token_key;
use crate::paths::Paths;
use crate::protocol::{Access, Mount, MountSource};

/// What can go wrong with a volume.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("volume {0:?}: this node has no such kind of volume")]
    Unsupported(String),
    #[error("volume {volume:?}: {kind} {name:?} not found")]
    NoObject {
        volume: String,
        kind: &'static str,
        name: String,
    },
    #[error("volume {volume:?}: references non-existent key: {key}")]
    NoKey { volume: String, key: String },
    #[error("volume {volume:?}: path {path:?} leaves the volume")]
    Escapes { volume: String, path: String },
    #[error("volume {0:?}: downward API")]
    Field(String, #[source] env::Error),
    #[error("hostPath type check failed: {0}")]
    HostPath(String),
    #[error("writing {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("container mounts volume {0:?}, which the pod does not have")]
    NoVolume(String),
}

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
struct VolumeFile {
    content: Vec<u8>,
    mode: u32,
}

type Files = BTreeMap<String, VolumeFile>;

/// Makes every volume of the pod, or brings its files up to date.
pub(crate) fn prepare(
    paths: &Paths,
    uid: &str,
    spec: &PodSpec,
    facts: &Facts<'_>,
) -> Result<(), Error> {
    let group = spec
        .security_context
        .as_ref()
        .and_then(|context| context.fs_group);
    let group = group.and_then(|group| u32::try_from(group).ok());
    for volume in spec.volumes.iter().flatten() {
        let path = host_path(paths, uid, volume)?;
        if volume.empty_dir.is_some() {
            make_empty(&path, group)?;
        } else if let Some(host) = &volume.host_path {
            check_host_path(&path, host.type_.as_deref().unwrap_or_default())?;
        } else {
            write_files(&path, &files_of(volume, spec, facts)?, group)?;
        }
    }
    Ok(())
}

/// The mounts of a container, parents before children.
pub(crate) fn mounts(
    paths: &Paths,
    uid: &str,
    spec: &PodSpec,
    container: &Container,
    environment: &[(String, String)],
) -> Result<Vec<Mount>, Error> {
    let mut mounts = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| one_mount(paths, uid, spec, mount, environment))
        .collect::<Result<Vec<_>, _>>()?;
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(mounts)
}

fn one_mount(
    paths: &Paths,
    uid: &str,
    spec: &PodSpec,
    mount: &VolumeMount,
    environment: &[(String, String)],
) -> Result<Mount, Error> {
    let volume = spec
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name == mount.name);
    let volume = volume.ok_or_else(|| Error::NoVolume(mount.name.clone()))?;
    let mut source = host_path(paths, uid, volume)?;
    let expanded = mount
        .sub_path_expr
        .as_ref()
        .map(|text| env::expand(text, environment));
    if let Some(sub) = mount
        .sub_path
        .clone()
        .or(expanded)
        .filter(|sub| !sub.is_empty())
    {
        source = inside(&source, &sub, &volume.name)?;
        if !source.exists() {
            fs::create_dir_all(&source).map_err(|error| Error::Write(source.clone(), error))?;
        }
    }
    let read_only =
        mount.read_only == Some(true) || volume.empty_dir.is_none() && volume.host_path.is_none();
    Ok(Mount {
        source: MountSource::Bind(source),
        target: mount.mount_path.clone().into(),
        access: if read_only {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        },
    })
}

fn host_path(paths: &Paths, uid: &str, volume: &Volume) -> Result<PathBuf, Error> {
    let in_memory = paths.pod(uid).join("volumes").join(&volume.name);
    if let Some(host) = &volume.host_path {
        return Ok(host.path.clone().into());
    }
    if let Some(empty) = &volume.empty_dir {
        return Ok(match empty.medium.as_deref() {
            Some("Memory") => in_memory,
            _ => paths.pod_data(uid).join("volumes").join(&volume.name),
        });
    }
    let known = volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some();
    if known {
        Ok(in_memory)
    } else {
        Err(Error::Unsupported(volume.name.clone()))
    }
}

fn inside(root: &Path, relative: &str, volume: &str) -> Result<PathBuf, Error> {
    let escapes = |component| !matches!(component, Component::Normal(_) | Component::CurDir);
    if Path::new(relative).components().any(escapes) {
        let (volume, path) = (volume.to_owned(), relative.to_owned());
        return Err(Error::Escapes { volume, path });
    }
    Ok(root.join(relative))
}

fn make_empty(path: &Path, group: Option<u32>) -> Result<(), Error> {
    let failed = |error| Error::Write(path.to_owned(), error);
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(failed)?;
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    chown(path, None, group).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}

fn check_host_path(path: &Path, kind: &str) -> Result<(), Error> {
    let failed = |error| Error::Write(path.to_owned(), error);
    let complain = |what: &str| Err(Error::HostPath(format!("{} is not {what}", path.display())));
    match kind {
        "DirectoryOrCreate" if !path.exists() => DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(failed),
        "FileOrCreate" if !path.exists() => {
            fs::File::create(path).map(drop).map_err(failed)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(failed)
        }
        "Directory" | "DirectoryOrCreate" if !path.is_dir() => complain("a directory"),
        "File" | "FileOrCreate" if !path.is_file() => complain("a file"),
        _ => Ok(()),
    }
}

fn files_of(volume: &Volume, spec: &PodSpec, facts: &Facts<'_>) -> Result<Files, Error> {
    let mut files = Files::new();
    let volume_name = &volume.name;
    if let Some(from) = &volume.config_map {
        let mode = mode(from.default_mode);
        let picked = Picked {
            kind: "configmap",
            name: &from.name,
            items: from.items.as_deref(),
            optional: from.optional,
            mode,
        };
        picked.add(
            volume_name,
            config_map_content(facts, &from.name),
            &mut files,
        )?;
    }
    if let Some(from) = &volume.secret {
        let name = from.secret_name.as_deref().unwrap_or_default();
        let mode = mode(from.default_mode);
        let picked = Picked {
            kind: "secret",
            name,
            items: from.items.as_deref(),
            optional: from.optional,
            mode,
        };
        picked.add(volume_name, secret_content(facts, name), &mut files)?;
    }
    if let Some(from) = &volume.downward_api {
        let items = from.items.as_deref().unwrap_or_default();
        add_downward(
            volume_name,
            items,
            mode(from.default_mode),
            spec,
            facts,
            &mut files,
        )?;
    }
    if let Some(from) = &volume.projected {
        for source in from.sources.iter().flatten() {
            add_projection(
                volume_name,
                source,
                mode(from.default_mode),
                spec,
                facts,
                &mut files,
            )?;
        }
    }
    Ok(files)
}

fn add_projection(
    volume: &str,
    source: &VolumeProjection,
    mode: u32,
    spec: &PodSpec,
    facts: &Facts<'_>,
    files: &mut Files,
) -> Result<(), Error> {
    if let Some(from) = &source.config_map {
        let picked = Picked {
            kind: "configmap",
            name: &from.name,
            items: from.items.as_deref(),
            optional: from
                .optional
                .or_else(|| is_spare_bundle(volume, &from.name, facts)),
            mode,
        };
        picked.add(volume, config_map_content(facts, &from.name), files)?;
    }
    if let Some(from) = &source.secret {
        let picked = Picked {
            kind: "secret",
            name: &from.name,
            items: from.items.as_deref(),
            optional: from.optional,
            mode,
        };
        picked.add(volume, secret_content(facts, &from.name), files)?;
    }
    if let Some(from) = &source.downward_api {
        let items = from.items.as_deref().unwrap_or_default();
        add_downward(volume, items, mode, spec, facts, files)?;
    }
    if let Some(from) = &source.service_account_token
        && let Some(token) = facts.sources.tokens.get(&token_key(from))
    {
        let file = VolumeFile {
            content: token.clone().into_bytes(),
            mode: 0o644,
        };
        files.insert(from.path.clone(), file);
    }
    Ok(())
}

/// In the volume that admission adds for API access only the cluster's CA is needed, and that only with a token.
fn is_spare_bundle(volume: &str, config_map: &str, facts: &Facts<'_>) -> Option<bool> {
    let is_injected = volume.starts_with("kube-api-access-");
    let is_needed = config_map == "kube-root-ca.crt" && !facts.sources.tokens.is_empty();
    Some(is_injected && !is_needed)
}

fn add_downward(
    volume: &str,
    items: &[DownwardAPIVolumeFile],
    default_mode: u32,
    spec: &PodSpec,
    facts: &Facts<'_>,
    files: &mut Files,
) -> Result<(), Error> {
    let failed = |error| Error::Field(volume.to_owned(), error);
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            env::pod_field(&field.field_path, facts).map_err(failed)?
        } else if let Some(resource) = &item.resource_field_ref {
            let name = resource.container_name.as_deref().unwrap_or_default();
            let container = super::container(spec, name).cloned().unwrap_or_default();
            env::resource_field(resource, &container, facts).map_err(failed)?
        } else {
            String::new()
        };
        let mode = item.mode.map_or(default_mode, |bits| bits as u32 & 0o777);
        files.insert(
            item.path.clone(),
            VolumeFile {
                content: text.into_bytes(),
                mode,
            },
        );
    }
    Ok(())
}

type Content = Option<BTreeMap<String, Vec<u8>>>;

fn config_map_content(facts: &Facts<'_>, name: &str) -> Content {
    let found = facts.sources.config_maps.get(name)?;
    let text = found
        .data
        .iter()
        .flatten()
        .map(|(key, text)| (key.clone(), text.clone().into_bytes()));
    let bytes = found
        .binary_data
        .iter()
        .flatten()
        .map(|(key, bytes)| (key.clone(), bytes.0.clone()));
    Some(text.chain(bytes).collect())
}

fn secret_content(facts: &Facts<'_>, name: &str) -> Content {
    let found = facts.sources.secrets.get(name)?;
    let data = found.data.iter().flatten();
    Some(
        data.map(|(key, bytes)| (key.clone(), bytes.0.clone()))
            .collect(),
    )
}

/// Which keys of an object become which files.
struct Picked<'a> {
    kind: &'static str,
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: Option<bool>,
    mode: u32,
}

impl Picked<'_> {
    fn add(&self, volume: &str, content: Content, files: &mut Files) -> Result<(), Error> {
        let optional = self.optional == Some(true);
        let Some(content) = content else {
            let (volume, name) = (volume.to_owned(), self.name.to_owned());
            let missing = Error::NoObject {
                volume,
                kind: self.kind,
                name,
            };
            return if optional { Ok(()) } else { Err(missing) };
        };
        let Some(items) = self.items.filter(|items| !items.is_empty()) else {
            files.extend(content.into_iter().map(|(key, content)| {
                (
                    key,
                    VolumeFile {
                        content,
                        mode: self.mode,
                    },
                )
            }));
            return Ok(());
        };
        for item in items {
            match content.get(&item.key) {
                Some(bytes) => {
                    let mode = item.mode.map_or(self.mode, |bits| bits as u32 & 0o777);
                    files.insert(
                        item.path.clone(),
                        VolumeFile {
                            content: bytes.clone(),
                            mode,
                        },
                    );
                }
                None if optional => {}
                None => {
                    let (volume, key) = (volume.to_owned(), item.key.clone());
                    return Err(Error::NoKey { volume, key });
                }
            }
        }
        Ok(())
    }
}

fn mode(bits: Option<i32>) -> u32 {
    bits.map_or(0o644, |bits| bits as u32 & 0o777)
}

/// Writes all files into a fresh directory and points `..data` at it, so that readers see all or nothing change.
fn write_files(root: &Path, files: &Files, group: Option<u32>) -> Result<(), Error> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| Error::Write(path, error)
    };
    fs::create_dir_all(root).map_err(at(root))?;
    if is_current(root, files) {
        return Ok(());
    }
    let fresh_name = format!("..{}", jiff::Timestamp::now().as_nanosecond());
    let fresh = root.join(&fresh_name);
    fs::create_dir(&fresh).map_err(at(&fresh))?;
    for (name, file) in files {
        let path = inside(&fresh, name, &root.to_string_lossy())?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        fs::write(&path, &file.content).map_err(at(&path))?;
        let group_bits = if group.is_some() { 0o440 } else { 0 };
        let mode = fs::Permissions::from_mode(file.mode | group_bits);
        fs::set_permissions(&path, mode).map_err(at(&path))?;
        chown(&path, None, group).map_err(at(&path))?;
    }
    let before = fs::read_link(root.join("..data")).ok();
    let pointer = root.join("..data.new");
    let _ = fs::remove_file(&pointer);
    symlink(&fresh_name, &pointer).map_err(at(&pointer))?;
    fs::rename(&pointer, root.join("..data")).map_err(at(&pointer))?;
    link_names(root, files)?;
    if let Some(before) = before {
        let _ = fs::remove_dir_all(root.join(before));
    }
    Ok(())
}

fn is_current(root: &Path, files: &Files) -> bool {
    let data = root.join("..data");
    data.exists()
        && files.iter().all(|(name, file)| {
            fs::read(data.join(name)).is_ok_and(|content| content == file.content)
        })
        && top_names(files).len() == fs::read_dir(&data).map_or(0, Iterator::count)
}

fn top_names(files: &Files) -> std::collections::BTreeSet<&str> {
    files
        .keys()
        .filter_map(|name| {
            name.split('/')
                .find(|part| !part.is_empty() && *part != ".")
        })
        .collect()
}

fn link_names(root: &Path, files: &Files) -> Result<(), Error> {
    let names = top_names(files);
    for name in &names {
        let link = root.join(name);
        match symlink(Path::new("..data").join(name), &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::Write(link, error));
            }
            _ => {}
        }
    }
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !names.contains(&*name) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
