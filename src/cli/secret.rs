//! `windlass secret`: files are encrypted, changed and looked at as SOPS has them, by age keys.
//!
//! ```text
//!   encrypt   plain ─▶ encrypted, for whom .sops.yaml says
//!   edit      encrypted ─▶ plain, in memory ─▶ $EDITOR ─▶ encrypted, only what was changed
//!   rotate    encrypted ─▶ encrypted under a new key, for whom .sops.yaml says by now
//!   decrypt   encrypted ─▶ plain, to standard output
//!   keys      who can open what; generate: a key for a node, or for a person
//! ```
//! The limit: a value that was ever in Git in plain text, or that somebody could decrypt who should not any
//! more, must itself be changed; no command can take it back.

mod edit;
mod keys;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::agent::{NO_DUMPS, keep_memory};
use super::config::AGE_KEYS;
use super::fault::Failure;
use super::out::talk;
use super::{Context, wait};
use crate::adapters::git::write_file;
use crate::adapters::{clock, keyring};
use crate::desired::sealed::{self, CREATION_FILE, Chance, CreationRules, Manner, Means, Unsealed};
use crate::kinds::age::Keyring;

/// Arguments of `windlass secret`.
#[derive(Args, Debug)]
pub(super) struct Secret {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Encrypt the values of a file with Secrets, in its place
    Encrypt(Encrypt),
    /// Change the values of an encrypted file in $EDITOR
    Edit(One),
    /// Encrypt a file anew, under a new key, for whom .sops.yaml names by now
    Rotate(Encrypt),
    /// Print a file with its values in the clear
    Decrypt(One),
    /// Show for whom files are encrypted, and which nodes can open them
    Keys(keys::Keys),
}

/// A file, and what opens it.
#[derive(Args, Debug)]
struct One {
    /// File with Secrets, YAML or JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File with your age keys [default: where SOPS has them, else the node's own]
    #[arg(long, value_name = "FILE", env = "SOPS_AGE_KEY_FILE")]
    key: Option<PathBuf>,
}

/// A file, and for whom.
#[derive(Args, Debug)]
struct Encrypt {
    #[command(flatten)]
    one: One,
    /// Recipient of age (age1…) [default: what .sops.yaml names, else, of an encrypted file, as before]
    #[arg(long = "to", value_name = "RECIPIENT")]
    to: Vec<String>,
}

pub(super) fn run(args: &Secret, context: &mut Context) -> Result<(), Failure> {
    keep_memory().map_err(|error| Failure::plain(format!("{NO_DUMPS}: {error}")))?;
    match &args.what {
        What::Encrypt(args) => encrypt(args),
        What::Edit(one) => edit::run(one),
        What::Rotate(args) => rotate(args),
        What::Decrypt(one) => {
            let plain = one.decrypt(&one.read()?)?;
            context.out.text(&plain)
        }
        What::Keys(args) => match &args.command {
            Some(keys::Command::Generate(args)) => keys::generate(args, context),
            None => wait(keys::show(args, context)),
        },
    }
}

fn encrypt(args: &Encrypt) -> Result<(), Failure> {
    let plain = Zeroizing::new(args.one.read()?);
    let manner = match args.manner()? {
        Some(manner) => manner,
        None if args.to.is_empty() => {
            let what = format!("no rule of a .sops.yaml fits {}", args.one.file.display());
            let hint = "name a recipient: --to age1…, or write a .sops.yaml";
            return Err(Failure::hinted(what, hint));
        }
        None => Manner::for_all(&args.to).map_err(|why| args.one.refused(&why))?,
    };
    let name = args.one.name();
    let sealed = with_means(|means| sealed::encrypt(&name, &plain, &manner, means))?;
    args.one.write(&sealed.map_err(|why| args.one.refused(&why))?)?;
    talk(&format!("{name} is encrypted\n"));
    Ok(())
}

