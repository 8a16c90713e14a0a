//! What is wrong with the volumes of a pod. Mounts nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    super::checks::{self, Errors},
    claims, env, image, remote,
};
use crate::{
    field::{Error, Path},
    names,
    quantity::Quantity,
    walk,
};

const MODE_RULE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Validates what one kind of source holds; the path is the source's own.
type Check = fn(&mut Errors, &Path, &Value);

/// Every source of a volume in the order Kubernetes looks at them.
const SOURCES: [(&str, Check); 29] = [
    ("hostPath", host_path),
    ("gitRepo", git_repo),
    ("gcePersistentDisk", gce_disk),
    ("awsElasticBlockStore", aws_disk),
    ("secret", |e, p, v| key_files(e, p, v, "secretName")),
    ("nfs", nfs),
    ("iscsi", remote::iscsi),
    ("glusterfs", |e, p, v| {
        texts(e, p, v, &["endpoints", "path"])
    }),
    ("flocker", flocker),
    ("persistentVolumeClaim", |e, p, v| {
        texts(e, p, v, &["claimName"])
    }),
    ("rbd", rbd),
    ("cinder", |e, p, v| texts(e, p, v, &["volumeID"])),
    ("cephfs", ceph_fs),
    ("quobyte", remote::quobyte),
    ("downwardAPI", downward_api),
    ("fc", remote::fibre_channel),
    ("flexVolume", |e, p, v| texts(e, p, v, &["driver"])),
    ("configMap", |e, p, v| key_files(e, p, v, "name")),
    ("azureFile", |e, p, v| {
        texts(e, p, v, &["secretName", "shareName"])
    }),
    ("vsphereVolume", |e, p, v| texts(e, p, v, &["volumePath"])),
    ("photonPersistentDisk", |e, p, v| texts(e, p, v, &["pdID"])),
    ("portworxVolume", |e, p, v| texts(e, p, v, &["volumeID"])),
    ("azureDisk", |e, p, v| {
        texts(e, p, v, &["diskName", "diskURI"])
    }),
    ("storageos", remote::storage_os),
    ("projected", projected),
    ("scaleIO", |e, p, v| {
        texts(e, p, v, &["gateway", "system", "volumeName"])
    }),
    ("csi", csi),
    ("ephemeral", |e, p, v| {
        let path = p.child("volumeClaimTemplate");
        match walk::at(v, "volumeClaimTemplate") {
            Value::Null => e.push(Error::required(&path, "")),
            template => claims::template(e, &path, template),
        }
    }),
    ("image", |e, p, v| {
        texts(e, p, v, &["reference"]);
        let policy = walk::text(v, "pullPolicy");
        checks::one_of(e, &p.child("pullPolicy"), policy, &image::PULL_POLICIES);
    }),
];

/// Whether a volume says what it holds; one that does not is an empty directory.
pub(super) fn has_source(volume: &Value) -> bool {
    walk::has(volume, "emptyDir") || SOURCES.iter().any(|(name, _)| walk::has(volume, name))
}

/// Volumes that passed validation, by name, so that mounts can be checked against them.
pub type Known<'a> = BTreeMap<&'a str, &'a Value>;

/// Validates all volumes; `pod_name` is empty for templates.
pub fn validate<'a>(
    errors: &mut Errors,
    path: &Path,
    volumes: &'a [Value],
    pod_name: &str,
) -> Known<'a> {
    let mut known = Known::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let name = walk::text(volume, "name");
        let mut found = Errors::new();
        validate_source(&mut found, &path, volume, pod_name);
        checks::required_dns_label(&mut found, &path.child("name"), name);
        if known.contains_key(name) {
            found.push(Error::duplicate(&path.child("name"), name));
        }
        if found.is_empty() {
            known.insert(name, volume);
        }
        errors.append(&mut found);
    }
    known
}

fn validate_source(errors: &mut Errors, path: &Path, volume: &Value, pod_name: &str) {
    let mut is_first = true;
    let empty_dir = walk::at(volume, "emptyDir");
    if !empty_dir.is_null() {
        is_first = false;
        let limit = Quantity::parse(walk::text(empty_dir, "sizeLimit"));
        if limit.is_ok_and(Quantity::is_negative) {
            errors.push(Error::forbidden(
                &path.child("emptyDir").child("sizeLimit"),
                "SizeLimit field must be a valid resource quantity",
            ));
        }
    }
    for (name, check) in SOURCES {
        let source = walk::at(volume, name);
        if source.is_null() {
            continue;
        }
        if is_first {
            check(errors, &path.child(source_path(name)), source);
        } else {
            let path = path.child(forbidden_path(name));
            errors.push(Error::forbidden(
                &path,
                "may not specify more than 1 volume type",
            ));
        }
        is_first = false;
    }
    if is_first {
        errors.push(Error::required(path, "must specify a volume type"));
    }
    if walk::has(volume, "ephemeral") && !pod_name.is_empty() {
        claim_name(errors, path, walk::text(volume, "name"), pod_name);
    }
}

