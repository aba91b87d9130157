//! Inspecting a WebAssembly component without compiling or running it.
//!
//! The names of a component's imports and exports show which interfaces of the contract it uses. They are compared with
//! the manifest before the user reviews the plugin, so that the manifest cannot hide what the component can do.

use std::path::Path;

use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};
use wit_component::ComponentEncoder;

use super::manifest::{EntryPoint, Manifest};
use crate::contract::{API_VERSION, Export, Import, PACKAGE};
use crate::error::InvalidPlugin;

/// The interfaces of the contract that a plugin exports and imports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Interfaces {
    pub exports: Vec<Export>,
    pub imports: Vec<Import>,
}

/// Why a file is not a component that this host can run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentError {
    /// The file has no content.
    #[error("the file is empty")]
    Empty,
    /// The file is a core module, which has to be turned into a component first.
    #[error("the file is a WebAssembly module, not a component: `hfs plugin build` turns it into one")]
    CoreModule,
    /// The file is neither a component nor a module.
    #[error("the file is not a WebAssembly component")]
    NotAComponent,
    /// The component does not validate.
    #[error("the component is damaged: {0}")]
    Damaged(String),
    /// The component imports an interface of another package.
    #[error("it imports {0}, which hfs does not provide")]
    UnknownImport(String),
    /// The component was built for another version of the contract.
    #[error("it was built for version {0:?} of the contract; this hfs has {API_VERSION}")]
    WrongVersion(String),
    /// The component imports or exports an interface that this version of the contract does not have.
    #[error("it uses {0}, which version {API_VERSION} of the contract does not have")]
    UnknownInterface(String),
    /// The component exports no interface of the contract.
    #[error("it exports no interface that hfs calls")]
    NothingToCall,
    /// The component lacks the private interfaces of an interpreter.
    #[error("the component is not an interpreter of this version")]
    NotAnInterpreter,
    /// A module could not be turned into a component.
    #[error("it cannot be turned into a component: {0}")]
    Encoding(String),
}

/// Validates a component and returns the interfaces of the contract that it uses.
pub(crate) fn inspect(binary: &[u8]) -> Result<Interfaces, ComponentError> {
    Names::read(binary)?.interfaces()
}

/// Checks whether a binary is an interpreter for this version of the contract.
pub(crate) fn check_interpreter(binary: &[u8]) -> Result<(), ComponentError> {
    let names = Names::read(binary)?;
    let has = |names: &[String], wanted: &str| names.iter().any(|name| name == wanted);
    if has(&names.imports, "hfs:runner/script@0.1.0") && has(&names.exports, "hfs:runner/interpreter@0.1.0") {
        Ok(())
    } else {
        Err(ComponentError::NotAnInterpreter)
    }
}

/// Turns a core module that was built against the contract, for example by `cargo build --target
/// wasm32-unknown-unknown`, into a component. A component is returned unchanged.
///
/// # Errors
/// [`ComponentError::Encoding`] if the module was not built against the contract, or is damaged.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, ComponentError> {
    if Parser::is_component(module) {
        return Ok(module.to_vec());
    }
    let encoded =
        ComponentEncoder::default().validate(true).module(module).and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| {
        let text = format!("{error:#}");
        ComponentError::Encoding(text.lines().next().unwrap_or_default().to_owned())
    })
}

/// Checks whether a component could run as the plugin that a manifest describes.
///
/// # Errors
/// [`InvalidPlugin`] if the component is not valid, or does not match the manifest.
pub fn check_component(manifest: &Manifest, component: &[u8]) -> Result<(), InvalidPlugin> {
    let file = manifest.entry_point.as_ref().map_or_else(|| Path::new("plugin.wasm"), EntryPoint::file);
    let interfaces =
        inspect(component).map_err(|error| InvalidPlugin::Component { file: file.to_path_buf(), error })?;
    interfaces.check_manifest(manifest)
}

/// WebAssembly features that components may use: those that compilers emit by default. Newer proposals are rejected,
/// because each of them adds engine code that a malicious component could attack.
fn features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM2;
    features.insert(WasmFeatures::TAIL_CALL | WasmFeatures::EXTENDED_CONST | WasmFeatures::COMPONENT_MODEL);
    features.insert(WasmFeatures::MULTI_MEMORY);
    features
}

