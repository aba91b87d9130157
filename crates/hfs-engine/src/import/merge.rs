//! Imports a session that is in the store already.
//!
//! The branches of a session form a tree of messages, and so do those of its source. The import walks along each branch of the
//! source from message to message through the stored tree: a cursor moves to the stored message that continues its branch,
//! on whatever stored branch it is. So a branch of the source is found again, even if the source now divides its messages among
//! its branches in another way. A message that differs from the stored one is updated. Where the stored tree has no such
//! message, the rest of the branch is appended, on a new branch if the stored branch continues otherwise.
//!
//! A transcript that hfs wrote shows the stored messages in another form, possibly one as several. Its messages are not compared:
//! one that hfs wrote moves the cursor to the stored message that it names, and what the tool added is appended after it.
//!
//! Nor are those of a transcript of an agent whose turns hfs has recorded. It adds to the recorded messages what they lack:
//! see [`RecordedTurns`].
//!
//! Nothing is removed: messages that the source no longer has stay on their branch. The current branch becomes the one that
//! ends where the source ends, unless the user chose another one or continued it.
//!
//! If a source has only grown, its reader continues where the last import ended. The cursors then begin at the stored messages that
//! correspond to the last ones before that place.
//!
//! Every batch is one transaction. An import that fails or is interrupted leaves a session with some of the new messages; the next
//! import finds these and continues.

use std::collections::{HashMap, HashSet, VecDeque};

use hfs_core::{
    Attachment, Branch, BranchDraft, BranchId, BranchKey, CheckpointDraft, Continuation, ErrorExt as _,
    ErrorKind, ForeignBranch, ForeignSession, ImportEvent, ImportedSessionUpdate, MAIN_BRANCH, Message,
    MessageDraft, MessageId, MessageRange, MessageStatus, OperationKind, PageRequest, Part, Position, Run,
    Seq, SessionAttributes, SessionSummary, Source, Store, StoreError, StoreResult, Timestamp,
};

use super::recorded::RecordedTurns;
use super::resume::{ResumePoint, ResumedBranch};
use super::session_title::SessionTitle;
use super::{ReceivedSession, has_final_title, has_title, session_name};

/// Number of messages in one read, append or update.
const BATCH: u32 = 200;

/// A stored message, by the branch on which it is stored and its seq; the seq 0 is the beginning of the first branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    branch: BranchId,
    seq: Seq,
}

/// How a stored message relates to a message of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    /// Another message.
    Different,
    /// An earlier version of the same message.
    Older,
    /// The same message, unchanged.
    Equal,
}

/// Receives a session that is in the store already.
pub(super) struct MergeImport<'a> {
    store: &'a dyn Store,
    dry_run: bool,
    now: Timestamp,
    existing: SessionSummary,
    foreign: ForeignSession,
    history: OperationHistory,
    /// The turns that hfs has recorded, if the source is a transcript of an agent that it ran.
    recorded: Option<RecordedTurns>,
    /// Whether only the messages after a resume point follow.
    is_resumed: bool,
    branches: Vec<Branch>,
    /// Branches of a dry run, which are not in the store.
    planned: HashSet<BranchId>,
    /// The branches that fork after each message.
    forks: HashMap<Node, Vec<BranchId>>,
    /// Cursor of each branch of the source, by key.
    cursors: Vec<Option<BranchCursor>>,
    /// Key of the branch that a resume in the other tool continues.
    current: BranchKey,
    /// Changed messages that are not saved yet, with the ids of the stored ones.
    changed: Vec<MessageDraft>,
    derived_title: SessionTitle,
    first_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
    added: u64,
    updated: u64,
    branches_added: u64,
}

/// Position of a branch of the source in the stored tree.
struct BranchCursor {
    /// The stored branches along which the cursor has moved, each with the first seq on it.
    segments: Vec<(Seq, BranchId)>,
    /// Seq of the stored message that the newest message of the source corresponds to.
    head: Seq,
    /// Seq of the newest message in the source.
    source_head: Seq,
    /// Seqs in the source and in the store, of each message where their difference changes.
    seqs: Vec<(Seq, Seq)>,
    /// Stored messages after `head` on the last branch of `segments`, read in advance.
    lookahead: VecDeque<Message>,
    /// Whether the branch may have messages after those in `lookahead`.
    has_more: bool,
    /// New messages up to `head` that are not appended yet.
    unsaved: Vec<MessageDraft>,
    /// Name of the branch that is created for the next message if the stored tree does not have it. `None` if that message is
    /// appended to the stored branch if possible.
    fork: Option<ForkName>,
}

