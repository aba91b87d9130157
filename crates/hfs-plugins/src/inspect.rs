//! What a binary is and asks for, seen without running or compiling anything of it.

use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::capability::{API_VERSION, Export, Import, PACKAGE};
use crate::manifest::Manifest;

/// What a component exports and imports of the contract.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inspection {
    pub exports: Vec<Export>,
    pub imports: Vec<Import>,
}

/// Looks into a binary.
///
/// # Errors
/// Why it cannot run here, on one line.
pub(crate) fn inspect(binary: &[u8]) -> Result<Inspection, String> {
    look(binary)?.judge()
}

fn look(binary: &[u8]) -> Result<Names, String> {
    if binary.is_empty() {
        return Err("the file is empty".into());
    }
    if !Parser::is_component(binary) {
        let what = if Parser::is_core_wasm(binary) {
            "a WebAssembly module, not yet a component: `hfs plugin build` makes one of it"
        } else {
            "no WebAssembly component"
        };
        return Err(format!("the file is {what}"));
    }
    Validator::new_with_features(features())
        .validate_all(binary)
        .map_err(|error| format!("the component is damaged: {}", error.message()))?;
    let mut names = Names::default();
    names.read(binary).map_err(|error| format!("the component is damaged: {}", error.message()))?;
    Ok(names)
}

/// What components may be made of here: what the contract needs, and none of the proposals beyond.
fn features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM2;
    features.insert(WasmFeatures::TAIL_CALL | WasmFeatures::EXTENDED_CONST | WasmFeatures::COMPONENT_MODEL);
    features.insert(WasmFeatures::MULTI_MEMORY);
    features
}

/// The names at the component's outer door.
#[derive(Default)]
struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Names {
    fn read(&mut self, binary: &[u8]) -> wasmparser::Result<()> {
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(binary) {
            match payload? {
                Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section {
                        self.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        self.exports.push(export?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn judge(&self) -> Result<Inspection, String> {
        let mut inspection = Inspection::default();
        for name in &self.imports {
            if of_system(name) {
                continue;
            }
            let Some((interface, version)) = of_contract(name) else {
                return Err(format!("it imports {name}: which is nothing that hfs gives"));
            };
            speaks(version)?;
            if interface == "types" {
                continue;
            }
            let import = Import::ALL.into_iter().find(|import| import.as_str() == interface);
            inspection.imports.push(import.ok_or_else(|| not_ours("imports", name))?);
        }
        for name in &self.exports {
            // What a component exports beyond the contract is nobody's affair: nobody calls it.
            let Some((interface, version)) = of_contract(name) else { continue };
            speaks(version)?;
            let export = Export::ALL.into_iter().find(|export| export.as_str() == interface);
            inspection.exports.push(export.ok_or_else(|| not_ours("exports", name))?);
        }
        inspection.imports.sort();
        inspection.exports.sort();
        if inspection.exports.is_empty() {
            return Err("it exports nothing that hfs would call".into());
        }
        Ok(inspection)
    }
}

/// Whether it is of the system that languages other than Rust cannot do without, in which there is nothing to be
/// found: to import it asks for nothing.
fn of_system(name: &str) -> bool {
    let packages = ["cli", "clocks", "filesystem", "io", "random", "sockets"];
    let rest = name.strip_prefix("wasi:").unwrap_or_default();
    let Some((package, interface)) = rest.split_once('/') else { return false };
    let version = interface.split_once('@').map_or("", |(_, version)| version);
    packages.contains(&package) && version.starts_with("0.2.")
}

/// Whether a binary is an interpreter for this version of the contract.
///
/// # Errors
/// Why not, on one line.
pub(crate) fn is_interpreter(binary: &[u8]) -> Result<(), String> {
    let names = look(binary)?;
    let has = |listed: &[String], wanted: &str| listed.iter().any(|name| name == wanted);
    if !has(&names.imports, "hfs:runner/script@0.1.0") || !has(&names.exports, "hfs:runner/interpreter@0.1.0")
    {
        return Err("the component is no interpreter of this version".into());
    }
    Ok(())
}

/// Interface and version of a name such as `hfs:plugin/on-message@0.1.0`.
fn of_contract(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(rest.split_once('@').unwrap_or((rest, "")))
}

fn speaks(version: &str) -> Result<(), String> {
    let ours =
        version.strip_prefix(API_VERSION).is_some_and(|patch| patch.is_empty() || patch.starts_with('.'));
    if ours {
        return Ok(());
    }
    Err(format!("it was built for version {version:?} of the contract; this hfs speaks {API_VERSION}"))
}

fn not_ours(verb: &str, name: &str) -> String {
    format!("it {verb} {name}, which version {API_VERSION} of the contract does not have")
}

impl Inspection {
    /// Whether the manifest tells the truth about the binary.
    ///
    /// # Errors
    /// Where they differ, on one line.
    pub fn agrees(&self, manifest: &Manifest) -> Result<(), String> {
        for export in &self.exports {
            if !manifest.capabilities.contains(&export.capability()) {
                return Err(format!(
                    "its binary has {}, but its manifest does not name the capability {}",
                    export.as_str(),
                    export.capability().as_str()
                ));
            }
        }
        for capability in &manifest.capabilities {
            if !self.exports.iter().any(|export| export.capability() == *capability) {
                return Err(format!(
                    "its manifest names the capability {}, but its binary has nothing of it",
                    capability.as_str()
                ));
            }
        }
        for import in &self.imports {
            if let Some(permission) = import.permission().filter(|_| !manifest.covers(*import)) {
                return Err(format!(
                    "its binary asks for {}, but its manifest does not name permissions.{permission}",
                    import.as_str()
                ));
            }
        }
        Ok(())
    }
}
