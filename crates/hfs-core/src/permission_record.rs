//! Decisions about questions of agents, as parts of messages.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{DecidedBy, Part};

/// Source of the parts that hfs itself adds to a message.
const SOURCE: &str = "hfs";
/// Characters of a title that a record repeats.
const TITLE_CHARS: usize = 200;

/// What was decided about a question of an agent. It is a part of the message with the call, so that a search finds it by the
/// words of the call and by those of the decision.
///
/// The event [`ToolEvent::PermissionDecided`](crate::ToolEvent::PermissionDecided) tells the same to front ends while it happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "permission.decided")]
pub struct PermissionRecord {
    /// Id of the call.
    pub call: String,
    /// What the call does, such as `read` or `execute`.
    pub kind: String,
    /// Whether the agent may act.
    pub allowed: bool,
    /// Who decided.
    pub by: DecidedBy,
    /// The beginning of the agent's description of the call, if the call is part of another message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

impl PermissionRecord {
    /// Sets the description of a call that is part of another message. Only its beginning is kept.
    #[must_use]
    pub fn with_title(mut self, title: &str) -> Self {
        self.title = Some(title.chars().take(TITLE_CHARS).collect());
        self
    }

    /// The part to add to the message.
    #[must_use]
    pub fn to_part(&self) -> Part {
        let mut raw = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(fields) = &mut raw {
            // The words that a search looks for.
            fields.insert("words".into(), self.describe().into());
        }
        Part::Opaque { source: SOURCE.to_owned(), raw }
    }

    /// Reads a part that [`to_part`](Self::to_part) created. `None` for any other part.
    #[must_use]
    pub fn read(part: &Part) -> Option<Self> {
        match part {
            Part::Opaque { source, raw } if source == SOURCE => Self::deserialize(raw).ok(),
            _ => None,
        }
    }

    /// Says what was decided, and by whom.
    #[must_use]
    pub fn describe(&self) -> String {
        let decision = if self.allowed { "allowed" } else { "refused" };
        let action = match self.title.as_deref().unwrap_or_default() {
            "" => String::new(),
            title => format!(": {title}"),
        };
        format!("permission {decision}{}{action}", self.by.describe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageDraft, Role, Timestamp};

    fn record(allowed: bool, by: DecidedBy) -> PermissionRecord {
        PermissionRecord { call: "1".into(), kind: "execute".into(), allowed, by, title: None }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_found_by_its_decision() {
        let by = [
            DecidedBy::Options,
            DecidedBy::Remembered,
            DecidedBy::User,
            DecidedBy::NoTerminal,
            DecidedBy::Cancelled,
        ];
        for by in by {
            let written = record(false, by).with_title(&"x".repeat(500));
            let part = written.to_part();
            assert_eq!(PermissionRecord::read(&part), Some(written.clone()));
            assert_eq!(written.title.as_deref().map(str::len), Some(TITLE_CHARS));
            let message = MessageDraft::new(Role::Assistant, vec![part], Timestamp::UNIX_EPOCH);
            assert!(message.searchable_text().contains("permission refused"), "{by:?}");
        }
        let other = Part::Opaque { source: SOURCE.into(), raw: serde_json::json!({"type": "other"}) };
        assert_eq!(PermissionRecord::read(&other), None);
        assert_eq!(PermissionRecord::read(&Part::text("permission refused")), None);
    }

    #[test]
    fn a_decision_is_described_in_words() {
        assert_eq!(record(true, DecidedBy::User).describe(), "permission allowed by you");
        let elsewhere = record(false, DecidedBy::Remembered).with_title("ls -l");
        assert_eq!(elsewhere.describe(), "permission refused, as you decided before: ls -l");
    }
}
