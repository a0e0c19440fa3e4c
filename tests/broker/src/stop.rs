//! The word that the broker is to end, for everybody who waits for something.

use tokio::sync::watch;

/// Hears of the end. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

/// Says that it is the end. Dropped, it says so too.
#[derive(Debug)]
pub(crate) struct Stopper(watch::Sender<bool>);

impl Stop {
    /// A pair of the two.
    pub(crate) fn pair() -> (Stopper, Self) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(sender), Self(receiver))
    }

    /// Whether it is the end.
    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the end.
    pub(crate) async fn wait(&self) {
        // An error is a stopper that was dropped: the end.
        drop(self.0.clone().wait_for(|ended| *ended).await);
    }
}

impl Stopper {
    /// Says it.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }
}
