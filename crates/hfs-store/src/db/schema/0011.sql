-- The texts of messages that are no longer expected to change are compressed together in blocks: see sqlite/blocks.rs. Those
-- that are already stored are moved to blocks by `hfs store vacuum`, and in the background.
CREATE TABLE block (
    -- The number of its first message. The others follow it without a gap.
    no   INTEGER PRIMARY KEY,
    -- Bytes of the texts.
    size INTEGER NOT NULL,
    -- See codec/block.rs.
    data BLOB NOT NULL
) STRICT;
-- Which message of its block this is, from 0; NULL if its texts are in this row. In a block, the row has an empty body and no
-- passthrough fields, but still the checksum over them.
ALTER TABLE message ADD COLUMN block_index INTEGER DEFAULT NULL;
-- Messages with their texts, wherever these are. It decompresses a block for each row, so it is for checks, not for reads. The
-- texts are NULL if the block cannot be read.
CREATE VIEW whole_message AS
    SELECT message.no, message.id, message.role, message.status, message.created_at, message.agent, message.model,
        message.prompt_tokens, message.completion_tokens, message.source_format, message.source_id, message.sum,
        message.cache_read_tokens, message.cache_write_tokens, message.block_index,
        CASE WHEN message.block_index IS NULL THEN message.body
            ELSE hfs_block_body(block.data, message.block_index) END AS body,
        CASE WHEN message.block_index IS NULL THEN message.extra
            ELSE hfs_block_extra(block.data, message.block_index) END AS extra
    FROM message LEFT JOIN block ON block.no = message.no - message.block_index;
DROP VIEW indexed_text;
-- Processes of earlier versions that still run would take the texts in blocks for empty ones. They read this column before they index,
-- replace or delete messages, and fail under its new name, before they have changed anything.
ALTER TABLE branch RENAME COLUMN indexed TO indexed_seq;
CREATE VIEW indexed_text (no, words, stems, parts) AS
    SELECT whole_message.no, hfs_words(whole_message.body), hfs_stems(whole_message.body),
        hfs_parts(whole_message.body)
    FROM whole_message JOIN branch ON branch.no = whole_message.no >> 32
    WHERE whole_message.no & 0xffffffff <= branch.indexed_seq;
