//! People who sign up. Each is new, so that tests on one database do not meet.

use crate::fresh;

/// What a person types at sign-up.
#[derive(Clone, Debug)]
pub struct Person {
    /// The vanity name: 2 to 64 of `[A-Za-z0-9_]`; lower case here.
    pub id: String,
    /// The address.
    pub email: String,
    /// A password that zxcvbn scores at 3 or more.
    pub password: String,
    /// A BCP 47 tag.
    pub locale: String,
}

impl Person {
    /// A person with a random name, address and password, who reads English.
    #[must_use]
    pub fn new() -> Self {
        let (name, password) = (fresh::uuid().simple().to_string(), fresh::uuid());
        Self {
            id: format!("p_{name}"),
            email: format!("m_{name}@people.example"),
            password: format!("Tr-{password}"),
            locale: "en".to_owned(),
        }
    }

    /// The same person, reading another language.
    #[must_use]
    pub fn reading(mut self, locale: &str) -> Self {
        locale.clone_into(&mut self.locale);
        self
    }
}

impl Default for Person {
    fn default() -> Self {
        Self::new()
    }
}
