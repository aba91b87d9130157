//! How triads are configured: by name, by a file of one's own, by a project, and what is wrong with it.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::cli::Hfs;
use testkit::model_server::well_formed_answer;
use testkit::model_server::{ModelServer, Protocol, RecordedRequest};

use crate::scrubbed;
use crate::triads::{triads_offline, triads_on};

fn write(hfs: &Hfs, name: &str, text: &str) -> String {
    let path = hfs.project().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn a_configuration_is_printed_edited_checked_and_used() {
    let hfs = triads_offline();
    let small = hfs.run(&["config", "triads", "small"]).ok().stdout;
    assert_eq!(hfs.run(&["config", "triads"]).ok().stdout, small, "small is what holds without a choice");
    let mine = small
        .replace("makers", "doers")
        .replace("name: answer", "name: verdict")
        .replace("[answer]", "[verdict]");
    let path = write(&hfs, "mine.yaml", &mine);
    assert_eq!(hfs.run(&["config", "triads", "mine.yaml"]).ok().stdout, mine);
    let _ = hfs.run(&["config", "set", "triads", "mine.yaml"]).ok();
    let stored = hfs.run(&["config", "get", "triads"]).ok().stdout;
    assert!(stored.ends_with("mine.yaml\n") && stored.starts_with('/'), "{stored} {path}");
    let elsewhere = hfs.home();
    let run = hfs.command(&["chat", "--json", "Why?"]).in_folder(&elsewhere).run().ok().json();
    assert_eq!(run["run"]["snapshot"]["agent_tree"]["triads"][0]["triad_id"], "doers");
    assert_eq!(run["run"]["snapshot"]["negotiation"]["sections"][0]["name"], "verdict");
    let standard = hfs.run(&["config", "triads", "standard", "--json"]).ok().json();
    assert_eq!((&standard["agents"], &standard["path"]), (&18.into(), &Value::Null));
}

#[test]
fn a_bad_configuration_is_an_error_with_file_and_line_and_nothing_is_lost() {
    let hfs = triads_offline();
    let small = hfs.run(&["config", "triads", "small"]).ok().stdout;
    write(&hfs, "bad.yaml", &small.replace("hierarchical", "anarchic"));
    let told = hfs.run(&["chat", "--triads", "bad.yaml", "Is it safe?"]).fails_with(6);
    insta::assert_snapshot!(scrubbed(&hfs, &told), @r#"
    --- stderr
    error: [project]/bad.yaml:14: triads[0].preset: "anarchic" is not a preset: expected hierarchical, dialectic or consensus
    hint: `hfs config triads standard` prints one that is right
    "#);
    write(&hfs, "worse.yaml", &small.replace("dialectic", "anarchic").replace("tokens: 60000", "tokens: 0"));
    let told = hfs.run(&["config", "set", "triads", "worse.yaml"]).fails_with(6);
    insta::assert_snapshot!(scrubbed(&hfs, &told), @r#"
    --- stderr
    error: [project]/worse.yaml has 3 mistakes
      because: [project]/worse.yaml:18: triads[0].budget.tokens: expected a number greater than 0
      because: [project]/worse.yaml:25: triads[1].preset: "anarchic" is not a preset: expected hierarchical, dialectic or consensus
      because: [project]/worse.yaml:29: triads[1].budget.tokens: expected a number greater than 0
    hint: `hfs config triads standard` prints one that is right
    "#);
    let json = hfs.run(&["chat", "--triads", "worse.yaml", "--json", "x"]).fails_with(6).json_error();
    assert_eq!((&json["kind"], json["causes"].as_array().unwrap().len()), (&"invalid".into(), 3));
    let told = hfs.run(&["chat", "--triads", "large", "Is it safe?"]).fails_with(6);
    insta::assert_snapshot!(scrubbed(&hfs, &told), @r#"
    --- stderr
    error: --triads: triads is "large", and there is no file [project]/large; expected small, standard or the path of a file
    "#);
    let _ = hfs.run(&["chat", "--agent", "nobody", "x"]).fails_with(2);
    write(&hfs, "secret.yaml", &format!("{small}\nmodel: sk-ant-0123456789abcdefgh\n"));
    let told = hfs.run(&["chat", "--triads", "secret.yaml", "x"]).fails_with(5);
    assert!(!told.stderr.contains("abcdefgh"), "{}", told.describe());
    assert_eq!(hfs.run(&["config", "get", "triads"]).ok().stdout, "small\n");
    assert_eq!(hfs.run(&["store", "info", "--json"]).ok().json()["sessions"], 0);
}

#[test]
fn each_role_asks_the_model_that_it_is_given_and_no_key_goes_to_a_stranger() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let hfs = triads_on(&server, Protocol::OpenAi);
    let small = hfs.run(&["config", "triads", "small"]).ok().stdout;
    write(&hfs, "roles.yaml", &format!("{small}\nmodels:\n  critic: sharp\n  integrator: claude-like\n"));
    let _ = hfs.run(&["chat", "--triads", "roles.yaml", "Why?"]).ok();
    for asked in server.requests() {
        let prompt = asked.prompt();
        let expected = if prompt.contains("You are critic") {
            "sharp"
        } else if prompt.contains("You make one coherent reply") {
            // A server at an address of the user's own may serve models of any name.
            "claude-like"
        } else {
            "test-model"
        };
        assert_eq!(asked.model(), expected);
    }
    write(&hfs, "other.yaml", &format!("{small}\nmodels:\n  critic: anthropic/claude-x\n"));
    let told = hfs.run(&["chat", "--triads", "other.yaml", "Why?"]).fails_with(5);
    assert!(
        told.stderr.contains("ANTHROPIC_API_KEY") && told.stderr.contains("other.yaml"),
        "{}",
        told.describe()
    );
}

#[test]
fn a_project_may_choose_triads_but_not_where_they_are_asked() {
    let server = ModelServer::start();
    server.otherwise(well_formed_answer);
    let hfs = triads_on(&server, Protocol::OpenAi).env("ANTHROPIC_API_KEY", "test-key-9876543210");
    let small = hfs.run(&["config", "triads", "small"]).ok().stdout;
    write(&hfs, ".hfs/team.yaml", &format!("{small}\nmodel: anthropic/claude-x\nmodels:\n  critic: sharp\n"));
    write(&hfs, ".hfs/config.yaml", "triads: team.yaml\n");
    let told = hfs.run(&["chat", "Why?"]).ok();
    assert!(told.stderr.contains("a project may not choose the provider"), "{}", told.describe());
    let models: BTreeSet<String> = server.requests().iter().map(RecordedRequest::model).collect();
    assert_eq!(models.into_iter().collect::<Vec<_>>(), ["sharp", "test-model"]);
}
