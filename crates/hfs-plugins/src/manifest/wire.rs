//! The manifest as a person writes it.

use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::{Entry, Manifest, ManifestError, Permissions, Problem};
use crate::capability::{API_VERSION, Capability};
use crate::script::Language;

/// The most that a plugin may keep of its own.
const MOST_STORAGE: u64 = 16 << 20;
/// The most entries that make sense in any list.
const MOST_ENTRIES: usize = 64;

#[derive(Deserialize)]
struct File {
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

/// Every key there is, where it may be, and whether something with keys is below it.
const KNOWN: &[&str] = &[
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

pub(super) fn read(text: &str) -> Result<Manifest, ManifestError> {
    let file: File = parse(text)?;
    let keys: Keys = parse(text)?;
    let mut check = Check::default();
    let manifest = check.file(file, unknown(&keys));
    match manifest {
        Some(manifest) if check.problems.is_empty() => Ok(manifest),
        _ => {
            check.problems.sort_by_key(|problem| problem.line);
            Err(ManifestError(check.problems))
        }
    }
}

fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, ManifestError> {
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
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn wrong<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) {
        self.problems.push(Problem { line: Some(at.referenced.line()), message: message.into() });
    }

    fn file(&mut self, file: File, warnings: Vec<String>) -> Option<Manifest> {
        if !is_name(&file.name.value) {
            let message = format!(
                "name: {:?} is not a name: expected 1 to 40 lower-case letters, digits and `-`",
                file.name.value
            );
            self.wrong(&file.name, message);
        }
        let version = semver::Version::parse(&file.version.value);
        if let Err(error) = &version {
            let message =
                format!("version: {:?} is not a version such as 1.2.0: {error}", file.version.value);
            self.wrong(&file.version, message);
        }
        if let Some(wanted) = file.api_version.as_ref().filter(|wanted| wanted.value != API_VERSION) {
            let message = format!(
                "api_version: the plugin speaks version {} of the contract, this hfs {API_VERSION}",
                wanted.value
            );
            self.wrong(wanted, message);
        }
        let capabilities = self.capabilities(&file.capabilities);
        let permissions = file.permissions.map(|fields| self.permissions(fields)).unwrap_or_default();
        let entry = match &file.entry_point {
            Some(entry) => Some(self.entry(entry)?),
            None => None,
        };
        Some(Manifest {
            name: file.name.value,
            version: version.ok()?,
            description: file
                .description
                .map(|text| text.value.split_whitespace().collect::<Vec<_>>().join(" "))
                .unwrap_or_default(),
            entry,
            capabilities,
            permissions,
            warnings,
        })
    }

    /// A file of the folder itself. What a Python module would be called stands for its file.
    fn entry(&mut self, entry: &Spanned<String>) -> Option<Entry> {
        let name = entry.value.as_str();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.starts_with('.') || name.len() > 80 || !name.chars().all(plain) {
            self.wrong(
                entry,
                format!("entry_point: {name:?} is not the name of a file in the plugin's own folder"),
            );
            return None;
        }
        if !name.contains('.') {
            return Some(Entry::Script(Language::Python, format!("{name}.py").into()));
        }
        if name.ends_with(".wasm") {
            return Some(Entry::Component(name.into()));
        }
        let language = Language::of(Path::new(name));
        if language.is_none() {
            self.wrong(entry, format!("entry_point: {name:?} ends neither in .wasm nor .py nor .js"));
        }
        Some(Entry::Script(language?, name.into()))
    }

    fn capabilities(&mut self, listed: &[Spanned<String>]) -> Vec<Capability> {
        let mut capabilities = Vec::new();
        for name in listed {
            match Capability::ALL.into_iter().find(|capability| capability.as_str() == name.value) {
                Some(capability) if capabilities.contains(&capability) => {}
                Some(capability) => capabilities.push(capability),
                None => self.wrong(
                    name,
                    format!("capabilities: {:?} is none: expected commands, widgets or hooks", name.value),
                ),
            }
        }
        capabilities.sort();
        capabilities
    }

    fn permissions(&mut self, fields: PermissionFields) -> Permissions {
        let read_sessions = fields.session.is_some_and(|session| {
            if session.value != "read" {
                self.wrong(&session, format!("permissions.session: expected read, not {:?}", session.value));
            }
            true
        });
        let folders = fields.filesystem.unwrap_or_default();
        Permissions {
            read_sessions,
            network: self.listed(&fields.network, "network", is_host, "a host such as api.example.com"),
            read_files: self.listed(&folders.read, "filesystem.read", is_folder, FOLDER),
            write_files: self.listed(&folders.write, "filesystem.write", is_folder, FOLDER),
            storage: fields.storage.map_or(0, |size| self.size(&size)),
        }
    }

    fn listed(
        &mut self,
        listed: &[Spanned<String>],
        name: &str,
        good: fn(&str) -> bool,
        expected: &str,
    ) -> Vec<String> {
        if let Some(extra) = listed.get(MOST_ENTRIES) {
            self.wrong(extra, format!("permissions.{name}: more than {MOST_ENTRIES} entries"));
        }
        let mut values: Vec<String> = Vec::new();
        for entry in listed {
            if !good(&entry.value) {
                self.wrong(entry, format!("permissions.{name}: {:?} is not {expected}", entry.value));
            } else if !values.contains(&entry.value) {
                values.push(entry.value.clone());
            }
        }
        values
    }

    fn size(&mut self, size: &Spanned<Size>) -> u64 {
        let bytes = match &size.value {
            Size::Bytes(bytes) => Some(*bytes),
            Size::Text(text) => bytes_of(text),
        };
        match bytes {
            Some(bytes @ 1..=MOST_STORAGE) => bytes,
            _ => {
                self.wrong(size, "permissions.storage: expected a size such as 64KiB or 1MiB, up to 16MiB");
                0
            }
        }
    }
}

const FOLDER: &str = "a folder: an absolute path without `..`, or one that begins with ~/";

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=40).contains(&text.len())
        && text.chars().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_host(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(']') || text.contains("]:") => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    let plain_host = host.strip_prefix("*.").map_or(host, |rest| if rest.contains('.') { rest } else { "" });
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(address) = address {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    plain_host.len() <= 253 && plain_host.split('.').all(label)
}

fn is_folder(text: &str) -> bool {
    let rooted = text.starts_with('/') || text == "~" || text.starts_with("~/");
    rooted
        && text.len() <= 1_000
        && !text.chars().any(char::is_control)
        && text.split('/').all(|part| part != ".." && part != ".")
}

fn bytes_of(text: &str) -> Option<u64> {
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

/// The keys of a document, in their order, each with its line.
enum Keys {
    Map(Vec<(Spanned<String>, Keys)>),
    Other,
}

fn unknown(keys: &Keys) -> Vec<String> {
    let mut found = Vec::new();
    collect_unknown(keys, "", &mut found);
    found
}

fn collect_unknown(keys: &Keys, above: &str, found: &mut Vec<String>) {
    let Keys::Map(entries) = keys else { return };
    for (key, below) in entries {
        let path = if above.is_empty() { key.value.clone() } else { format!("{above}.{}", key.value) };
        if KNOWN.contains(&path.as_str()) {
            collect_unknown(below, &path, found);
        } else {
            let line = key.referenced.line();
            found.push(format!("{}:{line}: {path:?} is not known and was ignored", super::MANIFEST));
        }
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Keys::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Keys, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Keys::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Keys, E> {
        Ok(Keys::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Keys, E> {
        Ok(Keys::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Keys, E> {
        Ok(Keys::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Keys, E> {
        Ok(Keys::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Keys, E> {
        Ok(Keys::Other)
    }

    fn visit_unit<E>(self) -> Result<Keys, E> {
        Ok(Keys::Other)
    }

    fn visit_none<E>(self) -> Result<Keys, E> {
        Ok(Keys::Other)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Keys, D::Error> {
        Keys::deserialize(deserializer)
    }
}
