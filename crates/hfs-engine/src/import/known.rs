//! A session that the store has already: what is new in it is added, and what has gone another way becomes a
//! branch.
//!
//! Numbers along a history are the same there and here, because both begin with the same messages. So a
//! foreign branch is followed through the branches here message by message, for as long as they agree.

use std::collections::VecDeque;

use hfs_core::{
    Attachment, Branch, BranchDraft, BranchId, BranchKey, CheckpointDraft, Message, MessageDraft,
    MessageRange, OperationKind, Position, Run, Seq, SessionSummary, Store, StoreError, StoreResult,
    Timestamp,
};

use super::Done;

/// How many messages are read, or saved, at once.
const BATCH: usize = 200;

/// Receives a session that exists.
pub struct Known<'a> {
    store: &'a dyn Store,
    dry_run: bool,
    existing: SessionSummary,
    /// Whether messages are the same when their ids are (documents of ours) or when their sources are.
    by_id: bool,
    now: Timestamp,
    branches: Vec<Branch>,
    lines: Vec<Option<Line>>,
    added: u64,
    branches_added: u64,
}

/// A foreign branch on its way through the branches here.
struct Line {
    /// From which seq on it runs along which branch here.
    segments: Vec<(Seq, BranchId)>,
    /// The seq of its newest message.
    head: Seq,
    /// The messages here that come next, while both agree.
    ahead: VecDeque<Message>,
    /// Whether there may be more of them than `ahead` holds.
    more_ahead: bool,
    /// What waits to be saved behind `saved`.
    pending: Vec<MessageDraft>,
    /// A branch to be made at the first message that differs.
    unmade: bool,
}

impl<'a> Known<'a> {
    pub fn new(
        store: &'a dyn Store,
        dry_run: bool,
        existing: SessionSummary,
        by_id: bool,
        now: Timestamp,
    ) -> StoreResult<Self> {
        let branches = store.list_branches(existing.session.id)?;
        let mut known = Self {
            store,
            dry_run,
            existing,
            by_id,
            now,
            branches,
            lines: Vec::new(),
            added: 0,
            branches_added: 0,
        };
        let root = known.branches.iter().find(|branch| branch.parent.is_none()).map(|branch| branch.id);
        let root = root.ok_or_else(|| StoreError::Corrupt {
            message: format!("session {} has no first branch", known.existing.session.id),
        })?;
        known.lines.push(Some(Line::along(root, 1)));
        Ok(known)
    }

    pub fn format(&self) -> String {
        self.existing.session.origin.as_ref().map_or_else(|| "hfs".to_owned(), |origin| origin.format.clone())
    }

    pub fn branch(
        &mut self,
        key: BranchKey,
        parent: BranchKey,
        forked_at: Seq,
        id: Option<BranchId>,
        _name: Option<String>,
    ) -> StoreResult<()> {
        self.save(parent)?;
        let host = self.line(parent)?.branch_at(forked_at);
        let line = match id.filter(|id| self.branches.iter().any(|branch| branch.id == *id)) {
            Some(same) => {
                Line { segments: vec![(forked_at + 1, same)], head: forked_at, ..Line::along(same, 1) }
            }
            None => Line {
                segments: vec![(forked_at + 1, host)],
                head: forked_at,
                more_ahead: false,
                unmade: true,
                ..Line::along(host, 1)
            },
        };
        if self.lines.len() <= key {
            self.lines.resize_with(key + 1, || None);
        }
        if let Some(slot) = self.lines.get_mut(key) {
            *slot = Some(line);
        }
        Ok(())
    }

    fn line(&mut self, key: BranchKey) -> StoreResult<&mut Line> {
        self.lines
            .get_mut(key)
            .and_then(Option::as_mut)
            .ok_or_else(|| StoreError::Invalid { message: format!("no branch number {key} in this import") })
    }

    pub fn message(&mut self, key: BranchKey, message: MessageDraft) -> StoreResult<()> {
        if self.line(key)?.unmade {
            self.settle_fork(key, &message)?;
        }
        if self.agrees(key, &message)? {
            return Ok(());
        }
        if self.next_ahead(key)?.is_some() {
            // Both go on, but differently: from here on along a branch of its own.
            let line = self.line(key)?;
            line.ahead.clear();
            line.more_ahead = false;
            self.settle_fork(key, &message)?;
            if self.agrees(key, &message)? {
                return Ok(());
            }
        }
        let line = self.line(key)?;
        line.head += 1;
        line.pending.push(message);
        let full = line.pending.len() >= BATCH;
        self.added += 1;
        if full { self.save(key) } else { Ok(()) }
    }

    /// Moves the line on when the next message here is the one that arrives.
    fn agrees(&mut self, key: BranchKey, arriving: &MessageDraft) -> StoreResult<bool> {
        let by_id = self.by_id;
        let agrees = self.next_ahead(key)?.is_some_and(|next| same(by_id, next, arriving));
        if agrees {
            let line = self.line(key)?;
            line.ahead.pop_front();
            line.head += 1;
        }
        Ok(agrees)
    }

