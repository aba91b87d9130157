//! Plugins for tests. Their components are made from WebAssembly text, so that no compiler for WebAssembly is needed.

#![allow(clippy::print_stdout, reason = "a skipped test prints why")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hfs_core::{Hooks, SessionId, Store, Verdict};
use hfs_plugins::{HostConfig, Interpreters, Language, Limits, PluginState, Plugins};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Start of every module: a memory, an allocator for the values that the host passes, and helpers. The memory of a call
/// is freed at its end.
const PRELUDE: &str = r#"
  (memory (export "memory") 4)
  (global $heap (mut i32) (i32.const 65536))
  (func $alloc (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $n i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $n)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
      (drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $n) (i32.const 16))))))
    (if (local.get $had) (then (memory.copy (local.get $at) (local.get $old) (local.get $had))))
    (local.get $at))
  ;; Results of on-message: `pass`, or `replace` (1) or `reject` (2) with a text.
  (func $pass (result i32) (i64.store (i32.const 1024) (i64.const 0)) (i32.const 1024))
  (func $return_text (param $kind i32) (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 1024) (i32.const 0))
    (i32.store (i32.const 1028) (local.get $kind))
    (i32.store (i32.const 1032) (local.get $at))
    (i32.store (i32.const 1036) (local.get $len))
    (i32.const 1024))
  ;; The result of a host function at 2048, as a replaced message: `ok`, or the code of the error.
  (func $outcome (result i32)
    (if (result i32) (i32.load8_u (i32.const 2048))
      (then (call $return_text (i32.const 1) (i32.load (i32.const 2052)) (i32.load (i32.const 2056))))
      (else (call $return_text (i32.const 1) (i32.const 16) (i32.const 2)))))
  (data (i32.const 16) "ok")
"#;

/// A component that exports these interfaces of the contract.
pub fn component(exports: &[&str], imports: &str, functions: &str) -> Vec<u8> {
    component_of("0.1.0", exports, imports, functions)
}

/// A component made from a complete module, without the prelude.
pub fn component_of_module(exports: &[&str], text: &str) -> Vec<u8> {
    component_of_text("0.1.0", exports, text)
}

fn component_of(version: &str, exports: &[&str], imports: &str, functions: &str) -> Vec<u8> {
    component_of_text(version, exports, &format!("(module {imports} {PRELUDE} {functions})"))
}

fn component_of_text(version: &str, exports: &[&str], text: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/0.1/hfs-plugin.wit");
    let contract = fs::read_to_string(contract).unwrap().replace("@0.1.0;", &format!("@{version};"));
    resolve.push_str("hfs-plugin.wit", &contract).unwrap();
    let exports: String =
        exports.iter().map(|export| format!("export hfs:plugin/{export}@{version};")).collect();
    let world = format!("package test:plugin; world w {{ include hfs:plugin/imports@{version}; {exports} }}");
    let package = resolve.push_str("world.wit", &world).unwrap();
    let world = resolve.select_world(&[package], Some("w")).unwrap();
    let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// A component for a version of the contract that this host does not support.
pub fn newer_component() -> Vec<u8> {
    component_of("0.2.0", &["on-message"], "", &on_message_of("0.2.0", "(call $pass)"))
}

/// The function of on-message. `$text` and `$len` are the message's text.
pub fn on_message(body: &str) -> String {
    on_message_of("0.1.0", body)
}

fn on_message_of(version: &str, body: &str) -> String {
    format!(
        r#"(func (export "hfs:plugin/on-message@{version}#handle")
             (param $id i32) (param $idn i32) (param $session i32) (param $sessionn i32) (param $role i32) (param $rolen i32)
             (param $author i32) (param $authora i32) (param $authorn i32) (param $text i32) (param $len i32) (param $ms i64)
             (result i32)
             (local $i i32)
             {body})
           (func (export "cabi_post_hfs:plugin/on-message@{version}#handle") (param i32)
             (global.set $heap (i32.const 65536)))"#
    )
}

/// A component whose on-message runs `body`.
pub fn message_component(imports: &str, body: &str) -> Vec<u8> {
    component(&["on-message"], imports, &on_message(body))
}

/// Appends `!` to every message.
pub const APPEND: &str = r#"
  (memory.copy (i32.const 131072) (local.get $text) (local.get $len))
  (i32.store8 (i32.add (i32.const 131072) (local.get $len)) (i32.const 33))
  (call $return_text (i32.const 1) (i32.const 131072) (i32.add (local.get $len) (i32.const 1)))"#;

