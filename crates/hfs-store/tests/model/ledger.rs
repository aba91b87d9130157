use std::collections::BTreeMap;

use hfs_core::{
    BranchId, CheckpointId, CheckpointState, MessageId, MessageRange, Seq, SessionId, Store, StoreError,
};

/// What must be true whatever is done, written down as it is acknowledged.
#[derive(Default)]
pub struct Ledger {
    /// Each branch's own messages, in order, with what they say once that is settled.
    said: BTreeMap<BranchId, Vec<Said>>,
    /// What lay behind each fork when it was made.
    behind: BTreeMap<BranchId, Vec<(MessageId, String)>>,
    states: BTreeMap<CheckpointId, CheckpointState>,
    sessions: BTreeMap<BranchId, SessionId>,
    purged: Vec<SessionId>,
}

struct Said {
    id: MessageId,
    text: String,
    /// More may have come than what is written down.
    arriving: bool,
}

impl Ledger {
    pub fn branch(&mut self, session: SessionId, branch: BranchId) {
        self.sessions.insert(branch, session);
    }

    pub fn said(&mut self, branch: BranchId, id: MessageId, text: String, arriving: bool) {
        self.said.entry(branch).or_default().push(Said { id, text, arriving });
    }

    /// A reply has grown by `text`, or has ended with it.
    pub fn reply(&mut self, branch: BranchId, id: MessageId, text: &str, ended: bool) {
        let said = self.said.entry(branch).or_default().iter_mut().find(|said| said.id == id).unwrap();
        if ended {
            said.text.clear();
        }
        said.text.push_str(text);
        said.arriving = !ended;
    }

    /// Writes down what lies behind a fork, just after it was made.
    pub fn forked(&mut self, store: &dyn Store, branch: BranchId) {
        self.branch(store.get_branch(branch).unwrap().session, branch);
        self.behind.insert(branch, history(store, branch, Seq::MAX));
    }

    pub fn state(&mut self, checkpoint: CheckpointId, state: CheckpointState) {
        self.states.insert(checkpoint, state);
    }

    pub fn purged(&mut self, session: SessionId) {
        self.purged.push(session);
    }

    #[track_caller]
    pub fn check(&self, store: &dyn Store) {
        for (branch, session) in &self.sessions {
            if self.purged.contains(session) {
                assert!(store.get_branch(*branch).is_err());
                continue;
            }
            let whole = history(store, *branch, Seq::MAX);
            let head = store.get_branch(*branch).unwrap().head;
            assert_eq!(whole.len() as u64, head, "a history has no gaps");
            if let Some(behind) = self.behind.get(branch) {
                assert_eq!(&whole[..behind.len()], behind, "what lies behind a fork never changes");
            }
            let own = whole.len() - self.said.get(branch).map_or(0, Vec::len);
            for (said, (id, text)) in self.said.get(branch).into_iter().flatten().zip(&whole[own..]) {
                assert_eq!((said.id, &said.text), (*id, text), "arriving: {}", said.arriving);
            }
        }
        for (checkpoint, state) in &self.states {
            match store.load_state(*checkpoint) {
                Ok(stored) => assert_eq!(&stored, state, "a checkpoint gives back what was stored"),
                Err(error) => assert!(matches!(error, StoreError::NotFound { .. }), "{error}"),
            }
        }
    }
}

fn history(store: &dyn Store, branch: BranchId, before: Seq) -> Vec<(MessageId, String)> {
    let messages = store.read_messages(branch, MessageRange::Before(before, u32::MAX)).unwrap();
    messages.iter().map(|message| (message.content.id, message.content.text())).collect()
}
