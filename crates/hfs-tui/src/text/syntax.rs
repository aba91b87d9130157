//! Colours of code, by what each piece of it is.

use std::sync::OnceLock;

use ratatui::style::Style;
use syntect::highlighting::{
    Color, HighlightIterator, HighlightState, Highlighter, ScopeSelectors, StyleModifier, Theme, ThemeItem,
    ThemeSettings,
};
use syntect::parsing::{ParseState, ScopeStack, SyntaxReference, SyntaxSet};

use super::Piece;
use crate::theme::{CodeRole, Theme as Look};

/// Longer lines are not code that a person reads; they are shown plain.
const LONGEST_LINE: usize = 2_000;

/// Which scopes of the grammar have which role. Later ones win where they fit better.
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

/// Grammars of many languages. Loading them takes a moment, so that it is done beside the first picture.
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
    /// Loads the grammars, once in the process's life.
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
        // Names that people write on fences and that the grammars do not have.
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

/// The theme whose "colours" are numbers of roles, so that one grammar pass serves every palette.
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

/// A code block that may still be growing: lines that are whole are coloured once.
#[derive(Debug, Clone, Default)]
pub struct CodeBlock {
    language: String,
    done: String,
    lines: Vec<Vec<Piece>>,
    state: Option<State>,
}

#[derive(Debug, Clone)]
struct State {
    parse: ParseState,
    highlight: HighlightState,
}

impl CodeBlock {
    /// The lines of `code`, coloured. `self` remembers those that ended with a line break, and goes on from
    /// there when it is asked again about the same code with more behind it.
    pub fn lines(
        &mut self,
        syntax: Option<Syntax>,
        look: &Look,
        language: &str,
        code: &str,
    ) -> Vec<Vec<Piece>> {
        let grammar = syntax.and_then(|syntax| syntax.grammar(language).map(|grammar| (syntax, grammar)));
        let Some((syntax, grammar)) = grammar else {
            return code.lines().map(|line| vec![Piece::new(line, look.code(CodeRole::Plain))]).collect();
        };
        if self.language != language || !code.starts_with(&self.done) {
            *self = Self { language: language.to_owned(), ..Self::default() };
        }
        let highlighter = Highlighter::new(&syntax.0.theme);
        let mut state = self.state.take().unwrap_or_else(|| State {
            parse: ParseState::new(grammar),
            highlight: HighlightState::new(&highlighter, ScopeStack::new()),
        });
        let rest = code.get(self.done.len()..).unwrap_or_default();
        let mut unfinished = None;
        for line in rest.split_inclusive('\n') {
            if line.ends_with('\n') {
                let coloured = state.line(syntax, &highlighter, look, line);
                self.lines.push(coloured);
                self.done.push_str(line);
            } else {
                unfinished = Some(state.clone().line(syntax, &highlighter, look, line));
            }
        }
        self.state = Some(state);
        let mut lines = self.lines.clone();
        lines.extend(unfinished);
        lines
    }
}

impl State {
    fn line(&mut self, syntax: Syntax, highlighter: &Highlighter<'_>, look: &Look, line: &str) -> Vec<Piece> {
        let plain = || vec![Piece::new(line.trim_end_matches('\n'), look.code(CodeRole::Plain))];
        if line.len() > LONGEST_LINE {
            return plain();
        }
        let Ok(operations) = self.parse.parse_line(line, &syntax.0.grammars) else { return plain() };
        HighlightIterator::new(&mut self.highlight, &operations, line, highlighter)
            .map(|(style, text)| Piece::new(text.trim_end_matches('\n'), role_style(style, look)))
            .filter(|piece| !piece.text.is_empty())
            .collect()
    }
}

fn role_style(style: syntect::highlighting::Style, look: &Look) -> Style {
    look.code(CodeRole::from_number(style.foreground.r))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "// greets\nfn main() {\n    let x = \"hi\";\n}\n";

    #[test]
    fn code_that_grows_looks_as_if_it_had_come_at_once() {
        let look = Look::dark();
        let syntax = Some(Syntax::load());
        let whole = CodeBlock::default().lines(syntax, &look, "rust", CODE);
        let mut growing = CodeBlock::default();
        for end in (0..=CODE.len()).step_by(3) {
            growing.lines(syntax, &look, "rust", &CODE[..end]);
        }
        assert_eq!(growing.lines(syntax, &look, "rust", CODE), whole);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[0][0].style, look.code(CodeRole::Comment));
    }

    #[test]
    fn an_unknown_language_is_shown_plain() {
        let look = Look::dark();
        let lines = CodeBlock::default().lines(Some(Syntax::load()), &look, "no-such", "a\nb");
        assert_eq!(
            lines,
            [[Piece::new("a", look.code(CodeRole::Plain))], [Piece::new("b", look.code(CodeRole::Plain))]]
        );
    }
}
