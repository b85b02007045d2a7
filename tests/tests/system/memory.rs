//! Memory that is needed for a moment only is given back.

use std::time::Duration;

use anyhow::{Result, ensure};
use orrery_tests::{Person, World, deadline::until};

const SOON: Duration = Duration::from_secs(20);
const MIB: u64 = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_password_needs_goes_back_to_the_system_when_nobody_signs_up() -> Result<()> {
    let world = World::start().await?;
    let front = world.spawn(&["gateway", "autha"]).await?;
    // Twice: after the first time the allocator thinks that it knows better.
    for _ in 0..2 {
        front.reset_peak()?;
        world.client()?.sign_up(&Person::new()).await?.expect(201)?;
        let peak = front.memory()?.peak_rss_bytes;
        until(SOON, "the memory of a hash to be given back", async || {
            front.memory().is_ok_and(|now| now.rss_bytes + 15 * MIB < peak)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_connections_have_room_for_is_bounded() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&[]).await?;
    // Buffers of connections are gone round in: what is set aside for them is memory in time.
    let aside = service.memory()?.data_bytes / MIB;
    ensure!(aside < 1024, "{aside} MiB are set aside");
    Ok(())
}
