//! HTTP requests that the host sends for plugins, to the hosts that `permissions.network` lists.
//!
//! A host name is resolved once, and the connection uses only the addresses that were checked. If the HTTP client
//! resolved the name again, the DNS server could return another address (DNS rebinding). Redirects are followed here,
//! with the same checks for each hop. The addresses of a host name must be public, except for `localhost`: otherwise a
//! plugin that may talk to any host could reach services on the user's machine and network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method, Response as HttpResponse, Url, redirect};

use super::{ErrorCode, HostResult, InstanceState, host_error, timeout_error};
use crate::contract::Import;
use crate::contract::bindings::hfs::plugin::http::{Host, Request, Response};
use crate::contract::bindings::hfs::plugin::types::Error;

/// Maximum size of a request's or response's body.
const MAX_BODY_BYTES: usize = 4 << 20;
/// Time limit of a request with all its redirects.
const MAX_TIME: Duration = Duration::from_secs(20);
const MAX_REDIRECTS: usize = 5;
const MAX_HEADERS: usize = 64;

/// A request with a valid method, URL and headers. Its host is checked against the allow list later, for each hop.
struct CheckedRequest {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

impl CheckedRequest {
    fn new(request: Request) -> HostResult<Self> {
        let invalid = |what: &str| host_error(ErrorCode::Invalid, format!("{what} is not valid"));
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| invalid("the method"))?;
        if method == Method::CONNECT || method == Method::TRACE {
            return Err(host_error(ErrorCode::Denied, format!("plugins may not use {method}")));
        }
        let url = Url::parse(&request.url).map_err(|_| invalid("the URL"))?;
        if request.body.as_ref().is_some_and(|body| body.len() > MAX_BODY_BYTES)
            || request.headers.len() > MAX_HEADERS
        {
            let message =
                format!("a request may have at most {MAX_BODY_BYTES} bytes and {MAX_HEADERS} headers");
            return Err(host_error(ErrorCode::Quota, message));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("a header's name"))?;
            // These headers describe the connection, so the HTTP client sets them. With a `host` header of its own, a
            // plugin could reach a virtual host that is not on the allow list.
            if matches!(
                name.as_str(),
                "host" | "connection" | "content-length" | "transfer-encoding" | "upgrade"
            ) {
                return Err(host_error(ErrorCode::Denied, format!("the header {name} is set by hfs")));
            }
            headers.append(name, HeaderValue::from_str(value).map_err(|_| invalid("a header's value"))?);
        }
        Ok(Self { method, url, headers, body: request.body })
    }

    /// The request that a redirect asks for; `None` if the response is not a redirect.
    fn redirected(mut self, status: u16, location: Option<&HeaderValue>) -> HostResult<Option<Self>> {
        let Some(location) = location.filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308)) else {
            return Ok(None);
        };
        let target = location.to_str().ok().and_then(|location| self.url.join(location).ok());
        let target =
            target.ok_or_else(|| host_error(ErrorCode::Failed, "the target of the redirect is not valid"))?;
        if target.origin() != self.url.origin() {
            // Credentials are meant for the original host only, and any other header may be one.
            self.headers = self.headers.iter().filter_map(without_credentials).collect();
        }
        if status <= 303 && self.method != Method::GET && self.method != Method::HEAD {
            self.method = Method::GET;
            self.body = None;
        }
        self.url = target;
        Ok(Some(self))
    }
}

/// Keeps a header of a request whose redirect leads to another host, if it cannot contain a credential.
fn without_credentials((name, value): (&HeaderName, &HeaderValue)) -> Option<(HeaderName, HeaderValue)> {
    use reqwest::header;
    let is_harmless = [
        header::ACCEPT,
        header::ACCEPT_LANGUAGE,
        header::ACCEPT_ENCODING,
        header::CACHE_CONTROL,
        header::CONTENT_TYPE,
        header::CONTENT_LANGUAGE,
        header::IF_MODIFIED_SINCE,
        header::IF_NONE_MATCH,
        header::RANGE,
        header::USER_AGENT,
    ]
    .contains(name);
    is_harmless.then(|| (name.clone(), value.clone()))
}

async fn fetch(mut request: CheckedRequest, allowed: &AllowList) -> HostResult<Response> {
    for _ in 0..=MAX_REDIRECTS {
        let response = send(&request, allowed).await?;
        let (status, location) = (response.status().as_u16(), response.headers().get(LOCATION));
        request = match request.redirected(status, location)? {
            Some(next) => next,
            None => return read_response(response).await,
        };
    }
    Err(host_error(ErrorCode::Failed, format!("more than {MAX_REDIRECTS} redirects")))
}

async fn send(request: &CheckedRequest, allowed: &AllowList) -> HostResult<HttpResponse> {
    let url = &request.url;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        let message = "plugins may use only http and https URLs without a user name or password";
        return Err(host_error(ErrorCode::Denied, message));
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let scope = allowed.check(host, port).ok_or_else(|| {
        host_error(ErrorCode::Denied, format!("permissions.network does not list {host}:{port}"))
    })?;
    let addresses = resolve(host, port, scope).await?;
    let sent = client(host, &addresses)?
        .request(request.method.clone(), url.clone())
        .headers(request.headers.clone())
        .body(request.body.clone().unwrap_or_default());
    sent.send().await.map_err(|error| http_error(&error))
}