/// Kubernetes reports inside this source under a name of its own.
fn source_path(name: &str) -> &str {
    match name {
        "gcePersistentDisk" => "persistentDisk",
        other => other,
    }
}

/// The names Kubernetes uses, slips included, where a second source is refused.
fn forbidden_path(name: &str) -> &str {
    match name {
        "cephfs" => "cephFS",
        "downwardAPI" => "downwarAPI",
        other => other,
    }
}

fn claim_name(errors: &mut Errors, path: &Path, volume: &str, pod_name: &str) {
    let claim = format!("{pod_name}-{volume}");
    if volume.is_empty() {
        return;
    }
    for message in names::dns1123_subdomain(&claim) {
        let detail = format!("PVC name {}: {message}", crate::field::quote(&claim));
        errors.push(Error::invalid(&path.child("name"), volume, &detail));
    }
}

fn texts(errors: &mut Errors, path: &Path, source: &Value, names: &[&str]) {
    for name in names {
        checks::required(errors, &path.child(name), walk::text(source, name));
    }
}

fn host_path(errors: &mut Errors, path: &Path, source: &Value) {
    let place = walk::text(source, "path");
    if place.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
        return;
    }
    checks::no_backsteps(errors, &path.child("path"), place);
    checks::one_of_if_set(
        errors,
        &path.child("type"),
        walk::at(source, "type"),
        &HOST_PATH_TYPES,
    );
}

fn git_repo(errors: &mut Errors, path: &Path, source: &Value) {
    texts(errors, path, source, &["repository"]);
    let directory = walk::text(source, "directory");
    checks::descending_path(errors, &path.child("directory"), directory);
}

fn gce_disk(errors: &mut Errors, path: &Path, source: &Value) {
    texts(errors, path, source, &["pdName"]);
    partition(errors, path, source);
}

fn aws_disk(errors: &mut Errors, path: &Path, source: &Value) {
    texts(errors, path, source, &["volumeID"]);
    partition(errors, path, source);
}

fn partition(errors: &mut Errors, path: &Path, source: &Value) {
    let partition = walk::count(source, "partition");
    if !(0..=255).contains(&partition) {
        // Zero passes, whatever the message says.
        let messages = names::in_range(partition, 1, 255);
        checks::complain(errors, &path.child("partition"), partition, messages);
    }
}

fn nfs(errors: &mut Errors, path: &Path, source: &Value) {
    texts(errors, path, source, &["server", "path"]);
    let place = walk::text(source, "path");
    if !place.starts_with('/') {
        errors.push(Error::invalid(
            &path.child("path"),
            place,
            "must be an absolute path",
        ));
    }
}

fn flocker(errors: &mut Errors, path: &Path, source: &Value) {
    let (name, uuid) = (
        walk::text(source, "datasetName"),
        walk::text(source, "datasetUUID"),
    );
    if name.is_empty() && uuid.is_empty() {
        errors.push(Error::required(
            path,
            "one of datasetName and datasetUUID is required",
        ));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(Error::invalid(path, "resource", detail));
    }
    if name.contains('/') {
        errors.push(Error::invalid(
            &path.child("datasetName"),
            name,
            "must not contain '/'",
        ));
    }
}

fn rbd(errors: &mut Errors, path: &Path, source: &Value) {
    monitors(errors, path, source);
    texts(errors, path, source, &["image"]);
}

fn ceph_fs(errors: &mut Errors, path: &Path, source: &Value) {
    monitors(errors, path, source);
}

fn monitors(errors: &mut Errors, path: &Path, source: &Value) {
    if walk::list(source, "monitors").is_empty() {
        errors.push(Error::required(&path.child("monitors"), ""));
    }
}

fn csi(errors: &mut Errors, path: &Path, source: &Value) {
    let path_driver = path.child("driver");
    let driver = walk::text(source, "driver");
    if driver.is_empty() {
        errors.push(Error::required(&path_driver, ""));
        return;
    }
    if driver.len() > names::LABEL_LENGTH_MAX {
        errors.push(Error::too_long(&path_driver, names::LABEL_LENGTH_MAX));
    }
    let messages = names::dns1123_subdomain(&driver.to_lowercase());
    checks::complain(errors, &path_driver, driver, messages);
    if let Some(reference) = source.get("nodePublishSecretRef").filter(|r| !r.is_null()) {
        texts(
            errors,
            &path.child("nodePublishSecretRef"),
            reference,
            &["name"],
        );
    }
}

fn mode(errors: &mut Errors, path: &Path, source: &Value, name: &str) {
    if let Some(mode) = walk::integer(source, name).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.push(Error::invalid(&path.child(name), mode, MODE_RULE));
    }
}

