//! The steps of the property test: their types, their random generation, and their application to both stores.

use hfs_core::{
    Attachment, BranchId, CheckpointDraft, CheckpointId, MessageDraft, MessageStatus, OperationId,
    OperationKind, OutputDelta, Part, Position, ReplyDelta, Role, SessionDraft, SessionId, Store,
    StoreResult, Timestamp, Trigger,
};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use testkit::builders::{at, attachment, growing_state};

use crate::store_pair::{StorePair, VisibleError, pick};

/// A change to both stores. Numbers select among the existing items, modulo the number of items.
#[derive(Debug, Clone)]
pub struct Step {
    /// Index of the instance of each store that is called.
    pub instance: usize,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub enum Action {
    CreateSession,
    Import { messages: u8, branches: u8, undone: bool, finished: bool },
    Append { branch: u16, messages: u8, stale: bool },
    AppendWithAttachment { branch: u16, bytes: u8 },
    AppendDuplicate { branch: u16, message: u16 },
    Begin { branch: u16 },
    Extend { reply: u16, text: u8, by_other_instance: bool },
    ExtendWithTool { reply: u16, call: u8, keep: Option<u8>, text: u8 },
    Continue { reply: u16, more: u8 },
    Finish { reply: u16 },
    RecoverReplies { session: Option<u16> },
    Restart,
    Fork { branch: u16, back: u8, name: u8 },
    Rewind { checkpoint: u16, name: u8 },
    RewindToMessage { branch: u16, back: u8, name: u8 },
    Switch { branch: u16 },
    RenameBranch { branch: u16, name: u8 },
    Rename { session: u16, name: u8, automatic: bool },
    Undo { operation: u16 },
    Redo { operation: u16 },
    UndoAndRedo { operation: u16 },
    Checkpoint { branch: u16, back: u8, state: u8, kind: u8, retention: u8 },
    Pin { checkpoint: u16, pinned: bool },
    DeleteCheckpoint { checkpoint: u16 },
    WithdrawCheckpoints { checkpoint: u16, count: u8 },
    SaveState { branch: u16, state: u8 },
    SavePlugins { branch: u16, value: u8 },
    SaveRun { branch: u16 },
    Trash { session: u16 },
    Restore { session: u16 },
    Purge { session: u16 },
    PurgeTrash,
    Vacuum,
}

pub fn step() -> impl Strategy<Value = Step> {
    (0..2_usize, action()).prop_map(|(instance, action)| Step { instance, action })
}

fn action() -> impl Strategy<Value = Action> {
    use Action::*;
    let n = any::<u16>;
    let messages = prop_oneof![
        6 => (n(), 1..5_u8, proptest::bool::weighted(0.1))
            .prop_map(|(branch, messages, stale)| Append { branch, messages, stale }),
        1 => (n(), 0..4_u8).prop_map(|(branch, bytes)| AppendWithAttachment { branch, bytes }),
        1 => (n(), n()).prop_map(|(branch, message)| AppendDuplicate { branch, message }),
        2 => n().prop_map(|branch| Begin { branch }),
        3 => (n(), any::<u8>(), proptest::bool::weighted(0.2))
            .prop_map(|(reply, text, by_other_instance)| Extend { reply, text, by_other_instance }),
        2 => (n(), 0..3_u8, proptest::option::of(0..6_u8), any::<u8>())
            .prop_map(|(reply, call, keep, text)| ExtendWithTool { reply, call, keep, text }),
        2 => (n(), 0..3_u8).prop_map(|(reply, more)| Continue { reply, more }),
        2 => n().prop_map(|reply| Finish { reply }),
        1 => proptest::option::of(n()).prop_map(|session| RecoverReplies { session }),
        1 => Just(Restart),
    ];
    let structure = prop_oneof![
        3 => (n(), 0..4_u8, 0..12_u8).prop_map(|(branch, back, name)| Fork { branch, back, name }),
        2 => (n(), 0..12_u8).prop_map(|(checkpoint, name)| Rewind { checkpoint, name }),
        1 => (n(), 0..4_u8, 0..12_u8)
            .prop_map(|(branch, back, name)| RewindToMessage { branch, back, name }),
        3 => n().prop_map(|branch| Switch { branch }),
        1 => (n(), 0..12_u8).prop_map(|(branch, name)| RenameBranch { branch, name }),
        1 => (n(), 0..12_u8, any::<bool>())
            .prop_map(|(session, name, automatic)| Rename { session, name, automatic }),
        3 => (0..9_u16).prop_map(|operation| Undo { operation }),
        3 => (0..9_u16).prop_map(|operation| Redo { operation }),
        2 => (1..8_u16).prop_map(|operation| UndoAndRedo { operation }),
    ];
    let checkpoints = prop_oneof![
        5 => (n(), 0..3_u8, 0..40_u8, 0..6_u8, 0..5_u8).prop_map(|(branch, back, state, kind, retention)| {
            Checkpoint { branch, back, state, kind, retention }
        }),
        1 => (n(), any::<bool>()).prop_map(|(checkpoint, pinned)| Pin { checkpoint, pinned }),
        2 => n().prop_map(|checkpoint| DeleteCheckpoint { checkpoint }),
        1 => (n(), 0..4_u8).prop_map(|(checkpoint, count)| WithdrawCheckpoints { checkpoint, count }),
        1 => (n(), 0..40_u8).prop_map(|(branch, state)| SaveState { branch, state }),
        1 => (n(), 0..3_u8).prop_map(|(branch, value)| SavePlugins { branch, value }),
        1 => n().prop_map(|branch| SaveRun { branch }),
    ];
    let sessions = prop_oneof![
        2 => Just(CreateSession),
        2 => (0..4_u8, 0..3_u8, any::<bool>(), proptest::bool::weighted(0.8)).prop_map(
            |(messages, branches, undone, finished)| Import { messages, branches, undone, finished }
        ),
        2 => n().prop_map(|session| Trash { session }),
        2 => n().prop_map(|session| Restore { session }),
        1 => n().prop_map(|session| Purge { session }),
        1 => Just(PurgeTrash),
        1 => Just(Vacuum),
    ];
    prop_oneof![8 => messages, 8 => structure, 4 => checkpoints, 2 => sessions]
}

const WORDS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

impl StorePair {
    /// Applies a step to both stores. Its calls may fail, but then they must fail in both.
    #[track_caller]
    pub fn apply(&mut self, step: &Step) {
        // `None` if an item that the step needs does not exist yet.
        let _ = self.try_apply(step.instance, &step.action);
    }

