//! The list of services. A new one is a crate, a line in the workspace's manifest, and a line here.

use orrery_service::Definition;

/// Every service, in the order in which they are started.
pub static SERVICES: &[&Definition] = &[
    &orrery_autha::SERVICE,
    &orrery_maily::SERVICE,
    &orrery_spinoza::SERVICE,
    &orrery_partners::SERVICE,
    &orrery_discovery::SERVICE,
    &orrery_gateway::SERVICE,
    &orrery_console::SERVICE,
];

/// Services that run only where `services` names them: what opens a way in from outside is turned on by somebody.
const ON_REQUEST: &[&str] = &["partners"];

/// The names of those that are enabled where the configuration names none.
pub fn by_default() -> impl Iterator<Item = &'static str> {
    names().into_iter().filter(|name| !ON_REQUEST.contains(name))
}

/// Their names, for messages.
pub fn names() -> Vec<&'static str> {
    SERVICES.iter().map(|definition| definition.service.name()).collect()
}
