//! A schema registry, asked for the schemas by whose ids messages name them.
//!
//! The protocol is that of Confluent's registry, which others speak too: `GET /schemas/ids/ID`. It is asked on a thread
//! of its own, so that a slow registry does not keep the source from hearing that the engine stops. A registry never
//! changes the schema of an id, so what it once answered holds for ever: the same messages give the same rows after a
//! restart. HTTP alone, without TLS.

use std::fmt;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crossbeam_channel::{Receiver, bounded};
use engine::clock::Clock;

/// How long the registry may take to be reached, and for each part of its answer; and for all of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
const ALL_PATIENCE: Duration = Duration::from_secs(30);
/// After how long it is asked again when it did not answer, or did not know an id.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_UNKNOWN: Duration = Duration::from_secs(10);
/// Bytes of an answer, at most.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Where a registry is. What is needed to be let in is never shown.
#[derive(Clone)]
pub(super) struct Address {
    host: String,
    port: u16,
    /// What stands before `/schemas`; empty or beginning with a slash.
    path: String,
    /// The value of the header `Authorization`.
    authorization: Option<String>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({}:{})", self.host, self.port)
    }
}

impl Address {
    /// Reads `http://[user:password@]host[:port][/path]`. The error does not repeat it.
    pub fn parse(url: &str) -> Result<Address, String> {
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => {
                return Err(
                    "`https` is not supported: put a proxy beside the daemon that speaks TLS with the registry, \
                            and name it here with `http`"
                        .to_owned(),
                );
            }
            _ => return Err("expected `http://host:port`".to_owned()),
        };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        // An IPv6 address stands in brackets, and has colons of its own.
        let (host, port) = match place.rfind(':').filter(|at| place[*at..].find(']').is_none()) {
            Some(at) => (&place[..at], place[at + 1..].parse().map_err(|_| "its port is no number".to_owned())?),
            None => (place, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        // A `@` behind a slash: a name or a password with a slash in it, that is to be written `%2F`.
        if host.is_empty() || !is_plain(host) || !is_plain(path) || path.contains(['?', '#', '@']) {
            return Err("expected `http://host:port`, with a path at most behind it".to_owned());
        }
        let authorization = match user {
            Some(user) => {
                let user = unescaped(user).ok_or("its name and password hold a broken `%`")?;
                Some(format!("Basic {}", BASE64.encode(&user)))
            }
            None => None,
        };
        let path = path.trim_end_matches('/').to_owned();
        Ok(Address { host: host.to_owned(), port, path, authorization })
    }

    /// Asks for a schema. An error says why there is no answer yet; it may be asked again.
    fn ask(&self, id: u32) -> Result<Answer, String> {
        let reached = (self.host.as_str(), self.port).to_socket_addrs().map_err(|e| e.to_string())?;
        let mut trouble = format!("`{}` has no address", self.host);
        let mut stream = None;
        for address in reached {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(open) => {
                    stream = Some(open);
                    break;
                }
                Err(e) => trouble = e.to_string(),
            }
        }
        let mut stream = stream.ok_or(trouble)?;
        let text = |e: std::io::Error| e.to_string();
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(text)?;
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let authorization = self.authorization.as_ref().map_or(String::new(), |a| format!("Authorization: {a}\r\n"));
        let request = format!(
            "GET {}/schemas/ids/{id} HTTP/1.1\r\nHost: {host}:{}\r\n{authorization}Accept: \
             application/vnd.schemaregistry.v1+json, application/json\r\nUser-Agent: thalweg\r\nConnection: close\r\n\r\n",
            self.path, self.port
        );
        stream.write_all(request.as_bytes()).map_err(text)?;
        let (clock, mut answer, mut part) = (Clock::system(), Vec::new(), [0; 8192]);
        // What is whole need not be ended: there are servers that keep the connection whatever they are asked.
        while !is_whole(&answer) {
            if answer.len() > ANSWER_BYTES_MAX {
                return Ok(Answer::Unusable(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
            }
            if clock.elapsed() > ALL_PATIENCE {
                return Err("its answer takes too long".to_owned());
            }
            match stream.read(&mut part) {
                Ok(0) => break,
                Ok(length) => answer.extend_from_slice(&part[..length]),
                Err(e) => return Err(text(e)),
            }
        }
        understand(&answer)
    }
}

/// Bytes in which `%` and two hexadecimal digits stand for one.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match first {
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).ok()?
            }
            other => *other,
        });
    }
    Some(bytes)
}

