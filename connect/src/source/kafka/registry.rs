//! A schema registry, asked for the schemas by whose ids messages name them.
//!
//! The protocol is that of Confluent's registry, which others speak too: `GET /schemas/ids/ID`, and for each schema
//! that one refers to `GET /subjects/SUBJECT/versions/VERSION`. It is asked on a thread of its own, so that a slow
//! registry does not keep the source from hearing that the engine stops. A registry changes neither the schema of an
//! id nor what that refers to, so what it once answered holds for ever: the same messages give the same rows after a
//! restart.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crossbeam_channel::{Receiver, bounded};
use serde_json::Value as Json;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// How long the registry may take to be reached, and for each part of an answer; and for all of an answer.
const PATIENCE: Duration = Duration::from_secs(10);
const ALL_PATIENCE: Duration = Duration::from_secs(30);
/// After how long it is asked again when it did not answer, or did not know an id.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_UNKNOWN: Duration = Duration::from_secs(10);
/// Bytes of an answer, at most.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Schemas that one may refer to, and by way of how many others.
const REFERENCES_MAX: usize = 200;
const REFERENCES_DEPTH_MAX: usize = 20;

/// Where a registry is, and how it is asked. What is needed to be let in is never shown.
#[derive(Clone)]
pub(super) struct Address {
    /// `http[s]://host[:port][/path]`, without a slash at its end.
    base: String,
    /// The value of the header `Authorization`.
    authorization: Option<String>,
    agent: Agent,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.base)
    }
}

/// What a registry says of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The texts of Avro schemas: at the end the one that was asked for, before it those that it refers to, each behind
    /// those that it refers to itself.
    Schema(Vec<String>),
    /// It has no schema of this id.
    Unknown,
    /// It has, and it is nothing that can be used.
    Unusable(String),
}

/// Why there is no schema.
enum Refusal {
    /// It is asked again.
    Trouble(String),
    Answer(Answer),
}

impl Address {
    /// Reads `http[s]://[user:password@]host[:port][/path]`. The error does not repeat it. Authorities to trust: those
    /// given, or Mozilla's.
    pub fn parse(url: &str, authorities: Option<RootCerts>) -> Result<Address, String> {
        let expected = || "expected `http[s]://host:port`, with a path at most behind it".to_owned();
        let (scheme, rest) = url.split_once("://").ok_or_else(expected)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let base = format!("{scheme}://{place}{}", path.trim_end_matches('/'));
        let uri: Uri = base.parse().map_err(|_| expected())?;
        let host = uri.host().unwrap_or_default();
        // A `@` behind a slash: a name or a password with a slash in it, that is to be written `%2F`.
        if !matches!(scheme, "http" | "https") || host.is_empty() || path.contains(['?', '#', '@']) {
            return Err(expected());
        }
        if place != host && uri.port_u16().is_none() {
            return Err("its port is no number".to_owned());
        }
        if authorities.is_some() && scheme != "https" {
            return Err("`schema_registry_ca` is for `https`".to_owned());
        }
        let authorization = match user {
            Some(user) => {
                let user = unescaped(user).ok_or("its name and password hold a broken `%`")?;
                Some(format!("Basic {}", BASE64.encode(&user)))
            }
            None => None,
        };
        Ok(Address { base, authorization, agent: agent(authorities) })
    }

    /// Asks for a schema. An error says why there is no answer yet; it may be asked again.
    fn ask(&self, id: u32) -> Result<Answer, String> {
        let mut found = Found { address: self, texts: Vec::new(), open: Vec::new(), names: BTreeSet::new() };
        match self.get(&format!("/schemas/ids/{id}")).and_then(|said| found.add(&said)) {
            Ok(()) => Ok(Answer::Schema(found.texts)),
            Err(Refusal::Answer(answer)) => Ok(answer),
            Err(Refusal::Trouble(why)) => Err(why),
        }
    }