/// Name for a new branch: the one in the source, if it has one.
struct ForkName(Option<String>);

impl<'a> MergeImport<'a> {
    pub(super) fn new(
        store: &'a dyn Store,
        dry_run: bool,
        existing: SessionSummary,
        foreign: ForeignSession,
        resumed: Option<&ResumePoint>,
        now: Timestamp,
    ) -> StoreResult<Self> {
        let branches = store.list_branches(existing.session.id)?;
        let root = branches.iter().find(|branch| branch.parent.is_none()).map(|branch| branch.id);
        let root = root.ok_or_else(|| StoreError::Corrupt {
            message: format!("session {} has no first branch", existing.session.id),
        })?;
        let history = OperationHistory::read(store, &existing)?;
        let mut merge = Self {
            store,
            dry_run,
            now,
            existing,
            foreign,
            history,
            recorded: None,
            is_resumed: false,
            branches: Vec::new(),
            planned: HashSet::new(),
            forks: HashMap::new(),
            cursors: vec![Some(BranchCursor::new(vec![(0, root)], 0))],
            current: 0,
            changed: Vec::new(),
            derived_title: SessionTitle::default(),
            first_at: None,
            last_at: None,
            added: 0,
            updated: 0,
            branches_added: 0,
        };
        branches.into_iter().for_each(|branch| merge.add_branch(branch));
        if let Some(heads) = merge.foreign.resumed_after.take() {
            merge.is_resumed = true;
            let branches = resumed.map(|point| point.branches.as_slice()).unwrap_or_default();
            let cursors =
                (0..).zip(heads).map(|(key, head)| merge.resumed_cursor(branches.get(key)?.as_ref()?, head));
            merge.cursors = cursors.collect();
        } else if let Some(Continuation::Branch(branch) | Continuation::Recorded(branch)) =
            merge.foreign.continues
        {
            merge.cursors = vec![Some(BranchCursor::new(merge.path_to(branch), 0))];
        }
        if let Some(Continuation::Recorded(branch)) = merge.foreign.continues {
            if !dry_run {
                // A reply whose writer has died is complete as it is, and may be supplemented.
                store.recover_abandoned_replies(Some(merge.existing.session.id), now)?;
            }
            merge.recorded = Some(RecordedTurns::read(store, branch)?);
        }
        Ok(merge)
    }

    /// A cursor after the message of the source with this seq, on a branch of an earlier import.
    fn resumed_cursor(&self, resumed: &ResumedBranch, source_head: Seq) -> Option<BranchCursor> {
        let mut cursor = BranchCursor::new(self.path_to(resumed.branch), 0);
        cursor.seqs.extend(resumed.seqs.iter().filter(|(source, _)| *source <= source_head));
        cursor.head = cursor.stored_seq(source_head);
        cursor.source_head = source_head;
        let head = cursor.head;
        cursor.segments.retain(|(from, _)| *from <= head);
        (!cursor.segments.is_empty()).then_some(cursor)
    }

    pub(super) fn format(&self) -> String {
        self.foreign.origin.format.clone()
    }

    /// Whether the source is an hfs document, whose messages have ids of hfs and are never updated.
    const fn is_document(&self) -> bool {
        self.foreign.id.is_some()
    }

    /// Receives an event of the session, except its beginning and its end.
    pub(super) fn receive(&mut self, event: ImportEvent) -> StoreResult<()> {
        match event {
            ImportEvent::Branch(branch) => self.branch(branch),
            ImportEvent::Message { branch, message } => self.message(branch, message),
            ImportEvent::Attachment(attachment) => self.attachment(&attachment),
            ImportEvent::Run(run) => self.run(&run),
            ImportEvent::Checkpoint(checkpoint) => self.checkpoint(&checkpoint),
            ImportEvent::CurrentBranch(branch) => {
                self.current = branch;
                Ok(())
            }
            ImportEvent::Session(_) | ImportEvent::ResumePoint(_) | ImportEvent::End(_) => Ok(()),
        }
    }

    fn add_branch(&mut self, branch: Branch) {
        if let Some(parent) = branch.parent {
            let node = self.node_at(parent, branch.forked_at);
            self.forks.entry(node).or_default().push(branch.id);
        }
        self.branches.push(branch);
    }

