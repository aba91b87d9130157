//! The Markdown pages of the repository: their links, the tests and commands that they name, and the summary of the book.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;

use crate::Cli;
use crate::workspace::Workspace;

/// Folders without pages of ours: transcripts that tests read, and output.
const WITHOUT_PAGES: &[&str] = &["target", "dist", "node_modules", "fixtures", "seeds", "templates"];
/// Pages that name tests, as evidence.
const PAGES_WITH_TESTS: &[&str] = &["docs/reliability.md", "SECURITY.md"];
/// The table of contents of the book.
pub const SUMMARY: &str = "docs/SUMMARY.md";

/// A page with its text, by its path in the repository.
#[derive(Debug)]
pub struct Page {
    pub path: PathBuf,
    pub text: String,
}

impl Page {
    /// The lines outside of code blocks, with their numbers.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_code = false;
        self.text.lines().enumerate().filter_map(move |(index, line)| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            (!is_fence && !is_code).then_some((index + 1, line))
        })
    }

    /// The targets of all links and pictures, with the numbers of their lines.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            let line = without_code(line);
            for (begin, end) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
                let targets = line.split(begin).skip(1).filter_map(|rest| rest.split_once(end));
                links.extend(targets.map(|(target, _)| (number, target.to_owned())));
            }
        }
        links
    }

    /// The names that a link after `#` can have.
    fn anchors(&self) -> BTreeSet<String> {
        let mut anchors = BTreeSet::new();
        for (_, line) in self.prose() {
            let heading = line.trim_start_matches('#');
            if heading.len() == line.len() || !heading.starts_with(' ') {
                continue;
            }
            let name = slug(heading);
            let numbered = (1..).map(|number| format!("{name}-{number}"));
            let mut names = std::iter::once(name.clone()).chain(numbered);
            anchors.extend(names.find(|name| !anchors.contains(name)));
        }
        anchors
    }

    /// The lines of shell blocks that begin with this word, with their numbers.
    fn commands<'p>(&'p self, program: &'p str) -> impl Iterator<Item = (usize, &'p str)> {
        let mut is_shell = false;
        self.text.lines().enumerate().filter_map(move |(index, line)| {
            if line.starts_with("```") {
                is_shell = line == "```sh";
            }
            (is_shell && line.starts_with(program)).then_some((index + 1, line))
        })
    }
}

/// The name of a heading in links, as GitHub and mdBook form it.
fn slug(heading: &str) -> String {
    let text: String = match heading.split_once("](") {
        Some((name, _)) => name.chars().filter(|c| *c != '[').collect(),
        None => heading.to_owned(),
    };
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    };
    text.trim().to_lowercase().chars().filter_map(kept).collect()
}

/// The line without the content of code spans.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// All pages, sorted by path.
pub fn pages(workspace: &Workspace) -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    let mut folders = vec![workspace.root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                if !name.starts_with('.') && !WITHOUT_PAGES.contains(&name.as_ref()) {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                let path = path.strip_prefix(&workspace.root).unwrap_or(&path).to_owned();
                pages.push(Page { path, text });
            }
        }
    }
    pages.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(pages)
}

/// The path in the repository to which a link of a page leads, and its anchor. `None` if it leads to another host.
pub fn resolve(page: &Path, target: &str) -> Option<(PathBuf, String)> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let mut path = page.to_owned();
    if !file.is_empty() {
        path.pop();
        for part in Path::new(file).components() {
            match part {
                Component::ParentDir => {
                    path.pop();
                }
                Component::CurDir => {}
                other => path.push(other),
            }
        }
    }
    Some((path, anchor.to_owned()))
}

/// Everything that is wrong with the pages.
pub fn violations(workspace: &Workspace) -> Result<Vec<String>> {
    let pages = pages(workspace)?;
    let mut violations = Vec::new();
    for page in &pages {
        violations.extend(broken_links(workspace, page, &pages));
        violations.extend(unknown_commands(workspace, page));
    }
    let sources = sources(workspace)?;
    for page in pages.iter().filter(|page| PAGES_WITH_TESTS.iter().any(|path| Path::new(path) == page.path)) {
        violations.extend(missing_evidence(page, &sources));
    }
    violations.extend(pages_without_a_place(&pages));
    violations.extend(changelog(workspace)?);
    Ok(violations)
}

