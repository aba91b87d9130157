//! The programs of PostgreSQL: where they are, and how they run as an unprivileged user.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{APPLICATION_ROLE, PASSWORD, ROLE};

/// Folder with programs that `cargo xtask test` has unpacked because they are not installed.
const UNPACKED: &str = "HFS_POSTGRES";

/// Options of `setpriv`, because the server refuses to run as root.
const UNPRIVILEGED: [&str; 3] = ["--reuid=nobody", "--regid=nogroup", "--clear-groups"];

/// Variable with the folder of the programs of a server, such as `/opt/postgresql/18/bin`, which is used instead of the newest that
/// is installed.
const PROGRAMS: &str = "HFS_POSTGRES_PROGRAMS";

/// Where packages are installed or unpacked.
pub(super) fn roots() -> Vec<PathBuf> {
    [PathBuf::from("/")].into_iter().chain(std::env::var_os(UNPACKED).map(PathBuf::from)).collect()
}

/// The folder of the server that tests use: the one that a variable names, else the newest that is installed.
pub(super) fn programs() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(PROGRAMS) {
        return Some(folder.into());
    }
    let versions = roots().into_iter().flat_map(|root| fs::read_dir(root.join("usr/lib/postgresql")));
    let versions = versions.flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|version| {
            let number = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin")))
        })
        .filter(|(_, folder)| folder.join("postgres").exists() && folder.join("initdb").exists())
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).find(|folder| folder.join("initdb").exists());
    found.pop().map(|(_, folder)| folder).or(in_path)
}

/// A shell that runs a program until the shell's input ends, which is also when this process is killed. It then sends a signal to
/// the program, and removes the folder.
pub(super) fn until_dropped(folder: &Path, signal: &str) -> Command {
    const SCRIPT: &str = "folder=$1; signal=$2; shift 2; \"$@\" & child=$!; read -r _; kill -$signal $child; wait $child; rm -rf \"$folder\"";
    let mut command = unprivileged("sh");
    command.args(["-c", SCRIPT, "sh"]).arg(folder).arg(signal).stdin(Stdio::piped());
    command
}

/// A shell that runs a program until no process has a lock on the file `users`. It then removes the record of the server and
/// its folder.
///
/// The shell is in a session of its own, so that it does not end with the test that has started it, and the program ends if the
/// shell is killed.
pub(super) fn until_unused(folder: &Path, users: &Path, record: &Path) -> Command {
    // Between two tests that use the server, there may be a moment without one. The lock file is opened once, so that the server also
    // ends if its folder is deleted.
    const SCRIPT: &str = r#"folder=$1; users=$2; record=$3; shift 3
        exec 9>>"$users"
        "$@" 9>&- & child=$!
        while kill -0 $child 2>/dev/null; do
            flock 9; flock --unlock 9; sleep 2
            if flock --nonblock 9; then
                if grep -qxF "$folder" "$record"; then rm -f "$record"; fi
                kill -QUIT $child
                break
            fi
        done
        wait $child
        rm -rf "$folder""#;
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", SCRIPT, "sh"]).args([folder, users, record]);
    command.args(["setpriv", "--pdeathsig=QUIT"]);
    if is_root() {
        command.args(UNPRIVILEGED);
    }
    set_libraries(&mut command);
    command
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder that an unprivileged user can reach.
pub(super) fn new_folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("hfs-postgres-").tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A program as a user without rights.
pub(super) fn unprivileged(program: &str) -> Command {
    let mut command = Command::new(if is_root() { "setpriv" } else { program });
    if is_root() {
        command.args(UNPRIVILEGED).arg(program);
    }
    set_libraries(&mut command);
    command
}

pub(super) fn is_executable(program: &Path) -> bool {
    unprivileged("test").arg("-x").arg(program).status().unwrap().success()
}

/// Lets a program find the libraries of unpacked packages.
fn set_libraries(command: &mut Command) {
    let folders = roots().into_iter().skip(1).flat_map(|root| fs::read_dir(root.join("usr/lib")));
    let folders = folders.flatten().flatten().map(|folder| folder.path().display().to_string());
    let folders: Vec<String> = folders.filter(|folder| folder.ends_with("-linux-gnu")).collect();
    if !folders.is_empty() {
        command.env("LD_LIBRARY_PATH", folders.join(":"));
    }
}

pub(super) fn give_away(path: &Path) {
    if is_root() {
        run(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(path));
    }
}

pub(super) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The name of a folder for servers of these programs.
pub(super) fn folder_name(programs: &Path) -> String {
    format!("postgres{}", programs.display().to_string().replace('/', "-"))
}

/// The data of a new cluster, which takes a second to create and little to copy.
pub(super) fn template(programs: &Path, cache: &Path) -> PathBuf {
    let template = cache.join(format!("{}-cluster", folder_name(programs)));
    fs::create_dir_all(cache).unwrap();
    let lock = File::create(cache.join("postgres-template.lock")).unwrap();
    lock.lock().unwrap();
    if template.exists() {
        return template;
    }
    let folder = new_folder();
    let (data, password) = (folder.path().join("data"), folder.path().join("password"));
    fs::create_dir(&data).unwrap();
    fs::write(&password, PASSWORD).unwrap();
    give_away(&data);
    run(unprivileged(&programs.join("initdb").display().to_string())
        .args(["--username", ROLE, "--pwfile"])
        .arg(&password)
        .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--wal-segsize=1", "-D"])
        .arg(&data)
        .current_dir("/"));
    let rules = format!(
        "host all {ROLE},{APPLICATION_ROLE} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n\
         host replication all 127.0.0.1/32 trust\n"
    );
    fs::write(data.join("pg_hba.conf"), rules).unwrap();
    let copy = cache.join("postgres-template.new");
    run(Command::new("rm").arg("-rf").arg(&copy));
    run(Command::new("cp").arg("-a").arg(&data).arg(&copy));
    fs::rename(&copy, &template).unwrap();
    template
}
