//! From a compiler's module to the component that a plugin is made of.

use wit_component::ComponentEncoder;

use crate::inspect::inspect;
use crate::manifest::Manifest;

/// Makes a component of a WebAssembly module that was built against the contract, such as `cargo build --target
/// wasm32-unknown-unknown` makes it. What is a component already stays as it is.
///
/// # Errors
/// Why there is none, on one line.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, String> {
    if wasmparser::Parser::is_component(module) {
        return Ok(module.to_vec());
    }
    let encoded =
        ComponentEncoder::default().validate(true).module(module).and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| {
        let text = format!("{error:#}");
        format!("no component can be made of it: {}", text.lines().next().unwrap_or_default())
    })
}

/// Whether a component could run as the plugin of this manifest.
///
/// # Errors
/// Why not, on one line.
pub fn check(manifest: &Manifest, component: &[u8]) -> Result<(), String> {
    inspect(component)?.agrees(manifest)
}
