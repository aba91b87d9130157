//! Between the wire types of the present version and the nouns.

use hfs_core::{
    CheckpointDraft, CheckpointState, ForeignSession, MessageDraft, MessageStatus, Origin, Project, Run,
    RunSnapshot, Trigger, Usage,
};

use super::v2;

impl From<v2::Message> for MessageDraft {
    fn from(message: v2::Message) -> Self {
        Self {
            id: message.id,
            role: message.role.into(),
            status: match message.status {
                v2::Status::Complete => MessageStatus::Complete,
                v2::Status::Streaming => MessageStatus::Streaming,
                v2::Status::Interrupted => MessageStatus::Interrupted,
            },
            parts: message.parts.into_iter().map(Into::into).collect(),
            agent: message.agent,
            model: message.model,
            usage: message.usage.map(|usage| Usage {
                prompt_tokens: usage.prompt_tokens,
                completion_tokens: usage.completion_tokens,
            }),
            created_at: message.created_at,
            source: message.source.map(|source| hfs_core::Source { format: source.format, id: source.id }),
            extra: message.extra.into(),
        }
    }
}

impl From<hfs_core::Message> for v2::Message {
    fn from(message: hfs_core::Message) -> Self {
        let content = message.content;
        Self {
            id: content.id,
            seq: message.seq,
            role: content.role.into(),
            status: match content.status {
                MessageStatus::Complete => v2::Status::Complete,
                MessageStatus::Streaming => v2::Status::Streaming,
                MessageStatus::Interrupted => v2::Status::Interrupted,
            },
            created_at: content.created_at,
            agent: content.agent,
            model: content.model,
            usage: content.usage.map(|usage| v2::Usage {
                prompt_tokens: usage.prompt_tokens,
                completion_tokens: usage.completion_tokens,
            }),
            source: content.source.map(|source| v2::Source { format: source.format, id: source.id }),
            parts: content.parts.into_iter().map(Into::into).collect(),
            extra: content.extra.into_map(),
        }
    }
}

impl v2::Session {
    /// The session as sinks take it. Its origin is the one in the document, or else the document itself.
    pub(crate) fn into_foreign(self, document: Origin) -> ForeignSession {
        let origin =
            self.origin.map(|origin| Origin { format: origin.format, id: origin.id, path: origin.path });
        let mut session = ForeignSession::new(origin.unwrap_or(document));
        session.id = Some(self.id);
        session.title = (!self.name.is_empty()).then_some(self.name);
        session.automatic_name = self.automatic_name;
        session.project = self
            .project
            .map(|project| Project { directory: project.directory, repository: project.repository });
        session.created_at = Some(self.created_at);
        session.updated_at = Some(self.updated_at);
        session.extra = self.extra.into();
        session
    }
}

impl From<hfs_core::Session> for v2::Session {
    fn from(session: hfs_core::Session) -> Self {
        Self {
            id: session.id,
            name: session.name,
            automatic_name: session.automatic_name,
            project: session
                .project
                .map(|project| v2::Project { directory: project.directory, repository: project.repository }),
            created_at: session.created_at,
            updated_at: session.updated_at,
            current_branch: session.current_branch,
            // A session that came back from a document of its own has no other origin than itself.
            origin: session
                .origin
                .filter(|origin| origin.format != "hfs" || origin.id != session.id.to_string())
                .map(|origin| v2::Origin { format: origin.format, id: origin.id, path: origin.path }),
            extra: session.extra.into_map(),
        }
    }
}

impl From<hfs_core::Branch> for v2::Branch {
    fn from(branch: hfs_core::Branch) -> Self {
        Self {
            id: branch.id,
            name: branch.name,
            parent: branch.parent,
            forked_at: branch.forked_at,
            head: branch.head,
        }
    }
}

impl TryFrom<v2::Run> for Run {
    type Error = serde_json::Error;

    fn try_from(run: v2::Run) -> Result<Self, Self::Error> {
        let snapshot: RunSnapshot = serde_json::from_value(run.snapshot)?;
        let events = run.events.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
        Ok(Self {
            id: run.id,
            branch: run.branch,
            answers: run.answers,
            started_at: run.started_at,
            ended_at: run.ended_at,
            snapshot,
            events,
        })
    }
}

impl TryFrom<Run> for v2::Run {
    type Error = serde_json::Error;

    fn try_from(run: Run) -> Result<Self, Self::Error> {
        Ok(Self {
            id: run.id,
            branch: run.branch,
            answers: run.answers,
            started_at: run.started_at,
            ended_at: run.ended_at,
            snapshot: serde_json::to_value(&run.snapshot)?,
            events: run.events.iter().map(serde_json::to_value).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<v2::Checkpoint> for CheckpointDraft {
    type Error = serde_json::Error;

    fn try_from(checkpoint: v2::Checkpoint) -> Result<Self, Self::Error> {
        Ok(Self {
            id: checkpoint.id,
            branch: checkpoint.branch,
            seq: checkpoint.seq,
            trigger: Trigger::from(&*checkpoint.trigger),
            label: checkpoint.label,
            pinned: checkpoint.pinned,
            created_at: checkpoint.created_at,
            state: serde_json::from_value::<CheckpointState>(checkpoint.state)?,
        })
    }
}

impl v2::Checkpoint {
    /// A checkpoint with its state.
    pub(crate) fn new(
        checkpoint: hfs_core::Checkpoint,
        state: &CheckpointState,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            id: checkpoint.id,
            branch: checkpoint.branch,
            seq: checkpoint.seq,
            trigger: checkpoint.trigger.to_string(),
            label: checkpoint.label,
            pinned: checkpoint.pinned,
            created_at: checkpoint.created_at,
            state: serde_json::to_value(state)?,
        })
    }
}
