//! Options of create, update and patch.

use knarr_api::{
    field::{Error, Path},
    patch::Format,
    status::Status,
};

use super::{DryRun, check, field_manager_errors};
use crate::request::Query;

/// What to do about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: DryRun,
    pub(crate) field_manager: Option<String>,
    pub(crate) field_validation: FieldValidation,
    pub(crate) force: bool,
}

impl WriteOptions {
    pub(crate) fn for_create(query: &Query) -> Result<Self, Status> {
        Self::read(query, "CreateOptions", Vec::new())
    }

    pub(crate) fn for_update(query: &Query) -> Result<Self, Status> {
        Self::read(query, "UpdateOptions", Vec::new())
    }

    pub(crate) fn for_patch(query: &Query, patch: Format) -> Result<Self, Status> {
        let mut errors = Vec::new();
        if patch != Format::Apply && query.flag("force").is_some() {
            let detail = "may not be specified for non-apply patch";
            errors.push(Error::forbidden(&Path::new("force"), detail));
        }
        if patch == Format::Apply && query.text("fieldManager").is_none() {
            let path = Path::new("fieldManager");
            errors.push(Error::required(&path, "is required for apply patch"));
        }
        Self::read(query, "PatchOptions", errors)
    }

    fn read(query: &Query, kind: &str, mut errors: Vec<Error>) -> Result<Self, Status> {
        let field_manager = query.text("fieldManager").map(str::to_owned);
        errors.extend(field_manager_errors(field_manager.as_deref().unwrap_or("")));
        let values: Vec<String> = query.all("dryRun").map(str::to_owned).collect();
        let dry_run = DryRun::read(&values, &mut errors);
        let field_validation = match query.text("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                let path = Path::new("fieldValidation");
                errors.push(Error::not_supported(&path, other, &supported));
                FieldValidation::Warn
            }
        };
        check(kind, &errors)?;
        Ok(WriteOptions {
            dry_run,
            field_manager,
            field_validation,
            force: query.flag("force") == Some(true),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_option_values_are_refused() {
        let message = |outcome: Result<WriteOptions, Status>| {
            outcome
                .err()
                .map(|status| status.message)
                .unwrap_or_default()
        };
        let create = |query: &str| message(WriteOptions::for_create(&Query::parse(query)));
        assert_eq!(create("dryRun=All&fieldValidation=Strict"), "");
        assert_eq!(
            create("dryRun=true"),
            "CreateOptions.meta.k8s.io \"\" is invalid: \
             dryRun: Unsupported value: [\"true\"]: supported values: \"All\""
        );
        assert_eq!(
            create("fieldManager=a%07b"),
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: \
             Invalid value: \"a\\ab\": invalid character U+0007 (at position 1)"
        );
    }

    #[test]
    fn apply_needs_a_manager_and_only_apply_can_be_forced() {
        let patch = |query: &str, patch| WriteOptions::for_patch(&Query::parse(query), patch);
        assert!(patch("fieldManager=a&force=true", Format::Apply).is_ok());
        assert_eq!(patch("", Format::Apply).unwrap_err().code, 422);
        assert_eq!(patch("force=true", Format::Merge).unwrap_err().code, 422);
    }
}
