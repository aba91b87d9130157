//! Which triads answer: one of the configurations that ship with hfs, or a file of the user's own.

use std::path::{Path, PathBuf};

use hfs_agents::TriadsConfig;

use crate::config::{ConfigError, Key, Place, TriadsChoice, secret_in, text_of};
use crate::environment::Environment;

/// A configuration of triads, and what it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct ChosenTriads {
    /// The configuration.
    pub config: TriadsConfig,
    /// Its text.
    pub yaml: String,
    /// The file; `None` for one that ships with hfs.
    pub path: Option<PathBuf>,
}

/// Reads the triads that were chosen.
///
/// # Errors
/// When there is no such file, or what it says cannot be used; with the place of every mistake.
pub fn chosen(choice: &TriadsChoice, environment: &Environment) -> Result<ChosenTriads, ConfigError> {
    if let Some(yaml) = ready(&choice.text) {
        return checked(yaml.to_owned(), None);
    }
    let path = path_of(choice, environment);
    match text_of(&path)? {
        Some(yaml) => checked(yaml, Some(path)),
        None => Err(ConfigError::Value {
            place: choice.place.clone(),
            key: "triads".into(),
            found: format!("{:?}, and there is no file {}", choice.text, path.display()),
            expected: "small, standard or the path of a file".into(),
        }),
    }
}

/// What to write into a file for a setting that was given on the command line: for triads, which are checked
/// first, a path that means the same file from everywhere.
///
/// # Errors
/// As [`chosen`].
pub fn to_write_down(key: &Key, text: &str, environment: &Environment) -> Result<String, ConfigError> {
    if key.name != "triads" {
        return Ok(text.to_owned());
    }
    let choice =
        TriadsChoice { text: text.to_owned(), place: Place::CommandLine("VALUE"), is_projects: false };
    let chosen = chosen(&choice, environment)?;
    Ok(chosen.path.map_or_else(|| text.to_owned(), |path| path.to_string_lossy().into_owned()))
}

fn ready(name: &str) -> Option<&'static str> {
    TriadsConfig::BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, yaml)| *yaml)
}

/// A path in a file starts from that file's folder, any other from the working directory; `~/` from the home.
fn path_of(choice: &TriadsChoice, environment: &Environment) -> PathBuf {
    let home = choice.text.strip_prefix("~/").zip(environment.user_home.as_ref());
    let folder = match &choice.place {
        Place::File { path, .. } => path.parent().unwrap_or(Path::new("")),
        _ => &environment.working_directory,
    };
    match home {
        Some((rest, home)) => home.join(rest),
        None => folder.join(&choice.text),
    }
}

fn checked(yaml: String, path: Option<PathBuf>) -> Result<ChosenTriads, ConfigError> {
    let named = || path.clone().unwrap_or_default();
    for (line, text) in (1..).zip(yaml.lines()) {
        if let Some(reason) = secret_in(text) {
            let place = Place::File { path: named(), line };
            return Err(ConfigError::ApiKey { place, key: "this line".into(), reason });
        }
    }
    match TriadsConfig::from_yaml(&yaml) {
        Ok(config) => Ok(ChosenTriads { config, yaml, path }),
        Err(problems) => Err(ConfigError::Triads { path: named(), problems }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(text: &str, place: Place) -> TriadsChoice {
        TriadsChoice { text: text.into(), place, is_projects: false }
    }

    #[test]
    fn what_ships_is_chosen_by_name_and_a_file_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for sub in ["home", "work"] {
            std::fs::create_dir(root.join(sub)).unwrap();
        }
        let mut environment = Environment::default();
        environment.working_directory = root.join("work");
        environment.user_home = Some(root.join("home"));
        for name in ["small", "standard"] {
            let chosen = chosen(&choice(name, Place::Default), &environment).unwrap();
            assert_eq!(chosen.path, None, "{name}");
        }
        let file = Place::File { path: root.join("home").join("config.yaml"), line: 3 };
        std::fs::write(root.join("home").join("mine.yaml"), TriadsConfig::SMALL).unwrap();
        let path = root.join("home").join("mine.yaml");
        let found = |text: &str, place: &Place| chosen(&choice(text, place.clone()), &environment);
        assert_eq!(found("mine.yaml", &file).unwrap().path.as_ref(), Some(&path));
        assert_eq!(found("~/mine.yaml", &Place::Variable("HFS_TRIADS")).unwrap().path.as_ref(), Some(&path));
        let missing = found("mine.yaml", &Place::Variable("HFS_TRIADS")).unwrap_err().to_string();
        assert!(
            missing.starts_with("HFS_TRIADS: triads is \"mine.yaml\", and there is no file")
                && missing.ends_with("expected small, standard or the path of a file"),
            "{missing}"
        );
        let key = Key::find("triads").unwrap();
        let written = to_write_down(key, "../home/mine.yaml", &environment).unwrap();
        assert!(Path::new(&written).is_absolute(), "{written}");
        assert_eq!(to_write_down(key, "small", &environment).unwrap(), "small");
        assert!(to_write_down(key, "large", &environment).is_err());
    }
}
