use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use super::*;

const MANIFEST_TEXT: &[u8] = b"name: p\nversion: 1.0.0\n";

/// A tar of these, with names that a well-behaved writer would refuse.
fn tar_of(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, bytes) in entries {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_mode(0o4777);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

fn files(entries: &[(&str, &[u8])]) -> Vec<u8> {
    tar_of(&entries.iter().map(|(name, bytes)| (*name, EntryType::Regular, *bytes)).collect::<Vec<_>>())
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Unpacks it, and says where the plugin is below the folder, beside the folder and what lies around it.
fn unpacked(archive: &[u8]) -> (Result<PathBuf, String>, tempfile::TempDir) {
    let around = tempfile::tempdir().unwrap();
    let into = around.path().join("deep/into");
    fs::create_dir_all(&into).unwrap();
    let path = around.path().join("archive");
    fs::write(&path, archive).unwrap();
    let found = unpack(&path, &into).map(|root| root.strip_prefix(&into).unwrap().to_path_buf());
    assert_eq!(fs::read_dir(around.path()).unwrap().count(), 2, "something lies outside");
    assert_eq!(fs::read_dir(around.path().join("deep")).unwrap().count(), 1, "something lies outside");
    (found, around)
}

fn refused(archive: &[u8], word: &str) {
    let error = unpacked(archive).0.unwrap_err();
    assert!(error.contains(word) && !error.contains('\n'), "{word}: {error}");
}

#[test]
fn each_kind_is_unpacked_with_its_files_at_the_top_or_in_a_folder() {
    let top: [(&str, &[u8]); 2] = [("manifest.yaml", MANIFEST_TEXT), ("./a/b.txt", b"words")];
    let below: [(&str, &[u8]); 2] = [("p-1.0/manifest.yaml", MANIFEST_TEXT), ("p-1.0/a/b.txt", b"words")];
    for (entries, root) in [(top, ""), (below, "p-1.0")] {
        let tar = files(&entries);
        for archive in [gz(&tar), zstd::encode_all(tar.as_slice(), 1).unwrap(), zip_of(&entries)] {
            let (found, around) = unpacked(&archive);
            assert_eq!(found.unwrap(), Path::new(root));
            let file = around.path().join("deep/into").join(root).join("a/b.txt");
            assert_eq!(fs::read(file).unwrap(), b"words");
        }
    }
}

#[test]
fn what_a_version_control_system_packs_is_unpacked() {
    let comment: &[u8] = b"11 comment=\n";
    let tar = tar_of(&[
        ("pax_global_header", EntryType::XGlobalHeader, comment),
        ("p/", EntryType::Directory, b""),
        ("p/manifest.yaml", EntryType::Regular, MANIFEST_TEXT),
    ]);
    assert_eq!(unpacked(&gz(&tar)).0.unwrap(), Path::new("p"));
}

#[test]
fn no_name_leads_out() {
    for name in ["../x", "a/../../x", "/tmp/x", "a/..", "a\\..\\x", "C:x", ".."] {
        refused(&gz(&files(&[("manifest.yaml", MANIFEST_TEXT), (name, b"x")])), "leads out");
        refused(&zip_of(&[("manifest.yaml", MANIFEST_TEXT), (name, b"x")]), "leads out");
    }
}

#[test]
fn links_and_devices_are_refused() {
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let tar = tar_of(&[("manifest.yaml", EntryType::Regular, MANIFEST_TEXT), ("plugin.wasm", kind, b"")]);
        refused(&gz(&tar), "neither a plain file");
    }
    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    zip.add_symlink("plugin.wasm", "/etc/passwd", zip::write::SimpleFileOptions::default()).unwrap();
    refused(&zip.finish().unwrap().into_inner(), "neither a plain file");
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    refused(
        &gz(&files(&[("manifest.yaml", MANIFEST_TEXT), ("./manifest.yaml", b"x")])),
        "cannot be unpacked",
    );
}

#[test]
fn bombs_are_put_out() {
    let zeros = vec![0; 70 << 20];
    let big: [(&str, &[u8]); 2] = [("manifest.yaml", MANIFEST_TEXT), ("big", &zeros)];
    let tar = files(&big);
    refused(&gz(&tar), "more than 64 MiB");
    refused(&zstd::encode_all(tar.as_slice(), 1).unwrap(), "more than 64 MiB");
    refused(&zip_of(&big), "more than 64 MiB");
    let names: Vec<String> = (0..2_100).map(|number| format!("f{number}")).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    refused(&gz(&files(&many)), "more than 2000 files");
    refused(&zip_of(&many), "more than 2000 files");
    refused(&gz(&files(&[(&"a/".repeat(40), b"x")])), "deep");
    // A name of a hundred megabytes.
    let mut name = vec![b'n'; 100 << 20];
    name.push(0);
    refused(&gz(&tar_of(&[("././@LongLink", EntryType::GNULongName, &name)])), "damaged");
}

#[test]
fn what_is_no_archive_or_half_of_one_is_refused() {
    let tar = gz(&files(&[("manifest.yaml", MANIFEST_TEXT), ("a", &[7; 5_000])]));
    refused(&tar[..tar.len() / 2], "damaged");
    refused(&zip_of(&[("manifest.yaml", MANIFEST_TEXT)])[..40], "damaged");
    refused(b"words", "no .zip");
    refused(b"", "no .zip");
    refused(&gz(&files(&[("a", b"x")])), "no manifest.yaml");
    let two = [("a/manifest.yaml", MANIFEST_TEXT), ("b/manifest.yaml", MANIFEST_TEXT)];
    refused(&gz(&files(&two)), "more than one");
}
