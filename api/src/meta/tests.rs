use serde_json::json;

use super::*;

#[test]
fn what_clients_leave_out_is_kept() {
    let old = json!({"metadata": {
        "name": "a", "uid": "1", "creationTimestamp": "2026-01-02T03:04:05Z", "generation": 3,
        "deletionTimestamp": "2026-01-02T03:05:05Z", "deletionGracePeriodSeconds": 30,
    }});
    let mut new = json!({"metadata": {"name": "a", "creationTimestamp": "2030-01-02T03:04:05Z"}});
    keep_server_fields(&mut new, &old);
    assert_eq!(new, old);
}

#[test]
fn generated_names_end_in_five_safe_characters() {
    assert_eq!(generated_name("web-", [0, 1, 26, 27, 255]), "web-bc9bq");
    let long = generated_name(&"x".repeat(80), [0; 5]);
    assert_eq!(long.len(), 63);
    assert!(long.ends_with("xbbbbb"));
}
