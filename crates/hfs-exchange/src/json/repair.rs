//! Rewrites a scanned value so that `serde_json` accepts it, changing as little as can be.

use super::scan::{MAX_DEPTH, hex4, is_high_surrogate, is_low_surrogate, low_surrogate_follows};

/// The same value with lone surrogates as U+FFFD, numbers beyond all range as strings, and everything nested
/// deeper than [`MAX_DEPTH`] as a string of its text. `text` must be one scanned value.
pub(crate) fn repair(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let mut depth = 0_usize;
    while let Some(&byte) = bytes.get(at) {
        let from = at;
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                push_string(text.get(from..at).unwrap_or_default(), &mut out);
                continue;
            }
            b'{' | b'[' if depth == MAX_DEPTH => {
                at = container_end(bytes, at);
                push_quoted(text.get(from..at).unwrap_or_default(), &mut out);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' | b'N' | b'I' => {
                while bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)) {
                    at += 1;
                }
                let token = text.get(from..at).unwrap_or_default();
                if token.parse().is_ok_and(f64::is_finite) {
                    out.push_str(token);
                } else {
                    push_quoted(token, &mut out);
                }
                continue;
            }
            _ => {}
        }
        at += 1;
        out.push_str(text.get(from..at).unwrap_or_default());
    }
    out
}

fn push_quoted(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::String(text.to_owned()).to_string());
}

/// Where the string that begins at `start` has ended.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Where the container that begins at `start` has ended.
fn container_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    let mut depth = 0_usize;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Copies a string token, its lone surrogates replaced.
fn push_string(token: &str, out: &mut String) {
    let bytes = token.as_bytes();
    let mut copied = 0;
    let mut at = 0;
    while let Some(offset) = memchr::memchr(b'\\', bytes.get(at..).unwrap_or_default()) {
        at += offset;
        let code = match bytes.get(at + 1) {
            Some(b'u') => hex4(bytes, at + 2),
            _ => None,
        };
        match code {
            Some(code) if is_high_surrogate(code) && low_surrogate_follows(bytes, at + 6) => at += 12,
            Some(code) if is_high_surrogate(code) || is_low_surrogate(code) => {
                out.push_str(token.get(copied..at).unwrap_or_default());
                out.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
            None => at += 2,
        }
    }
    out.push_str(token.get(copied..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_held_changes() {
        for (before, after) in [
            (r#"{"a\"\\":"\ud83d\ude00 \\ud83d"}"#, r#"{"a\"\\":"\ud83d\ude00 \\ud83d"}"#),
            (r#"["\ud83d…","\udc00\ud83d\ud83d\ude00"]"#, r#"["\ufffd…","\ufffd\ufffd\ud83d\ude00"]"#),
            ("[1e999,NaN,-Infinity,-1.5]", r#"["1e999","NaN","-Infinity",-1.5]"#),
        ] {
            assert_eq!(repair(before), after);
        }
    }

    #[test]
    fn what_lies_too_deep_becomes_its_text() {
        let deep = format!("{}\"]\"{}", "[".repeat(5000), "]".repeat(5000));
        let repaired = repair(&deep);
        let mut value: &serde_json::Value = &serde_json::from_str(&repaired).unwrap();
        let mut levels = 0;
        while let Some(inner) = value.as_array().and_then(|items| items.first()) {
            value = inner;
            levels += 1;
        }
        assert_eq!(levels, MAX_DEPTH);
        assert_eq!(value.as_str().unwrap().len(), 2 * (5000 - MAX_DEPTH) + 3);
    }
}