    #[allow(clippy::too_many_lines, reason = "one arm per action")]
    #[track_caller]
    fn try_apply(&mut self, instance: usize, action: &Action) -> Option<()> {
        let now = self.make.now();
        match *action {
            Action::CreateSession => self.create_session(instance),
            Action::Import { messages, branches, undone, finished } => {
                self.import(instance, messages, branches, undone, finished);
            }
            Action::Append { branch, messages, stale } => {
                let mut here = self.position(branch, 0)?;
                here.head += u64::from(stale);
                let drafts = (0..messages).map(|_| self.next_message()).collect();
                self.append(instance, here, drafts);
            }
            Action::AppendWithAttachment { branch, bytes } => {
                let here = self.position(branch, 0)?;
                self.append_with_attachment(instance, here, bytes);
            }
            Action::AppendDuplicate { branch, message } => {
                let here = self.position(branch, 0)?;
                let duplicate = MessageDraft { id: pick(&self.messages, message)?, ..self.next_message() };
                let new = self.next_message();
                self.append(instance, here, vec![new, duplicate]);
            }
            Action::Begin { branch } => {
                let here = self.position(branch, 0)?;
                self.begin(instance, here);
            }
            Action::Extend { reply, text, by_other_instance } => {
                self.extend(reply, text, by_other_instance)?;
            }
            Action::ExtendWithTool { reply, call, keep, text } => {
                self.extend_with_tool(reply, call, keep, text)?;
            }
            Action::Continue { reply, more } => self.continue_turn(reply, more)?,
            Action::Finish { reply } => self.finish(reply)?,
            Action::RecoverReplies { session } => {
                let session = session.and_then(|number| pick(&self.sessions, number));
                let _ = self.both(instance, |store| store.recover_abandoned_replies(session, now));
            }
            Action::Restart => self.restart(instance),
            Action::Vacuum => {
                self.recover_replies(instance);
                self.both(instance, |store| store.vacuum()).unwrap();
            }
            Action::SaveRun { branch } => {
                let run = self.make.run(pick(&self.branches, branch)?);
                let _ = self.both(instance, |store| store.save_run(&run));
            }
            Action::Fork { branch, back, name } => {
                let from = self.position(branch, back)?;
                self.branch(instance, from, name, OperationKind::Fork, None);
            }
            Action::RewindToMessage { branch, back, name } => {
                let from = self.position(branch, back)?;
                self.branch(instance, from, name, OperationKind::Rewind, None);
            }
            Action::Rewind { checkpoint, name } => {
                let id = pick(&self.checkpoints, checkpoint)?;
                let checkpoint = self.reference().get_checkpoint(id).ok()?;
                let place = at(checkpoint.branch, checkpoint.seq);
                self.branch(instance, place, name, OperationKind::Rewind, Some(id));
            }
            Action::Switch { branch } => {
                let branch = pick(&self.branches, branch)?;
                self.operate(instance, |store, _| store.switch_branch(branch, now));
            }
            Action::RenameBranch { branch, name } => {
                let branch = pick(&self.branches, branch)?;
                self.operate(instance, |store, _| store.rename_branch(branch, &branch_name(name), now));
            }
            Action::Rename { session, name, automatic } => {
                let session = pick(&self.sessions, session)?;
                let name = format!("name {name}");
                let _ = self.both(instance, |store| store.rename_session(session, &name, automatic, now));
            }
            Action::Undo { operation } => {
                let target = self.operation(operation)?;
                self.operate(instance, |store, which| store.reverse(target[which], OperationKind::Undo, now));
            }
            Action::Redo { operation } => {
                let target = self.operation(operation)?;
                self.operate(instance, |store, which| store.reverse(target[which], OperationKind::Redo, now));
            }
            Action::UndoAndRedo { operation } => {
                let target = self.operation(operation)?;
                self.undo_and_redo(instance, target);
            }
            Action::Checkpoint { branch, back, state, kind, retention } => {
                let here = self.position(branch, back)?;
                let draft = self.make.checkpoint(here, growing_state(usize::from(state)));
                let draft = match kind {
                    0 => CheckpointDraft { trigger: Trigger::Manual, ..draft },
                    1 => CheckpointDraft { label: Some("label".into()), ..draft },
                    2 => CheckpointDraft { pinned: true, ..draft },
                    3 => CheckpointDraft { trigger: "phase.ended".into(), ..draft },
                    _ => draft,
                };
                let made = self.both(instance, |store| {
                    let mut made = store.create_checkpoint(&draft, u32::from(retention))?;
                    made.cost.stored_bytes = 0;
                    Ok(made)
                });
                if made.is_ok() {
                    self.checkpoints.push(draft.id);
                    self.ledger.add_state(draft.id, draft.state);
                }
            }
            Action::Pin { checkpoint, pinned } => {
                let id = pick(&self.checkpoints, checkpoint)?;
                let _ = self.both(instance, |store| store.pin_checkpoint(id, pinned));
            }
            Action::DeleteCheckpoint { checkpoint } => {
                let id = pick(&self.checkpoints, checkpoint)?;
                let _ = self.both(instance, |store| store.delete_checkpoint(id, now));
            }
            Action::WithdrawCheckpoints { checkpoint, count } => {
                let first = usize::from(checkpoint) % self.checkpoints.len().max(1);
                let ids: Vec<CheckpointId> =
                    self.checkpoints.iter().skip(first).take(usize::from(count)).copied().collect();
                self.both(instance, |store| store.withdraw_checkpoints(&ids)).unwrap();
            }
            Action::SaveState { branch, state } => {
                let branch = pick(&self.branches, branch)?;
                let state = growing_state(usize::from(state));
                let saved: Result<(), VisibleError> =
                    self.both(instance, |store| store.save_branch_state(branch, &state));
                if saved.is_ok() {
                    let stored = self.both(instance, |store| store.load_branch_state(branch));
                    assert_eq!(stored.unwrap(), Some(state));
                }
            }
            Action::SavePlugins { branch, value } => {
                let branch = pick(&self.branches, branch)?;
                let plugins = (value > 0).then(|| ("notes".to_owned(), serde_json::json!(value)));
                let plugins = plugins.into_iter().collect();
                let _ = self.both(instance, |store| store.save_branch_plugins(branch, &plugins));
            }
            Action::Trash { session } => {
                let session = pick(&self.sessions, session)?;
                let _ = self.both(instance, |store| store.trash_session(session, now));
            }
            Action::Restore { session } => {
                let session = pick(&self.sessions, session)?;
                let _ = self.both(instance, |store| store.restore_session(session, now));
            }
            Action::Purge { session } => {
                let session = pick(&self.sessions, session)?;
                // Whether text remains depends on the store.
                let _ = self.both(instance, |store| Ok(store.purge_session(session)?.sessions));
                self.ledger.purge(session);
            }
            Action::PurgeTrash => {
                let before = Timestamp::from_micros(now.as_micros() - 10_000_000)?;
                let purged = self.sessions.iter().filter(|id| self.trashed_before(**id, before)).copied();
                let purged: Vec<SessionId> = purged.collect();
                self.both(instance, |store| Ok(store.purge_trash(before)?.sessions)).unwrap();
                purged.into_iter().for_each(|session| self.ledger.purge(session));
            }
        }
        Some(())
    }

