//! Sessions as resources.
//!
//! The address of a session is `hfs://session/kxrmnqvwtzlp`, and that of its messages from one on is
//! `hfs://session/kxrmnqvwtzlp/main/12`.

use hfs_core::{Cursor, ErrorExt as _, ErrorKind, PageRequest, SessionFilter, SessionSummary, plural};
use rmcp::model::{
    Annotations, ErrorData, ListResourceTemplatesResult, ListResourcesResult, Resource, ResourceContents,
    ResourceTemplate,
};

use crate::error::McpError;
use crate::library::Library;
use crate::place::Reference;
use crate::tools::{ReadRange, newest_messages, read_range, resolve};

const SCHEME: &str = "hfs://session/";
const MIME_TYPE: &str = "text/plain";
/// Sessions on a page of the list.
const PAGE: u32 = 50;
/// Maximum size of the text of a session, in bytes. The user chooses a resource, so it may be larger than an answer.
const MAX_BYTES: usize = 16 * 1024;
/// Messages in the text of a session.
const MESSAGES: u32 = 100;

/// Lists a page of the sessions, newest first.
pub fn list(library: &Library<'_>, cursor: Option<String>) -> Result<ListResourcesResult, McpError> {
    let request = PageRequest { limit: PAGE, after: cursor.map(Cursor) };
    let page = library.store().list_sessions(&SessionFilter::default(), &request)?;
    let resources = page.items.iter().map(|summary| describe(library, summary)).collect();
    let mut result = ListResourcesResult::with_all_items(resources);
    result.next_cursor = page.next.map(|Cursor(cursor)| cursor);
    Ok(result)
}

fn describe(library: &Library<'_>, summary: &SessionSummary) -> Resource {
    let session = &summary.session;
    let title = library.title(session.title());
    let description = format!(
        "{}, {}, {}{}",
        library.masker.text(session.tool()),
        plural(summary.messages, "message"),
        library.time(session.updated_at),
        library.project_note(session),
    );
    let resource = Resource::new(format!("{SCHEME}{}", session.id.short()), title.clone())
        .with_title(title)
        .with_description(description)
        .with_mime_type(MIME_TYPE);
    match session.updated_at.known() {
        Some(updated) => {
            let mut annotations = Annotations::default();
            annotations.last_modified = Some(updated.to_string());
            resource.with_annotations(annotations)
        }
        None => resource,
    }
}

/// The forms of addresses.
pub fn templates() -> ListResourceTemplatesResult {
    let session = ResourceTemplate::new(format!("{SCHEME}{{session}}"), "session")
        .with_title("A saved conversation")
        .with_description(
            "The newest messages of a conversation, by its id, or @ for the newest one of this project",
        )
        .with_mime_type(MIME_TYPE);
    let messages = ResourceTemplate::new(format!("{SCHEME}{{session}}/{{branch}}/{{seq}}"), "messages")
        .with_title("Messages of a saved conversation")
        .with_description("The messages of a branch from a number on")
        .with_mime_type(MIME_TYPE);
    ListResourceTemplatesResult::with_all_items(vec![session, messages])
}

/// The text of a session, or of its messages from one on.
pub fn read(library: &Library<'_>, uri: &str) -> Result<ResourceContents, McpError> {
    let unknown = || {
        McpError::Argument(format!(
            "{uri:?} is not the address of a saved conversation, such as {SCHEME}kxrmnqvwtzlp"
        ))
    };
    let path = uri.strip_prefix(SCHEME).ok_or_else(unknown)?;
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let (session, branch, seq) = match parts.as_slice() {
        [session] => (*session, None, None),
        [session, branch, seq] => (*session, Some(*branch), Some(seq.parse().map_err(|_| unknown())?)),
        _ => return Err(unknown()),
    };
    let reference = Reference { session: session.to_owned(), branch: branch.map(str::to_owned), seq };
    let (summary, branch) = resolve(library, &reference)?;
    let text = match seq {
        Some(seq) => {
            read_range(library, &summary, &branch, &ReadRange { seq, count: MESSAGES, offset: 0 }, MAX_BYTES)?
        }
        None => newest_messages(library, &summary, &branch, MESSAGES, MAX_BYTES)?,
    };
    Ok(ResourceContents::text(text, uri).with_mime_type(MIME_TYPE))
}

/// The error of the protocol for a resource that cannot be read.
pub fn error(error: &McpError, message: String) -> ErrorData {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::Conflict => {
            ErrorData::resource_not_found(message, None)
        }
        _ => ErrorData::internal_error(message, None),
    }
}
