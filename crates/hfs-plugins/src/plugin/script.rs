//! Plugins written in Python or JavaScript that an interpreter runs.
//!
//! A script has no list of exports like a component, so its exports are found by searching the source text for the
//! names of hook functions. A name in a comment is found, too; the user then approves more than the plugin does. A
//! function whose name is built at run time is missed. Both are safe, because the host calls only exports found here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::files::PluginFiles;
use super::inspect::Interfaces;
use super::manifest::Manifest;
use crate::contract::{Capability, Export, Import};
use crate::error::InvalidPlugin;

/// A language that has an interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// Python.
    Python,
    /// JavaScript.
    JavaScript,
}

impl Language {
    /// All languages.
    pub const ALL: [Self; 2] = [Self::Python, Self::JavaScript];

    /// Display name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::JavaScript => "JavaScript",
        }
    }

    /// The language of a source file, by its extension.
    #[must_use]
    pub fn of(file: &Path) -> Option<Self> {
        match file.extension()?.to_str()? {
            "py" => Some(Self::Python),
            "js" => Some(Self::JavaScript),
            _ => None,
        }
    }

    /// Words in the source text that indicate an export.
    const fn markers(self, export: Export) -> &'static [&'static str] {
        match (self, export) {
            (Self::Python, Export::OnStart) => &["on_start"],
            (Self::Python, Export::OnMessage) => &["on_message"],
            (Self::Python, Export::OnEvent) => &["on_event"],
            (Self::Python, Export::OnRunComplete) => &["on_run_complete"],
            (Self::Python, Export::OnExit) => &["on_exit"],
            (Self::JavaScript, Export::OnStart) => &["onStart"],
            (Self::JavaScript, Export::OnMessage) => &["onMessage"],
            (Self::JavaScript, Export::OnEvent) => &["onEvent"],
            (Self::JavaScript, Export::OnRunComplete) => &["onRunComplete"],
            (Self::JavaScript, Export::OnExit) => &["onExit"],
            (Self::Python | Self::JavaScript, Export::Commands) => &["COMMANDS", "command"],
            (Self::Python | Self::JavaScript, Export::Widgets) => &["widget"],
        }
    }

    /// Names of all hook functions.
    fn hook_names(self) -> Vec<&'static str> {
        let hooks = Export::ALL.into_iter().filter(|export| export.capability() == Capability::Hooks);
        hooks.flat_map(|export| self.markers(export)).copied().collect()
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The source of a plugin, which its interpreter reads through host functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    pub language: Language,
    /// Name of the main file.
    pub entry_point: String,
    /// All source files by their path relative to the plugin's folder, separated by `/`.
    pub files: BTreeMap<String, String>,
}

impl Script {
    /// Collects the source files of a language.
    ///
    /// # Errors
    /// If the name or text of one of them is not UTF-8.
    pub fn new(
        language: Language,
        entry_point: &Path,
        plugin_files: &PluginFiles,
    ) -> Result<Self, InvalidPlugin> {
        let mut files = BTreeMap::new();
        for (path, bytes) in plugin_files.iter() {
            if Language::of(path) != Some(language) {
                continue;
            }
            let name = path.to_str().ok_or_else(|| InvalidPlugin::FileNameNotUtf8(path.to_path_buf()))?;
            let text = std::str::from_utf8(bytes).map_err(|error| {
                let line = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
                InvalidPlugin::SourceNotUtf8 { file: path.to_path_buf(), line }
            })?;
            let name = name.replace(std::path::MAIN_SEPARATOR, "/");
            files.insert(name, text.trim_start_matches('\u{feff}').to_owned());
        }
        Ok(Self { language, entry_point: entry_point.to_string_lossy().into_owned(), files })
    }