/// What a registry says of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The text of an Avro schema.
    Schema(String),
    /// It has no schema of this id.
    Unknown,
    /// It has, and it is nothing that can be used.
    Unusable(String),
}

/// Whether an answer of HTTP/1.1 says itself that it is whole.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return false };
    let Ok(head) = std::str::from_utf8(&answer[..end]) else { return true };
    let body = &answer[end + 4..];
    let header = |name: &str| header(head, name);
    if header("transfer-encoding").is_some_and(|e| e.eq_ignore_ascii_case("chunked")) {
        return body.ends_with(b"0\r\n\r\n") && unchunked(body).is_some();
    }
    header("content-length").is_some_and(|length| length.parse().is_ok_and(|length: usize| body.len() >= length))
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut found = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    found.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Reads an answer of HTTP/1.1, whole.
fn understand(answer: &[u8]) -> Result<Answer, String> {
    let broken = || "its answer is no HTTP, or is cut off".to_owned();
    let end = memchr::memmem::find(answer, b"\r\n\r\n").ok_or_else(broken)?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| broken())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().filter(|l| l.starts_with("HTTP/1.")).ok_or_else(broken)?;
    let status: u16 = status.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(broken)?;
    let header = |name: &str| header(head, name);
    let body = &answer[end + 4..];
    let body = if header("transfer-encoding").is_some_and(|e| e.eq_ignore_ascii_case("chunked")) {
        unchunked(body).ok_or_else(broken)?
    } else {
        match header("content-length").map(|l| l.parse::<usize>()) {
            Some(Ok(length)) => body.get(..length).ok_or_else(broken)?.to_vec(),
            Some(Err(_)) => return Err(broken()),
            None => body.to_vec(),
        }
    };
    let said: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    match status {
        200 => {}
        // Its own word, and not that of somebody in between, or at another path.
        404 if said.as_ref().is_some_and(|said| said["error_code"] == 40403) => return Ok(Answer::Unknown),
        404 => return Err("it answers 404: is the path in `schema_registry` the right one?".to_owned()),
        401 | 403 => {
            return Err(format!(
                "it answers {status}: the name and password in `schema_registry` are not the right ones"
            ));
        }
        _ => return Err(format!("it answers {status}")),
    }
    let said = said.ok_or("its answer is no JSON: is it a schema registry?")?;
    let text = |key: &str| said.get(key).and_then(serde_json::Value::as_str);
    let schema = text("schema").ok_or("its answer has no `schema`: is it a schema registry?")?;
    match text("schemaType") {
        None | Some("AVRO") => Ok(Answer::Schema(schema.to_owned())),
        Some(other) => Ok(Answer::Unusable(format!("it is of the type {other}, and not AVRO"))),
    }
}

/// A body that comes in chunks, each behind its length.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = memchr::memmem::find(rest, b"\r\n")?;
        let length = std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?.trim();
        let length = usize::from_str_radix(length, 16).ok()?;
        rest = &rest[line + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length..)?.strip_prefix(b"\r\n")?;
    }
}

/// A registry while it is being asked.
#[derive(Debug)]
pub(super) struct Registry {
    address: Address,
    /// What is being asked for, and where the answer will come.
    asked: Option<(u32, Receiver<Result<Answer, String>>)>,
    /// Not before then, of the source's clock.
    again_at: Duration,
    trouble: Option<String>,
}

impl Registry {
    pub fn new(address: Address) -> Registry {
        Registry { address, asked: None, again_at: Duration::ZERO, trouble: None }
    }

