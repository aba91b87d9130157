//! The request for a summary that replaces the beginning of a conversation in a model's context.

use std::collections::HashMap;

use hfs_core::{AgentError, CompletedMessage, Part, RunOutcome, RunRequest};

use crate::model::{ChatPart, ChatRole, ChatTurns, Model, ModelRequest};

const INSTRUCTIONS: &str = "\
Summarize this conversation. From now on you will see your summary instead of the conversation, and you must be able to \
continue from it without a gap.

State: what the user wants, with the requirements and constraints in the user's words; the decisions and their reasons; the \
facts, names, numbers, file paths, commands, code and error messages that are still needed, exactly; what was tried and \
failed; what was being done last and what is open. If the conversation begins with an earlier summary, keep what still matters \
of it. Leave out greetings and what is settled.

Write in the language of the conversation. Reply with the summary only; do not continue the conversation.";

/// The heading of a summary, which tells a later model and the user what the message is.
const HEADING: &str = "Summary of the conversation so far:";

/// Asks a model to summarize the history of a request.
pub(crate) async fn summarize(
    model: &dyn Model,
    request: &RunRequest,
    provider: &str,
) -> Result<RunOutcome, AgentError> {
    let mut chat = ChatTurns::from_history(&request.history, &HashMap::new(), None);
    chat.push(ChatRole::User, vec![ChatPart::Text(INSTRUCTIONS.to_owned())]);
    let model_request = ModelRequest {
        system: (!chat.system.is_empty()).then(|| chat.system.join("\n\n")),
        turns: chat.turns,
        cancel: request.cancel.clone(),
        ..ModelRequest::default()
    };
    let reply = model.reply(&model_request, &mut |_| {}).await?;
    if let Some(incomplete) = reply.incomplete {
        return Err(AgentError::Incomplete(incomplete));
    }
    let texts = reply.parts.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.trim()),
        _ => None,
    });
    let text = texts.collect::<Vec<_>>().join("\n\n");
    if text.is_empty() {
        let message = "the summary of the conversation is empty".to_owned();
        return Err(AgentError::Malformed { provider: provider.to_owned(), message });
    }
    let message = CompletedMessage::new(vec![Part::text(format!("{HEADING}\n\n{text}"))])
        .with_model(Some(model.name().to_owned()))
        .with_usage(reply.usage);
    Ok(RunOutcome::new(message))
}
