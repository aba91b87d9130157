//! Who may depend on whom.

use crate::workspace::Package;

/// The libraries under `crates/`, each with those of ours that it may know. Only the binary knows them all.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("hfs-core", &[]),
    ("hfs-store", &["hfs-core"]),
    ("hfs-exchange", &["hfs-core"]),
    ("hfs-machine-code", &[]),
    ("hfs-plugins", &["hfs-core", "hfs-machine-code"]),
    ("hfs-agents", &["hfs-core"]),
    ("hfs-engine", &["hfs-core"]),
    ("hfs-tui", &["hfs-core", "hfs-engine"]),
];

/// The crate that wires the others together.
const BINARY: &str = "hfs";
/// Crates that help to test, and that nothing shipped may depend on.
const TEST_ONLY: &[&str] = &["testkit", "fuzz-promises", "xtask"];

/// Every dependency between our own crates that goes the wrong way. Tests (dev-dependencies) may know anyone.
pub fn violations(packages: &[Package]) -> Vec<String> {
    let mut broken = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        if TEST_ONLY.contains(&name) {
            continue;
        }
        let allowed = MAY_KNOW.iter().find(|(library, _)| *library == name).map(|(_, allowed)| *allowed);
        if allowed.is_none() && name != BINARY {
            broken.push(format!("{name} has no place among the rooms: name it in {}", file!()));
        }
        let ours = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
        for dependency in ours.filter(|dependency| dependency.kind.as_deref() != Some("dev")) {
            let known = dependency.name.as_str();
            if TEST_ONLY.contains(&known) {
                broken.push(format!("{name} depends on {known}, which is for tests only"));
            } else if allowed.is_some_and(|allowed| !allowed.contains(&known)) {
                broken.push(format!("{name} depends on {known}: that direction is closed"));
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        Package {
            name: name.into(),
            version: "0.1.0".into(),
            manifest_path: "Cargo.toml".into(),
            dependencies: dependencies
                .iter()
                .map(|(name, kind)| Dependency {
                    name: (*name).into(),
                    kind: kind.map(Into::into),
                    path: name.starts_with("serde").then_some(()).map_or(Some("x".into()), |()| None),
                })
                .collect(),
            targets: Vec::new(),
        }
    }

    #[test]
    fn adapters_may_know_the_core_and_anything_from_outside() {
        let store = package("hfs-store", &[("hfs-core", None), ("serde", None), ("testkit", Some("dev"))]);
        assert_eq!(violations(&[store]), Vec::<String>::new());
    }

    #[test]
    fn adapters_may_not_know_each_other() {
        let store = package("hfs-store", &[("hfs-exchange", None)]);
        assert_eq!(violations(&[store]), ["hfs-store depends on hfs-exchange: that direction is closed"]);
    }

    #[test]
    fn the_engine_may_know_an_adapter_in_its_tests_only() {
        let tested = package("hfs-engine", &[("hfs-core", None), ("hfs-store", Some("dev"))]);
        let tied = package("hfs-engine", &[("hfs-core", None), ("hfs-store", None)]);
        let built = package("hfs-engine", &[("hfs-store", Some("build"))]);
        assert_eq!(violations(&[tested]).len(), 0);
        assert_eq!(violations(&[tied]).len(), 1);
        assert_eq!(violations(&[built]).len(), 1);
    }

    #[test]
    fn nothing_shipped_depends_on_the_testkit() {
        let binary = package("hfs", &[("hfs-store", None), ("testkit", None)]);
        assert_eq!(violations(&[binary]), ["hfs depends on testkit, which is for tests only"]);
    }

    #[test]
    fn a_new_crate_has_to_be_given_its_place() {
        assert_eq!(violations(&[package("hfs-cloud", &[])]).len(), 1);
    }
}
