//! Collects sessions in memory.

use hfs_core::{
    Attachment, Branch, BranchId, BranchKey, Checkpoint, CheckpointDraft, CheckpointState, ContentHash,
    DocumentBranch, Flow, ForeignBranch, ForeignSession, ImportEvent, ImportReceiver, ImportReport,
    MAIN_BRANCH, Message, MessageDraft, Role, Run, Seq, Session, SessionDocument, SessionId, StateCost,
    StoreError, Timestamp, automatic_name,
};

/// A session as its reader sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectedSession {
    /// Session-level fields.
    pub session: ForeignSession,
    /// Branches; the first one is the main branch.
    pub branches: Vec<CollectedBranch>,
    /// The branch that a resume opens.
    pub current: BranchKey,
    /// Attachments in the order in which they were received, including duplicates.
    pub attachments: Vec<Attachment>,
    /// Runs.
    pub runs: Vec<Run>,
    /// Checkpoints.
    pub checkpoints: Vec<CheckpointDraft>,
    /// How many records were imported and how many were dropped, with warnings.
    pub report: ImportReport,
}

impl CollectedSession {
    /// All messages, one branch after another.
    pub fn messages(&self) -> impl Iterator<Item = &MessageDraft> {
        self.branches.iter().flat_map(|branch| &branch.messages)
    }

    /// Converts the session into a document. Generates the ids and names that the source did not provide;
    /// `now` replaces unknown times.
    #[must_use]
    pub fn into_document(mut self, now: Timestamp) -> SessionDocument {
        let id = self.session.id.unwrap_or_else(SessionId::generate);
        let times = self.messages().map(|message| message.created_at);
        let created_at = self.session.created_at.or_else(|| times.min()).unwrap_or(now);
        let times = self.messages().map(|message| message.created_at);
        let updated_at = self.session.updated_at.or_else(|| times.max()).unwrap_or(created_at);
        let name = self.session.title.take().unwrap_or_else(|| {
            let first = self.messages().find(|message| message.role == Role::User).map(MessageDraft::text);
            automatic_name(
                &first.unwrap_or_default(),
                &created_at.to_jiff().to_zoned(jiff::tz::TimeZone::UTC),
            )
        });
        let ids: Vec<BranchId> =
            self.branches.iter().map(|branch| branch.id.unwrap_or_else(BranchId::generate)).collect();
        let main = ids.first().copied().unwrap_or_else(BranchId::generate);
        let id_of = |key: BranchKey| ids.get(key).copied().unwrap_or(main);
        let branches = self.branches.into_iter().enumerate().map(|(key, branch)| {
            let default_name =
                || if key == 0 { MAIN_BRANCH.to_owned() } else { format!("{MAIN_BRANCH}-{}", key + 1) };
            let messages = branch.messages.into_iter().zip(branch.forked_at + 1..);
            let messages: Vec<Message> =
                messages.map(|(content, seq)| Message { branch: id_of(key), seq, content }).collect();
            DocumentBranch {
                branch: Branch {
                    id: id_of(key),
                    session: id,
                    name: branch.name.unwrap_or_else(default_name),
                    parent: branch.parent.map(id_of),
                    forked_at: branch.forked_at,
                    head: branch.forked_at + messages.len() as Seq,
                    created_at,
                    undone: branch.undone,
                },
                messages,
            }
        });
        let mut attachments = self.attachments;
        attachments.sort_by_key(|attachment| attachment.hash);
        attachments.dedup_by_key(|attachment| attachment.hash);
        SessionDocument {
            branches: branches.collect(),
            session: Session {
                id,
                name,
                automatic_name: self.session.automatic_name,
                project: self.session.project,
                created_at,
                updated_at,
                current_branch: id_of(self.current),
                origin: Some(self.session.origin),
                trashed_at: None,
                extra: self.session.extra,
            },
            runs: self.runs,
            checkpoints: (1..)
                .zip(self.checkpoints)
                .map(|(number, draft)| checkpoint(number, draft, id))
                .collect(),
            attachments,
        }
    }
}

