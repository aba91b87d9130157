use super::*;

const WHOLE: &str = "\
name: word-count
version: 1.2.0
description: Counts  words
entry_point: plugin.wasm
capabilities: [commands, widgets, hooks]
permissions:
  session: read
  network: [\"api.example.com\", \"127.0.0.1:8080\"]
  filesystem: { read: [\"~/notes\"], write: [] }
  storage: 1MiB
api_version: \"0.1\"
";

fn problems(yaml: &str) -> String {
    Manifest::from_yaml(yaml).unwrap_err().to_string()
}

#[test]
fn a_manifest_says_what_a_plugin_is_and_wants() {
    let manifest = Manifest::from_yaml(WHOLE).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.version.to_string().as_str()), ("word-count", "1.2.0"));
    assert_eq!(manifest.description, "Counts words");
    assert_eq!(manifest.entry, Some(Entry::Component("plugin.wasm".into())));
    assert_eq!(manifest.capabilities, Capability::ALL);
    assert_eq!(manifest.warnings, [] as [String; 0]);
    let words: Vec<String> = manifest.permissions.powers().iter().map(Power::words).collect();
    assert_eq!(
        words,
        [
            "read all your saved conversations",
            "talk to api.example.com over the network",
            "talk to 127.0.0.1:8080 over the network",
            "read the files in ~/notes",
            "keep up to 1 MiB of its own data",
        ]
    );
}

#[test]
fn nothing_is_wanted_unless_it_is_named() {
    let manifest = Manifest::from_yaml("name: a\nversion: 0.1.0\n").unwrap();
    assert_eq!(manifest.entry, None);
    assert_eq!(manifest.permissions.powers(), []);
    assert!(!manifest.covers(Import::Kv) && !manifest.covers(Import::Http) && manifest.covers(Import::Log));
}

#[test]
fn a_module_of_the_original_is_python() {
    let manifest = Manifest::from_yaml("name: a\nversion: 0.1.0\nentry_point: __init__\n").unwrap();
    assert_eq!(manifest.entry, Some(Entry::Script(Language::Python, "__init__.py".into())));
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let yaml = "\
name: Word Count
version: one
entry_point: ../../bin/sh
capabilities: [hooks, magic]
permissions:
  session: write
  network: [\"http://x\"]
  filesystem: { read: [\"notes\", \"/a/../b\"] }
  storage: 2GiB
api_version: \"0.2\"
";
    let text = problems(yaml);
    for (line, word) in [
        (1, "name"),
        (2, "version"),
        (3, "entry_point"),
        (4, "\"magic\""),
        (6, "session"),
        (7, "http://x"),
        (8, "\"notes\""),
        (8, "/a/../b"),
        (9, "storage"),
        (10, "0.2"),
    ] {
        let found = text
            .split("; ")
            .any(|one| one.starts_with(&format!("manifest.yaml:{line}: ")) && one.contains(word));
        assert!(found, "{line} {word}: {text}");
    }
}

#[test]
fn unknown_keys_are_told_and_ignored() {
    let yaml = "name: a\nversion: 0.1.0\nauthor: {name: x}\npermissions:\n  sesion: read\n";
    let manifest = Manifest::from_yaml(yaml).unwrap();
    assert!(!manifest.permissions.read_sessions);
    assert_eq!(
        manifest.warnings,
        [
            "manifest.yaml:3: \"author\" is not known and was ignored",
            "manifest.yaml:5: \"permissions.sesion\" is not known and was ignored",
        ]
    );
}

#[test]
fn a_missing_field_and_broken_yaml_are_told() {
    assert!(problems("name: a\n").contains("version"));
    assert!(problems("name: [\n").starts_with("manifest.yaml:"));
    assert!(problems("").contains("manifest.yaml"));
    assert!(problems("\u{0}\u{1}").contains("manifest.yaml"));
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut yaml = String::from("name: a\nversion: 0.1.0\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        yaml.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 9].join(", ")));
    }
    assert!(problems(&yaml).contains("manifest.yaml"), "{}", problems(&yaml));
    let deep = format!("name: a\nversion: 0.1.0\nx: {}\n", "[".repeat(20_000));
    assert!(problems(&deep).contains("manifest.yaml"));
    let long = format!("name: a\nversion: 0.1.0\nx: {}\n", "y".repeat(70_000));
    assert!(problems(&long).contains("too many"));
}

#[test]
fn hosts_are_names_or_addresses_with_or_without_a_port() {
    for (host, good) in [
        ("api.example.com", true),
        ("*.example.com", true),
        ("*", true),
        ("localhost:8080", true),
        ("[::1]:80", true),
        ("*.com", false),
        ("*com", false),
        ("a b", false),
        ("https://a.b", false),
        ("a.b/c", false),
        ("a.b:99999", false),
        ("", false),
        ("A.example.com", false),
    ] {
        let yaml = format!("name: a\nversion: 0.1.0\npermissions:\n  network: [\"{host}\"]\n");
        assert_eq!(Manifest::from_yaml(&yaml).is_ok(), good, "{host}");
    }
}
