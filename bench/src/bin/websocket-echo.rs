//! A bare echo over WebSocket, that discovery is measured beside: `websocket-echo ADDRESS`.

use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer, rt, web};
use actix_ws::Message;
use futures_util::StreamExt;

async fn echo(request: HttpRequest, body: web::Payload) -> Result<HttpResponse, Error> {
    let (response, mut session, mut messages) = actix_ws::handle(&request, body)?;
    rt::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            let sent = match message {
                Message::Text(text) => session.text(text).await,
                Message::Ping(bytes) => session.pong(&bytes).await,
                Message::Close(_) => break,
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
        // The client has gone already.
        drop(session.close(None).await);
    });
    Ok(response)
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_default();
    rt::System::new().block_on(async move {
        HttpServer::new(|| App::new().route("/", web::get().to(echo)))
            .workers(2)
            .max_connections(20_000)
            .bind(address)?
            .run()
            .await
    })
}
