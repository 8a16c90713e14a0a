//! PATCH in its four forms.

use knarr_api::{
    apply::{Force, KUBECTL, renew_last_applied},
    decode, go,
    kind::Kind,
    meta,
    patch::{self as patches, Format},
    status::{Details, Status},
};
use serde_json::Value;

use super::{Part, Writer, Written, identity, update::Proposal};
use crate::{
    call::Call,
    negotiate,
    request::options::{FieldValidation, WriteOptions},
    respond::Reply,
};

/// A patch as it came.
pub(crate) struct Patch {
    format: Format,
    document: Value,
    /// Duplicate fields in the patch itself.
    problems: Vec<String>,
    validation: FieldValidation,
    force: Force,
}

impl Patch {
    pub(crate) fn read(call: &Call, body: &[u8]) -> Result<(Self, WriteOptions), Status> {
        let format = format_of(call.content_type())?;
        let options = WriteOptions::for_patch(&call.query, format)?;
        let parsed = patches::parse(format, body)?;
        let patch = Patch {
            format,
            document: parsed.patch,
            problems: parsed.problems,
            validation: options.field_validation,
            force: if options.force { Force::Yes } else { Force::No },
        };
        Ok((patch, options))
    }

    pub(crate) fn is_apply(&self) -> bool {
        self.format == Format::Apply
    }

    /// What a strict reader has to say of a configuration that could be applied.
    fn check_applied(&self, warnings: &mut Vec<String>) -> Result<(), Status> {
        match self.validation {
            FieldValidation::Strict if !self.problems.is_empty() => {
                let problems = self.problems.join(", ");
                let text = format!("error strict decoding YAML: {problems}");
                return Err(Status::bad_request(text));
            }
            FieldValidation::Warn => warnings.extend(self.problems.iter().cloned()),
            FieldValidation::Strict | FieldValidation::Ignore => {}
        }
        Ok(())
    }

    /// The patched object, checked as a decoder would.
    pub(crate) fn outcome(
        &self,
        kind: &Kind,
        old: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let mut new = old.clone();
        self.apply(kind, &mut new)?;
        let mut problems = self.problems.clone();
        let shown = if self.format == Format::Strategic {
            // It goes by the type of the stored object, whatever the patch says, and its errors show the patch.
            let shown = go::value(&self.document);
            let unknown = decode::check_unstructured(kind, &mut new);
            problems.extend(unknown.map_err(|text| decode::undecodable(&shown, &text))?);
            shown
        } else {
            let shown = new.to_string();
            decode::check_type(kind, &new).map_err(|text| decode::undecodable(&shown, &text))?;
            problems.extend(decode::check(kind, &mut new)?);
            shown
        };
        match self.validation {
            FieldValidation::Strict if !problems.is_empty() => {
                let text = format!("strict decoding error: {}", problems.join(", "));
                return Err(decode::undecodable(&shown, &text));
            }
            FieldValidation::Warn => warnings.extend(problems),
            FieldValidation::Strict | FieldValidation::Ignore => {}
        }
        Ok(new)
    }

    /// Changes `target` as the patch says; an apply counts as a merge here.
    fn apply(&self, kind: &Kind, target: &mut Value) -> Result<(), Status> {
        match self.format {
            Format::Json => patches::json_patch(target, &self.document),
            Format::Strategic => patches::strategic(kind, target, &self.document),
            Format::Merge if self.document.is_null() => {
                Err(Status::bad_request("Invalid JSON Patch"))
            }
            Format::Merge | Format::Apply => {
                patches::merge(target, &self.document);
                Ok(())
            }
        }
    }
}

/// PATCH of an object or a part of it.
pub(crate) async fn patch(
    call: &mut Call,
    kind: &'static Kind,
    part: Part,
) -> Result<Reply, Status> {
    call.check_writable_place(kind)?;
    format_of(call.content_type())?;
    let bytes = call.read_body().await?;
    let (patch, options) = Patch::read(call, &bytes)?;
    let name = call.info.name.clone();
    let mut writer = Writer::new(call, kind, part, &options);
    let outcome = writer.patch(&name, &patch).await;
    let warnings = writer.warnings;
    super::finish(call, kind, warnings, outcome)
}

