use std::path::Path;

use hfs_core::{Maintenance, MessageDraft, Problem, StoreError, StoreInfo, StoreResult, Verification};

use super::MemoryStore;
use super::data::{BranchRow, Data, attachments_of, hash_of};

impl Maintenance for MemoryStore {
    fn info(&self) -> StoreResult<StoreInfo> {
        let data = self.lock();
        let texts: u64 = data.messages().map(|message| message.searchable_text().len() as u64).sum();
        let states: u64 = data.states.values().map(|state| state.len() as u64).sum();
        let attachments: u64 = data.attachments.values().map(|bytes| bytes.len() as u64).sum();
        Ok(StoreInfo {
            url: "memory:".into(),
            backend: "memory",
            schema_version: 1,
            sessions: data.sessions.len() as u64,
            messages: data.messages().count() as u64,
            checkpoints: data.checkpoints.len() as u64,
            bytes: texts + states + attachments,
            checkpoint_bytes: states,
        })
    }

    fn verify(&self) -> StoreResult<Verification> {
        let data = self.lock();
        let mut verification = Verification {
            checked: [
                ("sessions", data.sessions.len()),
                ("branches", data.branches.len()),
                ("messages", data.messages().count()),
                ("runs", data.runs.len()),
                ("checkpoints", data.checkpoints.len()),
                ("states", data.states.len()),
                ("attachments", data.attachments.len()),
                ("operations", data.operations.len()),
            ]
            .map(|(what, count)| (what.to_owned(), count as u64))
            .into(),
            problems: Vec::new(),
        };
        data.verify(&mut verification.problems);
        Ok(verification)
    }

    fn repair(&self) -> StoreResult<Vec<Problem>> {
        // Nothing outlives the process, so nothing can be damaged.
        Ok(Vec::new())
    }

    fn backup(&self, to: &Path) -> StoreResult<()> {
        let message = format!("a store in memory cannot be copied to {}", to.display());
        Err(StoreError::Unsupported { message })
    }

    fn vacuum(&self) -> StoreResult<()> {
        Ok(())
    }
}

impl Data {
    fn messages(&self) -> impl Iterator<Item = &MessageDraft> {
        self.branches.values().flat_map(|branch| &branch.messages).map(|message| &message.content)
    }

    fn verify(&self, problems: &mut Vec<Problem>) {
        let mut check = |good: bool, kind: &str, place: String, detail: &str| {
            if !good {
                problems.push(Problem { kind: kind.into(), place, detail: detail.into() });
            }
        };
        for row in self.sessions.values() {
            let current = self.branches.get(&row.session.current_branch);
            let good = current.is_some_and(|branch| !branch.branch.undone);
            check(
                good,
                "reference",
                format!("session {}", row.session.id),
                "its current branch is not there",
            );
        }
        for branch in self.branches.values() {
            let place = || format!("branch {}", branch.branch.id);
            let head = branch.branch.forked_at + branch.messages.len() as u64;
            check(branch.branch.head == head, "count", place(), "its head is not behind its messages");
            let parent = branch.branch.parent.map(|parent| self.branches.get(&parent));
            let fork = match parent {
                None => branch.branch.forked_at == 0,
                Some(parent) => parent.is_some_and(|parent| branch.branch.forked_at <= parent.branch.head),
            };
            check(fork, "reference", place(), "it forks from where nothing is");
            check(self.are_placed(branch), "reference", place(), "a message of it cannot be found by its id");
            let state = branch.state.is_none_or(|hash| self.states.contains_key(&hash));
            check(state, "reference", place(), "the state it starts from is missing");
        }
        check(
            self.places.len() == self.messages().count(),
            "count",
            "messages".into(),
            "there are more ids than messages",
        );
        for message in self.messages() {
            let good = attachments_of(message).all(|hash| self.attachments.contains_key(&hash));
            check(good, "reference", format!("message {}", message.id), "an attachment of it is missing");
        }
        for checkpoint in &self.checkpoints {
            let place = format!("checkpoint {}", checkpoint.id);
            let branch = self.branches.get(&checkpoint.branch);
            let good = branch.is_some_and(|branch| checkpoint.seq <= branch.branch.head)
                && self.states.contains_key(&checkpoint.state_hash);
            check(good, "reference", place, "its place or its state is missing");
        }
        for (hash, bytes) in self.states.iter().chain(&self.attachments) {
            check(hash_of(bytes) == *hash, "hash", hash.to_string(), "the bytes are not what was stored");
        }
    }

    fn are_placed(&self, branch: &BranchRow) -> bool {
        let mut places = (branch.branch.forked_at + 1..).zip(&branch.messages);
        places.all(|(seq, message)| self.places.get(&message.content.id) == Some(&(branch.branch.id, seq)))
    }
}
