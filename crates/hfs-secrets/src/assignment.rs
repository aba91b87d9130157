//! Values that are assigned to a name: `DB_PASSWORD=...`, `"apiKey": "..."`, `--token ...`, `<password>...</password>`,
//! `Authorization: Bearer ...`, `the password is ...`.

use base64::Engine;

use crate::Secret;
use crate::formats::Charset;
use crate::name::{MAX_NAME, NameKind, is_cookies, judge};
use crate::text::{
    REACH, at, before, is_blank, is_word, line_start, part, skip, skip_all, skip_back, starts_word,
};
use crate::value::{
    has_two_digits, is_code, is_expression, is_number_or_version, is_placeholder, is_reference,
    is_wordy_identifier, looks_random,
};

/// Longer values are examined up to here.
const MAX_VALUE: usize = REACH;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Between quotes, or between the tags of an element.
    Quoted,
    /// Without quotes, and all of the rest of the line.
    Line,
    /// Without quotes, within a line.
    Bare,
    /// In a sentence.
    Prose,
}

#[derive(Debug, Clone, Copy)]
struct Value {
    start: usize,
    end: usize,
    form: Form,
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Finds the value that is assigned to the name around an anchor such as `passw`.
pub fn find_assigned(text: &str, start: usize, end: usize, found: &mut Vec<Secret>) {
    let is_name = is_name_byte;
    // Some anchors begin with what precedes the name.
    let start = skip(text, start, |byte| matches!(byte, b'&' | b'?'));
    let name_end = skip(text, end, is_name);
    // A point ends a sentence, or a name is followed by a method.
    let name_end = skip_back(text, name_end, MAX_NAME, |byte| byte == b'.').max(end);
    let Some(value) = value_after(text, start, name_end) else { return };
    let name_start = skip_back(text, start, MAX_NAME, is_name);
    // In `\nPASSWORD` and `\u0026password`, the beginning belongs to an escape sequence.
    let name_start = match part(text, name_start.saturating_sub(1), start).as_bytes() {
        [b'\\', b'u', _, _, _, _, ..] => name_start + 5,
        [b'\\', _, ..] => name_start + 1,
        _ => name_start,
    };
    // A part of an identifier such as arn:aws:secretsmanager:...:secret:name.
    if before(text, name_start) == b':' && at(text, name_end) == b':' && value.start == name_end + 1 {
        return;
    }
    // The user in a URL, whose password is found as such.
    if at(text, name_end) == b':' && part(text, name_start.saturating_sub(3), name_start) == "://" {
        return;
    }
    let name = part(text, name_start, name_end).trim_start_matches(['-', '.']);
    if is_cookies(name) {
        return find_cookies(text, value.start, value.end, found);
    }
    let Some(kind) = judge(name) else { return };
    // Only the query of a URL has signatures that allow access.
    let is_query = matches!(before(text, name_start), b'&' | b'?' | b';')
        || part(text, name_start.saturating_sub(5), name_start).starts_with("u0026");
    if kind != NameKind::Signature || (is_query && value.form != Form::Quoted) {
        push_value(text, kind, name, value, found);
    }
}

/// Finds the value that is assigned to a name in another script, such as `пароль`.
pub fn find_assigned_to(text: &str, start: usize, end: usize, found: &mut Vec<Secret>) {
    if let Some(value) = value_after(text, start, end) {
        push_value(text, NameKind::Password, "password", value, found);
    }
}

/// Finds the password after words such as `IDENTIFIED BY`, in quotes.
pub fn find_quoted_password(text: &str, end: usize, found: &mut Vec<Secret>) {
    let index = skip(text, end, is_blank);
    if at(text, index) == b'`' {
        return;
    }
    if let Some(value) = quoted_at(text, index) {
        // In prose, something is identified by a word.
        let content = part(text, value.start, value.end);
        if content.bytes().all(|byte| byte.is_ascii_lowercase()) && before(text, end).is_ascii_lowercase() {
            return;
        }
        push_value(text, NameKind::Password, "password", value, found);
    }
}

/// Finds the password in a call or a list with a user's name and a password, such as `auth=("jane", "...")`. `end` is the
/// position after the opening bracket.
pub fn find_login_pair(text: &str, end: usize, found: &mut Vec<Secret>) {
    let is_space = |byte: u8| byte.is_ascii_whitespace();
    let Some(user) = quoted_at(text, skip(text, end, is_space)) else { return };
    let comma = skip(text, skip_quote(text, user.end), is_space);
    if at(text, comma) == b','
        && let Some(password) = quoted_at(text, skip(text, comma + 1, is_space))
    {
        push_value(text, NameKind::Password, "password", password, found);
    }
}

fn push_value(text: &str, kind: NameKind, name: &str, value: Value, found: &mut Vec<Secret>) {
    let content = part(text, value.start, value.end);
    if is_secret_value(kind, name, content, value.form) {
        let end = if content.len() < MAX_VALUE {
            value.end
        } else {
            skip_all(text, value.end, |byte| Charset::Base64.contains(byte))
        };
        found.push(Secret { start: value.start, end, label: kind.label() });
    }
}

/// The whole value of a field, if it is a secret. Surrounding blanks and the scheme of an `Authorization` are not part of it.
pub fn whole_value(kind: NameKind, value: &str) -> Option<Secret> {
    let trimmed = value.trim();
    if trimmed.contains('\n') || trimmed.len() > MAX_VALUE || kind == NameKind::Signature {
        return None;
    }
    let start = value.len() - value.trim_start().len();
    let scheme = scheme_length(trimmed);
    let content = trimmed.get(scheme..)?;
    is_secret_value(kind, kind.label(), content, Form::Quoted).then_some(Secret {
        start: start + scheme,
        end: start + trimmed.len(),
        label: kind.label(),
    })
}

/// The position of the value that is assigned to the name that ends at `index`.
fn value_after(text: &str, anchor: usize, index: usize) -> Option<Value> {
    let name_byte_before = || before(text, skip_back(text, anchor, MAX_NAME, is_name_byte));
    // The quote that ends the name, and the bracket of `config["password"]`.
    let after_quote = skip_quote(text, index);
    let is_quoted = after_quote > index;
    let after_name = if at(text, after_quote) == b']' { after_quote + 1 } else { after_quote };
    let blank = skip(text, after_name, is_blank);
    let byte = at(text, blank);
    match byte {
        b'=' | b':' => {
            // :=, ==, =>, ===
            let operator_end = skip(text, blank, |byte| matches!(byte, b'=' | b':' | b'>')).min(blank + 3);
            let is_comparison = part(text, blank, operator_end).starts_with("==");
            if part(text, blank, operator_end).starts_with("::") {
                return None;
            }
            let value = skip(text, operator_end, is_blank);
            if byte == b':' && operator_end == blank + 1 && !is_quoted {
                if let Some(annotated) = after_type(text, value) {
                    return quoted_at(text, annotated);
                }
                if let Some(block) = block_scalar(text, value) {
                    return Some(block);
                }
            }
            // A value on the next line must be quoted, as in formatted JSON.
            if matches!(at(text, value), b'\n' | b'\r') {
                return if is_quoted {
                    quoted_at(text, skip(text, value, |byte| byte.is_ascii_whitespace()))
                } else {
                    None
                };
            }
            let spaced = value > operator_end;
            quoted_at(text, value).or_else(|| {
                let bare = bare_at(text, anchor, value, byte == b'=' && spaced).filter(|_| !is_comparison)?;
                // The type of a declaration: `const TOKEN: Type = ...`.
                let next = skip(text, bare.end, is_blank);
                let is_assigned = at(text, next) == b'=' && at(text, next + 1) != b'=' && next > bare.end;
                (byte != b':' || !is_assigned).then_some(bare)
            })
        }
        // JSON in which a program escaped the equals sign.
        b'\\' if part(text, blank, blank + 6).eq_ignore_ascii_case("\\u003d") => {
            quoted_at(text, blank + 6).or_else(|| bare_at(text, anchor, blank + 6, false))
        }
        // setenv("PASSWORD", "..."), and "name": "PASSWORD", "value": "..."
        b',' | b'\n' | b'\r' | b'\\' => {
            let next = skip_separators(text, blank);
            let key = skip_quote(text, next);
            if let Some(after) = strip_value_label(text, key) {
                return quoted_at(text, after).or_else(|| bare_at(text, next, after, false));
            }
            // Not the next of several strings in a list.
            let quote = skip_back(text, anchor, MAX_NAME, is_name_byte);
            let open = skip_back(text, quote, 8, |byte| matches!(byte, b'"' | b'\'' | b'\\'));
            let is_call = is_quoted && byte == b',' && before(text, open) == b'(';
            if is_call { quoted_at(text, next) } else { None }
        }
        b'>' => {
            // <password>...</password>, <string name="api_key">...</string>
            if at(text, blank + 1) == b'=' {
                return None;
            }
            let is_element = is_quoted || name_byte_before() == b'<';
            let end = skip(text, blank + 1, |byte| byte != b'<' && byte != b'\n');
            (is_element && at(text, end) == b'<').then_some(Value {
                start: blank + 1,
                end,
                form: Form::Quoted,
            })
        }
        // key="Password" value="..."
        b'v' | b'V' if is_quoted => strip_value_label(text, blank).and_then(|after| quoted_at(text, after)),
        // <password encrypted="false">...</password>
        _ if blank > after_name && name_byte_before() == b'<' => {
            let tag_end = skip(text, blank, |byte| !b"><\n".contains(&byte)).min(blank + 200);
            let end = skip(text, tag_end + 1, |byte| byte != b'<' && byte != b'\n');
            let is_element = at(text, tag_end) == b'>' && at(text, end) == b'<';
            is_element.then_some(Value { start: tag_end + 1, end, form: Form::Quoted })
        }
        // setPassword("...")
        b'(' if blank == after_name && !is_quoted => {
            quoted_at(text, blank + 1).map(|value| Value { form: Form::Prose, ..value })
        }
        b'|' => {
            // A cell of a table.
            let value = skip(text, blank + 1, is_blank);
            let end = skip(text, value, |byte| byte != b'|' && byte != b'\n');
            let end = skip_back(text, end, 64, is_blank).max(value);
            let is_cell =
                at(text, skip(text, end, is_blank)) == b'|' && !part(text, value, end).contains(' ');
            is_cell.then_some(Value { start: value, end, form: Form::Prose })
        }
        _ if blank > after_name && !is_quoted => {
            if name_byte_before() == b'-'
                || at(text, skip_back(text, anchor, MAX_NAME, |byte| is_word(byte) || byte == b'-')) == b'-'
            {
                // --password VALUE
                return quoted_at(text, blank).or_else(|| {
                    let value = bare_at(text, anchor, blank, true)?;
                    let is_data = has_two_digits(part(text, value.start, value.end));
                    Some(if is_data { Value { form: Form::Line, ..value } } else { value })
                });
            }
            after_words(text, anchor, index, blank)
        }
        _ => None,
    }
}

/// The value after a name without punctuation: in a sentence, in SQL, in .netrc.
fn after_words(text: &str, anchor: usize, index: usize, blank: usize) -> Option<Value> {
    for word in ["is ", "was ", "is: ", "= ", "to ", "ist ", "lautet ", "es ", "est "] {
        if part(text, blank, blank + word.len()).eq_ignore_ascii_case(word) {
            let value = skip(text, blank + word.len(), is_blank);
            let value = quoted_at(text, value).or_else(|| bare_at(text, anchor, value, true))?;
            return Some(Value { form: Form::Prose, ..value });
        }
    }
    // The arguments of a program that sets it: `aws configure set NAME VALUE`, `setx NAME "VALUE"`.
    let name_start = skip_back(text, anchor, MAX_NAME, is_name_byte);
    let before_name = part(text, line_start(text, name_start), name_start).trim_end();
    if [" set", "setx"].iter().any(|set| before_name.ends_with(set)) {
        let body = if part(text, blank, blank + 7) == "--body " { blank + 7 } else { blank };
        let value = quoted_at(text, body).or_else(|| bare_at(text, anchor, body, true))?;
        return Some(Value { form: Form::Prose, ..value });
    }
    // A line of Redis' configuration.
    if part(text, name_start, index) == "requirepass" && before_name.is_empty() {
        return quoted_at(text, blank).or_else(|| bare_at(text, anchor, blank, false));
    }
    let name = part(text, anchor, index);
    if name.eq_ignore_ascii_case("password") || name.eq_ignore_ascii_case("passwd") {
        let line = part(text, line_start(text, anchor), anchor);
        if line.contains("login ") || line.contains("machine ") || line.trim().is_empty() {
            let value = bare_at(text, anchor, blank, true)?;
            let form = if line.trim().is_empty() { Form::Prose } else { Form::Bare };
            return Some(Value { form, ..value });
        }
        return quoted_at(text, blank);
    }
    None
}

/// The position after `value=`, `value:` or `"value":`.
fn strip_value_label(text: &str, index: usize) -> Option<usize> {
    if !part(text, index, index + 5).eq_ignore_ascii_case("value") {
        return None;
    }
    let separator = skip(text, skip_quote(text, index + 5), is_blank);
    matches!(at(text, separator), b':' | b'=').then(|| skip(text, separator + 1, is_blank))
}

/// Skips a comma, blanks, line breaks and escaped line breaks.
fn skip_separators(text: &str, mut index: usize) -> usize {
    loop {
        let next = skip(text, index, |byte| byte == b',' || byte.is_ascii_whitespace());
        let escaped = at(text, next) == b'\\' && matches!(at(text, next + 1), b'n' | b'r' | b't');
        index = if escaped { next + 2 } else { return next };
    }
}

/// The position after an optional quote, which may be escaped.
fn skip_quote(text: &str, index: usize) -> usize {
    let quote = skip(text, index, |byte| byte == b'\\');
    if matches!(at(text, quote), b'"' | b'\'' | b'`') { quote + 1 } else { index }
}

/// The position of the value after the type of a declaration: `password: str = "..."`.
fn after_type(text: &str, index: usize) -> Option<usize> {
    if !(at(text, index).is_ascii_alphabetic() || at(text, index) == b'&') {
        return None;
    }
    let end = skip(text, index, |byte| byte.is_ascii_alphanumeric() || b"_&'<>[]|. ".contains(&byte))
        .min(index + 40);
    let assigned = at(text, end) == b'=' && at(text, end + 1) == b' ' && before(text, end) == b' ';
    assigned.then(|| skip(text, end + 1, is_blank))
}

/// The first line of a YAML block: `password: |` and an indented line.
fn block_scalar(text: &str, index: usize) -> Option<Value> {
    if !matches!(at(text, index), b'|' | b'>') {
        return None;
    }
    let end = skip(text, index + 1, |byte| matches!(byte, b'-' | b'+') || is_blank(byte));
    if !matches!(at(text, end), b'\n' | b'\r') {
        return None;
    }
    let start = skip(text, end, |byte| byte.is_ascii_whitespace());
    let line_end = skip(text, start, |byte| !byte.is_ascii_whitespace());
    Some(Value { start, end: line_end, form: Form::Line })
}

/// The length of the name of an authentication scheme and the blank after it.
fn scheme_length(value: &str) -> usize {
    const SCHEMES: [&str; 11] = [
        "bearer ",
        "basic ",
        "token ",
        "apikey ",
        "bot ",
        "key ",
        "api-key ",
        "splunk ",
        "ssws ",
        "oauth ",
        "geniekey ",
    ];
    let start =
        |scheme: &&&str| value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    SCHEMES.iter().find(start).map_or(0, |scheme| scheme.len())
}

/// The value in the quotes that start at `index`, which may be escaped.
fn quoted_at(text: &str, index: usize) -> Option<Value> {
    // The prefix of a literal: b"", r"", f"", @"", N''.
    let index = match at(text, index) {
        b'b' | b'r' | b'f' | b'u' | b'@' | b'L' | b'N' if matches!(at(text, index + 1), b'"' | b'\'') => {
            index + 1
        }
        _ => index,
    };
    let quote_at = skip(text, index, |byte| byte == b'\\');
    let quote = at(text, quote_at);
    let escapes = quote_at - index;
    if !matches!(quote, b'"' | b'\'' | b'`') || escapes > 15 {
        return None;
    }
    let start = quote_at + 1;
    let limit = text.len().min(start + MAX_VALUE);
    let mut end = start;
    while end < limit {
        let byte = at(text, end);
        if byte == b'\n' {
            break;
        }
        if byte == quote {
            let slashes = end - skip_back(text, end, 32, |byte| byte == b'\\').max(start);
            if slashes == escapes || (escapes == 0 && slashes % 2 == 0) {
                let end = end - if escapes == 0 { 0 } else { slashes };
                return Some(trim_scheme(text, Value { start, end, form: Form::Quoted }));
            }
            if slashes < escapes {
                break;
            }
        }
        end += 1;
    }
    // The closing quote is missing: the output was cut.
    let end =
        skip(text, start, |byte| !byte.is_ascii_whitespace() && byte != b'"' && byte != b'\\').min(limit);
    Some(trim_scheme(text, Value { start, end, form: Form::Quoted }))
}

fn trim_scheme(text: &str, value: Value) -> Value {
    Value { start: value.start + scheme_length(part(text, value.start, value.end)), ..value }
}

/// The value without quotes that starts at `index`.
fn bare_at(text: &str, anchor: usize, index: usize, is_spaced: bool) -> Option<Value> {
    let rest = part(text, index, text.len().min(index + 16));
    let index = index + scheme_length(rest);
    let bare_end = |soft: &[u8]| {
        let mut end = index;
        loop {
            end = skip(text, end, |byte| {
                !byte.is_ascii_whitespace()
                    && !byte.is_ascii_control()
                    && !b"\"'`\\".contains(&byte)
                    && !soft.contains(&byte)
            });
            // An escaped slash belongs to the value, and a character such as `&` before another that is no name.
            let is_escaped =
                at(text, end) == b'\\' && matches!(at(text, end + 1), b'/' | b'$' | b'!' | b'&' | b'@');
            let is_inner = matches!(at(text, end), b'&' | b'|' | b'<' | b'>')
                && end > index
                && is_word(at(text, end + 1))
                && next_assignment(part(text, end, text.len().min(end + 40))) != Some(0);
            let is_value = is_escaped || is_inner;
            if !is_value || end > index + MAX_VALUE {
                return end.min(index + MAX_VALUE);
            }
            end += 2;
        }
    };
    let short = bare_end(b",;)]}|&<>");
    // Counts are frequent, and passwords of few digits are not found.
    if short <= index
        || (short < index + 5 && part(text, index, short).bytes().all(|byte| byte.is_ascii_digit()))
    {
        return None;
    }
    // A line that consists of the assignment, possibly in a diff or a list, or after `export`.
    let line = part(
        text,
        line_start(text, anchor),
        skip_back(text, anchor, MAX_NAME, |byte| is_word(byte) || b"-.".contains(&byte)),
    );
    let is_start =
        line.bytes().all(|byte| b" \t+->#*:|".contains(&byte) || byte.is_ascii_digit() || byte >= 0x80)
            || ["export", "set", "ENV", "ARG", "setx", "declare -x", "-e"]
                .iter()
                .any(|word| line.trim().ends_with(word));
    if is_start && !is_spaced_list(text, short) {
        let long = bare_end(b"");
        let next = skip(text, long, is_blank);
        let ends_line = matches!(at(text, next), 0 | b'\n' | b'\r' | b'#')
            || (at(text, long) == b'\\' && matches!(at(text, long + 1), b'n' | b'r' | b't' | b'"'))
            || at(text, long) == b'"';
        let long = match next_assignment(part(text, index, long)) {
            Some(length) => index + length,
            None => long,
        };
        if ends_line {
            let end = trim_end(text, index, long);
            return (end > index).then_some(Value { start: index, end, form: Form::Line });
        }
    }
    let end = trim_end(text, index, short);
    // In a query, a connection string or a list of settings, no program follows.
    let next_name = skip(text, short, |byte| byte == b' ');
    let next_end = skip(text, next_name, |byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_list = !is_spaced && next_name == short + 1 && next_end > next_name && at(text, next_end) == b'=';
    let is_data = next_assignment(part(text, short, text.len().min(short + 40))) == Some(0)
        || matches!(before(text, anchor), b'&' | b'?' | b';')
        || (is_list && at(text, next_end + 1) != b'=');
    let form = match (is_data, is_spaced) {
        (true, false) => Form::Line,
        (_, true) => Form::Prose,
        (false, false) => Form::Bare,
    };
    (end > index).then_some(Value { start: index, end, form })
}

/// Whether the value is followed by a comma and more, as in `{a: b, c: d}`.
fn is_spaced_list(text: &str, end: usize) -> bool {
    at(text, end) == b',' && is_blank(at(text, end + 1))
}

/// The position of `;Name=` or `&name=` in a value that is not quoted.
fn next_assignment(value: &str) -> Option<usize> {
    value.char_indices().filter(|(_, c)| matches!(c, ';' | '&')).map(|(index, _)| index).find(|index| {
        let rest = value.get(index + 1..).unwrap_or_default();
        let name = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ')))
            .unwrap_or(rest.len());
        name >= 1 && rest.get(name..).is_some_and(|rest| rest.starts_with('='))
    })
}

/// Leaves punctuation out that ends a sentence or a list.
fn trim_end(text: &str, start: usize, end: usize) -> usize {
    skip_back(text, end, 8, |byte| b".,;:".contains(&byte)).max(start)
}

/// Whether a value that is assigned to a name of this kind is a secret.
fn is_secret_value(kind: NameKind, name: &str, value: &str, form: Form) -> bool {
    if value.len() < 3 || value.len() > MAX_VALUE || is_placeholder(value) || value.contains("[redacted") {
        return false;
    }
    if value.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return is_spaced_secret(kind, value, form);
    }
    let is_environment = !name.bytes().any(|byte| byte.is_ascii_lowercase());
    if form != Form::Quoted && is_expression(value) && !(form == Form::Line && is_environment) {
        return false;
    }
    // A single character in its escaped form.
    if value.starts_with("\\u") && value.len() <= 10 {
        return false;
    }
    let is_chosen =
        kind == NameKind::Password && form == Form::Line && has_two_digits(value) && !value.contains('(');
    if form != Form::Quoted && !is_chosen && is_code(value) && !looks_random(value) {
        return false;
    }
    match kind {
        NameKind::Password | NameKind::Passphrase => is_password(name, value, form),
        NameKind::Secret => {
            let has_digit = value.bytes().any(|byte| byte.is_ascii_digit());
            let has_symbol = value.bytes().any(|byte| !byte.is_ascii_alphanumeric());
            let is_chosen = has_digit && has_symbol && value.len() >= 10 && !is_wordy_identifier(value);
            !is_reference(value) && (looks_random(value) || (is_chosen && !is_number_or_version(value)))
        }
        NameKind::Token => {
            let is_key_like = value.starts_with("sk-") && value.len() >= 7;
            !is_reference(value) && (is_key_like || (looks_random(value) && value.len() >= 12))
        }
        NameKind::Key | NameKind::Signature => {
            let is_hash = value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
            let is_environment = !name.bytes().any(|byte| byte.is_ascii_lowercase());
            let is_plain =
                value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_-~.%".contains(&byte));
            is_plain
                && !is_reference(value)
                && looks_random(value)
                && value.len() >= 20
                && (!is_hash || is_environment || kind == NameKind::Signature)
        }
    }
}

/// Whether a value with blanks is a secret: words of a wallet, or a password in groups of four letters.
fn is_spaced_secret(kind: NameKind, value: &str, form: Form) -> bool {
    if form != Form::Quoted {
        return false;
    }
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    let is_lower = words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()));
    match kind {
        NameKind::Passphrase => is_lower && words.len() >= 4,
        NameKind::Password => {
            let is_grouped = is_lower && words.len() == 4 && words.iter().all(|word| word.len() == 4);
            let joined: String = words.concat();
            (is_grouped || (words.len() <= 3 && value.len() <= 40)) && looks_random(&joined)
        }
        NameKind::Secret | NameKind::Token | NameKind::Key | NameKind::Signature => false,
    }
}

