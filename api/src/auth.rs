//! Who may ask what: bearer tokens with roles, of which the daemon knows only the hashes.
//!
//! A token is 256 random bits, so its plain SHA-256 gives nothing away and needs neither salt nor stretching. The gate
//! stands before the routes and before the point lookup: what it refuses reaches no handler, not even those that say
//! that nothing is there. A token on an unencrypted line is read by whoever reads the line: see `tls.rs`.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prometheus::IntGauge;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::cursor::{hex, unhex};
use crate::dashboard::prefers_html;
use crate::problem::{FORBIDDEN, Problem, UNAUTHENTICATED};
use crate::read::accept;
use crate::routes;

/// What a token's holder may do; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read views, faults, progress and metrics.
    Read,
    /// Push records.
    Ingest,
    /// Have the daemon do something with its store.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Role; 3] = [Role::Read, Role::Ingest, Role::Admin];

    /// Its name in files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Ingest => "ingest",
            Role::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        let role = Role::ALL.into_iter().find(|r| r.name() == text);
        role.ok_or_else(|| "a role is `read`, `ingest` or `admin`".to_owned())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What every token begins with, so that a leaked one is recognised.
const PREFIX: &str = "thw_";
const HASH_PREFIX: &str = "sha256:";
const NAME_BYTES_MAX: usize = 64;
/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A token of these random bytes, as its holder sends it.
pub fn token(random: &[u8; 32]) -> String {
    format!("{PREFIX}{}", hex(random))
}

/// The line of the file for a token: `name role sha256:HEX`. The error says what is wrong with the name.
pub fn token_line(name: &str, role: Role, token: &str) -> Result<String, String> {
    check_name(name)?;
    Ok(format!("{name} {role} {HASH_PREFIX}{}", hex(&hash(token.as_bytes()))))
}

/// The tokens of a file, and the file itself, which is looked at again while the server runs.
#[derive(Debug)]
pub struct Tokens {
    file: PathBuf,
    /// What the file held when it was opened.
    opened: String,
    current: watch::Sender<Arc<[Token]>>,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    name: String,
    role: Role,
    hash: [u8; 32],
}

impl Tokens {
    /// Reads a file of tokens. The error names the file, the line, and what is wrong with it, but quotes nothing of it:
    /// someone may have put a token where its hash belongs.
    pub fn open(file: &Path) -> Result<Tokens, String> {
        let text = read(file)?;
        let tokens = parse(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        tracing::info!(file = %file.display(), tokens = tokens.len(), "requests need a token");
        Ok(Tokens { file: file.to_owned(), opened: text, current: watch::Sender::new(tokens.into()) })
    }

    /// Takes over what the file comes to hold. A file that is broken or gone changes nothing but `broken`, which is then
    /// 1, and the log.
    pub(crate) async fn follow(&self, broken: &IntGauge) -> Infallible {
        let mut seen = Ok(self.opened.clone());
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tick.tick().await;
            let file = self.file.clone();
            let Ok(found) = tokio::task::spawn_blocking(move || read(&file)).await else { return pending().await };
            if found == seen {
                continue;
            }
            seen = found;
            let parsed = seen.as_deref().map_err(Clone::clone).and_then(parse);
            match parsed {
                Ok(tokens) => {
                    broken.set(0);
                    tracing::info!(file = %self.file.display(), tokens = tokens.len(), "tokens reloaded");
                    self.current.send_replace(tokens.into());
                }
                Err(error) => {
                    broken.set(1);
                    tracing::error!(file = %self.file.display(), error, "the tokens were not reloaded; the old ones hold");
                }
            }
        }
    }

