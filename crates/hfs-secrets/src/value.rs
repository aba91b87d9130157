//! Judges whether a value is a secret or something that stands where one could be: a placeholder, code, a word.

use crate::text::part;

/// Parts of values that stand for a secret. All are long enough not to occur in random text by chance.
const PLACEHOLDER_PARTS: &[&str] = &[
    "example",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "change-this",
    "changethis",
    "your-",
    "your_",
    "yourkey",
    "yourtoken",
    "yourpass",
    "yoursecret",
    "redacted",
    "dummy",
    "insert-",
    "insert_",
    "replace-",
    "replace_",
    "replaceme",
    "....",
    "****",
    "notreal",
    "not-a-real",
    "not-real",
    "not_real",
    "foobar",
    "my-api-key",
    "my_api_key",
    "api_key_here",
    "key-here",
    "token-here",
    "goes-here",
    "_here",
    "-here",
    "\u{2022}\u{2022}",
    "masked",
    "hidden",
    "removed",
    "sanitized",
    "not-set",
    "not_set",
    "secretsmanager",
    "elided",
    "truncated",
];

/// Words that are no passwords: labels, types, states, and what people write where a password belongs.
const WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "pass",
    "pwd",
    "secret",
    "secrets",
    "token",
    "tokens",
    "key",
    "keys",
    "value",
    "string",
    "str",
    "text",
    "bool",
    "boolean",
    "int",
    "integer",
    "number",
    "float",
    "any",
    "unknown",
    "object",
    "array",
    "list",
    "dict",
    "map",
    "null",
    "none",
    "nil",
    "undefined",
    "true",
    "false",
    "required",
    "optional",
    "missing",
    "invalid",
    "incorrect",
    "wrong",
    "expired",
    "empty",
    "varchar",
    "char",
    "bytes",
    "buffer",
    "default",
    "enabled",
    "disabled",
    "enable",
    "disable",
    "prompt",
    "ask",
    "unset",
    "set",
    "yes",
    "no",
    "field",
    "hash",
    "hashed",
    "encrypted",
    "encrypt",
    "plain",
    "plaintext",
    "stdin",
    "env",
    "environment",
    "file",
    "user",
    "username",
    "email",
    "login",
    "change",
    "reset",
    "forgot",
    "forgotten",
    "update",
    "new",
    "old",
    "current",
    "confirm",
    "enter",
    "type",
    "see",
    "use",
    "from",
    "with",
    "and",
    "the",
    "for",
    "this",
    "that",
    "must",
    "should",
    "can",
    "will",
    "are",
    "was",
    "has",
    "have",
    "not",
    "never",
    "auto",
    "manual",
    "basic",
    "bearer",
    "digest",
    "local",
    "test",
    "testing",
    "api",
    "my",
    "your",
    "some",
    "access",
    "auth",
    "here",
    "name",
    "data",
    "input",
    "self",
    "config",
    "settings",
    "process",
    "return",
    "const",
    "let",
    "var",
    "public",
    "private",
    "protected",
    "readonly",
    "static",
    "final",
    "async",
    "await",
    "function",
    "require",
    "validate",
    "verify",
    "check",
    "length",
    "minimum",
    "strong",
    "weak",
    "short",
    "long",
    "generate",
    "generated",
    "random",
    "rotate",
    "rotated",
    "rotation",
    "authentication",
    "authorization",
    "credential",
    "credentials",
    "session",
    "cookie",
    "header",
    "query",
    "body",
    "param",
    "params",
    "placeholder",
    "sample",
    "fake",
    "admin",
    "root",
    "guest",
    "client",
    "server",
    "service",
    "database",
    "db",
    "app",
    "dev",
    "prod",
    "production",
    "staging",
    "vault",
    "keyring",
    "keychain",
    "inherit",
    "managed",
    "external",
    "oauth",
    "oauth2",
    "github",
    "gitlab",
    "google",
    "aws",
    "azure",
    "openai",
    "anthropic",
    "argument",
    "option",
    "variable",
    "only",
    "provided",
    "given",
    "configured",
    "stored",
    "supplied",
    "blank",
    "protected",
    "login",
    "word",
    "primary",
    "foreign",
    "unique",
    "index",
    "column",
    "row",
    "id",
    "it",
    "is",
    "in",
    "to",
    "of",
    "or",
    "on",
    "if",
    "at",
    "an",
    "a",
];

