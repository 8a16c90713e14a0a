//! A batch as one SQL script: SQLite runs in a thread of its own, and each trip there costs more than a row.

use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

use super::{Batch, to_sql};
use crate::storage::{Claim, Key, Revision, Stored};

/// Rows of one statement, largest first; few sizes make few scripts, which stay prepared.
const ROW_COUNTS: [usize; 4] = [64, 16, 4, 1];

/// Does all of `batch` in one transaction, and reserves revisions up to `reservation`.
pub(super) async fn run(
    connection: &mut SqliteConnection,
    batch: &Batch,
    reservation: Option<Revision>,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(AssertSqlSafe(text(batch, reservation)));
    let query = bind(query, batch, reservation);
    query.execute(connection).await.map(drop)
}

fn text(batch: &Batch, reservation: Option<Revision>) -> String {
    let Batch {
        put,
        deleted,
        taken,
        released,
        revision: _,
    } = batch;
    let mut statements = Vec::new();
    if reservation.is_some() {
        statements.push("UPDATE sequence SET reserved = ?".to_owned());
    }
    statements.extend(released.iter().map(|claim| release_text(claim).to_owned()));
    statements.extend(taken.iter().map(|claim| take_text(claim).to_owned()));
    statements.extend(chunks(deleted).map(|keys| delete_text(keys.len())));
    statements.extend(chunks(put).map(|objects| put_text(objects.len())));
    match statements.as_slice() {
        // A lone statement is a transaction by itself.
        [one] => one.clone(),
        many => format!("BEGIN IMMEDIATE;{};COMMIT", many.join(";")),
    }
}

type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Gives the script its values, in the order of its text.
fn bind<'q>(mut query: Bound<'q>, batch: &Batch, reservation: Option<Revision>) -> Bound<'q> {
    if let Some(reserved) = reservation {
        query = query.bind(to_sql(reserved));
    }
    for claim in &batch.released {
        query = bind_number(query, claim);
    }
    for claim in &batch.taken {
        let owner = claim.owner();
        query = bind_number(query, claim)
            .bind(owner.namespace.clone())
            .bind(owner.name.clone());
    }
    for key in &batch.deleted {
        query = bind_key(query, key);
    }
    for stored in &batch.put {
        let Stored {
            key,
            revision,
            uid,
            labels: _,
            document,
            is_partly_hidden: _,
        } = &**stored;
        query = bind_key(query, key)
            .bind(uid.clone())
            .bind(to_sql(*revision))
            .bind(document.to_vec());
    }
    query
}

fn bind_key<'q>(query: Bound<'q>, key: &Key) -> Bound<'q> {
    query
        .bind(key.kind.group_resource())
        .bind(key.namespace.clone())
        .bind(key.name.clone())
}

fn bind_number<'q>(query: Bound<'q>, claim: &Claim) -> Bound<'q> {
    match claim {
        Claim::ClusterIp { address, .. } => query.bind(address.to_string()),
        Claim::NodePort { port, .. } => query.bind(*port),
    }
}

fn put_text(count: usize) -> String {
    let rows = vec!["(?,?,?,?,?,?)"; count].join(",");
    format!(
        "INSERT INTO objects (resource, namespace, name, uid, revision, document) VALUES {rows} \
         ON CONFLICT DO UPDATE SET uid = excluded.uid, revision = excluded.revision, document = excluded.document"
    )
}

fn delete_text(count: usize) -> String {
    let rows = vec!["(?,?,?)"; count].join(",");
    format!("DELETE FROM objects WHERE (resource, namespace, name) IN (VALUES {rows})")
}

fn take_text(claim: &Claim) -> &'static str {
    match claim {
        Claim::ClusterIp { .. } => {
            "INSERT INTO cluster_ips (address, namespace, name) VALUES (?,?,?)"
        }
        Claim::NodePort { .. } => "INSERT INTO node_ports (port, namespace, name) VALUES (?,?,?)",
    }
}

fn release_text(claim: &Claim) -> &'static str {
    match claim {
        Claim::ClusterIp { .. } => "DELETE FROM cluster_ips WHERE address = ?",
        Claim::NodePort { .. } => "DELETE FROM node_ports WHERE port = ?",
    }
}

/// Splits `items` so that every part has one of [`ROW_COUNTS`] lengths.
fn chunks<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let count = ROW_COUNTS.into_iter().find(|&count| count <= items.len())?;
        let (chunk, rest) = items.split_at(count);
        items = rest;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use knarr_api::kinds::configmap::CONFIG_MAP;

    use super::*;

    #[test]
    fn a_lone_statement_needs_no_transaction_of_ours() {
        let check = |deleted: usize, reservation: Option<Revision>, expected: &str| {
            let deleted = vec![Key::new(&CONFIG_MAP, "n", "a"); deleted];
            let batch = Batch {
                deleted,
                ..Batch::default()
            };
            assert_eq!(text(&batch, reservation), expected);
        };
        let one = "DELETE FROM objects WHERE (resource, namespace, name) IN (VALUES (?,?,?))";
        let reserve = "UPDATE sequence SET reserved = ?";
        check(0, Some(Revision(1)), reserve);
        check(1, None, one);
        check(2, None, &format!("BEGIN IMMEDIATE;{one};{one};COMMIT"));
        check(
            1,
            Some(Revision(1)),
            &format!("BEGIN IMMEDIATE;{reserve};{one};COMMIT"),
        );
    }

    #[test]
    fn every_item_is_in_one_chunk() {
        for count in [0, 1, 3, 4, 63, 64, 65, 255] {
            let items: Vec<usize> = (0..count).collect();
            let parts: Vec<&[usize]> = chunks(&items).collect();
            assert_eq!(parts.concat(), items);
            assert!(parts.iter().all(|part| ROW_COUNTS.contains(&part.len())));
        }
    }
}
