//! Where an export goes.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hfs_core::Session;
use hfs_exchange::{LocationOverrides, install_path};
use tempfile::NamedTempFile;

use super::form::Form;
use crate::failure::Failure;
use crate::home::create_private;
use crate::plain;

/// How many bytes of a session's name its file's name keeps.
const NAME_BYTES: usize = 100;

/// Where an export goes.
#[derive(Debug)]
pub enum Target {
    /// A file in this directory, of this name or, where that is taken, with a number behind it.
    New { directory: PathBuf, name: String, form: Form },
    /// This file, whatever is there now.
    Exactly(PathBuf),
    /// A device or a pipe, which can only be written into.
    Stream(PathBuf),
}

/// An export that is being written.
#[derive(Debug)]
pub enum Unfinished {
    /// Beside its place; gone when it is dropped.
    Beside(NamedTempFile),
    /// In its place.
    Stream(fs::File),
}

impl Target {
    /// What `path` asks for; `is_default` when nobody named it, and it is the directory of exports.
    ///
    /// # Errors
    /// When the directory of exports cannot be made.
    pub fn choose(path: &Path, is_default: bool, session: &Session, form: Form) -> Result<Self, Failure> {
        if is_default {
            create_private(path)
                .map_err(|error| Failure::io(format!("make the directory {}", path.display()), error))?;
        }
        let named = |directory: &Path| Self::New {
            directory: directory.to_owned(),
            name: name_of(session, form),
            form,
        };
        Ok(match fs::metadata(path) {
            Ok(found) if found.is_dir() => named(path),
            Ok(found) if !found.is_file() => Self::Stream(path.to_owned()),
            // What a link leads to is replaced, not the link.
            Ok(_) => Self::Exactly(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())),
            Err(_) => Self::Exactly(path.to_owned()),
        })
    }

    /// The file in `directory` that a session goes to, as far as it is still free then.
    pub fn usual(directory: &Path, session: &Session, form: Form) -> PathBuf {
        directory.join(format!("{}.{}", name_of(session, form), form.extension()))
    }

    /// How it is called in messages.
    pub fn shown(&self) -> String {
        let path = match self {
            Self::New { directory, .. } => directory,
            Self::Exactly(path) | Self::Stream(path) => path,
        };
        path.display().to_string()
    }

    fn directory(&self) -> &Path {
        match self {
            Self::New { directory, .. } => directory,
            Self::Exactly(path) | Self::Stream(path) => path.parent().unwrap_or(path),
        }
    }

    /// Begins to write.
    ///
    /// # Errors
    /// As the system has it.
    pub fn begin(&self) -> Result<Unfinished, Failure> {
        let failed = |error| Failure::io(format!("write the export {}", self.shown()), error);
        match self {
            Self::Stream(path) => {
                fs::OpenOptions::new().write(true).open(path).map(Unfinished::Stream).map_err(failed)
            }
            // Temporary files are readable by nobody else, and stay so where they are moved.
            _ => tempfile::Builder::new()
                .prefix(".hfs-export-")
                .tempfile_in(self.directory())
                .map(Unfinished::Beside)
                .map_err(failed),
        }
    }

    /// Puts what was written into its place, and says where that is.
    ///
    /// # Errors
    /// As the system has it; nothing is left of the file then.
    pub fn finish(&self, written: Unfinished) -> Result<PathBuf, Failure> {
        let failed = |error| Failure::io(format!("write the export {}", self.shown()), error);
        let mut file = match (written, self) {
            (Unfinished::Beside(file), _) => file,
            (Unfinished::Stream(_), target) => return Ok(PathBuf::from(target.shown())),
        };
        file.as_file().sync_all().map_err(failed)?;
        let (directory, name, form) = match self {
            Self::New { directory, name, form } => (directory, name, form),
            Self::Exactly(path) | Self::Stream(path) => {
                file.persist(path).map_err(|refused| failed(refused.error))?;
                return Ok(path.clone());
            }
        };
        let mut number = 1_u64;
        loop {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let path = directory.join(format!("{name}{suffix}.{}", form.extension()));
            match file.persist_noclobber(&path) {
                Ok(_) => return Ok(path),
                Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => file = refused.file,
                Err(refused) => return Err(failed(refused.error)),
            }
            number += 1;
        }
    }
}