/// Pairs of letters that are frequent in English and in the names of programs. About 30 % of random pairs are among them, but
/// more than 80 % of those in words.
const PAIRS: &str = "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic ne \
    ea ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc et ut ss so rs un lo wa ge ie wh ee wi \
    em ad ol rt po we na ul ni ts mo ow pa im mi ai sh ir su id os iv ia am fi ci vi pl ig tu ev ld ry mp fe bl ab gh ty op wo sa ay ex \
    ke ui fr oo ag au ap go up ck ub ob od og ep eb ef if ls ms ks ws ds gs ps ok ki ku da do du ba bo bu fu ga gu ja jo ju lu mu pu va \
    vo za ze yp ym qu rd rk rl rm rn rc rg rv sc sk sm sn sp sw sy gr gl cr cl br dr sl fl pt ft xt ht lt mb nk nf nv ny lp dm tp tt mm nn \
    ff pp cc dd gg rr oc ov ok by my gy eq ax ix az ga ua ue ei oe av aw ew ip dy ey iz oi ox ya yo ys xy";

/// Whether two letters in lower case are a frequent pair.
fn is_frequent_pair(first: u8, second: u8) -> bool {
    const TABLE: [u32; 26] = pair_table();
    let (Some(row), Some(bit)) = (first.checked_sub(b'a'), second.checked_sub(b'a')) else { return false };
    bit < 26 && TABLE.get(usize::from(row)).is_some_and(|bits| bits & (1 << bit) != 0)
}

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn pair_table() -> [u32; 26] {
    let bytes = PAIRS.as_bytes();
    let mut table = [0; 26];
    let mut index = 0;
    while index + 1 < bytes.len() {
        if bytes[index] != b' ' && bytes[index + 1] != b' ' {
            table[(bytes[index] - b'a') as usize] |= 1 << (bytes[index + 1] - b'a');
            index += 1;
        }
        index += 1;
    }
    table
}

/// Whether the value stands for a secret: a variable, a word such as `example`, asterisks, or a counted or repeated text.
pub fn is_placeholder(value: &str) -> bool {
    let bytes = value.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return true };
    let second = bytes.get(1).copied().unwrap_or(0);
    let is_variable = match first {
        b'$' => {
            second == b'{'
                || second == b'('
                || second == b'_'
                || value.bytes().skip(1).all(is_identifier_byte)
        }
        b'%' => *last == b'%' || second == b'(' || value.len() == 2,
        b'{' => *last == b'}' || second == b'{' || second.is_ascii_alphabetic(),
        b'<' => *last == b'>' || second.is_ascii_alphabetic(),
        b'[' => *last == b']' || second.is_ascii_alphabetic(),
        b'#' | b'@' => second == b'{',
        b'(' => *last == b')',
        _ => false,
    };
    if is_variable
        || value.contains("${")
        || value.contains("{{")
        || value.contains("...")
        || value.contains('…')
        || value.contains("xxxx")
        || value.contains("XXXX")
    {
        return true;
    }
    // A template such as sk-{key} or postgres-%s.
    if value.contains("%s")
        || value.contains("{}")
        || value.contains("[redacted")
        || value.starts_with("ENC[")
    {
        return true;
    }
    if is_repetitive(bytes) {
        return true;
    }
    // Counted digits are not random in a short value.
    if value.len() < 32 && (value.contains("1234567890") || value.contains("0123456789")) {
        return true;
    }
    let lower = value.to_ascii_lowercase();
    PLACEHOLDER_PARTS.iter().any(|part| lower.contains(part)) || is_made_of_words(&lower)
}

fn is_identifier_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether few different characters occur, or most characters continue a sequence such as `abcd` or `4321`.
fn is_repetitive(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    let mut distinct = 0_usize;
    for byte in bytes {
        if let Some(seen) = seen.get_mut(usize::from(*byte))
            && !*seen
        {
            *seen = true;
            distinct += 1;
        }
    }
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    let ordered =
        pairs.filter(|(a, b)| a == b || a.wrapping_add(1) == **b || a.wrapping_sub(1) == **b).count();
    (bytes.len() >= 4 && distinct <= 2)
        || (bytes.len() >= 8 && distinct <= 3)
        || (bytes.len() >= 6 && ordered * 10 >= bytes.len() * 7)
}

/// Whether the value consists of known words, possibly with a few digits at the end: `db_password`, `secret123`.
fn is_made_of_words(lower: &str) -> bool {
    let stem = lower.trim_end_matches(|c: char| c.is_ascii_digit() || "!?._-".contains(c));
    let digits = lower.len() - stem.len();
    // A number that is longer than the usual suffixes is a password.
    let mut words = stem.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).peekable();
    digits <= 4 && words.peek().is_some() && words.all(is_word_or_two)
}