    /// What stands at a path, which is JSON.
    fn get(&self, path: &str) -> Result<Json, Refusal> {
        let trouble = |why: String| Err(Refusal::Trouble(why));
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        let mut response = match request.call() {
            Ok(response) => response,
            Err(e) => return trouble(e.to_string()),
        };
        let status = response.status().as_u16();
        let body = match response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec() {
            Ok(body) => body,
            Err(ureq::Error::BodyExceedsLimit(most)) if status == 200 => {
                return unusable(format!("it is longer than {most} bytes"));
            }
            Err(e) => return trouble(e.to_string()),
        };
        let said: Option<Json> = serde_json::from_slice(&body).ok();
        let code = said.as_ref().and_then(|said| said["error_code"].as_u64());
        match (status, code) {
            (200, _) => match said {
                Some(said) => Ok(said),
                None => trouble("its answer is no JSON: is it a schema registry?".to_owned()),
            },
            // Its own words, and not those of somebody in between, or at another path.
            (404, Some(40403)) => Err(Refusal::Answer(Answer::Unknown)),
            (404, Some(40401 | 40402)) => trouble(format!("it lacks `{path}`, to which a schema refers")),
            (404, _) => trouble("it answers 404: is the path in `schema_registry` the right one?".to_owned()),
            (401 | 403, _) => trouble(format!(
                "it answers {status}: the name and password in `schema_registry` are not the right ones"
            )),
            _ => trouble(format!("it answers {status}")),
        }
    }
}

fn unusable<T>(why: String) -> Result<T, Refusal> {
    Err(Refusal::Answer(Answer::Unusable(why)))
}

/// What asks. It goes by no proxy, whatever the environment says, and not to where somebody sends it: the password is
/// for the one who is named.
fn agent(authorities: Option<RootCerts>) -> Agent {
    let tls = TlsConfig::builder().root_certs(authorities.unwrap_or(RootCerts::WebPki)).build();
    Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .timeout_connect(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .timeout_per_write(Some(PATIENCE))
        .timeout_global(Some(ALL_PATIENCE))
        .user_agent("thalweg")
        .accept("application/vnd.schemaregistry.v1+json, application/json")
        .tls_config(tls)
        .build()
        .new_agent()
}

/// The authorities of a PEM file.
pub(super) fn authorities(file: &Path) -> Result<RootCerts, String> {
    let pem = std::fs::read(file).map_err(|e| e.to_string())?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| e.to_string())? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err("there is no `BEGIN CERTIFICATE` in it".to_owned());
    }
    Ok(certificates.into())
}

/// Schemas, while those that they refer to are fetched.
struct Found<'a> {
    address: &'a Address,
    texts: Vec<String>,
    /// The references that lead to the schema that is being read, outermost first.
    open: Vec<String>,
    /// Those that are read. As Confluent's libraries have it, who writes with a schema has one schema of a name.
    names: BTreeSet<String>,
}

impl Found<'_> {
    /// Adds the schema of an answer, behind those that it refers to.
    fn add(&mut self, said: &Json) -> Result<(), Refusal> {
        let Some(schema) = said["schema"].as_str() else {
            return Err(Refusal::Trouble("its answer has no `schema`: is it a schema registry?".to_owned()));
        };
        match said["schemaType"].as_str() {
            None | Some("AVRO") => {}
            Some(other) => return unusable(format!("it is of the type {other}, and not AVRO")),
        }
        for reference in said["references"].as_array().into_iter().flatten() {
            let part = |key: &str| reference[key].as_str();
            let (Some(name), Some(subject), Some(version)) =
                (part("name"), part("subject"), reference["version"].as_u64())
            else {
                return unusable(format!("`{reference}` is no name, subject and version"));
            };
            if self.names.contains(name) {
                continue;
            }
            if self.open.iter().any(|open| open == name) {
                return unusable(format!("`{name}` refers to itself"));
            }
            let bytes = self.texts.iter().map(|text| text.len() as u64).sum::<u64>();
            if self.open.len() >= REFERENCES_DEPTH_MAX || self.texts.len() >= REFERENCES_MAX || bytes > ANSWER_BYTES_MAX
            {
                return unusable(format!(
                    "it refers to more than {REFERENCES_MAX} schemas, by way of more than {REFERENCES_DEPTH_MAX} \
                     others, or to more than {ANSWER_BYTES_MAX} bytes of them"
                ));
            }
            // Those who wrote with it did so before it was deleted.
            let path = format!("/subjects/{}/versions/{version}?deleted=true", escaped(subject));
            let said = self.address.get(&path)?;
            self.open.push(name.to_owned());
            self.add(&said)?;
            self.open.pop();
            self.names.insert(name.to_owned());
        }
        self.texts.push(schema.to_owned());
        Ok(())
    }
}

