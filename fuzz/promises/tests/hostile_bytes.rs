//! A short search of every fuzz target, as part of the tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::fs;
use std::panic;

use fuzz_promises::{TARGETS, Target, fuzz_folder, mutate};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

fn target(name: &str) -> &'static Target {
    Target::named(name).unwrap()
}

/// Runs a target on random bytes and on mutated seeds.
fn check_target(name: &str) {
    let target = target(name);
    let seeds = target.seeds().unwrap();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    // The inputs are the same in every run, so that a failure is caused by a change of the code. `cargo xtask fuzz`
    // searches further; an input that it finds is added to the seeds.
    let config = Config { cases: 512, failure_persistence: None, ..Config::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let inputs = prop_oneof![
        1 => vec(any::<u8>(), 0..512),
        3 => vec(any::<u8>(), 0..48).prop_map(move |choices| mutate(&seeds, &choices)),
    ];
    TestRunner::new_with_rng(config, random)
        .run(&inputs, |input| {
            (target.check)(&input);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn any_events_round_trip_through_json_and_fold() {
    check_target("events");
}

#[test]
fn any_file_is_read_or_rejected() {
    check_target("detect");
}

#[test]
fn any_input_read_as_a_claude_code_transcript_is_read_or_rejected() {
    check_target("claude_code");
}

#[test]
fn any_input_read_as_openai_messages_is_read_or_rejected() {
    check_target("openai_messages");
}

#[test]
fn any_input_read_as_an_hfs_document_is_read_or_rejected() {
    check_target("documents");
}

#[test]
fn any_input_read_as_a_codex_rollout_is_read_or_rejected() {
    check_target("codex");
}

#[test]
fn any_input_read_as_an_opencode_export_is_read_or_rejected() {
    check_target("opencode");
}

#[test]
fn any_input_read_as_a_gemini_cli_chat_is_read_or_rejected() {
    check_target("gemini");
}

#[test]
fn any_input_read_as_a_goose_export_is_read_or_rejected() {
    check_target("goose");
}

#[test]
fn any_input_read_as_a_chatgpt_export_is_read_or_rejected() {
    check_target("chatgpt");
}

#[test]
fn any_input_read_as_an_aider_history_is_read_or_rejected() {
    check_target("aider");
}

#[test]
fn any_input_read_as_a_sharegpt_dataset_is_read_or_rejected() {
    check_target("sharegpt");
}

#[test]
fn any_binary_delta_yields_its_declared_size_or_an_error() {
    check_target("binary_delta");
}

#[test]
fn unmodified_seeds_satisfy_every_property() {
    for target in TARGETS {
        for seed in target.seeds().unwrap() {
            panic::catch_unwind(|| (target.check)(&seed))
                .unwrap_or_else(|_| panic!("{} on {}", target.name, String::from_utf8_lossy(&seed)));
        }
    }
}

#[test]
fn every_target_has_a_cargo_fuzz_target() {
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    for Target { name, .. } in TARGETS {
        let path = format!("fuzz_targets/{name}.rs");
        let source =
            fs::read_to_string(fuzz_folder().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(source.contains(&format!("fuzz_promises::{name}(")), "{path} calls another target");
        assert!(manifest.contains(&format!("path = \"{path}\"")), "{path} is not built");
    }
}