    /// Finds the exports of the script and compares them with the manifest.
    ///
    /// If the manifest lists no capabilities, those that were found are added to it: plugins written for the Python
    /// original of hfs do not list any.
    ///
    /// # Errors
    /// If the manifest lists a capability that the source does not implement, or the source has nothing to call.
    pub fn inspect(&self, manifest: &mut Manifest) -> Result<Interfaces, InvalidPlugin> {
        let found: Vec<Export> = Export::ALL.into_iter().filter(|export| self.has(*export)).collect();
        if manifest.capabilities.is_empty() {
            manifest.capabilities = found.iter().map(|export| export.capability()).collect();
            manifest.capabilities.sort();
            manifest.capabilities.dedup();
        }
        for capability in &manifest.capabilities {
            if !found.iter().any(|export| export.capability() == *capability) {
                return Err(match capability {
                    Capability::Hooks => InvalidPlugin::NoHookFunction(self.language.hook_names()),
                    Capability::Commands | Capability::Widgets => {
                        InvalidPlugin::CapabilityNotImplemented(*capability)
                    }
                });
            }
        }
        let is_listed = |export: &Export| manifest.capabilities.contains(&export.capability());
        let (exports, unlisted): (Vec<Export>, Vec<Export>) = found.into_iter().partition(is_listed);
        let unlisted_hooks = unlisted.iter().filter(|export| export.capability() == Capability::Hooks);
        let warnings: Vec<String> = unlisted_hooks
            .flat_map(|export| self.language.markers(*export))
            .map(|name| format!("{name} is never called: the manifest does not list the capability hooks"))
            .collect();
        manifest.warnings.extend(warnings);
        if exports.is_empty() {
            return Err(InvalidPlugin::NothingToCall(self.language.hook_names()));
        }
        let imports = Import::ALL.into_iter().filter(|import| manifest.permissions.allows(*import)).collect();
        Ok(Interfaces { exports, imports })
    }

    fn has(&self, export: Export) -> bool {
        let markers = self.language.markers(export);
        markers.iter().any(|marker| self.files.values().any(|text| contains_word(text, marker)))
    }
}

fn contains_word(text: &str, word: &str) -> bool {
    let is_word_char = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    text.match_indices(word).any(|(at, _)| {
        let (before, rest) = text.split_at_checked(at).unwrap_or_default();
        let after = rest.get(word.len()..).unwrap_or_default();
        !before.ends_with(is_word_char) && !after.starts_with(is_word_char)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(language: Language, files: &[(&str, &str)]) -> Script {
        Script {
            language,
            entry_point: files[0].0.to_owned(),
            files: files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        }
    }

    fn manifest(rest: &str) -> Manifest {
        Manifest::from_yaml(&format!("name: a\nversion: 1.0.0\n{rest}")).unwrap()
    }

    #[test]
    fn exports_are_found_by_the_names_in_the_source() {
        let plugin = script(
            Language::Python,
            &[
                ("plugin.py", "def on_message(m):\n    pass\n"),
                ("more.py", "def on_message_twice(): ...\nCOMMANDS = {}"),
            ],
        );
        let mut manifest = manifest("capabilities: [commands, hooks]");
        let interfaces = plugin.inspect(&mut manifest).unwrap();
        assert_eq!(interfaces.exports, [Export::OnMessage, Export::Commands]);
        assert_eq!(manifest.warnings, [""; 0]);
    }

    #[test]
    fn a_manifest_without_capabilities_gets_those_of_the_source() {
        let plugin =
            script(Language::Python, &[("__init__.py", "def on_start(s): ...\nCOMMANDS = {'a': len}")]);
        let mut manifest = manifest("entry_point: __init__");
        plugin.inspect(&mut manifest).unwrap();
        assert_eq!(manifest.capabilities, [Capability::Commands, Capability::Hooks]);
    }

    #[test]
    fn a_capability_that_the_source_does_not_implement_is_refused() {
        let plugin = script(Language::JavaScript, &[("plugin.js", "hfs.command('x', () => 'y')")]);
        let error = plugin.inspect(&mut manifest("capabilities: [commands, hooks]")).unwrap_err().to_string();
        assert!(error.contains("capability hooks") && error.contains("onMessage"), "{error}");
        assert!(plugin.inspect(&mut manifest("capabilities: [widgets]")).is_err());
    }

    #[test]
    fn a_hook_that_the_manifest_does_not_list_is_not_called_and_gets_a_warning() {
        let plugin =
            script(Language::JavaScript, &[("plugin.js", "export const onExit = 1; hfs.widget('w', f)")]);
        let mut manifest = manifest("capabilities: [widgets]");
        let interfaces = plugin.inspect(&mut manifest).unwrap();
        assert_eq!(interfaces.exports, [Export::Widgets]);
        assert!(manifest.warnings[0].contains("onExit"), "{:?}", manifest.warnings);
    }

    #[test]
    fn a_word_is_not_found_inside_another() {
        assert!(contains_word("x.widget(", "widget"));
        assert!(!contains_word("widgets my_widget widget$ _widget", "widget"));
        assert!(contains_word("жwidget widget", "widget"));
    }
}
