//! Passwords and tokens in URLs.

use crate::Secret;
use crate::text::{at, part, skip, skip_back};
use crate::value::{is_placeholder, is_token_body, looks_random};

/// The longest user, password and host that are examined.
const MAX_USERINFO: usize = 1024;

/// What is done with passwords such as `password`, which documentation shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Examples {
    /// They are no secrets.
    Ignore,
    /// They may be in use.
    Find,
}

/// Finds the password in `scheme://user:password@host`, and a token in the place of the user. `start` and `end` are those
/// of `://`.
pub fn find_userinfo(text: &str, start: usize, end: usize, examples: Examples, found: &mut Vec<Secret>) {
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if skip_back(text, start, 24, is_scheme) == start {
        return;
    }
    let is_url =
        |byte: u8| !byte.is_ascii_whitespace() && !byte.is_ascii_control() && !b"\"'`<>\\".contains(&byte);
    let limit = skip(text, end, is_url).min(end + MAX_USERINFO);
    let authority_end = skip(text, end, |byte| is_url(byte) && !b"/?#".contains(&byte)).min(limit);
    let authority = part(text, end, authority_end);
    // A password may contain a slash, `?` or `#` that was not encoded: `user:pa/ss@host`. What precedes it is then not a
    // host, because its port is not a number.
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let continues = host.split_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && !port.ends_with(']') && !port.bytes().all(|byte| byte.is_ascii_digit())
    });
    let rest = part(text, authority_end, limit);
    let after_slash = rest.find('@').filter(|at| {
        let host = rest.get(at + 1..).unwrap_or_default();
        continues && host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
    });
    let userinfo_end = match (after_slash, authority.rfind('@')) {
        (Some(at), _) => authority_end + at,
        (None, Some(at)) => end + at,
        (None, None) => return,
    };
    let userinfo = part(text, end, userinfo_end);
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let password_start = userinfo_end - password.len();
    if !password.is_empty() && (examples == Examples::Find || !is_example(password)) {
        found.push(Secret { start: password_start, end: userinfo_end, label: "password" });
    }
    // https://TOKEN@github.com, https://TOKEN:x-oauth-basic@github.com. The key in the address of Sentry is public.
    let is_sentry = part(text, userinfo_end, limit).contains("sentry");
    if user.len() >= 16 && looks_random(user) && !is_sentry {
        found.push(Secret { start: end, end: end + user.len(), label: "token" });
    }
}

/// Whether this stands for a password in the documentation of a URL.
fn is_example(password: &str) -> bool {
    const EXAMPLES: &[&str] = &[
        "password",
        "pass",
        "pwd",
        "passwd",
        "secret",
        "token",
        "pw",
        "x-oauth-basic",
        "x",
        "mypassword",
        "key",
        "port",
    ];
    let lower = password.to_ascii_lowercase();
    EXAMPLES.contains(&lower.as_str())
        || (is_placeholder(password)
            && !password
                .bytes()
                .any(|byte| byte.is_ascii_digit() && password.len() < 8 && !lower.contains("pass")))
}

/// Finds the password in `jdbc:oracle:thin:user/password@host`. `end` is the position after the last colon.
pub fn find_oracle_password(text: &str, end: usize, found: &mut Vec<Secret>) {
    let user_end = skip(text, end, |byte| byte.is_ascii_alphanumeric() || b"_.$#-".contains(&byte));
    if at(text, user_end) != b'/' {
        return;
    }
    let start = user_end + 1;
    let limit = skip(text, start, |byte| !byte.is_ascii_whitespace() && !b"\"'\\".contains(&byte))
        .min(start + MAX_USERINFO);
    if let Some(length) = part(text, start, limit).find('@')
        && !is_example(part(text, start, start + length))
    {
        found.push(Secret { start, end: start + length, label: "password" });
    }
}

/// Finds the secret part of a webhook's URL, which starts at `end` and is its path.
pub fn find_webhook(text: &str, end: usize, found: &mut Vec<Secret>) {
    let path_end = skip(text, end, |byte| byte.is_ascii_alphanumeric() || b"_-/@%".contains(&byte))
        .min(end + MAX_USERINFO);
    let path = part(text, end, path_end);
    let longest = path.split('/').max_by_key(|segment| segment.len()).unwrap_or_default();
    if longest.len() >= 16 && is_token_body(longest) {
        // The first segments of most webhooks are ids, but together with the rest they allow access.
        found.push(Secret { start: end, end: path_end, label: "webhook" });
    }
}