fn broken_links(workspace: &Workspace, page: &Page, pages: &[Page]) -> Vec<String> {
    let mut broken = Vec::new();
    for (number, target) in page.links() {
        let Some((path, anchor)) = resolve(&page.path, &target) else { continue };
        let place = format!("{}:{number}", page.path.display());
        if !workspace.root.join(&path).exists() {
            broken.push(format!("{place}: the link {target} leads to nothing"));
        } else if !anchor.is_empty() {
            let linked = pages.iter().find(|page| page.path == path);
            if !linked.is_some_and(|page| page.anchors().contains(&anchor)) {
                broken.push(format!("{place}: {} has no heading {anchor}", path.display()));
            }
        }
    }
    broken
}

/// The lines of shell blocks that call cargo in a way that does not work. Those that call hfs are typed by tests of the binary.
fn unknown_commands(workspace: &Workspace, page: &Page) -> Vec<String> {
    let mut unknown = Vec::new();
    for (number, line) in page.commands("cargo ") {
        let words: Vec<&str> = line.split("  #").next().unwrap_or_default().split_whitespace().collect();
        let problem = match words.as_slice() {
            ["cargo", "xtask", rest @ ..] => {
                let arguments = std::iter::once("cargo xtask").chain(rest.iter().copied());
                Cli::try_parse_from(arguments).err().map(|error| error.to_string())
            }
            _ => unknown_crate(workspace, &words),
        };
        let place = format!("{}:{number}", page.path.display());
        unknown.extend(problem.map(|problem| format!("{place}: {line}: {problem}")));
    }
    unknown
}

/// What is wrong with the crate or example that a cargo command names.
fn unknown_crate(workspace: &Workspace, words: &[&str]) -> Option<String> {
    let value_of = |options: &[&str]| {
        words.windows(2).find_map(|pair| match pair {
            [option, value] if options.contains(option) => Some(*value),
            _ => None,
        })
    };
    let package = value_of(&["-p", "--package"]);
    if let Some(name) = package
        && workspace.package(name).is_none()
    {
        return Some(format!("there is no crate {name}"));
    }
    if let Some(name) = value_of(&["--example"]) {
        let package = package.and_then(|name| workspace.package(name));
        if !package.is_some_and(|package| package.targets.iter().any(|target| target.name == name)) {
            return Some(format!("there is no example {name}"));
        }
    }
    let path = value_of(&["--path"])?;
    (!workspace.root.join(path).join("Cargo.toml").is_file()).then(|| format!("there is no crate in {path}"))
}

/// All Rust files, with their text.
fn sources(workspace: &Workspace) -> Result<Vec<(PathBuf, String)>> {
    let files = crate::check::rust_files(&workspace.root)?;
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok((path, text))
    };
    files.into_iter().map(read).collect()
}

/// The tests and files that a page names as evidence and that do not exist.
fn missing_evidence(page: &Page, sources: &[(PathBuf, String)]) -> Vec<String> {
    let mut missing = Vec::new();
    for (number, line) in page.prose() {
        for span in line.split('`').skip(1).step_by(2) {
            let is_file = span.ends_with(".rs") && !span.contains(' ');
            let is_test = span.matches('_').count() >= 3
                && span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let exists = if is_file {
                let end = span.trim_start_matches("../");
                sources.iter().any(|(path, _)| path.ends_with(end))
            } else {
                let function = format!("fn {span}(");
                !is_test || sources.iter().any(|(_, text)| text.contains(&function))
            };
            if !exists {
                missing.push(format!("{}:{number}: there is no {span}", page.path.display()));
            }
        }
    }
    missing
}

/// Pages in `docs/` to which neither the summary of the book nor the list of decisions leads.
fn pages_without_a_place(pages: &[Page]) -> Vec<String> {
    let linked = |list: &str| -> BTreeSet<PathBuf> {
        let list = pages.iter().find(|page| page.path == Path::new(list));
        let links = list.map(|page| (page, page.links())).into_iter();
        let targets = links.flat_map(|(page, links)| {
            links.into_iter().filter_map(|(_, target)| Some(resolve(&page.path, &target)?.0))
        });
        targets.collect()
    };
    let (book, decisions) = (linked(SUMMARY), linked("docs/decisions/README.md"));
    let mut violations = Vec::new();
    for page in pages.iter().filter(|page| page.path.starts_with("docs")) {
        let path = &page.path;
        if path != Path::new(SUMMARY) && !book.contains(path) && !decisions.contains(path) {
            violations.push(format!("{}: not in {SUMMARY} or docs/decisions/README.md", path.display()));
        }
    }
    violations
}

