//! What the console's database role may do: what its pages need and no more.

use anyhow::{Result, ensure};
use diesel_async::SimpleAsyncConnection;
use orrery_tests::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_reads_no_account_and_nothing_of_what_an_event_tells() -> Result<()> {
    let world = World::start().await?;
    let mut connection = world.database().connect().await?;
    connection.batch_execute("SET ROLE orrery_console").await?;
    for refused in [
        "SELECT * FROM autha.accounts",
        "SELECT data FROM bus.outbox",
        "SELECT body FROM bus.outbox",
        "DELETE FROM bus.outbox",
        "UPDATE bus.outbox SET data = '{}'",
        "UPDATE bus.outbox SET routing_key = 'x'",
        "INSERT INTO bus.dead_letters SELECT * FROM bus.dead_letters",
        "UPDATE bus.dead_letters SET handler = 'x'",
        "INSERT INTO bus.inbox SELECT * FROM bus.inbox",
        "DELETE FROM bus.inbox",
        "UPDATE console.audit SET actor = 'x'",
        "UPDATE orrery.key_checks SET sealed = 'x'",
        "SELECT * FROM maily.suppressed",
        "SELECT secret FROM partners.endpoints",
        "SELECT contact FROM partners.partners",
        "SELECT event FROM partners.deliveries",
        "SELECT * FROM partners.keys",
        "SELECT * FROM partners.log",
        "UPDATE partners.endpoints SET url = 'x'",
    ] {
        let fault =
            connection.batch_execute(refused).await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(fault.contains("permission denied"), "{refused}: {fault}");
    }
    connection
        .batch_execute(
            "SELECT type, status FROM bus.outbox; SELECT * FROM bus.dead_letters FOR UPDATE SKIP LOCKED",
        )
        .await?;
    Ok(())
}
