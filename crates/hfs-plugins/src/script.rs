//! Plugins that are source: what of the contract they have, seen in their text, and what their interpreter reads.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::capability::{Capability, Export, Import};
use crate::content::Content;
use crate::inspect::Inspection;
use crate::manifest::Manifest;

/// A language that has an interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// Python.
    Python,
    /// JavaScript.
    JavaScript,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Python, Self::JavaScript];

    /// What people call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::JavaScript => "JavaScript",
        }
    }

    /// Whose source a file is, by its ending.
    #[must_use]
    pub fn of(file: &Path) -> Option<Self> {
        match file.extension()?.to_str()? {
            "py" => Some(Self::Python),
            "js" => Some(Self::JavaScript),
            _ => None,
        }
    }

    /// The function by which a plugin has a hook.
    const fn hook(self, export: Export) -> Option<&'static str> {
        match (self, export) {
            (_, Export::Commands | Export::Widgets) => None,
            (Self::Python, Export::OnStart) => Some("on_start"),
            (Self::Python, Export::OnMessage) => Some("on_message"),
            (Self::Python, Export::OnEvent) => Some("on_event"),
            (Self::Python, Export::OnRunComplete) => Some("on_run_complete"),
            (Self::Python, Export::OnExit) => Some("on_exit"),
            (Self::JavaScript, Export::OnStart) => Some("onStart"),
            (Self::JavaScript, Export::OnMessage) => Some("onMessage"),
            (Self::JavaScript, Export::OnEvent) => Some("onEvent"),
            (Self::JavaScript, Export::OnRunComplete) => Some("onRunComplete"),
            (Self::JavaScript, Export::OnExit) => Some("onExit"),
        }
    }

    /// What stands in the source of a plugin that has this.
    const fn signs(self, export: Export) -> &'static [&'static str] {
        match export {
            Export::Commands => &["COMMANDS", "command"],
            Export::Widgets => &["widget"],
            _ => &[],
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The source of one plugin, for its interpreter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    pub language: Language,
    /// The file to begin with.
    pub entry: String,
    /// All source, by its name below the plugin's folder, with `/` between folders.
    pub files: BTreeMap<String, String>,
}

impl Script {
    /// The source among a plugin's files.
    ///
    /// # Errors
    /// Why it cannot be read, on one line.
    pub fn new(language: Language, entry: &Path, content: &Content) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        for (path, bytes) in content.files() {
            if Language::of(path) != Some(language) {
                continue;
            }
            let name = path.to_str().ok_or_else(|| format!("{}: its name is not UTF-8", path.display()))?;
            let text = std::str::from_utf8(bytes).map_err(|error| {
                let line = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
                format!("{name}:{line}: it is not UTF-8")
            })?;
            let name = name.replace(std::path::MAIN_SEPARATOR, "/");
            files.insert(name, text.trim_start_matches('\u{feff}').to_owned());
        }
        Ok(Self { language, entry: entry.to_string_lossy().into_owned(), files })
    }

    /// What of the contract the plugin has. A function that its source does not even name cannot be there, and
    /// one that was not seen here is not called later, however it was made.
    ///
    /// # Errors
    /// Where manifest and source differ, on one line.
    pub fn inspect(&self, manifest: &mut Manifest) -> Result<Inspection, String> {
        let seen: Vec<Export> = Export::ALL.into_iter().filter(|export| self.has(*export)).collect();
        // The original's plugins need not name what they add; what it is, is shown before anybody approves it.
        if manifest.capabilities.is_empty() {
            manifest.capabilities = seen.iter().map(|export| export.capability()).collect();
            manifest.capabilities.sort();
            manifest.capabilities.dedup();
        }
        for capability in &manifest.capabilities {
            if !seen.iter().any(|export| export.capability() == *capability) {
                return Err(format!(
                    "its manifest names the capability {}, but its source has nothing of it{}",
                    capability.as_str(),
                    self.expected(*capability)
                ));
            }
        }
        let named = |export: &Export| manifest.capabilities.contains(&export.capability());
        let (exports, unnamed): (Vec<Export>, Vec<Export>) = seen.into_iter().partition(named);
        let hooks = unnamed.iter().filter_map(|export| self.language.hook(*export));
        let warnings: Vec<String> = hooks
            .map(|name| format!("{name} is never called: the manifest does not name the capability hooks"))
            .collect();
        manifest.warnings.extend(warnings);
        if exports.is_empty() {
            return Err(format!(
                "its source has nothing that hfs would call{}",
                self.expected(Capability::Hooks)
            ));
        }
        let imports = Import::ALL.into_iter().filter(|import| manifest.covers(*import)).collect();
        Ok(Inspection { exports, imports })
    }

    fn has(&self, export: Export) -> bool {
        let hook = self.language.hook(export);
        let signs = hook.as_slice().iter().chain(self.language.signs(export));
        signs.into_iter().any(|sign| self.files.values().any(|text| names(text, sign)))
    }

    fn expected(&self, capability: Capability) -> String {
        if capability != Capability::Hooks {
            return String::new();
        }
        let hooks = Export::ALL.into_iter().filter_map(|export| self.language.hook(export));
        format!(": expected a function {}", hooks.collect::<Vec<_>>().join(", "))
    }
}

/// Whether a text has this word.
fn names(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    text.match_indices(word).any(|(at, _)| {
        let (before, rest) = text.split_at_checked(at).unwrap_or_default();
        let after = rest.get(word.len()..).unwrap_or_default();
        !before.ends_with(part) && !after.starts_with(part)
    })
}

#[cfg(test)]
mod tests;
