//! HTTP, performed by the host.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method, Response as Reply, Url, redirect};

use super::network::{AllowList, Reach};
use super::{Answer, GuestState, refusal};
use crate::capability::Import;
use crate::contract::hfs::plugin::http::{Host, Request, Response};

/// What a request's body and a response's body may hold.
const MOST_BYTES: usize = 4 << 20;
/// How long a request with all its redirects may take.
const LONGEST: Duration = Duration::from_secs(20);
const MOST_REDIRECTS: usize = 5;
const MOST_HEADERS: usize = 64;

/// A request that was looked at.
struct Wanted {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

impl Wanted {
    fn new(request: Request) -> Answer<Self> {
        let invalid = |what: &str| refusal("invalid", format!("{what} makes no sense"));
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| invalid("the method"))?;
        if method == Method::CONNECT || method == Method::TRACE {
            return Err(refusal("denied", format!("{method} is not for plugins")));
        }
        let url = Url::parse(&request.url).map_err(|_| invalid("the address"))?;
        if request.body.as_ref().is_some_and(|body| body.len() > MOST_BYTES)
            || request.headers.len() > MOST_HEADERS
        {
            return Err(refusal(
                "quota",
                format!("a request may have {MOST_BYTES} bytes and {MOST_HEADERS} headers"),
            ));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("a header's name"))?;
            // These belong to the connection, which is the host's.
            if matches!(
                name.as_str(),
                "host" | "connection" | "content-length" | "transfer-encoding" | "upgrade"
            ) {
                return Err(refusal("denied", format!("the header {name} is set by the host")));
            }
            headers.append(name, HeaderValue::from_str(value).map_err(|_| invalid("a header's value"))?);
        }
        Ok(Self { method, url, headers, body: request.body })
    }

    /// The same request at another address, as the reply before says; `None` when it says nothing.
    fn redirected(mut self, reply: &Reply) -> Answer<Option<Self>> {
        let status = reply.status().as_u16();
        let Some(place) =
            reply.headers().get(LOCATION).filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308))
        else {
            return Ok(None);
        };
        let place = place.to_str().ok().and_then(|place| self.url.join(place).ok());
        let place = place.ok_or_else(|| refusal("failed", "the redirect makes no sense"))?;
        if place.origin() != self.url.origin() {
            // What was meant for one host is not told to another.
            self.headers.remove("authorization");
            self.headers.remove("cookie");
        }
        if status <= 303 && self.method != Method::GET && self.method != Method::HEAD {
            self.method = Method::GET;
            self.body = None;
        }
        self.url = place;
        Ok(Some(self))
    }
}

async fn fetch(wanted: Wanted, allowed: &AllowList) -> Answer<Response> {
    let mut wanted = wanted;
    for _ in 0..=MOST_REDIRECTS {
        let reply = send(&wanted, allowed).await?;
        wanted = match wanted.redirected(&reply)? {
            Some(next) => next,
            None => return read(reply).await,
        };
    }
    Err(refusal("failed", format!("more than {MOST_REDIRECTS} redirects")))
}

async fn send(wanted: &Wanted, allowed: &AllowList) -> Answer<Reply> {
    let url = &wanted.url;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        return Err(refusal("denied", "only http and https addresses without a user are for plugins"));
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let reach = allowed
        .allows(host, port)
        .ok_or_else(|| refusal("denied", format!("permissions.network does not name {host}:{port}")))?;
    let addresses = resolve(host, port, reach).await?;
    let sent = client(host, &addresses)?
        .request(wanted.method.clone(), url.clone())
        .headers(wanted.headers.clone())
        .body(wanted.body.clone().unwrap_or_default());
    sent.send().await.map_err(|error| failed(&error))
}

/// Looked up once: what was checked is what is connected to.
async fn resolve(host: &str, port: u16, reach: Reach) -> Answer<Vec<SocketAddr>> {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((plain, port)).await;
    let found: Vec<SocketAddr> =
        found.map_err(|_| refusal("failed", format!("{host} was not found")))?.collect();
    let reachable: Vec<SocketAddr> =
        found.iter().copied().filter(|address| reach.includes(address.ip())).collect();
    if reachable.is_empty() && !found.is_empty() {
        return Err(refusal("denied", format!("{host} is at a private address")));
    }
    Ok(reachable)
}

fn client(host: &str, addresses: &[SocketAddr]) -> Answer<Client> {
    let roots = rustls::crypto::ring::default_provider();
    // Whoever installed one before us chose the same.
    let _ = roots.install_default();
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .resolve_to_addrs(host, addresses)
        .user_agent(concat!("hfs/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| failed(&error))
}

async fn read(mut reply: Reply) -> Answer<Response> {
    let headers = reply
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .take(MOST_HEADERS)
        .collect();
    let status = reply.status().as_u16();
    let mut body = Vec::new();
    while let Some(piece) = reply.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + piece.len() > MOST_BYTES {
            return Err(refusal("quota", format!("the response is larger than {MOST_BYTES} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Response { status, headers, body })
}

fn failed(error: &reqwest::Error) -> super::Error {
    let what = if error.is_connect() { "the connection failed" } else { "the request failed" };
    refusal("failed", what)
}

impl GuestState {
    fn fetch_for_guest(&mut self, request: Request) -> Answer<Response> {
        self.enter(Import::Http)?;
        let wanted = Wanted::new(request)?;
        let allowed = AllowList::new(&self.services.permissions.network);
        self.bounded(LONGEST, move |left| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| refusal("failed", error.to_string()))?;
            let fetched =
                runtime.block_on(async { tokio::time::timeout(left, fetch(wanted, &allowed)).await });
            // A lookup that hangs is not waited for.
            runtime.shutdown_background();
            fetched.unwrap_or_else(|_| Err(super::overdue()))
        })
    }
}

impl Host for GuestState {
    fn fetch(&mut self, request: Request) -> wasmtime::Result<Answer<Response>> {
        Ok(self.fetch_for_guest(request))
    }
}

#[cfg(test)]
mod tests;