    /// Recovers all abandoned replies, so that no later step recovers them in only one of the stores.
    #[track_caller]
    pub fn recover_replies(&self, instance: usize) {
        let now = self.make.now();
        self.both(instance, |store| store.recover_abandoned_replies(None, now)).unwrap();
    }

    fn trashed_before(&self, session: SessionId, before: Timestamp) -> bool {
        let found = self.reference().get_session(session);
        found.is_ok_and(|found| found.session.trashed_at.is_some_and(|at| at < before))
    }

    /// The position `back` messages before the head of a branch. The branch may be purged.
    fn position(&self, branch: u16, back: u8) -> Option<Position> {
        let branch = pick(&self.branches, branch)?;
        let head = self.reference().get_branch(branch).map_or(0, |branch| branch.head);
        Some(at(branch, head.saturating_sub(u64::from(back))))
    }

    fn next_message(&self) -> MessageDraft {
        let number = self.messages.len();
        let words: Vec<&str> = (0..3).map(|shift| WORDS[(number >> shift) % WORDS.len()]).collect();
        // Some are long enough for a block of their own after a vacuum or an import.
        let rest = if number.is_multiple_of(5) { "and a longer text ".repeat(30) } else { String::new() };
        self.make.user(&format!("{} {number} {rest}", words.join(" ")))
    }

