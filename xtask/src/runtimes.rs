//! `cargo xtask runtimes`: the interpreters for plugins in Python and JavaScript.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

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
    if !install_by_pip(&source, &tools)? && !install_by_cargo(workspace, &source, &tools)? {
        return Ok(Err("neither pip nor cargo can install componentize-py".into()));
    }
    let output = work.join("built.wasm");
    let mut build = Command::new(tools.join("bin/componentize-py"));
    // Python would otherwise write bytecode next to the sources, which contains paths of this machine.
    build.env("PYTHONDONTWRITEBYTECODE", "1");
    build.arg("--wit-path").arg(wit).args(["--world", "runner", "componentize", "app", "--python-path"]);
    build.arg(&source).arg("--output").arg(&output);
    if !shell::succeeds(&mut build)? {
        bail!("componentize-py failed to build the interpreter");
    }
    Ok(Ok(output))
}

/// Installs componentize-py by pip, which takes seconds. Returns `false` if this machine has no Python with venv and pip.
fn install_by_pip(source: &Path, tools: &Path) -> Result<bool> {
    // Debian packages venv separately; without that package only the help works.
    if !shell::is_available(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        return Ok(false);
    }
    // Always recreate the environment: it contains the path of its folder, which may have been moved.
    let mut install = Command::new(tools.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    Ok(shell::succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(tools))?
        && shell::succeeds(install.arg(source.join("requirements.txt")))?)
}

/// Builds componentize-py, which contains Python as WebAssembly. This takes minutes.
fn install_by_cargo(workspace: &Workspace, source: &Path, tools: &Path) -> Result<bool> {
    let requirements = source.join("requirements.txt");
    let text =
        fs::read_to_string(&requirements).with_context(|| format!("read {}", requirements.display()))?;
    let version = text.lines().find_map(|line| line.strip_prefix("componentize-py=="));
    let version = version.with_context(|| format!("find componentize-py in {}", requirements.display()))?;
    eprintln!("no Python with venv and pip: cargo builds componentize-py, once, which takes minutes");
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
    let has = |program: &str| shell::is_available(Command::new(program).arg("--version"));
    if has("node") && has("npm") { by_npm(work, wit) } else { by_cargo(workspace, work, wit) }
}

fn by_npm(work: &Path, wit: &Path) -> Result<Result<PathBuf, String>> {
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(work);
    if !shell::succeeds(&mut install)? {
        return Ok(Err("npm cannot install componentize-qjs".into()));
    }
    let tools = work.join("node_modules/.bin");
    let mut bundle = Command::new(tools.join("esbuild"));
    bundle.args([
        "app.js",
        "--bundle",
        "--minify-syntax",
        "--format=esm",
        "--external:hfs:*",
        "--log-level=warning",
    ]);
    let output = work.join("built.wasm");
    let mut build = Command::new(tools.join("componentize-qjs"));
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
