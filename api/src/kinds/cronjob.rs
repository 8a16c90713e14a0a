//! CronJob: jobs made by the clock.

use serde_json::{Value, json};

use super::{
    checks::{self, Errors},
    job, rollout, scale, template,
};
use crate::{
    cron,
    field::{Error, Path},
    kind::{Column, Generation, Kind, Strategy, Subresource},
    table::age,
    walk::{self, fill, fill_zero},
};

pub static CRON_JOB: Kind = Kind {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    subresources: &[Subresource::STATUS],
    strategy: Strategy {
        default,
        prepare_create: |cron_job| rollout::reset_status(cron_job, json!({})),
        validate_create,
        prepare_update: rollout::keep_status,
        validate_update,
        prepare_status: rollout::keep_spec,
        warnings,
        generation: Generation::Spec,
        ..Strategy::BASE
    },
    columns: &[
        Column::NAME,
        Column::string(
            "Schedule",
            "spec.schedule: when to make a job, as cron has it.",
        ),
        Column::string("Timezone", "spec.timeZone: the clock the schedule goes by."),
        Column {
            kind: "boolean",
            ..Column::string("Suspend", "spec.suspend: whether new jobs are held back.")
        },
        Column::integer("Active", "Jobs that are running."),
        Column::string("Last Schedule", "Time since status.lastScheduleTime."),
        Column::AGE,
        rollout::CONTAINERS,
        rollout::IMAGES,
        rollout::SELECTOR,
    ],
    cells,
    ..Kind::BASE
};

/// A job's name ends in its time of eleven characters.
const NAME_LENGTH_MAX: usize = 52;

fn default(cron_job: &mut Value) {
    let spec = walk::object_mut(cron_job, "spec");
    fill_zero(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
    fill(spec, "schedule", "");
    walk::object_mut(cron_job, "spec.jobTemplate.metadata");
    walk::object_mut(cron_job, "spec.jobTemplate.spec");
    job::default_template(walk::at_mut(cron_job, "spec.jobTemplate.spec"));
    walk::object_mut(cron_job, "status");
}

fn validate_create(cron_job: &Value) -> Errors {
    let mut errors = Errors::new();
    spec(&mut errors, cron_job, None);
    let name = walk::text(cron_job, "metadata.name");
    if name.len() > NAME_LENGTH_MAX {
        let path = Path::new("metadata").child("name");
        errors.push(Error::invalid(
            &path,
            name,
            "must be no more than 52 characters",
        ));
    }
    errors
}

fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    spec(&mut errors, new, Some(old));
    errors
}

fn spec(errors: &mut Errors, cron_job: &Value, old: Option<&Value>) {
    let (path, spec) = (Path::new("spec"), walk::at(cron_job, "spec"));
    schedule(errors, &path.child("schedule"), spec, old);
    checks::counts(errors, &path, spec, &["startingDeadlineSeconds"]);
    let zone = walk::at(spec, "timeZone");
    if old.is_none_or(|old| walk::at(old, "spec.timeZone") != zone) {
        time_zone(errors, &path.child("timeZone"), zone);
    }
    let policy = walk::text(spec, "concurrencyPolicy");
    let supported = ["Allow", "Forbid", "Replace"];
    checks::one_of(errors, &path.child("concurrencyPolicy"), policy, &supported);
    let job = walk::at(spec, "jobTemplate.spec");
    let path_job = path.child("jobTemplate").child("spec");
    job::validate::spec(errors, &path_job, job);
    let selector = walk::at(job, "selector");
    if !selector.is_null() {
        let detail = "`selector` will be auto-generated";
        errors.push(Error::invalid(
            &path_job.child("selector"),
            selector.clone(),
            detail,
        ));
    }
    if walk::is_true(job, "manualSelector") {
        let path = path_job.child("manualSelector");
        errors.push(Error::not_supported(&path, true, &["nil", "false"]));
    }
    let limits = ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    checks::counts(errors, &path, spec, &limits);
}

fn schedule(errors: &mut Errors, path: &Path, spec: &Value, old: Option<&Value>) {
    let schedule = walk::text(spec, "schedule");
    if schedule.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    if let Err(problem) = cron::Schedule::parse(schedule) {
        errors.push(Error::invalid(path, schedule, &problem.to_string()));
    }
    if !schedule.contains("TZ") {
        return;
    }
    let tolerated = old.is_some_and(|old| walk::text(old, "spec.schedule").contains("TZ"));
    if !tolerated {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(Error::invalid(path, schedule, detail));
    } else if walk::has(spec, "timeZone") {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.push(Error::invalid(path, schedule, detail));
    }
}

fn time_zone(errors: &mut Errors, path: &Path, zone: &Value) {
    let Some(zone) = zone.as_str() else {
        return;
    };
    let mut complain = |detail: &str| errors.push(Error::invalid(path, zone, detail));
    if zone.is_empty() {
        complain("timeZone must be nil or non-empty string");
        return;
    }
    let is_well_formed = zone.split('/').all(|part| {
        let letter = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
        !["", ".", ".."].contains(&part)
            && !part.starts_with('-')
            && part.len() <= 14
            && part.chars().all(letter)
    });
    if !is_well_formed {
        complain(&format!("unknown time zone {zone}"));
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        complain(
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
    }
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut all = rollout::name_warnings(new, old);
    if old.is_none_or(|old| old["spec"] != new["spec"]) {
        let path = Path::new("spec").child("jobTemplate").child("spec");
        all.extend(job::spec_warnings(
            &path,
            walk::at(new, "spec.jobTemplate.spec"),
        ));
    }
    if old.is_some() && walk::text(new, "spec.schedule").contains("TZ") {
        all.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".into());
    }
    all
}

fn cells(cron_job: &Value, now_seconds: i64) -> Vec<Value> {
    let last = match walk::text(cron_job, "status.lastScheduleTime") {
        "" => "<none>".to_owned(),
        time => age::since(time, now_seconds),
    };
    let suspend = match walk::at(cron_job, "spec.suspend").as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let job = walk::at(cron_job, "spec.jobTemplate.spec");
    let [containers, images] = template::cells(walk::at(job, "template"));
    vec![
        json!(walk::text(cron_job, "metadata.name")),
        json!(walk::text(cron_job, "spec.schedule")),
        json!(
            walk::at(cron_job, "spec.timeZone")
                .as_str()
                .unwrap_or("<none>")
        ),
        json!(suspend),
        json!(walk::list(cron_job, "status.active").len()),
        json!(last),
        age(cron_job, now_seconds),
        containers,
        images,
        scale::selector_cell(walk::at(job, "selector")),
    ]
}