fn checkpoint(number: u64, draft: CheckpointDraft, session: SessionId) -> (Checkpoint, CheckpointState) {
    let bytes = serde_json::to_vec(&draft.state).unwrap_or_default();
    let checkpoint = Checkpoint {
        id: draft.id,
        session,
        number,
        branch: draft.branch,
        seq: draft.seq,
        trigger: draft.trigger,
        label: draft.label,
        pinned: draft.pinned,
        created_at: draft.created_at,
        state_hash: ContentHash::from_bytes(*blake3::hash(&bytes).as_bytes()),
        cost: StateCost { state_bytes: bytes.len() as u64, stored_bytes: bytes.len() as u64 },
    };
    (checkpoint, draft.state)
}

/// A branch as its reader sent it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CollectedBranch {
    /// Parent branch; `None` for the first one.
    pub parent: Option<BranchKey>,
    /// The last seq that it shares with its parent.
    pub forked_at: Seq,
    /// Branch id, if the source provided one.
    pub id: Option<BranchId>,
    /// Name, if the source provided one.
    pub name: Option<String>,
    /// Whether it is undone.
    pub undone: bool,
    /// The branch's own messages.
    pub messages: Vec<MessageDraft>,
}

/// Collects every session that it receives.
#[derive(Debug, Default)]
pub struct Collector {
    /// Sessions that are complete.
    pub sessions: Vec<CollectedSession>,
    open: Option<CollectedSession>,
}

impl Collector {
    fn open(&mut self) -> Result<&mut CollectedSession, StoreError> {
        self.open.as_mut().ok_or_else(|| StoreError::Invalid {
            message: "session content was received outside of a session".into(),
        })
    }

    fn branch_mut(&mut self, key: BranchKey) -> Result<&mut CollectedBranch, StoreError> {
        self.open()?
            .branches
            .get_mut(key)
            .ok_or_else(|| StoreError::Invalid { message: format!("branch {key} does not exist") })
    }
}

impl Collector {
    fn branch(&mut self, branch: ForeignBranch) -> Result<(), StoreError> {
        let ForeignBranch { key, parent, forked_at, id, name, undone } = branch;
        let parent_branch = self.branch_mut(parent)?;
        let head = parent_branch.forked_at + parent_branch.messages.len() as u64;
        let open = self.open()?;
        if key != open.branches.len() || forked_at > head {
            return Err(StoreError::Invalid {
                message: format!(
                    "branch {key} forks from {parent} after message {forked_at}, but its head is {head}"
                ),
            });
        }
        let parent = Some(parent);
        open.branches.push(CollectedBranch { parent, forked_at, id, name, undone, messages: Vec::new() });
        Ok(())
    }

    fn end(&mut self, report: ImportReport) -> Result<(), StoreError> {
        let mut session = self
            .open
            .take()
            .ok_or_else(|| StoreError::Invalid { message: "a session ended that had not begun".into() })?;
        session.report = report;
        self.sessions.push(session);
        Ok(())
    }
}

impl ImportReceiver for Collector {
    fn receive(&mut self, event: ImportEvent) -> Result<Flow, StoreError> {
        match event {
            ImportEvent::Session(session) => {
                let mut main = CollectedBranch::default();
                if let Some((id, name)) = &session.main_branch {
                    main.id = Some(*id);
                    main.name = Some(name.clone());
                }
                self.open = Some(CollectedSession {
                    session: *session,
                    branches: vec![main],
                    current: 0,
                    attachments: Vec::new(),
                    runs: Vec::new(),
                    checkpoints: Vec::new(),
                    report: ImportReport::default(),
                });
            }
            ImportEvent::Branch(branch) => self.branch(branch)?,
            ImportEvent::Message { branch, message } => self.branch_mut(branch)?.messages.push(message),
            ImportEvent::Attachment(attachment) => self.open()?.attachments.push(attachment),
            ImportEvent::Run(run) => self.open()?.runs.push(*run),
            ImportEvent::Checkpoint(checkpoint) => self.open()?.checkpoints.push(*checkpoint),
            ImportEvent::CurrentBranch(branch) => {
                self.branch_mut(branch)?;
                self.open()?.current = branch;
            }
            ImportEvent::ResumePoint(_) => {}
            ImportEvent::End(report) => self.end(report)?,
        }
        Ok(Flow::Continue)
    }

    fn progress(&mut self, _bytes_read: u64) -> Flow {
        Flow::Continue
    }
}
