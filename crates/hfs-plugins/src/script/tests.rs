use super::*;

fn script(language: Language, files: &[(&str, &str)]) -> Script {
    Script {
        language,
        entry: files[0].0.to_owned(),
        files: files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
    }
}

fn manifest(rest: &str) -> Manifest {
    Manifest::from_yaml(&format!("name: a\nversion: 1.0.0\n{rest}")).unwrap()
}

#[test]
fn what_a_source_names_is_what_it_may_have() {
    let plugin = script(
        Language::Python,
        &[
            ("plugin.py", "def on_message(m):\n    pass\n"),
            ("more.py", "def on_message_twice(): ...\nCOMMANDS = {}"),
        ],
    );
    let mut manifest = manifest("capabilities: [commands, hooks]");
    let inspection = plugin.inspect(&mut manifest).unwrap();
    assert_eq!(inspection.exports, [Export::OnMessage, Export::Commands]);
    assert_eq!(manifest.warnings, [""; 0]);
}

#[test]
fn a_manifest_of_the_original_that_names_nothing_is_read_from_the_source() {
    let plugin = script(Language::Python, &[("__init__.py", "def on_start(s): ...\nCOMMANDS = {'a': len}")]);
    let mut manifest = manifest("entry_point: __init__");
    plugin.inspect(&mut manifest).unwrap();
    assert_eq!(manifest.capabilities, [Capability::Commands, Capability::Hooks]);
}

#[test]
fn a_manifest_that_promises_what_the_source_does_not_have_is_refused() {
    let plugin = script(Language::JavaScript, &[("plugin.js", "hfs.command('x', () => 'y')")]);
    let error = plugin.inspect(&mut manifest("capabilities: [commands, hooks]")).unwrap_err();
    assert!(error.contains("capability hooks") && error.contains("onMessage"), "{error}");
    assert!(plugin.inspect(&mut manifest("capabilities: [widgets]")).is_err());
}

#[test]
fn a_hook_beyond_the_manifest_is_said_to_be_of_no_use_and_is_not_called() {
    let plugin =
        script(Language::JavaScript, &[("plugin.js", "export const onExit = 1; hfs.widget('w', f)")]);
    let mut manifest = manifest("capabilities: [widgets]");
    let inspection = plugin.inspect(&mut manifest).unwrap();
    assert_eq!(inspection.exports, [Export::Widgets]);
    assert!(manifest.warnings[0].contains("onExit"), "{:?}", manifest.warnings);
}

#[test]
fn a_word_is_not_found_inside_another() {
    assert!(names("x.widget(", "widget"));
    assert!(!names("widgets my_widget widget$ _widget", "widget"));
    assert!(names("жwidget widget", "widget"));
}
