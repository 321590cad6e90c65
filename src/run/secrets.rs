//! Secrets over a reload: those of the new plan have to be readable, where and as whom it says, or the old plan stays.

use super::Running;
use crate::config::Plan;

impl Running {
    /// Reads what a new plan names, as it wants it read.
    ///
    /// # Errors
    /// In words, the first secret that cannot be read.
    pub(super) async fn take_secrets(&self, plan: &Plan) -> Result<(), String> {
        self.vault.expect(self.plan.expected().into_iter().chain(plan.expected()));
        let place = plan.secrets.place();
        let moved = self.vault.move_to(place.clone()) != place;
        if moved {
            // What is known was read elsewhere or as somebody else.
            self.vault.refresh().await;
        }
        for reference in plan.references() {
            let read = self.vault.secret(reference).await;
            let read = read.and_then(|_| self.vault.failure(reference).filter(|_| moved).map_or(Ok(()), Err));
            read.map_err(|problem| problem.to_string())?;
        }
        Ok(())
    }

    /// After a reload: the vault keeps to the plan that is in force. What a refused file named was asked for, and would be shown as a
    /// broken secret from now on.
    pub(super) async fn settle_secrets(&self) {
        self.vault.expect(self.plan.expected());
        let place = self.plan.secrets.place();
        if self.vault.move_to(place.clone()) != place {
            self.vault.refresh().await;
        }
    }
}
