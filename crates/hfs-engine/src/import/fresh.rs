//! A session that the store does not have yet.

use std::collections::HashMap;

use hfs_core::{
    Attachment, BranchId, BranchKey, CheckpointDraft, CheckpointId, ForeignSession, MAIN_BRANCH,
    MessageDraft, MessageId, Run, RunId, Seq, SessionDraft, SessionId, SessionImport, Store, StoreResult,
    Timestamp, automatic_name,
};

use super::Done;
use super::naming::FirstWords;

/// Receives a new session. It is begun in the store with its first piece, and appears there at its end.
pub struct Fresh<'a> {
    store: &'a dyn Store,
    dry_run: bool,
    /// With this, everything gets a new identity.
    as_copy: bool,
    foreign: ForeignSession,
    id: SessionId,
    staged: Option<Box<dyn SessionImport + 'a>>,
    /// By key: the branch's identity here.
    branches: Vec<Option<BranchId>>,
    /// Identities there and here, while copying.
    branch_ids: HashMap<BranchId, BranchId>,
    message_ids: HashMap<MessageId, MessageId>,
    names: Vec<String>,
    current: BranchKey,
    messages: u64,
    first_words: FirstWords,
    first_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
}

impl<'a> Fresh<'a> {
    pub fn new(store: &'a dyn Store, dry_run: bool, foreign: ForeignSession, as_copy: bool) -> Self {
        let id = foreign.id.filter(|_| !as_copy).unwrap_or_else(SessionId::generate);
        Self {
            store,
            dry_run,
            as_copy,
            foreign,
            id,
            staged: None,
            branches: Vec::new(),
            branch_ids: HashMap::new(),
            message_ids: HashMap::new(),
            names: Vec::new(),
            current: 0,
            messages: 0,
            first_words: FirstWords::default(),
            first_at: None,
            last_at: None,
        }
    }

    pub fn format(&self) -> &str {
        &self.foreign.origin.format
    }

    /// The staged session; made with the first piece. `None` in a dry run.
    fn staged(&mut self) -> StoreResult<Option<&mut (dyn SessionImport + 'a)>> {
        if self.branches.is_empty() {
            let (given, name) = match self.foreign.main_branch.clone() {
                Some((id, name)) => (Some(id), name),
                None => (None, MAIN_BRANCH.to_owned()),
            };
            let main = self.branch_identity(given);
            self.branches.push(Some(main));
            self.names.push(name.clone());
            if !self.dry_run {
                let mut staged = self.store.import_session(&SessionDraft {
                    id: self.id,
                    name: String::new(),
                    automatic_name: self.foreign.title.is_none() || self.foreign.automatic_name,
                    project: self.foreign.project.clone(),
                    created_at: self.foreign.created_at.unwrap_or(Timestamp::UNIX_EPOCH),
                    origin: Some(self.foreign.origin.clone()),
                    extra: self.foreign.extra.clone(),
                    main_branch: main,
                })?;
                if name != MAIN_BRANCH {
                    staged.name_main(&name)?;
                }
                self.staged = Some(staged);
            }
        }
        Ok(self.staged.as_deref_mut())
    }

    fn branch_identity(&mut self, given: Option<BranchId>) -> BranchId {
        match given {
            Some(id) if !self.as_copy => id,
            Some(id) => *self.branch_ids.entry(id).or_insert_with(BranchId::generate),
            None => BranchId::generate(),
        }
    }

    pub fn branch(
        &mut self,
        key: BranchKey,
        parent: BranchKey,
        forked_at: Seq,
        id: Option<BranchId>,
        name: Option<String>,
    ) -> StoreResult<()> {
        self.staged()?;
        let id = self.branch_identity(id);
        let name = name.unwrap_or_else(|| {
            let free = (2..).map(|n| format!("{MAIN_BRANCH}-{n}")).find(|name| !self.names.contains(name));
            free.unwrap_or_else(|| id.to_string())
        });
        if self.branches.len() <= key {
            self.branches.resize(key + 1, None);
        }
        if let Some(slot) = self.branches.get_mut(key) {
            *slot = Some(id);
        }
        self.names.push(name.clone());
        match self.staged()? {
            Some(staged) => staged.branch(key, parent, forked_at, id, &name),
            None => Ok(()),
        }
    }

    pub fn message(&mut self, branch: BranchKey, mut message: MessageDraft) -> StoreResult<()> {
        if self.as_copy {
            let fresh = MessageId::generate();
            self.message_ids.insert(message.id, fresh);
            message.id = fresh;
        }
        self.first_words.hear(&message);
        if message.created_at.is_known() {
            self.first_at = Some(self.first_at.map_or(message.created_at, |at| at.min(message.created_at)));
            self.last_at = Some(self.last_at.map_or(message.created_at, |at| at.max(message.created_at)));
        }
        self.messages += 1;
        match self.staged()? {
            Some(staged) => staged.message(branch, &message),
            None => Ok(()),
        }
    }

    pub fn attachment(&mut self, attachment: &Attachment) -> StoreResult<()> {
        match self.staged()? {
            Some(staged) => staged.attachment(attachment),
            None => Ok(()),
        }
    }

    pub fn run(&mut self, mut run: Run) -> StoreResult<()> {
        if self.as_copy {
            run.id = RunId::generate();
            for event in &mut run.events {
                event.run = run.id;
            }
            run.snapshot.run_id = run.snapshot.run_id.map(|_| run.id);
            run.branch = self.branch_identity(Some(run.branch));
            run.answers = run.answers.and_then(|id| self.message_ids.get(&id).copied());
        }
        match self.staged()? {
            Some(staged) => staged.run(&run),
            None => Ok(()),
        }
    }

    pub fn checkpoint(&mut self, mut checkpoint: CheckpointDraft) -> StoreResult<()> {
        if self.as_copy {
            checkpoint.id = CheckpointId::generate();
            checkpoint.branch = self.branch_identity(Some(checkpoint.branch));
        }
        match self.staged()? {
            Some(staged) => staged.checkpoint(&checkpoint),
            None => Ok(()),
        }
    }

    pub fn current_branch(&mut self, branch: BranchKey) {
        self.current = branch;
    }

    /// Makes it seen. When nothing in it tells when it was held, it counts as old as `file_time`.
    pub fn finish(mut self, file_time: Timestamp, zone: &jiff::tz::TimeZone) -> StoreResult<Done> {
        self.staged()?;
        let created_at = self.foreign.created_at.or(self.first_at).unwrap_or(file_time);
        let updated_at = self.foreign.updated_at.or(self.last_at).unwrap_or(created_at).max(created_at);
        let name = self.foreign.title.clone().filter(|title| !title.trim().is_empty()).unwrap_or_else(|| {
            let local = created_at.to_jiff().to_zoned(zone.clone());
            automatic_name(self.first_words.words(), &local)
        });
        let session = match self.staged {
            Some(staged) => Some(staged.finish(&name, self.current, created_at, updated_at)?.session.id),
            None => None,
        };
        let branches = self.branches.iter().flatten().count();
        Ok(Done {
            session,
            name,
            messages: self.messages,
            branches: u64::try_from(branches).unwrap_or(u64::MAX),
            updated: false,
        })
    }
}
