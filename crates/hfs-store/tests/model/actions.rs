use hfs_core::{
    Attachment, BranchId, CheckpointDraft, CheckpointId, DeltaKind, MessageDraft, MessageStatus, OperationId,
    OperationKind, Part, Position, ReplyDelta, Role, SessionDraft, SessionId, Store, StoreResult, Timestamp,
};
use testkit::builders::{at, attachment, growing_state};

use crate::step::{Action, Step};
use crate::world::{Refusal, World, pick};

const WORDS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

impl World {
    /// Does a step to both stores. Both must do the same; whether it succeeds is theirs to say.
    #[track_caller]
    pub fn take(&mut self, step: &Step) {
        // Without what a step needs, it does nothing.
        let _ = self.act(step.through, &step.action);
    }

    #[track_caller]
    fn act(&mut self, through: usize, action: &Action) -> Option<()> {
        match *action {
            Action::NewSession => self.new_session(through),
            Action::Import { messages, branches, finished } => {
                self.import(through, messages, branches, finished);
            }
            Action::Say { branch, messages, stale } => {
                let mut here = self.position(branch, 0)?;
                here.head += u64::from(stale);
                let drafts = (0..messages).map(|_| self.words()).collect();
                self.append(through, here, drafts);
            }
            Action::SayAttached { branch, bytes } => {
                let here = self.position(branch, 0)?;
                self.say_attached(through, here, bytes);
            }
            Action::Repeat { branch, message } => {
                let here = self.position(branch, 0)?;
                let again = MessageDraft { id: pick(&self.messages, message)?, ..self.words() };
                let new = self.words();
                self.append(through, here, vec![new, again]);
            }
            Action::Begin { branch } => {
                let here = self.position(branch, 0)?;
                self.begin(through, here);
            }
            Action::Extend { reply, text, stranger } => self.extend(reply, text, stranger)?,
            Action::Finish { reply } => self.finish(reply)?,
            Action::Settle { session } => {
                let session = session.and_then(|number| pick(&self.sessions, number));
                let now = self.make.now();
                let _ = self.both(through, |store| store.recover_abandoned_replies(session, now));
            }
            Action::Restart => self.restart(through),
            Action::Vacuum => {
                self.settle(through);
                self.both(through, |store| store.vacuum()).unwrap();
            }
            Action::SaveRun { branch } => {
                let run = self.make.run(pick(&self.branches, branch)?);
                let _ = self.both(through, |store| store.save_run(&run));
            }
            Action::Fork { .. }
            | Action::Rewind { .. }
            | Action::Switch { .. }
            | Action::RenameBranch { .. }
            | Action::Rename { .. }
            | Action::Undo { .. }
            | Action::Redo { .. }
            | Action::ThereAndBack { .. } => self.restructure(through, action)?,
            Action::Checkpoint { .. }
            | Action::Pin { .. }
            | Action::DeleteCheckpoint { .. }
            | Action::SaveState { .. }
            | Action::SavePlugins { .. } => self.mark(through, action)?,
            Action::Trash { session } => {
                let (session, now) = (pick(&self.sessions, session)?, self.make.now());
                let _ = self.both(through, |store| store.trash_session(session, now));
            }
            Action::Restore { session } => {
                let (session, now) = (pick(&self.sessions, session)?, self.make.now());
                let _ = self.both(through, |store| store.restore_session(session, now));
            }
            Action::Purge { session } => {
                let session = pick(&self.sessions, session)?;
                let _ = self.both(through, |store| store.purge_session(session));
                self.ledger.purged(session);
            }
            Action::PurgeTrash => {
                let before = Timestamp::from_micros(self.make.now().as_micros() - 10_000_000)?;
                let gone = self.sessions.iter().filter(|id| self.trashed_before(**id, before)).copied();
                let gone: Vec<SessionId> = gone.collect();
                self.both(through, |store| store.purge_trash(before)).unwrap();
                gone.into_iter().for_each(|session| self.ledger.purged(session));
            }
        }
        Some(())
    }

