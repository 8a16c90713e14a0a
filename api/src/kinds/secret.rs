//! Secret: its types, its keys and size, and that an immutable one stays as it is.

mod pem;

use serde_json::Value;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::configmap;
use crate::{
    decode,
    field::{Error, Path},
    go,
    kind::{Column, Kind, MetadataCheck, Strategy},
    meta::{self, complaints},
    names, table,
    value::{default_to, entries, fields_mut, of_object, put, str_of},
};

const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

pub static SECRET: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    strategy: Strategy {
        default,
        validate_create: validate,
        prepare_update: |new, old| {
            if str_of(&new["type"]).is_empty() {
                put(of_object(new), "type", old["type"].clone());
            }
        },
        validate_update,
        metadata_checks: &[MetadataCheck::Update, MetadataCheck::Create],
        warnings: |new, _| warnings(new).into_iter().collect(),
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string("Type", "What the data is for, and which keys it must have."),
        Column::string("Data", "Number of keys in data."),
        Column::AGE,
    ],
    cells,
    selectable: &[("type", |object| str_of(&object["type"]).to_owned())],
    ..Kind::BASE
};

/// `stringData` is for writing only: it becomes `data`.
fn default(secret: &mut Value) {
    default_to(of_object(secret), "type", "Opaque");
    if let Some(Value::Object(texts)) = of_object(secret).remove("stringData") {
        let data = fields_mut(secret, "data");
        for (key, text) in texts {
            data.insert(key, STANDARD.encode(str_of(&text)).into());
        }
    }
}

fn validate(secret: &Value) -> Vec<Error> {
    let path = Path::new("data");
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in entries(&secret["data"]) {
        errors.extend(complaints(&path.key(key), key, names::config_map_key(key)));
        size += configmap::decoded_length(value);
    }
    if size > configmap::SIZE_MAX {
        errors.push(Error::too_long(&path, configmap::SIZE_MAX));
    }
    errors.extend(validate_type(secret, &path));
    errors
}

/// What the well-known types must hold.
fn validate_type(secret: &Value, path: &Path) -> Vec<Error> {
    let data = &secret["data"];
    let missing = |key: &str| {
        data[key]
            .is_null()
            .then(|| Error::required(&path.key(key), ""))
    };
    match str_of(&secret["type"]) {
        "kubernetes.io/service-account-token" => {
            let annotations = Path::new("metadata").child("annotations");
            let is_missing = meta::annotation(secret, ACCOUNT_NAME).is_empty();
            let error = Error::required(&annotations.key(ACCOUNT_NAME), "");
            is_missing.then_some(error).into_iter().collect()
        }
        "kubernetes.io/dockercfg" => validate_json(data, ".dockercfg", path),
        "kubernetes.io/dockerconfigjson" => validate_json(data, ".dockerconfigjson", path),
        "kubernetes.io/basic-auth" => match (missing("username"), missing("password")) {
            (Some(username), Some(password)) => vec![username, password],
            _ => Vec::new(),
        },
        "kubernetes.io/ssh-auth" if str_of(&data["ssh-privatekey"]).is_empty() => {
            vec![Error::required(&path.key("ssh-privatekey"), "")]
        }
        "kubernetes.io/tls" => ["tls.crt", "tls.key"]
            .into_iter()
            .filter_map(missing)
            .collect(),
        _ => Vec::new(),
    }
}

fn validate_json(data: &Value, key: &str, path: &Path) -> Vec<Error> {
    let path = path.key(key);
    let Value::String(encoded) = &data[key] else {
        return vec![Error::required(&path, "")];
    };
    let content = STANDARD.decode(encoded).unwrap_or_default();
    let problem = match decode::untyped(&content) {
        Ok((Value::Object(_) | Value::Null, _)) => return Vec::new(),
        Ok((other, _)) => format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            go::json_name(&other)
        ),
        Err(problem) => problem,
    };
    vec![Error::invalid(
        &path,
        "<secret contents redacted>",
        &problem,
    )]
}

fn validate_update(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    errors.extend(meta::immutable(
        &Path::new("type"),
        &new["type"],
        &old["type"],
    ));
    errors.extend(configmap::validate_immutable(new, old, &["data"]));
    errors.extend(validate(new));
    errors
}

fn warnings(secret: &Value) -> Option<String> {
    let content = |key: &str| {
        let encoded = str_of(&secret["data"][key]);
        STANDARD.decode(encoded).unwrap_or_default()
    };
    let is_pair = secret["type"] == "kubernetes.io/tls";
    is_pair.then(|| pem::problem(&content("tls.crt"), &content("tls.key")))?
}

fn cells(object: &Value, now_seconds: i64) -> Vec<Value> {
    let count = object["data"].as_object().map_or(0, |data| data.len());
    vec![
        meta::name(object).into(),
        str_of(&object["type"]).into(),
        count.into(),
        table::age(object, now_seconds),
    ]
}