/// A home directory with plugins in it.
pub struct Home {
    folder: tempfile::TempDir,
    pub limits: Limits,
    pub store: Option<Arc<dyn Store>>,
    pub disabled: BTreeSet<String>,
    interpreters: Interpreters,
    cache: Option<PathBuf>,
}

impl Home {
    pub fn new() -> Self {
        // Generous, because many tests run at once. Tests of time limits set their own.
        let long = Duration::from_secs(20);
        let mut limits = Limits::default();
        (limits.hook, limits.command, limits.render, limits.start) = (long, long, long, long);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("home/.hfs")).unwrap();
        let user_folder = folder.path().join("home/.hfs/runtimes");
        let interpreters = Interpreters { user_folder, program_folder: None };
        Self { folder, limits, store: None, disabled: BTreeSet::new(), interpreters, cache: None }
    }

    /// A home with the interpreter of a language. Returns `None`, and prints that the test is skipped, if there is
    /// none.
    pub fn with(language: Language) -> Option<Self> {
        let shared = interpreters(language)?;
        let interpreters = Interpreters { user_folder: shared.clone(), program_folder: None };
        Some(Self { interpreters, cache: Some(shared.join("cache/plugins")), ..Self::new() })
    }

    /// Adds a script. `rest` is the manifest after name and version.
    pub fn add_source(&self, name: &str, rest: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.path().join("plugins").join(name);
        for (file, text) in files {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::write(folder.join("manifest.yaml"), format!("name: {name}\nversion: 1.0.0\n{rest}")).unwrap();
        folder
    }

    pub fn user_home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub fn path(&self) -> PathBuf {
        self.user_home().join(".hfs")
    }

    pub fn project(&self) -> PathBuf {
        self.folder.path().join("project/.hfs/plugins")
    }

    /// Adds a component. `rest` is the manifest after name and version.
    pub fn add(&self, name: &str, rest: &str, binary: &[u8]) -> PathBuf {
        add(&self.path().join("plugins"), name, rest, binary)
    }

    pub fn add_to_project(&self, name: &str, rest: &str, binary: &[u8]) -> PathBuf {
        add(&self.project(), name, rest, binary)
    }

    pub fn config(&self) -> HostConfig {
        let cache = self.cache.clone().unwrap_or_else(|| self.path().join("cache/plugins"));
        let mut config = HostConfig::new(self.path(), cache);
        config.interpreters = self.interpreters.clone();
        config.project = Some(self.project());
        config.user_home = Some(self.user_home());
        config.disabled = self.disabled.clone();
        config.store = self.store.clone();
        config.limits = self.limits;
        config
    }

    pub fn discover(&self) -> Plugins {
        Plugins::discover(self.config())
    }

    /// Approves these plugins and starts all that are approved.
    pub async fn start(&self, approved: &[&str]) -> Plugins {
        let undecided = self.discover();
        for name in approved {
            undecided.approve(name).unwrap();
        }
        undecided.started().await;
        drop(undecided);
        let plugins = Plugins::start(self.config());
        plugins.started().await;
        plugins
    }
}

/// A folder with the interpreter of a language, and its machine code in `cache/plugins`. All tests share the machine
/// code, because a debug build of the compiler is slow. Returns `None`, and prints that the test is skipped, if there
/// is no interpreter.
pub fn interpreters(language: Language) -> Option<PathBuf> {
    let Some(built) = runtimes().filter(|folder| folder.join(language.file_name()).is_file()) else {
        println!("skipped: no {language} interpreter; `cargo xtask runtimes` builds it");
        return None;
    };
    let shared = built.join("for-tests");
    fs::create_dir_all(&shared).unwrap();
    let lock = fs::File::create(shared.join("lock")).unwrap();
    lock.lock().unwrap();
    let interpreters = Interpreters { user_folder: shared.clone(), program_folder: None };
    // Install the interpreter again if it was rebuilt since the last run.
    let installed = fs::read(shared.join(language.file_name())).unwrap_or_default();
    if installed != fs::read(built.join(language.file_name())).unwrap() {
        interpreters.install(language, &built).unwrap();
    }
    interpreters.prepare(language, &shared.join("cache/plugins")).unwrap();
    Some(shared)
}

