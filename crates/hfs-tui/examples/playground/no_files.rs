//! Ports without files and without a configuration.

use std::path::PathBuf;

use hfs_core::{ErrorKind, Session, SessionId};
use hfs_tui::{
    ConfigChange, ConfigEntry, Configuration, Drafts, ErrorReport, ExportFormat, ExportOutcome,
    ExportRequest, FoundTranscripts, ImportRequest, Imported, Progress, Transfer,
};

/// Refuses every import, export and setting, and keeps no drafts.
pub struct NoFiles;

fn unsupported<T>() -> Result<T, ErrorReport> {
    Err(ErrorReport::new(ErrorKind::Unsupported, "this app has no files"))
}

impl Transfer for NoFiles {
    fn export_formats(&self) -> Vec<ExportFormat> {
        vec![ExportFormat { name: "json".into(), about: "not supported here".into(), extensions: Vec::new() }]
    }

    fn default_export_path(&self, _session: &Session, format: &str) -> PathBuf {
        PathBuf::from(format!("session.{format}"))
    }

    fn export(
        &self,
        _request: &ExportRequest,
        _progress: &dyn Progress,
    ) -> Result<ExportOutcome, ErrorReport> {
        unsupported()
    }

    fn find_transcripts(&self) -> Vec<FoundTranscripts> {
        Vec::new()
    }

    fn import(&self, _request: &ImportRequest, _progress: &dyn Progress) -> Result<Imported, ErrorReport> {
        unsupported()
    }
}

impl Drafts for NoFiles {
    fn read(&self, _session: Option<SessionId>) -> Result<Option<String>, ErrorReport> {
        Ok(None)
    }

    fn write(&self, _session: Option<SessionId>, _text: &str) -> Result<(), ErrorReport> {
        Ok(())
    }
}

impl Configuration for NoFiles {
    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }

    fn set(&self, _key: &str, _value: &str) -> Result<ConfigChange, ErrorReport> {
        unsupported()
    }

    fn models(&self) -> Result<Vec<String>, ErrorReport> {
        unsupported()
    }

    fn use_model(&self, _model: Option<&str>) -> Result<ConfigChange, ErrorReport> {
        unsupported()
    }
}
