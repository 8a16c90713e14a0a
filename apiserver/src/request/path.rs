//! Request paths: `/apis/apps/v1/namespaces/shop/deployments/web/scale` taken apart.

use http::Method;

use super::query::{Query, percent_decode};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Route {
    /// `/`
    Root,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1` and `/apis/GROUP/VERSION`
    Version { group: String, version: String },
    /// Anything below a group and version.
    Resource(RequestInfo),
    /// `/version`, `/healthz/ping`, `/openapi/v3/…` and the unknown, without the first slash.
    Plain(String),
}

/// A request for objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RequestInfo {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    /// Empty for cluster-wide requests.
    pub(crate) namespace: String,
    /// Empty for requests for a collection.
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// What follows the subresource, for proxies; starts with a slash if not empty.
    pub(crate) tail: String,
    /// The path is of the old form `/api/v1/watch/…`.
    pub(crate) prefix: Prefix,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Prefix {
    #[default]
    None,
    Watch,
}

/// What a request does, in the words of discovery and authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

impl RequestInfo {
    /// `None` for a method no API request uses.
    pub(crate) fn verb(&self, method: &Method, query: &Query) -> Option<Verb> {
        let single = !self.name.is_empty();
        let watch = query.flag("watch") == Some(true);
        match *method {
            Method::GET | Method::HEAD if self.prefix == Prefix::Watch => Some(Verb::Watch),
            Method::GET | Method::HEAD if single => Some(Verb::Get),
            Method::GET | Method::HEAD if watch => Some(Verb::Watch),
            Method::GET | Method::HEAD => Some(Verb::List),
            Method::POST => Some(Verb::Create),
            Method::PUT => Some(Verb::Update),
            Method::PATCH => Some(Verb::Patch),
            Method::DELETE if single => Some(Verb::Delete),
            Method::DELETE => Some(Verb::DeleteCollection),
            _ => None,
        }
    }
}

/// Takes a path apart; it never fails, unknown paths are [`Route::Plain`].
pub(crate) fn parse(path: &str) -> Route {
    let trimmed = path.trim_start_matches('/');
    let segments: Vec<&str> = trimmed.trim_end_matches('/').split('/').collect();
    match segments.as_slice() {
        [""] => Route::Root,
        ["api"] => Route::CoreVersions,
        ["apis"] => Route::Groups,
        ["apis", group] => Route::Group(percent_decode(group)),
        ["api", version] => Route::Version {
            group: String::new(),
            version: percent_decode(version),
        },
        ["apis", group, version] => Route::Version {
            group: percent_decode(group),
            version: percent_decode(version),
        },
        ["api", version, rest @ ..] => resource("", version, rest, path),
        ["apis", group, version, rest @ ..] => resource(group, version, rest, path),
        _ => Route::Plain(trimmed.to_owned()),
    }
}

fn resource(group: &str, version: &str, rest: &[&str], path: &str) -> Route {
    let (prefix, rest) = match rest {
        ["watch", below @ ..] if !below.is_empty() => (Prefix::Watch, below),
        _ => (Prefix::None, rest),
    };
    let mut info = RequestInfo {
        group: percent_decode(group),
        version: percent_decode(version),
        prefix,
        ..RequestInfo::default()
    };
    let below = match rest {
        // A namespace itself and its two subresources, not an object inside it.
        ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => rest,
        ["namespaces", namespace, below @ ..] => {
            info.namespace = percent_decode(namespace);
            below
        }
        _ => rest,
    };
    let mut parts = below.iter();
    let mut next = || parts.next().map(|part| percent_decode(part));
    info.resource = next().unwrap_or_default();
    info.name = next().unwrap_or_default();
    info.subresource = next().unwrap_or_default();
    if info.resource == "namespaces" && info.namespace.is_empty() {
        info.namespace.clone_from(&info.name);
    }
    if below.len() >= 3 {
        info.tail = tail(path, below.len() - 3);
    }
    Route::Resource(info)
}

/// The last `count` segments of a path as they were sent, with a final slash if there was one.
fn tail(path: &str, count: usize) -> String {
    let closing = if path.ends_with('/') { "/" } else { "" };
    if count == 0 {
        return closing.to_owned();
    }
    let body = path.trim_end_matches('/');
    let start = body
        .rmatch_indices('/')
        .nth(count - 1)
        .map_or(0, |(at, _)| at);
    format!("{}{closing}", body.get(start..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, group: &str, expected: [&str; 5]) {
        let Route::Resource(info) = parse(path) else {
            panic!("{path} leads to no resource");
        };
        let RequestInfo {
            group: found,
            namespace,
            resource,
            name,
            subresource,
            tail,
            ..
        } = info;
        assert_eq!(found, group, "{path}");
        assert_eq!([namespace, resource, name, subresource, tail], expected);
    }

    #[test]
    fn paths_name_namespace_resource_name_and_subresource() {
        check("/api/v1/pods", "", ["", "pods", "", "", ""]);
        check(
            "/api/v1/nodes/a/status",
            "",
            ["", "nodes", "a", "status", ""],
        );
        check(
            "/api/v1/namespaces/n/pods/p/log",
            "",
            ["n", "pods", "p", "log", ""],
        );
        check(
            "/apis/apps/v1/namespaces/n/deployments",
            "apps",
            ["n", "deployments", "", "", ""],
        );
    }

    #[test]
    fn a_namespace_is_an_object_in_itself() {
        check("/api/v1/namespaces", "", ["", "namespaces", "", "", ""]);
        check("/api/v1/namespaces/n", "", ["n", "namespaces", "n", "", ""]);
        check(
            "/api/v1/namespaces/n/finalize",
            "",
            ["n", "namespaces", "n", "finalize", ""],
        );
    }

    #[test]
    fn a_proxy_path_keeps_what_follows_as_it_was_sent() {
        let services = "/api/v1/namespaces/n/services";
        check(
            &format!("{services}/https:web:443/proxy/a%20b/c/"),
            "",
            ["n", "services", "https:web:443", "proxy", "/a%20b/c/"],
        );
        check(
            &format!("{services}/web/proxy"),
            "",
            ["n", "services", "web", "proxy", ""],
        );
        check(
            &format!("{services}/web/proxy/"),
            "",
            ["n", "services", "web", "proxy", "/"],
        );
    }

    #[test]
    fn collections_are_listed_or_watched_and_objects_read() {
        let verb = |path: &str, method: Method, query: &str| match parse(path) {
            Route::Resource(info) => info.verb(&method, &Query::parse(query)),
            _ => None,
        };
        assert_eq!(verb("/api/v1/pods", Method::GET, ""), Some(Verb::List));
        assert_eq!(
            verb("/api/v1/pods", Method::GET, "watch=true"),
            Some(Verb::Watch)
        );
        assert_eq!(
            verb("/api/v1/watch/pods", Method::GET, ""),
            Some(Verb::Watch)
        );
        assert_eq!(
            verb("/api/v1/nodes/a", Method::GET, "watch=true"),
            Some(Verb::Get)
        );
        assert_eq!(
            verb("/api/v1/nodes", Method::DELETE, ""),
            Some(Verb::DeleteCollection)
        );
        assert_eq!(verb("/api/v1/nodes", Method::OPTIONS, ""), None);
    }

    #[test]
    fn other_paths_lead_to_discovery_or_nowhere() {
        assert_eq!(parse("/"), Route::Root);
        assert_eq!(parse("/apis/"), Route::Groups);
        assert_eq!(parse("/apis/apps"), Route::Group("apps".into()));
        assert_eq!(parse("/livez/ping"), Route::Plain("livez/ping".into()));
    }
}
