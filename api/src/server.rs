//! The HTTP/1.1 server around the routes: how many connections, how long they may dawdle, and how they end.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::Options;
use crate::router::Service;

/// Serves until `shutdown` is done, then lets what is under way end, for at most the time of the options.
pub(crate) async fn run(
    listener: TcpListener,
    service: Service,
    shutdown: impl Future<Output = ()>,
    closing: watch::Sender<bool>,
    connections: IntGauge,
    options: &Options,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(options.connections_max));
    let mut open = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        // A connection beyond the limit waits in the listener's backlog.
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // Answers are small; waiting to fill a packet would cost more than it saves.
                let _ = stream.set_nodelay(true);
                let (service, closing, idle) = (service.clone(), closing.subscribe(), options.idle_timeout);
                let (tls, handshake) = (options.tls.clone(), options.handshake_timeout);
                let connections = connections.clone();
                open.spawn(async move {
                    connections.inc();
                    match tls {
                        None => connection(stream, service, closing, idle).await,
                        Some(tls) => {
                            if let Some(stream) = tls.accept(stream, handshake).await {
                                connection(stream, service, closing, idle).await;
                            }
                        }
                    }
                    connections.dec();
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file handles, most likely: some will be free again in a moment.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
    drop(listener);
    closing.send_replace(true);
    let drained = tokio::time::timeout(options.drain, async { while open.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(connections = open.len(), "connections still busy are cut");
        open.shutdown().await;
    }
    Ok(())
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Service,
    mut closing: watch::Receiver<bool>,
    idle: Duration,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(idle);
    // Head and body of an answer go out as one piece: copying a small one is cheaper than naming two to the kernel.
    builder.writev(false);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut asked = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            _ = closing.wait_for(|c| *c), if !asked => {
                asked = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
