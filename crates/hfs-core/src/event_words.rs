//! Events of agents in words.

use serde_json::Value;

use crate::{ContextUpdate, CustomEvent, EventPayload, RequestEvent};

impl CustomEvent {
    /// Describes the event in one line, without its type. An event of an unknown type, or without the usual fields, is
    /// described by the JSON of its fields.
    #[must_use]
    pub fn describe(&self) -> String {
        self.words()
            .filter(|words| !words.is_empty())
            .unwrap_or_else(|| serde_json::to_string(&self.fields).unwrap_or_default())
    }

    fn words(&self) -> Option<String> {
        match self.kind.as_str() {
            "tool.started" => self.call(),
            "tool.ended" => {
                let ending = self.text("ending").unwrap_or("ended");
                let duration = self.fields.get("duration_ms").and_then(Value::as_u64);
                let after = duration.map(|millis| format!(" after {millis} ms")).unwrap_or_default();
                Some(format!("{} {ending}{after}", self.call()?))
            }
            "permission.requested" => Some(format!("may it {}?", self.action()?)),
            "permission.decided" => {
                let allowed = self.fields.get("allowed")?.as_bool()?;
                let decision = if allowed { "allowed" } else { "refused" };
                let by = match self.text("by") {
                    Some("user") => " by you",
                    Some("remembered") => ", as you decided before",
                    Some("options") => " by an option of the command",
                    Some("no_terminal") => ", because nobody could be asked",
                    Some("cancelled") => ", because the run was cancelled",
                    _ => "",
                };
                Some(format!("{decision}{by}: {}", self.action()?))
            }
            "plan.updated" => self.plan(),
            ContextUpdate::KIND => {
                let update = ContextUpdate::read(&EventPayload::Custom(self.clone()))?;
                let limit = update.limit.map(|limit| format!(" of {}", limit.tokens)).unwrap_or_default();
                let left_out = update.describe_left_out().map(|text| format!("; {text}")).unwrap_or_default();
                Some(format!("about {}{limit} tokens{left_out}", update.tokens))
            }
            _ => RequestEvent::read(&EventPayload::Custom(self.clone())).map(|event| event.describe()),
        }
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str().filter(|text| !text.is_empty())
    }

    /// The tool of a call, and what the agent calls it.
    fn call(&self) -> Option<String> {
        let name = self.text("name").or_else(|| self.text("call"))?;
        Some(match self.text("title").filter(|title| *title != name) {
            Some(title) => format!("{name}: {title}"),
            None => name.to_owned(),
        })
    }

    /// What a permission is about.
    fn action(&self) -> Option<String> {
        let title = self.text("title").or_else(|| self.text("call"))?;
        Some(match self.text("kind") {
            Some(kind) => format!("{kind} ({title})"),
            None => title.to_owned(),
        })
    }

    fn plan(&self) -> Option<String> {
        let steps = self.fields.get("steps")?.as_array()?;
        let with_status = |status| {
            steps.iter().filter(move |step| step.get("status").and_then(Value::as_str) == Some(status))
        };
        let done = with_status("completed").count();
        let current = with_status("in_progress").find_map(|step| step.get("content")?.as_str());
        let current = current.map(|step| format!("; now: {step}")).unwrap_or_default();
        Some(format!("{done} of {} steps are done{current}", steps.len()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(kind: &str, fields: &Value) -> String {
        CustomEvent { kind: kind.into(), fields: fields.as_object().cloned().unwrap() }.describe()
    }

    #[test]
    fn events_of_tools_are_described_in_words() {
        let call =
            json!({"agent": "claude", "call": "1", "name": "Bash", "title": "ls -l", "kind": "execute"});
        let with = |more: Value| {
            let mut fields = call.clone();
            fields.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            fields
        };
        let cases = [
            ("tool.started", call.clone(), "Bash: ls -l"),
            (
                "tool.ended",
                with(json!({"ending": "failed", "duration_ms": 1200})),
                "Bash: ls -l failed after 1200 ms",
            ),
            ("tool.ended", json!({"call": "1"}), "1 ended"),
            ("permission.requested", call.clone(), "may it execute (ls -l)?"),
            (
                "permission.decided",
                with(json!({"allowed": true, "by": "user"})),
                "allowed by you: execute (ls -l)",
            ),
            (
                "permission.decided",
                with(json!({"allowed": false, "by": "no_terminal"})),
                "refused, because nobody could be asked: execute (ls -l)",
            ),
            (
                "plan.updated",
                json!({"steps": [
                    {"content": "read", "status": "completed"},
                    {"content": "write", "status": "in_progress"},
                    {"content": "test", "status": "pending"},
                ]}),
                "1 of 3 steps are done; now: write",
            ),
        ];
        for (kind, fields, expected) in cases {
            assert_eq!(words(kind, &fields), expected, "{kind}");
        }
    }

    #[test]
    fn other_events_are_described_by_their_fields() {
        for (kind, fields) in [
            ("tool.used", json!({"tool": "grep"})),
            ("tool.started", json!({"id": 3})),
            ("permission.decided", json!({"title": "x"})),
            ("plan.updated", json!({"steps": 1})),
            ("context.updated", json!({})),
        ] {
            assert_eq!(words(kind, &fields), fields.to_string(), "{kind}");
        }
    }
}
