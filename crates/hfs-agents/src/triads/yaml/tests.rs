//! Configurations that are right, and what is said of those that are not.

use super::*;

#[test]
fn the_configurations_that_ship_are_sound() {
    let small = TriadsConfig::from_yaml(TriadsConfig::SMALL).unwrap();
    assert_eq!(small.triads.len(), 2);
    let standard = TriadsConfig::from_yaml(TriadsConfig::STANDARD).unwrap();
    assert_eq!(standard.triads.len(), 6);
    assert_eq!(TriadsConfig::READY.map(|(name, _)| name), ["small", "standard"]);
    for config in [small, standard] {
        assert_eq!(config.pressure.temperature_decay, Pressure::default().temperature_decay);
        for section in &config.sections {
            let owned = config.triads.iter().any(|triad| triad.primary.contains(&section.name));
            assert!(owned, "nobody is there for {}", section.name);
        }
    }
}

#[test]
fn what_the_comments_suggest_can_be_written() {
    let suggested = TriadsConfig::SMALL.replace("# model", "model").replace("#   critic", "  critic");
    let config = TriadsConfig::from_yaml(&suggested).unwrap();
    assert_eq!(config.model_names().len(), 2);
    assert_ne!(config.model_of(Role::Critic), config.model_of(Role::Worker));
}

fn problems(yaml: &str) -> Vec<(Option<u64>, String)> {
    let error = TriadsConfig::from_yaml(yaml).unwrap_err();
    error.problems.into_iter().map(|p| (p.line, format!("{}: {}", p.path, p.message))).collect()
}

const GOOD: &str = "\
sections:
  - name: answer
triads:
  - id: a
    preset: consensus
    scope: { primary: [answer] }
    budget: { tokens: 10, time_ms: 20 }
";

#[test]
fn what_is_left_out_has_its_default() {
    let config = TriadsConfig::from_yaml(GOOD).unwrap();
    assert_eq!(config.pressure, Pressure::default());
    assert_eq!(config.arbiter, ArbiterConfig::default());
    let budget = Budget { tokens: 10, time: Duration::from_millis(20) };
    assert_eq!(config.triads[0].budget, budget);
}

#[test]
fn every_mistake_is_named_with_its_line_and_what_was_expected() {
    for (from, to, line, expected) in [
        ("consensus", "anarchy", 5, "triads[0].preset: \"anarchy\" is not a preset: expected hierarchical"),
        (
            "[answer]",
            "[reply]",
            6,
            "triads[0].scope.primary[0]: \"reply\" is not a section: expected one of answer",
        ),
        ("tokens: 10", "tokens: 0", 7, "triads[0].budget.tokens: expected a number greater than 0"),
        ("id: a", "id: a/b", 4, "triads[0].id: expected a name"),
    ] {
        let found = problems(&GOOD.replace(from, to));
        assert_eq!(found[0].0, Some(line), "{found:?}");
        assert!(found[0].1.starts_with(expected), "{found:?}");
    }
    let found =
        problems(&format!("{GOOD}pressure:\n  initial_temperature: 7\n  max_negotiation_rounds: 0\n"));
    assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [Some(9), Some(10)]);
    let found = problems(&format!("{GOOD}models:\n  boss: some-model\n"));
    assert!(found[0].1.contains("\"boss\" is not a role"), "{found:?}");
}

#[test]
fn a_field_that_nobody_knows_and_a_text_that_is_no_yaml_have_lines_too() {
    let found = problems(&GOOD.replace("preset:", "presett:"));
    assert_eq!(found[0].0, Some(5), "{found:?}");
    assert!(found[0].1.contains("presett"), "{found:?}");
    assert!(problems("triads: [").first().is_some_and(|(line, _)| line.is_some()));
    assert_eq!(problems(&GOOD.replace("tokens: 10", "tokens: many"))[0].0, Some(7));
    assert!(TriadsConfig::from_yaml("").is_err());
}
