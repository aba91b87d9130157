//! Messages, replies in progress, and attachments.

use std::sync::{Arc, Weak};

use hfs_core::{
    Appended, Attachment, AttachmentStore, BranchId, ContentHash, Message, MessageDraft, MessageId,
    MessageRange, MessageStatus, MessageStore, Position, ReplyDelta, ReplyHandle, Seq, SessionId, StoreError,
    StoreResult, Timestamp, append_delta,
};

use crate::codec::piece::attachment_of;
use crate::error::{NO_FINAL_MESSAGE, undone_branch};

use super::{Data, MemoryStore, MessageRow, conflict, hash_of, invalid, missing_attachment, not_found};

impl MessageStore for MemoryStore {
    fn append(&self, at: Position, messages: &[MessageDraft]) -> StoreResult<Appended> {
        let rows = messages.iter().cloned().map(MessageRow::finished);
        let head = self.lock().append_rows(at, rows.collect())?;
        Ok(Appended { position: Position { branch: at.branch, head }, first: at.head + 1 })
    }

    fn begin_reply(&self, at: Position, reply: &MessageDraft) -> StoreResult<ReplyHandle> {
        let seq = self.lock().append_rows(at, vec![self.streaming_row(reply)])?;
        Ok(ReplyHandle { message: reply.id, branch: at.branch, seq })
    }

    fn append_and_begin_reply(
        &self,
        at: Position,
        messages: &[MessageDraft],
        reply: &MessageDraft,
    ) -> StoreResult<(Appended, ReplyHandle)> {
        let rows = messages.iter().cloned().map(MessageRow::finished).chain([self.streaming_row(reply)]);
        let seq = self.lock().append_rows(at, rows.collect())?;
        let position = Position { branch: at.branch, head: seq - 1 };
        let reply = ReplyHandle { message: reply.id, branch: at.branch, seq };
        Ok((Appended { position, first: at.head + 1 }, reply))
    }

    fn extend_reply(&self, reply: ReplyHandle, deltas: &[ReplyDelta]) -> StoreResult<()> {
        let mut data = self.lock();
        self.own_reply(&mut data, reply)?;
        for hash in deltas.iter().filter_map(attachment_of) {
            if !data.attachments.contains_key(&hash) {
                return Err(missing_attachment(reply.message, hash));
            }
        }
        let row = self.own_reply(&mut data, reply)?;
        deltas.iter().for_each(|delta| append_delta(&mut row.content.parts, delta));
        Ok(())
    }

    fn finish_reply(&self, reply: ReplyHandle, message: &MessageDraft) -> StoreResult<()> {
        let mut data = self.lock();
        self.own_reply(&mut data, reply)?;
        data.check_attachments(message)?;
        let row = self.own_reply(&mut data, reply)?;
        *row = MessageRow::finished(MessageDraft { id: reply.message, ..message.clone() });
        data.touch_branch(reply.branch, message.created_at)
    }

    fn continue_reply(
        &self,
        reply: ReplyHandle,
        messages: &[MessageDraft],
        next: &MessageDraft,
    ) -> StoreResult<ReplyHandle> {
        let [last, following @ ..] = messages else {
            return Err(invalid(NO_FINAL_MESSAGE));
        };
        let mut data = self.lock();
        self.own_reply(&mut data, reply)?;
        data.check_attachments(last)?;
        let rows = following.iter().cloned().map(MessageRow::finished).chain([self.streaming_row(next)]);
        let rows: Vec<MessageRow> = rows.collect();
        data.check_rows(&rows)?;
        *self.own_reply(&mut data, reply)? =
            MessageRow::finished(MessageDraft { id: reply.message, ..last.clone() });
        data.touch_branch(reply.branch, last.created_at)?;
        let seq = reply.seq + rows.len() as u64;
        for row in rows {
            data.push(reply.branch, row)?;
        }
        Ok(ReplyHandle { message: next.id, branch: reply.branch, seq })
    }

    fn read_messages(&self, branch: BranchId, range: MessageRange) -> StoreResult<Vec<Message>> {
        let data = self.lock();
        let head = data.branch(branch)?.branch.head;
        let (from, to) = match range {
            MessageRange::Newest(count) => (head.saturating_sub(u64::from(count)) + 1, head),
            MessageRange::Before(seq, count) => {
                let to = head.min(seq.saturating_sub(1));
                (to.saturating_sub(u64::from(count)) + 1, to)
            }
            MessageRange::From(seq, count) => {
                let from = seq.max(1);
                (from, head.min(from.saturating_add(u64::from(count)).saturating_sub(1)))
            }
        };
        Ok((from..=to).filter_map(|seq| data.visible_message(branch, seq)).collect())
    }

    fn get_message(&self, id: MessageId) -> StoreResult<Message> {
        let data = self.lock();
        let position = data.positions.get(&id);
        position
            .and_then(|(branch, seq)| data.visible_message(*branch, *seq))
            .ok_or_else(|| not_found("message", &id))
    }

