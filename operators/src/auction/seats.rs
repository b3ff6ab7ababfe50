//! Who takes some of a resource, in order, with running sums: what the holders before any place take is known at once.

/// The holders of a resource.
#[derive(Debug, Default)]
pub struct Seats {
    holders: Vec<u32>,
    /// By place, what the holders up to it take, itself included.
    loads: Vec<i64>,
}

impl Seats {
    /// The holders, in order.
    pub fn holders(&self) -> &[u32] {
        &self.holders
    }

    /// What all take.
    pub fn load(&self) -> i64 {
        self.loads.last().copied().unwrap_or(0)
    }

    /// What those before a place take.
    pub fn load_before(&self, place: usize) -> i64 {
        if place == 0 { 0 } else { self.loads[place - 1] }
    }

    /// Gives a seat at a place.
    pub fn insert(&mut self, place: usize, request: u32, take: i64) {
        let before = self.load_before(place);
        self.holders.insert(place, request);
        self.loads.insert(place, before + take);
        self.loads[place + 1..].iter_mut().for_each(|load| *load += take);
    }

    /// Takes the seat at a place, whose holder is known.
    pub fn remove(&mut self, place: usize, request: u32, take: i64) {
        assert_eq!(self.holders[place], request, "a holder is not at its place");
        self.holders.remove(place);
        self.loads.remove(place);
        self.loads[place..].iter_mut().for_each(|load| *load -= take);
    }

    /// Takes all seats.
    pub fn clear(&mut self) {
        self.holders.clear();
        self.loads.clear();
    }

    /// Those who may stay when there is only so much room, and those who may not: from a place on, each stays who fits
    /// behind those that stay before it.
    pub fn squeeze(mut self, place: usize, room: i64, take: impl Fn(u32) -> i64) -> (Seats, Vec<u32>) {
        let behind = self.holders.split_off(place);
        self.loads.truncate(place);
        let mut out = Vec::new();
        for holder in behind {
            let load = self.load() + take(holder);
            if load <= room {
                self.holders.push(holder);
                self.loads.push(load);
            } else {
                out.push(holder);
            }
        }
        (self, out)
    }
}
