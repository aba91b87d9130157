//! `cargo xtask mcp`: uses `hfs mcp` through the official SDKs, and runs the official conformance suite against it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};

use crate::page_check::build_program;
use crate::shell;
use crate::workspace::Workspace;

/// The scenarios of the suite for a server without the tools, resources and prompts that the others call by name.
const SCENARIOS: [&str; 5] = ["server-initialize", "ping", "tools-list", "resources-list", "prompts-list"];
/// The SDK for Python; `mcp/package.json` names the versions of the other packages.
const PYTHON_SDK: &str = "mcp==2.3.0";
const FILES: [&str; 3] = ["package.json", "client.mjs", "client.py"];

/// Runs all checks. Needs npm, and Python for its SDK.
pub fn run(workspace: &Workspace) -> Result<ExitCode> {
    let folder = workspace.target.join("mcp");
    let sources = workspace.root.join("xtask/mcp");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for name in FILES {
        fs::copy(sources.join(name), folder.join(name)).with_context(|| format!("copy {name}"))?;
    }
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--no-audit", "--no-fund"]).current_dir(&folder);
    ensure!(shell::succeeds(&mut install)?, "npm cannot install the suite");
    let python = install_python(&folder)?;
    let program = build_program(workspace, &["build", "--package", "hfs"])?;
    let home = prepare_home(&folder, &program)?;

    let mut failures = Vec::new();
    let server = [program.as_os_str(), "--home".as_ref(), home.as_os_str(), "mcp".as_ref()];
    let node = folder.join("node_modules/.bin/node");
    for (name, runtime) in [("client.mjs", &node), ("client.py", &python)] {
        if !shell::succeeds(Command::new(runtime).arg(folder.join(name)).args(server))? {
            failures.push(name);
        }
    }
    let bridge = Bridge::start(workspace, &program, &home)?;
    for scenario in SCENARIOS {
        let mut suite = Command::new(&node);
        suite.arg(folder.join("node_modules/.bin/conformance"));
        suite.args(["server", "--url", &bridge.address, "--scenario", scenario]).current_dir(&folder);
        if !shell::succeeds(&mut suite)? {
            failures.push(scenario);
        }
    }
    if failures.is_empty() {
        println!("the SDKs and all {} scenarios passed", SCENARIOS.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("failed: {}", failures.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Installs the SDK for Python. Returns the interpreter.
fn install_python(folder: &Path) -> Result<PathBuf> {
    let environment = folder.join("python");
    let python = environment.join("bin/python");
    if !python.exists() {
        let mut create = Command::new("python3");
        ensure!(
            shell::succeeds(create.args(["-m", "venv"]).arg(&environment))?,
            "python3 cannot create {environment:?}"
        );
    }
    let mut install = Command::new(&python);
    ensure!(
        shell::succeeds(install.args(["-m", "pip", "install", "--quiet", PYTHON_SDK]))?,
        "pip cannot install {PYTHON_SDK}"
    );
    Ok(python)
}

/// A home with the session that the clients look for.
fn prepare_home(folder: &Path, program: &Path) -> Result<PathBuf> {
    let home = folder.join("home");
    if home.exists() {
        fs::remove_dir_all(&home).with_context(|| format!("remove {}", home.display()))?;
    }
    let mut chat = Command::new(program);
    chat.args(["--quiet", "--home"]).arg(&home);
    chat.args(["chat", "--agent", "recall", "We chose SQLite for the ledger because it is one file."]);
    ensure!(shell::succeeds(chat.stdout(Stdio::null()))?, "cannot write the session of the test");
    Ok(home)
}

/// The process that serves stdio over HTTP. Dropping it ends the process.
struct Bridge {
    process: Child,
    address: String,
}

impl Bridge {
    fn start(workspace: &Workspace, program: &Path, home: &Path) -> Result<Self> {
        let mut command = shell::cargo(&workspace.root);
        command.args(["run", "--quiet", "--package", "testkit", "--example", "mcp_bridge", "--"]);
        command.arg(program).arg("--home").arg(home).arg("mcp").stdout(Stdio::piped());
        let mut process = command.spawn().context("start the bridge")?;
        let output = process.stdout.take().context("read the address of the bridge")?;
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address)?;
        ensure!(address.starts_with("http://"), "the bridge has not started");
        Ok(Self { process, address: address.trim().to_owned() })
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
