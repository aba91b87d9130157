//! `manifest.yaml`: the name of a plugin, what it adds, and the permissions it asks for.
//!
//! Parsing collects every mistake with its line, so that an author sees all of them at once. Unknown keys only cause
//! warnings, because a newer version of hfs may define them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::script::Language;
use crate::contract::{API_VERSION, Capability, Import};
use crate::permission::Permission;

/// File name of the manifest in a plugin's folder.
pub const MANIFEST_FILE: &str = "manifest.yaml";
/// Size limit of a manifest, in bytes.
const MAX_BYTES: usize = 64 << 10;
/// Upper limit of `permissions.storage`, in bytes.
const MAX_STORAGE: u64 = 16 << 20;
/// Maximum number of entries of each list under `permissions`.
const MAX_ENTRIES: usize = 64;

/// A parsed and checked manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// Name: lower-case letters, digits and `-`.
    pub name: String,
    /// Version of the plugin.
    pub version: semver::Version,
    /// Description, on one line.
    pub description: String,
    /// The file that holds the code; `None` if the manifest does not name one.
    pub entry_point: Option<EntryPoint>,
    /// What the plugin adds.
    pub capabilities: Vec<Capability>,
    /// Permissions that the plugin asks for.
    pub permissions: Permissions,
    /// Problems that do not make the manifest invalid, each with its line.
    pub warnings: Vec<String>,
}

/// The file that holds a plugin's code, relative to the plugin's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryPoint {
    /// A WebAssembly component.
    Component(PathBuf),
    /// Source code that an interpreter runs.
    Script(Language, PathBuf),
}

/// Permissions that a manifest asks for. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Permissions {
    /// Read sessions.
    pub read_sessions: bool,
    /// Hosts it may send requests to: `api.example.com`, `api.example.com:8080`, `*.example.com`, `*`.
    pub network: Vec<String>,
    /// Folders it may read: absolute, or starting with `~`.
    pub read_files: Vec<String>,
    /// Folders it may read and write.
    pub write_files: Vec<String>,
    /// Bytes it may store.
    pub storage: u64,
}

/// A mistake in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    line: Option<u64>,
    message: String,
}

/// All mistakes that make a manifest invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", format_problems(.0))]
pub struct ManifestError(Vec<Problem>);

fn format_problems(problems: &[Problem]) -> String {
    let lines = problems.iter().map(|problem| match problem.line {
        Some(line) => format!("{MANIFEST_FILE}:{line}: {}", problem.message),
        None => format!("{MANIFEST_FILE}: {}", problem.message),
    });
    lines.collect::<Vec<_>>().join("; ")
}

impl Manifest {
    /// Parses and checks a manifest.
    ///
    /// # Errors
    /// All mistakes, each with its line.
    pub fn from_yaml(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MAX_BYTES {
            let message = format!("{} bytes are too many; {MAX_BYTES} is the limit", text.len());
            return Err(ManifestError(vec![Problem { line: None, message }]));
        }
        let fields: ManifestFields = parse_yaml(text)?;
        let keys: KeyTree = parse_yaml(text)?;
        let mut checker = Checker::default();
        let manifest = checker.manifest(fields, unknown_keys(&keys));
        match manifest {
            Some(manifest) if checker.problems.is_empty() => Ok(manifest),
            _ => {
                checker.problems.sort_by_key(|problem| problem.line);
                Err(ManifestError(checker.problems))
            }
        }
    }
}

impl EntryPoint {
    /// The files to look for, in this order, if the manifest has no `entry_point`.
    #[must_use]
    pub fn defaults() -> [Self; 4] {
        [
            Self::Component("plugin.wasm".into()),
            Self::Script(Language::Python, "plugin.py".into()),
            Self::Script(Language::Python, "__init__.py".into()),
            Self::Script(Language::JavaScript, "plugin.js".into()),
        ]
    }

