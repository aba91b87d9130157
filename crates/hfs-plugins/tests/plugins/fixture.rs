//! Plugins for tests: components made from WebAssembly text, so that no guest compiler is needed.

#![allow(clippy::print_stdout, reason = "a test says why it was left out")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hfs_core::{Store, SystemClock};
use hfs_plugins::{HostParts, Interpreters, Language, Limits, Plugins, State};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What every plugin begins with: a memory, and somewhere to put what the host hands over. What a call was handed
/// is forgotten when it is over.
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
  ;; The answers of on-message.
  (func $pass (result i32) (i64.store (i32.const 1024) (i64.const 0)) (i32.const 1024))
  (func $say (param $kind i32) (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 1024) (i32.const 0))
    (i32.store (i32.const 1028) (local.get $kind))
    (i32.store (i32.const 1032) (local.get $at))
    (i32.store (i32.const 1036) (local.get $len))
    (i32.const 1024))
  ;; What a call back answered at 2048, as a message: `ok`, or the error's code.
  (func $told (result i32)
    (if (result i32) (i32.load8_u (i32.const 2048))
      (then (call $say (i32.const 1) (i32.load (i32.const 2052)) (i32.load (i32.const 2056))))
      (else (call $say (i32.const 1) (i32.const 16) (i32.const 2)))))
  (data (i32.const 16) "ok")
"#;

/// A component that exports these interfaces of the contract.
pub fn component(exports: &[&str], imports: &str, functions: &str) -> Vec<u8> {
    component_of("0.1.0", exports, imports, functions)
}

/// A component of a module that brings everything itself.
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

/// A component for a contract that this host does not speak.
pub fn newer_component() -> Vec<u8> {
    component_of("0.2.0", &["on-message"], "", &on_message_of("0.2.0", "(call $pass)"))
}

/// The function behind on-message. `$text` and `$len` are the message's.
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

/// A component whose on-message does this.
pub fn message_component(imports: &str, body: &str) -> Vec<u8> {
    component(&["on-message"], imports, &on_message(body))
}

/// Adds a word to every message.
pub const APPEND: &str = r#"
  (memory.copy (i32.const 131072) (local.get $text) (local.get $len))
  (i32.store8 (i32.add (i32.const 131072) (local.get $len)) (i32.const 33))
  (call $say (i32.const 1) (i32.const 131072) (i32.add (local.get $len) (i32.const 1)))"#;

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
        // Generous, because many tests run at once; what is to run out of time brings its own.
        let patient = Duration::from_secs(20);
        let limits =
            Limits { hook: patient, command: patient, render: patient, begin: patient, ..Limits::default() };
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("home/.hfs")).unwrap();
        let interpreters = Interpreters { own: folder.path().join("home/.hfs/runtimes"), beside: None };
        Self { folder, limits, store: None, disabled: BTreeSet::new(), interpreters, cache: None }
    }

    /// A home with the interpreter of a language. `None`, and a line that says so, where there is none to be had.
    pub fn with(language: Language) -> Option<Self> {
        let shared = interpreters(language)?;
        let interpreters = Interpreters { own: shared.clone(), beside: None };
        Some(Self { interpreters, cache: Some(shared.join("cache/plugins")), ..Self::new() })
    }

    /// Puts a plugin there that is source. `rest` is the manifest behind its name and version.
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

    /// Puts a plugin there. `rest` is the manifest behind its name and version.
    pub fn add(&self, name: &str, rest: &str, binary: &[u8]) -> PathBuf {
        add(&self.path().join("plugins"), name, rest, binary)
    }

    pub fn add_to_project(&self, name: &str, rest: &str, binary: &[u8]) -> PathBuf {
        add(&self.project(), name, rest, binary)
    }

    pub fn parts(&self) -> HostParts {
        HostParts {
            cache: self.cache.clone().unwrap_or_else(|| self.path().join("cache/plugins")),
            interpreters: self.interpreters.clone(),
            only: None,
            home: self.path(),
            project: Some(self.project()),
            user_home: Some(self.user_home()),
            disabled: self.disabled.clone(),
            store: self.store.clone(),
            clock: Arc::new(SystemClock),
            limits: self.limits,
        }
    }

    pub fn look(&self) -> Plugins {
        Plugins::look(self.parts())
    }

    /// Approves these and starts everything.
    pub async fn begin(&self, approved: &[&str]) -> Plugins {
        let decide = self.look();
        for name in approved {
            decide.approve(name).unwrap();
        }
        decide.started().await;
        drop(decide);
        let plugins = Plugins::begin(self.parts());
        plugins.started().await;
        plugins
    }
}

