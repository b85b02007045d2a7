//! The header of the PROXY protocol (v1 and v2), by which a proxy before us tells who connected to it. Read from trusted networks alone.

use std::net::{IpAddr, SocketAddr};

use ppp::{
    v1::Addresses as Addresses1,
    v2::{Addresses as Addresses2, Command},
};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How many bytes a header may have; what v2 adds in fields of its own rarely fills more.
const MOST_BYTES: usize = 4096;
/// The longest header of v1.
const MOST_BYTES_V1: usize = 107;
const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Why a connection that should begin with a header does not.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// It ended, or broke.
    #[error("the connection ended within the PROXY header")]
    Broken(#[from] std::io::Error),
    /// It is none.
    #[error("the connection does not begin with a PROXY header")]
    Malformed,
}

/// Reads exactly the header. None when the proxy speaks for itself, as in its health checks.
///
/// # Errors
/// When there is no sound header.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, HeaderError> {
    let mut header = vec![0; SIGNATURE_V2.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE_V2 { read_v2(stream, header).await } else { read_v1(stream, header).await }
}

async fn read_v1(
    stream: &mut (impl AsyncRead + Unpin),
    mut header: Vec<u8>,
) -> Result<Option<SocketAddr>, HeaderError> {
    if !header.starts_with(b"PROXY ") {
        return Err(HeaderError::Malformed);
    }
    while !header.ends_with(b"\r\n") {
        if header.len() >= MOST_BYTES_V1 {
            return Err(HeaderError::Malformed);
        }
        header.push(stream.read_u8().await?);
    }
    let header = ppp::v1::Header::try_from(header.as_slice()).map_err(|_| HeaderError::Malformed)?;
    Ok(match header.addresses {
        Addresses1::Tcp4(pair) => Some(SocketAddr::new(IpAddr::V4(pair.source_address), pair.source_port)),
        Addresses1::Tcp6(pair) => Some(SocketAddr::new(IpAddr::V6(pair.source_address), pair.source_port)),
        Addresses1::Unknown => None,
    })
}

async fn read_v2(
    stream: &mut (impl AsyncRead + Unpin),
    mut header: Vec<u8>,
) -> Result<Option<SocketAddr>, HeaderError> {
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = stream.read_u16().await?;
    if usize::from(length) > MOST_BYTES {
        return Err(HeaderError::Malformed);
    }
    header.extend([command, family]);
    header.extend(length.to_be_bytes());
    let begin = header.len();
    header.resize(begin + usize::from(length), 0);
    stream.read_exact(header.get_mut(begin..).unwrap_or_default()).await?;
    let header = ppp::v2::Header::try_from(header.as_slice()).map_err(|_| HeaderError::Malformed)?;
    if header.command == Command::Local {
        return Ok(None);
    }
    Ok(match header.addresses {
        Addresses2::IPv4(pair) => Some(SocketAddr::new(IpAddr::V4(pair.source_address), pair.source_port)),
        Addresses2::IPv6(pair) => Some(SocketAddr::new(IpAddr::V6(pair.source_address), pair.source_port)),
        Addresses2::Unix(_) | Addresses2::Unspecified => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_from(bytes: &[u8]) -> Result<(Option<SocketAddr>, Vec<u8>), HeaderError> {
        let mut stream = bytes;
        let address = read(&mut stream).await?;
        Ok((address, stream.to_vec()))
    }

    #[actix_web::test]
    async fn both_versions_tell_the_client_and_leave_the_rest_unread() {
        let (address, rest) = read_from(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\nGET /").await.unwrap();
        assert_eq!(
            (address.unwrap().to_string().as_str(), rest.as_slice()),
            ("192.0.2.1:4711", &b"GET /"[..])
        );
        let (address, _) = read_from(b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n").await.unwrap();
        assert_eq!(address.unwrap().to_string(), "[2001:db8::1]:4711");
        let mut v2 = SIGNATURE_V2.to_vec();
        v2.extend([0x21, 0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x67, 1, 0xbb]);
        v2.extend(b"GET /");
        let (address, rest) = read_from(&v2).await.unwrap();
        assert_eq!(
            (address.unwrap().to_string().as_str(), rest.as_slice()),
            ("192.0.2.1:4711", &b"GET /"[..])
        );
    }

    #[actix_web::test]
    async fn a_proxy_that_speaks_for_itself_tells_no_client() {
        assert_eq!(read_from(b"PROXY UNKNOWN\r\n").await.unwrap().0, None);
        let mut local = SIGNATURE_V2.to_vec();
        local.extend([0x20, 0, 0, 0]);
        assert_eq!(read_from(&local).await.unwrap().0, None);
    }

    #[actix_web::test]
    async fn anything_else_is_refused() {
        let mut long = SIGNATURE_V2.to_vec();
        long.extend([0x21, 0x11, 0xff, 0xff]);
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1",
            b"PROXY TCP4 x y 1 2\r\n",
            &[b'P'; 300],
            b"PROXY TCP4 1.1.1.1 2.2.2.2 99999 1\r\n",
            &long,
        ] {
            assert!(read_from(bytes).await.is_err(), "{bytes:?}");
        }
    }
}