    /// The file, relative to the plugin's folder.
    #[must_use]
    pub fn file(&self) -> &Path {
        match self {
            Self::Component(file) | Self::Script(_, file) => file,
        }
    }
}

impl Permissions {
    /// The permissions as a list.
    #[must_use]
    pub fn to_list(&self) -> Vec<Permission> {
        let mut list = Vec::new();
        if self.read_sessions {
            list.push(Permission::ReadSessions);
        }
        list.extend(self.network.iter().cloned().map(Permission::Network));
        list.extend(self.read_files.iter().cloned().map(Permission::ReadFiles));
        list.extend(self.write_files.iter().cloned().map(Permission::WriteFiles));
        if self.storage > 0 {
            list.push(Permission::Storage(self.storage));
        }
        list
    }

    /// Whether the plugin may use an import of the contract at all. The host functions also check the arguments of each
    /// call, for example the host of a request.
    pub(crate) fn allows(&self, import: Import) -> bool {
        match import {
            Import::Log | Import::Config | Import::Clock | Import::Ui => true,
            Import::Kv => self.storage > 0,
            Import::Session => self.read_sessions,
            Import::Http => !self.network.is_empty(),
            Import::Files => !self.read_files.is_empty() || !self.write_files.is_empty(),
        }
    }
}

#[derive(Deserialize)]
struct ManifestFields {
    name: Spanned<String>,
    version: Spanned<String>,
    description: Option<Spanned<String>>,
    entry_point: Option<Spanned<String>>,
    #[serde(default)]
    capabilities: Vec<Spanned<String>>,
    permissions: Option<PermissionFields>,
    api_version: Option<Spanned<String>>,
}

#[derive(Deserialize)]
struct PermissionFields {
    session: Option<Spanned<String>>,
    #[serde(default)]
    network: Vec<Spanned<String>>,
    filesystem: Option<Folders>,
    storage: Option<Spanned<Size>>,
}

#[derive(Deserialize, Default)]
struct Folders {
    #[serde(default)]
    read: Vec<Spanned<String>>,
    #[serde(default)]
    write: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

/// All known keys, as dotted paths.
const KNOWN_KEYS: &[&str] = &[
    "name",
    "version",
    "description",
    "entry_point",
    "capabilities",
    "permissions",
    "permissions.session",
    "permissions.network",
    "permissions.filesystem",
    "permissions.filesystem.read",
    "permissions.filesystem.write",
    "permissions.storage",
    "api_version",
];

fn parse_yaml<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, ManifestError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: 5_000,
            max_aliases: 50,
            max_anchors: 50,
            max_depth: 16,
            max_recorded_anchor_events: 5_000,
        },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map(|place| place.line());
        let message = error.to_string();
        let message = message.lines().next().unwrap_or("not YAML").to_owned();
        ManifestError(vec![Problem { line, message }])
    })
}

