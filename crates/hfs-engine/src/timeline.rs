//! Structural changes of a session: rewind, fork, switch, manual checkpoints, undo and redo.
//!
//! These changes never remove a message. A rewind creates a branch that starts at a checkpoint or after a message, and undo
//! marks the branch that an operation created as undone.

use hfs_core::{
    Branch, BranchDraft, BranchId, Checkpoint, CheckpointDraft, CheckpointId, CheckpointState, Message,
    MessageRange, Operation, OperationId, OperationKind, PageRequest, Role, Seq, SessionId, SideEffects,
    SideEffectsCollector, StoreError, Trigger,
};

use crate::session_graph::Lineage;
use crate::{Conversation, Engine, EngineError};

/// Number of messages after a checkpoint that are searched for the user's next message.
const PROMPT_SEARCH: u32 = 20;

/// The place that a rewind returns to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewindTarget {
    /// The place of a checkpoint.
    Checkpoint(CheckpointId),
    /// The place after a message, whether a checkpoint was kept there or not.
    Message {
        /// A branch whose history contains the message.
        branch: BranchId,
        /// The message; 0 for the place before the first one.
        seq: Seq,
    },
}

impl From<CheckpointId> for RewindTarget {
    fn from(id: CheckpointId) -> Self {
        Self::Checkpoint(id)
    }
}

/// The state of agents and plugins at the place of a rewind.
#[derive(Debug, Clone, PartialEq)]
pub enum StateAtPlace {
    /// A rewind restores the state of this checkpoint.
    Kept(Box<Checkpoint>),
    /// There was no state yet: no reply precedes the place.
    Initial,
    /// There is no checkpoint of it: it was pruned or deleted, the request failed, or the messages were imported. Agents
    /// start from the messages alone.
    NotKept,
}

/// Preview of a rewind.
#[derive(Debug, Clone, PartialEq)]
pub struct RewindPlan {
    /// The place to return to.
    pub target: RewindTarget,
    /// The state that the rewind restores.
    pub state: StateAtPlace,
    /// Branch of the checkpoint or message, from which the new branch starts.
    pub from: Branch,
    /// The current branch, which is left and keeps its messages. It may be another one than `from`.
    pub current: Branch,
    /// Number of messages that the new branch shows.
    pub in_view: Seq,
    /// Number of messages of `current` that the new branch does not show.
    pub out_of_view: Seq,
    /// The user's next message after the place, to be edited and sent again: that of `current` if the place is in its
    /// history, else that of `from`.
    pub prompt: Option<Message>,
    /// What agents did in the messages that go out of view. It is not taken back.
    pub side_effects: SideEffects,
}

impl RewindPlan {
    /// The checkpoint whose state the rewind restores.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        match &self.state {
            StateAtPlace::Kept(checkpoint) => Some(checkpoint),
            StateAtPlace::Initial | StateAtPlace::NotKept => None,
        }
    }
}

/// Result of a rewind.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewound {
    /// The plan, as computed when the rewind started.
    pub plan: RewindPlan,
    /// The new branch, which is now the current one.
    pub branch: Branch,
    /// The restored state; the empty state if none was kept.
    pub state: CheckpointState,
    /// The recorded operation.
    pub operation: Operation,
}

/// Preview of an undo or redo.
#[derive(Debug, Clone, PartialEq)]
pub struct ReversalPlan {
    /// The operation that would be undone or redone.
    pub target: Operation,
    /// The branch that is current now.
    pub from: Branch,
    /// The branch that would be current.
    pub to: Branch,
    /// Number of messages of `from` that `to` does not show.
    pub out_of_view: Seq,
}

/// Result of an undo or redo.
#[derive(Debug, Clone, PartialEq)]
pub struct Reversed {
    /// The plan, as computed when the undo or redo started.
    pub plan: ReversalPlan,
    /// The recorded operation.
    pub operation: Operation,
}

impl Engine {
    /// Computes what a rewind to this place would do.
    ///
    /// # Errors
    /// `NotFound` for the checkpoint, the branch or the message.
    pub async fn plan_rewind(&self, to: impl Into<RewindTarget>) -> Result<RewindPlan, EngineError> {
        let to = to.into();
        self.run_blocking(move |engine| engine.rewind_plan(to)).await
    }

