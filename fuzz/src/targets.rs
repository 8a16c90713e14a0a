//! Every reader of clients' bytes, and what it promises of them.

use jiff::{Timestamp, tz::TimeZone};
use knarr_api::{
    apply::{self, Force, Manager},
    cron::Schedule,
    decode, field,
    kind::Kind,
    kinds::{self, deployment::DEPLOYMENT, pod::POD, service::SERVICE},
    patch::{self, Format},
    protobuf, quantity, selector,
    status::Status,
    value::str_of,
    yaml,
};
use knarr_nodeagent::hostile;
use serde_json::{Value, json};

use crate::Target;

/// Unix time of everything that asks for one.
const NOW_SECONDS: i64 = 1_800_000_000;

pub const ALL: &[Target] = &[
    Target {
        name: "json_body",
        run: json_body,
    },
    Target {
        name: "yaml_body",
        run: yaml_body,
    },
    Target {
        name: "protobuf_body",
        run: protobuf_body,
    },
    Target {
        name: "json_patch",
        run: json_patch,
    },
    Target {
        name: "merge_patch",
        run: merge_patch,
    },
    Target {
        name: "strategic_patch",
        run: strategic_patch,
    },
    Target {
        name: "apply",
        run: applied,
    },
    Target {
        name: "labels",
        run: labels,
    },
    Target {
        name: "fields",
        run: fields,
    },
    Target {
        name: "quantity",
        run: quantities,
    },
    Target {
        name: "cron",
        run: cron,
    },
    Target {
        name: "spdy",
        run: hostile::spdy,
    },
    Target {
        name: "channels",
        run: hostile::channel_frame,
    },
];

/// A POST body: decoded, defaulted, validated and printed; decoding the outcome again changes nothing.
pub fn json_body(bytes: &[u8]) -> String {
    let kind = kind_of(&serde_json::from_slice(bytes).unwrap_or_default());
    match decode::json(kind, bytes) {
        Ok(decoded) => admitted(kind, decoded.object, &decoded.problems),
        Err(status) => refused(&status),
    }
}

/// The same as YAML.
pub fn yaml_body(bytes: &[u8]) -> String {
    let documents = match yaml::documents(bytes) {
        Ok(documents) => documents,
        Err(error) => return error.message,
    };
    let kind = kind_of(documents.first().unwrap_or(&Value::Null));
    match decode::yaml(kind, bytes) {
        Ok(decoded) => admitted(kind, decoded.object, &decoded.problems),
        Err(status) => refused(&status),
    }
}

/// The same as protobuf, of a kind that the first byte chooses.
pub fn protobuf_body(bytes: &[u8]) -> String {
    let (choice, body) = bytes.split_first().unwrap_or((&0, &[]));
    let kind = kinds::ALL[usize::from(*choice) % kinds::ALL.len()];
    match protobuf::decode(kind.into(), body) {
        Ok(decoded) => admitted(kind, decoded.object, &decoded.problems),
        Err(status) => refused(&status),
    }
}

pub fn json_patch(bytes: &[u8]) -> String {
    let mut target = live(&SERVICE);
    let outcome = patch::parse(Format::Json, bytes)
        .and_then(|parsed| patch::json_patch(&mut target, &parsed.patch));
    patched(&SERVICE, outcome.map(|()| target))
}

/// Merging twice is merging once.
pub fn merge_patch(bytes: &[u8]) -> String {
    let mut target = live(&SERVICE);
    let parsed = match patch::parse(Format::Merge, bytes) {
        Ok(parsed) => parsed,
        Err(status) => return refused(&status),
    };
    patch::merge(&mut target, &parsed.patch);
    let mut twice = target.clone();
    patch::merge(&mut twice, &parsed.patch);
    assert_eq!(twice, target);
    patched(&SERVICE, Ok(target))
}

pub fn strategic_patch(bytes: &[u8]) -> String {
    let (choice, body) = bytes.split_first().unwrap_or((&0, &[]));
    let kind: &Kind = [&SERVICE, &POD, &DEPLOYMENT][usize::from(*choice) % 3];
    let mut target = live(kind);
    let outcome = patch::parse(Format::Strategic, body)
        .and_then(|parsed| patch::strategic(kind, &mut target, &parsed.patch));
    patched(kind, outcome.map(|()| target))
}

/// Applying twice is applying once, for what may be stored at all.
pub fn applied(bytes: &[u8]) -> String {
    let (choice, body) = bytes.split_first().unwrap_or((&0, &[]));
    let kind: &Kind = [&SERVICE, &POD, &DEPLOYMENT][usize::from(*choice) % 3];
    let manager = Manager {
        name: "fuzz",
        subresource: "",
        time: "2026-01-01T00:00:00Z",
    };
    let apply =
        |live: &Value, config: &Value| apply::apply(kind, Some(live), config, &manager, Force::Yes);
    let outcome = patch::parse(Format::Apply, body).and_then(|parsed| {
        let once = apply(&live(kind), &parsed.patch)?;
        let mut stored = once.clone();
        (kind.strategy.default)(&mut stored);
        if kind.validate_create(&stored).is_empty() {
            let twice = apply(&once, &parsed.patch);
            assert_eq!(twice.map_err(|status| status.message), Ok(once.clone()));
        }
        Ok(once)
    });
    patched(kind, outcome)
}