    /// The message here that the next foreign one is compared with; `None` where the branch here ends.
    fn next_ahead(&mut self, key: BranchKey) -> StoreResult<Option<&Message>> {
        let store = self.store;
        let line = self.line(key)?;
        if line.ahead.is_empty() && line.more_ahead && line.pending.is_empty() {
            let branch = line.branch_at(line.head + 1);
            let page = store.read_messages(branch, MessageRange::From(line.head + 1, 200))?;
            line.more_ahead = !page.is_empty();
            line.ahead = page.into();
        }
        Ok(line.ahead.front())
    }

    /// Finds the branch here that begins at the same place with the same message, or makes one.
    fn settle_fork(&mut self, key: BranchKey, first: &MessageDraft) -> StoreResult<()> {
        let line = self.line(key)?;
        line.unmade = false;
        let (host, forked_at) = (line.branch_at(line.head), line.head);
        let candidates: Vec<BranchId> = self
            .branches
            .iter()
            .filter(|branch| branch.forked_at == forked_at && branch.parent.is_some())
            .map(|branch| branch.id)
            .collect();
        for candidate in candidates {
            let begins = self.store.read_messages(candidate, MessageRange::From(forked_at + 1, 1))?;
            if begins.first().is_some_and(|message| same(self.by_id, message, first)) {
                let line = self.line(key)?;
                line.segments.push((forked_at + 1, candidate));
                line.more_ahead = true;
                return Ok(());
            }
        }
        self.fork(key, host, forked_at)
    }

    fn fork(&mut self, key: BranchKey, host: BranchId, forked_at: Seq) -> StoreResult<()> {
        self.branches_added += 1;
        let id = BranchId::generate();
        if !self.dry_run {
            let taken: Vec<&str> = self.branches.iter().map(|branch| branch.name.as_str()).collect();
            let free = (2..).map(|n| format!("imported-{n}")).find(|name| !taken.contains(&name.as_str()));
            let name = free.unwrap_or_else(|| id.to_string());
            let draft = BranchDraft { id, name, parent: host, forked_at };
            self.store.create_branch(&draft, OperationKind::Fork, None, self.now)?;
            // The branch that was open stays open; the new one is listed beside it.
            self.store.switch_branch(self.existing.session.current_branch, self.now)?;
            self.branches.push(self.store.get_branch(id)?);
        }
        let line = self.line(key)?;
        line.segments.push((forked_at + 1, id));
        Ok(())
    }

    fn save(&mut self, key: BranchKey) -> StoreResult<()> {
        let (store, dry_run) = (self.store, self.dry_run);
        let line = self.line(key)?;
        let pending = std::mem::take(&mut line.pending);
        if pending.is_empty() {
            return Ok(());
        }
        line.more_ahead = false;
        if dry_run {
            return Ok(());
        }
        let before = line.head.saturating_sub(u64::try_from(pending.len()).unwrap_or(u64::MAX));
        let at = Position { branch: line.branch_at(line.head), head: before };
        store.append(at, &pending).map(|_| ())
    }

    pub fn attachment(&mut self, attachment: &Attachment) -> StoreResult<()> {
        if self.dry_run { Ok(()) } else { self.store.put_attachment(attachment) }
    }

    pub fn run(&mut self, run: &Run) -> StoreResult<()> {
        let known = self.branches.iter().any(|branch| branch.id == run.branch);
        if self.dry_run || !known {
            return Ok(());
        }
        match self.store.get_run(run.id) {
            Err(StoreError::NotFound { .. }) => self.store.save_run(run),
            other => other.map(|_| ()),
        }
    }

    pub fn checkpoint(&mut self, checkpoint: &CheckpointDraft) -> StoreResult<()> {
        let known = self.branches.iter().any(|branch| branch.id == checkpoint.branch);
        if self.dry_run || !known {
            return Ok(());
        }
        for key in 0..self.lines.len() {
            if self.lines.get(key).is_some_and(Option::is_some) {
                self.save(key)?;
            }
        }
        match self.store.get_checkpoint(checkpoint.id) {
            Err(StoreError::NotFound { .. }) => {
                self.store.create_checkpoint(checkpoint, u32::MAX).map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }

    pub fn finish(mut self) -> StoreResult<Done> {
        for key in 0..self.lines.len() {
            if self.lines.get(key).is_some_and(Option::is_some) {
                self.save(key)?;
            }
        }
        Ok(Done {
            session: Some(self.existing.session.id),
            name: self.existing.session.name,
            messages: self.added,
            branches: self.existing.branches + self.branches_added,
            updated: true,
        })
    }
}

impl Line {
    fn along(branch: BranchId, from: Seq) -> Self {
        Self {
            segments: vec![(from, branch)],
            head: from - 1,
            ahead: VecDeque::new(),
            more_ahead: true,
            pending: Vec::new(),
            unmade: false,
        }
    }

    /// The branch here that holds (or will hold) the message with this seq.
    fn branch_at(&self, seq: Seq) -> BranchId {
        let in_force = self.segments.iter().rev().find(|(from, _)| *from <= seq).or(self.segments.first());
        in_force.map_or_else(BranchId::generate, |(_, branch)| *branch)
    }
}

/// Whether the message here is the one that arrives.
fn same(by_id: bool, here: &Message, arriving: &MessageDraft) -> bool {
    if by_id {
        here.content.id == arriving.id
    } else {
        here.content.source.is_some() && here.content.source == arriving.source
    }
}
