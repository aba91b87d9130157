//! No files and no configuration, for an app that needs none.

use std::path::PathBuf;

use hfs_core::{ErrorKind, Session};
use hfs_tui::{
    ConfigChange, ConfigEntry, Configuration, ExportFormat, ExportRequest, Exported, Failure,
    FoundTranscripts, ImportRequest, Imported, Progress, Transfer,
};

/// Nothing comes and goes here.
pub struct Nowhere;

fn not_here<T>() -> Result<T, Failure> {
    Err(Failure::new(ErrorKind::Unsupported, "there are no files here"))
}

impl Transfer for Nowhere {
    fn export_formats(&self) -> Vec<ExportFormat> {
        vec![ExportFormat { name: "json".into(), about: "goes nowhere".into() }]
    }

    fn default_export_path(&self, _session: &Session, format: &str) -> PathBuf {
        PathBuf::from(format!("session.{format}"))
    }

    fn export(&self, _request: &ExportRequest, _progress: &dyn Progress) -> Result<Exported, Failure> {
        not_here()
    }

    fn find_transcripts(&self) -> Vec<FoundTranscripts> {
        Vec::new()
    }

    fn import(&self, _request: &ImportRequest, _progress: &dyn Progress) -> Result<Imported, Failure> {
        not_here()
    }
}

impl Configuration for Nowhere {
    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }

    fn set(&self, _key: &str, _value: &str) -> Result<ConfigChange, Failure> {
        not_here()
    }
}
