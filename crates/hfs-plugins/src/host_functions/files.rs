//! Files in the folders that `permissions.filesystem` lists.
//!
//! Paths with `..` are refused, and cap-std refuses symbolic links that point outside: it resolves each path component
//! relative to an open folder. A check of the path before opening it would leave a race.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions};

use super::protected::{ProtectedFolders, Reach};
use super::{ErrorCode, HostResult, InstanceState, host_error};
use crate::contract::Import;
use crate::contract::bindings::hfs::plugin::files::{Entry, Host};
use crate::contract::bindings::hfs::plugin::types::Error;
use crate::error::StartError;
use crate::plugin::manifest::Permissions;

/// Maximum size of a file that is read or written.
const MAX_BYTES: u64 = 4 << 20;
/// Maximum number of entries of a folder that are listed.
const MAX_ENTRIES: usize = 5_000;
/// Time limit of a file operation.
const MAX_TIME: Duration = Duration::from_secs(5);

/// The folders that a plugin may access.
#[derive(Debug, Clone)]
pub(crate) struct FolderGrants {
    read: Vec<GrantedFolder>,
    /// Each of these is also in `read`.
    write: Vec<GrantedFolder>,
    protected: ProtectedFolders,
}

#[derive(Debug, Clone)]
struct GrantedFolder {
    /// The path in the manifest, which may start with `~`. A plugin may use this form in its calls.
    listed: PathBuf,
    /// The absolute path.
    path: PathBuf,
}

impl FolderGrants {
    /// Resolves the folders in the manifest. `~` stands for `user_home`.
    ///
    /// # Errors
    /// If a folder would reach a protected one, such as `hfs_home` or a folder with credentials, or if there is no home
    /// directory for `~`.
    pub fn new(
        permissions: &Permissions,
        user_home: Option<&Path>,
        hfs_home: &Path,
    ) -> Result<Self, StartError> {
        let protected = ProtectedFolders::new(user_home, hfs_home);
        let resolve = |listed: &String| {
            let path = match listed.strip_prefix('~') {
                Some(rest) => user_home
                    .ok_or_else(|| StartError::NoHomeDirectory(listed.clone()))?
                    .join(rest.trim_start_matches('/')),
                None => PathBuf::from(listed),
            };
            match protected.reach(&path) {
                Reach::Allowed => Ok(GrantedFolder { listed: PathBuf::from(listed), path }),
                Reach::HfsHome => Err(StartError::HfsFolder(listed.clone())),
                Reach::Protected(reached) => {
                    Err(StartError::ProtectedFolder { listed: listed.clone(), reached })
                }
            }
        };
        let write = permissions.write_files.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
        let mut read = permissions.read_files.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
        read.extend(write.iter().cloned());
        Ok(Self { read, write, protected })
    }

    /// The granted folder that contains a path, and the path below it. If several contain it, the innermost one.
    fn find(&self, path: &str, access: Access) -> HostResult<(PathBuf, PathBuf)> {
        let folders = match access {
            Access::Read => &self.read,
            Access::Write => &self.write,
        };
        let path = Path::new(path);
        let containing = folders.iter().filter_map(|folder| {
            let rest = path.strip_prefix(&folder.listed).or_else(|_| path.strip_prefix(&folder.path)).ok()?;
            Some((folder.listed.components().count(), &folder.path, rest))
        });
        let innermost = containing.max_by_key(|(depth, ..)| *depth);
        let (_, folder, rest) = innermost.ok_or_else(|| {
            host_error(ErrorCode::Denied, format!("{} is not in a granted folder", path.display()))
        })?;
        if rest.components().any(|part| !matches!(part, Component::Normal(_))) {
            let message = format!("{} points outside its folder", path.display());
            return Err(host_error(ErrorCode::Denied, message));
        }
        // The folder may have been created, or replaced by a link, since the plugin started.
        if self.protected.reach(folder) != Reach::Allowed {
            let message = format!("{} leads to a folder that plugins may not access", folder.display());
            return Err(host_error(ErrorCode::Denied, message));
        }
        Ok((folder.clone(), rest.to_path_buf()))
    }
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

fn file_error(error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::NotFound => ErrorCode::NotFound,
        // cap-std also reports links that point outside the folder this way.
        io::ErrorKind::PermissionDenied => ErrorCode::Denied,
        _ => ErrorCode::Failed,
    };
    host_error(code, error.kind().to_string())
}

