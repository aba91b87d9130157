//! `cargo xtask book`: the pages as a book, by mdBook.
//!
//! The pages in `docs/` link to pages at the root of the repository, which mdBook does not read. The book is therefore made from
//! a copy with the same layout: `docs/` and everything that its pages and those at the root link to.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::pages::{self, Page, SUMMARY};
use crate::shell;
use crate::workspace::Workspace;

/// Pages at the root, which the book has after those of [`SUMMARY`].
const ROOT_PAGES: &[(&str, &str)] = &[
    ("Security", "SECURITY.md"),
    ("Stability", "STABILITY.md"),
    ("Changelog", "CHANGELOG.md"),
    ("Architecture", "ARCHITECTURE.md"),
    ("Contributing", "CONTRIBUTING.md"),
];

/// Builds the book, and prints its first page.
pub fn run(workspace: &Workspace) -> Result<ExitCode> {
    match build(workspace)? {
        Ok(first_page) => {
            println!("{}", first_page.display());
            Ok(ExitCode::SUCCESS)
        }
        Err(missing) => {
            eprintln!("error: {missing}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Builds the book and checks its links. The inner error says what is not installed.
pub fn build(workspace: &Workspace) -> Result<Result<PathBuf, String>> {
    if !shell::is_available(Command::new("mdbook").arg("--version")) {
        return Ok(Err("mdbook is not installed; `cargo install mdbook --locked` installs it".into()));
    }
    let folder = workspace.target.join("book");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("delete {}", folder.display()))?;
    }
    let source = folder.join("src");
    let pages = pages::pages(workspace)?;
    for path in files(workspace, &pages) {
        match pages.iter().find(|page| page.path == path) {
            Some(page) => write(&source.join(for_book(&path.to_string_lossy())), &for_book(&page.text))?,
            None => copy(&workspace.root.join(&path), &source.join(&path))?,
        }
    }
    write(&source.join("SUMMARY.md"), &for_book(&summary(&pages)?))?;
    copy(&workspace.root.join("docs/book.toml"), &folder.join("book.toml"))?;
    let mut mdbook = Command::new("mdbook");
    mdbook.arg("build").arg(&folder).env("MDBOOK_BOOK__SRC", "src").env("MDBOOK_BUILD__BUILD_DIR", "html");
    ensure!(shell::succeeds(&mut mdbook)?, "mdbook failed");
    let html = folder.join("html");
    let broken = broken_links(&html, &html)?;
    ensure!(broken.is_empty(), "the book has broken links:\n{}", broken.join("\n"));
    Ok(Ok(html.join("index.html")))
}

/// A path or text with the names of pages in the book. The first page of a folder is `README.md` on GitHub and `index.html` in
/// the book.
fn for_book(text: &str) -> String {
    text.replace("README.md", "index.md")
}

/// The pages of the book, and the files that they link to.
fn files(workspace: &Workspace, pages: &[Page]) -> BTreeSet<PathBuf> {
    let is_part = |page: &&Page| page.path.starts_with("docs") || page.path.parent() == Some(Path::new(""));
    let mut files = BTreeSet::new();
    for page in pages.iter().filter(is_part) {
        files.insert(page.path.clone());
        let targets = page.links().into_iter().filter_map(|(_, target)| pages::resolve(&page.path, &target));
        files.extend(targets.map(|(path, _)| path).filter(|path| workspace.root.join(path).is_file()));
    }
    files
}

/// The summary for the copy: that of `docs/`, with the decisions and the pages at the root.
fn summary(pages: &[Page]) -> Result<String> {
    let find = |path: &str| {
        pages.iter().find(|page| page.path == Path::new(path)).with_context(|| format!("find {path}"))
    };
    let mut summary = String::new();
    for line in find(SUMMARY)?.text.lines() {
        writeln!(summary, "{}", line.replace("](", "](docs/"))?;
        if line.contains("](decisions/README.md)") {
            let decisions = find("docs/decisions/README.md")?;
            for line in decisions.text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
                let (_, link) = line.split_once(". ").unwrap_or_default();
                writeln!(summary, "  - {}", link.replace("](", "](docs/decisions/"))?;
            }
        }
    }
    summary.push_str("\n# The project\n\n");
    for (title, path) in ROOT_PAGES {
        writeln!(summary, "- [{title}]({path})")?;
    }
    Ok(summary.replacen("# Summary\n", "# Summary\n\n[hfs](README.md)\n", 1))
}

/// The links of the HTML pages below `folder` that lead to no file.
fn broken_links(root: &Path, folder: &Path) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            broken.extend(broken_links(root, &path)?);
        } else if path.extension().is_some_and(|extension| extension == "html") {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let targets = ["href=\"", "src=\""].into_iter().flat_map(|begin| text.split(begin).skip(1));
            for target in targets.filter_map(|rest| rest.split('"').next()) {
                let file = target.split(['#', '?']).next().unwrap_or_default();
                let is_here = !file.is_empty() && !target.contains(':') && !file.starts_with('/');
                if is_here && !folder.join(file).exists() {
                    let shown = path.strip_prefix(root).unwrap_or(&path);
                    broken.push(format!("{}: {target}", shown.display()));
                }
            }
        }
    }
    Ok(broken)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    create_parent(to)?;
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    create_parent(path)?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("find the folder of a file")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_the_book_has_all_pages_with_paths_from_the_root() {
        let pages = [
            Page {
                path: SUMMARY.into(),
                text: "# Summary\n\n- [Tour](tour.md)\n- [Decisions](decisions/README.md)\n".into(),
            },
            Page { path: "docs/decisions/README.md".into(), text: "# D\n\n1. [One](0001-one.md)\n".into() },
        ];
        let summary = summary(&pages).unwrap();
        assert!(
            summary.starts_with(
                "# Summary\n\n[hfs](README.md)\n\n- [Tour](docs/tour.md)\n- [Decisions](docs/decisions/README.md)\n  \
                 - [One](docs/decisions/0001-one.md)\n"
            ),
            "{summary}"
        );
        assert!(summary.ends_with("- [Contributing](CONTRIBUTING.md)\n"), "{summary}");
    }
}
