//! `orrery s3`: s3s-fs in a process of its own, for development and tests. Production names a real S3.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::config::Config;

/// Serves until SIGTERM or Ctrl-C.
pub async fn serve(config: Config, listen: SocketAddr, root: PathBuf) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&root).with_context(|| format!("{} cannot be made", root.display()))?;
    let secret = config.shared.storage.secret().map_err(anyhow::Error::msg)?;
    let files = FileSystem::new(&root).map_err(|error| anyhow::anyhow!("{}: {error:?}", root.display()))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder
        .set_auth(SimpleAuth::from_single(config.shared.storage.access_key.as_str(), secret.expose_secret()));
    let service = builder.build();

    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let server = Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    info!(%listen, root = %root.display(), "S3 server started");
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    // Head and body go out in two writes: Nagle's algorithm would hold the second for 40 ms.
                    socket.set_nodelay(true)?;
                    let connection = server.serve_connection(TokioIo::new(socket), service.clone());
                    let connection = graceful.watch(connection.into_owned());
                    tokio::spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(error, "a connection broke off");
                        }
                    });
                }
                Err(error) => warn!(%error, "a connection could not be taken"),
            },
            _ = terminate.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    if tokio::time::timeout(std::time::Duration::from_secs(5), graceful.shutdown()).await.is_err() {
        warn!("connections were still open");
    }
    Ok(ExitCode::SUCCESS)
}
