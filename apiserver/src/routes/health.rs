//! `/livez`, `/readyz` and `/healthz`, whole or check by check.

use axum::response::Response;
use http::StatusCode;

use crate::{State, request::Query, respond};

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
    Check {
        name: "store",
        holds: |state| state.store.is_open(),
    },
];

pub(super) fn serve(state: &State, endpoint: &str, below: &[&str], query: &str) -> Response {
    let query = Query::parse(query);
    let excluded: Vec<&str> = query.all("exclude").collect();
    match below {
        [] => whole(state, endpoint, &excluded, &query),
        [name] => match CHECKS.iter().find(|check| check.name == *name) {
            Some(check) if (check.holds)(state) => respond::text(StatusCode::OK, "ok"),
            Some(_) => {
                let text = format!("internal server error: {name} failed");
                respond::text(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
            None => respond::no_such_page(),
        },
        _ => respond::no_such_page(),
    }
}

fn whole(state: &State, endpoint: &str, excluded: &[&str], query: &Query) -> Response {
    let mut lines = String::new();
    let mut well = true;
    for Check { name, holds } in CHECKS {
        let line = if excluded.contains(name) {
            format!("[+]{name} excluded: ok\n")
        } else if holds(state) {
            format!("[+]{name} ok\n")
        } else {
            well = false;
            format!("[-]{name} failed: reason withheld\n")
        };
        lines.push_str(&line);
    }
    match (well, query.flag("verbose")) {
        (true, None) => respond::text(StatusCode::OK, "ok"),
        (true, Some(_)) => {
            respond::text(StatusCode::OK, format!("{lines}{endpoint} check passed\n"))
        }
        (false, _) => respond::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{lines}{endpoint} check failed\n"),
        ),
    }
}