fn key_files(errors: &mut Errors, path: &Path, source: &Value, name: &str) {
    texts(errors, path, source, &[name]);
    mode(errors, path, source, "defaultMode");
    for (index, item) in walk::list(source, "items").iter().enumerate() {
        key_file(errors, &path.child("items").index(index), item);
    }
}

fn key_file(errors: &mut Errors, path: &Path, item: &Value) {
    texts(errors, path, item, &["key", "path"]);
    checks::local_path(errors, &path.child("path"), walk::text(item, "path"));
    mode(errors, path, item, "mode");
}

fn downward_api(errors: &mut Errors, path: &Path, source: &Value) {
    mode(errors, path, source, "defaultMode");
    for file in walk::list(source, "items") {
        downward_file(errors, path, file);
    }
}

fn downward_file(errors: &mut Errors, path: &Path, file: &Value) {
    texts(errors, path, file, &["path"]);
    checks::local_path(errors, &path.child("path"), walk::text(file, "path"));
    let (field, resource) = (
        walk::at(file, "fieldRef"),
        walk::at(file, "resourceFieldRef"),
    );
    if !field.is_null() {
        env::field_reference(errors, &path.child("fieldRef"), field, &env::VOLUME_FIELDS);
        if !resource.is_null() {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.push(Error::invalid(path, "resource", detail));
        }
    } else if !resource.is_null() {
        let path = path.child("resourceFieldRef");
        env::resource_reference(errors, &path, resource, env::Place::Volume);
    } else {
        errors.push(Error::required(
            path,
            "one of fieldRef and resourceFieldRef is required",
        ));
    }
    mode(errors, path, file, "mode");
}

fn projected(errors: &mut Errors, path: &Path, source: &Value) {
    mode(errors, path, source, "defaultMode");
    let mut taken: Vec<String> = Vec::new();
    for (index, projection) in walk::list(source, "sources").iter().enumerate() {
        let own = path.child("sources").index(index);
        let mut source_count = 0;
        for (name, check) in PROJECTIONS {
            let part = walk::at(projection, name);
            if !part.is_null() {
                source_count += 1;
                check(errors, path, &own.child(name), part, &mut taken);
            }
        }
        if source_count > 1 {
            let detail = "may not specify more than 1 volume type per source";
            errors.push(Error::forbidden(&own, detail));
        }
    }
}

/// Gets the path of the whole volume, the path of the source, the source, and the file paths taken so far.
type ProjectionCheck = fn(&mut Errors, &Path, &Path, &Value, &mut Vec<String>);

const PROJECTIONS: [(&str, ProjectionCheck); 5] = [
    ("secret", project_keys),
    ("configMap", project_keys),
    ("downwardAPI", |errors, path, own, source, taken| {
        for file in walk::list(source, "items") {
            downward_file(errors, own, file);
            let place = walk::text(file, "path");
            take(errors, path, place, place, taken);
        }
    }),
    ("serviceAccountToken", project_token),
    ("clusterTrustBundle", |errors, path, own, source, taken| {
        let named = walk::has(source, "name");
        if named == walk::has(source, "signerName") {
            errors.push(if named {
                let detail = "only one of name and signerName may be used";
                Error::invalid(own, source.clone(), detail)
            } else {
                Error::required(own, "either name or signerName must be specified")
            });
        }
        let place = walk::text(source, "path");
        checks::required(errors, &own.child("path"), place);
        checks::local_path(errors, &own.child("path"), place);
        take(errors, path, place, place, taken);
    }),
];

fn project_keys(
    errors: &mut Errors,
    path: &Path,
    own: &Path,
    source: &Value,
    taken: &mut Vec<String>,
) {
    let name = walk::text(source, "name");
    checks::required(errors, &own.child("name"), name);
    for (index, item) in walk::list(source, "items").iter().enumerate() {
        key_file(errors, &own.child("items").index(index), item);
        take(errors, path, walk::text(item, "path"), name, taken);
    }
}

fn project_token(
    errors: &mut Errors,
    path: &Path,
    own: &Path,
    source: &Value,
    _: &mut Vec<String>,
) {
    let seconds = walk::count(source, "expirationSeconds");
    let path_seconds = own.child("expirationSeconds");
    if seconds < 600 {
        let detail = "may not specify a duration less than 10 minutes";
        errors.push(Error::invalid(&path_seconds, seconds, detail));
    }
    if seconds > 1 << 32 {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.push(Error::invalid(&path_seconds, seconds, detail));
    }
    let place = walk::text(source, "path");
    if place.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    } else {
        checks::local_path(errors, &path.child("path"), place);
    }
}

fn take(errors: &mut Errors, path: &Path, place: &str, shown: &str, taken: &mut Vec<String>) {
    if place.is_empty() {
        return;
    }
    if taken.iter().any(|other| other == place) {
        errors.push(Error::invalid(path, shown, "conflicting duplicate paths"));
    } else {
        taken.push(place.to_owned());
    }
}
