//! `cargo xtask page-check`: exported pages in a real browser.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::shell;
use crate::workspace::Workspace;

/// Names a browser that is looked for nowhere else.
const BROWSER: &str = "HFS_CHROMIUM";
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// What is exported: a session with a bit of everything, and one that tries to break out of its page.
const SESSIONS: [&str; 2] = ["crates/hfs-exchange/tests/golden/2.0.0.json", "xtask/page-check/hostile.json"];

/// What to do with the pages.
#[derive(Debug, Args)]
pub struct Options {
    /// Keep a picture of each page in this folder
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
    /// Check these pages too
    pages: Vec<PathBuf>,
}

/// Checks the pages, or fails when this machine cannot.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if let Some(lacking) = lacking() {
        anyhow::bail!("pages cannot be checked here: {lacking}");
    }
    let folder = checker(workspace)?.context("npm could not install what checks the pages")?;
    let program = program(workspace, &["build", "--package", "hfs"])?;
    Ok(if is_ok(workspace, &folder, &program, options)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks the pages as a part of the tests. `Err` in it says why they were left out.
pub fn run_with_tests(workspace: &Workspace) -> Result<Result<bool, String>> {
    if let Some(lacking) = lacking() {
        return Ok(Err(format!("exported pages in a browser: {lacking}")));
    }
    match checker(workspace)? {
        Some(folder) => {
            // With the tests' own choice of features, in which it has been compiled.
            let program = program(workspace, &["test", "--workspace", "--no-run"])?;
            is_ok(workspace, &folder, &program, &Options { pictures: None, pages: Vec::new() }).map(Ok)
        }
        None => Ok(Err("exported pages in a browser: npm could not install what checks them".into())),
    }
}

/// What this machine lacks.
fn lacking() -> Option<String> {
    if browser().is_none() {
        return Some(format!("no Chromium; {BROWSER} names one"));
    }
    let has = |program: &str| shell::is_available(Command::new(program).arg("--version"));
    (!has("node") || !has("npm")).then(|| "no Node.js".to_owned())
}

fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(BROWSER) {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let candidates = BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.into_iter().find(|path| path.is_file())
}

/// The folder with the checker and what it needs; `None` when that cannot be had.
fn checker(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let folder = workspace.root.join("target/page-check");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    for name in ["package.json", "check.mjs"] {
        let from = workspace.root.join("xtask/page-check").join(name);
        fs::copy(&from, folder.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]);
    let installed = shell::succeeds(install.current_dir(&folder))?;
    Ok(installed.then_some(folder))
}

/// A line of what cargo tells.
#[derive(Deserialize)]
struct Artifact {
    #[serde(default)]
    executable: Option<PathBuf>,
    target: Target,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// The program, made by cargo with these arguments.
pub fn program(workspace: &Workspace, arguments: &[&str]) -> Result<PathBuf> {
    let mut command = shell::cargo(&workspace.root);
    command.args(arguments).args(["--quiet", "--message-format=json-render-diagnostics"]);
    let told = shell::output_of(&mut command)?;
    let artifacts = told.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    let is_ours = |target: &Target| target.name == "hfs" && target.kind.iter().any(|kind| kind == "bin");
    artifacts
        .filter(|artifact| is_ours(&artifact.target))
        .filter_map(|artifact| artifact.executable)
        // Its own unit tests are called as it is, in another folder.
        .find(|path| path.parent().is_some_and(|folder| !folder.ends_with("deps")))
        .context("find the program that cargo made")
}

fn is_ok(workspace: &Workspace, folder: &Path, program: &Path, options: &Options) -> Result<bool> {
    let mut pages = export(workspace, program, folder)?;
    for page in &options.pages {
        pages.push(fs::canonicalize(page).with_context(|| format!("find {}", page.display()))?);
    }
    let pictures = match &options.pictures {
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
            fs::canonicalize(folder).with_context(|| format!("find {}", folder.display()))?.into_os_string()
        }
        None => "-".into(),
    };
    let browser = browser().context("find a browser")?;
    let mut check = Command::new("node");
    check.arg(folder.join("check.mjs")).args([browser.as_os_str(), &pictures]).args(&pages);
    shell::succeeds(&mut check)
}

/// Exports the sessions as the program does it.
fn export(workspace: &Workspace, program: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for session in SESSIONS {
        let path = workspace.root.join(session);
        let name = path.file_stem().context("name a page")?.to_string_lossy().into_owned();
        let home = folder.join("home");
        if home.exists() {
            fs::remove_dir_all(&home).with_context(|| format!("remove {}", home.display()))?;
        }
        let page = folder.join(format!("{name}.html"));
        let import = [OsStr::new("import"), path.as_os_str()];
        let export = ["export", "@", "--all-branches", "-o"].map(OsStr::new);
        for arguments in [&import[..], &[&export[..], &[page.as_os_str()]].concat()] {
            let mut command = Command::new(program);
            command.args(["--quiet", "--home"]).current_dir(&workspace.root);
            let done = shell::succeeds(command.arg(&home).args(arguments))?;
            ensure!(done, "{session} could not be made a page");
        }
        pages.push(page);
    }
    Ok(pages)
}