    /// The answer about an id, if it is there by now. To be asked again until it is.
    pub fn schema(&mut self, id: u32, now: Duration) -> Option<Answer> {
        if let Some((asked, answer)) = &self.asked {
            let answer = match answer.try_recv() {
                Ok(answer) => answer,
                Err(crossbeam_channel::TryRecvError::Empty) => return None,
                Err(crossbeam_channel::TryRecvError::Disconnected) => Err("asking it failed".to_owned()),
            };
            let is_it = *asked == id;
            self.asked = None;
            match answer {
                Ok(answer) => {
                    self.trouble = None;
                    if is_it {
                        return Some(answer);
                    }
                }
                Err(trouble) => {
                    self.trouble = Some(trouble);
                    self.again_at = now + RETRY;
                }
            }
        }
        if now >= self.again_at {
            let (address, (send, receive)) = (self.address.clone(), bounded(1));
            let thread = std::thread::Builder::new().name("schema-registry".to_owned());
            // It ends by itself, within its patience.
            let started = thread.spawn(move || {
                let _ = send.send(address.ask(id));
            });
            match started {
                Ok(_) => self.asked = Some((id, receive)),
                Err(e) => (self.trouble, self.again_at) = (Some(e.to_string()), now + RETRY),
            }
        }
        None
    }

    /// Is not asked for a while, for a reason.
    pub fn wait(&mut self, trouble: String, now: Duration) {
        (self.trouble, self.again_at) = (Some(trouble), now + RETRY);
    }

    /// Why it has not answered, if that is so.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

/// For how long an id that the registry does not know is taken to be unknown.
pub(super) fn unknown_until(now: Duration) -> Duration {
    now + RETRY_UNKNOWN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_their_secrets_kept() {
        let address = Address::parse("http://ada:hunter%402@registry:8081/api/ccompat/v7/").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.path.as_str()), ("registry", 8081, "/api/ccompat/v7"));
        assert_eq!(address.authorization.as_deref(), Some("Basic YWRhOmh1bnRlckAy"));
        assert_eq!(format!("{address:?}"), "Address(registry:8081)");
        let address = Address::parse("http://[::1]:9").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("::1", 9));
        assert_eq!(Address::parse("http://r").unwrap().port, 80);
        for wrong in [
            "r:8081",
            "ftp://r",
            "http:///",
            "http://:80",
            "http://r:x",
            "http://r/a?b",
            "http://a%:b@r",
            "http://a:1/b@r",
        ] {
            let said = Address::parse(wrong).unwrap_err();
            assert!(!said.contains(wrong), "{said}");
        }
        assert!(Address::parse("https://r").unwrap_err().contains("a proxy"));
    }

    #[test]
    fn answers_are_understood() {
        let ok = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let schema = |text: &str| Ok(Answer::Schema(text.to_owned()));
        let check = |answer: &str, expected: Result<Answer, String>| {
            assert_eq!(understand(answer.as_bytes()), expected, "{answer}");
        };
        check(&ok("{\"schema\":\"\\\"int\\\"\"}"), schema("\"int\""));
        check("HTTP/1.1 200 OK\r\n\r\n{\"schema\":\"x\",\"schemaType\":\"AVRO\"}", schema("x"));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\n{\"sch\r\nc\r\nema\":\"long\"}\r\n0\r\n\r\n",
            schema("long"),
        );
        check("HTTP/1.1 404 Not Found\r\n\r\n{\"error_code\":40403}", Ok(Answer::Unknown));
        let is_error = |answer: &str, part: &str| {
            let said = understand(answer.as_bytes()).unwrap_err();
            assert!(said.contains(part), "{part} in {said}");
        };
        is_error("HTTP/1.1 404 Not Found\r\n\r\n<html>", "the path");
        is_error("HTTP/1.1 404 Not Found\r\n\r\n{\"error_code\":404}", "the path");
        for (answer, whole) in [
            (ok("{}"), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}".to_owned(), false),
            ("HTTP/1.1 200 OK\r\n\r\n{}".to_owned(), false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_owned(), true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n".to_owned(), false),
            ("HTTP/1.1 200 OK\r\nContent".to_owned(), false),
        ] {
            assert_eq!(is_whole(answer.as_bytes()), whole, "{answer}");
        }
        is_error("HTTP/1.1 401 Unauthorized\r\n\r\n", "password");
        is_error("HTTP/1.1 503 Unavailable\r\n\r\n", "503");
        is_error(&ok("<html>"), "is it a schema registry?");
        is_error(&ok("{}"), "is it a schema registry?");
        is_error("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "cut off");
        is_error("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", "cut off");
        is_error("SSH-2.0", "no HTTP");
        let other = understand(ok("{\"schema\":\"x\",\"schemaType\":\"PROTOBUF\"}").as_bytes());
        assert!(matches!(other, Ok(Answer::Unusable(why)) if why.contains("PROTOBUF")));
    }
}
