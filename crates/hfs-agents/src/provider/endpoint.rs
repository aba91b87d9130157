//! The addresses of a server's API, from a base URL as users write it.

use reqwest::Url;

use crate::Provider;

/// Parses a base URL. Without a scheme, it is that of a server without TLS, such as `localhost:8080`.
pub(super) fn parse_base(text: &str) -> Option<Url> {
    let text = text.trim();
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// Whether a server is on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host_str().unwrap_or_default() {
        "localhost" | "[::1]" => true,
        host => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
    }
}

/// The addresses at which a chat request may be answered, the most likely one first.
pub(super) fn chat_urls(provider: Provider, base: &Url, model: &str) -> Vec<Url> {
    let path = base.path().trim_end_matches('/');
    match provider {
        Provider::OpenAi if path.ends_with("/chat/completions") => vec![base.clone()],
        Provider::Anthropic if path.ends_with("/messages") => vec![base.clone()],
        Provider::Ollama => vec![with_path(base, &format!("{}/api/chat", root(provider, base)))],
        Provider::OpenAi => {
            roots(provider, base).map(|root| with_path(base, &format!("{root}/chat/completions"))).collect()
        }
        Provider::Anthropic => {
            roots(provider, base).map(|root| with_path(base, &format!("{root}/messages"))).collect()
        }
        Provider::Gemini => roots(provider, base)
            .map(|root| {
                // A name with a slash, such as `tunedModels/x`, is a whole resource name.
                let collection = if model.contains('/') { "" } else { "models/" };
                let mut url = with_path(base, &format!("{root}/{collection}{model}:streamGenerateContent"));
                url.query_pairs_mut().append_pair("alt", "sse");
                url
            })
            .collect(),
    }
}

/// The addresses at which the server may list its models.
pub(super) fn models_urls(provider: Provider, base: &Url) -> Vec<Url> {
    match provider {
        Provider::Ollama => vec![with_path(base, &format!("{}/api/tags", root(provider, base)))],
        Provider::OpenAi | Provider::Anthropic | Provider::Gemini => {
            roots(provider, base).map(|root| with_path(base, &format!("{root}/models"))).collect()
        }
    }
}

/// The address at which Ollama describes a model.
pub(super) fn ollama_show_url(base: &Url) -> Url {
    with_path(base, &format!("{}/api/show", root(Provider::Ollama, base)))
}

/// The path of the API without the part that differs between its methods.
fn root(provider: Provider, base: &Url) -> String {
    let suffixes: &[&str] = match provider {
        Provider::OpenAi => &["/chat/completions"],
        Provider::Anthropic => &["/messages"],
        Provider::Gemini => &["/models"],
        Provider::Ollama => &["/api/chat", "/api", "/v1"],
    };
    let path = base.path().trim_end_matches('/');
    suffixes.iter().find_map(|suffix| path.strip_suffix(suffix)).unwrap_or(path).to_owned()
}

/// The root with and without a version, the more likely one first. A root that names a version has no alternative.
fn roots(provider: Provider, base: &Url) -> impl Iterator<Item = String> {
    let root = root(provider, base);
    let is_version = |segment: &str| {
        segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let version = match provider {
        Provider::OpenAi | Provider::Anthropic | Provider::Ollama => "v1",
        Provider::Gemini => "v1beta",
    };
    let versioned = format!("{root}/{version}");
    let (first, second) = if root.split('/').any(is_version) {
        (root, None)
    } else if provider == Provider::OpenAi && !root.is_empty() {
        // The base URLs of OpenAI's libraries include the version; a path without one is probably complete.
        (root, Some(versioned))
    } else {
        (versioned, Some(root))
    };
    std::iter::once(first).chain(second)
}

fn with_path(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(path);
    url
}

/// Whether a redirect stays on the same server, so that credentials may be sent again.
pub(super) fn is_same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(provider: Provider, base: &str) -> String {
        chat_urls(provider, &parse_base(base).unwrap(), "m").remove(0).to_string()
    }

    #[test]
    fn base_urls_are_accepted_with_and_without_version_method_and_query() {
        use Provider::{Anthropic, Gemini, Ollama, OpenAi};
        for (provider, base, url) in [
            (OpenAi, "http://h:1", "http://h:1/v1/chat/completions"),
            (OpenAi, "h:1/", "http://h:1/v1/chat/completions"),
            (OpenAi, "http://h/v1/", "http://h/v1/chat/completions"),
            (OpenAi, "http://h/v1/chat/completions", "http://h/v1/chat/completions"),
            (OpenAi, "http://h/v1/chat/completions/", "http://h/v1/chat/completions/"),
            (OpenAi, "https://h/api/paas/v4", "https://h/api/paas/v4/chat/completions"),
            (OpenAi, "https://h/v1beta/openai/", "https://h/v1beta/openai/chat/completions"),
            (
                OpenAi,
                "https://h/openai/deployments/d?api-version=1",
                "https://h/openai/deployments/d/chat/completions?api-version=1",
            ),
            (Anthropic, "https://h", "https://h/v1/messages"),
            (Anthropic, "https://h/anthropic", "https://h/anthropic/v1/messages"),
            (Anthropic, "https://h/v1", "https://h/v1/messages"),
            (Anthropic, "https://h/v1/messages?beta=true", "https://h/v1/messages?beta=true"),
            (Gemini, "https://h", "https://h/v1beta/models/m:streamGenerateContent?alt=sse"),
            (Gemini, "https://h/v1beta/?a=b", "https://h/v1beta/models/m:streamGenerateContent?a=b&alt=sse"),
            (
                Gemini,
                "https://h/v1/publishers/google/models",
                "https://h/v1/publishers/google/models/m:streamGenerateContent?alt=sse",
            ),
            (Ollama, "http://h:1", "http://h:1/api/chat"),
            (Ollama, "http://h:1/v1", "http://h:1/api/chat"),
            (Ollama, "http://h:1/api/", "http://h:1/api/chat"),
            (Ollama, "http://h/ollama", "http://h/ollama/api/chat"),
        ] {
            assert_eq!(first(provider, base), url, "{base}");
        }
        assert_eq!(parse_base("not an address"), None);
        assert_eq!(parse_base("ftp://h"), None);
    }

    #[test]
    fn the_name_of_a_model_is_not_changed() {
        let base = parse_base("https://h").unwrap();
        let urls = chat_urls(Provider::Gemini, &base, "a::b");
        assert_eq!(urls[0].path(), "/v1beta/models/a::b:streamGenerateContent");
        let urls = chat_urls(Provider::Gemini, &base, "tunedModels/x");
        assert_eq!(urls[0].path(), "/v1beta/tunedModels/x:streamGenerateContent");
    }

    #[test]
    fn an_address_without_a_version_has_an_alternative_with_one() {
        let paths = |provider, base: &str| -> Vec<String> {
            let urls = chat_urls(provider, &parse_base(base).unwrap(), "m");
            urls.iter().map(|url| url.path().to_owned()).collect()
        };
        assert_eq!(paths(Provider::OpenAi, "http://h"), ["/v1/chat/completions", "/chat/completions"]);
        assert_eq!(
            paths(Provider::OpenAi, "http://h/api"),
            ["/api/chat/completions", "/api/v1/chat/completions"]
        );
        assert_eq!(paths(Provider::OpenAi, "http://h/v1"), ["/v1/chat/completions"]);
        let models = models_urls(Provider::OpenAi, &parse_base("http://h/v1/chat/completions").unwrap());
        assert_eq!(models[0].path(), "/v1/models");
    }
}