    /// Creates a branch at the place, restores the state that was kept there and makes it the current branch.
    ///
    /// # Errors
    /// `NotFound` for the checkpoint, the branch or the message; `Corrupt` if the state is damaged; `Locked` if the message
    /// is a reply in progress. After an error the session is unchanged.
    pub async fn rewind(&self, to: impl Into<RewindTarget>) -> Result<Rewound, EngineError> {
        let to = to.into();
        self.run_blocking(move |engine| {
            let store = engine.store();
            let plan = engine.rewind_plan(to)?;
            let checkpoint = plan.checkpoint().map(|checkpoint| checkpoint.id);
            let state = checkpoint.map(|id| store.load_state(id)).transpose()?.unwrap_or_default();
            let draft = BranchDraft {
                id: BranchId::generate(),
                name: engine.free_branch_name(&plan.from)?,
                parent: plan.from.id,
                forked_at: plan.in_view,
            };
            let now = engine.clock().now();
            let operation = store.create_branch(&draft, OperationKind::Rewind, checkpoint, now)?;
            engine.restore_plugin_states(plan.from.session, draft.id, &state);
            let branch = store.get_branch(draft.id)?;
            Ok(Rewound { plan, branch, state, operation })
        })
        .await
    }

    /// Creates a branch after the message with seq `at` of `branch` and makes it the current branch. The default name
    /// is that of `branch` with the next free number.
    ///
    /// # Errors
    /// `NotFound` for the branch; `Invalid` if `at` is beyond its head; `Conflict` if the name is taken.
    pub async fn fork(&self, branch: BranchId, at: Seq, name: Option<&str>) -> Result<Branch, EngineError> {
        let name = name.map(str::to_owned);
        self.run_blocking(move |engine| {
            let store = engine.store();
            let parent = store.get_branch(branch)?;
            let name = match name {
                Some(name) => name,
                None => engine.free_branch_name(&parent)?,
            };
            let draft = BranchDraft { id: BranchId::generate(), name, parent: branch, forked_at: at };
            store.create_branch(&draft, OperationKind::Fork, None, engine.clock().now())?;
            engine.load_plugin_states(parent.session, draft.id)?;
            Ok(store.get_branch(draft.id)?)
        })
        .await
    }

    /// Makes another branch of the session the current one. A branch that was undone is no longer undone then.
    ///
    /// # Errors
    /// `NotFound` for the branch.
    pub async fn switch(&self, session: SessionId, branch: BranchId) -> Result<Branch, EngineError> {
        self.run_blocking(move |engine| {
            let branch = engine.branch_of(session, branch)?;
            let current = engine.store().get_session(session)?.session.current_branch;
            // An operation that changes nothing would be one that an undo does not show.
            if current != branch.id || branch.undone {
                engine.store().switch_branch(branch.id, engine.clock().now())?;
            }
            engine.load_plugin_states(session, branch.id)?;
            Ok(Branch { undone: false, ..branch })
        })
        .await
    }

    /// Creates a checkpoint at the conversation's position, with the state that the next run would start from.
    ///
    /// # Errors
    /// `EmptyConversation` before the first message; otherwise the store's error.
    pub async fn checkpoint(
        &self,
        conversation: &Conversation,
        label: Option<&str>,
    ) -> Result<Checkpoint, EngineError> {
        let Some((session, at)) = conversation.place else {
            return Err(EngineError::EmptyConversation);
        };
        let label = label.map(str::to_owned);
        self.run_blocking(move |engine| {
            let store = engine.store();
            let mut state = store.load_branch_state(at.branch)?.unwrap_or_default();
            if let Some(states) = engine.hooks().session_state(session) {
                state.plugins = states;
            }
            let draft = CheckpointDraft {
                id: CheckpointId::generate(),
                branch: at.branch,
                seq: at.head,
                trigger: Trigger::Manual,
                label,
                pinned: false,
                created_at: engine.clock().now(),
                state,
            };
            Ok(store.create_checkpoint(&draft, engine.settings().checkpoint_retention)?)
        })
        .await
    }

    /// Computes what [`undo`](Self::undo) would do.
    ///
    /// # Errors
    /// Those of [`undo`](Self::undo).
    pub async fn plan_undo(&self, session: SessionId) -> Result<ReversalPlan, EngineError> {
        self.run_blocking(move |engine| engine.reversal_plan(session, Direction::Undo)).await
    }

    /// Computes what [`redo`](Self::redo) would do.
    ///
    /// # Errors
    /// Those of [`redo`](Self::redo).
    pub async fn plan_redo(&self, session: SessionId) -> Result<ReversalPlan, EngineError> {
        self.run_blocking(move |engine| engine.reversal_plan(session, Direction::Redo)).await
    }

    /// Undoes the newest operation of the session that is not undone yet. Skips deletions of checkpoints, which cannot
    /// be undone.
    ///
    /// # Errors
    /// `NothingToReverse` or `NotReversible`; otherwise the store's error.
    pub async fn undo(&self, session: SessionId) -> Result<Reversed, EngineError> {
        self.reverse(session, Direction::Undo).await
    }