/// Whether the text is one of the known words or two of them joined, as in `mypassword`.
fn is_word_or_two(text: &str) -> bool {
    let is_known = |text: &str| WORDS.contains(&text);
    is_known(text)
        || (text.len() <= 24 && (2..text.len().saturating_sub(1)).any(|at| {
            matches!((text.get(..at), text.get(at..)), (Some(first), Some(second)) if is_known(first) && is_known(second))
        }))
}

/// How many letters of the value are in words, and how many letters it has.
fn letters(value: &str) -> (usize, usize) {
    let (mut in_words, mut all) = (0, 0);
    let mut add = |run: &[u8], is_delimited: bool| {
        all += run.len();
        let lower = run.to_ascii_lowercase();
        let pairs = lower.len().saturating_sub(1);
        let frequent =
            lower.iter().zip(lower.iter().skip(1)).filter(|(a, b)| is_frequent_pair(**a, **b)).count();
        let has_vowel = lower.iter().any(|byte| b"aeiouy".contains(byte));
        let is_word = match run.len() {
            0..=2 => false,
            3 => {
                is_delimited && (frequent == 2 || WORDS.contains(&str::from_utf8(&lower).unwrap_or_default()))
            }
            _ => has_vowel && frequent * 10 >= pairs * 7,
        };
        if is_word {
            in_words += run.len();
        }
    };
    let bytes = value.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        if !bytes.get(start).is_some_and(u8::is_ascii_alphabetic) {
            start += 1;
            continue;
        }
        // A word is in one case, or begins with a capital.
        let rest = bytes.get(start..).unwrap_or_default();
        let capitals = rest.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
        let length = match capitals {
            0 | 1 => {
                capitals + rest.iter().skip(capitals).take_while(|byte| byte.is_ascii_lowercase()).count()
            }
            // `HTTPServer`: the last capital belongs to the next word.
            _ if rest.get(capitals).is_some_and(u8::is_ascii_lowercase) => capitals - 1,
            _ => capitals,
        };
        let is_delimiter = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_digit());
        let is_delimited = is_delimiter(start.checked_sub(1).and_then(|index| bytes.get(index)))
            && is_delimiter(bytes.get(start + length));
        add(rest.get(..length).unwrap_or_default(), is_delimited);
        start += length.max(1);
    }
    (in_words, all)
}

pub fn has_two_digits(value: &str) -> bool {
    value.bytes().filter(u8::is_ascii_digit).count() >= 2
}

/// Whether the value looks as if a generator had made it: few words, several kinds of characters.
pub fn looks_random(value: &str) -> bool {
    is_random(value, 40)
}

/// As [`looks_random`], for text after the prefix of a token: more of it may look like words.
pub fn is_token_body(value: &str) -> bool {
    is_random(value, 65)
}

fn is_random(value: &str, max_percent_in_words: usize) -> bool {
    if value.len() < 8 || is_placeholder(value) || is_number_or_version(value) {
        return false;
    }
    let (in_words, letters) = letters(value);
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    // Hexadecimal digits form words such as `dead` by chance.
    let is_hex =
        digits * 6 >= value.len() && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if !is_hex && in_words * 100 > letters * max_percent_in_words {
        return false;
    }
    let upper = value.bytes().filter(u8::is_ascii_uppercase).count();
    let lower = value.bytes().filter(u8::is_ascii_lowercase).count();
    let is_mixed = upper >= 2 && lower >= 2;
    let has_digits = digits >= 1 && letters >= 2;
    (has_digits || is_mixed || letters >= 16) && distinct_characters(value) >= 5
}

fn distinct_characters(value: &str) -> usize {
    let mut characters: Vec<u8> = value.bytes().collect();
    characters.sort_unstable();
    characters.dedup();
    characters.len()
}

/// Whether the value is a number, a date, a time, a version or an address of numbers.
pub fn is_number_or_version(value: &str) -> bool {
    let is_numeric = |c: char| c.is_ascii_digit() || ".,:-+/_ TZ".contains(c);
    if value.chars().all(is_numeric) {
        return true;
    }
    if value
        .strip_prefix("0x")
        .is_some_and(|hex| hex.len() <= 8 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return true;
    }
    // 1.2.3-rc.1, v2.0.0+build5
    let stem = value.trim_start_matches(['v', 'V', '^', '~', '=', '>', '<']);
    let numbers = stem.len() - stem.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    value.len() < 24 && part(stem, 0, numbers).matches('.').count() >= 2
}

