//! Secrets in files of their own, read again.

use super::bounds;
use super::file::read_secret;
use super::options::Settings;

type Check = fn(&str) -> Result<(), String>;

impl Settings {
    /// Reads the files of secrets again; the settings with what they hold now, if that is not what it was.
    /// May take as long as a disk does.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or a secret that the start would refuse; it names the variable.
    pub(crate) fn with_secrets_read_again(&self) -> Result<Option<Self>, String> {
        let mut again = self.clone();
        let mut changed = false;
        for (variable, path) in &self.secret_files {
            let secret = read_secret(path).map_err(|why| format!("{variable}: {why}"))?;
            let (place, check): (_, Check) = match variable.trim_start_matches("UNSTALE_") {
                "SIGNING_KEY_FILE" => (&mut again.signing_key, bounds::signing_key),
                "SIGNING_KEY_ACCEPTED_FILE" => {
                    (&mut again.signing_key_accepted, bounds::signing_key)
                }
                "TIER_SECRET_FILE" => (&mut again.tier_secret, bounds::tier_secret),
                _ => (&mut again.tier_secret_accepted, bounds::tier_secret),
            };
            check(&secret).map_err(|why| format!("{variable}: {why}"))?;
            changed |= place.as_ref() != Some(&secret);
            *place = Some(secret);
        }
        Ok(changed.then_some(again))
    }
}
