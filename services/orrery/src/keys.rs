//! Whether the configuration's keys are those that the database's rows were sealed under (`orrery_store::key_checks`), for `check`, `migrate` and `serve`.

use orrery_config::keys::KeyRing;
use orrery_store::{
    Pool,
    key_checks::{self, Key, KeyCheckError},
};
use tokio::runtime::Handle;

use crate::config::Config;

/// The rings that the enabled services need, where they are given.
fn rings(config: &Config) -> Vec<(Key, KeyRing)> {
    let keys = &config.shared.keys;
    let master = config.needs(|needs| needs.master_key).then(|| keys.master().ok()).flatten();
    let mail = config.needs(|needs| needs.mail_key).then(|| keys.mail().ok()).flatten();
    let discovery = config.needs(|needs| needs.discovery_key).then(|| keys.discovery().ok()).flatten();
    let rings = [(Key::Master, master), (Key::Mail, mail), (Key::Discovery, discovery)];
    rings.into_iter().filter_map(|(key, ring)| Some((key, ring?))).collect()
}

/// For `orrery check`: looks and writes nothing. None where no key is needed, or one is missing, which another line tells.
pub async fn checked(config: &Config) -> Option<Result<String, String>> {
    let rings = rings(config);
    if rings.is_empty() {
        return None;
    }
    let looked = async {
        let pool = Pool::admin(&config.shared.database, 1, Handle::current())?;
        let mut connection = pool.get().await?;
        for (key, ring) in &rings {
            key_checks::check(&mut connection, *key, ring).await?;
        }
        Ok::<_, KeyCheckError>(())
    };
    let looked: Result<(), KeyCheckError> = looked.await;
    Some(looked.map(|()| "they open what the database holds".to_owned()).map_err(|error| error.to_string()))
}

/// For `orrery migrate` and `orrery serve`: a database that knows no key yet learns the configuration's.
///
/// # Errors
/// When a key is another one than the database knows; when the database refuses.
pub async fn hold(config: &Config) -> Result<(), KeyCheckError> {
    let rings = rings(config);
    if rings.is_empty() {
        return Ok(());
    }
    let pool = Pool::admin(&config.shared.database, 1, Handle::current())?;
    let mut connection = pool.get().await?;
    for (key, ring) in &rings {
        key_checks::hold(&mut connection, *key, ring).await?;
    }
    Ok(())
}
