//! The flags of the table, as clap arguments.
//!
//! Flags are taken as text and read by the same code as variables, so that one run reports every
//! wrong value, not only clap's first.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::{Config, Roles, SETTINGS, Setting};

/// The values of flags that were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<&'static str, String>);

impl Flags {
    /// The flag's value, when it was given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The same flags with one more, as a test or a harness gives it.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.insert(name, value.into());
        self
    }

    fn take(&mut self, matches: &ArgMatches, whose: impl Fn(&Setting) -> bool) {
        let flags = SETTINGS.iter().filter(|setting| setting.flag);
        for setting in flags.filter(|setting| whose(setting)) {
            if let Some(value) = matches.get_one::<String>(setting.name) {
                self.0.insert(setting.name, value.clone());
            }
        }
    }
}

/// The flags of one role, such as [`super::CORE_ROLE`].
#[derive(Clone, Debug, Default)]
pub struct Of<const ROLE: u8>(pub Flags);

impl<const ROLE: u8> Args for Of<ROLE> {
    fn augment_args(command: Command) -> Command {
        augment(command, |setting| setting.roles.any(Roles::new(ROLE)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const ROLE: u8> FromArgMatches for Of<ROLE> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0
            .take(matches, |setting| setting.roles.any(Roles::new(ROLE)));
        Ok(())
    }
}

fn augment(command: Command, whose: impl Fn(&Setting) -> bool) -> Command {
    let mut config = Config::default();
    SETTINGS
        .iter()
        .filter(|setting| setting.flag && whose(setting))
        .fold(command, |command, setting| {
            command.arg(argument(setting, &mut config))
        })
}

fn argument(setting: &Setting, config: &mut Config) -> Arg {
    let default = (setting.place)(config).show();
    let help = if default.is_empty() {
        format!("{} [env: {}]", setting.help, setting.variable())
    } else {
        format!(
            "{} [default: {default}] [env: {}]",
            setting.help,
            setting.variable()
        )
    };
    let argument = Arg::new(setting.name)
        .long(setting.name)
        .value_name(setting.form)
        .help_heading("Configuration")
        .help(help);
    if setting.is_switch() {
        argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else {
        argument.num_args(1)
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        augment(command, |_| true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.take(matches, |_| true);
        Ok(())
    }
}