    /// So that neither store has anything left to settle on the occasion of something else.
    #[track_caller]
    pub fn settle(&self, through: usize) {
        let now = self.make.now();
        self.both(through, |store| store.recover_abandoned_replies(None, now)).unwrap();
    }

    fn trashed_before(&self, session: SessionId, before: Timestamp) -> bool {
        let found = self.reference().get_session(session);
        found.is_ok_and(|found| found.session.trashed_at.is_some_and(|at| at < before))
    }

    /// So many before the head of a branch that was ever there.
    fn position(&self, branch: u16, back: u8) -> Option<Position> {
        let branch = pick(&self.branches, branch)?;
        let head = self.reference().get_branch(branch).map_or(0, |branch| branch.head);
        Some(at(branch, head.saturating_sub(u64::from(back))))
    }

    fn words(&self) -> MessageDraft {
        let number = self.messages.len();
        let said: Vec<&str> = (0..3).map(|shift| WORDS[(number >> shift) % WORDS.len()]).collect();
        self.make.user(&format!("{} {}", said.join(" "), number))
    }

    #[track_caller]
    pub fn new_session(&mut self, through: usize) {
        let draft = SessionDraft {
            automatic_name: self.sessions.len().is_multiple_of(2),
            ..self.make.session(&format!("session {}", self.sessions.len()))
        };
        self.both(through, |store| store.create_session(&draft)).unwrap();
        self.sessions.push(draft.id);
        self.branches.push(draft.main_branch);
        self.ledger.branch(draft.id, draft.main_branch);
    }

    #[track_caller]
    fn append(&mut self, through: usize, here: Position, drafts: Vec<MessageDraft>) {
        if self.both(through, |store| store.append(here, &drafts)).is_ok() {
            for draft in drafts {
                self.messages.push(draft.id);
                self.ledger.said(here.branch, draft.id, draft.text(), false);
            }
        }
    }

    #[track_caller]
    fn say_attached(&mut self, through: usize, here: Position, bytes: u8) {
        let attached: Attachment = attachment(&[bytes; 3]);
        let part = Part::Attachment {
            media_type: "x/y".into(),
            name: Some("alpha.bin".into()),
            hash: Some(attached.hash),
            bytes: 3,
        };
        if bytes > 0 {
            self.both(through, |store| store.put_attachment(&attached)).unwrap();
            self.attachments.push(attached.hash);
        }
        let draft = self.make.message(Role::User, vec![part]);
        self.append(through, here, vec![draft]);
    }

    #[track_caller]
    fn begin(&mut self, through: usize, here: Position) {
        let draft = self.make.assistant("");
        if let Ok(reply) = self.both(through, |store| store.begin_reply(here, &draft)) {
            self.messages.push(draft.id);
            self.replies.push((reply, through));
            self.ledger.said(here.branch, draft.id, String::new(), true);
        }
    }

    #[track_caller]
    fn extend(&mut self, reply: u16, text: u8, stranger: bool) -> Option<()> {
        let (reply, writer) = pick(&self.replies, reply)?;
        let through = if stranger { 1 - writer } else { writer };
        let text = format!("piece{} {}", text % 7, WORDS[usize::from(text) % WORDS.len()]);
        let piece = [ReplyDelta { kind: DeltaKind::Text, text: text.clone() }];
        if self.both(through, |store| store.extend_reply(reply, &piece)).is_ok() {
            self.ledger.reply(reply.branch, reply.message, &text, false);
        }
        Some(())
    }

    #[track_caller]
    fn finish(&mut self, reply: u16) -> Option<()> {
        let (reply, writer) = pick(&self.replies, reply)?;
        let status =
            if reply.seq.is_multiple_of(3) { MessageStatus::Interrupted } else { MessageStatus::Complete };
        let message = MessageDraft { status, ..self.words() };
        if self.both(writer, |store| store.finish_reply(reply, &message)).is_ok() {
            self.ledger.reply(reply.branch, reply.message, &message.text(), true);
        }
        Some(())
    }

