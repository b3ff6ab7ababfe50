//! `thalweg run`: a pipeline file, a store and an address become a running daemon.

use std::sync::Arc;

use engine::clock::Clock;
use engine::metrics::Metrics;
use engine::{Engine, Phase};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Run;
use crate::check::load;
use crate::crash::Crash;
use crate::reload::Reload;
use crate::{Failure, progress, telemetry};

/// Runs until the pipeline ends (with `--exit-at-end`), a signal comes, or it cannot start. On SIGHUP: see [`Reload`].
pub fn run(arguments: &Run) -> Result<(), Failure> {
    telemetry::start(arguments.log, variable("THALWEG_LOG"));
    let crash = Crash::parse(variable("THALWEG_CRASH").as_deref()).map_err(Failure::usage)?;
    let plan = Arc::new(load(&arguments.file)?);
    let tokens = tokens(arguments)?;
    let tls = tls(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::broken(format!("starting the API's threads: {e}")))?;
    let hangup = {
        // From here on it ends nothing.
        let _entered = runtime.enter();
        signal(SignalKind::hangup()).map_err(|e| Failure::broken(format!("listening for SIGHUP: {e}")))?
    };
    let listener = match arguments.listen.0 {
        None => None,
        Some(address) => Some(
            runtime
                .block_on(tokio::net::TcpListener::bind(address))
                .map_err(|e| Failure::broken(format!("cannot listen on {address}: {e}")))?,
        ),
    };

    let mut options = engine::store_options(&plan, &arguments.data);
    let at = crash.clone();
    options.hook = Arc::new(move |point| at.pass(point.name()));
    let store = storage::Store::open(options).map_err(Failure::broken)?;
    tracing::info!(
        pipeline = plan.name,
        data = %arguments.data.display(),
        epoch = store.committed(),
        workers = arguments.workers,
        "store open"
    );
    let hook = Arc::new(move |point: &'static str| crash.pass(point));
    let metrics = Metrics::new();
    let reload = Arc::new(Reload::new(arguments.file.clone(), metrics.clone()));
    let options = engine::Options { workers: usize::from(arguments.workers), clock: Clock::system(), hook, metrics };
    let fingerprint = plan.fingerprint();
    let engine = Engine::start(plan, store.clone(), options);
    let handle = engine.handle().clone();

    let (close, closed) = tokio::sync::oneshot::channel::<()>();
    let server = listener.map(|listener| {
        if let Ok(address) = listener.local_addr() {
            let scheme = if tls.is_some() { "https" } else { "http" };
            tracing::info!(%address, "serving {scheme}://{address}");
        }
        let handle = handle.clone();
        let options = api::Options { tokens, tls, queries: Some(sql::run), ..api::Options::default() };
        runtime.spawn(async move {
            let shutdown = async {
                let _ = closed.await;
            };
            api::serve(handle, listener, shutdown, options).await
        })
    });
    let (ending, stopping) = (reload.clone(), handle.clone());
    runtime.spawn(async move {
        wait_for_signal().await;
        tracing::info!("stopping: what is sealed is still committed");
        ending.end();
        stopping.stop();
    });
    let (reloading, reloaded) = (reload.clone(), handle.clone());
    runtime.spawn(async move { reloading.listen(hangup, &reloaded).await });
    let shown = handle.clone();
    std::thread::spawn(move || progress::show(&shown));

    let phase = handle.wait(|phase| matches!(phase, Phase::Ended | Phase::Failed(_)));
    let failed = match &phase {
        Phase::Failed(reason) => Some(reason.clone()),
        _ => None,
    };
    if let Some(reason) = &failed {
        tracing::error!(reason, "the engine has failed");
    }
    if !arguments.exit_at_end && server.is_some() && !handle.is_stopping() {
        // Nothing more comes, but what is committed can be read until a signal ends the process.
        runtime.block_on(async {
            tokio::select! {
                () = wait_for_signal() => {}
                () = reload.wanted() => {}
            }
        });
    }
    let _ = close.send(());
    if let Some(server) = server {
        let _ = runtime.block_on(async { tokio::time::timeout(std::time::Duration::from_secs(5), server).await });
    }
    let result = engine.wait();
    runtime.block_on(reload.settled(&fingerprint));
    // Reads that are under way end, and so does the store's background work, whoever still has a hold of the store:
    // nothing may be at work in RocksDB while the process takes itself apart.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    store.close();
    result.map_err(Failure::broken)?;
    drop(store);
    reload.begin_anew()
}

/// Who may ask. An address that others reach is served to those with a token, or to everyone if one says so.
fn tokens(arguments: &Run) -> Result<Option<Arc<api::Tokens>>, Failure> {
    let Some(file) = &arguments.tokens else {
        return match arguments.listen.0 {
            Some(address) if !address.ip().is_loopback() && !arguments.listen_without_auth => {
                Err(Failure::usage(format!(
                    "{address} can be reached from other machines: give `--tokens FILE` (`thalweg token` makes one), or \
                     `--listen-without-auth` to serve whoever comes"
                )))
            }
            _ => Ok(None),
        };
    };
    api::Tokens::open(file).map(|tokens| Some(Arc::new(tokens))).map_err(Failure::usage)
}

/// The certificate, if there is to be one.
fn tls(arguments: &Run) -> Result<Option<Arc<api::Tls>>, Failure> {
    let (Some(certificate), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) else { return Ok(None) };
    api::Tls::open(certificate, key).map(|tls| Some(Arc::new(tls))).map_err(Failure::usage)
}

async fn wait_for_signal() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// The process's environment is read here and nowhere below.
#[allow(clippy::disallowed_methods, reason = "the binary is the edge")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
