//! Moving through a session's structure: rewind, fork, switch, undo, redo. Nothing here shortens a history.

use hfs_core::{
    Branch, BranchDraft, BranchId, Checkpoint, CheckpointDraft, CheckpointId, CheckpointState, Message,
    MessageRange, Operation, OperationKind, PageRequest, Role, Seq, SessionId, StoreError, Trigger,
};

use crate::{Conversation, Engine, EngineError};

/// What a rewind would do.
#[derive(Debug, Clone, PartialEq)]
pub struct RewindPlan {
    /// Where it goes back to.
    pub checkpoint: Checkpoint,
    /// The branch that the checkpoint is on; it stays as it is.
    pub from: Branch,
    /// How many messages will be in view.
    pub in_view: Seq,
    /// How many of that branch's messages will not be.
    pub out_of_view: Seq,
    /// What the user said next, to be edited and sent again.
    pub prompt: Option<Message>,
}

/// What a rewind did.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewound {
    /// What was planned.
    pub plan: RewindPlan,
    /// The new branch, which is current now.
    pub branch: Branch,
    /// The state that is restored in it.
    pub state: CheckpointState,
    /// The recorded change.
    pub operation: Operation,
}

/// All of these block on the store.
impl Engine {
    /// Says what a rewind to this checkpoint would do.
    ///
    /// # Errors
    /// `NotFound` for the checkpoint or its branch.
    pub fn plan_rewind(&self, checkpoint: CheckpointId) -> Result<RewindPlan, EngineError> {
        let store = self.store();
        let checkpoint = store.get_checkpoint(checkpoint)?;
        let from = store.get_branch(checkpoint.branch)?;
        let after = store.read_messages(from.id, MessageRange::From(checkpoint.seq + 1, 20))?;
        let prompt = after.into_iter().find(|message| message.content.role == Role::User);
        Ok(RewindPlan {
            in_view: checkpoint.seq,
            out_of_view: from.head.saturating_sub(checkpoint.seq),
            prompt,
            checkpoint,
            from,
        })
    }

    /// Makes a new branch at the checkpoint, with its state restored, and makes it current.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` when the state is damaged: then nothing is changed.
    pub fn rewind(&self, checkpoint: CheckpointId) -> Result<Rewound, EngineError> {
        let plan = self.plan_rewind(checkpoint)?;
        let store = self.store();
        let state = store.load_state(checkpoint)?;
        let draft = BranchDraft {
            id: BranchId::generate(),
            name: self.free_branch_name(&plan.from)?,
            parent: plan.from.id,
            forked_at: plan.checkpoint.seq,
        };
        let operation =
            store.create_branch(&draft, OperationKind::Rewind, Some(checkpoint), self.parts.clock.now())?;
        self.restore_plugin_states(plan.checkpoint.session, draft.id, &state);
        let branch = store.get_branch(draft.id)?;
        Ok(Rewound { plan, branch, state, operation })
    }

    /// Makes a new branch behind message number `at` of `branch`, and makes it current.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` beyond the branch's head; `Conflict` for a taken name.
    pub fn fork(&self, branch: BranchId, at: Seq, name: Option<&str>) -> Result<Branch, EngineError> {
        let store = self.store();
        let parent = store.get_branch(branch)?;
        let name = match name {
            Some(name) => name.to_owned(),
            None => self.free_branch_name(&parent)?,
        };
        let draft = BranchDraft { id: BranchId::generate(), name, parent: branch, forked_at: at };
        store.create_branch(&draft, OperationKind::Fork, None, self.parts.clock.now())?;
        self.restore_plugins(parent.session, draft.id)?;
        Ok(store.get_branch(draft.id)?)
    }

    /// Makes another branch of the session current.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for a branch that was undone.
    pub fn switch(&self, session: SessionId, branch: BranchId) -> Result<Branch, EngineError> {
        let branch = self.branch_of(session, branch)?;
        self.store().switch_branch(branch.id, self.parts.clock.now())?;
        self.restore_plugins(session, branch.id)?;
        Ok(branch)
    }

    fn restore_plugins(&self, session: SessionId, branch: BranchId) -> Result<(), EngineError> {
        let state = self.store().load_branch_state(branch)?.unwrap_or_default();
        self.restore_plugin_states(session, branch, &state);
        Ok(())
    }

    /// Marks the conversation's present place by hand. Its state is what the next run would start from.
    ///
    /// # Errors
    /// `NotPossible` before the first message.
    pub fn checkpoint(
        &self,
        conversation: &Conversation,
        label: Option<&str>,
    ) -> Result<Checkpoint, EngineError> {
        let Some((session, at)) = conversation.place else {
            return Err(EngineError::NotPossible {
                message: "nothing was said yet that could be marked".into(),
            });
        };
        let store = self.store();
        let mut state = store.load_branch_state(at.branch)?.unwrap_or_default();
        if let Some(live) = self.parts.hooks.session_state(session) {
            state.plugins = live;
        }
        let draft = CheckpointDraft {
            id: CheckpointId::generate(),
            branch: at.branch,
            seq: at.head,
            trigger: Trigger::Manual,
            label: label.map(str::to_owned),
            pinned: false,
            created_at: self.parts.clock.now(),
            state,
        };
        Ok(store.create_checkpoint(&draft, self.settings().checkpoint_retention)?)
    }

