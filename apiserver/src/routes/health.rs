//! `/livez`, `/readyz` and `/healthz`, whole or check by check.

use axum::response::Response;
use http::StatusCode;
use knarr_api::field::quote;

use crate::{State, request::Query, respond};

const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];

/// One thing that must hold for the server to be well.
struct Check {
    name: &'static str,
    holds: fn(&State) -> bool,
}

const CHECKS: &[Check] = &[
    Check {
        name: "ping",
        holds: |_| true,
    },
    // The store bears the name that probes made for Kubernetes know it by.
    Check {
        name: "etcd",
        holds: |state| state.store.is_open(),
    },
];

/// All that can be asked.
pub(super) fn paths() -> impl Iterator<Item = String> {
    ENDPOINTS.iter().flat_map(|endpoint| {
        let each = CHECKS.iter();
        let each = each.map(move |check| format!("/{endpoint}/{}", check.name));
        std::iter::once(format!("/{endpoint}")).chain(each)
    })
}

pub(super) fn serve(state: &State, endpoint: &str, below: &[&str], query: &Query) -> Response {
    match below {
        [] => whole(state, endpoint, query),
        [name] => match CHECKS.iter().find(|check| check.name == *name) {
            Some(check) if (check.holds)(state) => respond::text(StatusCode::OK, "ok"),
            Some(_) => failed(format!("internal server error: {name} failed\n")),
            None => respond::no_such_page(),
        },
        _ => respond::no_such_page(),
    }
}

fn whole(state: &State, endpoint: &str, query: &Query) -> Response {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let checks: Vec<_> = CHECKS.iter().map(|c| (c.name, (c.holds)(state))).collect();
    let (lines, well) = report(&checks, &excluded);
    match (well, query.flag("verbose")) {
        (true, None) => respond::unsniffed(respond::text(StatusCode::OK, "ok")),
        (true, Some(_)) => {
            let text = format!("{lines}{endpoint} check passed\n");
            respond::unsniffed(respond::text(StatusCode::OK, text))
        }
        (false, _) => failed(format!("{lines}{endpoint} check failed\n")),
    }
}

/// A line for each check, and whether all that count hold.
fn report(checks: &[(&str, bool)], excluded: &[&str]) -> (String, bool) {
    let mut lines = String::new();
    let mut well = true;
    for (name, holds) in checks {
        let line = if excluded.contains(name) {
            format!("[+]{name} excluded: ok\n")
        } else if *holds {
            format!("[+]{name} ok\n")
        } else {
            well = false;
            format!("[-]{name} failed: reason withheld\n")
        };
        lines.push_str(&line);
    }
    let is_check = |name: &str| checks.iter().any(|(check, _)| *check == name);
    let mut unknown: Vec<String> = excluded
        .iter()
        .filter(|name| !is_check(name))
        .map(|name| quote(name))
        .collect();
    unknown.sort();
    unknown.dedup();
    if !unknown.is_empty() {
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            unknown.join(",")
        ));
    }
    (lines, well)
}

fn failed(text: String) -> Response {
    respond::unsniffed(respond::text(StatusCode::INTERNAL_SERVER_ERROR, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_a_line_and_what_is_excluded_does_not_count() {
        let check = |excluded: &[&str], expected: &str, well: bool| {
            let checks = [("ping", true), ("etcd", false)];
            assert_eq!(report(&checks, excluded), (expected.to_owned(), well));
        };
        check(&[], "[+]ping ok\n[-]etcd failed: reason withheld\n", false);
        check(&["etcd"], "[+]ping ok\n[+]etcd excluded: ok\n", true);
        check(
            &["etcd", "z", "a", "z"],
            "[+]ping ok\n[+]etcd excluded: ok\n\
             warn: some health checks cannot be excluded: no matches for \"a\",\"z\"\n",
            true,
        );
    }
}
