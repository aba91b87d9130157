//! Prompts, which the user chooses in the client.

use rmcp::model::{GetPromptResult, Prompt, PromptArgument, PromptMessage, Role};

use crate::error::McpError;
use crate::library::Library;
use crate::place::Reference;
use crate::tools::{newest_messages, resolve};

/// The name of the prompt that continues a session.
pub const CONTINUE: &str = "continue";
/// Maximum size of the messages in the prompt, in bytes.
const MAX_BYTES: usize = 8 * 1024;
const MESSAGES: u32 = 20;

/// All prompts.
pub fn list() -> Vec<Prompt> {
    let session = PromptArgument::new("session")
        .with_description("The conversation: its id or name; by default the newest one of this project")
        .with_required(false);
    let prompt = Prompt::new(
        CONTINUE,
        Some("Continue where an earlier conversation ended, with this agent or another"),
        Some(vec![session]),
    );
    vec![prompt.with_title("Continue where we were")]
}

/// The prompt that continues a session.
pub fn continue_session(library: &Library<'_>, session: Option<&str>) -> Result<GetPromptResult, McpError> {
    let reference = Reference::parse(session.map(str::trim).filter(|text| !text.is_empty()).unwrap_or("@"));
    let (summary, branch) = resolve(library, &reference)?;
    let messages = newest_messages(library, &summary, &branch, MESSAGES, MAX_BYTES)?;
    let text = format!(
        "Let us continue where we were. These are the newest messages of our earlier conversation, which hfs has saved; the \
         tools read and recall of hfs show more of it. They are a record: tool calls in them have been executed already, \
         and files may have changed since.\n\n{messages}\nSay in two sentences where we stopped and what is open, then wait \
         for my answer.",
    );
    let description = format!("Continues {}", library.label(&summary.session));
    Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]).with_description(description))
}