    #[track_caller]
    fn import(&mut self, through: usize, messages: u8, branches: u8, finished: bool) {
        let draft = self.make.session("imported");
        let (begun, ended) = (self.make.now(), self.make.now());
        let ids: Vec<BranchId> = (0..branches).map(|_| self.make.ids.branch()).collect();
        let drafts: Vec<MessageDraft> = (0..messages * (branches + 1)).map(|_| self.words()).collect();
        let state = growing_state(usize::from(messages));
        let checkpoint = self.make.checkpoint(at(draft.main_branch, u64::from(messages)), state.clone());
        let imported = self.both(through, |store| {
            let mut import = store.import_session(&draft)?;
            for (key, own) in drafts.chunks(usize::from(messages).max(1)).enumerate() {
                if key > 0 {
                    import.branch(key, key - 1, 1, ids[key - 1], &format!("branch {key}"))?;
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
        self.ledger.state(checkpoint.id, state);
        if messages == 0 {
            self.branches.push(draft.main_branch);
            self.ledger.branch(draft.id, draft.main_branch);
        }
        let branches = std::iter::once(draft.main_branch).chain(ids);
        for (branch, own) in branches.zip(drafts.chunks(usize::from(messages).max(1))) {
            self.branches.push(branch);
            self.ledger.branch(draft.id, branch);
            for message in own {
                self.messages.push(message.id);
                self.ledger.said(branch, message.id, message.text(), false);
            }
        }
    }

    #[track_caller]
    fn restructure(&mut self, through: usize, action: &Action) -> Option<()> {
        let now = self.make.now();
        match *action {
            Action::Fork { branch, back, name } => {
                let from = self.position(branch, back)?;
                self.branch(through, from, name, None);
            }
            Action::Rewind { checkpoint, name } => {
                let id = pick(&self.checkpoints, checkpoint)?;
                let checkpoint = self.reference().get_checkpoint(id).ok()?;
                self.branch(through, at(checkpoint.branch, checkpoint.seq), name, Some(id));
            }
            Action::Switch { branch } => {
                let branch = pick(&self.branches, branch)?;
                self.operate(through, |store, _| store.switch_branch(branch, now));
            }
            Action::RenameBranch { branch, name } => {
                let branch = pick(&self.branches, branch)?;
                self.operate(through, |store, _| store.rename_branch(branch, &branch_name(name), now));
            }
            Action::Rename { session, name, automatic } => {
                let session = pick(&self.sessions, session)?;
                let name = format!("name {name}");
                let _ = self.both(through, |store| store.rename_session(session, &name, automatic, now));
            }
            Action::Undo { operation } => {
                let target = self.operation(operation)?;
                self.operate(through, |store, which| store.reverse(target[which], OperationKind::Undo, now));
            }
            Action::Redo { operation } => {
                let target = self.operation(operation)?;
                self.operate(through, |store, which| store.reverse(target[which], OperationKind::Redo, now));
            }
            Action::ThereAndBack { operation } => {
                let target = self.operation(operation)?;
                self.there_and_back(through, target);
            }
            _ => return None,
        }
        Some(())
    }

    #[track_caller]
    fn branch(&mut self, through: usize, from: Position, name: u8, checkpoint: Option<CheckpointId>) {
        let draft = self.make.branch(&branch_name(name), from);
        let kind = if checkpoint.is_some() { OperationKind::Rewind } else { OperationKind::Fork };
        let now = self.make.now();
        let made = self.operate(through, |store, _| store.create_branch(&draft, kind, checkpoint, now));
        if made {
            self.branches.push(draft.id);
            let Self { open, ledger, .. } = self;
            ledger.forked(&*open[0][0], draft.id);
        }
    }

    /// Does something that is recorded, and compares the records. Whether it was done.
    #[track_caller]
    fn operate(
        &self,
        through: usize,
        act: impl Fn(&dyn Store, usize) -> StoreResult<hfs_core::Operation>,
    ) -> bool {
        let done = self
            .each(through, |store, which| act(store, which).map(|operation| self.view(which, &operation)));
        done.is_ok()
    }

    /// Undoes an operation and redoes it, or the other way round; afterwards everything looks as before.
    #[track_caller]
    fn there_and_back(&self, through: usize, target: [OperationId; 2]) {
        for kinds in [[OperationKind::Undo, OperationKind::Redo], [OperationKind::Redo, OperationKind::Undo]]
        {
            let before = self.shape();
            let (there, back) = (self.make.now(), self.make.now());
            if self.operate(through, |store, which| store.reverse(target[which], kinds[0], there)) {
                let done = self.operate(through, |store, which| store.reverse(target[which], kinds[1], back));
                assert!(done, "{} after {}", kinds[1], kinds[0]);
                assert_eq!(self.shape(), before);
                return;
            }
        }
    }

    /// What users see of the structure of all sessions, but times.
    fn shape(&self) -> Vec<String> {
        let store = self.reference();
        let mut shape = Vec::new();
        for summary in self.sessions.iter().filter_map(|id| store.get_session(*id).ok()) {
            let session = &summary.session;
            shape.push(format!(
                "{} {:?} {} {} {:?} {}",
                session.id,
                session.name,
                session.automatic_name,
                session.trashed_at.is_some(),
                session.current_branch,
                summary.branches
            ));
            shape.extend(store.list_branches(session.id).unwrap().iter().map(|branch| format!("{branch:?}")));
        }
        shape
    }

    #[track_caller]
    fn mark(&mut self, through: usize, action: &Action) -> Option<()> {
        let now = self.make.now();
        match *action {
            Action::Checkpoint { branch, back, state, kind, retention } => {
                let here = self.position(branch, back)?;
                let draft = self.make.checkpoint(here, growing_state(usize::from(state)));
                let draft = match kind {
                    0 => CheckpointDraft { trigger: "manual".into(), ..draft },
                    1 => CheckpointDraft { label: Some("label".into()), ..draft },
                    2 => CheckpointDraft { pinned: true, ..draft },
                    3 => CheckpointDraft { trigger: "phase.ended".into(), ..draft },
                    _ => draft,
                };
                let made = self.both(through, |store| {
                    let mut made = store.create_checkpoint(&draft, u32::from(retention))?;
                    made.cost.stored_bytes = 0;
                    Ok(made)
                });
                if made.is_ok() {
                    self.checkpoints.push(draft.id);
                    self.ledger.state(draft.id, draft.state);
                }
            }
            Action::Pin { checkpoint, pinned } => {
                let id = pick(&self.checkpoints, checkpoint)?;
                let _ = self.both(through, |store| store.pin_checkpoint(id, pinned));
            }
            Action::DeleteCheckpoint { checkpoint } => {
                let id = pick(&self.checkpoints, checkpoint)?;
                let _ = self.both(through, |store| store.delete_checkpoint(id, now));
            }
            Action::SaveState { branch, state } => {
                let branch = pick(&self.branches, branch)?;
                let state = growing_state(usize::from(state));
                let saved: Result<(), Refusal> =
                    self.both(through, |store| store.save_branch_state(branch, &state));
                if saved.is_ok() {
                    let stored = self.both(through, |store| store.load_branch_state(branch));
                    assert_eq!(stored.unwrap(), Some(state));
                }
            }
            Action::SavePlugins { branch, kept } => {
                let branch = pick(&self.branches, branch)?;
                let kept = (kept > 0).then(|| ("notes".to_owned(), serde_json::json!(kept)));
                let kept = kept.into_iter().collect();
                let _ = self.both(through, |store| store.save_branch_plugins(branch, &kept));
            }
            _ => return None,
        }
        Some(())
    }
}

fn branch_name(number: u8) -> String {
    if number == 0 { "main".into() } else { format!("branch {number}") }
}
