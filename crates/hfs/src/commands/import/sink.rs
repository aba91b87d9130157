//! Completes what a transcript says about its project.

use std::collections::HashMap;
use std::path::Path;

use hfs_core::{
    Attachment, BranchId, BranchKey, CheckpointDraft, Disposition, ForeignSession, ImportReport,
    MessageDraft, Run, Seq, SessionSink, StoreError,
};
use hfs_engine::{ImportedSession, Importer, SkippedSession};
use hfs_exchange::Source;

use crate::project;

/// An importer that looks up which repository a session's directory is in. Other tools write down the directory
/// alone, and only this machine knows that it belongs to the same project as sessions begun here.
pub struct WithRepositories<'a> {
    importer: Importer<'a>,
    known: HashMap<String, Option<String>>,
}

impl<'a> WithRepositories<'a> {
    pub fn new(importer: Importer<'a>) -> Self {
        Self { importer, known: HashMap::new() }
    }

    pub fn next_file(&mut self, source: &Source) {
        self.importer.next_file(source.name(), source.modified_at());
    }

    pub fn abandon(&mut self) {
        self.importer.abandon();
    }

    /// How many sessions were seen so far.
    pub fn count(&self) -> usize {
        self.importer.imported.len() + self.importer.skipped.len()
    }

    pub fn skip(&mut self, skipped: SkippedSession) {
        self.importer.skipped.push(skipped);
    }

    pub fn finish(self) -> (Vec<ImportedSession>, Vec<SkippedSession>) {
        (self.importer.imported, self.importer.skipped)
    }

    fn repository_of(&mut self, directory: &str) -> Option<String> {
        if let Some(known) = self.known.get(directory) {
            return known.clone();
        }
        let path = Path::new(directory);
        let found =
            (path.is_absolute() && path.is_dir()).then(|| project::of_directory(path).repository).flatten();
        self.known.insert(directory.to_owned(), found.clone());
        found
    }
}

impl SessionSink for WithRepositories<'_> {
    fn begin(&mut self, mut session: ForeignSession) -> Result<Disposition, StoreError> {
        if let Some(project) = session.project.as_mut().filter(|project| project.repository.is_none()) {
            project.repository = self.repository_of(&project.directory);
        }
        self.importer.begin(session)
    }

    fn branch(
        &mut self,
        key: BranchKey,
        parent: BranchKey,
        forked_at: Seq,
        id: Option<BranchId>,
        name: Option<String>,
    ) -> Result<(), StoreError> {
        self.importer.branch(key, parent, forked_at, id, name)
    }

    fn message(&mut self, branch: BranchKey, message: MessageDraft) -> Result<(), StoreError> {
        self.importer.message(branch, message)
    }

    fn attachment(&mut self, attachment: Attachment) -> Result<(), StoreError> {
        self.importer.attachment(attachment)
    }

    fn run(&mut self, run: Run) -> Result<(), StoreError> {
        self.importer.run(run)
    }

    fn checkpoint(&mut self, checkpoint: CheckpointDraft) -> Result<(), StoreError> {
        self.importer.checkpoint(checkpoint)
    }

    fn current_branch(&mut self, branch: BranchKey) -> Result<(), StoreError> {
        self.importer.current_branch(branch)
    }

    fn end(&mut self, report: ImportReport) -> Result<(), StoreError> {
        self.importer.end(report)
    }

    fn progress(&mut self, bytes_read: u64) -> bool {
        self.importer.progress(bytes_read)
    }
}
