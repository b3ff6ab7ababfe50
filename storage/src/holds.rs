//! Holds: who needs the history after an epoch, restarts included. A sink holds what it has not delivered.
//!
//! A hold is a record of `meta`, and beside it an entry in [`Retention`]: the horizon of a commit record never passes
//! it, so what is held when the process dies is still there when it comes back. It is written without a sync: a later
//! commit that forgets something is synced after it in the same log.

use std::collections::BTreeMap;

use rocksdb::{DB, Direction, IteratorMode};
use types::Epoch;

use crate::retention::Retention;
use crate::{Error, Store, format};

const PREFIX: &[u8] = b"hold/";
const SUBJECT: &str = "the holds";

/// Reads the holds of a store that is being opened. Before anything may be forgotten.
pub(crate) fn load(db: &DB, retention: &Retention) -> Result<(), Error> {
    let meta = db.cf_handle(format::META).expect("opened");
    for item in db.iterator_cf(meta, IteratorMode::From(PREFIX, Direction::Forward)) {
        let (key, value) = item.map_err(|e| Error::read(SUBJECT, &e))?;
        let Some(name) = key.strip_prefix(PREFIX) else { break };
        let number = format::open(&key, &value, || SUBJECT.to_owned())?;
        let epoch = number.try_into().map(u64::from_le_bytes);
        let epoch = epoch.map_err(|_| Error::damaged(SUBJECT, "one cannot be read"))?;
        // Nothing is forgotten yet, so none is refused.
        let _ = retention.hold(&String::from_utf8_lossy(name), epoch);
    }
    Ok(())
}

impl Store {
    /// Holds the history after an epoch from now on, under a name: [`Store::changes`] after it can be read until the
    /// hold is moved or let go, whatever is retained otherwise, also after a restart.
    ///
    /// # Errors
    /// [`Error::Compacted`] if it is no longer kept, and what failed in writing it down.
    pub fn hold(&self, name: &str, epoch: Epoch) -> Result<(), Error> {
        let shared = self.shared();
        let before = self.holds().get(name).copied();
        if before == Some(epoch) {
            return Ok(());
        }
        let key = [PREFIX, name.as_bytes()].concat();
        let write = || {
            let value = format::numbers(&key, &[epoch]);
            let put = shared.db.put_cf(shared.family(format::META), &key, value);
            put.map_err(|e| Error::failed("write down a hold", name, e))
        };
        // What is given up is given up first on disk, what is claimed first in memory.
        let claims = before.is_none_or(|before| epoch < before);
        if !claims {
            write()?;
        }
        let moved = shared.retention.hold(name, epoch).map_err(|since| Error::Compacted { epoch, since })?;
        if claims {
            write()?;
        }
        if moved {
            shared.retention.bell.ring();
        }
        Ok(())
    }

    /// The holds by name.
    pub fn holds(&self) -> BTreeMap<String, Epoch> {
        self.shared().retention.holds()
    }

    /// Lets go of a hold.
    ///
    /// # Errors
    /// What failed in writing it down.
    pub fn release_hold(&self, name: &str) -> Result<(), Error> {
        let shared = self.shared();
        let key = [PREFIX, name.as_bytes()].concat();
        let deleted = shared.db.delete_cf(shared.family(format::META), key);
        deleted.map_err(|e| Error::failed("let go of a hold", name, e))?;
        if shared.retention.release(name) {
            shared.retention.bell.ring();
        }
        Ok(())
    }
}