    /// Lets a request in, or gives the route it is counted under and the answer it gets instead.
    pub(crate) fn admit(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Grant>, (&'static str, Response)> {
        let (label, needed) = routes::needs(path);
        let Some(needed) = needed else { return Ok(None) };
        let is_browser = prefers_html(accept(headers));
        let sent = bearer(headers).map(<[u8]>::to_vec).or_else(|| basic(headers));
        let Some(sent) = sent else {
            return Err((label, unauthenticated("this needs `Authorization: Bearer TOKEN`", "", is_browser)));
        };
        if bearer(headers).is_none() && !method.is_safe() && is_of_another_site(headers) {
            return Err((
                label,
                challenge(
                    Problem::new(FORBIDDEN, "a page of another site asks for this"),
                    "Bearer realm=\"thalweg\", error=\"insufficient_scope\"",
                ),
            ));
        }
        let (hash, tokens) = (hash(&sent), self.current.subscribe());
        let role = role_of(&tokens.borrow(), &hash);
        match role {
            None => {
                let why = ", error=\"invalid_token\"";
                Err((label, unauthenticated("the token is none of those known here", why, is_browser)))
            }
            Some(role) if role < needed => Err((label, forbidden(role, needed))),
            Some(_) => Ok(Some(Grant { hash, needed, tokens })),
        }
    }
}

/// That a request was let in, for as long as its token is in the file with a sufficient role.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    hash: [u8; 32],
    needed: Role,
    tokens: watch::Receiver<Arc<[Token]>>,
}

impl Grant {
    /// Whether it still holds.
    pub(crate) fn holds(&self) -> bool {
        role_of(&self.tokens.borrow(), &self.hash).is_some_and(|role| role >= self.needed)
    }

    /// Ends once it holds no more.
    pub(crate) async fn revoked(&mut self) {
        while self.holds() {
            if self.tokens.changed().await.is_err() {
                return pending().await;
            }
        }
    }
}

/// The role of the token of that hash. Every hash is looked at to its end, whichever fits.
fn role_of(tokens: &[Token], hash: &[u8; 32]) -> Option<Role> {
    let mut found = None;
    for token in tokens {
        let differing = token.hash.iter().zip(hash).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
        if differing == 0 {
            found = Some(token.role);
        }
    }
    found
}

/// The token of the one `Authorization` header (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let value = sent.next()?.as_bytes();
    if sent.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

/// The token as a browser sends it that has asked its user: the password of the one `Authorization` header (RFC 7617),
/// whatever the name.
fn basic(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let value = sent.next()?.as_bytes();
    let (scheme, pair) = value.split_at_checked("Basic ".len())?;
    if sent.next().is_some() || !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let pair = BASE64.decode(pair.trim_ascii()).ok()?;
    let colon = pair.iter().position(|b| *b == b':')?;
    let token = &pair[colon + 1..];
    (!token.is_empty()).then(|| token.to_vec())
}

/// Whether a browser says that a page that is not this server's asks. What a browser sends by itself, as it does what its
/// user has typed once, any page can make it send.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let Some(origin) = text(header::ORIGIN) else { return false };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_none() || host != text(header::HOST)
}

/// Browsers are asked for what they can ask their user for, when it is a page that they want.
fn unauthenticated(message: &str, why: &str, is_browser: bool) -> Response {
    let mut response = challenge(Problem::new(UNAUTHENTICATED, message), &format!("Bearer realm=\"thalweg\"{why}"));
    if is_browser {
        let basic = HeaderValue::from_static("Basic realm=\"thalweg: the token as the password\", charset=\"UTF-8\"");
        response.headers_mut().append(header::WWW_AUTHENTICATE, basic);
    }
    response
}

fn forbidden(role: Role, needed: Role) -> Response {
    let problem = Problem::new(FORBIDDEN, format!("this needs a token of the role {needed}; this one's is {role}"));
    challenge(problem, &format!("Bearer realm=\"thalweg\", error=\"insufficient_scope\", scope=\"{needed}\""))
}

fn challenge(problem: Problem, value: &str) -> Response {
    let mut response = problem.into_response();
    let value = HeaderValue::from_str(value).expect("visible ASCII");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    response
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))
}

/// The lines of a file. A file without a token is refused: nobody could get in, and an empty file is more often a mistake.
fn parse(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens: Vec<Token> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = parse_line(line).map_err(|e| format!("line {}: {e}", n + 1))?;
        if tokens.iter().any(|t| t.name == token.name || t.hash == token.hash) {
            return Err(format!("line {}: the name or the hash stands on an earlier line too", n + 1));
        }
        tokens.push(token);
    }
    if tokens.is_empty() {
        return Err("the file names no token".into());
    }
    Ok(tokens)
}

