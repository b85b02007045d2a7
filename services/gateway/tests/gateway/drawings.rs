//! libra's two drawings: clients come in by the edge proxy alone, to App1 and straight to the API; apps reach the API only by the API proxy, which
//! spreads over three replicas. In development the apps stand outside.

use std::collections::BTreeSet;

use actix_web::{HttpResponse, web};
use anyhow::Result;

use crate::harness::{Running, ask, configured, gateway, upstream};

/// A replica of the API that tells which one it is, after a moment of work.
fn replica(name: &'static str) -> Result<Running> {
    upstream(move || {
        web::to(move || async move {
            actix_rt::time::sleep(std::time::Duration::from_millis(20)).await;
            HttpResponse::Ok().body(name)
        })
    })
}

fn replicas() -> Result<[Running; 3]> {
    Ok([replica("librad 1")?, replica("librad 2")?, replica("librad 3")?])
}

fn autha(replicas: &[Running]) -> String {
    let urls: Vec<_> = replicas.iter().map(|replica| format!("'http://{}'", replica.address)).collect();
    format!("autha = [{}]\n", urls.join(", "))
}

/// Who answers when several ask at once.
async fn answering(gateway: &Running, path: &str) -> Result<BTreeSet<String>> {
    let line = format!("GET {path}");
    let asked = (0..12).map(|_| ask(gateway, &line, ""));
    let replies = futures_util::future::try_join_all(asked).await?;
    Ok(replies.into_iter().map(|reply| reply.body).collect())
}

async fn both(app: &Running) -> Result<()> {
    let replicas = replicas()?;
    let edge = gateway(&configured(&format!(
        "{}[[listeners]]\nrole = 'edge'\naddress = '127.0.0.1:0'\n[[routes]]\npath = '/app1'\nupstreams = 'http://{}'\n",
        autha(&replicas),
        app.address
    ))?)?;
    let api = gateway(&configured(&format!(
        "{}[[listeners]]\nrole = 'api'\naddress = '127.0.0.1:0'\nhealth = ['/healthcheck']\n",
        autha(&replicas)
    ))?)?;
    let all = BTreeSet::from(["librad 1", "librad 2", "librad 3"].map(str::to_owned));
    // Clients: App1, and the API.
    assert_eq!(answering(&edge, "/app1/page").await?, BTreeSet::from(["app1".to_owned()]));
    assert_eq!(answering(&edge, "/users/ada").await?, all);
    // Apps: the API, and nothing else.
    assert_eq!(answering(&api, "/users/ada").await?, all);
    assert_eq!(ask(&api, "GET /app1/page", "").await?.status, 404);
    assert_eq!(ask(&api, "GET /healthcheck", "").await?.status, 200);
    assert_eq!(ask(&edge, "GET /app2/page", "").await?.status, 404);
    Ok(())
}

#[actix_web::test]
async fn production_three_apps_and_three_replicas_behind_both_proxies() -> Result<()> {
    both(&replica("app1")?).await
}

#[actix_web::test]
async fn development_an_app_outside_may_come_later_than_the_proxies() -> Result<()> {
    // Its developer has not started it yet.
    let address = crate::harness::nobody()?;
    let replicas = replicas()?;
    let edge = gateway(&configured(&format!(
        "{}[[routes]]\npath = '/app1'\nupstreams = 'http://{address}'\n",
        autha(&replicas)
    ))?)?;
    assert_eq!(ask(&edge, "GET /app1/", "").await?.status, 503);
    assert_eq!(ask(&edge, "GET /users/ada", "").await?.status, 200);
    both(&replica("app1")?).await
}
