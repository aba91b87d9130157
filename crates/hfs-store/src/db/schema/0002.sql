-- A state that is a delta may be stored as copy and insert operations (see codec/binary_delta.rs). Existing rows stay as they
-- are; the new version keeps older programs from taking such states for damage and repairing them away.
SELECT 1;
