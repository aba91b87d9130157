-- One index for all of a session's checkpoints instead of a second one for those that retention may prune, so that each
-- checkpoint writes one page less.
DROP INDEX checkpoint_session;
DROP INDEX checkpoint_automatic;
CREATE INDEX checkpoint_session ON checkpoint (session, automatic, created_at, no);
-- From this version on, state.followers of a delta is its position among the deltas of its keyframe, from 1. The keyframe's
-- own column counts only the deltas of earlier versions, so a keyframe's row is never updated.