#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn problem<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) {
        self.problems.push(Problem { line: Some(at.referenced.line()), message: message.into() });
    }

    fn manifest(&mut self, fields: ManifestFields, warnings: Vec<String>) -> Option<Manifest> {
        if !is_name(&fields.name.value) {
            let message = format!(
                "name: {:?} is not a name: expected 1 to 40 lower-case letters, digits and `-`",
                fields.name.value
            );
            self.problem(&fields.name, message);
        }
        let version = semver::Version::parse(&fields.version.value);
        if let Err(error) = &version {
            let message =
                format!("version: {:?} is not a version such as 1.2.0: {error}", fields.version.value);
            self.problem(&fields.version, message);
        }
        if let Some(wanted) = fields.api_version.as_ref().filter(|wanted| wanted.value != API_VERSION) {
            let message = format!(
                "api_version: the plugin uses version {} of the contract, this hfs has {API_VERSION}",
                wanted.value
            );
            self.problem(wanted, message);
        }
        let capabilities = self.capabilities(&fields.capabilities);
        let permissions = fields.permissions.map(|fields| self.permissions(fields)).unwrap_or_default();
        let entry_point = match &fields.entry_point {
            Some(name) => Some(self.entry_point(name)?),
            None => None,
        };
        Some(Manifest {
            name: fields.name.value,
            version: version.ok()?,
            description: fields
                .description
                .map(|text| text.value.split_whitespace().collect::<Vec<_>>().join(" "))
                .unwrap_or_default(),
            entry_point,
            capabilities,
            permissions,
            warnings,
        })
    }

    /// Accepts only files directly in the plugin's folder. A name without an extension is a Python module, because
    /// plugins written for the Python original of hfs use `entry_point: __init__`.
    fn entry_point(&mut self, entry: &Spanned<String>) -> Option<EntryPoint> {
        let name = entry.value.as_str();
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.starts_with('.') || name.len() > 80 || !name.chars().all(is_allowed) {
            self.problem(
                entry,
                format!("entry_point: {name:?} is not the name of a file in the plugin's own folder"),
            );
            return None;
        }
        if !name.contains('.') {
            return Some(EntryPoint::Script(Language::Python, format!("{name}.py").into()));
        }
        if name.ends_with(".wasm") {
            return Some(EntryPoint::Component(name.into()));
        }
        let language = Language::of(Path::new(name));
        if language.is_none() {
            self.problem(entry, format!("entry_point: {name:?} ends neither in .wasm nor .py nor .js"));
        }
        Some(EntryPoint::Script(language?, name.into()))
    }

    fn capabilities(&mut self, listed: &[Spanned<String>]) -> Vec<Capability> {
        let mut capabilities = Vec::new();
        for name in listed {
            match Capability::ALL.into_iter().find(|capability| capability.as_str() == name.value) {
                Some(capability) if capabilities.contains(&capability) => {}
                Some(capability) => capabilities.push(capability),
                None => self.problem(
                    name,
                    format!(
                        "capabilities: {:?} is not a capability: expected commands, widgets or hooks",
                        name.value
                    ),
                ),
            }
        }
        capabilities.sort();
        capabilities
    }

    fn permissions(&mut self, fields: PermissionFields) -> Permissions {
        let read_sessions = fields.session.is_some_and(|session| {
            if session.value != "read" {
                self.problem(
                    &session,
                    format!("permissions.session: expected read, not {:?}", session.value),
                );
            }
            true
        });
        let folders = fields.filesystem.unwrap_or_default();
        Permissions {
            read_sessions,
            network: self.entries(&fields.network, "network", is_host, "a host such as api.example.com"),
            read_files: self.entries(&folders.read, "filesystem.read", is_folder, FOLDER),
            write_files: self.entries(&folders.write, "filesystem.write", is_folder, FOLDER),
            storage: fields.storage.map_or(0, |size| self.size(&size)),
        }
    }

    fn entries(
        &mut self,
        listed: &[Spanned<String>],
        name: &str,
        is_valid: fn(&str) -> bool,
        expected: &str,
    ) -> Vec<String> {
        if let Some(first_excess) = listed.get(MAX_ENTRIES) {
            self.problem(first_excess, format!("permissions.{name}: more than {MAX_ENTRIES} entries"));
        }
        let mut values: Vec<String> = Vec::new();
        for entry in listed {
            if !is_valid(&entry.value) {
                self.problem(entry, format!("permissions.{name}: {:?} is not {expected}", entry.value));
            } else if !values.contains(&entry.value) {
                values.push(entry.value.clone());
            }
        }
        values
    }

    fn size(&mut self, size: &Spanned<Size>) -> u64 {
        let bytes = match &size.value {
            Size::Bytes(bytes) => Some(*bytes),
            Size::Text(text) => parse_bytes(text),
        };
        match bytes {
            Some(bytes @ 1..=MAX_STORAGE) => bytes,
            _ => {
                self.problem(size, "permissions.storage: expected a size such as 64KiB or 1MiB, up to 16MiB");
                0
            }
        }
    }
}