    /// Takes back the newest operation of the session that was not taken back yet. Removals of checkpoints cannot be
    /// taken back, and are passed over.
    ///
    /// # Errors
    /// `NotPossible` when there is none, or it cannot be undone.
    pub fn undo(&self, session: SessionId) -> Result<(Operation, Operation), EngineError> {
        self.reverse(session, OperationKind::Undo)
    }

    /// Does again what the newest undo took back.
    ///
    /// # Errors
    /// `NotPossible` when the newest operation is no undo.
    pub fn redo(&self, session: SessionId) -> Result<(Operation, Operation), EngineError> {
        self.reverse(session, OperationKind::Redo)
    }

    fn reverse(
        &self,
        session: SessionId,
        kind: OperationKind,
    ) -> Result<(Operation, Operation), EngineError> {
        let target = self.reversal_target(session, kind)?;
        let done = self.store().reverse(target.id, kind, self.parts.clock.now())?;
        self.restore_plugins(session, done.after.current_branch)?;
        Ok((target, done))
    }

    /// The operation that an undo or redo would be about.
    ///
    /// # Errors
    /// `NotPossible` when there is none, or it cannot be undone.
    pub fn reversal_target(&self, session: SessionId, kind: OperationKind) -> Result<Operation, EngineError> {
        let store = self.store();
        let mut page = PageRequest::first(50);
        let mut finder = TargetFinder { kind, reversed: 0, passed_prune: false };
        loop {
            let found = store.list_operations(Some(session), &page)?;
            for operation in found.items {
                match finder.look(&operation) {
                    Look::On => {}
                    Look::Nothing => return Err(finder.nothing()),
                    Look::Found(target) if target == operation.id => return finder.reversible(operation),
                    Look::Found(target) => {
                        return finder.reversible(self.find_operation(session, target)?);
                    }
                }
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Err(finder.nothing()),
            }
        }
    }

    fn find_operation(
        &self,
        session: SessionId,
        id: hfs_core::OperationId,
    ) -> Result<Operation, EngineError> {
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

    /// `main-2`, `main-3`: the first name of that kind that is free in the session.
    fn free_branch_name(&self, parent: &Branch) -> Result<String, EngineError> {
        let taken: Vec<String> =
            self.store().list_branches(parent.session)?.into_iter().map(|branch| branch.name).collect();
        let stem = parent
            .name
            .rsplit_once('-')
            .filter(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
            .map_or(parent.name.as_str(), |(stem, _)| stem);
        let free = (2..).map(|number| format!("{stem}-{number}")).find(|name| !taken.contains(name));
        Ok(free.unwrap_or_else(|| BranchId::generate().to_string()))
    }
}

/// Walks the log from its newest entry to the operation that an undo or redo is about: each undo on the way
/// hides one operation before it, and each redo brings one back.
struct TargetFinder {
    kind: OperationKind,
    reversed: u32,
    /// Whether a checkpoint was removed behind what was found.
    passed_prune: bool,
}

enum Look {
    On,
    Nothing,
    Found(hfs_core::OperationId),
}

impl TargetFinder {
    fn look(&mut self, operation: &Operation) -> Look {
        if operation.kind == OperationKind::Prune {
            self.passed_prune = true;
            return Look::On;
        }
        let opposite = match self.kind {
            OperationKind::Redo => OperationKind::Redo,
            _ => OperationKind::Undo,
        };
        if operation.kind == opposite {
            self.reversed += 1;
            return Look::On;
        }
        let is_candidate = self.kind != OperationKind::Redo || operation.kind == OperationKind::Undo;
        if !is_candidate {
            return Look::Nothing;
        }
        if self.reversed > 0 {
            self.reversed -= 1;
            return Look::On;
        }
        // An undo's redo, and a redo's undo, are about the operation that those were about.
        Look::Found(operation.target.unwrap_or(operation.id))
    }

    /// The operation, if it is one that can be reversed.
    fn reversible(&self, operation: Operation) -> Result<Operation, EngineError> {
        if operation.kind.is_reversible() {
            return Ok(operation);
        }
        Err(self.refusal(&format!(
            "there is nothing more to {}: the session's {} is its beginning (hfs session delete moves it to the trash)",
            self.kind, operation.kind
        )))
    }

    fn nothing(&self) -> EngineError {
        self.refusal(&format!("there is nothing to {}", self.kind))
    }

    fn refusal(&self, message: &str) -> EngineError {
        let pruned =
            if self.passed_prune { "; a checkpoint that was deleted cannot be brought back" } else { "" };
        EngineError::NotPossible { message: format!("{message}{pruned}") }
    }
}