    #[track_caller]
    pub fn create_session(&mut self, instance: usize) {
        let draft = SessionDraft {
            automatic_name: self.sessions.len().is_multiple_of(2),
            ..self.make.session(&format!("session {}", self.sessions.len()))
        };
        self.both(instance, |store| store.create_session(&draft)).unwrap();
        self.sessions.push(draft.id);
        self.branches.push(draft.main_branch);
        self.ledger.add_branch(draft.id, draft.main_branch);
    }

    #[track_caller]
    fn append(&mut self, instance: usize, here: Position, drafts: Vec<MessageDraft>) {
        if self.both(instance, |store| store.append(here, &drafts)).is_ok() {
            for draft in drafts {
                self.messages.push(draft.id);
                self.ledger.append(here.branch, draft.id, draft.text(), false);
            }
        }
    }

    #[track_caller]
    fn append_with_attachment(&mut self, instance: usize, here: Position, bytes: u8) {
        let attached: Attachment = attachment(&[bytes; 3]);
        let part = Part::Attachment {
            media_type: "x/y".into(),
            name: Some("alpha.bin".into()),
            hash: Some(attached.hash),
            bytes: 3,
        };
        if bytes > 0 {
            self.both(instance, |store| store.put_attachment(&attached)).unwrap();
            self.attachments.push(attached.hash);
        }
        let draft = self.make.message(Role::User, vec![part]);
        self.append(instance, here, vec![draft]);
    }

