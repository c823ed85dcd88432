//! Which objects of a kind a person means, beside their names.

use clap::Args;

/// kubectl's ways to choose.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Choice {
    /// Look in all namespaces
    #[arg(short = 'A', long)]
    pub(super) all_namespaces: bool,
    /// Choose by labels: app=web,tier!=db
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "", hide_default_value = true)]
    pub(super) selector: String,
    /// Choose by fields: status.phase=Running
    #[arg(long, value_name = "FIELDS", default_value = "", hide_default_value = true)]
    pub(super) field_selector: String,
}

impl Choice {
    /// The namespace to look in; none for all.
    pub(super) fn namespace<'n>(&self, given: &'n str) -> Option<&'n str> {
        (!self.all_namespaces).then_some(given)
    }

    /// Whether anything is chosen by labels or fields.
    pub(super) fn selects(&self) -> bool {
        !self.selector.is_empty() || !self.field_selector.is_empty()
    }
}
