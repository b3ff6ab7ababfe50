//! As much of an HTTP client as benches need: single requests, and a load generator that keeps its connections.
//!
//! The load is closed-loop: each connection has one request under way. One thread drives all connections, so that on
//! a small machine the generator takes as little from the server as it can.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::measure::{Rng, quantile};

/// GET: the status and the body.
pub fn get(address: SocketAddr, path: &str) -> io::Result<(u16, Vec<u8>)> {
    exchange(address, format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").as_bytes())
}

/// POST of newline-delimited JSON: the status and the body.
pub fn post_ndjson(address: SocketAddr, path: &str, body: &str) -> io::Result<(u16, Vec<u8>)> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(address, head.as_bytes())
}

fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(90)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = head_of(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))?;
    Ok((head.status, answer.split_off(head.bytes)))
}

/// What an answer's head says.
struct Head {
    status: u16,
    bytes: usize,
    body_bytes: Option<usize>,
}

/// `None` while the head is not whole, or if it is none.
fn head_of(answer: &[u8]) -> Option<Head> {
    let bytes = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..bytes]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    };
    Some(Head { status, bytes, body_bytes: lines.find_map(length) })
}

/// What a load came to.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests answered in a second.
    pub requests_per_s: f64,
    /// The time from sending a request to having its answer, milliseconds, at the median.
    pub p50_ms: f64,
    /// The same at 99 in 100.
    pub p99_ms: f64,
}

/// Looks up random keys below `keys` at `prefix`KEY over so many connections, as fast as they are answered.
pub fn load(address: SocketAddr, connections: usize, time: Duration, prefix: &str, keys: u64) -> Result<Load, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|e| format!("starting the load generator: {e}"))?;
    let start = Instant::now();
    let mut latencies = runtime.block_on(async {
        let clients: Vec<_> = (0..connections as u64)
            .map(|seed| tokio::spawn(client(address, prefix.to_owned(), keys, start + time, Rng::new(seed))))
            .collect();
        let mut all = Vec::new();
        for client in clients {
            let latencies = client.await.map_err(|e| e.to_string())?;
            all.extend(latencies.map_err(|e| format!("a lookup failed: {e}"))?);
        }
        Ok::<_, String>(all)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    if latencies.is_empty() {
        return Err("no lookup was answered".to_owned());
    }
    latencies.sort_unstable();
    let at = |share| f64::from(quantile(&latencies, share)) / 1e6;
    Ok(Load { requests_per_s: latencies.len() as f64 / seconds, p50_ms: at(0.5), p99_ms: at(0.99) })
}

/// A load of so many lookups a second, whether they are answered in time or not.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// The connections they are dealt to in turn.
    pub connections: usize,
    /// Lookups a second.
    pub rate: u64,
    /// For how long.
    pub time: Duration,
}

/// Looks up random keys below `keys` at `prefix`KEY steadily; gives the nanoseconds from when each was due until its answer
/// was there, ascending.
pub fn steady(address: SocketAddr, steady: Steady, prefix: &str, keys: u64) -> Result<Vec<u32>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("starting the load generator: {e}"))?;
    let start = Instant::now();
    let mut latencies = runtime.block_on(async {
        let clients: Vec<_> = (0..steady.connections as u64)
            .map(|n| tokio::spawn(steady_client(address, prefix.to_owned(), keys, start, steady, n)))
            .collect();
        let mut all = Vec::new();
        for client in clients {
            let latencies = client.await.map_err(|e| e.to_string())?;
            all.extend(latencies.map_err(|e| format!("a lookup failed: {e}"))?);
        }
        Ok::<_, String>(all)
    })?;
    if latencies.is_empty() {
        return Err("no lookup was answered".to_owned());
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// The lookups of one connection, each at its time or as soon as the one before is answered.
async fn steady_client(
    address: SocketAddr,
    prefix: String,
    keys: u64,
    start: Instant,
    steady: Steady,
    first: u64,
) -> io::Result<Vec<u32>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut rng = Rng::new(first);
    let (mut latencies, mut request, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    let mut number = first;
    loop {
        let due = Duration::from_nanos(number * 1_000_000_000 / steady.rate);
        if due >= steady.time {
            return Ok(latencies);
        }
        number += steady.connections as u64;
        tokio::time::sleep_until((start + due).into()).await;
        request.clear();
        write!(request, "GET {prefix}{} HTTP/1.1\r\nhost: bench\r\n\r\n", rng.below(keys))?;
        write_all(&stream, &request).await?;
        read_answer(&stream, &mut answer).await?;
        latencies.push((start.elapsed() - due).as_nanos().min(u128::from(u32::MAX)) as u32);
    }
}

/// One connection: a request, its answer, the next, until the time is over. Gives nanoseconds.
async fn client(address: SocketAddr, prefix: String, keys: u64, until: Instant, mut rng: Rng) -> io::Result<Vec<u32>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::new();
    let mut request = Vec::new();
    let mut answer = Vec::new();
    loop {
        let sent = Instant::now();
        if sent >= until {
            return Ok(latencies);
        }
        request.clear();
        write!(request, "GET {prefix}{} HTTP/1.1\r\nhost: bench\r\n\r\n", rng.below(keys))?;
        write_all(&stream, &request).await?;
        read_answer(&stream, &mut answer).await?;
        latencies.push(sent.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
    }
}

async fn write_all(stream: &tokio::net::TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads one answer; anything but a 200 is an error.
async fn read_answer(stream: &tokio::net::TcpStream, answer: &mut Vec<u8>) -> io::Result<()> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    answer.clear();
    let mut chunk = [0; 4096];
    let mut whole = None;
    loop {
        stream.readable().await?;
        match stream.try_read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => answer.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(e) => return Err(e),
        }
        if whole.is_none()
            && let Some(head) = head_of(answer)
        {
            if head.status != 200 {
                return Err(invalid(String::from_utf8_lossy(answer).into_owned()));
            }
            let body = head.body_bytes.ok_or_else(|| invalid("an answer without a length".to_owned()))?;
            whole = Some(head.bytes + body);
        }
        if whole.is_some_and(|w| answer.len() >= w) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_when_they_are_whole() {
        assert!(head_of(b"HTTP/1.1 200 OK\r\ncontent-le").is_none());
        let head = head_of(b"HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n").unwrap();
        assert_eq!((head.status, head.bytes, head.body_bytes), (404, 46, Some(12)));
    }
}