    fn stored_branch(&self, id: BranchId) -> Option<&Branch> {
        self.branches.iter().find(|branch| branch.id == id)
    }

    /// The node of the message with this seq in the history of a stored branch.
    fn node_at(&self, mut branch: BranchId, seq: Seq) -> Node {
        while let Some(found) = self.stored_branch(branch)
            && let Some(parent) = found.parent
            && seq <= found.forked_at
        {
            branch = parent;
        }
        Node { branch, seq }
    }

    /// The stored branches of a branch's history, each with the first seq on it.
    fn path_to(&self, branch: BranchId) -> Vec<(Seq, BranchId)> {
        let mut path = Vec::new();
        let mut next = self.stored_branch(branch);
        // The number of steps is limited, because damaged branches may form a cycle.
        while let Some(branch) = next.filter(|_| path.len() <= self.branches.len()) {
            path.push((if branch.parent.is_some() { branch.forked_at + 1 } else { 0 }, branch.id));
            next = branch.parent.and_then(|parent| self.stored_branch(parent));
        }
        path.reverse();
        path
    }

    fn is_undone(&self, branch: BranchId) -> bool {
        self.stored_branch(branch).is_some_and(|branch| branch.undone)
    }

    fn branch(&mut self, branch: ForeignBranch) -> StoreResult<()> {
        let ForeignBranch { key, parent, forked_at, id, name, undone: _ } = branch;
        self.save(parent)?;
        let parent = self.cursor(parent)?;
        let source_head = forked_at;
        let forked_at = parent.stored_seq(source_head);
        let mut segments = parent.segments.clone();
        segments.retain(|(from, _)| *from == 0 || *from <= forked_at);
        let mut cursor = BranchCursor::new(segments, forked_at);
        cursor.source_head = source_head;
        cursor.seqs.push((source_head, forked_at));
        match id.filter(|id| self.stored_branch(*id).is_some()) {
            Some(stored) => cursor.segments.push((forked_at + 1, stored)),
            None => cursor.fork = Some(ForkName(name)),
        }
        if self.cursors.len() <= key {
            self.cursors.resize_with(key + 1, || None);
        }
        if let Some(slot) = self.cursors.get_mut(key) {
            *slot = Some(cursor);
        }
        Ok(())
    }

    fn cursor(&mut self, key: BranchKey) -> StoreResult<&mut BranchCursor> {
        self.cursors
            .get_mut(key)
            .and_then(Option::as_mut)
            .ok_or_else(|| StoreError::Invalid { message: format!("no branch number {key} in this import") })
    }

    fn message(&mut self, key: BranchKey, mut message: MessageDraft) -> StoreResult<()> {
        if self.move_to_exported(key, &message)? {
            return Ok(());
        }
        if self.skip_recorded(key, &message)? {
            return Ok(());
        }
        // Ids of messages are unique in one transcript, but a session may have several.
        if let Some(source) = &mut message.source {
            match self.foreign.continues {
                Some(Continuation::Branch(branch)) => source.id.insert_str(0, &format!("{branch}/")),
                Some(Continuation::Recorded(_)) => {
                    source.id.insert_str(0, &format!("{}/", self.foreign.origin.id));
                }
                Some(Continuation::Session(_)) | None => {}
            }
        }
        self.derived_title.add(&message);
        if message.created_at.is_known() {
            self.first_at = Some(self.first_at.map_or(message.created_at, |at| at.min(message.created_at)));
            self.last_at = Some(self.last_at.map_or(message.created_at, |at| at.max(message.created_at)));
        }
        if let Some((stored, how)) = self.find_next(key, &message)? {
            let cursor = self.cursor(key)?;
            cursor.advance(stored.branch);
            cursor.count();
            return if how == Match::Older { self.change(stored.content.id, message) } else { Ok(()) };
        }
        if self.cursor(key)?.unsaved.is_empty() {
            self.prepare_append(key)?;
        }
        let cursor = self.cursor(key)?;
        cursor.head += 1;
        cursor.count();
        cursor.unsaved.push(message);
        let is_full = cursor.unsaved.len() >= BATCH as usize;
        self.added += 1;
        if is_full { self.save(key) } else { Ok(()) }
    }

