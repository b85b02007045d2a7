//! Budgets of attempts at the routes. What is counted lives in `throttle`.

use std::net::IpAddr;

use orrery_web::problem::Problem;

use super::{AppState, fault};
use crate::throttle::{Attempt, ThrottleError};

fn problem(error: &ThrottleError) -> Problem {
    match error {
        ThrottleError::Store(error) => fault::store(error),
        ThrottleError::Seal(error) => fault::seal(error),
    }
}

/// Refuses an attempt whose budget is spent.
///
/// # Errors
/// 429 with the time to wait.
pub async fn check(app: &AppState, attempt: Attempt<'_>, from: Option<IpAddr>) -> Result<(), Problem> {
    let wait = app.throttle.wait(attempt, from).await.map_err(|error| problem(&error))?;
    wait.map_or(Ok(()), |wait| Err(fault::throttled(wait)))
}

/// Counts an attempt that was wrong. Its answer is that of the attempt: the next one has to wait.
///
/// # Errors
/// 503 while it cannot be counted.
pub async fn failed(app: &AppState, attempt: Attempt<'_>, from: Option<IpAddr>) -> Result<(), Problem> {
    app.throttle.count(attempt, from).await.map(drop).map_err(|error| problem(&error))
}

/// Counts an attempt and refuses it if its budget was spent.
///
/// # Errors
/// 429 with the time to wait.
pub async fn spend(app: &AppState, attempt: Attempt<'_>, from: Option<IpAddr>) -> Result<(), Problem> {
    let wait = app.throttle.count(attempt, from).await.map_err(|error| problem(&error))?;
    wait.map_or(Ok(()), |wait| Err(fault::throttled(wait)))
}

/// Whether the budget has room; counts it.
///
/// # Errors
/// 503 while it cannot be counted.
pub async fn has_room(app: &AppState, attempt: Attempt<'_>, from: Option<IpAddr>) -> Result<bool, Problem> {
    Ok(app.throttle.count(attempt, from).await.map_err(|error| problem(&error))?.is_none())
}

/// Forgets the wrong tries of somebody who was right.
///
/// # Errors
/// 503 while they cannot be forgotten.
pub async fn passed(app: &AppState, attempt: Attempt<'_>, from: Option<IpAddr>) -> Result<(), Problem> {
    app.throttle.forget(attempt, from).await.map_err(|error| problem(&error))
}