    /// Redoes the operation that the newest undo reversed.
    ///
    /// # Errors
    /// `NothingToReverse` if there is no undo to redo, because each one was redone or another operation followed.
    /// Otherwise the store's error.
    pub async fn redo(&self, session: SessionId) -> Result<Reversed, EngineError> {
        self.reverse(session, Direction::Redo).await
    }

    async fn reverse(&self, session: SessionId, direction: Direction) -> Result<Reversed, EngineError> {
        self.run_blocking(move |engine| {
            let plan = engine.reversal_plan(session, direction)?;
            let operation = engine.store().reverse(plan.target.id, direction.kind(), engine.clock().now())?;
            engine.load_plugin_states(session, operation.after.current_branch)?;
            Ok(Reversed { plan, operation })
        })
        .await
    }
}

/// Synchronous parts of the operations above. They block on the store.
impl Engine {
    fn rewind_plan(&self, to: RewindTarget) -> Result<RewindPlan, EngineError> {
        let store = self.store();
        let (state, from, seq) = match to {
            RewindTarget::Checkpoint(id) => {
                let checkpoint = store.get_checkpoint(id)?;
                let (from, seq) = (store.get_branch(checkpoint.branch)?, checkpoint.seq);
                (StateAtPlace::Kept(Box::new(checkpoint)), from, seq)
            }
            RewindTarget::Message { branch, seq } => {
                let from = store.get_branch(branch)?;
                if seq > from.head {
                    return Err(EngineError::NoMessage { seq, branch: from.name, head: from.head });
                }
                (self.state_at(&from, seq)?, from, seq)
            }
        };
        let branches = store.list_branches(from.session)?;
        let lineage = Lineage::new(&branches);
        let current = store.get_session(from.session)?.session.current_branch;
        let current = lineage.get(current).unwrap_or(&from).clone();
        // What both show: of the current branch, the rest goes out of view.
        let shared = lineage.shared(&current, &from).min(seq);
        let history = if shared == seq { &current } else { &from };
        let after =
            store.read_messages(history.id, MessageRange::From(seq.saturating_add(1), PROMPT_SEARCH))?;
        let prompt = after.into_iter().find(|message| message.content.is_typed());
        let out_of_view = current.head.saturating_sub(shared);
        let side_effects = self.side_effects(&current, shared)?;
        Ok(RewindPlan { target: to, in_view: seq, out_of_view, state, prompt, from, current, side_effects })
    }

    /// What agents did after message `seq` of a branch.
    fn side_effects(&self, branch: &Branch, seq: Seq) -> Result<SideEffects, EngineError> {
        const PAGE: u32 = 500;
        /// Messages of the turn in whose middle the place may be.
        const IN_VIEW: u32 = 20;
        let mut effects = SideEffectsCollector::default();
        let mut next = seq.saturating_add(1);
        effects.add_in_view(&self.store().read_messages(branch.id, MessageRange::Before(next, IN_VIEW))?);
        while next <= branch.head {
            let page = self.store().read_messages(branch.id, MessageRange::From(next, PAGE))?;
            let Some(last) = page.last() else { break };
            next = last.seq + 1;
            effects.add(&page);
        }
        Ok(effects.finish())
    }

    /// The state after message `seq` of a branch's history. A message of the user does not change it, so it is that after the
    /// last reply before.
    fn state_at(&self, branch: &Branch, mut seq: Seq) -> Result<StateAtPlace, EngineError> {
        let store = self.store();
        let checkpoints = store.list_checkpoints(branch.session)?;
        let branches = store.list_branches(branch.session)?;
        let lineage = Lineage::new(&branches);
        loop {
            // The list is ordered by time, so the last one is the newest.
            let owner = lineage.owner(branch, seq).id;
            let found = checkpoints
                .iter()
                .rfind(|checkpoint| checkpoint.seq == seq && [owner, branch.id].contains(&checkpoint.branch));
            if let Some(checkpoint) = found {
                return Ok(StateAtPlace::Kept(Box::new(checkpoint.clone())));
            }
            let message = match seq {
                0 => None,
                seq => store.read_messages(branch.id, MessageRange::From(seq, 1))?.pop(),
            };
            match message.map(|message| message.content.role) {
                None => return Ok(StateAtPlace::Initial),
                Some(Role::User) => seq -= 1,
                Some(Role::Assistant | Role::System | Role::Tool) => return Ok(StateAtPlace::NotKept),
            }
        }
    }

