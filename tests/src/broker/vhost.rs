//! Making, listing and deleting a virtual host, by the management API or by `rabbitmqctl` (slower: it starts an Erlang each time).

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Value, json};
use tokio::process::Command;

use super::left::Listed;

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
            rabbitmqctl(&["set_permissions", "-p", vhost, user, ".*", ".*", ".*"]).await.map(drop)
        }
    }
}

/// The queues of `vhost`, with what the broker says that their consumers hold.
pub(super) async fn queues(management: Option<&Url>, vhost: &str) -> Result<Vec<Listed>> {
    let rows: Vec<Value> = match management {
        Some(api) => {
            // Without statistics, which lag behind what the queues tell.
            let path = format!("api/queues/{vhost}?disable_stats=true&enable_queue_totals=true");
            let answer = Client::new().get(api.join(&path)?).send().await.context("listing the queues")?;
            answer.error_for_status().context("listing the queues")?.json().await?
        }
        None => {
            let columns = ["name", "messages_unacknowledged"];
            let list = ["list_queues", "--formatter", "json", "-p", vhost];
            serde_json::from_slice(&rabbitmqctl(&[&list[..], &columns[..]].concat()).await?)?
        }
    };
    let listed = |row: &Value| {
        let name = row.get("name").and_then(Value::as_str).context("a queue without a name")?.to_owned();
        Ok(Listed { name, unacknowledged: row.get("messages_unacknowledged").and_then(Value::as_u64) })
    };
    rows.iter().map(listed).collect()
}

/// Deletes `vhost` with all that is in it.
pub(super) async fn delete(management: Option<&Url>, vhost: &str) -> Result<()> {
    match management {
        Some(api) => call(api, Method::DELETE, &format!("api/vhosts/{vhost}"), json!({})).await,
        None => rabbitmqctl(&["delete_vhost", vhost]).await.map(drop),
    }
}

/// Deletes a user, who may be gone already.
pub(super) async fn delete_user(management: Option<&Url>, user: &str) -> Result<()> {
    let Some(api) = management else {
        return rabbitmqctl(&["delete_user", user]).await.map(drop);
    };
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

/// Gives what it wrote.
async fn rabbitmqctl(arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("rabbitmqctl")
        .arg("--quiet")
        .args(arguments)
        .output()
        .await
        .context("TEST_AMQP_MANAGEMENT_URL is not set and rabbitmqctl does not run")?;
    if !output.status.success() {
        bail!("rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))
    }
    Ok(output.stdout)
}