    /// Moves the cursor to the end of a recorded turn, if the message belongs to one.
    fn skip_recorded(&mut self, key: BranchKey, message: &MessageDraft) -> StoreResult<bool> {
        let Some(recorded) = &mut self.recorded else { return Ok(false) };
        let Some(end) = recorded.end_of_turn(key, message) else { return Ok(false) };
        self.save(key)?;
        let cursor = self.cursor(key)?;
        if end > cursor.head {
            cursor.head = end;
            cursor.lookahead.clear();
            cursor.has_more = true;
        }
        cursor.fork = None;
        cursor.count();
        if message.is_typed() {
            self.supplement()?;
        }
        Ok(true)
    }

    /// Adds to recorded turns what the transcript has besides.
    fn supplement(&mut self) -> StoreResult<()> {
        let Some(recorded) = &mut self.recorded else { return Ok(()) };
        while let Some(fuller) = recorded.next_supplemented(self.store)? {
            self.updated += u64::try_from(fuller.len()).unwrap_or(u64::MAX);
            if !self.dry_run && !fuller.is_empty() {
                self.store.supplement_messages(&fuller)?;
            }
        }
        Ok(())
    }

    /// Moves the cursor to the stored message from which hfs wrote this message of the source, if the session has it.
    fn move_to_exported(&mut self, key: BranchKey, message: &MessageDraft) -> StoreResult<bool> {
        let Some(id) = message.source.as_ref().and_then(Source::hfs_message) else { return Ok(false) };
        let stored = match self.store.get_message(id) {
            Ok(stored) => Node { branch: stored.branch, seq: stored.seq },
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(other) => return Err(other),
        };
        if self.stored_branch(stored.branch).is_none() {
            return Ok(false);
        }
        self.save(key)?;
        // Stays on the branch that the source continues, if the message belongs to its history.
        let last = self.cursor(key)?.last_branch();
        let is_on_line = self.node_at(last, stored.seq) == stored;
        if let Some(recorded) = self.recorded.as_mut().filter(|_| is_on_line) {
            recorded.continue_after(key, stored.seq);
        }
        let path = self.path_to(if is_on_line { last } else { stored.branch });
        let cursor = self.cursor(key)?;
        // An export may write a result before messages that precede it, because it has to follow its call.
        cursor.head = if is_on_line { cursor.head.max(stored.seq) } else { stored.seq };
        cursor.segments = path;
        cursor.lookahead.clear();
        cursor.has_more = true;
        cursor.fork = None;
        cursor.count();
        Ok(true)
    }

    /// The stored message after the cursor that is the same as the message of the source. Prefers an unchanged one, and one on
    /// the cursor's own branch.
    fn find_next(&mut self, key: BranchKey, message: &MessageDraft) -> StoreResult<Option<(Message, Match)>> {
        if !self.cursor(key)?.unsaved.is_empty() {
            return Ok(None);
        }
        let mut older = None;
        let (by_id, positional) = (self.is_document(), self.foreign.positional_ids);
        if let Some(next) = self.peek(key)? {
            match compare(by_id, positional, &next.content, message) {
                Match::Equal => return Ok(Some((next.clone(), Match::Equal))),
                Match::Older => older = Some(next.clone()),
                Match::Different => {}
            }
        }
        let cursor = self.cursor(key)?;
        let (node, next) = (cursor.node(), cursor.head + 1);
        let mut branches = self.forks.get(&node).cloned().unwrap_or_default();
        branches.sort_by_key(|branch| self.is_undone(*branch));
        for branch in branches {
            for found in self.store.read_messages(branch, MessageRange::From(next, 1))? {
                match compare(by_id, positional, &found.content, message) {
                    Match::Equal => return Ok(Some((found, Match::Equal))),
                    Match::Older => older = older.or(Some(found)),
                    Match::Different => {}
                }
            }
        }
        Ok(older.map(|found| (found, Match::Older)))
    }

    /// The stored message after the cursor on its own branch; `None` at the end of the branch.
    fn peek(&mut self, key: BranchKey) -> StoreResult<Option<&Message>> {
        let (store, last) = (self.store, self.cursor(key)?.last_branch());
        // A dry run creates no branches.
        let exists = !self.planned.contains(&last);
        let cursor = self.cursor(key)?;
        if cursor.lookahead.is_empty() && cursor.has_more && exists {
            let page = store.read_messages(last, MessageRange::From(cursor.head + 1, BATCH))?;
            cursor.has_more = !page.is_empty();
            cursor.lookahead = page.into();
        }
        Ok(cursor.lookahead.front())
    }

