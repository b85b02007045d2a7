//! Making and deleting a virtual host, by the management API or by `rabbitmqctl` (slower: it starts an Erlang each time).

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Value, json};
use tokio::process::Command;

/// Makes `vhost` and gives `user` all permissions on it.
pub(super) async fn create(management: Option<&Url>, vhost: &str, user: &str) -> Result<()> {
    match management {
        Some(api) => {
            call(api, Method::PUT, &format!("api/vhosts/{vhost}"), json!({})).await?;
            let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
            call(api, Method::PUT, &format!("api/permissions/{vhost}/{user}"), all).await
        }
        None => {
            rabbitmqctl(&["add_vhost", vhost]).await?;
            rabbitmqctl(&["set_permissions", "-p", vhost, user, ".*", ".*", ".*"]).await
        }
    }
}

/// Deletes `vhost` with all that is in it.
pub(super) async fn delete(management: Option<&Url>, vhost: &str) -> Result<()> {
    match management {
        Some(api) => call(api, Method::DELETE, &format!("api/vhosts/{vhost}"), json!({})).await,
        None => rabbitmqctl(&["delete_vhost", vhost]).await,
    }
}

/// Deletes a user, who may be gone already.
pub(super) async fn delete_user(management: Option<&Url>, user: &str) -> Result<()> {
    let Some(api) = management else { return rabbitmqctl(&["delete_user", user]).await };
    let answer = Client::new().delete(api.join(&format!("api/users/{user}"))?).send().await?;
    if !answer.status().is_success() && answer.status() != StatusCode::NOT_FOUND {
        bail!("the management API answers {} to the deletion of {user}", answer.status())
    }
    Ok(())
}

async fn call(api: &Url, method: Method, path: &str, body: Value) -> Result<()> {
    // The user and password that stand in the URL become the request's basic authentication.
    let request = Client::new().request(method, api.join(path)?).json(&body);
    let answer = request.send().await.with_context(|| format!("asking the management API for {path}"))?;
    if !answer.status().is_success() {
        let status = answer.status();
        bail!("the management API answers {status} to {path}: {}", answer.text().await.unwrap_or_default())
    }
    Ok(())
}

async fn rabbitmqctl(arguments: &[&str]) -> Result<()> {
    let output = Command::new("rabbitmqctl")
        .arg("--quiet")
        .args(arguments)
        .output()
        .await
        .context("TEST_AMQP_MANAGEMENT_URL is not set and rabbitmqctl does not run")?;
    if !output.status.success() {
        bail!("rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))
    }
    Ok(())
}
