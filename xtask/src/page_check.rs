//! `cargo xtask page-check`: checks exported HTML pages and the pictures of the documentation in a headless browser.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::shell;
use crate::workspace::Workspace;

/// Variable with the path of the browser.
const BROWSER_VARIABLE: &str = "HFS_CHROMIUM";
const BROWSER_NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// The exported sessions: one with every kind of content, and one that attempts to inject markup.
const SESSIONS: [&str; 2] = ["crates/hfs-exchange/tests/golden/2.0.0.json", "xtask/page-check/hostile.json"];

/// The pictures of the documentation, and how they looked when a person last looked at them.
const PICTURES: &str = "docs/pictures";
const REFERENCES: &str = "xtask/page-check/references";

#[derive(Debug, Default, Args)]
pub struct Options {
    /// Save a screenshot of each page in this folder
    #[arg(long = "pictures", value_name = "FOLDER")]
    screenshots: Option<PathBuf>,
    /// Save the screenshots of the documentation's pictures as the references that later checks compare with
    #[arg(long)]
    accept: bool,
    /// Further pages to check
    pages: Vec<PathBuf>,
}

/// Checks the pages. Fails if a tool is not installed.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if let Some(missing) = missing_tool() {
        anyhow::bail!("cannot check pages: {missing}");
    }
    let folder = install_checker(workspace)?.context("npm cannot install the page checker")?;
    let program = build_program(workspace, &["build", "--package", "hfs"])?;
    Ok(if check_pages(workspace, &folder, &program, options)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Checks the pages as part of the tests. Returns whether they pass, or as the inner error why the check is skipped.
pub fn run_with_tests(workspace: &Workspace) -> Result<Result<bool, String>> {
    if let Some(missing) = missing_tool() {
        return Ok(Err(format!("exported pages in a browser: {missing}")));
    }
    match install_checker(workspace)? {
        Some(folder) => {
            // The tests have compiled the program with these features already.
            let program = build_program(workspace, &["test", "--workspace", "--no-run"])?;
            check_pages(workspace, &folder, &program, &Options::default()).map(Ok)
        }
        None => Ok(Err("exported pages in a browser: npm cannot install the page checker".into())),
    }
}

/// The tool that is not installed, if any.
fn missing_tool() -> Option<String> {
    if browser().is_none() {
        return Some(format!("Chromium is not installed; set {BROWSER_VARIABLE} to its path"));
    }
    let has = |program: &str| shell::is_available(Command::new(program).arg("--version"));
    (!has("node") || !has("npm")).then(|| "Node.js is not installed".to_owned())
}

fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(BROWSER_VARIABLE) {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let candidates =
        BROWSER_NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.into_iter().find(|path| path.is_file())
}

/// Installs the checker and its dependencies into a folder. `None` if npm fails.
fn install_checker(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let folder = workspace.root.join("target/page-check");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for name in ["package.json", "check.mjs"] {
        let from = workspace.root.join("xtask/page-check").join(name);
        fs::copy(&from, folder.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]);
    let installed = shell::succeeds(install.current_dir(&folder))?;
    Ok(installed.then_some(folder))
}

/// A line of cargo's JSON output.
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

/// Builds the binary `hfs` by running cargo with these arguments. Returns its path.
pub fn build_program(workspace: &Workspace, arguments: &[&str]) -> Result<PathBuf> {
    let mut command = shell::cargo(&workspace.root);
    command.args(arguments).args(["--quiet", "--message-format=json-render-diagnostics"]);
    let output = shell::output_of(&mut command)?;
    let artifacts = output.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    let is_program = |target: &Target| target.name == "hfs" && target.kind.iter().any(|kind| kind == "bin");
    artifacts
        .filter(|artifact| is_program(&artifact.target))
        .filter_map(|artifact| artifact.executable)
        // The executable of its unit tests has the same name, but is in the folder `deps`.
        .find(|path| path.parent().is_some_and(|folder| !folder.ends_with("deps")))
        .context("find the program that cargo built")
}

fn check_pages(workspace: &Workspace, folder: &Path, program: &Path, options: &Options) -> Result<bool> {
    let mut pages = export(workspace, program, folder)?;
    pages.extend(pictures(workspace)?);
    for page in &options.pages {
        pages.push(fs::canonicalize(page).with_context(|| format!("find {}", page.display()))?);
    }
    let screenshots = match &options.screenshots {
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
            fs::canonicalize(folder).with_context(|| format!("find {}", folder.display()))?.into_os_string()
        }
        None => "-".into(),
    };
    let browser = browser().context("find a browser")?;
    let references = workspace.root.join(REFERENCES);
    let mode = if options.accept { "accept" } else { "compare" };
    let mut check = Command::new("node");
    check.arg(folder.join("check.mjs"));
    check.args([browser.as_os_str(), &screenshots, references.as_os_str(), OsStr::new(mode)]).args(&pages);
    shell::succeeds(&mut check)
}

/// The pictures of the documentation.
fn pictures(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let folder = workspace.root.join(PICTURES);
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
    Ok(paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "svg"))
        .collect())
}

/// Exports the sessions with the program.
fn export(workspace: &Workspace, program: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for session in SESSIONS {
        let path = workspace.root.join(session);
        let name =
            path.file_stem().context("find the name of the session file")?.to_string_lossy().into_owned();
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
            ensure!(done, "cannot export {session}");
        }
        pages.push(page);
    }
    Ok(pages)
}
