//! Content negotiation: which form an answer takes, which format a body has. Encodes nothing.

use knarr_api::{
    status::{Details, Status},
    table::Version,
};

use crate::request::Query;

const REPRESENTATIONS: &str =
    "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const STREAM_REPRESENTATIONS: &str =
    "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// Media ranges up to which Go sorts by insertion.
const RANGES_ORDERED_MAX: usize = 12;

/// The shape of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Table(Version),
    /// `PartialObjectMetadata`, of one object.
    Metadata(Version),
    /// `PartialObjectMetadataList`, of a list.
    MetadataList(Version),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    /// Over many lines, for people.
    IndentedJson,
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
    main: &'a str,
    sub: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Range<'_> {
    fn goes_before(&self, other: &Range<'_>) -> bool {
        self.quality > other.quality
            || self.main != "*" && other.main == "*"
            || self.sub != "*" && other.sub == "*"
    }

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
    if !header.split(',').any(is_routed) {
        return Err(not_representable(produces));
    }
    let chosen = ranges(header).iter().find_map(|range| {
        Some(Accepted {
            encoding: encoding(range)?,
            form: form(range)?,
        })
    });
    chosen.ok_or_else(|| {
        let text = format!("only the following media types are accepted: {REPRESENTATIONS}");
        Status::failure(406, "NotAcceptable", text)
    })
}

/// Whether go-restful lets a media range through; it knows no `application/*`.
fn is_routed(range: &str) -> bool {
    let media_type = range.split(';').next().unwrap_or_default();
    let served = [
        "*/*",
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
    ];
    served.contains(&media_type.trim_matches(' '))
}

/// How a Status is written for a client that accepts `header`: as JSON if it accepts nothing.
pub(crate) fn of_statuses(header: Option<&str>) -> Encoding {
    let plain = |range: &Range<'_>| form(range) == Some(Form::Object);
    ranges(header.unwrap_or_default())
        .iter()
        .filter(|range| plain(range))
        .find_map(encoding)
        .unwrap_or(Encoding::Json)
}

/// How a document is written that has one form only.
///
/// # Errors
/// 406 when nothing the client accepts can be served.
pub(crate) fn plain(header: Option<&str>) -> Result<Encoding, Status> {
    let accepted = accept(header, Produces::Objects)?;
    match accepted.form {
        Form::Object => Ok(accepted.encoding),
        Form::Table(_) | Form::Metadata(_) | Form::MetadataList(_) => Ok(of_statuses(header)),
    }
}

/// JSON is indented for those who ask for it and for programs that people use by hand.
pub(crate) fn laid_out(encoding: Encoding, query: &Query, user_agent: Option<&str>) -> Encoding {
    if encoding != Encoding::Json {
        return encoding;
    }
    let indents = match query.text("pretty") {
        Some(text) => ["1", "t", "T", "TRUE", "true", "True"].contains(&text),
        None => {
            let agent = user_agent.unwrap_or_default();
            let by_hand = ["curl", "Wget", "Mozilla/5.0"];
            by_hand.iter().any(|program| agent.starts_with(program))
        }
    };
    if indents {
        Encoding::IndentedJson
    } else {
        Encoding::Json
    }
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
        .filter(|range| encoding(range) == Some(Encoding::Json))
        .find(|range| range.parameter("as").is_none() || aggregated(range))
        .is_some_and(aggregated)
}

/// The media ranges of a header, the most wanted first, with the leniency and in the order of Go's `goautoneg`.
fn ranges(header: &str) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = header.split(',').filter_map(range).collect();
    if ranges.len() > RANGES_ORDERED_MAX {
        ranges.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        return ranges;
    }
    // The order is none in the strict sense, so that the algorithm decides too: insertion, as Go sorts few.
    for end in 1..ranges.len() {
        for at in (1..=end).rev() {
            let (Some(range), Some(before)) = (ranges.get(at), ranges.get(at - 1)) else {
                break;
            };
            if !range.goes_before(before) {
                break;
            }
            ranges.swap(at, at - 1);
        }
    }
    ranges
}

