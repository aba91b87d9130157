//! Files below the folders that were granted, and no others: neither `..` nor a link leads out.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions};

use super::{Answer, GuestState, refusal};
use crate::capability::Import;
use crate::contract::hfs::plugin::files::{Entry, Host};
use crate::manifest::Permissions;

/// What a file may hold to be read or written whole.
const MOST_BYTES: u64 = 4 << 20;
/// How many entries of a folder are listed.
const MOST_ENTRIES: usize = 5_000;
/// How long the disk may take.
const LONGEST: Duration = Duration::from_secs(5);

/// The granted folders.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roots {
    /// As the manifest names them, and where that is.
    read: Vec<(PathBuf, PathBuf)>,
    write: Vec<(PathBuf, PathBuf)>,
}

impl Roots {
    /// Finds the folders that were granted. `user_home` is what `~` stands for; `own` is where hfs keeps its own
    /// things, into which no plugin may look.
    ///
    /// # Errors
    /// Which of them cannot be granted, on one line.
    pub fn new(permissions: &Permissions, user_home: Option<&Path>, own: &Path) -> Result<Self, String> {
        let own = own.canonicalize().unwrap_or_else(|_| own.to_path_buf());
        let found = |named: &String| {
            let place = match named.strip_prefix('~') {
                Some(rest) => user_home
                    .ok_or_else(|| format!("it wants files in {named}, but there is no home directory"))?
                    .join(rest.trim_start_matches('/')),
                None => PathBuf::from(named),
            };
            // A folder that is not there yet grants nothing until it is.
            let real = place.canonicalize().unwrap_or_else(|_| place.clone());
            if real.starts_with(&own) || own.starts_with(&real) {
                return Err(format!("it wants files in {named}, where hfs keeps its own things"));
            }
            Ok((PathBuf::from(named), place))
        };
        let write = permissions.write_files.iter().map(found).collect::<Result<Vec<_>, _>>()?;
        // Who may change a file may read it.
        let mut read = permissions.read_files.iter().map(found).collect::<Result<Vec<_>, _>>()?;
        read.extend(write.iter().cloned());
        Ok(Self { read, write })
    }

    /// The granted folder that a path is in, and the way from there. Of several, the nearest.
    fn find(&self, path: &str, access: Access) -> Answer<(PathBuf, PathBuf)> {
        let roots = match access {
            Access::Read => &self.read,
            Access::Write => &self.write,
        };
        let path = Path::new(path);
        let within = roots.iter().filter_map(|(named, place)| {
            let rest = path.strip_prefix(named).or_else(|_| path.strip_prefix(place)).ok()?;
            Some((named.components().count(), place, rest))
        });
        let nearest = within.max_by_key(|(depth, ..)| *depth);
        let (_, place, rest) = nearest
            .ok_or_else(|| refusal("denied", format!("{} is not in a granted folder", path.display())))?;
        if rest.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(refusal("denied", format!("{} leads out of its folder", path.display())));
        }
        Ok((place.clone(), rest.to_path_buf()))
    }
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

fn told(error: &io::Error) -> super::Error {
    let code = match error.kind() {
        io::ErrorKind::NotFound => "not-found",
        // What leads out of its folder is refused so.
        io::ErrorKind::PermissionDenied => "denied",
        _ => "failed",
    };
    refusal(code, error.kind().to_string())
}

fn open_root(place: &Path) -> Answer<Dir> {
    Dir::open_ambient_dir(place, ambient_authority()).map_err(|error| told(&error))
}

/// Opens without waiting for whoever may be at the other end of a pipe.
fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use cap_std::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    options
}

fn regular(file: File) -> Answer<File> {
    let found = file.metadata().map_err(|error| told(&error))?;
    if found.is_file() { Ok(file) } else { Err(refusal("invalid", "it is not a regular file")) }
}

fn read(root: &Path, path: &Path) -> Answer<Vec<u8>> {
    let mut options = OpenOptions::new();
    let file = open_root(root)?
        .open_with(path, without_waiting(options.read(true)))
        .map_err(|error| told(&error))?;
    let mut bytes = Vec::new();
    regular(file)?.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| told(&error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(refusal("quota", format!("the file is larger than {MOST_BYTES} bytes")));
    }
    Ok(bytes)
}

fn write(root: &Path, path: &Path, bytes: &[u8]) -> Answer<()> {
    let root = open_root(root)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    // Only what is known to be a regular file is emptied.
    let file = regular(root.open_with(path, without_waiting(&mut options)).map_err(|error| told(&error))?)?;
    let written = file.set_len(0).and_then(|()| {
        let mut file = file;
        io::Write::write_all(&mut file, bytes)
    });
    written.map_err(|error| told(&error))
}