fn open_folder(path: &Path) -> HostResult<Dir> {
    Dir::open_ambient_dir(path, ambient_authority()).map_err(|error| file_error(&error))
}

/// Opens without blocking. Opening a named pipe would otherwise wait for a process at its other end.
fn non_blocking(options: &mut OpenOptions) -> &mut OpenOptions {
    use cap_std::fs::OpenOptionsExt;
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
}

fn require_regular(file: File) -> HostResult<File> {
    let metadata = file.metadata().map_err(|error| file_error(&error))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(host_error(ErrorCode::Invalid, "it is not a regular file"))
    }
}

fn read(folder: &Path, path: &Path) -> HostResult<Vec<u8>> {
    let mut options = OpenOptions::new();
    let file = open_folder(folder)?
        .open_with(path, non_blocking(options.read(true)))
        .map_err(|error| file_error(&error))?;
    let mut bytes = Vec::new();
    require_regular(file)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| file_error(&error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(host_error(ErrorCode::Quota, format!("the file is larger than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

fn write(folder: &Path, path: &Path, bytes: &[u8]) -> HostResult<()> {
    let folder = open_folder(folder)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    // The file is truncated only after the check, because `truncate(true)` would also affect a device or pipe.
    let file = folder.open_with(path, non_blocking(&mut options)).map_err(|error| file_error(&error))?;
    let file = require_regular(file)?;
    let written = file.set_len(0).and_then(|()| {
        let mut file = file;
        io::Write::write_all(&mut file, bytes)
    });
    written.map_err(|error| file_error(&error))
}

fn list(folder: &Path, path: &Path) -> HostResult<Vec<Entry>> {
    let folder = open_folder(folder)?;
    let listed = if path.as_os_str().is_empty() { folder.entries() } else { folder.read_dir(path) };
    let mut entries = Vec::new();
    for entry in listed.map_err(|error| file_error(&error))?.take(MAX_ENTRIES) {
        let entry = entry.map_err(|error| file_error(&error))?;
        let metadata = entry.metadata().map_err(|error| file_error(&error))?;
        entries.push(Entry {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_folder: metadata.is_dir(),
            bytes: metadata.len(),
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

impl InstanceState {
    fn with_file<T: Send + 'static>(
        &mut self,
        path: &str,
        access: Access,
        work: impl FnOnce(&Path, &Path) -> HostResult<T> + Send + 'static,
    ) -> HostResult<T> {
        self.authorize(Import::Files)?;
        let (folder, path) = self.context.folders.find(path, access)?;
        self.run_with_timeout(MAX_TIME, move |_| work(&folder, &path))
    }
}

impl Host for InstanceState {
    fn read(&mut self, path: String) -> wasmtime::Result<HostResult<Vec<u8>>> {
        Ok(self.with_file(&path, Access::Read, read))
    }

    fn write(&mut self, path: String, bytes: Vec<u8>) -> wasmtime::Result<HostResult<()>> {
        if bytes.len() as u64 > MAX_BYTES {
            return Ok(Err(host_error(
                ErrorCode::Quota,
                format!("a file may have at most {MAX_BYTES} bytes"),
            )));
        }
        Ok(self.with_file(&path, Access::Write, move |folder, path| write(folder, path, &bytes)))
    }

    fn list(&mut self, path: String) -> wasmtime::Result<HostResult<Vec<Entry>>> {
        Ok(self.with_file(&path, Access::Read, list))
    }

    fn delete(&mut self, path: String) -> wasmtime::Result<HostResult<()>> {
        let deleted = self.with_file(&path, Access::Write, |folder, path| {
            open_folder(folder)?.remove_file(path).map_err(|error| file_error(&error))
        });
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Playground {
        folder: tempfile::TempDir,
        grants: FolderGrants,
    }

    fn playground() -> Playground {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home/notes/deep", "home/out", "home/.hfs", "secret"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("secret/key"), "k").unwrap();
        fs::write(folder.path().join("home/notes/a"), "hello").unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), folder.path().join("home/notes/way"))
            .unwrap();
        std::os::unix::fs::symlink("../../secret/key", folder.path().join("home/out/key")).unwrap();
        let permissions = Permissions {
            read_files: vec!["~/notes".into()],
            write_files: vec!["~/out".into()],
            ..Permissions::default()
        };
        let home = folder.path().join("home");
        let grants = FolderGrants::new(&permissions, Some(&home), &home.join(".hfs")).unwrap();
        Playground { folder, grants }
    }

    fn outcome<T>(
        grants: &FolderGrants,
        path: &str,
        access: Access,
        work: impl FnOnce(&Path, &Path) -> HostResult<T>,
    ) -> Result<T, String> {
        grants.find(path, access).and_then(|(folder, path)| work(&folder, &path)).map_err(|error| error.code)
    }

    #[test]
    fn only_granted_folders_are_read_and_written() {
        let Playground { folder, grants } = playground();
        assert_eq!(outcome(&grants, "~/notes/a", Access::Read, read).unwrap(), b"hello");
        outcome(&grants, "~/out/b", Access::Write, |folder, path| write(folder, path, b"first, long"))
            .unwrap();
        outcome(&grants, "~/out/b", Access::Write, |folder, path| write(folder, path, b"x")).unwrap();
        assert_eq!(outcome(&grants, "~/out/b", Access::Read, read).unwrap(), b"x");
        let names = outcome(&grants, "~/notes", Access::Read, list).unwrap();
        assert_eq!(names.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "deep", "way"]);
        let absolute = folder.path().join("home/notes/a");
        assert!(outcome(&grants, absolute.to_str().unwrap(), Access::Read, read).is_ok());
        for (path, access) in [
            ("~/notes/a", Access::Write),
            ("/etc/passwd", Access::Read),
            ("~/.ssh/id", Access::Read),
            ("~/notes/../.hfs/x", Access::Read),
            ("~/notesx", Access::Read),
            ("notes/a", Access::Read),
        ] {
            let result = outcome(&grants, path, access, |_, _| Ok(()));
            assert_eq!(result.unwrap_err(), "denied", "{path}");
        }
    }

    #[test]
    fn links_that_point_outside_are_refused() {
        let Playground { folder, grants } = playground();
        assert_eq!(outcome(&grants, "~/notes/way/key", Access::Read, read).unwrap_err(), "denied");
        assert_eq!(outcome(&grants, "~/notes/way", Access::Read, list).unwrap_err(), "denied");
        let written = outcome(&grants, "~/out/key", Access::Write, |folder, path| write(folder, path, b"x"));
        assert_eq!(written.unwrap_err(), "denied");
        assert_eq!(fs::read_to_string(folder.path().join("secret/key")).unwrap(), "k");
    }

    #[test]
    fn pipes_and_large_files_are_refused_without_blocking() {
        let Playground { folder, grants } = playground();
        let pipe = folder.path().join("home/notes/pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(outcome(&grants, "~/notes/pipe", Access::Read, read).unwrap_err(), "invalid");
        assert!(outcome(&grants, "~/notes/deep", Access::Read, read).is_err());
        fs::write(folder.path().join("home/notes/big"), vec![0; 5 << 20]).unwrap();
        assert_eq!(outcome(&grants, "~/notes/big", Access::Read, read).unwrap_err(), "quota");
    }

    #[test]
    fn the_folder_of_hfs_itself_and_folders_with_credentials_cannot_be_granted() {
        let Playground { folder, .. } = playground();
        let home = folder.path().join("home");
        let refusal = |wanted: &str| {
            let permissions = Permissions { read_files: vec![wanted.into()], ..Permissions::default() };
            FolderGrants::new(&permissions, Some(&home), &home.join(".hfs")).unwrap_err()
        };
        for wanted in ["~", "~/.hfs", "~/.hfs/plugins", "/"] {
            let error = refusal(wanted);
            assert!(matches!(error, StartError::HfsFolder(_)), "{wanted}: {error}");
        }
        for wanted in ["/proc", "/sys/kernel", "/dev", "~/.ssh", "~/.config", "~/.claude/projects", "/etc"] {
            let error = refusal(wanted);
            assert!(matches!(error, StartError::ProtectedFolder { .. }), "{wanted}: {error}");
        }
    }

    #[test]
    fn a_granted_folder_that_becomes_a_link_to_credentials_is_refused() {
        let Playground { folder, grants } = playground();
        let home = folder.path().join("home");
        fs::create_dir(home.join(".ssh")).unwrap();
        fs::write(home.join(".ssh/id"), "k").unwrap();
        fs::rename(home.join("notes"), home.join("old")).unwrap();
        std::os::unix::fs::symlink(home.join(".ssh"), home.join("notes")).unwrap();
        assert_eq!(outcome(&grants, "~/notes/id", Access::Read, read).unwrap_err(), "denied");
    }
}
