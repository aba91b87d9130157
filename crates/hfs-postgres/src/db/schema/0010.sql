-- Each table of a session has the session's id as the first column of its primary key, so that the rows of a session are
-- adjacent, and a distributed PostgreSQL can place sessions. Branches are numbered within their session, and messages are
-- found by the number of their branch and their seq. Times are microseconds since 1970.
--
-- Each write to a session first locks its row in `activity`, so writes to one session happen one after the other.
--
-- Texts are escaped, because PostgreSQL stores no NUL: see db/value.rs. Bodies, deltas and states are bytes.

CREATE TABLE session (
    id             uuid PRIMARY KEY,
    short          text COLLATE "C" NOT NULL,
    name           text COLLATE "C" NOT NULL,
    automatic_name boolean NOT NULL,
    project        text,
    directory      text,
    repository     text,
    created_at     bigint NOT NULL,
    current_branch integer NOT NULL,
    origin_format  text,
    origin_id      text,
    origin_path    text,
    trashed_at     bigint,
    -- The presence of the process that imports the session.
    importer       uuid,
    extra          text
);
CREATE INDEX session_short ON session (short);
-- Names and origins can be longer than an entry of a B-tree.
CREATE INDEX session_name ON session USING hash (name);
CREATE INDEX session_title ON session (left(name, 200));
CREATE INDEX session_project ON session USING hash (project);
CREATE INDEX session_origin ON session USING hash (origin_id);
CREATE INDEX session_importer ON session (importer) WHERE importer IS NOT NULL;

