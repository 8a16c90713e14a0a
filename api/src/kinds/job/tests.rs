use serde_json::{Value, json};

use super::JOB;
use crate::{field::Error, kinds::cronjob::CRON_JOB, walk};

fn template(policy: &str) -> Value {
    json!({"spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]}})
}

/// A job as it is stored, from what its spec has beyond a template.
fn stored(fields: Value) -> Value {
    let mut spec = json!({"template": template("Never")});
    for (name, value) in walk::entries(&json!({"fields": fields}), "fields") {
        spec[name] = value.clone();
    }
    let metadata = json!({"name": "j", "namespace": "n", "uid": "u", "resourceVersion": "1"});
    let mut job = json!({"metadata": metadata, "spec": spec});
    (JOB.strategy.default)(&mut job);
    JOB.prepare_create(&mut job);
    job
}

fn texts(errors: &[Error]) -> Vec<String> {
    errors.iter().map(Error::to_string).collect()
}

fn refuses(fields: Value, expected: &[&str]) {
    let job = stored(fields);
    assert_eq!(
        texts(&(JOB.strategy.validate_create)(&job)),
        expected,
        "{job}"
    );
}

fn updated(old: &Value, change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut new = old.clone();
    change(&mut new);
    (JOB.strategy.default)(&mut new);
    JOB.prepare_update(&mut new, old);
    let mut errors = texts(&JOB.validate_update(&new, old));
    errors.dedup();
    errors
}

#[test]
fn a_job_is_tied_to_its_pods_by_name_and_uid() {
    let job = stored(json!({}));
    let labels = json!({
        "batch.kubernetes.io/controller-uid": "u",
        "batch.kubernetes.io/job-name": "j",
        "controller-uid": "u",
        "job-name": "j",
    });
    assert_eq!(job["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(job["metadata"]["labels"], labels);
    assert_eq!(
        job["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
    );
    assert_eq!(job["spec"]["backoffLimit"], 6);
    assert_eq!(job["spec"]["completions"], 1);
    refuses(json!({}), &[]);
}

#[test]
fn labels_of_its_own_stay_as_they_are() {
    let mut job = json!({"metadata": {"name": "j", "uid": "u", "labels": {"a": "b"}}, "spec": {"template": template("Never")}});
    (JOB.strategy.default)(&mut job);
    JOB.prepare_create(&mut job);
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
}

#[test]
fn pods_of_jobs_may_end() {
    refuses(
        json!({"template": template("Always")}),
        &[
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ],
    );
    refuses(json!({"template": template("OnFailure")}), &[]);
}

#[test]
fn indexes_need_the_indexed_mode() {
    refuses(
        json!({"backoffLimitPerIndex": 1}),
        &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
    );
    refuses(
        json!({"completionMode": "Indexed", "parallelism": 2}),
        &["spec.completions: Required value: when completion mode is Indexed"],
    );
    refuses(
        json!({"completionMode": "Sometimes"}),
        &[
            "spec.completionMode: Unsupported value: \"Sometimes\": supported values: \"NonIndexed\", \"Indexed\"",
        ],
    );
    refuses(json!({"completionMode": "Indexed", "completions": 3}), &[]);
}

#[test]
fn failure_policies_match_codes_or_conditions() {
    let rule = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    refuses(
        rule(json!({"action": "Ignore", "onExitCodes": {"operator": "In", "values": [2, 0, 2]}})),
        &[
            "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
            "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 2",
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0,2]: must be ordered",
        ],
    );
    refuses(
        rule(json!({"action": "Ignore"})),
        &[
            "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ],
    );
}

#[test]
fn only_parallelism_and_suspension_change() {
    let old = stored(json!({}));
    assert_eq!(
        updated(&old, |job| job["spec"]["parallelism"] = json!(4)),
        [""; 0]
    );
    assert_eq!(
        updated(&old, |job| job["spec"]["suspend"] = json!(true)),
        [""; 0]
    );
    assert_eq!(
        updated(&old, |job| job["spec"]["completions"] = json!(4)),
        ["spec.completions: Invalid value: 4: field is immutable"]
    );
    let errors = updated(&old, |job| {
        job["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other");
    });
    let [error] = &errors[..] else {
        panic!("one error, not {errors:?}");
    };
    let start =
        "spec.template: Invalid value: {\"labels\":{\"batch.kubernetes.io/controller-uid\":\"u\",";
    assert!(error.starts_with(start), "{error}");
    assert!(
        error.contains("\"Containers\":[{\"Name\":\"c\",\"Image\":\"other\",\"Command\":null,"),
        "{error}"
    );
    assert!(error.ends_with(": field is immutable"), "{error}");
}

#[test]
fn a_suspended_job_may_be_sent_elsewhere_until_it_starts() {
    let send =
        |job: &mut Value| job["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
    let mut old = stored(json!({"suspend": true}));
    assert_eq!(updated(&old, send), [""; 0]);
    old["status"]["startTime"] = json!("2026-01-02T03:04:05Z");
    assert_eq!(updated(&old, send).len(), 1);
}

fn status_written(before: Value, after: Value) -> Vec<String> {
    let mut old = stored(json!({}));
    old["status"] = before;
    let mut new = old.clone();
    new["status"] = after;
    JOB.prepare_status(&mut new, &old);
    texts(&JOB.validate_status(&new, &old))
}

#[test]
fn what_is_finished_stays_finished() {
    let conditions = |kinds: &[&str]| -> Value {
        kinds
            .iter()
            .map(|kind| json!({"type": kind, "status": "True"}))
            .collect()
    };
    let complete = json!({
        "startTime": "2026-01-02T03:04:05Z",
        "completionTime": "2026-01-02T03:05:00Z",
        "succeeded": 1,
        "conditions": conditions(&["SuccessCriteriaMet", "Complete"]),
    });
    assert_eq!(status_written(json!({}), complete.clone()), [""; 0]);
    let mut early = complete.clone();
    early["conditions"] = conditions(&["Complete"]);
    early["active"] = json!(1);
    assert_eq!(
        status_written(json!({}), early),
        [
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ]
    );
    let mut undone = complete.clone();
    undone["conditions"] = conditions(&["SuccessCriteriaMet"]);
    undone["succeeded"] = json!(0);
    assert_eq!(
        status_written(complete, undone),
        [
            "status.completionTime: Invalid value: \"2026-01-02T03:05:00Z\": cannot set completionTime when there is no Complete=True condition",
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
        ]
    );
}

#[test]
fn rows_say_how_far_a_job_has_come() {
    let check = |fields: Value, status: Value, expected: [&str; 3]| {
        let mut job = stored(fields);
        job["status"] = status;
        let cells = (JOB.cells)(&job, 1_767_323_105);
        assert_eq!(cells[1..4], expected.map(Value::from));
    };
    check(json!({}), json!({}), ["Running", "0/1", ""]);
    check(
        json!({"parallelism": 3}),
        json!({}),
        ["Running", "0/1 of 3", ""],
    );
    let suspended = json!({"conditions": [{"type": "Suspended", "status": "True"}]});
    check(
        json!({"completions": 2}),
        suspended,
        ["Suspended", "0/2", ""],
    );
    let complete = json!({
        "succeeded": 1,
        "startTime": "2026-01-02T03:04:05Z",
        "completionTime": "2026-01-02T03:04:35Z",
        "conditions": [{"type": "Complete", "status": "True"}],
    });
    check(json!({}), complete, ["Complete", "1/1", "30s"]);
}

fn cron_job(fields: Value) -> Value {
    let mut spec = json!({
        "schedule": "*/5 * * * *",
        "jobTemplate": {"spec": {"template": template("OnFailure")}},
    });
    for (name, value) in walk::entries(&json!({"fields": fields}), "fields") {
        spec[name] = value.clone();
    }
    let mut cron_job = json!({"metadata": {"name": "c"}, "spec": spec});
    (CRON_JOB.strategy.default)(&mut cron_job);
    CRON_JOB.prepare_create(&mut cron_job);
    cron_job
}

#[test]
fn cron_jobs_need_a_schedule_that_can_be_read() {
    let check = |fields: Value, expected: &[&str]| {
        let errors = (CRON_JOB.strategy.validate_create)(&cron_job(fields));
        assert_eq!(texts(&errors), expected);
    };
    check(json!({}), &[]);
    check(json!({"schedule": ""}), &["spec.schedule: Required value"]);
    check(
        json!({"schedule": "61 * * * *"}),
        &["spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61"],
    );
    check(
        json!({"schedule": "TZ=UTC 0 * * * *"}),
        &[
            "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ],
    );
    check(
        json!({"timeZone": "../x"}),
        &["spec.timeZone: Invalid value: \"../x\": unknown time zone ../x"],
    );
    check(
        json!({"concurrencyPolicy": "Maybe"}),
        &[
            "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
        ],
    );
}

#[test]
fn cron_jobs_default_to_patience_and_short_memory() {
    let cron_job = cron_job(json!({}));
    assert_eq!(cron_job["spec"]["concurrencyPolicy"], "Allow");
    assert_eq!(cron_job["spec"]["successfulJobsHistoryLimit"], 3);
    assert_eq!(cron_job["spec"]["failedJobsHistoryLimit"], 1);
    assert!(cron_job["spec"]["jobTemplate"]["spec"]["backoffLimit"].is_null());
    let cells = (CRON_JOB.cells)(&cron_job, 0);
    assert_eq!(cells.len(), CRON_JOB.columns.len());
    assert_eq!(
        cells[1..6],
        [
            json!("*/5 * * * *"),
            json!("<none>"),
            json!("False"),
            json!(0),
            json!("<none>")
        ]
    );
}
