//! The proxy before small servers of the test's own.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use orrery_tests::deadline::until;
use orrery_tests::ports::Port;
use orrery_tests::{Proxy, pictures};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::{SOON, WHILE};

/// A server that sends back what it gets.
async fn echo() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Ok(address)
}

/// Reads exactly what is expected, soon.
async fn expect(stream: &mut TcpStream, expected: &[u8]) -> Result<()> {
    let mut got = vec![0; expected.len()];
    timeout(SOON, stream.read_exact(&mut got)).await.context("nothing came")??;
    ensure!(got == expected, "{} instead of {}", got.escape_ascii(), expected.escape_ascii());
    Ok(())
}

/// Sees that nothing arrives for a while.
async fn expect_silence(stream: &mut TcpStream) -> Result<()> {
    let mut byte = [0];
    ensure!(timeout(WHILE, stream.read(&mut byte)).await.is_err(), "something came");
    Ok(())
}

/// Sees the connection end, by an end of stream or a reset.
async fn expect_end(stream: &mut TcpStream) -> Result<()> {
    let mut byte = [0];
    let read = timeout(SOON, stream.read(&mut byte)).await.context("the connection stays open")?;
    ensure!(!matches!(read, Ok(1..)), "bytes came");
    Ok(())
}

#[tokio::test]
async fn proxy_forwards_both_ways_and_counts() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let mut client = TcpStream::connect(proxy.addr()).await?;
    client.write_all(b"hello").await?;
    expect(&mut client, b"hello").await?;
    assert_eq!((proxy.connections(), proxy.accepted()), (1, 1));
    // A half-closed connection is still answered to, then ended.
    client.write_all(b"bye").await?;
    client.shutdown().await?;
    expect(&mut client, b"bye").await?;
    expect_end(&mut client).await?;
    drop(client);
    until(SOON, "no open connection", async || proxy.connections() == 0).await
}

#[tokio::test]
async fn proxy_carries_megabytes_both_ways() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let sent = pictures::noise_png(3_000_000)?;
    let (mut from, mut to) = TcpStream::connect(proxy.addr()).await?.into_split();
    let expected = sent.clone();
    let sender = tokio::spawn(async move { to.write_all(&sent).await.map(|()| to) });
    let mut got = vec![0; expected.len()];
    timeout(SOON * 4, from.read_exact(&mut got)).await??;
    assert!(got == expected);
    sender.await??;
    Ok(())
}

#[tokio::test]
async fn cut_proxy_ends_connections_and_refuses_until_restored_at_the_same_port() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let address = proxy.addr();
    let mut client = TcpStream::connect(address).await?;
    client.write_all(b"a").await?;
    expect(&mut client, b"a").await?;
    for _ in 0..3 {
        proxy.cut().await;
        expect_end(&mut client).await?;
        assert_eq!(proxy.connections(), 0);
        let refused = TcpStream::connect(address).await.err().context("a cut proxy accepted")?;
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        proxy.restore().await?;
        proxy.restore().await?;
        assert_eq!(proxy.addr(), address);
        client = TcpStream::connect(address).await?;
        client.write_all(b"b").await?;
        expect(&mut client, b"b").await?;
    }
    Ok(())
}

#[tokio::test]
async fn killed_connections_end_while_new_ones_are_accepted() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let mut old = TcpStream::connect(proxy.addr()).await?;
    old.write_all(b"a").await?;
    expect(&mut old, b"a").await?;
    proxy.kill_connections().await;
    expect_end(&mut old).await?;
    let mut new = TcpStream::connect(proxy.addr()).await?;
    new.write_all(b"b").await?;
    expect(&mut new, b"b").await
}

#[tokio::test]
async fn paused_proxy_holds_bytes_and_loses_none() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let mut client = TcpStream::connect(proxy.addr()).await?;
    proxy.pause();
    client.write_all(b"held").await?;
    expect_silence(&mut client).await?;
    // A connect still succeeds, as one to a machine that hangs does.
    let mut second = TcpStream::connect(proxy.addr()).await?;
    second.write_all(b"too").await?;
    expect_silence(&mut second).await?;
    proxy.resume();
    expect(&mut client, b"held").await?;
    expect(&mut second, b"too").await
}

#[tokio::test]
async fn withheld_answers_come_when_they_are_released() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let proxy = Proxy::start(listener.local_addr()?).await?;
    let mut client = TcpStream::connect(proxy.addr()).await?;
    let (mut server, _) = listener.accept().await?;
    proxy.withhold_answers();
    client.write_all(b"request").await?;
    expect(&mut server, b"request").await?;
    server.write_all(b"answer").await?;
    expect_silence(&mut client).await?;
    proxy.release_answers();
    expect(&mut client, b"answer").await
}

#[tokio::test]
async fn answers_are_withheld_from_the_pattern_on_even_when_it_comes_in_pieces() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let proxy = Proxy::start(listener.local_addr()?).await?;
    let mut client = TcpStream::connect(proxy.addr()).await?;
    client.set_nodelay(true)?;
    let (mut server, _) = listener.accept().await?;
    proxy.withhold_answers_after(b"\r\n.\r\n");
    client.write_all(b"data\r\n.").await?;
    expect(&mut server, b"data\r\n.").await?;
    server.write_all(b"go on").await?;
    expect(&mut client, b"go on").await?;
    assert!(proxy.wait_triggered(WHILE).await.is_err());
    client.write_all(b"\r\nrest").await?;
    expect(&mut server, b"\r\nrest").await?;
    proxy.wait_triggered(SOON).await?;
    server.write_all(b"250").await?;
    expect_silence(&mut client).await?;
    proxy.kill_connections().await;
    proxy.resume();
    expect_end(&mut client).await?;
    // Once only: the next connection is not held.
    let mut client = TcpStream::connect(proxy.addr()).await?;
    let (mut server, _) = listener.accept().await?;
    client.write_all(b"\r\n.\r\n").await?;
    expect(&mut server, b"\r\n.\r\n").await?;
    server.write_all(b"250").await?;
    expect(&mut client, b"250").await
}

#[tokio::test]
async fn proxy_without_upstream_closes_what_it_accepted() -> Result<()> {
    let proxy = Proxy::start(Port::reserve()?.address()).await?;
    expect_end(&mut TcpStream::connect(proxy.addr()).await?).await
}
