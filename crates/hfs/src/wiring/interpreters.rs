//! The interpreters of plugins in Python and JavaScript. A release contains them, next to the program. Where hfs was
//! compiled from source, they are built from the same source when the first plugin needs one.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hfs_core::ErrorKind;
use hfs_plugins::{InstalledInterpreter, Interpreters, Language};

use crate::context::Context;
use crate::output::error::CliError;
use crate::output::sanitize;

/// The source of this program. Unknown in a release, where another user could create the folder of that name.
const SOURCE: Option<&str> = match option_env!("HFS_RELEASE") {
    Some(_) => None,
    None => Some(env!("CARGO_MANIFEST_DIR")),
};

/// The directories that are searched for interpreters.
pub fn locations(context: &Context) -> Interpreters {
    Interpreters {
        user_folder: context.home.runtimes(),
        program_folder: context.environment.program_directory.clone(),
    }
}

/// Offers to build the interpreter of a language if it is missing, this program was compiled from source that is still
/// there, and a user at a terminal can be asked. Without an interpreter, the plugin fails with a reason that names the
/// command.
///
/// # Errors
/// `Denied` if the user declines; `Unavailable` if the interpreter cannot be built.
pub fn offer_to_build(language: Language, context: &Context) -> Result<(), CliError> {
    let console = &context.console;
    if locations(context).find(language).is_some() || !console.is_interactive() {
        return Ok(());
    }
    let Some(source) = source() else { return Ok(()) };
    let tool = match language {
        Language::Python => "Python and pip",
        Language::JavaScript => "Node.js and npm",
    };
    console.print_stderr(&format!(
        "Plugins in {language} need an interpreter, which hfs builds once, from its source in {}:\n  \
         {}\nIt downloads the build tools. With {tool} on this machine it takes about a minute, without them cargo \
         compiles the tools, which takes about ten.\n",
        sanitize::line(&source.display().to_string()),
        command_line(language),
    ));
    if !console.ask("Build it now?")? {
        return Err(CliError::with_hint(
            ErrorKind::Denied,
            format!("the {language} interpreter was not built"),
            "`hfs plugin runtime install` builds it later",
        ));
    }
    install(language, &build(language, &source)?, context)?;
    Ok(())
}

/// Builds an interpreter from the source of this program, and installs it.
///
/// # Errors
/// `Unavailable` if the source is not there any more, or the interpreter cannot be built.
pub fn build_and_install(language: Language, context: &Context) -> Result<InstalledInterpreter, CliError> {
    let source = source().ok_or_else(|| {
        CliError::with_hint(
            ErrorKind::Unavailable,
            format!(
                "the {language} interpreter cannot be built: the source of this hfs is not on this machine"
            ),
            "a release of hfs contains the interpreters: hfs plugin runtime install FOLDER",
        )
    })?;
    install(language, &build(language, &source)?, context)
}

/// Installs an interpreter from its file or a folder, and compiles it for this machine.
///
/// # Errors
/// If the file is not an interpreter of this version, or cannot be copied.
pub fn install(language: Language, path: &Path, context: &Context) -> Result<InstalledInterpreter, CliError> {
    context.home.create()?;
    let interpreters = locations(context);
    let installed = interpreters.install(language, path)?;
    context.console.note(&format!("compiling the {language} interpreter for this machine, once ..."));
    interpreters.prepare(language, &context.home.plugin_cache())?;
    let path = sanitize::line(&installed.path.display().to_string());
    context.console.note(&format!("{language} plugins now run with {path}"));
    Ok(installed)
}

/// The workspace that this program was compiled in, if it is still there.
fn source() -> Option<PathBuf> {
    let root = Path::new(SOURCE?).ancestors().nth(2)?;
    root.join("xtask/src/runtimes.rs").is_file().then(|| root.to_path_buf())
}

/// The arguments of xtask that build an interpreter.
const fn xtask_arguments(language: Language) -> [&'static str; 3] {
    let name = match language {
        Language::Python => "python",
        Language::JavaScript => "javascript",
    };
    ["runtimes", "--only", name]
}

/// The command that builds an interpreter, as the user would type it.
fn command_line(language: Language) -> String {
    format!("cargo xtask {}", xtask_arguments(language).join(" "))
}

/// Runs `cargo xtask runtimes`, and returns the interpreter's file, whose path it prints.
fn build(language: Language, source: &Path) -> Result<PathBuf, CliError> {
    let failed = |reason: String| {
        CliError::with_hint(
            ErrorKind::Unavailable,
            format!("the {language} interpreter cannot be built: {reason}"),
            format!("`{}` in {} shows why", command_line(language), source.display()),
        )
    };
    // Not `cargo xtask`, which would compile xtask without a word.
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--package", "xtask", "--"]).args(xtask_arguments(language)).arg("--paths-only");
    cargo.current_dir(source).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().map_err(|error: io::Error| failed(format!("cannot run cargo: {error}")))?;
    if !output.status.success() {
        return Err(failed("cargo failed".to_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let path = text.lines().last().filter(|line| !line.is_empty());
    path.map(PathBuf::from).ok_or_else(|| failed("cargo printed no path".to_owned()))
}