async fn resolve(host: &str, port: u16, scope: AddressScope) -> HostResult<Vec<SocketAddr>> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((name, port)).await;
    let found: Vec<SocketAddr> =
        found.map_err(|_| host_error(ErrorCode::Failed, format!("{host} was not found")))?.collect();
    let reachable: Vec<SocketAddr> =
        found.iter().copied().filter(|address| scope.includes(address.ip())).collect();
    if reachable.is_empty() && !found.is_empty() {
        return Err(host_error(ErrorCode::Denied, format!("{host} has a private address")));
    }
    Ok(reachable)
}

fn client(host: &str, addresses: &[SocketAddr]) -> HostResult<Client> {
    // Fails if the process has already installed a provider. hfs installs no other one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .resolve_to_addrs(host, addresses)
        .user_agent(concat!("hfs/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| http_error(&error))
}

async fn read_response(mut response: HttpResponse) -> HostResult<Response> {
    let headers = response
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .take(MAX_HEADERS)
        .collect();
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| http_error(&error))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            let message = format!("the response is larger than {MAX_BODY_BYTES} bytes");
            return Err(host_error(ErrorCode::Quota, message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response { status, headers, body })
}

fn http_error(error: &reqwest::Error) -> Error {
    let what = if error.is_connect() { "the connection failed" } else { "the request failed" };
    host_error(ErrorCode::Failed, what)
}

impl InstanceState {
    fn fetch_for_guest(&mut self, request: Request) -> HostResult<Response> {
        self.authorize(Import::Http)?;
        let request = CheckedRequest::new(request)?;
        let allowed = AllowList::new(&self.context.permissions.network);
        self.run_with_timeout(MAX_TIME, move |remaining| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| host_error(ErrorCode::Failed, error.to_string()))?;
            let fetched =
                runtime.block_on(async { tokio::time::timeout(remaining, fetch(request, &allowed)).await });
            // Dropping the runtime would block until a pending name lookup ends.
            runtime.shutdown_background();
            fetched.unwrap_or_else(|_| Err(timeout_error()))
        })
    }
}

impl Host for InstanceState {
    fn fetch(&mut self, request: Request) -> wasmtime::Result<HostResult<Response>> {
        Ok(self.fetch_for_guest(request))
    }
}

/// The hosts in `permissions.network`.
#[derive(Debug, Clone, Default)]
struct AllowList(Vec<AllowedHost>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct AllowedHost {
    host: HostPattern,
    /// `None` for the default ports of http and https.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    /// `*`: any public host.
    Any,
    /// `*.example.com`: all subdomains of a name, but not the name itself.
    Subdomains(String),
    Name(String),
    Address(IpAddr),
}

/// The addresses to which the name of an allowed host may resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum AddressScope {
    PublicOnly,
    /// Public and private addresses.
    All,
}

impl AllowList {
    fn new(entries: &[String]) -> Self {
        Self(entries.iter().map(|entry| AllowedHost::new(entry)).collect())
    }

    /// The addresses at which a host and port are allowed; `None` if no entry allows them. Private addresses are
    /// allowed only by an entry that is itself an address or `localhost`: any other name could resolve to a private
    /// address without the user knowing.
    fn check(&self, host: &str, port: u16) -> Option<AddressScope> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = parse_address(&host);
        let with_port = self.0.iter().filter(|allowed| match allowed.port {
            Some(allowed) => allowed == port,
            None => matches!(port, 80 | 443),
        });
        let scopes = with_port.filter_map(|allowed| match (&allowed.host, address) {
            (HostPattern::Address(allowed), Some(address)) => {
                (*allowed == address).then_some(AddressScope::All)
            }
            (HostPattern::Any, _) => Some(AddressScope::PublicOnly),
            (HostPattern::Name(name), None) if *name == host => {
                Some(if name == "localhost" { AddressScope::All } else { AddressScope::PublicOnly })
            }
            (HostPattern::Subdomains(name), None) => {
                let is_below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                is_below.then_some(AddressScope::PublicOnly)
            }
            (HostPattern::Address(_), None)
            | (HostPattern::Name(_), _)
            | (HostPattern::Subdomains(_), Some(_)) => None,
        });
        scopes.max()
    }
}

impl AddressScope {
    fn includes(self, address: IpAddr) -> bool {
        match self {
            Self::PublicOnly => is_public(address),
            Self::All => true,
        }
    }
}

impl AllowedHost {
    fn new(entry: &str) -> Self {
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
            _ => (entry, None),
        };
        let host = match (host, parse_address(host)) {
            (_, Some(address)) => HostPattern::Address(address),
            ("*", None) => HostPattern::Any,
            (name, None) => match name.strip_prefix("*.") {
                Some(rest) => HostPattern::Subdomains(rest.to_owned()),
                None => HostPattern::Name(name.to_owned()),
            },
        };
        Self { host, port }
    }
}

