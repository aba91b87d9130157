-- One index for all of a session's checkpoints instead of one more for those that retention may prune: each checkpoint
-- writes a page less.
DROP INDEX checkpoint_session;
DROP INDEX checkpoint_automatic;
CREATE INDEX checkpoint_session ON checkpoint (session, automatic, created_at, no);
-- From here on state.followers of a difference says which of its keyframe's it is, from one on, and a keyframe's own
-- counts only those that were made before: so a keyframe's row stays as it was written.