    fn recover_abandoned_replies(&self, session: Option<SessionId>, at: Timestamp) -> StoreResult<u64> {
        let mut data = self.lock();
        if let Some(session) = session {
            data.session(session)?;
        }
        let mut recovered = 0;
        let mut changed = Vec::new();
        for row in data.branches.values_mut() {
            if session.is_some_and(|session| session != row.branch.session) {
                continue;
            }
            for message in row.messages.iter_mut().filter(|message| message.is_abandoned()) {
                message.content.status = MessageStatus::Interrupted;
                recovered += 1;
                changed.push(row.branch.id);
            }
        }
        for branch in changed {
            data.touch_branch(branch, at)?;
        }
        Ok(recovered)
    }
}

impl AttachmentStore for MemoryStore {
    fn get_attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        let data = self.lock();
        let bytes = data.attachments.get(&hash).ok_or_else(|| not_found("attachment", &hash))?;
        if hash_of(bytes) != hash {
            return Err(StoreError::Corrupt {
                message: format!("attachment {hash} does not match its hash"),
            });
        }
        Ok(bytes.to_vec())
    }

    fn put_attachment(&self, attachment: &Attachment) -> StoreResult<()> {
        check_hash(attachment)?;
        let mut data = self.lock();
        data.attachments.entry(attachment.hash).or_insert_with(|| Arc::from(attachment.bytes.as_slice()));
        Ok(())
    }
}

impl MemoryStore {
    /// Returns the reply if this instance is its writer.
    fn own_reply<'a>(&self, data: &'a mut Data, reply: ReplyHandle) -> StoreResult<&'a mut MessageRow> {
        let is_at_position = data.positions.get(&reply.message) == Some(&(reply.branch, reply.seq));
        data.message_mut(reply.message)
            .filter(|row| {
                is_at_position && row.is_live() && Weak::ptr_eq(&row.writer, &Arc::downgrade(&self.writer))
            })
            .ok_or_else(|| conflict(format!("reply {} is no longer being written", reply.message)))
    }
}

impl MemoryStore {
    /// The row of a new reply, which has no parts yet.
    fn streaming_row(&self, reply: &MessageDraft) -> MessageRow {
        let content = MessageDraft { parts: Vec::new(), status: MessageStatus::Streaming, ..reply.clone() };
        MessageRow { content, writer: Arc::downgrade(&self.writer) }
    }
}

impl Data {
    /// Appends all rows or none. Returns the new head.
    fn append_rows(&mut self, at: Position, rows: Vec<MessageRow>) -> StoreResult<Seq> {
        self.check_append(at, &rows)?;
        self.recover_abandoned_reply(at.branch, rows.len())?;
        for row in rows {
            self.push(at.branch, row)?;
        }
        Ok(self.branch(at.branch)?.branch.head)
    }

    fn check_append(&self, at: Position, rows: &[MessageRow]) -> StoreResult<()> {
        let row = self.branch(at.branch)?;
        if row.branch.undone {
            return Err(conflict(undone_branch(&row.branch.name)));
        }
        let found = Position { branch: at.branch, head: row.branch.head };
        if found != at {
            return Err(StoreError::HeadMismatch { expected: at, found });
        }
        if row.messages.last().is_some_and(MessageRow::is_live) {
            return Err(StoreError::Locked { seq: row.branch.head });
        }
        self.check_rows(rows)
    }

    /// Returns an error if an id of these rows exists, or if an attachment is missing.
    fn check_rows(&self, rows: &[MessageRow]) -> StoreResult<()> {
        let messages = || rows.iter().map(|row| &row.content);
        for (index, message) in messages().enumerate() {
            let earlier = messages().take(index).any(|other| other.id == message.id);
            if earlier || self.positions.contains_key(&message.id) {
                return Err(conflict(format!("message {} already exists", message.id)));
            }
            self.check_attachments(message)?;
        }
        Ok(())
    }

    /// Marks an abandoned reply at the end of the branch as interrupted, unless the number of messages to append,
    /// `added`, is 0.
    fn recover_abandoned_reply(&mut self, branch: BranchId, added: usize) -> StoreResult<()> {
        let newest = self.branch_mut(branch)?.messages.last_mut();
        if let Some(message) = newest.filter(|message| added > 0 && message.is_abandoned()) {
            message.content.status = MessageStatus::Interrupted;
        }
        Ok(())
    }

    pub(super) fn push(&mut self, branch: BranchId, message: MessageRow) -> StoreResult<()> {
        let (id, at) = (message.content.id, message.content.created_at);
        let row = self.branch_mut(branch)?;
        row.branch.head += 1;
        row.messages.push(message);
        let seq = row.branch.head;
        self.positions.insert(id, (branch, seq));
        self.touch_branch(branch, at)
    }

    fn touch_branch(&mut self, branch: BranchId, at: Timestamp) -> StoreResult<()> {
        let session = self.branch(branch)?.branch.session;
        self.session_mut(session)?.touch(at);
        Ok(())
    }

    fn visible_message(&self, branch: BranchId, seq: Seq) -> Option<Message> {
        self.message_at(branch, seq).map(|(holder, message)| message.to_message(holder.branch.id, seq))
    }
}

pub(super) fn check_hash(attachment: &Attachment) -> StoreResult<()> {
    let found = hash_of(&attachment.bytes);
    if found != attachment.hash {
        return Err(invalid(format!("the attachment's hash is {found}, not {}", attachment.hash)));
    }
    Ok(())
}