/// Whether CHANGELOG.md says what is new: entries under "Unreleased", or a section of the current version.
fn changelog(workspace: &Workspace) -> Result<Option<String>> {
    let path = workspace.root.join("CHANGELOG.md");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let version = workspace.package("hfs").context("find the package hfs")?.version.as_str();
    Ok(changelog_violation(&text, version))
}

fn changelog_violation(text: &str, version: &str) -> Option<String> {
    let entries = |heading: &str| {
        let mut sections = text.split("\n## ").skip(1);
        let section = sections.find(|section| section.trim_start_matches('[').starts_with(heading));
        section.map_or(0, |section| section.lines().filter(|line| line.starts_with("- ")).count())
    };
    (entries("Unreleased") == 0 && entries(version) == 0)
        .then(|| format!("CHANGELOG.md has no entry under \"Unreleased\" or \"{version}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page { path: "docs/a.md".into(), text: text.into() }
    }

    #[test]
    fn the_pages_are_right() {
        let workspace = Workspace::load().unwrap();
        assert_eq!(violations(&workspace).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn links_are_found_in_prose_only() {
        let page = page("[a](b.md) `[c](d.md)` ![e](f.svg#g)\n```sh\n[h](i.md)\n```\n<img src=\"j.svg\">\n");
        let targets: Vec<String> = page.links().into_iter().map(|(_, target)| target).collect();
        assert_eq!(targets, ["b.md", "f.svg#g", "j.svg"]);
    }

    #[test]
    fn a_link_is_relative_to_its_page() {
        let resolved = |target| resolve(Path::new("docs/a.md"), target);
        assert_eq!(resolved("../B.md#c"), Some(("B.md".into(), "c".into())));
        assert_eq!(resolved("#c"), Some(("docs/a.md".into(), "c".into())));
        assert_eq!(resolved("https://example.com/x"), None);
    }

    #[test]
    fn headings_are_named_as_on_github() {
        let anchors = page("# A `b-c`, and D_e\n## Twice\n## Twice\n```sh\n# no heading\n```\n").anchors();
        assert_eq!(anchors.into_iter().collect::<Vec<_>>(), ["a-b-c-and-d_e", "twice", "twice-1"]);
    }

    #[test]
    fn a_test_that_does_not_exist_is_found() {
        let sources = [(PathBuf::from("crates/x/src/y.rs"), "fn it_is_so_and_no_other_way() {}".to_owned())];
        let named =
            page("`x/src/y.rs`: `it_is_so_and_no_other_way`, `it_is_not_so_at_all`, `z.rs`, `a_field`\n");
        let missing = missing_evidence(&named, &sources);
        assert_eq!(
            missing,
            ["docs/a.md:1: there is no it_is_not_so_at_all", "docs/a.md:1: there is no z.rs"]
        );
    }

    #[test]
    fn commands_of_cargo_are_checked_and_those_of_hfs_are_not() {
        let workspace = Workspace::load().unwrap();
        let page = page(
            "```sh\ncargo xtask check  # fine\ncargo xtask chekc\ncargo run -p nothing\nhfs nothing\n```\n\
             ```text\ncargo xtask chekc\n```\n",
        );
        let unknown = unknown_commands(&workspace, &page);
        assert_eq!(unknown.len(), 2, "{unknown:?}");
        assert!(unknown[0].contains("chekc") && unknown[1].contains("no crate nothing"), "{unknown:?}");
    }

    #[test]
    fn the_changelog_needs_an_entry() {
        assert_eq!(changelog_violation("# C\n\n## Unreleased\n\n- New.\n", "1.0.0"), None);
        assert_eq!(changelog_violation("# C\n\n## Unreleased\n\n## 1.0.0\n\n- New.\n", "1.0.0"), None);
        assert!(changelog_violation("# C\n\n## Unreleased\n\n## 0.9.0\n\n- New.\n", "1.0.0").is_some());
    }
}