    fn reversal_plan(&self, session: SessionId, direction: Direction) -> Result<ReversalPlan, EngineError> {
        let store = self.store();
        let target = self.reversal_target(session, direction)?;
        let branches = store.list_branches(session)?;
        let lineage = Lineage::new(&branches);
        let current = store.get_session(session)?.session.current_branch;
        let attributes = match direction {
            Direction::Undo => target.before.as_ref().unwrap_or(&target.after),
            Direction::Redo => &target.after,
        };
        let find = |id: BranchId| {
            let missing = || StoreError::NotFound { what: "branch", reference: id.to_string() };
            lineage.get(id).ok_or_else(missing)
        };
        let (from, to) = (find(current)?, find(attributes.current_branch)?);
        let out_of_view = from.head.saturating_sub(lineage.shared(from, to));
        let (from, to) = (from.clone(), to.clone());
        Ok(ReversalPlan { target, from, to, out_of_view })
    }

    /// The first free name of `main-2`, `main-3` and so on, for a branch named `main` or `main-7`.
    fn free_branch_name(&self, parent: &Branch) -> Result<String, EngineError> {
        let branches = self.store().list_branches(parent.session)?;
        let is_taken = |name: &String| branches.iter().any(|branch| branch.name == *name);
        let stem = parent
            .name
            .rsplit_once('-')
            .filter(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
            .map_or(parent.name.as_str(), |(stem, _)| stem);
        let free = (2..).map(|number| format!("{stem}-{number}")).find(|name| !is_taken(name));
        Ok(free.unwrap_or_else(|| BranchId::generate().to_string()))
    }

    /// The operation that an undo or redo would reverse.
    fn reversal_target(&self, session: SessionId, direction: Direction) -> Result<Operation, EngineError> {
        let mut search = ReversalSearch { session, direction, to_skip: 0, skipped_prune: false };
        let mut page = PageRequest::first(50);
        loop {
            let found = self.store().list_operations(Some(session), &page)?;
            for operation in found.items {
                match search.visit(&operation) {
                    Visited::Continue => {}
                    Visited::Nothing => return Err(search.nothing_to_reverse()),
                    Visited::Target(id) if id == operation.id => return search.check(operation),
                    Visited::Target(id) => return search.check(self.find_operation(session, id)?),
                }
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Err(search.nothing_to_reverse()),
            }
        }
    }

    fn find_operation(&self, session: SessionId, id: OperationId) -> Result<Operation, EngineError> {
        let mut page = PageRequest::first(200);
        loop {
            let found = self.store().list_operations(Some(session), &page)?;
            if let Some(operation) = found.items.into_iter().find(|operation| operation.id == id) {
                return Ok(operation);
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => {
                    return Err(StoreError::NotFound { what: "operation", reference: id.to_string() }.into());
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Undo,
    Redo,
}

impl Direction {
    const fn kind(self) -> OperationKind {
        match self {
            Self::Undo => OperationKind::Undo,
            Self::Redo => OperationKind::Redo,
        }
    }
}

/// Finds the target of an undo or redo. Visits the operations of the log from the newest to the oldest.
///
/// The log is append-only, so undos and redos are entries as well. An undo in the log has reversed one older operation,
/// so a search for an undo skips one candidate for each undo that it visits. A search for a redo looks for undos, and
/// skips one of them for each redo that it visits.
struct ReversalSearch {
    session: SessionId,
    direction: Direction,
    /// Number of candidates to skip, because operations visited before have reversed them.
    to_skip: u32,
    /// Whether a deletion of a checkpoint was skipped.
    skipped_prune: bool,
}

enum Visited {
    Continue,
    /// There is no target.
    Nothing,
    Target(OperationId),
}

impl ReversalSearch {
    fn visit(&mut self, operation: &Operation) -> Visited {
        if operation.kind == OperationKind::Prune {
            self.skipped_prune = true;
            return Visited::Continue;
        }
        if operation.kind == self.direction.kind() {
            self.to_skip += 1;
            return Visited::Continue;
        }
        if self.direction == Direction::Redo && operation.kind != OperationKind::Undo {
            return Visited::Nothing;
        }
        if self.to_skip > 0 {
            self.to_skip -= 1;
            return Visited::Continue;
        }
        // If the operation is itself an undo or redo, the new operation reverses the same target.
        Visited::Target(operation.target.unwrap_or(operation.id))
    }

    /// Returns the operation if it can be reversed.
    fn check(&self, operation: Operation) -> Result<Operation, EngineError> {
        if operation.kind.is_reversible() {
            return Ok(operation);
        }
        Err(EngineError::NotReversible {
            direction: self.direction.kind(),
            operation: operation.kind,
            session: self.session,
            skipped_prune: self.skipped_prune,
        })
    }

    fn nothing_to_reverse(&self) -> EngineError {
        EngineError::NothingToReverse { direction: self.direction.kind(), skipped_prune: self.skipped_prune }
    }
}
