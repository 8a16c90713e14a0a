//! Request paths: `/apis/apps/v1/namespaces/shop/deployments/web/scale` taken apart.

use http::Method;

use super::query::{Query, path_encode, percent_decode};

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
    /// `/api/v1/watch` or `/api/v1/proxy`: what to do, and not with what.
    VerbAlone,
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
    /// What a method asks for that no verb stands for; only a proxy passes it on.
    Unnamed,
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
            Verb::Unnamed => "",
        }
    }
}

impl RequestInfo {
    pub(crate) fn verb(&self, method: &Method, query: &Query) -> Verb {
        let single = !self.name.is_empty();
        let watch = query.flag("watch") == Some(true);
        match *method {
            Method::GET | Method::HEAD if self.prefix == Prefix::Watch => Verb::Watch,
            _ if self.prefix == Prefix::Watch => Verb::Unnamed,
            Method::GET | Method::HEAD if single => Verb::Get,
            Method::GET | Method::HEAD if watch => Verb::Watch,
            Method::GET | Method::HEAD => Verb::List,
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE if single => Verb::Delete,
            Method::DELETE => Verb::DeleteCollection,
            _ => Verb::Unnamed,
        }
    }
}

/// Takes a path apart; it never fails, unknown paths are [`Route::Plain`].
///
/// As in Go, escapes are resolved before anything else is: `%2F` parts as `/` does.
pub(crate) fn parse(path: &str) -> Route {
    let path = &percent_decode(path);
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let is_astray = path.starts_with("//");
    match segments.as_slice() {
        ["api", _, "watch" | "proxy"] | ["apis", _, _, "watch" | "proxy"] => Route::VerbAlone,
        ["api", version, rest @ ..] if !rest.is_empty() => resource("", version, rest, path),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => {
            resource(group, version, rest, path)
        }
        _ if is_astray => Route::Plain(path.strip_prefix('/').unwrap_or(path).to_owned()),
        [""] => Route::Root,
        ["api"] => Route::CoreVersions,
        ["apis"] => Route::Groups,
        ["apis", group] => Route::Group((*group).to_owned()),
        ["api", version] => Route::Version {
            group: String::new(),
            version: (*version).to_owned(),
        },
        ["apis", group, version] => Route::Version {
            group: (*group).to_owned(),
            version: (*version).to_owned(),
        },
        _ => Route::Plain(path.strip_prefix('/').unwrap_or(path).to_owned()),
    }
}

fn resource(group: &str, version: &str, rest: &[&str], path: &str) -> Route {
    let (prefix, rest) = match rest {
        ["watch", below @ ..] => (Prefix::Watch, below),
        _ => (Prefix::None, rest),
    };
    let mut info = RequestInfo {
        group: group.to_owned(),
        version: version.to_owned(),
        prefix,
        ..RequestInfo::default()
    };
    let below = match rest {
        // A namespace itself and its two subresources, not an object inside it.
        ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => rest,
        ["namespaces", namespace, below @ ..] => {
            info.namespace = (*namespace).to_owned();
            below
        }
        _ => rest,
    };
    let mut parts = below.iter();
    let mut next = || {
        parts
            .next()
            .map_or_else(String::new, |part| (*part).to_owned())
    };
    info.resource = next();
    info.name = next();
    info.subresource = next();
    if info.resource == "namespaces" && info.namespace.is_empty() {
        info.namespace.clone_from(&info.name);
    }
    if below.len() >= 3 {
        info.tail = tail(path, below.len() - 3);
    }
    Route::Resource(info)
}

/// The last `count` segments of a path, with a final slash if there was one, escaped as Go escapes a path.
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
    let below = path_encode(body.get(start..).unwrap_or_default());
    format!("{below}{closing}")
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
            Route::Resource(info) => Some(info.verb(&method, &Query::parse(query))),
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
        for (path, method) in [
            ("/api/v1/nodes", Method::OPTIONS),
            ("/api/v1/watch/nodes", Method::POST),
        ] {
            assert_eq!(verb(path, method, ""), Some(Verb::Unnamed));
        }
    }

    #[test]
    fn an_escaped_slash_parts_as_any_other() {
        check("/api/v1/namespaces/n%2Fpods", "", ["n", "pods", "", "", ""]);
        check(
            "/api/v1/namespaces/n/pods/a%2Flog",
            "",
            ["n", "pods", "a", "log", ""],
        );
        check("/api/v1/pods/a%20b%00", "", ["", "pods", "a b\0", "", ""]);
        check("/api/v1//pods", "", ["", "", "pods", "", ""]);
        check(
            "/api/v1/nodes/n/proxy/a%2Fb%3F%C3%A9!;d",
            "",
            ["", "nodes", "n", "proxy", "/a/b%3F%C3%A9%21;d"],
        );
    }

    #[test]
    fn other_paths_lead_to_discovery_or_nowhere() {
        assert_eq!(parse("/"), Route::Root);
        assert_eq!(parse("/apis/"), Route::Groups);
        assert_eq!(parse("/apis/apps"), Route::Group("apps".into()));
        assert_eq!(parse("/livez/ping"), Route::Plain("livez/ping".into()));
        assert_eq!(parse("//livez/"), Route::Plain("/livez/".into()));
        assert_eq!(parse("//"), Route::Plain("/".into()));
        assert_eq!(parse("/api/v1/watch/"), Route::VerbAlone);
        assert_eq!(parse("/apis/apps/v1/proxy"), Route::VerbAlone);
    }
}