/// What a selector prints as reads as the same selector.
pub fn labels(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match selector::labels(&text) {
        Ok(selector) => {
            let printed = selector.to_string();
            let again = selector::labels(&printed).map(|again| again.to_string());
            assert_eq!(again.map_err(|s| s.message), Ok(printed));
            let object = live(&SERVICE);
            let matches = selector.matches(object["metadata"]["labels"].as_object());
            format!("{matches} {}", selector.is_everything())
        }
        Err(status) => refused(&status),
    }
}

pub fn fields(bytes: &[u8]) -> String {
    let (choice, text) = bytes.split_first().unwrap_or((&0, &[]));
    let kind = kinds::ALL[usize::from(*choice) % kinds::ALL.len()];
    match selector::fields(kind, &String::from_utf8_lossy(text)) {
        Ok(selector) => selector.matches(kind, &live(&SERVICE)).to_string(),
        Err(status) => refused(&status),
    }
}

/// The canonical form of an amount is its own canonical form.
pub fn quantities(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let Some(canonical) = quantity::canonical(&text) else {
        return "no quantity".to_owned();
    };
    assert_eq!(
        quantity::canonical(&canonical).as_ref(),
        Some(&canonical),
        "{text:?}"
    );
    let parsed = quantity::Quantity::parse(&canonical).expect("canonical");
    format!("{} {}", parsed.is_negative(), parsed.is_whole())
}

/// What comes next comes later.
pub fn cron(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let after = Timestamp::from_second(NOW_SECONDS)
        .unwrap_or_default()
        .to_zoned(TimeZone::UTC);
    match Schedule::parse(&text) {
        Ok(schedule) => match schedule.next(&after) {
            Some(next) => {
                assert!(next > after, "{text:?}: {next}");
                "some time".to_owned()
            }
            None => "never".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

fn kind_of(object: &Value) -> &'static Kind {
    let wanted = str_of(&object["kind"]);
    let found = kinds::ALL.iter().find(|kind| kind.kind == wanted);
    found.copied().unwrap_or(&SERVICE)
}

/// Everything that the server asks of a decoded object before it stores it.
fn admitted(kind: &'static Kind, object: Value, problems: &[String]) -> String {
    let text = object.to_string();
    let again = decode::json(kind, text.as_bytes());
    let again = again.unwrap_or_else(|status| panic!("{}: {text}", status.message));
    assert_eq!(again.object, object, "decoding twice");
    let mut object = object;
    (kind.strategy.default)(&mut object);
    kind.prepare_create(&mut object);
    let errors = kind.validate_create(&object);
    let _warnings = (kind.strategy.warnings)(&object, None);
    let cells = (kind.cells)(&object, NOW_SECONDS);
    // Kubernetes, too, gives an IPAddress one cell more than it has columns.
    assert!(cells.len() >= kind.columns.len(), "{}", kind.kind);
    if errors.is_empty() {
        let mut changed = live(kind);
        kind.prepare_update(&mut changed, &object);
        let _errors = kind.validate_update(&changed, &object);
        kind.prepare_status(&mut changed, &object);
        let _errors = kind.validate_status(&changed, &object);
    }
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    let texts: Vec<String> = errors.iter().map(field::Error::to_string).collect();
    format!("{} {} {}", kind.kind, first(problems), first(&texts))
}

fn patched(kind: &'static Kind, outcome: Result<Value, Status>) -> String {
    let checked = outcome.and_then(|mut object| {
        let problems = decode::check(kind, &mut object)?;
        Ok(admitted(kind, object, &problems))
    });
    checked.unwrap_or_else(|status| refused(&status))
}

fn refused(status: &Status) -> String {
    assert!((400..=500).contains(&status.code), "{}", status.code);
    format!("refused {}", status.message)
}

/// An object that patches meet.
fn live(kind: &Kind) -> Value {
    let metadata = json!({
        "name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": { "app": "web", "tier": "front" }, "finalizers": ["a.example/x", "b.example/y"],
    });
    let container = json!({
        "name": "c", "image": "host", "ports": [{ "containerPort": 80, "protocol": "TCP" }],
        "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
    });
    let pod = json!({ "containers": [container], "volumes": [{ "name": "v", "emptyDir": {} }] });
    let mut object = match kind.kind {
        "Service" => json!({ "spec": {
            "selector": { "app": "web" }, "type": "ClusterIP",
            "ports": [
                { "name": "a", "port": 80, "protocol": "TCP", "targetPort": 8080 },
                { "name": "b", "port": 81, "protocol": "UDP", "targetPort": "dns" },
            ],
        } }),
        "Pod" => json!({ "spec": pod }),
        "Deployment" => json!({ "spec": {
            "replicas": 2, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": pod },
        } }),
        _ => json!({}),
    };
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    object["metadata"] = metadata;
    object
}