fn list(root: &Path, path: &Path) -> Answer<Vec<Entry>> {
    let root = open_root(root)?;
    let listed = if path.as_os_str().is_empty() { root.entries() } else { root.read_dir(path) };
    let mut entries = Vec::new();
    for entry in listed.map_err(|error| told(&error))?.take(MOST_ENTRIES) {
        let entry = entry.map_err(|error| told(&error))?;
        let found = entry.metadata().map_err(|error| told(&error))?;
        entries.push(Entry {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_folder: found.is_dir(),
            bytes: found.len(),
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

impl GuestState {
    fn with_file<T: Send + 'static>(
        &mut self,
        path: &str,
        access: Access,
        work: impl FnOnce(&Path, &Path) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        self.enter(Import::Files)?;
        let (root, path) = self.services.roots.find(path, access)?;
        self.bounded(LONGEST, move |_| work(&root, &path))
    }
}

impl Host for GuestState {
    fn read(&mut self, path: String) -> wasmtime::Result<Answer<Vec<u8>>> {
        Ok(self.with_file(&path, Access::Read, read))
    }

    fn write(&mut self, path: String, bytes: Vec<u8>) -> wasmtime::Result<Answer<()>> {
        if bytes.len() as u64 > MOST_BYTES {
            return Ok(Err(refusal("quota", format!("a file may have {MOST_BYTES} bytes"))));
        }
        Ok(self.with_file(&path, Access::Write, move |root, path| write(root, path, &bytes)))
    }

    fn list(&mut self, path: String) -> wasmtime::Result<Answer<Vec<Entry>>> {
        Ok(self.with_file(&path, Access::Read, list))
    }

    fn delete(&mut self, path: String) -> wasmtime::Result<Answer<()>> {
        let deleted = self.with_file(&path, Access::Write, |root, path| {
            open_root(root)?.remove_file(path).map_err(|error| told(&error))
        });
        Ok(deleted)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::fs;

    struct Playground {
        folder: tempfile::TempDir,
        roots: Roots,
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
        let roots = Roots::new(&permissions, Some(&home), &home.join(".hfs")).unwrap();
        Playground { folder, roots }
    }

    fn outcome<T>(
        roots: &Roots,
        path: &str,
        access: Access,
        work: impl FnOnce(&Path, &Path) -> Answer<T>,
    ) -> Result<T, String> {
        roots.find(path, access).and_then(|(root, path)| work(&root, &path)).map_err(|error| error.code)
    }

    #[test]
    fn granted_folders_are_read_and_written_and_no_others() {
        let Playground { folder, roots } = playground();
        assert_eq!(outcome(&roots, "~/notes/a", Access::Read, read).unwrap(), b"hello");
        outcome(&roots, "~/out/b", Access::Write, |root, path| write(root, path, b"first, long")).unwrap();
        outcome(&roots, "~/out/b", Access::Write, |root, path| write(root, path, b"x")).unwrap();
        assert_eq!(outcome(&roots, "~/out/b", Access::Read, read).unwrap(), b"x");
        let names = outcome(&roots, "~/notes", Access::Read, list).unwrap();
        assert_eq!(names.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "deep", "way"]);
        let absolute = folder.path().join("home/notes/a");
        assert!(outcome(&roots, absolute.to_str().unwrap(), Access::Read, read).is_ok());
        for (path, access) in [
            ("~/notes/a", Access::Write),
            ("/etc/passwd", Access::Read),
            ("~/.ssh/id", Access::Read),
            ("~/notes/../.hfs/x", Access::Read),
            ("~/notesx", Access::Read),
            ("notes/a", Access::Read),
        ] {
            let result = outcome(&roots, path, access, |_, _| Ok(()));
            assert_eq!(result.unwrap_err(), "denied", "{path}");
        }
    }

    #[test]
    fn no_link_leads_out() {
        let Playground { folder, roots } = playground();
        assert_eq!(outcome(&roots, "~/notes/way/key", Access::Read, read).unwrap_err(), "denied");
        assert_eq!(outcome(&roots, "~/notes/way", Access::Read, list).unwrap_err(), "denied");
        let written = outcome(&roots, "~/out/key", Access::Write, |root, path| write(root, path, b"x"));
        assert_eq!(written.unwrap_err(), "denied");
        assert_eq!(fs::read_to_string(folder.path().join("secret/key")).unwrap(), "k");
    }

    #[test]
    fn what_is_no_regular_file_is_not_waited_for() {
        let Playground { folder, roots } = playground();
        let pipe = folder.path().join("home/notes/pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(outcome(&roots, "~/notes/pipe", Access::Read, read).unwrap_err(), "invalid");
        assert!(outcome(&roots, "~/notes/deep", Access::Read, read).is_err());
        fs::write(folder.path().join("home/notes/big"), vec![0; 5 << 20]).unwrap();
        assert_eq!(outcome(&roots, "~/notes/big", Access::Read, read).unwrap_err(), "quota");
    }

    #[test]
    fn where_hfs_keeps_its_own_things_nobody_else_looks() {
        let Playground { folder, .. } = playground();
        let home = folder.path().join("home");
        for wanted in ["~", "~/.hfs", "~/.hfs/plugins", "/"] {
            let permissions = Permissions { read_files: vec![wanted.into()], ..Permissions::default() };
            let error = Roots::new(&permissions, Some(&home), &home.join(".hfs")).unwrap_err();
            assert!(error.contains("its own things"), "{wanted}: {error}");
        }
    }
}
