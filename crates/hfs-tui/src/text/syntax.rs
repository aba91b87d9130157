//! Syntax highlighting.

use std::sync::OnceLock;

use ratatui::style::Style;
use syntect::highlighting::{
    Color, HighlightIterator, HighlightState, Highlighter, ScopeSelectors, StyleModifier, Theme, ThemeItem,
    ThemeSettings,
};
use syntect::parsing::{ParseState, ScopeStack, SyntaxReference, SyntaxSet};

use super::{Fragment, TextStyle};
use crate::theme::{self, CodeRole};

/// Lines longer than this many bytes, such as minified code, are not highlighted: the grammars are too slow on them.
const MAX_LINE_BYTES: usize = 2_000;

/// Lines of a code block after these are not highlighted, because highlighting takes a third of a millisecond per line.
const MAX_HIGHLIGHTED_LINES: usize = 3_000;
/// Text that is still growing is highlighted on the thread that handles keys. If more lines of code than this arrive at
/// once, the rest of their block is not highlighted.
const MAX_LINES_AT_ONCE: usize = 100;

/// Scope selectors, and the role of the code that they match. If several match, the most specific selector wins.
const ROLES: [(&str, CodeRole); 9] = [
    ("comment, punctuation.definition.comment", CodeRole::Comment),
    ("string, punctuation.definition.string", CodeRole::String),
    ("constant.numeric, constant.language, constant.character, constant.other", CodeRole::Number),
    ("keyword, storage.modifier, storage.type.function, keyword.operator.word", CodeRole::Keyword),
    ("storage.type, support.type, entity.name.type, entity.name.struct, entity.name.class", CodeRole::Type),
    ("entity.name.function, support.function, variable.function", CodeRole::Function),
    ("entity.name.tag, entity.other.attribute-name, support.type.property-name", CodeRole::Function),
    ("markup.deleted", CodeRole::Removed),
    ("markup.inserted", CodeRole::Added),
];

/// The grammars of all supported languages. Loading them takes long enough to delay the first frame, so it happens in
/// the background.
#[derive(Clone, Copy)]
pub struct Syntax(&'static Loaded);

struct Loaded {
    grammars: SyntaxSet,
    theme: Theme,
}

impl std::fmt::Debug for Syntax {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Syntax")
    }
}

impl Syntax {
    /// Loads the grammars; later calls return the same ones.
    #[must_use]
    pub fn load() -> Self {
        static LOADED: OnceLock<Loaded> = OnceLock::new();
        Self(
            LOADED.get_or_init(|| Loaded {
                grammars: SyntaxSet::load_defaults_newlines(),
                theme: role_theme(),
            }),
        )
    }

    fn grammar(self, language: &str) -> Option<&'static SyntaxReference> {
        let name = language.split([',', ' ', '{']).next().unwrap_or_default().to_ascii_lowercase();
        // Common names of languages that the grammars do not know.
        let name = match name.as_str() {
            "" | "text" | "txt" | "plain" => return None,
            "ts" | "typescript" | "jsx" | "tsx" | "mjs" => "js",
            "shell" | "console" | "zsh" | "fish" => "bash",
            "jsonc" | "json5" | "jsonl" => "json",
            "toml" | "ini" | "conf" => "properties",
            other => other,
        };
        self.0.grammars.find_syntax_by_token(name)
    }
}

/// Returns a syntect theme that stores each [`CodeRole`] as the red component of a colour. The role is mapped to a
/// style afterwards, so that the highlighting does not depend on the palette.
fn role_theme() -> Theme {
    let colour = |role: CodeRole| Color { r: role as u8, g: 0, b: 0, a: 0xff };
    let scopes = ROLES.iter().filter_map(|(selectors, role)| {
        let scope: ScopeSelectors = selectors.parse().ok()?;
        let style = StyleModifier { foreground: Some(colour(*role)), background: None, font_style: None };
        Some(ThemeItem { scope, style })
    });
    Theme {
        settings: ThemeSettings { foreground: Some(colour(CodeRole::Plain)), ..ThemeSettings::default() },
        scopes: scopes.collect(),
        ..Theme::default()
    }
}

/// Highlights the lines of a code block in their order.
#[derive(Debug, Clone, Default)]
pub struct LineHighlighter {
    state: Option<HighlighterState>,
    /// Number of highlighted lines.
    count: usize,
    /// Whether the rest of the block is not highlighted.
    is_plain: bool,
}

#[derive(Debug, Clone)]
struct HighlighterState {
    parse: ParseState,
    highlight: HighlightState,
}

/// The number of lines that may still be highlighted at once.
#[derive(Debug, Clone)]
pub struct LineBudget(usize);

impl Default for LineBudget {
    fn default() -> Self {
        Self(MAX_LINES_AT_ONCE)
    }
}

impl LineHighlighter {
    /// Prepares for the next lines of a block that is still growing.
    pub const fn expect_lines(&mut self, count: usize, budget: &mut LineBudget) {
        match budget.0.checked_sub(count) {
            Some(rest) => budget.0 = rest,
            None => self.is_plain = true,
        }
    }

    /// Does not highlight the rest of the block.
    pub const fn stop(&mut self) {
        self.is_plain = true;
    }

