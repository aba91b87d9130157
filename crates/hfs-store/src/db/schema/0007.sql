-- Numbers of checkpoints, which do not change when others are pruned. So far, users have seen the positions in the list.
ALTER TABLE checkpoint ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
UPDATE checkpoint SET number = numbered.number FROM (
    SELECT no, row_number() OVER (PARTITION BY session ORDER BY created_at, no) AS number FROM checkpoint
) AS numbered WHERE numbered.no = checkpoint.no;
-- The highest number of a checkpoint that was removed, if it is higher than those of the checkpoints that are left.
ALTER TABLE activity ADD COLUMN last_checkpoint INTEGER NOT NULL DEFAULT 0;
-- One row about the store itself. The version repeats that of the header, whose damage would otherwise look like a newer
-- version. The path is the one under which the store was opened last (see db/identity.rs).
CREATE TABLE store_identity (
    no      INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    path    TEXT
) STRICT;
