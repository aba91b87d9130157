//! The promises about any bytes, searched briefly in every run of the suite.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

use std::fs;
use std::panic;

use fuzz_promises::{TARGETS, Target, fuzz_folder, mutated};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

fn target(name: &str) -> &'static Target {
    Target::named(name).unwrap()
}

/// Runs the target on bytes of any kind, and on seeds damaged in any way.
fn holds(name: &str) {
    let target = target(name);
    let seeds = target.seeds().unwrap();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    // The same inputs in every run, so that a change is judged by what it changes; `cargo xtask fuzz` goes
    // further afield. What it finds is written down as a seed, and then serves every search.
    let config = Config { cases: 512, failure_persistence: None, ..Config::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let inputs = prop_oneof![
        1 => vec(any::<u8>(), 0..512),
        3 => vec(any::<u8>(), 0..48).prop_map(move |choices| mutated(&seeds, &choices)),
    ];
    TestRunner::new_with_rng(config, random)
        .run(&inputs, |input| {
            (target.check)(&input);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn any_events_survive_their_json_and_fold() {
    holds("events");
}

#[test]
fn any_file_is_read_or_refused() {
    holds("detect");
}

#[test]
fn anything_taken_for_a_claude_code_transcript_is_read_or_refused() {
    holds("claude_code");
}

#[test]
fn anything_taken_for_openai_messages_is_read_or_refused() {
    holds("openai_messages");
}

#[test]
fn anything_taken_for_a_document_of_ours_is_read_or_refused() {
    holds("documents");
}

#[test]
fn anything_taken_for_a_codex_rollout_is_read_or_refused() {
    holds("codex");
}

#[test]
fn anything_taken_for_an_opencode_export_is_read_or_refused() {
    holds("opencode");
}

#[test]
fn anything_taken_for_a_gemini_cli_chat_is_read_or_refused() {
    holds("gemini");
}

#[test]
fn anything_taken_for_a_goose_export_is_read_or_refused() {
    holds("goose");
}

#[test]
fn anything_taken_for_a_chatgpt_export_is_read_or_refused() {
    holds("chatgpt");
}

#[test]
fn anything_taken_for_an_aider_history_is_read_or_refused() {
    holds("aider");
}

#[test]
fn anything_taken_for_a_sharegpt_dataset_is_read_or_refused() {
    holds("sharegpt");
}

#[test]
fn any_script_makes_what_it_says_or_nothing() {
    holds("splice");
}

#[test]
fn undamaged_seeds_keep_every_promise() {
    for target in TARGETS {
        for seed in target.seeds().unwrap() {
            panic::catch_unwind(|| (target.check)(&seed))
                .unwrap_or_else(|_| panic!("{} on {}", target.name, String::from_utf8_lossy(&seed)));
        }
    }
}

#[test]
fn every_target_is_one_of_cargo_fuzz_too() {
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    for Target { name, .. } in TARGETS {
        let path = format!("fuzz_targets/{name}.rs");
        let source =
            fs::read_to_string(fuzz_folder().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(source.contains(&format!("fuzz_promises::{name}(")), "{path} checks something else");
        assert!(manifest.contains(&format!("path = \"{path}\"")), "{path} is not built");
    }
}