/// Text for a path: what is not unreserved (RFC 3986, section 2.3) as `%` and two hexadecimal digits.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
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
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    /// A stand-in for a registry, at an address of its own until the tests end.
    pub struct StandIn {
        pub port: u16,
        /// What is answered at a path: HTTP as it is.
        pub answers: Arc<Mutex<BTreeMap<String, String>>>,
        /// What was asked, as it came.
        pub asked: Arc<Mutex<Vec<String>>>,
    }

    impl StandIn {
        pub fn start(tls: Option<ServerConfig>) -> StandIn {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let stand_in = StandIn { port, answers: Arc::default(), asked: Arc::default() };
            let (answers, asked, tls) = (stand_in.answers.clone(), stand_in.asked.clone(), tls.map(Arc::new));
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    match &tls {
                        None => answer(&mut stream, &answers, &asked),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls.clone()).unwrap();
                            answer(&mut StreamOwned::new(connection, stream), &answers, &asked);
                        }
                    }
                }
            });
            stand_in
        }

        pub fn url(&self) -> String {
            format!("http://127.0.0.1:{}", self.port)
        }

        pub fn set(&self, path: &str, answer: impl Into<String>) {
            self.answers.lock().unwrap().insert(path.to_owned(), answer.into());
        }
    }

    fn answer(stream: &mut (impl Read + Write), answers: &Mutex<BTreeMap<String, String>>, asked: &Mutex<Vec<String>>) {
        let (mut request, mut byte) = (Vec::new(), [0]);
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => request.push(byte[0]),
                _ => return,
            }
        }
        let request = String::from_utf8(request).unwrap();
        let path = request.split(' ').nth(1).unwrap();
        let answer = answers.lock().unwrap().get(path).cloned();
        let answer = answer.unwrap_or_else(|| "HTTP/1.1 404 Not Found\r\n\r\n{\"error_code\":40403}".to_owned());
        asked.lock().unwrap().push(request);
        let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
    }

    pub fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    /// An answer with a schema that refers to others: name, subject and version.
    fn schema(text: &str, references: &[(&str, &str, i64)]) -> String {
        let references: Vec<Json> = references
            .iter()
            .map(|(name, subject, version)| serde_json::json!({"name": name, "subject": subject, "version": version}))
            .collect();
        ok(&serde_json::json!({"schema": text, "references": references}).to_string())
    }

    fn texts(texts: &[&str]) -> Result<Answer, String> {
        Ok(Answer::Schema(texts.iter().map(|text| (*text).to_owned()).collect()))
    }

    /// What the stand-in's answer about a schema is taken for.
    fn ask(stand_in: &StandIn, id: u32) -> Result<Answer, String> {
        Address::parse(&stand_in.url(), None).unwrap().ask(id)
    }

    #[test]
    fn addresses_are_read_and_their_secrets_kept() {
        let parse = |url: &str| Address::parse(url, None);
        let address = parse("https://ada:hunter%402@registry:8081/api/ccompat/v7/").unwrap();
        assert_eq!(address.base, "https://registry:8081/api/ccompat/v7");
        assert_eq!(address.authorization.as_deref(), Some("Basic YWRhOmh1bnRlckAy"));
        assert_eq!(format!("{address:?}"), "Address(https://registry:8081/api/ccompat/v7)");
        for url in ["http://[::1]:9", "http://r", "https://r"] {
            let address = parse(url).unwrap();
            assert_eq!((address.base.as_str(), address.authorization), (url, None));
        }
        for wrong in [
            "r:8081",
            "ftp://r",
            "http:///",
            "http://:80",
            "http://r:x",
            "http://r:",
            "http://r/a?b",
            "http://a%:b@r",
            "http://a:1/b@r",
            "http://a:b@",
            "http://a b",
        ] {
            let said = parse(wrong).expect_err(wrong);
            assert!(!said.contains(wrong), "{said}");
        }
        let said = Address::parse("http://r", Some(RootCerts::WebPki)).unwrap_err();
        assert!(said.contains("for `https`"), "{said}");
    }

    #[test]
    fn answers_are_understood() {
        let stand_in = StandIn::start(None);
        let answered = |answer: &str| {
            stand_in.set("/schemas/ids/7", answer);
            ask(&stand_in, 7)
        };
        let check = |answer: &str, expected: Result<Answer, String>| assert_eq!(answered(answer), expected, "{answer}");
        check(&ok("{\"schema\":\"\\\"int\\\"\"}"), texts(&["\"int\""]));
        check("HTTP/1.1 200 OK\r\n\r\n{\"schema\":\"x\",\"schemaType\":\"AVRO\"}", texts(&["x"]));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\n{\"sch\r\nc\r\nema\":\"long\"}\r\n0\r\n\r\n",
            texts(&["long"]),
        );
        check("HTTP/1.1 404 Not Found\r\n\r\n{\"error_code\":40403}", Ok(Answer::Unknown));
        let is_error = |answer: &str, part: &str| {
            let said = answered(answer).unwrap_err();
            assert!(said.contains(part), "{part} in {said}");
        };
        is_error("HTTP/1.1 404 Not Found\r\n\r\n<html>", "the path");
        is_error("HTTP/1.1 404 Not Found\r\n\r\n{\"error_code\":404}", "the path");
        is_error("HTTP/1.1 401 Unauthorized\r\n\r\n", "password");
        is_error("HTTP/1.1 403 Forbidden\r\n\r\n", "password");
        is_error("HTTP/1.1 503 Unavailable\r\n\r\n", "503");
        is_error(&ok("<html>"), "is it a schema registry?");
        is_error(&ok("{}"), "is it a schema registry?");
        is_error("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "");
        is_error("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", "");
        is_error("SSH-2.0", "");
        let is_unusable = |answer: &str, part: &str| match answered(answer) {
            Ok(Answer::Unusable(why)) => assert!(why.contains(part), "{part} in {why}"),
            other => panic!("{other:?}"),
        };
        is_unusable(&ok("{\"schema\":\"x\",\"schemaType\":\"PROTOBUF\"}"), "PROTOBUF");
        let long = "x".repeat(ANSWER_BYTES_MAX as usize);
        is_unusable(&ok(&format!("{{\"schema\":\"{long}\"}}")), "longer than");
        // Nobody is there.
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(Address::parse(&format!("http://{nobody}"), None).unwrap().ask(7).is_err());
    }

    #[test]
    fn the_password_is_for_the_registry_alone() {
        let (named, other) = (StandIn::start(None), StandIn::start(None));
        let elsewhere = format!("HTTP/1.1 302 Found\r\nLocation: {}/schemas/ids/1\r\n\r\n", other.url());
        named.set("/base/schemas/ids/1", elsewhere);
        let url = format!("http://ada:sesam%408@127.0.0.1:{}/base", named.port);
        let said = Address::parse(&url, None).unwrap().ask(1).unwrap_err();
        assert!(said.contains("it answers 302"), "{said}");
        let asked = named.asked.lock().unwrap().join("").to_ascii_lowercase();
        assert!(asked.contains("\r\nauthorization: basic ywrhonnlc2ftqdg=\r\n"), "{asked}");
        assert!(other.asked.lock().unwrap().is_empty(), "it was followed to somebody else");
    }

    #[test]
    fn schemas_come_with_those_that_they_refer_to() {
        let stand_in = StandIn::start(None);
        let subject = |path: &str| format!("/subjects/{path}?deleted=true");
        stand_in.set("/schemas/ids/1", schema("trip", &[("p.Place", "p/Place", 2), ("Kind", "kinds", 1)]));
        stand_in.set(&subject("p%2FPlace/versions/2"), schema("place", &[("Kind", "kinds", 1)]));
        stand_in.set(&subject("kinds/versions/1"), schema("kind", &[]));
        assert_eq!(ask(&stand_in, 1), texts(&["kind", "place", "trip"]));
        assert_eq!(stand_in.asked.lock().unwrap().len(), 3, "one was asked for twice");

        // One that is not there, as one that is not there yet: the registry lets none be deleted that is referred to.
        for code in [40401, 40402] {
            let gone = format!("HTTP/1.1 404 Not Found\r\n\r\n{{\"error_code\":{code}}}");
            stand_in.set(&subject("kinds/versions/1"), gone);
            let said = ask(&stand_in, 1).unwrap_err();
            assert!(said.contains("it lacks `/subjects/kinds/versions/1"), "{said}");
        }
        let is_unusable = |part: &str| match ask(&stand_in, 1) {
            Ok(Answer::Unusable(why)) => assert!(why.contains(part), "{part} in {why}"),
            other => panic!("{other:?}"),
        };
        stand_in.set(&subject("kinds/versions/1"), schema("kind", &[("p.Place", "p/Place", 2)]));
        is_unusable("`p.Place` refers to itself");
        stand_in.set(&subject("kinds/versions/1"), schema("kind", &[("Other", "other", -1)]));
        is_unusable("is no name, subject and version");
        stand_in.set(&subject("kinds/versions/1"), ok("{\"schema\":\"x\",\"schemaType\":\"JSON\"}"));
        is_unusable("JSON");
        for n in 0..30 {
            let next = format!("deep{}", n + 1);
            stand_in.set(&subject(&format!("deep{n}/versions/1")), schema("x", &[(&next, &next, 1)]));
        }
        stand_in.set("/schemas/ids/1", schema("x", &[("deep0", "deep0", 1)]));
        is_unusable("by way of more than 20");
        let many: Vec<String> = (0..=REFERENCES_MAX).map(|n| format!("wide{n}")).collect();
        many.iter().for_each(|name| stand_in.set(&subject(&format!("{name}/versions/1")), schema("x", &[])));
        let many: Vec<(&str, &str, i64)> = many.iter().map(|name| (name.as_str(), name.as_str(), 1)).collect();
        stand_in.set("/schemas/ids/1", schema("x", &many));
        is_unusable("more than 200 schemas");
    }

    #[test]
    fn a_registry_that_speaks_tls_is_known_by_its_authority() {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        // Named differently from the server, or it would be taken for the server's own.
        ca.distinguished_name.push(DnType::CommonName, "an authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = server.signed_by(&key, &issuer).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        let stand_in = StandIn::start(Some(tls));
        stand_in.set("/schemas/ids/1", schema("x", &[]));
        let ask_at = |host: &str, authorities: Option<RootCerts>| {
            Address::parse(&format!("https://{host}:{}", stand_in.port), authorities).unwrap().ask(1)
        };
        assert_eq!(ask_at("localhost", Some(authorities(&file).unwrap())), texts(&["x"]));
        // An authority that is not trusted, and a name that is not the certificate's, are waited for as one who is away.
        let said = ask_at("localhost", None).unwrap_err();
        assert!(said.contains("certificate"), "{said}");
        let said = ask_at("127.0.0.1", Some(authorities(&file).unwrap())).unwrap_err();
        assert!(said.contains("certificate"), "{said}");
        assert!(ask(&stand_in, 1).is_err(), "it was answered without TLS");
        assert_eq!(stand_in.asked.lock().unwrap().len(), 1);

        std::fs::write(&file, "no certificate").unwrap();
        assert!(authorities(&file).unwrap_err().contains("no `BEGIN CERTIFICATE`"));
        assert!(authorities(&dir.path().join("gone.pem")).unwrap_err().contains("No such file"));
    }
}