    /// Replaces a stored message by a newer version.
    fn change(&mut self, id: MessageId, message: MessageDraft) -> StoreResult<()> {
        self.updated += 1;
        self.changed.push(MessageDraft { id, ..message });
        if self.changed.len() >= BATCH as usize { self.save_changed() } else { Ok(()) }
    }

    fn save_changed(&mut self) -> StoreResult<()> {
        let changed = std::mem::take(&mut self.changed);
        if self.dry_run || changed.is_empty() {
            return Ok(());
        }
        self.store.update_imported_messages(&changed)
    }

    /// Makes sure that the cursor is at the end of a branch to which a message can be appended.
    fn prepare_append(&mut self, key: BranchKey) -> StoreResult<()> {
        let is_end = self.peek(key)?.is_none();
        let cursor = self.cursor(key)?;
        let (node, last, fork) = (cursor.node(), cursor.last_branch(), cursor.fork.take());
        if is_end && fork.is_none() && !self.is_undone(node.branch) && !self.is_undone(last) {
            return Ok(());
        }
        let branch = match self.empty_branch_at(node)? {
            Some(branch) => branch,
            None => self.create_branch(node, fork.and_then(|ForkName(name)| name))?,
        };
        self.cursor(key)?.move_to(branch);
        Ok(())
    }

    /// A branch without messages that an earlier import created here, or that the user created before continuing the
    /// session in another tool.
    fn empty_branch_at(&self, node: Node) -> StoreResult<Option<BranchId>> {
        let current = Some(self.existing.session.current_branch).filter(|_| self.foreign.continues.is_some());
        for branch in self.forks.get(&node).into_iter().flatten() {
            if self.history.created_by_import.contains(branch) || current == Some(*branch) {
                let branch = self.store.get_branch(*branch)?;
                if !branch.undone && branch.head == branch.forked_at {
                    return Ok(Some(branch.id));
                }
            }
        }
        Ok(None)
    }

    fn create_branch(&mut self, node: Node, name: Option<String>) -> StoreResult<BranchId> {
        self.branches_added += 1;
        let id = BranchId::generate();
        let is_taken = |name: &str| self.branches.iter().any(|branch| branch.name == name);
        let name = name.filter(|name| !is_taken(name)).unwrap_or_else(|| {
            let free = (2..).map(|n| format!("{MAIN_BRANCH}-{n}")).find(|name| !is_taken(name));
            free.unwrap_or_else(|| id.to_string())
        });
        let draft = BranchDraft { id, name, parent: node.branch, forked_at: node.seq };
        if self.dry_run {
            self.planned.insert(id);
            self.branches.push(Branch {
                id,
                session: self.existing.session.id,
                name: draft.name,
                parent: Some(node.branch),
                forked_at: node.seq,
                head: node.seq,
                created_at: self.now,
                undone: false,
            });
        } else {
            self.store.create_branch(&draft, OperationKind::Import, None, self.now)?;
            let branch = self.store.get_branch(id)?;
            self.add_branch(branch);
            self.history.created_by_import.insert(id);
        }
        Ok(id)
    }

    /// Appends the messages of a cursor that are not saved yet.
    fn save(&mut self, key: BranchKey) -> StoreResult<()> {
        let cursor = self.cursor(key)?;
        let messages = std::mem::take(&mut cursor.unsaved);
        if messages.is_empty() {
            return Ok(());
        }
        cursor.has_more = false;
        let before = cursor.head.saturating_sub(u64::try_from(messages.len()).unwrap_or(u64::MAX));
        let branch = cursor.last_branch();
        if self.dry_run {
            return Ok(());
        }
        match self.store.append(Position { branch, head: before }, &messages) {
            // Another process has continued or undone the branch meanwhile, so the source continues on a branch of its own.
            Err(
                StoreError::HeadMismatch { .. } | StoreError::Locked { .. } | StoreError::Conflict { .. },
            ) => {
                let branch = self.create_branch(self.node_at(branch, before), None)?;
                let cursor = self.cursor(key)?;
                cursor.segments.retain(|(from, _)| *from <= before);
                cursor.segments.push((before + 1, branch));
                self.store.append(Position { branch, head: before }, &messages).map(|_| ())
            }
            appended => appended.map(|_| ()),
        }
    }

