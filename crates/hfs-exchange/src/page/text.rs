//! Makes text from messages safe to include in a page.

use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// Options for CommonMark with the extensions that models use.
pub(crate) fn markdown_options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS
}

/// Escapes text for HTML content and quoted attributes.
pub(crate) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // NUL is not allowed in HTML.
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Escapes text for use within a line of Markdown. At the start of a line, the result is not safe.
pub(crate) fn escape_markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut previous = ' ';
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let next = rest.clone().next().unwrap_or(' ');
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            // An underscore inside a word is literal.
            '_' if previous.is_ascii_alphanumeric() && next.is_ascii_alphanumeric() => out.push(c),
            '\\' | '`' | '*' | '_' | '[' | ']' | '>' | '#' | '|' | '~' | '$' | '^' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_whitespace() || c.is_control() => out.push(' '),
            c => out.push(c),
        }
        previous = c;
    }
    out.trim().to_owned()
}

/// Puts the Markdown of a message into a block quote. The message cannot end the quote, and HTML in it
/// becomes text.
pub(crate) fn quote_markdown(text: &str) -> String {
    // Some parsers treat these characters as line breaks, which would end the quote.
    let text =
        text.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}', '\u{b}', '\u{c}'], "\n");
    let text = text.replace('\0', "\u{fffd}");
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.split('\n') {
        out.push_str(if line.is_empty() { ">" } else { "> " });
        out.push_str(line);
        out.push('\n');
    }
    // Tags are replaced after quoting, because the quote marker shifts tab stops and thus can change which
    // text is code.
    neutralize_html(&out)
}

/// Replaces each `<` in HTML by `&lt;`, except in code. This is repeated, because replacing one tag can turn
/// the text after it into HTML. If HTML remains after four rounds, every `<` is replaced.
fn neutralize_html(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..4 {
        let mut positions: Vec<usize> = Vec::new();
        for (event, range) in Parser::new_ext(&text, markdown_options()).into_offset_iter() {
            if let Event::Html(_) | Event::InlineHtml(_) | Event::Start(Tag::HtmlBlock) = event {
                let inside = text.get(range.clone()).unwrap_or_default();
                positions.extend(inside.match_indices('<').map(|(at, _)| range.start + at));
            }
        }
        if positions.is_empty() {
            return text;
        }
        positions.sort_unstable();
        positions.dedup();
        let mut out = String::with_capacity(text.len() + positions.len() * 3);
        let mut copied = 0;
        for position in positions {
            out.push_str(text.get(copied..position).unwrap_or_default());
            out.push_str("&lt;");
            copied = position + 1;
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        text = out;
    }
    text.replace('<', "&lt;")
}

/// A fenced code block with a fence that is longer than any in the text.
pub(crate) fn fence(text: &str, language: &str) -> String {
    let text = text.replace('\0', "\u{fffd}");
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end_matches(['\n', '\r']))
}

/// Renders Markdown as inert HTML: tags are shown as text, only web and mail addresses become links, images
/// become links, and headings get levels below those of the page's own headings.
pub(crate) fn render_markdown(text: &str) -> String {
    let clean = text.replace('\0', "\u{fffd}");
    let mut links: Vec<bool> = Vec::new();
    let mut headings: Vec<HeadingLevel> = Vec::new();
    let events = Parser::new_ext(&clean, markdown_options()).flat_map(|event| match event {
        Event::Html(html) | Event::InlineHtml(html) => [Some(Event::Text(html)), None],
        Event::Start(Tag::HtmlBlock) => [Some(Event::Start(Tag::Paragraph)), None],
        Event::End(TagEnd::HtmlBlock) => [Some(Event::End(TagEnd::Paragraph)), None],
        Event::Start(Tag::Heading { level, .. }) => {
            headings.retain(|above| *above < level);
            headings.push(level);
            let (id, classes, attrs) = (None, Vec::new(), Vec::new());
            [
                Some(Event::Start(Tag::Heading { level: heading_level(headings.len()), id, classes, attrs })),
                None,
            ]
        }
        Event::End(TagEnd::Heading(_)) => {
            [Some(Event::End(TagEnd::Heading(heading_level(headings.len())))), None]
        }
        Event::Start(
            Tag::Link { link_type, dest_url, title, .. } | Tag::Image { link_type, dest_url, title, .. },
        ) => {
            let safe = is_safe_url(&dest_url);
            links.push(safe);
            let id = CowStr::from("");
            [safe.then_some(Event::Start(Tag::Link { link_type, dest_url, title, id })), None]
        }
        Event::End(TagEnd::Link | TagEnd::Image) => {
            [links.pop().unwrap_or(false).then_some(Event::End(TagEnd::Link)), None]
        }
        Event::TaskListMarker(done) => {
            [Some(Event::Text(if done { "☑ ".into() } else { "☐ ".into() })), None]
        }
        // A wide table scrolls in a container that can have the focus, so that the keyboard can scroll it.
        Event::Start(table @ Tag::Table(_)) => {
            [Some(Event::Html("<div class=\"wide\" tabindex=\"0\">\n".into())), Some(Event::Start(table))]
        }
        Event::End(TagEnd::Table) => [Some(Event::End(TagEnd::Table)), Some(Event::Html("</div>\n".into()))],
        other => [Some(other), None],
    });
    let mut out = String::with_capacity(clean.len() * 3 / 2);
    html::push_html(&mut out, events.flatten());
    out
}