/// What the file of a session is called, without its ending: as the tool it is for wants it, or after the session.
fn name_of(session: &Session, form: Form) -> String {
    let landing = form
        .tool()
        .and_then(|tool| install_path(tool, session, Path::new(""), &LocationOverrides::default()));
    if let Some(name) = landing.and_then(|landing| landing.name) {
        let stem =
            name.strip_suffix(form.extension()).and_then(|stem| stem.strip_suffix('.')).unwrap_or(&name);
        return safe_name(stem).unwrap_or_else(|| session.id.to_string());
    }
    safe_name(&session.name).unwrap_or_else(|| session.id.short().shown().to_owned())
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Beside(file) => file.write(bytes),
            Self::Stream(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Beside(file) => file.flush(),
            Self::Stream(file) => file.flush(),
        }
    }
}

/// A session's name as the name of a file that every system takes: letters and digits of any script, `-`, `_` and
/// `.` within; `None` when nothing of the name is left.
fn safe_name(name: &str) -> Option<String> {
    let mut safe = String::new();
    for c in name.chars() {
        let c = if c.is_alphanumeric() || matches!(c, '_' | '.') { c } else { '-' };
        if safe.len() + c.len_utf8() > NAME_BYTES {
            break;
        }
        let repeats = matches!(c, '-' | '.') && safe.ends_with(['-', '.']);
        if !repeats {
            safe.push(c);
        }
    }
    let safe = safe.trim_matches(['-', '.']);
    let stem = safe.split('.').next().unwrap_or(safe);
    // Devices on Windows, whatever their extension.
    let is_device = ["con", "prn", "aux", "nul"].iter().any(|device| stem.eq_ignore_ascii_case(device))
        || (stem.len() == 4
            && stem.ends_with(|c: char| c.is_ascii_digit())
            && ["com", "lpt"].iter().any(|device| stem.to_ascii_lowercase().starts_with(device)));
    match safe {
        "" => None,
        _ if is_device => Some(format!("session-{safe}")),
        _ => Some(safe.to_owned()),
    }
}

/// Passes text on without what a terminal would obey.
pub struct SafeText<W> {
    inner: W,
    stream: plain::Stream,
    /// The beginning of a character whose rest has not come yet.
    cut: Vec<u8>,
}

impl<W: Write> SafeText<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, stream: plain::Stream::default(), cut: Vec::new() }
    }
}

impl<W: Write> Write for SafeText<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.cut.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.cut) {
            Ok(_) => self.cut.len(),
            Err(error) => error.valid_up_to(),
        };
        let rest = self.cut.split_off(whole);
        let text = String::from_utf8(std::mem::replace(&mut self.cut, rest)).unwrap_or_default();
        self.inner.write_all(self.stream.next(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_has_a_name_that_every_file_system_takes() {
        for (name, file) in [
            ("Fix login bug - 2026-02-01_14-30", Some("Fix-login-bug-2026-02-01_14-30")),
            ("../../etc/passwd", Some("etc-passwd")),
            ("a\\b:c*?\"<>|\0\n\u{1b}[2J", Some("a-b-c-2J")),
            ("日本語 ä", Some("日本語-ä")),
            ("NUL", Some("session-NUL")),
            ("com1.txt", Some("session-com1.txt")),
            ("common", Some("common")),
            (" .. ", None),
            ("", None),
        ] {
            assert_eq!(safe_name(name).as_deref(), file, "{name:?}");
        }
        let long = safe_name(&"ä".repeat(500)).unwrap();
        assert_eq!(long.len(), NAME_BYTES);
    }

    #[test]
    fn a_terminal_is_shown_text_however_it_is_cut() {
        let text = "é\x1b[31mred\x1b[0m 日\n";
        for cut in 1..text.len() {
            let mut out = SafeText::new(Vec::new());
            let (a, b) = text.as_bytes().split_at(cut);
            out.write_all(a).unwrap();
            out.write_all(b).unwrap();
            assert_eq!(String::from_utf8(out.inner).unwrap(), "éred 日\n");
        }
    }
}