/// The folder of interpreters that `cargo xtask runtimes` builds.
fn runtimes() -> Option<PathBuf> {
    let configured = std::env::var_os("HFS_RUNTIMES").map(PathBuf::from);
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/runtimes");
    Some(configured.unwrap_or_else(default)).filter(|folder| folder.is_dir())
}

fn add(root: &Path, name: &str, rest: &str, binary: &[u8]) -> PathBuf {
    let folder = root.join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.yaml"), format!("name: {name}\nversion: 1.0.0\n{rest}")).unwrap();
    fs::write(folder.join("plugin.wasm"), binary).unwrap();
    folder
}

/// The verdict on a message of the user in a new session.
pub async fn on_user_message(plugins: &Plugins, text: &str) -> Verdict {
    plugins.on_message(SessionId::generate(), text, true).await
}

pub fn state(plugins: &Plugins, name: &str) -> (PluginState, String) {
    let status = plugins.get(name).unwrap();
    (status.state, status.reason)
}

/// Checks that the output of a plugin was cut, and that its log says so.
pub fn assert_log_was_cut(home: &Home, plugins: &Plugins, name: &str) {
    let folder = home.path().join("logs/plugins");
    let bytes: u64 = fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 1 << 20, "{bytes}");
    let log = plugins.log(name, 1_000).unwrap();
    assert!(log.iter().any(|line| line.contains("too much output")), "{:?}", log.last());
}

/// Manifest of a plugin with hooks and no permissions.
pub const HOOKS: &str = "capabilities: [hooks]\n";

/// Manifest of a plugin with hooks that may store values.
pub const STORING: &str = "capabilities: [hooks]\npermissions: {storage: 1KiB}\n";

const KV_IMPORTS: &str = r#"(import "hfs:plugin/kv@0.1.0" "get" (func $get (param i32 i32 i32 i32)))
    (import "hfs:plugin/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i32)))"#;

/// Increments a stored number of one digit in this scope, and replaces the message with it.
fn counting(scope: u32) -> String {
    // `get` writes its result at address 2048. The byte at 2048 is not 0 after an error, and the byte at 2052 is not 0
    // if there is a value. The word at 2056 is then the address of the value.
    format!(
        r#"(i32.store8 (i32.const 600) (i32.const 49))
        (call $get (i32.const {scope}) (i32.const 512) (i32.const 1) (i32.const 2048))
        (if (i32.load8_u (i32.const 2048)) (then (return (call $outcome))))
        (if (i32.load8_u (i32.const 2052))
          (then (i32.store8 (i32.const 600) (i32.add (i32.const 1) (i32.load8_u (i32.load (i32.const 2056)))))))
        (call $set (i32.const {scope}) (i32.const 512) (i32.const 1) (i32.const 600) (i32.const 1) (i32.const 2048))
        (if (i32.load8_u (i32.const 2048)) (then (return (call $outcome))))
        (call $return_text (i32.const 1) (i32.const 600) (i32.const 1))"#
    )
}

/// A plugin that counts messages in a stored value of this scope.
pub fn counter(scope: u32) -> Vec<u8> {
    let functions = format!(r#"{} (data (i32.const 512) "n")"#, on_message(&counting(scope)));
    component(&["on-message"], KV_IMPORTS, &functions)
}

/// A plugin like [`counter`] with a command `up` that increments the same number.
pub fn counter_with_command(scope: u32) -> Vec<u8> {
    let counting = counting(scope);
    let functions = format!(
        r#"(func (export "hfs:plugin/commands@0.1.0#list") (result i32)
             (i32.store (i32.const 700) (i32.const 520)) (i32.store (i32.const 704) (i32.const 2))
             (i32.store (i32.const 708) (i32.const 530)) (i32.store (i32.const 712) (i32.const 5))
             (i32.store (i32.const 716) (i32.const 0)) (i32.store (i32.const 720) (i32.const 0))
             (i32.store (i32.const 1024) (i32.const 700)) (i32.store (i32.const 1028) (i32.const 1))
             (i32.const 1024))
           (func (export "hfs:plugin/commands@0.1.0#run") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
             {counting})
           (data (i32.const 512) "n") (data (i32.const 520) "up") (data (i32.const 530) "about")
           {}"#,
        on_message(&counting)
    );
    component(&["commands", "on-message"], KV_IMPORTS, &functions)
}
