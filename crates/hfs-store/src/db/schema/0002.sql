-- The data of a delta may be copy and insert operations (see codec/binary_delta.rs). Existing rows are not changed. The
-- version is increased because older programs would report such states as damaged, and delete them in a repair.
SELECT 1;
