//! The contract's types as the runtime sees them. They stay behind this crate's doors.
#![allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    reason = "made from the contract's text"
)]

wasmtime::component::bindgen!({
    path: "../../wit/0.1",
    world: "hfs:plugin/plugin",
    imports: { default: trappable },
});

/// What is between hfs and its interpreters.
pub(crate) mod runner {
    wasmtime::component::bindgen!({
        path: ["../../wit/0.1", "../../runtimes/wit"],
        world: "hfs:runner/source",
        imports: { default: trappable },
        with: { "hfs:plugin/types": super::hfs::plugin::types },
    });
}