/// The HTML level of a heading that has this depth, from 1, among the headings of a message. The page's own
/// headings use levels 1 to 3.
const fn heading_level(depth: usize) -> HeadingLevel {
    match depth {
        0 | 1 => HeadingLevel::H4,
        2 => HeadingLevel::H5,
        _ => HeadingLevel::H6,
    }
}

/// Whether a URL may be the target of a link.
fn is_safe_url(url: &str) -> bool {
    let url = url.trim_start().to_ascii_lowercase();
    ["https://", "http://", "mailto:"].iter().any(|scheme| url.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fence_is_longer_than_any_in_its_text() {
        assert_eq!(fence("a", "json"), "```json\na\n```\n");
        assert_eq!(fence("````\nx\n", ""), "`````\n````\nx\n`````\n");
    }

    #[test]
    fn scripts_in_messages_are_inert() {
        for text in [
            "<script>alert(1)</script>",
            "x <img src=x onerror=alert(1)> y",
            "[a](javascript:alert(1))",
            "[a](  JaVaScRiPt:alert(1))",
            "![a](https://elsewhere/x.png)",
            "<a href='javascript:x'>y</a>",
            "[a](data:text/html;base64,xxxx)",
            "<https://ok> <javascript:alert(1)>",
        ] {
            let html = render_markdown(text).to_lowercase();
            for bad in ["<script", "<img", "href=\"javascript", "href=\"data", "<a href='"] {
                assert!(!html.contains(bad), "{text} became {html}");
            }
        }
        assert!(render_markdown("`a<b` [x](https://y.z)").contains("<a href=\"https://y.z\">x</a>"));
    }

    /// The top-level tags that a Markdown parser sees.
    fn top_level(text: &str) -> Vec<String> {
        let mut depth = 0;
        let mut seen = Vec::new();
        for event in Parser::new_ext(text, markdown_options()) {
            match event {
                Event::Start(tag) => {
                    if depth == 0 {
                        seen.push(format!("{tag:?}"));
                    }
                    depth += 1;
                }
                Event::End(_) => depth -= 1,
                _ => {}
            }
        }
        seen
    }

    fn contains_html(text: &str) -> bool {
        Parser::new_ext(text, markdown_options())
            .any(|event| matches!(event, Event::Html(_) | Event::InlineHtml(_)))
    }

    proptest! {
        #[test]
        fn a_quoted_message_stays_inside_its_quote(
            text in "([#>`~<>/a-c=\\-|:\\[\\]() \n\t*_]|```|~~~|<script>|</details>|<!--|\r){0,60}",
        ) {
            let page = format!("### Before\n\n{}\n### After\n", quote_markdown(&text));
            let seen = top_level(&page);
            prop_assert!(seen.first().is_some_and(|tag| tag.starts_with("Heading")), "{seen:?} in {page}");
            prop_assert!(seen.last().is_some_and(|tag| tag.starts_with("Heading")), "{seen:?} in {page}");
            prop_assert_eq!(seen.len(), 3, "{:?} in {}", seen, page);
            prop_assert!(seen.get(1).is_some_and(|tag| tag.starts_with("BlockQuote")));
            prop_assert!(!contains_html(&page), "{}", page);
        }

        #[test]
        fn escaped_text_is_only_text(
            text in prop_oneof![any::<String>(), "([!-/:-@\\[-`{-~a-c1 \n]){0,20}"],
        ) {
            let page = format!("# x{}\n", escape_markdown(&text));
            prop_assert_eq!(top_level(&page).len(), 1);
            prop_assert!(!contains_html(&page));
            let mut read = String::new();
            for event in Parser::new_ext(&page, markdown_options()) {
                match event {
                    Event::Text(words) => read.push_str(&words),
                    Event::Start(Tag::Heading { .. }) | Event::End(TagEnd::Heading(_)) => {}
                    other => prop_assert!(false, "{:?} in {}", other, page),
                }
            }
            let plain = |c: char| if c.is_whitespace() || c.is_control() { ' ' } else { c };
            let expected: String = format!("x{}", text.chars().map(plain).collect::<String>().trim());
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn rendered_text_contains_no_live_tag(text in "([<>/a-z=\"' \n`\\[\\]()!:&;]|<script>|javascript:|<img ){0,40}") {
            let html = render_markdown(&text);
            for bad in ["<script", "<img", "<iframe", "href=\"javascript:"] {
                prop_assert!(!html.contains(bad), "{}", html);
            }
        }
    }
}
