//! A real mail receiver on 127.0.0.1 that tests read and script. The protocol is in `smtp::session`.

mod session;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::mail::Mail;

/// A mail receiver; dropping it closes the listener and every session.
#[derive(Debug)]
pub struct SmtpReceiver {
    address: SocketAddr,
    desk: Arc<watch::Sender<AppState>>,
    acceptor: JoinHandle<()>,
}

/// What was received, and how the next mails are to be treated.
#[derive(Debug, Default)]
struct AppState {
    mails: Vec<Mail>,
    attempts: usize,
    data_script: VecDeque<DataAnswer>,
    rcpt_script: VecDeque<Reply>,
    /// The command to which nobody gets an answer.
    silent_at: Option<&'static str>,
}

/// How one mail is treated when its last byte is there.
#[derive(Clone, Debug)]
enum DataAnswer {
    Reply(Reply),
    Delay(Duration),
    Drop,
}

/// One answer of the server.
#[derive(Clone, Debug)]
struct Reply {
    code: u16,
    text: String,
}

impl SmtpReceiver {
    /// Listens on a free port; accepts every mail until told otherwise.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub async fn start() -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding the mail receiver")?;
        let address = listener.local_addr()?;
        let desk = Arc::new(watch::Sender::new(AppState::default()));
        let acceptor = tokio::spawn(accept(listener, Arc::clone(&desk)));
        Ok(Self { address, desk, acceptor })
    }

    /// Where it listens. In a world the services reach it through a proxy at another address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers the next mail that has no script yet with `code text` after its data; 2xx accepts, all else refuses it.
    pub fn reply_to_data(&self, code: u16, text: &str) {
        let reply = Reply { code, text: text.to_owned() };
        self.desk.send_modify(|desk| desk.data_script.push_back(DataAnswer::Reply(reply)));
    }

    /// Answers the next RCPT that has no script yet with `code text`.
    pub fn reply_to_rcpt(&self, code: u16, text: &str) {
        let reply = Reply { code, text: text.to_owned() };
        self.desk.send_modify(|desk| desk.rcpt_script.push_back(reply));
    }

    /// Answers nobody who says `verb` (`RCPT`) until `speak_again`, and everything else as before.
    pub fn fall_silent_at(&self, verb: &'static str) {
        self.desk.send_modify(|desk| desk.silent_at = Some(verb));
    }

    /// Ends what `fall_silent_at` began; who waited meanwhile gets the answer.
    pub fn speak_again(&self) {
        self.desk.send_modify(|desk| desk.silent_at = None);
    }

    /// Accepts and records the next mail that has no script yet, and answers only after `time`.
    pub fn delay(&self, time: Duration) {
        self.desk.send_modify(|desk| desk.data_script.push_back(DataAnswer::Delay(time)));
    }

    /// Accepts and records the next mail that has no script yet, then closes the connection without an answer.
    pub fn drop_after_data(&self) {
        self.desk.send_modify(|desk| desk.data_script.push_back(DataAnswer::Drop));
    }

    /// Forgets what was scripted and not yet used.
    pub fn forget_scripts(&self) {
        self.desk.send_modify(|desk| {
            desk.data_script.clear();
            desk.rcpt_script.clear();
        });
    }

    /// The mails accepted so far, oldest first.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        self.desk.borrow().mails.clone()
    }

    /// The accepted mails whose envelope names `address`.
    #[must_use]
    pub fn mails_to(&self, address: &str) -> Vec<Mail> {
        self.desk.borrow().mails.iter().filter(|mail| mail.is_to(address)).cloned().collect()
    }

    /// DATA commands seen so far, those of refused and cut-off mails included.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.desk.borrow().attempts
    }

    /// Waits until at least `count` mails are accepted and gives them all.
    ///
    /// # Errors
    /// Fewer came within `deadline`; the error says how many.
    pub async fn wait_for(&self, count: usize, deadline: Duration) -> Result<Vec<Mail>> {
        self.wait(&format!("{count} mails"), deadline, |desk| desk.mails.len() >= count).await
    }

    /// Waits until `condition` holds for the accepted mails and gives them all.
    ///
    /// # Errors
    /// It did not within `deadline`.
    pub async fn wait_until(
        &self,
        mut condition: impl FnMut(&[Mail]) -> bool,
        deadline: Duration,
    ) -> Result<Vec<Mail>> {
        self.wait("mails that fulfil the condition", deadline, |desk| condition(&desk.mails)).await
    }

    /// Waits until at least `count` DATA commands were seen.
    ///
    /// # Errors
    /// Fewer came within `deadline`.
    pub async fn wait_for_attempts(&self, count: usize, deadline: Duration) -> Result<()> {
        self.wait(&format!("{count} attempts"), deadline, |desk| desk.attempts >= count).await?;
        Ok(())
    }

    async fn wait(
        &self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&AppState) -> bool,
    ) -> Result<Vec<Mail>> {
        let mut desk = self.desk.subscribe();
        let end = Instant::now() + deadline;
        match timeout_at(end, desk.wait_for(|desk| condition(desk))).await {
            Ok(Ok(desk)) => Ok(desk.mails.clone()),
            Ok(Err(closed)) => Err(closed).context("the mail receiver is gone"),
            Err(_) => {
                let desk = self.desk.borrow();
                let (mails, attempts) = (desk.mails.len(), desk.attempts);
                Err(anyhow!("waited {deadline:?} for {what}: there are {mails} after {attempts} attempts"))
            }
        }
    }
}

impl Drop for SmtpReceiver {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// Takes sessions in; when it is aborted, they end with it.
async fn accept(listener: TcpListener, desk: Arc<watch::Sender<AppState>>) {
    let mut sessions = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        while sessions.try_join_next().is_some() {}
        let desk = Arc::clone(&desk);
        sessions.spawn(async move {
            // A client that breaks off is what tests are about, and no fault of the receiver.
            session::serve(stream, &desk).await.ok();
        });
    }
}
