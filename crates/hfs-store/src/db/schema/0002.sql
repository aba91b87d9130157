-- The data of a state that is a difference may be a script of copies behind a mark (see delta.rs). Nothing changes in
-- what is there, but versions that know only of version 1 would take such a state for damage, and repair it away.
SELECT 1;
