-- Every object at its latest revision; history lives in memory only.
CREATE TABLE objects (
    resource  TEXT NOT NULL,     -- 'services', 'deployments.apps'
    namespace TEXT NOT NULL,     -- '' for cluster-scoped kinds
    name      TEXT NOT NULL,
    uid       TEXT NOT NULL,
    revision  INTEGER NOT NULL,
    document  BLOB NOT NULL,     -- the JSON that is served
    PRIMARY KEY (resource, namespace, name)
) STRICT;

-- Cluster IPs and node ports have one owner each; the database is what makes that so.
CREATE TABLE cluster_ips (
    address   TEXT NOT NULL PRIMARY KEY,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE node_ports (
    port      INTEGER NOT NULL PRIMARY KEY,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL
) STRICT;

-- Revisions up to `reserved` may have been given out, also to what was never written to disk.
CREATE TABLE sequence (
    only     INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    reserved INTEGER NOT NULL
) STRICT;

INSERT INTO sequence (only, reserved) VALUES (1, 0);
