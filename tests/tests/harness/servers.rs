//! Servers of a test's own: what they said is kept survives a SIGKILL, and nothing of them outlives the test.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use orrery_tests::{Broker, Database, Dice, Postgres, RabbitMq};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgresql_comes_back_with_what_was_committed() -> Result<()> {
    let server = Postgres::start().await?;
    let database = Database::create_on(&server.url()?).await?;
    database.execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)").await?;
    for _ in 0..2 {
        server.kill();
        ensure!(database.execute("INSERT INTO kept VALUES (2)").await.is_err(), "a killed server answers");
        server.resume().await?;
        ensure!(database.count("SELECT count(*) FROM kept").await? == 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_rabbitmq_comes_back_with_what_was_confirmed() -> Result<()> {
    let server = RabbitMq::start().await?;
    let broker = Broker::create_on(&server.url()?, Some(server.management_url()?)).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    broker.channel().await?.queue_declare("kept".into(), QueueDeclareOptions::durable(), arguments).await?;
    server.wait_leaders(broker.vhost(), SOON).await?;
    let persistent = BasicProperties::default().with_delivery_mode(2);
    broker.publish_raw("", "kept", persistent, b"a message").await?;
    server.kill();
    ensure!(broker.depth("kept").await.is_err(), "a killed broker answers");
    server.resume().await?;
    let message = broker.get_one("kept").await?.context("the message is lost")?;
    ensure!(&message.body[..] == b"a message");
    Ok(())
}

#[test]
fn the_same_seed_falls_the_same_way() {
    let throw = |seed| {
        let (mut dice, mut order) = (Dice::new(seed), [1, 2, 3, 4, 5, 6, 7, 8]);
        dice.shuffle(&mut order);
        (order, dice.millis(200, 2000))
    };
    assert_eq!(throw(7), throw(7));
    assert_ne!(throw(7), throw(8));
    let time = throw(9).1;
    assert!((200..=2000).contains(&time.as_millis()), "{time:?}");
}
