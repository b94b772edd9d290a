//! `cardinal rbac`: the first user of the Admin API.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use cardinal_control::rbac::{FIRST_USER, bootstrap};
use cardinal_sdk::PluginDef;

use crate::args::{BootstrapArgs, RbacCommand};
use crate::out;
use crate::store::{Missing, Opened};

pub(crate) fn run(
    command: RbacCommand,
    plugins: &'static [&'static PluginDef],
    env: BTreeMap<String, String>,
) -> Result<ExitCode> {
    match command {
        RbacCommand::Bootstrap(args) => first(args, plugins, env),
    }
}

fn first(
    args: BootstrapArgs,
    plugins: &'static [&'static PluginDef],
    env: BTreeMap<String, String>,
) -> Result<ExitCode> {
    let opened = Opened::new(args.store, plugins, env, Missing::Create)?;
    let password = opened.place.settings.admin.password.as_ref().map(|password| password.0.as_str());
    let name = args.name.as_deref().unwrap_or(FIRST_USER);
    let author = opened.tenant().author;
    let made = opened.wait(bootstrap(&opened.dao, &author, name, password, args.reset));
    let token = match made {
        Ok(token) => token,
        Err(fault) if fault.status == 409 && !args.reset => {
            bail!("{fault}; give it a new token with --reset, or create another one with --name")
        }
        Err(fault) => bail!("{fault}"),
    };
    // The token of the settings is known already.
    match password {
        Some(_) => {
            out::print(&format!("the user '{name}' has the role super-admin and the token of the setting password\n"))?
        }
        None => {
            out::complain(&format!(
                "the user '{name}' has the role super-admin; its token, which is not shown again:\n"
            ));
            out::print(&format!("{token}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
