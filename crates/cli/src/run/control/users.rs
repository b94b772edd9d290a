//! Users of the Admin API: whether they are needed, and the first of them.

use anyhow::{Context as _, Result, anyhow, bail};
use cardinal_control::Dao;
use cardinal_control::rbac::{FIRST_USER, first_user};
use cardinal_kong::Settings;
use cardinal_kong::settings::EnforceRbac;
use cardinal_store::{Author, Query, StoreError};

/// Which rules of roles are enforced. Unless the settings say so: those about endpoints, where other machines reach an API
/// that can be changed.
pub(super) fn enforced(settings: &Settings, has_files: bool) -> EnforceRbac {
    let is_local = settings.admin.listeners.iter().all(|(address, _)| address.ip().is_loopback());
    let default = if has_files || is_local { EnforceRbac::Off } else { EnforceRbac::On };
    settings.admin.enforce_rbac.unwrap_or(default)
}

/// Users need a database.
pub(super) fn refuse_with_files(settings: &Settings) -> Result<()> {
    if settings.admin.enforce_rbac.is_some_and(|enforce| enforce != EnforceRbac::Off) {
        bail!(
            "enforce_rbac: users and roles need a database, and entities come from files; set enforce_rbac=off and \
             restrict access to admin_listen, or set database=sqlite"
        );
    }
    Ok(())
}

/// Creates the first user, if the settings have a token for it, or tells how it is created.
pub(super) async fn prepare(dao: &Dao, settings: &Settings) -> Result<()> {
    if let Some(password) = &settings.admin.password {
        let author = Author { via: "settings".into(), ..Author::default() };
        let made = first_user(dao, &author, &password.0).await;
        if made.map_err(|fault| anyhow!("the user {FIRST_USER} cannot be created: {fault}"))? {
            tracing::info!("created the user {FIRST_USER} with the role super-admin");
        }
    } else if enforced(settings, false) != EnforceRbac::Off {
        let users = dao.store().list(Query { limit: 1, ..Query::all("rbac_users") }).await;
        if let Err(StoreError::Corrupt(why)) = &users {
            // It concerns the API alone.
            tracing::error!("a user of the Admin API cannot be read: {why}");
            return Ok(());
        }
        if users.context("users")?.documents.is_empty() {
            tracing::warn!(
                "the Admin API requires a token, and there is no user: create the first one with 'cardinal rbac bootstrap', \
                 or set password (KONG_PASSWORD)"
            );
        }
    }
    Ok(())
}