/// A folder with the interpreter of a language, and in `cache/plugins` its machine code: compiled once for all tests,
/// which takes a while in a build that is not optimised. `None`, and a line that says so, where there is none.
pub fn interpreters(language: Language) -> Option<PathBuf> {
    let Some(built) = runtimes().filter(|folder| folder.join(language.file_name()).is_file()) else {
        println!("skipped: no {language} interpreter; `cargo xtask runtimes` builds it");
        return None;
    };
    let shared = built.join("for-tests");
    fs::create_dir_all(&shared).unwrap();
    let lock = fs::File::create(shared.join("lock")).unwrap();
    lock.lock().unwrap();
    let interpreters = Interpreters { own: shared.clone(), beside: None };
    // A build of its own sources that is another one counts as one that is not there.
    let taken = fs::read(shared.join(language.file_name())).unwrap_or_default();
    if taken != fs::read(built.join(language.file_name())).unwrap() {
        interpreters.install(language, &built).unwrap();
    }
    interpreters.prepare(language, &shared.join("cache/plugins")).unwrap();
    Some(shared)
}

/// Where `cargo xtask runtimes` puts interpreters.
fn runtimes() -> Option<PathBuf> {
    let named = std::env::var_os("HFS_RUNTIMES").map(PathBuf::from);
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/runtimes");
    Some(named.unwrap_or_else(usual)).filter(|folder| folder.is_dir())
}

fn add(root: &Path, name: &str, rest: &str, binary: &[u8]) -> PathBuf {
    let folder = root.join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.yaml"), format!("name: {name}\nversion: 1.0.0\n{rest}")).unwrap();
    fs::write(folder.join("plugin.wasm"), binary).unwrap();
    folder
}

pub fn state(plugins: &Plugins, name: &str) -> (State, String) {
    let status = plugins.get(name).unwrap();
    (status.state, status.reason)
}

/// What a plugin wrote was too much, is not all there, and says so.
pub fn assert_log_was_cut(home: &Home, plugins: &Plugins, name: &str) {
    let folder = home.path().join("logs/plugins");
    let bytes: u64 = fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 1 << 20, "{bytes}");
    let log = plugins.log(name, 1_000).unwrap();
    assert!(log.iter().any(|line| line.contains("left out")), "{:?}", log.last());
}

/// The manifest of a plugin with hooks and nothing else.
pub const HOOKS: &str = "capabilities: [hooks]\n";

/// The manifest of a plugin that keeps something.
pub const STORING: &str = "capabilities: [hooks]\npermissions: {storage: 1KiB}\n";

const KEEPING: &str = r#"(import "hfs:plugin/kv@0.1.0" "get" (func $get (param i32 i32 i32 i32)))
    (import "hfs:plugin/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i32)))"#;

/// Counts up in the store of this scope and says the count so far as one digit.
fn counting(scope: u32) -> String {
    // What get answers is at 2048: whether it failed, whether there is a text, and where.
    format!(
        r#"(i32.store8 (i32.const 600) (i32.const 49))
        (call $get (i32.const {scope}) (i32.const 512) (i32.const 1) (i32.const 2048))
        (if (i32.load8_u (i32.const 2048)) (then (return (call $told))))
        (if (i32.load8_u (i32.const 2052))
          (then (i32.store8 (i32.const 600) (i32.add (i32.const 1) (i32.load8_u (i32.load (i32.const 2056)))))))
        (call $set (i32.const {scope}) (i32.const 512) (i32.const 1) (i32.const 600) (i32.const 1) (i32.const 2048))
        (if (i32.load8_u (i32.const 2048)) (then (return (call $told))))
        (call $say (i32.const 1) (i32.const 600) (i32.const 1))"#
    )
}

/// Counts messages in the store of this scope.
pub fn counter(scope: u32) -> Vec<u8> {
    let functions = format!(r#"{} (data (i32.const 512) "n")"#, on_message(&counting(scope)));
    component(&["on-message"], KEEPING, &functions)
}

/// The same with a command `up`, which counts, too.
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
    component(&["commands", "on-message"], KEEPING, &functions)
}
