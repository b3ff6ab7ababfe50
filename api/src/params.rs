//! The query of a request: only parameters its route lists, each at most once, decoded.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path};
use axum::http::Uri;
use axum::http::request::Parts;
use types::Epoch;

use crate::problem::{BAD_PARAMETER, Problem, UNKNOWN_PARAMETER, suggestion};
use crate::routes::Route;

/// Names and values in the order given.
#[derive(Debug, Default)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
}

/// Which epoch a read is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    /// Exactly this one; the newest if not given.
    pub(crate) as_of: Option<Epoch>,
    /// Not before this one is published.
    pub(crate) min_epoch: Option<Epoch>,
    /// How long to wait for `min_epoch`.
    pub(crate) wait: Duration,
}

/// How long a read may wait for its epoch at most.
const WAIT_MS_MAX: u64 = 60_000;
const WAIT_MS_DEFAULT: u64 = 10_000;

impl Params {
    /// Reads a request's query against what its route takes.
    pub(crate) fn parse(route: &Route, uri: &Uri) -> Result<Params, Problem> {
        let mut pairs = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text| {
                decode(text, true)
                    .ok_or_else(|| Problem::new(BAD_PARAMETER, format!("`{text}` is not percent-encoded UTF-8")))
            };
            let (name, value) = (decode(name)?.into_owned(), decode(value)?.into_owned());
            let known = || route.params.iter().map(|p| p.name);
            if !known().any(|k| k == name) {
                let takes =
                    if route.params.is_empty() { "none".to_owned() } else { known().collect::<Vec<_>>().join(", ") };
                let near = suggestion(&name, known());
                return Err(Problem::new(
                    UNKNOWN_PARAMETER,
                    format!("there is no parameter `{name}`{near} (this route takes {takes})"),
                ));
            }
            pairs.push((name, value));
        }
        Ok(Params { pairs })
    }

    /// Every value of a parameter that may be repeated.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.pairs.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    /// The value of a parameter.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.all(name).as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(Problem::new(BAD_PARAMETER, format!("`{name}` is given more than once"))),
        }
    }

    /// The value of a parameter as a number.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Problem::new(BAD_PARAMETER, format!("`{name}` is a whole number, not `{text}`")))
    }

    /// The number of rows wanted.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        match self.number("limit")? {
            None => Ok(LIMIT_DEFAULT),
            Some(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
            Some(_) => Err(Problem::new(BAD_PARAMETER, format!("`limit` is between 1 and {LIMIT_MAX}"))),
        }
    }

    /// Which epoch to read.
    pub(crate) fn at(&self) -> Result<At, Problem> {
        let (as_of, min_epoch) = (self.number("as_of")?, self.number("min_epoch")?);
        if let (Some(as_of), Some(min)) = (as_of, min_epoch)
            && as_of < min
        {
            return Err(Problem::new(BAD_PARAMETER, format!("`as_of` {as_of} is before `min_epoch` {min}")));
        }
        let wait_ms: u64 = self.number("wait_ms")?.unwrap_or(WAIT_MS_DEFAULT);
        if wait_ms > WAIT_MS_MAX {
            return Err(Problem::new(BAD_PARAMETER, format!("`wait_ms` is at most {WAIT_MS_MAX}")));
        }
        Ok(At { as_of, min_epoch, wait: Duration::from_millis(wait_ms) })
    }
}

/// Rows of a page when `limit` is not given.
pub(crate) const LIMIT_DEFAULT: usize = 1_000;
/// Rows of a page at most.
pub(crate) const LIMIT_MAX: usize = 10_000;

/// The one parameter of a path, decoded.
#[derive(Debug)]
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Segment, Problem> {
        match Path::from_request_parts(head, state).await {
            Ok(Path(text)) => Ok(Segment(text)),
            Err(_) => {
                let path = head.uri.path();
                Err(Problem::new(BAD_PARAMETER, format!("`{path}` is not percent-encoded UTF-8")))
            }
        }
    }
}

/// Percent-decoded text; `None` if it is not. In a query `+` is a space.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|b| b == b'%' || (b == b'+' && plus_is_space)) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::SCAN;

    fn parse(query: &str) -> Result<Params, Problem> {
        Params::parse(&SCAN, &format!("/v1/views/v?{query}").parse().unwrap())
    }

    #[test]
    fn values_are_decoded() {
        let params = parse("key=a%2Fb&key=%C3%A4+x&filter=i%3D1&limit=5").unwrap();
        assert_eq!(params.all("key"), ["a/b", "ä x"]);
        assert_eq!(params.one("filter").unwrap(), Some("i=1"));
        assert_eq!(params.limit().unwrap(), 5);
    }

    #[test]
    fn unknown_parameters_are_refused_with_the_nearest_name() {
        let problem = parse("limt=5").unwrap_err();
        assert_eq!(problem.code, UNKNOWN_PARAMETER);
        assert!(problem.message.contains("did you mean `limit`?"), "{}", problem.message);
    }

    #[test]
    fn values_that_cannot_be_meant_are_refused() {
        for query in [
            "limit=x",
            "limit=0",
            "limit=10001",
            "limit=1&limit=2",
            "as_of=-1",
            "as_of=3&min_epoch=4",
            "wait_ms=99999999",
            "filter=%zz",
            "filter=%ff",
        ] {
            let problem = parse(query).and_then(|p| {
                p.limit()?;
                p.at()
            });
            assert_eq!(problem.unwrap_err().code, BAD_PARAMETER, "{query}");
        }
    }
}
