//! Tokens that have a format of their own.

use crate::Secret;
use crate::formats::{Charset, Format};
use crate::text::{REACH, at, before, part, skip, skip_all, skip_back, starts_word};
use crate::value::{has_two_digits, is_placeholder, is_token_body, looks_random};

/// The longest private key that is masked as one.
const MAX_PRIVATE_KEY: usize = 64 << 10;

/// Whether the label is that of a name or place, not that of a format.
pub fn is_generic_label(label: &str) -> bool {
    ["password", "passphrase", "secret", "token", "key", "cookie", "signature", "API key"].contains(&label)
}

/// Finds a token whose prefix starts at `start`.
pub fn find_format(text: &str, start: usize, format: &Format, found: &mut Vec<Secret>) {
    let body = start + format.prefix.len();
    // After a hyphen or a point, this is a part of something longer, such as the name of a file.
    if matches!(before(text, start), b'-' | b'.' | b'_') {
        return find_format_in_name(text, start, format, found);
    }
    if !starts_word(text, start) {
        return;
    }
    let mut end = skip(text, body, |byte| format.charset.contains(byte));
    // A point or a hyphen ends a sentence or a line, not a token.
    end = skip_back(text, end, 8, |byte| matches!(byte, b'.' | b'-')).max(body);
    let length = end - body;
    if length < format.min || length > format.max {
        return;
    }
    let value = part(text, body, end);
    // Capitals and digits of a fixed length need no further sign.
    let is_fixed = format.charset == Charset::Upper && format.max <= format.min + 1 && !is_placeholder(value);
    if is_fixed || is_body(value) {
        let end =
            if length < REACH { end } else { skip_all(text, end, |byte| format.charset.contains(byte)) };
        found.push(Secret { start, end, label: format.label });
    }
}

/// Finds a token within a name, such as `backup-ghp_...`. The prefix must be one that no other name contains, and only
/// a short part is examined, because a name can contain many prefixes.
fn find_format_in_name(text: &str, start: usize, format: &Format, found: &mut Vec<Secret>) {
    const WORDS: [&str; 10] =
        ["key-", "key_", "sess-", "live_", "test_", "secret_", "mint_", "pat-", "signkey-", "v1.0-"];
    const MAX_BODY: usize = 200;
    if format.prefix.len() < 4 || WORDS.iter().any(|word| format.prefix.starts_with(word)) {
        return;
    }
    let body = start + format.prefix.len();
    let near = text.as_bytes().get(body..).unwrap_or_default();
    let near = near.get(..MAX_BODY).unwrap_or(near);
    let length = near.iter().position(|byte| !format.charset.contains(*byte)).unwrap_or(near.len());
    let value = part(text, body, body + length);
    if length >= format.min.max(16) && length <= format.max && has_two_digits(value) && looks_random(value) {
        let end = skip_all(text, body + length, |byte| format.charset.contains(byte));
        found.push(Secret { start, end, label: format.label });
    }
}

fn is_body(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let is_hex =
        digits * 4 >= value.len() && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_token_body(value) || (is_hex && !is_placeholder(value))
}

/// Finds a JSON Web Token, which starts with the base64 of `{"`.
pub fn find_json_web_token(text: &str, start: usize, found: &mut Vec<Secret>) {
    if !starts_word(text, start) || matches!(before(text, start), b'-' | b'.') {
        return;
    }
    let end = skip_all(text, start, |byte| Charset::Base64Url.contains(byte) || byte == b'.');
    let mut segments = part(text, start, end).trim_end_matches('.').split('.');
    let (Some(header), Some(payload), Some(signature)) = (segments.next(), segments.next(), segments.next())
    else {
        return;
    };
    let rest: Vec<&str> = segments.collect();
    let is_signed = payload.starts_with("eyJ") && signature.len() >= 10;
    let is_encrypted = rest.len() == 2;
    if header.len() >= 10 && (is_signed || is_encrypted) {
        let length = header.len()
            + 1
            + payload.len()
            + 1
            + signature.len()
            + if is_signed { 0 } else { rest.iter().map(|segment| segment.len() + 1).sum() };
        found.push(Secret { start, end: start + length, label: "JSON Web Token" });
    }
}

/// Finds the body of a private key in PEM, whose header starts at `start`.
pub fn find_private_key(text: &str, start: usize, found: &mut Vec<Secret>) {
    let header = part(text, start, text.len().min(start + 80));
    let Some(name_end) = header.get(5..).and_then(|rest| rest.find("-----")) else { return };
    let name = header.get(..5 + name_end).unwrap_or_default();
    if !name.contains("PRIVATE KEY") || name.contains('\n') {
        return;
    }
    let body = start + 5 + name_end + 5;
    let limit = (start + MAX_PRIVATE_KEY).min(text.len());
    let limit = (0..4)
        .map(|back| limit.saturating_sub(back))
        .find(|index| text.is_char_boundary(*index))
        .unwrap_or(0);
    let end = match part(text, body, limit).find("-----END") {
        Some(length) => body + length,
        // The end is missing: all that can belong to a key.
        None => skip_all(text, body, |byte| {
            Charset::Base64.contains(byte)
                || byte.is_ascii_whitespace()
                || byte == b'\\'
                || byte == b':'
                || byte == b','
        }),
    };
    // Leave line breaks, also escaped ones, and the marks of a diff or a quote.
    let (mut first, mut last) = (body, end);
    loop {
        let next =
            skip(text, first, |byte| byte.is_ascii_whitespace() || b"\\\"'+>,".contains(&byte)).min(last);
        let is_escape = before(text, next) == b'\\' && matches!(at(text, next), b'n' | b'r');
        first = if is_escape { next + 1 } else { next };
        if !is_escape {
            break;
        }
    }
    loop {
        let next =
            skip_back(text, last, 512, |byte| byte.is_ascii_whitespace() || b"\\\"'+>,-".contains(&byte))
                .max(first);
        let is_escape =
            matches!(before(text, next), b'n' | b'r') && before(text, next.saturating_sub(1)) == b'\\';
        last = if is_escape { next - 2 } else { next };
        if !is_escape || last <= first {
            break;
        }
    }
    if last.saturating_sub(first) >= 16 && !is_placeholder(part(text, first, last.min(first + 40))) {
        found.push(Secret { start: first, end: last, label: "private key" });
    }
}