/// The form of a patch by its content type.
fn format_of(content_type: Option<&str>) -> Result<Format, Status> {
    match negotiate::media_type(content_type).as_str() {
        "application/json-patch+json" => Ok(Format::Json),
        "application/merge-patch+json" => Ok(Format::Merge),
        "application/strategic-merge-patch+json" => Ok(Format::Strategic),
        "application/apply-patch+yaml" => Ok(Format::Apply),
        _ => Err(
            Status::failure(415, "UnsupportedMediaType", "415: Unsupported Media Type")
                .with_details(Details::default()),
        ),
    }
}

impl Writer<'_> {
    async fn patch(&mut self, name: &str, patch: &Patch) -> Result<Written, Status> {
        let kind = self.kind;
        let namespace = self.namespace.to_owned();
        let mut warnings = Vec::new();
        let applier = self.without_warnings();
        let outcome = self
            .replace(name, |old| {
                warnings.clear();
                if patch.format == Format::Apply {
                    let merged = applier.applied(name, old, patch)?;
                    patch.check_applied(&mut warnings)?;
                    return Ok(Proposal::Tracked(merged));
                }
                let old = old.ok_or_else(|| Status::not_found(kind, name))?;
                let mut new = patch.outcome(kind, old, &mut warnings)?;
                (kind.strategy.default)(&mut new);
                identity::check_namespace(&mut new, &namespace)?;
                identity::check_name(&new, name)?;
                Ok(Proposal::Untracked(new))
            })
            .await;
        self.warnings.append(&mut warnings);
        outcome
    }

    /// The same writer, for use beside itself.
    pub(crate) fn without_warnings(&self) -> Self {
        Writer {
            warnings: Vec::new(),
            ..*self
        }
    }

    fn applied(&self, name: &str, old: Option<&Value>, patch: &Patch) -> Result<Value, Status> {
        if old.is_none() && self.part != Part::Object {
            return Err(Status::not_found(self.kind, name));
        }
        let mut applied = patch.document.clone();
        self.leave_out_foreign_parts(&mut applied);
        let mut merged = self.merged(self.kind, old, &applied, patch)?;
        if self.manager == KUBECTL {
            // The record is of what was sent, the parts left out included.
            renew_last_applied(&mut merged, &patch.document);
        }
        let uid = meta::uid(&merged);
        if old.is_none() && !uid.is_empty() {
            let detail = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Status::conflict(self.kind, name, &detail));
        }
        identity::check_namespace(&mut merged, self.namespace)?;
        identity::check_name(&merged, name)?;
        (self.kind.strategy.default)(&mut merged);
        Ok(merged)
    }

    /// What an apply makes of something shown of an object, such as its Scale.
    pub(crate) fn applied_over(
        &self,
        kind: &'static Kind,
        shown: &Value,
        patch: &Patch,
    ) -> Result<Value, Status> {
        let mut merged = self.merged(kind, Some(shown), &patch.document, patch)?;
        identity::check_namespace(&mut merged, self.namespace)?;
        identity::check_name(&merged, meta::name(shown))?;
        Ok(merged)
    }

    fn merged(
        &self,
        kind: &Kind,
        old: Option<&Value>,
        applied: &Value,
        patch: &Patch,
    ) -> Result<Value, Status> {
        self.with_manager(|manager| {
            knarr_api::apply::apply(kind, old, applied, manager, patch.force)
        })
    }

    /// What an apply says of parts that this request cannot change is neither applied nor owned.
    fn leave_out_foreign_parts(&self, applied: &mut Value) {
        let Some(fields) = applied.as_object_mut() else {
            return;
        };
        match self.part {
            Part::Object if self.kind.has_subresource("status") => {
                fields.remove("status");
            }
            Part::Status => {
                let own = ["apiVersion", "kind", "metadata", "status"];
                fields.retain(|name, _| own.contains(&name.as_str()));
            }
            Part::Object | Part::Finalizers | Part::Scale | Part::Resize => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_content_types_are_patches() {
        let check = |content_type: &str, expected: Option<Format>| {
            assert_eq!(format_of(Some(content_type)).ok(), expected);
        };
        check("application/json-patch+json", Some(Format::Json));
        check(
            "application/merge-patch+json; charset=utf-8",
            Some(Format::Merge),
        );
        check("application/apply-patch+yaml", Some(Format::Apply));
        check("application/json", None);
        check("", None);
    }
}