    /// Returns the next line. A line without a line break is still growing, and is passed again when it has grown.
    pub fn line(&mut self, text_style: TextStyle<'_>, language: &str, line: &str) -> Vec<Fragment> {
        let theme = text_style.theme;
        let syntax = text_style.syntax.filter(|_| !self.is_plain && self.count < MAX_HIGHLIGHTED_LINES);
        let Some((syntax, grammar)) =
            syntax.and_then(|syntax| syntax.grammar(language).map(|grammar| (syntax, grammar)))
        else {
            return plain_line(line, theme);
        };
        let highlighter = Highlighter::new(&syntax.0.theme);
        let state = self.state.get_or_insert_with(|| HighlighterState {
            parse: ParseState::new(grammar),
            highlight: HighlightState::new(&highlighter, ScopeStack::new()),
        });
        if line.ends_with('\n') {
            self.count += 1;
            state.line(syntax, &highlighter, theme, line)
        } else {
            state.clone().line(syntax, &highlighter, theme, line)
        }
    }
}

/// The highlighted lines of a code block that may still grow. Each complete line is highlighted once.
#[derive(Debug, Clone, Default)]
pub struct CodeBlock {
    language: String,
    /// The code up to the last line break; `lines` holds its highlighted lines.
    complete_code: String,
    lines: Vec<Vec<Fragment>>,
    highlighter: LineHighlighter,
}

impl CodeBlock {
    /// Returns the highlighted lines of `code`. If the previous call was for a prefix of `code`, highlighting continues
    /// after the last complete line of that prefix. A block without a `budget` is complete.
    pub fn lines(
        &mut self,
        text_style: TextStyle<'_>,
        language: &str,
        code: &str,
        budget: Option<&mut LineBudget>,
    ) -> Vec<Vec<Fragment>> {
        if self.language != language || !code.starts_with(&self.complete_code) {
            *self = Self { language: language.to_owned(), ..Self::default() };
        }
        let rest = code.get(self.complete_code.len()..).unwrap_or_default();
        let is_growing = budget.is_some();
        if let Some(budget) = budget {
            self.highlighter.expect_lines(rest.matches('\n').count(), budget);
        }
        let mut unfinished = None;
        for line in rest.split_inclusive('\n') {
            let highlighted = self.highlighter.line(text_style, language, line);
            if line.ends_with('\n') {
                self.lines.push(highlighted);
                self.complete_code.push_str(line);
            } else {
                unfinished = Some(highlighted);
            }
        }
        let mut lines = if is_growing { self.lines.clone() } else { std::mem::take(self).lines };
        lines.extend(unfinished);
        lines
    }
}

impl HighlighterState {
    fn line(
        &mut self,
        syntax: Syntax,
        highlighter: &Highlighter<'_>,
        theme: &theme::Theme,
        line: &str,
    ) -> Vec<Fragment> {
        if line.len() > MAX_LINE_BYTES {
            return plain_line(line, theme);
        }
        let Ok(operations) = self.parse.parse_line(line, &syntax.0.grammars) else {
            return plain_line(line, theme);
        };
        HighlightIterator::new(&mut self.highlight, &operations, line, highlighter)
            .map(|(style, text)| Fragment::new(text.trim_end_matches('\n'), role_style(style, theme)))
            .filter(|fragment| !fragment.text.is_empty())
            .collect()
    }
}

fn plain_line(line: &str, theme: &theme::Theme) -> Vec<Fragment> {
    vec![Fragment::new(line.trim_end_matches('\n'), theme.code(CodeRole::Plain))]
}

fn role_style(style: syntect::highlighting::Style, theme: &theme::Theme) -> Style {
    theme.code(CodeRole::from_number(style.foreground.r))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "// greets\nfn main() {\n    let x = \"hi\";\n}\n";

    #[test]
    fn growing_code_is_highlighted_like_complete_code() {
        let theme = theme::Theme::dark();
        let text_style = TextStyle { theme: &theme, syntax: Some(Syntax::load()) };
        let whole = CodeBlock::default().lines(text_style, "rust", CODE, None);
        let mut growing = CodeBlock::default();
        for end in (0..=CODE.len()).step_by(3) {
            growing.lines(text_style, "rust", &CODE[..end], Some(&mut LineBudget::default()));
        }
        assert_eq!(growing.lines(text_style, "rust", CODE, Some(&mut LineBudget::default())), whole);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[0][0].style, theme.code(CodeRole::Comment));
    }

    #[test]
    fn only_the_first_lines_of_a_long_block_and_of_a_burst_are_highlighted() {
        let theme = theme::Theme::dark();
        let text_style = TextStyle { theme: &theme, syntax: Some(Syntax::load()) };
        let code = "// comment\n".repeat(MAX_HIGHLIGHTED_LINES + 1);
        let lines = CodeBlock::default().lines(text_style, "rust", &code, None);
        assert_eq!(lines[MAX_HIGHLIGHTED_LINES - 1][0].style, theme.code(CodeRole::Comment));
        assert_eq!(lines[MAX_HIGHLIGHTED_LINES][0].style, theme.code(CodeRole::Plain));
        let burst = "// comment\n".repeat(MAX_LINES_AT_ONCE + 1);
        let budget = &mut LineBudget::default();
        let lines = CodeBlock::default().lines(text_style, "rust", &burst, Some(budget));
        assert_eq!(lines[0][0].style, theme.code(CodeRole::Plain));
        assert_eq!(lines.len(), MAX_LINES_AT_ONCE + 1);
    }

    #[test]
    fn an_unknown_language_is_not_highlighted() {
        let theme = theme::Theme::dark();
        let text_style = TextStyle { theme: &theme, syntax: Some(Syntax::load()) };
        let lines = CodeBlock::default().lines(text_style, "no-such", "a\nb", None);
        assert_eq!(
            lines,
            [
                [Fragment::new("a", theme.code(CodeRole::Plain))],
                [Fragment::new("b", theme.code(CodeRole::Plain))]
            ]
        );
    }
}