/// Finds the private part of a PuTTY key, after `Private-Lines:`.
pub fn find_putty_key(text: &str, end: usize, found: &mut Vec<Secret>) {
    let number = skip(text, end, |byte| byte == b' ' || byte.is_ascii_digit());
    let start = skip(text, number, |byte| byte.is_ascii_whitespace());
    let mac = part(text, start, text.len().min(start + 16384)).find("Private-MAC");
    let last = mac.map_or_else(
        || skip(text, start, |byte| Charset::Base64.contains(byte) || byte.is_ascii_whitespace()),
        |length| start + length,
    );
    let last = skip_back(text, last, 8, |byte| byte.is_ascii_whitespace()).max(start);
    if last - start >= 40 {
        found.push(Secret { start, end: last, label: "private key" });
    }
}

/// Finds a token of a Telegram bot: digits, `:AA`, and 33 characters. `start` is the position of the colon.
pub fn find_telegram_token(text: &str, start: usize, found: &mut Vec<Secret>) {
    let first = skip_back(text, start, 12, |byte| byte.is_ascii_digit());
    let end = skip(text, start + 1, |byte| Charset::Base64Url.contains(byte));
    let is_bot_url = part(text, first.saturating_sub(3), first) == "bot";
    if (8..=11).contains(&(start - first))
        && (32..=40).contains(&(end - start - 1))
        && (is_bot_url || starts_word(text, first))
    {
        found.push(Secret { start: first, end, label: "Telegram token" });
    }
}

/// Finds a token of a Discord bot: an id in base64, and two parts of fixed length.
pub fn find_discord_token(text: &str, start: usize, found: &mut Vec<Secret>) {
    if !starts_word(text, start) || matches!(before(text, start), b'-' | b'.') {
        return;
    }
    let end = skip(text, start, |byte| Charset::Base64Url.contains(byte) || byte == b'.');
    let value = part(text, start, end).trim_end_matches('.');
    let lengths: Vec<usize> = value.split('.').map(str::len).collect();
    if let [id, time, code] = lengths.as_slice()
        && (23..=28).contains(id)
        && *time == 6
        && (27..=40).contains(code)
    {
        found.push(Secret { start, end: start + value.len(), label: "Discord token" });
    }
}

/// Finds a client secret of Azure: three characters, a digit, `Q~` and 31 to 34 more. `start` is the position of `Q~`.
pub fn find_azure_secret(text: &str, start: usize, found: &mut Vec<Secret>) {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_~.-".contains(&byte);
    let Some(first) = start.checked_sub(4) else { return };
    let end = skip(text, start + 2, is_part);
    let is_format = part(text, first, start).bytes().all(is_part)
        && (!is_part(before(text, first)) || starts_word(text, first));
    let end = skip_back(text, end, 4, |byte| byte == b'.').max(start);
    if is_format && (31..=36).contains(&(end - start - 2)) {
        found.push(Secret { start: first, end, label: "Azure secret" });
    }
}

/// Finds a token of Azure DevOps: 84 letters and digits, of which `AZDO` are the 77th to the 80th. `start` is their position.
pub fn find_azure_devops_token(text: &str, start: usize, found: &mut Vec<Secret>) {
    let first = skip_back(text, start, 77, |byte| byte.is_ascii_alphanumeric());
    let end = skip(text, start, |byte| byte.is_ascii_alphanumeric());
    if start - first == 76 && (8..=9).contains(&(end - start)) {
        found.push(Secret { start: first, end, label: "Azure DevOps token" });
    }
}

/// Finds a token that contains a mark in its middle, such as `.atlasv1.`.
pub fn find_around(text: &str, start: usize, label: &'static str, found: &mut Vec<Secret>) {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let first = skip_back(text, start, 100, is_part);
    let end = skip(text, start, |byte| is_part(byte) || byte == b':').min(start + 200);
    let value = part(text, first, end).trim_end_matches('.');
    if (36..=200).contains(&value.len())
        && !is_placeholder(value)
        && looks_random(&value.replace(['.', ':'], ""))
    {
        found.push(Secret { start: first, end: first + value.len(), label });
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_token_within_a_name_is_found() {
        let token = ["ghp", "_", "Zq8vT2mN4kR7wX1yB5cD9fG3hJ6lP0sAuEiO"].concat();
        for name in ["backup-", "x.", "tool_", "a/b-c_"] {
            let text = format!("{name}{token}.txt");
            assert_eq!(crate::mask(&text), format!("{name}[redacted: GitHub token].txt"));
        }
        for text in [
            "cache-key-3f2a5c6d7e8f9a0b1c2d3e4f5a6b7c8d",
            "unit-test_3f2a5c6d7e8f9a0b1c2d3e4f5a6b7c8d9e0f",
            "scikit-sk-learn-contrib-lightning-2024-01",
            "a-npm_config_registry_url_for_builds_2",
        ] {
            assert_eq!(crate::mask(text), text);
        }
    }
}