    fn save_all(&mut self) -> StoreResult<()> {
        for key in 0..self.cursors.len() {
            if self.cursors.get(key).is_some_and(Option::is_some) {
                self.save(key)?;
            }
        }
        self.save_changed()
    }

    fn attachment(&mut self, attachment: &Attachment) -> StoreResult<()> {
        if self.dry_run { Ok(()) } else { self.store.put_attachment(attachment) }
    }

    /// The stored branch of a run or checkpoint. A source that is not an hfs document names only its first branch.
    fn branch_of(&self, id: BranchId) -> Option<BranchId> {
        let is_main = self.foreign.main_branch.as_ref().is_some_and(|(main, _)| *main == id);
        let root = self.branches.iter().find(|branch| branch.parent.is_none());
        let stored = self.stored_branch(id).or(root.filter(|_| is_main && !self.is_document()));
        stored.map(|branch| branch.id)
    }

    fn run(&mut self, run: &Run) -> StoreResult<()> {
        if self.dry_run || self.stored_branch(run.branch).is_none() {
            return Ok(());
        }
        match self.store.get_run(run.id) {
            Err(StoreError::NotFound { .. }) => self.store.save_run(run),
            other => other.map(|_| ()),
        }
    }

    fn checkpoint(&mut self, checkpoint: &CheckpointDraft) -> StoreResult<()> {
        let Some(branch) = self.branch_of(checkpoint.branch).filter(|_| !self.dry_run) else { return Ok(()) };
        let checkpoint = &CheckpointDraft { branch, ..checkpoint.clone() };
        self.save_all()?;
        match self.store.get_checkpoint(checkpoint.id) {
            Err(StoreError::NotFound { .. }) => {
                // With this retention, the store prunes no checkpoints.
                self.store.create_checkpoint(checkpoint, u32::MAX).map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }

    /// Ends the import. `is_damaged` is set if records of the source could not be read.
    pub(super) fn finish(
        mut self,
        is_damaged: bool,
        zone: &jiff::tz::TimeZone,
    ) -> StoreResult<ReceivedSession> {
        self.save_all()?;
        if let Some(recorded) = &mut self.recorded {
            recorded.end();
        }
        self.supplement()?;
        let mut name = self.existing.session.name.clone();
        let mut has_changed = self.added + self.updated + self.branches_added > 0;
        // The name and the current branch of a session that was exported are those of hfs.
        if !self.is_document() && self.foreign.continues.is_none() {
            let update = self.session_update(is_damaged, zone)?;
            has_changed |= update.name.is_some() || update.current_branch.is_some();
            let session = &self.existing.session;
            let changes_row =
                update.created_at.is_some() || update.extra.is_some() || update.project.is_some();
            if let Some((new, _)) = &update.name {
                name.clone_from(new);
            }
            if !self.dry_run && (has_changed || changes_row) {
                match self.store.update_imported_session(session.id, &update, self.now) {
                    // The user has renamed the session or switched its branch meanwhile, so these stay.
                    Err(error) if error.kind() == ErrorKind::Conflict => {
                        self.update_without_attributes(update)?;
                    }
                    updated => updated?,
                }
            }
        }
        Ok(ReceivedSession {
            session: Some(self.existing.session.id),
            name,
            messages: self.added,
            updated_messages: self.updated,
            branches: self.existing.branches + self.branches_added,
            updated: true,
            has_changed,
            can_be_resumed: self.recorded.is_none()
                && (self.is_resumed || has_final_title(&self.foreign, &self.derived_title)),
            source_branches: self.cursors.into_iter().map(|cursor| Some(cursor?.into_resumed())).collect(),
        })
    }

    fn update_without_attributes(&self, update: ImportedSessionUpdate) -> StoreResult<()> {
        let id = self.existing.session.id;
        let expected = attributes(&self.store.get_session(id)?);
        let update = ImportedSessionUpdate { expected, name: None, current_branch: None, ..update };
        self.store.update_imported_session(id, &update, self.now)
    }

    /// The changes that bring the session's own fields to those of the source.
    fn session_update(
        &mut self,
        is_damaged: bool,
        zone: &jiff::tz::TimeZone,
    ) -> StoreResult<ImportedSessionUpdate> {
        let current_branch = self.new_current_branch(is_damaged)?;
        let session = &self.existing.session;
        let created_at = self.foreign.created_at.or(self.first_at.filter(|_| !self.is_resumed));
        let name =
            session_name(&self.foreign, &self.derived_title, created_at.unwrap_or(session.created_at), zone);
        // The first messages, from which a name was derived, are before the resume point.
        let has_name = !self.is_resumed || has_title(&self.foreign);
        let follows_name = has_name && (self.history.name_is_imported || session.automatic_name);
        let is_new_name = (&name.0, name.1) != (&session.name, session.automatic_name);
        Ok(ImportedSessionUpdate {
            expected: attributes(&self.existing),
            name: Some(name).filter(|_| follows_name && is_new_name),
            current_branch,
            project: self.foreign.project.clone().filter(|_| session.project.is_none()),
            origin: Some(self.foreign.origin.clone()),
            created_at: created_at.filter(|at| *at != session.created_at),
            updated_at: self.foreign.updated_at.or(self.last_at).unwrap_or(session.updated_at),
            extra: Some(self.foreign.extra.clone()).filter(|extra| *extra != session.extra),
        })
    }

    /// The branch that ends where the source's current branch ends, unless it is current already or the user chose another
    /// one or continued the current one.
    fn new_current_branch(&mut self, is_damaged: bool) -> StoreResult<Option<BranchId>> {
        let current = self.existing.session.current_branch;
        let key = self.current;
        if !self.history.branch_is_imported || self.is_continued(current, key)? {
            return Ok(None);
        }
        let node = self.cursor(key)?.node();
        if node.seq == 0 || self.is_undone(node.branch) {
            return Ok(None);
        }
        if self.dry_run {
            return Ok(Some(node.branch).filter(|branch| *branch != current));
        }
        let next = self.store.read_messages(node.branch, MessageRange::From(node.seq + 1, 1))?;
        let branch = match next.first() {
            None => node.branch,
            // Messages that hfs added belong to the line that the source continues.
            Some(next) if next.content.source.is_none() => node.branch,
            // A damaged source may lack messages that it still has when it is repaired.
            Some(_) if is_damaged => return Ok(None),
            // The source has gone back to an earlier message. The messages after it stay on their branch.
            Some(_) => match self.empty_branch_at(node)? {
                Some(branch) => branch,
                None => self.create_branch(node, None)?,
            },
        };
        Ok(Some(branch).filter(|branch| *branch != current))
    }

    /// Whether a stored branch has a message that was not imported, after those that it shares with a branch of the source. What
    /// another tool added after such a message continues it, too.
    fn is_continued(&mut self, branch: BranchId, key: BranchKey) -> StoreResult<bool> {
        let cursor = self.cursor(key)?;
        let (segments, head) = (cursor.segments.clone(), cursor.head);
        let path = self.path_to(branch);
        let shared = path.iter().zip(&segments).take_while(|(stored, source)| stored.1 == source.1).count();
        let ends = [path.get(shared), segments.get(shared)].into_iter().flatten();
        let forked_at = ends.map(|(from, _)| from.saturating_sub(1)).chain([head]).min().unwrap_or(head);
        let mut next = forked_at + 1;
        loop {
            let messages = self.store.read_messages(branch, MessageRange::From(next, BATCH))?;
            if messages.iter().any(|message| message.content.source.is_none()) {
                return Ok(true);
            }
            match messages.last() {
                Some(last) => next = last.seq + 1,
                None => return Ok(false),
            }
        }
    }
}

impl BranchCursor {
    fn new(segments: Vec<(Seq, BranchId)>, head: Seq) -> Self {
        Self {
            segments,
            head,
            source_head: head,
            seqs: Vec::new(),
            lookahead: VecDeque::new(),
            has_more: true,
            unsaved: Vec::new(),
            fork: None,
        }
    }

    /// Counts a message of the source, which corresponds to the stored message at the cursor.
    fn count(&mut self) {
        self.source_head += 1;
        if self.stored_seq(self.source_head) != self.head {
            self.seqs.push((self.source_head, self.head));
        }
    }

    /// The seq in the store of the message with this seq in the source.
    fn stored_seq(&self, seq: Seq) -> Seq {
        let known = self.seqs.iter().rev().find(|(source, _)| *source <= seq);
        known.map_or(seq, |(source, stored)| stored + (seq - source))
    }

    fn into_resumed(self) -> ResumedBranch {
        ResumedBranch { branch: self.last_branch(), seqs: self.seqs }
    }

    fn last_branch(&self) -> BranchId {
        self.segments.last().map_or_else(BranchId::generate, |(_, branch)| *branch)
    }

    /// The stored message at the cursor.
    fn node(&self) -> Node {
        let segment = self.segments.iter().rev().find(|(from, _)| *from <= self.head);
        Node { branch: segment.map_or_else(|| self.last_branch(), |(_, branch)| *branch), seq: self.head }
    }

    /// Moves the cursor to the next message, which is on this branch.
    fn advance(&mut self, branch: BranchId) {
        if branch == self.last_branch() {
            self.lookahead.pop_front();
        } else {
            self.move_to(branch);
            self.has_more = true;
        }
        self.fork = None;
        self.head += 1;
    }

    /// Lets the next message be on this branch.
    fn move_to(&mut self, branch: BranchId) {
        self.segments.retain(|(from, _)| *from <= self.head);
        self.segments.push((self.head + 1, branch));
        self.lookahead.clear();
        self.has_more = false;
    }
}

/// What the log of a session's operations says about imports and the user.
#[derive(Debug, Default)]
struct OperationHistory {
    /// Whether the last change of the name was an import.
    name_is_imported: bool,
    /// Whether the last change of the current branch was an import.
    branch_is_imported: bool,
    created_by_import: HashSet<BranchId>,
}

impl OperationHistory {
    fn read(store: &dyn Store, existing: &SessionSummary) -> StoreResult<Self> {
        let mut history = Self::default();
        let (mut name_is_known, mut branch_is_known) = (false, false);
        let mut request = PageRequest::first(BATCH);
        loop {
            let page = store.list_operations(Some(existing.session.id), &request)?;
            for operation in page.items {
                let is_import = operation.kind == OperationKind::Import;
                history.created_by_import.extend(operation.branch.filter(|_| is_import));
                let renamed =
                    operation.before.as_ref().is_none_or(|before| before.name != operation.after.name);
                if !name_is_known && renamed {
                    name_is_known = true;
                    history.name_is_imported = is_import;
                }
                // The user may switch to the branch that is current already, to stay on it.
                let switched = operation.kind == OperationKind::Switch
                    || operation
                        .before
                        .as_ref()
                        .is_none_or(|before| before.current_branch != operation.after.current_branch);
                if !branch_is_known && switched {
                    branch_is_known = true;
                    history.branch_is_imported = is_import;
                }
            }
            match page.next {
                Some(next) => request.after = Some(next),
                None => return Ok(history),
            }
        }
    }
}

fn attributes(summary: &SessionSummary) -> SessionAttributes {
    SessionAttributes {
        name: summary.session.name.clone(),
        automatic_name: summary.session.automatic_name,
        current_branch: summary.session.current_branch,
        trashed: summary.session.trashed_at.is_some(),
    }
}

fn compare(by_id: bool, positional: bool, stored: &MessageDraft, source: &MessageDraft) -> Match {
    if by_id {
        return if stored.id == source.id { Match::Equal } else { Match::Different };
    }
    if stored.source.is_none() || stored.source != source.source || stored.role != source.role {
        return Match::Different;
    }
    if has_same_content(stored, source) {
        return Match::Equal;
    }
    // An id that is only a position may belong to another message now.
    if positional && !extends(source, stored) { Match::Different } else { Match::Older }
}

fn has_same_content(stored: &MessageDraft, source: &MessageDraft) -> bool {
    // A message without a writer is not stored as streaming.
    let status = match source.status {
        MessageStatus::Streaming => MessageStatus::Interrupted,
        status => status,
    };
    let same_extra =
        stored.extra.unparsed_json().is_some_and(|json| source.extra.unparsed_json() == Some(json));
    stored.status == status
        && stored.parts == source.parts
        && stored.agent == source.agent
        && stored.model == source.model
        && stored.usage == source.usage
        && stored.created_at == source.created_at
        && (same_extra || stored.extra == source.extra)
}

/// Whether a message begins with the content of another.
fn extends(longer: &MessageDraft, shorter: &MessageDraft) -> bool {
    let Some((last, first)) = shorter.parts.split_last() else { return true };
    let begins_with = |part: &Part| match (part, last) {
        (Part::Text { text }, Part::Text { text: beginning })
        | (Part::Thinking { text, .. }, Part::Thinking { text: beginning, .. }) => {
            text.starts_with(beginning)
        }
        (part, last) => part == last,
    };
    longer.parts.starts_with(first) && longer.parts.get(first.len()).is_some_and(begins_with)
}
