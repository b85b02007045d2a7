//! Ends connections whose client sends no whole request: actix times the first head of a connection only, and a client
//! that trickles its second would hold its place for ever. Pauses within a body are `body`'s matter.

use std::{
    any::Any,
    cell::Cell,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    rc::Rc,
    time::Duration,
};

use actix_web::{dev::Extensions, rt};
use tokio::time::{Instant, sleep_until};

/// A connection as its watcher sees it.
pub struct Seat {
    stream: TcpStream,
    requests: Cell<usize>,
    idle_since: Cell<Instant>,
}

/// The mark that a request of this connection is being served.
pub struct Busy(Rc<Seat>);

impl Busy {
    /// Marks the connection for as long as the mark lives.
    pub fn new(seat: &Rc<Seat>) -> Self {
        seat.requests.set(seat.requests.get() + 1);
        Self(Rc::clone(seat))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let left = self.0.requests.get().saturating_sub(1);
        self.0.requests.set(left);
        self.0.idle_since.set(Instant::now());
    }
}

/// Watches a new connection: after `most` without a request it is shut down. Called on the worker's own thread.
pub fn watch(most: Duration, connection: &dyn Any, data: &mut Extensions) {
    let Some(connection) = connection.downcast_ref::<rt::net::TcpStream>() else { return };
    // A second descriptor of the same socket: the first belongs to actix, which gives no way to end a connection.
    let Ok(descriptor) = connection.as_fd().try_clone_to_owned() else { return };
    let seat = Rc::new(Seat {
        stream: TcpStream::from(descriptor),
        requests: Cell::new(0),
        idle_since: Cell::new(Instant::now()),
    });
    let watched = Rc::downgrade(&seat);
    data.insert(seat);
    rt::spawn(async move {
        let mut wake = Instant::now() + most;
        loop {
            sleep_until(wake).await;
            // The connection ended by itself.
            let Some(seat) = watched.upgrade() else { return };
            let now = Instant::now();
            wake = if seat.requests.get() > 0 { now + most } else { seat.idle_since.get() + most };
            if wake <= now {
                // An error means that the client was faster.
                drop(seat.stream.shutdown(Shutdown::Both));
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use actix_web::{App, HttpResponse, HttpServer, web};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    #[actix_web::test]
    async fn a_second_head_that_never_ends_loses_its_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = HttpServer::new(|| App::new().default_service(web::to(HttpResponse::Ok)))
            .on_connect(|connection, data| watch(Duration::from_millis(300), connection, data))
            .workers(1)
            .disable_signals()
            .listen(listener)
            .unwrap()
            .run();
        let handle = server.handle();
        rt::spawn(server);
        let mut client = rt::net::TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nx-tri").await.unwrap();
        let mut answers = Vec::new();
        timeout(Duration::from_secs(10), client.read_to_end(&mut answers)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&answers).matches("HTTP/1.1 200").count(), 1);
        handle.stop(false).await;
    }
}
