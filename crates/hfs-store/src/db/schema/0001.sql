-- Tables refer to each other by row number (`no`), never by id. A message's number is its branch's number and its seq
-- (branch << 32 | seq), so the messages of a branch are adjacent, and a page of its history is one range of the table.
-- Times are microseconds since 1970. Ids are the sixteen bytes of a UUID.

CREATE TABLE session (
    no             INTEGER PRIMARY KEY,
    id             BLOB NOT NULL UNIQUE,
    short          TEXT NOT NULL,
    name           TEXT NOT NULL,
    automatic_name INTEGER NOT NULL,
    -- 0 listed, 1 in the trash, 2 hidden: being imported or purged
    state          INTEGER NOT NULL,
    -- Orders the lists. Equals activity.updated_at, but may be older for the first session of each state: see
    -- sqlite/session_stats.rs.
    place          INTEGER NOT NULL,
    project        TEXT,
    directory      TEXT,
    repository     TEXT,
    created_at     INTEGER NOT NULL,
    current_branch INTEGER NOT NULL,
    origin_format  TEXT,
    origin_id      TEXT,
    origin_path    TEXT,
    trashed_at     INTEGER,
    -- The presence lock of the process that imports it.
    importer       TEXT,
    -- Row checksum, see codec/checksum.rs.
    sum            INTEGER NOT NULL,
    extra          TEXT
) STRICT;
CREATE INDEX session_short ON session (short);
CREATE INDEX session_name ON session (name);
CREATE INDEX session_place ON session (state, place, id);
CREATE INDEX session_project ON session (project, state, place, id) WHERE project IS NOT NULL;
CREATE INDEX session_origin ON session (origin_format, origin_id, state, place, id) WHERE origin_format IS NOT NULL;

-- Counters that change with every message, in narrow rows.
CREATE TABLE activity (
    session     INTEGER PRIMARY KEY REFERENCES session (no),
    updated_at  INTEGER NOT NULL,
    messages    INTEGER NOT NULL,
    branches    INTEGER NOT NULL,
    checkpoints INTEGER NOT NULL,
    -- Whether messages of the session may be missing in the text index.
    waiting     INTEGER NOT NULL
) STRICT;
CREATE INDEX activity_waiting ON activity (session) WHERE waiting = 1;

CREATE TABLE branch (
    no         INTEGER PRIMARY KEY,
    id         BLOB NOT NULL UNIQUE,
    session    INTEGER NOT NULL REFERENCES session (no),
    name       TEXT NOT NULL,
    parent     INTEGER REFERENCES branch (no),
    forked_at  INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    retired    INTEGER NOT NULL,
    -- Seq up to which the messages stored on this branch are in the text index.
    indexed    INTEGER NOT NULL,
    -- The branch state, from which the next run starts.
    state      INTEGER REFERENCES state (no),
    UNIQUE (session, name)
) STRICT;
CREATE INDEX branch_parent ON branch (parent) WHERE parent IS NOT NULL;
CREATE INDEX branch_state ON branch (state) WHERE state IS NOT NULL;

CREATE TABLE message (
    no                INTEGER PRIMARY KEY,
    id                BLOB NOT NULL,
    -- 0 user, 1 assistant, 2 system, 3 tool
    role              INTEGER NOT NULL,
    -- 0 complete, 1 streaming, 2 interrupted
    status            INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    agent             TEXT,
    model             TEXT,
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    source_format     TEXT,
    source_id         TEXT,
    -- Row checksum, see codec/checksum.rs.
    sum               INTEGER NOT NULL,
    body              TEXT NOT NULL,
    extra             TEXT
) STRICT;
CREATE UNIQUE INDEX message_id ON message (id);

-- Replies that are being written, with the presence lock of the process that writes, and their deltas so far.
CREATE TABLE reply (
    message INTEGER PRIMARY KEY,
    writer  TEXT NOT NULL
) STRICT;
CREATE TABLE reply_piece (
    message INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    -- 0 text, 1 thinking
    kind    INTEGER NOT NULL,
    text    TEXT NOT NULL,
    PRIMARY KEY (message, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE attachment (
    no        INTEGER PRIMARY KEY,
    hash      BLOB NOT NULL UNIQUE,
    stored_at INTEGER NOT NULL,
    bytes     BLOB NOT NULL
) STRICT;
CREATE TABLE attachment_use (
    message    INTEGER NOT NULL,
    attachment INTEGER NOT NULL REFERENCES attachment (no),
    PRIMARY KEY (message, attachment)
) STRICT, WITHOUT ROWID;
CREATE INDEX attachment_use_attachment ON attachment_use (attachment);

CREATE TABLE run (
    no         INTEGER PRIMARY KEY,
    id         BLOB NOT NULL UNIQUE,
    session    INTEGER NOT NULL REFERENCES session (no),
    branch     INTEGER NOT NULL REFERENCES branch (no),
    answers    BLOB,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    -- zstd of JSON
    snapshot   BLOB NOT NULL,
    events     BLOB NOT NULL
) STRICT;
CREATE INDEX run_session ON run (session, started_at, id);
CREATE INDEX run_branch ON run (branch);

-- Checkpoint states by content. A row without a base is a keyframe; the others are deltas to their base.
CREATE TABLE state (
    no         INTEGER PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    size       INTEGER NOT NULL,
    base       INTEGER REFERENCES state (no),
    -- Number of deltas to a keyframe so far, deleted ones included.
    followers  INTEGER NOT NULL,
    -- zstd with a checksum
    data       BLOB NOT NULL
) STRICT;
CREATE INDEX state_base ON state (base) WHERE base IS NOT NULL;

CREATE TABLE checkpoint (
    no         INTEGER PRIMARY KEY,
    id         BLOB NOT NULL UNIQUE,
    session    INTEGER NOT NULL REFERENCES session (no),
    branch     INTEGER NOT NULL REFERENCES branch (no),
    seq        INTEGER NOT NULL,
    trigger    TEXT NOT NULL,
    label      TEXT,
    pinned     INTEGER NOT NULL,
    -- Whether retention may prune it: it is not pinned, has no label and was not made by the user.
    automatic  INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    state      INTEGER NOT NULL REFERENCES state (no)
) STRICT;
CREATE INDEX checkpoint_session ON checkpoint (session, created_at, no);
CREATE INDEX checkpoint_automatic ON checkpoint (session, created_at, no) WHERE automatic = 1;
CREATE INDEX checkpoint_branch ON checkpoint (branch, seq, created_at, no);
CREATE INDEX checkpoint_state ON checkpoint (state);

CREATE TABLE operation (
    no          INTEGER PRIMARY KEY,
    id          BLOB NOT NULL UNIQUE,
    session     INTEGER NOT NULL REFERENCES session (no),
    kind        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    before      TEXT,
    after       TEXT NOT NULL,
    branch      BLOB,
    checkpoint  BLOB,
    target      BLOB,
    detail      TEXT NOT NULL,
    -- The old and the new name of a renamed branch.
    name_before TEXT,
    name_after  TEXT
) STRICT;
CREATE INDEX operation_session ON operation (session, no);
CREATE INDEX operation_target ON operation (target, no) WHERE target IS NOT NULL;

-- The content of the text index (the table is in text_index.sql). The text is stored in the messages only; hfs_text()
-- extracts it from their bodies.
CREATE VIEW indexed_text (no, text) AS
    SELECT message.no, hfs_text(message.body)
    FROM message JOIN branch ON branch.no = message.no >> 32
    WHERE message.no & 0xffffffff <= branch.indexed;
