//! A sink that keeps everything, for tests, dry runs and small documents.

use hfs_core::{
    Attachment, BranchId, BranchKey, CheckpointDraft, Disposition, ForeignSession, ImportReport,
    MessageDraft, Run, Seq, SessionSink, StoreError,
};

/// A session as its reader told it.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// The session.
    pub session: ForeignSession,
    /// Its branches; the first is the one that exists from the beginning.
    pub branches: Vec<CollectedBranch>,
    /// The branch that a resume opens.
    pub current: BranchKey,
    /// Its attachments, in order of arrival, repetitions included.
    pub attachments: Vec<Attachment>,
    /// Its runs.
    pub runs: Vec<Run>,
    /// Its checkpoints.
    pub checkpoints: Vec<CheckpointDraft>,
    /// What became of its records.
    pub report: ImportReport,
}

impl Collected {
    /// All messages, branch after branch.
    pub fn messages(&self) -> impl Iterator<Item = &MessageDraft> {
        self.branches.iter().flat_map(|branch| &branch.messages)
    }
}

/// A branch as its reader told it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CollectedBranch {
    /// The branch it leaves; `None` for the first.
    pub parent: Option<BranchKey>,
    /// The last seq it shares with that one.
    pub forked_at: Seq,
    /// Its identity, if it came with one.
    pub id: Option<BranchId>,
    /// Its name, if it came with one.
    pub name: Option<String>,
    /// Its own messages.
    pub messages: Vec<MessageDraft>,
}

/// Keeps every session it is given.
#[derive(Debug, Default)]
pub struct Collector {
    /// The sessions that have ended.
    pub sessions: Vec<Collected>,
    open: Option<Collected>,
}

impl Collector {
    fn open(&mut self) -> Result<&mut Collected, StoreError> {
        self.open.as_mut().ok_or_else(|| StoreError::Invalid {
            message: "a piece of a session came outside any session".into(),
        })
    }

    fn branch_mut(&mut self, key: BranchKey) -> Result<&mut CollectedBranch, StoreError> {
        self.open()?
            .branches
            .get_mut(key)
            .ok_or_else(|| StoreError::Invalid { message: format!("branch {key} has not been made") })
    }
}

impl SessionSink for Collector {
    fn begin(&mut self, session: ForeignSession) -> Result<Disposition, StoreError> {
        let mut main = CollectedBranch::default();
        if let Some((id, name)) = &session.main_branch {
            main.id = Some(*id);
            main.name = Some(name.clone());
        }
        self.open = Some(Collected {
            session,
            branches: vec![main],
            current: 0,
            attachments: Vec::new(),
            runs: Vec::new(),
            checkpoints: Vec::new(),
            report: ImportReport::default(),
        });
        Ok(Disposition::Take)
    }

    fn branch(
        &mut self,
        key: BranchKey,
        parent: BranchKey,
        forked_at: Seq,
        id: Option<BranchId>,
        name: Option<String>,
    ) -> Result<(), StoreError> {
        let above = self.branch_mut(parent)?;
        let head = above.forked_at + above.messages.len() as u64;
        let open = self.open()?;
        if key != open.branches.len() || forked_at > head {
            return Err(StoreError::Invalid {
                message: format!("branch {key} of {parent} at {forked_at}, whose head is {head}"),
            });
        }
        let parent = Some(parent);
        open.branches.push(CollectedBranch { parent, forked_at, id, name, messages: Vec::new() });
        Ok(())
    }

    fn message(&mut self, branch: BranchKey, message: MessageDraft) -> Result<(), StoreError> {
        self.branch_mut(branch)?.messages.push(message);
        Ok(())
    }

    fn attachment(&mut self, attachment: Attachment) -> Result<(), StoreError> {
        self.open()?.attachments.push(attachment);
        Ok(())
    }

    fn run(&mut self, run: Run) -> Result<(), StoreError> {
        self.open()?.runs.push(run);
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: CheckpointDraft) -> Result<(), StoreError> {
        self.open()?.checkpoints.push(checkpoint);
        Ok(())
    }

    fn current_branch(&mut self, branch: BranchKey) -> Result<(), StoreError> {
        self.branch_mut(branch)?;
        self.open()?.current = branch;
        Ok(())
    }

    fn end(&mut self, report: ImportReport) -> Result<(), StoreError> {
        let mut session = self.open.take().ok_or_else(|| StoreError::Invalid {
            message: "the end of a session that has not begun".into(),
        })?;
        session.report = report;
        self.sessions.push(session);
        Ok(())
    }

    fn progress(&mut self, _bytes_read: u64) -> bool {
        true
    }
}