    #[track_caller]
    fn begin(&mut self, instance: usize, here: Position) {
        let draft = self.make.assistant("");
        if let Ok(reply) = self.both(instance, |store| store.begin_reply(here, &draft)) {
            self.messages.push(draft.id);
            self.replies.push((reply, instance));
            self.ledger.append(here.branch, draft.id, String::new(), true);
        }
    }

    #[track_caller]
    fn extend(&mut self, reply: u16, text: u8, by_other_instance: bool) -> Option<()> {
        let (reply, writer) = pick(&self.replies, reply)?;
        let instance = if by_other_instance { 1 - writer } else { writer };
        let text = format!("piece{} {}", text % 7, WORDS[usize::from(text) % WORDS.len()]);
        let delta = ReplyDelta::text(text);
        if self.both(instance, |store| store.extend_reply(reply, std::slice::from_ref(&delta))).is_ok() {
            self.ledger.extend_reply(reply.branch, reply.message, &delta);
        }
        Some(())
    }

    /// Adds a tool call, or changes the output of its result.
    #[track_caller]
    fn extend_with_tool(&mut self, reply: u16, call: u8, keep: Option<u8>, text: u8) -> Option<()> {
        let (reply, writer) = pick(&self.replies, reply)?;
        let (id, word) = (format!("call{call}"), WORDS[usize::from(text) % WORDS.len()]);
        let delta = match text % 3 {
            0 => ReplyDelta::Part(Part::ToolCall { id, name: "run".into(), input: word.into() }),
            1 => ReplyDelta::Part(Part::ToolResult { id, output: word.into(), is_error: false }),
            _ => ReplyDelta::Output(OutputDelta {
                id,
                keep: keep.map(usize::from),
                text: word.into(),
                is_error: text > 100,
            }),
        };
        if self.both(writer, |store| store.extend_reply(reply, std::slice::from_ref(&delta))).is_ok() {
            self.ledger.extend_reply(reply.branch, reply.message, &delta);
        }
        Some(())
    }

    #[track_caller]
    fn continue_turn(&mut self, reply: u16, more: u8) -> Option<()> {
        let (reply, writer) = pick(&self.replies, reply)?;
        let messages: Vec<MessageDraft> = (0..=more).map(|_| self.next_message()).collect();
        let next = self.make.message(if more == 0 { Role::Tool } else { Role::Assistant }, vec![]);
        let Ok(begun) = self.both(writer, |store| store.continue_reply(reply, &messages, &next)) else {
            return Some(());
        };
        let (last, following) = messages.split_first()?;
        self.ledger.finish_reply(reply.branch, reply.message, last.text());
        for draft in following {
            self.messages.push(draft.id);
            self.ledger.append(reply.branch, draft.id, draft.text(), false);
        }
        self.messages.push(next.id);
        self.replies.push((begun, writer));
        self.ledger.append(reply.branch, next.id, String::new(), true);
        Some(())
    }

    #[track_caller]
    fn finish(&mut self, reply: u16) -> Option<()> {
        let (reply, writer) = pick(&self.replies, reply)?;
        let status =
            if reply.seq.is_multiple_of(3) { MessageStatus::Interrupted } else { MessageStatus::Complete };
        let message = MessageDraft { status, ..self.next_message() };
        if self.both(writer, |store| store.finish_reply(reply, &message)).is_ok() {
            self.ledger.finish_reply(reply.branch, reply.message, message.text());
        }
        Some(())
    }

