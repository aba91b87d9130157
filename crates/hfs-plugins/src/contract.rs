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
