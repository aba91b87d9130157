-- A session belongs to the role that has created it. The owner is in `activity`, and the policies of all other tables of a
-- session look it up there. What sessions share by content, and what belongs to no session, has an owner of its own.
--
-- The policies hold for roles that neither own the schema nor have the attribute BYPASSRLS. An administrator sees the sessions of
-- all owners in a transaction that has set `hfs.all_owners`, and can delete them, but changes only its own.
--
-- Functions and policies use only operators that the server may evaluate before a policy (LEAKPROOF), so that indexes serve as
-- before. The exception is the search in the text index, for which there is a function.

ALTER TABLE activity ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT current_user;
DROP INDEX activity_list;
CREATE INDEX activity_list ON activity (owner, state, updated_at, session);
CREATE INDEX activity_list_of_all ON activity (state, updated_at, session);

-- Roles whose members see the sessions of all owners.
CREATE TABLE administrator (role text COLLATE "C" PRIMARY KEY);

-- Content is shared by the sessions of one owner only: a role must not find out what others store, or store something else under
-- its hash.
ALTER TABLE checkpoint DROP CONSTRAINT checkpoint_state_fkey;
ALTER TABLE branch DROP CONSTRAINT branch_state_fkey;
ALTER TABLE attachment_use DROP CONSTRAINT attachment_use_hash_fkey;
ALTER TABLE state ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT current_user;
ALTER TABLE state DROP CONSTRAINT state_pkey;
ALTER TABLE state ADD PRIMARY KEY (hash, owner);
ALTER TABLE attachment ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT current_user;
ALTER TABLE attachment DROP CONSTRAINT attachment_pkey;
ALTER TABLE attachment ADD PRIMARY KEY (hash, owner);
ALTER TABLE checkpoint ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT current_user;
ALTER TABLE checkpoint ADD FOREIGN KEY (state, owner) REFERENCES state (hash, owner);
ALTER TABLE branch ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT current_user;
ALTER TABLE branch ADD FOREIGN KEY (state, owner) REFERENCES state (hash, owner);
ALTER TABLE attachment_use ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT current_user;
ALTER TABLE attachment_use ADD FOREIGN KEY (hash, owner) REFERENCES attachment (hash, owner);

DROP INDEX checkpoint_state;
CREATE INDEX checkpoint_state ON checkpoint (state, owner);
DROP INDEX branch_state;
CREATE INDEX branch_state ON branch (state, owner) WHERE state IS NOT NULL;
DROP INDEX attachment_use_hash;
CREATE INDEX attachment_use_hash ON attachment_use (hash, owner);

ALTER TABLE import_source ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT current_user;
ALTER TABLE import_source DROP CONSTRAINT import_source_pkey;
ALTER TABLE import_source ADD PRIMARY KEY (hash, owner);
ALTER TABLE purged_source ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT current_user;
ALTER TABLE purged_source DROP CONSTRAINT purged_source_pkey;
ALTER TABLE purged_source ADD PRIMARY KEY (hash, owner);
ALTER TABLE presence ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT current_user;
ALTER TABLE write_log ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT current_user;

-- The bodies of these functions are not strings: the server finds their tables now, and not when it runs them, when a role could have
-- a temporary table of the same name.
CREATE FUNCTION is_administrator(checked name) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN EXISTS (SELECT 1 FROM administrator JOIN pg_catalog.pg_roles ON pg_roles.rolname = administrator.role
        WHERE pg_has_role(checked, pg_roles.oid, 'USAGE'));

CREATE FUNCTION sees_all_owners() RETURNS boolean
    LANGUAGE sql STABLE
    RETURN coalesce(current_setting('hfs.all_owners', true) = 'on', false) AND is_administrator(current_user);

-- The entries of the text index that match a query, in the sessions that the caller sees. With the policy of `message_text` alone,
-- the server would test every entry, since `@@` is not LEAKPROOF.
CREATE FUNCTION entries_with(query tsquery) RETURNS TABLE (session uuid, branch integer, seq bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT message_text.session, message_text.branch, message_text.seq
            FROM message_text JOIN activity ON activity.session = message_text.session
            WHERE (message_text.terms @@ query OR message_text.terms IS NULL)
                AND (activity.owner = session_user::text
                    OR (SELECT coalesce(current_setting('hfs.all_owners', true) = 'on', false)
                        AND is_administrator(session_user)));
    END;

ALTER TABLE administrator ENABLE ROW LEVEL SECURITY;
CREATE POLICY read ON administrator FOR SELECT USING (true);

-- The tables with an owner. An update must also be allowed for rows of others, because a lock on a row counts as one; it fails
-- when it writes the row.
DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY['activity', 'state', 'attachment', 'import_source', 'presence', 'write_log']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tab);
        EXECUTE format('CREATE POLICY seen ON %I FOR SELECT USING (owner = current_user::text OR (SELECT sees_all_owners()))', tab);
        EXECUTE format('CREATE POLICY added ON %I FOR INSERT WITH CHECK (owner = current_user::text)', tab);
        EXECUTE format('CREATE POLICY changed ON %I FOR UPDATE
            USING (owner = current_user::text OR (SELECT sees_all_owners())) WITH CHECK (owner = current_user::text)', tab);
        EXECUTE format('CREATE POLICY removed ON %I FOR DELETE USING (owner = current_user::text OR (SELECT sees_all_owners()))', tab);
    END LOOP;
    -- `activity` shows the sessions that the role sees.
    FOREACH tab IN ARRAY ARRAY['session', 'branch', 'message', 'message_text', 'reply', 'reply_piece', 'attachment_use', 'run',
        'checkpoint', 'operation', 'import_source_session']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tab);
        EXECUTE format('CREATE POLICY seen ON %1$I FOR SELECT
            USING (EXISTS (SELECT 1 FROM activity WHERE activity.session = %1$I.%2$I))',
            tab, CASE tab WHEN 'session' THEN 'id' ELSE 'session' END);
        EXECUTE format('CREATE POLICY added ON %1$I FOR INSERT
            WITH CHECK (EXISTS (SELECT 1 FROM activity WHERE activity.session = %1$I.%2$I
                AND activity.owner = current_user::text))',
            tab, CASE tab WHEN 'session' THEN 'id' ELSE 'session' END);
        EXECUTE format('CREATE POLICY changed ON %1$I FOR UPDATE
            USING (EXISTS (SELECT 1 FROM activity WHERE activity.session = %1$I.%2$I
                AND activity.owner = current_user::text))',
            tab, CASE tab WHEN 'session' THEN 'id' ELSE 'session' END);
        EXECUTE format('CREATE POLICY removed ON %1$I FOR DELETE
            USING (EXISTS (SELECT 1 FROM activity WHERE activity.session = %1$I.%2$I))',
            tab, CASE tab WHEN 'session' THEN 'id' ELSE 'session' END);
    END LOOP;
    -- What a session refers to by content is its owner's: the server tests references without policies.
    FOREACH tab IN ARRAY ARRAY['branch', 'checkpoint', 'attachment_use']
    LOOP
        EXECUTE format('CREATE POLICY added_content ON %I AS RESTRICTIVE FOR INSERT WITH CHECK (owner = current_user::text)', tab);
        EXECUTE format('CREATE POLICY changed_content ON %I AS RESTRICTIVE FOR UPDATE
            USING (true) WITH CHECK (owner = current_user::text)', tab);
    END LOOP;
END
$$;

-- An administrator who deletes a session notes that for its owner.
ALTER TABLE purged_source ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON purged_source USING (owner = current_user::text OR (SELECT sees_all_owners()));
