//! `thalweg checkpoint` and `thalweg restore`: a store's copy, made while it is written, and the way back.

use crate::arguments::{Checkpoint, Restore, Verify};
use crate::{Failure, check};

/// `thalweg checkpoint`.
pub fn checkpoint(a: &Checkpoint) -> Result<(), Failure> {
    let epoch = crate::asked(&a.server)?.checkpoint(&a.name).map_err(Failure::broken)?;
    println!("checkpoint `{}` has epoch {epoch}", a.name);
    Ok(())
}

/// `thalweg restore`.
pub fn restore(a: &Restore) -> Result<(), Failure> {
    let store = storage::Store::open_read_only(&a.from).map_err(Failure::broken)?;
    store.checkpoint(&a.data).map_err(Failure::broken)?;
    check::verify(&Verify { data: a.data.clone() })
}