/// `None` for what Go passes over.
fn range(text: &str) -> Option<Range<'_>> {
    let mut pieces = text.split(';');
    let media_type = pieces.next()?.trim_matches(' ');
    let (main, sub) = match media_type.split_once('/') {
        Some((main, sub)) if !sub.is_empty() && !sub.contains('/') => (main, sub),
        None if media_type == "*" => ("*", "*"),
        _ => return None,
    };
    let mut quality = 1.0;
    let mut parameters = Vec::new();
    for (name, value) in pieces.filter_map(|piece| piece.split_once('=')) {
        if value.is_empty() || value.contains('=') {
            continue;
        }
        match name.trim_matches(' ') {
            "q" => quality = value.parse().unwrap_or(0.0),
            name => parameters.push((name, value.trim_matches(' '))),
        }
    }
    Some(Range {
        main: main.trim_matches(' '),
        sub: sub.trim_matches(' '),
        quality,
        parameters,
    })
}

fn encoding(range: &Range<'_>) -> Option<Encoding> {
    match (range.main, range.sub) {
        ("*" | "application", "*") | ("application", "json") => {
            let indented = range.parameter("pretty") == Some("1");
            Some(if indented {
                Encoding::IndentedJson
            } else {
                Encoding::Json
            })
        }
        ("application", "yaml") => Some(Encoding::Yaml),
        _ => None,
    }
}

fn form(range: &Range<'_>) -> Option<Form> {
    let fits = |name: &str, served: &str| range.parameter(name).is_none_or(|v| v == served);
    if !fits("stream", "watch") || !fits("sv", "v1") {
        return None;
    }
    let target = ["as", "g", "v"].map(|name| range.parameter(name));
    if target == [None; 3] {
        return Some(Form::Object);
    }
    let [Some(wanted), Some("meta.k8s.io"), Some(version)] = target else {
        return None;
    };
    let version = match version {
        "v1" => Version::V1,
        "v1beta1" => Version::V1beta1,
        _ => return None,
    };
    match wanted {
        "Table" => Some(Form::Table(version)),
        "PartialObjectMetadata" => Some(Form::Metadata(version)),
        "PartialObjectMetadataList" => Some(Form::MetadataList(version)),
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

/// 406 for a watch in an encoding that has no streams.
pub(crate) fn not_streamable() -> Status {
    let text = format!("only the following media types are accepted: {STREAM_REPRESENTATIONS}");
    Status::failure(406, "NotAcceptable", text)
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
    fn ranges_are_ordered_as_go_orders_them() {
        let check = |header: &str, encoding: Encoding| {
            assert_eq!(chosen(header), Ok((Form::Object, encoding)), "{header}");
        };
        check("*/*, application/yaml", Encoding::Yaml);
        check("*/*;q=0.8, application/yaml;q=0.5", Encoding::Yaml);
        check("application/json;q=0.4, application/yaml", Encoding::Yaml);
        check(
            "application/json;q=x, application/yaml;q=0.1",
            Encoding::Yaml,
        );
        check("application/json;pretty=1", Encoding::IndentedJson);
        check(
            "application/json;sv=v2, application/yaml;sv=v1",
            Encoding::Yaml,
        );
        check(
            "application/json;stream=x, application/yaml;stream=watch",
            Encoding::Yaml,
        );
        assert!(chosen("application/*").is_err());
        assert!(chosen("application/json;g=meta.k8s.io").is_err());
    }

    #[test]
    fn failures_are_written_as_the_client_reads() {
        let check = |header: &str, expected: Encoding| {
            assert_eq!(of_statuses(Some(header)), expected, "{header}");
        };
        check("application/yaml", Encoding::Yaml);
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io, application/yaml",
            Encoding::Yaml,
        );
        check("application/xml", Encoding::Json);
        check("", Encoding::Json);
    }

    #[test]
    fn people_get_indented_json() {
        let check = |query: &str, agent: &str, expected: Encoding| {
            let query = Query::parse(query);
            assert_eq!(laid_out(Encoding::Json, &query, Some(agent)), expected);
        };
        check("", "curl/8.0", Encoding::IndentedJson);
        check("", "kubectl/v1.37.0", Encoding::Json);
        check("pretty=true", "kubectl/v1.37.0", Encoding::IndentedJson);
        check("pretty=0", "Mozilla/5.0 (X11)", Encoding::Json);
        check("pretty=yes", "Wget/1.0", Encoding::Json);
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
