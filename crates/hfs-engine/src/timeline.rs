//! Structural changes of a session: rewind, fork, switch, manual checkpoints, undo and redo.
//!
//! These changes never remove a message. A rewind creates a branch that starts at a checkpoint, and undo hides the branch
//! that an operation created.

use hfs_core::{
    Branch, BranchDraft, BranchId, Checkpoint, CheckpointDraft, CheckpointId, CheckpointState, Message,
    MessageRange, Operation, OperationId, OperationKind, PageRequest, Role, Seq, SessionId, StoreError,
    Trigger,
};

use crate::{Conversation, Engine, EngineError};

/// Number of messages after a checkpoint that are searched for the user's next message.
const PROMPT_SEARCH: u32 = 20;

/// Preview of a rewind.
#[derive(Debug, Clone, PartialEq)]
pub struct RewindPlan {
    /// Checkpoint to return to.
    pub checkpoint: Checkpoint,
    /// Branch of the checkpoint. The rewind leaves it unchanged.
    pub from: Branch,
    /// Number of messages that the new branch shows.
    pub in_view: Seq,
    /// Number of messages of `from` that the new branch does not show.
    pub out_of_view: Seq,
    /// The user's next message after the checkpoint, to be edited and sent again.
    pub prompt: Option<Message>,
}

/// Result of a rewind.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewound {
    /// The plan, as computed when the rewind started.
    pub plan: RewindPlan,
    /// The new branch, which is now the current one.
    pub branch: Branch,
    /// The restored state.
    pub state: CheckpointState,
    /// The recorded operation.
    pub operation: Operation,
}

impl Engine {
    /// Computes what a rewind to this checkpoint would do.
    ///
    /// # Errors
    /// `NotFound` for the checkpoint or its branch.
    pub async fn plan_rewind(&self, checkpoint: CheckpointId) -> Result<RewindPlan, EngineError> {
        self.run_blocking(move |engine| engine.rewind_plan(checkpoint)).await
    }

    /// Creates a branch at the checkpoint, restores its state and makes it the current branch.
    ///
    /// # Errors
    /// `NotFound` for the checkpoint; `Corrupt` if its state is damaged. After an error the session is unchanged.
    pub async fn rewind(&self, checkpoint: CheckpointId) -> Result<Rewound, EngineError> {
        self.run_blocking(move |engine| {
            let store = engine.store();
            let plan = engine.rewind_plan(checkpoint)?;
            let state = store.load_state(checkpoint)?;
            let draft = BranchDraft {
                id: BranchId::generate(),
                name: engine.free_branch_name(&plan.from)?,
                parent: plan.from.id,
                forked_at: plan.checkpoint.seq,
            };
            let now = engine.clock().now();
            let operation = store.create_branch(&draft, OperationKind::Rewind, Some(checkpoint), now)?;
            engine.restore_plugin_states(plan.checkpoint.session, draft.id, &state);
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

    /// Makes another branch of the session the current one.
    ///
    /// # Errors
    /// `NotFound` for the branch; `Conflict` if it is undone.
    pub async fn switch(&self, session: SessionId, branch: BranchId) -> Result<Branch, EngineError> {
        self.run_blocking(move |engine| {
            let branch = engine.branch_of(session, branch)?;
            engine.store().switch_branch(branch.id, engine.clock().now())?;
            engine.load_plugin_states(session, branch.id)?;
            Ok(branch)
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

    /// Undoes the newest operation of the session that is not undone yet. Skips deletions of checkpoints, which cannot
    /// be undone. Returns the undone operation and the recorded undo.
    ///
    /// # Errors
    /// `NothingToReverse` or `NotReversible`; otherwise the store's error.
    pub async fn undo(&self, session: SessionId) -> Result<(Operation, Operation), EngineError> {
        self.reverse(session, Direction::Undo).await
    }

    /// Redoes the operation that the newest undo reversed. Returns that operation and the recorded redo.
    ///
    /// # Errors
    /// `NothingToReverse` if there is no undo to redo, because each one was redone or another operation followed.
    /// Otherwise the store's error.
    pub async fn redo(&self, session: SessionId) -> Result<(Operation, Operation), EngineError> {
        self.reverse(session, Direction::Redo).await
    }

    async fn reverse(
        &self,
        session: SessionId,
        direction: Direction,
    ) -> Result<(Operation, Operation), EngineError> {
        self.run_blocking(move |engine| {
            let target = engine.reversal_target(session, direction)?;
            let done = engine.store().reverse(target.id, direction.kind(), engine.clock().now())?;
            engine.load_plugin_states(session, done.after.current_branch)?;
            Ok((target, done))
        })
        .await
    }
}

/// Synchronous parts of the operations above. They block on the store.
impl Engine {
    fn rewind_plan(&self, checkpoint: CheckpointId) -> Result<RewindPlan, EngineError> {
        let store = self.store();
        let checkpoint = store.get_checkpoint(checkpoint)?;
        let from = store.get_branch(checkpoint.branch)?;
        let after = store.read_messages(from.id, MessageRange::From(checkpoint.seq + 1, PROMPT_SEARCH))?;
        let prompt = after.into_iter().find(|message| message.content.role == Role::User);
        Ok(RewindPlan {
            in_view: checkpoint.seq,
            out_of_view: from.head.saturating_sub(checkpoint.seq),
            prompt,
            checkpoint,
            from,
        })
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
