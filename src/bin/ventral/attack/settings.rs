//! The flags of an attack's settings, made from the table of settings.

use clap::{Arg, ArgAction, ArgMatches, Command, Error};
use ventral::perturb::attack::settings::{SETTINGS, SettingInfo, Unit, ValueError};
use ventral::perturb::attack::{Norm, Settings};

/// `--norm`, and a flag for each row of [`SETTINGS`].
pub struct SettingArgs(pub Settings);

const NORM: &str = "norm";

fn norm(text: &str) -> Result<Norm, ValueError> {
    let word = text.to_ascii_lowercase();
    Norm::from_word(&word).ok_or_else(|| ValueError::Norm(text.to_owned()))
}

/// A flag that a plan takes the place of.
fn flag(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).help(help.trim_end_matches('.'));
    arg.value_name(value).conflicts_with("plan")
}

fn setting(info: &SettingInfo) -> Arg {
    let (setting, help) = (info.setting, info.help);
    let value = match info.unit {
        Unit::Radius => "RADIUS",
        Unit::Count => "NUMBER",
        Unit::Fraction => "FRACTION",
        Unit::Switch => {
            let switch = Arg::new(info.name)
                .long(info.name)
                .action(ArgAction::SetTrue);
            return switch
                .help(help.trim_end_matches('.'))
                .conflicts_with("plan");
        }
    };
    flag(info.name, value, help).value_parser(move |text: &str| setting.parse(text))
}

impl clap::Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        let help = "`linf`, `l2` or `l1`; the attack's usual one unless given";
        let command = command.arg(flag(NORM, "NORM", help).value_parser(norm));
        SETTINGS
            .iter()
            .fold(command, |command, info| command.arg(setting(info)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut settings = Settings::default();
        settings.norm = matches.get_one::<Norm>(NORM).copied();
        for info in &SETTINGS {
            let value = match info.unit {
                Unit::Switch => Some(f64::from(matches.get_flag(info.name))),
                _ => matches.get_one::<f64>(info.name).copied(),
            };
            if let Some(value) = value {
                settings.set(info.setting, value);
            }
        }
        Ok(Self(settings))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