const FOLDER: &str = "a folder: an absolute path without `..`, or one that begins with ~/";

fn is_name(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=40).contains(&text.len())
        && text.chars().all(is_allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_host(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    let name = host.strip_prefix("*.").map_or(host, |rest| if rest.contains('.') { rest } else { "" });
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(address) = address {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_folder(text: &str) -> bool {
    let is_absolute = text.starts_with('/') || text == "~" || text.starts_with("~/");
    is_absolute
        && text.len() <= 1_000
        && !text.chars().any(char::is_control)
        && text.split('/').all(|part| part != ".." && part != ".")
}

fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "KB" | "kB" => 1_000,
        "MiB" | "M" => 1 << 20,
        "MB" => 1_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The keys of a document in order, each with its line. serde ignores unknown keys, so the text is parsed a second time
/// into this type to find them.
enum KeyTree {
    Map(Vec<(Spanned<String>, KeyTree)>),
    Leaf,
}

fn unknown_keys(keys: &KeyTree) -> Vec<String> {
    let mut found = Vec::new();
    collect_unknown(keys, "", &mut found);
    found
}

fn collect_unknown(keys: &KeyTree, parent: &str, found: &mut Vec<String>) {
    let KeyTree::Map(entries) = keys else { return };
    for (key, children) in entries {
        let path = if parent.is_empty() { key.value.clone() } else { format!("{parent}.{}", key.value) };
        if KNOWN_KEYS.contains(&path.as_str()) {
            collect_unknown(children, &path, found);
        } else {
            let line = key.referenced.line();
            found.push(format!("{MANIFEST_FILE}:{line}: {path:?} is not known and was ignored"));
        }
    }
}

impl<'de> Deserialize<'de> for KeyTree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = KeyTree;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeyTree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(KeyTree::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<KeyTree, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(KeyTree::Leaf)
    }

    fn visit_bool<E>(self, _: bool) -> Result<KeyTree, E> {
        Ok(KeyTree::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<KeyTree, E> {
        Ok(KeyTree::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<KeyTree, E> {
        Ok(KeyTree::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<KeyTree, E> {
        Ok(KeyTree::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<KeyTree, E> {
        Ok(KeyTree::Leaf)
    }

    fn visit_unit<E>(self) -> Result<KeyTree, E> {
        Ok(KeyTree::Leaf)
    }

    fn visit_none<E>(self) -> Result<KeyTree, E> {
        Ok(KeyTree::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<KeyTree, D::Error> {
        KeyTree::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: &str = "\
name: word-count
version: 1.2.0
description: Counts  words
entry_point: plugin.wasm
capabilities: [commands, widgets, hooks]
permissions:
  session: read
  network: [\"api.example.com\", \"127.0.0.1:8080\"]
  filesystem: { read: [\"~/notes\"], write: [] }
  storage: 1MiB
api_version: \"0.1\"
";

    fn problems(yaml: &str) -> String {
        Manifest::from_yaml(yaml).unwrap_err().to_string()
    }

    #[test]
    fn a_complete_manifest_is_parsed() {
        let manifest = Manifest::from_yaml(COMPLETE).unwrap();
        assert_eq!((manifest.name.as_str(), manifest.version.to_string().as_str()), ("word-count", "1.2.0"));
        assert_eq!(manifest.description, "Counts words");
        assert_eq!(manifest.entry_point, Some(EntryPoint::Component("plugin.wasm".into())));
        assert_eq!(manifest.capabilities, Capability::ALL);
        assert_eq!(manifest.warnings, [] as [String; 0]);
        let descriptions: Vec<String> =
            manifest.permissions.to_list().iter().map(Permission::description).collect();
        assert_eq!(
            descriptions,
            [
                "read all your saved conversations",
                "talk to api.example.com over the network",
                "talk to 127.0.0.1:8080 over the network",
                "read every file in the folder notes of your home directory and in its subfolders (~/notes)",
                "store up to 1 MiB of its own data",
            ]
        );
    }

    #[test]
    fn a_manifest_without_permissions_asks_for_none() {
        let manifest = Manifest::from_yaml("name: a\nversion: 0.1.0\n").unwrap();
        assert_eq!(manifest.entry_point, None);
        assert_eq!(manifest.permissions.to_list(), []);
        let permissions = &manifest.permissions;
        assert!(!permissions.allows(Import::Kv) && !permissions.allows(Import::Http));
        assert!(permissions.allows(Import::Log));
    }

    #[test]
    fn an_entry_point_without_an_extension_is_a_python_module() {
        let manifest = Manifest::from_yaml("name: a\nversion: 0.1.0\nentry_point: __init__\n").unwrap();
        assert_eq!(manifest.entry_point, Some(EntryPoint::Script(Language::Python, "__init__.py".into())));
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        let yaml = "\
name: Word Count
version: one
entry_point: ../../bin/sh
capabilities: [hooks, magic]
permissions:
  session: write
  network: [\"http://x\"]
  filesystem: { read: [\"notes\", \"/a/../b\"] }
  storage: 2GiB
api_version: \"0.2\"
";
        let text = problems(yaml);
        for (line, word) in [
            (1, "name"),
            (2, "version"),
            (3, "entry_point"),
            (4, "\"magic\""),
            (6, "session"),
            (7, "http://x"),
            (8, "\"notes\""),
            (8, "/a/../b"),
            (9, "storage"),
            (10, "0.2"),
        ] {
            let found = text
                .split("; ")
                .any(|one| one.starts_with(&format!("manifest.yaml:{line}: ")) && one.contains(word));
            assert!(found, "{line} {word}: {text}");
        }
    }

    #[test]
    fn unknown_keys_are_ignored_with_a_warning() {
        let yaml = "name: a\nversion: 0.1.0\nauthor: {name: x}\npermissions:\n  sesion: read\n";
        let manifest = Manifest::from_yaml(yaml).unwrap();
        assert!(!manifest.permissions.read_sessions);
        assert_eq!(
            manifest.warnings,
            [
                "manifest.yaml:3: \"author\" is not known and was ignored",
                "manifest.yaml:5: \"permissions.sesion\" is not known and was ignored",
            ]
        );
    }

    #[test]
    fn a_missing_field_and_broken_yaml_are_errors() {
        assert!(problems("name: a\n").contains("version"));
        assert!(problems("name: [\n").starts_with("manifest.yaml:"));
        assert!(problems("").contains("manifest.yaml"));
        assert!(problems("\u{0}\u{1}").contains("manifest.yaml"));
    }

    #[test]
    fn alias_bombs_and_deep_nesting_are_refused() {
        let mut yaml = String::from("name: a\nversion: 0.1.0\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            yaml.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 9].join(", ")));
        }
        assert!(problems(&yaml).contains("manifest.yaml"), "{}", problems(&yaml));
        let deep = format!("name: a\nversion: 0.1.0\nx: {}\n", "[".repeat(20_000));
        assert!(problems(&deep).contains("manifest.yaml"));
        let long = format!("name: a\nversion: 0.1.0\nx: {}\n", "y".repeat(70_000));
        assert!(problems(&long).contains("too many"));
    }

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_a_port() {
        for (host, valid) in [
            ("api.example.com", true),
            ("*.example.com", true),
            ("*", true),
            ("localhost:8080", true),
            ("[::1]:80", true),
            ("[::1]", true),
            ("[::1", false),
            ("[::x]", false),
            ("*.com", false),
            ("*com", false),
            ("a b", false),
            ("https://a.b", false),
            ("a.b/c", false),
            ("a.b:99999", false),
            ("", false),
            ("A.example.com", false),
        ] {
            let yaml = format!("name: a\nversion: 0.1.0\npermissions:\n  network: [\"{host}\"]\n");
            assert_eq!(Manifest::from_yaml(&yaml).is_ok(), valid, "{host}");
        }
    }
}
