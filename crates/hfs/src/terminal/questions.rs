//! Questions of agents in the app.

use async_trait::async_trait;
use hfs_acp::PermissionQuestion;
use hfs_tui::{AgentQuestion, FileChange, PermissionAnswer, PermissionRequest};
use tokio::sync::{mpsc, oneshot};

use crate::permissions::{Answer, Asker, action};

/// Asks in the app.
pub struct AppAsker {
    questions: mpsc::UnboundedSender<AgentQuestion>,
}

impl AppAsker {
    /// Creates an asker, and what the app receives its questions from.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<AgentQuestion>) {
        let (questions, receiver) = mpsc::unbounded_channel();
        (Self { questions }, receiver)
    }
}

#[async_trait]
impl Asker for AppAsker {
    async fn ask(&self, question: &PermissionQuestion, covers: Option<String>) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        let request = Box::new(request(question, covers));
        self.questions.send(AgentQuestion::Asked { request, answer }).ok()?;
        // The app may be ending.
        Some(match answered.await.ok()? {
            PermissionAnswer::AllowOnce => Answer::Once { allowed: true },
            PermissionAnswer::AllowAlways => Answer::Always { allowed: true },
            PermissionAnswer::RejectOnce => Answer::Once { allowed: false },
            PermissionAnswer::RejectAlways => Answer::Always { allowed: false },
        })
    }

    fn waiting_changed(&self, count: usize) {
        let _ = self.questions.send(AgentQuestion::Waiting(count));
    }
}

fn request(question: &PermissionQuestion, always: Option<String>) -> PermissionRequest {
    let command = question.command();
    let changes = question.changes.iter().map(|change| FileChange {
        path: change.path.display().to_string(),
        old: change.old.clone(),
        new: change.new.clone(),
    });
    let changes: Vec<FileChange> = changes.collect();
    let is_shown = command.is_some() || !changes.is_empty();
    PermissionRequest {
        agent: question.agent.clone(),
        action: action(question.kind),
        title: question.title.clone(),
        input: question.input.clone().filter(|_| !is_shown),
        command,
        changes,
        paths: question.locations.iter().map(|path| path.display().to_string()).collect(),
        text: question.text.clone(),
        always,
    }
}

#[cfg(test)]
mod tests {
    use hfs_acp::ActionKind;
    use serde_json::json;

    use super::*;

    fn question(input: serde_json::Value) -> PermissionQuestion {
        PermissionQuestion {
            agent: "claude".into(),
            call: "1".into(),
            title: "Run it".into(),
            kind: ActionKind::Execute,
            input: Some(input),
            changes: Vec::new(),
            locations: Vec::new(),
            text: Vec::new(),
            request: serde_json::Value::Null,
        }
    }

    #[tokio::test]
    async fn a_question_is_answered_or_withdrawn() {
        let (asker, mut questions) = AppAsker::new();
        let asked = question(json!({"command": "ls"}));
        let answering = async {
            let Some(AgentQuestion::Asked { request, answer }) = questions.recv().await else { panic!() };
            assert_eq!((request.command.as_deref(), &request.input), (Some("ls"), &None));
            assert_eq!(request.always.as_deref(), Some("execute ls"));
            answer.send(PermissionAnswer::AllowAlways).unwrap();
        };
        let (answer, ()) = tokio::join!(asker.ask(&asked, Some("execute ls".into())), answering);
        assert_eq!(answer, Some(Answer::Always { allowed: true }));
        let asked = question(json!({"pattern": "x"}));
        {
            let asking = asker.ask(&asked, None);
            tokio::pin!(asking);
            assert!(futures::poll!(&mut asking).is_pending());
        }
        let Some(AgentQuestion::Asked { request, answer }) = questions.recv().await else { panic!() };
        assert!(answer.is_closed() && request.input.is_some());
        drop(questions);
        assert_eq!(asker.ask(&asked, None).await, None);
    }
}
