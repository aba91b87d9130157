//! What is needed to start an agent.

use std::ffi::OsString;
use std::path::PathBuf;

/// Variables that every agent gets, if they are set: where programs and settings are, the locale, the terminal, and how to
/// reach the network. Keys are not among them.
const PASSED_VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_NUMERIC",
    "LC_TIME",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "SSH_AUTH_SOCK",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "TEMP",
    "TMP",
];

/// The environment of an agent: the variables that every agent gets and those of these names, each with its value if it is
/// set.
pub fn environment<'a>(
    names: impl IntoIterator<Item = &'a str>,
    value: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for name in PASSED_VARIABLES.iter().copied().chain(names) {
        if variables.iter().any(|(known, _)| known == name) {
            continue;
        }
        if let Some(value) = value(name) {
            variables.push((name.to_owned(), value));
        }
    }
    variables
}

/// How to start an agent.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Name of the agent, for messages.
    pub agent: String,
    /// Its program: a path, or a name that is looked up in `PATH`.
    pub program: PathBuf,
    /// Arguments of the program.
    pub arguments: Vec<String>,
    /// The whole environment; see [`environment`].
    pub environment: Vec<(String, String)>,
    /// The working directory: the project that the agent works on.
    pub directory: PathBuf,
    /// The file that gets what the agent writes to its standard error.
    pub log: PathBuf,
    /// The command that runs [`supervise`](crate::supervise) in a process of its own. Its arguments follow.
    pub supervisor: Vec<OsString>,
}

/// Masks the secrets in an agent's environment wherever they occur: in its log, and in what is recorded of it.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentSecrets {
    /// Each secret as it appears in JSON, and what replaces it.
    secrets: Vec<(String, String)>,
}

/// Shorter values are not looked for: they occur in ordinary text.
const MIN_SECRET_BYTES: usize = 8;

/// Words in the names of variables whose whole value is a secret, whatever it looks like.
const SECRET_WORDS: [&str; 7] = ["KEY", "APIKEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS"];

fn is_secret_name(name: &str) -> bool {
    let mut words = name.split('_').map(str::to_ascii_uppercase);
    words.any(|word| SECRET_WORDS.contains(&word.as_str())) && !name.to_ascii_uppercase().ends_with("_FILE")
}

impl EnvironmentSecrets {
    /// The values of the variables that hold a secret, by their name or their form.
    pub fn new(environment: &[(String, String)]) -> Self {
        let mut secrets: Vec<(String, String)> = Vec::new();
        for (name, value) in environment {
            let parts: Vec<&str> = if is_secret_name(name) {
                vec![value]
            } else {
                let found = hfs_secrets::find(value);
                found.iter().filter_map(|secret| value.get(secret.start..secret.end)).collect()
            };
            for text in parts {
                // As it is in plain text, and between the quotes of a JSON string.
                let in_json = serde_json::to_string(text).unwrap_or_default();
                let in_json = in_json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                let forms = std::iter::once(text).chain(in_json.filter(|form| *form != text));
                for form in forms.filter(|form| form.len() >= MIN_SECRET_BYTES) {
                    secrets.push((form.to_owned(), hfs_secrets::mark(name)));
                }
            }
        }
        // A secret may contain another one.
        secrets.sort_by_key(|(secret, _)| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// The length of the end of a text that may be the beginning of a secret.
    pub fn begun_at_end(&self, text: &str) -> usize {
        let begun = |secret: &str| {
            let longest = text.len().min(secret.len() - 1);
            (1..=longest).rev().find(|length| {
                text.as_bytes().ends_with(secret.as_bytes().get(..*length).unwrap_or_default())
            })
        };
        self.secrets.iter().filter_map(|(secret, _)| begun(secret)).max().unwrap_or(0)
    }

    /// Masks the secrets in a line of JSON or of plain text. Returns whether there were any.
    pub fn mask(&self, line: &mut Vec<u8>) -> bool {
        let mut found = false;
        for (secret, mark) in &self.secrets {
            if memchr::memmem::find(line, secret.as_bytes()).is_none() {
                continue;
            }
            found = true;
            let mut masked = Vec::with_capacity(line.len());
            let mut copied = 0;
            for start in memchr::memmem::find_iter(line, secret.as_bytes()) {
                masked.extend_from_slice(line.get(copied..start).unwrap_or_default());
                masked.extend_from_slice(mark.as_bytes());
                copied = start + secret.len();
            }
            masked.extend_from_slice(line.get(copied..).unwrap_or_default());
            *line = masked;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_gets_only_variables_that_are_named() {
        let all =
            [("PATH", "/bin"), ("AWS_SECRET_ACCESS_KEY", "x"), ("ANTHROPIC_API_KEY", "k"), ("LANG", "C")];
        let value = |name: &str| Some(all.iter().find(|(known, _)| *known == name)?.1.to_owned());
        let passed = environment(["ANTHROPIC_API_KEY", "PATH", "UNSET"], value);
        let names: Vec<&str> = passed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["PATH", "LANG", "ANTHROPIC_API_KEY"]);
    }

    #[test]
    fn secrets_of_the_environment_are_masked_wherever_they_occur() {
        let environment = [
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin".to_owned()),
            ("MY_API_KEY".to_owned(), "k9\"Zq7-very-long-one".to_owned()),
        ];
        let secrets = EnvironmentSecrets::new(&environment);
        let text = serde_json::to_string(&format!("{}={}", environment[1].0, environment[1].1)).unwrap();
        let mut line = format!("{{\"output\":{text},\"path\":\"/usr/local/bin:/usr/bin\"}}").into_bytes();
        assert!(secrets.mask(&mut line));
        let masked: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(masked["output"], "MY_API_KEY=[redacted: MY_API_KEY]");
        assert_eq!(masked["path"], "/usr/local/bin:/usr/bin");
    }

    #[test]
    fn a_secret_with_quotes_is_masked_in_plain_text_and_leaves_json_valid() {
        let value = "\"Zq7-very-long-one\"";
        let secrets = EnvironmentSecrets::new(&[("MY_API_KEY".to_owned(), value.to_owned())]);
        let mut line = serde_json::to_vec(&serde_json::json!({ "output": value })).unwrap();
        assert!(secrets.mask(&mut line));
        let masked: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(masked["output"], "[redacted: MY_API_KEY]");
        let mut plain = format!("key={value}").into_bytes();
        assert!(secrets.mask(&mut plain));
        assert_eq!(plain, b"key=[redacted: MY_API_KEY]");
    }
}
