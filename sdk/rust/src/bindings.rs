//! Bindings generated from the contract: one module for all imports, and one for each export.

#![allow(missing_docs, reason = "the contract documents them")]

/// Everything that a plugin may import.
pub mod imports {
    wit_bindgen::generate!({ path: "wit", world: "hfs:plugin/imports", generate_all });
}

pub mod on_start {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package sdk:plugin; world sdk-on-start { export hfs:plugin/on-start@0.1.0; }",
        world: "sdk:plugin/sdk-on-start",
        with: { "hfs:plugin/types@0.1.0": crate::bindings::imports::hfs::plugin::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_on_start",
        default_bindings_module: "hfs_plugin::bindings::on_start",
    });
}

pub mod on_message {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package sdk:plugin; world sdk-on-message { export hfs:plugin/on-message@0.1.0; }",
        world: "sdk:plugin/sdk-on-message",
        with: { "hfs:plugin/types@0.1.0": crate::bindings::imports::hfs::plugin::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_on_message",
        default_bindings_module: "hfs_plugin::bindings::on_message",
    });
}

pub mod on_event {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package sdk:plugin; world sdk-on-event { export hfs:plugin/on-event@0.1.0; }",
        world: "sdk:plugin/sdk-on-event",
        with: { "hfs:plugin/types@0.1.0": crate::bindings::imports::hfs::plugin::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_on_event",
        default_bindings_module: "hfs_plugin::bindings::on_event",
    });
}

pub mod on_run_complete {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package sdk:plugin; world sdk-on-run-complete { export hfs:plugin/on-run-complete@0.1.0; }",
        world: "sdk:plugin/sdk-on-run-complete",
        with: { "hfs:plugin/types@0.1.0": crate::bindings::imports::hfs::plugin::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_on_run_complete",
        default_bindings_module: "hfs_plugin::bindings::on_run_complete",
    });
}

pub mod on_exit {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package sdk:plugin; world sdk-on-exit { export hfs:plugin/on-exit@0.1.0; }",
        world: "sdk:plugin/sdk-on-exit",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_on_exit",
        default_bindings_module: "hfs_plugin::bindings::on_exit",
    });
}

pub mod commands {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package sdk:plugin; world sdk-commands { export hfs:plugin/commands@0.1.0; }",
        world: "sdk:plugin/sdk-commands",
        with: { "hfs:plugin/types@0.1.0": crate::bindings::imports::hfs::plugin::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_commands",
        default_bindings_module: "hfs_plugin::bindings::commands",
    });
}

pub mod widgets {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package sdk:plugin; world sdk-widgets { export hfs:plugin/widgets@0.1.0; }",
        world: "sdk:plugin/sdk-widgets",
        with: { "hfs:plugin/types@0.1.0": crate::bindings::imports::hfs::plugin::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_widgets",
        default_bindings_module: "hfs_plugin::bindings::widgets",
    });
}