fn parse_address(host: &str) -> Option<IpAddr> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse().ok()
}

/// Whether an address is globally reachable, that is, not reserved for private networks or other purposes.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(embedded) => is_public_v4(embedded),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_reserved = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19));
    !is_reserved
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Global unicast is 2000::/3. In it, 2001:db8::/32 is for documentation and 2001::/23 for protocols.
    let [first, second, ..] = address.segments();
    (first & 0xe000) == 0x2000 && !(first == 0x2001 && (second == 0xdb8 || second < 0x200))
}

/// The IPv4 address in an IPv6 address that is IPv4-mapped, NAT64 or 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from_segments = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(from_segments(high, low))
        }
        [0x2002, high, low, ..] => Some(from_segments(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entries: &[&str], host: &str, port: u16) -> Option<AddressScope> {
        AllowList::new(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>()).check(host, port)
    }

    #[test]
    fn a_host_is_allowed_if_it_is_listed() {
        assert_eq!(check(&["api.example.com"], "API.example.com.", 443), Some(AddressScope::PublicOnly));
        assert_eq!(check(&["*.example.com"], "a.b.example.com", 80), Some(AddressScope::PublicOnly));
        assert_eq!(check(&["*"], "anything.org", 443), Some(AddressScope::PublicOnly));
        assert_eq!(check(&["localhost:8080"], "localhost", 8080), Some(AddressScope::All));
        assert_eq!(check(&["127.0.0.1:9"], "127.0.0.1", 9), Some(AddressScope::All));
        assert_eq!(check(&["[::1]:9"], "[::1]", 9), Some(AddressScope::All));
        assert_eq!(check(&["[::1]"], "[::1]", 443), Some(AddressScope::All));
        for (entries, host, port) in [
            (&["api.example.com"][..], "example.com", 443),
            (&["api.example.com"], "api.example.com", 22),
            (&["api.example.com:8443"], "api.example.com", 443),
            (&["*.example.com"], "example.com", 443),
            (&["*.example.com"], "evilexample.com", 443),
            (&["localhost"], "127.0.0.1", 80),
            (&[], "example.com", 443),
        ] {
            assert_eq!(check(entries, host, port), None, "{entries:?} {host}:{port}");
        }
    }

    #[test]
    fn private_and_reserved_addresses_are_not_public() {
        for (address, public) in [
            ("93.184.216.34", true),
            ("2606:2800:220:1::1", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fc00::1", false),
            ("ff02::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:93.184.216.34", true),
            ("64:ff9b::a00:1", false),
            ("2002:7f00:1::", false),
            ("2001:db8::1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(AddressScope::PublicOnly.includes(address), public, "{address}");
            assert!(AddressScope::All.includes(address));
        }
    }

    fn request(method: &str, url: &str, headers: &[(&str, &str)], body: Option<Vec<u8>>) -> Request {
        Request {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body,
        }
    }

    fn error_code(request: Request) -> String {
        CheckedRequest::new(request).err().map(|error| error.code).unwrap_or_default()
    }

    #[test]
    fn headers_and_methods_of_the_connection_are_refused() {
        let url = "https://example.com/";
        assert_eq!(error_code(request("GET", url, &[("Accept", "*/*")], None)), "");
        assert_eq!(error_code(request("GET", url, &[("Host", "other.example")], None)), "denied");
        assert_eq!(error_code(request("GET", url, &[("Transfer-Encoding", "chunked")], None)), "denied");
        assert_eq!(error_code(request("CONNECT", url, &[], None)), "denied");
        assert_eq!(error_code(request("GET", url, &[("a\nb", "c")], None)), "invalid");
        assert_eq!(error_code(request("GET", url, &[("a", "b\r\nc: d")], None)), "invalid");
        assert_eq!(error_code(request("G T", url, &[], None)), "invalid");
        assert_eq!(error_code(request("POST", url, &[], Some(vec![0; MAX_BODY_BYTES + 1]))), "quota");
        assert_eq!(error_code(request("GET", url, &[("a", "b"); MAX_HEADERS + 1], None)), "quota");
    }

    #[test]
    fn a_redirect_to_another_host_keeps_no_header_that_may_be_a_credential() {
        let headers = [
            ("Accept", "text/plain"),
            ("Authorization", "Bearer x"),
            ("Cookie", "a=b"),
            ("X-Api-Key", "x"),
            ("Proxy-Authorization", "x"),
        ];
        let redirected = |to: &str| {
            let request = request("GET", "https://example.com/a", &headers, None);
            let location = HeaderValue::from_str(to).unwrap();
            let request = CheckedRequest::new(request).ok().unwrap();
            let next = request.redirected(302, Some(&location)).ok().flatten().unwrap();
            let mut names: Vec<String> = next.headers.keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(redirected("https://other.example/"), ["accept"]);
        assert_eq!(redirected("http://example.com/"), ["accept"], "the scheme is part of the origin");
        assert_eq!(redirected("/b").len(), headers.len());
    }
}
