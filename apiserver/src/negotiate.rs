//! Content negotiation: which form an answer takes, which format a body has. Encodes nothing.

use knarr_api::{
    status::{Details, Status},
    table::Version,
};

const REPRESENTATIONS: &str =
    "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const STREAM_REPRESENTATIONS: &str =
    "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// The shape of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Table(Version),
    /// `PartialObjectMetadata` or its list.
    Metadata(Version),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
}

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) form: Form,
    pub(crate) encoding: Encoding,
}

impl Accepted {
    pub(crate) const JSON: Accepted = Accepted {
        form: Form::Object,
        encoding: Encoding::Json,
    };
}

/// What a route can answer with, for the text of a 406.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Produces {
    Objects,
    ObjectsAndStreams,
}

/// One media range of an Accept header.
struct Range<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Range<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| *value)
    }
}

/// Chooses form and encoding.
///
/// # Errors
/// 406 when nothing the client accepts can be served.
pub(crate) fn accept(header: Option<&str>, produces: Produces) -> Result<Accepted, Status> {
    let Some(header) = header.filter(|h| !h.trim().is_empty()) else {
        return Ok(Accepted::JSON);
    };
    let ranges = ranges(header);
    let known = |range: &Range<'_>| {
        let served = [
            "*/*",
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ];
        served.contains(&range.media_type)
    };
    if !ranges.iter().any(known) {
        return Err(not_representable(produces));
    }
    let chosen = ranges.iter().find_map(|range| {
        Some(Accepted {
            encoding: encoding(range.media_type)?,
            form: form(range)?,
        })
    });
    chosen.ok_or_else(|| {
        let text = format!("only the following media types are accepted: {REPRESENTATIONS}");
        Status::failure(406, "NotAcceptable", text)
    })
}

/// Whether a client of `/api` and `/apis` reads aggregated discovery.
pub(crate) fn accepts_aggregated_discovery(header: Option<&str>) -> bool {
    let ranges = ranges(header.unwrap_or_default());
    let aggregated = |range: &Range<'_>| {
        range.parameter("as") == Some("APIGroupDiscoveryList")
            && range.parameter("g") == Some("apidiscovery.k8s.io")
            && range.parameter("v") == Some("v2")
    };
    ranges
        .iter()
        .filter(|range| encoding(range.media_type) == Some(Encoding::Json))
        .find(|range| range.parameter("as").is_none() || aggregated(range))
        .is_some_and(aggregated)
}

/// The media ranges of a header, the most wanted first.
fn ranges(header: &str) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = header
        .split(',')
        .map(|part| {
            let mut pieces = part.split(';').map(str::trim);
            Range {
                media_type: pieces.next().unwrap_or_default(),
                parameters: pieces.filter_map(|p| p.split_once('=')).collect(),
            }
        })
        .collect();
    let quality = |range: &Range<'_>| {
        let q: f32 = range
            .parameter("q")
            .and_then(|q| q.parse().ok())
            .unwrap_or(1.0);
        std::cmp::Reverse((q.clamp(0.0, 1.0) * 1000.0) as u32)
    };
    ranges.sort_by_key(quality);
    ranges
}

fn encoding(media_type: &str) -> Option<Encoding> {
    match media_type {
        "*/*" | "application/*" | "application/json" => Some(Encoding::Json),
        "application/yaml" => Some(Encoding::Yaml),
        _ => None,
    }
}

fn form(range: &Range<'_>) -> Option<Form> {
    let Some(wanted) = range.parameter("as") else {
        return Some(Form::Object);
    };
    let version = match range.parameter("v")? {
        "v1" => Version::V1,
        "v1beta1" => Version::V1beta1,
        _ => return None,
    };
    if range.parameter("g") != Some("meta.k8s.io") {
        return None;
    }
    match wanted {
        "Table" => Some(Form::Table(version)),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Form::Metadata(version)),
        _ => None,
    }
}

fn not_representable(produces: Produces) -> Status {
    let available = match produces {
        Produces::Objects => REPRESENTATIONS.to_owned(),
        Produces::ObjectsAndStreams => format!("{REPRESENTATIONS}, {STREAM_REPRESENTATIONS}"),
    };
    let message = format!("406: Not Acceptable\n\nAvailable representations: {available}");
    Status::failure(406, "NotAcceptable", message).with_details(Details::default())
}

/// The format of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    Json,
    Yaml,
    Protobuf,
}

/// Reads the format off a Content-Type header.
///
/// # Errors
/// 415 for anything but JSON, YAML and protobuf.
pub(crate) fn body_format(content_type: Option<&str>) -> Result<BodyFormat, Status> {
    match media_type(content_type).as_str() {
        "" | "application/json" => Ok(BodyFormat::Json),
        "application/yaml" => Ok(BodyFormat::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(BodyFormat::Protobuf),
        _ => Err(Status::failure(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - \
                 accepted media types include: {REPRESENTATIONS}"
            ),
        )),
    }
}

/// The media type of a Content-Type header without its parameters.
pub(crate) fn media_type(content_type: Option<&str>) -> String {
    let content_type = content_type.unwrap_or_default();
    let bare = content_type.split(';').next().unwrap_or_default();
    bare.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(header: &str) -> Result<(Form, Encoding), String> {
        accept(Some(header), Produces::Objects)
            .map(|accepted| (accepted.form, accepted.encoding))
            .map_err(|status| status.message)
    }

    #[test]
    fn the_first_form_that_can_be_served_is_chosen() {
        let check = |header: &str, form: Form, encoding: Encoding| {
            assert_eq!(chosen(header), Ok((form, encoding)), "{header}");
        };
        check("application/json, */*", Form::Object, Encoding::Json);
        check("text/html,*/*;q=0.1", Form::Object, Encoding::Json);
        check("application/yaml", Form::Object, Encoding::Yaml);
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            Form::Table(Version::V1),
            Encoding::Json,
        );
        check(
            "application/vnd.kubernetes.protobuf,application/json",
            Form::Object,
            Encoding::Json,
        );
        check(
            "application/json;q=0.1;as=Table;v=v1;g=meta.k8s.io, application/yaml;q=0.5",
            Form::Object,
            Encoding::Yaml,
        );
    }

    #[test]
    fn what_cannot_be_served_is_not_acceptable() {
        let text = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
        assert_eq!(
            chosen("application/xml"),
            Err(format!(
                "406: Not Acceptable\n\nAvailable representations: {text}"
            ))
        );
        assert_eq!(
            chosen("application/json;as=Table;v=v1;g=other.group"),
            Err(format!(
                "only the following media types are accepted: {text}"
            ))
        );
    }

    #[test]
    fn aggregated_discovery_is_served_when_preferred() {
        let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let check = |header: &str, expected: bool| {
            assert_eq!(accepts_aggregated_discovery(Some(header)), expected);
        };
        check(&format!("{aggregated},application/json"), true);
        check(&format!("application/json,{aggregated}"), false);
        check(
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,*/*",
            false,
        );
        check("", false);
    }

    #[test]
    fn bodies_are_json_yaml_or_protobuf() {
        let check = |content_type: Option<&str>, expected: Option<BodyFormat>| {
            assert_eq!(body_format(content_type).ok(), expected);
        };
        check(None, Some(BodyFormat::Json));
        check(
            Some("application/YAML; charset=utf-8"),
            Some(BodyFormat::Yaml),
        );
        check(
            Some("application/vnd.kubernetes.protobuf"),
            Some(BodyFormat::Protobuf),
        );
        check(Some("text/plain"), None);
    }
}
