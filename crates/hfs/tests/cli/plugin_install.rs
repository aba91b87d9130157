//! `hfs plugin install`: what it takes, what it refuses, and that nothing is approved by it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use testkit::cli::Hfs;

use crate::hfs;
use crate::plugin_fixture::{APPEND, HOOKS, message_component};

/// A plugin's folder somewhere else.
fn source(hfs: &Hfs, version: &str, binary: &[u8]) -> PathBuf {
    let folder = hfs.project().join("source");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.yaml"), format!("name: p\nversion: {version}\n{HOOKS}")).unwrap();
    fs::write(folder.join("plugin.wasm"), binary).unwrap();
    fs::write(folder.join("README.md"), "words").unwrap();
    folder
}

fn zip_of(folder: &Path, to: &Path, extra: &[&str]) {
    let mut zip = zip::ZipWriter::new(File::create(to).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    for file in ["manifest.yaml", "plugin.wasm", "README.md"] {
        zip.start_file(format!("p/{file}"), options).unwrap();
        zip.write_all(&fs::read(folder.join(file)).unwrap()).unwrap();
    }
    for name in extra {
        zip.start_file(*name, options).unwrap();
        zip.write_all(b"x").unwrap();
    }
    zip.finish().unwrap();
}

fn state(hfs: &Hfs) -> (String, String) {
    let plugin = hfs.run(&["plugin", "show", "p", "--json"]).ok().json()["plugin"].clone();
    let field = |name: &str| plugin[name].as_str().unwrap().to_owned();
    (field("version"), field("state"))
}

fn pair(version: &str, state: &str) -> (String, String) {
    (version.into(), state.into())
}

/// No trace of what did not come to be.
fn only_the_plugin_is_there(hfs: &Hfs) {
    let names: Vec<_> = fs::read_dir(hfs.hfs_home().join("plugins"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["p"]);
}

#[test]
fn a_folder_and_an_archive_are_installed_and_approved_only_by_a_person() {
    let hfs = hfs();
    let folder = source(&hfs, "1.0.0", &message_component("", APPEND));
    let _ = hfs.run(&["plugin", "install", folder.to_str().unwrap()]).ok();
    assert_eq!(state(&hfs), pair("1.0.0", "pending"));
    let _ = hfs.run(&["plugin", "approve", "p", "-y"]).ok();
    assert_eq!(state(&hfs), pair("1.0.0", "active"));

    // Another version of it, packed, takes its place and is asked about again.
    let archive = hfs.project().join("p.zip");
    zip_of(&source(&hfs, "2.0.0", &message_component("", APPEND)), &archive, &[]);
    let _ = hfs.run(&["plugin", "install", archive.to_str().unwrap()]).ok();
    assert_eq!(state(&hfs), pair("2.0.0", "pending"));
    assert!(hfs.hfs_home().join("plugins/p/README.md").is_file());
    only_the_plugin_is_there(&hfs);
    let _ = hfs.run(&["plugin", "uninstall", "p"]).ok();
    let _ = hfs.run(&["plugin", "show", "p"]).fails_with(3);
}

#[test]
fn what_could_not_run_or_leads_out_is_refused_and_what_was_there_stays() {
    let hfs = hfs();
    let folder = source(&hfs, "1.0.0", &message_component("", APPEND));
    let _ = hfs.run(&["plugin", "install", folder.to_str().unwrap()]).ok();
    let _ = hfs.run(&["plugin", "approve", "p", "-y"]).ok();

    let outside = hfs.project().join("outside.zip");
    zip_of(&folder, &outside, &["../../escaped"]);
    let told = hfs.run(&["plugin", "install", outside.to_str().unwrap()]).fails_with(6);
    assert!(told.stderr.contains("points outside") && told.stderr.contains("outside.zip"), "{}", told.stderr);
    assert!(!hfs.hfs_home().join("escaped").exists());

    let broken = source(&hfs, "2.0.0", b"not a component");
    let told = hfs.run(&["plugin", "install", broken.to_str().unwrap()]).fails_with(6);
    assert!(told.stderr.contains("not a WebAssembly component"), "{}", told.stderr);
    let archive = hfs.project().join("p.zip");
    zip_of(&broken, &archive, &[]);
    let told = hfs.run(&["plugin", "install", archive.to_str().unwrap()]).fails_with(6);
    assert!(told.stderr.contains("p.zip: ") && !told.stderr.contains(".new-"), "{}", told.stderr);

    assert_eq!(state(&hfs), pair("1.0.0", "active"));
    only_the_plugin_is_there(&hfs);
}
