use super::*;

fn request(method: &str, url: &str, headers: &[(&str, &str)], body: Option<Vec<u8>>) -> Request {
    Request {
        method: method.to_owned(),
        url: url.to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body,
    }
}

fn refused(request: Request) -> String {
    Wanted::new(request).err().map(|error| error.code).unwrap_or_default()
}

#[test]
fn what_belongs_to_the_connection_is_the_hosts() {
    let url = "https://example.com/";
    assert_eq!(refused(request("GET", url, &[("Accept", "*/*")], None)), "");
    assert_eq!(refused(request("GET", url, &[("Host", "other.example")], None)), "denied");
    assert_eq!(refused(request("GET", url, &[("Transfer-Encoding", "chunked")], None)), "denied");
    assert_eq!(refused(request("CONNECT", url, &[], None)), "denied");
    assert_eq!(refused(request("GET", url, &[("a\nb", "c")], None)), "invalid");
    assert_eq!(refused(request("GET", url, &[("a", "b\r\nc: d")], None)), "invalid");
    assert_eq!(refused(request("G T", url, &[], None)), "invalid");
    assert_eq!(refused(request("POST", url, &[], Some(vec![0; MOST_BYTES + 1]))), "quota");
    assert_eq!(refused(request("GET", url, &[("a", "b"); MOST_HEADERS + 1], None)), "quota");
}