/// Names of the imports and exports of the outermost component.
#[derive(Default)]
struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Names {
    fn read(binary: &[u8]) -> Result<Self, ComponentError> {
        if binary.is_empty() {
            return Err(ComponentError::Empty);
        }
        if !Parser::is_component(binary) {
            return Err(if Parser::is_core_wasm(binary) {
                ComponentError::CoreModule
            } else {
                ComponentError::NotAComponent
            });
        }
        let damaged =
            |error: wasmparser::BinaryReaderError| ComponentError::Damaged(error.message().to_owned());
        Validator::new_with_features(features()).validate_all(binary).map_err(damaged)?;
        Self::parse(binary).map_err(damaged)
    }

    fn parse(binary: &[u8]) -> wasmparser::Result<Self> {
        let mut names = Self::default();
        // Components and modules can be nested; the sections at depth 1 are those of the outermost component.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(binary) {
            match payload? {
                Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section {
                        names.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        names.exports.push(export?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(names)
    }

    fn interfaces(&self) -> Result<Interfaces, ComponentError> {
        let mut interfaces = Interfaces::default();
        for name in &self.imports {
            if is_sandboxed_wasi(name) {
                continue;
            }
            let Some((interface, version)) = contract_interface(name) else {
                return Err(ComponentError::UnknownImport(name.clone()));
            };
            check_version(version)?;
            if interface == "types" {
                continue;
            }
            let import = Import::ALL.into_iter().find(|import| import.as_str() == interface);
            interfaces.imports.push(import.ok_or_else(|| ComponentError::UnknownInterface(name.clone()))?);
        }
        for name in &self.exports {
            // Exports outside the contract are harmless: the host never calls them.
            let Some((interface, version)) = contract_interface(name) else { continue };
            check_version(version)?;
            let export = Export::ALL.into_iter().find(|export| export.as_str() == interface);
            interfaces.exports.push(export.ok_or_else(|| ComponentError::UnknownInterface(name.clone()))?);
        }
        interfaces.imports.sort();
        interfaces.exports.sort();
        if interfaces.exports.is_empty() {
            return Err(ComponentError::NothingToCall);
        }
        Ok(interfaces)
    }
}

/// Whether an import belongs to WASI 0.2, which the standard libraries of most languages need. The host implements it
/// without files, network or environment (see [`crate::host_functions`]), so importing it needs no permission.
fn is_sandboxed_wasi(name: &str) -> bool {
    let packages = ["cli", "clocks", "filesystem", "io", "random", "sockets"];
    let rest = name.strip_prefix("wasi:").unwrap_or_default();
    let Some((package, interface)) = rest.split_once('/') else { return false };
    let version = interface.split_once('@').map_or("", |(_, version)| version);
    packages.contains(&package) && version.starts_with("0.2.")
}

/// Interface and version of a name such as `hfs:plugin/on-message@0.1.0`.
fn contract_interface(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(rest.split_once('@').unwrap_or((rest, "")))
}

fn check_version(version: &str) -> Result<(), ComponentError> {
    let is_supported =
        version.strip_prefix(API_VERSION).is_some_and(|patch| patch.is_empty() || patch.starts_with('.'));
    if is_supported { Ok(()) } else { Err(ComponentError::WrongVersion(version.to_owned())) }
}

impl Interfaces {
    /// Checks that the manifest lists exactly the capabilities of the exports, and the permission for each import.
    pub fn check_manifest(&self, manifest: &Manifest) -> Result<(), InvalidPlugin> {
        for export in &self.exports {
            if !manifest.capabilities.contains(&export.capability()) {
                return Err(InvalidPlugin::CapabilityNotListed(*export));
            }
        }
        for capability in &manifest.capabilities {
            if !self.exports.iter().any(|export| export.capability() == *capability) {
                return Err(InvalidPlugin::CapabilityNotImplemented(*capability));
            }
        }
        for import in &self.imports {
            if let Some(permission) = import.permission().filter(|_| !manifest.permissions.allows(*import)) {
                return Err(InvalidPlugin::PermissionNotListed { import: import.as_str(), permission });
            }
        }
        Ok(())
    }
}
