//! Copies of the database that hfs makes beside it: before a migration (`.v<version>.bak`) and of a damaged database
//! (`.damaged`).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::db::paths::{Paths, directory_of, remove_if_exists};

const CHUNK: usize = 1 << 20;
const ID: usize = 16;

/// Deletes the copies that contain one of these ids, with their write-ahead logs, and copies that killed processes have not
/// finished.
pub(crate) fn remove_copies_with(paths: &Paths, ids: &HashSet<[u8; ID]>) -> io::Result<()> {
    hfs_files::remove_abandoned(directory_of(&paths.database));
    for copy in copies(paths)? {
        if contains_any(&copy, ids)? {
            remove_if_exists(&copy)?;
            tracing::info!(copy = %copy.display(), "a copy of the database was deleted, because it holds a purged session");
        }
    }
    Ok(())
}

fn copies(paths: &Paths) -> io::Result<Vec<PathBuf>> {
    let Some(directory) = paths.database.parent() else { return Ok(Vec::new()) };
    let Some(database) = paths.database.file_name().and_then(|name| name.to_str()) else {
        return Ok(Vec::new());
    };
    let mut copies = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let suffix = name.to_str().and_then(|name| name.strip_prefix(database));
        let is_copy = suffix.is_some_and(|suffix| {
            suffix.starts_with(".damaged") || (suffix.starts_with(".v") && suffix.contains(".bak"))
        });
        if is_copy && entry.file_type()?.is_file() {
            copies.push(entry.path());
        }
    }
    Ok(copies)
}

fn contains_any(file: &Path, ids: &HashSet<[u8; ID]>) -> io::Result<bool> {
    // Most positions are excluded by the last byte of the ids alone. It is random.
    let mut last_bytes = [false; 256];
    for id in ids {
        if let Some(is_known) = id.last().and_then(|last| last_bytes.get_mut(usize::from(*last))) {
            *is_known = true;
        }
    }
    let mut file = File::open(file)?;
    let mut chunk = Vec::with_capacity(CHUNK + ID);
    loop {
        let read = file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        let found = chunk.windows(ID).any(|window| {
            let last = window.last().and_then(|last| last_bytes.get(usize::from(*last)));
            last.is_some_and(|is_known| *is_known) && ids.contains(window)
        });
        if found || read == 0 {
            return Ok(found);
        }
        // An id may cross the border of two chunks.
        chunk.drain(..chunk.len().saturating_sub(ID - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::paths::create_private_file;

    #[test]
    fn only_copies_that_contain_an_id_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(&directory.path().join("a.db")).unwrap();
        let id = *uuid::Uuid::now_v7().as_bytes();
        let mut with_id = vec![0; CHUNK - 7];
        with_id.extend(id);
        let without = vec![0; CHUNK + 9];
        for (name, bytes) in [
            ("a.db", &with_id),
            ("a.db.v1.bak", &with_id),
            ("a.db.v2.bak.1", &without),
            ("a.db.damaged-wal", &with_id),
            ("b.db.damaged", &with_id),
        ] {
            let path = directory.path().join(name);
            create_private_file(&path).unwrap();
            fs::write(path, bytes).unwrap();
        }
        remove_copies_with(&paths, &HashSet::from([id])).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.db", "a.db.v2.bak.1", "b.db.damaged"]);
    }
}