fn is_password(name: &str, value: &str, form: Form) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let letters = value.chars().filter(|c| c.is_alphabetic()).count();
    let symbols = value.chars().count() - digits - letters;
    let is_environment = !name.bytes().any(|byte| byte.is_ascii_lowercase());
    let is_named_pass = name.len() <= 4;
    if value.contains("://")
        || (value.starts_with(['/', '~']) && is_reference(value))
        || value.starts_with("arn:")
    {
        return false;
    }
    if letters == 0 && symbols == 0 {
        // A number: a test result, a length, or a password of digits.
        return digits >= 5 && (form == Form::Quoted || is_environment);
    }
    // A pointer: *mut, &str.
    if value.starts_with(['*', '&']) && value.bytes().skip(1).all(|byte| byte.is_ascii_alphabetic()) {
        return false;
    }
    if digits > 0 && is_number_or_version(value) {
        return false;
    }
    if is_reference(value) && value.contains('.') && is_wordy_identifier(value.trim_start_matches(['.', '/']))
    {
        return false;
    }
    if form == Form::Prose {
        // A sentence continues after the name unless the value cannot be a word.
        let is_mixed =
            digits > 0 || (value.bytes().any(|byte| byte.is_ascii_uppercase()) && looks_random(value));
        let has_inner_symbol = value.chars().skip(1).any(|c| "!@#$%^&*+=?~".contains(c)) && value.len() >= 6;
        return value.len() >= 5
            && (is_mixed || has_inner_symbol)
            && !is_wordy_identifier(value)
            && !is_code(value);
    }
    if is_wordy_identifier(value) {
        // words_like_these are names in a program, but a password in data. Four words joined by hyphens are a passphrase.
        let words = value.split(['-', '_', '.']).count();
        return (digits >= 2 && (form != Form::Bare || is_environment || !value.contains('_')))
            || (form != Form::Bare && value.contains('-') && words >= 4);
    }
    if digits == 0 && symbols == 0 {
        let is_one_case = value.chars().all(char::is_lowercase);
        let is_data = form == Form::Quoted || form == Form::Line || is_environment;
        return is_data && !is_named_pass && value.len() >= 6 && (is_one_case || looks_random(value));
    }
    // Words with punctuation: `required,`, `user's`.
    if digits == 0
        && letters + 1 == value.chars().count()
        && !value.chars().any(|c| "!@#$%^&*+=?~".contains(c))
    {
        return form != Form::Bare && value.len() >= 8 && !is_named_pass;
    }
    value.len() >= 4
}

