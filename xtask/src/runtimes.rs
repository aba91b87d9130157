//! `cargo xtask runtimes`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::shell;
use crate::workspace::Workspace;

/// Which interpreters to build.
#[derive(Debug, Args)]
pub struct Options {
    /// Only this one (may be repeated)
    #[arg(long, value_name = "LANGUAGE")]
    only: Vec<Language>,
}

/// A language whose interpreter is built here.
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

/// Builds the interpreters, says where they are, and what makes them known to hfs.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let wanted = if options.only.is_empty() { Language::ALL.to_vec() } else { options.only.clone() };
    for language in wanted {
        match build(workspace, language)? {
            Ok(file) => println!("{}", file.display()),
            Err(lacking) => bail!("the {} interpreter cannot be built here: {lacking}", language.name()),
        }
    }
    eprintln!("`hfs plugin runtime install {}` takes them", folder(workspace).display());
    Ok(ExitCode::SUCCESS)
}

/// Builds whatever can be built here for the tests; says of the rest why not.
pub fn build_all(workspace: &Workspace) -> Result<Vec<String>> {
    let mut left_out = Vec::new();
    for language in Language::ALL {
        if let Err(lacking) = build(workspace, language)? {
            left_out.push(format!(
                "plugins in {}: its interpreter cannot be built here: {lacking}",
                language.name()
            ));
        }
    }
    Ok(left_out)
}

/// Where the interpreters come to be.
pub fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("runtimes")
}

/// Builds one, unless the one that is there was built of the same sources. `Err` in it says what is lacking.
fn build(workspace: &Workspace, language: Language) -> Result<Result<PathBuf, String>> {
    let target = folder(workspace).join(format!("hfs-{}.wasm", language.name()));
    let work = folder(workspace).join(language.name());
    let sources = sources(workspace, language)?;
    let stamp = work.join("sources");
    if target.is_file() && fs::read_to_string(&stamp).is_ok_and(|built| built == sources) {
        return Ok(Ok(target));
    }
    let wit = contract(workspace, &work)?;
    let made = match language {
        Language::Python => python(workspace, &work, &wit)?,
        Language::Javascript => javascript(workspace, &work, &wit)?,
    };
    let made = match made {
        Ok(made) => made,
        Err(lacking) => return Ok(Err(lacking)),
    };
    fs::rename(&made, &target).with_context(|| format!("move {} to {}", made.display(), target.display()))?;
    write(&stamp, &sources)?;
    Ok(Ok(target))
}

/// The texts that an interpreter is made of, one after the other.
fn sources(workspace: &Workspace, language: Language) -> Result<String> {
    let own = workspace.root.join("runtimes").join(language.name());
    let mut files: Vec<PathBuf> = entries(&own)?;
    files.extend(entries(&workspace.root.join("runtimes/wit"))?);
    files.extend(entries(&workspace.root.join("wit/0.1"))?);
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

/// The contract as the builders want it: the interpreters' own, with the plugins' below it.
fn contract(workspace: &Workspace, work: &Path) -> Result<PathBuf> {
    let wit = work.join("wit");
    let below = wit.join("deps/hfs-plugin");
    fs::create_dir_all(&below).with_context(|| format!("make {}", below.display()))?;
    copy(&workspace.root.join("runtimes/wit/hfs-runner.wit"), &wit)?;
    copy(&workspace.root.join("wit/0.1/hfs-plugin.wit"), &below)?;
    Ok(wit)
}

fn python(workspace: &Workspace, work: &Path, wit: &Path) -> Result<Result<PathBuf, String>> {
    let source = workspace.root.join("runtimes/python");
    let tools = work.join("tools");
    let builder = tools.join("bin/componentize-py");
    if !shell::is_available(Command::new("python3").args(["-m", "venv", "--help"])) {
        return Ok(Err("no python3 with venv".into()));
    }
    // Made anew: what is in it names the folder that it was made in, which may have been another.
    let mut install = Command::new(tools.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    let installed = shell::succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&tools))?
        && shell::succeeds(install.arg(source.join("requirements.txt")))?;
    if !installed {
        return Ok(Err("pip could not install componentize-py".into()));
    }
    let made = work.join("made.wasm");
    let mut build = Command::new(builder);
    // What Python would leave beside the sources names the folders of this machine.
    build.env("PYTHONDONTWRITEBYTECODE", "1");
    build.arg("--wit-path").arg(wit).args(["--world", "runner", "componentize", "app", "--python-path"]);
    build.arg(&source).arg("--output").arg(&made);
    if !shell::succeeds(&mut build)? {
        bail!("componentize-py could not build the interpreter");
    }
    Ok(Ok(made))
}

fn javascript(workspace: &Workspace, work: &Path, wit: &Path) -> Result<Result<PathBuf, String>> {
    let has = |program: &str| shell::is_available(Command::new(program).arg("--version"));
    if !has("node") || !has("npm") {
        return Ok(Err("no Node.js".into()));
    }
    for file in entries(&workspace.root.join("runtimes/javascript"))? {
        copy(&file, work)?;
    }
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(work);
    if !shell::succeeds(&mut install)? {
        return Ok(Err("npm could not install componentize-qjs".into()));
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
    let made = work.join("made.wasm");
    let mut build = Command::new(tools.join("componentize-qjs"));
    build
        .arg("--wit")
        .arg(wit)
        .args(["--world", "runner", "--sync", "--js", "bundle.js", "--output"])
        .arg(&made);
    if !shell::succeeds(bundle.arg("--outfile=bundle.js").current_dir(work))?
        || !shell::succeeds(build.current_dir(work))?
    {
        bail!("the JavaScript interpreter could not be built");
    }
    Ok(Ok(made))
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    let to = folder.join(file.file_name().unwrap_or_default());
    fs::copy(file, &to).with_context(|| format!("copy {} to {}", file.display(), to.display()))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