fn rotate(args: &Encrypt) -> Result<(), Failure> {
    let one = &args.one;
    let before = one.read()?;
    let plain = one.decrypt(&before)?;
    let name = one.name();
    let manner = match args.manner()? {
        Some(manner) => manner,
        None => Manner::of_file(&name, &before, &args.to).map_err(|why| one.refused(&why))?,
    };
    let sealed = with_means(|means| sealed::encrypt(&name, &plain, &manner, means))?;
    one.write(&sealed.map_err(|why| one.refused(&why))?)?;
    talk(&format!(
        "{name} is encrypted under a new key; who had the old one still knows its values: change those as well\n"
    ));
    Ok(())
}

impl Encrypt {
    /// For whom, and which values, as the nearest `.sops.yaml` has it; none where it says nothing.
    fn manner(&self) -> Result<Option<Manner>, Failure> {
        let refused = |why: Unsealed| self.one.refused(&why);
        let file = self.one.file.canonicalize().map_err(|error| self.one.unreadable(&error))?;
        for directory in file.ancestors().skip(1) {
            let path = directory.join(CREATION_FILE);
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let rules: CreationRules =
                text.parse().map_err(|why| Failure::plain(format!("{}: {why}", path.display())))?;
            let within = file.strip_prefix(directory).unwrap_or(&file).to_string_lossy();
            let manner = rules.of(&within).map(|rule| Manner::of(rule, &self.to));
            return manner.transpose().map_err(refused);
        }
        Ok(None)
    }
}

impl One {
    fn name(&self) -> String {
        self.file.display().to_string()
    }

    fn read(&self) -> Result<String, Failure> {
        fs::read_to_string(&self.file).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &std::io::Error) -> Failure {
        Failure::plain(format!("{}: {error}", self.file.display()))
    }

    fn refused(&self, why: &Unsealed) -> Failure {
        let message = format!("{}: {why}", self.file.display());
        match why {
            Unsealed::NotForUs { .. } => {
                Failure::hinted(message, "name the file with your key: --key FILE")
            }
            _ => Failure::plain(message),
        }
    }

    fn keyring(&self) -> Keyring {
        if let Ok(text) = std::env::var("SOPS_AGE_KEY").map(Zeroizing::new)
            && self.key.is_none()
        {
            return Keyring::parse("$SOPS_AGE_KEY", &text);
        }
        let home = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let config = home("XDG_CONFIG_HOME").or_else(|| Some(home("HOME")?.join(".config")));
        let of_sops = config.map(|config| config.join("sops/age/keys.txt"));
        let path = self.key.clone().or_else(|| of_sops.filter(|path| path.exists()));
        keyring::read(&path.unwrap_or_else(|| AGE_KEYS.into()))
    }

    fn decrypt(&self, text: &str) -> Result<Zeroizing<String>, Failure> {
        let plain = sealed::decrypt(&self.name(), text, &self.keyring());
        plain.map_err(|why| self.refused(&why))
    }

    /// Puts a text into the file's place, as readable as it was.
    fn write(&self, text: &str) -> Result<(), Failure> {
        let mode = fs::metadata(&self.file).map(|metadata| metadata.permissions().mode() & 0o777);
        let path = self.file.canonicalize().unwrap_or_else(|_| self.file.clone());
        write_file(&path, text.as_bytes()).map_err(|error| self.unreadable(&error))?;
        let permissions = fs::Permissions::from_mode(mode.unwrap_or(0o644));
        fs::set_permissions(&path, permissions).map_err(|error| self.unreadable(&error))
    }
}

/// Lends chance and time to those who encrypt.
fn with_means<T>(work: impl FnOnce(&mut Means<'_>) -> T) -> Result<T, Failure> {
    let mut is_good = true;
    let mut chance = |buffer: &mut [u8]| is_good &= getrandom::fill(buffer).is_ok();
    let now = clock::now().wall.to_string();
    let chance_of: &mut Chance<'_> = &mut chance;
    let done = work(&mut Means { chance: chance_of, now });
    if is_good { Ok(done) } else { Err(Failure::plain("the kernel gives no random bytes")) }
}
