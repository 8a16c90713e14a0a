use serde_json::json;

use super::*;
use crate::kinds;

const CREATED: &str = "2026-01-02T03:04:05Z";
const CREATED_SECONDS: i64 = 1_767_323_045;

#[test]
fn ages_have_two_or_three_figures() {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let check = |seconds: i64, expected: &str| {
        assert_eq!(age::duration(seconds), expected, "{seconds}");
    };
    check(-2, "<invalid>");
    check(-1, "0s");
    check(0, "0s");
    check(119, "119s");
    check(120, "2m");
    check(5 * MINUTE + 30, "5m30s");
    check(10 * MINUTE + 59, "10m");
    check(3 * HOUR - 1, "179m");
    check(3 * HOUR, "3h");
    check(7 * HOUR + 59 * MINUTE, "7h59m");
    check(8 * HOUR + 59 * MINUTE, "8h");
    check(47 * HOUR, "47h");
    check(2 * DAY, "2d");
    check(2 * DAY + 4 * HOUR, "2d4h");
    check(8 * DAY + 4 * HOUR, "8d");
    check(729 * DAY, "729d");
    check(730 * DAY, "2y");
    check(731 * DAY, "2y1d");
    check(8 * 365 * DAY + DAY, "8y");
}

#[test]
fn ages_count_from_timestamps() {
    let since = |timestamp| age::since(timestamp, CREATED_SECONDS + 61);
    assert_eq!(since(CREATED), "61s");
    assert_eq!(since("2026-01-02T03:04:05.500000Z"), "61s");
    assert_eq!(since("2026-01-02T04:04:05+01:00"), "61s");
    assert_eq!(since(""), "<unknown>");
}

fn config_map() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "n", "creationTimestamp": CREATED},
        "data": {"a": "1"},
        "binaryData": {"b": "AA=="},
    })
}

fn form(include: IncludeObject, columns: Columns) -> Form {
    Form {
        version: Version::V1,
        include,
        columns,
        now_seconds: CREATED_SECONDS + 7,
    }
}

#[test]
fn tables_carry_as_much_of_the_object_as_asked_for() {
    let kind = kinds::by_resource("", "v1", "configmaps").expect("is served");
    let object = config_map();
    let row = |include| {
        let form = form(include, Columns::Omitted);
        table(kind, &[&object], json!({}), form)["rows"][0].clone()
    };
    let whole = row(IncludeObject::Object);
    assert_eq!(whole["cells"], json!(["c", 2, "7s"]));
    assert_eq!(whole["object"], object);
    assert_eq!(
        row(IncludeObject::Metadata)["object"],
        json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": object["metadata"],
        })
    );
    assert_eq!(row(IncludeObject::None)["object"], Value::Null);
}

#[test]
fn columns_are_named_only_when_asked_for() {
    let kind = kinds::by_resource("", "v1", "services").expect("is served");
    let head = |columns| {
        let table = table(kind, &[], json!({}), form(IncludeObject::None, columns));
        let names = table["columnDefinitions"].as_array().cloned();
        let names = names.unwrap_or_default();
        let names = names.iter().map(|c| c["name"].as_str().map(str::to_owned));
        names.collect::<Option<Vec<String>>>().expect("has names")
    };
    assert_eq!(head(Columns::Omitted), [] as [String; 0]);
    assert_eq!(
        head(Columns::Named),
        [
            "Name",
            "Type",
            "Cluster-IP",
            "External-IP",
            "Port(s)",
            "Age",
            "Selector"
        ]
    );
}

#[test]
fn odd_requests_for_objects_are_refused() {
    assert_eq!(IncludeObject::parse(""), Ok(IncludeObject::Metadata));
    assert_eq!(IncludeObject::parse("None"), Ok(IncludeObject::None));
    let status = IncludeObject::parse("All").expect_err("is odd");
    assert_eq!(status.code, 400);
    assert_eq!(
        status.message,
        "Unable to convert to Table as requested: includeObject: Invalid value: \"All\": must be 'Metadata', 'Object', 'None', or empty"
    );
}

#[test]
fn rows_have_a_cell_for_every_column() {
    for kind in kinds::ALL {
        let cells = (kind.cells)(&json!({"metadata": {"name": "a"}}), 0);
        // Kubernetes prints an age in a third cell that this kind has no column for.
        let extra = usize::from(kind.kind == "IPAddress");
        assert_eq!(cells.len(), kind.columns.len() + extra, "{}", kind.kind);
    }
}
