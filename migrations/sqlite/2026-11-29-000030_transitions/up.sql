-- How long replicas of a release write what the release before can read. One row for each such
-- release, made by the first replica of it that starts. NULL: the database was new.
CREATE TABLE transitions (
    name    TEXT PRIMARY KEY NOT NULL,
    ends_at INTEGER
) STRICT;