-- What changes with every message, in narrow rows.
CREATE TABLE activity (
    session         uuid PRIMARY KEY,
    -- 0 listed, 1 in the trash, 2 hidden: being imported
    state           smallint NOT NULL,
    updated_at      bigint NOT NULL,
    messages        bigint NOT NULL,
    branches        bigint NOT NULL,
    checkpoints     bigint NOT NULL,
    -- Number of words of its messages in the text index.
    words           bigint NOT NULL,
    -- The highest number of a checkpoint so far.
    last_checkpoint bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
CREATE INDEX activity_list ON activity (state, updated_at, session);

-- Checkpoint states by content.
CREATE TABLE state (
    hash bytea PRIMARY KEY,
    size bigint NOT NULL,
    -- zstd with a checksum
    data bytea NOT NULL
);
ALTER TABLE state ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE branch (
    session    uuid NOT NULL,
    no         integer NOT NULL,
    id         uuid NOT NULL UNIQUE,
    name       text NOT NULL,
    parent     integer,
    forked_at  bigint NOT NULL,
    created_at bigint NOT NULL,
    undone     boolean NOT NULL,
    -- The branch state, from which the next run starts.
    state      bytea REFERENCES state (hash),
    PRIMARY KEY (session, no)
);
CREATE INDEX branch_state ON branch (state) WHERE state IS NOT NULL;

CREATE TABLE message (
    session            uuid NOT NULL,
    branch             integer NOT NULL,
    seq                bigint NOT NULL,
    id                 uuid NOT NULL UNIQUE,
    -- 0 user, 1 assistant, 2 system, 3 tool
    role               smallint NOT NULL,
    -- 0 complete, 1 streaming, 2 interrupted
    status             smallint NOT NULL,
    created_at         bigint NOT NULL,
    prompt_tokens      bigint,
    completion_tokens  bigint,
    cache_read_tokens  bigint,
    cache_write_tokens bigint,
    agent              text,
    model              text,
    source_format      text,
    source_id          text,
    body               bytea NOT NULL,
    extra              text,
    PRIMARY KEY (session, branch, seq)
);

-- Replies that are being written, with the presence of the process that writes, and their deltas so far.
CREATE TABLE reply (
    session uuid NOT NULL,
    branch  integer NOT NULL,
    seq     bigint NOT NULL,
    writer  uuid NOT NULL,
    PRIMARY KEY (session, branch, seq)
);
CREATE TABLE reply_piece (
    session uuid NOT NULL,
    branch  integer NOT NULL,
    seq     bigint NOT NULL,
    number  bigint NOT NULL,
    kind    smallint NOT NULL,
    text    bytea NOT NULL,
    PRIMARY KEY (session, branch, seq, number)
);

CREATE TABLE attachment (
    hash      bytea PRIMARY KEY,
    stored_at bigint NOT NULL,
    bytes     bytea NOT NULL
);
ALTER TABLE attachment ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE attachment_use (
    session uuid NOT NULL,
    -- -1 for the attachments that the import of the session keeps.
    branch  integer NOT NULL,
    seq     bigint NOT NULL,
    hash    bytea NOT NULL REFERENCES attachment (hash),
    PRIMARY KEY (session, branch, seq, hash)
);
CREATE INDEX attachment_use_hash ON attachment_use (hash);

CREATE TABLE run (
    session    uuid NOT NULL,
    id         uuid NOT NULL UNIQUE,
    branch     integer NOT NULL,
    answers    uuid,
    started_at bigint NOT NULL,
    ended_at   bigint,
    -- zstd of JSON
    snapshot   bytea NOT NULL,
    events     bytea NOT NULL,
    PRIMARY KEY (session, id)
);

CREATE TABLE checkpoint (
    session    uuid NOT NULL,
    -- In order of creation.
    no         bigint GENERATED ALWAYS AS IDENTITY,
    id         uuid NOT NULL UNIQUE,
    number     bigint NOT NULL,
    branch     integer NOT NULL,
    seq        bigint NOT NULL,
    trigger    text NOT NULL,
    label      text,
    pinned     boolean NOT NULL,
    -- Whether retention may prune it: it is not pinned, has no label and was not made by the user.
    automatic  boolean NOT NULL,
    created_at bigint NOT NULL,
    state      bytea NOT NULL REFERENCES state (hash),
    PRIMARY KEY (session, no)
);
CREATE INDEX checkpoint_state ON checkpoint (state);

CREATE TABLE operation (
    session     uuid NOT NULL,
    -- In order of recording.
    no          bigint GENERATED ALWAYS AS IDENTITY,
    id          uuid NOT NULL UNIQUE,
    kind        text NOT NULL,
    created_at  bigint NOT NULL,
    before      text,
    after       text NOT NULL,
    branch      uuid,
    checkpoint  uuid,
    target      uuid,
    detail      text NOT NULL,
    -- The old and the new name of a renamed branch.
    name_before text,
    name_after  text,
    PRIMARY KEY (session, no)
);
CREATE INDEX operation_no ON operation (no);
CREATE INDEX operation_target ON operation (target) WHERE target IS NOT NULL;

-- Sources at their last complete import, by the hash of their path, so that unchanged ones need not be read again.
CREATE TABLE import_source (
    hash         bytea PRIMARY KEY,
    fingerprint  bytea NOT NULL,
    resume_point bytea
);
CREATE TABLE import_source_session (
    source  bytea NOT NULL,
    session uuid NOT NULL,
    PRIMARY KEY (source, session)
);
CREATE INDEX import_source_session_session ON import_source_session (session);
-- Hashes of the sources of purged sessions, so that an import does not bring them back.
CREATE TABLE purged_source (
    hash      bytea PRIMARY KEY,
    purged_at bigint NOT NULL
);

-- The terms of each message that is not being written, without positions: the index finds messages that may match, and
-- their texts decide. See store/text_index.rs.
CREATE TABLE message_text (
    session uuid NOT NULL,
    branch  integer NOT NULL,
    seq     bigint NOT NULL,
    words   bigint NOT NULL,
    -- NULL if the message has more terms than a tsvector holds. Every search considers it.
    terms   tsvector,
    PRIMARY KEY (session, branch, seq)
);
CREATE INDEX message_text_terms ON message_text USING gin (terms);
CREATE INDEX message_text_oversized ON message_text (session) WHERE terms IS NULL;

-- Processes that write replies or import sessions. A process that has not renewed its row for a minute has ended.
CREATE TABLE presence (
    id         uuid PRIMARY KEY,
    renewed_at timestamptz NOT NULL
);

-- The ids of recent writes. After a connection is lost during COMMIT, the id tells whether the write is stored.
CREATE TABLE write_log (
    id         uuid PRIMARY KEY,
    written_at timestamptz NOT NULL DEFAULT now()
);
