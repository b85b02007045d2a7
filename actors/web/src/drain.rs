//! How a process takes leave of its clients: it says that it is not ready, ends each connection with its answer, lets no new connection in, and only
//! then closes its listeners. What was let in is answered.

use std::{
    io,
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::ConnectionType,
    middleware::Next,
    web::Data,
};
use socket2::{SockFilter, SockRef};
use tokio::{sync::watch, time::sleep};
use tracing::debug;

use crate::health::Health;

/// What is between the last connection that is let in and the close of its listener: time to accept it and to read the head of its request.
const SETTLE: Duration = Duration::from_millis(150);

/// A filter of the kernel for a listener's packets: a SYN is dropped, everything else passes. A client whose SYN is dropped sends it again after a second
/// and finds the listener closed, or the next process; one whose connection was in the listener's queue when that closed would have lost its request.
const NO_SYN: [(u16, u8, u8, u32); 5] = [
    (0x30, 0, 0, 13),       // load the flags of the TCP header
    (0x54, 0, 0, 0x12),     // keep SYN and ACK
    (0x15, 0, 1, 0x02),     // SYN alone?
    (0x06, 0, 0, 0),        // then nothing of it passes
    (0x06, 0, 0, u32::MAX), // else all
];

/// The leave of one process. It is taken once.
#[derive(Clone, Default)]
pub struct Drain(Arc<Inner>);

#[derive(Default)]
struct Inner {
    begun: watch::Sender<bool>,
    listeners: Mutex<Vec<TcpListener>>,
}

impl Drain {
    /// Remembers a listener, whose door `close_doors` closes.
    ///
    /// # Errors
    /// When the system has no more file descriptors.
    pub fn watch(&self, listener: &TcpListener) -> io::Result<()> {
        let same = listener.try_clone()?;
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(same);
        Ok(())
    }

    /// From now on the process is not ready, and ends each connection with its next answer.
    pub fn begin(&self) {
        self.0.begun.send_replace(true);
    }

    /// Whether it has begun.
    pub fn is_begun(&self) -> bool {
        *self.0.begun.borrow()
    }

    /// Returns once it has begun; never, when the process goes on.
    pub fn begun(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut begun = self.0.begun.subscribe();
        let kept = self.clone();
        async move {
            // The sender lives as long as `kept`.
            let _gone = begun.wait_for(|begun| *begun).await.is_err();
            drop(kept);
        }
    }

    /// Lets no new connection in, and returns when those that were let in had time to ask. The listeners can be closed then.
    pub async fn close_doors(&self) {
        let listeners = std::mem::take(&mut *self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner));
        if listeners.is_empty() {
            return;
        }
        let filter =
            NO_SYN.map(|(code, if_true, if_false, value)| SockFilter::new(code, if_true, if_false, value));
        for listener in &listeners {
            if let Err(error) = SockRef::from(listener).attach_filter(&filter) {
                debug!(%error, "a listener takes connections until it is closed");
            }
        }
        sleep(SETTLE).await;
    }
}

/// A middleware: the last answer of a connection says that it is the last, so that clients send nothing more on it.
///
/// # Errors
/// Those of the service behind it.
pub async fn last_answers<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let drain = request.app_data::<Data<Health>>().map(|health| health.drain().clone());
    let mut response = next.call(request).await?;
    if drain.is_some_and(|drain| drain.is_begun()) {
        end_connection(&mut response);
    }
    Ok(response)
}

/// Says that this is the connection's last answer. An upgraded connection has none.
pub fn end_connection<B>(response: &mut ServiceResponse<B>) {
    let head = response.response_mut().head_mut();
    if !head.upgrade() {
        head.set_connection_type(ConnectionType::Close);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    use super::*;

    #[tokio::test]
    async fn what_came_before_the_doors_close_gets_in_and_nothing_after() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let drain = Drain::default();
        drain.watch(&listener).unwrap();
        let mut before = TcpStream::connect(address).unwrap();
        drain.close_doors().await;
        let after = TcpStream::connect_timeout(&address, Duration::from_millis(300));
        assert_eq!(after.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Its connection works both ways.
        let (mut accepted, _) = listener.accept().unwrap();
        before.write_all(b"asked").unwrap();
        let mut read = [0; 5];
        accepted.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"asked");
        // Nothing of ours keeps the listener open.
        drop(listener);
        let after = TcpStream::connect_timeout(&address, Duration::from_secs(5));
        assert_eq!(after.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn the_beginning_is_told_to_who_waits_and_who_comes_late() {
        let drain = Drain::default();
        let waiting = tokio::spawn(drain.begun());
        assert!(!drain.is_begun());
        drain.begin();
        waiting.await.unwrap();
        drain.begun().await;
        assert!(drain.is_begun());
    }
}
