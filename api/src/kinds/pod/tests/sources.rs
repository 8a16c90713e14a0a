//! What is said of volumes from elsewhere, and of options for another system.

use serde_json::{Value, json};

use super::{refuses, with_container};

#[test]
fn claims_made_from_templates_ask_for_storage() {
    let check = |template: Value, expected: &[&str]| {
        let mut spec = with_container(json!({}));
        let volume = json!({"name": "v", "ephemeral": {"volumeClaimTemplate": template}});
        spec["volumes"] = json!([volume]);
        let path = "spec.volumes[0].ephemeral.volumeClaimTemplate.";
        let expected: Vec<String> = expected
            .iter()
            .map(|text| format!("{path}{text}"))
            .collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        refuses(spec, &expected);
    };
    let claim = |modes: Value, storage: &str| json!({"accessModes": modes, "resources": {"requests": {"storage": storage}}});
    check(json!({"spec": claim(json!(["ReadWriteOnce"]), "1Gi")}), &[]);
    check(
        json!({"spec": {}}),
        &[
            "spec.accessModes: Required value: at least 1 access mode is required",
            "spec.resources[storage]: Required value",
        ],
    );
    check(
        json!({"metadata": {"name": "n", "uid": "u"}, "spec": claim(json!(["Odd"]), "-1")}),
        &[
            "metadata.name: Forbidden: cannot be set",
            "metadata.uID: Forbidden: cannot be set",
            "spec.accessModes: Unsupported value: \"Odd\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            "spec.resources[storage]: Invalid value: \"-1\": must be greater than zero",
        ],
    );
    check(
        json!({"spec": claim(json!(["ReadWriteOnce", "ReadWriteOncePod"]), "1")}),
        &["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
    );
}

#[test]
fn volumes_of_other_machines_say_where_they_are() {
    let check = |source: Value, expected: &[&str]| {
        let mut spec = with_container(json!({}));
        let mut volume = source;
        volume["name"] = json!("v");
        spec["volumes"] = json!([volume]);
        let expected: Vec<String> = expected
            .iter()
            .map(|text| format!("spec.volumes[0].{text}"))
            .collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        refuses(spec, &expected);
    };
    let iscsi = |name: &str| json!({"iscsi": {"targetPortal": "h:1", "iqn": name, "lun": 0}});
    check(iscsi("iqn.2001-04.com.example:storage"), &[]);
    check(iscsi("eui.0123456789abcdef"), &[]);
    check(
        iscsi("iqn.2001-04.com.example"),
        &["iscsi.iqn: Invalid value: \"iqn.2001-04.com.example\": must be valid format"],
    );
    check(
        iscsi("x"),
        &["iscsi.iqn: Invalid value: \"x\": must be valid format starting with iqn, eui, or naa"],
    );
    check(json!({"fc": {"wwids": ["w"]}}), &[]);
    check(
        json!({"fc": {"targetWWNs": ["a"]}}),
        &["fc.lun: Required value: lun is required if targetWWNs is specified"],
    );
    check(
        json!({"quobyte": {"registry": "h:1,h", "volume": "v"}}),
        &[
            "quobyte.registry: Invalid value: \"h:1,h\": must be a host:port pair or multiple pairs separated by commas",
        ],
    );
    check(
        json!({"storageos": {"volumeName": "v", "secretRef": {}}}),
        &["storageos.secretRef.name: Required value"],
    );
    check(
        json!({"gcePersistentDisk": {"pdName": "d", "partition": -1}}),
        &["persistentDisk.partition: Invalid value: -1: must be between 1 and 255, inclusive"],
    );
}

#[test]
fn options_of_windows_are_checked_whatever_the_pod_runs_on() {
    let check = |options: Value, expected: &[&str]| {
        refuses(
            with_container(json!({"securityContext": {"windowsOptions": options}})),
            expected,
        );
    };
    let user = |name: &str| json!({"runAsUserName": name});
    check(user("DOMAIN\\user"), &[]);
    let path = "spec.containers[0].securityContext.windowsOptions";
    check(
        user(""),
        &[&format!(
            "{path}.runAsUserName: Invalid value: \"\": runAsUserName cannot be an empty string"
        )],
    );
    check(
        user(".."),
        &[&format!(
            "{path}.runAsUserName: Invalid value: \"..\": runAsUserName's User cannot contain only periods or spaces"
        )],
    );
    check(
        json!({"gmsaCredentialSpec": ""}),
        &[&format!(
            "{path}.gmsaCredentialSpec: Invalid value: \"\": gmsaCredentialSpec cannot be an empty string"
        )],
    );
    check(
        json!({"hostProcess": true}),
        &[
            "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers",
        ],
    );
    let mut spec = with_container(json!({"securityContext": {"privileged": false}}));
    spec["os"] = json!({"name": "windows"});
    spec["hostUsers"] = json!(true);
    refuses(
        spec,
        &[
            "spec.hostUsers: Forbidden: cannot be set for a windows pod",
            "spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
        ],
    );
}