/// Finds the credentials after a scheme such as `Bearer `.
pub fn find_after_scheme(text: &str, start: usize, end: usize, found: &mut Vec<Secret>) {
    if !starts_word(text, start) {
        return;
    }
    let value_start = skip(text, end, is_blank);
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=:".contains(&byte);
    let value_end =
        trim_end(text, value_start, skip(text, value_start, is_token).min(value_start + MAX_VALUE));
    let value = part(text, value_start, value_end);
    let is_basic = part(text, start, end).eq_ignore_ascii_case("basic ");
    let is_secret = if is_basic {
        is_encoded_login(value)
    } else {
        value.len() >= 16 && looks_random(value) && !is_reference(value)
    };
    if is_secret {
        let label = if is_basic { "password" } else { "token" };
        found.push(Secret { start: value_start, end: value_end, label });
    }
}

/// Whether the value is `user:password` in base64.
fn is_encoded_login(value: &str) -> bool {
    if value.len() < 8 {
        return false;
    }
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    let decoded =
        engine.decode(value.trim_end_matches('=')).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.is_some_and(|login| login.contains(':') && !login.chars().any(char::is_control))
}

/// Finds the values of cookies after `Cookie:` or `Set-Cookie:`.
pub fn find_cookies(text: &str, end: usize, limit: usize, found: &mut Vec<Secret>) {
    let header_end = skip(text, end, |byte| !b"\n\"'\\".contains(&byte));
    let limit = limit.min(header_end).min(end + MAX_VALUE);
    let mut index = end;
    while index < limit {
        let pair_end = skip(text, index, |byte| byte != b';').min(limit);
        let pair = part(text, index, pair_end);
        if let Some((name, value)) = pair.split_once('=') {
            let is_tracker = name.trim().starts_with("_g") || name.trim().starts_with("_fb");
            let start = pair_end - value.len();
            let value = value.trim_end();
            if !is_tracker && value.len() >= 12 && looks_random(value) {
                found.push(Secret { start, end: start + value.len(), label: "cookie" });
            }
        }
        index = pair_end + 1;
    }
}