fn parse_line(line: &str) -> Result<Token, String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name, role, hash] = words[..] else { return Err("expected `name role sha256:HEX`".into()) };
    check_name(name)?;
    let hash = hash.strip_prefix(HASH_PREFIX).and_then(unhex).and_then(|bytes| bytes.try_into().ok());
    let hash = hash.ok_or("expected `sha256:` and 64 hexadecimal digits")?;
    Ok(Token { name: name.to_owned(), role: role.parse()?, hash })
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !plain {
        return Err(format!("a name is 1 to {NAME_BYTES_MAX} ASCII letters, digits, `.`, `_` and `-`"));
    }
    Ok(())
}

fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|v| (header::AUTHORIZATION, HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn a_line_of_the_file_is_the_sha_256_of_the_token() {
        // FIPS 180-2, appendix B.1.
        let line = token_line("a", Role::Read, "abc").unwrap();
        assert_eq!(line, "a read sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(token(&[0xa5; 32]), format!("thw_{}", "a5".repeat(32)));
    }

    #[test]
    fn a_file_is_taken_whole_or_refused_with_the_line() {
        let line = |name: &str| token_line(name, Role::Ingest, name).unwrap();
        let good = format!("# ours\n\n{}\n  {}  \n", line("a"), line("b"));
        assert_eq!(parse(&good).unwrap().iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let hex64 = "0".repeat(64);
        for (text, why) in [
            (String::new(), "the file names no token"),
            ("# nothing\n".into(), "the file names no token"),
            (format!("{}\na read", line("b")), "line 2: expected `name role sha256:HEX`"),
            (format!("a reader sha256:{hex64}"), "line 1: a role is"),
            (format!("a READ sha256:{hex64}"), "line 1: a role is"),
            ("a read thw_secret".into(), "line 1: expected `sha256:`"),
            (format!("a read sha256:{}", &hex64[1..]), "line 1: expected `sha256:`"),
            (format!("a read sha256:{hex64}0"), "line 1: expected `sha256:`"),
            (format!("a read sha256:{}g", &hex64[1..]), "line 1: expected `sha256:`"),
            (format!("ä read sha256:{hex64}"), "line 1: a name is"),
            (format!("{}\n{}", line("a"), line("a")), "line 2: the name or the hash"),
            (format!("a read sha256:{hex64}\nb read sha256:{hex64}"), "line 2: the name or the hash"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(why) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_browser_sends_the_token_as_a_password() {
        // RFC 7617, sections 2 and 2.1.
        assert_eq!(basic(&headers(&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="])), Some(b"open sesame".to_vec()));
        assert_eq!(basic(&headers(&["basic dGVzdDoxMjPCow=="])), Some("123£".into()));
        // `:`, `:a:b`, no colon, no base64, two.
        assert_eq!(basic(&headers(&["Basic OmE6Yg=="])), Some(b"a:b".to_vec()));
        for none in [
            &["Basic Og=="][..],
            &["Basic YQ=="],
            &["Basic ???"],
            &["Basic"],
            &["Bearer OmE="],
            &["Basic OmE=", "Basic OmE="],
        ] {
            assert_eq!(basic(&headers(none)), None, "{none:?}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_told_by_its_origin() {
        let from = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("here:8080"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            is_of_another_site(&headers)
        };
        assert!(!from(None) && !from(Some("http://here:8080")) && !from(Some("https://here:8080")));
        for other in ["http://here", "http://here:80", "http://elsewhere:8080", "null", "http://here:8080.evil"] {
            assert!(from(Some(other)), "{other}");
        }
    }

    #[test]
    fn a_token_comes_in_one_bearer_header() {
        assert_eq!(bearer(&headers(&["Bearer x"])), Some(&b"x"[..]));
        assert_eq!(bearer(&headers(&["bEARER   x "])), Some(&b"x"[..]));
        for none in [&[][..], &["x"], &["Bearer"], &["Bearer "], &["Basic x"], &["Bearerx"], &["Bearer x", "Bearer x"]]
        {
            assert_eq!(bearer(&headers(none)), None, "{none:?}");
        }
    }
}