/// Whether the value refers to a secret that is elsewhere, or is an address or a file.
pub fn is_reference(value: &str) -> bool {
    const STARTS: &[&str] = &[
        "arn:",
        "vault:",
        "file:",
        "env:",
        "env.",
        "op:",
        "ssm:",
        "sm:",
        "secret/",
        "secrets/",
        "projects/",
        "keychain:",
        "keyring:",
        "./",
        "../",
        "~/",
        "@",
        "aws-sm:",
        "gcp:",
        "ref+",
        "ref:",
        "secret:",
        "data:",
        "urn:",
        "!",
        "--",
        "ssh-",
        "http",
    ];
    const ENDS: &[&str] = &[
        ".pem", ".key", ".json", ".env", ".txt", ".yaml", ".yml", ".py", ".js", ".ts", ".tsx", ".rs", ".go",
        ".md", ".crt", ".pub", ".toml", ".html", ".php", ".rb", ".java", ".log", ".cfg", ".ini", ".conf",
        ".gpg", ".asc",
    ];
    // The base64 of random bytes can begin with a slash, too.
    let is_path = || {
        let (in_words, letters) = letters(value);
        value.starts_with('/') && in_words * 2 >= letters
    };
    value.contains("://")
        || is_path()
        || STARTS.iter().any(|start| value.starts_with(start))
        || ENDS.iter().any(|end| value.ends_with(end))
}

/// Whether an unquoted value is an expression of a program rather than a literal.
pub fn is_code(value: &str) -> bool {
    if is_expression(value) {
        return true;
    }
    // Words joined by points, such as settings.API_KEY, or a variable with a namespace.
    let mut words = value.split(['.', ':']).peekable();
    let is_name = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$')
            && word.bytes().all(|byte| is_identifier_byte(byte) || byte == b'$' || byte == b'?')
    };
    let is_path = value.contains('.') && words.all(is_name);
    if is_path {
        let (in_words, letters) = letters(value);
        return in_words * 2 >= letters || !value.bytes().any(|byte| byte.is_ascii_digit());
    }
    false
}

/// Whether the value is a call, an element of a list, a generic type, or has another sign of a program.
pub fn is_expression(value: &str) -> bool {
    let name = value
        .bytes()
        .take_while(|byte| is_identifier_byte(*byte) || matches!(byte, b'.' | b':' | b'&'))
        .count();
    let follows = value.as_bytes().get(name);
    (name > 0
        && matches!(follows, Some(b'(' | b'[' | b'<'))
        && !value.starts_with(|c: char| c.is_ascii_digit()))
        || ["::", "->", "=>", "()"].iter().any(|sign| value.contains(sign))
        || value.starts_with("__")
}

/// Whether the value is an identifier made of words: `user_password_2`, `passwordInput`.
pub fn is_wordy_identifier(value: &str) -> bool {
    let (in_words, letters) = letters(value);
    value.bytes().all(|byte| is_identifier_byte(byte) || byte == b'-' || byte == b'.')
        && in_words * 10 >= letters * 7
        && (value.contains('_') || value.contains('-') || has_inner_capital(value))
}

fn has_inner_capital(value: &str) -> bool {
    value.bytes().zip(value.bytes().skip(1)).any(|(a, b)| a.is_ascii_lowercase() && b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_values_are_told_from_words_numbers_and_placeholders() {
        for value in [
            "a8f5f167f44f4964e6c998dee827110c",
            "wJ8rXUtnFxMI/K7MDxNG/bPxRfiCYzzQmLpKwYtA",
            "3f2b8c1e-9a4d-4c7b-8e21-5d6f7a8b9c0d",
            "xK9mPq2vLr7w",
            "qzxkwvjhtplmnbcd",
            "Zm9vYmFyQkF6cXV1eA",
        ] {
            assert!(looks_random(value), "{value}");
        }
        for value in [
            "my-service-production-key",
            "user.profile.name",
            "claude-3-5-sonnet-20241022",
            "2026-02-01T14:30:59",
            "1.2.3-beta.4",
            "getPasswordFromVault2",
            "${API_TOKEN_12}",
            "your-api-key-here-1a2b3c",
            "xxxxxxxxxxxxxxxx1a",
            "AKIAIOSFODNN7EXAMPLE",
            "123456789012345",
            "abcdefghijklmnop",
        ] {
            assert!(!looks_random(value), "{value}");
        }
    }

    #[test]
    fn placeholders_are_recognised() {
        for value in [
            "$TOKEN",
            "${TOKEN}",
            "<your token>",
            "{{ token }}",
            "%(password)s",
            "********",
            "changeme",
            "password123",
            "my-secret",
            "sk-...",
            "[redacted: key]",
            "%s",
        ] {
            assert!(is_placeholder(value), "{value}");
        }
        for value in ["hunter2", "Tr0ub4dor&3", "$ecret!9x", "p@ss$word77"] {
            assert!(!is_placeholder(value), "{value}");
        }
    }
}