    #[track_caller]
    fn import(&mut self, instance: usize, messages: u8, branches: u8, undone: bool, finished: bool) {
        let draft = self.make.session("imported");
        let (begun, ended) = (self.make.now(), self.make.now());
        let ids: Vec<BranchId> = (0..branches).map(|_| self.make.ids.branch()).collect();
        let drafts: Vec<MessageDraft> = (0..messages * (branches + 1)).map(|_| self.next_message()).collect();
        let state = growing_state(usize::from(messages));
        let checkpoint = self.make.checkpoint(at(draft.main_branch, u64::from(messages)), state.clone());
        let imported = self.both(instance, |store| {
            let mut import = store.import_session(&draft)?;
            for (key, own) in drafts.chunks(usize::from(messages).max(1)).enumerate() {
                if key > 0 {
                    import.branch(key, key - 1, 1, ids[key - 1], &format!("branch {key}"))?;
                    if undone {
                        import.mark_undone(key)?;
                    }
                }
                own.iter().try_for_each(|message| import.message(key, message))?;
            }
            import.checkpoint(&checkpoint)?;
            if !finished {
                return Ok(None);
            }
            import.finish("imported", 0, begun, ended).map(Some)
        });
        if imported.unwrap().is_none() {
            return;
        }
        self.sessions.push(draft.id);
        self.checkpoints.push(checkpoint.id);
        self.ledger.add_state(checkpoint.id, state);
        // Without messages only the main branch exists, and the loop below has no chunk for it.
        if messages == 0 {
            self.branches.push(draft.main_branch);
            self.ledger.add_branch(draft.id, draft.main_branch);
        }
        let branches = std::iter::once(draft.main_branch).chain(ids);
        for (branch, own) in branches.zip(drafts.chunks(usize::from(messages).max(1))) {
            self.branches.push(branch);
            self.ledger.add_branch(draft.id, branch);
            for message in own {
                self.messages.push(message.id);
                self.ledger.append(branch, message.id, message.text(), false);
            }
        }
    }

    #[track_caller]
    fn branch(
        &mut self,
        instance: usize,
        from: Position,
        name: u8,
        kind: OperationKind,
        checkpoint: Option<CheckpointId>,
    ) {
        let draft = self.make.branch(&branch_name(name), from);
        let now = self.make.now();
        let made = self.operate(instance, |store, _| store.create_branch(&draft, kind, checkpoint, now));
        if made {
            self.branches.push(draft.id);
            let Self { open, ledger, .. } = self;
            ledger.add_fork(&*open[0][0], draft.id);
        }
    }

    /// Makes the same call to both stores, and compares the operations that they record. Returns whether the call
    /// succeeded.
    #[track_caller]
    fn operate(
        &self,
        instance: usize,
        call: impl Fn(&dyn Store, usize) -> StoreResult<hfs_core::Operation>,
    ) -> bool {
        let done = self
            .each(instance, |store, which| call(store, which).map(|operation| self.view(which, &operation)));
        done.is_ok()
    }

    /// Undoes and redoes an operation, or redoes and undoes it. Checks that nothing has changed afterwards.
    #[track_caller]
    fn undo_and_redo(&self, instance: usize, target: [OperationId; 2]) {
        for kinds in [[OperationKind::Undo, OperationKind::Redo], [OperationKind::Redo, OperationKind::Undo]]
        {
            let before = self.structure();
            let (first, second) = (self.make.now(), self.make.now());
            if self.operate(instance, |store, which| store.reverse(target[which], kinds[0], first)) {
                let done =
                    self.operate(instance, |store, which| store.reverse(target[which], kinds[1], second));
                assert!(done, "{} after {}", kinds[1], kinds[0]);
                assert_eq!(self.structure(), before);
                return;
            }
        }
    }

    /// The structure of all sessions as users see it, without times.
    fn structure(&self) -> Vec<String> {
        let store = self.reference();
        let mut structure = Vec::new();
        for summary in self.sessions.iter().filter_map(|id| store.get_session(*id).ok()) {
            let session = &summary.session;
            structure.push(format!(
                "{} {:?} {} {} {:?} {}",
                session.id,
                session.name,
                session.automatic_name,
                session.trashed_at.is_some(),
                session.current_branch,
                summary.branches
            ));
            structure
                .extend(store.list_branches(session.id).unwrap().iter().map(|branch| format!("{branch:?}")));
        }
        structure
    }
}

fn branch_name(number: u8) -> String {
    if number == 0 { "main".into() } else { format!("branch {number}") }
}
