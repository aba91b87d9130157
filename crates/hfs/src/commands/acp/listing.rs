//! The list of sessions, page by page.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hfs_acp::RpcError;
use hfs_acp::wire::{ListSessionsRequest, ListSessionsResponse, SessionInfo};
use hfs_core::{Cursor, PageRequest, SessionFilter, SessionSummary, Store};

use super::{Server, in_background, wire_error};
use crate::output::error::CliError;
use crate::project;

/// Sessions in a page.
const PAGE: u32 = 50;

/// Lists the sessions of a directory, or all, newest first.
pub async fn list(server: &Server, request: ListSessionsRequest) -> Result<ListSessionsResponse, RpcError> {
    let store = Arc::clone(&server.store);
    let cursor = request.cursor.map(Cursor);
    let directory = request.cwd.map(|cwd| cwd.canonicalize().unwrap_or(cwd));
    let listed = in_background(move || match directory {
        None => page(store.as_ref(), &SessionFilter::default(), cursor, |_| true),
        Some(directory) => {
            // Another directory of the same repository belongs to the same project.
            let project = Some(project::of_directory(&directory).key().to_owned());
            let filter = SessionFilter { project, ..SessionFilter::default() };
            page(store.as_ref(), &filter, cursor, |session| directory_of(session) == Some(&directory))
        }
    });
    let (sessions, next) = listed.await.map_err(|error| wire_error(&error))?;
    let sessions = sessions.iter().map(info).collect();
    Ok(ListSessionsResponse::new(sessions).next_cursor(next.map(|cursor| cursor.0)))
}

/// Reads until a page is full or the list ends.
fn page(
    store: &dyn Store,
    filter: &SessionFilter,
    mut after: Option<Cursor>,
    is_wanted: impl Fn(&SessionSummary) -> bool,
) -> Result<(Vec<SessionSummary>, Option<Cursor>), CliError> {
    let mut sessions = Vec::new();
    loop {
        let read = store.list_sessions(filter, &PageRequest { limit: PAGE, after })?;
        sessions.extend(read.items.into_iter().filter(&is_wanted));
        after = read.next;
        // A page may have more than the limit, so that every cursor is one of the store.
        if after.is_none() || sessions.len() >= PAGE as usize {
            return Ok((sessions, after));
        }
    }
}

fn directory_of(session: &SessionSummary) -> Option<&Path> {
    session.session.project.as_ref().map(|project| Path::new(&project.directory))
}

fn info(summary: &SessionSummary) -> SessionInfo {
    // The protocol requires a directory; that of an imported session may not be known.
    let directory = directory_of(summary).map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    let session = &summary.session;
    SessionInfo::new(session.id.to_string(), directory)
        .title(session.title().to_owned())
        .updated_at(session.updated_at.known().map(|time| time.to_string()))
}
